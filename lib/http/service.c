/* SPDX-License-Identifier: Apache-2.0 */
#include "http/service.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "http/http1.h"

#define CONNS_MAX        256
#define HEAD_TIMEOUT_NS  (30 * NS_PER_S)
#define IDLE_TIMEOUT_NS  (60 * NS_PER_S)
#define DETECT_BYTES     1024
#define ANSWER_BYTES_MAX (256u << 20)
#define PIECE_BYTES      65536

struct service {
    struct loop *loop;
    size_t body_max;
    service_handler *handle;
    void (*on_gone)(struct service_request *r, void *service_user);
    void *user;
    struct list conns; /* least recently used first */
    unsigned count;
    bool is_draining;
    struct grave grave;
};

struct service_conn {
    struct list node;
    struct service *service; /* NULL once that has forgotten us */
    struct loop *loop;
    struct io *io; /* while detecting */
    struct chain first;
    struct task detect;
    struct timer patience;      /* while detecting */
    struct http_server *server; /* afterwards */
    struct list exchanges;
    struct addr peer;
    char *peer_id; /* owned; NULL: no TLS */
    struct grave grave;
};

/* One request and its answer. */
struct exchange {
    struct list node;
    struct service_request request;
    struct service_conn *conn;
    struct stream *stream;
    struct text body;
    struct timer next; /* piece; in the next turn */
    size_t sent;       /* of the answer, or of its piece */
    bool is_handled; /* the handler has it, and has not answered */
    bool is_answered;
    bool is_dry; /* there is no piece for now */
    struct grave grave;
};

/* --- exchanges ----------------------------------------------------------------------------------- */

static void exchange_bury(struct grave *grave)
{
    struct exchange *x = CONTAINER_OF(grave, struct exchange, grave);

    text_clear(&x->body);
    text_clear(&x->request.answer);
    mem_free(x);
}

/* Give the stream back and forget the exchange. */
static void exchange_end(struct exchange *x, enum reset why)
{
    struct loop *l = x->stream->loop;

    timer_cancel(l, &x->next);
    list_unlink(&x->node);
    stream_close(x->stream, why);
    loop_free_later(l, &x->grave, exchange_bury);
}

/* The handler must not answer any more. */
static void exchange_gone(struct exchange *x)
{
    struct service *s = x->conn->service;

    if (x->is_handled || x->request.more != NULL) {
        x->is_handled = false;
        x->request.more = NULL;
        s->on_gone(&x->request, s->user);
    }
}

/* As much of the answer, or of its piece, as there is room for. True: all of it. */
static bool exchange_send(struct exchange *x)
{
    struct stream *s = x->stream;
    struct bytes rest = bytes_from(text_bytes(&x->request.answer), x->sent);

    while (rest.len > 0 && s->room > 0) {
        size_t size = MIN(MIN(rest.len, s->room), (size_t)PIECE_BYTES);
        struct chain piece;

        chain_init(&piece);
        if (chain_append(&piece, &s->loop->chunks, bytes_first(rest, size)) != 0) {
            exchange_gone(x);
            exchange_end(x, RESET_INTERNAL);
            return false;
        }
        stream_send_data(s, &piece);
        rest = bytes_from(rest, size);
        x->sent += size;
    }
    return rest.len == 0;
}

static void exchange_pump(struct exchange *x)
{
    if (!exchange_send(x)) {
        return;
    }
    if (x->request.more == NULL) {
        stream_send_end(x->stream, NULL);
        exchange_end(x, RESET_NONE);
    } else if (!x->is_dry && !timer_is_armed(&x->next)) {
        timer_arm_in(x->stream->loop, &x->next, 0);
    }
}

/* The next piece. One a turn, so that a long answer does not hold up the loop. */
static void next_run(struct timer *timer)
{
    struct exchange *x = CONTAINER_OF(timer, struct exchange, next);
    int rc;

    if (x->stream->sent_end) { /* HEAD */
        exchange_gone(x);
        exchange_end(x, RESET_NONE);
        return;
    }
    text_reset(&x->request.answer);
    x->sent = 0;
    rc = x->request.more(&x->request);
    x->is_dry = rc == E_AGAIN; /* until service_resume() */
    if (rc != 0 && rc != E_AGAIN) {
        x->request.more = NULL;
    }
    if ((rc != 0 && rc != E_AGAIN && rc != E_EOF) || x->request.answer.err != 0) {
        exchange_gone(x);
        exchange_end(x, RESET_INTERNAL);
    } else {
        exchange_pump(x);
    }
}

