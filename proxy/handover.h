/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_HANDOVER_H
#define PROXY_HANDOVER_H

/*
 * Listeners that go from one proxy process to the next (decision D15, docs/internals/handover.md).
 *
 * A proxy whose environment has TULLE_PROXY_HANDOVER listens on that Unix socket, and before that
 * asks whoever listens there for its sockets: "@name" is an abstract name of the network namespace,
 * anything else a path. Both ends check that the other one has their own user id (SO_PEERCRED).
 *
 *   new process                      running process
 *   HELLO                     ->
 *                             <-     SOCKETS, with the descriptors, in as many messages as it takes
 *   READY (has a certificate) ->     stops accepting; connections wait in the sockets' backlogs
 *                             <-     GO
 *   accepts; SERVING          ->     closes its copies and drains
 *
 * REFUSE ends it before, ABORT after the sockets went over; both carry a sentence, and the process
 * that receives one ends. Until SERVING the running process goes on if the new one fails, dies or
 * takes too long; if the running one dies, the new one goes on alone. The sockets are shared, not
 * made anew, so a connection that waits in a backlog is accepted by either of them.
 *
 * Messages are packets (SOCK_SEQPACKET): magic, version and type (16 bytes), then text. REFUSE
 * keeps its form in all versions; a version that is not known is refused.
 *
 * Threads: those of the control thread; handover_take() blocks, before there are others.
 */
#include "api/names.h"
#include "core/bytes.h"
#include "net/addr.h"

#define HANDOVER_VERSION   1
#define HANDOVER_TEXT_MAX  400
#define HANDOVER_FDS_MAX   4096 /* sockets of one proxy */
#define HANDOVER_BATCH_MAX 60   /* of one message; the kernel's limit is 253 */

struct proxy;

/* --- handover_wire.c -------------------------------------------------------------------------- */

enum handover_type {
    HANDOVER_REFUSE = 0,
    HANDOVER_HELLO,
    HANDOVER_SOCKETS,
    HANDOVER_READY,
    HANDOVER_GO,
    HANDOVER_SERVING,
    HANDOVER_ABORT,
};

struct handover_message {
    unsigned version;
    enum handover_type type;
    unsigned total; /* SOCKETS: of all messages */
    char text[HANDOVER_TEXT_MAX + 1];
    int fds[HANDOVER_BATCH_MAX]; /* SOCKETS: the receiver's */
    size_t fds_count;
};

/* 0; E_SYNTAX; or E_UNSUPPORTED: another version, and only version, type and text are set. */
int handover_parse(struct bytes raw, struct handover_message *out) MUST_USE;
/* One packet. E_EOF: the other end is gone. After a failure no descriptor is left in `out`. */
int handover_recv(int fd, struct handover_message *out) MUST_USE;
int handover_send(int fd, enum handover_type type, const char *text) MUST_USE;
int handover_send_sockets(int fd, const int *fds, size_t count) MUST_USE;
/* A socket that listens at `at`, or is connected to it; close-on-exec. */
int handover_listen(const char *at, int *out_fd) MUST_USE;
int handover_connect(const char *at, int *out_fd) MUST_USE;
bool handover_is_peer_allowed(int fd); /* has it our user id? */
bool handover_is_at(int fd, const char *at); /* is this the socket that listens there? */

/* What the process before this one gave. Zeroed is nothing; link_fd is meaningful with is_heir. */
struct handover_taken {
    int *fds; /* -1: claimed */
    size_t count;
    int link_fd;
    bool is_heir;
};
/* Nobody there: 0, and not an heir. Else all sockets, or an error and a sentence: then the running
 * process goes on, and this one is to end. */
int handover_take(const char *at, struct handover_taken *out, char *problem,
                  size_t problem_bytes) MUST_USE;
/* A socket that listens at this address, the caller's from now on; -1: none is left. */
int handover_claim(struct handover_taken *t, const struct addr *at);
void handover_taken_clear(struct handover_taken *t); /* closes what nobody claimed */

/* --- handover.c ------------------------------------------------------------------------------- */

struct handover;
/* Takes what is left in `t`. NULL `at`: neither heir nor ancestor, *out is NULL, which is fine for
 * all calls below. */
int handover_open(struct proxy *p, const char *at, struct handover_taken *t, struct handover **out,
                  char *problem, size_t problem_bytes) MUST_USE;
void handover_close(struct handover *h);
/* Has another process still to let go of the sockets? Then nothing is accepted before
 * WORKER_LISTEN is ordered from here. */
bool handover_is_pending(const struct handover *h);
void handover_ready(struct handover *h);  /* there is a certificate; idempotent */
void handover_obeyed(struct handover *h); /* all workers did what was ordered last */
/* The proxy ends: no successor can take from it. True: another process has the sockets already, and who
 * waits in their backlogs is for that one to accept. */
bool handover_drained(struct handover *h);

#endif
