/* SPDX-License-Identifier: Apache-2.0 */
#include "core/arena.h"
#include "core/err.h"
#include "tests/unit/unit.h"

#include <pthread.h>

static void pieces_are_aligned_zeroed_and_apart(void **state UNUSED)
{
    struct arena a;
    char *pieces[500];

    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        pieces[i] = arena_new(&a, i);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        for (size_t j = 0; j < i; j++) {
            assert_int_equal(pieces[i][j], 0);
        }
        memset(pieces[i], (int)(i % 251), i);
    }
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_equal((unsigned char)pieces[i][j], i % 251);
        }
    }
    arena_clear(&a);
    arena_clear(&a);
    assert_int_equal(a.bytes_used, 0);
}

static void the_limit_bounds_all_that_is_handed_out(void **state UNUSED)
{
    struct arena a;
    struct bytes copy = BYTES("before");

    arena_init(&a, 100);
    assert_non_null(arena_try(&a, 60));
    assert_null(arena_try(&a, 41));
    assert_null(arena_try(&a, SIZE_MAX));
    assert_null(arena_try(&a, SIZE_MAX - 8));
    assert_int_equal(arena_copy(&a, BYTES("0123456789012345678901234567890123456789"), &copy),
                     E_LIMIT);
    assert_bytes(copy, "before");
    assert_non_null(arena_try(&a, 36)); /* 60 took 64 */
    assert_null(arena_try(&a, 1));
    arena_clear(&a);
    assert_non_null(arena_try(&a, 100));
    arena_clear(&a);
}

static void a_large_piece_leaves_the_block_in_use(void **state UNUSED)
{
    struct arena a;
    char *small, *large, *next;

    arena_init(&a, 1 << 20);
    small = arena_new(&a, 16);
    large = arena_new(&a, ARENA_BLOCK_BYTES * 3);
    next = arena_new(&a, 16);
    assert_ptr_equal(next, small + 16);
    memset(large, 1, ARENA_BLOCK_BYTES * 3);
    arena_clear(&a);
    large = arena_new(&a, ARENA_BLOCK_BYTES * 3); /* also as the first */
    memset(large, 1, ARENA_BLOCK_BYTES * 3);
    next = arena_new(&a, 16);
    memset(next, 1, 16);
    arena_clear(&a);
}

static void text_helpers(void **state UNUSED)
{
    struct arena a;
    struct bytes copy;

    arena_init(&a, 10000);
    assert_string_equal(arena_strdup(&a, bytes_of("abcdef", 3)), "abc");
    assert_string_equal(arena_strdup(&a, BYTES_NONE), "");
    assert_bytes(arena_bytes(&a, BYTES("xyz")), "xyz");
    assert_int_equal(arena_bytes(&a, BYTES_NONE).len, 0);
    assert_string_equal(arena_printf(&a, "%s:%u", "host", 80u), "host:80");
    assert_int_equal(arena_copy(&a, BYTES("copy"), &copy), 0);
    assert_bytes(copy, "copy");
    arena_clear(&a);
}

static void blocks_are_used_again(void **state UNUSED)
{
    struct arena a, b;
    void *piece;

    arena_init(&a, 10000);
    arena_init(&b, 10000);
    piece = arena_new(&a, 100);
    arena_clear(&a);
    assert_ptr_equal(arena_new(&b, 100), piece);
    arena_clear(&b);
    arena_cache_clear();
    arena_cache_clear();
}

/* The leak checker fails the program if the thread's blocks stay behind. */
static void *use_and_leave(void *unused)
{
    struct arena a;

    arena_init(&a, 1 << 20);
    for (int i = 0; i < 200; i++) {
        (void)arena_new(&a, 4000);
    }
    arena_clear(&a);
    return unused;
}

static void a_threads_end_frees_its_blocks(void **state UNUSED)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, use_and_leave, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void exceed(void)
{
    struct arena a;

    arena_init(&a, 10);
    (void)arena_new(&a, 11);
}

static void new_aborts_at_the_limit(void **state UNUSED)
{
    assert_aborts(exceed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_zeroed_and_apart),
        cmocka_unit_test(the_limit_bounds_all_that_is_handed_out),
        cmocka_unit_test(a_large_piece_leaves_the_block_in_use),
        cmocka_unit_test(text_helpers),
        cmocka_unit_test(blocks_are_used_again),
        cmocka_unit_test(a_threads_end_frees_its_blocks),
        cmocka_unit_test(new_aborts_at_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
