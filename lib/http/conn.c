/* SPDX-License-Identifier: Apache-2.0 */
#include "http/conn.h"

#include "core/clock.h"
#include "http/conn_ops.h"

#define STREAM_WINDOW     65535
#define CONNECTION_WINDOW 1048576
#define PING_TIMEOUT_NS   (3 * NS_PER_S)

void http_limits_fill(struct http_limits *to, const struct http_limits *from)
{
    *to = from != NULL ? *from : (struct http_limits){0};
    if (to->head_bytes_max == 0) {
        to->head_bytes_max = HTTP_HEAD_BYTES_MAX;
    }
    if (to->output_high_bytes == 0) {
        to->output_high_bytes = HTTP_OUTPUT_HIGH_BYTES;
    }
    if (to->stream_window == 0) {
        to->stream_window = STREAM_WINDOW;
    }
    if (to->connection_window == 0) {
        to->connection_window = CONNECTION_WINDOW;
    }
    if (to->ping_timeout_ns == 0 && to->ping_interval_ns != 0) {
        to->ping_timeout_ns = PING_TIMEOUT_NS;
    }
}

void http_server_drain(struct http_server *c)
{
    c->ops->drain(c);
}

size_t http_server_held(const struct http_server *c)
{
    return c->ops->held(c);
}

void http_server_leave(struct http_server *c)
{
    c->ops->leave(c);
}

void http_server_close(struct http_server *c, int err)
{
    c->ops->close(c, err);
}

void http_server_close_after(struct http_server *c, struct stream *s)
{
    if (c->ops->close_after != NULL) {
        c->ops->close_after(c, s);
    }
}

struct io *http_server_io(struct http_server *c)
{
    return c->io;
}

unsigned http_client_capacity(const struct http_client *c)
{
    return c->ops->capacity(c);
}

enum http_pace http_client_pace(const struct http_client *c)
{
    return c->ops->pace != NULL ? c->ops->pace(c) : HTTP_PACE_FREE;
}

unsigned http_client_streams(const struct http_client *c)
{
    return c->ops->streams(c);
}

int http_client_open(struct http_client *c, const struct head *h, bool ends,
                     const struct stream_events *events, void *user, struct stream **out)
{
    return c->ops->open(c, h, ends, events, user, out);
}

void http_client_close(struct http_client *c, int err)
{
    c->ops->close(c, err);
}

struct io *http_client_io(struct http_client *c)
{
    return c->io;
}
