/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_HTTP2_PACE_H
#define HTTP_HTTP2_PACE_H

/*
 * How many requests a client may have on their way to a peer that has not read them yet.
 *
 * A proxy that has less CPU than it is asked for reads late. What was sent to it waits in sockets, where
 * nobody can give up on it, be it a thousand streams or more: long enough for every answer to come too
 * late. How long that wait is tells a PING (RFC 9113 6.7): a connection is read in order, so its answer
 * says that all that was sent before it has been read, whatever the application behind takes for its
 * answers. So where many streams are open one PING at a time is on its way, and a window says how many
 * streams may be sent that are not known as read. It begins small and doubles while the answers come at
 * once, as TCP begins (RFC 5681 3.1); where one took longer than PACE_DELAY_NS, the network's share
 * excluded, it is what the peer was seen to read in that time (Little's law), and grows by quarters from then
 * on. The rest of the requests waits at the client, which can answer them.
 *
 * An answer says no more than that the peer has read; one that lies has itself to blame for what then waits
 * there. PINGs do not look like a flood (CVE-2019-9512): there is one in 20 ms, and one each time that the
 * window is used up; then it grows, two dozen times from its least to its most, or the answer took a tenth of
 * a second. A peer that answers none, though other frames of it come for 10 s, is not held to anything.
 *
 * Threads: the connection's loop. Nothing is allocated.
 */
#include "core/clock.h"
#include "http/conn.h"

struct h2_conn;

#define PACE_DELAY_NS (200 * NS_PER_MS) /* between a request and its being read */

struct h2_pace { /* of a client; zeroed at first */
    uint64_t opened; /* streams, ever, but for those that were reset before their HEADERS left */
    uint64_t left;   /* of them, those whose HEADERS nghttp2 has given out */
    uint64_t read;   /* of them, those that the peer has read for sure */
    uint64_t ping_ns;            /* when the PING on its way was wanted; 0: none */
    uint64_t ping_left;          /* `left` when it left */
    uint64_t next_ns;            /* no other one before, unless the window is used up */
    uint64_t base_ns;            /* the quickest answer ever: the network */
    uint64_t used_ns;            /* when half of the window was last used, or an answer was late */
    uint32_t pings;              /* that were sent; wraps */
    unsigned backlog;            /* streams not known as read when the PING left */
    unsigned window;             /* streams that may be sent and unread */
    bool was_full;               /* the window, since the last answer */
    bool is_due;                 /* the PING is to be written */
    bool is_slow;                /* the last answer was not quick enough for the window to grow */
    bool was_behind;             /* an answer was late: the window does not double any more */
};

/* `rtt_ns`: to connect took so long. */
void h2_pace_init(struct h2_conn *c, struct h2_pace *p, uint64_t rtt_ns);
bool h2_pace_is_watched(const struct h2_conn *c); /* a PING is on its way */
enum http_pace h2_pace(const struct h2_conn *c);
/* Streams that may be opened now as far as this goes; UINT_MAX for a client without. */
unsigned h2_pace_room(const struct h2_conn *c);
void h2_pace_opened(struct h2_conn *c);    /* a stream was */
void h2_pace_head_left(struct h2_conn *c); /* its HEADERS */
void h2_pace_never_left(struct h2_conn *c); /* it was reset before */
void h2_pace_written(struct h2_conn *c);   /* all that there was; while `is_due` */
void h2_pace_answered(struct h2_conn *c, const uint8_t *opaque);

#endif
