/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: the calls of stream.h, and the delivery of what was recorded.
 *
 * After the wire is gone (reset, or the connection failed) and before the user has been told, calls
 * still come; they are taken and forgotten.
 */
#include "core/alloc.h"
#include "core/err.h"
#include "http/http2_conn.h"

#define STREAM_ARENA_MAX                                                                           \
    ((size_t)4 * HTTP_HEAD_BYTES_MAX) /* request head, interim and final ones, trailers */
#define SPARE_MAX        64
#define WIDEN_AFTER      2 /* windows that were read */
#define WIDEN_BY         4
#define WIDE_MAX         ((uint32_t)1 << 20) /* what is configured beyond it stays as it is */
#define WIDE_STREAMS_MAX 32                  /* of one connection */
#define OUTPUT_SHARED    32
#define OUTPUT_SHARE_MIN ((int64_t)4096)

static struct h2_stream *stream_of(struct stream *s)
{
    struct h2_stream *h = CONTAINER_OF(s, struct h2_stream, super);

    assert(h->magic == H2_STREAM_MAGIC && h->held);
    return h;
}

/* --- life ---------------------------------------------------------------------------------------- */

struct h2_stream *h2_stream_new(struct h2_conn *c)
{
    struct list *node = list_pop(&c->spare);
    struct h2_stream *s;

    if (node != NULL) {
        s = LIST_ITEM(node, struct h2_stream, node);
        c->spare_count--;
    } else {
        s = mem_new(sizeof(*s));
    }
    *s = (struct h2_stream){
        .super = {.ops = &h2_stream_ops, .loop = c->loop, .version = HTTP_2},
        .magic = H2_STREAM_MAGIC,
        .conn = c,
        .content_length = -1,
    };
    s->heads_end = &s->heads;
    arena_init(&s->super.arena, STREAM_ARENA_MAX);
    chain_init(&s->in);
    chain_init(&s->out);
    list_append(&c->streams, &s->node);
    c->stream_count++;
    return s;
}

struct h2_stream *h2_stream_find(struct h2_conn *c, int32_t id)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(c->session, id);

    assert(s == NULL || (s->magic == H2_STREAM_MAGIC && s->on_wire));
    return s;
}

void h2_stream_on_wire(struct h2_stream *s, int32_t id)
{
    struct h2_conn *c = s->conn;

    s->id = id;
    s->on_wire = true;
    c->wire_count++;
    (void)nghttp2_session_set_stream_user_data(c->session, id, s);
}

void h2_stream_off_wire(struct h2_stream *s)
{
    struct h2_conn *c = s->conn;

    assert(s->on_wire && c->wire_count > 0);
    s->on_wire = false;
    c->wire_count--;
    if (!s->head_sent) {
        h2_pace_never_left(c);
    }
    if (c->session != NULL) {
        (void)nghttp2_session_set_stream_user_data(c->session, s->id, NULL);
    }
    chain_clear(&s->out);
}

/* Neither its user nor the wire knows it: what it holds goes now, itself at the end of the turn. */
static bool stream_forget(struct h2_stream *s)
{
    struct h2_conn *c = s->conn;

    if (s->held || s->on_wire || s->is_new || s->running) {
        return false;
    }
    list_unlink(&s->ready);
    list_unlink(&s->node);
    list_append(&c->gone, &s->node);
    c->stream_count--;
    c->wide_count -= s->is_wide;
    chain_clear(&s->in);
    chain_clear(&s->out);
    arena_clear(&s->super.arena);
    if (c->stream_count == 0) {
        c->idle_ns = c->loop->now_ns;
    }
    return true;
}

static void stream_release(struct h2_stream *s)
{
    if (stream_forget(s)) {
        h2_conn_wake(s->conn);
        h2_conn_flush(s->conn);
    }
}

bool h2_stream_let_go(struct h2_stream *s)
{
    return s->conn->is_server && stream_forget(s);
}

void h2_stream_recycle(struct h2_conn *c)
{
    struct list *node;

    while ((node = list_pop(&c->gone)) != NULL) {
        if (c->spare_count < SPARE_MAX) {
            list_append(&c->spare, node);
            c->spare_count++;
        } else {
            mem_free(LIST_ITEM(node, struct h2_stream, node));
        }
    }
}

void h2_stream_free_all(struct h2_conn *c)
{
    struct list *node;

    assert(list_is_empty(&c->streams));
    list_move(&c->spare, &c->gone);
    while ((node = list_pop(&c->spare)) != NULL) {
        mem_free(LIST_ITEM(node, struct h2_stream, node));
    }
}

