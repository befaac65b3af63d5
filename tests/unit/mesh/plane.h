/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_MESH_PLANE_H
#define UNIT_MESH_PLANE_H

/*
 * A control plane for tests: all of its methods behind one port on loopback, with TLS or without,
 * on the loop of the test, which says by hand what each call is answered. And a name server for it.
 */
#include "../net/tls_probe.h"
#include "../unit.h"
#include "api/names.h"
#include "http/grpc.h"
#include "net/dns.h"

#define DEADLINE_NS (60 * NS_PER_S) /* of a condition: what takes longer will not come */

/* Turn the loop until the condition holds. */
#define UNTIL(loop_, condition)                                                                    \
    do {                                                                                           \
        uint64_t until_ = clock_mono_ns() + DEADLINE_NS;                                           \
        while (!(condition)) {                                                                     \
            (void)loop_turn((loop_), 100);                                                         \
            if (clock_mono_ns() > until_) {                                                        \
                fail_msg("never came true: %s", #condition);                                       \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/*
 * Turn until nothing is left to do but to wait: what was posted or sent on this loop has arrived.
 */
static inline void settle(struct loop *l)
{
    for (unsigned i = 0; i < 50; i++) {
        (void)loop_turn(l, 0);
    }
}

/* --- calls ------------------------------------------------------------------------------------ */

struct plane {
    struct loop *loop;
    struct listener listener;
    struct addr at;
    struct grpc_server *grpc; /* NULL while it is down */
    struct tls_ctx *tls;      /* NULL: clear text */
    const struct http_limits *limits; /* of connections with TLS; NULL: default */
    struct list calls;        /* the oldest first */
    struct list conns;        /* with TLS */
    unsigned accepted;        /* connections, ever */
    unsigned asked;           /* calls, ever */
    char client_id[256];      /* of the last connection; empty: none */
    void (*on_request)(struct plane *p, struct grpc_server_call *call, const char *path,
                       struct bytes message); /* NULL: answered by hand */
};

struct plane_call {
    struct list node;
    const char *path;
    struct grpc_server_call *call;
    struct bytes request; /* NULL until it came; owned */
};

static inline void plane_on_call(struct grpc_server_call *call, void *service, const char *path)
{
    struct plane *p = service;
    struct plane_call *pc = mem_new(sizeof(*pc));

    pc->path = path;
    pc->call = call;
    list_append(&p->calls, &pc->node);
    p->asked++;
    grpc_server_call_set(call, pc);
}

static struct plane
    *plane_of_test; /* methods get no service with their messages; there is one plane */

static inline void plane_on_message(struct grpc_server_call *call, void *user, struct bytes message)
{
    struct plane_call *pc = user;

    pc->request = bytes_of(bytes_dup(message), message.len);
    if (plane_of_test->on_request != NULL) {
        plane_of_test->on_request(plane_of_test, call, pc->path, pc->request);
    }
}

static inline void plane_on_done(struct grpc_server_call *call, void *user)
{
    struct plane_call *pc = user;

    (void)call;
    list_unlink(&pc->node);
    mem_free((char *)(uintptr_t)pc->request.at);
    mem_free(pc);
}

#define PLANE_METHODS(X)                                                                           \
    X(get, GRPC_DESTINATION_GET)                                                                   \
    X(profile, GRPC_DESTINATION_PROFILE)                                                           \
    X(certify, GRPC_IDENTITY_CERTIFY)                                                              \
    X(inbound, GRPC_INBOUND_WATCH)                                                                 \
    X(outbound, GRPC_OUTBOUND_WATCH)

#define X(name, path)                                                                              \
    static void plane_on_##name(struct grpc_server_call *call, void *service)                      \
    {                                                                                              \
        plane_on_call(call, service, path);                                                        \
    }
PLANE_METHODS(X)
#undef X

static const struct grpc_method plane_methods[] = {
#define X(name, path_)                                                                             \
    {.path = path_,                                                                                \
     .on_call = plane_on_##name,                                                                   \
     .on_message = plane_on_message,                                                               \
     .on_done = plane_on_done},
    PLANE_METHODS(X)
#undef X
};

/* The nth open call (from 0) of a method whose request came; NULL. */
static inline struct plane_call *plane_call(const struct plane *p, const char *path, unsigned nth)
{
    LIST_FOREACH(node, &p->calls)
    {
        struct plane_call *pc = LIST_ITEM(node, struct plane_call, node);

        if (strcmp(pc->path, path) == 0 && pc->request.at != NULL && nth-- == 0) {
            return pc;
        }
    }
    return NULL;
}

static inline void plane_send(struct plane *p, const char *path, struct bytes message)
{
    struct plane_call *pc = plane_call(p, path, 0);

    assert_non_null(pc);
    assert_int_equal(grpc_send(pc->call, message), 0);
}

static inline void plane_finish(struct plane *p, const char *path, enum grpc_status status)
{
    struct plane_call *pc = plane_call(p, path, 0);

    assert_non_null(pc);
    grpc_finish(pc->call, status, status == GRPC_OK ? "" : "the test says so");
}

/* --- connections ------------------------------------------------------------------------------ */

struct plane_conn {
    struct list node;
    struct plane *plane;
    struct task task;
    struct io *io;
    struct http_server *http;
    struct grave grave;
};

static inline void plane_conn_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct plane_conn, grave));
}

static inline void plane_conn_end(struct plane_conn *c)
{
    list_unlink(&c->node);
    task_cancel(&c->task);
    io_close(c->io);
    if (c->http != NULL) {
        http_server_close(c->http, E_CANCELED);
    }
    c->io = NULL;
    c->http = NULL;
}

static inline void plane_on_stream(void *user, struct stream *s)
{
    struct plane_conn *c = user;

    grpc_server_stream(c->plane->grpc, s);
}

static inline void plane_on_closed(void *user, int err)
{
    struct plane_conn *c = user;

    (void)err;
    c->http = NULL;
    if (list_is_linked(&c->node)) {
        list_unlink(&c->node);
    }
    loop_free_later(c->plane->loop, &c->grave, plane_conn_bury);
}

static const struct http_server_events plane_http_events = {
    .on_stream = plane_on_stream,
    .on_closed = plane_on_closed,
};

static inline void plane_handshake(struct task *t)
{
    struct plane_conn *c = CONTAINER_OF(t, struct plane_conn, task);
    int rc = io_handshake(c->io);
    struct bytes id;
    struct io *io;

    if (rc == E_AGAIN) {
        return;
    }
    if (rc != 0) {
        plane_conn_end(c);
        loop_free_later(c->plane->loop, &c->grave, plane_conn_bury);
        return;
    }
    c->plane->client_id[0] = '\0';
    if (io_tls_peer_id(c->io, &id)) {
        (void)snprintf(c->plane->client_id, sizeof(c->plane->client_id), BYTES_FMT, BYTES_ARG(id));
    }
    io = c->io;
    c->io = NULL;
    c->http = http2_server_new(io, NULL, c->plane->limits, &plane_http_events, c);
}

static inline void plane_on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct plane *p = ln->user;
    struct plane_conn *c;

    (void)peer;
    p->accepted++;
    if (p->tls == NULL) {
        grpc_server_accept(p->grpc, fd);
        return;
    }
    c = mem_new(sizeof(*c));
    c->plane = p;
    c->task.run = plane_handshake;
    c->io = io_tls_server_new(p->tls, tcp_io(p->loop, fd), BYTES_NONE);
    io_set_owner(c->io, &c->task);
    list_append(&p->conns, &c->node);
    task_wake(p->loop, &c->task);
}

