/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side that answers.
 */
#include "core/alloc.h"
#include "core/err.h"
#include "http/http2_conn.h"

#define STREAMS_MAX 1000
#define RESET_BURST 5000 /* nghttp2's own guard; ours (http2_conn.c) says why so many */
#define RESET_RATE  500

struct http2_server {
    struct http_server super; /* first */
    struct h2_conn conn;
};

static struct http2_server *server_of_conn(struct h2_conn *c)
{
    return CONTAINER_OF(c, struct http2_server, conn);
}

static struct http2_server *server_of(struct http_server *c)
{
    return CONTAINER_OF(c, struct http2_server, super);
}

static void server_begin(struct h2_conn *c, struct h2_stream *s)
{
    struct http2_server *server = server_of_conn(c);

    server->super.events->on_stream(server->super.user, &s->super);
}

static void server_settle(struct h2_conn *c)
{
    if (c->got_settings && c->head_ns != 0 && c->stream_count == 0 && c->wire_count == 0) {
        c->head_ns = 0; /* the preface has come */
    }
}

static void server_bury(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct http2_server, conn.grave));
}

static void server_gone(struct h2_conn *c)
{
    struct http2_server *server = server_of_conn(c);

    loop_free_later(c->loop, &c->grave, server_bury);
    server->super.events->on_closed(server->super.user, c->err);
}

static const struct h2_role server_role = {
    .begin = server_begin,
    .settle = server_settle,
    .gone = server_gone,
};

static void server_drain(struct http_server *c)
{
    h2_conn_drain(&server_of(c)->conn);
}

static size_t server_held(const struct http_server *super)
{
    const struct h2_conn *c =
        &((const struct http2_server *)(const void *)super)->conn;
    size_t bytes = chain_memory(&c->first) + chain_memory(&c->out);

    LIST_FOREACH(node, &c->streams)
    {
        const struct h2_stream *s = LIST_ITEM(node, struct h2_stream, node);

        bytes += chain_memory(&s->in) + chain_memory(&s->out);
    }
    return bytes;
}

static void server_close(struct http_server *c, int err)
{
    h2_conn_close(&server_of(c)->conn, err == 0 ? NGHTTP2_NO_ERROR : NGHTTP2_INTERNAL_ERROR, err);
}

static const struct http_server_ops server_ops = {
    .drain = server_drain,
    .leave = server_drain,
    .held = server_held,
    .close = server_close,
    .close_after = NULL,
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
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_no_auto_ping_ack(option, 1);
    nghttp2_option_set_stream_reset_rate_limit(option, RESET_BURST, RESET_RATE);
    rc = nghttp2_session_server_new3(&session, callbacks, c, option, h2_mem_open());
    assert(rc == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

static void server_settings(const struct http2_server *server)
{
    const struct http_limits *l = &server->super.limits;
    nghttp2_session *session = server->conn.session;
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, l->streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, l->stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)MIN(l->head_bytes_max, UINT32_MAX)},
    };
    int rc = nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, entries, ARRAY_LEN(entries));

    assert(rc == 0);
    rc = nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                               (int32_t)l->connection_window);
    assert(rc == 0);
}

struct http_server *http2_server_new(struct io *io, struct chain *first,
                                     const struct http_limits *limits,
                                     const struct http_server_events *events, void *user)
{
    struct http2_server *server = mem_new(sizeof(*server));

    server->super =
        (struct http_server){.ops = &server_ops, .io = io, .events = events, .user = user};
    http_limits_fill(&server->super.limits, limits);
    if (server->super.limits.streams_max == 0) {
        server->super.limits.streams_max = STREAMS_MAX;
    }
    h2_conn_init(&server->conn, &server_role, true, &server->super.io, &server->super.limits,
                 first);
    server->conn.session = session_new(&server->conn);
    server_settings(server);
    return &server->super;
}