void h2_stream_ready(struct h2_stream *s)
{
    if (!list_is_linked(&s->ready)) {
        list_append(&s->conn->ready, &s->ready);
    }
    h2_conn_wake(s->conn);
}

void h2_stream_reset_later(struct h2_stream *s, enum reset why, int err)
{
    assert(why != RESET_NONE);
    if (s->why == RESET_NONE) {
        s->why = why;
        s->why_err = err;
    }
    if (s->is_new) {
        list_unlink(&s->ready); /* it waits no longer to be shown */
    }
    h2_stream_ready(s);
}

void h2_stream_refuse(struct h2_stream *s, uint32_t code, enum reset why, int err)
{
    if (!s->has_cut) {
        s->has_cut = true;
        s->cut_code = code;
    }
    h2_stream_reset_later(s, why, err);
}

/* Let go of the stream on the wire: RST_STREAM, and nghttp2 forgets who we are. Not from its callbacks. */
static void stream_cut(struct h2_stream *s, uint32_t code)
{
    struct h2_conn *c = s->conn;

    s->has_cut = false;
    if (s->on_wire) {
        (void)nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, code);
        h2_stream_off_wire(s);
        h2_conn_flush(c);
    }
}

void h2_stream_refuse_new(struct h2_conn *c)
{
    LIST_FOREACH(node, &c->streams)
    {
        struct h2_stream *s = LIST_ITEM(node, struct h2_stream, node);

        if (s->is_new && s->on_wire) {
            stream_cut(s, s->has_cut ? s->cut_code : NGHTTP2_REFUSED_STREAM);
            h2_stream_reset_later(s, RESET_REFUSED, E_REFUSED);
        }
    }
}

/* --- room ---------------------------------------------------------------------------------------- */

/*
 * A stream may queue as much as the high mark, but all of a connection share OUTPUT_SHARED high marks: a
 * peer that opens a thousand streams and reads nothing holds a few megabytes, not the whole of it. Where
 * the peer reads, streams get their next room when this turn's bytes have left.
 */
static int64_t room_high(const struct h2_conn *c)
{
    int64_t high = (int64_t)c->limits->output_high_bytes;

    if (c->wire_count <= OUTPUT_SHARED) {
        return high;
    }
    return MIN(MAX(high * OUTPUT_SHARED / c->wire_count, OUTPUT_SHARE_MIN), high);
}

static size_t room_allowed(const struct h2_stream *s)
{
    const struct h2_conn *c = s->conn;
    int64_t high = room_high(c);
    int64_t stream, connection;

    if (s->sink) {
        return (size_t)high;
    }
    if (!s->on_wire) {
        return 0;
    }
    stream = nghttp2_session_get_stream_remote_window_size(c->session, s->id);
    if (!c->is_server && !s->head_sent) { /* nghttp2 opens a dialed stream with its HEADERS frame */
        stream =
            nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    }
    connection = nghttp2_session_get_remote_window_size(c->session);
    return (size_t)MAX(MIN(MIN(stream, connection), high), 0);
}

/* Bytes by which room grew. What is queued counts as used, for its window is not yet. */
static size_t room_grow(struct h2_stream *s)
{
    size_t allowed = room_allowed(s), used = chain_size(&s->out) + s->super.room;
    size_t grown = allowed > used ? allowed - used : 0;

    s->check_room = false;
    s->super.room += grown;
    return grown;
}

void h2_stream_init_room(struct h2_stream *s)
{
    (void)room_grow(s);
}

/* --- delivery ------------------------------------------------------------------------------------ */

static void deliver_heads(struct h2_stream *s)
{
    while (s->held && s->heads != NULL) {
        struct head *head = &s->heads->head;

        s->heads = s->heads->next;
        if (s->heads == NULL) {
            s->heads_end = &s->heads;
        }
        s->super.got_head = head->status == 0 || head->status >= 200;
        s->super.got_end = head->ends;
        s->super.events->on_head(s->super.user, head);
    }
}

/*
 * A window of 64 KiB makes a large body wait for its reader four times in a quarter of a megabyte. A stream
 * whose reader has kept pace with two of them gets a wider one, while memory is no concern: nothing of it is
 * in use as long as the reader stays what it was. A reader may stop all the same, and a window cannot be
 * taken back: so only a few streams of a connection have a wide one.
 */
