/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

/*
 * The proxy's metrics (wire 7): every family is declared in stats.def; what is recorded per request
 * or connection is gathered in two small objects, whose series are found once and kept.
 */
#include "core/metric.h"
#include "net/addr.h"

enum stat {
#define COUNTER(id, name, help)             STAT_##id,
#define GAUGE(id, name, help)               STAT_##id,
#define HISTOGRAM(id, name, bounds, scale, help) STAT_##id,
#include "proxy/stats.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
    STAT_COUNT
};
const struct metric_family *stat_family(enum stat s);

/* Series of the requests that share their labels up to the response's: one per endpoint (outbound), or per client
 * identity, route and authorization (inbound). */
struct request_stats;
struct response_facts {
    unsigned status;     /* 0: the transport failed */
    int grpc_status;     /* -1: no gRPC response */
    bool is_failure;
    const char *error;   /* "" when none */
    uint64_t latency_ns; /* from request to first response byte */
};
struct request_stats *request_stats_new(struct metrics *m, struct bytes labels); /* copies labels */
void request_stats_free(struct request_stats *r); /* NULL is fine; the series stay for scrapes */
void request_stats_request(struct request_stats *r);
void request_stats_response(struct request_stats *r, const struct response_facts *f);

/* Series of the connections that share their labels. */
struct tcp_stats {
    struct metrics *metrics;
    char *labels;
    struct series *open_total, *open, *read, *written;
};
void tcp_stats_init(struct tcp_stats *t, struct metrics *m, struct bytes labels);
void tcp_stats_clear(struct tcp_stats *t);
/* One connection's share: what was already counted of its bytes. */
struct tcp_meter {
    struct tcp_stats *stats; /* NULL: not counted */
    uint64_t read, written;
};
void tcp_meter_open(struct tcp_meter *m, struct tcp_stats *stats);
void tcp_meter_update(struct tcp_meter *m, uint64_t read, uint64_t written); /* totals so far */
void tcp_meter_close(struct tcp_meter *m, int err); /* idempotent */

void labels_target(struct text *t, const struct addr *target); /* target_addr, target_ip, target_port */
void stat_count(struct metrics *m, enum stat s, struct bytes labels); /* rare events: looks the series up, adds one */

#endif
