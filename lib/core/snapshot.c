/* SPDX-License-Identifier: Apache-2.0 */
#include "core/snapshot.h"

#include <limits.h>

void snapshot_init(struct snapshot *s, void (*free)(struct snapshot *s))
{
    atomic_init(&s->refs, 1);
    s->free = free;
}

void snapshot_ref(struct snapshot *s)
{
    /* Whoever makes a reference holds one already, so there is nothing to order. */
    unsigned before = atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);

    assert(before > 0 && before < UINT_MAX);
}

void snapshot_unref(struct snapshot *s)
{
    unsigned before;

    if (s == NULL) {
        return;
    }
    /* Everybody's reads come before the last one's free. */
    before = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1) {
        s->free(s);
    }
}
