/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1 as a server: one exchange after the other on a connection that a client opened.
 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "http/conn_ops.h"
#include "http/http1_conn.h"

#define DISCARD_BYTES_MAX 65536  /* of a request that nobody wants, to keep the connection */
#define LINGER_BYTES_MAX  262144 /* dropped after our last answer */
#define LINGER_NS         (2 * NS_PER_S)
#define STALL_NS          (60 * NS_PER_S) /* without a byte of the last answer taken */

#define SERVER_STATES(X)                                                                           \
    X(HEAD, head, "waiting for a request's head, or the end of it")                                \
    X(EXCHANGE, exchange, "a stream is open: its request comes, its response goes")                \
    X(DISCARD, discard, "the stream was closed; the rest of its request is dropped")               \
    X(LINGER, linger, "writing the last bytes; then dropping input until the peer closes")         \
    X(CLOSED, closed, "the io is gone; waiting for the stream to be closed")

enum server_state {
#define SERVER_STATE(name, step, text) SERVER_##name,
    SERVER_STATES(SERVER_STATE)
#undef SERVER_STATE
};

enum step { STEP_WAIT, STEP_MORE };

struct http1_server {
    struct http_server base;
    struct http1_conn c;
    struct grave grave;
    struct timer timer;
    enum { TIMER_NONE, TIMER_HEAD, TIMER_IDLE, TIMER_STALL, TIMER_LINGER } timer_for;
    unsigned timer_epoch;     /* the stream behind which it was armed */
    uint64_t timer_bytes_out; /* written when it was armed */
    enum server_state state;
    size_t budget;        /* bytes to be read in this run of the task */
    size_t dropped_bytes; /* in DISCARD and LINGER */
    int close_err;        /* for on_closed */
    bool close_after;     /* this exchange is the connection's last */
    bool is_draining, is_leaving; /* leaving: when the next exchange is over, not before */
    bool is_shut, said_closed; /* we said that we finished; and to our user */
    bool aborts; /* LINGER ends in a reset: the peer must not take what it got for the whole */
    bool is_head, is_connect, is_10, waits_for_continue, sent_upgrade; /* of this request */
};

static struct http1_server *server_of(struct http_server *base)
{
    return CONTAINER_OF(base, struct http1_server, base);
}

static struct http1_server *server_of_stream(struct stream *s)
{
    return CONTAINER_OF(s, struct http1_server, c.s);
}

/* The one place where the state changes. */
static void set_state(struct http1_server *sv, enum server_state state)
{
    assert(sv->state != SERVER_CLOSED);
    assert(state != SERVER_EXCHANGE || (sv->state == SERVER_HEAD && sv->c.has_stream));
    assert(state != SERVER_DISCARD || (sv->state == SERVER_EXCHANGE && !sv->c.has_stream));
    assert(state != SERVER_HEAD || !sv->c.has_stream);
    sv->state = state;
    sv->dropped_bytes = 0;
}

/* The connection is over: the descriptor goes now, an open stream is told, on_closed follows. */
static void server_fail(struct http1_server *sv, enum reset why, int err)
{
    if (sv->state == SERVER_CLOSED) {
        return;
    }
    http1_reset_stream(&sv->c, why, err);
    if (sv->aborts) {
        io_abort(sv->c.io);
    } else {
        io_close(sv->c.io);
    }
    sv->c.io = sv->base.io = NULL;
    chain_clear(&sv->c.in);
    chain_clear(&sv->c.out);
    sv->close_err = sv->close_err != 0 ? sv->close_err : err;
    set_state(sv, SERVER_CLOSED);
    http1_conn_wake(&sv->c);
}

static void server_linger(struct http1_server *sv)
{
    set_state(sv, SERVER_LINGER);
    http1_conn_wake(&sv->c);
}

/* An answer of our own to what is no request, and the end of the connection. */
static void server_refuse(struct http1_server *sv, unsigned status, int err)
{
    struct head answer = {.status = status, .content_length = 0};
    char date[30];
    struct http1_print how = {.framing = HTTP1_LENGTH, .close_after = true};

    http_date(clock_wall_ns(), date);
    how.date = bytes_str(date);
    sv->close_err = err;
    if (http1_print_head(&answer, &how, &sv->c.out, &sv->c.loop->chunks) != 0) {
        server_fail(sv, RESET_PROTOCOL, err);
        return;
    }
    task_wake_late(sv->c.loop, &sv->c.late);
    server_linger(sv);
}

/* --- receiving ----------------------------------------------------------------------------------- */

