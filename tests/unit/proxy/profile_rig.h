/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_PROXY_PROFILE_RIG_H
#define UNIT_PROXY_PROFILE_RIG_H

/*
 * A worker whose outbound target is a service with a profile, and whose inbound target is the application;
 * profiles are made of parts: ROUTE("r", RETRYABLE), BUDGET(2, 0, 60000).
 */
#include "talk.h"
#include "tests/unit/mesh/wire.h"

#define NAME                       "web.app.svc.cluster.local"
#define DST                        NAME ":80"
#define ANY                        MSG(1, MSG(4, STR(1, "/.*")))
#define ROUTE(name, ...)           MSG(1, ANY, ENTRY(3, "route", name), ##__VA_ARGS__)
#define RETRYABLE                  NUM(4, 1)
#define TIMEOUT(ms)                MS(5, ms)
#define BUDGET(ratio, min, ttl_ms) MSG(2, FLOAT(1, ratio), NUM(2, min), MS(3, ttl_ms))

static inline int setup(void **state)
{
    app_setup(state);
    wire_setup(state);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    return 0;
}

static inline int teardown(void **state)
{
    wire_teardown(state);
    return app_teardown(state);
}

#define PROFILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static inline struct outbound_policy *profile(struct bytes parts)
{
    return outbound_policy_new_at(BYTES_NONE, CAT(parts, STR(5, NAME)), 80);
}

static inline long routes(const char *name, const char *one)
{
    return rig_sum(name, "route=\"r\"", one);
}

#endif
