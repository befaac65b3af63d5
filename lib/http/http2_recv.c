/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nghttp2 tells us. Everything here runs inside nghttp2_session_mem_recv() or _mem_send() and
 * therefore only records: into streams, which go to the ready list, and into flags of the connection.
 */
#include "core/err.h"
#include "http/http2_conn.h"

/* A run of DATA at least this long keeps its chunk, at the price of the chunk's other bytes; shorter ones are
 * copied out of it, so that a stream never holds more than twice its window. */
#define SLICE_KEEP_BYTES (CHUNK_BYTES / 2)

static struct h2_conn *conn_of(void *user)
{
    struct h2_conn *c = user;

    assert(c->magic == H2_CONN_MAGIC);
    return c;
}

/* --- heads --------------------------------------------------------------------------------------- */

static void head_begin(struct h2_stream *s)
{
    struct h2_received_head *received = arena_try(&s->super.arena, sizeof(*received));

    s->open_bytes = 0;
    s->open_head = NULL;
    s->open_fields = NULL;
    if (received == NULL) {
        s->too_large = true;
        return;
    }
    *received = (struct h2_received_head){0};
    fields_init(&received->head.fields, &s->super.arena);
    s->open_head = &received->head;
    s->open_fields = &received->head.fields;
}

/* A fault of the peer's that the connection does not survive; the first one is told. */
static void conn_fault(struct h2_conn *c, uint32_t code)
{
    if (c->fault == NGHTTP2_NO_ERROR) {
        c->fault = code;
    }
}

static int on_begin_frame(nghttp2_session *session UNUSED, const nghttp2_frame_hd *hd, void *user)
{
    struct h2_stream *s =
        hd->type == NGHTTP2_DATA ? h2_stream_find(conn_of(user), hd->stream_id) : NULL;

    if (s != NULL) {
        s->frame_bytes += hd->length;
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *session UNUSED, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = conn_of(user);
    struct h2_stream *s;

    if (frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }
    c->head_ns = c->loop->now_ns;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        s = h2_stream_new(c);
        s->is_new = true;
        s->came_ns = c->loop->now_ns;
        c->begin.unshown++;
        h2_stream_on_wire(s, frame->hd.stream_id);
        head_begin(s);
        return 0;
    }
    s = h2_stream_find(c, frame->hd.stream_id);
    if (s == NULL) {
        return 0;
    }
    if (!s->got_final) {
        head_begin(s);
        return 0;
    }
    s->open_bytes = 0;
    s->open_head = NULL;
    s->open_fields = &s->trailers;
    fields_init(&s->trailers, &s->super.arena);
    return 0;
}

/* The bytes for as long as the head lives; names and values of the static table live for ever. */
static int rcbuf_keep(struct arena *arena, nghttp2_rcbuf *from, struct bytes *out)
{
    nghttp2_vec v = nghttp2_rcbuf_get_buf(from);

    if (v.len == 0 || nghttp2_rcbuf_is_static(from)) {
        *out = bytes_of(v.base, v.len);
        return 0;
    }
    return arena_copy(arena, bytes_of(v.base, v.len), out);
}

static int field_keep(struct h2_stream *s, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
                      bool never_index)
{
    struct bytes n, v;

    TRY(rcbuf_keep(&s->super.arena, name, &n));
    TRY(rcbuf_keep(&s->super.arena, value, &v));
    if (s->open_head != NULL) {
        return h2_head_field(s->open_head, n, v, never_index);
    }
    TRY(fields_add(s->open_fields, n, v));
    s->open_fields->at[s->open_fields->count - 1].never_index = never_index;
    return 0;
}

