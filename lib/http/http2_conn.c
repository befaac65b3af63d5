/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection's life: reading, the turn, timers, its end.
 */
#include "http/http2_conn.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#define READ_BYTES_MAX   262144 /* of one turn; less than a chunk of it is left to the next one */
#define SEND_HIGH_MARKS  4      /* as many are written at once while the socket takes all */
#define QUEUE_FRAMES_MAX 20000  /* that wait in nghttp2 because the peer does not read */

#define DRAIN_NS  NS_PER_S         /* between the two GOAWAYs when the PING is not answered */
#define LINGER_NS NS_PER_S         /* reading on after our last word */
#define STALL_NS  (5 * NS_PER_S)   /* in which a client takes some of our last answers, if it reads */
#define TAKING_NS (60 * NS_PER_S)  /* that it may have for them in all */
#define RETRY_NS  (10 * NS_PER_MS) /* when no chunk could be had */

#define CONTROL_BURST 1000 /* SETTINGS, PING, PRIORITY, empty DATA */
#define CONTROL_PER_S 100
#define RESETS_BURST  5000 /* a busy proxy in front of us cancels many calls */
#define RESETS_PER_S  500

bool h2_bucket_take(struct h2_bucket *b, uint64_t now_ns)
{
    uint64_t earned = (now_ns - b->filled_ns) / NS_PER_MS * b->per_s / 1000;

    if (earned > 0) {
        b->tokens = (unsigned)MIN(b->tokens + earned, b->burst);
        b->filled_ns = now_ns;
    }
    if (b->tokens == 0) {
        return false;
    }
    b->tokens--;
    return true;
}

void h2_conn_wake(struct h2_conn *c)
{
    if (!c->finished) {
        task_wake(c->loop, &c->task);
    }
}

void h2_conn_flush(struct h2_conn *c)
{
    if (!c->finished) {
        task_wake_late(c->loop, &c->late);
    }
}

/* --- the end ------------------------------------------------------------------------------------- */

static void conn_close_io(struct h2_conn *c)
{
    io_close(*c->io);
    *c->io = NULL;
    c->linger_at_ns = 0;
    c->lingering = false;
    h2_conn_wake(c);
}

/* The same of one whose peer may not have taken all yet. */
static void conn_hang_up(struct h2_conn *c)
{
    io_drop_unread(*c->io);
    conn_close_io(c);
}

/* The session ends; what is on the wire is recorded as broken. */
static void conn_end_session(struct h2_conn *c, int err)
{
    nghttp2_session *session = c->session;

    assert(session != NULL);
    c->session = NULL;
    c->err = err;
    LIST_FOREACH(node, &c->streams)
    {
        struct h2_stream *s = LIST_ITEM(node, struct h2_stream, node);

        s->has_cut = false;
        if (!s->on_wire) {
            continue;
        }
        h2_stream_off_wire(s);
        if (!c->is_server && s->wire_end) {
            s->sink = s->check_room = true;
            h2_stream_ready(s);
        } else if (!(s->wire_end && s->super.sent_end && chain_size(&s->out) == 0)) {
            h2_stream_reset_later(s, RESET_CONNECTION, err != 0 ? err : E_CLOSED);
        } else {
            h2_stream_ready(s);
        }
    }
    nghttp2_session_del(session);
    h2_mem_close();
    chain_clear(&c->first);
    c->frame = BYTES_NONE;
    c->slice_count = 0;
    h2_conn_wake(c);
}

void h2_conn_fail(struct h2_conn *c, int err)
{
    if (c->session == NULL) {
        return;
    }
    log_debug("HTTP/2 connection failed; err=%s streams=%u", err_name(err), c->wire_count);
    conn_end_session(c, err);
    chain_clear(&c->out);
    conn_close_io(c);
}

/* Close the sending half. Of a server's answers, what the io has not passed on yet is not limited to the time
 * of lingering; it wakes us when that has gone. */
