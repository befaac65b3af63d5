/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1 as a server: one exchange after the other on a connection that a client opened.
 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "http/http1_server.h"

#define DISCARD_BYTES_MAX 65536  /* of a request that nobody wants, to keep the connection */
#define LINGER_BYTES_MAX  262144 /* dropped after our last answer */
#define LINGER_NS         (2 * NS_PER_S)
#define STALL_NS          (60 * NS_PER_S) /* without a byte of the last answer taken */

enum step { STEP_WAIT, STEP_MORE };

static struct http1_server *server_of(struct http_server *base)
{
    return CONTAINER_OF(base, struct http1_server, base);
}

/* The one place where the state changes. */
void http1_server_set_state(struct http1_server *sv, enum server_state state)
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
    http1_server_set_state(sv, SERVER_CLOSED);
    http1_conn_wake(&sv->c);
}

void http1_server_linger(struct http1_server *sv)
{
    http1_server_set_state(sv, SERVER_LINGER);
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
    http1_server_linger(sv);
}

/* --- receiving ----------------------------------------------------------------------------------- */

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
    sv->is_last = !c->head.keep_alive;
    sv->close_after = sv->is_draining || sv->is_leaving || sv->is_last;
    http1_stream_begin(c, &http1_server_stream_ops);
    http1_body_begin(c);
    http1_server_set_state(sv, SERVER_EXCHANGE);
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
        http1_server_linger(sv);
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
        http1_server_linger(sv);
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
        http1_server_set_state(sv, SERVER_HEAD);
        return STEP_MORE;
    }
    if (rc != E_AGAIN || sv->dropped_bytes > DISCARD_BYTES_MAX) {
        http1_server_linger(sv);
        return STEP_MORE;
    }
    return step_read(sv);
}

/* All is written: close the sending half. What the io has not passed on yet is not limited to the time
 * of lingering; it wakes us when that has gone. Not 0: the connection is gone. */
static int server_shut(struct http1_server *sv)
{
    int rc = io_shut(sv->c.io);

    if (rc != 0 && rc != E_AGAIN) {
        server_fail(sv, RESET_CONNECTION, sv->close_err);
        return rc;
    }
    sv->is_shut = rc == 0;
    return 0;
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
    if (!sv->is_shut && server_shut(sv) != 0) {
        return STEP_MORE;
    }
    sv->dropped_bytes += chain_size(&c->in);
    chain_clear(&c->in);
    if (c->eof && !sv->is_shut) {
        return STEP_WAIT; /* a client that has finished may read for as long as any other */
    }
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
        http1_server_linger(sv);
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
    if (sv->state == SERVER_EXCHANGE && !sv->c.s.got_end && !sv->c.s.sent_end &&
        http1_is_cut(&sv->c)) {
        request_failed(sv, E_H1_TRUNCATED);
    }
    if (chain_size(&sv->c.out) > 0) {
        task_wake_late(sv->c.loop, &sv->c.late);
    }
    server_settle(sv);
}

/*
 * The last bytes are with the kernel, which kept them for the end to go with them. A client that
 * sends nothing more need not be waited for; nor one that has finished.
 */
static void server_end(struct http1_server *sv)
{
    struct http1_conn *c = &sv->c;

    if ((c->eof || (sv->is_done && chain_size(&c->in) == 0)) && io_closes_clean(c->io)) {
        server_fail(sv, RESET_NONE, sv->close_err);
        server_settle(sv);
    } else {
        (void)server_shut(sv);
    }
}

static void server_late(struct task *task)
{
    struct http1_server *sv = CONTAINER_OF(task, struct http1_server, c.late);
    struct http1_conn *c = &sv->c;
    bool was_full = chain_size(&c->out) >= c->output_high_bytes;
    bool is_end = sv->state == SERVER_LINGER && !sv->aborts && !sv->is_shut;
    int rc;

    if (sv->state == SERVER_CLOSED) {
        return;
    }
    if (is_end) {
        io_last(c->io);
    }
    rc = http1_flush(c);
    if (rc != 0 && rc != E_AGAIN) {
        server_fail(sv, RESET_CONNECTION, rc);
        return;
    }
    if (is_end && chain_size(&c->out) == 0) {
        server_end(sv);
    }
    if (sv->state != SERVER_CLOSED &&
        chain_size(&c->out) <
            (sv->state == SERVER_LINGER ? 1 : was_full ? c->output_high_bytes : 0)) {
        http1_conn_wake(c); /* not before: the two tasks would wake each other in every turn */
    }
}

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

    if (sv->state == SERVER_LINGER && !sv->aborts && http1_flush(&sv->c) == 0 && server_shut(sv) == 0) {
        io_drop_unread(sv->c.io);
    }
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
