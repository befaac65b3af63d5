/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers that speak HTTP/2 by hand, mostly badly; and what leaves us, byte by byte.
 */
#include "tests/unit/http/h2_raw.h"

#include <sys/uio.h>

/* --- what leaves us ------------------------------------------------------------------------------ */

static void a_client_greets_as_linkerds_proxy_does(void **state UNUSED)
{
    static const unsigned char want[] = {
        0,    0,    18,   SETTINGS,
        0,    0,    0,    0,
        0,    0,    2,    0,
        0,    0,    0, /* ENABLE_PUSH 0 */
        0,    4,    0,    0,
        0xff, 0xff, /* INITIAL_WINDOW_SIZE 65535 */
        0,    6,    0,    0,
        0x40, 0, /* MAX_HEADER_LIST_SIZE 16384 */
        0,    0,    4,    WINDOW_UPDATE,
        0,    0,    0,    0,
        0,    0,    0x0f, 0,
        1, /* to 1048576 */
    };
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    unsigned char got[24 + sizeof(want)];
    int fds[2];

    probe_sockets(fds);
    p->raw_fd = fds[0];
    p->client = http2_client_new(probe_io(p, fds[1]), NULL, &probe_client_events, p);
    assert_true(raw_read(p, got, sizeof(got)));
    assert_memory_equal(got, PREFACE, 24);
    assert_memory_equal(got + 24, want, sizeof(want));
    probe_free(p);
}

/* An io that counts what is sent, and shows the memory it is sent from. */
struct counting {
    struct io io;
    unsigned sends;
    char *expected; /* a chunk's payload that is looked for */
    bool saw_expected;
    struct grave grave;
};

static int counting_recv(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes)
{
    int rc = io_recv(io->below, to, bytes_max, out_bytes);

    io->readable = io->below->readable;
    return rc;
}

static int counting_send(struct io *io, struct chain *from)
{
    struct counting *c = CONTAINER_OF(io, struct counting, io);
    struct iovec iov[64];
    int count = chain_iov(from, iov, ARRAY_LEN(iov));

    for (int i = 0; i < count; i++) {
        c->saw_expected = c->saw_expected || iov[i].iov_base == c->expected;
    }
    c->sends++;
    return io_send(io->below, from);
}

static int counting_shut(struct io *io)
{
    return io_shut(io->below);
}

static void counting_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct counting, grave));
}

static void counting_close(struct io *io)
{
    struct counting *c = CONTAINER_OF(io, struct counting, io);

    io_close(io->below);
    io->below = NULL;
    loop_free_later(io->loop, &c->grave, counting_bury);
}

static int counting_fd(const struct io *io)
{
    return io_fd(io->below);
}

static void counting_set_owner(struct io *io, struct task *owner)
{
    io->owner = owner;
    io_set_owner(io->below, owner);
}

static const struct io_ops counting_ops = {
    .name = "counting",
    .recv = counting_recv,
    .send = counting_send,
    .shut = counting_shut,
    .close = counting_close,
    .fd = counting_fd,
    .set_owner = counting_set_owner,
};

static struct probe *counted_pair(struct counting **out)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    struct counting *c = mem_new(sizeof(*c));
    int fds[2];

    probe_sockets(fds);
    c->io.ops = &counting_ops;
    c->io.loop = &p->loop;
    c->io.below = probe_io(p, fds[0]);
    c->io.readable = true;
    p->server = http2_server_new(&c->io, NULL, NULL, &probe_server_events, p);
    p->client = http2_client_new(probe_io(p, fds[1]), NULL, &probe_client_events, p);
    *out = c;
    return p;
}

static void the_answers_of_one_turn_leave_in_one_write(void **state UNUSED)
{
    struct counting *c;
    struct probe *p = counted_pair(&c);
    unsigned before;

    for (unsigned i = 0; i < 50; i++) {
        (void)probe_get(p, "/");
    }
    PROBE_UNTIL(p, p->accepted_count == 50);
    probe_settle(p);
    before = c->sends;
    for (unsigned i = 0; i < 50; i++) {
        user_answer(p->accepted[i], 200, false);
        user_send(p->accepted[i], "a small body");
        stream_send_end(p->accepted[i]->s, NULL);
        user_close(p->accepted[i], RESET_NONE);
    }
    for (unsigned i = 0; i < 50; i++) {
        PROBE_UNTIL(p, p->dialed[i]->head != NULL);
    }
    assert_int_equal(c->sends, before + 1);
    probe_free(p);
}