static void conn_shut(struct h2_conn *c)
{
    int rc = io_shut(*c->io);

    if (rc != 0 && rc != E_AGAIN) {
        conn_close_io(c);
        return;
    }
    c->is_shut = rc == 0;
    c->linger_at_ns = c->is_shut || !c->is_server ? c->loop->now_ns + LINGER_NS : c->taking_until_ns;
    h2_conn_arm(c);
}

/* Nothing is left to say: shut, and read on until the peer has closed too. */
static void conn_finish(struct h2_conn *c, int err)
{
    conn_end_session(c, err);
    chain_clear(&c->out);
    c->lingering = true;
    c->untaken = SIZE_MAX;
    c->taking_until_ns = c->loop->now_ns + TAKING_NS;
    conn_shut(c);
}

/* The time of lingering is over. A client sends on while it reads, windows at least: a socket that is closed
 * before the client has taken all would answer with a reset, and drop the rest. */
static void conn_linger_over(struct h2_conn *c)
{
    uint64_t now = c->loop->now_ns;
    size_t untaken = c->is_server && c->is_shut ? io_untaken(*c->io) : 0;

    if (untaken > 0 && untaken < c->untaken && now < c->taking_until_ns) {
        c->untaken = untaken;
        c->linger_at_ns = now + STALL_NS;
    } else {
        conn_hang_up(c);
    }
}

/* Whatever there is to say, until the socket takes no more. 0: all of it was taken. */
static int conn_say(struct h2_conn *c)
{
    int rc;

    do {
        rc = h2_send_fill(c, c->limits->output_high_bytes);
        if (chain_size(&c->out) == 0 || (rc != 0 && rc != E_LIMIT)) {
            return rc;
        }
        rc = io_send(*c->io, &c->out);
    } while (rc == 0);
    return rc;
}

void h2_conn_close(struct h2_conn *c, uint32_t code, int err)
{
    if (c->session == NULL) {
        if (*c->io != NULL) {
            conn_hang_up(c);
        }
        return;
    }
    if (code != NGHTTP2_ENHANCE_YOUR_CALM) { /* its client shall not come again with them */
        h2_stream_refuse_new(c);
    }
    /* What is queued goes first: behind the GOAWAY nghttp2 sends no DATA and no trailers. */
    if (conn_say(c) == 0) {
        (void)nghttp2_session_terminate_session(c->session, code);
        (void)conn_say(c);
    }
    (void)io_shut(*c->io);
    io_drop_unread(*c->io);
    h2_conn_fail(c, err);
}

/* RFC 9113 6.8: a first GOAWAY that still lets everything in, a final one when the peer has seen it, as
 * the answer to the PING behind it tells (http2_send.c). */
void h2_conn_drain(struct h2_conn *c)
{
    if (c->session == NULL || c->draining) {
        return;
    }
    c->draining = true;
    (void)nghttp2_submit_shutdown_notice(c->session);
    c->drain_at_ns = c->loop->now_ns + DRAIN_NS;
    h2_conn_arm(c);
    h2_conn_flush(c);
}

