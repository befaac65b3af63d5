/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/api.h"
#include "cli/traffic.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

#include <stdlib.h>

/*
 * `tulle stat-inbound`: what proxies let in, by Server and route. `tulle stat-outbound`: what they sent, by
 * route of their outbound policy, and below each route by backend.
 */
#define RESOURCES_MAX   16
#define NOTES_BYTES_MAX 65536

typedef Linkerd2__Public__StatInboundResponse__Row inbound_row;
typedef Linkerd2__Public__StatOutboundResponse__Row outbound_row;
typedef Linkerd2__Public__StatOutboundResponse__Target target;

struct answers { /* of either method */
    ProtobufCMessage *at[RESOURCES_MAX];
    size_t count;
};

static void answers_free(struct answers *a)
{
    for (size_t i = 0; i < a->count; i++) {
        api_answer_free(a->at[i]);
    }
}

static bool is_output(const struct traffic_options *o, const char *name)
{
    return strcmp(o->output, name) == 0;
}

static int compare_resources(const Linkerd2__Public__Resource *a,
                             const Linkerd2__Public__Resource *b)
{
    int order = strcmp(a->type, b->type);

    order = order != 0 ? order : strcmp(a->namespace_, b->namespace_);
    return order != 0 ? order : strcmp(a->name, b->name);
}

