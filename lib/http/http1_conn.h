/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_HTTP1_CONN_H
#define HTTP_HTTP1_CONN_H

/*
 * What an HTTP/1 connection does alike as server and as client: read into a chain, cut heads and
 * bodies out of it, frame what is sent, write at the end of the turn. For http1_server.c and
 * http1_client.c.
 *
 * HTTP/1 carries one stream at a time: it is embedded and used again and again.
 * Nothing here closes the connection or ends the stream; errors are returned, and the owner
 * decides.
 */
#include "http/conn.h"
#include "http/http1_private.h"

#define HTTP1_TURN_BYTES  65536 /* read in one run of the task, then others have their turn */
#define HTTP1_ARENA_BYTES (512u << 10)
#define HTTP1_PEEK_BYTES  4096 /* read ahead without need, to notice the peer's end */

struct http1_conn {
    struct loop *loop;
    struct io *io; /* NULL once closed or taken */
    struct chain in, out;
    struct task run;    /* the io's owner: reads, decodes, delivers events */
    struct task late;   /* writes what the turn produced */
    struct timer retry; /* after a read that found no chunk */
    size_t head_bytes_max, output_high_bytes;

    struct stream s;
    bool has_stream; /* between its start and stream_close() */
    bool is_running; /* inside `run`, which looks again before it returns */
    unsigned epoch;  /* counts streams: has an event ended the one it was delivered to? */
    bool reset_due;  /* on_reset has yet to be delivered */
    bool is_dead;    /* it was; what the user still sends is dropped */
    enum reset reset_why;
    int reset_err;

    bool eof;             /* the peer finished sending */
    struct http1_end end; /* of the head or trailer section at the start of `in`: the search */
    struct head head;     /* received */
    struct fields trailers;
    enum http1_framing rx; /* of the body being received */
    uint64_t rx_left;      /* HTTP1_LENGTH: bytes to come */
    struct http1_chunks chunks;
    bool in_trailers;

    enum http1_framing tx; /* of the body being sent; HTTP1_NO_BODY drops what is given */
    uint64_t tx_left;      /* HTTP1_LENGTH: bytes to be given */
    int tx_err;            /* nothing can be sent any more, and why */
};

void http1_conn_init(struct http1_conn *c, struct io *io, struct chain *first,
                     const struct http_limits *limits, void (*run)(struct task *task),
                     void (*late)(struct task *task));
void http1_conn_clear(struct http1_conn *c); /* not the io */
void http1_conn_wake(struct http1_conn *c);
size_t http1_conn_held(const struct http1_conn *c); /* bytes of its chunks */

/* Read up to *io_budget bytes and lower it. 0; E_AGAIN, with a wake-up to come; E_EOF (c->eof);
 * final errors. */
int http1_recv(struct http1_conn *c, size_t *io_budget) MUST_USE;

/*
 * Cut the head at the start of c->in, copy it into the stream's arena and parse it into c->head. A
 * request when `request_method` is NULL. E_AGAIN: incomplete.
 */
int http1_take_head(struct http1_conn *c, const struct bytes *request_method) MUST_USE;

/* Begin a stream: everything but arena, user and the received head is new. */
void http1_stream_begin(struct http1_conn *c, const struct stream_ops *ops);
void http1_stream_end(struct http1_conn *c); /* clears the arena, nothing is delivered any more */
/* The stream ends and the connection leaves the codec: stream_take(). */
void http1_give(struct http1_conn *c, struct io **out_io, struct chain *out_unsent,
                struct chain *out_unread);
void http1_body_begin(struct http1_conn *c); /* the body behind c->head */

/*
 * Move body bytes, at most s.credit, from c->in to `to`.
 * 0: the body is complete, c->trailers is set; E_AGAIN: more input is needed; E_OVERLOAD: more
 * credit is needed; E_H1_BAD_CHUNK, E_H1_TRUNCATED, ...: as they say, and `to` may have bytes that
 * came before.
 */
int http1_take_body(struct http1_conn *c, struct chain *to) MUST_USE;
/*
 * The same, and deliver it: on_data, on_end. The events may end the stream and close the
 * connection. 0: nothing is to be done for now; E_AGAIN: more input is needed; other errors as
 * above.
 */
int http1_deliver_body(struct http1_conn *c) MUST_USE;

/*
 * Nothing is read while there is no credit. Is it known all the same that the body cannot become
 * whole, because the peer finished and what there is of it is too little?
 */
bool http1_is_cut(const struct http1_conn *c);

/* Deliver a due on_reset. */
void http1_reset_stream(struct http1_conn *c, enum reset why, int err);
void http1_deliver_reset(struct http1_conn *c);

/* The stream's operations that are the same on both sides. */
void http1_send_data(struct stream *s, struct chain *bytes);
void http1_send_end(struct stream *s, const struct fields *trailers);
void http1_credit(struct stream *s, size_t bytes);
void http1_body_send_begin(struct http1_conn *c, enum http1_framing framing, int64_t length);

/* Write, then give the stream the room that came free. 0: all is written; E_AGAIN; final errors,
 * once. */
int http1_flush(struct http1_conn *c) MUST_USE;

#endif