static const struct stream_ops server_stream_ops;

static enum step server_begin(struct http1_server *sv)
{
    struct http1_conn *c = &sv->c;
    const struct field *expect = fields_get(&c->head.fields, FIELD_EXPECT);
    unsigned epoch;

    sv->is_head = bytes_eq(c->head.method, BYTES("HEAD"));
    sv->is_connect = c->head.is_connect;
    sv->is_10 = c->head.version == HTTP_10;
    /* RFC 9110 10.1.1: the expectation of a client of HTTP/1.0 is ignored. */
    sv->waits_for_continue = expect != NULL && !sv->is_10 && !c->head.ends &&
                             bytes_eq_nocase(expect->value, BYTES("100-continue"));
    sv->sent_upgrade = false;
    sv->close_after = sv->is_draining || sv->is_leaving || !c->head.keep_alive;
    http1_stream_begin(c, &server_stream_ops);
    http1_body_begin(c);
    set_state(sv, SERVER_EXCHANGE);
    epoch = c->epoch;
    sv->base.events->on_stream(sv->base.user, &c->s);
    if (c->epoch != epoch || sv->state != SERVER_EXCHANGE) {
        return STEP_MORE;
    }
    assert(c->s.events != NULL);
    c->s.got_head = true;
    c->s.got_end = c->head.ends;
    c->s.events->on_head(c->s.user, &c->head);
    return STEP_MORE;
}

static enum step step_read(struct http1_server *sv)
{
    int rc = http1_recv(&sv->c, &sv->budget);

    if (rc == E_AGAIN) {
        return STEP_WAIT;
    }
    if (rc != 0 && rc != E_EOF) {
        server_fail(sv, RESET_CONNECTION, rc);
    }
    return STEP_MORE;
}

static enum step step_head(struct http1_server *sv)
{
    struct http1_conn *c = &sv->c;
    int rc = E_AGAIN;

    if (chain_size(&c->out) >= c->output_high_bytes) {
        return STEP_WAIT; /* a client that does not read its answers gets no more */
    }
    if (chain_size(&c->in) > 0) {
        rc = http1_take_head(c, NULL);
    } else if (sv->is_draining) {
        server_linger(sv);
        return STEP_MORE;
    }
    if (rc == 0) {
        return server_begin(sv);
    }
    if (rc != E_AGAIN) {
        arena_clear(&c->s.arena);
        /* RFC 6585 5 for what is too large, RFC 9112 2.2 for the rest. */
        server_refuse(sv, rc == E_LIMIT ? 431 : 400, rc);
        return STEP_MORE;
    }
    if (c->eof) {
        sv->close_err = chain_size(&c->in) > 0 ? E_H1_TRUNCATED : 0;
        server_linger(sv);
        return STEP_MORE;
    }
    return step_read(sv);
}

/* The request broke off or is malformed, with the stream open. */
static void request_failed(struct http1_server *sv, int err)
{
    bool can_answer = !sv->c.s.sent_head;

    http1_reset_stream(&sv->c, err == E_H1_TRUNCATED ? RESET_TRUNCATED : RESET_PROTOCOL, err);
    if (can_answer) {
        server_refuse(sv, err == E_LIMIT ? 431 : 400, err);
    } else {
        sv->aborts = true;
        server_fail(sv, RESET_PROTOCOL, err);
    }
}

static enum step step_exchange(struct http1_server *sv)
{
    struct http1_conn *c = &sv->c;
    int rc;

    if (c->s.got_end) {
        /* Nothing is needed; a little is read to learn that the client went away. What comes is the
         * start of the next request and waits. */
        return !c->eof && chain_size(&c->in) < HTTP1_PEEK_BYTES ? step_read(sv) : STEP_WAIT;
    }
    rc = http1_deliver_body(c);
    if (rc == E_AGAIN) {
        return step_read(sv);
    }
    if (rc != 0) {
        request_failed(sv, rc);
    }
    /* All was delivered that may be: what comes next depends on what the events did. */
    return sv->state != SERVER_EXCHANGE || c->s.got_end ? STEP_MORE : STEP_WAIT;
}

static enum step step_discard(struct http1_server *sv)
{
    struct http1_conn *c = &sv->c;
    struct chain data;
    int rc;

