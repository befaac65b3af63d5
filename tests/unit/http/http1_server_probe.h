/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HTTP_HTTP1_SERVER_PROBE_H
#define TESTS_UNIT_HTTP_HTTP1_SERVER_PROBE_H

/*
 * An HTTP/1 server's connection, new for each test: the test is its client, and the user of its stream.
 */
#include "tests/unit/http/http_probe.h"

#include "http/http1_server.h"

static struct probe p;
static struct http_server *server;
static void (*on_stream_extra)(void); /* called when a request has come; NULL at the start of a test */

static inline void on_stream(void *user, struct stream *s)
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

static inline void start_with(const struct http_limits *limits)
{
    struct io *io = NULL;

    on_stream_extra = NULL;
    probe_open(&p, &io);
    p.credit_at_once = 1 << 20;
    server = http1_server_new(io, NULL, limits, &events, &p);
    probe_turns(&p);
}

static inline int setup(void **state UNUSED)
{
    start_with(NULL);
    return 0;
}

static inline int teardown(void **state UNUSED)
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

static inline struct head response(unsigned status, int64_t length)
{
    return (struct head){.status = status, .content_length = length, .version = HTTP_11};
}

static inline void send_head(unsigned status, int64_t length, bool ends)
{
    struct head h = response(status, length);

    assert_int_equal(stream_send_head(p.s, &h, ends), 0);
}

/* What came, without the date, which must be there when `dates` say so. */
static inline void assert_answer(const char *want, unsigned dates)
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

static inline void answer_and_close_stream(void)
{
    send_head(200, -1, true);
    probe_stream_close(&p, RESET_NONE);
}

#define GET_A    "GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
#define OK_EMPTY "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
#define OK_CLOSE "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
#define BAD      "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
