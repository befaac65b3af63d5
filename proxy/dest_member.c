/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dest_private.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"

/*
 * The endpoints of a destination: who may be picked, and what their answers say of them.
 */
static struct seat *seat_of(const struct member *m)
{
    return m->user;
}

struct upstream *member_upstream(const struct member *m)
{
    return seat_of(m)->up;
}

void dest_count_endpoints(struct dest *d)
{
    size_t all = balancer_count(d->balancer), ready = balancer_ready(d->balancer);

    dest_stats_set(&d->stats, DEST_STAT_ENDPOINTS_READY, ready);
    dest_stats_set(&d->stats, DEST_STAT_ENDPOINTS_PENDING, all - ready);
    dest_stats_set(&d->stats, DEST_STAT_P2C_ENDPOINTS, all);
}

/* One of the two that decide whether it may be picked has changed its mind. */
static void seat_update(struct seat *s)
{
    struct dest *d = s->dest;
    bool is_ready =
        s->is_reachable && (s->accrual == NULL || accrual_is_available(&s->accrual->state));

    if (s->member->is_removed) {
        return;
    }
    if (s->member->is_ready != is_ready) {
        member_set_ready(d->balancer, s->member, is_ready);
        dest_count_endpoints(d);
    }
    if (is_ready) {
        dest_wake_waiting(d);
    }
}

static bool seat_is_on_probation(const struct seat *s)
{
    return s->accrual != NULL && s->accrual->state.state != ACCRUAL_CLOSED;
}

/* --- failure accrual (wire 6.2) --------------------------------------------------------------- */

static void on_probation_end(struct timer *t)
{
    struct seat_accrual *a = CONTAINER_OF(t, struct seat_accrual, timer);

    accrual_expire(&a->state);
    seat_update(a->seat);
}

static void seat_accrual_open(struct seat *s)
{
    s->accrual = mem_new(sizeof(*s->accrual));
    s->accrual->seat = s;
    s->accrual->timer.run = on_probation_end;
    accrual_init(&s->accrual->state);
}

static void seat_accrual_close(struct seat *s)
{
    if (s->accrual != NULL) {
        timer_cancel(s->dest->w->loop, &s->accrual->timer);
        mem_free(s->accrual);
        s->accrual = NULL;
    }
}

void dest_set_accrual(struct dest *d, const struct accrual_config *c)
{
    d->accrual = *c;
    d->has_accrual = accrual_config_is_on(c);
    LIST_FOREACH(node, &d->seats)
    {
        struct seat *s = LIST_ITEM(node, struct seat, node);

        if (!d->has_accrual) {
            seat_accrual_close(s);
        } else if (s->accrual == NULL) {
            seat_accrual_open(s);
        } else if (s->accrual->state.state == ACCRUAL_CLOSED) {
            accrual_init(&s->accrual->state); /* it is counted by the new rules from now on */
        }
        seat_update(s);
    }
}

static void log_accrual(const struct seat *s, enum accrual_state before)
{
    const struct accrual *a = &s->accrual->state;
    char endpoint[ADDR_TEXT_BYTES];

    addr_format(&s->member->endpoint->addr, endpoint);
    if (a->state == ACCRUAL_CLOSED) {
        log_info("an endpoint works again: its probe succeeded; dest=%s endpoint=%s", s->dest->path,
                 endpoint);
        return;
    }
    log_warn("an endpoint is taken out%s: look at its own log; it is probed later; dest=%s "
             "endpoint=%s failures_in_a_row=%u ejections_in_a_row=%u probe_after_ms=%llu",
             before == ACCRUAL_PROBING ? " again, its probe failed" : ", it fails too much",
             s->dest->path, endpoint, a->failures, a->ejections,
             (unsigned long long)((a->until_ns - s->dest->w->loop->now_ns) / NS_PER_MS));
}

/* Wire 7.3 and 6.2: what is a failure, and what lowers the success rate alone. */
static enum accrual_result outcome_result(const struct response_outcome *o)
{
    static const unsigned grpc_failures =
        1u << 2 | 1u << 4 | 1u << 7 | 1u << 13 | 1u << 14 | 1u << 15;

    if (o->is_connection_error || o->status >= 500) {
        return ACCRUAL_FAILURE;
    }
    if (o->grpc_status > 0 && o->grpc_status < 16 && (grpc_failures >> o->grpc_status & 1u) != 0) {
        return ACCRUAL_FAILURE;
    }
    return o->status == 429 || o->grpc_status == 8 ? ACCRUAL_BUSY : ACCRUAL_SUCCESS;
}

/*
 * A response whose body goes on has not succeeded yet: it counts at its end. But a probe has: an
 * endpoint that answers works, and a stream may stay open for days.
 */