void service_break(struct service_request *r)
{
    struct exchange *x = CONTAINER_OF(r, struct exchange, request);

    assert(x->is_answered && r->more != NULL);
    exchange_gone(x);
    exchange_end(x, RESET_INTERNAL);
}

void service_resume(struct service_request *r)
{
    struct exchange *x = CONTAINER_OF(r, struct exchange, request);

    assert(x->is_answered && r->more != NULL);
    x->is_dry = false;
    if (x->sent == r->answer.len && !timer_is_armed(&x->next)) {
        timer_arm_in(x->stream->loop, &x->next, 0);
    }
}

static int answer_head(struct exchange *x, struct head *h)
{
    struct service_request *r = &x->request;

    fields_init(&h->fields, &x->stream->arena);
    if (r->content_type != NULL) {
        TRY(fields_add(&h->fields, BYTES("content-type"), bytes_str(r->content_type)));
    }
    if (r->extra_name != NULL) {
        TRY(fields_add(&h->fields, bytes_str(r->extra_name), bytes_str(r->extra_value)));
    }
    return 0;
}

void service_answer(struct service_request *r)
{
    struct exchange *x = CONTAINER_OF(r, struct exchange, request);
    bool has_body = (r->answer.len > 0 || r->more != NULL) &&
                    !bytes_eq(r->head->method, BYTES("HEAD"));
    struct head h = {.version = HTTP_11, .status = r->status};

    assert(x->is_handled && !x->is_answered);
    x->is_handled = false;
    x->is_answered = true;
    if (r->answer.err != 0) { /* it outgrew its bound: a part of it would pass for the whole */
        text_clear(&r->answer);
        has_body = false;
        h.status = 500;
    }
    h.content_length = r->more != NULL ? -1 : (int64_t)r->answer.len;
    if (answer_head(x, &h) != 0 || stream_send_head(x->stream, &h, !has_body) != 0) {
        exchange_gone(x);
        exchange_end(x, RESET_INTERNAL);
    } else if (has_body) {
        exchange_pump(x);
    } else if (r->more != NULL) {
        timer_arm_in(x->stream->loop, &x->next, 0);
    } else {
        exchange_end(x, RESET_NONE);
    }
}

static void exchange_handle(struct exchange *x)
{
    struct service *s = x->conn->service;

    x->request.body = text_bytes(&x->body);
    x->is_handled = true;
    s->handle(&x->request, s->user);
}

/* RFC 9110 15.5.14. The rest of the body is not wanted, so the connection ends where it cannot be
 * skipped. */
static void exchange_refuse(struct exchange *x)
{
    x->is_handled = true;
    x->request.status = 413;
    http_server_close_after(x->conn->server, x->stream);
    service_answer(&x->request);
}

static void on_head(void *user, struct head *h)
{
    struct exchange *x = user;
    struct service *s = x->conn->service;

    x->request.head = h;
    (void)bytes_split(h->path, '?', &x->request.path, &x->request.query);
    if (h->content_length >= 0 && (uint64_t)h->content_length > s->body_max) {
        exchange_refuse(x);
    } else if (h->ends) {
        exchange_handle(x);
    } else {
        stream_credit(x->stream, s->body_max + 1);
    }
}

static void on_data(void *user, struct chain *bytes)
{
    struct exchange *x = user;

    while (chain_size(bytes) > 0) {
        struct bytes head = chain_head(bytes);

        text_add(&x->body, head);
        chain_drop(bytes, head.len);
    }
    if (x->body.err != 0 && !x->is_answered) {
        exchange_refuse(x);
    }
}

static void on_room(void *user, size_t bytes UNUSED)
{
    struct exchange *x = user;

    if (x->is_answered) {
        exchange_pump(x);
    }
}

