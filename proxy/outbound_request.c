/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/accept.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "proxy/filters.h"
#include "proxy/profile_route.h"
#include "proxy/request_headers.h"

/*
 * Outbound requests: by which route and to which backend (wire 5.6, 6.4), and what the route asks
 * for besides.
 *
 * What was found out for the last requests is at hand for the next one under the same policy: the
 * connection's newest one, or that of the name that the request gave (known.h).
 */

#define DEFAULT_RTT_NS   (30 * NS_PER_MS) /* wire 9.6 */
#define DEFAULT_DECAY_NS (10 * NS_PER_S)

static const struct outbound_policy *conn_policy(const struct conn *c)
{
    return (const struct outbound_policy *)(const void *)c->policy;
}

/* --- where it is counted ---------------------------------------------------------------------- */

/* The backend that goes with endpoint_route. */
static const struct backend endpoint_backend = {
    .kind = BACKEND_FORWARD, .meta = {.kind = {"default", 7}, .name = {"endpoint", 8}}};

static struct route_names names_of(const struct exchange *ex, const struct outbound_policy *p,
                                   const struct route *route)
{
    struct route_names n = {
        .is_grpc = ex->is_grpc_route,
        .parent = p->is_fallback ? &endpoint_route.meta : &p->meta,
        .route = &route->meta,
    };
    struct bytes port;

    if (ex->conn->w->config->hostname_labels) {
        n.hostname = authority_host(ex->request->authority, &port);
    }
    return n;
}

static NOINLINE struct known_route *know_route(struct exchange *ex, const struct outbound_policy *p,
                                               const struct route *route)
{
    struct conn *c = ex->conn;
    struct route_names names = names_of(ex, p, route);
    struct known_route *known = &c->known->routes[c->known->next_route++ % KNOWN_ROUTES];

    stat_bundle_unref(known->stats);
    stat_bundle_unref(known->retries);
    *known = (struct known_route){
        .route = route,
        .stats = route_stats_get(&c->w->stats, &names),
    };
    return known;
}

/* Found once for the requests that take the route. */
static struct known_route *known_route(struct exchange *ex, const struct outbound_policy *p,
                                       const struct route *route)
{
    struct known *k = ex->conn->known;

    for (unsigned i = 0; i < KNOWN_ROUTES; i++) {
        if (k->routes[i].route == route && !ex->conn->w->config->hostname_labels) {
            return &k->routes[i];
        }
    }
    return know_route(ex, p, route);
}

/* The request is one of the route's. */
static void count_route(struct exchange *ex, const struct outbound_policy *p,
                        const struct route *route)
{
    ex->is_grpc_route = p->protocol == PROTOCOL_GRPC && !p->is_fallback;
    ex->route_stats = known_route(ex, p, route)->stats;
    stat_bundle_ref(ex->route_stats);
}

/* A reference to the route's retry figures. */
static struct stat_bundle *retries_of(struct exchange *ex, const struct outbound_policy *p,
                                      const struct route *route)
{
    struct known_route *known = known_route(ex, p, route);

    if (known->retries == NULL) {
        struct route_names names = names_of(ex, p, route);

        known->retries = retry_stats_get(&ex->conn->w->stats, &names);
    }
    stat_bundle_ref(known->retries);
    return known->retries;
}

/* --- where it goes ---------------------------------------------------------------------------- */

static NOINLINE void find_backend(struct exchange *ex, const struct outbound_policy *p,
                                  const struct route *route, const struct backend *b,
                                  struct known_backend *out)
{
    struct proxy_worker *w = ex->conn->w;
    struct route_names names = names_of(ex, p, route);

    names.backend = &b->meta;
    *out = (struct known_backend){
        .route = route,
        .backend = b,
        .dest = b->kind == BACKEND_BALANCER ? dest_hold(w, b, &p->meta, DEST_HTTP) : NULL,
        .stats = backend_stats_get(&w->stats, &names),
    };
}

static void release_backend(struct known_backend *k)
{
    if (k->dest != NULL) {
        dest_release(k->dest);
    }
    stat_bundle_unref(k->stats);
}

