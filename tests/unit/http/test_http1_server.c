/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http/http_probe.h"
#include "tests/unit/http/slow_layer.h"

#include "http/http1_server.h"

static struct probe p;
static struct http_server *server;
static void (*on_stream_extra)(void);

static void on_stream(void *user, struct stream *s)
{
    struct probe *probe = user;

    assert_null(probe->s);
    probe->s = s;
    stream_set_user(s, &probe_events, probe);
    if (on_stream_extra != NULL) {
        on_stream_extra();
    }
}

static const struct http_server_events events = {.on_stream = on_stream,
                                                 .on_closed = probe_on_closed};

static void start_with(const struct http_limits *limits)
{
    struct io *io = NULL;

    on_stream_extra = NULL;
    probe_open(&p, &io);
    p.credit_at_once = 1 << 20;
    server = http1_server_new(io, NULL, limits, &events, &p);
    probe_turns(&p);
}

static int setup(void **state UNUSED)
{
    start_with(NULL);
    return 0;
}

static int teardown(void **state UNUSED)
{
    if (!p.closed) {
        http_server_close(server, E_CANCELED);
        probe_turns(&p);
        if (p.s != NULL) {
            probe_stream_close(&p, RESET_CANCEL);
        }
    }
    assert_true(p.closed);
    probe_close(&p);
    return 0;
}

static struct head response(unsigned status, int64_t length)
{
    return (struct head){.status = status, .content_length = length, .version = HTTP_11};
}

static void send_head(unsigned status, int64_t length, bool ends)
{
    struct head h = response(status, length);

    assert_int_equal(stream_send_head(p.s, &h, ends), 0);
}

/* What came, without the date, which must be there when `dates` say so. */
static void assert_answer(const char *want, unsigned dates)
{
    struct bytes date = BYTES("date: ");
    size_t at = 0;

    probe_settle(&p);
    while (p.received.len > 0 && bytes_find(text_bytes(&p.received), date, &at)) {
        memmove(p.received.at + at, p.received.at + at + 37, p.received.len - at - 37 + 1);
        p.received.len -= 37;
        assert_true(dates-- > 0);
    }
    assert_int_equal(dates, 0);
    assert_received(&p, want);
}

static void answer_and_close_stream(void)
{
    send_head(200, -1, true);
    probe_stream_close(&p, RESET_NONE);
}

#define GET_A    "GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
#define OK_EMPTY "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
#define OK_CLOSE "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
#define BAD      "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

/* --- exchanges ----------------------------------------------------------------------------------- */

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

/* --- back-pressure ------------------------------------------------------------------------------- */

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

/* --- ends ---------------------------------------------------------------------------------------- */

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

static void a_half_closed_client_gets_its_answer(void **state UNUSED)
{
    probe_send(&p, GET_A);
    probe_peer_shut(&p);
    assert_log(&p, "head GET /a ends;");
    assert_false(p.closed);
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
    assert_true(p.peer_eof && p.closed);
    assert_int_equal(p.close_err, 0);
}

static void a_body_cut_short_is_told(void **state UNUSED) /* RFC 9112 8 */
{
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nab");
    probe_peer_shut(&p);
    assert_log(&p, "head POST /a;data ab;reset truncated h1_truncated;");
    probe_stream_close(&p, RESET_NONE);
    assert_answer(BAD, 1);
    assert_true(p.closed);
}

static void a_head_cut_short_closes(void **state UNUSED)
{
    probe_send(&p, "GET / HT");
    probe_peer_shut(&p);
    assert_log(&p, "");
    assert_true(p.closed);
    assert_int_equal(p.close_err, E_H1_TRUNCATED);
}

static void a_client_that_goes_away_resets_the_stream(void **state UNUSED)
{
    probe_send(&p, GET_A);
    send_head(200, -1, false);
    probe_send_data(&p, 'x', 10);
    probe_turns(&p);
    probe_peer_close(&p); /* with unread bytes: a reset */
    probe_send_data(&p, 'x', 10);
    probe_turns(&p);
    assert_true(strncmp(p.log.at, "head GET /a ends;reset connection E", 34) == 0);
    probe_send_data(&p, 'x', 10); /* into the void, until it is closed */
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed && p.close_err != 0);
}