static int on_header(nghttp2_session *session UNUSED, const nghttp2_frame *frame,
                     nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    struct h2_conn *c = conn_of(user);
    struct h2_stream *s = h2_stream_find(c, frame->hd.stream_id);

    if (s == NULL || s->too_large || s->open_fields == NULL) {
        return 0;
    }
    s->open_bytes += nghttp2_rcbuf_get_buf(name).len + nghttp2_rcbuf_get_buf(value).len;
    if (s->open_bytes > c->limits->head_bytes_max ||
        field_keep(s, name, value, (flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0) != 0) {
        s->too_large = true;
    }
    return 0;
}

/* RFC 9113 8.2.1: a malformed field makes the message malformed; nghttp2 would rather leave it out. */
static int on_invalid_header(nghttp2_session *session UNUSED, const nghttp2_frame *frame UNUSED,
                             nghttp2_rcbuf *name UNUSED, nghttp2_rcbuf *value UNUSED,
                             uint8_t flags UNUSED, void *user UNUSED)
{
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void head_received(struct h2_stream *s, bool ends)
{
    struct h2_received_head *received = CONTAINER_OF(s->open_head, struct h2_received_head, head);

    if (h2_head_finish(&received->head, ends) != 0) {
        h2_stream_refuse(s, NGHTTP2_PROTOCOL_ERROR, RESET_PROTOCOL, E_H2_PROTOCOL);
        return;
    }
    if (received->head.status >= 100 && received->head.status < 200) {
        s->interim_count++;
    } else {
        s->got_final = true;
        s->content_length = received->head.content_length;
    }
    *s->heads_end = received;
    s->heads_end = &received->next;
}

static void on_headers_frame(struct h2_conn *c, const nghttp2_frame *frame)
{
    struct h2_stream *s = h2_stream_find(c, frame->hd.stream_id);
    bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    c->head_ns = 0;
    if (s == NULL) {
        return;
    }
    if (s->too_large || s->interim_count > H2_INTERIM_MAX) {
        h2_stream_refuse(s, NGHTTP2_ENHANCE_YOUR_CALM, RESET_CALM, E_LIMIT);
        return;
    }
    if (s->open_head != NULL) {
        head_received(s, ends);
    }
    s->open_head = NULL;
    s->open_fields = NULL;
    s->wire_end = s->wire_end || ends;
    h2_stream_ready(s);
}

/* --- bodies -------------------------------------------------------------------------------------- */

static void slice_copy(struct h2_conn *c, const struct h2_slice *slice)
{
    struct h2_stream *s = slice->stream;

    if (chain_append(&s->in, &c->loop->chunks, bytes_of(slice->at, slice->len)) != 0) {
        h2_stream_refuse(s, NGHTTP2_ENHANCE_YOUR_CALM, RESET_CALM, E_LIMIT);
    }
}

static void slices_copy(struct h2_conn *c)
{
    for (unsigned i = 0; i < c->slice_count; i++) {
        slice_copy(c, &c->slices[i]);
    }
    c->slice_count = 0;
}

/*
 * Place the body bytes found in `chunk`, which is taken. The stream of the longest run gets the chunk
 * itself; other runs are copied: behind the handed-over run, if they continue it, into the same chunk,
 * where each lands before the place it came from, so that no run is overwritten before its turn.
 */
static void slices_place(struct h2_conn *c, struct chunk *chunk)
{
    struct h2_slice *longest = NULL;
    struct chain *owner = NULL;

    for (unsigned i = 0; i < c->slice_count; i++) {
        if (c->slices[i].len >= SLICE_KEEP_BYTES &&
            (longest == NULL || c->slices[i].len > longest->len)) {
            longest = &c->slices[i];
        }
    }
    for (unsigned i = 0; i < c->slice_count; i++) {
        struct h2_slice *slice = &c->slices[i];

        if (slice == longest) {
            chunk->start = (unsigned)(slice->at - chunk->data);
            chunk->end = chunk->start + (unsigned)slice->len;
            owner = &slice->stream->in;
            chain_push(owner, chunk);
        } else if (owner == &slice->stream->in && owner->chunks.prev == &chunk->node) {
            assert(chunk->data + chunk->end <= slice->at);
            memmove(chunk->data + chunk->end, slice->at, slice->len);
            chunk->end += (unsigned)slice->len;
            owner->bytes += slice->len;
        } else {
            slice_copy(c, slice);
        }
    }
    c->slice_count = 0;
    if (owner == NULL) {
        chunk_free(chunk);
    }
}

static int on_data_chunk(nghttp2_session *session UNUSED, uint8_t flags UNUSED, int32_t id,
                         const uint8_t *data, size_t len, void *user)
{
    struct h2_conn *c = conn_of(user);
    struct h2_stream *s = h2_stream_find(c, id);

    c->consumed += len;
    if (s == NULL || !(s->held || s->is_new)) {
        return 0; /* nobody wants it; its stream window stays closed */
    }
    if (c->slice_count == H2_SLICES_MAX) {
        slices_copy(c);
    }
    c->slices[c->slice_count++] =
        (struct h2_slice){.stream = s, .at = (const char *)data, .len = len};
    h2_stream_ready(s);
    return 0;
}

/* --- frames -------------------------------------------------------------------------------------- */

/* Frames that cost us work and their sender next to nothing (CVE-2019-9512 to 9518). */
static void count_control(struct h2_conn *c)
{
    if (!h2_bucket_take(&c->control, c->loop->now_ns)) {
        conn_fault(c, NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

/* Requests that their sender does not wait for, though we may have begun to. */
static void count_reset(struct h2_conn *c)
{
    if (!h2_bucket_take(&c->resets, c->loop->now_ns)) {
        conn_fault(c, NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

static void on_data_frame(struct h2_conn *c, const nghttp2_frame *frame)
{
    struct h2_stream *s = h2_stream_find(c, frame->hd.stream_id);

    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        if (frame->hd.length == frame->data.padlen) {
            count_control(c);
        }
        return;
    }
    if (s != NULL) {
        s->wire_end = true;
        h2_stream_ready(s);
    }
}

static void on_window_update(struct h2_conn *c, const nghttp2_frame *frame)
{
    struct h2_stream *s;

    if (frame->hd.stream_id == 0) {
        c->check_rooms = true;
        return;
    }
    s = h2_stream_find(c, frame->hd.stream_id);
    if (s != NULL) {
        s->check_room = true;
        h2_stream_ready(s);
    }
}

static void on_ping(struct h2_conn *c, const uint8_t *opaque)
{
    count_control(c);
    if (c->is_server && h2_begin_ping(c, opaque) != 0) {
        conn_fault(c, NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

static int on_frame(nghttp2_session *session UNUSED, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = conn_of(user);

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        on_headers_frame(c, frame);
        break;
    case NGHTTP2_DATA:
        on_data_frame(c, frame);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        on_window_update(c, frame);
        break;
    case NGHTTP2_RST_STREAM:
        c->peer_reset = frame->hd.stream_id;
        count_reset(c); /* CVE-2023-44487 */
        break;
    case NGHTTP2_SETTINGS:
        c->got_settings = true;
        c->check_rooms = true;
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
            count_control(c);
        }
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
            on_ping(c, frame->ping.opaque_data);
        } else if (!c->is_server) {
            h2_pace_answered(c, frame->ping.opaque_data);
        } else if (c->draining && !c->drain_final) {
            c->drain_at_ns = c->loop->now_ns; /* the peer has seen our first GOAWAY */
        }
        break;
    case NGHTTP2_GOAWAY:
        c->got_goaway = true;
        c->goaway_last = frame->goaway.last_stream_id;
        break;
    default: /* PRIORITY and extensions */
        count_control(c);
        break;
    }
    return 0;
}

/* --- the end of a stream ------------------------------------------------------------------------- */

/* Why a stream that nghttp2 closed has not ended as it should, from its user's point of view. */
static void record_reset(struct h2_stream *s, uint32_t code)
{
    struct h2_conn *c = s->conn;

    if (!c->is_server && c->got_goaway && s->id > c->goaway_last) {
        h2_stream_reset_later(s, RESET_GOAWAY, E_GOAWAY); /* RFC 9113 6.8: safe to retry */
    } else if (!c->is_server && !s->head_sent) {
        h2_stream_reset_later(s, RESET_REFUSED, E_GOAWAY); /* it never left */
    } else if (code == NGHTTP2_PROTOCOL_ERROR && s->content_length >= 0 &&
               s->frame_bytes < (uint64_t)s->content_length) {
        /* RFC 9113 8.1.1; nghttp2 has compared the length with the DATA. */
        h2_stream_reset_later(s, RESET_TRUNCATED, E_H2_PROTOCOL);
    } else {
        enum reset why = h2_reset_of_code(code);

        h2_stream_reset_later(s, why, why == RESET_PROTOCOL ? E_H2_PROTOCOL : E_RESET);
    }
}

static int on_stream_close(nghttp2_session *session UNUSED, int32_t id, uint32_t code, void *user)
{
    struct h2_conn *c = conn_of(user);
    struct h2_stream *s = h2_stream_find(c, id);
    bool both_ended;

    c->head_ns = 0; /* of a malformed head we hear no more than this */
    if (s == NULL) {
        return 0;
    }
    both_ended = s->wire_end && s->super.sent_end;
    h2_stream_off_wire(s);
    if (both_ended && h2_stream_let_go(s)) {
        return 0;
    }
    if (!c->is_server && s->wire_end) {
        /* RFC 9113 8.1: the response is complete, the rest of the request unwanted; no failure. */
        s->sink = true;
        s->check_room = true;
    } else if (!both_ended) {
        /* CVE-2025-8671: a peer that breaks the rules makes nghttp2 reset its streams for it. */
        if (c->is_server && id != c->peer_reset) {
            count_reset(c);
        }
        record_reset(s, code);
    }
    h2_stream_ready(s);
    return 0;
}

void h2_recv_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}

static int err_of(ssize_t rc)
{
    switch (rc) {
    case NGHTTP2_ERR_FLOODED:
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
        return E_OVERLOAD;
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
        return E_H2_PROTOCOL;
    default:
        return E_INTERNAL;
    }
}

int h2_recv_chunk(struct h2_conn *c, struct chunk *chunk)
{
    const uint8_t *at = (const uint8_t *)chunk->data + chunk->start;
    size_t len = chunk->end - chunk->start;
    ssize_t rc;

    if (c->is_server) {
        conn_fault(c, h2_past_feed(&c->past, at, len));
    }
    rc = nghttp2_session_mem_recv(c->session, at, len);
    slices_place(c, chunk);
    if (rc < 0) {
        return err_of(rc);
    }
    if (c->consumed > 0) {
        (void)nghttp2_session_consume_connection(c->session, c->consumed);
        c->consumed = 0;
    }
    if (c->fault != NGHTTP2_NO_ERROR) {
        (void)nghttp2_session_terminate_session(c->session, c->fault);
        return E_AGAIN;
    }
    return 0;
}