    chain_init(&data);
    c->s.credit = SIZE_MAX;
    rc = http1_take_body(c, &data);
    sv->dropped_bytes += chain_size(&data);
    chain_clear(&data);
    if (rc == 0) {
        arena_clear(&c->s.arena);
        set_state(sv, SERVER_HEAD);
        return STEP_MORE;
    }
    if (rc != E_AGAIN || sv->dropped_bytes > DISCARD_BYTES_MAX) {
        server_linger(sv);
        return STEP_MORE;
    }
    return step_read(sv);
}

/*
 * RFC 9112 9.6: close the sending half, then read until the peer has closed too, so that a reset
 * provoked by its late bytes does not destroy our answer on its way. Bounded in bytes and time.
 */
static enum step step_linger(struct http1_server *sv)
{
    struct http1_conn *c = &sv->c;
    int rc;

    if (chain_size(&c->out) > 0) {
        return STEP_WAIT; /* `late` writes it and wakes us */
    }
    if (sv->aborts) {
        server_fail(sv, RESET_CONNECTION, sv->close_err);
        return STEP_MORE;
    }
    if (!sv->is_shut) {
        rc = io_shut(c->io);
        if (rc != 0 && rc != E_AGAIN) {
            server_fail(sv, RESET_CONNECTION, sv->close_err);
            return STEP_MORE;
        }
        sv->is_shut = true;
    }
    sv->dropped_bytes += chain_size(&c->in);
    chain_clear(&c->in);
    if (c->eof || sv->dropped_bytes > LINGER_BYTES_MAX) {
        server_fail(sv, RESET_CONNECTION, sv->close_err);
        return STEP_MORE;
    }
    rc = http1_recv(c, &sv->budget);
    if (rc != 0 && rc != E_AGAIN && rc != E_EOF) {
        server_fail(sv, RESET_CONNECTION, sv->close_err);
    }
    return rc == E_AGAIN ? STEP_WAIT : STEP_MORE;
}

static enum step step_closed(struct http1_server *sv UNUSED)
{
    return STEP_WAIT;
}

static enum step (*const server_steps[])(struct http1_server *sv) = {
#define SERVER_STATE(name, step, text) step_##step,
    SERVER_STATES(SERVER_STATE)
#undef SERVER_STATE
};

/* --- the end of a run ---------------------------------------------------------------------------- */

static void server_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct http1_server, grave));
}

static void server_set_timer(struct http1_server *sv)
{
    bool has_bytes = chain_size(&sv->c.in) > 0;
    uint64_t delay_ns = 0;
    unsigned wanted = TIMER_NONE;

    if (sv->state == SERVER_HEAD && has_bytes && sv->base.limits.head_timeout_ns > 0) {
        wanted = TIMER_HEAD;
        delay_ns = sv->base.limits.head_timeout_ns;
    } else if (sv->state == SERVER_HEAD && !has_bytes && sv->base.limits.idle_timeout_ns > 0) {
        wanted = TIMER_IDLE;
        delay_ns = sv->base.limits.idle_timeout_ns;
    } else if (sv->state == SERVER_LINGER) {
        wanted = sv->is_shut ? TIMER_LINGER : TIMER_STALL;
        delay_ns = sv->is_shut ? LINGER_NS : STALL_NS;
    }
    if (wanted == sv->timer_for && sv->c.epoch == sv->timer_epoch) {
        return;
    }
    timer_cancel(sv->c.loop, &sv->timer);
    sv->timer_for = wanted;
    sv->timer_epoch = sv->c.epoch;
    if (wanted != TIMER_NONE) {
        sv->timer_bytes_out = sv->c.io->bytes_out;
        timer_arm_in(sv->c.loop, &sv->timer, delay_ns);
    }
}

static void server_timeout(struct timer *timer)
{
    struct http1_server *sv = CONTAINER_OF(timer, struct http1_server, timer);
    unsigned expired = sv->timer_for;

    if (sv->state == SERVER_CLOSED) {
        return; /* closed in this turn; its task has yet to run */
    }
    sv->timer_for = TIMER_NONE;
    if (expired == TIMER_LINGER) {
        server_fail(sv, RESET_TIMEOUT, sv->close_err);
    } else if (expired == TIMER_STALL) {
        if (sv->c.io->bytes_out == sv->timer_bytes_out) {
            server_fail(sv, RESET_TIMEOUT, E_TIMEOUT);
        }
        http1_conn_wake(&sv->c); /* which arms it again */
    } else if (expired == TIMER_HEAD) {
        server_refuse(sv, 408, E_TIMEOUT); /* RFC 9110 15.5.9 */
    } else {
        server_linger(sv);
    }
}

