/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/err.h"
#include "proxy/gateway.h"

/*
 * Outbound, opaque traffic and TLS that passes as it is: by which route and backend does a connection
 * go (wire 3.5, 9.6).
 */

static const struct outbound_policy *conn_policy(const struct conn *c)
{
    return (const struct outbound_policy *)(const void *)(c->gateway != NULL ? c->gateway->policy
                                                                            : c->policy);
}

const struct route endpoint_route = {
    .meta = {.kind = {"default", 7}, .name = {"endpoint", 8}},
};

/* --- figures ---------------------------------------------------------------------------------- */

void outbound_labels(const struct conn *c, struct labels *l)
{
    const struct outbound_policy *p = conn_policy(c);

    labels_meta(l, "parent", p->is_fallback ? &endpoint_route.meta : &p->meta, true);
}

static void route_labels(const struct conn *c, struct labels *l)
{
    char text[ADDR_TEXT_BYTES];

    labels_init(l);
    outbound_labels(c, l);
    labels_meta(l, "route", &c->route->meta, false);
    label_add(&l->text, "target_ip", bytes_str(addr_format_ip(&c->target, text)));
    label_add_u64(&l->text, "target_port", c->target.port);
}

static bool is_tls_route(const struct conn *c)
{
    return !conn_policy(c)->is_fallback && conn_policy(c)->protocol == PROTOCOL_TLS;
}

static void route_opened(struct conn *c, const struct route *route)
{
    struct labels l;

    c->route = route;
    route_labels(c, &l);
    stat_count(&c->w->stats, is_tls_route(c) ? STAT_OUTBOUND_TLS_OPEN : STAT_OUTBOUND_TCP_OPEN, &l);
}

void outbound_route_closed(struct conn *c, enum failure why, int err)
{
    struct labels l;

    route_labels(c, &l);
    label_add(&l.text, "error",
              why == FAILURE_INVALID_BACKEND || why == FAILURE_NO_BACKEND
                                                ? BYTES("invalid_backend")
              : why == FAILURE_DENIED           ? BYTES("forbidden")
              : why == FAILURE_INVALID_POLICY   ? BYTES("invalid_policy")
              : why != FAILURE_NONE || err != 0 ? BYTES("unexpected")
                                                : BYTES(""));
    stat_count(&c->w->stats, is_tls_route(c) ? STAT_OUTBOUND_TLS_CLOSE : STAT_OUTBOUND_TCP_CLOSE,
               &l);
    c->route = NULL;
}

/* --- where to --------------------------------------------------------------------------------- */

struct way {
    const struct route *route;       /* NULL: there is none */
    const struct backend *backend;   /* NULL: to `endpoint` */
    const struct meta *invalid;      /* a backend that does not exist; NULL: none */
    const struct endpoint *endpoint; /* NULL: where the connection was going */
    enum failure why;                /* it may not, or cannot */
    const char *detail;
};

static void way_by_route(struct conn *c, const struct route *route, struct way *out)
{
    const struct outbound_policy *p = conn_policy(c);
    const struct rule *rule;
    const struct backend *b;
    size_t index;

    out->route = route;
    if (route->is_invalid || route->rules_count == 0) {
        out->why = FAILURE_INVALID_POLICY;
        out->detail = "the route is invalid";
        return;
    }
    if (route->is_forbidden) {
        out->why = FAILURE_DENIED;
        out->detail = "the policy forbids this destination";
        return;
    }
    rule = &route->rules[0];
    if (route_pick_backend(rule, &c->w->loop->rand, NULL, NULL, &index, NULL) != 0) {
        out->why = FAILURE_NO_BACKEND;
        out->detail = "the route has no backend";
        return;
    }
    b = &p->backends[rule->backends[index].backend];
    if (b->kind == BACKEND_FAIL) {
        out->why = FAILURE_INVALID_BACKEND;
        out->invalid = &b->meta;
    } else if (b->kind == BACKEND_BALANCER) {
        out->backend = b;
    } else {
        out->endpoint = b->forward;
    }
}

static void way_find(struct conn *c, struct bytes sni, struct way *out)
{
    const struct outbound_policy *p = conn_policy(c);
    const struct route *route;

    *out = (struct way){0};
    if (p->is_fallback && p->profile.endpoint == NULL && c->gateway != NULL) {
        out->why = FAILURE_GATEWAY_DOMAIN; /* there is no address to forward to */
        out->detail = "the control plane does not know the name";
    } else if (p->is_fallback) {
        out->route = &endpoint_route;
        out->endpoint = p->profile.endpoint;
    } else if (p->problem != NULL) {
        out->why = FAILURE_INVALID_POLICY;
        out->detail = p->problem;
    } else if (p->protocol == PROTOCOL_TLS) {
        if (route_choose_sni(&p->tls, sni, &route, NULL) != 0) {
            out->why = FAILURE_NO_ROUTE;
            out->detail = "no TLS route is for this server name";
        } else {
            way_by_route(c, route, out);
        }
    } else if (p->opaque.count == 0) {
        out->why = FAILURE_NO_ROUTE;
        out->detail = "the policy has no route for opaque traffic";
    } else {
        way_by_route(c, &p->opaque.at[0], out);
    }
}

static void way_go(struct conn *c, const struct way *w)
{
    struct endpoint *plain;

    if (w->backend != NULL) {
        opaque_to_backend(c, w->backend, &conn_policy(c)->meta,
                          is_tls_route(c) ? DEST_TLS : DEST_TCP);
        return;
    }
    plain = w->endpoint == NULL ? endpoint_new_plain(&c->target) : NULL;
    opaque_to_endpoint(c, plain != NULL ? plain : w->endpoint);
    endpoint_unref(plain);
}

void outbound_opaque(struct conn *c, struct bytes sni)
{
    struct way w;

    if (c->opaque != NULL) { /* chosen early, by the same policy */
        route_opened(c,
                     conn_policy(c)->is_fallback ? &endpoint_route : &conn_policy(c)->opaque.at[0]);
        opaque_adopt(c);
        return;
    }
    way_find(c, sni, &w);
    if (w.route != NULL) {
        route_opened(c, w.route);
    }
    if (w.why != FAILURE_NONE) {
        conn_fail_for(c, w.why, E_NOT_FOUND, w.detail, w.invalid);
    } else {
        way_go(c, &w);
    }
}

void outbound_opaque_early(struct conn *c)
{
    struct way w;

    way_find(c, BYTES_NONE, &w);
    if (w.why == FAILURE_NONE) {
        way_go(c, &w);
    }
}