static void widen_window(struct h2_stream *s)
{
    struct h2_conn *c = s->conn;
    uint32_t window = c->limits->stream_window;
    uint32_t wide = MIN(window, WIDE_MAX / WIDEN_BY) * WIDEN_BY;

    if (s->is_wide || s->frame_bytes < (uint64_t)window * WIDEN_AFTER || chain_size(&s->in) > 0 ||
        wide <= window || c->wide_count >= WIDE_STREAMS_MAX || !chunk_pool_is_ample(&c->loop->chunks)) {
        return;
    }
    s->is_wide = true;
    c->wide_count++;
    (void)nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, s->id, (int32_t)wide);
}

static void deliver_data(struct h2_stream *s)
{
    struct h2_conn *c = s->conn;
    size_t bytes = MIN(s->super.credit, chain_size(&s->in));
    struct chain given;

    if (!s->held || !s->super.got_head || bytes == 0) {
        return;
    }
    chain_init(&given);
    chain_move(&given, &s->in, bytes);
    s->super.credit -= bytes;
    if (s->on_wire && !s->wire_end) {
        widen_window(s);
        (void)nghttp2_session_consume_stream(c->session, s->id, bytes);
        h2_conn_flush(c);
    }
    s->super.events->on_data(s->super.user, &given);
    chain_clear(&given); /* what the user left is not wanted */
}

static void deliver_end(struct h2_stream *s)
{
    if (!s->held || !s->wire_end || s->super.got_end || !s->super.got_head || s->heads != NULL ||
        chain_size(&s->in) > 0) {
        return;
    }
    s->super.got_end = true;
    s->super.events->on_end(s->super.user, s->trailers.count > 0 ? &s->trailers : NULL);
}

static void deliver_room(struct h2_stream *s)
{
    size_t grown;

    if (!s->held || !s->check_room || s->super.sent_end) {
        return;
    }
    grown = room_grow(s);
    /* A dialed stream may send its body from the start; an accepted one has to send its head first. */
    if (grown > 0) {
        s->super.events->on_room(s->super.user, grown);
    }
}

static void deliver_reset(struct h2_stream *s)
{
    enum reset why = s->why;

    if (!s->held || why == RESET_NONE) {
        return;
    }
    s->why = RESET_NONE;
    s->heads = NULL;
    chain_clear(&s->in);
    if (s->super.got_end && s->super.sent_end) {
        return; /* both directions had ended for the user */
    }
    s->super.got_end = true;
    s->super.events->on_reset(s->super.user, why, s->why_err);
}

/* One that was reset in the same breath is never shown, and one whose head is not complete not yet. */
bool h2_stream_is_due(const struct h2_stream *s)
{
    return s->why == RESET_NONE && s->heads != NULL;
}

static void no_longer_new(struct h2_stream *s)
{
    s->is_new = false;
    h2_begin_shown(s->conn);
}

/* Tell the user of a new accepted stream. */
static void announce(struct h2_stream *s)
{
    struct h2_conn *c = s->conn;

    if (s->why != RESET_NONE || (!s->on_wire && s->heads == NULL)) {
        no_longer_new(s);
        return;
    }
    if (!h2_stream_is_due(s)) {
        return;
    }
    no_longer_new(s);
    s->held = true;
    c->held_count++;
    h2_stream_init_room(s);
    c->role->begin(c, s);
    assert(!s->held || s->super.events != NULL);
}

void h2_stream_run(struct h2_stream *s)
{
    assert(s->magic == H2_STREAM_MAGIC && !s->running);
    s->running = true;
    if (s->has_cut) {
        stream_cut(s, s->cut_code);
    }
    if (s->is_new) {
        announce(s);
    }
    deliver_heads(s);
    deliver_data(s);
    deliver_end(s);
    deliver_room(s);
    deliver_reset(s);
    s->running = false;
    stream_release(s);
}

/* --- the calls of stream.h ----------------------------------------------------------------------- */

static int stream_send_interim(struct h2_stream *s, const struct h2_nva *nva)
{
    if (s->on_wire && nghttp2_submit_headers(s->conn->session, NGHTTP2_FLAG_NONE, s->id, NULL,
                                             nva->at, nva->count, NULL) < 0) {
        h2_stream_refuse(s, NGHTTP2_INTERNAL_ERROR, RESET_INTERNAL, E_INTERNAL);
    }
    h2_conn_flush(s->conn);
    return 0;
}

