/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/profile_route.h"

#include "core/err.h"

/* --- where it goes ---------------------------------------------------------------------------- */

static const struct service_profile *service_of(const struct exchange *ex)
{
    return profile_view_service(ex->profile.view);
}

static bool is_available(void *user, size_t backend)
{
    const struct exchange *ex = user;

    return dest_is_available(profile_view_dest(ex->profile.view, backend));
}

static int pick(struct exchange *ex, size_t *out_backend)
{
    return route_pick_backend(&service_of(ex)->split, &ex->conn->w->loop->rand, is_available, ex,
                              out_backend, NULL);
}

/* By the weights of those that are available; of all when none is, so that the failure has a
 * name. */
static void dispatch(struct exchange *ex)
{
    size_t backend = 0;

    if (service_of(ex)->backends_count > 1 && pick(ex, &backend) != 0) {
        (void)!route_pick_backend(&service_of(ex)->split, &ex->conn->w->loop->rand, NULL, NULL,
                                  &backend, NULL);
    }
    exchange_to_dest(ex, profile_view_dest(ex->profile.view, backend));
}

/* --- retries ---------------------------------------------------------------------------------- */

static bool has_way(struct exchange *ex)
{
    size_t backend;

    return pick(ex, &backend) == 0;
}

static bool is_retryable(void *user, unsigned status, int grpc_status)
{
    const struct exchange *ex = user;

    return profile_call_is_failure(&ex->profile, status, exchange_is_failure(status, grpc_status));
}

static bool may_retry(void *user)
{
    struct exchange *ex = user;

    return profile_call_pay(&ex->profile);
}

/* 0; E_LIMIT: there is no room for a plan. */
static int make_plan(struct exchange *ex, const struct outbound_policy *p)
{
    const struct profile_route *route = ex->profile.route;
    struct request_policy policy = {
        .request_timeout_ns = route->timeout_ns,
        .request_timeout_failure = FAILURE_PROFILE_TIMEOUT,
        .until_head = true,
        .max_retries = route->is_retryable ? UINT32_MAX : 0, /* the budget is the limit */
        .max_body_bytes = REQUEST_BODY_BYTES_MAX,
        .only_responses = true,
        .is_retryable = is_retryable,
        .may_retry = may_retry,
        .user = ex,
        .has_way = has_way,
        .again = dispatch,
    };

    if (exchange_plan(ex, &p->ref) == NULL) {
        return E_LIMIT;
    }
    exchange_govern(ex, &policy);
    return 0;
}

/* --- requests --------------------------------------------------------------------------------- */

static void begin(struct exchange *ex, const struct outbound_policy *p)
{
    struct conn *c = ex->conn;

    assert(c->known->policy == &p->ref);
    if (c->known->profile == NULL) {
        c->known->profile = profile_view_get(c->w, OUTBOUND, &p->ref, p->profile.service);
    }
    profile_call_begin(&ex->profile, c->known->profile, ex->request);
}

void profile_outbound(struct exchange *ex, const struct outbound_policy *p)
{
    const struct profile_route *route;

    begin(ex, p);
    route = ex->profile.route;
    if ((route->is_retryable || route->timeout_ns > 0) && make_plan(ex, p) != 0) {
        exchange_fail(ex, FAILURE_MEMORY, 0, NULL);
        return;
    }
    dispatch(ex);
}
