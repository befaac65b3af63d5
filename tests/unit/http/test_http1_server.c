/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, one after the other, and how their answers are framed. */
#include "tests/unit/http/http1_server_probe.h"

static void a_connection_serves_one_request_after_the_other(void **state UNUSED)
{
    for (unsigned i = 0; i < 3; i++) {
        probe_send(&p, GET_A);
        assert_log(&p, "head GET /a ends;");
        answer_and_close_stream();
        assert_answer(OK_EMPTY, 1);
    }
    assert_false(p.peer_eof);
    probe_peer_shut(&p);
    assert_true(p.closed && p.peer_eof);
    assert_int_equal(p.close_err, 0);
}

static void an_idle_connection_holds_no_chunk(void **state UNUSED)
{
    struct io *io = http_server_io(server);
    size_t chunks;

    probe_send(&p, GET_A);
    answer_and_close_stream();
    chunks = p.loop.chunks.free_count;
    text_reset(&p.received);
    for (unsigned i = 0; i < 10; i++) {
        probe_send(&p, GET_A);
        answer_and_close_stream();
    }
    assert_int_equal(io->bytes_in, 11 * strlen(GET_A));
    assert_int_equal(p.loop.chunks.used_count, 0);      /* an idle connection holds no chunk */
    assert_int_equal(p.loop.chunks.free_count, chunks); /* and none was needed beyond the first */
}

static void every_split_of_a_request_is_the_same_request(void **state UNUSED)
{
    static const char text[] =
        "\r\nPOST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n";

    for (size_t split = 1; split < sizeof(text) - 1; split++) {
        bool has_data = false;
        struct text body;

        text_init(&body, 1000);
        probe_send_bytes(&p, bytes_of(text, split));
        probe_send_bytes(&p, bytes_of(text + split, sizeof(text) - 1 - split));
        for (size_t i = 0; i < p.log.len;) { /* join the pieces of the body */
            bool is_data = strncmp(p.log.at + i, ";data ", 6) == 0;

            if (is_data && has_data) {
                i += 6;
            } else {
                has_data = has_data || is_data;
                text_char(&body, p.log.at[i++]);
            }
        }
        assert_string_equal(body.at, "head POST /p;data hello world;end t=1;");
        text_clear(&body);
        text_reset(&p.log);
        answer_and_close_stream();
        assert_answer(OK_EMPTY, 1);
    }
}

static void a_request_may_come_byte_by_byte(void **state UNUSED)
{
    static const char text[] = "POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc";

    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        probe_send_bytes(&p, bytes_of(text + i, 1));
    }
    assert_log(&p, "head POST /p;data a;data b;data c;end;");
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
}

/* The first KiB of a head that is not complete is looked at, and may end in any part of the request line. */
static void a_long_target_may_be_cut_anywhere(void **state UNUSED)
{
    static const size_t cuts[] = {1023, 1024, 1448};
    static char text[2048];

    memset(text, 'x', sizeof(text));
    memcpy(text, "GET /", 5);
    for (size_t i = 0; i < 30 * ARRAY_LEN(cuts); i++) {
        size_t line = 1005 + i / ARRAY_LEN(cuts), cut = cuts[i % ARRAY_LEN(cuts)];

        memset(text + 5, 'x', sizeof(text) - 5);
        memcpy(text + line, " HTTP/1.1\r\nhost: h\r\ncookie: ", 28);
        memcpy(text + 1600, "\r\n\r\n", 4);
        probe_send_bytes(&p, bytes_of(text, cut));
        probe_send_bytes(&p, bytes_of(text + cut, 1604 - cut));
        assert_int_equal(strncmp(p.log.at, "head GET /xxx", 13), 0);
        text_reset(&p.log);
        answer_and_close_stream();
        assert_answer(OK_EMPTY, 1);
    }
}

static void a_head_may_span_chunks(void **state UNUSED)
{
    struct text t;

    text_init(&t, 1 << 20);
    text_str(&t, "GET /a HTTP/1.1\r\nhost: h\r\n");
    for (unsigned i = 0; i < 60; i++) {
        text_printf(&t, "x-%u: %01000u\r\n", i, i);
    }
    text_str(&t, "\r\n");
    probe_send_bytes(&p, text_bytes(&t));
    assert_log(&p, "head GET /a ends;");
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
    text_clear(&t);
}

static void responses_are_framed(void **state UNUSED)
{
    struct fields trailers;
    struct head h = response(200, -1);

    probe_send(&p, GET_A);
    send_head(200, 5, false);
    probe_send_data(&p, 'x', 2);
    probe_send_data(&p, 'y', 3);
    stream_send_end(p.s, NULL);
    probe_stream_close(&p, RESET_NONE);
    assert_answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nxxyyy", 1);

    probe_send(&p, GET_A);
    fields_init(&trailers, &p.s->arena);
    assert_int_equal(fields_add(&trailers, BYTES("t"), BYTES("1")), 0);
    assert_int_equal(fields_add(&trailers, BYTES("content-length"), BYTES("1")), 0);
    fields_init(&h.fields, &p.s->arena);
    assert_int_equal(fields_add(&h.fields, BYTES("date"), BYTES("today")), 0);
    assert_int_equal(stream_send_head(p.s, &h, false), 0);
    probe_send_data(&p, 'x', 0); /* nothing, not the last chunk */
    probe_send_data(&p, 'x', 17);
    probe_send_data(&p, 'y', 1);
    stream_send_end(p.s, &trailers);
    probe_stream_close(&p, RESET_NONE);
    probe_settle(&p);
    assert_received(&p, "HTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n"
                        "11\r\nxxxxxxxxxxxxxxxxx\r\n1\r\ny\r\n0\r\nt: 1\r\n\r\n");
}

