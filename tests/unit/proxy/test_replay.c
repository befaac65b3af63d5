/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/replay.h"

#include "core/err.h"
#include "tests/unit/unit.h"

static struct chunk_pool pool;
static struct replay r;
static struct chain in, out;

static int setup(void **state)
{
    (void)state;
    chunk_pool_init(&pool, 32, 32);
    replay_begin(&r, 65536);
    chain_init(&in);
    chain_init(&out);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    replay_clear(&r);
    chain_clear(&in);
    chain_clear(&out);
    chunk_pool_clear(&pool); /* all chunks are back */
    return 0;
}

static void note(const char *block, size_t bytes)
{
    chain_clear(&in);
    assert_int_equal(chain_append(&in, &pool, bytes_of(block, bytes)), 0);
    replay_note(&r, &in, &pool);
    assert_int_equal(chain_size(&in), bytes); /* it was copied, not taken */
}

static void assert_out(const char *want)
{
    char flat[64];

    assert_bytes(bytes_of(flat, chain_peek(&out, flat, sizeof(flat))), want);
    assert_int_equal(chain_size(&out), strlen(want));
}

/* Others take one chunk more. */
static void take_chunk(struct chain *others)
{
    struct chunk *c = chunk_new(&pool);

    c->end = 1;
    chain_push(others, c);
}

static void the_body_comes_again(void **state)
{
    (void)state;
    note("hello ", 6);
    note("world", 5);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(replay_can_take(&r, &pool, false));
        replay_take(&r, &pool, false, &out);
        assert_out("hello world");
    }
    note("!", 1);
    replay_take(&r, &pool, true, &out);
    assert_out("hello world!");
    assert_false(replay_can_take(&r, &pool, true));
    assert_true(r.is_lost); /* nothing more is kept */
    note("x", 1);
    assert_int_equal(chain_size(&r.kept), 0);
}

static void the_bound_is_exact(void **state)
{
    static char block[32768];

    (void)state;
    note(block, sizeof(block));
    note(block, sizeof(block));
    assert_false(r.is_lost);
    note(block, 0);
    assert_false(r.is_lost);
    note(block, 1);
    assert_true(r.is_lost);
    assert_int_equal(chain_size(&r.kept), 0);
}

static void nothing_is_kept_when_chunks_are_short(void **state)
{
    static char block[CHUNK_BYTES];
    struct chain others;

    (void)state;
    chain_init(&others);
    note("kept", 4);
    while (!chunks_are_short(&pool)) {
        take_chunk(&others);
    }
    assert_false(replay_can_take(&r, &pool, false));
    chunk_free(chain_pop(&others));
    assert_true(replay_can_take(&r, &pool, false)); /* the last one that may be had */
    replay_take(&r, &pool, false, &out);
    assert_out("kept");
    assert_false(replay_can_take(&r, &pool, false));
    assert_true(replay_can_take(&r, &pool, true)); /* itself needs no chunk */
    replay_take(&r, &pool, true, &out);
    assert_out("kept");
    take_chunk(&others);
    replay_begin(&r, 65536);
    note(block, 10);
    assert_true(r.is_lost);
    chain_clear(&others);
}

/* As many as it needs, not one: the budget has paid for the retry before the copy is made. */
static void a_long_body_needs_all_its_chunks(void **state)
{
    static char block[2 * CHUNK_BYTES + 1];
    struct chain others;

    (void)state;
    chain_init(&others);
    note(block, sizeof(block));
    while (replay_can_take(&r, &pool, false)) {
        take_chunk(&others);
    }
    assert_int_equal(pool.used_count, 30 - 2); /* 30 of 32 are not short; three are wanted */
    chunk_free(chain_pop(&others));
    replay_take(&r, &pool, false, &out);
    assert_int_equal(chain_size(&out), sizeof(block));
    chain_clear(&others);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_body_comes_again),
        TEST(the_bound_is_exact),
        TEST(nothing_is_kept_when_chunks_are_short),
        TEST(a_long_body_needs_all_its_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