/* Found once for the requests that go to the backend. */
static struct known_backend *known_backend(struct exchange *ex, const struct outbound_policy *p,
                                           const struct route *route, const struct backend *b)
{
    struct known *k = ex->conn->known;
    struct known_backend *known;

    for (unsigned i = 0; i < KNOWN_BACKENDS; i++) {
        if (k->backends[i].backend == b && k->backends[i].route == route) {
            return &k->backends[i];
        }
    }
    known = &k->backends[k->next_backend++ % KNOWN_BACKENDS];
    release_backend(known);
    find_backend(ex, p, route, b, known);
    return known;
}

/* Where it goes, as references of the caller's. */
static void way_to(struct exchange *ex, const struct outbound_policy *p, const struct route *route,
                   const struct backend *b, struct known_backend *out)
{
    *out = *known_backend(ex, p, route, b);
    if (out->dest != NULL) {
        dest_ref(out->dest);
    }
    stat_bundle_ref(out->stats);
}

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

static void request_to_backend(struct exchange *ex, const struct route *route,
                               const struct backend *b, struct dest *dest)
{
    switch (b->kind) {
    case BACKEND_BALANCER:
        exchange_to_dest(ex, dest);
        break;
    case BACKEND_FORWARD:
        request_forward(ex, b->forward);
        break;
    case BACKEND_FAIL:
        exchange_fail_by(ex, FAILURE_NO_BACKEND, 0, NULL,
                         &(struct failure_scope){.route = &route->meta, .backend = &b->meta});
        break;
    }
}

/* --- filters ---------------------------------------------------------------------------------- */

/* In place of a backend that does not exist, which `invalid` names, the control plane gives a filter
 * that says so (wire 9.6). */
static void inject(struct exchange *ex, const struct filter *f, const struct failure_scope *invalid)
{
    char *message = bytes_dup(f->message);
    unsigned code = 0;

    /* One of a gRPC route names a gRPC code, one of an HTTP route a status, for which gRPC gets a code of
     * its own (wire 5.7). */
    if (f->is_grpc == ex->is_grpc) {
        code = f->status;
    } else if (ex->is_grpc) {
        code = failure_info(FAILURE_INJECTED)->grpc_code;
    }
    exchange_fail_by(ex, invalid != NULL ? FAILURE_INVALID_BACKEND : FAILURE_INJECTED, code, message,
                     invalid);
    mem_free(message);
}

/* False: it is where the redirect would send it. */
static bool redirect(struct exchange *ex, const struct filter *f, const struct route_match *match)
{
    struct bytes location;
    int rc = filter_location(f, match, ex->request, &ex->a->arena, &location);

    if (rc == E_NOT_FOUND) {
        return false;
    }
    if (rc != 0) {
        exchange_fail(ex, rc == E_LIMIT ? FAILURE_MEMORY : FAILURE_INVALID_POLICY, 0,
                      "a redirect cannot be made for this request");
    } else {
        exchange_redirect(ex, f->status, location);
    }
    return true;
}

static bool is_filtered(struct exchange *ex, const struct filter *filters, size_t count,
                        const struct route_match *match, const struct failure_scope *invalid)
{
    for (size_t i = 0; i < count; i++) {
        const struct filter *f = &filters[i];

        if (f->kind == FILTER_FAIL && filter_strikes(f, &ex->conn->w->loop->rand)) {
            inject(ex, f, invalid);
            return true;
        }
        if (f->kind == FILTER_REDIRECT && redirect(ex, f, match)) {
            return true;
        }
    }
    return false;
}

bool request_filtered(struct exchange *ex, const struct filter *filters, size_t count,
                      const struct route_match *match)
{
    return is_filtered(ex, filters, count, match, NULL);
}

/* --- the choice among backends ---------------------------------------------------------------- */

struct choosing {
    struct exchange *ex;
    const struct outbound_policy *policy;
    const struct route *route;
};

static bool is_available(void *user, size_t backend)
{
    const struct choosing *c = user;
    const struct backend *b = &c->policy->backends[backend];
    struct known_backend way;
    bool is_up;

    if (b->kind != BACKEND_BALANCER) {
        return true; /* also one that fails: it has its share */
    }
    way_to(c->ex, c->policy, c->route, b, &way);
    is_up = dest_is_available(way.dest);
    release_backend(&way);
    return is_up;
}

