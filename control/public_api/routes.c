/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/breakdown.h"

#include "control/policy/reading.h"
#include "core/err.h"

/*
 * TopRoutes: routes of ServiceProfiles, one table an object. Without `to` these are what the object's own
 * proxies received, by the name under which they were called; with `to`, what they sent to the services
 * of the target, where each attempt is counted beside each request.
 *
 * Routes of a profile that saw no traffic have their row, too, without figures. Ports of one service count
 * together.
 */
#define DEFAULT_ROUTE "[DEFAULT]"
#define NAMES_BYTES_MAX 4096 /* of a target's services in a regular expression, which a question repeats */

static const char *const labels[] = {"dst", "rt_route"};
enum { LABEL_NS, LABEL_NAME, LABEL_DST, LABEL_ROUTE };

typedef Linkerd2__Public__RouteTable__Row route_row;

struct table { /* of one object */
    const char *ns, *name;
    struct map rows; /* "authority\nroute" to struct breakdown_row: ports added up */
};

struct tables {
    struct breakdown *b;
    struct map by_object; /* "ns/name" to struct table, in the arena */
    size_t rows_count;
    bool is_full;
};

/* --- which services ------------------------------------------------------------------------------ */

static const struct stat_kind *service_kind(void)
{
    return stat_kind_find("service");
}

static const struct cluster *cluster_of(const struct breakdown *b)
{
    return b->call.api->env->cluster;
}

/* Is the service one that the resource has? A workload has those that select one of its pods. */
static bool is_service_of(const struct breakdown *b, const struct object *service,
                          const struct stat_kind *k, const char *ns, const char *name)
{
    struct map_iter it = MAP_ITER(&cluster_of(b)->objects[KIND_POD]);
    const struct object *o;

    if (k->kind != KIND_NAMESPACE && ns[0] != '\0' && strcmp(service->ns, ns) != 0) {
        return false;
    }
    if (k->kind == KIND_SERVICE) {
        return name[0] == '\0' || strcmp(service->name, name) == 0;
    }
    if (k->kind == KIND_NAMESPACE) {
        return name[0] == '\0' || strcmp(service->ns, name) == 0;
    }
    o = name[0] != '\0' ? cluster_get(cluster_of(b), k->kind, service->ns, name) : NULL;
    while (map_next(&it)) {
        const struct object *pod = it.value;
        struct workload owner;

        if (strcmp(pod->ns, service->ns) != 0 || !pod_is_present(pod) ||
            !pod_belongs(cluster_of(b), pod, service_kind(), service)) {
            continue;
        }
        pod_workload(cluster_of(b), pod, &owner);
        if (o != NULL ? pod_belongs(cluster_of(b), pod, k, o)
                      : name[0] == '\0' &&
                            (k->kind == KIND_POD || strcmp(owner.kind, k->type) == 0)) {
            return true;
        }
    }
    return false;
}

static char *authority_of(const struct breakdown *b, const struct object *service, struct arena *a)
{
    return arena_printf(a, "%s.%s.svc.%s", service->name, service->ns,
                        b->call.api->env->cluster_domain);
}

/* Dots of a name stand for themselves in a regular expression. */
static void add_quoted(struct text *t, const char *name)
{
    for (; *name != '\0'; name++) {
        if (*name == '.') {
            text_str(t, "\\.");
        } else {
            text_char(t, *name);
        }
    }
}

/* All services of a namespace, or of any, by the shape of their names. */
static void match_any_service(struct breakdown *b, const char *ns)
{
    struct text names;

    text_init(&names, NAMES_BYTES_MAX);
    text_printf(&names, "[^.]+\\.%s\\.svc\\.", ns[0] != '\0' ? ns : "[^.]+");
    add_quoted(&names, b->call.api->env->cluster_domain);
    text_str(&names, "(:[0-9]+)?");
    assert(names.err == 0);
    promql_add_match_op(&b->scope.match, "dst", "=~", names.at);
    text_clear(&names);
}

