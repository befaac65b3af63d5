/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that we answer.
 *
 * A call lives from its stream's first event to on_done, which comes from the stream's events (the
 * client went away) or from the call's task (we finished).
 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/list.h"
#include "core/log.h"
#include "http/grpc_private.h"
#include "net/sock.h"

#define STREAMS_MAX      10000 /* a proxy watches each of its targets with a call of its own */
#define HEAD_TIMEOUT_NS  (30 * NS_PER_S)
#define PING_INTERVAL_NS (60 * NS_PER_S) /* also of idle connections: is anybody there? */
#define PING_TIMEOUT_NS  (20 * NS_PER_S)
#define UNREAD_NS        (60 * NS_PER_S) /* for a client to take what a finished call has to say */

struct grpc_server {
    struct loop *loop;
    const struct grpc_method *methods;
    size_t method_count;
    void *service;
    struct list conns, calls;
    size_t conn_count;
    size_t unfinished_bytes; /* memory of messages that have not come whole */
    bool draining, freed;
};

struct grpc_conn {
    struct list node;
    struct grpc_server *server;
    struct http_server *http;
};

struct grpc_server_call {
    struct list node;
    struct grpc_server *server;
    struct loop *loop;
    struct stream *s;                 /* NULL once closed */
    const struct grpc_method *method; /* NULL: none that we know; there is no on_done */
    void *user;
    const struct fields *metadata;
    struct grpc_frames frames;
    size_t unfinished_bytes; /* of `frames`, counted in the server */
    struct chain pending;
    struct text status_text; /* encoded */
    enum grpc_status status;
    bool finishing;
    bool dead;
    struct timer deadline;
    struct task task; /* brings on_done behind our own finish */
    struct grave grave;
};

/* --- the end of a call --------------------------------------------------------------------------- */

static void call_bury(struct grave *grave)
{
    struct grpc_server_call *call = CONTAINER_OF(grave, struct grpc_server_call, grave);

    grpc_frames_clear(
        &call->frames); /* not before: its buffer may hold the message being delivered */
    text_clear(&call->status_text);
    mem_free(call);
}

static void count_unfinished(struct grpc_server_call *call, size_t bytes)
{
    struct grpc_server *s = call->server;

    assert(s->unfinished_bytes >= call->unfinished_bytes);
    s->unfinished_bytes += bytes - call->unfinished_bytes;
    call->unfinished_bytes = bytes;
}

static void call_done(struct grpc_server_call *call, enum reset why)
{
    if (call->dead) {
        return;
    }
    call->dead = true;
    count_unfinished(call, 0);
    if (call->method != NULL && call->method->on_done != NULL) {
        call->method->on_done(call, call->user);
    }
    list_unlink(&call->node);
    timer_cancel(call->loop, &call->deadline);
    task_cancel(&call->task);
    chain_clear(&call->pending);
    if (call->s != NULL) {
        stream_close(call->s, why);
        call->s = NULL;
    }
    loop_free_later(call->loop, &call->grave, call_bury);
}

static void call_run(struct task *task)
{
    call_done(CONTAINER_OF(task, struct grpc_server_call, task), RESET_NONE);
}

static int status_fields(const struct grpc_server_call *call, char number[4], struct fields *to)
{
    int n = snprintf(number, 4, "%u", (unsigned)call->status);

    TRY(fields_add(to, BYTES("grpc-status"), bytes_of(number, (size_t)n)));
    if (call->status_text.len > 0) {
        TRY(fields_add(to, BYTES("grpc-message"), text_bytes(&call->status_text)));
    }
    return 0;
}

/* The response head; with `ends` it is all there is (Trailers-Only), or the answer to what is no gRPC. */
static int send_head(struct grpc_server_call *call, unsigned http_status, bool ends)
{
    struct head h = {.status = http_status, .content_length = -1, .version = HTTP_2};
    char number[4];

    fields_init(&h.fields, &call->s->arena);
    TRY(fields_add(&h.fields, BYTES("content-type"), BYTES("application/grpc")));
    if (ends) {
        TRY(status_fields(call, number, &h.fields));
    }
    return stream_send_head(call->s, &h, ends);
}

