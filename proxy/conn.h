/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_CONN_H
#define PROXY_CONN_H

/*
 * An accepted connection on its way: original destination, policy, TLS, transport header, protocol;
 * then either HTTP (exchanges on a server codec) or an opaque tunnel.
 *
 * accept.c runs the steps that both directions share, inbound.c and outbound.c decide, conn.c has
 * its life.
 *
 * Ownership: the worker's list until conn_close(), after which nothing happens to it any more. Its
 * memory goes at the end of the turn in which its codec, too, has said goodbye.
 */
#include "http/conn.h"
#include "http/http1.h"
#include "proxy/known.h"

#define CONN_STATES(X)                                                                             \
    X(POLICY, "waiting for the policy of the destination")                                         \
    X(PEEK, "waiting for enough bytes to tell TLS from cleartext")                                 \
    X(HANDSHAKE, "TLS handshake in progress")                                                      \
    X(TRANSPORT, "reading the transport header")                                                   \
    X(DETECT, "waiting for enough bytes to tell HTTP/1, HTTP/2 and opaque TCP apart")              \
    X(HTTP, "serving HTTP; the codec owns the socket")                                             \
    X(DIAL, "dialing the other end of an opaque connection")                                       \
    X(TUNNEL, "opaque; bytes are copied both ways")                                                \
    X(CLOSED, "closed; memory goes once the codec is gone")

enum conn_state {
#define X(id, doing) CONN_##id,
    CONN_STATES(X)
#undef X
};

enum conn_early { /* the upstream before the client has spoken (early.h) */
    EARLY_UNTRIED,
    EARLY_OPEN, /* c->opaque dials or waits */
    EARLY_OVER
};

enum conn_tls { CONN_TLS_NONE, CONN_TLS_MESH, CONN_TLS_FOREIGN };

struct gateway;
struct opaque;
struct profile_name;
struct conn {
    struct task task;
    struct timer timer;          /* patience, or until a silent client is looked at again */
    uint64_t since_ns, until_ns; /* of reading the first bytes; 0: it has not begun */
    uint64_t asked_ns;           /* since when it is the client's turn: its state's begin */
    struct timer retry; /* after a read that found no chunk */
    struct grave grave;
    struct list node; /* in the worker's list */
    struct proxy_worker *w;
    enum direction dir;
    enum conn_state state;
    struct io *io;            /* until the codec or the tunnel takes it */
    struct chain head;        /* bytes read and not yet understood */
    size_t overhead;          /* bytes read that are not the application's: the transport header */
    struct addr peer, target; /* target: original destination, or what the transport header named */
    bool is_direct;           /* came to the inbound port itself: transport header */
    bool has_session;
    enum conn_early early;
    bool server_spoke;  /* before the client did */
    bool is_patient;    /* it was silent for the grace: when it still is, open early */
    uint8_t early_slot; /* while EARLY_OPEN */
    enum detected session; /* of the transport header */

    enum conn_tls tls;
    char *client_id; /* owned; NULL: none */
    char *sni;       /* owned; of foreign TLS */
    struct gateway *gateway; /* owned; where it is carried on to; NULL: this proxy is the end */
    const char *no_tls_reason;

    struct discovery_entry *entry; /* held; the policy */
    struct discovery_waiter waiter;
    const struct snapshot *policy; /* reference: the newest one seen by this connection */

    struct tcp_stats *tcp; /* reference, from when it is counted */
    struct http_server *server;
    struct list exchanges;
    struct known *own;   /* reference; of its policy; NULL: nothing yet */
    struct known *known; /* the same, outbound, of the policy of the last request */
    struct profile_name *profile_name; /* reference; inbound, of its last request */
    struct upstream *single; /* used: the application, or the one endpoint that requests go to */
    const struct endpoint *single_for; /* NULL: made for the original destination */
    struct opaque *opaque;             /* NULL unless it became one, or may become one (early) */
    const struct route *route;         /* outbound, opaque: of its policy; counted as open */
    uint64_t seen_bytes;               /* moved when shed.c looked last, */
    unsigned seen_look;                /* which was this look */
};

/* conn.c; the listener is under sock_set_accept_opts() */
void conn_accept(struct proxy_worker *w, enum direction dir, int fd, const struct addr *peer);
/* Log, count, close. `backend`: for which it failed; NULL: none, or not known. */
void conn_fail(struct conn *c, enum failure why, int err, const char *detail);
void conn_fail_for(struct conn *c, enum failure why, int err, const char *detail,
                   const struct meta *backend);
void conn_close(struct conn *c, int err); /* orderly end; idempotent */
void conn_drain(struct conn *c);
/* TLS and peer are known: it is counted from here. Inbound with the labels of the server. */
void conn_open_stats(struct conn *c, struct bytes extra_labels);
void conn_tls_labels(const struct conn *c, struct labels *l);
void conn_serve_http(struct conn *c, enum detected protocol);
/* The newest policy, for changes count for connections that are open. True if it is another one. */
bool conn_refresh_policy(struct conn *c);
void conn_forget(struct conn *c); /* what it knows from its last requests */
/* Of its own policy: borrowed. Not before it is settled whether it is in TLS. */
struct known *conn_own(struct conn *c);
/* Outbound: what it knows for its requests is of this policy from now on, and the rest forgotten. */
void conn_know(struct conn *c, const struct snapshot *policy);
static inline struct bytes conn_client_id(const struct conn *c)
{
    return bytes_str(c->client_id);
}

/* accept.c */
void conn_run(struct task *t);
/* The policy may let opaque traffic through; whether it does is asked when it matters. */
bool conn_may_be_opaque(const struct conn *c);
void conn_on_timeout(struct timer *t);
void conn_on_retry(struct timer *t);
void conn_hurry(struct conn *c); /* its worker drains: a client that is silent has little time left */
void conn_next(struct conn *c, enum conn_state next); /* change state and run again from the task */
void conn_wait_policy(struct conn *c, enum question q, const struct addr *key);
const char *conn_doing(const struct conn *c);

/* opaque.c: connect the other side and tunnel. While `c->early` is EARLY_OPEN, connect it and wait
 * for what it says; then opaque_adopt() tunnels, or opaque_drop() closes it. */
void opaque_to_backend(struct conn *c, const struct backend *b, const struct meta *parent,
                       enum dest_kind kind);
void opaque_to_endpoint(struct conn *c, const struct endpoint *e);
void opaque_adopt(struct conn *c);
void opaque_drop(struct conn *c);
void opaque_close(struct conn *c, int err); /* idempotent */
size_t opaque_held(const struct conn *c, uint64_t *out_moved); /* bytes on their way, and moved */
/* An upgraded HTTP/1 exchange becomes a tunnel of its connection. Takes both ios (metered) and
 * the use of `up`, and moves the chains. */
void opaque_upgraded(struct conn *c, struct upstream *up, struct io *client,
                     struct chain *to_server, struct io *server, struct chain *to_client);

#endif
