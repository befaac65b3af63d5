/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PROXY_PEERS_H
#define TESTS_UNIT_PROXY_PEERS_H

/*
 * Who talks to the worker under test: bare sockets on which the test writes and reads text, and
 * HTTP/2 clients and servers, all on the worker's loop.
 */
#include "rig.h"

/* --- bare sockets ----------------------------------------------------------------------------- */

struct peer {
    int fd; /* -1: closed by the test */
    struct text in;
    bool eof;
    int err;
    bool is_lazy; /* read only when the test says so */
};

static inline void peer_read(struct peer *p)
{
    char block[16384];
    ssize_t n = 1;

    while (p->fd >= 0 && !p->eof && p->err == 0 && n > 0) {
        n = read(p->fd, block, sizeof(block));
        if (n > 0) {
            text_add(&p->in, bytes_of(block, (size_t)n));
        } else if (n == 0) {
            p->eof = true;
        } else if (errno != EAGAIN) {
            p->err = errno;
        }
    }
}

static inline void rig_turn(void)
{
    (void)loop_turn(rig.l, 1);
    for (size_t i = 0; i < rig.peers_count; i++) {
        if (!rig.peers[i]->is_lazy) {
            peer_read(rig.peers[i]);
        }
    }
}

/* Turns until nothing more is to be expected. */
static inline void rig_settle(void)
{
    for (unsigned i = 0; i < 30; i++) {
        rig_turn();
    }
}

