/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/inbound.h"

#include "core/err.h"
#include "core/log.h"
#include "mesh/rate_limit.h"
#include "proxy/accept.h"
#include "proxy/filters.h"
#include "proxy/gateway.h"
#include "proxy/profile_route.h"

/*
 * Inbound, requests: by which route, is it authorized, is it within the limits, what do the filters
 * say; then to the local application (wire 9.5). Filters come last: who may not call learns nothing
 * of the routes, and is counted as denied.
 */

/* Where the connection's requests go, found once. */
static struct upstream *application(struct conn *c)
{
    struct endpoint *e;

    if (c->single == NULL) {
        e = endpoint_new_plain(&c->target);
        c->single = upstream_single(c->w, INBOUND, e);
        upstream_use(c->single);
        endpoint_unref(e);
    }
    return c->single;
}

/* Labels of a request that was let in, or not: target, server, route, authorization, tls. */
static void request_labels(const struct conn *c, const struct authz_choice *choice,
                           struct labels *l)
{
    labels_target(l, &c->target);
    labels_add(l, inbound_policy(c)->labels);
    if (choice->route != NULL) {
        labels_add(l, choice->route->labels);
    }
    if (choice->authz != NULL) {
        labels_add(l, choice->authz->labels);
    }
    conn_tls_labels(c, l);
}

/* Wire 9.4: the controller's own route, for the probes that it knows of. */
static bool is_probe(const struct server_route *r)
{
    return bytes_eq(r->route.meta.kind, BYTES("default")) &&
           bytes_eq(r->route.meta.name, BYTES("probe"));
}

static NOINLINE const struct known_requests *know_requests(struct conn *c,
                                                           const struct authz_choice *choice)
{
    const struct server_policy *p = inbound_policy(c);
    struct known_requests *known = &c->own->requests[c->own->next_requests++ % KNOWN_REQUESTS];
    struct meta server = p->meta;
    struct route_names names = {0};
    struct labels l;

    server.port = c->target.port;
    request_stats_unref(known->requests);
    series_unref(known->allowed);
    stat_bundle_unref(known->asked);
    stat_bundle_unref(known->answered);
    known->route = choice->route;
    known->authz = choice->authz;
    known->is_probe = is_probe(choice->route);
    labels_init(&l);
    request_labels(c, choice, &l);
    known->allowed = stat_series(&c->w->stats, STAT_INBOUND_HTTP_ALLOW, &l);
    labels_init(&l);
    label_add(&l.text, "direction", BYTES("inbound"));
    request_labels(c, choice, &l);
    known->requests = request_stats_get(&c->w->stats, labels_end(&l));
    names.is_grpc = p->protocol == PROTOCOL_GRPC;
    names.parent = &server;
    names.route = &choice->route->route.meta;
    known->asked = inbound_request_stats_get(&c->w->stats, &names);
    known->answered = inbound_response_stats_get(&c->w->stats, &names);
    return known;
}

/* The series of the requests that share route and authorization; kept for the next ones. */
static const struct known_requests *known_requests(struct conn *c,
                                                   const struct authz_choice *choice)
{
    const struct known *own = conn_own(c);

    for (unsigned i = 0; i < KNOWN_REQUESTS; i++) {
        const struct known_requests *known = &own->requests[i];

        if (known->requests != NULL && known->route == choice->route &&
            known->authz == choice->authz) {
            return known;
        }
    }
    return know_requests(c, choice);
}

/* Audited traffic is let in, and told of (wire 9.1). */
static void log_audit(const struct exchange *ex, const struct authz_choice *choice)
{
    const struct conn *c = ex->conn;
    char client[ADDR_TEXT_BYTES];

    log_info("request allowed by an audit policy; client=%s client_id=%s port=%u route=" BYTES_FMT
             " method=" BYTES_FMT " authority=" BYTES_FMT,
             addr_format(&c->peer, client), c->client_id != NULL ? c->client_id : "",
             c->target.port, BYTES_ARG(choice->route->route.meta.name),
             BYTES_ARG(ex->request->method), BYTES_ARG(ex->request->authority));
}

/* Does the request exceed a limit? Then it was answered. Probes have none: busy is not dead, and a
 * pod that is restarted for it leaves its load to the others. */