/* E_NO_ENDPOINT when none is available, E_NOT_FOUND when the rule has none. */
static int choose_backend(struct exchange *ex, const struct outbound_policy *p,
                          const struct route_choice *choice, size_t *out_index)
{
    struct choosing c = {.ex = ex, .policy = p, .route = choice->route};

    return route_pick_backend(choice->rule, &ex->conn->w->loop->rand, is_available, &c, out_index,
                              NULL);
}

/* To a backend with filters, or a timeout. */
static void to_governed(struct exchange *ex, const struct snapshot *held,
                        const struct route_choice *choice, const struct weighted_backend *to,
                        const struct backend *b, struct dest *dest)
{
    struct failure_scope invalid = {.route = &choice->route->meta, .backend = &b->meta};
    struct plan *plan = exchange_plan(ex, held);

    if (plan == NULL) {
        exchange_fail(ex, FAILURE_MEMORY, 0, NULL);
        return;
    }
    plan->choice = *choice;
    plan->backend = to;
    if (!is_filtered(ex, to->filters, to->filters_count, choice->match,
                     b->kind == BACKEND_FAIL ? &invalid : NULL)) {
        exchange_limit_attempt(ex, to->request_timeout_ns);
        request_to_backend(ex, choice->route, b, dest);
    }
}

static void dispatch(struct exchange *ex, const struct outbound_policy *p,
                     const struct route_choice *choice)
{
    const struct rule *rule = choice->rule;
    const struct weighted_backend *to;
    const struct backend *b;
    struct known_backend way;
    size_t index = 0;
    bool has_choice = rule->backends_count != 1;

    if (rule->distribution == DISTRIBUTE_EMPTY || rule->backends_count == 0 ||
        (has_choice && choose_backend(ex, p, choice, &index) != 0 &&
         route_pick_backend(rule, &ex->conn->w->loop->rand, NULL, NULL, &index, NULL) != 0)) {
        exchange_fail_by(ex, FAILURE_NO_BACKEND, 0, "the route has no backend",
                         &(struct failure_scope){.route = &choice->route->meta});
        return;
    }
    to = &rule->backends[index];
    b = &p->backends[to->backend];
    way_to(ex, p, choice->route, b, &way);
    stat_bundle_unref(ex->backend_stats);
    ex->backend_stats = way.stats; /* its reference */
    backend_stats_request(way.stats);
    if (to->filters_count > 0 || to->request_timeout_ns > 0) {
        to_governed(ex, &p->ref, choice, to, b, way.dest);
    } else {
        request_to_backend(ex, choice->route, b, way.dest);
    }
    if (way.dest != NULL) {
        dest_release(way.dest);
    }
}

/* --- what the route asks for ------------------------------------------------------------------ */

static bool has_way(struct exchange *ex)
{
    const struct plan *plan = ex->plan;
    size_t index;

    conn_know(ex->conn, plan->held);
    return choose_backend(ex, (const struct outbound_policy *)(const void *)plan->held,
                          &plan->choice, &index) == 0;
}

static void again(struct exchange *ex)
{
    const struct plan *plan = ex->plan;
    struct route_choice choice = plan->choice;

    conn_know(ex->conn, plan->held);
    dispatch(ex, (const struct outbound_policy *)(const void *)plan->held, &choice);
}

static struct request_policy policy_of(const struct rule *rule)
{
    struct request_policy p = {
        .request_timeout_ns = rule->request_timeout_ns,
        .response_timeout_ns = rule->response_timeout_ns,
        .idle_timeout_ns = rule->idle_timeout_ns,
        .has_way = has_way,
        .again = again,
    };

    if (rule->retry.is_on) {
        p.try_timeout_ns = rule->retry.timeout_ns;
        p.max_retries = rule->retry.max_retries;
        p.max_body_bytes = rule->retry.max_request_bytes;
        p.ranges = rule->retry.ranges;
        p.ranges_count = rule->retry.ranges_count;
        p.grpc_codes = rule->retry.grpc_codes;
        p.backoff_min_ns = rule->retry.backoff_min_ns;
        p.backoff_max_ns = rule->retry.backoff_max_ns;
        p.backoff_jitter = rule->retry.backoff_jitter;
    }
    return p;
}

