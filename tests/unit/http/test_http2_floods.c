/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers that send what costs them little and us much, or what they may not send any more; and the end of
 * a connection as the wire shows it.
 */
#include "tests/unit/http/h2_raw.h"

#define GET_BYTES (sizeof(GET_HEAD) - 1)
#define CALM      11 /* ENHANCE_YOUR_CALM */

static void raw_get(struct probe *p, unsigned stream)
{
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, stream, GET_HEAD, GET_BYTES);
}

/* A request is still taken, and answered to its end. */
static void expect_service(struct probe *p, unsigned stream)
{
    static struct frame f;
    unsigned before = p->accepted_count;
    struct user *u;

    raw_get(p, stream);
    PROBE_UNTIL(p, p->accepted_count == before + 1 && p->accepted[before]->head != NULL);
    u = p->accepted[before];
    user_answer(u, 200, true);
    user_close(u, RESET_NONE);
    do {
        assert_true(raw_expect(p, HEADERS, &f));
    } while (f.stream != stream);
}

/* --- frames on streams that are over ------------------------------------------------------------- */

enum how_it_ended { BY_END, BY_RESET };

/* The peer ends stream 1 and sends a frame on it all the same. `step`: bytes of one write. */
static void send_on_an_ended_stream(enum how_it_ended how, unsigned type, size_t step)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    raw_send(p, HEADERS, how == BY_END ? END_STREAM | END_HEADERS : END_HEADERS, 1, GET_HEAD,
             GET_BYTES);
    PROBE_UNTIL(p, p->accepted_count == 1);
    if (how == BY_END) {
        user_answer(p->accepted[0], 200, true);
        user_close(p->accepted[0], RESET_NONE);
        probe_settle(p);
    }
    text_init(&t, 1000);
    if (how == BY_RESET) {
        raw_frame(&t, RST_STREAM, 0, 1, "\0\0\0\x08", 4);
    }
    if (type == DATA) {
        raw_frame(&t, DATA, END_STREAM, 1, "late", 4);
    } else {
        raw_frame(&t, HEADERS, END_STREAM | END_HEADERS, 1, GET_HEAD, GET_BYTES);
    }
    for (size_t at = 0; at < t.len; at += step) {
        raw_write(p, t.at + at, MIN(step, t.len - at));
    }
    text_clear(&t);
    expect_goaway(p, 5); /* STREAM_CLOSED (RFC 9113 5.1) */
    assert_int_equal(p->server_err, E_H2_PROTOCOL);
    assert_int_equal(p->accepted_count, 1);
    probe_free(p);
}

static void frames_on_a_stream_that_the_peer_ended(void **state UNUSED)
{
    for (size_t step = 1; step <= 64; step = step * 2 + 1) {
        send_on_an_ended_stream(BY_END, DATA, step);
        send_on_an_ended_stream(BY_END, HEADERS, step);
        send_on_an_ended_stream(BY_RESET, DATA, step);
        send_on_an_ended_stream(BY_RESET, HEADERS, step);
    }
}

static void a_request_on_a_stream_below_the_last_one(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);

    raw_get(p, 5);
    raw_get(p, 9);
    PROBE_UNTIL(p, p->accepted_count == 2);
    raw_get(p, 7);
    expect_goaway(p, 1); /* PROTOCOL_ERROR (RFC 9113 5.1.1) */
    assert_int_equal(p->accepted_count, 2);
    probe_free(p);
}

/* What was under way when we reset a stream is no fault (RFC 9113 5.4.2), and trailers are no new request. */
static void frames_that_crossed_our_reset_are_ignored(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);

    raw_send(p, HEADERS, END_HEADERS, 1, GET_HEAD, GET_BYTES);
    raw_send(p, HEADERS, END_HEADERS, 3, GET_HEAD, GET_BYTES);
    PROBE_UNTIL(p, p->accepted_count == 2);
    user_close(p->accepted[0], RESET_CANCEL);
    expect_reset(p, 1, 8);
    raw_send(p, DATA, 0, 1, "late", 4);
    raw_send(p, DATA, END_STREAM, 1, "later", 5);
    p->accepted[1]->auto_credit = true;
    stream_credit(p->accepted[1]->s, 100);
    raw_send(p, DATA, 0, 3, "in time", 7);
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 3,
             "\x00\x01"
             "x"
             "\x01"
             "y",
             5);
    PROBE_UNTIL(p, p->accepted[1]->ended);
    assert_int_equal(p->accepted[1]->received, 7);
    assert_non_null(p->accepted[1]->trailers);
    expect_service(p, 5);
    assert_false(p->server_closed);
    probe_free(p);
}

/* --- more requests than a turn can begin ------------------------------------------------------------ */

