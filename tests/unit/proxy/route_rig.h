/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_PROXY_ROUTE_RIG_H
#define UNIT_PROXY_ROUTE_RIG_H

/*
 * A worker whose outbound target is a service with one route `r` of one rule, which a test completes before
 * it calls know(); and what is counted of that route.
 */
#include "talk.h"

#define PATH "web.app.svc.cluster.local:80"

static struct outbound_policy *policy; /* until know() */
static struct rule *rule;
static const struct status_range server_errors = {.start = 500, .end = 599};

static inline int setup(void **state)
{
    app_setup(state);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig.config.outbound.failfast_ns = 50 * NS_PER_MS;
    policy = policy_to(PROTOCOL_DETECT, NULL, PATH);
    policy->meta = (struct meta){
        .group = BYTES("core"), .kind = BYTES("Service"), .name = BYTES("web"), .port = 80};
    policy->http1.at[0].meta = (struct meta){.kind = BYTES("HTTPRoute"), .name = BYTES("r")};
    policy->backends[0].meta = policy->meta;
    rule = policy->http1.at[0].rules;
    return 0;
}

static inline int teardown(void **state)
{
    if (policy != NULL) {
        snapshot_unref(&policy->ref);
        policy = NULL;
    }
    return app_teardown(state);
}

#define ROUTE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* The policy is complete, and the service has the application for its one endpoint. */
static inline void know(void)
{
    app_know(&policy, PATH);
}

static inline void retry_on_server_errors(uint32_t max_retries)
{
    rule->retry = (struct retry){
        .is_on = true,
        .max_retries = max_retries,
        .max_request_bytes = 65536,
        .ranges = (struct status_range *)(uintptr_t)&server_errors,
        .ranges_count = 1,
        .grpc_codes = 1u << 14,
        .backoff_min_ns = NS_PER_MS,
        .backoff_max_ns = 2 * NS_PER_MS,
        .backoff_jitter = 1.0,
    };
}

static inline long retries(const char *what)
{
    char name[128];

    (void)snprintf(name, sizeof(name), "outbound_http_route_retry_%s_total", what);
    return rig_sum(name, "route_name=\"r\"", NULL);
}

static inline void assert_retries(long requests, long successes, long overflow, long limit)
{
    assert_int_equal(retries("requests"), requests);
    assert_int_equal(retries("successes"), successes);
    assert_int_equal(retries("overflow"), overflow);
    assert_int_equal(retries("limit_exceeded"), limit);
}

static inline long route_statuses(const char *status, const char *error)
{
    return rig_sum("outbound_http_route_request_statuses_total", status, error);
}

static inline long backend_statuses(const char *status, const char *error)
{
    return rig_sum("outbound_http_route_backend_response_statuses_total", status, error);
}

/* --- gRPC ------------------------------------------------------------------------------------- */

static const char *const grpc_fields[] = {"content-type: application/grpc", NULL};

/* The endpoint's next stream, on the link that all of them share. */
static inline struct call *next_call(struct h2_peer *server, size_t index)
{
    RIG_UNTIL(server->count > index && server->calls[index].log_len > 0);
    return &server->calls[index];
}

#endif