static bool needs_plan(const struct exchange *ex, const struct rule *rule)
{
    return rule->filters_count > 0 || rule->request_timeout_ns > 0 ||
           rule->response_timeout_ns > 0 || rule->idle_timeout_ns > 0 || rule->retry.is_on ||
           (rule->allow_request_headers && request_headers_exist(&ex->request->fields));
}

/* E_LIMIT: there is no room for a plan. */
static int make_plan(struct exchange *ex, const struct outbound_policy *p,
                     const struct route_choice *choice)
{
    struct request_policy policy = policy_of(choice->rule);
    struct plan *plan = exchange_plan(ex, &p->ref);

    if (plan == NULL) {
        return E_LIMIT;
    }
    plan->choice = *choice;
    if (choice->rule->allow_request_headers) {
        TRY(request_headers_apply(&ex->request->fields, &ex->a->arena, &policy));
    }
    if (policy.max_retries > 0) {
        plan->retry_stats = retries_of(ex, p, choice->route);
    }
    exchange_govern(ex, &policy);
    return 0;
}

/* --- requests --------------------------------------------------------------------------------- */

static const struct route_list *request_routes(const struct exchange *ex,
                                               const struct outbound_policy *p)
{
    if (p->protocol == PROTOCOL_GRPC) {
        return &p->grpc;
    }
    return ex->a->version == HTTP_2 ? &p->http2 : &p->http1;
}

/*
 * Nobody has a policy for the address (wire 3.5): to the profile's endpoint, or where the connection
 * was going. A name without a policy is looked up as it is.
 */
static void request_to_endpoint(struct exchange *ex, const struct outbound_policy *p)
{
    struct backend by_name = endpoint_backend;
    bool is_name = p->profile.endpoint == NULL && exchange_name(ex).len > 0;
    struct known_backend way;

    if (ex->conn->gateway != NULL && p->profile.endpoint == NULL && p->profile.name.len == 0) {
        exchange_fail(ex, FAILURE_GATEWAY_DOMAIN, 0, "the control plane does not know the name");
        return;
    }
    if (is_name) {
        by_name.kind = BACKEND_BALANCER;
        by_name.path = exchange_name(ex);
        by_name.default_rtt_ns = DEFAULT_RTT_NS;
        by_name.decay_ns = DEFAULT_DECAY_NS;
    }
    count_route(ex, p, &endpoint_route);
    if (is_name) {
        find_backend(ex, p, &endpoint_route, &by_name, &way);
    } else {
        way_to(ex, p, &endpoint_route, &endpoint_backend, &way);
    }
    ex->backend_stats = way.stats; /* its reference */
    backend_stats_request(way.stats);
    if (is_name) {
        exchange_to_dest(ex, way.dest);
        dest_release(way.dest);
    } else {
        request_forward(ex, p->profile.endpoint);
    }
}

void outbound_route(struct exchange *ex, const struct outbound_policy *p)
{
    struct route_choice choice;
    const struct rule *rule;

    conn_know(ex->conn, &p->ref);
    if (p->profile.service != NULL) {
        profile_outbound(ex, p);
        return;
    }
    if (p->is_fallback) {
        request_to_endpoint(ex, p);
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
    rule = choice.rule;
    count_route(ex, p, choice.route);
    if (needs_plan(ex, rule)) {
        if (make_plan(ex, p, &choice) != 0) {
            exchange_fail(ex, FAILURE_MEMORY, 0, NULL);
            return;
        }
        if (request_filtered(ex, rule->filters, rule->filters_count, choice.match)) {
            return;
        }
    }
    dispatch(ex, p, &choice);
}

void outbound_request(struct exchange *ex)
{
    struct conn *c = ex->conn;
    const struct fields *fields = &ex->request->fields;
    const struct field *required = fields_get(fields, FIELD_L5D_REQUIRE_ID), *override;

    ex->required_id = required != NULL ? required->value : BYTES_NONE;
    ex->has_required_id = required != NULL;
    (void)conn_refresh_policy(c);
    override = c->w->config->ingress_mode ? fields_get(fields, FIELD_L5D_DST_OVERRIDE) : NULL;
    if (override != NULL) {
        outbound_to_name(ex, override->value, NULL);
    } else {
        outbound_route(ex, conn_policy(c));
    }
}
