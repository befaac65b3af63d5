/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1 as a client: one exchange after the other on a connection that we opened.
 */
#include "core/alloc.h"
#include "core/err.h"
#include "http/conn_ops.h"
#include "http/http1_conn.h"

#define INTERIM_MAX 64 /* responses 1xx to one request */

#define CLIENT_STATES(X)                                                                           \
    X(IDLE, idle, "no stream; watching for the peer's end")                                        \
    X(HEAD, head, "a request goes; waiting for the response's head")                               \
    X(BODY, body, "the response comes")                                                            \
    X(DONE, done, "the response has ended; the request goes on, or the stream waits to be closed") \
    X(CLOSED, closed, "the io is gone; waiting for the stream to be closed")

enum client_state {
#define CLIENT_STATE(name, step, text) CLIENT_##name,
    CLIENT_STATES(CLIENT_STATE)
#undef CLIENT_STATE
};

enum step { STEP_WAIT, STEP_MORE };

struct http1_client {
    struct http_client base;
    struct http1_conn c;
    struct grave grave;
    enum client_state state;
    size_t budget;
    int close_err; /* for on_closed */
    bool is_ready; /* IDLE, and seen to be fit for another stream */
    bool said_closed, is_freed;
    unsigned interim_count;
    struct bytes method; /* GET for all that do not change how a response ends */
    bool is_kept;        /* request and response both leave the connection open */
    bool wants_upgrade, got_upgrade;
};

static struct http1_client *client_of(struct http_client *base)
{
    return CONTAINER_OF(base, struct http1_client, base);
}

static const struct http1_client *client_of_const(const struct http_client *base)
{
    static_assert(offsetof(struct http1_client, base) == 0, "the cast below keeps const");
    return (const struct http1_client *)(const void *)base;
}

static struct http1_client *client_of_stream(struct stream *s)
{
    return CONTAINER_OF(s, struct http1_client, c.s);
}

/* The one place where the state changes. */
static void set_state(struct http1_client *cl, enum client_state state)
{
    assert(cl->state != CLIENT_CLOSED);
    assert(state != CLIENT_IDLE || !cl->c.has_stream);
    assert(state != CLIENT_HEAD || (cl->state == CLIENT_IDLE && cl->c.has_stream));
    assert(state != CLIENT_BODY || cl->state == CLIENT_HEAD);
    assert(state != CLIENT_DONE || cl->state == CLIENT_HEAD || cl->state == CLIENT_BODY);
    cl->state = state;
    cl->is_ready = false;
}

/* The connection is over: the descriptor goes now, an open stream is told, on_closed follows. */
static void client_fail(struct http1_client *cl, enum reset why, int err)
{
    if (cl->state == CLIENT_CLOSED) {
        return;
    }
    http1_reset_stream(&cl->c, why, err);
    io_close(cl->c.io);
    cl->c.io = cl->base.io = NULL;
    chain_clear(&cl->c.in);
    chain_clear(&cl->c.out);
    cl->close_err = err;
    set_state(cl, CLIENT_CLOSED);
    http1_conn_wake(&cl->c);
}

/* --- receiving ----------------------------------------------------------------------------------- */

static enum step step_idle(struct http1_client *cl)
{
    int rc = chain_size(&cl->c.in) > 0 ? 0 : http1_recv(&cl->c, &cl->budget);

    if (rc == E_AGAIN) {
        bool was_ready = cl->is_ready;

        cl->is_ready = true;
        if (!was_ready) {
            if (cl->base.events->on_capacity != NULL) {
                cl->base.events->on_capacity(cl->base.user);
            }
            if (cl->state == CLIENT_IDLE && cl->base.events->on_idle != NULL) {
                cl->base.events->on_idle(cl->base.user);
            }
        }
        return cl->state == CLIENT_IDLE ? STEP_WAIT : STEP_MORE;
    }
    /* RFC 9112 9.2: bytes that answer nothing cannot be trusted to answer the next request. */
    client_fail(cl, RESET_CONNECTION, rc == 0 ? E_H1_BAD_HEAD : rc == E_EOF ? 0 : rc);
    return STEP_MORE;
}

/* More input for the response. At the connection's end, or when nothing can come any more:
 * `at_end`. */
static enum step step_read(struct http1_client *cl)
{
    int rc = http1_recv(&cl->c, &cl->budget);

    if (rc == E_AGAIN) {
        if (cl->c.tx_err == 0 || cl->budget == 0) {
            return STEP_WAIT;
        }
        /* Sending failed, and the peer left no answer to read. */
        rc = cl->c.tx_err;
    }
    if (rc != 0 && rc != E_EOF) {
        client_fail(cl, RESET_CONNECTION, rc);
    }
    return STEP_MORE;
}

/* The connection ended where a head should be. */
static void head_missing(struct http1_client *cl)
{
    bool is_untouched = chain_size(&cl->c.in) == 0 && cl->interim_count == 0;

    if (is_untouched) {
        client_fail(cl, RESET_CONNECTION,
                    E_EOF); /* an idempotent request may be tried again (RFC 9110 9.2.2) */
    } else {
        client_fail(cl, RESET_TRUNCATED, E_H1_TRUNCATED);
    }
}

