/* SPDX-License-Identifier: Apache-2.0 */
/* Back-pressure: who does not read, or grants no credit, costs neither memory nor time. */
#include "tests/unit/http/http1_server_probe.h"

static void a_body_waits_for_credit(void **state UNUSED)
{
    p.credit_at_once = 0;
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\nabcdef");
    assert_log(&p, "head POST /a;");
    stream_credit(p.s, 2);
    probe_turns(&p);
    assert_log(&p, "data ab;");
    stream_credit(p.s, 1);
    stream_credit(p.s, 1);
    probe_turns(&p);
    assert_log(&p, "data cd;");
    stream_credit(p.s, 100);
    probe_turns(&p);
    assert_log(&p, "data ef;end;");
    answer_and_close_stream();
}

static void chunked_bodies_wait_for_credit_too(void **state UNUSED)
{
    p.credit_at_once = 0;
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
                   "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
    stream_credit(p.s, 2);
    probe_turns(&p);
    stream_credit(p.s, 2);
    probe_turns(&p);
    assert_log(&p, "head POST /a;data ab;data cd;");
    stream_credit(p.s, 2);
    probe_turns(&p);
    assert_log(&p, "data ef;end;");
    answer_and_close_stream();
}

static void without_credit_reading_stops(void **state UNUSED)
{
    static char block[1 << 16];
    size_t sent = 0;
    ssize_t n;

    p.credit_at_once = 0;
    memset(block, 'x', sizeof(block));
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\n");
    while ((n = send(p.peer, block, sizeof(block), MSG_NOSIGNAL)) > 0) {
        sent += (size_t)n;
        probe_turns(&p);
        assert_true(sent < 4u << 20); /* the kernel's buffer and what was read ahead fill up */
    }
    assert_true(p.loop.chunks.used_count * CHUNK_BYTES <= 4u * 65536);
    assert_log(&p, "head POST /a;");
    probe_stream_close(&p, RESET_CANCEL);
}

static void pipelined_bytes_are_not_read_without_end(void **state UNUSED)
{
    static char block[1 << 16];
    size_t sent = 0;
    ssize_t n;

    memset(block, 'x', sizeof(block));
    probe_send(&p, GET_A);
    while ((n = send(p.peer, block, sizeof(block), MSG_NOSIGNAL)) > 0) {
        sent += (size_t)n;
        probe_turns(&p);
        assert_true(sent < 4u << 20);
    }
    assert_true(p.loop.chunks.used_count * CHUNK_BYTES <= 4u * 65536);
    answer_and_close_stream();
    assert_true(p.closed || p.peer_eof); /* what follows is no request */
}

static void output_is_bounded_by_room(void **state UNUSED)
{
    size_t sent = 0;

    probe_send(&p, GET_A);
    send_head(200, -1, false);
    assert_int_equal(p.s->room, HTTP_OUTPUT_HIGH_BYTES);
    while (p.s->room > 0) { /* the peer does not read */
        size_t n = p.s->room;

        probe_send_data(&p, 'x', n);
        sent += n;
        probe_turns(&p);
        assert_true(sent < 4u << 20);
    }
    assert_true(p.loop.chunks.used_count * CHUNK_BYTES <= 2u * 65536);
    p.room = 0;
    probe_peer_read(&p);
    probe_turns(&p);
    assert_int_equal(p.s->room, HTTP_OUTPUT_HIGH_BYTES);
    assert_int_equal(p.room, HTTP_OUTPUT_HIGH_BYTES);
    stream_send_end(p.s, NULL);
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.received.len > sent);
}

static void small_pieces_do_not_hold_a_chunk_each(void **state UNUSED)
{
    probe_send(&p, GET_A);
    send_head(200, 5000, false);
    for (unsigned i = 0; i < 5000; i++) {
        probe_send_data(&p, 'x', 1);
    }
    assert_true(p.loop.chunks.used_count <= 2);
    stream_send_end(p.s, NULL);
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.received.len > 5000);
}

static void a_client_that_does_not_read_gets_no_more_answers(void **state UNUSED)
{
    struct http_limits limits = {.output_high_bytes = 1000};
    struct text t;

    assert_int_equal(teardown(NULL), 0);
    start_with(&limits);
    text_init(&t, 1 << 20);
    for (unsigned i = 0; i < 1000; i++) {
        text_str(&t, GET_A);
    }
    probe_send_bytes(&p, text_bytes(&t));
    text_clear(&t);
    for (unsigned i = 0; i < 1000 && p.s != NULL; i++) {
        struct stream *s = p.s;

        send_head(200, -1, true);
        p.s = NULL;
        stream_close(s, RESET_NONE);
        probe_turns(&p);
        if (p.s == NULL) { /* full: only a reader gets it going */
            assert_true(p.loop.chunks.used_count * CHUNK_BYTES <= 6u * 65536);
            probe_settle(&p);
        }
    }
    assert_null(p.s);
    assert_false(p.closed);
}

/* Nothing is tried again before the socket says that it takes more: such clients would else keep a
 * core busy. */
static void a_client_that_does_not_read_costs_no_time(void **state UNUSED)
{
    struct stream *s;
    size_t sent = 0;

    probe_send(&p, "GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    send_head(200, -1, false);
    while (p.s->room > 0) {
        size_t n = p.s->room;

        probe_send_data(&p, 'x', n);
        sent += n;
        probe_turns(&p);
    }
    assert_true(list_is_empty(&p.loop.ready) && list_is_empty(&p.loop.late));
    s = p.s;
    p.s = NULL;
    stream_send_end(s, NULL);
    stream_close(s, RESET_NONE);
    probe_turns(&p); /* it is over but for what is not sent */
    assert_true(list_is_empty(&p.loop.ready) && list_is_empty(&p.loop.late));
    assert_false(p.closed);
    while (!p.peer_eof) {
        probe_settle(&p);
    }
    assert_true(p.received.len > sent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_body_waits_for_credit),
        TEST(chunked_bodies_wait_for_credit_too),
        TEST(without_credit_reading_stops),
        TEST(pipelined_bytes_are_not_read_without_end),
        TEST(output_is_bounded_by_room),
        TEST(small_pieces_do_not_hold_a_chunk_each),
        TEST(a_client_that_does_not_read_gets_no_more_answers),
        TEST(a_client_that_does_not_read_costs_no_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
