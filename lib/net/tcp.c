/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bottom layer: one socket under an edge-triggered watch.
 *
 * System calls are what a proxy spends its time on, so none is made whose answer is known: after a
 * read that emptied the socket the next bytes bring an event. That a read came short does not prove
 * it, for the end of the stream may have arrived together with the bytes and brings no event of its
 * own. TCP_INQ (tcp(7), Linux 4.18) lets the kernel tell with each read what is left, the end
 * counting as one byte; that also says how many chunks the next read can fill. Sockets without it
 * are read until they would block.
 */
#include "net/io.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "net/io_private.h"

#define READ_CHUNKS_MAX 16
#define READ_CHUNKS_FEW 4 /* as many are offered while the pool is not ample */
#define WRITE_IOV_MAX   24

static struct io_tcp *tcp_of(struct io *io)
{
    assert(io->ops == &io_tcp_ops);
    return CONTAINER_OF(io, struct io_tcp, io);
}

/* Remember the first failure: the kernel tells it only once. */
static int tcp_fail(struct io_tcp *t, int err)
{
    if (t->err == 0) {
        t->err = err;
    }
    t->err_out = t->err;
    t->io.readable = false;
    return t->err;
}

/* A failed write ends only sending: what the peer said before it closed can still be read. */
static int tcp_fail_out(struct io_tcp *t, int err)
{
    t->err_out = err;
    return err;
}

/*
 * Reading and writing come here, too: a socket that was reset before it was accepted looks as if it
 * were still connecting, and its owner knows of no handshake to wait for.
 */
static int tcp_handshake(struct io *io)
{
    struct io_tcp *t = tcp_of(io);
    int err = 0;
    socklen_t len = sizeof(err);

    if (t->err != 0 || !t->connecting) {
        return t->err;
    }
    if (!io_tcp_may(t, WATCH_OUT)) {
        return E_AGAIN;
    }
    if (getsockopt(t->watch.fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0) {
        err = errno;
    }
    if (err != 0) {
        return tcp_fail(t, -err);
    }
    t->connecting = false;
    return 0;
}

/*
 * Where the next read goes: the free end of the last chunk, then new chunks. `fresh` is filled with
 * the new ones. One chunk will do for a message; more are offered while much comes.
 */
struct read_plan {
    struct iovec iov[READ_CHUNKS_MAX + 1];
    struct chunk *last, *fresh[READ_CHUNKS_MAX];
    unsigned iov_count, fresh_count;
    size_t capacity;
};

static void plan_add(struct read_plan *p, struct chunk *c, size_t bytes_max)
{
    size_t room = MIN(chunk_room(c), bytes_max - p->capacity);

    p->iov[p->iov_count++] = (struct iovec){.iov_base = c->data + c->end, .iov_len = room};
    p->capacity += room;
}

/* A chunk is not begun for the small rest of what is wanted: the next read begins it. */
static bool is_worth_a_chunk(size_t have, size_t bytes_max)
{
    return have == 0 || have < bytes_max / 2 || have + CHUNK_BYTES / 2 <= bytes_max;
}

static void plan_read(struct read_plan *p, struct io_tcp *t, const struct chain *to,
                      size_t bytes_max)
{
    struct chunk_pool *pool = &t->io.loop->chunks;
    unsigned most = chunk_pool_is_ample(pool) ? READ_CHUNKS_MAX : READ_CHUNKS_FEW;

    p->iov_count = p->fresh_count = 0;
    p->capacity = 0;
    p->last = chain_last(to);
    if (chunk_room(p->last) > 0) {
        plan_add(p, p->last, bytes_max);
    }
    /* A quarter of a chunk is room enough for what a small message needs. */
    if (t->chunks_wanted == 1 && p->capacity >= CHUNK_BYTES / 4) {
        return;
    }
    while (p->fresh_count < MIN(t->chunks_wanted, most) && is_worth_a_chunk(p->capacity, bytes_max)) {
        struct chunk *c = chunk_new(pool);

        if (c == NULL) {
            break;
        }
        c->start = c->end = CHUNK_HEADROOM;
        p->fresh[p->fresh_count++] = c;
        plan_add(p, c, bytes_max);
    }
}

/* Hand the first `bytes` of the plan to `to` and the unused chunks back. */
static void plan_commit(struct read_plan *p, struct chain *to, size_t bytes)
{
    unsigned i = 0;

    if (p->iov_count > p->fresh_count) {
        size_t n = MIN(bytes, p->iov[0].iov_len);

        chain_grew(to, p->last, n);
        bytes -= n;
        i = 1;
    }
    for (unsigned f = 0; f < p->fresh_count; f++, i++) {
        size_t n = MIN(bytes, p->iov[i].iov_len);

        if (n == 0) {
            chunk_free(p->fresh[f]);
            continue;
        }
        p->fresh[f]->end += (unsigned)n;
        chain_push(to, p->fresh[f]);
        bytes -= n;
    }
    assert(bytes == 0);
}

/* Read by the plan. *out_left: what the kernel says is still queued; -1 when it does not say. */
static ssize_t read_fd(struct io_tcp *t, struct read_plan *p, int *out_left)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = p->iov, .msg_iovlen = p->iov_count};
    const struct cmsghdr *c;
    ssize_t n;

    *out_left = -1;
    do {
        message.msg_control = t->has_inq ? control.bytes : NULL;
        message.msg_controllen = t->has_inq ? sizeof(control.bytes) : 0;
        n = recvmsg(t->watch.fd, &message, 0);
    } while (n < 0 && errno == EINTR);
    if (n > 0 && t->has_inq) {
        c = CMSG_FIRSTHDR(&message);
        if (c != NULL && c->cmsg_level == IPPROTO_TCP && c->cmsg_type == TCP_CM_INQ) {
            memcpy(out_left, CMSG_DATA(c), sizeof(*out_left));
        }
    }
    return n;
}

