/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_ROUTE_STATS_H
#define PROXY_ROUTE_STATS_H

/*
 * Figures of outbound routes and of their backends (wire 7.2): outbound_{http,grpc}_route_*, as
 * bundles that a connection finds once and holds.
 *
 * A route counts requests as the client sees them, whatever came of them; a backend counts
 * attempts, also those whose response gives way to another attempt's.
 */
#include "mesh/policy.h"
#include "proxy/stats_bundle.h"

/* group, kind, namespace and name of an object, each behind `of` and a `_`; of what traffic goes to
 * also port and section_name (wire 7.1). */
void labels_meta(struct labels *l, const char *of, const struct meta *m, bool is_target);

/* Whose they are; `route`, `backend` as far as the bundle is about them. */
struct route_names {
    bool is_grpc;
    const struct meta *parent, *route, *backend;
    struct bytes hostname; /* empty unless the configuration asks for it */
};
/* References. */
struct stat_bundle *route_stats_get(struct stats *s, const struct route_names *n);
struct stat_bundle *retry_stats_get(struct stats *s, const struct route_names *n);
struct stat_bundle *backend_stats_get(struct stats *s, const struct route_names *n);
/* Inbound: inbound_{http,grpc}_*, which stand where those of a route and of a backend stand
 * outbound: of the request, and of the response. `parent` is the server, and its port counts. */
struct stat_bundle *inbound_request_stats_get(struct stats *s, const struct route_names *n);
struct stat_bundle *inbound_response_stats_get(struct stats *s, const struct route_names *n);

/* Of all that follow, the bundle may be NULL: then nothing is counted. */

struct route_outcome {
    bool is_grpc;        /* the bundle is of gRPC */
    unsigned status;     /* 0: none came */
    int grpc_status;     /* -1: none came */
    const char *error;   /* of route_error(), or "" */
    uint64_t elapsed_ns; /* route: from the request's head; backend: from the request's end */
};
void route_stats_frame(struct stat_bundle *b, size_t bytes); /* of the request's body */
void route_stats_end(struct stat_bundle *b, const struct route_outcome *o);

enum route_retry {
    ROUTE_RETRY_REQUESTS,       /* sent */
    ROUTE_RETRY_SUCCESSES,      /* answered with what is not retried */
    ROUTE_RETRY_OVERFLOW,       /* not sent: no budget, or nobody to take it */
    ROUTE_RETRY_LIMIT_EXCEEDED, /* not sent: there were enough */
};
void retry_stats_count(struct stat_bundle *b, enum route_retry what);

void backend_stats_request(struct stat_bundle *b);
void backend_stats_frame(struct stat_bundle *b, size_t bytes); /* of the response's body */
void backend_stats_end(struct stat_bundle *b, const struct route_outcome *o);

/* The `error` label: what failed, and why if it was a reset of the peer's. Static. */
const char *route_error(enum failure why, enum reset reset);

#endif
