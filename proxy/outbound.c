/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"

/*
 * Outbound: what is the destination, by which route and backend does the request go (wire 11.3,
 * 5.6).
 */

static const struct outbound_policy *conn_policy(const struct conn *c)
{
    return (const struct outbound_policy *)(const void *)c->policy;
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
        conn_fail(c, FAILURE_RESOLVE, E_DENIED,
                  "the control plane has no policy for this destination");
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

void outbound_protocol_known(struct conn *c, enum detected protocol)
{
    (void)conn_refresh_policy(c);
    conn_open_stats(c, BYTES_NONE);
    if (protocol == DETECT_OPAQUE) {
        outbound_opaque(c);
    } else {
        conn_serve_http(c, protocol);
    }
}

/* --- requests --------------------------------------------------------------------------------- */

/* To one endpoint; NULL: where the connection was going. Found once for all requests that go
 * there. */
static void request_forward(struct exchange *ex, const struct endpoint *e)
{
    struct conn *c = ex->conn;
    struct endpoint *plain;

    if (c->single != NULL && c->single_for != e) {
        upstream_leave(c->single);
        c->single = NULL;
    }
    if (c->single == NULL) {
        plain = e == NULL ? endpoint_new_plain(&c->target) : NULL;
        c->single = upstream_single(c->w, OUTBOUND, e != NULL ? e : plain);
        c->single_for = e;
        upstream_use(c->single);
        endpoint_unref(plain);
    }
    exchange_to_upstream(ex, c->single);
}

/* The balanced destination of a backend, found once for the requests of a connection. */
static struct dest *known_dest(struct conn *c, const struct backend *b)
{
    struct known_dest *known;

    for (unsigned i = 0; i < CONN_KNOWN; i++) {
        if (c->dests[i].backend == b) {
            return c->dests[i].dest;
        }
    }
    known = &c->dests[c->next_known++ % CONN_KNOWN];
    if (known->dest != NULL) {
        dest_release(known->dest);
    }
    known->backend = b;
    known->dest = dest_hold(c->w, b, false);
    return known->dest;
}

static const struct route_list *request_routes(const struct exchange *ex,
                                               const struct outbound_policy *p)
{
    if (p->protocol == PROTOCOL_GRPC) {
        return &p->grpc;
    }
    return ex->a->version == HTTP_2 ? &p->http2 : &p->http1;
}

static void request_to_backend(struct exchange *ex, const struct backend *b)
{
    switch (b->kind) {
    case BACKEND_BALANCER:
        exchange_to_dest(ex, known_dest(ex->conn, b));
        break;
    case BACKEND_FORWARD:
        request_forward(ex, b->forward);
        break;
    case BACKEND_FAIL:
        exchange_fail(ex, FAILURE_INVALID_BACKEND, 0, NULL);
        break;
    }
}

/* A failure injector of a gRPC route names a gRPC code, one of an HTTP route a status, for which
 * gRPC gets the failure's own code (wire 5.7). */
static bool request_filtered(struct exchange *ex, const struct rule *rule)
{
    for (size_t i = 0; i < rule->filters_count; i++) {
        const struct filter *f = &rule->filters[i];

        if (f->kind == FILTER_FAIL &&
            (f->denominator == 0 ||
             rand_below(&ex->conn->w->loop->rand, f->denominator) < f->numerator)) {
            char *message = bytes_dup(f->message);

            exchange_fail(ex, FAILURE_INJECTED, f->is_grpc == ex->is_grpc ? f->status : 0, message);
            mem_free(message);
            return true;
        }
    }
    return false;
}

void outbound_request(struct exchange *ex)
{
    struct conn *c = ex->conn;
    const struct field *required = fields_get(&ex->request->fields, FIELD_L5D_REQUIRE_ID);
    const struct outbound_policy *p;
    struct route_choice choice;
    size_t index;

    ex->required_id = required != NULL ? required->value : BYTES_NONE;
    ex->has_required_id = required != NULL;
    (void)conn_refresh_policy(c);
    p = conn_policy(c);
    if (p->is_fallback) {
        request_forward(ex, p->profile.endpoint);
        return;
    }
    if (p->problem != NULL || p->is_refused) {
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
    request_to_backend(ex, &p->backends[choice.rule->backends[index].backend]);
}
