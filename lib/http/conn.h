/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_CONN_H
#define HTTP_CONN_H

/*
 * HTTP connections of both versions, as servers (they hand up accepted streams) and as clients (they
 * open dialed streams). http1_server.c, http1_client.c, http2_server.c, http2_client.c.
 *
 * Ownership: a connection owns its io (handshake already complete). It frees itself after on_closed,
 * which comes once, when its last stream was closed and the io is gone, or at http_*_close().
 * Writing: what the streams of one turn produce is gathered and leaves in one io_send() from the
 * loop's late tasks.
 * Threads: those of the io's loop.
 */
#include "http/stream.h"

/* Four chunks as they are read. */
#define HTTP_OUTPUT_HIGH_BYTES ((size_t)4 * (CHUNK_BYTES - CHUNK_HEADROOM))

struct http_limits {            /* zero means the default in brackets */
    size_t head_bytes_max;      /* [HTTP_HEAD_BYTES_MAX] */
    size_t output_high_bytes;   /* unsent bytes a connection holds before streams lose room
                                   [HTTP_OUTPUT_HIGH_BYTES];
                                   h2: each stream as many too, less when there are more than 32, and
                                   four times as many are made for one write while chunks are plenty */
    uint64_t head_timeout_ns;   /* server: from first byte of a head to its end [0: none] */
    uint64_t idle_timeout_ns;   /* server: without a stream [0: none] */
    unsigned streams_max;       /* h2: concurrent peer streams [server 1000; client: the peer's word] */
    uint32_t stream_window;     /* h2 [65535] */
    uint32_t connection_window; /* h2 [1048576] */
    uint64_t ping_interval_ns;  /* h2 keepalive while streams are open [0: none] */
    uint64_t ping_timeout_ns;   /* h2 [3 s when an interval is set] */
    bool ping_while_idle;
    uint64_t rtt_ns; /* h2 client: to connect took so long; it sends no more requests ahead than the
                        peer reads in time (http2_pace.h) [0: as many as the peer allows] */
};

/* --- servers ----------------------------------------------------------------------------------- */

struct http_server;
struct http_server_events {
    /* A request has begun; set the stream's events now: its on_head follows from the same task. */
    void (*on_stream)(void *user, struct stream *s);
    void (*on_closed)(void *user, int err); /* 0: orderly. The server is gone. */
};
struct http_server *http1_server_new(struct io *io, struct chain *first, const struct http_limits *limits,
                                     const struct http_server_events *events, void *user);
struct http_server *http2_server_new(struct io *io, struct chain *first, const struct http_limits *limits,
                                     const struct http_server_events *events, void *user);
/* Finish what is in progress, accept nothing new (h1: `connection: close` on the next answer, at
 * once when idle; h2: GOAWAY twice, RFC 9113 6.8), then close. */
void http_server_drain(struct http_server *c);
/* The same without haste: an idle h1 connection waits for one more request, whose answer says
 * `connection: close`, so that no client loses a request that was on its way. h2: as drain. */
void http_server_leave(struct http_server *c);
/* Streams get on_reset; on_closed is called from a task. Answers that are complete go first, as far as the
 * socket takes them at once (h1: the last one). */
void http_server_close(struct http_server *c, int err);
/* h1 only: answer this stream with `connection: close` and end the connection after it. */
void http_server_close_after(struct http_server *c, struct stream *s);
struct io *http_server_io(struct http_server *c);
/* Bytes of chunks that hold what came and is not passed on, and what is to be sent. */
size_t http_server_held(const struct http_server *c);

/* --- clients ----------------------------------------------------------------------------------- */

struct http_client;
struct http_client_events { /* on_idle and on_capacity may be NULL */
    void (*on_idle)(void *user);            /* the last stream closed and the connection may be reused */
    void (*on_capacity)(void *user);        /* http_client_capacity() grew from 0 */
    void (*on_closed)(void *user, int err); /* no stream can be opened any more: GOAWAY, FIN, error. It goes
                                               away by itself once its streams are closed; `c` must not be
                                               used after this event */
};
struct http_client *http1_client_new(struct io *io, const struct http_limits *limits,
                                     const struct http_client_events *events, void *user);
struct http_client *http2_client_new(struct io *io, const struct http_limits *limits,
                                     const struct http_client_events *events, void *user);
unsigned http_client_capacity(const struct http_client *c); /* streams that may be opened now; h1: 0 or 1 */
unsigned http_client_streams(const struct http_client *c);  /* open now */
enum http_pace {
    HTTP_PACE_FREE,   /* capacity is what the peer allows, or what one connection may have at most */
    HTTP_PACE_BOUND,  /* there is none until it has read what was sent */
    HTTP_PACE_BEHIND, /* there is none, for it reads late */
};
enum http_pace http_client_pace(const struct http_client *c);
/*
 * Open a stream and send its request head. `ends`: no body. E_LIMIT without capacity; E_SYNTAX or
 * E_LIMIT for a head that cannot be sent. The stream's events follow from tasks.
 */
int http_client_open(struct http_client *c, const struct head *h, bool ends,
                     const struct stream_events *events, void *user, struct stream **out) MUST_USE;
/* Streams get on_reset, from a task; no on_closed. Once only. */
void http_client_close(struct http_client *c, int err);
struct io *http_client_io(struct http_client *c);

#endif