/*
 * A read gave n > 0 bytes and left `left` behind. What comes next is likely to be as much as came last, so
 * the offer shrinks slowly: a body that flows is not begun anew with one chunk at each event.
 */
static void note_left(struct io_tcp *t, size_t n, size_t capacity, int left)
{
    size_t more = left > 0 ? (size_t)left : left < 0 && n == capacity ? 2 * n : 0;
    size_t wanted = MAX(more, n / 2) / CHUNK_BYTES + 1;

    t->chunks_wanted = (unsigned char)MIN(wanted, (size_t)READ_CHUNKS_MAX);
    /* An error or a reset is queued behind the bytes and not counted. */
    if (left == 0 && (t->watch.ready & WATCH_HUP) == 0) {
        t->watch.ready &= ~(unsigned)WATCH_IN;
    }
    t->io.readable = io_tcp_may(t, WATCH_IN);
}

static int tcp_recv(struct io *io, struct chain *to, size_t bytes_max, size_t *out_bytes)
{
    struct io_tcp *t = tcp_of(io);
    struct read_plan plan;
    ssize_t n;
    int left;

    assert(bytes_max > 0);
    if (t->err != 0 || t->eof) {
        return t->err != 0 ? t->err : E_EOF;
    }
    if (t->connecting) {
        TRY(tcp_handshake(io));
    }
    if (!io_tcp_may(t, WATCH_IN)) {
        io->readable = false;
        return E_AGAIN;
    }
    plan_read(&plan, t, to, bytes_max);
    if (plan.capacity == 0) {
        return E_LIMIT;
    }
    n = read_fd(t, &plan, &left);
    plan_commit(&plan, to, n > 0 ? (size_t)n : 0);
    if (n > 0) {
        io->bytes_in += (uint64_t)n;
        note_left(t, (size_t)n, plan.capacity, left);
        *out_bytes = (size_t)n;
        return 0;
    }
    io->readable = false;
    if (n == 0) {
        t->eof = true;
        return E_EOF;
    }
    if (errno == EAGAIN) {
        t->watch.ready &= ~(unsigned)(WATCH_IN | WATCH_HUP);
        return E_AGAIN;
    }
    return tcp_fail(t, -errno);
}

