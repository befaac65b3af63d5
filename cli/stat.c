/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stat.h"

#include "cli/api.h"
#include "core/clock.h"
#include "core/err.h"

#include <stdio.h>

#define RESOURCES_MAX    16
#define WINDOW_MIN_NS    (15 * NS_PER_S)
#define OUTPUT_BYTES_MAX (64u << 20)

/* --- the command line ---------------------------------------------------------------------------- */

static bool is_kind(const struct resource_arg *r, const char *kind)
{
    return r->kind != NULL && strcmp(r->kind, kind) == 0;
}

static int parse_peer(const char *option, const char *text, struct resource_arg *out, char *problem,
                      size_t problem_bytes)
{
    struct opt_list one = {.items = &text, .count = 1};
    char why[256];
    size_t count;

    if (resource_parse(&one, 0, out, 1, &count, why, sizeof(why)) != 0) {
        (void)snprintf(problem, problem_bytes, "--%s: %s", option, why);
        return E_CONFIG;
    }
    if (is_kind(out, "all")) {
        (void)snprintf(problem, problem_bytes, "--%s: one kind is needed, not \"all\"", option);
        return E_CONFIG;
    }
    return 0;
}

/* Options that exclude each other; NULL when all is well. */
static const char *find_conflict(const struct stat_options *o)
{
    bool has_to = o->to != NULL || o->to_ns != NULL,
         has_from = o->from != NULL || o->from_ns != NULL;

    if (has_to && has_from) {
        return "--to and --to-namespace cannot be used together with --from and --from-namespace";
    }
    if (o->all_namespaces && o->ns_option != NULL) {
        return "-A and -n cannot be used together";
    }
    if (o->window_ns < WINDOW_MIN_NS) {
        return "-t: at least 15s are needed; Prometheus looks every 10 s";
    }
    if (strcmp(o->output, "table") != 0 && strcmp(o->output, "wide") != 0 &&
        strcmp(o->output, "json") != 0) {
        return "-o: table, wide or json";
    }
    return NULL;
}

/* What the kinds allow; NULL when all is well. */
static const char *find_misfit(const struct stat_options *o, const struct resource_arg *r)
{
    bool has_peer = o->to_peer.kind != NULL || o->from_peer.kind != NULL;

    if (is_kind(r, "namespace") && o->ns_option != NULL) {
        return "-n cannot be used with namespaces; name one: ns/NAME";
    }
    if (is_kind(r, "all") && has_peer) {
        return "\"all\" cannot be combined with --to or --from; name one kind";
    }
    if (is_kind(r, "service") && o->to_peer.kind != NULL) {
        return "a service sends nothing itself, so --to does not fit; ask for its workload";
    }
    if (is_kind(&o->from_peer, "service") || is_kind(&o->from_peer, "authority")) {
        return "--from needs whoever sends: a workload, a pod or a namespace";
    }
    if ((is_kind(&o->to_peer, "namespace") && o->to_ns != NULL) ||
        (is_kind(&o->from_peer, "namespace") && o->from_ns != NULL)) {
        return "--to-namespace and --from-namespace cannot be used with a namespace; name it: "
               "ns/NAME";
    }
    return NULL;
}

static int check_options(struct stat_options *o, const struct resource_arg *resources, size_t count,
                         char *problem, size_t problem_bytes)
{
    const char *why = find_conflict(o);

    if (o->to != NULL) {
        TRY(parse_peer("to", o->to, &o->to_peer, problem, problem_bytes));
    } else if (o->to_ns != NULL) { /* whatever is of the same kind in that namespace */
        o->to_peer = (struct resource_arg){.kind = resources[0].kind, .name = ""};
    }
    if (o->from != NULL) {
        TRY(parse_peer("from", o->from, &o->from_peer, problem, problem_bytes));
    } else if (o->from_ns != NULL) {
        o->from_peer = (struct resource_arg){.kind = resources[0].kind, .name = ""};
    }
    for (size_t i = 0; i < count && why == NULL; i++) {
        why = find_misfit(o, &resources[i]);
        o->is_many = o->is_many || is_kind(&resources[i], "all") ||
                     strcmp(resources[i].kind, resources[0].kind) != 0;
    }
    if (why != NULL) {
        (void)snprintf(problem, problem_bytes, "%s", why);
        return E_CONFIG;
    }
    return 0;
}

