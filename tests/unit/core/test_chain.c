/* SPDX-License-Identifier: Apache-2.0 */
#include "core/chain.h"
#include "core/err.h"
#include "core/rand.h"
#include "tests/unit/unit.h"

static char pattern[4 * CHUNK_BYTES];

static int make_pattern(void **state UNUSED)
{
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (char)(i * 31 + i / 251);
    }
    return 0;
}

/* The chain holds pattern[from..from+len). */
static void expect(const struct chain *c, size_t from, size_t len)
{
    static char copy[sizeof(pattern)];
    size_t sum = 0;

    assert_int_equal(chain_size(c), len);
    assert_int_equal(chain_peek(c, copy, sizeof(copy)), len);
    assert_memory_equal(copy, pattern + from, len);
    LIST_FOREACH(node, &c->chunks)
    {
        struct chunk *chunk = LIST_ITEM(node, struct chunk, node);

        assert_true(chunk->end > chunk->start && chunk->end <= CHUNK_BYTES);
        sum += chunk->end - chunk->start;
    }
    assert_int_equal(sum, len);
}

static void append_peek_and_drop(void **state UNUSED)
{
    struct chunk_pool pool;
    struct chain c;
    char few[3];

    chunk_pool_init(&pool, 10, 4);
    chain_init(&c);
    assert_int_equal(chain_head(&c).len, 0);
    assert_int_equal(chain_append(&c, &pool, BYTES_NONE), 0);
    expect(&c, 0, 0);
    assert_int_equal(chain_append(&c, &pool, bytes_of(pattern, 10)), 0);
    assert_int_equal(chain_append(&c, &pool, bytes_of(pattern + 10, 2 * CHUNK_BYTES)), 0);
    expect(&c, 0, 10 + 2 * CHUNK_BYTES);
    assert_int_equal(pool.used_count, 3);
    assert_int_equal(chain_peek(&c, few, 3), 3);
    assert_memory_equal(few, pattern, 3);
    chain_drop(&c, 0);
    chain_drop(&c, CHUNK_BYTES - 1);
    expect(&c, CHUNK_BYTES - 1, CHUNK_BYTES + 11);
    assert_int_equal(chain_head(&c).len, 1);
    chain_drop(&c, 2);
    assert_int_equal(pool.used_count, 2);
    chain_drop(&c, chain_size(&c));
    assert_int_equal(pool.used_count, 0);
    chain_clear(&c);
    chain_clear(&c);
    chunk_pool_clear(&pool);
}

static void append_at_the_limit_takes_nothing(void **state UNUSED)
{
    struct chunk_pool pool;
    struct chain c;

    chunk_pool_init(&pool, 2, 2);
    chain_init(&c);
    assert_int_equal(chain_append(&c, &pool, bytes_of(pattern, 2 * CHUNK_BYTES - 5)), 0);
    assert_int_equal(chain_append(&c, &pool, bytes_of(pattern, 6)), E_LIMIT);
    expect(&c, 0, 2 * CHUNK_BYTES - 5);
    assert_null(chunk_new(&pool));
    assert_int_equal(chain_append(&c, &pool, bytes_of(pattern + 2 * CHUNK_BYTES - 5, 5)), 0);
    expect(&c, 0, 2 * CHUNK_BYTES);
    chain_clear(&c);
    chunk_pool_clear(&pool);
}

static void push_and_pop_hand_chunks_over(void **state UNUSED)
{
    struct chunk_pool pool;
    struct chain c;
    struct chunk *first, *second;

    chunk_pool_init(&pool, 2, 2);
    chain_init(&c);
    first = chunk_new(&pool);
    second = chunk_new(&pool);
    assert_null(chunk_new(&pool));
    memcpy(first->data, pattern, 100);
    first->end = 100;
    memcpy(second->data + 5, pattern + 100, 20);
    second->start = 5;
    second->end = 25;
    chain_push(&c, second);
    chain_push_front(&c, first);
    expect(&c, 0, 120);
    assert_ptr_equal(chain_pop(&c), first);
    expect(&c, 100, 20);
    assert_ptr_equal(chain_pop(&c), second);
    assert_null(chain_pop(&c));
    chunk_free(first);
    chunk_free(second);
    chunk_pool_clear(&pool);
}

