/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/api.h"
#include "cli/traffic.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

#include <stdlib.h>

/*
 * `tulle routes`: what the routes of ServiceProfiles carried. With --to, each request counts once as
 * "effective", whatever became of it in the end, and each attempt as "actual".
 */
#define RESOURCES_MAX 16

typedef Linkerd2__Public__RouteTable route_table;
typedef Linkerd2__Public__RouteTable__Row route_row;

struct routes_options {
    struct traffic_options common;
    const char *to, *to_ns;
    struct resource_arg peer; /* kind NULL: none */
};

struct routes_answers { /* one a resource that was named */
    Linkerd2__Public__TopRoutesResponse *at[RESOURCES_MAX];
    size_t count;
};

static bool is_wide(const struct routes_options *o)
{
    return strcmp(o->common.output, "wide") == 0;
}

/* --- asking -------------------------------------------------------------------------------------- */

static int ask(const struct routes_options *o, const struct resource_arg *r,
               struct routes_answers *to, char *problem, size_t problem_bytes)
{
    Linkerd2__Public__TopRoutesRequest request;
    Linkerd2__Public__TopRoutesResponse *response;
    Linkerd2__Public__Resource peer;
    struct traffic_question q;
    ProtobufCMessage *answer;
    const char *ns = o->to_ns != NULL ? o->to_ns : o->common.ns;

    traffic_ask(&o->common, r, &q);
    linkerd2__public__top_routes_request__init(&request);
    linkerd2__public__resource__init(&peer);
    request.selector = &q.selection;
    request.time_window = q.window;
    if (o->peer.kind != NULL) {
        bool is_namespace = strcmp(o->peer.kind, "namespace") == 0;

        peer.type = (char *)(uintptr_t)o->peer.kind; /* packing does not write */
        peer.name = (char *)(uintptr_t)o->peer.name;
        peer.namespace_ = (char *)(uintptr_t)(is_namespace ? "" : ns);
        request.to_resource = &peer;
        request.outbound_case = LINKERD2__PUBLIC__TOP_ROUTES_REQUEST__OUTBOUND_TO_RESOURCE;
    }
    TRY(api_call(&o->common.target, "TopRoutes", &request.base,
                 &linkerd2__public__top_routes_response__descriptor, &answer, problem,
                 problem_bytes));
    response = (Linkerd2__Public__TopRoutesResponse *)answer;
    to->at[to->count++] = response;
    if (response->response_case == LINKERD2__PUBLIC__TOP_ROUTES_RESPONSE__RESPONSE_ERROR) {
        (void)snprintf(problem, problem_bytes, "%s", response->error->error);
        return E_INTERNAL;
    }
    return 0;
}

/* --- order --------------------------------------------------------------------------------------- */

static bool is_default(const route_row *r)
{
    return strcmp(r->route, "[DEFAULT]") == 0;
}

/* By service, then by route; what no route matches comes last. */
static int compare_rows(const void *a, const void *b)
{
    const route_row *x = *(route_row *const *)a, *y = *(route_row *const *)b;
    int order = strcmp(x->authority, y->authority);

    if (order != 0) {
        return order;
    }
    return is_default(x) != is_default(y) ? (is_default(x) ? 1 : -1) : strcmp(x->route, y->route);
}

static int compare_tables(const void *a, const void *b)
{
    const route_table *x = *(route_table *const *)a, *y = *(route_table *const *)b;
    int order = strcmp(x->resource, y->resource);

    return order != 0 ? order : strcmp(x->namespace_, y->namespace_);
}

/* --- showing ------------------------------------------------------------------------------------- */

/* "web" of "web.demo.svc.cluster.local"; other names as they are. */
static struct bytes service_of(const route_row *r)
{
    struct bytes all = bytes_str(r->authority), name, rest, ns;

    (void)bytes_split(all, '.', &name, &rest);
    (void)bytes_split(rest, '.', &ns, &rest);
    return bytes_starts(rest, BYTES("svc.")) ? name : all;
}

static void print_row(const struct routes_options *o, const route_row *r, struct table *t)
{
    const Linkerd2__Public__BasicStats none = LINKERD2__PUBLIC__BASIC_STATS__INIT;
    const Linkerd2__Public__BasicStats *s = r->stats != NULL ? r->stats : &none;
    struct bytes service = service_of(r);

    table_cell(t, "%s", r->route);
    table_cell(t, BYTES_FMT, BYTES_ARG(service));
    traffic_rate_cells(t, &o->common, s->success_count, s->failure_count);
    if (o->peer.kind != NULL && is_wide(o)) {
        traffic_rate_cells(t, &o->common, s->actual_success_count, s->actual_failure_count);
    }
    traffic_latency_cells(t, s);
}