/* Nothing is read then that would tell. */
static void a_client_that_goes_away_without_credit_resets_the_stream(void **state UNUSED)
{
    p.credit_at_once = 0;
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\nxx");
    assert_log(&p, "head POST /a;");
    probe_peer_close(&p);
    assert_log(&p, "reset connection closed;");
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed && p.close_err != 0);
}

/* Nor when it goes in good order. RFC 9112 8: a request that cannot become whole is over; what is
 * unread of it need not be waited for. */
static void a_body_cut_short_is_told_without_credit(void **state UNUSED)
{
    static const char *const requests[] = {
        "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 200000\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n30d40\r\n",
    };
    char block[100000];

    memset(block, 'x', sizeof(block));
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        if (i > 0) {
            assert_int_equal(teardown(NULL), 0);
            assert_int_equal(setup(NULL), 0);
        }
        p.credit_at_once = 0;
        probe_send(&p, requests[i]);
        probe_send_bytes(&p, bytes_of(block, sizeof(block)));
        assert_log(&p, "head POST /a;");
        probe_peer_shut(&p);
        assert_log(&p, "reset truncated h1_truncated;");
        probe_stream_close(&p, RESET_NONE);
        assert_answer(BAD, 1);
        assert_true(p.closed && p.peer_eof);
    }
}

/* RFC 9112 9.6, RFC 9293 3.6: who has said everything may finish. What it said is read in time. */
static void a_whole_body_may_end_with_the_connection(void **state UNUSED)
{
    static const char *const requests[] = {
        "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n0123456789",
        "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n9\r\n012345678\r\n1\r\n9"
        "\r\n0\r\nx: y\r\n\r\n",
    };
    static const char *const logs[] = {"data 0123456789;end;", "data 0123456789;end;",
                                       "data 0123456789;end x=y;"};

    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        if (i > 0) {
            assert_int_equal(teardown(NULL), 0);
            assert_int_equal(setup(NULL), 0);
        }
        p.credit_at_once = 0;
        probe_send(&p, requests[i]);
        probe_peer_shut(&p);
        assert_log(&p, "head POST /a;");
        stream_credit(p.s, 1000);
        probe_settle(&p);
        assert_log(&p, logs[i]);
        answer_and_close_stream();
        assert_answer(OK_EMPTY, 1);
        assert_true(p.closed && p.close_err == 0);
    }
}

/* The same in pieces: each wait for credit in the middle of it is one that knows of the end. */
static void a_whole_body_may_end_long_before_it_is_wanted(void **state UNUSED)
{
    static const char chunked[] = "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
                                  "a\r\n0123456789\r\n5;x=y\r\nabcde\r\n0\r\n\r\n";
    char log[512];
    size_t pieces = 0;

    p.credit_at_once = 0;
    probe_send(&p, chunked);
    probe_peer_shut(&p);
    assert_log(&p, "head POST /a;");
    while (pieces < 15) {
        stream_credit(p.s, 1);
        probe_turns(&p);
        (void)snprintf(log, sizeof(log), "data %c;%s", "0123456789abcde"[pieces], pieces == 14 ? "end;" : "");
        assert_log(&p, log);
        pieces++;
    }
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
    assert_true(p.closed && p.close_err == 0);
}

/* Nor behind a request that is whole, when enough of the next ones came. */
static void a_client_that_goes_away_behind_a_queue_resets_the_stream(void **state UNUSED)
{
    for (unsigned i = 0; i < 8192 / sizeof(GET_A); i++) {
        probe_send(&p, GET_A);
    }
    assert_log(&p, "head GET /a ends;");
    probe_peer_close(&p);
    assert_log(&p, "reset connection closed;");
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed && p.close_err != 0);
}