/* In one write, so that a turn of the loop reads them all. Streams from `first` on, `count` of them. */
static void burst(struct probe *p, unsigned type, unsigned first, unsigned count, const char *payload,
                  size_t len)
{
    struct text t;

    text_init(&t, 1 << 20);
    for (unsigned i = 0; i < count; i++) {
        raw_frame(&t, type, type == HEADERS ? END_STREAM | END_HEADERS : 0, first + 2 * i, payload, len);
    }
    assert_int_equal(write(p->raw_fd, t.at, t.len), t.len);
    text_clear(&t);
    (void)loop_turn(&p->loop, 0);
}

static void a_turn_begins_a_few_of_many_requests(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    unsigned before = 0;

    burst(p, HEADERS, 1, 1000, GET_HEAD, GET_BYTES);
    assert_in_range(p->accepted_count, 1, 32);
    while (p->accepted_count < 1000) {
        assert_in_range(p->accepted_count - before, 1, 32);
        before = p->accepted_count;
        (void)loop_turn(&p->loop, 0);
    }
    for (unsigned i = 0; i < 1000; i++) {
        user_answer(p->accepted[i], 200, true);
        user_close(p->accepted[i], RESET_NONE);
    }
    probe_settle(p);
    expect_service(p, 2001);
    probe_free(p);
}

static void what_is_reset_before_it_began_is_never_shown(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    unsigned begun;

    burst(p, HEADERS, 1, 1000, GET_HEAD, GET_BYTES);
    burst(p, RST_STREAM, 1, 1000, "\0\0\0\x08", 4);
    begun = p->accepted_count;
    assert_in_range(begun, 1, 64);
    probe_settle(p);
    assert_int_equal(p->accepted_count, begun);
    for (unsigned i = 0; i < begun; i++) {
        assert_int_equal(p->accepted[i]->why, RESET_CANCEL);
        user_close(p->accepted[i], RESET_NONE);
    }
    expect_service(p, 2001);
    probe_free(p);
}

/* --- floods -------------------------------------------------------------------------------------- */

/* CVE-2024-28182 and its kin: a field block without end, in pieces that each cost a frame. */
static void a_head_of_endless_continuations(void **state UNUSED)
{
    static const struct bytes parts[] = {
        BYTES(""),
        BYTES("\x00\x01"
              "x"
              "\x01"
              "y"),
    };

    for (unsigned which = 0; which < ARRAY_LEN(parts); which++) {
        struct probe *p = raw_server_greeted(NULL);
        unsigned sent = 0;

        raw_send(p, HEADERS, END_STREAM, 1, GET_HEAD, GET_BYTES);
        for (unsigned batch = 0; batch < 100 && !p->server_closed; batch++) {
            struct text t;

            text_init(&t, 1 << 20);
            for (unsigned i = 0; i < 1000; i++, sent++) {
                raw_frame(&t, CONTINUATION, 0, 1, parts[which].at, parts[which].len);
            }
            raw_write(p, t.at, t.len);
            text_clear(&t);
            probe_settle(p);
        }
        expect_goaway(p, CALM);
        assert_int_equal(p->server_err, E_OVERLOAD);
        assert_true(sent <= 2000); /* it took no more than what was on its way */
        assert_int_equal(p->accepted_count, 0);
        probe_free(p);
    }
}

/* HPACK: a value of 3,000 bytes enters the table once, and then costs its sender a byte each time. */
static void a_small_head_that_unfolds_to_a_large_one(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text head;

    text_init(&head, 65536);
    text_add(&head, BYTES(GET_HEAD "\x40\x01"
                                   "x"
                                   "\x7f\xb9\x16")); /* 127 + 57 + 22 * 128 = 3000 */
    for (unsigned i = 0; i < 3000; i++) {
        text_add(&head, BYTES("v"));
    }
    for (unsigned i = 0; i < 8000; i++) {
        text_add(&head, BYTES("\xbe")); /* index 62: 24 MB in all */
    }
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 1, head.at, head.len);
    text_clear(&head);
    expect_reset(p, 1, CALM);
    assert_int_equal(p->accepted_count, 0);
    expect_service(p, 3);
    probe_free(p);
}

/*
 * Window updates are as cheap to handle as to send, and an eager reader sends many: they end nothing. The
 * looks at all streams that one of the connection causes are made once a turn, not once a frame.
 */
