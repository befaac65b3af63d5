/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunked bodies (RFC 9112 7.1), each sample whole and in every split in two.
 */
#include "core/err.h"
#include "http/http1.h"
#include "tests/unit/unit.h"

struct sample {
    const char *rule;
    const char *in;
    const char *body; /* NULL: refused */
};

#define TEN            "0123456789"
#define TEN2           TEN TEN
#define LONG_EXTENSION TEN2 TEN2 TEN2 TEN2 TEN2 TEN2 TEN2 TEN2 TEN2 TEN2 TEN2 TEN2

static const struct sample samples[] = {
    {"last chunk alone", "0\r\n", ""},
    {"one chunk", "5\r\nhello\r\n0\r\n", "hello"},
    {"two chunks", "5\r\nhello\r\n1\r\n!\r\n0\r\n", "hello!"},
    {"hex digits of both cases", "a\r\n" TEN "\r\nA\r\n" TEN "\r\n0\r\n", TEN2},
    {"leading zeros", "0005\r\nhello\r\n000\r\n", "hello"},
    {"line ends inside data", "4\r\n\r\n\r\n\r\n0\r\n", "\r\n\r\n"},
    {"extension", "1;a\r\nx\r\n0\r\n", "x"},
    {"extension with a value", "1;a=b\r\nx\r\n0;c=d\r\n", "x"},
    {"BWS round extensions", "1 ; a = b ; c\r\nx\r\n0\r\n", "x"},
    {"quoted value", "1;a=\"; b\\\" \\\\\"\r\nx\r\n0\r\n", "x"},
    {"long extension", "1;" LONG_EXTENSION "\r\nx\r\n0\r\n", "x"},
    {"extension line over the limit", "1;" LONG_EXTENSION TEN2 "\r\nx\r\n0\r\n", NULL},
    {"largest size is read", "1000000000000000\r\n", ""},
    {"size over 2^60", "1000000000000001\r\n", NULL},
    {"size that overflows 64 bits", "10000000000000005\r\nhello\r\n0\r\n", NULL},
    {"no digit", "\r\nhello\r\n0\r\n", NULL},
    {"no digit but an extension", ";a\r\nx\r\n", NULL},
    {"0x", "0x5\r\nhello\r\n0\r\n", NULL},
    {"sign", "+5\r\nhello\r\n0\r\n", NULL},
    {"negative", "-1\r\n", NULL},
    {"leading space", " 5\r\nhello\r\n0\r\n", NULL},
    {"trailing space", "5 \r\nhello\r\n0\r\n", NULL},
    {"RFC 9112 2.2: bare LF", "5\nhello\r\n0\r\n", NULL},
    {"RFC 9112 2.2: bare CR", "5\rhello\r\n0\r\n", NULL},
    {"bare LF in an extension", "5;a\nhello\r\n0\r\n", NULL},
    {"bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n", NULL},
    {"LF in a quoted value", "5;a=\"\n\"\r\nhello\r\n0\r\n", NULL},
    {"CR in a quoted value", "5;a=\"\r\n\"\r\nhello\r\n0\r\n", NULL},
    {"unclosed quote", "5;a=\"b\r\nhello\r\n0\r\n", NULL},
    {"empty extension", "5;\r\nhello\r\n0\r\n", NULL},
    {"value without name", "5;=b\r\nhello\r\n0\r\n", NULL},
    {"name without value", "5;a=\r\nhello\r\n0\r\n", NULL},
    {"no token", "5;a(\r\nhello\r\n0\r\n", NULL},
    {"comma for semicolon", "5,a\r\nhello\r\n0\r\n", NULL},
    {"NUL", "5;a=\"\001\"\r\nhello\r\n0\r\n", NULL},
    {"data longer than said", "4\r\nhello\r\n0\r\n", NULL},
    {"data shorter than said", "6\r\nhello\r\n0\r\n", NULL},
    {"bare LF behind the data", "5\r\nhello\n0\r\n", NULL},
    {"CR without LF behind the data", "5\r\nhello\r0\r\n", NULL},
};

