/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_DEST_STATS_H
#define PROXY_DEST_STATS_H

/*
 * The figures of a balancer (wire 7.2: outbound_{http,tcp,tls}_balancer_*), with the
 * parent whose policy it serves and the backend as labels.
 *
 * Each worker has a balancer of its own over the same endpoints: gauges of endpoints and times are
 * not added up over workers, the largest is shown.
 * A proxy may know thousands of destinations: what counts events has no series before the first one,
 * and where the series are too many several destinations share one, to which each adds its part.
 */
#include "proxy/dest.h"
#include "proxy/stats.h"

/* The members of each family, in the order of stats.def. */
enum dest_stat {
    DEST_STAT_ENDPOINTS_READY,
    DEST_STAT_ENDPOINTS_PENDING,
    DEST_STAT_P2C_ENDPOINTS,
    DEST_STAT_RESETS,
    DEST_STAT_ADDS,
    DEST_STAT_REMOVES,
    DEST_STAT_QUEUE_LENGTH,
    DEST_STAT_QUEUE_REQUESTS,
    DEST_STAT_QUEUE_LATENCY,
    DEST_STAT_GATE_OPENED,
    DEST_STAT_GATE_SHUT,
    DEST_STAT_GATE_OPEN_TIME,
    DEST_STAT_GATE_SHUT_TIME,
    DEST_STAT_GATE_TIMEOUT,
    DEST_STAT_COUNT
};
struct dest_stats {
    struct stats *stats;
    struct bytes labels; /* borrowed */
    enum dest_kind kind;
    struct series *series[DEST_STAT_COUNT]; /* references; NULL: nothing to say yet */
    uint64_t parts[DEST_STAT_COUNT];        /* of gauges that add up: ours */
};

/* The labels that tell balancers apart: `parent`, `backend`; of TCP and TLS also `logical`, `concrete`. */
void dest_labels(struct labels *l, const struct meta *parent, const struct backend *b,
                 enum dest_kind kind);
/* `labels` stay valid until dest_stats_close(). */
void dest_stats_open(struct dest_stats *s, struct stats *stats, struct bytes labels,
                     enum dest_kind kind, uint64_t failfast_ns);
void dest_stats_close(struct dest_stats *s); /* gauges lose our part */

void dest_stats_add(struct dest_stats *s, enum dest_stat which);
void dest_stats_set(struct dest_stats *s, enum dest_stat which, uint64_t value); /* a gauge that adds up */
/* Somebody came; somebody got an endpoint after waiting for so long. Both for every request. */
static inline void dest_stats_came(struct dest_stats *s)
{
    series_add(s->series[DEST_STAT_QUEUE_REQUESTS], 1);
}
static inline void dest_stats_served(struct dest_stats *s, uint64_t waited_ns)
{
    series_observe(s->series[DEST_STAT_QUEUE_LATENCY], (double)waited_ns);
}
void dest_stats_gate(struct dest_stats *s, bool is_open); /* it opens or shuts now */

#endif