static inline void plane_up(struct plane *p)
{
    int fd;

    assert_null(p->grpc);
    assert_int_equal(sock_listen(&p->at, false, 16, &fd), 0);
    assert_int_equal(sock_local(fd, &p->at), 0); /* the same one the next time */
    p->grpc = grpc_server_new(p->loop, plane_methods, ARRAY_LEN(plane_methods), p);
    assert_int_equal(listener_open(&p->listener, p->loop, fd, plane_on_accept, p), 0);
}

static inline void plane_down(struct plane *p)
{
    listener_close(&p->listener);
    while (!list_is_empty(&p->conns)) {
        plane_conn_end(LIST_ITEM(p->conns.next, struct plane_conn, node));
    }
    if (p->grpc != NULL) {
        grpc_server_free(p->grpc);
        p->grpc = NULL;
    }
    settle(p->loop);
}

/* Let every connection go, and take new ones. */
static inline void plane_restart(struct plane *p)
{
    plane_down(p);
    plane_up(p);
}

/* Bound and never listening, until the process ends: while the plane is down, no other process that
 * asks for any port is given this one, and mistaken for us. */
static inline void plane_reserve_port(struct plane *p)
{
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&p->at, &sa);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(sock_local(fd, &p->at), 0);
}

static inline void plane_open(struct plane *p, struct loop *l, struct tls_ctx *tls)
{
    memset(p, 0, sizeof(*p));
    p->loop = l;
    p->tls = tls;
    p->at = addr_v4(0x7f000001, 0);
    list_init(&p->calls);
    list_init(&p->conns);
    plane_of_test = p;
    plane_reserve_port(p);
    plane_up(p);
}