/* --- asking -------------------------------------------------------------------------------------- */

static void fill_peer(Linkerd2__Public__Resource *to, const struct resource_arg *peer,
                      const char *ns)
{
    to->type = api_text(peer->kind);
    to->name = api_text(peer->name);
    to->namespace_ = api_text(is_kind(peer, "namespace") ? "" : ns);
}

static int ask(const struct stat_options *o, const struct resource_arg *r, struct stat_rows *rows,
               char *problem, size_t problem_bytes)
{
    Linkerd2__Public__StatSummaryRequest request;
    Linkerd2__Public__ResourceSelection selection;
    Linkerd2__Public__Resource resource, peer;
    Linkerd2__Public__Empty none;
    ProtobufCMessage *answer;
    char window[32];

    linkerd2__public__stat_summary_request__init(&request);
    linkerd2__public__resource_selection__init(&selection);
    linkerd2__public__resource__init(&resource);
    linkerd2__public__resource__init(&peer);
    linkerd2__public__empty__init(&none);
    (void)snprintf(window, sizeof(window), "%llums",
                   (unsigned long long)(o->window_ns / NS_PER_MS));
    resource.namespace_ = api_text(o->all_namespaces || is_kind(r, "namespace") ? "" : o->ns);
    resource.type = api_text(r->kind);
    resource.name = api_text(r->name);
    selection.resource = &resource;
    selection.label_selector = api_text(o->selector != NULL ? o->selector : "");
    request.selector = &selection;
    request.time_window = window;
    request.tcp_stats = true;
    if (o->to_peer.kind != NULL) {
        fill_peer(&peer, &o->to_peer, o->to_ns != NULL ? o->to_ns : o->ns);
        request.to_resource = &peer;
        request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_TO_RESOURCE;
    } else if (o->from_peer.kind != NULL) {
        fill_peer(&peer, &o->from_peer, o->from_ns != NULL ? o->from_ns : o->ns);
        request.from_resource = &peer;
        request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_FROM_RESOURCE;
    } else {
        request.none = &none;
        request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_NONE;
    }
    TRY(api_call(&o->target, "StatSummary", &request.base,
                 &linkerd2__public__stat_summary_response__descriptor, &answer, problem,
                 problem_bytes));
    return stat_rows_add(rows, (Linkerd2__Public__StatSummaryResponse *)answer, problem,
                         problem_bytes);
}

/* Objects have a row even without traffic, and authorities come with it alone. */
static int say_nothing_found(const struct stat_options *o, const struct resource_arg *resources,
                             size_t rows, bool is_namespaced)
{
    struct cli_nothing n = {
        .target = &o->target,
        .command = "stat",
        .what = "traffic",
        .ns = is_namespaced && !o->all_namespaces ? o->ns : NULL,
        .named = {o->ns_option, o->to_ns, o->from_ns},
    };
    bool has_peer = o->to_peer.kind != NULL || o->from_peer.kind != NULL;
    char why[64];

    if (rows > 0 && !has_peer) {
        n.why = "What is there has no proxy; --unmeshed shows it";
    } else if (!has_peer && !o->is_many && o->selector == NULL &&
               !is_kind(&resources[0], "authority")) {
        (void)snprintf(why, sizeof(why), "There are no %s", kind_plural(resources[0].kind));
        n.why = why;
    }
    return cli_nothing_found(&n);
}

static int print(const struct stat_options *o, const struct resource_arg *resources,
                 struct stat_rows *rows, bool is_namespaced)
{
    struct text out;
    int status = 0;

