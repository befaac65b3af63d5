/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/replay.h"

#include "core/err.h"

#define SHED_SHARE 16 /* the last 16th of the chunks is for what is in progress */

bool chunks_are_short(const struct chunk_pool *p)
{
    return p->used_count >= p->whole_max - p->whole_max / SHED_SHARE;
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

int replay_take(struct replay *r, struct chunk_pool *pool, bool last, struct chain *out_body)
{
    struct chain copy;

    assert(!r->is_lost);
    chain_init(&copy);
    if (last) {
        chain_move_all(&copy, &r->kept);
        r->is_lost = true;
    } else if (copy_chain(&copy, &r->kept, pool) != 0) {
        chain_clear(&copy);
        return E_LIMIT;
    }
    chain_clear(out_body);
    chain_move_all(out_body, &copy);
    return 0;
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
