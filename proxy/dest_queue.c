/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dest_private.h"

#include "core/log.h"

/*
 * Those who wait for an endpoint of a destination, and the gate that shuts when none becomes ready.
 */
static enum failure dest_failure(const struct dest *d)
{
    if (dest_is_refused(d)) {
        return FAILURE_RESOLVE;
    }
    if (d->set != NULL && d->set->state == ENDPOINTS_ABSENT) {
        return FAILURE_SERVICE_UNKNOWN;
    }
    return FAILURE_NO_ENDPOINT;
}

/* --- who waits -------------------------------------------------------------------------------- */

static void count_waiting(struct dest *d, size_t count)
{
    d->waiting_count = count;
    dest_stats_set(&d->stats, DEST_STAT_QUEUE_LENGTH, count);
}

static void waiting_leave(struct dest *d, struct pick *p)
{
    assert(p->dest == d && d->waiting_count > 0);
    list_unlink(&p->node);
    p->dest = NULL;
    count_waiting(d, d->waiting_count - 1);
}

static struct pick *waiting_first(const struct list *from)
{
    return LIST_ITEM(from->next, struct pick, node);
}

/* All who wait now; who comes back meanwhile waits anew. */
static void fail_waiting(struct dest *d, enum failure why)
{
    struct list failed;

    list_init(&failed);
    list_move(&failed, &d->waiting);
    while (!list_is_empty(&failed)) {
        struct pick *p = waiting_first(&failed);

        waiting_leave(d, p);
        p->on_pick(p, NULL, why);
    }
}

void dest_wake_waiting(struct dest *d)
{
    if (!list_is_empty(&d->waiting)) {
        task_wake(d->w->loop, &d->serve);
    }
}

void dest_refuse_waiting(struct dest *d)
{
    task_wake(d->w->loop, &d->serve);
}

static struct member *pick_ready(struct dest *d)
{
    return balancer_pick(d->balancer, &d->w->loop->rand, d->w->loop->now_ns);
}

static void serve_waiting(struct task *t)
{
    struct dest *d = CONTAINER_OF(t, struct dest, serve);
    struct member *m;

    if (dest_is_refused(d)) {
        fail_waiting(d, FAILURE_RESOLVE);
        return;
    }
    while (!list_is_empty(&d->waiting) && (m = pick_ready(d)) != NULL) {
        struct pick *p = waiting_first(&d->waiting);

        waiting_leave(d, p);
        dest_stats_served(&d->stats, d->w->loop->now_ns - p->since_ns);
        p->on_pick(p, m, FAILURE_NONE);
    }
}

/* --- the gate --------------------------------------------------------------------------------- */

static void on_failfast(struct timer *t)
{
    struct dest *d = CONTAINER_OF(t, struct dest, failfast);

    log_warn("destination has no ready endpoint: requests fail at once until it has; dest=%s "
             "endpoints=%zu",
             d->path, balancer_count(d->balancer));
    d->is_failing = true;
    dest_stats_gate(&d->stats, false);
    fail_waiting(d, dest_failure(d));
}

void dest_proven(struct dest *d)
{
    timer_cancel(d->w->loop, &d->failfast);
    if (d->is_failing) {
        log_info("destination is back: an endpoint is ready; dest=%s", d->path);
        d->is_failing = false;
        dest_stats_gate(&d->stats, true);
    }
}

/* Events do not come from within calls: who is refused at once is told from here. */
static void run_fail(struct task *t)
{
    struct dest *d = CONTAINER_OF(t, struct dest, fail);

    if (balancer_ready(d->balancer) > 0) {
        serve_waiting(&d->serve);
    }
    if (d->is_failing || dest_is_refused(d)) {
        fail_waiting(d, dest_failure(d));
    }
    while (d->waiting_count > d->w->config->outbound.queue_capacity) {
        struct pick *p = LIST_ITEM(d->waiting.prev, struct pick, node); /* the newest */

        waiting_leave(d, p);
        p->on_pick(p, NULL, FAILURE_OVERLOAD);
    }
}

bool dest_is_available(const struct dest *d)
{
    /* While the gate is shut, a ready one is one to be tried: who would try it if nobody came? */
    return !dest_is_refused(d) && (!d->is_failing || balancer_ready(d->balancer) > 0);
}

/* --- calls ------------------------------------------------------------------------------------ */

struct member *dest_pick(struct dest *d)
{
    struct member *m = pick_ready(d);

    if (m != NULL) {
        dest_stats_came(&d->stats);
        dest_stats_served(&d->stats, 0);
    }
    return m;
}

void dest_wait(struct dest *d, struct pick *p)
{
    p->dest = d;
    p->since_ns = d->w->loop->now_ns;
    list_append(&d->waiting, &p->node);
    count_waiting(d, d->waiting_count + 1);
    dest_stats_came(&d->stats);
    if (d->is_failing || dest_is_refused(d) ||
        d->waiting_count > d->w->config->outbound.queue_capacity) {
        task_wake(d->w->loop, &d->fail);
    } else if (!timer_is_armed(&d->failfast)) {
        timer_arm_in(d->w->loop, &d->failfast, d->w->config->outbound.failfast_ns);
    }
}

void dest_wait_cancel(struct pick *p)
{
    if (p->dest != NULL) {
        waiting_leave(p->dest, p);
    }
}

void dest_queue_init(struct dest *d)
{
    list_init(&d->waiting);
    d->failfast.run = on_failfast;
    d->serve.run = serve_waiting;
    d->fail.run = run_fail;
}

void dest_queue_clear(struct dest *d)
{
    assert(list_is_empty(&d->waiting));
    timer_cancel(d->w->loop, &d->failfast);
    task_cancel(&d->serve);
    task_cancel(&d->fail);
}