static void a_large_body_is_not_copied(void **state UNUSED)
{
    struct counting *c;
    struct probe *p = counted_pair(&c);
    struct user *u = probe_get(p, "/");
    struct chunk *chunk;
    struct chain out;

    PROBE_UNTIL(p, p->accepted_count == 1);
    user_answer(p->accepted[0], 200, false);
    chunk = chunk_new(&p->loop.chunks);
    memset(chunk->data, 'x', CHUNK_BYTES);
    chunk->end = CHUNK_BYTES;
    c->expected = chunk->data;
    chain_init(&out);
    chain_push(&out, chunk);
    stream_send_data(p->accepted[0]->s, &out);
    stream_send_end(p->accepted[0]->s, NULL);
    stream_credit(u->s, 65536);
    PROBE_UNTIL(p, u->ended);
    assert_int_equal(u->received, CHUNK_BYTES);
    assert_true(c->saw_expected);
    probe_free(p);
}

/* --- heads --------------------------------------------------------------------------------------- */

static void malformed_heads_are_never_shown(void **state UNUSED)
{
    static const struct bytes heads[] = {
        BYTES("\x82\x86\x41\x01"
              "a"), /* no :path (RFC 9113 8.3.1) */
        BYTES(GET_HEAD "\x00\x01"
                       "A"
                       "\x01"
                       "b"), /* upper case (8.2) */
        BYTES(GET_HEAD "\x00\x01"
                       "x"
                       "\x03"
                       "a\nb"), /* a line break in a value (8.2.1) */
        BYTES(GET_HEAD "\x00\x0a"
                       "connection"
                       "\x05"
                       "close"), /* connection-specific (8.2.2) */
        BYTES(GET_HEAD "\x00\x02"
                       "te"
                       "\x04"
                       "gzip"), /* 8.2.2 */
        BYTES("\x82\x86\x84\x00\x01"
              "x"
              "\x01"
              "y"
              "\x41\x01"
              "a"), /* a pseudo-field behind others (8.3) */
        BYTES("\x82\x82\x86\x84\x41\x01"
              "a"), /* :method twice */
        BYTES(GET_HEAD "\x00\x04"
                       ":foo"
                       "\x01"
                       "b"),    /* an unknown one */
        BYTES(GET_HEAD "\x88"), /* :status in a request */
        BYTES(GET_HEAD "\x00\x0e"
                       "content-length"
                       "\x02"
                       "-1"),
        BYTES(GET_HEAD "\x00\x0e"
                       "content-length"
                       "\x01"
                       "1"
                       "\x00\x0e"
                       "content-length"
                       "\x01"
                       "2"),
        BYTES(GET_HEAD "\x00\x01"
                       "x"
                       "\x02"
                       " b"), /* white space in front (8.2.1) */
        BYTES("\x82\x86\x84\x41\x03"
              "u@a"), /* user information (8.3.1) */
    };
    struct probe *p = raw_server_greeted(NULL);
    unsigned stream = 1;

    for (unsigned i = 0; i < ARRAY_LEN(heads); i++, stream += 2) {
        raw_send(p, HEADERS, END_STREAM | END_HEADERS, stream, heads[i].at, heads[i].len);
        expect_reset(p, stream, 1); /* PROTOCOL_ERROR */
    }
    assert_int_equal(p->accepted_count, 0);
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, stream, GET_HEAD, sizeof(GET_HEAD) - 1);
    PROBE_UNTIL(p, p->accepted_count == 1); /* the connection is well */
    probe_free(p);
}