static void window_updates_are_gathered(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;
    unsigned told = 0;

    for (unsigned stream = 1; stream < 200; stream += 2) {
        raw_get(p, stream);
    }
    PROBE_UNTIL(p, p->accepted_count == 100);
    for (unsigned i = 0; i < 100; i++) {
        user_answer(p->accepted[i], 200, false);
        p->accepted[i]->log_len = 0;
    }
    text_init(&t, 1 << 20);
    for (unsigned i = 0; i < 20000; i++) {
        raw_frame(&t, WINDOW_UPDATE, 0, 0, "\0\0\0\x01", 4);
    }
    raw_write(p, t.at, t.len);
    text_clear(&t);
    probe_settle(p);
    assert_false(p->server_closed);
    for (unsigned i = 0; i < 100; i++) {
        told += p->accepted[i]->log_len;
    }
    assert_int_equal(told, 0); /* the stream windows did not grow, so nobody has more room */
    expect_service(p, 201);
    probe_free(p);
}

/* Idle streams that PRIORITY names are remembered by nghttp2, up to a bound; so are none of ours. */
static void priorities_of_streams_that_never_come(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);

    for (unsigned stream = 3; stream < 1000; stream += 2) {
        raw_send(p, PRIORITY, 0, stream, "\0\0\0\0\x10", 5);
    }
    probe_settle(p);
    assert_int_equal(p->accepted_count, 0);
    expect_service(p, 1001);
    probe_free(p);
}

/* --- the end, as the wire shows it --------------------------------------------------------------- */

static void a_drain_takes_what_is_on_its_way_and_nothing_later(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    static struct frame f;

    raw_get(p, 1);
    PROBE_UNTIL(p, p->accepted_count == 1);
    http_server_drain(p->server);
    assert_true(raw_expect(p, GOAWAY, &f)); /* RFC 9113 6.8: first one that refuses nothing */
    assert_int_equal(code_at(&f, 0), 0x7fffffff);
    assert_int_equal(code_at(&f, 4), 0);
    assert_true(raw_expect(p, PING, &f));
    raw_get(p, 3); /* sent before the GOAWAY was seen */
    PROBE_UNTIL(p, p->accepted_count == 2);
    raw_send(p, PING, ACK, 0, (const char *)f.payload, 8);
    assert_true(raw_expect(p, GOAWAY, &f));
    assert_int_equal(code_at(&f, 0), 3); /* and then the last one that was taken */
    assert_int_equal(code_at(&f, 4), 0);
    raw_get(p, 5);
    probe_settle(p);
    assert_int_equal(p->accepted_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        user_answer(p->accepted[i], 200, true);
        user_close(p->accepted[i], RESET_NONE);
        assert_true(raw_expect(p, HEADERS, &f));
        assert_int_equal(f.stream, 2 * i + 1);
    }
    (void)shutdown(p->raw_fd, SHUT_WR);
    PROBE_UNTIL(p, p->server_closed);
    assert_int_equal(p->server_err, 0);
    probe_free(p);
}

/* A client of ours; the server is spoken by hand, and has read the client's first frames. */
static struct probe *raw_client(void)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    unsigned char preface[24];
    int fds[2];

    probe_sockets(fds);
    p->raw_fd = fds[0];
    p->client = http2_client_new(probe_io(p, fds[1]), NULL, &probe_client_events, p);
    assert_true(raw_read(p, preface, sizeof(preface)));
    raw_send(p, SETTINGS, 0, 0, "", 0);
    return p;
}

static void a_server_that_goes_away_loses_no_request(void **state UNUSED)
{
    struct probe *p = raw_client();
    struct user *u[3];
    static struct frame f;

    for (unsigned i = 0; i < 3; i++) {
        u[i] = probe_get(p, "/");
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_true(raw_expect(p, HEADERS, &f));
    }
    raw_send(p, GOAWAY, 0, 0, "\x7f\xff\xff\xff\0\0\0\0", 8);
    PROBE_UNTIL(p, p->client_closed); /* opens no more */
    assert_int_equal(p->client_err, E_GOAWAY);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(u[i]->why, RESET_NONE);
    }
    raw_send(p, GOAWAY, 0, 0, "\0\0\0\x03\0\0\0\0", 8);
    PROBE_UNTIL(p, u[2]->why != RESET_NONE); /* stream 5 was not processed: another may take it */
    assert_int_equal(u[2]->why, RESET_GOAWAY);
    user_close(u[2], RESET_NONE);
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 1, "\x88", 1);
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 3, "\x88", 1);
    for (unsigned i = 0; i < 2; i++) {
        PROBE_UNTIL(p, u[i]->head != NULL);
        assert_int_equal(u[i]->head->status, 200);
        assert_int_equal(u[i]->why, RESET_NONE);
        user_close(u[i], RESET_NONE);
    }
    while (raw_expect(p, GOAWAY, &f)) { /* it says goodbye too, and closes */
        assert_int_equal(code_at(&f, 4), 0);
    }
    probe_free(p);
}

