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

static void the_body_comes_again(void **state)
{
    (void)state;
    note("hello ", 6);
    note("world", 5);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(replay_take(&r, &pool, false, &out), 0);
        assert_out("hello world");
    }
    note("!", 1);
    assert_int_equal(replay_take(&r, &pool, true, &out), 0);
    assert_out("hello world!");
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
        struct chunk *c = chunk_new(&pool);

        c->end = 1;
        chain_push(&others, c);
    }
    assert_int_equal(replay_take(&r, &pool, false, &out), E_LIMIT);
    assert_int_equal(chain_size(&out), 0);
    assert_int_equal(replay_take(&r, &pool, true, &out), 0); /* itself needs no chunk */
    assert_out("kept");
    replay_begin(&r, 65536);
    note(block, 10);
    assert_true(r.is_lost);
    chain_clear(&others);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_body_comes_again),
        TEST(the_bound_is_exact),
        TEST(nothing_is_kept_when_chunks_are_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