static void a_head_beyond_the_limits_is_refused(void **state UNUSED)
{
    const struct http_limits small = {.head_bytes_max = 1000};
    struct probe *p = raw_server_greeted(&small);
    struct text head;
    char value[100];

    text_init(&head, 65536);
    memset(value, 'v', sizeof(value));
    text_add(&head, BYTES(GET_HEAD));
    for (unsigned i = 0; i < 10; i++) {
        text_add(&head, BYTES("\x00\x01"
                              "x"
                              "\x64"));
        text_add(&head, bytes_of(value, sizeof(value)));
    }
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 1, head.at, head.len);
    expect_reset(p, 1, 11); /* ENHANCE_YOUR_CALM */

    text_reset(&head);
    text_add(&head, BYTES(GET_HEAD));
    for (unsigned i = 0; i < HTTP_FIELDS_MAX + 1; i++) { /* few bytes, many fields */
        text_add(&head, BYTES("\x00\x01"
                              "x"
                              "\x01"
                              "y"));
    }
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 3, head.at, head.len);
    expect_reset(p, 3, 11);
    assert_int_equal(p->accepted_count, 0);
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 5, GET_HEAD, sizeof(GET_HEAD) - 1);
    PROBE_UNTIL(p, p->accepted_count == 1);
    text_clear(&head);
    probe_free(p);
}

static void a_head_that_does_not_end(void **state UNUSED)
{
    const struct http_limits quick = {.head_timeout_ns = 10 * NS_PER_MS};
    struct probe *p = raw_server_greeted(&quick);

    for (uint64_t until = clock_mono_ns() + 30 * NS_PER_MS; clock_mono_ns() < until;) {
        (void)loop_turn(&p->loop, 5);
    }
    assert_false(p->server_closed); /* no head was begun */
    raw_send(p, HEADERS, END_STREAM, 1, GET_HEAD, sizeof(GET_HEAD) - 1);
    PROBE_UNTIL(p, p->server_closed);
    assert_int_equal(p->server_err, E_TIMEOUT);
    assert_int_equal(p->accepted_count, 0);
    probe_free(p);

    p = raw_server(&quick); /* nor does a peer that says nothing at all stay */
    PROBE_UNTIL(p, p->server_closed);
    assert_int_equal(p->server_err, E_TIMEOUT);
    probe_free(p);
}

/* --- floods -------------------------------------------------------------------------------------- */

static void flood(unsigned type, unsigned flags, unsigned stream, const char *payload, size_t len,
                  unsigned code)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    if (stream != 0) {
        raw_send(p, HEADERS, END_HEADERS, 1, GET_HEAD, sizeof(GET_HEAD) - 1);
        PROBE_UNTIL(p, p->accepted_count == 1);
    }
    text_init(&t, 1 << 20);
    for (unsigned i = 0; i < 3000; i++) {
        raw_frame(&t, type, flags, stream, payload, len);
    }
    raw_write(p, t.at, t.len);
    text_clear(&t);
    expect_goaway(p, code);
    assert_int_equal(p->server_err, E_OVERLOAD);
    probe_free(p);
}

static void floods_end_the_connection(void **state UNUSED)
{
    flood(PING, 0, 0, "12345678", 8, 11);
    flood(SETTINGS, 0, 0, "", 0, 11);
    flood(DATA, 0, 1, "", 0, 11);
    flood(PRIORITY, 0, 1, "\0\0\0\0\x10", 5, 11);
}

static void requests_that_are_reset_at_once_end_the_connection(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;
    unsigned stream = 1;

    for (unsigned batch = 0; batch < 12; batch++) { /* CVE-2023-44487 */
        text_init(&t, 1 << 20);
        for (unsigned i = 0; i < 500; i++, stream += 2) {
            raw_frame(&t, HEADERS, END_STREAM | END_HEADERS, stream, GET_HEAD,
                      sizeof(GET_HEAD) - 1);
            raw_frame(&t, RST_STREAM, 0, stream, "\0\0\0\x08", 4);
        }
        raw_write(p, t.at, t.len);
        text_clear(&t);
    }
    (void)shutdown(p->raw_fd, SHUT_WR);
    for (unsigned turn = 0; !p->server_closed; turn++) {
        assert_true(turn < 1000);
        for (unsigned i = 0; i < p->accepted_count; i++) { /* cut in two by a read */
            if (p->accepted[i]->s != NULL && p->accepted[i]->why != RESET_NONE) {
                user_close(p->accepted[i], RESET_NONE);
            }
        }
        probe_turn(p);
    }
    assert_int_equal(p->server_err, E_OVERLOAD);
    assert_true(p->accepted_count < 500); /* hardly one was ever shown */
    probe_free(p);
}

