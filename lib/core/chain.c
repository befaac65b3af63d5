/* SPDX-License-Identifier: Apache-2.0 */
#include "core/chain.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/poison.h"

/* Returning pages to the system walks the heap: not worth it for less than this many chunks. */
#define CHUNK_RELEASE_MIN 4

static struct chunk *chunk_of(struct list *node)
{
    return LIST_ITEM(node, struct chunk, node);
}

static size_t chunk_size(const struct chunk *c)
{
    return c->end - c->start;
}

static struct chunk *chain_oldest(const struct chain *c)
{
    return list_is_empty(&c->chunks) ? NULL : chunk_of(c->chunks.next);
}

static struct chunk *chain_newest(const struct chain *c)
{
    return list_is_empty(&c->chunks) ? NULL : chunk_of(c->chunks.prev);
}

/* --- pool -------------------------------------------------------------------------------------- */

void chunk_pool_init(struct chunk_pool *p, size_t used_max, size_t free_max)
{
    *p = (struct chunk_pool){
        .used_max = used_max, .whole_max = used_max, .free_max = free_max};
    list_init(&p->free);
}

void chunk_pool_limit(struct chunk_pool *p, size_t used_max)
{
    p->used_max = used_max;
    p->alarm_at = p->alarm == NULL ? 0 : MAX(used_max - used_max / 8, p->used_count + 1);
}

void chunk_pool_alarm(struct chunk_pool *p, struct loop *l, struct task *task)
{
    p->loop = l;
    p->alarm = task;
    chunk_pool_limit(p, p->used_max);
}

static void chunk_pool_drop(struct chunk_pool *p, size_t count)
{
    while (count-- > 0) {
        struct chunk *c = chunk_of(list_pop(&p->free));

        MEM_UNPOISON(c->data, CHUNK_BYTES);
        mem_free(c);
        p->free_count--;
    }
    p->free_low = MIN(p->free_low, p->free_count);
}

/* Free half of what `unused` chunks exceed the reserve by. */
static void chunk_pool_shed(struct chunk_pool *p, size_t unused)
{
    size_t count = unused > CHUNK_RESERVE ? (unused - CHUNK_RESERVE + 1) / 2 : 0;

    chunk_pool_drop(p, count);
    if (count >= CHUNK_RELEASE_MIN) {
        mem_trim();
    }
}

void chunk_pool_trim(struct chunk_pool *p)
{
    chunk_pool_shed(p, p->free_count);
}

void chunk_pool_release(struct chunk_pool *p)
{
    chunk_pool_drop(p, p->free_count);
}

bool chunk_pool_trim_unused(struct chunk_pool *p)
{
    size_t unused = p->free_low;

    chunk_pool_shed(p, unused);
    p->free_low = p->free_count;
    return p->free_count > CHUNK_RESERVE;
}

void chunk_pool_clear(struct chunk_pool *p)
{
    assert(p->used_count == 0);
    chunk_pool_drop(p, p->free_count);
}

/* A chunk, even beyond the limit. */
static struct chunk *chunk_take(struct chunk_pool *p)
{
    struct chunk *c;

    if (list_is_empty(&p->free)) {
        c = mem_resize(NULL, 1, sizeof(*c));
        c->node = (struct list){0};
        c->pool = p;
    } else {
        c = chunk_of(list_pop(&p->free));
        p->free_count--;
        p->free_low = MIN(p->free_low, p->free_count);
        MEM_UNPOISON(c->data, CHUNK_BYTES);
    }
    c->start = c->end = 0;
    p->used_count++;
    if (p->used_count == p->alarm_at) {
        task_wake(p->loop, p->alarm);
    }
    return c;
}

struct chunk *chunk_new(struct chunk_pool *p)
{
    return p->used_count < p->used_max ? chunk_take(p) : NULL;
}

void chunk_free(struct chunk *c)
{
    struct chunk_pool *p = c->pool;

    assert(!list_is_linked(&c->node) && p->used_count > 0);
    p->used_count--;
    if (p->free_count >= p->free_max) {
        mem_free(c);
        return;
    }
    MEM_POISON(c->data, CHUNK_BYTES);
    list_prepend(&p->free, &c->node); /* the warmest is used first */
    p->free_count++;
}

/* --- chain ------------------------------------------------------------------------------------- */

void chain_init(struct chain *c)
{
    list_init(&c->chunks);
    c->bytes = 0;
}

void chain_clear(struct chain *c)
{
    struct list *node;

    while ((node = list_pop(&c->chunks)) != NULL) {
        chunk_free(chunk_of(node));
    }
    c->bytes = 0;
}

/* Bytes that the newest chunk can still take. */
static size_t chain_tail_room(const struct chain *c)
{
    const struct chunk *last = chain_newest(c);

    return last != NULL ? CHUNK_BYTES - last->end : 0;
}

/* Copy into the newest chunk, which has the room. */
static void chain_fill(struct chain *c, struct bytes src)
{
    struct chunk *last = chain_newest(c);

    assert(last != NULL && src.len <= CHUNK_BYTES - last->end);
    memcpy(last->data + last->end, src.at, src.len);
    last->end += (unsigned)src.len;
    c->bytes += src.len;
}

