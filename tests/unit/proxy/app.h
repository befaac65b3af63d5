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

/* The outbound target has this policy, which is given away, and `path` has the application for its one
 * endpoint. */
static inline void app_know(struct outbound_policy **policy, const char *path)
{
    struct endpoint *at = endpoint_at(&app.at, "dst_pod=\"web-1\"");

    rig_know_target(&rig.target[OUTBOUND], *policy);
    *policy = NULL;
    rig_know_endpoints(path, &at, 1);
}

#define APP_TEST_WITH(f, setup) cmocka_unit_test_setup_teardown(f, setup, app_teardown)
#define APP_TEST(f)             APP_TEST_WITH(f, app_setup)

#endif
