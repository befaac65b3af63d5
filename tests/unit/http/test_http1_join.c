/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two HTTP/1 connections joined as a proxy joins them: what has room on one side is credited to the
 * other (stream.h). Bodies of several megabytes pass whole, in bounded memory, whoever is slow.
 */
#include "tests/unit/http/http_probe.h"

#define BODY_BYTES (4u << 20)

static struct loop loop;
static struct http_server *server;
static struct http_client *client;
static struct stream *accepted, *dialed;
static unsigned closed;
static size_t chunks_most;

/* --- the join ------------------------------------------------------------------------------------ */

static void close_both(void)
{
    if (accepted->got_end && accepted->sent_end && dialed->got_end && dialed->sent_end) {
        stream_close(accepted, RESET_NONE);
        stream_close(dialed, RESET_NONE);
        accepted = dialed = NULL;
    }
}

static void dialed_head(void *user UNUSED, struct head *h)
{
    fields_remove_hop_by_hop(&h->fields);
    assert_int_equal(stream_send_head(accepted, h, h->ends), 0);
    stream_credit(dialed, accepted->room);
    close_both();
}

static void dialed_data(void *user UNUSED, struct chain *bytes)
{
    stream_send_data(accepted, bytes);
}

static void dialed_room(void *user UNUSED, size_t bytes)
{
    stream_credit(accepted, bytes);
}

static void dialed_end(void *user UNUSED, struct fields *trailers)
{
    stream_send_end(accepted, trailers);
    close_both();
}

static void unexpected(void *user UNUSED, enum reset why UNUSED, int err)
{
    fail_msg("%s", err_name(err));
}

static const struct stream_events dialed_events = {
    .on_head = dialed_head,
    .on_data = dialed_data,
    .on_room = dialed_room,
    .on_end = dialed_end,
    .on_reset = unexpected,
};

static void accepted_head(void *user UNUSED, struct head *h)
{
    fields_remove_hop_by_hop(&h->fields);
    assert_int_equal(http_client_open(client, h, h->ends, &dialed_events, NULL, &dialed), 0);
    stream_credit(accepted, dialed->room);
}

static void accepted_data(void *user UNUSED, struct chain *bytes)
{
    stream_send_data(dialed, bytes);
}

static void accepted_room(void *user UNUSED, size_t bytes)
{
    stream_credit(dialed, bytes);
}

static void accepted_end(void *user UNUSED, struct fields *trailers)
{
    stream_send_end(dialed, trailers);
    close_both();
}

static const struct stream_events accepted_events = {
    .on_head = accepted_head,
    .on_data = accepted_data,
    .on_room = accepted_room,
    .on_end = accepted_end,
    .on_reset = unexpected,
};

static void on_stream(void *user UNUSED, struct stream *s)
{
    accepted = s;
    stream_set_user(s, &accepted_events, NULL);
}

static void on_closed(void *user UNUSED, int err UNUSED)
{
    closed++;
}

static const struct http_server_events server_events = {.on_stream = on_stream,
                                                        .on_closed = on_closed};
static const struct http_client_events client_events = {.on_closed = on_closed};

/* --- the ends ------------------------------------------------------------------------------------ */

struct end {
    int fd;
    struct text out; /* to be written */
    size_t written;
    struct text in;
    size_t step; /* bytes at once */
};

static struct end left, right; /* the client's and the server's application */

static struct io *end_open(struct end *e)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *e = (struct end){.fd = fds[0], .step = 65536};
    text_init(&e->out, 64 << 20);
    text_init(&e->in, 64 << 20);
    return io_tcp_new(&loop, fds[1], NULL);
}

static void end_close(struct end *e)
{
    close(e->fd);
    text_clear(&e->out);
    text_clear(&e->in);
}

static void end_turn(struct end *e)
{
    static char block[65536];
    struct bytes rest = bytes_from(text_bytes(&e->out), e->written);
    ssize_t n = send(e->fd, rest.at, MIN(rest.len, e->step), MSG_NOSIGNAL);

    e->written += n > 0 ? (size_t)n : 0;
    n = read(e->fd, block, e->step);
    text_add(&e->in, bytes_of(block, n > 0 ? (size_t)n : 0));
}

static void turn(void)
{
    end_turn(&left);
    (void)loop_turn(&loop, 0);
    chunks_most = MAX(chunks_most, loop.chunks.used_count);
    end_turn(&right);
    (void)loop_turn(&loop, 0);
    chunks_most = MAX(chunks_most, loop.chunks.used_count);
}

static int setup(void **state UNUSED)
{
    closed = 0;
    chunks_most = 0;
    assert_int_equal(loop_open(&loop, 1, PROBE_CHUNKS), 0);
    server = http1_server_new(end_open(&left), NULL, NULL, &server_events, NULL);
    client = http1_client_new(end_open(&right), NULL, &client_events, NULL);
    return 0;
}

