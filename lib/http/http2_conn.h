/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_HTTP2_CONN_H
#define HTTP_HTTP2_CONN_H

/*
 * HTTP/2 connections (RFC 9113) on nghttp2, for the files of this folder alone:
 *
 *   http2_conn.c    one connection's life: reading, the turn, timers, its end
 *   http2_recv.c    what nghttp2 tells us; records only
 *   http2_send.c    what nghttp2 asks of us: DATA without a copy, frames gathered into one chain
 *   http2_stream.c  streams: the calls of stream.h, and the delivery of what was recorded
 *   http2_head.c    heads to and from field blocks, reset codes
 *   http2_past.c    streams on which the peer may send nothing any more
 *   http2_begin.c   which accepted streams a turn shows to their user
 *   http2_pace.c    how many requests are sent ahead of what the peer reads
 *   http2_mem.c     nghttp2's allocator
 *   http2_server.c, http2_client.c   the two roles
 *
 * A turn: the task reads and feeds nghttp2, whose callbacks record into streams and put them on the
 * ready list; then it delivers to their users; the late task asks nghttp2 for frames and sends them at once.
 *
 * Flow control: nghttp2 opens no window by itself. The connection's window is given back on receipt, a
 * stream's when its bytes were handed to the user under credit. So one slow stream holds up nobody,
 * and a connection holds at most streams x stream window of received bytes; for a few streams whose bodies
 * flow it is a wider window (http2_stream.c).
 *
 * Ownership: a stream lives while its user or nghttp2 knows it; then it goes to the connection's free
 * list at the end of the turn. Within nghttp2 it is only reached by stream id and user data,
 * which is cleared when we let go first.
 */
#include <nghttp2/nghttp2.h>

#include "http/conn_ops.h"
#include "http/http2_begin.h"
#include "http/http2_pace.h"

#define H2_CONN_MAGIC   0x4832434eu
#define H2_STREAM_MAGIC 0x48325354u

#define H2_PAST_ENDED  8
#define H2_PAST_GAPS   4
#define H2_SLICES_MAX  32 /* runs of DATA found in one chunk before they are copied out of it */
#define H2_INTERIM_MAX 16 /* interim responses of one exchange */

struct h2_conn;

struct h2_received_head {
    struct h2_received_head *next;
    struct head head;
};

struct h2_stream {
    struct stream super; /* first: what the user holds */
    unsigned magic;
    struct h2_conn *conn;
    struct list node;  /* in conn->streams, ->gone or ->spare */
    struct list ready; /* in conn->ready while something is to be done, or conn->begin.waiting */
    int32_t id;
    uint64_t came_ns; /* of an accepted one: its HEADERS */

    bool held;    /* by its user */
    bool on_wire; /* nghttp2 knows it */
    bool is_new;  /* accepted, and its user not told yet */
    bool running; /* in its turn: not to be recycled */

    /* received */
    struct h2_received_head *heads, **heads_end; /* not delivered yet */
    struct head *open_head;                      /* being received */
    struct fields *open_fields;                  /* of it, or the trailers */
    size_t open_bytes;
    struct fields trailers;
    struct chain in; /* body that waits for credit */
    int64_t content_length;
    uint64_t frame_bytes; /* of DATA, padding included */
    bool is_wide;         /* its window has grown */
    unsigned interim_count;
    bool got_final; /* the head that is no interim one */
    bool wire_end;  /* the peer's END_STREAM was received */
    bool too_large; /* the head exceeds a limit; the rest of it is ignored */

    /* to send */
    struct chain out;
    struct fields *out_trailers; /* copied into the arena */
    bool head_sent;              /* our request's HEADERS frame has left nghttp2 */
    bool deferred;               /* nghttp2 will not ask for data until resumed */
    bool sink;                   /* the peer wants no more; take and forget */
    bool quit_after_end;         /* closed by its user: tell the peer so once our end has left */
    bool check_room;

    enum reset why; /* recorded for the user; RESET_NONE: none */
    int why_err;
    uint32_t cut_code; /* RST_STREAM to be sent, with has_cut */
    bool has_cut;
};

