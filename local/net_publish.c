/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A way from the host's localhost into the home. The listening sockets come from the host-side
 * process; what is accepted on them belongs to the host's namespace, what is dialed to the node's,
 * and a tunnel joins the two.
 */
#include <errno.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "local/net_private.h"
#include "net/sock.h"
#include "net/splice.h"

#define CONNS_MAX       4096 /* of one publication */
#define DIAL_TIMEOUT_NS (10 * NS_PER_S)
#define ANY_PORT_TRIES  16
#define BACKLOG         128

struct conn {
    struct grave grave;
    struct list node; /* in publish->conns */
    struct task task;
    struct timer timer;
    struct net_publish *publish;
    struct io *accepted, *dialed; /* the tunnel's once joined */
    bool is_joined;
    struct tunnel tunnel;
};

struct net_publish {
    struct grave grave;
    struct loop *loop;
    struct addr to;
    struct listener listeners[2];
    size_t listeners_count;
    struct list conns;
    size_t conns_count;
    char *path; /* of a Unix socket, else NULL */
};

static void conn_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct conn, grave));
}

/* The connections are closed or handed over already. */
static void conn_free(struct conn *c)
{
    struct loop *l = c->publish->loop;

    timer_cancel(l, &c->timer);
    task_cancel(&c->task);
    list_unlink(&c->node);
    c->publish->conns_count--;
    loop_free_later(l, &c->grave, conn_bury);
}

/* The client sees a reset: nobody is there. */
static void conn_refuse(struct conn *c)
{
    io_abort(c->accepted);
    io_close(c->dialed);
    conn_free(c);
}

static void on_tunnel_end(struct tunnel *t, int err)
{
    (void)err;
    conn_free(t->user);
}

static void conn_run(struct task *task)
{
    struct conn *c = CONTAINER_OF(task, struct conn, task);
    int err = io_handshake(c->dialed);

    if (err == E_AGAIN) {
        return;
    }
    if (err != 0) {
        char to[ADDR_TEXT_BYTES];

        log_debug("cannot reach what is published; to=%s err=%s", addr_format(&c->publish->to, to),
                  err_name(err));
        conn_refuse(c);
        return;
    }
    timer_cancel(c->publish->loop, &c->timer);
    c->is_joined = true;
    tunnel_open(&c->tunnel, c->publish->loop, c->accepted, NULL, c->dialed, NULL, 0, on_tunnel_end,
                c);
}

static void conn_expire(struct timer *timer)
{
    conn_refuse(CONTAINER_OF(timer, struct conn, timer));
}

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct net_publish *p = ln->user;
    struct conn *c;

    (void)peer;
    if (p->conns_count == CONNS_MAX) {
        log_warn("too many connections to a published port; max=%d", CONNS_MAX);
        close(fd);
        return;
    }
    c = mem_new(sizeof(*c));
    c->publish = p;
    c->task.run = conn_run;
    c->timer.run = conn_expire;
    c->accepted = io_tcp_new(p->loop, fd, &c->task);
    if (c->accepted == NULL) {
        mem_free(c);
        return;
    }
    list_append(&p->conns, &c->node);
    p->conns_count++;
    if (sock_dial(p->loop, &p->to, NULL, &c->task, &c->dialed) != 0) {
        c->dialed = NULL;
        conn_refuse(c);
        return;
    }
    timer_arm_in(p->loop, &c->timer, DIAL_TIMEOUT_NS);
    task_wake(p->loop, &c->task);
}

static void conn_end(struct conn *c)
{
    if (c->is_joined) {
        tunnel_close(&c->tunnel, E_CANCELED);
        conn_free(c);
    } else {
        conn_refuse(c);
    }
}

/* --- publications ----------------------------------------------------------------------------- */

static void publish_bury(struct grave *grave)
{
    struct net_publish *p = CONTAINER_OF(grave, struct net_publish, grave);

    mem_free(p->path);
    mem_free(p);
}

static struct net_publish *publish_new(struct loop *l, const struct addr *to)
{
    struct net_publish *p = mem_new(sizeof(*p));