int chain_append(struct chain *c, struct chunk_pool *pool, struct bytes src)
{
    size_t room = chain_tail_room(c);
    size_t beyond = src.len > room ? src.len - room : 0;
    size_t want = beyond / CHUNK_BYTES + (beyond % CHUNK_BYTES != 0);

    if (want > 0 &&
        (pool->used_count >= pool->used_max || want > pool->used_max - pool->used_count)) {
        return E_LIMIT;
    }
    while (src.len > 0) {
        size_t part;

        if (room == 0) {
            list_append(&c->chunks, &chunk_take(pool)->node);
            room = CHUNK_BYTES;
        }
        part = MIN(room, src.len);
        chain_fill(c, bytes_first(src, part));
        src = bytes_from(src, part);
        room -= part;
    }
    return 0;
}

void chain_push(struct chain *c, struct chunk *chunk)
{
    assert(chunk_size(chunk) > 0);
    list_append(&c->chunks, &chunk->node);
    c->bytes += chunk_size(chunk);
}

void chain_push_front(struct chain *c, struct chunk *chunk)
{
    assert(chunk_size(chunk) > 0);
    list_prepend(&c->chunks, &chunk->node);
    c->bytes += chunk_size(chunk);
}

struct chunk *chain_pop(struct chain *c)
{
    struct chunk *chunk = chain_oldest(c);

    if (chunk != NULL) {
        list_unlink(&chunk->node);
        c->bytes -= chunk_size(chunk);
    }
    return chunk;
}

/*
 * Move the first `bytes` of `from`'s oldest chunk, which has more. The smaller part is copied: into
 * the room behind `to`, else into a fresh chunk, which may exceed the pool's limit by that one.
 */
static void chain_move_part(struct chain *to, struct chain *from, size_t bytes)
{
    struct chunk *whole = chain_oldest(from), *part;
    size_t rest = chunk_size(whole) - bytes;

    assert(bytes > 0 && rest > 0);
    if (bytes <= chain_tail_room(to)) {
        chain_fill(to, bytes_of(whole->data + whole->start, bytes));
        chain_drop(from, bytes);
        return;
    }
    part = chunk_take(whole->pool);
    if (bytes <= rest) {
        list_append(&to->chunks, &part->node);
        chain_fill(to, bytes_of(whole->data + whole->start, bytes));
        chain_drop(from, bytes);
        return;
    }
    memcpy(part->data, whole->data + whole->start + bytes, rest);
    part->end = (unsigned)rest;
    (void)chain_pop(from);
    whole->end -= (unsigned)rest;
    chain_push(to, whole);
    chain_push_front(from, part);
}

void chain_move(struct chain *to, struct chain *from, size_t bytes)
{
    assert(bytes <= from->bytes && to != from);
    while (bytes > 0) {
        struct chunk *chunk = chain_oldest(from);
        size_t size = chunk_size(chunk);

        if (size > bytes) {
            chain_move_part(to, from, bytes);
            return;
        }
        chain_push(to, chain_pop(from));
        bytes -= size;
    }
}

void chain_move_all(struct chain *to, struct chain *from)
{
    assert(to != from);
    list_move(&to->chunks, &from->chunks);
    to->bytes += from->bytes;
    from->bytes = 0;
}

void chain_drop(struct chain *c, size_t bytes)
{
    assert(bytes <= c->bytes);
    while (bytes > 0) {
        struct chunk *chunk = chain_oldest(c);
        size_t size = chunk_size(chunk);

        if (size > bytes) {
            chunk->start += (unsigned)bytes;
            c->bytes -= bytes;
            return;
        }
        chunk_free(chain_pop(c));
        bytes -= size;
    }
}

size_t chain_whole(const struct chain *c, size_t bytes_max)
{
    size_t sum = 0;

    LIST_FOREACH(node, &c->chunks)
    {
        size_t size = chunk_size(chunk_of(node));

        if (size > bytes_max - sum) {
            break;
        }
        sum += size;
    }
    return sum;
}

struct chunk *chain_pop_whole(struct chain *c, size_t bytes, size_t headroom)
{
    const struct chunk *oldest = chain_oldest(c);
    bool fits = oldest != NULL && chunk_size(oldest) == bytes && oldest->start >= headroom;

    return fits ? chain_pop(c) : NULL;
}

size_t chain_peek(const struct chain *c, void *to, size_t bytes)
{
    size_t done = 0;

    LIST_FOREACH(node, &c->chunks)
    {
        const struct chunk *chunk = chunk_of(node);
        size_t part = MIN(chunk_size(chunk), bytes - done);

        if (part == 0) {
            break;
        }
        memcpy((char *)to + done, chunk->data + chunk->start, part);
        done += part;
    }
    return done;
}

size_t chain_memory(const struct chain *c)
{
    size_t count = 0;

    LIST_FOREACH(node, &c->chunks)
    {
        count++;
    }
    return count * sizeof(struct chunk);
}

struct bytes chain_head(const struct chain *c)
{
    const struct chunk *chunk = chain_oldest(c);

    return chunk != NULL ? bytes_of(chunk->data + chunk->start, chunk_size(chunk)) : BYTES_NONE;
}

int chain_iov(const struct chain *c, struct iovec *out_iov, int iov_max)
{
    int count = 0;

    LIST_FOREACH(node, &c->chunks)
    {
        struct chunk *chunk = chunk_of(node);

        if (count == iov_max) {
            break;
        }
        out_iov[count++] = (struct iovec){chunk->data + chunk->start, chunk_size(chunk)};
    }
    return count;
}
