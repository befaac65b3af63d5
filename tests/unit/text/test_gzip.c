/* SPDX-License-Identifier: Apache-2.0 */
#include "text/gzip.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/rand.h"
#include "tests/unit/unit.h"

#include <zlib.h>

#define PLAIN_BYTES 300000

/* Undo it with zlib itself; only the gzip format is taken. */
static void assert_unpacks(struct bytes packed, struct bytes plain)
{
    char *got = mem_new(plain.len + 1);
    z_stream z = {0};

    assert_int_equal(inflateInit2(&z, 16 + 15), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)packed.at;
    z.avail_in = (uInt)packed.len;
    z.next_out = (Bytef *)got;
    z.avail_out = (uInt)plain.len + 1;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    assert_true(bytes_eq(bytes_of(got, z.total_out), plain));
    (void)inflateEnd(&z);
    mem_free(got);
}

static char *make_plain(bool is_random)
{
    char *plain = mem_new(PLAIN_BYTES);
    struct rand r;

    rand_seed(&r, 7);
    for (size_t i = 0; i < PLAIN_BYTES; i++) {
        plain[i] = is_random ? (char)rand_below(&r, 256) : "request_total 1\n"[i % 16];
    }
    return plain;
}

/* What does not shrink fills the space for a piece more than once. */
static void pieces_are_one_stream(void **state UNUSED)
{
    static const size_t sizes[] = {1, 1000, 16384, 65536, PLAIN_BYTES};

    for (unsigned round = 0; round < 2 * ARRAY_LEN(sizes); round++) {
        struct bytes plain = bytes_of(make_plain(round % 2 == 1), PLAIN_BYTES), rest = plain;
        struct gzip *g = gzip_new();
        struct text to;

        text_init(&to, 1 << 20);
        while (rest.len > 0) {
            size_t size = MIN(rest.len, sizes[round / 2] * (sizes[round / 2] == 1 ? 7 : 1));

            assert_int_equal(gzip_add(g, bytes_first(rest, size), false, &to), 0);
            rest = bytes_from(rest, size);
        }
        assert_int_equal(gzip_add(g, BYTES_NONE, true, &to), 0);
        assert_unpacks(text_bytes(&to), plain);
        assert_true(round % 2 == 1 || to.len < PLAIN_BYTES / 50);
        gzip_free(g);
        text_clear(&to);
        mem_free((char *)(uintptr_t)plain.at);
    }
}

static void nothing_is_a_stream(void **state UNUSED)
{
    struct gzip *g = gzip_new();
    struct text to;

    text_init(&to, 100);
    assert_int_equal(gzip_add(g, BYTES_NONE, true, &to), 0);
    assert_unpacks(text_bytes(&to), BYTES_NONE);
    gzip_free(g);
    gzip_free(NULL);
    text_clear(&to);
}

static void no_room(void **state UNUSED)
{
    char *plain = make_plain(true);
    struct gzip *g = gzip_new();
    struct text to;

    text_init(&to, 100);
    assert_int_equal(gzip_add(g, bytes_of(plain, PLAIN_BYTES), true, &to), E_LIMIT);
    gzip_free(g);
    text_clear(&to);
    mem_free(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_one_stream),
        cmocka_unit_test(nothing_is_a_stream),
        cmocka_unit_test(no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