static void server_settle(struct http1_server *sv)
{
    struct http1_conn *c = &sv->c;

    http1_deliver_reset(c);
    server_set_timer(sv);
    if (sv->state == SERVER_CLOSED && !c->has_stream && !sv->said_closed) {
        sv->said_closed = true;
        http1_conn_clear(c);
        timer_cancel(c->loop, &sv->timer);
        loop_free_later(c->loop, &sv->grave, server_bury);
        sv->base.events->on_closed(sv->base.user, sv->close_err);
    }
}

static void server_run(struct task *task)
{
    struct http1_server *sv = CONTAINER_OF(task, struct http1_server, c.run);
    enum step next;

    sv->budget = HTTP1_TURN_BYTES;
    sv->c.is_running = true;
    do {
        if (sv->c.tx_err != 0) {
            sv->aborts = true;
            server_fail(sv, RESET_CONNECTION, sv->c.tx_err);
        }
        next = server_steps[sv->state](sv);
    } while (next == STEP_MORE || (sv->c.tx_err != 0 && sv->state != SERVER_CLOSED));
    sv->c.is_running = false;
    if (sv->state == SERVER_EXCHANGE && io_is_reset(sv->c.io)) {
        server_fail(sv, RESET_CONNECTION, E_CLOSED); /* no read tells, while none is wanted */
    }
    if (chain_size(&sv->c.out) > 0) {
        task_wake_late(sv->c.loop, &sv->c.late);
    }
    server_settle(sv);
}

static void server_late(struct task *task)
{
    struct http1_server *sv = CONTAINER_OF(task, struct http1_server, c.late);
    struct http1_conn *c = &sv->c;
    bool was_full = chain_size(&c->out) >= c->output_high_bytes;
    int rc;

    if (sv->state == SERVER_CLOSED) {
        return;
    }
    rc = http1_flush(c);
    if (rc != 0 && rc != E_AGAIN) {
        server_fail(sv, RESET_CONNECTION, rc);
        return;
    }
    if (sv->state == SERVER_LINGER || was_full) {
        http1_conn_wake(c);
    }
}

/* --- the stream's operations --------------------------------------------------------------------- */

static enum http1_framing response_framing(const struct http1_server *sv, const struct head *h,
                                           bool ends)
{
    /* RFC 9112 6.3: these have no body, whatever their fields say. */
    if (sv->is_head || h->status < 200 || h->status == 204 || h->status == 304 ||
        (sv->is_connect && h->status / 100 == 2)) {
        return HTTP1_NO_BODY;
    }
    if (ends || h->content_length >= 0) {
        return HTTP1_LENGTH;
    }
    return sv->is_10 ? HTTP1_UNTIL_CLOSE : HTTP1_CHUNKED; /* RFC 9112 6.1 */
}

static int send_interim(struct http1_server *sv, const struct head *h)
{
    struct http1_print how = {.framing = HTTP1_NO_BODY};

    if (sv->is_10) {
        return 0; /* RFC 9110 15.2: HTTP/1.0 knows none */
    }
    TRY(http1_print_head(h, &how, &sv->c.out, &sv->c.loop->chunks));
    if (h->status == 100) {
        sv->waits_for_continue = false;
    }
    task_wake_late(sv->c.loop, &sv->c.late);
    return 0;
}

static int server_send_head(struct stream *s, const struct head *h, bool ends)
{
    struct http1_server *sv = server_of_stream(s);
    struct http1_print how = {.framing = response_framing(sv, h, ends)};
    bool is_upgrade = h->status == 101 || (sv->is_connect && h->status / 100 == 2);
    bool close_after = sv->close_after;
    struct head copy = *h; /* shallow: only what frames is changed */
    char date[30];

    assert(!s->sent_head && !s->sent_end && h->status != 0);
    if (sv->state != SERVER_EXCHANGE) { /* on_reset is on its way; what is sent is dropped */
        s->sent_head = h->status >= 200;
        s->sent_end = s->sent_head && ends;
        return 0;
    }
    if (h->status < 200 && !is_upgrade) {
        return send_interim(sv, h);
    }
    if (how.framing == HTTP1_LENGTH && ends && h->content_length > 0) {
        return E_SYNTAX; /* a length without its bytes */
    }
    /* RFC 9110 10.1.1: a client that was not told to continue may or may not send its body. Nobody
     * knows what the next bytes will be. */
    close_after = close_after || is_upgrade || how.framing == HTTP1_UNTIL_CLOSE ||
                  (sv->waits_for_continue && !s->got_end);
    how.close_after = close_after && !is_upgrade;
    how.says_keep_alive = sv->is_10;
    copy.is_upgrade = is_upgrade;
    if (h->status != 101 && fields_get(&h->fields, FIELD_DATE) == NULL) {
        http_date(clock_wall_ns(), date);
        how.date = bytes_of(date, sizeof(date) - 1);
    }
    TRY(http1_print_head(&copy, &how, &sv->c.out, &sv->c.loop->chunks));
    sv->close_after = close_after;
    sv->sent_upgrade = is_upgrade;
    http1_body_send_begin(&sv->c, how.framing, h->content_length);
    s->sent_head = true;
    s->sent_end = ends;
    task_wake_late(sv->c.loop, &sv->c.late);
    return 0;
}

