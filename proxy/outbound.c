/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/err.h"
#include "core/log.h"

/*
 * Outbound: what is the destination, by which route and backend does the request go (wire 11.3, 5.6).
 */

static const struct outbound_policy *conn_policy(const struct conn *c)
{
    return (const struct outbound_policy *)(const void *)c->policy;
}

static const struct outbound_policy *refresh_policy(struct conn *c)
{
    if (c->entry != NULL && c->entry->answer != NULL && c->entry->answer != c->policy) {
        snapshot_unref((struct snapshot *)(uintptr_t)c->policy);
        c->policy = c->entry->answer;
        snapshot_ref((struct snapshot *)(uintptr_t)c->policy);
    }
    return conn_policy(c);
}

void outbound_accepted(struct conn *c)
{
    const struct config *config = c->w->config;

    for (size_t i = 0; i < config->outbound.listen_count; i++) {
        if (addr_eq(&c->target, &config->outbound.listen[i])) {
            conn_fail(c, FAILURE_LOOP, E_LOOP, "the connection was made to the proxy's own port");
            return;
        }
    }
    conn_wait_policy(c, QUESTION_OUTBOUND, &c->target);
}

void outbound_policy_known(struct conn *c)
{
    const struct outbound_policy *p = conn_policy(c);

    if (p->is_refused) {
        conn_fail(c, FAILURE_RESOLVE, E_DENIED, "the control plane has no policy for this destination");
        return;
    }
    if (p->profile.is_opaque) {
        outbound_protocol_known(c, DETECT_OPAQUE);
        return;
    }
    switch (p->is_fallback ? PROTOCOL_DETECT : p->protocol) {
    case PROTOCOL_OPAQUE:
    case PROTOCOL_TLS:
        outbound_protocol_known(c, DETECT_OPAQUE);
        break;
    case PROTOCOL_HTTP1:
        outbound_protocol_known(c, DETECT_HTTP1);
        break;
    case PROTOCOL_HTTP2:
    case PROTOCOL_GRPC:
        outbound_protocol_known(c, DETECT_HTTP2);
        break;
    case PROTOCOL_DETECT:
        conn_next(c, CONN_DETECT);
        break;
    }
}

/* Where a fallback policy sends: the pod that the profile names, else the original destination. */
static const struct endpoint *fallback_endpoint(const struct conn *c, const struct outbound_policy *p, bool *out_owned)
{
    *out_owned = p->profile.endpoint == NULL;
    return *out_owned ? endpoint_new_plain(&c->target) : p->profile.endpoint;
}

static void forward_opaque(struct conn *c, const struct outbound_policy *p, const struct backend *b)
{
    bool owned = b == NULL || b->forward == NULL;
    const struct endpoint *e = b != NULL && b->forward != NULL ? b->forward : NULL;

    if (e == NULL) {
        e = b == NULL ? fallback_endpoint(c, p, &owned) : endpoint_new_plain(&c->target);
    }
    opaque_to_endpoint(c, e);
    if (owned) {
        endpoint_unref(e);
    }
}

static void outbound_opaque(struct conn *c, const struct outbound_policy *p)
{
    const struct route_list *routes = p->protocol == PROTOCOL_TLS ? &p->tls : &p->opaque;
    const struct rule *rule;
    const struct backend *b;
    size_t index;

    if (p->is_fallback) {
        forward_opaque(c, p, NULL);
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
        opaque_to_backend(c, b);
        break;
    case BACKEND_FORWARD:
        forward_opaque(c, p, b);
        break;
    case BACKEND_FAIL:
        conn_fail(c, FAILURE_INVALID_BACKEND, E_NOT_FOUND, "the route's backend does not exist");
        break;
    }
}

void outbound_protocol_known(struct conn *c, enum detected protocol)
{
    const struct outbound_policy *p = refresh_policy(c);

    conn_open_stats(c, BYTES_NONE);
    if (protocol == DETECT_OPAQUE) {
        outbound_opaque(c, p);
    } else {
        conn_serve_http(c, protocol);
    }
}

/* --- requests ------------------------------------------------------------------------------------ */

static void request_forward(struct exchange *ex, const struct endpoint *e)
{
    struct conn *c = ex->conn;
    const struct field *require = fields_get(&ex->request->fields, FIELD_L5D_REQUIRE_ID);

    if (require != NULL && (e->identity == NULL || !bytes_eq(require->value, bytes_str(e->identity)))) {
        exchange_fail(ex, FAILURE_TLS_IDENTITY, 0, "the endpoint does not have the required identity");
        return;
    }
    exchange_to_upstream(ex, upstream_single(c->w, OUTBOUND, e));
}

static const struct route_list *request_routes(const struct exchange *ex, const struct outbound_policy *p)
{
    if (p->protocol == PROTOCOL_GRPC) {
        return &p->grpc;
    }
    return ex->a->version == HTTP_2 ? &p->http2 : &p->http1;
}

static void request_to_backend(struct exchange *ex, const struct outbound_policy *p, const struct backend *b)
{
    const struct endpoint *e;

    (void)p;
    switch (b->kind) {
    case BACKEND_BALANCER:
        exchange_to_dest(ex, dest_hold(ex->conn->w, b, false));
        break;
    case BACKEND_FORWARD:
        e = b->forward != NULL ? b->forward : endpoint_new_plain(&ex->conn->target);
        request_forward(ex, e);
        if (b->forward == NULL) {
            endpoint_unref(e);
        }
        break;
    case BACKEND_FAIL:
        exchange_fail(ex, FAILURE_INVALID_BACKEND, 0, NULL);
        break;
    }
}

/* A filter that answers at once: failure injection or a redirect. */
static bool request_filtered(struct exchange *ex, const struct rule *rule)
{
    for (size_t i = 0; i < rule->filters_count; i++) {
        const struct filter *f = &rule->filters[i];

        if (f->kind == FILTER_FAIL &&
            (f->denominator == 0 || rand_below(&ex->conn->w->loop->rand, f->denominator) < f->numerator)) {
            exchange_fail(ex, FAILURE_INJECTED, f->is_grpc ? 0 : f->status, NULL);
            return true;
        }
    }
    return false;
}

void outbound_request(struct exchange *ex)
{
    struct conn *c = ex->conn;
    const struct outbound_policy *p = refresh_policy(c);
    struct route_choice choice;
    const struct endpoint *e;
    size_t index;
    bool owned;

    if (p->is_fallback) {
        e = fallback_endpoint(c, p, &owned);
        request_forward(ex, e);
        if (owned) {
            endpoint_unref(e);
        }
        return;
    }
    if (p->problem != NULL) {
        exchange_fail(ex, FAILURE_INVALID_POLICY, 0, p->problem);
        return;
    }
    if (route_choose(request_routes(ex, p), ex->request, &choice, NULL) != 0) {
        exchange_fail(ex, FAILURE_NO_ROUTE, 0, NULL);
        return;
    }
    if (request_filtered(ex, choice.rule)) {
        return;
    }
    if (route_pick_backend(choice.rule, &c->w->loop->rand, NULL, NULL, &index, NULL) != 0) {
        exchange_fail(ex, FAILURE_INVALID_BACKEND, 0, "the route has no backend");
        return;
    }
    request_to_backend(ex, p, &p->backends[choice.rule->backends[index].backend]);
}