/* dst=~"(web\.demo\.svc\.cluster\.local|...)(:[0-9]+)?". E_NOT_FOUND: it has no service; E_LIMIT. */
static int match_services(struct breakdown *b, const struct stat_kind *k, const char *ns,
                          const char *name)
{
    struct map_iter it = MAP_ITER(&cluster_of(b)->objects[KIND_SERVICE]);
    struct text names;
    size_t count = 0;
    int rc = 0;

    if (k->kind == KIND_NAMESPACE || (k->kind == KIND_SERVICE && name[0] == '\0')) {
        match_any_service(b, k->kind == KIND_NAMESPACE ? name : ns);
        return 0;
    }
    text_init(&names, NAMES_BYTES_MAX);
    text_str(&names, "(");
    while (map_next(&it) && rc == 0) {
        if (!is_service_of(b, it.value, k, ns, name)) {
            continue;
        }
        if (count++ > 0) {
            text_char(&names, '|');
        }
        add_quoted(&names, authority_of(b, it.value, &b->arena));
        rc = names.err;
    }
    text_str(&names, ")(:[0-9]+)?");
    rc = rc != 0 ? rc : names.err;
    if (rc == 0 && count == 0) {
        rc = E_NOT_FOUND;
    } else if (rc == 0) {
        promql_add_match_op(&b->scope.match, "dst", "=~", names.at);
    }
    text_clear(&names);
    return rc;
}

/* --- rows ---------------------------------------------------------------------------------------- */

static struct table *table_at(struct tables *t, const char *ns, const char *name)
{
    struct arena *a = &t->b->arena;
    char *key = arena_printf(a, "%s/%s", ns, name);
    struct table *table = map_get(&t->by_object, bytes_str(key));

    if (table == NULL) {
        table = arena_new(a, sizeof(*table));
        table->ns = breakdown_text(t->b, ns);
        table->name = breakdown_text(t->b, name);
        map_init(&table->rows);
        (void)map_put(&t->by_object, bytes_str(key), table);
    }
    return table;
}

static struct breakdown_row *row_at(struct tables *t, struct table *table, const char *authority,
                                    const char *route)
{
    char *key = arena_printf(&t->b->arena, "%s\n%s", authority, route);
    struct breakdown_row *row = map_get(&table->rows, bytes_str(key));

    if (row == NULL && t->rows_count >= ROWS_MAX) {
        t->is_full = true;
        return NULL;
    }
    if (row == NULL) {
        row = arena_new(&t->b->arena, sizeof(*row));
        row->label[LABEL_DST] = breakdown_text(t->b, authority);
        row->label[LABEL_ROUTE] = breakdown_text(t->b, route);
        t->rows_count++;
        (void)map_put(&table->rows, bytes_str(key), row);
    }
    return row;
}

static void add_figures(struct breakdown_row *to, const struct breakdown_row *from)
{
    to->figures.success += from->figures.success;
    to->figures.failure += from->figures.failure;
    to->figures.has_responses |= from->figures.has_responses;
    to->actual_success += from->actual_success;
    to->actual_failure += from->actual_failure;
    for (size_t i = 0; i < ARRAY_LEN(to->figures.quantiles); i++) {
        to->figures.quantiles[i] = MAX(to->figures.quantiles[i], from->figures.quantiles[i]);
    }
}

/* "web.demo.svc.cluster.local:80" without its port; of a service also its name and namespace. */
static char *split_dst(struct breakdown *b, const char *dst, const char **out_ns,
                       const char **out_name)
{
    struct bytes host, port, name, ns, rest;

    (void)bytes_split(bytes_str(dst), ':', &host, &port);
    (void)bytes_split(host, '.', &name, &rest);
    (void)bytes_split(rest, '.', &ns, &rest);
    *out_name = arena_strdup(&b->arena, name);
    *out_ns = arena_strdup(&b->arena, ns);
    return arena_strdup(&b->arena, host);
}

