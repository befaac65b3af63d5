/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_HTTP2_BEGIN_H
#define HTTP_HTTP2_BEGIN_H

/*
 * Which of the streams that a server has accepted it shows to its user in this turn of the loop.
 *
 * A read may bring a thousand requests. To begin all of them before any could be answered would take
 * a connection to the application for each, would begin what its sender has given up meanwhile, and would
 * keep the answers that come from the application waiting. So a turn of the loop begins H2_BEGIN_MAX, in
 * equal shares of the connections on which some wait, and one for each of them at least; what is reset
 * while it waits is never begun. They begin in their order; but where the first has waited for long, all
 * would from then on, and the last that came go first, but for one of eight: who came last is sure to be
 * waiting still.
 *
 * What waits here was read, but nothing has come of it: a PING behind more than a turn's streams is answered
 * when as many have begun as were waiting, or after a second. So clients that measure how far their
 * peer has come (http2_pace.h) see what they look for.
 *
 * Threads: the connection's loop.
 */
#include "core/list.h"

#include <stdint.h>

struct h2_conn;

#define H2_BEGIN_MAX 32 /* streams of all connections of a loop */
#define H2_PONGS_MAX 2  /* answers held back; more PINGs are answered at once */

struct h2_begin {
    struct list waiting; /* h2_stream.ready */
    unsigned unshown;    /* accepted streams that their user does not know: these and unfinished heads */
    unsigned shown;      /* how many are not any more; wraps */
    unsigned count;      /* in the turn of `turn_ns` */
    uint64_t turn_ns;
    unsigned pongs_count;
    struct {
        uint8_t opaque[8];
        unsigned due; /* when so many are shown */
        uint64_t at_ns;
    } pongs[H2_PONGS_MAX];
};

void h2_begin_waiting(struct h2_conn *c); /* start of a turn: those that were left over */
bool h2_begin_now(struct h2_conn *c);     /* one more may be shown, and counts as such */
bool h2_begin_done(struct h2_conn *c);    /* end of a turn. True: some wait for the next one */
void h2_begin_shown(struct h2_conn *c);   /* a stream is not new any more */
/* A PING came. 0, or the code of nghttp2 why it cannot be answered. */
int h2_begin_ping(struct h2_conn *c, const uint8_t *opaque);

#endif
