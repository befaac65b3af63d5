/* SPDX-License-Identifier: Apache-2.0 */
#include "local/dns.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/sock.h"

#define UDP_PER_TURN   64
#define QUESTION_BYTES 4096 /* a longer datagram is cut off and answered as malformed */
#define ANSWER_BYTES   65535
#define CONNS_MAX      64
#define CONN_LIFE_NS   (10 * NS_PER_S)
#define CONN_PENDING                                                                               \
    (2 * (ANSWER_BYTES + 2)) /* answers waiting for a client that does not read                    \
                              */
#define LENGTH_BYTES 2       /* RFC 1035 4.2.2: before each message over TCP */

struct dns_conn {
    struct grave grave;
    struct list node; /* in server->conns */
    struct task task;
    struct timer life;
    struct dns_server *server;
    struct io *io;
    struct chain in, out;
    bool is_ended; /* the client sends no more */
};

struct dns_server {
    struct grave grave;
    struct loop *loop;
    struct dns_zone *zone;
    struct watch udp;
    struct task udp_task;
    struct listener tcp;
    struct list conns;
    size_t conns_count;
    uint8_t answer[LENGTH_BYTES + ANSWER_BYTES];
};

/* --- UDP -------------------------------------------------------------------------------------- */

static void udp_answer(struct dns_server *s, struct bytes question,
                       const struct sockaddr_storage *peer, socklen_t peer_bytes)
{
    size_t bytes;

    if (s->zone == NULL ||
        dns_answer(s->zone, question, false, s->answer, sizeof(s->answer), &bytes) != 0) {
        return;
    }
    /* A full buffer loses the answer, as any datagram may be lost; the client asks again. */
    (void)sendto(s->udp.fd, s->answer, bytes, MSG_DONTWAIT, (const struct sockaddr *)peer,
                 peer_bytes);
}

static void udp_run(struct task *task)
{
    struct dns_server *s = CONTAINER_OF(task, struct dns_server, udp_task);
    char question[QUESTION_BYTES];

    for (unsigned i = 0; i < UDP_PER_TURN; i++) {
        struct sockaddr_storage peer;
        socklen_t peer_bytes = sizeof(peer);
        ssize_t n = recvfrom(s->udp.fd, question, sizeof(question), MSG_DONTWAIT,
                             (struct sockaddr *)&peer, &peer_bytes);

        if (n < 0 && errno == EAGAIN) {
            s->udp.ready &= ~(unsigned)WATCH_IN;
            return;
        }
        if (n >= 0) { /* an error is an ICMP answer to an earlier one of ours; it is read away */
            udp_answer(s, bytes_of(question, (size_t)n), &peer, peer_bytes);
        }
    }
    task_wake(s->loop, &s->udp_task);
}

static int udp_open(struct dns_server *s, const struct addr *at, struct addr *out_bound)
{
    struct sockaddr_storage to;
    socklen_t bytes = addr_to_sockaddr(at, &to);
    int fd = socket(at->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int err;

    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *)&to, bytes) != 0) {
        err = -errno;
    } else {
        err = sock_local(fd, out_bound);
    }
    if (err != 0) {
        close(fd);
        return err;
    }
    s->udp_task.run = udp_run;
    return watch_open(&s->udp, s->loop, fd, &s->udp_task);
}

/* --- TCP -------------------------------------------------------------------------------------- */

static void conn_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct dns_conn, grave));
}

static void conn_close(struct dns_conn *c)
{
    timer_cancel(c->server->loop, &c->life);
    task_cancel(&c->task);
    list_unlink(&c->node);
    c->server->conns_count--;
    io_close(c->io);
    chain_clear(&c->in);
    chain_clear(&c->out);
    loop_free_later(c->server->loop, &c->grave, conn_bury);
}

