/* SPDX-License-Identifier: Apache-2.0 */
/* A client that has finished or is gone: before, within and behind its requests. */
#include "tests/unit/http/http1_server_probe.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_half_closed_client_gets_its_answer),
        TEST(a_body_cut_short_is_told),
        TEST(a_head_cut_short_closes),
        TEST(a_client_that_goes_away_resets_the_stream),
        TEST(a_client_that_goes_away_without_credit_resets_the_stream),
        TEST(a_client_that_goes_away_behind_a_queue_resets_the_stream),
        TEST(a_body_cut_short_is_told_without_credit),
        TEST(a_whole_body_may_end_with_the_connection),
        TEST(a_whole_body_may_end_long_before_it_is_wanted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