    text_init(&out, OUTPUT_BYTES_MAX);
    stat_rows_sort(rows);
    if (strcmp(o->output, "json") == 0) {
        stat_print_json(o, rows, &out);
    } else {
        stat_print_tables(o, rows, &out);
    }
    if (out.err != 0) {
        status = cli_fail("stat: the table is longer than %u MiB; name fewer resources",
                          OUTPUT_BYTES_MAX >> 20);
    } else if (out.len == 0) {
        status = say_nothing_found(o, resources, rows->count, is_namespaced);
    } else {
        (void)fwrite(out.at, 1, out.len, stdout);
    }
    text_clear(&out);
    return status;
}

static int run(const struct stat_options *o, const struct resource_arg *resources, size_t count)
{
    struct stat_rows rows = {0};
    char problem[1024];
    bool is_namespaced = false;
    int status = 0;

    for (size_t i = 0; i < count && status == 0; i++) {
        is_namespaced = is_namespaced || !is_kind(&resources[i], "namespace");
        if (ask(o, &resources[i], &rows, problem, sizeof(problem)) != 0) {
            status = cli_fail("stat: %s", problem);
        }
    }
    if (status == 0) {
        status = print(o, resources, &rows, is_namespaced);
    }
    stat_rows_clear(&rows);
    return status;
}

static const char usage[] =
    "stat RESOURCE... [options]\n\n"
    "RESOURCE is TYPE, TYPE NAME... or TYPE/NAME; TYPE is one of deploy, po, ns, svc,\n"
    "sts, ds, rs, rc, job, cj, au, all.\n\n"
    "  tulle stat deploy -n demo              what the deployments of demo received\n"
    "  tulle stat deploy/web --to svc/voting  what web sent to voting\n"
    "  tulle stat po --from deploy/web        what each pod got from web\n"
    "  tulle stat ns                          every namespace";

int cli_stat(int argc, char **argv)
{
    struct stat_options o = {.output = "table", .window_ns = 60 * NS_PER_S};
    const struct opt opts[] = {
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the resources (default)", &o.ns_option},
        {"all-namespaces", 'A', OPT_BOOL, NULL, "resources of every namespace", &o.all_namespaces},
        {"time-window", 't', OPT_DURATION, "TIME", "how far to look back (1m)", &o.window_ns},
        {"to", 0, OPT_STRING, "RESOURCE", "only what was sent to this one", &o.to},
        {"to-namespace", 0, OPT_STRING, "NS", "namespace of --to", &o.to_ns},
        {"from", 0, OPT_STRING, "RESOURCE", "only what came from this one", &o.from},
        {"from-namespace", 0, OPT_STRING, "NS", "namespace of --from", &o.from_ns},
        {"selector", 'l', OPT_STRING, "LABELS", "only resources with these labels", &o.selector},
        {"unmeshed", 0, OPT_BOOL, NULL, "also resources without a proxy", &o.unmeshed},
        {"output", 'o', OPT_STRING, "FORMAT", "table, wide or json", &o.output},
        CLI_TARGET_OPTS(&o.target),
    };
    struct resource_arg resources[RESOURCES_MAX];
    struct opt_list args = {0};
    char problem[512];
    size_t count = 0;
    int status;

    if (!cli_parse(usage, opts, ARRAY_LEN(opts), argc, argv, &args, &status)) {
        return status;
    }
    cli_target_complete(&o.target);
    o.ns = o.ns_option != NULL ? o.ns_option : "default";
    if (resource_parse(&args, 0, resources, RESOURCES_MAX, &count, problem, sizeof(problem)) != 0 ||
        check_options(&o, resources, count, problem, sizeof(problem)) != 0) {
        (void)cli_fail("stat: %s", problem);
        status = EXIT_USAGE;
    } else {
        status = run(&o, resources, count);
    }
    opt_list_clear(&args);
    return status;
}
