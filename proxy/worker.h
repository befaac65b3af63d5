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
#include "proxy/app_start.h"
#include "proxy/config.h"
#include "proxy/stats.h"

struct proxy; /* proxy.c */
struct span_queue;
struct span_writer;

enum direction { INBOUND, OUTBOUND };

/* How short memory is; what is given up at each level: shed.h. */
enum shed_level { SHED_NONE, SHED_IDLE, SHED_TAPS, SHED_STREAMS, SHED_CONNS, SHED_LAST };

/* A socket that the worker accepts on. More than one a side and address where the proxy before this
 * one had more workers (decision D15). */
struct worker_listener {
    int fd; /* ours until it is opened, and -1 from then on */
    enum direction side;
    struct listener listener;
};

/* What the control thread asks of all workers at once; proxy_on_obeyed() comes back from each, with
 * the order's number. */
enum worker_order {
    WORKER_LISTEN,        /* accept, as soon as there is a certificate */
    WORKER_PAUSE,         /* accept nothing; what comes waits in the kernel's backlog */
    WORKER_RESUME,        /* after a pause */
    WORKER_DRAIN,         /* accept who has connected, then nobody; finish what is open: the pod ends */
    WORKER_DRAIN_SHARED,  /* the same, but who has not been accepted is left to another process */
    WORKER_DRAIN_GENTLY,  /* as that; the other one goes on here, so idle clients may take their time */
    WORKER_CUT,           /* of one that drains: what is open ends now, with 503 where no answer began */
};

struct proxy_worker {
    struct worker worker;
    const struct config *config;
    struct proxy *proxy;
    struct loop *control;
    struct discovery *discovery;
    struct span_queue *span_queue; /* NULL: there is no collector */
    struct worker_listener *listeners; /* proxy_worker_add_listener(); fixed once it runs */
    size_t listen_count, finishing; /* finishing: of them, those that accept for the last time */
    bool is_limited; /* memory has a ceiling: proxy_on_want_look() is to be called */
    bool is_held; /* set before it runs: a certificate alone does not make it accept */

    /* the worker's own, from proxy_worker_open() to proxy_worker_close() */
    struct loop *loop;
    struct stats stats;
    struct discovery_cache *cache;
    struct tls_ctx *tls_server, *tls_client; /* NULL until there is a certificate */
    struct list conns;
    size_t conns_count, in_flight[2];
    struct map dests;     /* balanced destinations, by kind and path */
    struct map upstreams; /* single endpoints: forwards and applications */
    struct map known;     /* what connections found out: known.h */
    struct parking known_parked;
    struct map profiles;  /* service profiles in use, by direction and name: profile_use.c */
    struct map profile_names; /* by which inbound requests come: profile_inbound.c */
    struct parking profile_names_parked;
    size_t profile_names_asked;
    uint64_t profile_patience_ns; /* until then nobody waits for a profile */
    struct list all_upstreams;
    struct list retired;  /* upstreams that nobody can find, until their last user goes */
    struct app_start app_start;
    struct timer sweep;   /* armed while something idle waits for its time */
    struct list scrapes;  /* under way */
    struct access_log *access_log; /* NULL: off */
    struct span_writer *spans;     /* NULL: there is no collector */
    struct list free_exchanges;
    size_t free_exchanges_count;
    struct timer rest;                     /* armed while something is kept for requests to come */
    uint64_t exchanges, exchanges_at_rest; /* begun; and when `rest` was armed */
    struct early_table *early; /* early.h; NULL until needed */
    /* shed_worker.c */
    enum shed_level shed_level;
    unsigned looks, fresh; /* fresh: accepted in the turn of this time */
    uint64_t fresh_ns;
    size_t chunks_max, chunks_kept; /* in use, and unused ones, while nothing is short */
    int fds_max; /* descriptors from this number on are not for accepted connections */
    struct task shed_task;
    struct timer shed_timer; /* armed while memory is tight */

    bool draining;       /* from any order to drain */
    bool draining_gently;
    bool said_drained;
    bool is_cut; /* what ends from now on does so because the time to drain is over */
    uint64_t draining_ns; /* since when, ungently */
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

/* Before it runs; its config is set. Takes `fd`, a listening socket, also when it fails. */
int proxy_worker_add_listener(struct proxy_worker *w, enum direction side, int fd) MUST_USE;
void proxy_worker_drop_listeners(struct proxy_worker *w); /* idempotent */
void proxy_worker_want_look(struct proxy_worker *w); /* has memory become short? */
int proxy_worker_start(struct proxy_worker *w,
                       unsigned index) MUST_USE; /* config..is_held are set */

/* Messages from the control thread. */
void proxy_worker_set_creds(struct proxy_worker *w, struct tls_creds *creds);
void proxy_worker_order(struct proxy_worker *w, enum worker_order order, unsigned number);
void proxy_worker_shed(struct proxy_worker *w, enum shed_level level);
struct scrape {
    struct message message;
    struct proxy_worker *worker;
    struct timer timer; /* the next piece, in the next turn of the worker's loop */
    struct list node;   /* in its worker's list meanwhile */
    struct metric_cursor at;
    struct metric_samples samples;
    void (*on_done)(struct scrape *s); /* on the control loop */
    void *user;
};
void proxy_worker_scrape(struct proxy_worker *w, struct scrape *s);

/* proxy.c, on the control loop: a worker has done what it was asked; the last connection of a
 * draining worker is gone. */
void proxy_on_obeyed(struct proxy *p, unsigned number);
void proxy_on_drained(struct proxy *p);
void proxy_on_want_look(struct proxy *p, struct proxy_worker *w); /* shed_look(), and tell it */

static inline const struct side_config *worker_side(const struct proxy_worker *w, enum direction d)
{
    return d == INBOUND ? &w->config->inbound : &w->config->outbound;
}
static inline const char *direction_name(enum direction d)
{
    return d == INBOUND ? "inbound" : "outbound";
}

#endif