static void print_table(const struct routes_options *o, const route_table *table, struct text *to)
{
    const char *heads[9];
    size_t columns = 0;
    bool is_double = o->peer.kind != NULL && is_wide(o);
    struct table *t;

    heads[columns++] = "ROUTE";
    heads[columns++] = "SERVICE";
    heads[columns++] = is_double ? "EFFECTIVE_SUCCESS" : "SUCCESS";
    heads[columns++] = is_double ? "EFFECTIVE_RPS" : "RPS";
    if (is_double) {
        heads[columns++] = "ACTUAL_SUCCESS";
        heads[columns++] = "ACTUAL_RPS";
    }
    heads[columns++] = "LATENCY_P50";
    heads[columns++] = "LATENCY_P95";
    heads[columns++] = "LATENCY_P99";
    t = table_new(heads, columns, 1);
    for (size_t i = 0; i < table->n_rows; i++) {
        print_row(o, table->rows[i], t);
    }
    table_print(t, to);
    table_free(t);
}

static json_t *row_json(const struct routes_options *o, const route_row *r)
{
    const Linkerd2__Public__BasicStats none = LINKERD2__PUBLIC__BASIC_STATS__INIT;
    const Linkerd2__Public__BasicStats *s = r->stats != NULL ? r->stats : &none;
    json_t *j = json_object();

    json_object_set_new(j, "route", json_string(r->route));
    json_object_set_new(j, "authority", json_string(r->authority));
    if (o->peer.kind != NULL) {
        traffic_rate_json(j, &o->common, "effective_", s->success_count, s->failure_count);
        traffic_rate_json(j, &o->common, "actual_", s->actual_success_count,
                          s->actual_failure_count);
    } else {
        traffic_rate_json(j, &o->common, "", s->success_count, s->failure_count);
    }
    traffic_latency_json(j, s);
    return j;
}

/* "deployment/web" as people write it: "deploy/web"; among others of all namespaces
 * "demo/deploy/web". */
static char *short_name(const struct routes_options *o, const route_table *table)
{
    const char *resource = table->resource, *slash = strchr(resource, '/');
    bool has_ns = o->common.all_namespaces && table->namespace_[0] != '\0';
    AUTOFREE char *kind =
        mem_strndup(resource, slash != NULL ? (size_t)(slash - resource) : strlen(resource));

    return mem_printf("%s%s%s%s", has_ns ? table->namespace_ : "", has_ns ? "/" : "",
                      kind_short(kind), slash != NULL ? slash : "");
}

static void print_all(const struct routes_options *o, route_table *const *tables, size_t count,
                      struct text *to)
{
    json_t *all = json_object();

    for (size_t i = 0; i < count; i++) {
        AUTOFREE char *name = short_name(o, tables[i]);
        json_t *rows = json_array();

        qsort(tables[i]->rows, tables[i]->n_rows, sizeof(tables[i]->rows[0]), compare_rows);
        for (size_t k = 0; k < tables[i]->n_rows; k++) {
            json_array_append_new(rows, row_json(o, tables[i]->rows[k]));
        }
        json_object_set_new(all, name, rows);
        if (strcmp(o->common.output, "json") != 0) {
            if (count > 1) {
                text_printf(to, "%s==> %s <==\n", i > 0 ? "\n" : "", name);
            }
            print_table(o, tables[i], to);
        }
    }
    if (strcmp(o->common.output, "json") == 0) {
        traffic_json(to, all);
    } else {
        json_decref(all);
    }
}

/* Where else to look, and how to get what was looked for; "" when nothing is known to help. */
static void find_elsewhere(const struct routes_answers *a, char *to, size_t bytes)
{
    to[0] = '\0';
    for (size_t i = 0; i < a->count && to[0] == '\0'; i++) {
        const Linkerd2__Public__TopRoutesResponse *r = a->at[i];
        bool is_ok = r->response_case == LINKERD2__PUBLIC__TOP_ROUTES_RESPONSE__RESPONSE_OK;
        const Linkerd2__Public__Resource *route = is_ok ? r->ok->policy_route : NULL;
        const Linkerd2__Public__Resource *service = is_ok ? r->ok->policy_service : NULL;

        if (route != NULL && service != NULL) {
            (void)snprintf(to, bytes,
                           "Service %s has the %s %s, and figures of such routes are in `tulle "
                           "stat-outbound deploy -n %s`, by workload that calls; `tulle profile %s -n %s "
                           "--template` begins a ServiceProfile",
                           service->name, route->type, route->name, route->namespace_, service->name,
                           service->namespace_);
        }
    }
}

