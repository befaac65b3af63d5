/* SPDX-License-Identifier: Apache-2.0 */
#include "net/accept_queue.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/macros.h"

#define CROWD_NS    (500 * NS_PER_MS) /* a queue that stands so long is more than a burst */
#define BEHIND_NS   NS_PER_S
#define LOOK_NS     (100 * NS_PER_MS)
#define WAIT_MS     200
#define BOUND_MIN   16

bool accept_queue_is_behind(const struct accept_queue *q, uint64_t now_ns)
{
    return q->behind_ns > now_ns;
}

/* listen(2) of a socket that listens only changes the bound; what waits, stays. */
static void bound_set(struct accept_queue *q, int listen_fd, int bound)
{
    if (listen(listen_fd, bound) == 0) {
        q->is_short = bound < q->full;
    }
}

void accept_queue_bound(struct accept_queue *q, int listen_fd, int full)
{
    q->full = full;
    bound_set(q, listen_fd, full);
}

void accept_queue_widen(struct accept_queue *q, int listen_fd)
{
    if (q->is_short) {
        bound_set(q, listen_fd, q->full);
    }
}

/*
 * Who was turned away comes back in a second or more, all at once if they came so: for them, there is all
 * the room again.
 */
void accept_queue_saw_empty(struct accept_queue *q, int listen_fd, uint64_t now_ns)
{
    q->crowded_ns = 0;
    accept_queue_widen(q, listen_fd);
    if (q->behind_ns != 0 && q->behind_ns <= now_ns) {
        q->behind_ns = 0;
        log_info("all connections are accepted in time again");
    }
}

void accept_queue_saw_more(struct accept_queue *q, uint64_t now_ns)
{
    q->crowded_ns = q->crowded_ns != 0 ? q->crowded_ns : now_ns;
    if (accept_queue_is_behind(q, now_ns)) {
        q->behind_ns = now_ns + BEHIND_NS;
    } else if (now_ns - q->crowded_ns >= CROWD_NS) {
        q->behind_ns = now_ns + BEHIND_NS;
        log_warn("connections come faster than they can be accepted, and clients give up waiting: more "
                 "CPU is needed, or clients that keep their connections");
    }
}

static bool tcp_info(int fd, struct tcp_info *out)
{
    socklen_t len = sizeof(*out);

    *out = (struct tcp_info){0};
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, out, &len) == 0;
}

/*
 * How long ago the client last sent something or connected is how long it has waited, for there is nothing
 * to say before it is answered. Of a listening socket, tcp_get_info() in Linux tells the queue's length as
 * `tcpi_unacked`, and its bound as `tcpi_sacked`.
 */
void accept_queue_measure(struct accept_queue *q, int listen_fd, int fd, uint64_t now_ns)
{
    struct tcp_info client, queue;
    uint64_t bound;

    if (q->full == 0 || !accept_queue_is_behind(q, now_ns) || now_ns < q->look_ns) {
        return;
    }
    q->look_ns = now_ns + LOOK_NS;
    if (!tcp_info(fd, &client) || !tcp_info(listen_fd, &queue)) {
        return;
    }
    bound = queue.tcpi_sacked;
    if (client.tcpi_last_data_recv > WAIT_MS) {
        bound = (uint64_t)queue.tcpi_unacked * WAIT_MS / client.tcpi_last_data_recv;
    } else if (client.tcpi_last_data_recv < WAIT_MS / 2) {
        bound *= 2;
    }
    bound = MIN(MAX(bound, BOUND_MIN), (uint64_t)q->full);
    if (bound != queue.tcpi_sacked) {
        bound_set(q, listen_fd, (int)bound);
    }
}