/*
 * The same with the reset made by us (CVE-2025-8671): each request is followed by a window update
 * that exceeds 2^31-1 (RFC 9113 6.9.1), for which nghttp2 resets the stream.
 */
static void requests_that_make_us_reset_them_end_the_connection(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;
    unsigned stream = 1;

    for (unsigned batch = 0; batch < 14 && !p->server_closed; batch++) {
        text_init(&t, 1 << 20);
        for (unsigned i = 0; i < 500; i++, stream += 2) {
            raw_frame(&t, HEADERS, END_STREAM | END_HEADERS, stream, GET_HEAD,
                      sizeof(GET_HEAD) - 1);
            raw_frame(&t, WINDOW_UPDATE, 0, stream, "\x7f\xff\xff\xff", 4);
        }
        raw_write(p, t.at, t.len);
        text_clear(&t);
        for (char sink[65536]; read(p->raw_fd, sink, sizeof(sink)) > 0;) {
            probe_settle(p);
        }
    }
    (void)shutdown(p->raw_fd, SHUT_WR);
    for (unsigned turn = 0; !p->server_closed; turn++) {
        assert_true(turn < 1000);
        for (unsigned i = 0; i < p->accepted_count; i++) {
            if (p->accepted[i]->s != NULL && p->accepted[i]->why != RESET_NONE) {
                user_close(p->accepted[i], RESET_NONE);
            }
        }
        probe_turn(p);
    }
    assert_int_equal(p->server_err, E_OVERLOAD);
    probe_free(p);
}

/* --- the rest ------------------------------------------------------------------------------------ */

static void what_is_no_http2_ends_the_connection(void **state UNUSED)
{
    struct probe *p = raw_server(NULL);

    raw_write(p, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", 27);
    PROBE_UNTIL(p, p->server_closed);
    assert_int_equal(p->server_err, E_H2_PROTOCOL);
    probe_free(p);

    p = raw_server_greeted(NULL);
    raw_send(p, DATA, 0, 0, "x", 1); /* RFC 9113 6.1: not on stream 0 */
    expect_goaway(p, 1);
    assert_int_equal(p->server_err, E_H2_PROTOCOL);
    probe_free(p);

    p = raw_server_greeted(NULL);
    raw_send(p, HEADERS, END_HEADERS, 1, GET_HEAD, sizeof(GET_HEAD) - 1);
    raw_send(p, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4); /* 6.9.1: beyond 2^31-1 */
    expect_goaway(p, 3);
    assert_int_equal(p->server_err, E_H2_FLOW);
    probe_free(p);
}

static void a_sender_beyond_the_stream_window_is_reset(void **state UNUSED)
{
    static char data[16384];
    struct probe *p = raw_server_greeted(NULL);
    static struct frame f;

    raw_send(p, HEADERS, END_HEADERS, 1, GET_HEAD, sizeof(GET_HEAD) - 1);
    for (unsigned i = 0; i < 5; i++) {
        raw_send(p, DATA, 0, 1, data, sizeof(data));
    }
    while (raw_expect(p, RST_STREAM, &f) && f.stream != 1) {
    }
    assert_int_equal(code_at(&f, 0), 3); /* FLOW_CONTROL_ERROR */
    PROBE_UNTIL(p, p->accepted_count == 1 && p->accepted[0]->why == RESET_PROTOCOL);
    probe_free(p);
}

static void more_streams_than_allowed_are_refused(void **state UNUSED)
{
    const struct http_limits two = {.streams_max = 2};
    struct probe *p = raw_server_greeted(&two);

    for (unsigned stream = 1; stream <= 5; stream += 2) {
        raw_send(p, HEADERS, END_STREAM | END_HEADERS, stream, GET_HEAD, sizeof(GET_HEAD) - 1);
    }
    expect_reset(p, 5, 7); /* REFUSED_STREAM: it may not have seen our SETTINGS */
    assert_int_equal(p->accepted_count, 2);
    raw_send(p, SETTINGS, ACK, 0, "", 0);
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 7, GET_HEAD, sizeof(GET_HEAD) - 1);
    expect_goaway(p, 1); /* it has */
    probe_free(p);
}