static bool is_limited(struct exchange *ex, const struct authz_choice *choice,
                       const struct known_requests *known)
{
    static const char *const scopes[] = {
        [RATE_TOTAL] = "total", [RATE_IDENTITY] = "identity", [RATE_OVERRIDE] = "override"};
    struct conn *c = ex->conn;
    const struct server_policy *p = inbound_policy(c);
    enum rate_verdict verdict;
    struct labels l;

    if (known->is_probe) {
        return false;
    }
    verdict = rate_limiter_take(p->limiter, p->rate_limit, conn_client_id(c), c->w->loop->now_ns);
    if (verdict == RATE_ADMITTED) {
        return false;
    }
    labels_init(&l);
    request_labels(c, &(struct authz_choice){.route = choice->route}, &l);
    label_add(&l.text, "ratelimit_group", p->rate_limit->meta.group);
    label_add(&l.text, "ratelimit_kind", p->rate_limit->meta.kind);
    label_add(&l.text, "ratelimit_name", p->rate_limit->meta.name);
    label_add(&l.text, "ratelimit_scope", bytes_str(scopes[verdict]));
    stat_count(&c->w->stats, STAT_INBOUND_HTTP_RATE_LIMIT, &l);
    exchange_fail_by(ex, FAILURE_RATE_LIMIT, 0, "rate limit exceeded",
                     &(struct failure_scope){.route = &choice->route->route.meta});
    return true;
}

static void refuse(struct exchange *ex, int rc, const struct authz_choice *choice)
{
    struct conn *c = ex->conn;
    struct failure_scope scope = {0};
    struct labels l;

    labels_init(&l);
    if (rc == E_NOT_FOUND) {
        request_labels(c, &(struct authz_choice){0}, &l);
        stat_count(&c->w->stats, STAT_INBOUND_HTTP_NO_ROUTE, &l);
        exchange_fail(ex, FAILURE_NO_ROUTE, 0, NULL);
    } else {
        request_labels(c, &(struct authz_choice){.route = choice->route}, &l);
        stat_count(&c->w->stats, STAT_INBOUND_HTTP_DENY, &l);
        scope.route = &choice->route->route.meta;
        exchange_fail_by(ex, FAILURE_DENIED, 0, "client is not authorized", &scope);
    }
}

static void to_application(struct exchange *ex)
{
    exchange_to_upstream(ex, application(ex->conn));
}

/* Filters may answer the request, or will edit it: the policy stays with it then. */
static bool is_filtered(struct exchange *ex, const struct authz_choice *choice)
{
    const struct rule *rule = choice->rule;
    struct plan *plan = exchange_plan(ex, ex->conn->policy);

    if (plan == NULL) {
        exchange_fail(ex, FAILURE_MEMORY, 0, NULL);
        return true;
    }
    plan->choice = (struct route_choice){&choice->route->route, rule, choice->match};
    return request_filtered(ex, rule->filters, rule->filters_count, choice->match);
}

static void count_route(struct exchange *ex, const struct known_requests *known)
{
    ex->is_grpc_route = inbound_policy(ex->conn)->protocol == PROTOCOL_GRPC;
    ex->route_stats = known->asked;
    stat_bundle_ref(known->asked);
    ex->backend_stats = known->answered;
    stat_bundle_ref(known->answered);
    backend_stats_request(known->answered);
}

/* The filters edit it here and now: on its way out it follows the rules of where it goes. */
static NOINLINE void carry_on(struct exchange *ex, const struct authz_choice *choice)
{
    const struct rule *rule = choice->rule;
    bool is_edited = filters_have(rule->filters, rule->filters_count, FILTER_REQUEST_HEADERS);

    if (request_filtered(ex, rule->filters, rule->filters_count, choice->match)) {
        return;
    }
    if (filters_edit_request(rule->filters, rule->filters_count, ex->request) != 0) {
        exchange_fail(ex, FAILURE_BAD_REQUEST, 0, "there is no room for another field");
        return;
    }
    gateway_request(ex, is_edited ? ex->conn->policy : NULL);
}

void inbound_request(struct exchange *ex)
{
    struct conn *c = ex->conn;
    struct client_facts facts = inbound_client(c);
    struct authz_choice choice = {0};
    const struct known_requests *known;
    int rc;

    (void)conn_refresh_policy(c);
    if (UNLIKELY(c->gateway != NULL)) {
        gateway_address(ex);
    }
    rc = policy_authorize(inbound_policy(c), &facts, ex->request, &choice, NULL);
    if (rc != 0) {
        refuse(ex, rc, &choice);
        return;
    }
    if (UNLIKELY(choice.authz->is_audit)) {
        log_audit(ex, &choice);
    }
    known = known_requests(c, &choice);
    series_add(known->allowed, 1);
    if (UNLIKELY(inbound_policy(c)->limiter != NULL) && is_limited(ex, &choice, known)) {
        return;
    }
    ex->is_orig_proto =
        ex->a->version == HTTP_2 && fields_get(&ex->request->fields, FIELD_L5D_ORIG_PROTO) != NULL;
    if (UNLIKELY(c->gateway != NULL)) {
        carry_on(ex, &choice);
        return;
    }
    if (UNLIKELY(choice.rule->filters_count > 0) && is_filtered(ex, &choice)) {
        return;
    }
    ex->is_probe = known->is_probe;
    exchange_count(ex, known->requests);
    count_route(ex, known);
    profile_inbound(ex, to_application);
}
