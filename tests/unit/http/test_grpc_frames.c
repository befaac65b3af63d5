/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "http/grpc_private.h"
#include "tests/unit/unit.h"

static struct chunk_pool pool;

struct seen {
    unsigned count;
    size_t bytes;
    char last[64];
};

static void on_message(void *user, struct bytes message)
{
    struct seen *seen = user;

    seen->count++;
    seen->bytes += message.len;
    if (message.len < sizeof(seen->last)) {
        memcpy(seen->last, message.at, message.len);
        seen->last[message.len] = '\0';
    }
}

static int feed(struct grpc_frames *f, struct bytes bytes, struct seen *seen)
{
    struct chain c;

    chain_init(&c);
    assert_int_equal(chain_append(&c, &pool, bytes), 0);
    return grpc_frames_feed(f, &c, on_message, seen);
}

static int setup(void **state UNUSED)
{
    chunk_pool_init(&pool, 4096, 16);
    return 0;
}

static int teardown(void **state UNUSED)
{
    chunk_pool_clear(&pool);
    return 0;
}

static const char three[] = "\0\0\0\0\003one\0\0\0\0\0\0\0\0\0\005three";
#define THREE bytes_of(three, sizeof(three) - 1)

static void messages_come_out_whole_however_they_are_cut(void **state UNUSED)
{
    for (size_t cut = 0; cut <= THREE.len; cut++) {
        for (size_t again = cut; again <= THREE.len; again++) {
            struct grpc_frames f;
            struct seen seen = {0};

            grpc_frames_init(&f, 100);
            assert_int_equal(feed(&f, bytes_first(THREE, cut), &seen), 0);
            assert_int_equal(feed(&f, bytes_first(bytes_from(THREE, cut), again - cut), &seen), 0);
            assert_int_equal(feed(&f, bytes_from(THREE, again), &seen), 0);
            assert_int_equal(seen.count, 3);
            assert_int_equal(seen.bytes, 8);
            assert_string_equal(seen.last, "three");
            assert_true(grpc_frames_is_whole(&f));
            grpc_frames_clear(&f);
        }
    }
}

static void a_large_message_across_chunks(void **state UNUSED)
{
    size_t len = 3u << 20;
    char *message = mem_new(len);
    struct grpc_frames f;
    struct seen seen = {0};
    struct chain c;

    chain_init(&c);
    grpc_frames_init(&f, GRPC_MESSAGE_MAX);
    assert_int_equal(grpc_frame_append(&c, &pool, bytes_of(message, len)), 0);
    assert_int_equal(grpc_frame_append(&c, &pool, BYTES("end")), 0);
    assert_int_equal(grpc_frames_feed(&f, &c, on_message, &seen), 0);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.bytes, len + 3);
    assert_string_equal(seen.last, "end");
    grpc_frames_clear(&f);
    mem_free(message);
}

static void what_is_no_frame_is_refused(void **state UNUSED)
{
    static const struct {
        struct bytes in;
        int rc;
    } cases[] = {
        {{.at = "\001\0\0\0\001x", .len = 6}, E_UNSUPPORTED}, /* compressed */
        {{.at = "\002\0\0\0\001x", .len = 6}, E_GRPC_FRAME},  /* a flag nobody knows */
        {{.at = "\0\0\0\0\145", .len = 5}, E_LIMIT},          /* 101 bytes */
        {{.at = "\0\377\377\377\377", .len = 5}, E_LIMIT},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t cut = 0; cut < 5; cut++) {
            struct grpc_frames f;
            struct seen seen = {0};
            int rc;

            grpc_frames_init(&f, 100);
            rc = feed(&f, bytes_first(cases[i].in, cut), &seen);
            assert_int_equal(rc, 0);
            assert_int_equal(feed(&f, bytes_from(cases[i].in, cut), &seen), cases[i].rc);
            assert_int_equal(seen.count, 0);
            grpc_frames_clear(&f);
        }
    }
}

static void the_limit_itself_is_allowed(void **state UNUSED)
{
    struct grpc_frames f;
    struct seen seen = {0};
    char frame[105] = {0, 0, 0, 0, 100};

    grpc_frames_init(&f, 100);
    assert_int_equal(feed(&f, bytes_of(frame, 50), &seen), 0);
    assert_false(grpc_frames_is_whole(&f));
    assert_int_equal(feed(&f, bytes_of(frame + 50, 55), &seen), 0);
    assert_int_equal(seen.bytes, 100);
    grpc_frames_clear(&f);
}

