/* SPDX-License-Identifier: Apache-2.0 */
/* What breaks the rules of HTTP/1 or its limits is refused, and the refusal arrives. */
#include "tests/unit/http/http1_server_probe.h"

static void malformed_heads_get_400_and_a_close(void **state UNUSED)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\nhost : h\r\n\r\n",
        "GET / HTTP/1.1\nhost: h\n\n",
        "\x16\x03\x01\x02",
        "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        probe_send(&p, bad[i]);
        assert_answer(BAD, 1);
        assert_true(p.peer_eof);
        assert_log(&p, "");
        probe_send(&p, "and more that nobody reads"); /* no reset: the answer is safe */
        assert_int_equal(p.peer_err, 0);
        probe_peer_close(&p);
        assert_true(p.closed);
        assert_int_equal(err_category(p.close_err), ERR_PEER);
        assert_int_equal(teardown(NULL), 0);
        start_with(NULL);
    }
}

/* As it is when the same bytes come one by one, and are looked at while they are few. */
static void a_long_beginning_of_no_request_gets_400_at_once(void **state UNUSED)
{
    char text[2000];

    memset(text, 0xa6, sizeof(text));
    memcpy(text, "GET ", 4);
    probe_send_bytes(&p, bytes_of(text, sizeof(text)));
    assert_answer(BAD, 1);
    assert_true(p.peer_eof);
}

static void too_large_heads_get_431(void **state UNUSED)
{
    static char text[HTTP_HEAD_BYTES_MAX + 100];

    memset(text, 'x', sizeof(text));
    memcpy(text, "GET /", 5);
    probe_send_bytes(&p, bytes_of(text, sizeof(text)));
    assert_answer("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n"
                  "connection: close\r\n\r\n",
                  1);
    assert_true(p.peer_eof);
}

static void lingering_is_bounded(void **state UNUSED)
{
    static char block[1 << 16];

    probe_send(&p, "bad\n");
    for (unsigned i = 0; i < 100 && !p.closed; i++) {
        probe_send_bytes(&p, bytes_of(block, sizeof(block)));
    }
    assert_true(p.closed);
}

static void a_bad_chunk_is_answered_if_nothing_was(void **state UNUSED)
{
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\nz");
    assert_log(&p, "head POST /a;data x;reset protocol h1_bad_chunk;");
    assert_answer(BAD, 1);
    assert_true(p.peer_eof);
    probe_stream_close(&p, RESET_NONE);
    probe_peer_close(&p);
    assert_true(p.closed);
}

static void a_bad_chunk_in_the_middle_of_an_answer_resets(void **state UNUSED)
{
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
    send_head(200, -1, false);
    probe_send(&p, "z");
    assert_log(&p, "head POST /a;data x;reset protocol h1_bad_chunk;");
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed);
    assert_int_equal(p.close_err, E_H1_BAD_CHUNK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(malformed_heads_get_400_and_a_close),
        TEST(a_long_beginning_of_no_request_gets_400_at_once),
        TEST(too_large_heads_get_431),
        TEST(lingering_is_bounded),
        TEST(a_bad_chunk_is_answered_if_nothing_was),
        TEST(a_bad_chunk_in_the_middle_of_an_answer_resets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
