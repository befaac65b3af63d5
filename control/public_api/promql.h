/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PUBLIC_API_PROMQL_H
#define PUBLIC_API_PROMQL_H

/*
 * The questions of StatSummary in Prometheus' language. Pure text.
 *
 * How often something happened within a window is asked so that whole numbers come out exactly; increase()
 * is of no use for that. It extrapolates from the samples to the edges of the window, so 100 requests may
 * show as 112; and it counts from a series' first sample, so requests that came before the first scrape,
 * which are all of a short test, show as none. For the same reasons quantiles are not taken of rate() (nor
 * of irate(), which sees two scrapes only), but of the exact number of observations in each bucket.
 *
 * With `last` the newest sample in the window and `start` the value when it began (0 for a series that is
 * younger), promql_add_increase() takes for each series the first of these that applies:
 *
 *   1. It began again from 0 once within the window, from a `peak` that it has not passed since (its proxy
 *      was restarted in its pod): peak - start + last.
 *   2. It did so several times, or has passed its peak: increase(), rounded. This alone is an estimate.
 *   3. It was there when the window began: last - start.
 *   4. It was not, and nor did Prometheus know its process, which is older than the window: last - first
 *      sample in the window. What it had counted before is not of this window. So it is after Prometheus
 *      itself was away.
 *   5. It was not: it was born in the window, and `last` is all that it ever counted.
 *
 * A sample stands for the time until the next. So what is counted is of a span as long as the window if that
 * is a multiple of the scrape interval (10 s), as 1m is, and else at most one interval more or less.
 *
 * Quantiles leave out the first two: a restart moves a distribution little, and buckets are many.
 */
#include "core/text.h"

struct promql_scope {
    struct text match;   /* label="value",... of every series asked for */
    char group[512];     /* labels of a row: "namespace,deployment" */
    uint64_t window_ms;
    const char *peer;    /* of TCP series: "src" or "dst" */
};

/* label="value", escaped; an absent value asks that the label is there: label!="". */
void promql_add_match(struct text *t, const char *label, const char *value);
/* The same with an operator of Prometheus' own: =, !=, =~. */
void promql_add_match_op(struct text *t, const char *label, const char *op, const char *value);
void promql_add_increase(struct text *t, const char *metric, const char *match, uint64_t window_ms);

/* Each resets `t` first. */
/* How often a counter moved, by group and further labels (`by`; "" for none). */
void promql_count(struct text *t, const struct promql_scope *s, const char *metric, const char *by);
void promql_quantile(struct text *t, const struct promql_scope *s, const char *bucket, const char *quantile);
void promql_responses(struct text *t, const struct promql_scope *s); /* by group and classification */
void promql_latency(struct text *t, const struct promql_scope *s, const char *quantile); /* ms */
void promql_tcp_open(struct text *t, const struct promql_scope *s);
void promql_tcp_bytes(struct text *t, const struct promql_scope *s, const char *metric);

#endif