static int tcp_send(struct io *io, struct chain *from)
{
    struct io_tcp *t = tcp_of(io);

    if (t->err_out != 0) {
        return t->err_out;
    }
    assert(!t->shut || chain_size(from) == 0);
    while (chain_size(from) > 0) {
        struct iovec iov[WRITE_IOV_MAX];
        struct msghdr message = {.msg_iov = iov};
        ssize_t n;

        if (t->connecting) {
            TRY(tcp_handshake(io));
        }
        if (!io_tcp_may(t, WATCH_OUT)) {
            return E_AGAIN;
        }
        message.msg_iovlen = (size_t)chain_iov(from, iov, WRITE_IOV_MAX);
        n = sendmsg(t->watch.fd, &message, MSG_NOSIGNAL | (io->is_last ? MSG_MORE : 0));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            watch_await_out(&t->watch);
            return E_AGAIN;
        }
        if (n < 0) {
            return tcp_fail_out(t, -errno);
        }
        io->bytes_out += (uint64_t)n;
        chain_drop(from, (size_t)n);
    }
    return 0;
}

static int tcp_shut(struct io *io)
{
    struct io_tcp *t = tcp_of(io);

    if (t->err_out != 0 || t->shut) {
        return t->err_out;
    }
    if (shutdown(t->watch.fd, SHUT_WR) != 0) {
        return tcp_fail_out(t, -errno); /* ENOTCONN: the peer has reset it meanwhile */
    }
    t->shut = true;
    return 0;
}

static void tcp_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct io_tcp, grave));
}

static void tcp_close(struct io *io)
{
    struct io_tcp *t = tcp_of(io);

    watch_close(&t->watch);
    loop_free_later(io->loop, &t->grave, tcp_bury);
}

static int tcp_fd(const struct io *io)
{
    assert(io->ops == &io_tcp_ops);
    return CONTAINER_OF_CONST(io, struct io_tcp, io)->watch.fd;
}

static void tcp_set_owner(struct io *io, struct task *owner)
{
    io->owner = owner;
    tcp_of(io)->watch.owner = owner;
}

const struct io_ops io_tcp_ops = {
    .name = "tcp",
    .handshake = tcp_handshake,
    .recv = tcp_recv,
    .send = tcp_send,
    .shut = tcp_shut,
    .close = tcp_close,
    .fd = tcp_fd,
    .set_owner = tcp_set_owner,
};

struct io *io_tcp_make(struct loop *l, int fd, struct task *owner, bool connecting, bool has_inq)
{
    struct io_tcp *t = mem_new(sizeof(*t));

    t->io = (struct io){.ops = &io_tcp_ops, .loop = l, .owner = owner, .readable = true};
    t->chunks_wanted = 1;
    t->connecting = connecting;
    t->has_inq = has_inq;
    /* One that is connected is writable. To be told so would cost a turn of the loop. */
    if ((connecting ? watch_open : watch_open_writable)(&t->watch, l, fd, owner) != 0) {
        close(fd);
        mem_free(t);
        return NULL;
    }
    if (!t->connecting) {
        /* Bytes are often there already, and there is room for the first answer: asking the kernel
         * is cheaper than another turn of the loop. */
        t->watch.ready |= WATCH_IN | WATCH_OUT;
    }
    return &t->io;
}

bool io_tcp_ask_inq(int fd)
{
    int on = 1;

    return setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof(on)) == 0;
}

struct io *io_tcp_new(struct loop *l, int fd, struct task *owner)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    bool connecting = getpeername(fd, (struct sockaddr *)&peer, &len) != 0;

    return io_tcp_make(l, fd, owner, connecting, io_tcp_ask_inq(fd));
}

struct io *io_tcp_accepted(struct loop *l, int fd, struct task *owner)
{
    return io_tcp_make(l, fd, owner, false, true);
}
