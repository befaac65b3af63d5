/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

/*
 * One worker of the proxy: its listeners, connections, destinations, upstreams and metrics, all its
 * own (decision D6); and the proxy as a whole, which the control thread owns and workers only read.
 */
#include "core/mailbox.h"
#include "core/metric.h"
#include "core/worker.h"
#include "mesh/discovery.h"
#include "net/sock.h"
#include "net/tls.h"
#include "proxy/config.h"

struct proxy; /* main.c */

enum direction { INBOUND, OUTBOUND };

struct exchange;
struct proxy_worker {
    struct worker worker;
    const struct config *config;
    struct proxy *proxy;
    struct loop *control;
    struct discovery *discovery;
    int listen_fds[4];              /* made by main, so that they can be handed over (decision D15) */
    enum direction listen_side[4];
    size_t listen_count;

    /* the worker's own, from setup to teardown */
    struct loop *loop;
    struct metrics metrics;
    struct discovery_cache *cache;
    struct tls_ctx *tls_server, *tls_client; /* NULL until there is a certificate */
    struct listener listeners[4];
    struct list conns;
    size_t conns_count, in_flight[2];
    struct map dests;               /* balanced destinations, by kind and path */
    struct map upstreams;           /* single endpoints: forwards and applications */
    struct list retired;            /* upstreams that nobody can find, until their last user goes */
    struct list links;              /* every dialed connection, for sweeps and byte counts */
    struct timer sweep;             /* once a second: idle things go, byte counts are brought up to date */
    struct list free_exchanges;
    size_t free_exchanges_count;
    bool draining, said_drained;
};

int proxy_worker_start(struct proxy_worker *w, unsigned index) MUST_USE; /* config..listen_* are set */
/* Messages from the control thread. */
void proxy_worker_set_creds(struct proxy_worker *w, struct tls_creds *creds);
void proxy_worker_drain(struct proxy_worker *w); /* calls proxy_worker_drained() of main.c on the control loop */
struct scrape {
    struct message message;
    struct proxy_worker *worker;
    struct metric_samples samples;
    void (*on_done)(struct scrape *s); /* on the control loop */
    void *user;
};
void proxy_worker_scrape(struct proxy_worker *w, struct scrape *s);

/* Called by main.c's owner: the last connection of a draining worker is gone. Runs on the control loop. */
void proxy_on_drained(struct proxy *p);

const struct side_config *worker_side(const struct proxy_worker *w, enum direction d);
static inline const char *direction_name(enum direction d)
{
    return d == INBOUND ? "inbound" : "outbound";
}

#endif
