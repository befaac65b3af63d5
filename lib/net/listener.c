/* SPDX-License-Identifier: Apache-2.0 */
#include "net/sock.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#define ACCEPTS_PER_TURN 8
#define PAUSE_NS         (100 * NS_PER_MS)
#define CROWD_NS         (500 * NS_PER_MS) /* a queue that stands so long is more than a burst */
#define BEHIND_NS        NS_PER_S

/* --- a queue that stands -------------------------------------------------------------------------- */

/* By the clock: after the crowd nobody may have come for long. */
bool listener_is_behind(const struct listener *ln)
{
    return ln->behind_ns > ln->loop->now_ns;
}

static void saw_empty(struct listener *ln)
{
    ln->crowded_ns = 0;
    if (ln->behind_ns != 0 && ln->behind_ns <= ln->loop->now_ns) {
        ln->behind_ns = 0;
        log_info("all connections are accepted in time again");
    }
}

static void saw_more(struct listener *ln)
{
    uint64_t now_ns = ln->loop->now_ns;

    ln->crowded_ns = ln->crowded_ns != 0 ? ln->crowded_ns : now_ns;
    if (listener_is_behind(ln)) {
        ln->behind_ns = now_ns + BEHIND_NS;
    } else if (now_ns - ln->crowded_ns >= CROWD_NS) {
        ln->behind_ns = now_ns + BEHIND_NS;
        log_warn("connections come faster than they can be accepted, and clients give up waiting: more "
                 "CPU is needed, or clients that keep their connections");
    }
}

/* --- accepting ------------------------------------------------------------------------------------ */

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
        ln->on_accept(ln, fd, &peer);
        return true;
    }
    if (errno == EAGAIN) {
        ln->watch.ready &= ~(unsigned)WATCH_IN;
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

static void listener_run(struct task *task)
{
    struct listener *ln = CONTAINER_OF(task, struct listener, task);

    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        /* on_accept may have paused or closed the listener. */
        if (ln->stopped || ln->watch.fd < 0 || timer_is_armed(&ln->pause)) {
            return;
        }
        if (!accept_one(ln)) {
            return;
        }
        if (ln->watch.fd >= 0 && !is_awaited(ln)) {
            ln->watch.ready &= ~(unsigned)WATCH_IN;
            saw_empty(ln);
            return;
        }
    }
    saw_more(ln);
    /* Late: what is ready now comes first, and only once in a turn, for a turn has many rounds. */
    task_wake_late(ln->loop, &ln->task);
}

static void listener_pause_over(struct timer *timer)
{
    struct listener *ln = CONTAINER_OF(timer, struct listener, pause);

    task_wake(ln->loop, &ln->task);
}

int listener_open(struct listener *ln, struct loop *l, int fd,
                  void (*on_accept)(struct listener *ln, int fd, const struct addr *peer),
                  void *user)
{
    int rc;

    *ln = (struct listener){.loop = l, .on_accept = on_accept, .user = user};
    ln->task.run = listener_run;
    ln->pause.run = listener_pause_over;
    rc = watch_open(&ln->watch, l, fd, &ln->task);
    if (rc != 0) {
        ln->watch.fd = -1;
        close(fd);
        return rc;
    }
    task_wake(l, &ln->task); /* connections may have waited longer than the watch exists */
    return 0;
}

void listener_pause(struct listener *ln)
{
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
    if (ln->watch.fd >= 0) { /* another process may have it by now, as the proxy's successor has */
        (void)close(watch_release(&ln->watch));
    }
}
