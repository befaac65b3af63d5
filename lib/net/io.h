/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_IO_H
#define NET_IO_H

/*
 * A connection as a stack of byte layers: tcp at the bottom, tls, peeked (replays detected bytes).
 *
 * All calls return at once. The owner of the top layer is a task; it is woken whenever a call that
 * returned E_AGAIN may make progress, and then:
 *
 *     io_handshake() until 0; io_recv() until E_AGAIN, its budget, or an end; io_send() until the
 *     chain is empty or E_AGAIN.
 *
 * There is no separate "want read" call: descriptors are edge-triggered (loop.h), each layer keeps
 * `readable` true until a read would block, and a layer that needs the other direction (a TLS read
 * that must write) does so itself when the descriptor's event comes.
 *
 * Results: 0 progress; E_AGAIN none until the next event; E_EOF the peer finished sending; any other
 * code is final.
 *
 * E_EOF is a FIN for TCP. For TLS it is a close_notify, or a bare FIN between two records: many
 * peers close so, and rustls, under Linkerd's proxy, tolerates it at the end of a message. A body cut
 * short by it is noticed by the codec, which knows the length. A FIN inside a record is E_TLS.
 *
 * A layer may keep bytes that it took: io_send() of TLS returns 0 while at most 264 KiB of ciphertext
 * wait for the socket, and writes them by itself at the next event. io_shut() returns 0 once all
 * bytes and the end are with the kernel, and E_AGAIN while some wait; it need not be called again,
 * the layer goes on by itself and wakes the owner when that has changed. io_close() after
 * io_shut() loses nothing either: what waits is written in the background, for as long as the peer takes 4
 * KiB in 5 s, and a minute at most.
 *
 * Ownership: a layer owns the one below; io_close() closes all and frees the memory at the end of
 * the turn. Bytes belong to chains: sending drops from the chain what was taken.
 * Threads: the loop it was made on.
 */
#include "core/chain.h"
#include "core/loop.h"
#include "net/addr.h"

struct io;
struct io_ops {
    const char *name;
    int (*handshake)(struct io *io);
    int (*recv)(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes);
    int (*send)(struct io *io, struct chain *from);
    int (*shut)(struct io *io);  /* no more bytes from us: FIN, close_notify + FIN */
    void (*close)(struct io *io);
    int (*fd)(const struct io *io);
    void (*set_owner)(struct io *io, struct task *owner);
    bool has_end; /* its end is a message of its own, which only io_shut() sends */
    bool is_transparent; /* its bytes are those of the layer below, and it keeps none */
};

struct io {
    const struct io_ops *ops;
    struct io *below;    /* owned; NULL at the bottom */
    struct loop *loop;
    struct task *owner;  /* woken on events; may be changed with io_set_owner() */
    bool readable;       /* after a recv: another may give bytes now, ask again before sleeping */
    bool aborting;       /* internal: being closed by io_abort() */
    bool is_last;        /* internal: of io_last() */
    uint64_t bytes_in, bytes_out; /* of this layer */
};

static inline int io_handshake(struct io *io)
{
    return io->ops->handshake(io);
}
/* Append up to bytes_max (> 0) to `to`. 0 means *out_bytes > 0. E_LIMIT: no chunk could be had;
 * the owner waits a moment (timer) and tries again. */
static inline int io_recv(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes)
{
    return io->ops->recv(io, to, bytes_max, out_bytes);
}
/* Send from the head of `from`. 0: all went; E_AGAIN: the rest is still in `from`. */
static inline int io_send(struct io *io, struct chain *from)
{
    return io->ops->send(io, from);
}
static inline int io_shut(struct io *io)
{
    return io->ops->shut(io);
}
/* What is sent from now on is the last, and io_shut() or io_close() follows in the turn in which all
 * of it was taken: so that the end leaves together with the bytes before it. */
void io_last(struct io *io);
static inline int io_fd(const struct io *io) /* the socket at the bottom */
{
    return io->ops->fd(io);
}
/* Of every layer down to the descriptor; NULL: nobody. */
void io_set_owner(struct io *io, struct task *owner);
/* Is io_close() as good as io_shut() just now? Not where the end is a message of its own (TLS), and not
 * where bytes may have come that were not read: then it would be a reset, which may destroy at the
 * peer what was sent before (RFC 9112 9.6). */
bool io_closes_clean(const struct io *io);
/* The peer reset it, or an error ended it, and no read has told so yet: for those who do not read. */
bool io_is_reset(const struct io *io);
/* For them, too: the peer finished, and so many bytes from before are unread. E_AGAIN: it did not, or
 * nobody can tell, as below TLS. */
int io_unread(const struct io *io, size_t *out_bytes) MUST_USE;
/* Bytes of ours that the kernel keeps because the peer has not taken them yet. */
size_t io_untaken(const struct io *io);
/* Before io_close(), where nobody waits for the peer: drop what has come, at most 1 MiB. Unread it would make
 * the end a reset, which may destroy what was sent before (RFC 9112 9.6). One call, which empties the
 * kernel's buffer as the close would, and neither copies nor decrypts: thousands of connections may be closed
 * so in one turn. What comes after it is still answered with a reset. */
void io_drop_unread(struct io *io);
void io_close(struct io *io);  /* NULL is fine; unwritten bytes are lost unless shut was done */
/* Drop what closed connections of this loop still have to write; before loop_close(). */
void io_close_lingering(struct loop *l);
void io_abort(struct io *io);  /* as io_close, but the peer sees a reset (SO_LINGER 0) */

/* tcp.c: take a connected or connecting non-blocking socket. Handshake completes the connect. */
struct io *io_tcp_new(struct loop *l, int fd, struct task *owner); /* closes fd and returns NULL on failure */
/* The same of one that was accepted from a listener under sock_set_accept_opts(): nothing about it
 * need be asked. */
struct io *io_tcp_accepted(struct loop *l, int fd, struct task *owner);

/* peeked.c: a layer that first yields `bytes` (moved), then what comes from below. */
struct io *io_peeked_new(struct io *below, struct chain *bytes);

#endif