static void connection_close_is_honoured(void **state UNUSED) /* RFC 9112 9.6 */
{
    probe_send(&p, "GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n" GET_A);
    assert_log(&p, "head GET /a ends;");
    answer_and_close_stream();
    assert_answer(OK_CLOSE, 1);
    assert_true(p.peer_eof && !p.closed); /* there may be more, and a reset for it: it is waited for */
    assert_log(&p, "");
    probe_peer_close(&p);
    assert_true(p.closed);
}

/* RFC 9112 9.6: a client that said so sends nothing more. */
static void a_clients_last_request_is_not_lingered_for(void **state UNUSED)
{
    static const char *const requests[] = {
        "GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
        "GET /a HTTP/1.0\r\nhost: h\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx",
    };

    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        probe_send(&p, requests[i]);
        text_reset(&p.log);
        answer_and_close_stream();
        assert_answer(OK_CLOSE, 1);
        assert_true(p.peer_eof && p.closed);
        assert_int_equal(p.close_err, 0);
        assert_int_equal(teardown(NULL), 0);
        start_with(NULL);
    }
}

/* What it said does not count before its request is read. */
static void a_last_request_that_is_not_read_is_lingered_for(void **state UNUSED)
{
    p.credit_at_once = 0;
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 6\r\n\r\nabc");
    answer_and_close_stream();
    assert_answer(OK_CLOSE, 1);
    assert_true(p.peer_eof && !p.closed);
    probe_send(&p, "def");
    assert_false(p.closed);
    probe_peer_close(&p);
    assert_true(p.closed);
}