/* Answer the first question in `in`. E_AGAIN: it is not there as a whole. */
static int conn_answer_one(struct dns_conn *c)
{
    struct dns_server *s = c->server;
    uint8_t question[LENGTH_BYTES + QUESTION_BYTES];
    size_t bytes, length;

    if (chain_peek(&c->in, question, LENGTH_BYTES) < LENGTH_BYTES) {
        return E_AGAIN;
    }
    length = (size_t)(question[0] << 8 | question[1]);
    if (length > QUESTION_BYTES) {
        return E_LIMIT;
    }
    if (chain_size(&c->in) < LENGTH_BYTES + length) {
        return E_AGAIN;
    }
    chain_peek(&c->in, question, LENGTH_BYTES + length);
    chain_drop(&c->in, LENGTH_BYTES + length);
    if (s->zone == NULL) {
        return E_NOT_FOUND;
    }
    TRY(dns_answer(s->zone, bytes_of(question + LENGTH_BYTES, length), true,
                   s->answer + LENGTH_BYTES, ANSWER_BYTES, &bytes));
    s->answer[0] = (uint8_t)(bytes >> 8);
    s->answer[1] = (uint8_t)bytes;
    return chain_append(&c->out, &s->loop->chunks, bytes_of(s->answer, LENGTH_BYTES + bytes));
}

/* 0 while the connection goes on; E_AGAIN waits for an event. */
static int conn_step(struct dns_conn *c)
{
    size_t bytes;
    int err = 0;

    while (err == 0 && chain_size(&c->out) < CONN_PENDING) {
        err = conn_answer_one(c);
    }
    if (err != 0 && err != E_AGAIN) {
        return err;
    }
    if (chain_size(&c->out) > 0) {
        TRY(io_send(c->io, &c->out));
    }
    if (err == 0) {
        return 0; /* there may be another question in what was read */
    }
    if (c->is_ended) {
        return E_EOF; /* all answered and sent */
    }
    err = io_recv(c->io, &c->in, LENGTH_BYTES + QUESTION_BYTES, &bytes);
    if (err == E_EOF) {
        c->is_ended = true;
        return 0;
    }
    return err;
}

static void conn_run(struct task *task)
{
    struct dns_conn *c = CONTAINER_OF(task, struct dns_conn, task);
    int err = 0;

    for (unsigned i = 0; err == 0 && i < UDP_PER_TURN; i++) {
        err = conn_step(c);
    }
    if (err == 0) {
        task_wake(c->server->loop, &c->task);
    } else if (err != E_AGAIN) {
        conn_close(c);
    }
}

static void conn_expire(struct timer *timer)
{
    conn_close(CONTAINER_OF(timer, struct dns_conn, life));
}

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct dns_server *s = ln->user;
    struct dns_conn *c;

    (void)peer;
    if (s->conns_count == CONNS_MAX) {
        close(fd);
        return;
    }
    c = mem_new(sizeof(*c));
    c->server = s;
    c->task.run = conn_run;
    c->life.run = conn_expire;
    chain_init(&c->in);
    chain_init(&c->out);
    c->io = io_tcp_new(s->loop, fd, &c->task);
    if (c->io == NULL) {
        mem_free(c);
        return;
    }
    list_append(&s->conns, &c->node);
    s->conns_count++;
    timer_arm_in(s->loop, &c->life, CONN_LIFE_NS);
    task_wake(s->loop, &c->task);
}

/* --- the server ------------------------------------------------------------------------------- */

static void server_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct dns_server, grave));
}

int dns_server_open(struct loop *l, const struct addr *at, struct dns_server **out)
{
    struct dns_server *s = mem_new(sizeof(*s));
    struct addr bound;
    int fd = -1;
    int err;

    s->loop = l;
    s->udp.fd = -1;
    list_init(&s->conns);
    err = udp_open(s, at, &bound);
    if (err == 0) {
        err = sock_listen(&bound, false, CONNS_MAX, &fd); /* the same port, also when it was 0 */
    }
    if (err == 0) {
        err = listener_open(&s->tcp, l, fd, on_accept, s);
    }
    if (err != 0) {
        watch_close(&s->udp);
        task_cancel(&s->udp_task);
        mem_free(s);
        return err;
    }
    *out = s;
    return 0;
}

uint16_t dns_server_port(const struct dns_server *s)
{
    struct addr at;

    return sock_local(s->udp.fd, &at) == 0 ? at.port : 0;
}

void dns_server_set_zone(struct dns_server *s, struct dns_zone *z)
{
    dns_zone_free(s->zone);
    s->zone = z;
}

void dns_server_close(struct dns_server *s)
{
    if (s == NULL) {
        return;
    }
    LIST_FOREACH(node, &s->conns)
    {
        conn_close(LIST_ITEM(node, struct dns_conn, node));
    }
    watch_close(&s->udp);
    task_cancel(&s->udp_task);
    listener_close(&s->tcp);
    dns_zone_free(s->zone);
    loop_free_later(s->loop, &s->grave, server_bury);
}
