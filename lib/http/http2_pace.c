/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>

#include "http/http2_conn.h"

#define STREAMS_MIN  100u             /* open, from which on PINGs are sent */
#define WINDOW_FIRST 128u
#define WINDOW_MIN   16u              /* a peer that reads nothing for a while is to be found out */
#define WINDOW_MAX   2048u
#define GAP_NS       (20 * NS_PER_MS) /* between PINGs that nobody waits for */
#define UNUSED_NS    NS_PER_S         /* what was learned so long ago says nothing about now */
#define LOST_NS      (10 * NS_PER_S)  /* a peer that is heard of, but answers no PING */

void h2_pace_init(struct h2_conn *c, struct h2_pace *p, uint64_t rtt_ns)
{
    p->window = WINDOW_FIRST;
    p->base_ns = rtt_ns;
    p->used_ns = c->loop->now_ns;
    c->pace = p;
}

static unsigned unread(const struct h2_conn *c)
{
    assert(c->pace->opened >= c->pace->left && c->pace->left >= c->pace->read);
    return (unsigned)MIN(c->wire_count, c->pace->opened - c->pace->read);
}

/* A PING that has waited for too long says so before its answer does. */
static bool is_late(const struct h2_conn *c)
{
    const struct h2_pace *p = c->pace;

    return p->ping_ns != 0 && c->loop->now_ns - p->ping_ns > p->base_ns + PACE_DELAY_NS;
}

/* Nothing can be learned of such a peer (it owes the answer, RFC 9113 6.7): it is not waited for. */
static bool is_lost(const struct h2_conn *c)
{
    return c->pace->ping_ns != 0 && c->heard_ns > c->pace->ping_ns + LOST_NS;
}

bool h2_pace_is_watched(const struct h2_conn *c)
{
    return c->pace != NULL && c->pace->ping_ns != 0;
}

unsigned h2_pace_room(const struct h2_conn *c)
{
    const struct h2_pace *p = c->pace;
    unsigned used, window;

    if (p == NULL || is_lost(c)) {
        return UINT_MAX;
    }
    used = unread(c);
    window = is_late(c) ? MIN(p->window, WINDOW_MIN) : p->window;
    return window > used ? window - used : 0;
}

enum http_pace h2_pace(const struct h2_conn *c)
{
    const struct h2_pace *p = c->pace;

    if (h2_pace_room(c) > 0) {
        return HTTP_PACE_FREE;
    }
    if (p->was_behind || p->is_slow || is_late(c)) {
        return HTTP_PACE_BEHIND;
    }
    return p->window < WINDOW_MAX ? HTTP_PACE_BOUND : HTTP_PACE_FREE;
}

/* Where the window is used up an answer is on its way: nobody waits for nothing. */
static void ping_if_due(struct h2_conn *c)
{
    struct h2_pace *p = c->pace;
    bool is_full = unread(c) >= p->window;

    p->was_full = p->was_full || is_full;
    if (p->ping_ns != 0 || c->session == NULL) {
        return;
    }
    if (is_full || (c->wire_count >= STREAMS_MIN && c->loop->now_ns >= p->next_ns)) {
        p->ping_ns = c->loop->now_ns;
        p->is_due = true;
        h2_conn_flush(c);
    }
}

void h2_pace_opened(struct h2_conn *c)
{
    struct h2_pace *p = c->pace;
    uint64_t now = c->loop->now_ns;

    if (p == NULL) {
        return;
    }
    p->opened++;
    if (unread(c) >= MIN(p->window / 2, STREAMS_MIN)) {
        p->used_ns = now;
    } else if (now - p->used_ns > UNUSED_NS) {
        p->window = WINDOW_FIRST;
        p->was_behind = p->is_slow = false;
    }
    ping_if_due(c);
}

void h2_pace_head_left(struct h2_conn *c)
{
    if (c->pace != NULL) {
        c->pace->left++;
    }
}

void h2_pace_never_left(struct h2_conn *c)
{
    if (c->pace != NULL) {
        c->pace->opened--;
    }
}

/* With a number, so that an answer that is given twice is not taken for that of the next one. */
static void mark_of(const struct h2_pace *p, uint8_t out[8])
{
    memcpy(out, "tulp", 4);
    memcpy(out + 4, &p->pings, 4);
}

/* Behind what was written: nghttp2 would let it overtake HEADERS that it has not given out yet. */
void h2_pace_written(struct h2_conn *c)
{
    struct h2_pace *p = c->pace;
    uint8_t mark[8];

    p->is_due = false;
    p->pings++;
    mark_of(p, mark);
    p->ping_left = p->left;
    p->backlog = unread(c);
    (void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, mark);
}

static unsigned window_after(const struct h2_pace *p, uint64_t delay_ns)
{
    if (delay_ns > PACE_DELAY_NS) {
        return MAX(WINDOW_MIN, (unsigned)(MIN(p->backlog, p->window) * PACE_DELAY_NS / delay_ns));
    }
    if (!p->was_full || delay_ns > PACE_DELAY_NS / 2) {
        return p->window;
    }
    return MIN(WINDOW_MAX, p->window + (p->was_behind ? p->window / 4 : p->window));
}

static void pace_answered(struct h2_conn *c)
{
    struct h2_pace *p = c->pace;
    uint64_t took_ns = MAX(c->loop->now_ns - p->ping_ns, 1), delay_ns;

    p->base_ns = MIN(p->base_ns, took_ns);
    delay_ns = took_ns - p->base_ns;
    p->read = p->ping_left;
    p->ping_ns = 0;
    p->next_ns = c->loop->now_ns + GAP_NS;
    p->window = window_after(p, delay_ns);
    p->is_slow = delay_ns > PACE_DELAY_NS / 2;
    p->was_behind = p->was_behind || delay_ns > PACE_DELAY_NS;
    if (p->was_full || delay_ns > PACE_DELAY_NS) {
        p->used_ns = c->loop->now_ns; /* the answer may have taken longer than what is learned lasts */
    }
    p->was_full = false;
    ping_if_due(c);
}

void h2_pace_answered(struct h2_conn *c, const uint8_t *opaque)
{
    uint8_t mark[8];

    if (c->pace == NULL || c->pace->ping_ns == 0 || c->pace->is_due) {
        return;
    }
    mark_of(c->pace, mark);
    if (memcmp(opaque, mark, sizeof(mark)) == 0) {
        pace_answered(c);
    }
}