/* --- names ------------------------------------------------------------------------------------ */

struct name_rule {
    const char *name; /* without trailing dot */
    unsigned type;    /* 1 A, 33 SRV */
    struct addr addr; /* of A */
    const char *target;
    uint16_t port; /* of SRV */
    uint32_t ttl_s;
};

struct names { /* a name server; what is not in its rules does not exist */
    struct watch udp;
    struct task task;
    struct loop *loop;
    struct name_rule *rules;
    size_t count;
    unsigned questions;
    char at[ADDR_TEXT_BYTES];
};

static inline size_t names_put(char *to, size_t at, uint32_t value, unsigned bytes)
{
    for (unsigned i = bytes; i > 0; i--) {
        to[at++] = (char)(value >> (8 * (i - 1)));
    }
    return at;
}

static inline size_t names_record(char *to, size_t at, const struct name_rule *r)
{
    size_t len_at;

    at = names_put(to, at, 0xc00c, 2);
    at = names_put(to, at, r->type, 2);
    at = names_put(to, at, 1, 2);
    at = names_put(to, at, r->ttl_s, 4);
    len_at = at;
    at += 2;
    if (r->type == 1) {
        memcpy(to + at, r->addr.ip, 4);
        at += 4;
    } else {
        const char *label = r->target;

        at = names_put(to, at, 0, 4); /* priority, weight */
        at = names_put(to, at, r->port, 2);
        while (*label != '\0') {
            size_t len = strcspn(label, ".");

            at = names_put(to, at, (uint32_t)len, 1);
            memcpy(to + at, label, len);
            at += len;
            label += len + (label[len] == '.');
        }
        at = names_put(to, at, 0, 1);
    }
    (void)names_put(to, len_at, (uint32_t)(at - len_at - 2), 2);
    return at;
}

static inline size_t names_answer(struct names *n, const char *q, char *to)
{
    char name[256];
    size_t at = 12, used = 0;
    unsigned type, answers = 0;
    bool exists = false;

    while (q[at] != 0) {
        size_t label = (unsigned char)q[at++];

        memcpy(name + used, q + at, label);
        used += label;
        name[used++] = '.';
        at += label;
    }
    name[used > 0 ? used - 1 : 0] = '\0';
    type = (unsigned)(unsigned char)q[at + 2];
    at += 5;
    memcpy(to, q, at);
    for (size_t i = 0; i < n->count; i++) {
        exists = exists || strcasecmp(n->rules[i].name, name) == 0;
        if (strcasecmp(n->rules[i].name, name) == 0 && n->rules[i].type == type) {
            at = names_record(to, at, &n->rules[i]);
            answers++;
        }
    }
    (void)names_put(to, 2, 0x8180u | (exists ? 0 : 3), 2);
    (void)names_put(to, 6, answers, 2);
    (void)names_put(to, 8, 0, 4); /* no authority, no additional section */
    n->questions++;
    return at;
}

static inline void names_run(struct task *t)
{
    struct names *n = CONTAINER_OF(t, struct names, task);
    char in[512], out[2048];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t got;

    while ((got = recvfrom(n->udp.fd, in, sizeof(in), 0, (struct sockaddr *)&from, &from_len)) >
           12) {
        size_t len = names_answer(n, in, out);

        (void)sendto(n->udp.fd, out, len, 0, (struct sockaddr *)&from, from_len);
        from_len = sizeof(from);
    }
    n->udp.ready = 0;
}

static inline void names_open(struct names *n, struct loop *l, struct name_rule *rules,
                              size_t count)
{
    struct addr at = addr_v4(0x7f000001, 0);
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&at, &sa);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *n = (struct names){.loop = l, .rules = rules, .count = count};
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(sock_local(fd, &at), 0);
    (void)addr_format(&at, n->at);
    n->task.run = names_run;
    assert_int_equal(watch_open(&n->udp, l, fd, &n->task), 0);
}

static inline void names_close(struct names *n)
{
    watch_close(&n->udp);
    task_cancel(&n->task);
}

#endif
