/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which protocol the first bytes of a connection are (wire 5.1), given whole and byte by byte.
 */
#include "core/err.h"
#include "http/http1.h"
#include "tests/unit/unit.h"

#define AGAIN E_AGAIN

static const struct {
    const char *in;
    int verdict; /* of the whole: enum detected or AGAIN */
} samples[] = {
    {"", AGAIN},
    {"GET / HTTP/1.1\r\n", DETECT_HTTP1},
    {"GET / HTTP/1.0\r\nx: y", DETECT_HTTP1},
    {"A / HTTP/1.1\r\n", DETECT_HTTP1},
    {"\r\nGET / HTTP/1.1\r\n", DETECT_HTTP1},
    {"GET / HTTP/1.1\n", DETECT_HTTP1},
    {"GET / HTTP/1.1\r\nx : malformed all the same\r\n\r\n", DETECT_HTTP1},
    {"OPTIONS * HTTP/1.1\r\n", DETECT_HTTP1},
    {"CONNECT a:1 HTTP/1.1\r\n", DETECT_HTTP1},
    {"GET http://a/ HTTP/1.1\r\n", DETECT_HTTP1},
    {"GET /a/target/that/goes/on", DETECT_HTTP1},
    {"GET /abc", AGAIN},
    {"GET", AGAIN},
    {"GET / HTTP/1.", AGAIN},
    {"GET / HTTP/1.1", DETECT_HTTP1}, /* wire 5.1: 14 bytes of what begins a request */
    {"GET /abcd HTT", AGAIN},
    {"GET /abcd HTTP", DETECT_HTTP1},
    {"PRI * HTTP/2.0", DETECT_HTTP2},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", DETECT_HTTP2},
    {"PRI * HTTP/2", AGAIN},
    {"PRI * HTTP/1.1\r\n", DETECT_HTTP1},
    {"PRI * HTTP/3.0\r\n", DETECT_OPAQUE},
    {"GET / HTTP/0.9\r\n", DETECT_OPAQUE},
    {"GET / HTTP/1.2\r\n", DETECT_OPAQUE},
    {"GET /\r\n", DETECT_OPAQUE},
    {"GET  / HTTP/1.1\r\n", DETECT_OPAQUE},
    {"EHLO mail.example.com\r\n", DETECT_OPAQUE},
    {"SSH-2.0-OpenSSH_9.2\r\n", DETECT_OPAQUE},
    {"SET key value\r\n", DETECT_OPAQUE},
    {"*1\r\n$4\r\nPING\r\n", DETECT_OPAQUE},
    {"USER anonymous\r\n", DETECT_OPAQUE},
    {"get key\r\n", DETECT_OPAQUE},
    {"\x16\x03\x01\x02\x00\x01", DETECT_OPAQUE},
    {"\r\r", DETECT_OPAQUE},
    {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", DETECT_OPAQUE},
};

static int detect(const char *in, size_t len)
{
    enum detected out = DETECT_OPAQUE;
    char *copy = bytes_dup(bytes_of(in, len));
    int rc = http_detect(bytes_of(copy, len), &out);

    free(copy);
    assert_true(rc == 0 || rc == E_AGAIN);
    return rc == 0 ? (int)out : AGAIN;
}

static void protocols_are_told_apart(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        size_t len = strlen(samples[i].in);
        int first = AGAIN;

        if (detect(samples[i].in, len) != samples[i].verdict) {
            fail_msg("%s: %d", samples[i].in, detect(samples[i].in, len));
        }
        for (size_t part = 0; part <= len && first == AGAIN; part++) {
            first = detect(samples[i].in, part);
        }
        /* What is decided early is decided alike, but for a line whose start looks like a request. */
        if (first != samples[i].verdict && first != DETECT_HTTP1) {
            fail_msg("%s: %d byte by byte", samples[i].in, first);
        }
    }
}

static void long_words_are_no_request(void **state UNUSED)
{
    static char text[2048];

    memset(text, 'x', sizeof(text));
    memcpy(text, "GET a", 5);
    assert_int_equal(detect(text, 4 + HTTP1_SCHEME_MAX),
                     AGAIN); /* a scheme, as far as one can tell */
    assert_int_equal(detect(text, 4 + HTTP1_SCHEME_MAX + 1), DETECT_OPAQUE);
    assert_int_equal(detect(text, sizeof(text)), DETECT_OPAQUE);
    memset(text + 4, '/', sizeof(text) - 4);
    assert_int_equal(detect(text, sizeof(text)), DETECT_HTTP1);
}

/* What is looked at ends at 1,024 bytes, in any part of a request line: none is carried past the policies. */
static void a_long_request_line_is_one_wherever_it_is_cut(void **state UNUSED)
{
    static char text[2048];

    for (size_t target = 990; target < 1040; target++) {
        size_t len = 4 + target;

        memset(text, 'x', sizeof(text));
        memcpy(text, "GET /", 5);
        memcpy(text + len, " HTTP/1.1\r\nhost: h\r\n\r\n", 22);
        for (size_t cut = 1000; cut <= 1024; cut++) {
            assert_int_equal(detect(text, cut), DETECT_HTTP1);
        }
    }
}

/* RFC 9113 3.4: servers of HTTP/2 may speak first. */
static void what_servers_say_first(void **state)
{
    const struct {
        const char *first;
        size_t len;
        int rc;
        bool is_http;
    } cases[] = {
        {"J\0\0\0\n8.0.36\0", 12, 0, false}, /* MySQL */
        {"220 mail\r\n", 10, 0, false},
        {"SSH-2.0-x\r\n", 11, 0, false},
        {"H", 1, E_AGAIN, false},
        {"HTTP", 4, E_AGAIN, false},
        {"HELO", 4, 0, false},
        {"HTTP/1.0 4", 10, 0, true},
        {"\0", 1, E_AGAIN, false},
        {"\0\0\0\1", 4, 0, false},
        {"\0\0\6\4\0\0\0", 7, E_AGAIN, false},
        {"\0\0\7\4\0\0\0\0\0", 9, 0, false}, /* not whole settings */
        {"\0\0\0\4\1\0\0\0\0", 9, 0, false}, /* an acknowledgement */
        {"\0\0\0\4\0\0\0\0\1", 9, 0, false}, /* of a stream */
        {"\0\0\x12\4\0\0\0\0\0", 9, 0, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool is_http = false;

        if (http_detect_server(bytes_of(cases[i].first, cases[i].len), &is_http) != cases[i].rc ||
            is_http != cases[i].is_http) {
            fail_msg("case %zu", i);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_servers_say_first),
        cmocka_unit_test(protocols_are_told_apart),
        cmocka_unit_test(long_words_are_no_request),
        cmocka_unit_test(a_long_request_line_is_one_wherever_it_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
