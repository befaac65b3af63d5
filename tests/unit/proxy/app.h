/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PROXY_APP_H
#define TESTS_UNIT_PROXY_APP_H

/*
 * One application beside the worker, new for each test. A test may close it earlier. A program that
 * wants more has a setup() of its own, which calls app_setup() first.
 */
#include "peers.h"

static struct app app;

static inline int app_setup(void **state)
{
    rig_setup(state);
    app_open(&app);
    return 0;
}

static inline int app_teardown(void **state)
{
    if (app.fd >= 0) {
        app_close(&app);
    }
    return rig_teardown(state);
}

#define APP_TEST_WITH(f, setup) cmocka_unit_test_setup_teardown(f, setup, app_teardown)
#define APP_TEST(f)             APP_TEST_WITH(f, app_setup)

#endif
