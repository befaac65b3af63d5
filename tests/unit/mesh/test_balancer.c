/* SPDX-License-Identifier: Apache-2.0 */
#include "../unit.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "mesh/balancer.h"

#define RTT_NS   (30 * NS_PER_MS)
#define DECAY_NS (10 * NS_PER_S)
#define MANY     100

static const struct load_config load_config = {.default_rtt_ns = RTT_NS, .decay_ns = DECAY_NS};

struct seen {
    struct balancer *balancer;
    const struct endpoint_set *set; /* applied */
    struct member *at[MANY];        /* by the last byte of the address */
    unsigned added, changed, removed;
    const struct endpoint *old;
};

static void on_add(void *user, struct member *m)
{
    struct seen *s = user;

    s->added++;
    s->at[m->endpoint->addr.ip[3]] = m;
    member_set_ready(s->balancer, m, true);
}

static void on_change(void *user, struct member *m, const struct endpoint *old)
{
    struct seen *s = user;

    assert_ptr_equal(s->at[m->endpoint->addr.ip[3]], m);
    assert_true(addr_eq(&m->endpoint->addr, &old->addr));
    s->changed++;
}

static void on_remove(void *user, struct member *m)
{
    struct seen *s = user;

    assert_true(m->is_removed && !m->is_ready);
    s->removed++;
    s->at[m->endpoint->addr.ip[3]] = NULL;
    member_free(m);
}

static const struct balancer_events events = {
    .on_add = on_add,
    .on_change = on_change,
    .on_remove = on_remove,
};

/* A set of the addresses 10.0.0.<first> to 10.0.0.<last>. */
struct some {
    struct endpoint_set set;
    const struct endpoint *at[MANY];
};

static void some_open(struct some *s, unsigned first, unsigned last)
{
    memset(s, 0, sizeof(*s));
    s->set.state = ENDPOINTS_EXIST;
    s->set.at = s->at;
    for (unsigned i = first; i <= last; i++) {
        struct addr a = addr_v4(0x0a000000u + i, 80);

        s->at[s->set.count++] = endpoint_new_plain(&a);
    }
}

static void some_close(struct some *s)
{
    for (size_t i = 0; i < s->set.count; i++) {
        endpoint_unref(s->at[i]);
    }
}

static void seen_open(struct seen *s)
{
    memset(s, 0, sizeof(*s));
    s->balancer = balancer_new(&load_config, &events, s);
}

static struct balancer_delta apply(struct seen *s, const struct endpoint_set *set)
{
    struct balancer_delta delta;

    balancer_update(s->balancer, s->set, set, 0, &delta);
    s->set = set;
    return delta;
}

static void seen_close(struct seen *s)
{
    (void)apply(s, NULL);
    balancer_free(s->balancer);
}

static void sets_are_applied_as_differences(void **state)
{
    struct seen s;
    struct some one, two;
    struct balancer_delta delta;

    (void)state;
    seen_open(&s);
    some_open(&one, 1, 3);
    some_open(&two, 2, 5);
    (void)apply(&s, &one.set);
    assert_int_equal(s.added, 3);
    load_observe(&s.at[2]->load, &load_config, 9 * RTT_NS, 0);
    delta = apply(&s, &two.set);
    assert_int_equal(delta.added, 2);
    assert_int_equal(delta.removed, 1);
    assert_int_equal(delta.changed, 0);
    assert_int_equal(s.added, 5);
    assert_int_equal(s.removed, 1);
    assert_int_equal(s.changed, 0); /* the same facts in another object are no change */
    assert_int_equal(balancer_count(s.balancer), 4);
    assert_true(s.at[2]->load.estimate_ns > 8 * (double)RTT_NS); /* what was measured stays */
    (void)apply(&s, &two.set);
    assert_int_equal(s.added + s.removed, 6);
    seen_close(&s);
    assert_int_equal(s.removed, 5);
    some_close(&one);
    some_close(&two);
}