#define RIG_UNTIL(condition)                                                                       \
    do {                                                                                           \
        for (unsigned turn_ = 0; !(condition); turn_++) {                                          \
            if (turn_ > RIG_TURNS_MAX) {                                                           \
                fail_msg("never came: %s", #condition);                                            \
            }                                                                                      \
            rig_turn();                                                                            \
        }                                                                                          \
    } while (0)

static inline struct peer *peer_new(int fd)
{
    struct peer *p = mem_new(sizeof(*p));

    assert_true(fd >= 0 && rig.peers_count < RIG_PEERS_MAX);
    set_nonblocking(fd);
    p->fd = fd;
    text_init(&p->in, 64 << 20);
    rig.peers[rig.peers_count++] = p;
    return p;
}

static inline int dial_fd(const struct addr *at)
{
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(at, &sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
    return fd;
}

static inline struct peer *peer_dial(enum direction side)
{
    return peer_new(dial_fd(&rig.at[side]));
}

static inline void peer_send_bytes(struct peer *p, struct bytes b)
{
    for (unsigned turn = 0; b.len > 0; turn++) {
        ssize_t n = send(p->fd, b.at, b.len, MSG_NOSIGNAL);

        assert_true(turn < RIG_TURNS_MAX && (n > 0 || errno == EAGAIN));
        b = bytes_from(b, (size_t)MAX(n, 0));
        rig_turn();
    }
}

static inline void peer_send(struct peer *p, const char *text)
{
    peer_send_bytes(p, bytes_str(text));
}

static inline bool peer_has(const struct peer *p, const char *text)
{
    return p->in.at != NULL && strstr(p->in.at, text) != NULL;
}

static inline void peer_close(struct peer *p)
{
    if (p->fd >= 0) {
        close(p->fd);
        p->fd = -1;
    }
}

static inline void peer_abort(struct peer *p)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    peer_close(p);
}

static inline void rig_forget_peers(struct rig *r)
{
    for (size_t i = 0; i < r->peers_count; i++) {
        peer_close(r->peers[i]);
        text_clear(&r->peers[i]->in);
        mem_free(r->peers[i]);
    }
    r->peers_count = 0;
}

/* An application that listens. */
struct app {
    int fd;
    struct addr at;
};

static inline void app_open(struct app *a)
{
    struct addr any = addr_v4(0x7f000001, 0);

    assert_int_equal(sock_listen(&any, false, 128, &a->fd), 0);
    assert_int_equal(sock_local(a->fd, &a->at), 0);
}

/* It listens no more: who dials it is refused. */
static inline void app_close(struct app *a)
{
    close(a->fd);
    a->fd = -1;
}

static inline struct peer *app_accept(struct app *a)
{
    int fd = -1;

    RIG_UNTIL((fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    return peer_new(fd);
}

static inline bool app_has_nobody(struct app *a)
{
    int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0) {
        close(fd);
    }
    return fd < 0;
}

/* --- HTTP/2 ----------------------------------------------------------------------------------- */

/* One stream, of either side. `log`: H head, D data (once in a row), E end, X reset. */
struct call {
    struct stream *s;
    struct head *head;
    struct text body;
    char log[64];
    unsigned log_len;
    struct text path, grpc_status, fields;
    unsigned status;
    bool ended;
    enum reset why;
    size_t hold; /* do not credit beyond this much */
    size_t to_send;
    bool end_after;
};

#define CALLS_MAX 512
struct h2_peer {
    struct http_client *client;
    struct http_server *server;
    struct call calls[CALLS_MAX];
    size_t count;
    bool is_closed;
    int err;
    bool is_echo; /* a server that answers 200 and closes by itself */
};

static inline void call_note(struct call *c, char what)
{
    if (c->log_len < sizeof(c->log) - 1 &&
        !(what == 'D' && c->log_len > 0 && c->log[c->log_len - 1] == 'D')) {
        c->log[c->log_len++] = what;
    }
}

static inline void call_fields(struct call *c, const struct fields *f)
{
    for (unsigned i = 0; f != NULL && i < f->count; i++) {
        text_printf(&c->fields, BYTES_FMT ": " BYTES_FMT "\n", BYTES_ARG(f->at[i].name),
                    BYTES_ARG(f->at[i].value));
        if (f->at[i].id == FIELD_GRPC_STATUS) {
            text_reset(&c->grpc_status);
            text_add(&c->grpc_status, f->at[i].value);
        }
    }
}

static void call_on_head(void *user, struct head *h)
{
    struct call *c = user;

    c->head = h;
    c->status = h->status;
    c->ended = h->ends;
    text_add(&c->path, h->path);
    call_fields(c, &h->fields);
    call_note(c, 'H');
    if (h->status == 0 || h->status >= 200) {
        stream_credit(c->s, c->hold > 0 ? c->hold : 1 << 20);
    }
}

static void call_on_data(void *user, struct chain *bytes)
{
    struct call *c = user;
    size_t n = chain_size(bytes);

    while (chain_size(bytes) > 0) {
        text_add(&c->body, chain_head(bytes));
        chain_drop(bytes, chain_head(bytes).len);
    }
    if (c->hold == 0) {
        stream_credit(c->s, n);
    }
    call_note(c, 'D');
}

static inline void call_pump(struct call *c)
{
    char block[4096];

    memset(block, 'b', sizeof(block));
    while (c->to_send > 0 && c->s->room > 0) {
        size_t n = MIN(MIN(c->to_send, c->s->room), sizeof(block));
        struct chain out;

        chain_init(&out);
        assert_int_equal(chain_append(&out, &rig.l->chunks, bytes_of(block, n)), 0);
        c->to_send -= n;
        stream_send_data(c->s, &out);
    }
    if (c->to_send == 0 && c->end_after) {
        c->end_after = false;
        stream_send_end(c->s, NULL);
    }
}

static void call_on_room(void *user, size_t bytes UNUSED)
{
    call_pump(user);
}

static void call_on_end(void *user, struct fields *trailers)
{
    struct call *c = user;

    c->ended = true;
    call_fields(c, trailers);
    call_note(c, 'E');
}

static void call_on_reset(void *user, enum reset why, int err UNUSED)
{
    struct call *c = user;

    c->why = why;
    call_note(c, 'X');
}

static const struct stream_events call_events = {
    .on_head = call_on_head,
    .on_data = call_on_data,
    .on_room = call_on_room,
    .on_end = call_on_end,
    .on_reset = call_on_reset,
};

static inline struct call *call_new(struct h2_peer *p)
{
    struct call *c = &p->calls[p->count++];

    assert_true(p->count <= CALLS_MAX);
    text_init(&c->body, 64 << 20);
    text_init(&c->path, 4096);
    text_init(&c->grpc_status, 64);
    text_init(&c->fields, 65536);
    return c;
}

static inline void call_close(struct call *c, enum reset why)
{
    struct stream *s = c->s;

    c->s = NULL;
    if (s != NULL) {
        stream_close(s, why);
    }
}

static void h2_peer_stream(void *user, struct stream *s)
{
    struct h2_peer *p = user;
    struct call *c = call_new(p);

    c->s = s;
    stream_set_user(s, &call_events, c);
}

static void h2_peer_closed(void *user, int err)
{
    struct h2_peer *p = user;

    p->client = NULL;
    p->server = NULL;
    p->is_closed = true;
    p->err = err;
}

static const struct http_server_events h2_peer_server_events = {h2_peer_stream, h2_peer_closed};
static const struct http_client_events h2_peer_client_events = {NULL, NULL, h2_peer_closed};

/* A client with prior knowledge, on a connection that it makes to one of the listeners. */
static inline struct h2_peer *h2_dial(enum direction side)
{
    struct h2_peer *p = mem_new(sizeof(*p));
    int fd = dial_fd(&rig.at[side]);

    set_nonblocking(fd);
    p->client = http2_client_new(tcp_io(rig.l, fd), NULL, &h2_peer_client_events, p);
    return p;
}

static inline struct h2_peer *h2_accept(struct app *a, const struct http_limits *limits)
{
    struct h2_peer *p = mem_new(sizeof(*p));
    int fd = -1;

    RIG_UNTIL((fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
    p->server = http2_server_new(tcp_io(rig.l, fd), NULL, limits, &h2_peer_server_events, p);
    return p;
}

/* `fields`: "name: value" NULL-terminated, may be NULL. */
static inline struct call *h2_call(struct h2_peer *p, const char *method, const char *path,
                                   bool ends, const char *const *fields)
{
    struct call *c = call_new(p);
    struct arena arena;
    struct head h = {
        .method = bytes_str(method),
        .scheme = path[0] == '/' ? BYTES("http") : BYTES("other"), /* whose paths have no rule */
        .authority = BYTES("web.app.svc.cluster.local"),
        .path = bytes_str(path),
        .content_length = -1,
        .version = HTTP_2,
    };

    arena_init(&arena, 65536);
    fields_init(&h.fields, &arena);
    for (size_t i = 0; fields != NULL && fields[i] != NULL; i++) {
        struct bytes name, value;

        assert_true(bytes_split(bytes_str(fields[i]), ':', &name, &value));
        assert_int_equal(fields_add(&h.fields, name, bytes_trim(value, " ")), 0);
    }
    assert_int_equal(http_client_open(p->client, &h, ends, &call_events, c, &c->s), 0);
    arena_clear(&arena);
    return c;
}

static inline void call_answer(struct call *c, unsigned status, const char *const *fields,
                               bool ends)
{
    struct head h = {.status = status, .content_length = -1, .version = HTTP_2};

    fields_init(&h.fields, &c->s->arena);
    for (size_t i = 0; fields != NULL && fields[i] != NULL; i++) {
        struct bytes name, value;

        assert_true(bytes_split(bytes_str(fields[i]), ':', &name, &value));
        assert_int_equal(fields_add(&h.fields, name, bytes_trim(value, " ")), 0);
    }
    assert_int_equal(stream_send_head(c->s, &h, ends), 0);
}

static inline void call_send(struct call *c, const char *text)
{
    struct chain out;

    chain_init(&out);
    assert_int_equal(chain_append(&out, &rig.l->chunks, bytes_str(text)), 0);
    stream_send_data(c->s, &out);
}

static inline void call_finish(struct call *c, const char *grpc_status)
{
    struct fields trailers;

    fields_init(&trailers, &c->s->arena);
    if (grpc_status != NULL) {
        assert_int_equal(fields_add(&trailers, BYTES("grpc-status"), bytes_str(grpc_status)), 0);
    }
    stream_send_end(c->s, grpc_status != NULL ? &trailers : NULL);
}

static inline void h2_free(struct h2_peer *p)
{
    for (size_t i = 0; i < p->count; i++) {
        struct call *c = &p->calls[i];

        call_close(c, RESET_CANCEL);
        text_clear(&c->body);
        text_clear(&c->path);
        text_clear(&c->grpc_status);
        text_clear(&c->fields);
    }
    if (p->client != NULL) {
        http_client_close(p->client, 0);
        p->client = NULL;
    }
    if (p->server != NULL) {
        http_server_close(p->server, 0);
        RIG_UNTIL(p->server == NULL);
    }
    rig_settle();
    mem_free(p);
}

#endif