static void sending_is_bounded_and_whole_or_nothing(void **state UNUSED)
{
    char *message = mem_new(GRPC_MESSAGE_MAX + 1);
    struct chunk_pool small;
    struct chain c;

    chain_init(&c);
    assert_int_equal(grpc_frame_append(&c, &pool, bytes_of(message, GRPC_MESSAGE_MAX + 1)),
                     E_LIMIT);
    assert_int_equal(chain_size(&c), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(grpc_frame_append(&c, &pool, bytes_of(message, GRPC_MESSAGE_MAX)), 0);
    }
    assert_int_equal(grpc_frame_append(&c, &pool, bytes_of(message, GRPC_MESSAGE_MAX)), E_LIMIT);
    assert_int_equal(chain_size(&c),
                     3 * ((size_t)GRPC_MESSAGE_MAX + 5)); /* GRPC_PENDING_MAX counts prefixes too */
    chain_clear(&c);

    chunk_pool_init(&small, 2, 0);
    assert_int_equal(grpc_frame_append(&c, &small, bytes_of(message, 1 << 20)), E_LIMIT);
    assert_int_equal(chain_size(&c), 0);
    assert_int_equal(small.used_count, 0);
    chunk_pool_clear(&small);
    mem_free(message);
}

static void small_messages_share_chunks(void **state UNUSED)
{
    struct chain c;

    chain_init(&c);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(
            grpc_frame_append(&c, &pool, BYTES("a hundred of these fit into one chunk")), 0);
    }
    assert_int_equal(pool.used_count, 1);
    chain_clear(&c);
}

static void timeouts_are_printed_and_parsed(void **state UNUSED)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {1, "1n"},
        {99999999, "99999999n"},
        {100000000, "100000u"},
        {100000001, "100001u"}, /* rounded up */
        {1500 * NS_PER_MS, "1500000u"},
        {100 * NS_PER_S, "100000m"},
        {365 * 24 * 3600 * NS_PER_S, "31536000S"},
        {UINT64_MAX, "5124096H"},
    };
    char to[GRPC_TIMEOUT_BYTES];
    uint64_t ns;

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        assert_bytes(grpc_timeout_print(cases[i].ns, to), cases[i].text);
        assert_int_equal(grpc_timeout_parse(bytes_str(cases[i].text), &ns), 0);
        assert_true(ns >= cases[i].ns);
    }
    assert_int_equal(grpc_timeout_parse(BYTES("20S"), &ns), 0);
    assert_int_equal(ns, 20 * NS_PER_S);
    assert_int_equal(grpc_timeout_parse(BYTES("3M"), &ns), 0);
    assert_int_equal(ns, 180 * NS_PER_S);
    assert_int_equal(grpc_timeout_parse(BYTES("99999999H"), &ns),
                     0); /* more than 64 bits of nanoseconds */
    assert_true(ns == UINT64_MAX);
    static const char *const bad[] = {"", "S", "1", "1s", "-1S", "1.5S", "123456789S", " 1S"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(grpc_timeout_parse(bytes_str(bad[i]), &ns), E_SYNTAX);
    }
}

static void messages_are_percent_encoded(void **state UNUSED)
{
    struct text coded, plain;
    char long_text[GRPC_TEXT_MAX + 100];

    text_init(&coded, 10000);
    text_init(&plain, 10000);
    grpc_text_encode(&coded, BYTES("100% \xc3\xbc\n~"));
    assert_bytes(text_bytes(&coded), "100%25 %C3%BC%0A~");
    grpc_text_decode(&plain, text_bytes(&coded));
    assert_bytes(text_bytes(&plain), "100% \xc3\xbc\n~");
    text_reset(&plain);
    grpc_text_decode(&plain, BYTES("%4a%4A%zz%4%")); /* what is no encoding stays */
    assert_bytes(text_bytes(&plain), "JJ%zz%4%");
    text_reset(&coded);
    memset(long_text, 'x', sizeof(long_text));
    grpc_text_encode(&coded, bytes_of(long_text, sizeof(long_text)));
    assert_int_equal(coded.len, GRPC_TEXT_MAX);
    text_clear(&coded);
    text_clear(&plain);
}

static void statuses_have_names(void **state UNUSED)
{
    assert_string_equal(grpc_status_name(GRPC_OK), "OK");
    assert_string_equal(grpc_status_name(GRPC_UNAUTHENTICATED), "Unauthenticated");
    assert_int_equal(GRPC_UNAUTHENTICATED, 16);
    assert_string_equal(grpc_status_name(17), "");
    assert_int_equal(grpc_status_of_http(404), GRPC_UNIMPLEMENTED);
    assert_int_equal(grpc_status_of_http(503), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_of_http(418), GRPC_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_out_whole_however_they_are_cut),
        cmocka_unit_test(a_large_message_across_chunks),
        cmocka_unit_test(what_is_no_frame_is_refused),
        cmocka_unit_test(the_limit_itself_is_allowed),
        cmocka_unit_test(sending_is_bounded_and_whole_or_nothing),
        cmocka_unit_test(small_messages_share_chunks),
        cmocka_unit_test(timeouts_are_printed_and_parsed),
        cmocka_unit_test(messages_are_percent_encoded),
        cmocka_unit_test(statuses_have_names),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
