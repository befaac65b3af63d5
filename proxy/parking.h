/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_PARKING_H
#define PROXY_PARKING_H

/*
 * Objects that nobody uses just now, kept for who may ask for them again: making one costs calls of
 * the heap, and requests that take turns, by route or by name, would make and free one each.
 *
 * Limits: `max` objects; the one parked longest gives way. Rounds are the owner's: each frees what
 * was parked before the last one, so that an object stays for one whole round at least.
 * Ownership: a parked object is the parking's, which ends it with the object's own `free`. That parks
 * nothing.
 * Threads: one worker's.
 */
#include "core/list.h"

#include <stdbool.h>
#include <stddef.h>

struct parked { /* embedded; zeroed, with `free`, before it is first parked */
    struct list node;
    unsigned round;
    void (*free)(struct parked *p);
};
struct parking {
    struct list all; /* parked longest first */
    size_t count, max;
    unsigned round;
};

void parking_init(struct parking *g, size_t max);
void parking_put(struct parking *g, struct parked *p);  /* it has no user left */
void parking_take(struct parking *g, struct parked *p); /* it has one again; not parked is fine */
bool parking_drop(struct parking *g);  /* free the one parked longest; false: there is none */
bool parking_round(struct parking *g); /* true: some are left */
void parking_clear(struct parking *g);

#endif