    p->loop = l;
    p->to = *to;
    list_init(&p->conns);
    return p;
}

/* Takes fd. */
static int publish_listen(struct net_publish *p, int fd)
{
    TRY(listener_open(&p->listeners[p->listeners_count], p->loop, fd, on_accept, p));
    p->listeners_count++;
    return 0;
}

static bool is_without_v6(int err)
{
    return err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL;
}

/* Sockets on both loopback addresses with one port; the second is -1 where the host has no IPv6. */
static int listen_pair(struct net *n, uint16_t port, int out_fds[2])
{
    struct addr v4 = addr_v4(INADDR_LOOPBACK, port);
    struct addr v6 = {.family = AF_INET6, .ip = {[15] = 1}};
    int err = net_host_listen(n, &v4, &out_fds[0]);

    if (err != 0) {
        return err;
    }
    err = sock_local(out_fds[0], &v4);
    if (err == 0) {
        v6.port = v4.port;
        err = net_host_listen(n, &v6, &out_fds[1]);
    }
    if (is_without_v6(err)) {
        out_fds[1] = -1;
        err = 0;
    }
    if (err != 0) {
        close(out_fds[0]);
    }
    return err;
}

static int explain(int err, uint16_t port, char *problem, size_t problem_bytes)
{
    if (err == -EADDRINUSE) {
        snprintf(
            problem, problem_bytes,
            "port %u of this machine's localhost is in use by another program; stop it or choose "
            "another port",
            port);
        return E_CONFIG;
    }
    if (err == -EACCES) {
        snprintf(problem, problem_bytes,
                 "port %u may be bound by root only; choose one from 1024 on, or run as root",
                 port);
        return E_CONFIG;
    }
    snprintf(problem, problem_bytes, "cannot listen on port %u of this machine's localhost: %s",
             port, err_text(err));
    return err;
}

int net_publish(struct net *n, struct loop *l, uint16_t host_port, const struct addr *to,
                struct net_publish **out, uint16_t *out_port, char *problem, size_t problem_bytes)
{
    int fds[2] = {-1, -1};
    struct net_publish *p;
    struct addr bound = {.port = 0};
    int err = listen_pair(n, host_port, fds);

    /* A port that is free for one family may be taken in the other. */
    for (unsigned i = 0; err == -EADDRINUSE && host_port == 0 && i < ANY_PORT_TRIES; i++) {
        err = listen_pair(n, host_port, fds);
    }
    if (err != 0) {
        return explain(err, host_port, problem, problem_bytes);
    }
    p = publish_new(l, to);
    err = sock_local(fds[0], &bound);
    for (size_t i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            int opened = publish_listen(p, fds[i]);

            err = err != 0 ? err : opened;
        }
    }
    if (err != 0) {
        net_unpublish(p);
        return explain(err, host_port, problem, problem_bytes);
    }
    *out = p;
    *out_port = bound.port;
    return 0;
}

int net_publish_unix(struct net *n, struct loop *l, const char *path, const struct addr *to,
                     struct net_publish **out)
{
    struct net_publish *p;
    int fd, err;

    /* A path is found through the file system, which the supervisor shares with the host. */
    (void)n;
    TRY(sock_listen_unix(path, SOCK_STREAM, BACKLOG, &fd));
    p = publish_new(l, to);
    p->path = mem_strdup(path);
    err = publish_listen(p, fd);
    if (err != 0) {
        net_unpublish(p);
        return err;
    }
    *out = p;
    return 0;
}

void net_publish_retarget(struct net_publish *p, const struct addr *to)
{
    p->to = *to;
}

void net_unpublish(struct net_publish *p)
{
    if (p == NULL) {
        return;
    }
    for (size_t i = 0; i < p->listeners_count; i++) {
        listener_close(&p->listeners[i]);
    }
    LIST_FOREACH(node, &p->conns)
    {
        conn_end(LIST_ITEM(node, struct conn, node));
    }
    if (p->path != NULL) {
        (void)unlink(p->path);
    }
    loop_free_later(p->loop, &p->grave, publish_bury);
}
