/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http1_conn.h"

#include "core/clock.h"
#include "core/err.h"

#define RETRY_NS       (10 * NS_PER_MS)
#define COALESCE_BYTES 1024

static struct http1_conn *conn_of(struct stream *s)
{
    return CONTAINER_OF(s, struct http1_conn, s);
}

static void retry_run(struct timer *timer)
{
    http1_conn_wake(CONTAINER_OF(timer, struct http1_conn, retry));
}

void http1_conn_init(struct http1_conn *c, struct io *io, struct chain *first,
                     const struct http_limits *limits, void (*run)(struct task *task),
                     void (*late)(struct task *task))
{
    c->loop = io->loop;
    c->io = io;
    chain_init(&c->in);
    chain_init(&c->out);
    if (first != NULL) {
        chain_move_all(&c->in, first);
    }
    c->run.run = run;
    c->late.run = late;
    c->retry.run = retry_run;
    c->head_bytes_max = limits->head_bytes_max;
    c->output_high_bytes = limits->output_high_bytes;
    arena_init(&c->s.arena, MAX(HTTP1_ARENA_BYTES, 4 * c->head_bytes_max));
    http1_end_init(&c->end, false);
    io_set_owner(io, &c->run);
}

void http1_conn_clear(struct http1_conn *c)
{
    task_cancel(&c->run);
    task_cancel(&c->late);
    timer_cancel(c->loop, &c->retry);
    chain_clear(&c->in);
    chain_clear(&c->out);
    arena_clear(&c->s.arena);
}

void http1_conn_wake(struct http1_conn *c)
{
    if (!c->is_running) {
        task_wake(c->loop, &c->run);
    }
}

size_t http1_conn_held(const struct http1_conn *c)
{
    return chain_memory(&c->in) + chain_memory(&c->out);
}

int http1_recv(struct http1_conn *c, size_t *io_budget)
{
    size_t bytes = 0;
    int rc;

    if (c->eof) {
        return E_EOF;
    }
    if (*io_budget == 0) {
        task_wake(c->loop, &c->run);
        return E_AGAIN;
    }
    rc = io_recv(c->io, &c->in, *io_budget, &bytes);
    if (rc == 0) {
        assert(bytes > 0 && bytes <= *io_budget);
        *io_budget -= bytes;
    } else if (rc == E_EOF) {
        c->eof = true;
    } else if (rc == E_LIMIT) {
        timer_arm_in(c->loop, &c->retry, RETRY_NS);
        return E_AGAIN;
    }
    return rc;
}

/* --- heads --------------------------------------------------------------------------------------- */

/* Go on with the search for the end where it stopped. */
static int scan_end(struct http1_conn *c)
{
    size_t skip = c->end.scanned;

    LIST_FOREACH(node, &c->in.chunks)
    {
        const struct chunk *chunk = LIST_ITEM(node, struct chunk, node);
        size_t size = chunk->end - chunk->start;

        if (skip < size) {
            int rc = http1_end_feed(&c->end, chunk->data + chunk->start + skip, size - skip);

            if (rc != E_AGAIN) {
                return rc;
            }
            skip = 0;
        } else {
            skip -= size;
        }
    }
    return chain_size(&c->in) >= c->head_bytes_max ? E_LIMIT : E_AGAIN;
}

/* Move the section that was found from the input into the arena: the one copy a head costs. */
static int take_section(struct http1_conn *c, char **out_at, size_t *out_size)
{
    size_t size = c->end.scanned;
    char *at;

    if (size > c->head_bytes_max) {
        return E_LIMIT;
    }
    at = arena_try(&c->s.arena, size);
    if (at == NULL) {
        return E_LIMIT;
    }
    size = chain_peek(&c->in, at, size);
    assert(size == c->end.scanned);
    chain_drop(&c->in, size);
    *out_at = at;
    *out_size = size;
    return 0;
}

int http1_take_head(struct http1_conn *c, const struct bytes *request_method)
{
    char *at = NULL;
    size_t size = 0, seen = c->end.scanned, scanned, consumed = 0;
    int rc = scan_end(c);

    if (rc != 0 && http1_is_hopeless(chain_head(&c->in), seen, request_method == NULL)) {
        return E_H1_BAD_HEAD;
    }
    TRY(rc);
    TRY(take_section(c, &at, &size));
    http1_end_init(&c->end, false);
    scanned = size - 1; /* the end is known: the parser finds it with the last byte */
    if (request_method == NULL) {
        rc = http1_parse_request(at, size, &scanned, &c->s.arena, &c->head, &consumed);
    } else {
        rc = http1_parse_response(at, size, &scanned, *request_method, &c->s.arena, &c->head,
                                  &consumed);
    }
    assert(rc != E_AGAIN && (rc != 0 || consumed == size));
    return rc;
}