/* Whatever two sets have in common, at their ends, in their middle, or not at all. */
static void any_two_sets(void **state)
{
    struct some all;
    struct rand r;

    (void)state;
    rand_seed(&r, 3);
    some_open(&all, 1, 12);
    for (unsigned round = 0; round < 500; round++) {
        struct some sets[6];
        struct seen s;

        seen_open(&s);
        for (unsigned n = 0; n < ARRAY_LEN(sets); n++) {
            unsigned mask = (unsigned)rand_below(&r, 1u << 12);

            memset(&sets[n], 0, sizeof(sets[n]));
            sets[n].set.at = sets[n].at;
            for (unsigned i = 0; i < 12; i++) {
                if ((mask >> i & 1u) != 0) {
                    sets[n].at[sets[n].set.count++] = all.at[i];
                }
            }
            (void)apply(&s, &sets[n].set);
            assert_int_equal(balancer_count(s.balancer), sets[n].set.count);
            for (unsigned i = 0; i < 12; i++) {
                assert_true((s.at[i + 1] != NULL) == ((mask >> i & 1u) != 0));
            }
        }
        assert_int_equal(s.changed, 0);
        seen_close(&s);
        assert_int_equal(s.added, s.removed);
    }
    some_close(&all);
}

static void changed_facts_are_reported(void **state)
{
    struct seen s;
    struct some one, two;
    struct endpoint *e;

    (void)state;
    seen_open(&s);
    some_open(&one, 1, 2);
    some_open(&two, 1, 2);
    e = (struct endpoint *)(uintptr_t)two.at[1];
    e->identity = mem_strdup("web");
    e->server_name = mem_strdup("web");
    (void)apply(&s, &one.set);
    assert_int_equal(apply(&s, &two.set).changed, 1);
    assert_int_equal(s.changed, 1);
    assert_string_equal(s.at[2]->endpoint->identity, "web");
    seen_close(&s);
    some_close(&one);
    some_close(&two);
}

static void only_ready_members_are_picked(void **state)
{
    struct seen s;
    struct some all;
    struct rand r;

    (void)state;
    rand_seed(&r, 1);
    seen_open(&s);
    assert_null(balancer_pick(s.balancer, &r, 0));
    some_open(&all, 1, 9);
    (void)apply(&s, &all.set);
    for (unsigned i = 1; i <= 9; i++) {
        member_set_ready(s.balancer, s.at[i], i == 4 || i == 7);
        member_set_ready(s.balancer, s.at[i], i == 4 || i == 7); /* twice is once */
    }
    assert_int_equal(balancer_ready(s.balancer), 2);
    for (unsigned i = 0; i < 200; i++) {
        struct member *m = balancer_pick(s.balancer, &r, 0);

        assert_true(m == s.at[4] || m == s.at[7]);
    }
    member_set_ready(s.balancer, s.at[4], false);
    assert_ptr_equal(balancer_pick(s.balancer, &r, 0), s.at[7]);
    member_set_ready(s.balancer, s.at[7], false);
    assert_null(balancer_pick(s.balancer, &r, 0));
    seen_close(&s);
    some_close(&all);
}

/* Two random ones are compared: the worst of all never wins, and every other one gets its share. */
static void the_better_of_two_wins(void **state)
{
    struct seen s;
    struct some all;
    struct rand r;
    unsigned picks[MANY] = {0};

    (void)state;
    rand_seed(&r, 42);
    seen_open(&s);
    some_open(&all, 1, 10);
    (void)apply(&s, &all.set);
    load_observe(&s.at[5]->load, &load_config, 100 * RTT_NS, 0);
    for (unsigned i = 0; i < 5000; i++) {
        picks[balancer_pick(s.balancer, &r, 0)->endpoint->addr.ip[3]]++;
    }
    assert_int_equal(picks[5], 0);
    for (unsigned i = 1; i <= 10; i++) {
        assert_true(i == 5 || picks[i] > 250);
    }
    s.at[5]->load.pending = 0;
    for (unsigned i = 1; i <= 10; i++) {
        s.at[i]->load.pending = i == 5 ? 0 : 500; /* what waits counts as much as what was slow */
    }
    assert_true(load_get(&s.at[5]->load, &load_config, 0) <
                load_get(&s.at[6]->load, &load_config, 0));
    seen_close(&s);
    some_close(&all);
}

/* Counted load: where connections are spread, who has the fewest of two gets the next one; and all
 * are alike to it, however long they have been there. */