static void add_traffic(struct tables *t)
{
    struct map_iter it = MAP_ITER(&t->b->rows);

    while (map_next(&it)) {
        const struct breakdown_row *from = it.value;
        const char *ns, *name, *route = from->label[LABEL_ROUTE];
        char *authority = split_dst(t->b, from->label[LABEL_DST], &ns, &name);
        struct breakdown_row *row;

        if (!from->figures.has_responses && from->actual_success + from->actual_failure == 0) {
            continue;
        }
        if (t->b->ask.kind->kind != KIND_SERVICE) {
            ns = t->b->ask.kind->kind == KIND_NAMESPACE ? "" : from->label[LABEL_NS];
            name = from->label[LABEL_NAME];
            if (!breakdown_is_selected(t->b, from)) {
                continue;
            }
        }
        row = row_at(t, table_at(t, ns, name), authority, route[0] != '\0' ? route : DEFAULT_ROUTE);
        if (row != NULL) {
            add_figures(row, from);
        }
    }
}

/* The profile of a service as a client in that namespace sees it (wire 11.2). */
static const struct object *profile_of(const struct breakdown *b, const char *client_ns,
                                       const struct object *service, const char *authority)
{
    const struct object *own =
        cluster_get(cluster_of(b), KIND_SERVICE_PROFILE, client_ns, authority);

    return own != NULL ? own
                       : cluster_get(cluster_of(b), KIND_SERVICE_PROFILE, service->ns, authority);
}

static bool has_profile(const struct breakdown *b, const char *client_ns,
                        const struct object *service)
{
    char authority[OBJECT_KEY_BYTES];

    (void)snprintf(authority, sizeof(authority), "%s.%s.svc.%s", service->name, service->ns,
                   b->call.api->env->cluster_domain);
    return profile_of(b, client_ns, service, authority) != NULL;
}

static void add_profile(struct tables *t, const char *ns, const char *name, const char *client_ns,
                        const struct object *service)
{
    char *authority = authority_of(t->b, service, &t->b->arena);
    const struct object *profile = profile_of(t->b, client_ns, service, authority);
    const json_t *routes = profile != NULL ? json_object_get(profile->spec, "routes") : NULL;
    struct table *table;

    if (json_array_size(routes) == 0) {
        return;
    }
    table = table_at(t, ns, name);
    for (size_t i = 0; i < json_array_size(routes); i++) {
        const char *route = json_text(json_array_get(routes, i), "name");

        if (route != NULL) {
            (void)row_at(t, table, authority, route);
        }
    }
    (void)row_at(t, table, authority, DEFAULT_ROUTE);
}

/* Of the object that was named, all that a profile has; of others, of whom traffic tells, the same. */
static void add_profiles(struct tables *t)
{
    const struct stat_ask *ask = &t->b->ask;
    const struct stat_kind *k = ask->peer != NULL ? ask->peer : ask->kind;
    struct map_iter services = MAP_ITER(&cluster_of(t->b)->objects[KIND_SERVICE]);

    while (map_next(&services)) {
        const struct object *service = services.value;
        struct map_iter it = MAP_ITER(&t->by_object);

        if (!is_service_of(t->b, service, k, ask->peer != NULL ? ask->peer_ns : ask->ns,
                           ask->peer != NULL ? ask->peer_name : ask->name)) {
            continue;
        }
        if (ask->kind->kind == KIND_SERVICE) {
            add_profile(t, service->ns, service->name, service->ns, service);
        } else if (ask->name[0] != '\0' && (ask->ns[0] != '\0' || k->kind == KIND_NAMESPACE)) {
            add_profile(t, ask->ns, ask->name, ask->ns, service);
        } else {
            while (map_next(&it)) {
                const struct table *table = it.value;

                if (has_profile(t->b, table->ns, service) &&
                    (ask->peer != NULL ||
                     is_service_of(t->b, service, ask->kind, table->ns, table->name))) {
                    add_profile(t, table->ns, table->name, table->ns, service);
                }
            }
        }
    }
}

/* --- the answer ---------------------------------------------------------------------------------- */

