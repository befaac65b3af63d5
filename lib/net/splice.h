/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_SPLICE_H
#define NET_SPLICE_H

/*
 * An opaque tunnel between two connections, each direction on its own: back-pressure (a direction
 * reads only what the other side takes), half-close (a FIN is passed on when all bytes before it
 * went), and counting. Two bare TCP sockets are joined with splice(2) and one 256 KiB pipe a
 * direction, obtained when bytes flow and returned when idle; anything with TLS is copied through
 * chunks, at most 256 KiB waiting a direction. A few bytes are cheaper to copy than to splice, so a
 * side is spliced only while it sends in bulk. Both handshakes must be done.
 *
 * Ownership: takes both ios (top layers). Ends by calling on_end once, with all closed; the
 * owner frees the struct then (it may be embedded).
 */
#include "net/io.h"

struct tunnel;
struct tunnel_side {
    struct io *io;
    struct chain pending;        /* read from this side, to be written to the other */
    int pipe[2];                 /* the same for spliced bytes; -1 while there are none */
    size_t pipe_bytes;
    uint64_t bytes_read;         /* from this side */
    uint64_t bytes_written;      /* to this side */
    bool eof, shut;              /* this side ended; our end to this side went out */
    bool bulk;                   /* so much comes that splicing pays */
    int err;                     /* first error seen on this side, 0 for none */
};

struct tunnel {
    struct loop *loop;
    struct task task;
    struct timer idle;
    uint64_t idle_ns;            /* 0: none. Both directions silent this long ends it with E_TIMEOUT */
    uint64_t active_ns;          /* when a byte last moved */
    bool is_open;
    struct tunnel_side a, b;
    void (*on_end)(struct tunnel *t, int err); /* 0: both finished in order */
    void *user;
};

/* `a_first`, `b_first`: bytes already read from a side, to be passed on (moved; may be NULL). */
void tunnel_open(struct tunnel *t, struct loop *l, struct io *a, struct chain *a_first, struct io *b,
                 struct chain *b_first, uint64_t idle_ns,
                 void (*on_end)(struct tunnel *t, int err), void *user);
/* Resets both when err != 0; on_end is not called; idempotent. */
void tunnel_close(struct tunnel *t, int err);
void tunnel_cache_clear(void); /* close this thread's unused pipes; before the thread ends */

#endif
