/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_CHAIN_H
#define CORE_CHAIN_H

/*
 * A queue of bytes, made of chunks from one loop's pool; the form in which bodies travel.
 *
 * Limits: a pool has a byte limit; chunk_new() returns NULL beyond it (shed, never abort).
 * Ownership: a chain owns its chunks. chain_move() transfers them, it never copies whole chunks; a
 * cleared chain holds no memory. Free chunks beyond a small reserve return to the system.
 * Threads: a pool and its chains belong to one loop.
 */
#include "core/bytes.h"
#include "core/list.h"

#include <sys/uio.h>

#define CHUNK_BYTES   16384 /* payload of one chunk: a full TLS record fits */
/*
 * Left free before bytes that are read from a socket. A frame's head finds room in it, and what is left of
 * four chunks, each with a frame's head and in a TLS record, fits the largest segment that the kernel makes
 * of whole packets of 1500 bytes or a little less (45 x 1448, 46 x 1398): with a byte more a short segment
 * would follow.
 */
#define CHUNK_HEADROOM 352
#define CHUNK_RESERVE 2     /* unused chunks that a trim leaves, so that the next bytes need no heap */

struct loop;
struct task;

struct chunk_pool {
    struct list free;
    size_t free_count, free_max; /* chunks kept for reuse; trimmed to a fraction when idle */
    size_t free_low;             /* least free_count since the last chunk_pool_trim_unused() */
    size_t used_count, used_max; /* chunks handed out, and the limit */
    size_t whole_max;            /* the limit that it began with */
    size_t alarm_at;             /* when so many are handed out, `alarm` is woken; 0: never */
    struct task *alarm;
    struct loop *loop; /* of `alarm` */
};

struct chunk {
    struct list node;
    struct chunk_pool *pool;
    unsigned start, end; /* valid payload is data[start..end) */
    char data[CHUNK_BYTES];
};

struct chain {
    struct list chunks; /* oldest first */
    size_t bytes;       /* sum of all payloads */
};

void chunk_pool_init(struct chunk_pool *p, size_t used_max, size_t free_max);
/* `task` runs when all but an eighth of the chunks are in use, each time that this comes to be; after
 * a change of the limit with the next chunk, if it is so already. */
void chunk_pool_alarm(struct chunk_pool *p, struct loop *l, struct task *task);
void chunk_pool_limit(struct chunk_pool *p, size_t used_max); /* another limit from now on */
void chunk_pool_trim(struct chunk_pool *p);  /* free half of the unused chunks, for example under pressure */
void chunk_pool_release(struct chunk_pool *p); /* all unused chunks, to the heap alone */
/* As trim, but only of chunks that nobody needed since the last call. True if more could go later.
 * The loop calls it every second. */
bool chunk_pool_trim_unused(struct chunk_pool *p);
/* May a connection that is busy take more than it needs? At most an eighth of the chunks is in use. */
static inline bool chunk_pool_is_ample(const struct chunk_pool *p)
{
    return p->used_count <= p->used_max / 8;
}
void chunk_pool_clear(struct chunk_pool *p); /* all chunks must be back: asserted */
struct chunk *chunk_new(struct chunk_pool *p) MUST_USE; /* NULL at the limit */
void chunk_free(struct chunk *c);

void chain_init(struct chain *c);
void chain_clear(struct chain *c); /* idempotent */
static inline size_t chain_size(const struct chain *c)
{
    return c->bytes;
}
size_t chain_memory(const struct chain *c); /* bytes that its chunks take, full or not */
/* Append a copy: all of `src`, or nothing and E_LIMIT. Fills the last chunk first. */
int chain_append(struct chain *c, struct chunk_pool *pool, struct bytes src) MUST_USE;
void chain_push(struct chain *c, struct chunk *chunk);    /* takes the chunk; it must not be empty */
void chain_push_front(struct chain *c, struct chunk *chunk);
struct chunk *chain_pop(struct chain *c);                 /* caller owns it; NULL when empty */
/* bytes <= size(from). Splits by copying at most half a chunk, for which the pool may exceed its limit
 * by one. */
void chain_move(struct chain *to, struct chain *from, size_t bytes);
void chain_move_all(struct chain *to, struct chain *from);
void chain_drop(struct chain *c, size_t bytes);           /* bytes <= size */
/* How many of the first `bytes_max` bytes lie in whole chunks; 0 when the first chunk has more. Such a count
 * is moved without copying. */
size_t chain_whole(const struct chain *c, size_t bytes_max);
/* Pops the oldest chunk when it has exactly `bytes` and room for `headroom` before them; else NULL. */
struct chunk *chain_pop_whole(struct chain *c, size_t bytes, size_t headroom);
size_t chain_peek(const struct chain *c, void *to, size_t bytes); /* copies up to `bytes`, returns count */
struct bytes chain_head(const struct chain *c);           /* contiguous start; empty when empty */
int chain_iov(const struct chain *c, struct iovec *out_iov, int iov_max); /* entries filled */

#endif
