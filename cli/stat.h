/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_STAT_H
#define CLI_STAT_H

/*
 * `tulle stat`: what was asked (stat.c) and how the rows are shown (stat_print.c).
 */
#include "api/public.pb-c.h"
#include "cli/cli.h"

struct stat_options {
    struct cli_target target;
    const char *ns, *ns_option, *to, *to_ns, *from, *from_ns, *selector, *output;
    struct resource_arg to_peer, from_peer; /* kind NULL: none */
    uint64_t window_ns;
    bool all_namespaces, unmeshed;
    bool is_many; /* several kinds were asked for: names are shown with theirs */
};

struct stat_rows {
    Linkerd2__Public__StatSummaryResponse **answers; /* own the rows */
    size_t answers_count;
    Linkerd2__Public__StatTable__PodGroup__Row **at;
    size_t count;
};
/* Takes the answer. E_INTERNAL: it is a refusal, whose reason is in `problem`. */
int stat_rows_add(struct stat_rows *r, Linkerd2__Public__StatSummaryResponse *answer, char *problem,
                  size_t problem_bytes) MUST_USE;
void stat_rows_sort(struct stat_rows *r); /* by kind, namespace, name */
void stat_rows_clear(struct stat_rows *r);
/* One a kind; nothing when there is no row to show. */
void stat_print_tables(const struct stat_options *o, const struct stat_rows *r, struct text *to);
void stat_print_json(const struct stat_options *o, const struct stat_rows *r, struct text *to);

#endif
