/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/replay.h"

#include "core/err.h"

#define SHED_SHARE 16 /* the last 16th of the chunks is for what is in progress */

static size_t short_at(const struct chunk_pool *p)
{
    return p->whole_max - p->whole_max / SHED_SHARE;
}

bool chunks_are_short(const struct chunk_pool *p)
{
    return p->used_count >= short_at(p);
}

void replay_begin(struct replay *r, size_t bytes_max)
{
    *r = (struct replay){.bytes_max = bytes_max};
    chain_init(&r->kept);
}

static int copy_chain(struct chain *to, const struct chain *from, struct chunk_pool *pool)
{
    LIST_FOREACH(node, &from->chunks)
    {
        const struct chunk *c = LIST_ITEM(node, struct chunk, node);

        if (chunks_are_short(pool)) {
            return E_LIMIT;
        }
        TRY(chain_append(to, pool, bytes_of(c->data + c->start, c->end - c->start)));
    }
    return 0;
}

void replay_note(struct replay *r, const struct chain *bytes, struct chunk_pool *pool)
{
    if (r->is_lost) {
        return;
    }
    if (chain_size(bytes) > r->bytes_max - chain_size(&r->kept) ||
        copy_chain(&r->kept, bytes, pool) != 0) {
        replay_lose(r);
    }
}

bool replay_can_take(const struct replay *r, const struct chunk_pool *pool, bool last)
{
    size_t want = (chain_size(&r->kept) + CHUNK_BYTES - 1) / CHUNK_BYTES;
    size_t limit = MIN(short_at(pool), pool->used_max);

    if (r->is_lost) {
        return false;
    }
    return last || want == 0 || (pool->used_count < limit && want <= limit - pool->used_count);
}

void replay_take(struct replay *r, struct chunk_pool *pool, bool last, struct chain *out_body)
{
    int rc;

    assert(replay_can_take(r, pool, last));
    chain_clear(out_body);
    if (last) {
        chain_move_all(out_body, &r->kept);
        r->is_lost = true;
        return;
    }
    rc = copy_chain(out_body, &r->kept, pool);
    assert(rc == 0);
}

void replay_lose(struct replay *r)
{
    chain_clear(&r->kept);
    r->is_lost = true;
}

void replay_clear(struct replay *r)
{
    chain_clear(&r->kept);
}
