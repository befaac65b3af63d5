/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rand.h"
#include "tests/unit/unit.h"

static void a_seed_gives_its_sequence(void **state UNUSED)
{
    struct rand a, b;

    rand_seed(&a, 42);
    rand_seed(&b, 42);
    for (int i = 0; i < 100; i++) {
        assert_true(rand_u64(&a) == rand_u64(&b));
    }
    rand_seed(&b, 43);
    assert_true(rand_u64(&a) != rand_u64(&b));
}

/* First outputs of the published xoshiro256** for the state {1, 2, 3, 4}. */
static void the_generator_is_xoshiro(void **state UNUSED)
{
    struct rand r = {.s = {1, 2, 3, 4}};

    assert_true(rand_u64(&r) == 11520);
    assert_true(rand_u64(&r) == 0);
    assert_true(rand_u64(&r) == 1509978240);
    assert_true(rand_u64(&r) == UINT64_C(1215971899390074240));
}

static void bounded_numbers_are_fair(void **state UNUSED)
{
    unsigned hits[6] = {0};
    struct rand r;

    rand_seed(&r, 5);
    for (int i = 0; i < 60000; i++) {
        hits[rand_below(&r, 6)]++;
    }
    for (int i = 0; i < 6; i++) {
        assert_in_range(hits[i], 9500, 10500);
    }
    assert_true(rand_below(&r, 1) == 0);
    for (int i = 0; i < 100; i++) {
        assert_true(rand_below(&r, UINT64_MAX / 2 + 2) < UINT64_MAX / 2 + 2);
    }
}

static void units_fill_the_interval(void **state UNUSED)
{
    struct rand r;
    double sum = 0;

    rand_seed(&r, 6);
    for (int i = 0; i < 10000; i++) {
        double x = rand_unit(&r);

        assert_true(x >= 0 && x < 1);
        sum += x;
    }
    assert_true(sum > 4800 && sum < 5200);
}

static void secrets_and_seeds_differ(void **state UNUSED)
{
    char one[64] = {0}, two[64] = {0};
    struct rand a, b;

    rand_secret(one, sizeof(one));
    rand_secret(two, sizeof(two));
    assert_memory_not_equal(one, two, sizeof(one));
    rand_init(&a);
    rand_init(&b);
    assert_true(rand_u64(&a) != rand_u64(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_its_sequence), cmocka_unit_test(the_generator_is_xoshiro),
        cmocka_unit_test(bounded_numbers_are_fair),  cmocka_unit_test(units_fill_the_interval),
        cmocka_unit_test(secrets_and_seeds_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
