/* SPDX-License-Identifier: Apache-2.0 */
/* What connections found out for those that come next: shared, bounded, and soon given up. */
#include "peers.h"

#include "proxy/known.h"

static const char clear[] = "no_tls_from_remote";
static unsigned freed;

static void count_free(struct snapshot *s UNUSED)
{
    freed++;
}

static int setup(void **state)
{
    freed = 0;
    return rig_setup(state);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, rig_teardown)

static void one_for_each_policy_and_address(void **state UNUSED)
{
    struct snapshot a, b;
    struct addr here = addr_v4(0x0a000001, 80), there = addr_v4(0x0a000001, 81);
    static const char loopback[] = "loopback";
    struct known *k, *others[3];

    snapshot_init(&a, count_free);
    snapshot_init(&b, count_free);
    k = known_get(&rig.w, &a, &here, clear);
    assert_ptr_equal(known_get(&rig.w, &a, &here, clear), k);
    others[0] = known_get(&rig.w, &b, &here, clear);
    others[1] = known_get(&rig.w, &a, &there, clear);
    others[2] = known_get(&rig.w, &a, &here, loopback);
    for (size_t i = 0; i < 3; i++) {
        assert_true(k != others[i] && others[i] != others[(i + 1) % 3]);
    }
    known_unref(k);
    known_unref(k);
    assert_ptr_equal(known_get(&rig.w, &a, &here, clear), k); /* kept for who comes next */
    known_unref(k);
    known_unref(others[0]);
    known_unref(others[1]);
    known_unref(others[2]);
    known_clear(&rig.w);
    snapshot_unref(&a);
    snapshot_unref(&b);
    assert_int_equal(freed, 2);
}

static void what_nobody_needs_goes_with_the_sweep(void **state UNUSED)
{
    struct snapshot a, b;
    struct addr here = addr_v4(0x0a000001, 80);
    struct known *held, *idle;

    snapshot_init(&a, count_free);
    snapshot_init(&b, count_free);
    held = known_get(&rig.w, &a, &here, clear);
    idle = known_get(&rig.w, &b, &here, clear);
    snapshot_unref(&a);
    snapshot_unref(&b);
    known_unref(idle);
    assert_true(timer_is_armed(&rig.w.sweep));
    assert_true(parking_round(&rig.w.known_parked)); /* not yet */
    assert_int_equal(freed, 0);
    assert_false(parking_round(&rig.w.known_parked));
    assert_int_equal(freed, 1);
    known_unref(held);
    assert_int_equal(freed, 1);
    known_clear(&rig.w);
    assert_int_equal(freed, 2);
}

static void not_more_than_so_many_are_kept(void **state UNUSED)
{
    struct addr at = addr_v4(0x0a000001, 0);
    struct snapshot all[KNOWN_IDLE_MAX + 3];

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        snapshot_init(&all[i], count_free);
        at.port = (uint16_t)i;
        known_unref(known_get(&rig.w, &all[i], &at, clear));
        snapshot_unref(&all[i]);
    }
    assert_int_equal(freed, 3);
    known_clear(&rig.w);
    assert_int_equal(freed, ARRAY_LEN(all));
}

static void what_is_one_connections_own_goes_with_it(void **state UNUSED)
{
    struct addr here = addr_v4(0x0a000001, 80);
    struct known *k, *other;
    struct snapshot a;

    snapshot_init(&a, count_free);
    k = known_get(&rig.w, &a, &here, NULL);
    other = known_get(&rig.w, &a, &here, NULL);
    snapshot_unref(&a);
    assert_ptr_not_equal(k, other);
    known_unref(k);
    assert_int_equal(freed, 0);
    known_unref(other);
    assert_int_equal(freed, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(one_for_each_policy_and_address),
        TEST(what_nobody_needs_goes_with_the_sweep),
        TEST(what_is_one_connections_own_goes_with_it),
        TEST(not_more_than_so_many_are_kept),
    };

    return rig_run(tests, argc, argv);
}
