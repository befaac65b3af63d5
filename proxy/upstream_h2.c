/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/2 links of an upstream: which one takes a stream, who waits for one, and for how long.
 */
#include "core/clock.h"
#include "proxy/link.h"

#define H2_LINKS_MAX 16                /* to one endpoint, when its streams are used up */
#define H2_MORE_NS   (20 * NS_PER_MS)  /* a wait for a stream that asks for another link */
#define H2_AGAIN_NS  (10 * NS_PER_S)   /* to the next successor of an old link, should one fail */
#define STANDING_NS  (500 * NS_PER_MS) /* since nobody waited: more is asked for than can be done */
#define WAIT_NS      (200 * NS_PER_MS) /* what one may wait from then on */
#define SPREAD_NS    NS_PER_S          /* from then on, between links to a peer that reads late */
#define SPREAD_LINKS 4                 /* to one, for that */

static bool is_dialing_h2(const struct upstream *u)
{
    LIST_FOREACH(node, &u->h2)
    {
        if (LIST_ITEM(node, struct link, node)->state < LINK_OPEN) {
            return true;
        }
    }
    return false;
}

/* --- choosing --------------------------------------------------------------------------------- */

/* An old link serves while nothing better stands, and its successor is dialed meanwhile; not too
 * often, should that fail. */
static struct link *use_old_link(struct upstream *u, struct link *l)
{
    if (!is_dialing_h2(u) && u->h2_count < H2_LINKS_MAX) {
        l->has_successor = true;
        l->old_at_ns = u->w->loop->now_ns + H2_AGAIN_NS;
        (void)link_dial(u, LINK_H2, NULL);
    }
    l->is_used = true;
    return l;
}

struct link *upstream_h2_link(struct upstream *u)
{
    struct link *old = NULL;

    LIST_FOREACH(node, &u->h2)
    {
        struct link *l = LIST_ITEM(node, struct link, node);

        if (l->state != LINK_OPEN || http_client_capacity(l->client) == 0) {
            continue;
        }
        if (!link_is_old(l)) {
            l->is_used = true;
            return l;
        }
        old = l;
    }
    return old != NULL ? use_old_link(u, old) : NULL;
}

/* A successor stands: those that waited for it take no new stream. */
void upstream_h2_retire(struct upstream *u)
{
    LIST_FOREACH(node, &u->h2)
    {
        struct link *l = LIST_ITEM(node, struct link, node);

        if (l->has_successor && l->state == LINK_OPEN) {
            l->old_at_ns = u->w->loop->now_ns;
            link_return(l);
        }
    }
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* As long as somebody waits, also while a further link is dialed: it may come late, or lead to nothing. */
static void look_again(struct upstream *u)
{
    if (!list_is_empty(&u->waiting) && !timer_is_armed(&u->more)) {
        timer_arm_in(u->w->loop, &u->more, H2_MORE_NS);
    }
}

/* Where requests wait because they would only wait at the peer's proxy, another link is of little use. */
static enum http_pace pace_of(const struct upstream *u)
{
    enum http_pace worst = HTTP_PACE_FREE;

    LIST_FOREACH(node, &u->h2)
    {
        const struct link *l = LIST_ITEM(node, struct link, node);

        if (l->state == LINK_OPEN) {
            worst = MAX(worst, http_client_pace(l->client));
        }
    }
    return worst;
}

static void refuse_waiting(struct list *node)
{
    struct dial *d = LIST_ITEM(node, struct dial, node);

    list_unlink(node);
    d->on_link(d, NULL, FAILURE_OVERLOAD, "the endpoint's proxy reads more slowly than is asked of it");
}

/*
 * A queue in which somebody had to wait again and again for so long does not even out a burst, it makes every
 * answer late. (It may have been empty in between, for the window opens by jerks.) From then on nobody waits
 * in it for long, and those who get in are answered in time (CoDel's idea of a standing queue, RFC 8289, with
 * the rule of "Fail at Scale", ACM Queue 13/8, 2015).
 */
static void shed_waiting(struct upstream *u)
{
    uint64_t now = u->w->loop->now_ns;

    while (!list_is_empty(&u->waiting) &&
           now - LIST_ITEM(u->waiting.next, struct dial, node)->since_ns > WAIT_NS) {
        refuse_waiting(u->waiting.next);
    }
}

/* A link leads to one worker of the peer, and others of it may have time. */
static void spread(struct upstream *u)
{
    uint64_t now = u->w->loop->now_ns;

    if (u->h2_count < SPREAD_LINKS && !is_dialing_h2(u) && now - u->spread_ns >= SPREAD_NS) {
        u->spread_ns = now;
        (void)link_dial(u, LINK_H2, NULL);
    }
}

static void on_more(struct timer *t)
{
    struct upstream *u = CONTAINER_OF(t, struct upstream, more);

    upstream_h2_serve(u);
    if (list_is_empty(&u->waiting)) {
        return;
    }
    switch (pace_of(u)) {
    case HTTP_PACE_BEHIND:
        u->wait_last_ns = u->w->loop->now_ns;
        if (u->wait_last_ns - u->wait_first_ns >= STANDING_NS) {
            shed_waiting(u);
            spread(u);
        }
        break;
    case HTTP_PACE_BOUND:
        break;
    case HTTP_PACE_FREE:
        if (!is_dialing_h2(u) && u->h2_count < H2_LINKS_MAX) {
            (void)link_dial(u, LINK_H2, NULL);
        }
    }
}

bool upstream_h2_wait(struct upstream *u, struct dial *d)
{
    d->since_ns = u->w->loop->now_ns;
    if (d->since_ns - u->wait_last_ns > STANDING_NS) {
        u->wait_first_ns = d->since_ns;
    }
    u->wait_last_ns = d->since_ns;
    list_append(&u->waiting, &d->node);
    look_again(u);
    return u->h2_count == 0;
}

/* Streams can be opened on an HTTP/2 link: serve those who wait. */
void upstream_h2_serve(struct upstream *u)
{
    struct link *l;

    while (!list_is_empty(&u->waiting) && (l = upstream_h2_link(u)) != NULL) {
        struct dial *d = LIST_ITEM(list_pop(&u->waiting), struct dial, node);

        d->on_link(d, l, FAILURE_NONE, NULL);
    }
    look_again(u);
}

void upstream_h2_init(struct upstream *u)
{
    u->more.run = on_more;
    list_init(&u->h2);
    list_init(&u->waiting);
}