/* The bytes come in the turn in which the answer leaves. */
static void a_client_that_goes_on_after_its_last_request_gets_its_answer(void **state UNUSED)
{
    probe_send(&p, "GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    assert_int_equal(send(p.peer, GET_A, strlen(GET_A), 0), strlen(GET_A));
    answer_and_close_stream();
    assert_answer(OK_CLOSE, 1);
    assert_true(p.peer_eof && !p.closed);
    assert_int_equal(p.peer_err, 0);
}

static struct http1_server *start_slow(void)
{
    struct io *io;

    assert_int_equal(teardown(NULL), 0);
    probe_open(&p, &io);
    p.credit_at_once = 1 << 20;
    server = http1_server_new(slow_open(io), NULL, NULL, &events, &p);
    return CONTAINER_OF(server, struct http1_server, base);
}

static void what_a_layer_holds_is_not_cut_after_the_linger_time(void **state UNUSED)
{
    struct http1_server *sv = start_slow();

    probe_send(&p, "GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    answer_and_close_stream();
    assert_answer(OK_CLOSE, 1);
    assert_int_equal(sv->state, SERVER_LINGER);
    assert_int_equal(sv->timer_for, TIMER_STALL); /* it has not begun to linger */
    slow_is_behind = false;
    task_wake(&p.loop, &sv->c.run); /* as such a layer does */
    probe_settle(&p);
    assert_true(p.peer_eof);
    assert_int_equal(sv->timer_for, TIMER_LINGER);
}

/* A client that has finished sending may still be reading: it is not left to what the layer does for a
 * connection that is closed. */
static void what_a_layer_holds_is_not_cut_for_a_client_that_has_finished(void **state UNUSED)
{
    struct http1_server *sv = start_slow();

    probe_send(&p, "GET /a HTTP/1.1\r\nhost: h\r\n\r\n");
    probe_peer_shut(&p);
    answer_and_close_stream();
    assert_false(p.closed);
    assert_int_equal(sv->state, SERVER_LINGER);
    assert_int_equal(sv->timer_for, TIMER_STALL);
    slow_is_behind = false;
    task_wake(&p.loop, &sv->c.run);
    probe_settle(&p);
    assert_true(p.peer_eof && p.closed);
    assert_int_equal(p.close_err, 0);
}

static void the_owner_can_end_a_connection_after_a_stream(void **state UNUSED)
{
    probe_send(&p, GET_A);
    http_server_close_after(server, p.s);
    answer_and_close_stream();
    assert_answer(OK_CLOSE, 1);
    assert_true(p.peer_eof);
}

/* Of a request whose body comes meanwhile, too: an end that is a reset could take the answer with it. */
static void a_close_says_the_last_answer(void **state UNUSED)
{
    p.credit_at_once = 0;
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 60000\r\n\r\nabc");
    assert_int_equal(send(p.peer, GET_A, strlen(GET_A), MSG_NOSIGNAL), strlen(GET_A));
    http_server_close_after(server, p.s);
    send_head(200, -1, true);
    stream_close(p.s, RESET_NONE);
    p.s = NULL;
    http_server_close(server, E_CANCELED);
    probe_settle(&p);
    assert_answer(OK_CLOSE, 1);
    assert_true(p.peer_eof && p.closed);
    assert_int_equal(p.peer_err, 0);
    assert_int_equal(p.close_err, E_CANCELED);
}

/* One that broke off must not pass for a whole one. */
static void a_close_does_not_make_an_answer_whole(void **state UNUSED)
{
    probe_send(&p, "GET /a HTTP/1.0\r\nhost: h\r\n\r\n"); /* its answer ends with the connection */
    send_head(200, -1, false);
    stream_close(p.s, RESET_INTERNAL);
    p.s = NULL;
    http_server_close(server, E_CANCELED);
    probe_settle(&p);
    assert_true(p.closed);
    assert_null(p.received.at);
}

static void an_unread_request_is_dropped_for_the_next(void **state UNUSED)
{
    p.credit_at_once = 0;
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\nabc");
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
    probe_send(&p, "def" GET_A);
    assert_log(&p, "head POST /a;head GET /a ends;");
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
}

static void an_unread_request_is_not_dropped_for_ever(void **state UNUSED)
{
    static char block[1 << 16];

    p.credit_at_once = 0;
    memset(block, 'x', sizeof(block));
    probe_send(&p, "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\nabc");
    answer_and_close_stream();
    assert_false(p.peer_eof);
    for (unsigned i = 0; i < 100 && !p.peer_eof; i++) {
        probe_send_bytes(&p, bytes_of(block, sizeof(block)));
    }
    assert_true(p.peer_eof);
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

static void draining_an_idle_connection_closes_it(void **state UNUSED)
{
    probe_send(&p, GET_A);
    answer_and_close_stream();
    assert_answer(OK_EMPTY, 1);
    http_server_drain(server);
    probe_settle(&p);
    assert_true(p.peer_eof);
    probe_peer_close(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_err, 0);
}

static void draining_finishes_what_is_in_progress(void **state UNUSED)
{
    probe_send(&p, GET_A);
    http_server_drain(server);
    probe_settle(&p);
    assert_false(p.peer_eof);
    send_head(200, -1, true);
    probe_stream_close(&p, RESET_NONE);
    probe_settle(&p);
    assert_true(p.peer_eof);
    assert_false(bytes_ends(text_bytes(&p.received), BYTES("keep-alive\r\n\r\n")));
}

static void closing_resets_the_stream(void **state UNUSED)
{
    probe_send(&p, GET_A);
    http_server_close(server, E_OVERLOAD);
    assert_log(&p, "head GET /a ends;"); /* calls never call back */
    probe_settle(&p);
    assert_log(&p, "reset connection overload;");
    assert_false(p.closed); /* the stream is still held */
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed);
    assert_int_equal(p.close_err, E_OVERLOAD);
}

static void close_in_event(void)
{
    http_server_close(server, E_DENIED);
}

static void a_connection_may_be_closed_in_its_event(void **state UNUSED)
{
    on_stream_extra = close_in_event;
    probe_send(&p, GET_A);
    assert_log(&p, "reset connection denied;");
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.closed);
}

static void refuse_in_event(void)
{
    struct stream *s = p.s;

    send_head(403, -1, true);
    p.s = NULL;
    stream_close(s, RESET_REFUSED);
}

static void a_stream_may_be_answered_and_closed_in_its_event(void **state UNUSED)
{
    on_stream_extra = refuse_in_event;
    probe_send(&p, GET_A GET_A);
    assert_log(&p, "");
    assert_answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
                  "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
                  2);
}

