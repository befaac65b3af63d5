/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers http2_server_new() and what is below it, nghttp2 included: the bytes of a client. The first byte
 * chooses how they are cut; the preface and an empty SETTINGS frame go before them.
 *
 * The user of the streams answers each request and reads what it is credited. Properties: every stream
 * keeps the order of events of http/stream.h, no more is delivered than was credited, and when the
 * connection is over nothing is left.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "http/conn.h"

#define CREDIT_BYTES ((size_t)5000)
#define TURNS_MAX    200
#define CUTS_MAX     64 /* of one input; each costs a turn of the loop */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static unsigned open_count, closed_count;

struct user {
    struct stream *s;
    size_t credit;
    bool got_head, got_end;
};

static void user_close(struct user *u)
{
    stream_close(u->s, RESET_NONE);
    mem_free(u);
    open_count--;
}

static void on_head(void *user, struct head *h)
{
    struct user *u = user;
    struct head answer = {.status = 200, .content_length = -1, .version = HTTP_2};

    require(!u->got_head && h->status == 0 && h->method.len > 0 &&
            h->fields.count <= HTTP_FIELDS_MAX);
    require(h->is_connect || (h->path.len > 0 && h->scheme.len > 0));
    for (unsigned i = 0; i < h->fields.count; i++) {
        require(http_is_token(h->fields.at[i].name) && http_is_field_value(h->fields.at[i].value));
        require(h->fields.at[i].id != FIELD_CONNECTION);
    }
    u->got_head = true;
    u->got_end = h->ends;
    u->credit = CREDIT_BYTES;
    stream_credit(u->s, CREDIT_BYTES);
    require(stream_send_head(u->s, &answer, false) == 0);
    stream_send_end(u->s, NULL);
    if (h->ends) {
        user_close(u);
    }
}

static void on_data(void *user, struct chain *bytes)
{
    struct user *u = user;

    require(u->got_head && !u->got_end && chain_size(bytes) > 0 && chain_size(bytes) <= u->credit);
    u->credit -= chain_size(bytes);
    if (u->credit < CREDIT_BYTES / 2) {
        stream_credit(u->s, CREDIT_BYTES);
        u->credit += CREDIT_BYTES;
    }
    chain_clear(bytes);
}

static void on_room(void *user UNUSED, size_t bytes)
{
    require(bytes > 0);
}

static void on_end(void *user, struct fields *trailers UNUSED)
{
    struct user *u = user;

    require(u->got_head && !u->got_end);
    user_close(u);
}

static void on_reset(void *user, enum reset why, int err)
{
    struct user *u = user;

    require(u->got_head && why != RESET_NONE && err != 0);
    user_close(u);
}

static const struct stream_events stream_events = {on_head, on_data, on_room, on_end, on_reset};

static void on_stream(void *user UNUSED, struct stream *s)
{
    struct user *u = mem_new(sizeof(*u));

    u->s = s;
    open_count++;
    stream_set_user(s, &stream_events, u);
}

static void on_closed(void *user UNUSED, int err UNUSED)
{
    closed_count++;
}

static const struct http_server_events server_events = {on_stream, on_closed};

static void feed(struct loop *l, int fd, const char *at, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        char drop[4096];

        if (n < 0 && errno != EAGAIN) {
            return; /* it has closed */
        }
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
        (void)loop_turn(l, 0);
        while (read(fd, drop, sizeof(drop)) > 0) {
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct loop loop;
    struct io *io;
    int fds[2], rc;
    size_t step;

    if (size < 1 || size > 65536) {
        return 0;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    step = data[0] == 0 ? size : MAX(data[0], size / CUTS_MAX);
    open_count = closed_count = 0;
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    rc = loop_open(&loop, 0, 256);
    require(rc == 0);
    io = io_tcp_new(&loop, fds[1], NULL);
    require(io != NULL);
    (void)http2_server_new(io, NULL, NULL, &server_events, NULL);
    feed(&loop, fds[0], hello, sizeof(hello) - 1);
    for (size_t at = 1; at < size; at += step) {
        feed(&loop, fds[0], (const char *)data + at, MIN(step, size - at));
    }
    (void)close(fds[0]);
    for (unsigned turn = 0; closed_count == 0; turn++) {
        require(turn < TURNS_MAX);
        (void)loop_turn(&loop, 10);
    }
    require(closed_count == 1 && open_count == 0);
    io_close_lingering(&loop);
    require(loop.chunks.used_count == 0);
    loop_close(&loop);
    arena_cache_clear();
    return 0;
}
