/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_NET_NET_PROBE_H
#define UNIT_NET_NET_PROBE_H

/*
 * What the tests of lib/net share: a loop, connected sockets, and an `end`: a task that owns one
 * io, sends a known pattern, checks the pattern that comes, and notes how everything ended.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/loop.h"
#include "net/io.h"
#include "net/sock.h"

#define PROBE_CHUNKS 4096

struct end {
    struct loop *loop;
    struct task task;
    struct io *io;
    struct chain out;
    uint64_t to_send, sent;   /* pattern bytes: wanted, handed to io_send() so far */
    uint64_t got;             /* pattern bytes received and checked */
    uint64_t stop_reading_at; /* do not read beyond this; UINT64_MAX: no limit */
    size_t read_max;          /* bytes of one io_recv() */
    bool shut_when_sent, close_after_shut_call;
    int handshake_rc, recv_rc, send_rc, shut_rc; /* 1: not yet known */
    unsigned runs;
};

/* The nth byte of the pattern; its period is a prime, so a lost or doubled chunk shows. */
static inline unsigned char pattern_at(uint64_t n)
{
    return (unsigned char)((n % 65521) * 131 >> 3);
}

static inline void end_fill(struct end *e)
{
    while (e->sent < e->to_send && chain_size(&e->out) < 128 * 1024) {
        char block[4096];
        size_t n = (size_t)MIN((uint64_t)sizeof(block), e->to_send - e->sent);

        for (size_t i = 0; i < n; i++) {
            block[i] = (char)pattern_at(e->sent + i);
        }
        assert_int_equal(chain_append(&e->out, &e->loop->chunks, bytes_of(block, n)), 0);
        e->sent += n;
    }
}

static inline void end_send(struct end *e)
{
    e->send_rc = 0;
    while (e->send_rc == 0 && (e->sent < e->to_send || chain_size(&e->out) > 0)) {
        end_fill(e);
        e->send_rc = io_send(e->io, &e->out);
    }
    if (e->send_rc == 0 && e->shut_when_sent && e->shut_rc != 0) {
        e->shut_rc = io_shut(e->io);
        if (e->close_after_shut_call) {
            io_close(e->io);
            e->io = NULL;
        }
    }
}

static inline void end_check(struct end *e, struct chain *c)
{
    struct bytes head;

    while ((head = chain_head(c)).len > 0) {
        for (size_t i = 0; i < head.len; i++) {
            if ((unsigned char)head.at[i] != pattern_at(e->got + i)) {
                fail_msg("byte %llu differs", (unsigned long long)(e->got + i));
            }
        }
        e->got += head.len;
        chain_drop(c, head.len);
    }
}

static inline void end_recv(struct end *e)
{
    uint64_t budget = 256 * 1024;

    e->recv_rc = 0;
    while (e->recv_rc == 0 && e->got < e->stop_reading_at && budget > 0) {
        struct chain c;
        size_t n = 0;

        chain_init(&c);
        e->recv_rc =
            io_recv(e->io, &c, (size_t)MIN((uint64_t)e->read_max, e->stop_reading_at - e->got), &n);
        assert_int_equal(chain_size(&c), n);
        assert_true((e->recv_rc == 0) == (n > 0));
        budget -= MIN(budget, n);
        end_check(e, &c);
    }
    if (e->recv_rc == 0 && budget == 0) {
        task_wake(e->loop, &e->task);
    }
}

static inline void end_run(struct task *task)
{
    struct end *e = CONTAINER_OF(task, struct end, task);

    e->runs++;
    if (e->io == NULL) {
        return;
    }
    e->handshake_rc = io_handshake(e->io);
    if (e->handshake_rc != 0) {
        return;
    }
    end_recv(e);
    end_send(e);
}

/* `io` may be NULL and given later; then wake the task. */
static inline void end_init(struct end *e, struct loop *l, struct io *io)
{
    *e = (struct end){.loop = l, .io = io, .stop_reading_at = UINT64_MAX, .read_max = 64 * 1024};
    e->handshake_rc = e->recv_rc = e->send_rc = e->shut_rc = 1;
    e->task.run = end_run;
    chain_init(&e->out);
    if (io != NULL) {
        io_set_owner(io, &e->task);
    }
    task_wake(l, &e->task);
}

static inline void end_close(struct end *e)
{
    task_cancel(&e->task);
    chain_clear(&e->out);
    io_close(e->io);
    e->io = NULL;
}

/* Turn the loop until the condition holds. A test that hangs is ended by its runner. */
#define TURN_UNTIL(loop_, condition)                                                               \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            (void)loop_turn((loop_), 1000);                                                        \
        }                                                                                          \
    } while (0)

static inline void set_buffers(int fd, int bytes)
{
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
}

static inline void set_nonblocking(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

/* Two connected TCP sockets on loopback, non-blocking. buffer_bytes: 0 for the kernel's. */
static inline void tcp_pair(int out_fds[2], int buffer_bytes)
{
    struct addr at = addr_v4(0x7f000001, 0);
    struct sockaddr_storage sa;
    socklen_t len;
    int listener;

    assert_int_equal(sock_listen(&at, false, 1, &listener), 0);
    if (buffer_bytes != 0) {
        set_buffers(listener, buffer_bytes); /* inherited by what it accepts */
    }
    assert_int_equal(sock_local(listener, &at), 0);
    out_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (buffer_bytes != 0) {
        set_buffers(out_fds[0], buffer_bytes);
    }
    len = addr_to_sockaddr(&at, &sa);
    assert_int_equal(connect(out_fds[0], (struct sockaddr *)&sa, len), 0);
    set_nonblocking(out_fds[0]);
    out_fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(out_fds[1] >= 0);
    close(listener);
}

static inline struct io *tcp_io(struct loop *l, int fd)
{
    struct io *io = io_tcp_new(l, fd, NULL);

    assert_non_null(io);
    return io;
}

static inline void probe_open(struct loop *l)
{
    assert_int_equal(loop_open(l, 0, PROBE_CHUNKS), 0);
}

static inline void probe_close(struct loop *l)
{
    io_close_lingering(l);
    loop_close(l); /* asserts that no watch, timer or chunk is left */
}

#endif
