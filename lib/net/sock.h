/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_SOCK_H
#define NET_SOCK_H

/*
 * Sockets: listeners that accept on a loop, dials with a deadline, options, original destinations.
 */
#include "net/accept_queue.h"
#include "net/addr.h"
#include "net/io.h"

#include <sys/un.h>

struct sock_opts { /* zero: the kernel's default */
    unsigned keepalive_ms;    /* SO_KEEPALIVE with this idle time */
    unsigned user_timeout_ms; /* TCP_USER_TIMEOUT */
    uint32_t mark;            /* SO_MARK */
    struct addr source;       /* bind before connect; none: kernel's choice */
};
int sock_set_opts(int fd, const struct sock_opts *o) MUST_USE; /* not `source`; also TCP_NODELAY */

/* The same for a listening socket: Linux gives what it accepts the options of the listener, so that
 * they cost no call for each connection. What it accepts is for io_tcp_accepted(). Connections that
 * waited in its backlog before have the options of then. */
int sock_set_accept_opts(int fd, const struct sock_opts *o) MUST_USE;

/* The address the client dialed before a redirect (SO_ORIGINAL_DST, both families); the local address
 * when the connection was not redirected. `family`: the peer's; AF_UNSPEC: not known. */
int sock_original_dst(int fd, int family, struct addr *out) MUST_USE;
int sock_local(int fd, struct addr *out) MUST_USE;
int sock_peer(int fd, struct addr *out) MUST_USE;

/* Bind and listen; SO_REUSEADDR, with `reuse_port` also SO_REUSEPORT, IPv6 sockets are V6ONLY unless
 * the address is [::]. Port 0 lets the kernel choose; sock_local() tells. Close-on-exec, non-blocking. */
int sock_listen(const struct addr *at, bool reuse_port, int backlog, int *out_fd) MUST_USE;
/* The same of a Unix socket, SOCK_STREAM or SOCK_SEQPACKET. Replaces a socket file that nobody listens on. */
int sock_listen_unix(const char *at, int type, int backlog, int *out_fd) MUST_USE;
/* A path, or "@name" for an abstract name of the network namespace. -ENAMETOOLONG: there is no such one. */
int sock_unix_name(const char *at, struct sockaddr_un *out, socklen_t *out_len) MUST_USE;

/*
 * A listener on a loop. Accepts at most 8 connections a turn; one, while it is behind and the turn busy. When
 * the process runs out of descriptors it pauses for 100 ms and logs, instead of spinning.
 */
struct listener {
    struct watch watch;
    struct task task;
    struct timer pause, finish;
    struct loop *loop;
    void (*on_accept)(struct listener *ln, int fd, const struct addr *peer); /* owns fd */
    void *user;
    bool stopped;
    struct accept_queue queue;
    unsigned taken; /* in this turn */
    uint64_t finish_until_ns;
    void (*on_finished)(struct listener *ln);
};
/* Takes fd, also when it fails. `on_accept` may close the listener, not free it before the turn ends. */
int listener_open(struct listener *ln, struct loop *l, int fd,
                  void (*on_accept)(struct listener *ln, int fd, const struct addr *peer),
                  void *user) MUST_USE;
/* The socket's backlog as listen(2) has it. From then on it is kept shorter while the listener is behind. */
void listener_bound(struct listener *ln, int backlog);
void listener_pause(struct listener *ln);  /* keeps the socket, the kernel's backlog fills */
void listener_resume(struct listener *ln);
/* Idempotent. The kernel resets who waits in the backlog, unless another process has the socket, too. */
void listener_close(struct listener *ln);
/*
 * The close of a socket that nobody else has, without a reset. Who has connected is accepted, or is by a
 * handshake that is under way, for a fifth of a second; new ones get no answer meanwhile, and a refusal when
 * they ask again. Then, or when the queue is empty, 5 s at the most, it is closed and `on_finished` called,
 * from a timer; it may free the listener. Not of one that has failed to open, or is finishing.
 */
void listener_finish(struct listener *ln, void (*on_finished)(struct listener *ln));
/*
 * Do connections come faster than they are accepted, and have done so for half a second or more? Who
 * waits in the queue then may have given up: sock_is_deserted(). Ends when for a second the queue
 * was emptied in each turn.
 */
bool listener_is_behind(const struct listener *ln);
/* From `on_accept`: the connection is refused, so another one may be accepted for it in this turn. */
void listener_refused(struct listener *ln);
/* Nobody sends on this connection any more: it is closed, broken, or its sending half is closed. */
bool sock_is_deserted(int fd);

/* Start a non-blocking connect (`o` may be NULL). The io's handshake completes it; deadlines are the
 * owner's. */
int sock_dial(struct loop *l, const struct addr *to, const struct sock_opts *o, struct task *owner,
              struct io **out_io) MUST_USE;

#endif
