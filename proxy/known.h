/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_KNOWN_H
#define PROXY_KNOWN_H

/*
 * What connections to one address found out under one policy: the figures that they and their
 * requests are counted in, and the destinations of its backends. Found once, it serves the
 * connections that are open, and those that come within the next second or two, so that one that
 * carries a single request prints no labels.
 *
 * Ownership: connections hold a reference. What nobody holds is parked, until the worker's second
 * sweep, or when there are more than KNOWN_IDLE_MAX; it holds its policy, destinations and figures till then.
 * Limits: the newest KNOWN_ROUTES routes, KNOWN_BACKENDS backends and KNOWN_REQUESTS kinds of
 * requests of a policy; more are found anew.
 * Threads: one worker's.
 */
#include "mesh/route.h"
#include "net/addr.h"
#include "proxy/dest.h"
#include "proxy/parking.h"
#include "proxy/stats_bundle.h"

#define KNOWN_ROUTES    4
#define KNOWN_BACKENDS  8
#define KNOWN_REQUESTS  4
#define KNOWN_IDLE_MAX  256
#define KNOWN_PROTOCOLS 6 /* of enum protocol */
#define KNOWN_RESULTS   4 /* of detection */

struct profile_view;
struct known_requests { /* inbound: of one route, let in by one authorization */
    const void *route, *authz;
    bool is_probe; /* the route is the one for a pod's probes */
    struct request_stats *requests; /* reference */
    struct series *allowed;         /* reference */
    struct stat_bundle *asked, *answered; /* references: route_stats.h */
};
struct known_route { /* outbound */
    const struct route *route;
    struct stat_bundle *stats, *retries; /* references; retries NULL: not asked for */
};
struct known_backend { /* outbound, of a route */
    const struct route *route;
    const struct backend *backend;
    struct dest *dest;         /* held; NULL: it is not balanced */
    struct stat_bundle *stats; /* reference */
};

struct known {
    struct proxy_worker *w;
    struct parked parked; /* while nobody holds it */
    unsigned refs;
    const struct snapshot *policy; /* reference */
    struct addr target;
    const char *without_tls;

    /* References; NULL: not asked for yet. */
    struct tcp_stats *tcp; /* of the accepted connections */
    struct series *protocols[KNOWN_PROTOCOLS], *detect_took, *detected[KNOWN_RESULTS];
    struct profile_view *profile;

    struct known_route routes[KNOWN_ROUTES];
    struct known_backend backends[KNOWN_BACKENDS];
    struct known_requests requests[KNOWN_REQUESTS];
    unsigned next_route, next_backend, next_requests; /* who gives way */
};

/* A reference. `without_tls`: why these connections are not in TLS, which is one of their labels (a
 * constant, told from others by its address). NULL: what is found out is nobody else's, and is not
 * kept. */
struct known *known_get(struct proxy_worker *w, const struct snapshot *policy,
                        const struct addr *target, const char *without_tls);
void known_unref(struct known *k); /* NULL is fine */
void known_open(struct proxy_worker *w);
void known_clear(struct proxy_worker *w); /* at the worker's end; nobody holds one */

#endif