static Linkerd2__Public__RouteTable *table_message(struct tables *t, const struct table *table)
{
    struct arena *a = &t->b->arena;
    Linkerd2__Public__RouteTable *m = arena_new(a, sizeof(*m));
    struct map_iter it = MAP_ITER(&table->rows);

    linkerd2__public__route_table__init(m);
    m->resource = arena_printf(a, "%s/%s", t->b->ask.kind->type, table->name);
    m->namespace_ = arena_strdup(a, bytes_str(table->ns));
    m->rows = arena_new(a, (map_count(&table->rows) + 1) * sizeof(route_row *));
    while (map_next(&it)) {
        const struct breakdown_row *row = it.value;
        route_row *r = arena_new(a, sizeof(*r));

        linkerd2__public__route_table__row__init(r);
        r->route = breakdown_text(t->b, row->label[LABEL_ROUTE]);
        r->authority = breakdown_text(t->b, row->label[LABEL_DST]);
        r->time_window = breakdown_text(t->b, t->b->ask.window);
        r->stats = breakdown_stats(t->b, row);
        m->rows[m->n_rows++] = r;
    }
    return m;
}

static Linkerd2__Public__Resource *resource_of(struct breakdown *b, const struct object *o)
{
    Linkerd2__Public__Resource *m = arena_new(&b->arena, sizeof(*m));

    linkerd2__public__resource__init(m);
    m->type = breakdown_text(b, kind_info(o->kind)->name);
    m->namespace_ = breakdown_text(b, o->ns);
    m->name = breakdown_text(b, o->name);
    return m;
}

/* The first service that was asked about among the route's parents; NULL: none. */
static const struct object *parent_asked_about(const struct breakdown *b, const struct object *route)
{
    const struct stat_ask *ask = &b->ask;
    const struct stat_kind *k = ask->peer != NULL ? ask->peer : ask->kind;
    const json_t *refs = json_object_get(route->spec, "parentRefs");

    for (size_t i = 0; i < json_array_size(refs) && k->kind != KIND_COUNT; i++) {
        const json_t *ref = json_array_get(refs, i);
        const struct object *service =
            parent_kind(route, ref) != PARENT_SERVICE
                ? NULL
                : cluster_get(cluster_of(b), KIND_SERVICE, ref_ns(ref, route->ns), ref_name(ref));

        if (service != NULL && is_service_of(b, service, k, ask->peer != NULL ? ask->peer_ns : ask->ns,
                                             ask->peer != NULL ? ask->peer_name : ask->name)) {
            return service;
        }
    }
    return NULL;
}

/* Without a row: who looks for these figures has them elsewhere. */
static void tell_policy_route(struct breakdown *b, Linkerd2__Public__TopRoutesResponse__Ok *ok)
{
    static const enum kind kinds[] = {KIND_HTTP_ROUTE, KIND_LINKERD_HTTP_ROUTE, KIND_GRPC_ROUTE};

    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct map_iter it = MAP_ITER(&cluster_of(b)->objects[kinds[k]]);

        while (map_next(&it)) {
            const struct object *service = parent_asked_about(b, it.value);

            if (service != NULL) {
                ok->policy_route = resource_of(b, it.value);
                ok->policy_service = resource_of(b, service);
                return;
            }
        }
    }
}

static void finish(struct breakdown *b)
{
    struct tables t = {.b = b};
    struct service_request *r = b->call.request;
    Linkerd2__Public__TopRoutesResponse response;
    Linkerd2__Public__TopRoutesResponse__Ok ok;
    struct map_iter it;

    map_init(&t.by_object);
    add_traffic(&t);
    add_profiles(&t);
    linkerd2__public__top_routes_response__init(&response);
    linkerd2__public__top_routes_response__ok__init(&ok);
    ok.routes = arena_new(&b->arena, (map_count(&t.by_object) + 1) * sizeof(ok.routes[0]));
    it = (struct map_iter)MAP_ITER(&t.by_object);
    while (map_next(&it)) {
        struct table *table = it.value;

        ok.routes[ok.n_routes++] = table_message(&t, table);
        map_clear(&table->rows);
    }
    map_clear(&t.by_object);
    if (ok.n_routes == 0) {
        tell_policy_route(b, &ok);
    }
    response.ok = &ok;
    response.response_case = LINKERD2__PUBLIC__TOP_ROUTES_RESPONSE__RESPONSE_OK;
    if (t.is_full) {
        answer_error(r, 413, "the answer has more than %d rows; name a namespace or an object",
                     ROWS_MAX);
    } else {
        answer_message(r, &response.base);
    }
    breakdown_free(b);
}

