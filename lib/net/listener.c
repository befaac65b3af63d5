/* SPDX-License-Identifier: Apache-2.0 */
#include "net/sock.h"

#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#define ACCEPTS_PER_TURN 8
#define PAUSE_NS         (100 * NS_PER_MS)
#define BUSY_EVENTS      64 /* in a turn: who is in already has more than enough to do for it */
#define SETTLE_NS        (200 * NS_PER_MS) /* for the last step of handshakes that are under way */
#define FINISH_NS        (5 * NS_PER_S)    /* for all that stands in the queue */
#define FINISH_LOOK_NS   (10 * NS_PER_MS)

bool listener_is_behind(const struct listener *ln)
{
    return accept_queue_is_behind(&ln->queue, ln->loop->now_ns);
}

void listener_refused(struct listener *ln)
{
    ln->taken--;
}

/* --- accepting ------------------------------------------------------------------------------------ */

static void saw_empty(struct listener *ln)
{
    ln->watch.ready &= ~(unsigned)WATCH_IN;
    accept_queue_saw_empty(&ln->queue, ln->watch.fd, ln->loop->now_ns);
}

static bool is_out_of_resources(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

/* Accept one connection. False: none waits, or the listener has to pause. */
static bool accept_one(struct listener *ln)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof(from);
    struct addr peer;
    int fd;

    memset(&from, 0, sizeof(from));
    fd = accept4(ln->watch.fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        addr_from_sockaddr(&from, &peer);
        ln->taken++;
        if (ln->on_finished == NULL) {
            accept_queue_measure(&ln->queue, ln->watch.fd, fd, ln->loop->now_ns);
        }
        ln->on_accept(ln, fd, &peer);
        return true;
    }
    if (errno == EAGAIN) {
        saw_empty(ln);
        return false;
    }
    if (is_out_of_resources(errno)) {
        /* The connection stays in the backlog, so trying again at once would spin. */
        log_error("cannot accept, pausing; err=%s", err_name(-errno));
        timer_arm_in(ln->loop, &ln->pause, PAUSE_NS);
        return false;
    }
    /* accept(2): errors of the new connection itself (ECONNABORTED, EPERM of a firewall, pending
     * network errors) concern only that one. */
    if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK || errno == EOPNOTSUPP) {
        log_error("the listener is unusable; err=%s", err_name(-errno));
        ln->stopped = true;
        return false;
    }
    return true;
}

/* accept4() makes a socket and a file before it looks whether anybody waits: to find nobody in that way
 * costs ten times as much as to ask. */
static bool is_awaited(const struct listener *ln)
{
    struct pollfd p = {.fd = ln->watch.fd, .events = POLLIN};

    return poll(&p, 1, 0) != 0; /* an error is for accept4() to tell */
}

/*
 * A connection costs as much as some five requests, and brings more of them. While they come too fast, and
 * those that are there keep the turn busy, there is time for one.
 */
static unsigned most_to_take(const struct listener *ln)
{
    return listener_is_behind(ln) && ln->loop->events >= BUSY_EVENTS ? 1 : ACCEPTS_PER_TURN;
}

static void listener_run(struct task *task)
{
    struct listener *ln = CONTAINER_OF(task, struct listener, task);
    unsigned most = most_to_take(ln);

    ln->taken = 0;
    for (int i = 0; i < ACCEPTS_PER_TURN && ln->taken < most; i++) {
        /* on_accept may have paused or closed the listener. */
        if (ln->stopped || ln->watch.fd < 0 || timer_is_armed(&ln->pause)) {
            return;
        }
        if (!accept_one(ln)) {
            return;
        }
        if (ln->watch.fd >= 0 && !is_awaited(ln)) {
            saw_empty(ln);
            return;
        }
    }
    accept_queue_saw_more(&ln->queue, ln->loop->now_ns);
    /* Late: what is ready now comes first, and only once in a turn, for a turn has many rounds. */
    task_wake_late(ln->loop, &ln->task);
}

static void listener_pause_over(struct timer *timer)
{
    struct listener *ln = CONTAINER_OF(timer, struct listener, pause);

    task_wake(ln->loop, &ln->task);
}

/* --- the end -------------------------------------------------------------------------------------- */

/*
 * Drop SYNs, and nothing else: a handshake under way goes on. What is accepted inherits the filter, where a
 * SYN means nothing either. The offsets count from the TCP header (flags: byte 13, RFC 9293 3.1).
 */
static int refuse_handshakes(int fd)
{
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),       /* SYN and ACK */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1), /* SYN alone */
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0 ? 0 : -errno;
}

static void listener_finish_look(struct timer *timer)
{
    struct listener *ln = CONTAINER_OF(timer, struct listener, finish);

    if (!ln->stopped && is_awaited(ln)) {
        if (ln->loop->now_ns < ln->finish_until_ns) {
            timer_arm_in(ln->loop, &ln->finish, FINISH_LOOK_NS);
            return;
        }
        log_warn("a listener is closed while connections still wait to be accepted: they are reset");
    }
    listener_close(ln);
    ln->on_finished(ln);
}

void listener_finish(struct listener *ln, void (*on_finished)(struct listener *ln))
{
    int rc = refuse_handshakes(ln->watch.fd);

    accept_queue_widen(&ln->queue, ln->watch.fd); /* a full one drops the ends of handshakes */
    if (rc != 0) { /* who connects in the very moment of the close is reset */
        log_info("new connections cannot be held off while the last ones are accepted; err=%s", err_name(rc));
    }
    ln->on_finished = on_finished;
    ln->finish_until_ns = ln->loop->now_ns + FINISH_NS;
    listener_resume(ln);
    timer_arm_in(ln->loop, &ln->finish, SETTLE_NS);
}

int listener_open(struct listener *ln, struct loop *l, int fd,
                  void (*on_accept)(struct listener *ln, int fd, const struct addr *peer),
                  void *user)
{
    int rc;

    *ln = (struct listener){.loop = l, .on_accept = on_accept, .user = user};
    ln->task.run = listener_run;
    ln->pause.run = listener_pause_over;
    ln->finish.run = listener_finish_look;
    rc = watch_open(&ln->watch, l, fd, &ln->task);
    if (rc != 0) {
        ln->watch.fd = -1;
        close(fd);
        return rc;
    }
    task_wake(l, &ln->task); /* connections may have waited longer than the watch exists */
    return 0;
}

void listener_bound(struct listener *ln, int backlog)
{
    accept_queue_bound(&ln->queue, ln->watch.fd, backlog);
}

void listener_pause(struct listener *ln)
{
    accept_queue_widen(&ln->queue, ln->watch.fd);
    ln->stopped = true;
    task_cancel(&ln->task);
}

void listener_resume(struct listener *ln)
{
    if (ln->stopped) {
        ln->stopped = false;
        task_wake(ln->loop, &ln->task);
    }
}

void listener_close(struct listener *ln)
{
    if (ln->loop == NULL) {
        return;
    }
    task_cancel(&ln->task);
    timer_cancel(ln->loop, &ln->pause);
    timer_cancel(ln->loop, &ln->finish);
    if (ln->watch.fd >= 0) { /* another process may have it by now, as the proxy's successor has */
        accept_queue_widen(&ln->queue, ln->watch.fd);
        (void)close(watch_release(&ln->watch));
    }
}