static int send_status(struct grpc_server_call *call)
{
    struct fields trailers;
    char number[4];

    if (!call->s->sent_head) {
        return send_head(call, 200, true);
    }
    fields_init(&trailers, &call->s->arena);
    TRY(status_fields(call, number, &trailers));
    stream_send_end(call->s, &trailers);
    return 0;
}

/* Write what there is room for, and after it the end. */
static void call_flush(struct grpc_server_call *call)
{
    int rc = 0;

    if (call->s == NULL) {
        return;
    }
    if (chain_size(&call->pending) > 0 && !call->s->sent_head) {
        rc = send_head(call, 200, false);
    }
    if (rc == 0 && grpc_pending_send(call->s, &call->pending) && call->finishing) {
        rc = send_status(call);
        if (rc == 0) {
            stream_close(call->s, RESET_NONE);
            call->s = NULL;
            task_wake(call->loop, &call->task);
        }
    }
    if (rc != 0) { /* the client has filled the arena of its own stream */
        log_debug("gRPC answer could not be written; err=%s", err_name(rc));
        stream_close(call->s, RESET_INTERNAL);
        call->s = NULL;
        task_wake(call->loop, &call->task);
    }
}

/* What is to be sent does not end: the client does not read it. */
static void call_shed(struct grpc_server_call *call, enum reset why)
{
    chain_clear(&call->pending);
    stream_close(call->s, why);
    call->s = NULL;
    task_wake(call->loop, &call->task);
}

void grpc_finish(struct grpc_server_call *call, enum grpc_status status, const char *message)
{
    if (call->finishing || call->dead) {
        return;
    }
    call->finishing = true;
    call->status = status;
    grpc_text_encode(&call->status_text, bytes_str(message));
    call_flush(call);
    if (call->s != NULL) {
        uint64_t until_ns = call->loop->now_ns + UNREAD_NS;

        timer_arm(call->loop, &call->deadline,
                  timer_is_armed(&call->deadline) ? MIN(call->deadline.at_ns, until_ns) : until_ns);
    }
}

static void on_deadline(struct timer *timer)
{
    struct grpc_server_call *call = CONTAINER_OF(timer, struct grpc_server_call, deadline);

    chain_clear(&call->pending);
    if (call->s != NULL && call->finishing) { /* the client does not read; it has given up by now */
        call_done(call, RESET_CANCEL);
        return;
    }
    grpc_finish(call, GRPC_DEADLINE_EXCEEDED, "the time allowed ran out");
}

/* --- events of a stream -------------------------------------------------------------------------- */

static const struct grpc_method *method_find(const struct grpc_server *s, struct bytes path)
{
    for (size_t i = 0; i < s->method_count; i++) {
        if (bytes_eq(bytes_str(s->methods[i].path), path)) {
            return &s->methods[i];
        }
    }
    return NULL;
}

static void on_head(void *user, struct head *head)
{
    struct grpc_server_call *call = user;
    const struct field *timeout = fields_get(&head->fields, FIELD_GRPC_TIMEOUT);
    uint64_t timeout_ns = 0;

    if (!bytes_eq(head->method, BYTES("POST")) || !grpc_is_content_type(&head->fields)) {
        call->status = GRPC_UNKNOWN;
        if (send_head(call, 415, true) != 0) {
            stream_close(call->s, RESET_INTERNAL);
            call->s = NULL;
        }
        call_done(call, RESET_NONE);
        return;
    }
    call->metadata = &head->fields;
    call->method = method_find(call->server, head->path);
    if (call->method == NULL) {
        grpc_finish(call, GRPC_UNIMPLEMENTED, "no such method here");
        return;
    }
    if (timeout != NULL && grpc_timeout_parse(timeout->value, &timeout_ns) != 0) {
        call->method = NULL;
        grpc_finish(call, GRPC_INVALID_ARGUMENT, "malformed grpc-timeout");
        return;
    }
    if (timeout != NULL) {
        timer_arm(call->loop, &call->deadline,
                  call->loop->now_ns + MIN(timeout_ns, UINT64_MAX / 2));
    }
    stream_credit(call->s, GRPC_CREDIT_BYTES);
    call->method->on_call(call, call->server->service);
    if (head->ends && call->s != NULL && call->method->on_half_close != NULL) {
        call->method->on_half_close(call, call->user);
    }
}

