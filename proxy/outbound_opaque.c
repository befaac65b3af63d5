/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/err.h"

/*
 * Outbound, opaque traffic: by which route and backend does a connection go (wire 3.5, 9.6).
 */

/* To `e`, or where the connection was going. */
static void forward_opaque(struct conn *c, const struct endpoint *e)
{
    struct endpoint *plain = e == NULL ? endpoint_new_plain(&c->target) : NULL;

    opaque_to_endpoint(c, e != NULL ? e : plain);
    endpoint_unref(plain);
}

void outbound_opaque(struct conn *c)
{
    const struct outbound_policy *p = (const struct outbound_policy *)(const void *)c->policy;
    const struct route_list *routes = p->protocol == PROTOCOL_TLS ? &p->tls : &p->opaque;
    const struct rule *rule;
    const struct backend *b;
    size_t index;

    if (p->is_fallback) {
        forward_opaque(c, p->profile.endpoint);
        return;
    }
    if (p->problem != NULL) {
        conn_fail(c, FAILURE_INVALID_POLICY, E_CONFIG, p->problem);
        return;
    }
    if (routes->count == 0 || routes->at[0].rules_count == 0) {
        conn_fail(c, FAILURE_NO_ROUTE, E_NOT_FOUND, "the policy has no route for opaque traffic");
        return;
    }
    if (routes->at[0].is_forbidden || routes->at[0].is_invalid) {
        conn_fail(c, FAILURE_DENIED, E_DENIED, "the policy forbids this destination");
        return;
    }
    rule = &routes->at[0].rules[0];
    if (route_pick_backend(rule, &c->w->loop->rand, NULL, NULL, &index, NULL) != 0) {
        conn_fail(c, FAILURE_INVALID_BACKEND, E_NOT_FOUND, "the route has no backend");
        return;
    }
    b = &p->backends[rule->backends[index].backend];
    switch (b->kind) {
    case BACKEND_BALANCER:
        opaque_to_backend(c, b, &p->meta);
        break;
    case BACKEND_FORWARD:
        forward_opaque(c, b->forward);
        break;
    case BACKEND_FAIL:
        conn_fail(c, FAILURE_INVALID_BACKEND, E_NOT_FOUND, "the route's backend does not exist");
        break;
    }
}