static int compare_numbers(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static void name_cells(struct table *t, const struct traffic_options *o,
                       const Linkerd2__Public__Resource *r)
{
    if (o->all_namespaces) {
        table_cell(t, "%s", r->namespace_);
    }
    table_cell(t, "%s", r->name);
}

static json_t *resource_json(const Linkerd2__Public__Resource *r)
{
    json_t *j = json_object();

    json_object_set_new(j, "namespace", json_string(r->namespace_));
    json_object_set_new(j, "kind", json_string(r->type));
    json_object_set_new(j, "name", json_string(r->name));
    return j;
}

static json_t *text_or_null(const char *text)
{
    return text[0] != '\0' ? json_string(text) : json_null();
}

static const char *or_default(const char *text)
{
    return text[0] != '\0' ? text : "[default]";
}

static const char *or_dash(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

/* --- inbound ------------------------------------------------------------------------------------- */

static int compare_inbound(const void *a, const void *b)
{
    const inbound_row *x = *(inbound_row *const *)a, *y = *(inbound_row *const *)b;
    int order = compare_resources(x->resource, y->resource);

    order = order != 0 ? order : strcmp(x->server, y->server);
    order = order != 0 ? order : compare_numbers(x->port, y->port);
    order = order != 0 ? order : strcmp(x->route, y->route);
    order = order != 0 ? order : strcmp(x->route_kind, y->route_kind);
    return order != 0 ? order : strcmp(x->authorization, y->authorization);
}

static int ask_inbound(const struct traffic_options *o, const struct resource_arg *r,
                       struct answers *to, char *problem, size_t problem_bytes)
{
    Linkerd2__Public__StatInboundRequest request;
    const Linkerd2__Public__StatInboundResponse *response;
    struct traffic_question q;

    traffic_ask(o, r, &q);
    linkerd2__public__stat_inbound_request__init(&request);
    request.selector = &q.selection;
    request.time_window = q.window;
    request.by_authorization = is_output(o, "wide");
    TRY(api_call(&o->target, "StatInbound", &request.base,
                 &linkerd2__public__stat_inbound_response__descriptor, &to->at[to->count], problem,
                 problem_bytes));
    response = (const Linkerd2__Public__StatInboundResponse *)to->at[to->count++];
    if (response->response_case == LINKERD2__PUBLIC__STAT_INBOUND_RESPONSE__RESPONSE_ERROR) {
        (void)snprintf(problem, problem_bytes, "%s", response->error->error);
        return E_INTERNAL;
    }
    return 0;
}

static void inbound_cells(struct table *t, const struct traffic_options *o, const inbound_row *r)
{
    const Linkerd2__Public__BasicStats *s = r->stats;

    name_cells(t, o, r->resource);
    table_cell(t, "%s:%u", or_default(r->server), r->port);
    table_cell(t, "%s", or_default(r->route));
    table_cell(t, "%s", or_dash(r->route_kind));
    if (is_output(o, "wide")) {
        table_cell(t, "%s", or_dash(r->authorization));
        traffic_rare_cell(t, o, r->denied_count);
        traffic_rare_cell(t, o, r->limited_count);
    }
    traffic_rate_cells(t, o, s != NULL ? s->success_count : 0, s != NULL ? s->failure_count : 0);
    traffic_latency_cells(t, s);
}

static void print_inbound(const struct traffic_options *o, inbound_row *const *rows, size_t count,
                          struct text *to)
{
    const char *heads[13];
    size_t columns = 0, left;
    struct table *t;

    if (o->all_namespaces) {
        heads[columns++] = "NAMESPACE";
    }
    heads[columns++] = "NAME";
    heads[columns++] = "SERVER";
    heads[columns++] = "ROUTE";
    heads[columns++] = "TYPE";
    left = columns;
    if (is_output(o, "wide")) {
        heads[columns++] = "AUTHORIZATION";
        left = columns;
        heads[columns++] = "UNAUTHORIZED";
        heads[columns++] = "RATE_LIMITED";
    }
    heads[columns++] = "SUCCESS";
    heads[columns++] = "RPS";
    heads[columns++] = "LATENCY_P50";
    heads[columns++] = "LATENCY_P95";
    heads[columns++] = "LATENCY_P99";
    t = table_new(heads, columns, (unsigned)left);
    for (size_t i = 0; i < count; i++) {
        inbound_cells(t, o, rows[i]);
    }
    table_print(t, to);
    table_free(t);
}

static json_t *inbound_json(const struct traffic_options *o, const inbound_row *r)
{
    const Linkerd2__Public__BasicStats *s = r->stats;
    json_t *j = resource_json(r->resource);

    json_object_set_new(j, "server", text_or_null(r->server));
    json_object_set_new(j, "port", json_integer(r->port));
    json_object_set_new(j, "route", text_or_null(r->route));
    json_object_set_new(j, "route_kind", text_or_null(r->route_kind));
    if (r->authorization[0] != '\0') {
        json_object_set_new(j, "authorization", json_string(r->authorization));
    }
    json_object_set_new(j, "unauthorized", json_real(traffic_per_second(o, r->denied_count)));
    json_object_set_new(j, "rate_limited", json_real(traffic_per_second(o, r->limited_count)));
    traffic_rate_json(j, o, "", s != NULL ? s->success_count : 0, s != NULL ? s->failure_count : 0);
    traffic_latency_json(j, s);
    return j;
}

static int show_inbound(const struct traffic_options *o, const struct answers *a)
{
    inbound_row **rows = NULL;
    size_t count = 0;
    struct text out;

    text_init(&out, TRAFFIC_OUTPUT_MAX);
    for (size_t i = 0; i < a->count; i++) {
        const Linkerd2__Public__StatInboundResponse *r =
            (const Linkerd2__Public__StatInboundResponse *)a->at[i];

        if (r->response_case == LINKERD2__PUBLIC__STAT_INBOUND_RESPONSE__RESPONSE_OK) {
            rows = mem_resize(rows, count + r->ok->n_rows + 1, sizeof(*rows));
            for (size_t k = 0; k < r->ok->n_rows; k++) {
                rows[count++] = r->ok->rows[k];
            }
        }
    }
    if (count > 0) {
        qsort(rows, count, sizeof(rows[0]), compare_inbound);
    }
    if (is_output(o, "json")) {
        json_t *all = json_array();

        for (size_t i = 0; i < count; i++) {
            json_array_append_new(all, inbound_json(o, rows[i]));
        }
        traffic_json(&out, all);
    } else if (count > 0) {
        print_inbound(o, rows, count, &out);
    }
    mem_free(rows);
    return traffic_print("stat-inbound", "traffic", NULL, o, &out);
}

/* --- outbound ------------------------------------------------------------------------------------ */

/* Absent ones come first: the row of a route stands above those of its backends. */
static int compare_targets(const target *a, const target *b)
{
    int order;

    if (a == NULL || b == NULL) {
        return (a != NULL) - (b != NULL);
    }
    order = strcmp(a->kind, b->kind);
    order = order != 0 ? order : strcmp(a->namespace_, b->namespace_);
    order = order != 0 ? order : strcmp(a->name, b->name);
    return order != 0 ? order : compare_numbers(a->port, b->port);
}

static int compare_routes(const outbound_row *x, const outbound_row *y)
{
    int order = compare_resources(x->resource, y->resource);

    order = order != 0 ? order : compare_targets(x->parent, y->parent);
    order = order != 0 ? order : strcmp(x->route_kind, y->route_kind);
    return order != 0 ? order : strcmp(x->route, y->route);
}

static int compare_outbound(const void *a, const void *b)
{
    const outbound_row *x = *(outbound_row *const *)a, *y = *(outbound_row *const *)b;
    int order = compare_routes(x, y);

    return order != 0 ? order : compare_targets(x->backend, y->backend);
}

static int ask_outbound(const struct traffic_options *o, const struct resource_arg *r,
                        struct answers *to, char *problem, size_t problem_bytes)
{
    Linkerd2__Public__StatOutboundRequest request;
    const Linkerd2__Public__StatOutboundResponse *response;
    struct traffic_question q;

    traffic_ask(o, r, &q);
    linkerd2__public__stat_outbound_request__init(&request);
    request.selector = &q.selection;
    request.time_window = q.window;
    TRY(api_call(&o->target, "StatOutbound", &request.base,
                 &linkerd2__public__stat_outbound_response__descriptor, &to->at[to->count], problem,
                 problem_bytes));
    response = (const Linkerd2__Public__StatOutboundResponse *)to->at[to->count++];
    if (response->response_case == LINKERD2__PUBLIC__STAT_OUTBOUND_RESPONSE__RESPONSE_ERROR) {
        (void)snprintf(problem, problem_bytes, "%s", response->error->error);
        return E_INTERNAL;
    }
    return 0;
}

/* "voting:80"; of another namespace "voting.demo:80"; of no object "[default]". */
static char *target_text(const target *t, const char *ns)
{
    bool is_foreign = t->namespace_[0] != '\0' && strcmp(t->namespace_, ns) != 0;
    char port[16] = "";

    if (t->kind[0] == '\0' || strcmp(t->kind, "default") == 0) {
        return mem_printf("[%s]", t->name[0] != '\0' ? t->name : "default");
    }
    if (t->port != 0) {
        (void)snprintf(port, sizeof(port), ":%u", t->port);
    }
    return mem_printf("%s%s%s%s", t->name, is_foreign ? "." : "", is_foreign ? t->namespace_ : "",
                      port);
}

/* Of all requests of the row. */
static void share_cell(struct table *t, const outbound_row *r, uint64_t count)
{
    uint64_t all = r->stats != NULL ? r->stats->success_count + r->stats->failure_count : 0;

    if (all == 0) {
        table_cell(t, "-");
    } else {
        table_cell(t, "%.2f%%", 100.0 * (double)count / (double)all);
    }
}

static void outbound_cells(struct table *t, const struct traffic_options *o, const outbound_row *r,
                           bool is_last)
{
    const Linkerd2__Public__BasicStats *s = r->stats;
    bool is_backend = r->backend != NULL;
    AUTOFREE char *parent = target_text(r->parent, r->resource->namespace_);
    AUTOFREE char *backend =
        is_backend ? target_text(r->backend, r->resource->namespace_) : mem_strdup("");

    if (is_backend) {
        if (o->all_namespaces) {
            table_cell(t, "%s", "");
        }
        table_cell(t, "%s", is_last ? "└─" : "├─");
        table_cell(t, "%s", "");
        table_cell(t, "%s", "");
        table_cell(t, "─►");
    } else {
        name_cells(t, o, r->resource);
        table_cell(t, "%s", parent);
        table_cell(t, "%s", or_default(r->route));
        table_cell(t, "%s", or_dash(r->route_kind));
    }
    table_cell(t, "%s", backend);
    traffic_rate_cells(t, o, s != NULL ? s->success_count : 0, s != NULL ? s->failure_count : 0);
    traffic_latency_cells(t, s);
    share_cell(t, r, r->timeout_count);
    if (is_backend) {
        table_cell(t, "-"); /* retries are the route's */
    } else {
        share_cell(t, r, r->retry_count);
    }
}

static void print_outbound(const struct traffic_options *o, outbound_row *const *rows, size_t count,
                           struct text *to)
{
    const char *heads[13];
    size_t columns = 0, left;
    struct table *t;

    if (o->all_namespaces) {
        heads[columns++] = "NAMESPACE";
    }
    heads[columns++] = "NAME";
    heads[columns++] = "SERVICE";
    heads[columns++] = "ROUTE";
    heads[columns++] = "TYPE";
    heads[columns++] = "BACKEND";
    left = columns;
    heads[columns++] = "SUCCESS";
    heads[columns++] = "RPS";
    heads[columns++] = "LATENCY_P50";
    heads[columns++] = "LATENCY_P95";
    heads[columns++] = "LATENCY_P99";
    heads[columns++] = "TIMEOUTS";
    heads[columns++] = "RETRIES";
    t = table_new(heads, columns, (unsigned)left);
    for (size_t i = 0; i < count; i++) {
        outbound_cells(t, o, rows[i],
                       i + 1 == count || compare_routes(rows[i], rows[i + 1]) != 0);
    }
    table_print(t, to);
    table_free(t);
}

static json_t *target_json(const target *t)
{
    json_t *j = json_object();

    json_object_set_new(j, "kind", json_string(t->kind));
    json_object_set_new(j, "namespace", json_string(t->namespace_));
    json_object_set_new(j, "name", json_string(t->name));
    json_object_set_new(j, "port", json_integer(t->port));
    return j;
}

static json_t *outbound_json(const struct traffic_options *o, const outbound_row *r)
{
    const Linkerd2__Public__BasicStats *s = r->stats;
    json_t *j = resource_json(r->resource);

    json_object_set_new(j, "service", target_json(r->parent));
    json_object_set_new(j, "route", text_or_null(r->route));
    json_object_set_new(j, "route_kind", text_or_null(r->route_kind));
    json_object_set_new(j, "backend", r->backend != NULL ? target_json(r->backend) : json_null());
    traffic_rate_json(j, o, "", s != NULL ? s->success_count : 0, s != NULL ? s->failure_count : 0);
    traffic_latency_json(j, s);
    json_object_set_new(j, "timeouts_rps", json_real(traffic_per_second(o, r->timeout_count)));
    json_object_set_new(j, "retries_rps", json_real(traffic_per_second(o, r->retry_count)));
    return j;
}

static int show_outbound(const struct traffic_options *o, const struct answers *a)
{
    outbound_row **rows = NULL;
    size_t count = 0;
    struct text out, notes;
    int status;

    text_init(&out, TRAFFIC_OUTPUT_MAX);
    text_init(&notes, NOTES_BYTES_MAX);
    for (size_t i = 0; i < a->count; i++) {
        const Linkerd2__Public__StatOutboundResponse *r =
            (const Linkerd2__Public__StatOutboundResponse *)a->at[i];

        if (r->response_case == LINKERD2__PUBLIC__STAT_OUTBOUND_RESPONSE__RESPONSE_OK) {
            traffic_notes(r->ok, &notes);
            rows = mem_resize(rows, count + r->ok->n_rows + 1, sizeof(*rows));
            for (size_t k = 0; k < r->ok->n_rows; k++) {
                rows[count++] = r->ok->rows[k];
            }
        }
    }
    if (count > 0) {
        qsort(rows, count, sizeof(rows[0]), compare_outbound);
    }
    if (is_output(o, "json")) {
        json_t *all = json_array();

        for (size_t i = 0; i < count; i++) {
            json_array_append_new(all, outbound_json(o, rows[i]));
        }
        traffic_json(&out, all);
    } else if (count > 0) {
        print_outbound(o, rows, count, &out);
    }
    mem_free(rows);
    status = traffic_print("stat-outbound", "traffic", NULL, o, &out);
    (void)fflush(stdout);
    (void)fputs(notes.at != NULL ? notes.at : "", stderr);
    text_clear(&notes);
    return status;
}

/* --- the command lines --------------------------------------------------------------------------- */

static const struct direction {
    const char *name, *usage, *output_help;
    bool has_wide;
    int (*ask)(const struct traffic_options *o, const struct resource_arg *r, struct answers *to,
               char *problem, size_t problem_bytes);
    int (*show)(const struct traffic_options *o, const struct answers *a);
} inbound =
    {
        "stat-inbound",
        "stat-inbound RESOURCE... [options]\n\n"
        "What the proxies of a workload let in, by Server and route.\n"
        "RESOURCE is TYPE, TYPE NAME... or TYPE/NAME; TYPE is one of deploy, po, ns, sts,\n"
        "ds, rs, rc, job, cj.\n\n"
        "  tulle stat-inbound deploy/web -n demo\n"
        "  tulle stat-inbound deploy/web -n demo -o wide   also what was refused\n\n"
        "UNAUTHORIZED (403) and RATE_LIMITED (429) are in none of the other columns.",
        "table, wide or json",
        true,
        ask_inbound,
        show_inbound,
},
  outbound = {
      "stat-outbound",
      "stat-outbound RESOURCE... [options]\n\n"
      "What the proxies of a workload sent, by route, and below each route by\n"
      "backend. RESOURCE is TYPE, TYPE NAME... or TYPE/NAME; TYPE is one of deploy, po,\n"
      "ns, sts, ds, rs, rc, job, cj.\n\n"
      "Latencies are coarse: as in Linkerd, the first bucket of routes reaches to 50 ms\n"
      "and that of backends to 25 ms, and within it nothing is told apart, nor between\n"
      "1 and 10 s. `tulle stat --to` has finer ones.\n\n"
      "SUCCESS of a gRPC service is that of its HTTP statuses, which are 200 also when\n"
      "it fails, unless a GRPCRoute stands for it: as in Linkerd. Where answers failed\n"
      "by their grpc-status alone, a note on standard error says how many;\n"
      "`tulle stat --to` counts them always.\n\n"
      "  tulle stat-outbound deploy/web -n demo",
      "table or json",
      false,
      ask_outbound,
      show_outbound,
};

static int run(const struct direction *d, const struct traffic_options *o,
               const struct resource_arg *resources, size_t count)
{
    struct answers answers = {.count = 0};
    char problem[1024];
    int status = 0;

    for (size_t i = 0; i < count && status == 0; i++) {
        if (d->ask(o, &resources[i], &answers, problem, sizeof(problem)) != 0) {
            status = cli_fail("%s: %s", d->name, problem);
        }
    }
    if (status == 0) {
        status = d->show(o, &answers);
    }
    answers_free(&answers);
    return status;
}

static int command(const struct direction *d, int argc, char **argv)
{
    struct traffic_options o = {.output = "table", .window_ns = 60 * NS_PER_S};
    const struct opt opts[] = {
        {"output", 'o', OPT_STRING, "FORMAT", d->output_help, &o.output},
        TRAFFIC_OPTS(&o),
    };
    struct resource_arg resources[RESOURCES_MAX];
    struct opt_list args = {0};
    char problem[1024];
    size_t count = 0;
    int status;

    if (!cli_parse(d->usage, opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    status = EXIT_USAGE;
    if (resource_parse(&args, 0, resources, RESOURCES_MAX, &count, problem, sizeof(problem)) != 0 ||
        traffic_complete(&o, resources, count, problem, sizeof(problem)) != 0) {
        (void)cli_fail("%s: %s", d->name, problem);
    } else if (!is_output(&o, "table") && !is_output(&o, "json") &&
               !(d->has_wide && is_output(&o, "wide"))) {
        (void)cli_fail("%s: -o: %s", d->name, d->output_help);
    } else {
        status = run(d, &o, resources, count);
    }
    opt_list_clear(&args);
    return status;
}

int cli_stat_inbound(int argc, char **argv)
{
    return command(&inbound, argc, argv);
}

int cli_stat_outbound(int argc, char **argv)
{
    return command(&outbound, argc, argv);
}