static enum step got_head(struct http1_client *cl)
{
    struct http1_conn *c = &cl->c;
    struct head *h = &c->head;

    if (h->status == 101 && !cl->wants_upgrade) {
        client_fail(cl, RESET_PROTOCOL,
                    E_H1_BAD_HEAD); /* RFC 9110 15.2.2: only to what was asked for */
        return STEP_MORE;
    }
    if (h->status < 200 && h->status != 101) {
        if (++cl->interim_count > INTERIM_MAX) {
            client_fail(cl, RESET_PROTOCOL, E_LIMIT);
            return STEP_MORE;
        }
        c->s.events->on_head(c->s.user, h);
        return STEP_MORE;
    }
    cl->is_kept = cl->is_kept && h->keep_alive;
    cl->got_upgrade = h->is_upgrade;
    http1_body_begin(c);
    c->s.got_head = true;
    c->s.got_end = h->ends;
    set_state(cl, h->ends ? CLIENT_DONE : CLIENT_BODY);
    c->s.events->on_head(c->s.user, h);
    return STEP_MORE;
}

static enum step step_head(struct http1_client *cl)
{
    int rc = chain_size(&cl->c.in) > 0 ? http1_take_head(&cl->c, &cl->method) : E_AGAIN;

    if (rc == 0) {
        return got_head(cl);
    }
    if (rc != E_AGAIN) {
        client_fail(cl, RESET_PROTOCOL, rc);
        return STEP_MORE;
    }
    if (cl->c.eof) {
        head_missing(cl);
        return STEP_MORE;
    }
    return step_read(cl);
}

static enum step step_body(struct http1_client *cl)
{
    int rc = http1_deliver_body(&cl->c);

    if (rc == E_AGAIN) {
        return step_read(cl);
    }
    if (rc != 0) {
        client_fail(cl, rc == E_H1_TRUNCATED ? RESET_TRUNCATED : RESET_PROTOCOL, rc);
        return STEP_MORE;
    }
    if (cl->state == CLIENT_BODY && cl->c.s.got_end) {
        set_state(cl, CLIENT_DONE);
    }
    return cl->state == CLIENT_BODY ? STEP_WAIT : STEP_MORE;
}

/*
 * RFC 9112 9.5: the response may be complete before the request is. The request goes on, unless
 * the peer ends the connection: then nobody wants the rest, which is no failure of the exchange.
 */
static enum step step_done(struct http1_client *cl)
{
    struct http1_conn *c = &cl->c;
    int rc;

    if (cl->got_upgrade || c->s.sent_end || chain_size(&c->in) > 0) {
        return STEP_WAIT; /* for stream_close() or stream_take() */
    }
    rc = c->tx_err != 0 ? E_EOF : http1_recv(c, &cl->budget);
    if (rc == E_AGAIN) {
        return STEP_WAIT;
    }
    if (rc != 0) {
        client_fail(cl, RESET_NONE, E_CLOSED);
    }
    return STEP_MORE;
}

static enum step step_closed(struct http1_client *cl UNUSED)
{
    return STEP_WAIT;
}

static enum step (*const client_steps[])(struct http1_client *cl) = {
#define CLIENT_STATE(name, step, text) step_##step,
    CLIENT_STATES(CLIENT_STATE)
#undef CLIENT_STATE
};

/* --- the end of a run ---------------------------------------------------------------------------- */

static void client_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct http1_client, grave));
}

static void client_settle(struct http1_client *cl)
{
    struct http1_conn *c = &cl->c;

    http1_deliver_reset(c);
    if (cl->state != CLIENT_CLOSED) {
        return;
    }
    if (!cl->said_closed) {
        cl->said_closed = true;
        cl->base.events->on_closed(cl->base.user, cl->close_err);
    }
    if (!c->has_stream && !cl->is_freed) {
        cl->is_freed = true;
        http1_conn_clear(c);
        loop_free_later(c->loop, &cl->grave, client_bury);
    }
}

static void client_run(struct task *task)
{
    struct http1_client *cl = CONTAINER_OF(task, struct http1_client, c.run);

    cl->budget = HTTP1_TURN_BYTES;
    cl->c.is_running = true;
    while (client_steps[cl->state](cl) == STEP_MORE) {
    }
    cl->c.is_running = false;
    if (chain_size(&cl->c.out) > 0) {
        task_wake_late(cl->c.loop, &cl->c.late);
    }
    client_settle(cl);
}

static void client_late(struct task *task)
{
    struct http1_client *cl = CONTAINER_OF(task, struct http1_client, c.late);
    int rc = http1_flush(&cl->c);

    if (rc != 0 && rc != E_AGAIN) {
        http1_conn_wake(&cl->c); /* an answer may have come before the peer closed: look first */
    }
}

