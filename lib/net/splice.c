/* SPDX-License-Identifier: Apache-2.0 */
#include "net/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <threads.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/err.h"
#include "net/io_private.h"

#define PIPE_BYTES     (256 * 1024)
#define TURN_BYTES_MAX (256 * 1024) /* of one direction, then others come first */
#define TURN_REST_MIN  (64 * 1024)  /* less than this is left to the next turn: a pipe is often full sooner */
#define BULK_BYTES     (CHUNK_BYTES - CHUNK_HEADROOM) /* a read of this size starts splicing */
#define CACHED_PIPES   16
#define RETRY_NS       (5 * NS_PER_MS)

/*
 * Empty pipes of this thread. A pipe belongs to a direction only while bytes are in it, so a few
 * serve any number of tunnels and making one is rare.
 */
static _Thread_local struct {
    int fds[CACHED_PIPES][2];
    unsigned count;
} pipes;

void tunnel_cache_clear(void)
{
    while (pipes.count > 0) {
        pipes.count--;
        close(pipes.fds[pipes.count][0]);
        close(pipes.fds[pipes.count][1]);
    }
}

static bool pipe_get(struct tunnel_side *s)
{
    if (s->pipe[0] >= 0) {
        return true;
    }
    if (pipes.count > 0) {
        pipes.count--;
        s->pipe[0] = pipes.fds[pipes.count][0];
        s->pipe[1] = pipes.fds[pipes.count][1];
        return true;
    }
    if (pipe2(s->pipe, O_NONBLOCK | O_CLOEXEC) != 0) {
        s->pipe[0] = s->pipe[1] = -1;
        return false; /* out of descriptors: this direction is copied */
    }
    /* May be refused beyond the user's share (pipe(7), pipe-user-pages-soft); then it is smaller.
     */
    (void)fcntl(s->pipe[0], F_SETPIPE_SZ, PIPE_BYTES);
    return true;
}

static void pipe_put(struct tunnel_side *s)
{
    if (s->pipe[0] < 0) {
        return;
    }
    if (s->pipe_bytes == 0 && pipes.count < CACHED_PIPES) {
        pipes.fds[pipes.count][0] = s->pipe[0];
        pipes.fds[pipes.count][1] = s->pipe[1];
        pipes.count++;
    } else {
        close(s->pipe[0]);
        close(s->pipe[1]);
    }
    s->pipe[0] = s->pipe[1] = -1;
    s->pipe_bytes = 0;
}

/* --- moving bytes
 * --------------------------------------------------------------------------------- */