static int op_send_head(struct stream *stream, const struct head *h, bool ends)
{
    struct h2_stream *s = stream_of(stream);
    struct h2_conn *c = s->conn;
    nghttp2_data_provider provider = {.read_callback = h2_send_read};
    struct h2_nva nva;

    assert(c->is_server && !stream->sent_head && h->status != 0);
    TRY(h2_head_encode(&nva, h));
    if (h->status < 200) {
        assert(!ends);
        return stream_send_interim(s, &nva);
    }
    stream->sent_head = true;
    stream->sent_end = ends;
    if (s->on_wire && nghttp2_submit_response(c->session, s->id, nva.at, nva.count,
                                              ends ? NULL : &provider) != 0) {
        h2_stream_refuse(s, NGHTTP2_INTERNAL_ERROR, RESET_INTERNAL, E_INTERNAL);
    }
    h2_conn_flush(c);
    return 0;
}

/* There is something for the data provider, which may be asleep. */
static void stream_resume(struct h2_stream *s)
{
    if (s->deferred) {
        s->deferred = false;
        (void)nghttp2_session_resume_data(s->conn->session, s->id);
    }
    h2_conn_flush(s->conn);
}

static void op_send_data(struct stream *stream, struct chain *bytes)
{
    struct h2_stream *s = stream_of(stream);

    assert(stream->sent_head && !stream->sent_end);
    assert(chain_size(bytes) <= stream->room);
    stream->room -= chain_size(bytes);
    if (!s->on_wire) {
        chain_clear(bytes);
        s->check_room = s->sink;
        h2_stream_ready(s);
        return;
    }
    chain_move_all(&s->out, bytes);
    stream_resume(s);
}

static int trailers_copy(struct h2_stream *s, const struct fields *from)
{
    struct arena *arena = &s->super.arena;
    struct fields *copy = arena_try(arena, sizeof(*copy));
    struct h2_nva nva;

    if (copy == NULL) {
        return E_LIMIT;
    }
    TRY(h2_trailers_encode(&nva, from));
    fields_init(copy, arena);
    for (unsigned i = 0; i < from->count; i++) {
        struct bytes name, value;

        TRY(arena_copy(arena, from->at[i].name, &name));
        TRY(arena_copy(arena, from->at[i].value, &value));
        TRY(fields_add(copy, name, value));
        copy->at[copy->count - 1].never_index = from->at[i].never_index;
    }
    s->out_trailers = nva.count > 0 ? copy : NULL;
    return 0;
}

static void op_send_end(struct stream *stream, const struct fields *trailers)
{
    struct h2_stream *s = stream_of(stream);
    int rc = 0;

    assert(stream->sent_head && !stream->sent_end);
    stream->sent_end = true;
    if (!s->on_wire) {
        return;
    }
    if (trailers != NULL && trailers->count > 0) {
        rc = trailers_copy(s, trailers);
    }
    if (rc != 0) { /* without its trailers the message would pass for complete */
        h2_stream_refuse(s, NGHTTP2_INTERNAL_ERROR, RESET_INTERNAL, rc);
        return;
    }
    stream_resume(s);
}

static void op_credit(struct stream *stream, size_t bytes)
{
    struct h2_stream *s = stream_of(stream);

    assert(bytes <= SIZE_MAX - stream->credit);
    stream->credit += bytes;
    if (chain_size(&s->in) > 0) {
        h2_stream_ready(s);
    }
}

static void op_close(struct stream *stream, enum reset why)
{
    struct h2_stream *s = stream_of(stream);
    struct h2_conn *c = s->conn;
    bool complete = stream->sent_end && s->wire_end;

    s->held = false;
    c->held_count--;
    stream->events = NULL;
    s->why = RESET_NONE;
    s->heads = NULL;
    chain_clear(&s->in);
    if (s->has_cut) {
        stream_cut(s, s->cut_code);
    } else if (!complete && (!stream->sent_end || why != RESET_NONE || !c->is_server)) {
        stream_cut(s, h2_code_of_reset(why));
    } else if (s->on_wire && !complete) {
        /* The answer is complete: it is still written, and then the rest of the request refused. */
        s->quit_after_end = nghttp2_session_get_stream_local_close(c->session, s->id) == 0;
        if (!s->quit_after_end) {
            stream_cut(s, NGHTTP2_NO_ERROR);
        }
    }
    stream_release(s);
}

static int op_take(struct stream *stream UNUSED, struct io **out_io UNUSED,
                   struct chain *out_unsent UNUSED, struct chain *out_unread UNUSED)
{
    return E_UNSUPPORTED;
}

const struct stream_ops h2_stream_ops = {
    .send_head = op_send_head,
    .send_data = op_send_data,
    .send_end = op_send_end,
    .credit = op_credit,
    .close = op_close,
    .take = op_take,
};
