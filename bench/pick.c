/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it takes to choose among so many endpoints, and to take a set in which one is new: prints
 * `endpoints pick-ns change-us` for some sizes. Built by bench/scale.py.
 */
#include "core/alloc.h"
#include "core/clock.h"
#include "mesh/balancer.h"

#include <stdio.h>

#define PICKS   1000000u
#define CHANGES 200u

static const struct load_config load_config = {.default_rtt_ns = 30 * NS_PER_MS,
                                               .decay_ns = 10 * NS_PER_S};

static void on_add(void *user, struct member *m)
{
    member_set_ready(*(struct balancer **)user, m, true);
}

static void on_change(void *user, struct member *m, const struct endpoint *old)
{
    (void)user;
    (void)m;
    (void)old;
}

static void on_remove(void *user, struct member *m)
{
    (void)user;
    member_free(m);
}

static const struct balancer_events events = {
    .on_add = on_add, .on_change = on_change, .on_remove = on_remove};

static double time_picks(struct balancer *b, struct rand *r)
{
    uint64_t began_ns = clock_mono_ns(), now_ns = began_ns;

    for (unsigned i = 0; i < PICKS; i++) {
        struct member *m = balancer_pick(b, r, now_ns);

        load_observe(&m->load, &load_config, NS_PER_MS + i % NS_PER_MS, now_ns);
        now_ns += 50000;
    }
    return (double)(clock_mono_ns() - began_ns) / PICKS;
}

/* The last endpoint is exchanged for another one, again and again. */
static double time_changes(struct balancer *b, const struct endpoint_set *set)
{
    struct endpoint_set before = *set, after = *set;
    const struct endpoint **at = mem_new_array(set->count, sizeof(*at));
    struct balancer_delta delta;
    uint64_t began_ns;
    struct addr other = addr_v4(0x0b000001u, 80);

    memcpy(at, set->at, set->count * sizeof(*at));
    at[set->count - 1] = endpoint_new_plain(&other);
    after.at = at;
    began_ns = clock_mono_ns();
    for (unsigned i = 0; i < CHANGES; i++) {
        bool is_even = i % 2 == 0;

        balancer_update(b, is_even ? &before : &after, is_even ? &after : &before, began_ns, &delta);
    }
    began_ns = clock_mono_ns() - began_ns;
    endpoint_unref(at[set->count - 1]);
    mem_free(at);
    return (double)began_ns / CHANGES / 1000;
}

static void measure(size_t count, struct rand *r)
{
    const struct endpoint **at = mem_new_array(count, sizeof(*at));
    struct endpoint_set set = {.state = ENDPOINTS_EXIST, .count = count, .at = at};
    struct balancer_delta delta;
    struct balancer *b;
    double pick_ns;

    for (size_t i = 0; i < count; i++) {
        struct addr a = addr_v4(0x0a000000u + (uint32_t)i, 80);

        at[i] = endpoint_new_plain(&a);
    }
    b = balancer_new(&load_config, &events, &b);
    balancer_update(b, NULL, &set, clock_mono_ns(), &delta);
    pick_ns = time_picks(b, r);
    printf("%zu %.0f %.1f\n", count, pick_ns, time_changes(b, &set));
    balancer_update(b, &set, NULL, clock_mono_ns(), &delta);
    balancer_free(b);
    for (size_t i = 0; i < count; i++) {
        endpoint_unref(at[i]);
    }
    mem_free(at);
}

int main(void)
{
    struct rand r;

    rand_init(&r);
    for (size_t count = 10; count <= 10000; count *= 10) {
        measure(count, &r);
    }
    return 0;
}