static void on_message(void *user, struct bytes message)
{
    struct grpc_server_call *call = user;

    if (call->s != NULL && !call->finishing && call->method->on_message != NULL) {
        call->method->on_message(call, call->user, message);
    }
}

/* Messages that came in one piece take no memory here, so those are served in any case. */
static int limit_unfinished(struct grpc_server_call *call)
{
    size_t bytes = call->frames.partial.capacity;

    count_unfinished(call, bytes);
    if (bytes == 0 || call->server->unfinished_bytes <= GRPC_UNFINISHED_MAX) {
        return 0;
    }
    grpc_frames_clear(&call->frames);
    count_unfinished(call, 0);
    return E_OVERLOAD;
}

static void on_data(void *user, struct chain *bytes)
{
    struct grpc_server_call *call = user;
    size_t size = chain_size(bytes);
    int rc;

    if (call->finishing) { /* what it still says is of no interest */
        stream_credit(call->s, size);
        return;
    }
    rc = grpc_frames_feed(&call->frames, bytes, on_message, call);
    if (call->s == NULL) {
        return;
    }
    rc = rc == 0 ? limit_unfinished(call) : rc;
    if (rc == 0) {
        stream_credit(call->s, size);
    } else if (rc == E_UNSUPPORTED) {
        grpc_finish(call, GRPC_UNIMPLEMENTED, "compressed messages are not supported");
    } else if (rc == E_LIMIT) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "the message is too large");
    } else if (rc == E_OVERLOAD) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "too many messages are under way");
    } else {
        grpc_finish(call, GRPC_INTERNAL, err_text(rc));
    }
}

static void on_end(void *user, struct fields *trailers UNUSED)
{
    struct grpc_server_call *call = user;

    if (call->finishing) {
        return;
    }
    if (!grpc_frames_is_whole(&call->frames)) {
        grpc_finish(call, GRPC_INTERNAL, "the request ends in the middle of a message");
    } else if (call->method->on_half_close != NULL) {
        call->method->on_half_close(call, call->user);
    }
}

static void on_room(void *user, size_t bytes UNUSED)
{
    call_flush(user);
}

static void on_reset(void *user, enum reset why UNUSED, int err UNUSED)
{
    call_done(user, RESET_NONE);
}

static const struct stream_events call_stream_events = {
    .on_head = on_head,
    .on_data = on_data,
    .on_room = on_room,
    .on_end = on_end,
    .on_reset = on_reset,
};

void grpc_server_stream(struct grpc_server *s, struct stream *stream)
{
    struct grpc_server_call *call = mem_new(sizeof(*call));

    call->server = s;
    call->loop = stream->loop;
    call->s = stream;
    call->deadline.run = on_deadline;
    call->task.run = call_run;
    grpc_frames_init(&call->frames, GRPC_MESSAGE_MAX);
    chain_init(&call->pending);
    text_init(&call->status_text, GRPC_TEXT_MAX * 3 + 1);
    list_append(&s->calls, &call->node);
    stream_set_user(stream, &call_stream_events, call);
}

/* --- connections --------------------------------------------------------------------------------- */

static void server_release(struct grpc_server *s)
{
    if (s->freed && s->conn_count == 0) {
        mem_free(s);
    }
}

static void conn_on_stream(void *user, struct stream *stream)
{
    struct grpc_conn *conn = user;

    grpc_server_stream(conn->server, stream);
}

