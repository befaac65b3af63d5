/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_H2_RAW_H
#define HTTP_H2_RAW_H

/*
 * One end of an HTTP/2 connection spoken by hand, frame by frame, with a server of ours at the other.
 */
#include "tests/unit/http/h2_probe.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION
};
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

/* GET http://a/ with static names alone. */
#define GET_HEAD                                                                                   \
    "\x82\x86\x84\x41\x01"                                                                         \
    "a"

struct frame {
    unsigned type, flags, stream;
    unsigned char payload[65536];
    size_t len;
};

/* --- a peer by hand ------------------------------------------------------------------------------ */

static inline void raw_write(struct probe *p, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        ssize_t n = write(p->raw_fd, at, len);

        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return; /* it has had enough of us */
        }
        assert_true(n > 0 || errno == EAGAIN);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
        probe_settle(p);
    }
}

static inline void raw_frame(struct text *to, unsigned type, unsigned flags, unsigned stream,
                      const char *payload, size_t len)
{
    const char head[9] = {(char)(len >> 16),    (char)(len >> 8),    (char)len,
                          (char)type,           (char)flags,         (char)(stream >> 24),
                          (char)(stream >> 16), (char)(stream >> 8), (char)stream};

    text_add(to, bytes_of(head, sizeof(head)));
    text_add(to, bytes_of(payload, len));
}

static inline void raw_send(struct probe *p, unsigned type, unsigned flags, unsigned stream,
                     const char *payload, size_t len)
{
    struct text t;

    text_init(&t, 1 << 20);
    raw_frame(&t, type, flags, stream, payload, len);
    assert_int_equal(t.err, 0);
    raw_write(p, t.at, t.len);
    text_clear(&t);
}

static inline bool raw_read(struct probe *p, void *to, size_t len)
{
    char *at = to;

    for (unsigned tries = 0; len > 0; tries++) {
        ssize_t n = read(p->raw_fd, at, len);

        if (n > 0) {
            at += n;
            len -= (size_t)n;
            tries = 0;
            continue;
        }
        if (n == 0 || tries > 20000) {
            return false;
        }
        assert_int_equal(errno, EAGAIN);
        (void)loop_turn(&p->loop, 1);
    }
    return true;
}

/* The next frame. False: the connection ended first. */
static inline bool raw_next(struct probe *p, struct frame *f)
{
    unsigned char head[9];

    if (!raw_read(p, head, sizeof(head))) {
        return false;
    }
    f->len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    f->type = head[3];
    f->flags = head[4];
    f->stream = (unsigned)head[6] << 16 | (unsigned)head[7] << 8 | head[8];
    assert_true(f->len <= sizeof(f->payload));
    return raw_read(p, f->payload, f->len);
}

/* The next frame of this type; the others are skipped. False: the connection ended first. */
static inline bool raw_expect(struct probe *p, unsigned type, struct frame *f)
{
    do {
        if (!raw_next(p, f)) {
            return false;
        }
    } while (f->type != type);
    return true;
}

static inline unsigned code_at(const struct frame *f, size_t at)
{
    return (unsigned)f->payload[at] << 24 | (unsigned)f->payload[at + 1] << 16 |
           (unsigned)f->payload[at + 2] << 8 | f->payload[at + 3];
}

static inline struct probe *raw_server(const struct http_limits *limits)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    int fds[2];

    probe_sockets(fds);
    p->raw_fd = fds[0];
    p->server = http2_server_new(probe_io(p, fds[1]), NULL, limits, &probe_server_events, p);
    return p;
}

static inline struct probe *raw_server_greeted(const struct http_limits *limits)
{
    struct probe *p = raw_server(limits);

    raw_write(p, PREFACE, sizeof(PREFACE) - 1);
    raw_send(p, SETTINGS, 0, 0, "", 0);
    return p;
}

/* The server must say GOAWAY with this code, close, and reset what was open. */
static inline void expect_goaway(struct probe *p, unsigned code)
{
    static struct frame f;

    assert_true(raw_expect(p, GOAWAY, &f));
    assert_int_equal(code_at(&f, 4), code);
    (void)shutdown(p->raw_fd, SHUT_WR);
    for (unsigned i = 0; i < p->accepted_count; i++) {
        PROBE_UNTIL(p, p->accepted[i]->why != RESET_NONE || p->accepted[i]->s == NULL);
        if (p->accepted[i]->s != NULL) {
            user_close(p->accepted[i], RESET_NONE);
        }
    }
    PROBE_UNTIL(p, p->server_closed);
}

static inline void expect_reset(struct probe *p, unsigned stream, unsigned code)
{
    static struct frame f;

    assert_true(raw_expect(p, RST_STREAM, &f));
    assert_int_equal(f.stream, stream);
    assert_int_equal(code_at(&f, 0), code);
}

#endif