static int teardown(void **state UNUSED)
{
    end_close(&left);
    end_close(&right);
    while (closed < 2) {
        (void)loop_turn(&loop, 1000);
    }
    loop_close(&loop);
    arena_cache_clear();
    return 0;
}

/* A body whose bytes tell their place. */
static void put_body(struct text *t, size_t bytes, size_t chunk_bytes)
{
    static char block[BODY_BYTES];

    for (size_t i = 0; i < bytes; i++) {
        block[i] = (char)('a' + (i * 7 + i / 4093) % 26);
    }
    if (chunk_bytes == 0) {
        text_add(t, bytes_of(block, bytes));
        return;
    }
    for (size_t at = 0; at < bytes; at += chunk_bytes) {
        size_t n = MIN(chunk_bytes, bytes - at);

        text_printf(t, "%zx;x=y\r\n", n);
        text_add(t, bytes_of(block + at, n));
        text_str(t, "\r\n");
    }
    text_str(t, "0\r\nT: 1\r\n\r\n");
}

static void put_message(struct text *t, const char *start, size_t bytes, size_t chunk_bytes)
{
    text_str(t, start);
    if (chunk_bytes == 0) {
        text_printf(t, "content-length: %zu\r\n\r\n", bytes);
    } else {
        text_str(t, "transfer-encoding: chunked\r\n\r\n");
    }
    put_body(t, bytes, chunk_bytes);
}

/* The body of a message, chunks undone; false while it is incomplete. */
static bool get_body(struct text *in, struct text *body)
{
    size_t at = 0;
    struct bytes rest;

    text_reset(body);
    if (!bytes_find(text_bytes(in), BYTES("\r\n\r\n"), &at)) {
        return false;
    }
    rest = bytes_from(text_bytes(in), at + 4);
    if (!bytes_find(bytes_first(text_bytes(in), at), BYTES("chunked"), &at)) {
        text_add(body, rest);
        return body->len >= BODY_BYTES;
    }
    for (;;) {
        size_t line = 0, size;

        if (!bytes_find(rest, BYTES("\r\n"), &line)) {
            return false;
        }
        size = strtoul(rest.at, NULL, 16);
        rest = bytes_from(rest, line + 2);
        if (size == 0) {
            return bytes_eq(rest, BYTES("t: 1\r\n\r\n"));
        }
        if (rest.len < size + 2) {
            return false;
        }
        text_add(body, bytes_first(rest, size));
        rest = bytes_from(rest, size + 2);
    }
}

static void pass_both_ways(size_t request_chunks, size_t response_chunks)
{
    struct text want, got;

    text_init(&want, 64 << 20);
    text_init(&got, 64 << 20);
    put_body(&want, BODY_BYTES, 0);
    put_message(&left.out, "POST /x HTTP/1.1\r\nhost: h\r\n", BODY_BYTES, request_chunks);
    put_message(&right.out, "HTTP/1.1 200 OK\r\n", BODY_BYTES, response_chunks);
    while (dialed == NULL) { /* the answer comes early, but not before its request */
        end_turn(&left);
        (void)loop_turn(&loop, 0);
    }
    do {
        turn();
    } while (accepted != NULL);
    do { /* what is still on its way in the sockets */
        turn();
        (void)get_body(&left.in, &got);
    } while (loop.chunks.used_count > 0 || got.len < BODY_BYTES);
    turn();
    assert_true(get_body(&right.in, &got) && bytes_eq(text_bytes(&got), text_bytes(&want)));
    assert_true(get_body(&left.in, &got) && bytes_eq(text_bytes(&got), text_bytes(&want)));
    /* Each direction: read ahead, and the output's high mark, with the slack of part-filled chunks. */
    assert_true(chunks_most * CHUNK_BYTES <= 16u * 65536);
    assert_int_equal(loop.chunks.used_count, 0);
    assert_int_equal(http_client_capacity(client), 1);
    assert_int_equal(closed, 0);
    text_clear(&want);
    text_clear(&got);
}

static void lengths_pass(void **state UNUSED)
{
    pass_both_ways(0, 0);
}

static void chunks_pass(void **state UNUSED)
{
    pass_both_ways(16384, 5000);
}

static void odd_chunks_pass(void **state UNUSED)
{
    pass_both_ways(100, 65537);
}

static void a_slow_client_slows_the_server(void **state UNUSED)
{
    left.step = 4096;
    pass_both_ways(0, 8192);
}

static void a_slow_server_slows_the_client(void **state UNUSED)
{
    right.step = 4096;
    pass_both_ways(8192, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lengths_pass),
        TEST(chunks_pass),
        TEST(odd_chunks_pass),
        TEST(a_slow_client_slows_the_server),
        TEST(a_slow_server_slows_the_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
