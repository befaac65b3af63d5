/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/snapshot.h"
#include "tests/unit/unit.h"

#include <pthread.h>

#define READERS 4

struct table {
    struct snapshot snapshot;
    int values[100];
};

static unsigned freed;

static void table_free(struct snapshot *s)
{
    struct table *t = CONTAINER_OF(s, struct table, snapshot);

    freed++;
    mem_free(t);
}

static struct table *table_new(void)
{
    struct table *t = mem_new(sizeof(*t));

    for (size_t i = 0; i < ARRAY_LEN(t->values); i++) {
        t->values[i] = (int)i;
    }
    snapshot_init(&t->snapshot, table_free);
    return t;
}

static void the_last_reference_frees(void **state UNUSED)
{
    struct table *t = table_new();

    freed = 0;
    snapshot_ref(&t->snapshot);
    snapshot_unref(&t->snapshot);
    assert_int_equal(freed, 0);
    snapshot_unref(&t->snapshot);
    assert_int_equal(freed, 1);
    snapshot_unref(NULL);
}

/* Reads, and takes and drops references of its own; owns the one it was given. */
static void *read_it(void *user)
{
    struct table *t = user;
    long sum = 0;

    for (int round = 0; round < 1000; round++) {
        snapshot_ref(&t->snapshot);
        sum += t->values[round % 100];
        snapshot_unref(&t->snapshot);
    }
    snapshot_unref(&t->snapshot);
    return (void *)sum;
}

static void threads_may_drop_it_in_any_order(void **state UNUSED)
{
    struct table *t = table_new();
    pthread_t threads[READERS];
    void *sum;

    freed = 0;
    for (size_t i = 0; i < READERS; i++) {
        snapshot_ref(&t->snapshot);
        assert_int_equal(pthread_create(&threads[i], NULL, read_it, t), 0);
    }
    snapshot_unref(&t->snapshot);
    for (size_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(threads[i], &sum), 0);
        assert_int_equal((long)sum, 49500);
    }
    assert_int_equal(freed, 1);
}

static void ignore_free(struct snapshot *s UNUSED)
{
}

static void drop_twice(void)
{
    struct snapshot s;

    snapshot_init(&s, ignore_free);
    snapshot_unref(&s);
    snapshot_unref(&s);
}

static void one_drop_too_many_aborts(void **state UNUSED)
{
    assert_aborts(drop_twice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(one_drop_too_many_aborts),
        cmocka_unit_test(threads_may_drop_it_in_any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
