/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nghttp2 asks of us when it makes frames. Body bytes never pass through its buffers: a DATA frame
 * is nine bytes of header behind which chunks are moved from the stream to the connection. A frame ends where
 * a chunk does, if it can, and a chunk that was read from a socket has room for the header before its bytes:
 * so a frame of a large body is one piece of memory, and one TLS record, and no byte of it is copied.
 *
 * What a small message is made of shares one chunk; so head and body of a small response leave as one
 * piece of memory.
 */
#include "core/err.h"
#include "http/http2_conn.h"

/* Up to this many body bytes are copied behind their frame header; more are moved with their chunk. */
#define BODY_COPY_MAX    1024
#define FRAME_HEAD_BYTES 9

static struct h2_conn *conn_of(void *user)
{
    struct h2_conn *c = user;

    assert(c->magic == H2_CONN_MAGIC);
    return c;
}

/* Can `bytes` be appended to the output without fail? */
static bool has_space(const struct h2_conn *c, size_t bytes)
{
    const struct chunk_pool *pool = &c->loop->chunks;

    if (!list_is_empty(&c->out.chunks)) {
        const struct chunk *last = LIST_ITEM(c->out.chunks.prev, struct chunk, node);

        if (CHUNK_BYTES - last->end >= bytes) {
            return true;
        }
    }
    return pool->used_count < pool->used_max;
}

/* How much DATA the stream has for a frame of at most `length` bytes. */
ssize_t h2_send_read(nghttp2_session *session, int32_t id, uint8_t *buffer UNUSED, size_t length,
                     uint32_t *flags, nghttp2_data_source *source UNUSED, void *user)
{
    struct h2_stream *s = h2_stream_find(conn_of(user), id);
    size_t bytes;

    if (s == NULL) { /* its user let go of it; the RST_STREAM is on its way */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    bytes = chain_whole(&s->out, length);
    bytes = bytes > 0 ? bytes : MIN(length, chain_size(&s->out));
    if (bytes == 0 && !s->super.sent_end) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (!s->super.sent_end || bytes < chain_size(&s->out)) {
        return (ssize_t)bytes;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (s->out_trailers != NULL) {
        struct h2_nva nva;
        int rc = h2_trailers_encode(&nva, s->out_trailers);

        assert(rc == 0); /* checked when they were given */
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, nva.at, nva.count) != 0) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    return (ssize_t)bytes;
}

static void copy_body(struct h2_conn *c, struct h2_stream *s, size_t bytes)
{
    while (bytes > 0) {
        struct bytes part = chain_head(&s->out);
        int rc;

        part.len = MIN(part.len, bytes);
        rc = chain_append(&c->out, &c->loop->chunks, part);
        assert(rc == 0); /* has_space() */
        chain_drop(&s->out, part.len);
        bytes -= part.len;
    }
}

static void put_data(struct h2_conn *c, struct h2_stream *s, const uint8_t *head, size_t length)
{
    struct chunk *whole = length > BODY_COPY_MAX ? chain_pop_whole(&s->out, length, FRAME_HEAD_BYTES) : NULL;
    int rc;

    if (whole != NULL) {
        whole->start -= FRAME_HEAD_BYTES;
        memcpy(whole->data + whole->start, head, FRAME_HEAD_BYTES);
        chain_push(&c->out, whole);
        return;
    }
    rc = chain_append(&c->out, &c->loop->chunks, bytes_of(head, FRAME_HEAD_BYTES));
    assert(rc == 0); /* h2_send_fill() has looked */
    if (length <= BODY_COPY_MAX && has_space(c, length)) {
        copy_body(c, s, length);
    } else {
        chain_move(&c->out, &s->out, length);
    }
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t length, nghttp2_data_source *source UNUSED, void *user)
{
    struct h2_conn *c = conn_of(user);
    struct h2_stream *s = h2_stream_find(c, frame->hd.stream_id);

    if (s == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    assert(length <= chain_size(&s->out) && frame->data.padlen == 0);
    put_data(c, s, head, length);
    /* Windows shrank by as much as the queue did, so more room can only come from the high mark. */
    if (!s->super.sent_end &&
        nghttp2_session_get_stream_remote_window_size(session, s->id) - (int64_t)length >
            (int64_t)(chain_size(&s->out) + s->super.room)) {
        s->check_room = true;
        h2_stream_ready(s);
    }
    c->paused = true;
    return NGHTTP2_ERR_PAUSE;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = conn_of(user);
    struct h2_stream *s;

    if (frame->hd.type == NGHTTP2_GOAWAY) {
        c->goaway_sent = frame->goaway.error_code;
        if (c->draining && !c->drain_final) { /* not sooner: nghttp2 lets a PING overtake */
            (void)nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, NULL);
        }
        return 0;
    }
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) {
        return 0;
    }
    s = h2_stream_find(c, frame->hd.stream_id);
    if (s == NULL) {
        return 0;
    }
    if (!s->head_sent) {
        s->head_sent = true;
        h2_pace_head_left(c);
    }
    if (s->quit_after_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        s->has_cut = true;
        s->cut_code =
            NGHTTP2_NO_ERROR; /* RFC 9113 8.1: a complete answer, the rest of the request unread */
        h2_stream_ready(s);
    }
    return 0;
}

void h2_send_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
}

bool h2_send_pending(const struct h2_conn *c)
{
    return c->session != NULL && (chain_size(&c->out) > 0 || c->frame.len > 0 ||
                                  nghttp2_session_want_write(c->session) != 0);
}

int h2_send_fill(struct h2_conn *c, size_t high_bytes)
{
    while (chain_size(&c->out) < high_bytes) {
        const uint8_t *at;
        ssize_t rc;

        if (c->frame.len > 0) {
            if (chain_append(&c->out, &c->loop->chunks, c->frame) != 0) {
                return E_LIMIT;
            }
            c->frame = BYTES_NONE;
        }
        if (!has_space(c, FRAME_HEAD_BYTES)) {
            return E_LIMIT;
        }
        c->paused = false;
        rc = nghttp2_session_mem_send(c->session, &at);
        if (rc < 0) {
            return rc == NGHTTP2_ERR_FLOODED ? E_OVERLOAD : E_INTERNAL;
        }
        if (rc == 0 && !c->paused) {
            return 0;
        }
        c->frame = bytes_of(at, (size_t)rc); /* valid until the next call */
    }
    return 0;
}
