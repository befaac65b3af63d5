/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_CONTROL_PRIVATE_H
#define MESH_CONTROL_PRIVATE_H

/*
 * The inside of a channel: control.c (life, calls and watches onto the connection), control_dial.c
 * (from a name to a connection), control_watch.c, control_call.c.
 */
#include "mesh/control.h"
#include "mesh/control_stats.h"

#define CONTROL_ADDRS_MAX 32

#define CONTROL_STATES(X)                                                                          \
    X(IDLE, "not connected, nothing is tried")                                                     \
    X(RESOLVE, "asking for the addresses of the service")                                          \
    X(DIAL, "waiting for the TCP connection")                                                      \
    X(HANDSHAKE, "TLS handshake in progress")                                                      \
    X(OPEN, "connected, no other connection is tried")                                             \
    X(BACKOFF, "waiting to try again")

enum control_state {
#define X(id, doing) CONTROL_##id,
    CONTROL_STATES(X)
#undef X
};

struct control {
    struct loop *loop;
    struct dns *dns;
    char *name, *host, *server_name, *authority;
    uint16_t port;
    uint32_t mark;
    bool is_local; /* loopback: no TLS, no stream bounds */
    uint64_t first_message_ns, idle_ns, lifetime_ns;
    struct tls_ctx *tls; /* NULL until there are credentials */

    enum control_state state;
    struct dns_query query;
    struct addr addrs[CONTROL_ADDRS_MAX];
    size_t addr_count, addr_next, addr_tried;
    uint64_t addrs_until_ns;    /* when they are to be asked for again */
    struct io *io;              /* DIAL, HANDSHAKE */
    struct task dial;           /* owns `io` */
    struct timer timer;         /* deadline of a step, or back-off */
    struct list conns;          /* open ones: struct control_conn */
    size_t conns_count;
    bool is_full;               /* no more connections are opened, and that was told */
    struct timer spare;         /* until a connection without streams is of no use any more */
    unsigned failures;          /* rounds over all addresses, and connections lost, since it was heard */
    bool is_out;                /* the outage under way was logged */
    bool was_open;              /* at any time */
    char problem[256];          /* why it is not connected; empty: no reason known */

    struct control_stats stats;
    struct task serve; /* opens what waits, and closes connections that are not needed any more */
    struct list waiting_watches, open_watches;
    struct list waiting_calls, open_calls;
};

struct control_conn {
    struct list node;
    struct control *control;
    struct http_client *client;
    uint64_t used_ns; /* when it was opened, or its last stream ended */
};

/* 100 ms doubled `failures` times, at most 10 s, and up to a tenth more. */
uint64_t control_backoff_ns(struct loop *l, unsigned failures);

/* control_dial.c */
void control_dial_init(struct control *c);
void control_connect(struct control *c);    /* if nothing is tried, and it is wanted and possible */
void control_crowded(struct control *c);    /* connected, and something waits for room on a connection */
struct http_client *control_room(const struct control *c); /* where a stream may be opened; NULL: nowhere */
/* Close connections without a stream. The last one stays; and, while it was of use lately, the only one with
 * room, for the next call would have to open it again. */
void control_trim(struct control *c);
void control_disconnect(struct control *c); /* to IDLE, from any state; streams end by themselves */

/* control.c */
void control_want(struct control *c); /* something was added to a waiting list: counted */
bool control_is_wanted(const struct control *c);
void control_heard(struct control *c); /* a message came, or a status: the service works */

/*
 * control_watch.c, control_call.c: take the first of a waiting list to the connection. False: no
 * more capacity.
 */
bool control_watch_open_next(struct control *c);
bool control_call_open_next(struct control *c);

#endif
