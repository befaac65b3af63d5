/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_IO_PRIVATE_H
#define NET_IO_PRIVATE_H

/*
 * What the layers of this folder know of each other, and nobody else.
 */
#include "net/io.h"

/* As CONTAINER_OF, for readers. */
#define CONTAINER_OF_CONST(ptr, type, member)                                                      \
    ((const type *)(const void *)((const char *)(ptr)-offsetof(type, member)))

struct io_tcp {
    struct io io;
    struct watch watch;
    struct grave grave;
    int err, err_out; /* final result of reading and of sending, 0 while it is well */
    bool connecting;
    bool eof;     /* a FIN was read */
    bool shut;    /* a FIN was sent */
    bool has_inq; /* the kernel tells with each read what is left */
    unsigned char
        chunks_wanted; /* how many chunks the next read offers, from what the last one left */
};

extern const struct io_ops io_tcp_ops, io_peeked_ops;

/* As io_tcp_new(), by who knows whether it is still connecting, and whether the kernel tells with a
 * read what is left: because io_tcp_ask_inq() asked it to. */
struct io *io_tcp_make(struct loop *l, int fd, struct task *owner, bool connecting, bool has_inq);
bool io_tcp_ask_inq(int fd);

/* The TCP layer when nothing but emptied peeked layers lies above it; NULL otherwise. */
struct io_tcp *io_bare_tcp(struct io *io);

/* May a call in this direction (WATCH_IN or WATCH_OUT) make progress? */
static inline bool io_tcp_may(const struct io_tcp *t, unsigned ready)
{
    return (t->watch.ready & (ready | WATCH_HUP)) != 0;
}

/* --- writing into the end of a chain in place
 * ----------------------------------------------------- */

static inline struct chunk *chain_last(const struct chain *c)
{
    return list_is_empty(&c->chunks) ? NULL : LIST_ITEM(c->chunks.prev, struct chunk, node);
}

static inline size_t chunk_room(const struct chunk *c)
{
    return c != NULL ? CHUNK_BYTES - c->end : 0;
}

/* `bytes` were written behind the end of `last`, the last chunk of `c`. */
static inline void chain_grew(struct chain *c, struct chunk *last, size_t bytes)
{
    assert(bytes <= chunk_room(last));
    last->end += (unsigned)bytes;
    c->bytes += bytes;
}

#endif
