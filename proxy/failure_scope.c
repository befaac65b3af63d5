/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/failure_scope.h"

#include "mesh/profile.h"
#include "proxy/inbound.h"

static const struct meta *parent_of(const struct snapshot *policy)
{
    return &((const struct outbound_policy *)(const void *)policy)->meta;
}

struct failure_scope conn_scope(const struct conn *c)
{
    struct failure_scope s = {0};

    if (c->dir == INBOUND) {
        s.client_id = c->client_id != NULL ? c->client_id : "";
        s.server = c->policy != NULL ? &inbound_policy(c)->meta : NULL;
    } else {
        s.parent = c->policy != NULL ? parent_of(c->policy) : NULL;
        s.route = c->route != NULL ? &c->route->meta : NULL;
    }
    return s;
}

/* By a name, which the request or a gateway's client gave, the policy is not the connection's. */
static bool is_by_address(const struct exchange *ex)
{
    return ex->dir == ex->conn->dir && ex->ingress == NULL;
}

struct failure_scope exchange_scope(const struct exchange *ex, const struct failure_scope *known)
{
    const struct plan *plan = ex->plan;
    struct failure_scope s = conn_scope(ex->conn);

    if (!is_by_address(ex)) {
        s.server = s.parent = NULL;
    }
    if (ex->conn->dir == OUTBOUND && plan != NULL && plan->held != NULL) {
        s.parent = parent_of(plan->held);
    }
    if (ex->profile.view != NULL && profile_view_service(ex->profile.view)->parent.kind.len > 0) {
        s.parent = &profile_view_service(ex->profile.view)->parent;
    }
    if (plan != NULL && plan->choice.route != NULL) {
        s.route = &plan->choice.route->meta;
    }
    if (known != NULL) {
        s.route = known->route != NULL ? known->route : s.route;
        s.backend = known->backend;
    }
    return s;
}