static void wait_for_close(void)
{
    while (!p.closed && !p.peer_eof) {
        (void)loop_turn(&p.loop, 1000);
        probe_peer_read(&p);
    }
}

static void a_slow_head_times_out(void **state UNUSED)
{
    struct http_limits limits = {.head_timeout_ns = 20 * NS_PER_MS};

    assert_int_equal(teardown(NULL), 0);
    start_with(&limits);
    probe_send(&p, "GET / HT");
    wait_for_close();
    assert_answer("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                  1);
    probe_peer_close(&p);
    assert_int_equal(p.close_err, E_TIMEOUT);
}

static void a_timeout_behind_a_close_does_nothing(void **state UNUSED)
{
    struct http_limits limits = {.head_timeout_ns = NS_PER_MS};
    uint64_t until;

    assert_int_equal(teardown(NULL), 0);
    start_with(&limits);
    assert_int_equal(send(p.peer, "GET", 3, MSG_NOSIGNAL), 3);
    (void)loop_turn(&p.loop, 0);
    until = clock_mono_ns() + 2 * NS_PER_MS;
    while (clock_mono_ns() < until) {
    }
    http_server_close(server, E_OVERLOAD); /* both are due in the next turn */
    probe_turns(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_err, E_OVERLOAD);
}

static void a_stream_closed_without_answer_closes(void **state UNUSED)
{
    probe_send(&p, GET_A GET_A);
    answer_and_close_stream();
    probe_stream_close(&p, RESET_CANCEL); /* of the second */
    assert_answer(OK_EMPTY, 1);           /* the first arrives whole */
    assert_true(p.peer_eof);
    assert_int_equal(p.peer_err, 0);
}

static void an_idle_connection_times_out(void **state UNUSED)
{
    struct http_limits limits = {.idle_timeout_ns = 20 * NS_PER_MS};

    assert_int_equal(teardown(NULL), 0);
    start_with(&limits);
    probe_send(&p, GET_A);
    answer_and_close_stream();
    wait_for_close();
    assert_answer(OK_EMPTY, 1);
    probe_peer_close(&p);
    assert_int_equal(p.close_err, 0);
}

/* --- upgrades ------------------------------------------------------------------------------------ */

static void take(const char *unread)
{
    struct io *io = NULL;
    struct chain out, in;
    char text[64] = "";

    assert_int_equal(stream_take(p.s, &io, &out, &in), 0);
    p.s = NULL;
    assert_int_equal(chain_peek(&in, text, sizeof(text) - 1), strlen(unread));
    assert_string_equal(text, unread);
    assert_int_equal(io_send(io, &out), 0);
    chain_clear(&out);
    chain_clear(&in);
    probe_settle(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_err, 0);
    assert_int_equal(chain_append(&out, &p.loop.chunks, BYTES("tunnel")), 0);
    assert_int_equal(io_send(io, &out), 0);
    io_close(io);
}

static void an_upgrade_hands_the_connection_over(void **state UNUSED)
{
    struct head h = response(101, -1);

    probe_send(
        &p, "GET /a HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nearly");
    fields_init(&h.fields, &p.s->arena);
    assert_int_equal(fields_add(&h.fields, BYTES("upgrade"), BYTES("websocket")), 0);
    assert_int_equal(stream_send_head(p.s, &h, true), 0);
    take("early");
    probe_settle(&p);
    assert_received(&p, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
                        "connection: upgrade\r\n\r\ntunnel");
}

static void connect_hands_the_connection_over(void **state UNUSED)
{
    struct io *io = NULL;
    struct chain out, in;

    probe_send(&p, "CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\nearly");
    assert_log(&p, "head CONNECT a:1 ends;");
    assert_int_equal(stream_take(p.s, &io, &out, &in), E_UNSUPPORTED); /* not yet agreed to */
    send_head(200, -1, false);
    take("early");
    assert_answer("HTTP/1.1 200 OK\r\n\r\ntunnel", 1); /* RFC 9110 9.3.6: no length */
}

static void an_upgrade_that_is_not_taken_closes(void **state UNUSED)
{
    probe_send(&p, "CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n");
    send_head(200, -1, true);
    probe_stream_close(&p, RESET_NONE);
    assert_true(p.peer_eof);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_connection_serves_one_request_after_the_other),
        TEST(an_idle_connection_holds_no_chunk),
        TEST(every_split_of_a_request_is_the_same_request),
        TEST(a_request_may_come_byte_by_byte),
        TEST(a_head_may_span_chunks),
        TEST(responses_are_framed),
        TEST(head_has_no_body),
        TEST(http_10_gets_what_it_understands),
        TEST(interim_responses_pass),
        TEST(a_refused_expectation_ends_the_connection),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(a_body_waits_for_credit),
        TEST(chunked_bodies_wait_for_credit_too),
        TEST(without_credit_reading_stops),
        TEST(pipelined_bytes_are_not_read_without_end),
        TEST(output_is_bounded_by_room),
        TEST(small_pieces_do_not_hold_a_chunk_each),
        TEST(a_client_that_does_not_read_gets_no_more_answers),
        TEST(a_client_that_does_not_read_costs_no_time),
        TEST(malformed_heads_get_400_and_a_close),
        TEST(too_large_heads_get_431),
        TEST(lingering_is_bounded),
        TEST(a_bad_chunk_is_answered_if_nothing_was),
        TEST(a_bad_chunk_in_the_middle_of_an_answer_resets),
        TEST(a_half_closed_client_gets_its_answer),
        TEST(a_body_cut_short_is_told),
        TEST(a_head_cut_short_closes),
        TEST(a_client_that_goes_away_resets_the_stream),
        TEST(a_client_that_goes_away_without_credit_resets_the_stream),
        TEST(a_client_that_goes_away_behind_a_queue_resets_the_stream),
        TEST(a_body_cut_short_is_told_without_credit),
        TEST(a_whole_body_may_end_with_the_connection),
        TEST(a_whole_body_may_end_long_before_it_is_wanted),
        TEST(connection_close_is_honoured),
        TEST(a_clients_last_request_is_not_lingered_for),
        TEST(a_last_request_that_is_not_read_is_lingered_for),
        TEST(a_client_that_goes_on_after_its_last_request_gets_its_answer),
        TEST(what_a_layer_holds_is_not_cut_after_the_linger_time),
        TEST(what_a_layer_holds_is_not_cut_for_a_client_that_has_finished),
        TEST(the_owner_can_end_a_connection_after_a_stream),
        TEST(a_close_says_the_last_answer),
        TEST(a_close_does_not_make_an_answer_whole),
        TEST(an_unread_request_is_dropped_for_the_next),
        TEST(an_unread_request_is_not_dropped_for_ever),
        TEST(an_answer_that_breaks_off_is_seen_to),
        TEST(an_end_before_the_length_is_no_end),
        TEST(a_length_without_bytes_is_refused),
        TEST(draining_an_idle_connection_closes_it),
        TEST(draining_finishes_what_is_in_progress),
        TEST(closing_resets_the_stream),
        TEST(a_connection_may_be_closed_in_its_event),
        TEST(a_stream_may_be_answered_and_closed_in_its_event),
        TEST(a_slow_head_times_out),
        TEST(a_timeout_behind_a_close_does_nothing),
        TEST(a_stream_closed_without_answer_closes),
        TEST(an_idle_connection_times_out),
        TEST(an_upgrade_hands_the_connection_over),
        TEST(connect_hands_the_connection_over),
        TEST(an_upgrade_that_is_not_taken_closes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