/* Every way to cut a chain in two; the pool is at its limit throughout. */
static void moves_keep_bytes_and_order(void **state UNUSED)
{
    static const size_t cuts[] = {0,     1,     50,    99,    100,   101,   8000,  16300,
                                  16384, 16385, 16483, 16484, 16485, 30000, 32768, 33000};

    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct chunk_pool pool;
        struct chain from, to;

        chunk_pool_init(&pool, 4, 4);
        chain_init(&from);
        chain_init(&to);
        assert_int_equal(chain_append(&to, &pool, bytes_of(pattern, 100)), 0);
        assert_int_equal(chain_append(&from, &pool, bytes_of(pattern + 100, 33000)), 0);
        assert_int_equal(pool.used_count, 4);
        chain_move(&to, &from, cuts[i]);
        assert_true(pool.used_count <= 5);
        expect(&to, 0, 100 + cuts[i]);
        expect(&from, 100 + cuts[i], 33000 - cuts[i]);
        chain_move_all(&to, &from);
        expect(&to, 0, 33100);
        expect(&from, 0, 0);
        chain_move_all(&to, &from);
        chain_clear(&to);
        chunk_pool_clear(&pool);
    }
}

static void whole_chunks_are_never_copied(void **state UNUSED)
{
    struct chunk_pool pool;
    struct chain from, to;
    const char *at;

    chunk_pool_init(&pool, 4, 4);
    chain_init(&from);
    chain_init(&to);
    assert_int_equal(chain_append(&from, &pool, bytes_of(pattern, CHUNK_BYTES + 1)), 0);
    at = chain_head(&from).at;
    chain_move(&to, &from, CHUNK_BYTES);
    assert_ptr_equal(chain_head(&to).at, at);
    chain_clear(&from);
    chain_clear(&to);
    chunk_pool_clear(&pool);
}

static void random_traffic_arrives_in_order(void **state UNUSED)
{
    struct chunk_pool pool;
    struct chain a, b;
    struct rand r;
    size_t in = 0, out = 0;

    rand_seed(&r, 7);
    chunk_pool_init(&pool, 64, 2);
    chain_init(&a);
    chain_init(&b);
    while (out < sizeof(pattern)) {
        size_t add = rand_below(&r, MIN(sizeof(pattern) - in, (size_t)5000) + 1);

        assert_int_equal(chain_append(&a, &pool, bytes_of(pattern + in, add)), 0);
        in += add;
        chain_move(&b, &a, rand_below(&r, chain_size(&a) + 1));
        expect(&b, out, chain_size(&b));
        expect(&a, out + chain_size(&b), chain_size(&a));
        add = rand_below(&r, chain_size(&b) + 1);
        chain_drop(&b, add);
        out += add;
    }
    assert_int_equal(in, sizeof(pattern));
    chain_clear(&a);
    chain_clear(&b);
    chunk_pool_clear(&pool);
}

static void iov_covers_the_start(void **state UNUSED)
{
    struct chunk_pool pool;
    struct chain c;
    struct iovec iov[8];

    chunk_pool_init(&pool, 8, 8);
    chain_init(&c);
    assert_int_equal(chain_iov(&c, iov, 8), 0);
    assert_int_equal(chain_append(&c, &pool, bytes_of(pattern, 3 * CHUNK_BYTES)), 0);
    chain_drop(&c, 10);
    assert_int_equal(chain_iov(&c, iov, 2), 2);
    assert_int_equal(iov[0].iov_len, CHUNK_BYTES - 10);
    assert_memory_equal(iov[0].iov_base, pattern + 10, iov[0].iov_len);
    assert_int_equal(chain_iov(&c, iov, 8), 3);
    assert_memory_equal(iov[2].iov_base, pattern + 2 * CHUNK_BYTES, CHUNK_BYTES);
    chain_clear(&c);
    chunk_pool_clear(&pool);
}

static void unused_chunks_are_kept_and_given_back(void **state UNUSED)
{
    struct chunk_pool pool;
    struct chunk *chunks[20];

    chunk_pool_init(&pool, 20, 12);
    for (size_t i = 0; i < 20; i++) {
        chunks[i] = chunk_new(&pool);
    }
    for (size_t i = 0; i < 20; i++) {
        chunk_free(chunks[i]);
    }
    assert_int_equal(pool.free_count, 12); /* the other eight went to the heap */
    chunk_pool_trim(&pool);
    assert_int_equal(pool.free_count, 7);       /* half of what exceeds the reserve of two */
    assert_true(chunk_pool_trim_unused(&pool)); /* begins to watch; nothing was unused so far */
    assert_int_equal(pool.free_count, 7);
    for (size_t i = 0; i < 4; i++) {
        chunks[i] = chunk_new(&pool);
    }
    for (size_t i = 0; i < 4; i++) {
        chunk_free(chunks[i]);
    }
    assert_true(chunk_pool_trim_unused(&pool)); /* three were never needed */
    assert_int_equal(pool.free_count, 6);
    while (chunk_pool_trim_unused(&pool)) {
        assert_true(pool.free_count > 2);
    }
    assert_int_equal(pool.free_count, 2);
    chunk_pool_clear(&pool);
}

/* A chunk at the end of `c` with the next `bytes` of the pattern, and `headroom` free before them. */
static struct chunk *push_after(struct chain *c, struct chunk_pool *pool, size_t headroom, size_t bytes)
{
    struct chunk *chunk = chunk_new(pool);

