/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stat.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

#include <stdio.h>

#define RESOURCES_MAX 16

/* --- the command line ---------------------------------------------------------------------------- */

static int parse_peer(const char *option, const char *text, struct resource_arg *out, char *problem,
                      size_t problem_bytes)
{
    struct opt_list one = {.items = &text, .count = 1};
    char why[256];
    size_t count;

    if (resource_parse(&one, 0, out, 1, &count, why, sizeof(why)) != 0) {
        snprintf(problem, problem_bytes, "--%s: %s", option, why);
        return E_CONFIG;
    }
    if (strcmp(out->kind, "all") == 0) {
        snprintf(problem, problem_bytes, "--%s: a kind is needed, not \"all\"", option);
        return E_CONFIG;
    }
    return 0;
}

static int check_options(struct stat_options *o, char *problem, size_t problem_bytes)
{
    const char *why = NULL;

    if (o->to != NULL && o->from != NULL) {
        why = "--to and --from cannot be used together";
    } else if (o->all_namespaces && o->ns_given) {
        why = "-A and -n cannot be used together";
    } else if (o->to_ns != NULL && o->from_ns != NULL) {
        why = "--to-namespace and --from-namespace cannot be used together";
    } else if (o->window_ns < 15 * NS_PER_S) {
        why = "-t: at least 15s are needed; Prometheus looks every 10 s";
    } else if (strcmp(o->output, "table") != 0 && strcmp(o->output, "wide") != 0 &&
               strcmp(o->output, "json") != 0) {
        why = "-o: table, wide or json";
    }
    if (why != NULL) {
        snprintf(problem, problem_bytes, "%s", why);
        return E_CONFIG;
    }
    if (o->to != NULL) {
        TRY(parse_peer("to", o->to, &o->peer, problem, problem_bytes));
    }
    if (o->from != NULL) {
        TRY(parse_peer("from", o->from, &o->peer, problem, problem_bytes));
    }
    return 0;
}

/* --- asking -------------------------------------------------------------------------------------- */

static void ask_kind(const struct stat_options *o, const struct resource_arg *r,
                     struct stat_rows *rows, char *problem, size_t problem_bytes, int *out_rc)
{
    Linkerd2__Public__StatSummaryRequest request = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__INIT;
    Linkerd2__Public__ResourceSelection selection = LINKERD2__PUBLIC__RESOURCE_SELECTION__INIT;
    Linkerd2__Public__Resource resource = LINKERD2__PUBLIC__RESOURCE__INIT,
                               peer = LINKERD2__PUBLIC__RESOURCE__INIT;
    Linkerd2__Public__Empty none = LINKERD2__PUBLIC__EMPTY__INIT;
    char window[32], *answer = NULL;
    size_t len = 0, packed_len;
    uint8_t *packed;

    snprintf(window, sizeof(window), "%llus", (unsigned long long)(o->window_ns / NS_PER_S));
    resource.namespace_ =
        (char *)(uintptr_t)(o->all_namespaces || strcmp(r->kind, "namespace") == 0 ? "" : o->ns);
    resource.type = (char *)(uintptr_t)r->kind;
    resource.name = (char *)(uintptr_t)r->name;
    selection.resource = &resource;
    selection.label_selector = (char *)(uintptr_t)(o->selector != NULL ? o->selector : "");
    request.selector = &selection;
    request.time_window = window;
    request.tcp_stats = true;
    peer.type = (char *)(uintptr_t)o->peer.kind;
    peer.name = (char *)(uintptr_t)o->peer.name;
    if (o->to != NULL) {
        peer.namespace_ = (char *)(uintptr_t)(o->to_ns != NULL ? o->to_ns : o->ns);
        request.to_resource = &peer;
        request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_TO_RESOURCE;
    } else if (o->from != NULL) {
        peer.namespace_ = (char *)(uintptr_t)(o->from_ns != NULL ? o->from_ns : o->ns);
        request.from_resource = &peer;
        request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_FROM_RESOURCE;
    } else {
        request.none = &none;
        request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_NONE;
    }
    packed_len = linkerd2__public__stat_summary_request__get_packed_size(&request);
    packed = mem_new(packed_len + 1);
    linkerd2__public__stat_summary_request__pack(&request, packed);
    *out_rc = api_call(&o->target, "StatSummary", bytes_of(packed, packed_len), &answer, &len,
                       problem, problem_bytes);
    mem_free(packed);
    if (*out_rc == 0) {
        *out_rc = stat_rows_add(rows, bytes_of(answer, len), problem, problem_bytes);
    }
    mem_free(answer);
}

static int run(struct stat_options *o, const struct resource_arg *resources, size_t count)
{
    struct stat_rows rows = {0};
    char problem[512];
    struct text out;
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        ask_kind(o, &resources[i], &rows, problem, sizeof(problem), &rc);
    }
    if (rc != 0) {
        stat_rows_clear(&rows);
        return cli_fail("%s", problem);
    }
    text_init(&out, 64u << 20);
    stat_rows_sort(&rows);
    if (strcmp(o->output, "json") == 0) {
        stat_print_json(o, &rows, &out);
    } else {
        stat_print_tables(o, &rows, &out);
    }
    if (out.len == 0) {
        (void)fputs("No traffic found.\n", stderr);
    } else {
        (void)fwrite(out.at, 1, out.len, stdout);
    }
    text_clear(&out);
    stat_rows_clear(&rows);
    return 0;
}

static const char usage[] =
    "stat RESOURCE... [options]\n\n"
    "RESOURCE is TYPE, TYPE NAME or TYPE/NAME: deploy, po, ns, svc, sts, ds, rs, rc, job, cj, au, "
    "all.\n\n"
    "  tulle stat deploy -n demo              what the deployments of demo received\n"
    "  tulle stat deploy/web --to svc/voting  what web sent to voting\n"
    "  tulle stat po --from deploy/web        what each pod got from web\n"
    "  tulle stat ns                          every namespace";

int cli_stat(int argc, char **argv)
{
    struct stat_options o = {.ns = "default", .output = "table", .window_ns = 60 * NS_PER_S};
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
    o.ns_given = o.ns_option != NULL;
    o.ns = o.ns_given ? o.ns_option : o.ns;
    if (resource_parse(&args, 0, resources, RESOURCES_MAX, &count, problem, sizeof(problem)) != 0 ||
        check_options(&o, problem, sizeof(problem)) != 0) {
        (void)cli_fail("stat: %s", problem);
        status = EXIT_USAGE;
    } else {
        status = run(&o, resources, count);
    }
    opt_list_clear(&args);
    return status;
}
