/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

/*
 * One endpoint as one worker sees it: its connections, kept or new, in mutual TLS where it has an
 * identity, with the transport header where its proxy takes one; and its state after failures.
 *
 * Connections ("links") of one upstream:
 *   - HTTP/2 links, shared by any number of streams (also HTTP/1 requests to a meshed peer);
 *   - HTTP/1 links, one stream at a time, kept idle for the pool's idle time;
 *   - raw links, handed over to a tunnel.
 * A failed dial puts the upstream into back-off: upstream_is_ready() is false until it ran out.
 */
#include "http/conn.h"
#include "proxy/failure.h"
#include "proxy/stats.h"
#include "proxy/worker.h"

struct dest;
struct upstream;
struct link {
    struct task task;
    struct timer timer;
    struct grave grave;
    struct list node;         /* in its upstream's list */
    struct list worker_node;
    struct upstream *up;
    struct io *io;            /* while dialing, and for raw links until taken */
    struct http_client *client;
    int dial_err;             /* when io is NULL from the start */
    struct tcp_meter meter;
    struct dial *dial;        /* who gets it, while it is dialed; NULL for a shared one */
    enum link_kind { LINK_H2, LINK_H1, LINK_RAW } kind;
    enum link_state { LINK_CONNECT, LINK_TLS, LINK_OPEN, LINK_CLOSED } state;
    bool is_upgrade;          /* HTTP/1 for an Upgrade: never pooled */
    bool is_reused;           /* carried a request before */
};

struct dial { /* somebody who waits for a link; embedded; zeroed before first use */
    struct list node;
    enum link_kind kind;
    bool is_upgrade;
    struct link *link;        /* the link that is being dialed for this one, when exclusive */
    /* From a task. link NULL: `why` and `detail` say what failed. */
    void (*on_link)(struct dial *d, struct link *link, enum failure why, const char *detail);
};

struct upstream {
    struct proxy_worker *w;
    enum direction dir;
    const struct endpoint *endpoint; /* reference */
    bool is_local;            /* this pod itself: no TLS, no upgrade (wire 4.6 end) */
    struct list h2, h1_idle, other; /* links */
    struct list waiting;      /* dials that any HTTP/2 link will serve */
    unsigned failures;
    struct timer backoff;
    bool is_ready, is_retired;
    struct list retired_node;
    struct grave grave;
    unsigned users;           /* exchanges and tunnels on it */
    uint64_t idle_since_ns;
    struct bytes key;         /* in the worker's table; owned; empty when owned by a destination */
    struct tcp_stats tcp;
    struct request_stats *requests;
    void (*on_ready)(struct upstream *u, bool is_ready); /* may be NULL */
    void *user;               /* the balancer's member */
    struct dest *dest;        /* NULL for a single one */
};

/* `authority`: metric label, may be empty. */
struct upstream *upstream_new(struct proxy_worker *w, enum direction dir, const struct endpoint *e, struct bytes authority);
void upstream_free(struct upstream *u); /* closes all links; no dial may wait */
/* The upstream of a single endpoint, found or made; it goes away when it was idle for the side's discovery idle time. */
struct upstream *upstream_single(struct proxy_worker *w, enum direction dir, const struct endpoint *e);
void upstream_sweep(struct proxy_worker *w);      /* drop idle singles */
void upstream_meters(struct proxy_worker *w);     /* bring byte counts up to date */

/* What carries a request of this version to this endpoint. */
enum link_kind upstream_kind(const struct upstream *u, enum http_version version, bool is_upgrade);
/* A link on which a stream can be opened now, or NULL. */
struct link *upstream_link(struct upstream *u, enum link_kind kind);
void upstream_dial(struct upstream *u, struct dial *d);
void upstream_dial_cancel(struct dial *d);        /* idempotent */
/* Raw links, after on_link: the io and the meter are the caller's from now on. */
struct io *link_take_io(struct link *l, struct tcp_meter *out_meter);
/* The upstream is not wanted any more: it goes away with its last user. */
void upstream_retire(struct upstream *u);
/* An HTTP/1 link whose stream was taken for an upgrade: the meter moves to the caller. */
void link_taken(struct link *l, struct tcp_meter *out_meter);

#endif
