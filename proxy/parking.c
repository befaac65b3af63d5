/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/parking.h"

#include "core/macros.h"

#include <assert.h>

void parking_init(struct parking *g, size_t max)
{
    *g = (struct parking){.max = max};
    list_init(&g->all);
}

void parking_put(struct parking *g, struct parked *p)
{
    assert(!list_is_linked(&p->node) && p->free != NULL);
    if (g->count == g->max) {
        (void)parking_drop(g);
    }
    p->round = g->round;
    list_append(&g->all, &p->node);
    g->count++;
}

void parking_take(struct parking *g, struct parked *p)
{
    if (list_is_linked(&p->node)) {
        list_unlink(&p->node);
        g->count--;
    }
}

bool parking_drop(struct parking *g)
{
    struct list *node = list_pop(&g->all);
    struct parked *p;

    if (node == NULL) {
        return false;
    }
    g->count--;
    p = LIST_ITEM(node, struct parked, node);
    p->free(p);
    return true;
}

bool parking_round(struct parking *g)
{
    while (g->count > 0 && LIST_ITEM(g->all.next, struct parked, node)->round != g->round) {
        (void)parking_drop(g);
    }
    g->round++;
    return g->count > 0;
}

void parking_clear(struct parking *g)
{
    while (parking_drop(g)) {
    }
}