/* What holds of clients holds of servers that we ask. */
static void a_server_that_floods_is_left(void **state UNUSED)
{
    static const struct {
        unsigned type, flags;
        const char *payload;
        size_t len;
    } floods[] = {
        {PING, 0, "12345678", 8},
        {SETTINGS, 0, "", 0},
        {PRIORITY, 0, "\0\0\0\0\x10", 5},
    };

    for (unsigned which = 0; which < ARRAY_LEN(floods); which++) {
        struct probe *p = raw_client();
        struct user *u = probe_get(p, "/");
        static struct frame f;
        struct text t;

        assert_true(raw_expect(p, HEADERS, &f));
        text_init(&t, 1 << 20);
        for (unsigned i = 0; i < 3000; i++) {
            raw_frame(&t, floods[which].type, floods[which].flags,
                      floods[which].type == PRIORITY ? 1 : 0, floods[which].payload,
                      floods[which].len);
        }
        raw_write(p, t.at, t.len);
        text_clear(&t);
        assert_true(raw_expect(p, GOAWAY, &f));
        assert_int_equal(code_at(&f, 4), CALM);
        (void)shutdown(p->raw_fd, SHUT_WR);
        PROBE_UNTIL(p, u->why != RESET_NONE);
        assert_int_equal(u->why, RESET_CONNECTION);
        user_close(u, RESET_NONE);
        PROBE_UNTIL(p, p->client_closed);
        probe_free(p);
    }
}

/*
 * CVE-2019-9511: a peer that asks for much and takes it a byte at a time. What waits for it is bounded by the
 * room that we told, and others are served.
 */
static void a_peer_that_takes_a_byte_at_a_time(void **state UNUSED)
{
    struct probe *p = raw_server(NULL);
    static struct frame f;
    struct user *u;

    raw_write(p, PREFACE, sizeof(PREFACE) - 1);
    raw_send(p, SETTINGS, 0, 0, "\0\x04\0\0\0\0", 6); /* INITIAL_WINDOW_SIZE 0 */
    raw_get(p, 1);
    PROBE_UNTIL(p, p->accepted_count == 1);
    u = p->accepted[0];
    u->to_send = 10 << 20;
    user_answer(u, 200, false);
    user_pump(u);
    for (unsigned i = 0; i < 200; i++) {
        raw_send(p, WINDOW_UPDATE, 0, 1, "\0\0\0\x01", 4);
        assert_true(raw_expect(p, DATA, &f));
        assert_int_equal(f.len, 1);
    }
    assert_true(u->sent <= 200 + 65536);
    assert_true(p->loop.chunks.used_count <= 16);
    expect_service(p, 3);
    probe_free(p);
}

/* CVE-2019-9517: all windows open, the socket full. For 900 streams less than 900 high marks is queued. */
static void a_peer_that_asks_for_all_and_reads_nothing(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    size_t queued = 0;

    raw_send(p, WINDOW_UPDATE, 0, 0, "\x7f\0\0\0", 4);
    for (unsigned i = 0; i < 900; i++) {
        struct user *u;

        raw_get(p, 2 * i + 1);
        raw_send(p, WINDOW_UPDATE, 0, 2 * i + 1, "\x7f\0\0\0", 4);
        PROBE_UNTIL(p, p->accepted_count == i + 1);
        u = p->accepted[i];
        u->to_send = 10 << 20;
        user_answer(u, 200, false);
        user_pump(u);
    }
    probe_settle(p);
    for (unsigned i = 0; i < 900; i++) {
        assert_true(p->accepted[i]->to_send > 0);
        queued += p->accepted[i]->sent;
    }
    assert_true(queued > 4 << 20 && queued < 12 << 20);
    assert_false(p->server_closed);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_reset_before_it_began_is_never_shown),
        cmocka_unit_test(a_turn_begins_a_few_of_many_requests),
        cmocka_unit_test(frames_on_a_stream_that_the_peer_ended),
        cmocka_unit_test(a_request_on_a_stream_below_the_last_one),
        cmocka_unit_test(frames_that_crossed_our_reset_are_ignored),
        cmocka_unit_test(a_head_of_endless_continuations),
        cmocka_unit_test(a_small_head_that_unfolds_to_a_large_one),
        cmocka_unit_test(window_updates_are_gathered),
        cmocka_unit_test(priorities_of_streams_that_never_come),
        cmocka_unit_test(a_server_that_floods_is_left),
        cmocka_unit_test(a_peer_that_takes_a_byte_at_a_time),
        cmocka_unit_test(a_peer_that_asks_for_all_and_reads_nothing),
        cmocka_unit_test(a_drain_takes_what_is_on_its_way_and_nothing_later),
        cmocka_unit_test(a_server_that_goes_away_loses_no_request),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
