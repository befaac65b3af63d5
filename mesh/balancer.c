/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/balancer.h"

#include "core/alloc.h"
#include "core/map.h"

/*
 * Members are found by address in a map; the ready ones stand in an array, so that a pick is two
 * random indices and a comparison, whatever the size of the set.
 */
#define NOT_READY SIZE_MAX

struct balancer {
    struct map members; /* by address */
    struct member **ready;
    size_t ready_count, ready_capacity;
    struct load_config load;
    const struct balancer_events *events;
    void *user;
    unsigned round; /* marks the members that the set at hand holds */
};

struct balancer *balancer_new(const struct load_config *load, const struct balancer_events *events,
                              void *user)
{
    struct balancer *b = mem_new(sizeof(*b));

    map_init(&b->members);
    b->load = *load;
    b->events = events;
    b->user = user;
    return b;
}

void balancer_configure(struct balancer *b, const struct load_config *load)
{
    b->load = *load;
}

const struct load_config *balancer_load(const struct balancer *b)
{
    return &b->load;
}

void balancer_free(struct balancer *b)
{
    assert(map_count(&b->members) == 0 && b->ready_count == 0);
    map_clear(&b->members);
    mem_free(b->ready);
    mem_free(b);
}

void member_set_ready(struct balancer *b, struct member *m, bool is_ready)
{
    if (m->is_ready == is_ready) {
        return;
    }
    m->is_ready = is_ready;
    if (is_ready) {
        if (b->ready_count == b->ready_capacity) {
            b->ready_capacity = MAX((size_t)8, b->ready_capacity * 2);
            b->ready = mem_resize(b->ready, b->ready_capacity, sizeof(*b->ready));
        }
        m->slot = b->ready_count;
        b->ready[b->ready_count++] = m;
    } else {
        b->ready[m->slot] = b->ready[--b->ready_count];
        b->ready[m->slot]->slot = m->slot;
        m->slot = NOT_READY;
    }
}

void member_free(struct member *m)
{
    if (m == NULL) {
        return;
    }
    assert(m->is_removed && !m->is_ready);
    endpoint_unref(m->endpoint);
    mem_free(m);
}

static void member_upsert(struct balancer *b, const struct endpoint *e, uint64_t now_ns,
                          struct balancer_delta *delta)
{
    struct addr key = e->addr;
    struct member *m = map_get(&b->members, addr_key(&key));

    if (m == NULL) {
        m = mem_new(sizeof(*m));
        m->endpoint = e;
        m->slot = NOT_READY;
        endpoint_ref(e);
        load_init(&m->load, &b->load, now_ns);
        m->round = b->round;
        (void)map_put(&b->members, addr_key(&key), m);
        delta->added++;
        b->events->on_add(b->user, m);
        return;
    }
    m->round = b->round;
    if (m->endpoint != e && !endpoint_same(m->endpoint, e)) {
        const struct endpoint *old = m->endpoint;

        m->endpoint = e;
        endpoint_ref(e);
        delta->changed++;
        b->events->on_change(b->user, m, old);
        endpoint_unref(old);
    }
}

static void member_leave(struct balancer *b, const struct endpoint *e, struct balancer_delta *delta)
{
    struct addr key = e->addr;
    struct member *m = map_get(&b->members, addr_key(&key));

    assert(m != NULL);
    if (m->round == b->round) {
        return; /* it is in the new set, too */
    }
    (void)map_remove(&b->members, addr_key(&key));
    member_set_ready(b, m, false);
    m->is_removed = true;
    delta->removed++;
    b->events->on_remove(b->user, m);
}

/*
 * What did not change is the same object at both ends of both sets. Between these ends each address
 * is looked up: the members of the new set are marked, so that those that are left stand out.
 */
void balancer_update(struct balancer *b, const struct endpoint_set *before,
                     const struct endpoint_set *set, uint64_t now_ns, struct balancer_delta *out)
{
    size_t old_count = before != NULL ? before->count : 0, new_count = set != NULL ? set->count : 0;
    size_t least = MIN(old_count, new_count), head = 0, tail = 0;
    struct balancer_delta delta = {0};

    assert(old_count == map_count(&b->members));
    while (head < least && before->at[head] == set->at[head]) {
        head++;
    }
    while (tail < least - head &&
           before->at[old_count - 1 - tail] == set->at[new_count - 1 - tail]) {
        tail++;
    }
    b->round++;
    for (size_t i = head; i < new_count - tail; i++) {
        member_upsert(b, set->at[i], now_ns, &delta);
    }
    for (size_t i = head; i < old_count - tail; i++) {
        member_leave(b, before->at[i], &delta);
    }
    *out = delta;
}

struct member *balancer_pick(struct balancer *b, struct rand *rand, uint64_t now_ns)
{
    struct member *one, *two;
    size_t i, k;

    if (b->ready_count == 0) {
        return NULL;
    }
    if (b->ready_count == 1) {
        return b->ready[0];
    }
    i = rand_below(rand, b->ready_count);
    k = rand_below(rand, b->ready_count - 1);
    k += k >= i; /* two different ones */
    one = b->ready[i];
    two = b->ready[k];
    return load_get(&one->load, &b->load, now_ns) <= load_get(&two->load, &b->load, now_ns) ? one
                                                                                            : two;
}

size_t balancer_count(const struct balancer *b)
{
    return map_count(&b->members);
}

size_t balancer_ready(const struct balancer *b)
{
    return b->ready_count;
}
