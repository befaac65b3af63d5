/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/parking.h"

#include "tests/unit/unit.h"

struct thing {
    struct parked parked;
    bool is_freed;
};

static struct parking parking;
static struct thing things[5];

static void thing_free(struct parked *p)
{
    struct thing *t = CONTAINER_OF(p, struct thing, parked);

    assert_false(t->is_freed);
    t->is_freed = true;
}

static int setup(void **state)
{
    (void)state;
    parking_init(&parking, 3);
    for (size_t i = 0; i < ARRAY_LEN(things); i++) {
        things[i] = (struct thing){.parked.free = thing_free};
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    parking_clear(&parking);
    assert_int_equal(parking.count, 0);
    return 0;
}

static void put(size_t i)
{
    parking_put(&parking, &things[i].parked);
}

/* "01": these are freed, in whatever order. */
static void assert_freed(const char *which)
{
    char freed[ARRAY_LEN(things) + 1] = "";
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(things); i++) {
        if (things[i].is_freed) {
            freed[n++] = (char)('0' + i);
        }
    }
    assert_string_equal(freed, which);
}

static void the_one_parked_longest_gives_way(void **state)
{
    (void)state;
    put(0);
    put(1);
    put(2);
    assert_freed("");
    parking_take(&parking, &things[0].parked);
    put(0); /* used again: now it is the newest */
    put(3);
    assert_freed("1");
    put(4);
    assert_freed("12");
    assert_true(parking_drop(&parking));
    assert_freed("012");
    assert_int_equal(parking.count, 2);
}

static void who_is_taken_is_not_freed(void **state)
{
    (void)state;
    put(0);
    parking_take(&parking, &things[0].parked);
    parking_take(&parking, &things[0].parked); /* not parked is fine */
    assert_int_equal(parking.count, 0);
    assert_false(parking_drop(&parking));
    assert_false(parking_round(&parking));
    assert_freed("");
}

static void each_stays_for_a_whole_round(void **state)
{
    (void)state;
    put(0);
    assert_true(parking_round(&parking));
    put(1);
    assert_freed("");
    assert_true(parking_round(&parking));
    assert_freed("0");
    assert_false(parking_round(&parking));
    assert_freed("01");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_one_parked_longest_gives_way),
        TEST(who_is_taken_is_not_freed),
        TEST(each_stays_for_a_whole_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
