/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/traffic.h"

#include "cli/api.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

#include <stdio.h>

#define WINDOW_MIN_NS   (15 * NS_PER_S)
#define RATE_DIGITS_MAX 7 /* behind the point: one event in half a year */

int traffic_complete(struct traffic_options *o, const struct resource_arg *resources, size_t count,
                     char *problem, size_t problem_bytes)
{
    const char *why = NULL;

    cli_target_complete(&o->target);
    o->ns = o->ns_option != NULL ? o->ns_option : "default";
    if (o->all_namespaces && o->ns_option != NULL) {
        why = "-A and -n cannot be used together";
    } else if (o->window_ns < WINDOW_MIN_NS) {
        why = "-t: at least 15s are needed; Prometheus looks every 10 s";
    }
    for (size_t i = 0; i < count && why == NULL; i++) {
        if (strcmp(resources[i].kind, "all") == 0 || strcmp(resources[i].kind, "authority") == 0) {
            why = "name one kind: deploy, po, ns, sts, ds, rs, rc, job, cj, and for routes svc";
        } else if (strcmp(resources[i].kind, "namespace") == 0 && o->ns_option != NULL) {
            why = "-n cannot be used with namespaces; name one: ns/NAME";
        }
    }
    if (why != NULL) {
        (void)snprintf(problem, problem_bytes, "%s", why);
        return E_CONFIG;
    }
    return 0;
}

void traffic_ask(const struct traffic_options *o, const struct resource_arg *r,
                 struct traffic_question *out)
{
    bool is_open = o->all_namespaces || strcmp(r->kind, "namespace") == 0;

    linkerd2__public__resource__init(&out->resource);
    linkerd2__public__resource_selection__init(&out->selection);
    out->resource.namespace_ = api_text(is_open ? "" : o->ns);
    out->resource.type = api_text(r->kind);
    out->resource.name = api_text(r->name);
    out->selection.resource = &out->resource;
    out->selection.label_selector = api_text(o->selector != NULL ? o->selector : "");
    (void)snprintf(out->window, sizeof(out->window), "%llums",
                   (unsigned long long)(o->window_ns / NS_PER_MS));
}

/* --- figures ------------------------------------------------------------------------------------- */

double traffic_per_second(const struct traffic_options *o, uint64_t count)
{
    return (double)count * (double)NS_PER_S / (double)o->window_ns;
}

void traffic_rate_cells(struct table *t, const struct traffic_options *o, uint64_t success,
                        uint64_t failure)
{
    if (success + failure == 0) {
        table_cell(t, "-");
        table_cell(t, "-");
        return;
    }
    table_cell(t, "%.2f%%", 100.0 * (double)success / (double)(success + failure));
    table_cell(t, "%.1frps", traffic_per_second(o, success + failure));
}

/* One denial in a minute is 0.02rps, one in a day 0.00001rps: no wider than the column's head. */
void traffic_rare_cell(struct table *t, const struct traffic_options *o, uint64_t count)
{
    double rate = traffic_per_second(o, count), least = 0.05;
    int digits = 1;

    if (count == 0) {
        table_cell(t, "-");
        return;
    }
    while (rate < least && digits < RATE_DIGITS_MAX) {
        least /= 10;
        digits++;
    }
    table_cell(t, "%.*frps", digits, rate);
}

void traffic_latency_cells(struct table *t, const Linkerd2__Public__BasicStats *stats)
{
    if (stats == NULL || stats->success_count + stats->failure_count == 0) {
        for (int i = 0; i < 3; i++) {
            table_cell(t, "-");
        }
        return;
    }
    table_cell(t, "%llums", (unsigned long long)stats->latency_ms_p50);
    table_cell(t, "%llums", (unsigned long long)stats->latency_ms_p95);
    table_cell(t, "%llums", (unsigned long long)stats->latency_ms_p99);
}

void traffic_rate_json(json_t *to, const struct traffic_options *o, const char *prefix,
                       uint64_t success, uint64_t failure)
{
    uint64_t all = success + failure;
    char name[64];

    (void)snprintf(name, sizeof(name), "%ssuccess", prefix);
    json_object_set_new(to, name,
                        all > 0 ? json_real((double)success / (double)all) : json_null());
    (void)snprintf(name, sizeof(name), "%srps", prefix);
    json_object_set_new(to, name, all > 0 ? json_real(traffic_per_second(o, all)) : json_null());
}

void traffic_latency_json(json_t *to, const Linkerd2__Public__BasicStats *stats)
{
    bool has = stats != NULL && stats->success_count + stats->failure_count > 0;

    json_object_set_new(to, "latency_ms_p50",
                        has ? json_integer((json_int_t)stats->latency_ms_p50) : json_null());
    json_object_set_new(to, "latency_ms_p95",
                        has ? json_integer((json_int_t)stats->latency_ms_p95) : json_null());
    json_object_set_new(to, "latency_ms_p99",
                        has ? json_integer((json_int_t)stats->latency_ms_p99) : json_null());
}

/* --- output -------------------------------------------------------------------------------------- */

void traffic_json(struct text *to, json_t *value)
{
    char *dump = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(12));

    assert(dump != NULL);
    text_printf(to, "%s\n", dump);
    mem_free(dump);
    json_decref(value);
}

int traffic_print(const char *command, const char *what, const char *why, const struct traffic_options *o,
                  struct text *out)
{
    int status = 0;

    if (out->err != 0) {
        status = cli_fail("%s: the table is longer than %u MiB; name fewer resources", command,
                          TRAFFIC_OUTPUT_MAX >> 20);
    } else if (out->len > 0) {
        (void)fwrite(out->at, 1, out->len, stdout);
    } else {
        status = cli_nothing_found(&(struct cli_nothing){.target = &o->target,
                                                         .command = command,
                                                         .what = what,
                                                         .why = why,
                                                         .ns = o->all_namespaces ? NULL : o->ns,
                                                         .named = {o->ns_option}});
    }
    text_clear(out);
    return status;
}
