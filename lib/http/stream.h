/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_STREAM_H
#define HTTP_STREAM_H

/*
 * One exchange (a request and its response) seen from one end, whoever carries it: HTTP/1 or
 * HTTP/2, accepted (we answer) or dialed (we ask).
 *
 * Calls go down and never call back; events come up from the codec's task. Inside an event the user
 * may call anything, on this stream or any other, also stream_close().
 *
 * Order: an accepted stream delivers on_head (the request) first; the user sends the response
 * head. A dialed stream is opened with its request head; on_head delivers the response; interim
 * responses (1xx except 101) come first, each as an on_head with status < 200.
 * The end of a direction is head.ends, or on_end (with trailers or NULL), exactly one of them. After
 * both directions ended nothing more comes; the user still calls stream_close().
 * on_reset is the last event; the other direction is dead too.
 *
 * Back-pressure: the codec delivers at most the body bytes that were credited; the user sends at
 * most `room`. Both are asserted. A new stream has no credit and the codec's initial room.
 * Joining two streams: on_room(n) of one calls stream_credit(other, n).
 *
 * Ownership: the codec owns the stream's memory; the user owns the *use* of it, from the event or
 * call that gave it to stream_close(), which also resets what has not ended (no event follows).
 * `arena` holds the received heads, and lives until stream_close(); the user may allocate from it.
 * Limits: HTTP_FIELDS_MAX and HTTP_HEAD_BYTES_MAX a head; `room` never exceeds the codec's high mark.
 * Threads: those of its loop.
 */
#include "core/chain.h"
#include "http/message.h"
#include "net/io.h"

struct stream;

enum reset { /* why a stream ended early; h2 codes are passed through from peer to peer */
    RESET_NONE,
    RESET_CANCEL,        /* CANCEL: the user is no longer interested */
    RESET_REFUSED,       /* REFUSED_STREAM: not processed, safe to retry */
    RESET_PROTOCOL,      /* malformed by the peer */
    RESET_INTERNAL,
    RESET_CONNECTION,    /* the connection broke: `err` says how */
    RESET_TIMEOUT,
    RESET_CALM,          /* ENHANCE_YOUR_CALM */
    RESET_GOAWAY,        /* the peer is going away and did not process it */
    RESET_TRUNCATED,     /* the body ended before its announced length */
};

struct stream_events {
    void (*on_head)(void *user, struct head *head);              /* head lives in s->arena */
    void (*on_data)(void *user, struct chain *bytes);            /* take them all: move out of the chain */
    void (*on_room)(void *user, size_t bytes);                   /* s->room grew by `bytes` */
    void (*on_end)(void *user, struct fields *trailers);         /* NULL when there are none */
    void (*on_reset)(void *user, enum reset why, int err);
};

struct stream_ops {
    int (*send_head)(struct stream *s, const struct head *h, bool ends);
    void (*send_data)(struct stream *s, struct chain *bytes);
    void (*send_end)(struct stream *s, const struct fields *trailers);
    void (*credit)(struct stream *s, size_t bytes);
    void (*close)(struct stream *s, enum reset why);
    int (*take)(struct stream *s, struct io **out_io, struct chain *out_unsent, struct chain *out_unread);
};

struct stream {
    const struct stream_ops *ops;
    const struct stream_events *events;
    void *user;
    struct loop *loop;
    struct arena arena;
    size_t room;   /* body bytes the user may send now */
    size_t credit; /* body bytes the codec may still deliver */
    enum http_version version;
    bool sent_head, sent_end; /* kept by the codec */
    bool got_head, got_end;
};

static inline void stream_set_user(struct stream *s, const struct stream_events *events, void *user)
{
    s->events = events;
    s->user = user;
}
/* Encodes at once; borrows the head only for the call. The codec adds framing (content-length when the
 * head has it, else chunked or DATA frames), and drops hop-by-hop fields that are its own business.
 * `ends`: no body follows. E_SYNTAX or E_LIMIT: nothing was sent, the stream is as before. */
static inline int stream_send_head(struct stream *s, const struct head *h, bool ends)
{
    return s->ops->send_head(s, h, ends);
}
static inline void stream_send_data(struct stream *s, struct chain *bytes) /* all of it; size <= room */
{
    s->ops->send_data(s, bytes);
}
static inline void stream_send_end(struct stream *s, const struct fields *trailers) /* NULL: none */
{
    s->ops->send_end(s, trailers);
}
static inline void stream_credit(struct stream *s, size_t bytes)
{
    s->ops->credit(s, bytes);
}
/* The user is through with the stream. What has not ended is reset with `why` (RESET_NONE when both
 * directions ended: asserted to be so only for accepted streams whose response is complete). */
static inline void stream_close(struct stream *s, enum reset why)
{
    s->ops->close(s, why);
}
/*
 * After an upgrade (101, or 2xx to CONNECT) was delivered or sent: take the connection out of the
 * HTTP/1 codec. `unsent`: bytes that must still go to this peer first; `unread`: bytes that came from it
 * after its head. The stream is closed by this. E_UNSUPPORTED on HTTP/2.
 */
static inline int stream_take(struct stream *s, struct io **out_io, struct chain *out_unsent,
                              struct chain *out_unread)
{
    return s->ops->take(s, out_io, out_unsent, out_unread);
}

#endif