static void head_has_no_body(void **state UNUSED) /* RFC 9112 6.3 */
{
    probe_send(&p, "HEAD /a HTTP/1.1\r\nhost: h\r\n\r\n");
    send_head(200, 5, false);
    probe_send_data(&p, 'x', 5); /* by a careless maker */
    stream_send_end(p.s, NULL);
    probe_stream_close(&p, RESET_NONE);
    assert_answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 1);
    probe_send(&p, GET_A);
    send_head(304, -1, true);
    probe_stream_close(&p, RESET_NONE);
    assert_answer("HTTP/1.1 304 Not Modified\r\n\r\n", 1);
}

static void http_10_gets_what_it_understands(void **state UNUSED)
{
    probe_send(&p, "GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    send_head(103, -1, true); /* RFC 9110 15.2: dropped */
    send_head(200, 2, false);
    probe_send_data(&p, 'x', 2);
    stream_send_end(p.s, NULL);
    probe_stream_close(&p, RESET_NONE);
    assert_answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nxx", 1);
    probe_send(&p, "GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    send_head(200, -1, false); /* no length, no chunks: the end is the connection's */
    probe_send_data(&p, 'x', 2);
    stream_send_end(p.s, NULL);
    probe_stream_close(&p, RESET_NONE);
    assert_answer("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nxx", 1);
    assert_true(p.peer_eof);
    probe_peer_close(&p);
    assert_true(p.closed);
}

static void interim_responses_pass(void **state UNUSED) /* RFC 9110 10.1.1 */
{
    probe_send(&p,
               "POST /a HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_log(&p, "head POST /a;");
    send_head(100, -1, true);
    assert_answer("HTTP/1.1 100 Continue\r\n\r\n", 0);
    probe_send(&p, "ab");
    assert_log(&p, "data ab;end;");
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
    assert_false(p.peer_eof);
}

static void a_refused_expectation_ends_the_connection(void **state UNUSED)
{
    probe_send(&p,
               "POST /a HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    send_head(417, -1, true);
    probe_stream_close(&p, RESET_NONE);
    assert_answer(
        "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 1);
    assert_true(p.peer_eof);
}

static void pipelined_requests_are_answered_in_order(void **state UNUSED)
{
    probe_send(&p, "GET /1 HTTP/1.1\r\nhost: h\r\n\r\nPOST /2 HTTP/1.1\r\nhost: h\r\n"
                   "content-length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_log(&p, "head GET /1 ends;"); /* one at a time */
    send_head(201, -1, true);
    probe_stream_close(&p, RESET_NONE);
    assert_log(&p, "head POST /2;data abc;end;");
    send_head(202, -1, true);
    probe_stream_close(&p, RESET_NONE);
    assert_log(&p, "head GET /3 ends;");
    send_head(203, -1, true);
    probe_stream_close(&p, RESET_NONE);
    assert_answer("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
                  "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
                  "HTTP/1.1 203 Non-Authoritative Information\r\ncontent-length: 0\r\n\r\n",
                  3);
}

static void an_answer_that_breaks_off_is_seen_to(void **state UNUSED) /* RFC 9112 8 */
{
    probe_send(&p, GET_A);
    send_head(200, 10, false);
    probe_send_data(&p, 'x', 3);
    probe_stream_close(&p, RESET_CONNECTION);
    assert_answer("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nxxx", 1);
    assert_true(p.peer_eof); /* before the length was reached */
}

static void an_end_before_the_length_is_no_end(void **state UNUSED)
{
    probe_send(&p, GET_A);
    send_head(200, 10, false);
    probe_send_data(&p, 'x', 3);
    stream_send_end(p.s, NULL);
    probe_settle(&p);
    assert_log(&p, "head GET /a ends;reset connection h1_truncated;");
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed);
    assert_int_equal(p.close_err, E_H1_TRUNCATED);
}

static void a_length_without_bytes_is_refused(void **state UNUSED)
{
    struct head h = response(200, 10);

    probe_send(&p, GET_A);
    assert_int_equal(stream_send_head(p.s, &h, true), E_SYNTAX);
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_connection_serves_one_request_after_the_other),
        TEST(an_idle_connection_holds_no_chunk),
        TEST(every_split_of_a_request_is_the_same_request),
        TEST(a_request_may_come_byte_by_byte),
        TEST(a_long_target_may_be_cut_anywhere),
        TEST(a_head_may_span_chunks),
        TEST(responses_are_framed),
        TEST(head_has_no_body),
        TEST(http_10_gets_what_it_understands),
        TEST(interim_responses_pass),
        TEST(a_refused_expectation_ends_the_connection),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(an_answer_that_breaks_off_is_seen_to),
        TEST(an_end_before_the_length_is_no_end),
        TEST(a_length_without_bytes_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