    assert_non_null(chunk);
    chunk->start = (unsigned)headroom;
    chunk->end = (unsigned)(headroom + bytes);
    memcpy(chunk->data + headroom, pattern + chain_size(c), bytes);
    chain_push(c, chunk);
    return chunk;
}

static void whole_chunks_are_counted(void **state UNUSED)
{
    static const struct {
        size_t bytes_max, whole;
    } cases[] = {{0, 0},     {1, 0},     {99, 0},    {100, 100},  {101, 100},        {149, 100},
                 {150, 150}, {151, 150}, {649, 150}, {650, 650}, {651, 650}, {SIZE_MAX, 650}};
    struct chunk_pool pool;
    struct chain c;

    chunk_pool_init(&pool, 3, 3);
    chain_init(&c);
    assert_int_equal(chain_whole(&c, 0), 0);
    assert_int_equal(chain_whole(&c, SIZE_MAX), 0);
    (void)push_after(&c, &pool, 0, 100);
    (void)push_after(&c, &pool, 7, 50);
    (void)push_after(&c, &pool, 0, 500);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(chain_whole(&c, cases[i].bytes_max), cases[i].whole);
    }
    chain_drop(&c, 60); /* the first has 40 left */
    assert_int_equal(chain_whole(&c, 39), 0);
    assert_int_equal(chain_whole(&c, 89), 40);
    assert_int_equal(chain_whole(&c, 90), 90);
    chain_clear(&c);
    chunk_pool_clear(&pool);
}

/* Only the chunk that is the frame, and has the room for the frame's head. */
static void a_whole_chunk_is_popped(void **state UNUSED)
{
    struct chunk_pool pool;
    struct chunk *first, *second;
    struct chain c;

    chunk_pool_init(&pool, 2, 2);
    chain_init(&c);
    assert_null(chain_pop_whole(&c, 0, 0));
    assert_null(chain_pop_whole(&c, 1, 0));
    first = push_after(&c, &pool, 9, 100);
    second = push_after(&c, &pool, 8, 100);
    assert_null(chain_pop_whole(&c, 99, 9));
    assert_null(chain_pop_whole(&c, 101, 9));
    assert_null(chain_pop_whole(&c, 200, 9));
    assert_null(chain_pop_whole(&c, 100, 10));
    expect(&c, 0, 200);
    assert_ptr_equal(chain_pop_whole(&c, 100, 9), first);
    expect(&c, 100, 100);
    assert_null(chain_pop_whole(&c, 100, 9));
    chain_drop(&c, 1); /* what was dropped is room, too */
    assert_ptr_equal(chain_pop_whole(&c, 99, 9), second);
    expect(&c, 0, 0);
    chunk_free(first);
    chunk_free(second);
    chunk_pool_clear(&pool);
}

static void a_pool_is_ample_up_to_an_eighth(void **state UNUSED)
{
    struct chunk *taken[9];
    struct chunk_pool pool;

    chunk_pool_init(&pool, 64, 64);
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        assert_true(chunk_pool_is_ample(&pool));
        taken[i] = chunk_new(&pool);
    }
    assert_false(chunk_pool_is_ample(&pool));
    chunk_pool_limit(&pool, 72);
    assert_true(chunk_pool_is_ample(&pool));
    chunk_pool_limit(&pool, 0);
    assert_false(chunk_pool_is_ample(&pool));
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        chunk_free(taken[i]);
    }
    chunk_pool_clear(&pool);
}

static struct chunk_pool lent_pool;

static void clear_with_a_chunk_out(void)
{
    chunk_pool_init(&lent_pool, 1, 1);
    (void)!chunk_new(&lent_pool);
    chunk_pool_clear(&lent_pool);
}

static void a_pool_cannot_go_before_its_chunks(void **state UNUSED)
{
    assert_aborts(clear_with_a_chunk_out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_peek_and_drop),
        cmocka_unit_test(append_at_the_limit_takes_nothing),
        cmocka_unit_test(push_and_pop_hand_chunks_over),
        cmocka_unit_test(moves_keep_bytes_and_order),
        cmocka_unit_test(whole_chunks_are_never_copied),
        cmocka_unit_test(whole_chunks_are_counted),
        cmocka_unit_test(a_whole_chunk_is_popped),
        cmocka_unit_test(a_pool_is_ample_up_to_an_eighth),
        cmocka_unit_test(random_traffic_arrives_in_order),
        cmocka_unit_test(iov_covers_the_start),
        cmocka_unit_test(unused_chunks_are_kept_and_given_back),
        cmocka_unit_test(a_pool_cannot_go_before_its_chunks),
    };

    return cmocka_run_group_tests(tests, make_pattern, NULL);
}