static void on_end(void *user, struct fields *trailers UNUSED)
{
    struct exchange *x = user;

    if (!x->is_answered) {
        exchange_handle(x);
    }
}

static void on_reset(void *user, enum reset why UNUSED, int err UNUSED)
{
    struct exchange *x = user;

    exchange_gone(x);
    exchange_end(x, RESET_CANCEL);
}

static const struct stream_events exchange_events = {
    .on_head = on_head,
    .on_data = on_data,
    .on_room = on_room,
    .on_end = on_end,
    .on_reset = on_reset,
};

/* --- connections --------------------------------------------------------------------------------- */

static void conn_bury(struct grave *grave)
{
    struct service_conn *c = CONTAINER_OF(grave, struct service_conn, grave);

    mem_free(c->peer_id);
    mem_free(c);
}

/* The service knows it no longer; the connection itself may still take a turn to go. */
static void conn_detach(struct service_conn *c)
{
    if (c->service != NULL) {
        assert(c->service->count > 0);
        c->service->count--;
        c->service = NULL;
        list_unlink(&c->node);
    }
}

static void conn_free(struct service_conn *c)
{
    assert(list_is_empty(&c->exchanges));
    conn_detach(c);
    task_cancel(&c->detect);
    timer_cancel(c->loop, &c->patience);
    chain_clear(&c->first);
    io_close(c->io);
    loop_free_later(c->loop, &c->grave, conn_bury);
}

/* Close it without exchanges. */
static void conn_close(struct service_conn *c, int err)
{
    conn_detach(c);
    if (c->server != NULL) {
        http_server_close(c->server, err);
    } else {
        conn_free(c);
    }
}

static void on_stream(void *user, struct stream *s)
{
    struct service_conn *c = user;
    struct exchange *x;

    if (c->service == NULL) {
        stream_close(s, RESET_REFUSED);
        return;
    }
    x = mem_new(sizeof(*x));
    x->conn = c;
    x->stream = s;
    x->request.peer = c->peer;
    x->request.peer_id = bytes_str(c->peer_id);
    x->next.run = next_run;
    text_init(&x->body, c->service->body_max);
    text_init(&x->request.answer, ANSWER_BYTES_MAX);
    list_append(&c->exchanges, &x->node);
    list_unlink(&c->node); /* the most recently used is last */
    list_append(&c->service->conns, &c->node);
    stream_set_user(s, &exchange_events, x);
}

static void on_closed(void *user, int err UNUSED)
{
    struct service_conn *c = user;

    c->server = NULL;
    conn_free(c);
}

static const struct http_server_events conn_events = {.on_stream = on_stream,
                                                      .on_closed = on_closed};

static void conn_serve(struct service_conn *c, enum detected what)
{
    struct http_limits limits = {.head_timeout_ns = HEAD_TIMEOUT_NS,
                                 .idle_timeout_ns = IDLE_TIMEOUT_NS};
    struct io *io = c->io;

    c->io = NULL;
    timer_cancel(c->loop, &c->patience);
    /* What is neither is told so in HTTP/1. */
    c->server = what == DETECT_HTTP2 ? http2_server_new(io, &c->first, &limits, &conn_events, c)
                                     : http1_server_new(io, &c->first, &limits, &conn_events, c);
    if (c->service->is_draining) {
        http_server_drain(c->server);
    }
}

/* Read what there is and decide. E_AGAIN: more bytes are needed. */
static int conn_detect(struct service_conn *c, enum detected *out)
{
    char start[DETECT_BYTES];
    int rc;

    TRY(io_handshake(c->io));
    for (;;) {
        size_t bytes = chain_peek(&c->first, start, sizeof(start));

        if (http_detect(bytes_of(start, bytes), out) == 0) {
            return 0;
        }
        rc = io_recv(c->io, &c->first, sizeof(start), &bytes);
        if (rc == E_EOF && chain_size(&c->first) > 0) {
            *out = DETECT_HTTP1;
            return 0;
        }
        TRY(rc);
    }
}