static void connections_are_spread_by_their_number(void **state)
{
    struct load_config count = {.default_rtt_ns = RTT_NS, .decay_ns = DECAY_NS, .by_count = true};
    struct seen s;
    struct some all;
    struct rand r;

    (void)state;
    rand_seed(&r, 7);
    seen_open(&s);
    balancer_configure(s.balancer, &count);
    some_open(&all, 1, 10);
    (void)apply(&s, &all.set);
    for (unsigned i = 0; i < 1000; i++) {
        balancer_pick(s.balancer, &r, (uint64_t)i * 60 * NS_PER_S)->load.pending++;
    }
    for (unsigned i = 1; i <= 10; i++) {
        assert_in_range(s.at[i]->load.pending, 95, 105);
    }
    for (unsigned i = 1; i <= 10; i++) {
        s.at[i]->load.pending = i == 3 ? 0 : 50;
    }
    for (unsigned i = 0; i < 200 && s.at[3]->load.pending < 25; i++) {
        balancer_pick(s.balancer, &r, 1000000 * NS_PER_S)->load.pending++;
    }
    assert_int_equal(s.at[3]->load.pending, 25); /* it gets all for which it is asked about */
    seen_close(&s);
    some_close(&all);
}

/* Many endpoints: what a set changes is all that is reported, and picks stay even. */
#define CROWD 10000
static struct {
    struct balancer *balancer;
    unsigned added, removed;
} crowd;
static void crowd_add(void *user UNUSED, struct member *m)
{
    crowd.added++;
    member_set_ready(crowd.balancer, m, true);
}
static void crowd_change(void *user UNUSED, struct member *m UNUSED,
                         const struct endpoint *old UNUSED)
{
    fail_msg("nothing has changed");
}
static void crowd_remove(void *user UNUSED, struct member *m)
{
    crowd.removed++;
    member_free(m);
}
static void ten_thousand_endpoints(void **state)
{
    static const struct balancer_events crowd_events = {
        .on_add = crowd_add, .on_change = crowd_change, .on_remove = crowd_remove};
    static const struct endpoint *at[CROWD];
    struct endpoint_set all = {.state = ENDPOINTS_EXIST, .at = at, .count = CROWD}, set = all;
    struct balancer_delta delta;
    struct rand r;

    (void)state;
    rand_seed(&r, 9);
    crowd.balancer = balancer_new(&load_config, &crowd_events, NULL);
    for (unsigned i = 0; i < CROWD; i++) {
        struct addr a = addr_v4(0x0a000000u + i, 80);

        at[i] = endpoint_new_plain(&a);
    }
    balancer_update(crowd.balancer, NULL, &set, 0, &delta);
    assert_int_equal(balancer_ready(crowd.balancer), CROWD);
    set.count--; /* the last one goes */
    balancer_update(crowd.balancer, &all, &set, 0, &delta);
    assert_int_equal(delta.removed, 1);
    assert_int_equal(delta.added + delta.changed, 0);
    for (unsigned i = 0; i < 4 * CROWD; i++) {
        balancer_pick(crowd.balancer, &r, 0)->load.pending++;
    }
    for (unsigned i = 0; i < 4 * CROWD; i++) {
        assert_true(balancer_pick(crowd.balancer, &r, 0)->load.pending <= 12);
    }
    balancer_update(crowd.balancer, &set, NULL, 0, &delta);
    assert_int_equal(crowd.added, CROWD);
    assert_int_equal(crowd.removed, CROWD);
    balancer_free(crowd.balancer);
    for (unsigned i = 0; i < CROWD; i++) {
        endpoint_unref(at[i]);
    }
}

static struct balancer *held;
static void free_with_members(void)
{
    balancer_free(held);
}

static void members_must_go_first(void **state)
{
    struct seen s;
    struct some one;

    (void)state;
    seen_open(&s);
    some_open(&one, 1, 1);
    (void)apply(&s, &one.set);
    held = s.balancer;
    assert_aborts(free_with_members);
    seen_close(&s);
    some_close(&one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_are_applied_as_differences),
        cmocka_unit_test(any_two_sets),
        cmocka_unit_test(changed_facts_are_reported),
        cmocka_unit_test(only_ready_members_are_picked),
        cmocka_unit_test(the_better_of_two_wins),
        cmocka_unit_test(connections_are_spread_by_their_number),
        cmocka_unit_test(ten_thousand_endpoints),
        cmocka_unit_test(members_must_go_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
