/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_MAP_H
#define CORE_MAP_H

/*
 * Hash table from byte strings to pointers. Open addressing, keyed hash (a peer cannot aim at it).
 *
 * Ownership: keys are copied in; values belong to the caller.
 * Iteration order is unspecified; removing the item just visited is allowed, inserting is not.
 */
#include "core/bytes.h"

struct map_slot;
struct map {
    struct map_slot *slots;
    size_t count, capacity, tombs;
};

void map_init(struct map *m);
void map_clear(struct map *m);                             /* forgets all; values untouched */
void *map_get(const struct map *m, struct bytes key);      /* NULL when absent */
void *map_put(struct map *m, struct bytes key, void *value); /* value not NULL; returns the old one */
void *map_remove(struct map *m, struct bytes key);         /* returns the value, NULL when absent */
static inline size_t map_count(const struct map *m)
{
    return m->count;
}

struct map_iter {
    const struct map *map;
    size_t index;
    struct bytes key; /* valid until the item is removed */
    void *value;
};
#define MAP_ITER(m) {.map = (m)}
bool map_next(struct map_iter *it); /* true while `key` and `value` are set */

#endif