/* --- the stream's operations --------------------------------------------------------------------- */

static int client_send_head(struct stream *s, const struct head *h UNUSED, bool ends UNUSED)
{
    assert(s->sent_head && !"a dialed stream is opened with its head");
    return E_INTERNAL;
}

static void client_stream_close(struct stream *s, enum reset why UNUSED)
{
    struct http1_client *cl = client_of_stream(s);
    struct http1_conn *c = &cl->c;
    /* In BODY the response has ended too when this is called from its on_end. */
    bool has_ended =
        (cl->state == CLIENT_BODY || cl->state == CLIENT_DONE) && s->got_end && s->sent_end;
    bool is_reusable = has_ended && cl->is_kept && !cl->got_upgrade && !c->eof && c->tx_err == 0 &&
                       chain_size(&c->in) == 0;

    assert(c->has_stream);
    http1_stream_end(c);
    http1_conn_wake(c);
    if (is_reusable) {
        set_state(cl, CLIENT_IDLE);
    } else {
        client_fail(cl, RESET_NONE, 0);
    }
}

static int client_stream_take(struct stream *s, struct io **out_io, struct chain *out_unsent,
                              struct chain *out_unread)
{
    struct http1_client *cl = client_of_stream(s);
    struct http1_conn *c = &cl->c;

    if (cl->state != CLIENT_DONE || !cl->got_upgrade || c->tx_err != 0 || !s->sent_end) {
        return E_UNSUPPORTED;
    }
    http1_give(c, out_io, out_unsent, out_unread);
    cl->base.io = NULL;
    set_state(cl, CLIENT_CLOSED);
    http1_conn_wake(c);
    return 0;
}

static const struct stream_ops client_stream_ops = {
    .send_head = client_send_head,
    .send_data = http1_send_data,
    .send_end = http1_send_end,
    .credit = http1_credit,
    .close = client_stream_close,
    .take = client_stream_take,
};

/* --- the connection's operations ----------------------------------------------------------------- */

static unsigned client_capacity(const struct http_client *base)
{
    const struct http1_client *cl = client_of_const(base);

    return cl->state == CLIENT_IDLE && cl->is_ready ? 1 : 0;
}

static unsigned client_streams(const struct http_client *base)
{
    return client_of_const(base)->c.has_stream ? 1 : 0;
}

/* HEAD and CONNECT change what follows a response's head (RFC 9112 6.3); no other method does. */
static struct bytes method_kind(const struct head *h)
{
    if (h->is_connect) {
        return BYTES("CONNECT");
    }
    return bytes_eq(h->method, BYTES("HEAD")) ? BYTES("HEAD") : BYTES("GET");
}

static int client_open(struct http_client *base, const struct head *h, bool ends,
                       const struct stream_events *events, void *user, struct stream **out)
{
    struct http1_client *cl = client_of(base);
    struct http1_conn *c = &cl->c;
    enum http1_framing framing = ends                     ? HTTP1_NO_BODY
                                 : h->content_length >= 0 ? HTTP1_LENGTH
                                                          : HTTP1_CHUNKED;

    if (client_capacity(base) == 0) {
        return E_LIMIT;
    }
    TRY(http1_print_request(h, framing, &c->out, &c->loop->chunks));
    http1_stream_begin(c, &client_stream_ops);
    stream_set_user(&c->s, events, user);
    http1_body_send_begin(c, framing, h->content_length);
    c->s.sent_head = true;
    c->s.sent_end = ends;
    cl->method = method_kind(h);
    cl->interim_count = 0;
    cl->wants_upgrade = h->is_upgrade;
    cl->got_upgrade = false;
    /* Wire 5.4: such a request has a connection of its own. */
    cl->is_kept = h->version != HTTP_10 &&
                  (h->authority.len > 0 || fields_get(&h->fields, FIELD_HOST) != NULL);
    set_state(cl, CLIENT_HEAD);
    task_wake_late(c->loop, &c->late);
    *out = &c->s;
    return 0;
}

static void client_close(struct http_client *base, int err)
{
    struct http1_client *cl = client_of(base);

    cl->said_closed = true;
    client_fail(cl, RESET_CONNECTION, err);
    http1_conn_wake(&cl->c);
}

static const struct http_client_ops client_ops = {
    .capacity = client_capacity,
    .streams = client_streams,
    .open = client_open,
    .close = client_close,
};

struct http_client *http1_client_new(struct io *io, const struct http_limits *limits,
                                     const struct http_client_events *events, void *user)
{
    struct http1_client *cl = mem_new(sizeof(*cl));

    cl->base = (struct http_client){.ops = &client_ops, .io = io, .events = events, .user = user};
    http_limits_fill(&cl->base.limits, limits);
    http1_conn_init(&cl->c, io, NULL, &cl->base.limits, client_run, client_late);
    cl->state = CLIENT_IDLE;
    cl->is_ready = true;
    http1_conn_wake(&cl->c); /* to notice the peer's end from now on */
    return &cl->base;
}