/* --- the stream ---------------------------------------------------------------------------------- */

static size_t output_room(const struct http1_conn *c)
{
    size_t used = chain_size(&c->out);

    return used < c->output_high_bytes ? c->output_high_bytes - used : 0;
}

void http1_stream_begin(struct http1_conn *c, const struct stream_ops *ops)
{
    struct stream *s = &c->s;

    assert(!c->has_stream);
    c->has_stream = true;
    c->reset_due = c->is_dead = false;
    c->epoch++;
    s->ops = ops;
    s->events = NULL;
    s->user = NULL;
    s->loop = c->loop;
    s->room = output_room(c);
    s->credit = 0;
    s->version = HTTP_11;
    s->sent_head = s->sent_end = s->got_head = s->got_end = false;
    c->tx = HTTP1_NO_BODY;
    c->tx_left = 0;
}

void http1_stream_end(struct http1_conn *c)
{
    assert(c->has_stream);
    c->has_stream = false;
    c->reset_due = false;
    c->epoch++;
    arena_clear(&c->s.arena);
}

void http1_reset_stream(struct http1_conn *c, enum reset why, int err)
{
    /* After both directions ended nothing more comes (stream.h). */
    if (c->has_stream && !(c->s.got_end && c->s.sent_end) && !c->reset_due && !c->is_dead) {
        c->reset_due = true;
        c->reset_why = why;
        c->reset_err = err;
    }
}

void http1_deliver_reset(struct http1_conn *c)
{
    bool is_over = c->s.got_end && c->s.sent_end; /* the user sent its last bytes meanwhile */

    if (!c->reset_due) {
        return;
    }
    c->reset_due = false;
    c->is_dead = true;
    if (c->s.events != NULL && !is_over) {
        c->s.events->on_reset(c->s.user, c->reset_why, c->reset_err);
    }
}

void http1_credit(struct stream *s, size_t bytes)
{
    assert(bytes <= SIZE_MAX - s->credit);
    s->credit += bytes;
    if (!s->got_end) {
        http1_conn_wake(conn_of(s));
    }
}

/* --- receiving a body ---------------------------------------------------------------------------- */

void http1_give(struct http1_conn *c, struct io **out_io, struct chain *out_unsent,
                struct chain *out_unread)
{
    chain_init(out_unsent);
    chain_init(out_unread);
    chain_move_all(out_unsent, &c->out);
    chain_move_all(out_unread, &c->in);
    io_set_owner(c->io, NULL);
    *out_io = c->io;
    c->io = NULL;
    http1_stream_end(c);
}

void http1_body_begin(struct http1_conn *c)
{
    c->rx = http1_framing_of(&c->head);
    c->rx_left = c->rx == HTTP1_LENGTH ? (uint64_t)c->head.content_length : 0;
    http1_chunks_init(&c->chunks);
    c->in_trailers = false;
    fields_init(&c->trailers, &c->s.arena);
}

/* Bytes that are to be there and are not. */
static int more_input(const struct http1_conn *c)
{
    return c->eof ? E_H1_TRUNCATED
                  : E_AGAIN; /* RFC 9112 8: an incomplete message is known as such */
}

/* RFC 9112 6.2, 7.1: at least so many bytes come before the body's end. */
static uint64_t least_left(const struct http1_conn *c)
{
    static const char end[] = "\r\n0\r\n\r\n";

    if (c->rx == HTTP1_LENGTH) {
        return c->rx_left;
    }
    return c->chunks.left > 0 ? c->chunks.left + sizeof(end) - 1 : 1;
}

bool http1_is_cut(const struct http1_conn *c)
{
    size_t unread;

    return io_unread(c->io, &unread) == 0 && c->rx != HTTP1_UNTIL_CLOSE &&
           chain_size(&c->in) + unread < least_left(c);
}

/* Without credit nothing is read; but the peer's end, if it is known already, is told at once. */
static bool wants_credit(const struct http1_conn *c, bool is_used_up)
{
    return is_used_up && !(c->eof && chain_size(&c->in) == 0);
}

static int take_length(struct http1_conn *c, struct chain *to, size_t credit)
{
    size_t bytes = MIN(chain_size(&c->in), credit);

    bytes = (size_t)MIN(c->rx_left, (uint64_t)bytes);
    chain_move(to, &c->in, bytes);
    c->rx_left -= bytes;
    if (c->rx_left == 0) {
        return 0;
    }
    return wants_credit(c, bytes == credit) ? E_OVERLOAD : more_input(c);
}