static ssize_t splice_some(int from, int to, size_t bytes)
{
    ssize_t n;

    do {
        n = splice(from, NULL, to, NULL, bytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* From the socket into the pipe, which is empty; so EAGAIN can only mean an empty socket. */
static int splice_in(struct tunnel_side *s, struct io_tcp *from, size_t bytes_max,
                     size_t *out_bytes)
{
    ssize_t n;

    assert(s->pipe_bytes == 0);
    if (from->err != 0 || from->eof) {
        return from->err != 0 ? from->err : E_EOF;
    }
    if (!io_tcp_may(from, WATCH_IN)) {
        return E_AGAIN;
    }
    n = splice_some(from->watch.fd, s->pipe[1], MIN(bytes_max, (size_t)PIPE_BYTES));
    if (n > 0) {
        s->pipe_bytes = (size_t)n;
        from->io.bytes_in += (uint64_t)n;
        *out_bytes = (size_t)n;
        return 0;
    }
    if (n == 0) {
        from->eof = true;
        return E_EOF;
    }
    if (errno == EAGAIN) {
        from->watch.ready &= ~(unsigned)(WATCH_IN | WATCH_HUP);
        return E_AGAIN;
    }
    from->err = from->err_out = -errno;
    return from->err;
}

static int splice_out(struct tunnel_side *s, struct io_tcp *to)
{
    while (s->pipe_bytes > 0) {
        ssize_t n;

        if (to->err_out != 0) {
            return to->err_out;
        }
        if (!io_tcp_may(to, WATCH_OUT)) {
            return E_AGAIN;
        }
        n = splice_some(s->pipe[0], to->watch.fd, s->pipe_bytes);
        if (n < 0 && errno == EAGAIN) {
            watch_await_out(&to->watch);
            return E_AGAIN;
        }
        if (n <= 0) {
            to->err_out = n < 0 ? -errno : -EIO;
            return to->err_out;
        }
        s->pipe_bytes -= (size_t)n;
        to->io.bytes_out += (uint64_t)n;
    }
    return 0;
}

/* Write what was read from `s` to `to`: first what was copied, then what is in the pipe. */
static int push(struct tunnel *t, struct tunnel_side *s, struct tunnel_side *to)
{
    size_t before = chain_size(&s->pending) + s->pipe_bytes, moved;
    int rc = 0;

    if (chain_size(&s->pending) > 0) {
        rc = io_send(to->io, &s->pending);
    }
    if (rc == 0 && s->pipe_bytes > 0) {
        rc = splice_out(s, io_bare_tcp(to->io));
    }
    moved = before - chain_size(&s->pending) - s->pipe_bytes;
    if (moved > 0) {
        to->bytes_written += moved;
        t->active_ns = t->loop->now_ns;
    }
    if (rc != 0 && rc != E_AGAIN && to->err == 0) {
        to->err = rc;
    }
    return rc;
}

/* Read some from `s`, from which nothing waits. Splicing needs both sockets bare. */
static int pull(struct tunnel *t, struct tunnel_side *s, struct tunnel_side *to, size_t bytes_max)
{
    struct io_tcp *from = s->bulk ? io_bare_tcp(s->io) : NULL;
    size_t n = 0;
    int rc;

    assert(chain_size(&s->pending) == 0 && s->pipe_bytes == 0);
    if (from != NULL && io_bare_tcp(to->io) != NULL && pipe_get(s)) {
        rc = splice_in(s, from, bytes_max, &n);
        if (rc == E_AGAIN) {
            s->bulk = false; /* the burst is over */
        }
    } else {
        rc = io_recv(s->io, &s->pending, bytes_max, &n);
        s->bulk = rc == 0 && n >= BULK_BYTES;
    }
    if (rc == 0) {
        s->bytes_read += n;
        t->active_ns = t->loop->now_ns;
    } else if (rc == E_EOF) {
        s->eof = true;
    } else if (rc != E_AGAIN && rc != E_LIMIT && s->err == 0) {
        s->err = rc;
    }
    return rc;
}

/* --- a direction
 * ------------------------------------------------------------------------------------ */

/*
 * From `s` to `to` as far as it goes now. 0, E_AGAIN: wait for events; E_LIMIT: wait a moment; else
 * the failure that ends the tunnel. *again: this turn's share is used up and there may be more.
 */
static int run_direction(struct tunnel *t, struct tunnel_side *s, struct tunnel_side *to,
                         bool *again)
{
    uint64_t until = s->bytes_read + TURN_BYTES_MAX;
    int rc = push(t, s, to);

    while (rc == 0 && !s->eof && s->bytes_read + TURN_REST_MIN <= until) {
        rc = pull(t, s, to, (size_t)(until - s->bytes_read));
        if (rc == 0) {
            rc = push(t, s, to);
        }
    }
    *again = *again || (rc == 0 && !s->eof);
    if (s->pipe_bytes == 0) {
        pipe_put(s);
    }
    if (rc == 0 || rc == E_EOF) {
        /* All that came before the end has gone. */
        rc = s->eof && !to->shut ? io_shut(to->io) : 0;
        to->shut = s->eof && rc == 0;
    }
    return rc;
}

/* --- the tunnel
 * --------------------------------------------------------------------------------------- */

static void end(struct tunnel *t, int err)
{
    tunnel_close(t, err);
    t->on_end(t, err);
}

static void run(struct task *task)
{
    struct tunnel *t = CONTAINER_OF(task, struct tunnel, task);
    bool again = false;
    int there = run_direction(t, &t->a, &t->b, &again);
    int back = there == 0 || there == E_AGAIN || there == E_LIMIT
                   ? run_direction(t, &t->b, &t->a, &again)
                   : there;

    if (back != 0 && back != E_AGAIN && back != E_LIMIT) {
        end(t, back);
        return;
    }
    if (t->a.shut && t->b.shut) {
        end(t, 0);
        return;
    }
    if (again) {
        task_wake(t->loop, &t->task);
    }
    if (there == E_LIMIT || back == E_LIMIT) {
        timer_arm_in(t->loop, &t->idle, RETRY_NS);
    }
}

/* Moving bytes only notes the time; the timer looks at it when it runs out. */
static void idle_over(struct timer *timer)
{
    struct tunnel *t = CONTAINER_OF(timer, struct tunnel, idle);

    task_wake(t->loop, &t->task); /* or it was armed to try again */
    if (t->idle_ns == 0) {
        return;
    }
    if (t->loop->now_ns - t->active_ns >= t->idle_ns) {
        end(t, E_TIMEOUT);
        return;
    }
    timer_arm(t->loop, &t->idle, t->active_ns + t->idle_ns);
}

/* splice(2) knows no MSG_NOSIGNAL: into a socket whose peer has gone it raises SIGPIPE, whose
 * default is to end the process. */
static void ignore_sigpipe(void)
{
    struct sigaction now;

    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
        now.sa_handler = SIG_IGN;
        (void)sigaction(SIGPIPE, &now, NULL);
    }
}

static void side_init(struct tunnel *t, struct tunnel_side *s, struct io *io, struct chain *first)
{
    *s = (struct tunnel_side){.io = io, .pipe = {-1, -1}};
    chain_init(&s->pending);
    if (first != NULL) {
        s->bytes_read = chain_size(first);
        chain_move_all(&s->pending, first);
    }
    io_set_owner(io, &t->task);
}

void tunnel_open(struct tunnel *t, struct loop *l, struct io *a, struct chain *a_first,
                 struct io *b, struct chain *b_first, uint64_t idle_ns,
                 void (*on_end)(struct tunnel *t, int err), void *user)
{
    static once_flag once = ONCE_FLAG_INIT;

    call_once(&once, ignore_sigpipe);
    *t = (struct tunnel){.loop = l,
                         .idle_ns = idle_ns,
                         .active_ns = l->now_ns,
                         .on_end = on_end,
                         .user = user,
                         .is_open = true};
    t->task.run = run;
    t->idle.run = idle_over;
    side_init(t, &t->a, a, a_first);
    side_init(t, &t->b, b, b_first);
    task_wake(l, &t->task);
    if (idle_ns > 0) {
        timer_arm_in(l, &t->idle, idle_ns);
    }
}

static void side_close(struct tunnel_side *s, int err)
{
    chain_clear(&s->pending);
    pipe_put(s);
    if (err != 0) {
        io_abort(s->io);
    } else {
        io_close(s->io);
    }
    s->io = NULL;
}

void tunnel_close(struct tunnel *t, int err)
{
    if (!t->is_open) {
        return;
    }
    t->is_open = false;
    task_cancel(&t->task);
    timer_cancel(t->loop, &t->idle);
    side_close(&t->a, err);
    side_close(&t->b, err);
}