static void server_stream_close(struct stream *s, enum reset why)
{
    struct http1_server *sv = server_of_stream(s);
    bool has_ended = s->got_end && s->sent_end, is_answered = s->sent_end, is_begun = s->sent_head;

    assert(sv->c.has_stream);
    assert(why != RESET_NONE || is_answered || sv->state != SERVER_EXCHANGE);
    http1_stream_end(&sv->c);
    http1_conn_wake(&sv->c);
    if (sv->state != SERVER_EXCHANGE) {
        return;
    }
    if (!is_answered) {
        /* RFC 9112 8: a client tells a response that broke off from a whole one by its length, or,
         * where that is the connection's end, by a reset. No response at all speaks for itself. */
        sv->aborts = is_begun && sv->c.tx == HTTP1_UNTIL_CLOSE;
        server_linger(sv);
    } else if (sv->close_after || sv->is_draining) {
        server_linger(sv);
    } else {
        set_state(sv, has_ended ? SERVER_HEAD : SERVER_DISCARD);
    }
}

static int server_stream_take(struct stream *s, struct io **out_io, struct chain *out_unsent,
                              struct chain *out_unread)
{
    struct http1_server *sv = server_of_stream(s);
    struct http1_conn *c = &sv->c;

    if (sv->state != SERVER_EXCHANGE || !sv->sent_upgrade || !s->got_end || c->tx_err != 0) {
        return E_UNSUPPORTED;
    }
    chain_init(out_unsent);
    chain_init(out_unread);
    chain_move_all(out_unsent, &c->out);
    chain_move_all(out_unread, &c->in);
    io_set_owner(c->io, NULL);
    *out_io = c->io;
    c->io = sv->base.io = NULL;
    http1_stream_end(c);
    set_state(sv, SERVER_CLOSED);
    http1_conn_wake(c);
    return 0;
}

static const struct stream_ops server_stream_ops = {
    .send_head = server_send_head,
    .send_data = http1_send_data,
    .send_end = http1_send_end,
    .credit = http1_credit,
    .close = server_stream_close,
    .take = server_stream_take,
};

/* --- the connection's operations ----------------------------------------------------------------- */

static void server_drain(struct http_server *base)
{
    struct http1_server *sv = server_of(base);

    sv->is_draining = true;
    http1_conn_wake(&sv->c); /* an idle connection ends in the step that waits for a head */
}

static void server_leave(struct http_server *base)
{
    server_of(base)->is_leaving = true;
}

static size_t server_held(const struct http_server *base)
{
    return http1_conn_held(&((const struct http1_server *)(const void *)base)->c);
}

static void server_close(struct http_server *base, int err)
{
    struct http1_server *sv = server_of(base);

    server_fail(sv, RESET_CONNECTION, err);
    http1_conn_wake(&sv->c);
}

static void server_close_after(struct http_server *base, struct stream *s)
{
    struct http1_server *sv = server_of(base);

    assert(&sv->c.s == s);
    sv->close_after = true;
}

static const struct http_server_ops server_ops = {
    .drain = server_drain,
    .leave = server_leave,
    .held = server_held,
    .close = server_close,
    .close_after = server_close_after,
};

struct http_server *http1_server_new(struct io *io, struct chain *first,
                                     const struct http_limits *limits,
                                     const struct http_server_events *events, void *user)
{
    struct http1_server *sv = mem_new(sizeof(*sv));

    sv->base = (struct http_server){.ops = &server_ops, .io = io, .events = events, .user = user};
    http_limits_fill(&sv->base.limits, limits);
    http1_conn_init(&sv->c, io, first, &sv->base.limits, server_run, server_late);
    sv->timer.run = server_timeout;
    sv->state = SERVER_HEAD;
    http1_conn_wake(&sv->c);
    return &sv->base;
}
