/* SPDX-License-Identifier: Apache-2.0 */
/* How the server ends a connection: its client or its owner asks for it, or a time is over. */
#include "tests/unit/http/http1_server_probe.h"
#include "tests/unit/http/slow_layer.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        TEST(draining_an_idle_connection_closes_it),
        TEST(draining_finishes_what_is_in_progress),
        TEST(closing_resets_the_stream),
        TEST(a_connection_may_be_closed_in_its_event),
        TEST(a_stream_may_be_answered_and_closed_in_its_event),
        TEST(a_slow_head_times_out),
        TEST(a_timeout_behind_a_close_does_nothing),
        TEST(a_stream_closed_without_answer_closes),
        TEST(an_idle_connection_times_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