struct h2_role {
    void (*begin)(struct h2_conn *c, struct h2_stream *s); /* an accepted stream: tell the user */
    void (*settle)(struct h2_conn *c); /* end of a turn: events of the connection */
    void (*gone)(struct h2_conn *c);   /* no io, no stream; frees the role's struct */
};

/* What a peer may do only so often: a bucket of tokens. */
struct h2_bucket {
    unsigned tokens, burst, per_s;
    uint64_t filled_ns;
};

/* Streams of the peer that are over by its own doing, and where its next frame begins. */
struct h2_past {
    int32_t last;                 /* the highest that it opened; before the first one -1 */
    int32_t ended[H2_PAST_ENDED]; /* the last ones that it ended or reset; a ring, as the next */
    struct {
        int32_t after, before; /* what it passed over, bounds excluded */
    } gaps[H2_PAST_GAPS];
    unsigned ended_at, gap_at;
    unsigned skip; /* bytes before the next frame's head */
    unsigned head_len;
    unsigned char head[9]; /* cut in two by a read: its beginning */
};

struct h2_slice {
    struct h2_stream *stream;
    const char *at;
    size_t len;
};

struct h2_conn {
    unsigned magic;
    bool is_server;
    const struct h2_role *role;
    struct loop *loop;
    struct io **io; /* the role's; NULL in it once closed */
    const struct http_limits *limits;
    nghttp2_session *session; /* NULL once it is over */
    struct task task, late;
    struct timer timer;
    struct grave grave;

    struct list streams, ready, gone, spare;
    unsigned stream_count, held_count, wire_count, spare_count, wide_count;

    struct chain first; /* bytes that came before we did */
    struct chain out;
    struct bytes frame; /* of nghttp2, not yet in `out`: no chunk could be had */
    bool is_blocked;    /* the io took less than it was given last time */
    bool paused;        /* nghttp2 stopped at our wish, not for want of frames */
    struct h2_slice slices[H2_SLICES_MAX];
    unsigned slice_count;
    size_t consumed;  /* of the connection's window, to be given back */
    bool check_rooms; /* the connection's window or the initial window changed */

    struct h2_bucket control, resets;
    struct h2_past past; /* server */
    struct h2_begin begin; /* server */
    struct h2_pace *pace;  /* client: of the role's; NULL: it sends as many as the peer allows */
    int32_t peer_reset;  /* the stream that the peer reset last; 0: none */
    uint32_t fault;      /* the peer's, for which the connection ends: code of the GOAWAY; 0: none */
    bool got_settings;
    bool got_goaway;
    int32_t goaway_last;  /* the highest stream the peer will process */
    uint32_t goaway_sent; /* error code of ours */
    bool draining, drain_final;
    bool lingering; /* everything is said; reading on, so that it is not lost to a reset */
    bool is_shut;   /* and all of it is with the kernel, and the end */
    size_t untaken; /* by the client, when that was looked at last */
    bool finished;  /* `role->gone` was called */
    int err;        /* why it is over */

    uint64_t heard_ns; /* when bytes last came */
    uint64_t ping_ns;  /* when our unanswered PING left; 0: none */
    uint64_t idle_ns;  /* since when there is no stream */
    uint64_t head_ns;  /* when the unfinished head began; 0: none */
    uint64_t drain_at_ns, linger_at_ns, taking_until_ns, retry_at_ns;
};

/* --- http2_conn.c -------------------------------------------------------------------------------- */

void h2_conn_init(struct h2_conn *c, const struct h2_role *role, bool is_server, struct io **io,
                  const struct http_limits *limits, struct chain *first);