static void refuse(struct service_request *r, Linkerd2__Public__ResourceError *error)
{
    Linkerd2__Public__TopRoutesResponse response;

    linkerd2__public__top_routes_response__init(&response);
    response.error = error;
    response.response_case = LINKERD2__PUBLIC__TOP_ROUTES_RESPONSE__RESPONSE_ERROR;
    answer_message(r, &response.base);
}

/* --- the question -------------------------------------------------------------------------------- */

/* 0 and the match of the series. E_NOT_FOUND: no service is what was asked for; E_LIMIT: too many are. */
static int match_series(struct breakdown *b)
{
    const struct stat_ask *ask = &b->ask;

    promql_add_match(&b->scope.match, "direction", ask->peer != NULL ? "outbound" : "inbound");
    if (ask->kind->kind == KIND_SERVICE) {
        b->own[0] = b->own[1] = "dst";
        return match_services(b, ask->kind, ask->ns, ask->name);
    }
    if (ask->kind->kind != KIND_NAMESPACE && ask->ns[0] != '\0') {
        promql_add_match(&b->scope.match, "namespace", ask->ns);
    }
    promql_add_match(&b->scope.match, ask->kind->label, ask->name);
    if (ask->peer == NULL) {
        return 0;
    }
    if (ask->peer->kind == KIND_COUNT) {
        promql_add_match(&b->scope.match, "dst", ask->peer_name);
        return 0;
    }
    return match_services(b, ask->peer, ask->peer_ns, ask->peer_name);
}

void call_top_routes(struct public_api *api, struct service_request *r)
{
    static const struct breakdown_question questions[] = {
        {"route_response_total", TAKE_CLASSIFIED},
        {"route_response_latency_ms_bucket", TAKE_P50},
        {"route_response_latency_ms_bucket", TAKE_P95},
        {"route_response_latency_ms_bucket", TAKE_P99},
        {"route_actual_response_total", TAKE_ACTUAL}, /* last: of what is sent alone */
    };
    Linkerd2__Public__TopRoutesRequest *m = linkerd2__public__top_routes_request__unpack(
        NULL, r->body.len, (const uint8_t *)(const void *)r->body.at);
    Linkerd2__Public__Resource *to = NULL;
    struct breakdown *b;
    int rc;

    if (m == NULL) {
        answer_error(r, 400, "the request is no TopRoutesRequest");
        return;
    }
    if (m->outbound_case == LINKERD2__PUBLIC__TOP_ROUTES_REQUEST__OUTBOUND_TO_RESOURCE) {
        to = m->to_resource;
    }
    b = breakdown_open(api, r, m, m->selector, m->time_window, to, refuse);
    if (b == NULL) {
        return;
    }
    b->labels = labels;
    b->labels_count = ARRAY_LEN(labels);
    b->finish = finish;
    rc = match_series(b);
    if (rc == E_NOT_FOUND) {
        breakdown_refuse(b, "no Service belongs to the %s \"%s\"",
                         to != NULL ? b->ask.peer->type : b->ask.kind->type,
                         to != NULL ? b->ask.peer_name : b->ask.name);
    } else if (rc != 0) {
        breakdown_refuse(b, "too many services are asked for; name one");
    } else {
        breakdown_start(b, questions, ARRAY_LEN(questions) - (to == NULL ? 1 : 0));
    }
}