static void out_of_chunks_streams_are_shed_not_the_process(void **state UNUSED)
{
    struct probe *p = probe_new(8);
    static char data[12000];
    int fds[2];
    unsigned shed = 0;

    probe_sockets(fds);
    p->raw_fd = fds[0];
    p->server = http2_server_new(probe_io(p, fds[1]), NULL, NULL, &probe_server_events, p);
    raw_write(p, PREFACE, sizeof(PREFACE) - 1);
    raw_send(p, SETTINGS, 0, 0, "", 0);
    for (unsigned stream = 1; stream <= 59; stream += 2) { /* nobody credits */
        raw_send(p, HEADERS, END_HEADERS, stream, GET_HEAD, sizeof(GET_HEAD) - 1);
        raw_send(p, DATA, 0, stream, data, 700);
    }
    for (unsigned i = 0; i < p->accepted_count; i++) {
        shed += p->accepted[i]->why == RESET_CALM;
        if (p->accepted[i]->s != NULL) {
            user_close(p->accepted[i], RESET_CANCEL);
        }
    }
    assert_true(shed > 0 && shed < p->accepted_count);
    raw_send(p, HEADERS, END_HEADERS | END_STREAM, 101, GET_HEAD, sizeof(GET_HEAD) - 1);
    shed = p->accepted_count;
    PROBE_UNTIL(p, p->accepted[p->accepted_count - 1]->head != NULL);
    probe_free(p);
}

/* Every byte on its own, and every cut of a longer exchange, is read the same. */
static void input_may_come_in_any_pieces(void **state UNUSED)
{
    struct text t;

    text_init(&t, 65536);
    text_add(&t, BYTES(PREFACE));
    raw_frame(&t, SETTINGS, 0, 0, "", 0);
    raw_frame(&t, HEADERS, END_HEADERS, 1, GET_HEAD, sizeof(GET_HEAD) - 1);
    raw_frame(&t, DATA, 0, 1, "hello ", 6);
    raw_frame(&t, HEADERS, END_HEADERS | END_STREAM, 3, GET_HEAD, sizeof(GET_HEAD) - 1);
    raw_frame(&t, DATA, END_STREAM, 1, "world", 5);
    for (size_t step = 1; step <= t.len; step = step < 8 ? step + 1 : step * 2) {
        struct probe *p = raw_server(NULL);

        for (size_t at = 0; at < t.len; at += step) {
            raw_write(p, t.at + at, MIN(step, t.len - at));
        }
        PROBE_UNTIL(p, p->accepted_count == 2);
        stream_credit(p->accepted[0]->s, 100);
        PROBE_UNTIL(p, p->accepted[0]->ended);
        assert_int_equal(p->accepted[0]->received, 11);
        assert_true(p->accepted[1]->head_ends);
        probe_free(p);
    }
    text_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_greets_as_linkerds_proxy_does),
        cmocka_unit_test(the_answers_of_one_turn_leave_in_one_write),
        cmocka_unit_test(a_large_body_is_not_copied),
        cmocka_unit_test(malformed_heads_are_never_shown),
        cmocka_unit_test(a_head_beyond_the_limits_is_refused),
        cmocka_unit_test(a_head_that_does_not_end),
        cmocka_unit_test(floods_end_the_connection),
        cmocka_unit_test(requests_that_are_reset_at_once_end_the_connection),
        cmocka_unit_test(requests_that_make_us_reset_them_end_the_connection),
        cmocka_unit_test(what_is_no_http2_ends_the_connection),
        cmocka_unit_test(a_sender_beyond_the_stream_window_is_reset),
        cmocka_unit_test(more_streams_than_allowed_are_refused),
        cmocka_unit_test(out_of_chunks_streams_are_shed_not_the_process),
        cmocka_unit_test(input_may_come_in_any_pieces),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
