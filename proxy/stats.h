/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

/*
 * The proxy's metrics (wire 7): every family is declared in stats.def. What is recorded per request
 * or connection is gathered in small shared objects, found once by their labels and then held, so
 * that recording is an addition.
 *
 * What counts:
 *   - a request, when its labels are known: inbound when it was authorised, outbound when it was
 *     given to an endpoint, or had failed to reach the last one that was tried;
 *   - its response, once, when it has ended or failed. A client that gives up before the
 *     response began leaves none; later, the response counts by its status. None either leaves a
 *     probe of the pod's own for which its application does not listen yet (app_start.h);
 *   - a latency with each response, from the request's head to the first byte of the response's
 *     body, or to its end when there is none;
 *   - a connection's bytes: those of the application, without TLS and transport header.
 * What the proxy refuses without an endpoint or an authorization (no route, denied, fail-fast) is
 * in *_http_errors_total and tulle_failures_total alone.
 *
 * Ownership: request_stats_get() and tcp_stats_get() return a reference. All were given back when
 * stats_close() comes. What requests are counted by stays for the next ones that share it, until the
 * second collection after its last use, and no more than 128 such objects do.
 * Limits: stats_series_max() a worker, an eighth of them a family; what exceeds that is folded into
 * series whose values are "other", except for labels of few values (metric.h).
 * Threads: one `struct stats` belongs to one worker.
 */
#include "core/map.h"
#include "core/metric.h"
#include "net/addr.h"
#include "net/io.h"
#include "proxy/failure.h"
#include "proxy/parking.h"

enum stat_id {
#define COUNTER(id, name, help)                  STAT_##id,
#define GAUGE(id, name, help)                    STAT_##id,
#define GAUGE_LARGEST(id, name, scale, help)     STAT_##id,
#define HISTOGRAM(id, name, bounds, scale, help) STAT_##id,
#define LEGACY_END STAT_LEGACY_END, STAT_LEGACY_LAST = STAT_LEGACY_END - 1,
#include "proxy/stats.def"
#undef COUNTER
#undef GAUGE
#undef GAUGE_LARGEST
#undef HISTOGRAM
#undef LEGACY_END
    STAT_COUNT
};
const struct metric_family *stat_family(enum stat_id s);

/* Families of requests that are counted in the same way. */
enum request_kind {
    REQUESTS_SERVED,   /* request_total and its responses: what endpoints and clients see */
    REQUESTS_ROUTED,   /* route_*: what the clients of a service profile's route see */
    REQUESTS_ATTEMPTS, /* route_actual_*: each attempt of these; no latency */
    REQUEST_KINDS
};

struct stats {
    struct metrics metrics;
    struct map requests[REQUEST_KINDS], tcp; /* shared objects by their labels */
    struct map bundles; /* of stats_bundle.c, by kind and labels */
    struct parking parking;   /* of `requests` and `bundles` */
    struct list meters;       /* of open connections */
};
void stats_open(struct stats *s, size_t series_max, uint64_t idle_ns);
/*
 * Of a worker that may have so many chunks in use, which are half of its share of the memory limit: a
 * quarter of that share at 512 bytes a series, but 5,000 to 100,000. A service that is called has 34
 * (with histograms, and labels that they share: 8 KiB), so that the most is for 2,900 services.
 */
size_t stats_series_max(size_t chunks_max);
void stats_close(struct stats *s);
/* As metrics_collect_some() and metrics_collect(); meters are read before. */
bool stats_collect_some(struct stats *s, struct metric_samples *to, uint64_t now_ns,
                        size_t series_max, struct metric_cursor *at) MUST_USE;
void stats_collect(struct stats *s, struct metric_samples *to, uint64_t now_ns);

/* --- labels ----------------------------------------------------------------------------------- */

struct labels { /* built on the stack; fill `text` with label_add() */
    struct text text;
    char buffer[SERIES_LABELS_MAX + 1];
};
void labels_init(struct labels *l);
void labels_add(struct labels *l, struct bytes ready); /* of the form x="1",y="2"; may be empty */
void labels_target(struct labels *l,
                   const struct addr *target); /* target_addr, target_ip, target_port */
struct bytes labels_end(struct labels *l);     /* overflow="true" when they did not fit */
/* Rare events: looks the series up and adds one. */
void stat_count(struct stats *s, enum stat_id id, struct labels *l);
void failure_count(struct stats *s, const char *hop, enum failure why); /* tulle_failures_total */
/* A reference, for what is counted often. */
struct series *stat_series(struct stats *s, enum stat_id id, struct labels *l);

/* --- requests --------------------------------------------------------------------------------- */

/* Series of the requests that share their labels up to the response's: one per endpoint
 * (outbound), or per client identity, route and authorization (inbound). */
struct request_stats;
struct response_facts {
    unsigned status; /* 0: none came */
    int grpc_status; /* -1: no gRPC response */
    bool is_failure;
    const char *error;   /* "" when none; static */
    uint64_t latency_ns; /* from request to first response byte */
};
struct request_stats *request_stats_get(struct stats *s, struct bytes labels); /* SERVED */
struct request_stats *request_stats_get_of(struct stats *s, enum request_kind kind,
                                           struct bytes labels);
void request_stats_ref(struct request_stats *r);
void request_stats_unref(struct request_stats *r); /* NULL is fine; the series stay for scrapes */
void request_stats_request(struct request_stats *r);
void request_stats_response(struct request_stats *r, const struct response_facts *f);

/* --- connections ------------------------------------------------------------------------------ */

struct tcp_stats; /* series of the connections that share their labels */
struct tcp_stats *tcp_stats_get(struct stats *s, struct bytes labels);
void tcp_stats_ref(struct tcp_stats *t);
void tcp_stats_unref(struct tcp_stats *t); /* NULL is fine */

/* One connection's share: what was already counted of the bytes that its io has moved. */
struct tcp_meter {
    struct list node;
    struct tcp_stats *stats; /* reference; NULL: not counted */
    const struct io *io;
    uint64_t skip_in, skip_out, read, written;
};
/* Counts a connection, and `io`'s bytes beyond the skipped ones. `io` outlives the meter. */
void tcp_meter_open(struct tcp_meter *m, struct tcp_stats *stats, const struct io *io,
                    uint64_t skip_in, uint64_t skip_out);
void tcp_meter_move(struct tcp_meter *to,
                    struct tcp_meter *from);        /* `from` counts nothing any more */
void tcp_meter_close(struct tcp_meter *m, int err); /* idempotent; a system error becomes `errno` */

#endif