static int show(const struct routes_options *o, const struct routes_answers *a)
{
    route_table **tables;
    size_t count = 0, all = 0;
    char elsewhere[1024];
    struct text out;

    for (size_t i = 0; i < a->count; i++) {
        all += a->at[i]->response_case == LINKERD2__PUBLIC__TOP_ROUTES_RESPONSE__RESPONSE_OK
                   ? a->at[i]->ok->n_routes
                   : 0;
    }
    tables = mem_new_array(all + 1, sizeof(*tables));
    for (size_t i = 0; i < a->count; i++) {
        const Linkerd2__Public__TopRoutesResponse *r = a->at[i];

        if (r->response_case != LINKERD2__PUBLIC__TOP_ROUTES_RESPONSE__RESPONSE_OK) {
            continue;
        }
        for (size_t k = 0; k < r->ok->n_routes; k++) {
            if (r->ok->routes[k]->n_rows > 0) {
                tables[count++] = r->ok->routes[k];
            }
        }
    }
    qsort(tables, count, sizeof(tables[0]), compare_tables);
    text_init(&out, TRAFFIC_OUTPUT_MAX);
    print_all(o, tables, count, &out);
    mem_free(tables);
    find_elsewhere(a, elsewhere, sizeof(elsewhere));
    return traffic_print("routes", "routes of ServiceProfiles", elsewhere[0] != '\0' ? elsewhere : NULL,
                         &o->common, &out);
}

static int run(const struct routes_options *o, const struct resource_arg *resources, size_t count)
{
    struct routes_answers answers = {.count = 0};
    char problem[1024];
    int status = 0;

    for (size_t i = 0; i < count && status == 0; i++) {
        if (ask(o, &resources[i], &answers, problem, sizeof(problem)) != 0) {
            status = cli_fail("routes: %s", problem);
        }
    }
    if (status == 0) {
        status = show(o, &answers);
    }
    for (size_t i = 0; i < answers.count; i++) {
        api_answer_free(&answers.at[i]->base);
    }
    return status;
}

/* --- the command line ---------------------------------------------------------------------------- */

static int read_options(struct routes_options *o, const struct opt_list *args,
                        struct resource_arg resources[RESOURCES_MAX], size_t *out_count,
                        char *problem, size_t problem_bytes)
{
    struct opt_list one = {.items = &o->to, .count = 1};
    const char *output = o->common.output;
    size_t count;

    TRY(resource_parse(args, 0, resources, RESOURCES_MAX, out_count, problem, problem_bytes));
    TRY(traffic_complete(&o->common, resources, *out_count, problem, problem_bytes));
    if (strcmp(output, "table") != 0 && strcmp(output, "wide") != 0 &&
        strcmp(output, "json") != 0) {
        (void)snprintf(problem, problem_bytes, "-o: table, wide or json");
        return E_CONFIG;
    }
    if (o->to != NULL) {
        TRY(resource_parse(&one, 0, &o->peer, 1, &count, problem, problem_bytes));
    } else if (o->to_ns != NULL) { /* whatever is called in that namespace */
        o->peer = (struct resource_arg){.kind = "service", .name = ""};
    }
    if (o->peer.kind != NULL && strcmp(o->peer.kind, "all") == 0) {
        (void)snprintf(problem, problem_bytes, "--to: one kind is needed, not \"all\"");
        return E_CONFIG;
    }
    return 0;
}

static const char usage[] =
    "routes RESOURCE... [options]\n\n"
    "Routes of ServiceProfiles. RESOURCE is TYPE, TYPE NAME... or TYPE/NAME;\n"
    "TYPE is one of deploy, po, ns, svc, sts, ds, rs, rc, job, cj. HTTPRoutes and\n"
    "GRPCRoutes have their figures in `tulle stat-outbound` and `tulle stat-inbound`.\n\n"
    "  tulle routes svc/web -n demo                  what was asked of web, by route\n"
    "  tulle routes deploy/bot -n demo --to svc/web  what bot asked of web\n"
    "  tulle routes deploy/bot -n demo --to svc/web -o wide   retries, too";

int cli_routes(int argc, char **argv)
{
    struct routes_options o = {.common = {.output = "table", .window_ns = 60 * NS_PER_S}};
    const struct opt opts[] = {
        {"to", 0, OPT_STRING, "RESOURCE", "only what was sent to this one", &o.to},
        {"to-namespace", 0, OPT_STRING, "NS", "namespace of --to", &o.to_ns},
        {"output", 'o', OPT_STRING, "FORMAT", "table, wide or json", &o.common.output},
        TRAFFIC_OPTS(&o.common),
    };
    struct resource_arg resources[RESOURCES_MAX];
    struct opt_list args = {0};
    char problem[1024];
    size_t count = 0;
    int status;

    if (!cli_parse(usage, opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    if (read_options(&o, &args, resources, &count, problem, sizeof(problem)) != 0) {
        (void)cli_fail("routes: %s", problem);
        status = EXIT_USAGE;
    } else {
        status = run(&o, resources, count);
    }
    opt_list_clear(&args);
    return status;
}