struct outcome {
    int rc;
    size_t consumed; /* up to and with the last chunk's line */
    char body[512];
    size_t body_len;
};

static void feed(struct http1_chunks *c, const char *in, size_t len, struct outcome *o)
{
    while (len > 0 && o->rc == E_AGAIN) {
        size_t consumed = 0, data = 0, data_len = 0;
        int rc = http1_chunks_feed(c, in, len, &consumed, &data, &data_len);

        if (rc != 0 && rc != E_EOF) {
            o->rc = rc;
            return;
        }
        assert_true(consumed > 0 && consumed <= len && data + data_len <= consumed);
        memcpy(o->body + o->body_len, in + data, data_len);
        o->body_len += data_len;
        o->consumed += consumed;
        in += consumed;
        len -= consumed;
        o->rc = rc == E_EOF ? E_EOF : E_AGAIN;
    }
}

static struct outcome decode(const char *in, size_t split)
{
    struct http1_chunks c;
    struct outcome o = {.rc = E_AGAIN};

    http1_chunks_init(&c);
    feed(&c, in, split, &o);
    feed(&c, in + split, strlen(in) - split, &o);
    return o;
}

static void chunks_are_read_in_any_split(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        const struct sample *s = &samples[i];

        for (size_t split = 0; split <= strlen(s->in); split++) {
            struct outcome o = decode(s->in, split);
            bool is_whole = strstr(s->in, "0\r\n") != NULL && o.rc == E_EOF;

            if (s->body == NULL && o.rc != E_H1_BAD_CHUNK) {
                fail_msg("%s: %s, split at %zu", s->rule, err_name(o.rc), split);
            }
            if (s->body != NULL && o.rc != E_EOF && strcmp(s->rule, "largest size is read") != 0) {
                fail_msg("%s: %s, split at %zu", s->rule, err_name(o.rc), split);
            }
            if (s->body != NULL) {
                assert_bytes(bytes_of(o.body, o.body_len), s->body);
            }
            if (is_whole) {
                assert_int_equal(o.consumed, strlen(s->in));
            }
        }
    }
}

static void what_follows_the_last_chunk_is_left(void **state UNUSED)
{
    struct outcome o = decode("1\r\nx\r\n0\r\nA: b\r\n\r\n", 3);

    assert_int_equal(o.rc, E_EOF);
    assert_int_equal(o.consumed, 9);
}

static void a_bad_chunk_is_final(void **state UNUSED)
{
    struct http1_chunks c;
    size_t consumed = 0, data = 0, data_len = 0;

    http1_chunks_init(&c);
    assert_int_equal(http1_chunks_feed(&c, "z", 1, &consumed, &data, &data_len), E_H1_BAD_CHUNK);
    assert_int_equal(http1_chunks_feed(&c, "0\r\n", 3, &consumed, &data, &data_len),
                     E_H1_BAD_CHUNK);
    http1_chunks_init(&c);
    assert_int_equal(http1_chunks_feed(&c, "", 0, &consumed, &data, &data_len), E_AGAIN);
}

static void data_can_be_taken_in_parts(void **state UNUSED)
{
    struct http1_chunks c;
    size_t consumed = 0, data = 0, data_len = 0;

    http1_chunks_init(&c);
    assert_int_equal(http1_chunks_feed(&c, "5\r\nhello\r\n", 10, &consumed, &data, &data_len), 0);
    assert_int_equal(consumed, 3);
    assert_int_equal(data_len, 0);
    assert_int_equal(c.left, 5);
    assert_int_equal(http1_chunks_feed(&c, "he", 2, &consumed, &data, &data_len), 0);
    assert_int_equal(data_len, 2);
    assert_int_equal(c.left, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_are_read_in_any_split),
        cmocka_unit_test(what_follows_the_last_chunk_is_left),
        cmocka_unit_test(a_bad_chunk_is_final),
        cmocka_unit_test(data_can_be_taken_in_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
