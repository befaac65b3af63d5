/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side that asks.
 */
#include "core/alloc.h"
#include "core/err.h"
#include "http/http2_conn.h"

#define HEADER_LIST_BYTES 16384 /* as linkerd's proxy announces (wire 5.3) */

struct http2_client {
    struct http_client super; /* first */
    struct h2_conn conn;
    struct h2_pace pace;
    bool told_closed;  /* on_closed was called, or nobody is to be told */
    bool had_capacity; /* as the user knows */
    bool was_busy;     /* since the last on_idle */
};

static struct http2_client *client_of_conn(struct h2_conn *c)
{
    return CONTAINER_OF(c, struct http2_client, conn);
}

static struct http2_client *client_of(struct http_client *c)
{
    return CONTAINER_OF(c, struct http2_client, super);
}

static unsigned client_capacity(const struct http_client *super)
{
    const struct http2_client *client = (const struct http2_client *)(const void *)super;
    const struct h2_conn *c = &client->conn;
    unsigned max;

    if (c->session == NULL || c->got_goaway ||
        nghttp2_session_check_request_allowed(c->session) == 0) {
        return 0;
    }
    max = nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (super->limits.streams_max != 0) {
        max = MIN(max, super->limits.streams_max);
    }
    max = max > c->wire_count ? max - c->wire_count : 0;
    return MIN(max, h2_pace_room(c));
}

static enum http_pace client_pace(const struct http_client *super)
{
    return h2_pace(&((const struct http2_client *)(const void *)super)->conn);
}

/* While the pace is watched room may vanish and come back without a turn in between. */
static void client_note_capacity(struct http2_client *client)
{
    client->had_capacity = client_capacity(&client->super) > 0 && !h2_pace_is_watched(&client->conn);
}

static unsigned client_streams(const struct http_client *super)
{
    return ((const struct http2_client *)(const void *)super)->conn.held_count;
}

/* No stream can be opened any more. The connection ends with its last stream. */
static void client_tell_closed(struct http2_client *client, int err)
{
    struct h2_conn *c = &client->conn;

    client->told_closed = true;
    client->super.events->on_closed(client->super.user, err);
    if (c->session != NULL && c->wire_count == 0) {
        h2_conn_close(c, NGHTTP2_NO_ERROR, err);
    }
}

static void client_settle(struct h2_conn *c)
{
    struct http2_client *client = client_of_conn(c);
    bool has_capacity;

    if (client->told_closed) {
        if (c->session != NULL && c->wire_count == 0) {
            h2_conn_close(c, NGHTTP2_NO_ERROR, 0);
        }
        return;
    }
    if (c->session == NULL) {
        client_tell_closed(client, c->err != 0 ? c->err : E_CLOSED);
        return;
    }
    if (c->got_goaway || nghttp2_session_check_request_allowed(c->session) == 0) {
        client_tell_closed(client, E_GOAWAY);
        return;
    }
    has_capacity = client_capacity(&client->super) > 0;
    if (has_capacity && !client->had_capacity) {
        client->had_capacity = true;
        if (client->super.events->on_capacity != NULL) {
            client->super.events->on_capacity(client->super.user);
        }
    }
    client_note_capacity(client);
    if (client->was_busy && c->held_count == 0 && c->session != NULL && !client->told_closed) {
        client->was_busy = false;
        if (client->super.events->on_idle != NULL) {
            client->super.events->on_idle(client->super.user);
        }
    }
}

static void client_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct http2_client, conn.grave));
}

static void client_gone(struct h2_conn *c)
{
    loop_free_later(c->loop, &c->grave, client_bury);
}

static const struct h2_role client_role = {
    .begin = NULL, /* PUSH_PROMISE is refused by our SETTINGS */
    .settle = client_settle,
    .gone = client_gone,
};

static int client_open(struct http_client *super, const struct head *h, bool ends,
                       const struct stream_events *events, void *user, struct stream **out)
{
    struct http2_client *client = client_of(super);
    struct h2_conn *c = &client->conn;
    nghttp2_data_provider provider = {.read_callback = h2_send_read};
    struct h2_nva nva;
    struct h2_stream *s;
    int32_t id;

    assert(h->status == 0);
    if (client_capacity(super) == 0) {
        client->had_capacity = false;
        return E_LIMIT;
    }
    TRY(h2_head_encode(&nva, h));
    id = nghttp2_submit_request(c->session, NULL, nva.at, nva.count, ends ? NULL : &provider, NULL);
    if (id < 0) {
        h2_conn_wake(c); /* the stream ids are used up: settle says so */
        return E_LIMIT;
    }
    s = h2_stream_new(c);
    s->held = true;
    c->held_count++;
    h2_stream_on_wire(s, id);
    stream_set_user(&s->super, events, user);
    s->super.sent_head = true;
    s->super.sent_end = ends;
    h2_stream_init_room(s);
    client->was_busy = true;
    h2_pace_opened(c);
    client_note_capacity(client);
    h2_conn_flush(c);
    *out = &s->super;
    return 0;
}

static void client_close(struct http_client *super, int err)
{
    struct http2_client *client = client_of(super);

    client->told_closed = true;
    h2_conn_close(&client->conn, NGHTTP2_NO_ERROR, err);
}

static const struct http_client_ops client_ops = {
    .capacity = client_capacity,
    .streams = client_streams,
    .pace = client_pace,
    .open = client_open,
    .close = client_close,
};

static nghttp2_session *session_new(struct h2_conn *c)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_session *session;
    int rc;

    rc = nghttp2_session_callbacks_new(&callbacks) | nghttp2_option_new(&option);
    assert(rc == 0);
    h2_recv_callbacks(callbacks);
    h2_send_callbacks(callbacks);
    nghttp2_option_set_no_auto_window_update(option, 1);
    rc = nghttp2_session_client_new3(&session, callbacks, c, option, h2_mem_open());
    assert(rc == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

/* What linkerd's proxy was seen to send (wire 5.3). */
static void client_settings(const struct http2_client *client)
{
    const struct http_limits *l = &client->super.limits;
    nghttp2_session *session = client->conn.session;
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, l->stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES},
    };
    int rc = nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, entries, ARRAY_LEN(entries));

    assert(rc == 0);
    rc = nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                               (int32_t)l->connection_window);
    assert(rc == 0);
}

struct http_client *http2_client_new(struct io *io, const struct http_limits *limits,
                                     const struct http_client_events *events, void *user)
{
    struct http2_client *client = mem_new(sizeof(*client));

    client->super =
        (struct http_client){.ops = &client_ops, .io = io, .events = events, .user = user};
    http_limits_fill(&client->super.limits, limits);
    client->had_capacity = true;
    h2_conn_init(&client->conn, &client_role, false, &client->super.io, &client->super.limits,
                 NULL);
    client->conn.session = session_new(&client->conn);
    if (client->super.limits.rtt_ns != 0) {
        h2_pace_init(&client->conn, &client->pace, client->super.limits.rtt_ns);
    }
    client_settings(client);
    return &client->super;
}