static void detect_run(struct task *task)
{
    struct service_conn *c = CONTAINER_OF(task, struct service_conn, detect);
    enum detected what = DETECT_OPAQUE;
    int rc = conn_detect(c, &what);

    if (rc == 0) {
        conn_serve(c, what);
    } else if (rc != E_AGAIN) {
        conn_free(c);
    }
}

static void patience_run(struct timer *timer)
{
    conn_free(CONTAINER_OF(timer, struct service_conn, patience));
}

/* --- the service --------------------------------------------------------------------------------- */

static void service_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct service, grave));
}

struct service *service_new(struct loop *l, size_t body_max, service_handler *handle,
                            void (*on_gone)(struct service_request *r, void *service_user),
                            void *service_user)
{
    struct service *s = mem_new(sizeof(*s));

    s->loop = l;
    s->body_max = body_max;
    s->handle = handle;
    s->on_gone = on_gone;
    s->user = service_user;
    list_init(&s->conns);
    return s;
}

static void conn_end_exchanges(struct service_conn *c)
{
    while (!list_is_empty(&c->exchanges)) {
        struct exchange *x = LIST_ITEM(c->exchanges.next, struct exchange, node);

        exchange_gone(x);
        exchange_end(x, RESET_CANCEL);
    }
}

/* Is a handler at work for it? Else its exchanges, if any, wait for the client: to send, or to read. */
static bool conn_is_served(const struct service_conn *c)
{
    LIST_FOREACH(node, &c->exchanges)
    {
        if (LIST_ITEM(node, struct exchange, node)->is_handled) {
            return true;
        }
    }
    return false;
}

/*
 * Make room for one more connection: the one that was idle longest goes, or else the one that waits
 * longest for its client. So no client can keep the others out by being slow.
 */
static bool service_make_room(struct service *s)
{
    struct service_conn *slow = NULL;

    if (s->count < CONNS_MAX) {
        return true;
    }
    LIST_FOREACH(node, &s->conns)
    {
        struct service_conn *c = LIST_ITEM(node, struct service_conn, node);

        if (list_is_empty(&c->exchanges)) {
            conn_close(c, E_OVERLOAD);
            return true;
        }
        if (slow == NULL && !conn_is_served(c)) {
            slow = c;
        }
    }
    if (slow == NULL) {
        return false;
    }
    conn_end_exchanges(slow);
    conn_close(slow, E_OVERLOAD);
    return true;
}

void service_accept_io(struct service *s, struct io *io, const struct addr *peer)
{
    service_accept_known(s, io, peer, BYTES_NONE);
}

void service_accept_known(struct service *s, struct io *io, const struct addr *peer,
                          struct bytes peer_id)
{
    struct service_conn *c;

    if (!service_make_room(s)) {
        io_close(io);
        return;
    }
    c = mem_new(sizeof(*c));
    c->service = s;
    c->loop = s->loop;
    c->io = io;
    c->peer = *peer;
    c->peer_id = peer_id.at != NULL ? bytes_dup(peer_id) : NULL;
    c->detect.run = detect_run;
    c->patience.run = patience_run;
    chain_init(&c->first);
    list_init(&c->exchanges);
    list_append(&s->conns, &c->node);
    s->count++;
    io_set_owner(io, &c->detect);
    timer_arm_in(c->loop, &c->patience, HEAD_TIMEOUT_NS);
    task_wake(c->loop, &c->detect);
}

void service_accept(struct service *s, int fd, const struct addr *peer)
{
    struct io *io = io_tcp_new(s->loop, fd, NULL);

    if (io != NULL) {
        service_accept_io(s, io, peer);
    }
}

void service_drain(struct service *s)
{
    s->is_draining = true;
    LIST_FOREACH(node, &s->conns)
    {
        struct service_conn *c = LIST_ITEM(node, struct service_conn, node);

        if (c->server != NULL) { /* else once it is known what it speaks */
            http_server_drain(c->server);
        }
    }
}

void service_free(struct service *s)
{
    while (!list_is_empty(&s->conns)) {
        struct service_conn *c = LIST_ITEM(s->conns.next, struct service_conn, node);

        conn_end_exchanges(c);
        conn_close(c, E_CANCELED);
    }
    loop_free_later(s->loop, &s->grave, service_bury);
}