static void conn_on_closed(void *user, int err UNUSED)
{
    struct grpc_conn *conn = user;
    struct grpc_server *s = conn->server;

    list_unlink(&conn->node);
    mem_free(conn);
    s->conn_count--;
    server_release(s);
}

static const struct http_server_events conn_events = {.on_stream = conn_on_stream,
                                                      .on_closed = conn_on_closed};

struct grpc_server *grpc_server_new(struct loop *l, const struct grpc_method *methods, size_t count,
                                    void *service)
{
    struct grpc_server *s = mem_new(sizeof(*s));

    s->loop = l;
    s->methods = methods;
    s->method_count = count;
    s->service = service;
    list_init(&s->conns);
    list_init(&s->calls);
    return s;
}

void grpc_server_accept(struct grpc_server *s, int fd)
{
    static const struct http_limits limits = {
        .streams_max = STREAMS_MAX,
        .head_timeout_ns = HEAD_TIMEOUT_NS,
        .ping_while_idle = true,
        .ping_interval_ns = PING_INTERVAL_NS,
        .ping_timeout_ns = PING_TIMEOUT_NS,
    };
    const struct sock_opts opts = {0};
    int rc = sock_set_opts(fd, &opts);
    struct io *io = io_tcp_new(s->loop, fd, NULL);
    struct grpc_conn *conn;

    if (rc != 0) {
        log_debug("socket options; err=%s", err_name(rc)); /* a Unix socket has none of them */
    }
    if (io == NULL) {
        log_debug("gRPC connection could not be watched");
        return;
    }
    if (s->draining) {
        io_close(io);
        return;
    }
    conn = mem_new(sizeof(*conn));
    conn->server = s;
    list_append(&s->conns, &conn->node);
    s->conn_count++;
    conn->http = http2_server_new(io, NULL, &limits, &conn_events, conn);
}

void grpc_server_drain(struct grpc_server *s)
{
    s->draining = true;
    LIST_FOREACH(node, &s->conns)
    {
        http_server_drain(LIST_ITEM(node, struct grpc_conn, node)->http);
    }
}

void grpc_server_free(struct grpc_server *s)
{
    s->draining = s->freed = true;
    while (!list_is_empty(&s->calls)) {
        struct grpc_server_call *call = LIST_ITEM(s->calls.next, struct grpc_server_call, node);

        if (chain_size(&call->pending) == 0) {
            grpc_finish(call, GRPC_UNAVAILABLE, "shutting down");
        }
        call_done(call, RESET_CANCEL);
    }
    LIST_FOREACH(node, &s->conns)
    {
        http_server_close(LIST_ITEM(node, struct grpc_conn, node)->http, E_CLOSED);
    }
    server_release(s);
}

/* --- for services -------------------------------------------------------------------------------- */

void grpc_server_call_set(struct grpc_server_call *call, void *user)
{
    call->user = user;
}

struct loop *grpc_server_call_loop(struct grpc_server_call *call)
{
    return call->loop;
}

const struct fields *grpc_server_call_metadata(const struct grpc_server_call *call)
{
    return call->metadata;
}

/* Less than a quarter of the loop's chunks is left, which all connections need to read and write. */
static bool chunks_are_short(const struct loop *l)
{
    return l->chunks.used_count > l->chunks.used_max / 4 * 3;
}

int grpc_send(struct grpc_server_call *call, struct bytes message)
{
    if (call->finishing || call->dead || call->s == NULL) {
        return E_CLOSED;
    }
    TRY(grpc_frame_append(&call->pending, &call->loop->chunks, message));
    call_flush(call);
    if (call->s != NULL && chain_size(&call->pending) > 0 && chunks_are_short(call->loop)) {
        call_shed(call, RESET_CALM);
        return E_LIMIT;
    }
    return 0;
}

size_t grpc_pending(const struct grpc_server_call *call)
{
    return chain_size(&call->pending);
}
