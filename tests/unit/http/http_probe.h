/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HTTP_HTTP_PROBE_H
#define TESTS_UNIT_HTTP_HTTP_PROBE_H

/*
 * What the tests of HTTP/1 connections share: a loop, a connection over a socket pair, the other
 * end as a bare descriptor, and a user of the stream that writes down its events.
 *
 * Local sockets deliver within the call, so turns of the loop that need not wait settle everything.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <sys/socket.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/text.h"
#include "http/conn.h"

#define PROBE_CHUNKS 1024

struct probe {
    struct loop loop;
    int peer;             /* the test's end of the connection */
    struct text received; /* by the peer */
    bool peer_eof;
    int peer_err;
    struct text log;       /* what the user of the stream saw */
    struct stream *s;      /* open, or NULL */
    size_t credit_at_once; /* granted in on_head, and again for what was delivered */
    size_t room;           /* sum of on_room */
    bool closed;
    int close_err;
};

static inline void probe_open(struct probe *p, struct io **out_io)
{
    int fds[2];

    *p = (struct probe){.peer = -1};
    text_init(&p->received, 64 << 20);
    text_init(&p->log, 1 << 20);
    assert_int_equal(loop_open(&p->loop, 1, PROBE_CHUNKS), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    p->peer = fds[0];
    *out_io = io_tcp_new(&p->loop, fds[1], NULL);
    assert_non_null(*out_io);
}

static inline void probe_peer_read(struct probe *p)
{
    char block[65536];
    ssize_t n;

    while (p->peer >= 0 && (n = read(p->peer, block, sizeof(block))) != 0) {
        if (n < 0) {
            p->peer_err = errno == EAGAIN ? p->peer_err : errno;
            return;
        }
        text_add(&p->received, bytes_of(block, (size_t)n));
    }
    p->peer_eof = true;
}

/* Turns until nothing happens any more, without the peer reading. */
static inline void probe_turns(struct probe *p)
{
    for (unsigned i = 0; i < 12; i++) {
        (void)loop_turn(&p->loop, 0);
    }
}

static inline void probe_settle(struct probe *p)
{
    probe_turns(p);
    probe_peer_read(p);
    probe_turns(p);
}

/* The peer writes all of it, while the loop turns. */
static inline void probe_send_bytes(struct probe *p, struct bytes b)
{
    for (unsigned idle = 0; b.len > 0 && idle < 100; idle++) {
        ssize_t n = send(p->peer, b.at, b.len, MSG_NOSIGNAL);

        if (n > 0) {
            b = bytes_from(b, (size_t)n);
            idle = 0;
        } else if (errno != EAGAIN) {
            break;
        }
        probe_turns(p);
    }
    probe_settle(p);
}

static inline void probe_send(struct probe *p, const char *text)
{
    probe_send_bytes(p, bytes_str(text));
}

static inline void probe_peer_close(struct probe *p)
{
    if (p->peer >= 0) {
        close(p->peer);
        p->peer = -1;
    }
    probe_turns(p);
}

static inline void probe_peer_shut(struct probe *p)
{
    assert_int_equal(shutdown(p->peer, SHUT_WR), 0);
    probe_settle(p);
}

static inline void probe_close(struct probe *p)
{
    probe_peer_close(p);
    probe_turns(p);
    loop_close(&p->loop);
    arena_cache_clear();
    text_clear(&p->received);
    text_clear(&p->log);
}

/* What was written down since the last call. */
#define assert_log(p, want)                                                                        \
    do {                                                                                           \
        assert_string_equal((p)->log.at != NULL ? (p)->log.at : "", (want));                       \
        text_reset(&(p)->log);                                                                     \
    } while (0)
#define assert_received(p, want)                                                                   \
    do {                                                                                           \
        assert_string_equal((p)->received.at != NULL ? (p)->received.at : "", (want));             \
        text_reset(&(p)->received);                                                                \
    } while (0)

/* --- the user of a stream ------------------------------------------------------------------------ */

static inline void probe_on_head(void *user, struct head *h)
{
    struct probe *p = user;

    if (h->status != 0) {
        text_printf(&p->log, "head %u", h->status);
    } else {
        text_printf(&p->log, "head " BYTES_FMT " " BYTES_FMT, BYTES_ARG(h->method),
                    BYTES_ARG(h->is_connect ? h->authority : h->path));
    }
    text_str(&p->log, h->ends ? " ends;" : ";");
    if (p->credit_at_once > 0) {
        stream_credit(p->s, p->credit_at_once);
    }
}

static inline void probe_on_data(void *user, struct chain *bytes)
{
    struct probe *p = user;
    size_t size = chain_size(bytes);

    text_str(&p->log, "data ");
    while (chain_size(bytes) > 0) {
        text_add(&p->log, chain_head(bytes));
        chain_drop(bytes, chain_head(bytes).len);
    }
    text_str(&p->log, ";");
    if (p->credit_at_once > 0) {
        stream_credit(p->s, size);
    }
}

static inline void probe_on_room(void *user, size_t bytes)
{
    struct probe *p = user;

    assert_true(bytes > 0);
    p->room += bytes;
}

static inline void probe_on_end(void *user, struct fields *trailers)
{
    struct probe *p = user;

    text_str(&p->log, "end");
    for (unsigned i = 0; trailers != NULL && i < trailers->count; i++) {
        text_printf(&p->log, " " BYTES_FMT "=" BYTES_FMT, BYTES_ARG(trailers->at[i].name),
                    BYTES_ARG(trailers->at[i].value));
    }
    text_str(&p->log, ";");
}

static inline void probe_on_reset(void *user, enum reset why, int err)
{
    struct probe *p = user;
    static const char *const names[] = {
        [RESET_NONE] = "none",         [RESET_CANCEL] = "cancel",
        [RESET_REFUSED] = "refused",   [RESET_PROTOCOL] = "protocol",
        [RESET_INTERNAL] = "internal", [RESET_CONNECTION] = "connection",
        [RESET_TIMEOUT] = "timeout",   [RESET_CALM] = "calm",
        [RESET_GOAWAY] = "goaway",     [RESET_TRUNCATED] = "truncated",
    };

    text_printf(&p->log, "reset %s %s;", names[why], err != 0 ? err_name(err) : "0");
}

static const struct stream_events probe_events = {
    .on_head = probe_on_head,
    .on_data = probe_on_data,
    .on_room = probe_on_room,
    .on_end = probe_on_end,
    .on_reset = probe_on_reset,
};

static inline void probe_on_closed(void *user, int err)
{
    struct probe *p = user;

    assert_false(p->closed);
    p->closed = true;
    p->close_err = err;
}

static inline void probe_stream_close(struct probe *p, enum reset why)
{
    struct stream *s = p->s;

    p->s = NULL;
    stream_close(s, why);
    probe_settle(p);
}

/* Send a body of `size` bytes of `fill`, as one chain. */
static inline void probe_send_data(struct probe *p, char fill, size_t size)
{
    struct chain bytes;
    char block[4096];

    memset(block, fill, sizeof(block));
    chain_init(&bytes);
    for (size_t done = 0; done < size;) {
        size_t n = MIN(sizeof(block), size - done);

        assert_int_equal(chain_append(&bytes, &p->loop.chunks, bytes_of(block, n)), 0);
        done += n;
    }
    stream_send_data(p->s, &bytes);
    assert_int_equal(chain_size(&bytes), 0);
}

#endif
