/* SPDX-License-Identifier: Apache-2.0 */
#include "core/clock.h"
#include "http/http2_conn.h"

#define LATE_NS   (400 * NS_PER_MS) /* a wait, after which it is better to begin others */
#define OLDEST_OF 8                 /* then one of so many is still the first that came */
#define PONG_NS   NS_PER_S

/* Of a thread, for it has one loop; tests may have several in turn. */
static _Thread_local struct {
    const struct loop *loop;
    uint64_t turn_ns;
    unsigned left;  /* that the connections of the loop may begin in this turn, beyond the first of each */
    unsigned share; /* of one of them */
    unsigned conns; /* on which some wait for the next turn */
} turn;

static void turn_begin(struct h2_conn *c)
{
    if (turn.loop != c->loop) {
        turn.conns = 0;
    }
    if (turn.loop != c->loop || turn.turn_ns != c->loop->now_ns) {
        turn.loop = c->loop;
        turn.turn_ns = c->loop->now_ns;
        turn.left = H2_BEGIN_MAX;
        turn.share = MAX(1, H2_BEGIN_MAX / MAX(1, turn.conns));
        turn.conns = 0;
    }
    if (c->begin.turn_ns != c->loop->now_ns) {
        c->begin.turn_ns = c->loop->now_ns;
        c->begin.count = 0;
    }
}

bool h2_begin_now(struct h2_conn *c)
{
    struct h2_begin *b = &c->begin;

    turn_begin(c);
    if (b->count >= turn.share || (b->count > 0 && turn.left == 0)) {
        return false;
    }
    turn.left -= turn.left > 0;
    b->count++;
    return true;
}

void h2_begin_waiting(struct h2_conn *c)
{
    struct list *waiting = &c->begin.waiting;

    while (!list_is_empty(waiting) && h2_begin_now(c)) {
        struct h2_stream *s = LIST_ITEM(waiting->next, struct h2_stream, ready);

        if (c->begin.shown % OLDEST_OF != 0 && c->loop->now_ns - s->came_ns > LATE_NS) {
            s = LIST_ITEM(waiting->prev, struct h2_stream, ready);
        }
        list_unlink(&s->ready);
        h2_stream_run(s);
    }
}

void h2_begin_shown(struct h2_conn *c)
{
    assert(c->begin.unshown > 0);
    c->begin.unshown--;
    c->begin.shown++;
}

/* --- PINGs --------------------------------------------------------------------------------------- */

static int answer(struct h2_conn *c, const uint8_t *opaque)
{
    int rc = nghttp2_submit_ping(c->session, NGHTTP2_FLAG_ACK, opaque);

    h2_conn_flush(c);
    return rc;
}

int h2_begin_ping(struct h2_conn *c, const uint8_t *opaque)
{
    struct h2_begin *b = &c->begin;

    if (b->unshown <= H2_BEGIN_MAX || b->pongs_count == H2_PONGS_MAX) {
        return answer(c, opaque);
    }
    memcpy(b->pongs[b->pongs_count].opaque, opaque, sizeof(b->pongs[0].opaque));
    b->pongs[b->pongs_count].due = b->shown + b->unshown;
    b->pongs[b->pongs_count].at_ns = c->loop->now_ns;
    b->pongs_count++;
    return 0;
}

static void answer_pings(struct h2_conn *c)
{
    struct h2_begin *b = &c->begin;

    while (b->pongs_count > 0 && ((int)(b->shown - b->pongs[0].due) >= 0 ||
                                  c->loop->now_ns - b->pongs[0].at_ns >= PONG_NS)) {
        (void)answer(c, b->pongs[0].opaque);
        b->pongs_count--;
        memmove(&b->pongs[0], &b->pongs[1], b->pongs_count * sizeof(b->pongs[0]));
    }
}

bool h2_begin_done(struct h2_conn *c)
{
    if (c->session != NULL) {
        answer_pings(c);
    }
    if (list_is_empty(&c->begin.waiting)) {
        return false;
    }
    turn.conns += c->retry_at_ns != c->loop->now_ns + 1; /* once in a turn */
    return true;
}