/* It is over: what is on the wire is reset with RESET_CONNECTION and `err`, from the task. */
void h2_conn_fail(struct h2_conn *c, int err);
/* Say goodbye (GOAWAY with the code), as far as the socket takes it at once, and fail. */
void h2_conn_close(struct h2_conn *c, uint32_t code, int err);
void h2_conn_drain(struct h2_conn *c);
void h2_conn_wake(struct h2_conn *c);  /* run the task */
void h2_conn_flush(struct h2_conn *c); /* run the late task */
void h2_conn_arm(struct h2_conn *c);   /* a deadline has come nearer */
bool h2_bucket_take(struct h2_bucket *b, uint64_t now_ns);

/* --- http2_recv.c -------------------------------------------------------------------------------- */

void h2_recv_callbacks(nghttp2_session_callbacks *callbacks);
/* Feed one chunk, which is taken. 0; E_AGAIN: read no more, our GOAWAY is on its way; or why it is over. */
int h2_recv_chunk(struct h2_conn *c, struct chunk *chunk);

/* --- http2_send.c -------------------------------------------------------------------------------- */

void h2_send_callbacks(nghttp2_session_callbacks *callbacks);
ssize_t h2_send_read(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length,
                     uint32_t *flags, nghttp2_data_source *source, void *user);
/* Frames into c->out, until it has so many bytes. 0, E_LIMIT: no chunk could be had; or why it is over. */
int h2_send_fill(struct h2_conn *c, size_t high_bytes);
bool h2_send_pending(const struct h2_conn *c);

/* --- http2_stream.c ------------------------------------------------------------------------------ */

extern const struct stream_ops h2_stream_ops;
struct h2_stream *h2_stream_new(struct h2_conn *c);
struct h2_stream *h2_stream_find(struct h2_conn *c, int32_t id); /* NULL when we let go of it */
void h2_stream_on_wire(struct h2_stream *s, int32_t id);
void h2_stream_off_wire(struct h2_stream *s);
void h2_stream_ready(struct h2_stream *s);
/* Its user has let go, and so did the wire in this moment, both directions having ended: as good as a
 * turn, without one. False: something is left to be told. */
bool h2_stream_let_go(struct h2_stream *s);
void h2_stream_reset_later(struct h2_stream *s, enum reset why, int err); /* first one wins */
void h2_stream_refuse(struct h2_stream *s, uint32_t code, enum reset why, int err);
/* A server's connection ends: those that no user was told of are reset, at once, and may be made again (RFC
 * 9113 8.7). */
void h2_stream_refuse_new(struct h2_conn *c);
bool h2_stream_is_due(const struct h2_stream *s); /* a new one: it would be shown to its user */
void h2_stream_run(struct h2_stream *s);
void h2_stream_init_room(struct h2_stream *s);
void h2_stream_recycle(struct h2_conn *c); /* end of a turn */
void h2_stream_free_all(struct h2_conn *c);

/* --- http2_head.c -------------------------------------------------------------------------------- */

struct h2_nva {
    nghttp2_nv at[HTTP_FIELDS_MAX + 6];
    size_t count;
    char length[24], status[4];
};
int h2_head_encode(struct h2_nva *to, const struct head *h) MUST_USE; /* borrows from the head */
int h2_trailers_encode(struct h2_nva *to, const struct fields *f) MUST_USE;
/* One received field. `name` and `value` outlive the head. 0, or E_LIMIT. */
int h2_head_field(struct head *h, struct bytes name, struct bytes value, bool never_index) MUST_USE;
/* All fields were received. 0, or E_H2_PROTOCOL: what nghttp2 lets pass and we do not. */
int h2_head_finish(struct head *h, bool ends) MUST_USE;
enum reset h2_reset_of_code(uint32_t code);
uint32_t h2_code_of_reset(enum reset why);

/* --- http2_past.c -------------------------------------------------------------------------------- */

void h2_past_init(struct h2_past *p);
/* Look at bytes of a client, before nghttp2 does. The connection error that they are, or NO_ERROR. */
uint32_t h2_past_feed(struct h2_past *p, const unsigned char *at, size_t len);

/* --- http2_mem.c --------------------------------------------------------------------------------- */

/* The allocator of this thread's sessions; pairs of calls round a session's life. */
nghttp2_mem *h2_mem_open(void);
void h2_mem_close(void);

#endif
