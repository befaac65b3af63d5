/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_CONN_H
#define PROXY_CONN_H

/*
 * An accepted connection on its way: original destination, policy, TLS, transport header, protocol; then
 * either HTTP (exchanges on a server codec) or an opaque tunnel.
 *
 * accept.c runs the steps that both directions share, inbound.c and outbound.c decide.
 */
#include "http/conn.h"
#include "http/http1.h"
#include "mesh/route.h"
#include "net/splice.h"
#include "proxy/dest.h"

#define CONN_STATES(X)                                                                             \
    X(POLICY, "waiting for the policy of the destination")                                         \
    X(PEEK, "waiting for enough bytes to tell TLS from cleartext")                                 \
    X(HANDSHAKE, "TLS handshake in progress")                                                      \
    X(TRANSPORT, "reading the transport header")                                                   \
    X(DETECT, "waiting for enough bytes to tell HTTP/1, HTTP/2 and opaque TCP apart")              \
    X(HTTP, "serving HTTP; the codec owns the socket")                                             \
    X(DIAL, "dialing the other end of an opaque connection")                                       \
    X(TUNNEL, "opaque; bytes are copied both ways")                                                \
    X(CLOSED, "closed; memory goes at the end of the turn")

enum conn_state {
#define X(id, doing) CONN_##id,
    CONN_STATES(X)
#undef X
};

enum conn_tls { CONN_TLS_NONE, CONN_TLS_MESH, CONN_TLS_FOREIGN };

struct conn {
    struct task task;
    struct timer timer;
    struct grave grave;
    struct list node;               /* in the worker's list */
    struct proxy_worker *w;
    enum direction dir;
    enum conn_state state;
    struct io *io;                  /* until the codec or the tunnel takes it */
    struct io *served;              /* the same, borrowed, for byte counts */
    struct chain head;              /* bytes read and not yet understood */
    struct addr peer, target;       /* target: original destination, or what the transport header named */
    bool is_direct;                 /* came to the inbound port itself: transport header */
    bool is_closing;
    enum detected session;          /* of the transport header */
    bool has_session;

    enum conn_tls tls;
    char client_id[TLS_NAME_MAX + 1]; /* empty: none */
    char sni[TLS_NAME_MAX + 1];     /* of foreign TLS */
    const char *no_tls_reason;

    struct discovery_entry *entry;  /* held; the policy */
    struct discovery_waiter waiter;
    const struct snapshot *policy;  /* reference: the newest one seen by this connection */

    struct tcp_stats tcp;
    struct tcp_meter meter;
    struct http_server *server;
    struct list exchanges;
    struct request_stats *requests; /* inbound: series for the last route and authorization */
    const void *requests_route, *requests_authz;

    /* opaque */
    struct tunnel tunnel;
    bool is_tunnel_open;
    struct dest *dest;
    struct member *member;
    struct upstream *up;
    struct dial dial;
    struct pick pick;
    struct tcp_meter dst_meter;
    uint64_t dst_base_read, dst_base_written, base_read, base_written;
    unsigned attempts;
};

/* accept.c */
void conn_accept(struct proxy_worker *w, enum direction dir, int fd, const struct addr *peer);
void conn_fail(struct conn *c, enum failure why, int err, const char *detail); /* log, count, close */
void conn_close(struct conn *c, int err); /* orderly end; idempotent */
void conn_drain(struct conn *c);
void conn_meter(struct conn *c);
void conn_next(struct conn *c, enum conn_state next); /* change state and run again from the task */
void conn_wait_policy(struct conn *c, enum question q, const struct addr *key);
void conn_open_stats(struct conn *c, struct bytes extra_labels); /* TLS and peer are known: count it from here */
void conn_tls_labels(const struct conn *c, struct text *t);
void conn_serve_http(struct conn *c, enum detected protocol);

/* inbound.c, outbound.c: called by accept.c's steps */
void inbound_policy_known(struct conn *c);
void inbound_protocol_known(struct conn *c, enum detected protocol);
void outbound_policy_known(struct conn *c);
void outbound_protocol_known(struct conn *c, enum detected protocol);
void inbound_request(struct exchange *ex);
void outbound_request(struct exchange *ex);

/* opaque.c: connect the other side and tunnel. Exactly one of backend and endpoint. */
void opaque_to_backend(struct conn *c, const struct backend *b);
void opaque_to_endpoint(struct conn *c, const struct endpoint *e);
void opaque_cancel(struct conn *c);
/* An upgraded HTTP/1 exchange becomes a tunnel of its connection. Takes both ios and moves the chains. */
void opaque_upgraded(struct conn *c, struct upstream *up, struct io *client, struct chain *to_server,
                     struct io *server, struct chain *to_client, struct tcp_meter *server_meter);

#endif
