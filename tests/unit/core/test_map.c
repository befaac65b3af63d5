/* SPDX-License-Identifier: Apache-2.0 */
#include "core/map.h"
#include "core/rand.h"
#include "tests/unit/unit.h"

#include <stdio.h>

static void an_empty_map_has_nothing(void **state UNUSED)
{
    struct map m;
    struct map_iter it = MAP_ITER(&m);

    map_init(&m);
    assert_null(map_get(&m, BYTES("a")));
    assert_null(map_remove(&m, BYTES("a")));
    assert_false(map_next(&it));
    assert_int_equal(map_count(&m), 0);
    map_clear(&m);
    map_clear(&m);
}

static void put_get_replace_remove(void **state UNUSED)
{
    struct map m;
    int a, b;
    char key[] = "key";

    map_init(&m);
    assert_null(map_put(&m, bytes_str(key), &a));
    key[0] = 'x'; /* the map has a copy */
    assert_ptr_equal(map_get(&m, BYTES("key")), &a);
    assert_ptr_equal(map_put(&m, BYTES("key"), &b), &a);
    assert_ptr_equal(map_get(&m, BYTES("key")), &b);
    assert_int_equal(map_count(&m), 1);
    assert_ptr_equal(map_remove(&m, BYTES("key")), &b);
    assert_null(map_get(&m, BYTES("key")));
    assert_null(map_put(&m, BYTES_NONE, &a)); /* the empty key is a key */
    assert_ptr_equal(map_get(&m, BYTES("")), &a);
    assert_null(map_put(&m, BYTES("a\0b"), &b));
    assert_null(map_get(&m, BYTES("a")));
    assert_ptr_equal(map_get(&m, BYTES("a\0b")), &b);
    map_clear(&m);
}

#define KEYS 500

/* Against a plain table: puts and removes in random order, tombs and rebuilds included. */
static void behaves_as_a_table_does(void **state UNUSED)
{
    static char table[KEYS];
    struct map m;
    struct rand r;
    size_t count = 0;

    rand_seed(&r, 1);
    map_init(&m);
    for (int i = 0; i < 50000; i++) {
        size_t k = rand_below(&r, KEYS);
        char key[16];
        struct bytes b;

        (void)snprintf(key, sizeof(key), "key-%zu", k);
        b = bytes_str(key);
        assert_ptr_equal(map_get(&m, b), table[k] ? &table[k] : NULL);
        if (rand_below(&r, 3) > 0) {
            assert_ptr_equal(map_put(&m, b, &table[k]), table[k] ? &table[k] : NULL);
            count += !table[k];
            table[k] = 1;
        } else {
            assert_ptr_equal(map_remove(&m, b), table[k] ? &table[k] : NULL);
            count -= table[k];
            table[k] = 0;
        }
        assert_int_equal(map_count(&m), count);
    }
    assert_true(m.capacity <= 4 * KEYS);
    map_clear(&m);
}

static void churn_does_not_grow_the_table(void **state UNUSED)
{
    struct map m;
    int value;

    map_init(&m);
    for (int i = 0; i < 10000; i++) {
        char key[16];

        (void)snprintf(key, sizeof(key), "%d", i);
        (void)map_put(&m, bytes_str(key), &value);
        assert_ptr_equal(map_remove(&m, bytes_str(key)), &value);
    }
    assert_int_equal(m.capacity, 8);
    map_clear(&m);
}

static void iteration_meets_each_once_and_may_remove(void **state UNUSED)
{
    static char seen[100];
    struct map m;
    struct map_iter it = MAP_ITER(&m);
    size_t visits = 0;

    map_init(&m);
    for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
        char key[16];

        (void)snprintf(key, sizeof(key), "%zu", i);
        (void)map_put(&m, bytes_str(key), &seen[i]);
    }
    while (map_next(&it)) {
        char *flag = it.value;
        uint64_t index;

        assert_int_equal(bytes_to_u64(it.key, UINT64_MAX, &index), 0);
        assert_ptr_equal(flag, &seen[index]);
        assert_int_equal((*flag)++, 0);
        visits++;
        if (index % 2 == 0) {
            assert_ptr_equal(map_remove(&m, it.key), flag);
        }
    }
    assert_int_equal(visits, ARRAY_LEN(seen));
    assert_int_equal(map_count(&m), ARRAY_LEN(seen) / 2);
    map_clear(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_has_nothing),
        cmocka_unit_test(put_get_replace_remove),
        cmocka_unit_test(behaves_as_a_table_does),
        cmocka_unit_test(churn_does_not_grow_the_table),
        cmocka_unit_test(iteration_meets_each_once_and_may_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