static int take_until_close(struct http1_conn *c, struct chain *to, size_t credit)
{
    size_t bytes = MIN(chain_size(&c->in), credit);

    chain_move(to, &c->in, bytes);
    if (chain_size(&c->in) > 0) {
        return E_OVERLOAD;
    }
    if (c->eof) {
        return 0;
    }
    return bytes == credit ? E_OVERLOAD : E_AGAIN;
}

static int take_trailers(struct http1_conn *c)
{
    char *at = NULL;
    size_t size = 0, scanned, consumed = 0;
    int rc = scan_end(c);

    if (rc == E_AGAIN) {
        return more_input(c);
    }
    TRY(rc);
    if (c->end.scanned == 2) { /* none, as nearly always */
        chain_drop(&c->in, 2);
        http1_end_init(&c->end, false);
        return 0;
    }
    TRY(take_section(c, &at, &size));
    http1_end_init(&c->end, false);
    scanned = size - 1;
    rc = http1_parse_trailers(at, size, &scanned, &c->trailers, &consumed);
    assert(rc != E_AGAIN);
    return rc;
}

static int take_chunked(struct http1_conn *c, struct chain *to, size_t credit)
{
    while (!c->in_trailers) {
        struct bytes head = chain_head(&c->in);
        size_t consumed = 0, data = 0, data_len = 0;
        int rc;

        if (c->chunks.left > 0) {
            if (wants_credit(c, credit == 0)) {
                return E_OVERLOAD;
            }
            head = bytes_first(head, MIN(head.len, credit));
        }
        if (head.len == 0) {
            return more_input(c);
        }
        rc = http1_chunks_feed(&c->chunks, head.at, head.len, &consumed, &data, &data_len);
        if (rc != 0 && rc != E_EOF) {
            return rc;
        }
        assert(data_len == 0 || (data == 0 && data_len == consumed));
        if (data_len > 0) {
            /* Moved where a whole chunk of ours is body; where it also holds framing the smaller
             * part is copied, the price of the peer's chunks not lining up with ours. */
            chain_move(to, &c->in, data_len);
            credit -= data_len;
        } else {
            chain_drop(&c->in, consumed);
        }
        if (rc == E_EOF) {
            c->in_trailers = true;
            http1_end_init(&c->end, true);
        }
    }
    return take_trailers(c);
}

int http1_take_body(struct http1_conn *c, struct chain *to)
{
    switch (c->rx) {
    case HTTP1_LENGTH:
        return take_length(c, to, c->s.credit);
    case HTTP1_CHUNKED:
        return take_chunked(c, to, c->s.credit);
    case HTTP1_UNTIL_CLOSE:
        return take_until_close(c, to, c->s.credit);
    case HTTP1_NO_BODY:
        return 0;
    }
    return E_INTERNAL;
}

int http1_deliver_body(struct http1_conn *c)
{
    unsigned epoch = c->epoch;
    struct stream *s = &c->s;
    int rc;

    assert(c->has_stream && s->got_head && !s->got_end);
    do {
        struct chain data;

        chain_init(&data);
        rc = http1_take_body(c, &data);
        if (chain_size(&data) > 0) {
            assert(chain_size(&data) <= s->credit);
            s->credit -= chain_size(&data);
            s->events->on_data(s->user, &data);
            chain_clear(&data);
            if (c->epoch != epoch || c->reset_due) {
                return 0;
            }
        }
    } while (rc == E_OVERLOAD && s->credit > 0); /* the event granted more */
    if (rc == 0) {
        s->got_end = true;
        s->events->on_end(s->user, c->trailers.count > 0 ? &c->trailers : NULL);
    }
    return rc == E_OVERLOAD ? 0 : rc;
}

/* --- sending a body ------------------------------------------------------------------------------ */

void http1_body_send_begin(struct http1_conn *c, enum http1_framing framing, int64_t length)
{
    c->tx = framing;
    c->tx_left = framing == HTTP1_LENGTH ? (uint64_t)MAX(length, 0) : 0;
}

/* Sending failed by our own fault or for lack of memory: the owner's task finds it. */
static void fail_sending(struct http1_conn *c, int err)
{
    if (c->tx_err == 0) {
        c->tx_err = err;
    }
    http1_conn_wake(c);
}

/* What is given then is dropped: the user learns it from an event that is on its way. */
static bool cannot_send(const struct http1_conn *c)
{
    return c->tx_err != 0 || c->io == NULL || c->reset_due || c->is_dead;
}

/*
 * Chunks change owner, their bytes are not copied. Small ones are, for else a peer that sends a
 * byte at a time would hold a whole chunk of memory for each.
 */
