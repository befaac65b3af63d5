/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_HTTP1_SERVER_H
#define HTTP_HTTP1_SERVER_H

/*
 * What http1_server.c, which has the life of a connection, and http1_answer.c, which has the
 * operations of its stream, share.
 */
#include "http/conn_ops.h"
#include "http/http1_conn.h"

#define SERVER_STATES(X)                                                                           \
    X(HEAD, head, "waiting for a request's head, or the end of it")                                \
    X(EXCHANGE, exchange, "a stream is open: its request comes, its response goes")                \
    X(DISCARD, discard, "the stream was closed; the rest of its request is dropped")               \
    X(LINGER, linger, "writing the last bytes; then, unless no more can come, dropping input")      \
    X(CLOSED, closed, "the io is gone; waiting for the stream to be closed")

enum server_state {
#define SERVER_STATE(name, step, text) SERVER_##name,
    SERVER_STATES(SERVER_STATE)
#undef SERVER_STATE
};

struct http1_server {
    struct http_server base;
    struct http1_conn c;
    struct grave grave;
    struct timer timer;
    enum { TIMER_NONE, TIMER_HEAD, TIMER_IDLE, TIMER_STALL, TIMER_LINGER } timer_for;
    unsigned timer_epoch;     /* the stream behind which it was armed */
    uint64_t timer_bytes_out; /* written when it was armed */
    enum server_state state;
    size_t budget;        /* bytes to be read in this run of the task */
    size_t dropped_bytes; /* in DISCARD and LINGER */
    int close_err;        /* for on_closed */
    bool close_after;     /* this exchange is the connection's last */
    bool is_draining, is_leaving; /* leaving: when the next exchange is over, not before */
    bool is_shut, said_closed; /* we said that we finished; and to our user */
    bool aborts; /* LINGER ends in a reset: the peer must not take what it got for the whole */
    bool is_head, is_connect, is_10, waits_for_continue, sent_upgrade; /* of this request */
    bool is_last; /* the client said that this request is its last one */
    bool is_done; /* and it was read to its end: nothing more is to come */
};

extern const struct stream_ops http1_server_stream_ops;

/* The one place where the state changes. */
void http1_server_set_state(struct http1_server *sv, enum server_state state);
/* No further request: write what is left, then end the connection. */
void http1_server_linger(struct http1_server *sv);

#endif
