/* SPDX-License-Identifier: Apache-2.0 */
#include "core/map.h"

#include "core/alloc.h"

/*
 * Linear probing over a power of two of slots, at most three quarters of them taken. A removed item
 * leaves a tomb, so that later items of its run are still found; tombs go when the table is rebuilt.
 */
#define MAP_SLOTS_MIN 8

struct map_slot {
    uint64_t hash;
    void *value; /* NULL: free, or a tomb when key_len is MAP_TOMB */
    char *key;
    size_t key_len;
};

#define MAP_TOMB SIZE_MAX

void map_init(struct map *m)
{
    *m = (struct map){0};
}

void map_clear(struct map *m)
{
    for (size_t i = 0; i < m->capacity; i++) {
        mem_free(m->slots[i].key);
    }
    mem_free(m->slots);
    *m = (struct map){0};
}

static bool slot_is_free(const struct map_slot *slot)
{
    return slot->value == NULL && slot->key_len != MAP_TOMB;
}

/* The slot of `key`; NULL when absent. There is always a free slot to end the search. */
static struct map_slot *map_find(const struct map *m, struct bytes key, uint64_t hash)
{
    struct map_slot *slot;

    if (m->count == 0) {
        return NULL;
    }
    for (size_t i = hash & (m->capacity - 1);; i = (i + 1) & (m->capacity - 1)) {
        slot = &m->slots[i];
        if (slot_is_free(slot)) {
            return NULL;
        }
        if (slot->value != NULL && slot->hash == hash &&
            bytes_eq(bytes_of(slot->key, slot->key_len), key)) {
            return slot;
        }
    }
}

/* The first slot of the run of `hash` that can take an item. */
static struct map_slot *map_place(const struct map *m, uint64_t hash)
{
    size_t i = hash & (m->capacity - 1);

    while (m->slots[i].value != NULL) {
        i = (i + 1) & (m->capacity - 1);
    }
    return &m->slots[i];
}

/* Rebuild with room for one item more: larger, without tombs, or smaller again. */
static void map_rebuild(struct map *m)
{
    struct map old = *m;

    m->capacity = MAP_SLOTS_MIN;
    while (m->capacity / 2 <= old.count) {
        m->capacity *= 2;
    }
    m->slots = mem_new_array(m->capacity, sizeof(*m->slots));
    m->tombs = 0;
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.slots[i].value != NULL) {
            *map_place(m, old.slots[i].hash) = old.slots[i];
        }
    }
    mem_free(old.slots);
}

void *map_get(const struct map *m, struct bytes key)
{
    const struct map_slot *slot = m->count > 0 ? map_find(m, key, bytes_hash(key)) : NULL;

    return slot != NULL ? slot->value : NULL;
}

void *map_put(struct map *m, struct bytes key, void *value)
{
    uint64_t hash = bytes_hash(key);
    struct map_slot *slot = map_find(m, key, hash);
    void *old;

    assert(value != NULL && key.len < MAP_TOMB);
    if (slot != NULL) {
        old = slot->value;
        slot->value = value;
        return old;
    }
    if (m->count + m->tombs >= m->capacity / 4 * 3) {
        map_rebuild(m);
    }
    slot = map_place(m, hash);
    if (!slot_is_free(slot)) {
        m->tombs--;
    }
    *slot = (struct map_slot){.hash = hash, .value = value, .key_len = key.len};
    slot->key = bytes_dup(key);
    m->count++;
    return NULL;
}

void *map_remove(struct map *m, struct bytes key)
{
    struct map_slot *slot = m->count > 0 ? map_find(m, key, bytes_hash(key)) : NULL;
    void *value;

    if (slot == NULL) {
        return NULL;
    }
    value = slot->value;
    mem_free(slot->key);
    *slot = (struct map_slot){.key_len = MAP_TOMB};
    m->count--;
    m->tombs++;
    return value;
}

bool map_next(struct map_iter *it)
{
    while (it->index < it->map->capacity) {
        const struct map_slot *slot = &it->map->slots[it->index++];

        if (slot->value != NULL) {
            it->key = bytes_of(slot->key, slot->key_len);
            it->value = slot->value;
            return true;
        }
    }
    return false;
}
