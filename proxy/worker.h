/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

/*
 * One worker of the proxy: its listeners, connections, destinations, upstreams and metrics, all its
 * own (decision D6).
 */
#include "core/mailbox.h"
#include "core/worker.h"
#include "mesh/discovery.h"
#include "net/sock.h"
#include "net/tls.h"
#include "proxy/config.h"
#include "proxy/stats.h"

#define WORKER_LISTENERS_MAX 4

struct proxy; /* proxy.c */

enum direction { INBOUND, OUTBOUND };

struct proxy_worker {
    struct worker worker;
    const struct config *config;
    struct proxy *proxy;
    struct loop *control;
    struct discovery *discovery;
    int listen_fds
        /* made by proxy.c, so that they can be handed over (decision D15) */
        [WORKER_LISTENERS_MAX];
    enum direction listen_side[WORKER_LISTENERS_MAX];
    size_t listen_count;

    /* the worker's own, from proxy_worker_open() to proxy_worker_close() */
    struct loop *loop;
    struct stats stats;
    struct discovery_cache *cache;
    struct tls_ctx *tls_server, *tls_client; /* NULL until there is a certificate */
    struct listener listeners[WORKER_LISTENERS_MAX];
    struct list conns;
    size_t conns_count, in_flight[2];
    struct map dests;     /* balanced destinations, by kind and path */
    struct map upstreams; /* single endpoints: forwards and applications */
    struct map profiles;  /* service profiles in use, by direction and name: profile_use.c */
    struct map profile_names; /* by which inbound requests come: profile_inbound.c */
    size_t profile_names_asked;
    uint64_t profile_patience_ns; /* until then nobody waits for a profile */
    struct list retired;  /* upstreams that nobody can find, until their last user goes */
    struct timer sweep;   /* armed while something idle waits for its time */
    struct list free_exchanges;
    size_t free_exchanges_count;
    struct timer rest;                     /* armed while something is kept for requests to come */
    uint64_t exchanges, exchanges_at_rest; /* begun; and when `rest` was armed */
    struct early_table *early; /* early.h; NULL until needed */
    bool draining, said_drained;
};

/* On the worker's own thread: what proxy_worker_start() does before the first turn of its loop
 * and after the last one. Tests call them on a loop that they turn themselves. */
void proxy_worker_open(struct proxy_worker *w);
void proxy_worker_close(struct proxy_worker *w); /* loop_close() comes next */
void proxy_worker_want_sweep(
    struct proxy_worker *w); /* a destination or a single upstream became idle */
void proxy_worker_at_rest(struct proxy_worker *w); /* no request is in flight */
void proxy_worker_conn_gone(
    struct proxy_worker *w); /* a connection is gone; was it the last one that drains? */

int proxy_worker_start(struct proxy_worker *w,
                       unsigned index) MUST_USE; /* config..listen_* are set */

/* Messages from the control thread. */
void proxy_worker_set_creds(struct proxy_worker *w, struct tls_creds *creds);
void proxy_worker_drain(struct proxy_worker *w); /* proxy_on_drained() comes back */
struct scrape {
    struct message message;
    struct proxy_worker *worker;
    struct metric_samples samples;
    void (*on_done)(struct scrape *s); /* on the control loop */
    void *user;
};
void proxy_worker_scrape(struct proxy_worker *w, struct scrape *s);

/* proxy.c, on the control loop: the last connection of a draining worker is gone. */
void proxy_on_drained(struct proxy *p);

static inline const struct side_config *worker_side(const struct proxy_worker *w, enum direction d)
{
    return d == INBOUND ? &w->config->inbound : &w->config->outbound;
}
static inline const char *direction_name(enum direction d)
{
    return d == INBOUND ? "inbound" : "outbound";
}

#endif