static void conn_drain_final(struct h2_conn *c)
{
    c->drain_final = true;
    c->drain_at_ns = 0;
    (void)nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(c->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
    h2_conn_flush(c);
}

/* What our own GOAWAY says about why it is over. A server begins with SETTINGS: one whose first bytes are
 * others most likely speaks HTTP/1. */
static int err_of_goaway(const struct h2_conn *c)
{
    switch (c->goaway_sent) {
    case NGHTTP2_NO_ERROR:
        return 0;
    case NGHTTP2_FLOW_CONTROL_ERROR:
        return E_H2_FLOW;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return E_OVERLOAD;
    default:
        return c->is_server || c->got_settings ? E_H2_PROTOCOL : E_H2_UNSPOKEN;
    }
}

/* --- timers -------------------------------------------------------------------------------------- */

static uint64_t sooner(uint64_t a, uint64_t b) /* 0: never */
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static bool wants_ping(const struct h2_conn *c)
{
    return c->limits->ping_interval_ns != 0 && (c->wire_count > 0 || c->limits->ping_while_idle);
}

static uint64_t conn_deadline(const struct h2_conn *c)
{
    const struct http_limits *l = c->limits;
    uint64_t at = sooner(c->linger_at_ns, c->retry_at_ns);

    if (c->session == NULL) {
        return at;
    }
    at = sooner(at, c->drain_at_ns);
    if (c->ping_ns != 0) {
        at = sooner(at, c->ping_ns + l->ping_timeout_ns);
    } else if (l->ping_interval_ns != 0) {
        at = sooner(at, MAX(c->heard_ns + l->ping_interval_ns,
                            wants_ping(c) ? 0 : c->loop->now_ns + l->ping_interval_ns));
    }
    if (c->is_server && l->idle_timeout_ns != 0 && !c->draining) {
        /* With streams open the time has not begun; look again when it could be up. */
        at = sooner(at, (c->stream_count == 0 ? c->idle_ns : c->loop->now_ns) + l->idle_timeout_ns);
    }
    if (c->is_server && l->head_timeout_ns != 0) {
        at = sooner(at, (c->head_ns != 0 ? c->head_ns : c->loop->now_ns) + l->head_timeout_ns);
    }
    return at;
}

void h2_conn_arm(struct h2_conn *c)
{
    uint64_t at = conn_deadline(c);

    if (at != 0 && (!timer_is_armed(&c->timer) || at < c->timer.at_ns)) {
        timer_arm(c->loop, &c->timer, at);
    }
}

static void timer_ping(struct h2_conn *c, uint64_t now)
{
    if (c->ping_ns != 0) {
        if (now - c->ping_ns >= c->limits->ping_timeout_ns) {
            h2_conn_fail(c, E_TIMEOUT);
        }
    } else if (wants_ping(c) && now - c->heard_ns >= c->limits->ping_interval_ns) {
        c->ping_ns = now;
        (void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
        h2_conn_flush(c);
    }
}

static void conn_timer_run(struct timer *timer)
{
    struct h2_conn *c = CONTAINER_OF(timer, struct h2_conn, timer);
    const struct http_limits *l = c->limits;
    uint64_t now = c->loop->now_ns;

    if (c->retry_at_ns != 0 && now >= c->retry_at_ns) {
        c->retry_at_ns = 0;
        h2_conn_wake(c);
        h2_conn_flush(c);
    }
    if (c->linger_at_ns != 0 && now >= c->linger_at_ns) {
        conn_linger_over(c);
    }
    if (c->session != NULL && l->ping_interval_ns != 0) {
        timer_ping(c, now);
    }
    if (c->session != NULL && c->drain_at_ns != 0 && now >= c->drain_at_ns) {
        conn_drain_final(c);
    }
    if (c->session != NULL && c->is_server) {
        if (l->head_timeout_ns != 0 && c->head_ns != 0 && now - c->head_ns >= l->head_timeout_ns) {
            h2_conn_close(c, NGHTTP2_NO_ERROR, E_TIMEOUT);
        } else if (l->idle_timeout_ns != 0 && c->stream_count == 0 &&
                   now - c->idle_ns >= l->idle_timeout_ns) {
            h2_conn_drain(c);
        }
    }
    if (!c->finished) {
        h2_conn_arm(c);
    }
}

/* --- reading ------------------------------------------------------------------------------------- */

static void conn_retry_later(struct h2_conn *c)
{
    if (c->retry_at_ns == 0) {
        c->retry_at_ns = c->loop->now_ns + RETRY_NS;
        h2_conn_arm(c);
    }
}

/* Feed what came. 0, or why it is over. */
static int conn_feed(struct h2_conn *c, struct chain *in)
{
    struct chunk *chunk;
    int rc = 0;

    c->heard_ns = c->loop->now_ns;
    if (c->ping_ns != 0) { /* whatever came proves as much as the answer would */
        c->ping_ns = 0;
        h2_conn_arm(c);
    }
    while (rc == 0 && (chunk = chain_pop(in)) != NULL) {
        rc = h2_recv_chunk(c, chunk);
    }
    chain_clear(in);
    if (rc == 0 && nghttp2_session_get_outbound_queue_size(c->session) > QUEUE_FRAMES_MAX) {
        rc = E_OVERLOAD;
    }
    return rc;
}

static void conn_read(struct h2_conn *c)
{
    struct chain in;
    size_t left = READ_BYTES_MAX;
    int rc = 0;

    chain_init(&in);
    if (!c->is_server && nghttp2_session_want_write(c->session) != 0) {
        /* Requests that wait to be written go before what is about to be read: nghttp2 answers a
         * PING first of all, and to a server that drains the answer says that no request is on its
         * way any more (RFC 9113 6.8). What hinders it now is met again when the turn ends. */
        (void)h2_send_fill(c, c->limits->output_high_bytes);
    }
    if (chain_size(&c->first) > 0) {
        chain_move_all(&in, &c->first);
        rc = conn_feed(c, &in);
    }
    while (rc == 0 && left >= CHUNK_BYTES) {
        size_t bytes = 0;

        rc = io_recv(*c->io, &in, left, &bytes);
        if (rc == 0) {
            left -= MIN(bytes, left);
            rc = conn_feed(c, &in);
        }
        if (rc == 0 && !(*c->io)->readable) {
            rc = E_AGAIN;
        }
    }
    chain_clear(&in);
    if (rc == 0) {
        h2_conn_wake(c); /* the turn's share is read */
    } else if (rc == E_LIMIT) {
        conn_retry_later(c);
    } else if (rc == E_OVERLOAD) {
        h2_conn_close(c, NGHTTP2_ENHANCE_YOUR_CALM, rc);
    } else if (rc == E_EOF && c->wire_count == 0) {
        h2_conn_fail(c, c->is_server ? 0 : E_EOF);
    } else if (rc != E_AGAIN) {
        h2_conn_fail(c, rc);
    }
}

/* Read and forget, until the peer has closed. */
static void conn_linger(struct h2_conn *c)
{
    struct chain in;
    int rc;

    if (c->is_server && !c->is_shut) {
        conn_shut(c);
    }
    chain_init(&in);
    for (unsigned i = 0; i < 4 && *c->io != NULL; i++) {
        size_t bytes;

        rc = io_recv(*c->io, &in, CHUNK_BYTES, &bytes);
        chain_clear(&in);
        if (rc == E_EOF && c->is_server && !c->is_shut) {
            return; /* a client that has finished may read for as long as any other */
        }
        if (rc != 0 && rc != E_AGAIN && rc != E_LIMIT) {
            conn_close_io(c);
            return;
        }
        if (rc != 0 || !(*c->io)->readable) {
            return;
        }
    }
    h2_conn_wake(c);
}

/* --- the turn ------------------------------------------------------------------------------------ */

static void conn_deliver(struct h2_conn *c)
{
    struct list turn;
    struct list *node;

    if (c->check_rooms) {
        c->check_rooms = false;
        LIST_FOREACH(at, &c->streams)
        {
            struct h2_stream *s = LIST_ITEM(at, struct h2_stream, node);

            s->check_room = true;
            h2_stream_ready(s);
        }
    }
    h2_begin_waiting(c);
    list_init(&turn);
    list_move(&turn, &c->ready);
    while ((node = list_pop(&turn)) != NULL) {
        struct h2_stream *s = LIST_ITEM(node, struct h2_stream, ready);

        if (s->is_new && h2_stream_is_due(s) && !h2_begin_now(c)) {
            list_append(&c->begin.waiting, node);
            continue;
        }
        h2_stream_run(s);
    }
    if (c->is_server && h2_begin_done(c)) {
        c->retry_at_ns = c->loop->now_ns + 1; /* the next turn of the loop, whatever wakes us in this one */
        h2_conn_arm(c);
    }
}

static void conn_bury(struct h2_conn *c)
{
    assert(!c->finished && c->session == NULL && *c->io == NULL);
    c->finished = true;
    task_cancel(&c->task);
    task_cancel(&c->late);
    timer_cancel(c->loop, &c->timer);
    h2_stream_free_all(c);
    c->role->gone(c);
}

static void conn_run(struct task *task)
{
    struct h2_conn *c = CONTAINER_OF(task, struct h2_conn, task);

    assert(c->magic == H2_CONN_MAGIC);
    if (c->session != NULL) {
        conn_read(c);
    } else if (c->lingering) {
        conn_linger(c);
    }
    conn_deliver(c);
    if (c->session != NULL) {
        if (c->drain_at_ns != 0 && c->loop->now_ns >= c->drain_at_ns) {
            conn_drain_final(c);
        }
        if (h2_send_pending(c)) {
            h2_conn_flush(c);
        } else if (nghttp2_session_want_read(c->session) == 0) {
            conn_finish(c, err_of_goaway(c));
        }
    }
    if (!timer_is_armed(&c->timer)) {
        h2_conn_arm(c);
    }
    c->role->settle(c);
    if (c->session == NULL && *c->io == NULL && c->stream_count == 0) {
        conn_bury(c);
    }
}

/* A large write becomes few full segments; a small one leaves a short one behind each time. */
static size_t send_bytes_max(const struct h2_conn *c)
{
    size_t marks = c->is_blocked || !chunk_pool_is_ample(&c->loop->chunks) ? 1 : SEND_HIGH_MARKS;

    return c->limits->output_high_bytes * marks;
}

/* What nghttp2 has to say, written at once. */
static void conn_write(struct h2_conn *c)
{
    int rc = 0, filled = h2_send_fill(c, send_bytes_max(c));

    if (filled == 0 && c->pace != NULL && c->pace->is_due) {
        h2_pace_written(c);
        filled = h2_send_fill(c, send_bytes_max(c));
    }
    if (filled != 0 && filled != E_LIMIT) {
        h2_conn_fail(c, filled);
        return;
    }
    if (chain_size(&c->out) > 0) {
        rc = io_send(*c->io, &c->out);
    }
    c->is_blocked = rc == E_AGAIN;
    if (rc != 0 && rc != E_AGAIN) {
        h2_conn_fail(c, rc);
    } else if (filled == E_LIMIT) {
        conn_retry_later(c);
    } else if (rc == 0 && (h2_send_pending(c) || nghttp2_session_want_read(c->session) == 0)) {
        h2_conn_wake(c); /* more than a turn's share, or the end */
    }
}

static void conn_late_run(struct task *task)
{
    struct h2_conn *c = CONTAINER_OF(task, struct h2_conn, late);

    assert(c->magic == H2_CONN_MAGIC);
    if (c->session != NULL) {
        conn_write(c);
    }
    h2_stream_recycle(c);
}

void h2_conn_init(struct h2_conn *c, const struct h2_role *role, bool is_server, struct io **io,
                  const struct http_limits *limits, struct chain *first)
{
    struct loop *l = (*io)->loop;

    c->magic = H2_CONN_MAGIC;
    c->role = role;
    c->is_server = is_server;
    c->io = io;
    c->limits = limits;
    c->loop = l;
    c->task.run = conn_run;
    c->late.run = conn_late_run;
    c->timer.run = conn_timer_run;
    h2_past_init(&c->past);
    list_init(&c->streams);
    list_init(&c->ready);
    list_init(&c->begin.waiting);
    list_init(&c->gone);
    list_init(&c->spare);
    chain_init(&c->first);
    chain_init(&c->out);
    if (first != NULL) {
        chain_move_all(&c->first, first);
    }
    c->control = (struct h2_bucket){CONTROL_BURST, CONTROL_BURST, CONTROL_PER_S, l->now_ns};
    c->resets = (struct h2_bucket){RESETS_BURST, RESETS_BURST, RESETS_PER_S, l->now_ns};
    c->heard_ns = c->idle_ns = l->now_ns;
    c->head_ns = is_server ? l->now_ns : 0; /* until the preface is complete */
    io_set_owner(*io, &c->task);
    h2_conn_wake(c); /* the first turn reads, arms the timer and sends the preface */
}
