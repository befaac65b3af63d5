/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

/*
 * One endpoint as one worker sees it: its connections, kept or new, in mutual TLS where it has an
 * identity, with the transport header where its proxy takes one; and its state after failures.
 *
 * Connections ("links") of one upstream:
 *   - HTTP/2 links, shared by any number of streams (also HTTP/1 requests to a meshed peer);
 *     one, and more only while the peer allows no more streams on those that there are;
 *   - HTTP/1 links, one stream at a time, kept idle for the pool's idle time;
 *   - raw links, handed over to a tunnel.
 * A failed dial puts the upstream of a destination into back-off. When that ran out, one dial may
 * try again; it is ready for good once a connection stands.
 *
 * Ownership: whoever uses one counts in `users` (upstream_use()); it lives at least until the last
 * user's upstream_leave(). A dial that waits belongs to a user.
 */
#include "http/conn.h"
#include "proxy/failure.h"
#include "proxy/stats.h"
#include "proxy/worker.h"

struct dest;
struct upstream;
struct link {
    struct task task;
    struct timer timer; /* of the dial; later, of an idle HTTP/1 link */
    struct grave grave;
    struct list node; /* in one of its upstream's lists */
    struct upstream *up;
    struct io *io; /* while dialing, and for raw links until taken */
    struct http_client *client;
    int dial_err;      /* when there is no io from the start */
    struct dial *dial; /* who gets it, while it is dialed; NULL for a shared one */
    enum link_kind { LINK_H2, LINK_H1, LINK_RAW } kind;
    enum link_state { LINK_CONNECT, LINK_TLS, LINK_OPEN, LINK_CLOSED } state;
    bool is_upgrade; /* HTTP/1 for an Upgrade: never pooled */
    bool is_reused;  /* carried a request before */
    bool is_idle;    /* in h1_idle */
};

struct dial { /* somebody who waits for a link; embedded; zeroed before first use */
    struct list node;
    enum link_kind kind;
    bool is_upgrade;
    struct link *link; /* the one that is being dialed for this one, when exclusive */
    /* From a task or timer. link NULL: `why` and `detail` say what failed. */
    void (*on_link)(struct dial *d, struct link *link, enum failure why, const char *detail);
};

enum upstream_state {
    UPSTREAM_READY,   /* not known to fail */
    UPSTREAM_BACKOFF, /* failed; waiting until it may be tried again, or for that try's end */
    UPSTREAM_PROBE,   /* may be tried once */
};

struct upstream {
    struct proxy_worker *w;
    enum direction dir;
    const struct endpoint *endpoint; /* reference */
    bool is_local;                   /* this pod itself: no TLS, no upgrade (wire 4.6 end) */
    struct list h2, h1_idle, other;  /* links */
    unsigned h2_count, h1_idle_count;
    struct list waiting; /* dials that any HTTP/2 link will serve */
    struct timer more;   /* another HTTP/2 link, if some wait for too long */
    enum upstream_state state;
    struct timer backoff;
    unsigned failures;
    const struct link *probe; /* whose fate decides, after PROBE */
    bool is_retired;
    struct list retired_node;
    struct grave grave;
    unsigned users; /* exchanges, tunnels and connections on it */
    uint64_t idle_since_ns;
    struct bytes key;      /* in the worker's table; owned; empty when owned by a destination */
    struct tcp_stats *tcp; /* reference */
    struct request_stats *requests; /* reference; NULL inbound */
    /* May be picked, or not; `is_proven`: a connection stands. NULL for a single one. */
    void (*on_ready)(struct upstream *u, bool is_ready, bool is_proven);
    void *user;        /* its place in a destination */
    struct dest *dest; /* NULL for a single one */
};

/* `authority`: metric label, may be empty. */
struct upstream *upstream_new(struct proxy_worker *w, enum direction dir, const struct endpoint *e,
                              struct bytes authority);
void upstream_free(struct upstream *u); /* closes all links; no user, no dial may wait */
/* The upstream of a single endpoint, found or made; it goes away when it was idle for the side's
 * discovery idle time. */
struct upstream *upstream_single(struct proxy_worker *w, enum direction dir,
                                 const struct endpoint *e);
void upstream_use(struct upstream *u);
void upstream_leave(struct upstream *u);
/* Nobody can find it any more: it goes away with its last user. */
void upstream_retire(struct upstream *u);
bool upstream_sweep(
    struct proxy_worker
        *w); /* drop idle singles; true: some are left that will be idle long enough */
void upstream_clear(struct proxy_worker *w); /* at the worker's end */
bool upstream_uses_tls(const struct upstream *u);

/* What carries a request of this version to this endpoint. */
enum link_kind upstream_kind(const struct upstream *u, enum http_version version, bool is_upgrade);
/* A link on which a stream can be opened now, or NULL. */
struct link *upstream_link(struct upstream *u, enum link_kind kind);
void upstream_dial(struct upstream *u, struct dial *d);
void upstream_dial_cancel(struct dial *d); /* idempotent */
/* No stream was opened on it after all. */
void link_return(struct link *l);
/* Raw links, after on_link: the io and the meter are the caller's from now on. */
struct io *link_take_io(struct link *l, struct tcp_meter *out_meter);
/* An HTTP/1 link whose stream was taken for an upgrade. */
void link_taken(struct link *l);

#endif