static void output_move(struct http1_conn *c, struct chain *bytes)
{
    struct chunk *chunk;

    while ((chunk = chain_pop(bytes)) != NULL) {
        struct bytes b = bytes_of(chunk->data + chunk->start, chunk->end - chunk->start);

        if (b.len <= COALESCE_BYTES && chain_size(&c->out) > 0 &&
            chain_append(&c->out, &c->loop->chunks, b) == 0) {
            chunk_free(chunk);
        } else {
            chain_push(&c->out, chunk);
        }
    }
}

static int send_chunk(struct http1_conn *c, struct chain *bytes)
{
    static const char digits[] = "0123456789abcdef";
    size_t size = chain_size(bytes);
    char line[18];
    size_t at = sizeof(line);

    line[--at] = '\n';
    line[--at] = '\r';
    do {
        line[--at] = digits[size & 15];
        size >>= 4;
    } while (size > 0);
    TRY(chain_append(&c->out, &c->loop->chunks, bytes_of(line + at, sizeof(line) - at)));
    output_move(c, bytes);
    return chain_append(&c->out, &c->loop->chunks, BYTES("\r\n"));
}

void http1_send_data(struct stream *s, struct chain *bytes)
{
    struct http1_conn *c = conn_of(s);
    size_t size = chain_size(bytes);
    int rc = 0;

    assert(s->sent_head && !s->sent_end && size <= s->room);
    s->room -= size;
    task_wake_late(c->loop, &c->late); /* also when the bytes are dropped: it gives the room back */
    if (size == 0 || cannot_send(c)) {
        chain_clear(bytes);
        return;
    }
    switch (c->tx) {
    case HTTP1_NO_BODY: /* an answer to HEAD, for one, when its maker sends a body all the same */
        chain_clear(bytes);
        return;
    case HTTP1_LENGTH:
        if (size > c->tx_left) {
            chain_clear(bytes);
            fail_sending(c, E_H1_BAD_LENGTH);
            return;
        }
        c->tx_left -= size;
        output_move(c, bytes);
        break;
    case HTTP1_CHUNKED:
        rc = send_chunk(c, bytes);
        break;
    case HTTP1_UNTIL_CLOSE:
        output_move(c, bytes);
        break;
    }
    chain_clear(bytes);
    if (rc != 0) {
        fail_sending(c, rc);
    }
}

static int send_last_chunk(struct http1_conn *c, const struct fields *trailers)
{
    int rc;

    TRY(chain_append(&c->out, &c->loop->chunks, BYTES("0\r\n")));
    rc = http1_print_trailers(trailers, &c->out, &c->loop->chunks);
    /* Trailers that cannot be written are left out (RFC 9110 6.5.2 allows it); the message is
     * whole. */
    return rc == E_SYNTAX ? http1_print_trailers(NULL, &c->out, &c->loop->chunks) : rc;
}

void http1_send_end(struct stream *s, const struct fields *trailers)
{
    struct http1_conn *c = conn_of(s);
    int rc = 0;

    assert(s->sent_head && !s->sent_end);
    s->sent_end = true;
    task_wake_late(c->loop, &c->late);
    if (cannot_send(c)) {
        return;
    }
    if (c->tx == HTTP1_CHUNKED) {
        rc = send_last_chunk(c, trailers);
    } else if (c->tx == HTTP1_LENGTH && c->tx_left > 0) {
        rc = E_H1_TRUNCATED;
    }
    if (rc != 0) {
        s->sent_end = false; /* it did not end, it broke off */
        fail_sending(c, rc);
    }
}

/* --- writing ------------------------------------------------------------------------------------- */

/* Tell of room when the output ran empty or much came free: few large steps are cheaper than many. */
static void give_room(struct http1_conn *c)
{
    struct stream *s = &c->s;
    size_t room = output_room(c);

    if (!c->has_stream || s->sent_end || c->reset_due || c->is_dead || s->events == NULL ||
        room <= s->room) {
        return;
    }
    if (chain_size(&c->out) == 0 || room - s->room >= c->output_high_bytes / 2) {
        size_t grown = room - s->room;

        s->room = room;
        s->events->on_room(s->user, grown);
    }
}

int http1_flush(struct http1_conn *c)
{
    int rc = 0;

    if (chain_size(&c->out) > 0 && c->io != NULL && c->tx_err == 0) {
        rc = io_send(c->io, &c->out);
        if (rc != 0 && rc != E_AGAIN) {
            c->tx_err = rc;
        }
    }
    if (c->tx_err != 0) {
        chain_clear(&c->out);
    }
    give_room(c);
    return rc;
}