static void seat_accrue(struct seat *s, const struct response_outcome *o)
{
    struct seat_accrual *a = s->accrual;
    struct dest *d = s->dest;
    enum accrual_state before = a->state.state;

    if (o->is_open && before != ACCRUAL_PROBING) {
        return;
    }
    if (!accrual_record(&a->state, &d->accrual, o->by, outcome_result(o), d->w->loop->now_ns,
                        &d->w->loop->rand)) {
        return;
    }
    log_accrual(s, before);
    if (a->state.state == ACCRUAL_EJECTED) {
        timer_arm(d->w->loop, &a->timer, a->state.until_ns);
    } else if (!s->member->is_removed) {
        dest_proven(d);
    }
    seat_update(s);
}

/* --- what the upstream says ------------------------------------------------------------------- */

static void on_upstream_ready(struct upstream *u, bool is_ready, bool is_proven)
{
    struct seat *s = u->user;

    if (s->member->is_removed) {
        return;
    }
    s->is_reachable = is_ready;
    if (is_proven && !seat_is_on_probation(s)) {
        dest_proven(s->dest);
    }
    seat_update(s);
}

static void seat_dial(struct seat *s)
{
    struct dest *d = s->dest;

    s->up = upstream_new(d->w, OUTBOUND, s->member->endpoint, bytes_str(d->authority));
    s->up->on_ready = on_upstream_ready;
    s->up->user = s;
    s->up->dest = d;
}

static void seat_hang_up(struct seat *s)
{
    if (s->up != NULL) {
        upstream_retire(s->up);
        s->up = NULL;
    }
}

/* --- what the set says ------------------------------------------------------------------------ */

static void on_add(void *user, struct member *m)
{
    struct dest *d = user;
    struct seat *s = mem_new(sizeof(*s));

    s->dest = d;
    s->member = m;
    s->is_reachable = true;
    m->user = s;
    list_append(&d->seats, &s->node);
    if (d->has_accrual) {
        seat_accrual_open(s);
    }
    member_set_ready(d->balancer, m, true);
    dest_proven(d);
    dest_wake_waiting(d);
}

static void seat_drop(struct seat *s)
{
    seat_hang_up(s);
    seat_accrual_close(s);
    list_unlink(&s->node);
    member_free(s->member);
    mem_free(s);
}

/* New facts of an address: a new upstream carries what comes, the old one finishes what it has.
 * Failures stay with the address: it is the same process that answers there. */
static void on_change(void *user, struct member *m, const struct endpoint *old)
{
    struct seat *s = seat_of(m);

    (void)old;
    seat_hang_up(s);
    s->is_reachable = true;
    if (!seat_is_on_probation(s)) {
        dest_proven(user);
    }
    seat_update(s);
}

static void on_remove(void *user, struct member *m)
{
    struct seat *s = seat_of(m);

    (void)user;
    seat_accrual_close(s); /* it is not picked any more */
    list_unlink(&s->node);
    if (m->load.pending == 0) {
        seat_drop(s);
    }
}

const struct balancer_events dest_balancer_events = {
    .on_add = on_add,
    .on_change = on_change,
    .on_remove = on_remove,
};

/* --- attempts --------------------------------------------------------------------------------- */

void dest_begin(struct dest *d, struct member *m, const void *by)
{
    struct seat *s = seat_of(m);

    assert(s->dest == d);
    m->load.pending++;
    if (s->up == NULL) {
        seat_dial(s);
    }
    if (s->accrual != NULL && accrual_begin(&s->accrual->state, by)) {
        seat_update(s);
    }
}

static bool is_penalized(const struct response_outcome *o)
{
    static const unsigned grpc_failures =
        1u << 2 | 1u << 4 | 1u << 8 | 1u << 13 | 1u << 14 | 1u << 15;

    return o->is_connection_error || o->status == 429 || o->status >= 500 ||
           (o->grpc_status > 0 && o->grpc_status < 16 &&
            (grpc_failures >> o->grpc_status & 1u) != 0);
}

/* Wire 6.1. A connection that broke measured nothing: how fast it broke must not make its endpoint
 * look fast. */
static void member_weigh(struct dest *d, struct member *m, const struct response_outcome *o)
{
    const struct load_config *c = balancer_load(d->balancer);
    uint64_t now_ns = d->w->loop->now_ns;

    if (c->penalty_ns > 0 && is_penalized(o)) {
        load_penalize(&m->load, c, o->retry_after_ns, now_ns);
    } else if (!o->is_connection_error) {
        load_observe(&m->load, c, o->rtt_ns, now_ns);
    }
}

void dest_respond(struct dest *d, struct member *m, const struct response_outcome *o)
{
    struct seat *s = seat_of(m);

    if (o->rtt_ns > 0) {
        member_weigh(d, m, o);
    }
    if (s->accrual != NULL) {
        seat_accrue(s, o);
    }
}

void dest_end(struct dest *d, struct member *m, const void *by)
{
    struct seat *s = seat_of(m);

    assert(s->dest == d && m->load.pending > 0);
    m->load.pending--;
    if (s->accrual != NULL && accrual_end(&s->accrual->state, by)) {
        seat_update(s);
    }
    if (m->is_removed && m->load.pending == 0) {
        seat_drop(s);
    }
}
