/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_STATS_BUNDLE_H
#define PROXY_STATS_BUNDLE_H

/*
 * The figures of one route, backend or balancer: the series of several families that share one
 * label set, found once and then held, so that recording is an addition.
 *
 *     static const enum stat_id route_stats[] = {STAT_X_SECONDS, STAT_X_BYTES};
 *     static const struct bundle_kind route_kind = {
 *         .stats = route_stats, .count = ARRAY_LEN(route_stats),
 *         .statuses = STAT_X_STATUSES, .status_label = STATUS_HTTP};
 *     b = stat_bundle_get(&w->stats, &route_kind, labels_end(&l));
 *     stat_bundle_observe(b, 0, elapsed_ns);      index into route_stats
 *     stat_bundle_status(b, 200, "");             X_statuses{..., http_status="200", error=""}
 *
 * Histograms of durations are recorded in nanoseconds (the family's scale makes seconds of them),
 * those of sizes in bytes.
 *
 * Ownership: stat_bundle_get() returns a reference; all were given back when stats_close() comes.
 * What was counted stays for the scrapes, until it was idle for long.
 * Limits: 16 combinations of status and error are kept at hand per bundle; more are looked up.
 * Threads: those of its `struct stats`.
 */
#include "proxy/stats.h"

enum status_label {
    STATUS_NONE, /* no family of statuses */
    STATUS_HTTP, /* http_status="200"; 0: none came, "" */
    STATUS_CODE, /* status="200", of gRPC its number; no error */
    STATUS_GRPC, /* grpc_status="OK", "NOT_FOUND", ...; what is no code of gRPC is UNKNOWN */
};

struct bundle_kind { /* a constant; bundles are told apart by its address and their labels */
    const enum stat_id *stats;
    unsigned count;
    enum stat_id statuses; /* a counter; needed unless STATUS_NONE, which counts none */
    enum status_label status_label;
};

struct stat_bundle;
struct stat_bundle *stat_bundle_get(struct stats *s, const struct bundle_kind *kind,
                                    struct bytes labels);
void stat_bundle_ref(struct stat_bundle *b);
void stat_bundle_unref(struct stat_bundle *b); /* NULL is fine */

void stat_bundle_add(struct stat_bundle *b, unsigned index, uint64_t n); /* counters and gauges */
void stat_bundle_sub(struct stat_bundle *b, unsigned index, uint64_t n); /* gauges */
void stat_bundle_set(struct stat_bundle *b, unsigned index, uint64_t value);   /* gauges */
void stat_bundle_observe(struct stat_bundle *b, unsigned index, double value); /* histograms */
/* One response more. `error` is a constant of the reference (wire 7.2), "" when there was none. */
void stat_bundle_status(struct stat_bundle *b, unsigned status, const char *error);

#endif
