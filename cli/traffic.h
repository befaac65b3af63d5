/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_TRAFFIC_H
#define CLI_TRAFFIC_H

/*
 * What `tulle routes`, `stat-inbound` and `stat-outbound` share: whom they ask about, and how figures are
 * shown.
 */
#include "api/public.pb-c.h"
#include "cli/cli.h"

#define TRAFFIC_OUTPUT_MAX (64u << 20)

struct traffic_options {
    struct cli_target target;
    const char *ns, *ns_option, *selector, *output;
    uint64_t window_ns;
    bool all_namespaces;
};
#define TRAFFIC_OPTS(o)                                                                                    \
    {"namespace", 'n', OPT_STRING, "NS", "namespace of the resources (default)", &(o)->ns_option},         \
    {"all-namespaces", 'A', OPT_BOOL, NULL, "resources of every namespace", &(o)->all_namespaces},         \
    {"time-window", 't', OPT_DURATION, "TIME", "how far to look back (1m)", &(o)->window_ns},              \
    {"selector", 'l', OPT_STRING, "LABELS", "only resources with these labels", &(o)->selector},           \
    CLI_TARGET_OPTS(&(o)->target)

/* After parsing: fills in what was not given. E_CONFIG and a sentence when options do not go together. */
int traffic_complete(struct traffic_options *o, const struct resource_arg *resources, size_t count,
                     char *problem, size_t problem_bytes) MUST_USE;

/* The parts of a request. They borrow from the options and the argument. */
struct traffic_question {
    Linkerd2__Public__Resource resource;
    Linkerd2__Public__ResourceSelection selection;
    char window[32];
};
void traffic_ask(const struct traffic_options *o, const struct resource_arg *r, struct traffic_question *out);

/* Success and failure as given, of the window: SUCCESS and RPS; "-" when there are none. */
void traffic_rate_cells(struct table *t, const struct traffic_options *o, uint64_t success, uint64_t failure);
/* UNAUTHORIZED, RATE_LIMITED: as RPS, with more digits where those would show nothing of it; "-" when there
 * is none. */
void traffic_rare_cell(struct table *t, const struct traffic_options *o, uint64_t count);
/* LATENCY_P50, _P95, _P99; `stats` NULL: "-". */
void traffic_latency_cells(struct table *t, const Linkerd2__Public__BasicStats *stats);
/* The same as members; `prefix` before success and rps: "effective_". */
void traffic_rate_json(json_t *to, const struct traffic_options *o, const char *prefix, uint64_t success,
                       uint64_t failure);
void traffic_latency_json(json_t *to, const Linkerd2__Public__BasicStats *stats);
double traffic_per_second(const struct traffic_options *o, uint64_t count);

/* For standard error, beside the table: what of it may mislead. */
void traffic_notes(const Linkerd2__Public__StatOutboundResponse__Ok *ok, struct text *to);

/* Standard output; without rows a sentence that there is no `what`, and one that says `why` (without its full
 * stop; NULL: nobody knows). Takes the text. The exit status. */
int traffic_print(const char *command, const char *what, const char *why, const struct traffic_options *o,
                  struct text *out);
void traffic_json(struct text *to, json_t *value); /* takes the value */

#endif
