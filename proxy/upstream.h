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
 * Age: a link carries the certificate and the trust of when it was made, stays with the one of the
 * peer's workers that accepted it, and, where the address is that of a balancer outside of the mesh,
 * with the one machine that stood behind it then. So no link is used for ever: after LINK_AGE_NS
 * and a random part of it an HTTP/1 link is closed when its request is done, and an HTTP/2 link
 * gets a successor, and is closed when its last stream is done. No request waits for that: until
 * the successor stands, the old one serves. Nothing of this is needed to give a new endpoint its
 * share, for requests are balanced one by one (dest.h).
 * An HTTP/2 link on which no stream was opened for LINK_UNUSED_NS, twice that at most, is closed
 * (the reference keeps it as long as the endpoint is known, which no peer can tell from this):
 * in a set of thousands of endpoints each link costs memory at both ends and a ping every few
 * seconds. Its endpoint stays known, and the next request makes another one.
 *
 * A failed dial puts the upstream of a destination into back-off. When that ran out, one dial may
 * try again; it is ready for good once a connection stands.
 *
 * Ownership: whoever uses one counts in `users` (upstream_use()); it lives at least until the last
 * user's upstream_leave(). A dial that waits belongs to a user.
 */
#include "core/clock.h"
#include "http/conn.h"
#include "proxy/failure.h"
#include "proxy/stats.h"
#include "proxy/worker.h"

struct dest;
struct upstream;
#define LINK_AGE_NS    (3600 * NS_PER_S)
#define LINK_UNUSED_NS (300 * NS_PER_S)

struct link {
    struct task task;
    struct timer timer; /* of the dial; then of an idle HTTP/1 link, or a look at an HTTP/2 link */
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
    bool is_overdue; /* dialed for long enough: what has come decides in this turn */
    bool is_used;    /* HTTP/2: a stream was opened since the last look */
    bool has_successor; /* HTTP/2: another one was dialed in its place */
    uint64_t old_at_ns;
    uint64_t dialed_ns, rtt_ns; /* to connect took so long */
};

struct dial { /* somebody who waits for a link; embedded; zeroed before first use */
    struct list node;
    enum link_kind kind;
    bool is_upgrade;
    uint64_t since_ns; /* HTTP/2: it waits */
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
    uint64_t wait_first_ns; /* since when they come again and again */
    uint64_t wait_last_ns;  /* when the last one came, or was seen to wait */
    uint64_t spread_ns; /* when a link was last dialed because the others' peer reads late */
    struct timer more;   /* another HTTP/2 link, if some wait for too long; or 503 for them */
    enum upstream_state state;
    struct timer backoff;
    unsigned failures;
    const struct link *probe; /* whose fate decides, after PROBE */
    bool is_retired;
    struct list retired_node;
    struct list all_node; /* of the worker's upstreams of any kind */
    struct grave grave;
    unsigned users; /* exchanges, tunnels and connections on it */
    uint64_t idle_since_ns;
    struct bytes key;      /* in the worker's table; owned; empty when owned by a destination */
    char *authority;       /* in metrics; owned */
    struct tcp_stats *tcp; /* reference; NULL until it is used */
    struct request_stats *requests; /* reference; NULL until then, and inbound */
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
void upstream_count(struct upstream *u); /* from now on it has its series; idempotent */
void upstream_leave(struct upstream *u);
/* Nobody can find it any more: it goes away with its last user. */
void upstream_retire(struct upstream *u);
bool upstream_sweep(
    struct proxy_worker
        *w); /* drop idle singles; true: some are left that will be idle long enough */
void upstream_clear(struct proxy_worker *w); /* at the worker's end */
unsigned upstream_drop_idle(struct proxy_worker *w); /* close links without a stream; how many */
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
