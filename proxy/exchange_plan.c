/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include "core/err.h"
#include "proxy/failure_time.h"

/* The life of a plan, and its timeouts. */

/* --- timeouts --------------------------------------------------------------------------------- */

static void time_out(struct plan *p, enum failure why, enum timeout_kind kind, uint64_t timeout_ns)
{
    char detail[TIMEOUT_TEXT_BYTES];

    exchange_fail(p->ex, why, 0, timeout_text(p->ex, kind, timeout_ns, detail));
}

/* The timer runs for the request, or for the attempt at a backend, whichever ends first. */
static void on_lifetime(struct timer *t)
{
    struct plan *p = CONTAINER_OF(t, struct plan, lifetime);
    const struct request_policy *policy = &p->policy;
    enum failure why = policy->request_timeout_failure;
    uint64_t at_backend_ns = p->backend != NULL ? p->backend->request_timeout_ns : 0;
    bool is_of_backend =
        at_backend_ns > 0 &&
        (policy->request_timeout_ns == 0 ||
         p->ex->conn->w->loop->now_ns < p->ex->start_ns + policy->request_timeout_ns);

    if (why != FAILURE_NONE) {
        time_out(p, why, TIMEOUT_PROFILE, policy->request_timeout_ns);
    } else if (is_of_backend) {
        time_out(p, FAILURE_REQUEST_TIMEOUT, TIMEOUT_BACKEND, at_backend_ns);
    } else {
        time_out(p, FAILURE_REQUEST_TIMEOUT, TIMEOUT_REQUEST, policy->request_timeout_ns);
    }
}

static void on_response(struct timer *t)
{
    struct plan *p = CONTAINER_OF(t, struct plan, response);

    exchange_outcome_broken(p->ex);
    time_out(p, FAILURE_RESPONSE_TIMEOUT, TIMEOUT_RESPONSE, p->policy.response_timeout_ns);
}

static void on_headers(struct timer *t)
{
    struct plan *p = CONTAINER_OF(t, struct plan, headers);

    if (!plan_takes_failure(p, FAILURE_HEADERS_TIMEOUT)) {
        exchange_outcome_broken(p->ex);
        time_out(p, FAILURE_HEADERS_TIMEOUT, TIMEOUT_HEADERS, p->policy.try_timeout_ns);
    }
}

/* Neither while the endpoint thinks nor between two attempts is a body on its way. */
static bool has_body_under_way(const struct exchange *ex)
{
    return ex->d != NULL && (!ex->request_sent || (ex->response_begun && !ex->response_ended));
}

static void on_idle(struct timer *t)
{
    struct plan *p = CONTAINER_OF(t, struct plan, idle);
    struct loop *l = p->ex->conn->w->loop;

    if (!has_body_under_way(p->ex)) {
        p->frame_ns = l->now_ns;
    }
    if (l->now_ns - p->frame_ns >= p->policy.idle_timeout_ns) {
        time_out(p, FAILURE_IDLE_TIMEOUT, TIMEOUT_IDLE, p->policy.idle_timeout_ns);
    } else { /* a frame costs a note of the time, not the timer's move */
        timer_arm(l, t, p->frame_ns + p->policy.idle_timeout_ns);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static void hold(struct plan *p, const struct snapshot *held)
{
    if (p->held == NULL && held != NULL) {
        p->held = held;
        snapshot_ref((struct snapshot *)(uintptr_t)held);
    }
}

struct plan *exchange_plan(struct exchange *ex, const struct snapshot *held)
{
    struct plan *p = ex->plan;

    if (p != NULL) {
        hold(p, held);
        return p;
    }
    p = arena_try(&ex->a->arena, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    memset(p, 0, sizeof(*p));
    p->ex = ex;
    hold(p, held);
    p->lifetime.run = on_lifetime;
    p->response.run = on_response;
    p->headers.run = on_headers;
    p->idle.run = on_idle;
    replay_begin(&p->replay, 0);
    p->replay.is_lost = true;
    ex->plan = p;
    return p;
}

static bool may_be_replayed(const struct exchange *ex, const struct request_policy *policy)
{
    return policy->max_retries > 0 && !ex->request->is_upgrade &&
           ex->request->content_length <= (int64_t)policy->max_body_bytes;
}

void exchange_govern(struct exchange *ex, const struct request_policy *policy)
{
    struct plan *p = ex->plan;
    struct loop *l = ex->conn->w->loop;

    p->policy = *policy;
    p->policy.max_body_bytes = MIN(policy->max_body_bytes, REQUEST_BODY_BYTES_MAX);
    if (may_be_replayed(ex, &p->policy)) {
        replay_begin(&p->replay, p->policy.max_body_bytes);
    }
    if (p->policy.request_timeout_ns > 0) {
        timer_arm(l, &p->lifetime, ex->start_ns + p->policy.request_timeout_ns);
    }
    if (p->policy.idle_timeout_ns > 0) {
        p->frame_ns = l->now_ns;
        timer_arm(l, &p->idle, p->frame_ns + p->policy.idle_timeout_ns);
    }
}

void exchange_limit_attempt(struct exchange *ex, uint64_t timeout_ns)
{
    struct plan *p = ex->plan;
    struct loop *l = ex->conn->w->loop;
    uint64_t at_ns = timeout_ns > 0 ? l->now_ns + timeout_ns : UINT64_MAX;

    if (p->policy.request_timeout_ns > 0) {
        at_ns = MIN(at_ns, ex->start_ns + p->policy.request_timeout_ns);
    }
    if (at_ns == UINT64_MAX) {
        timer_cancel(l, &p->lifetime);
    } else {
        timer_arm(l, &p->lifetime, at_ns);
    }
}

void exchange_unplan(struct exchange *ex)
{
    struct plan *p = ex->plan;
    struct loop *l = ex->conn->w->loop;

    if (p != NULL && p->trace != NULL) {
        exchange_trace_end(ex); /* of fields that may point into the policies */
    }
    exchange_leave_name(ex);
    if (p == NULL) {
        return;
    }
    ex->plan = NULL;
    timer_cancel(l, &p->lifetime);
    timer_cancel(l, &p->response);
    timer_cancel(l, &p->headers);
    timer_cancel(l, &p->idle);
    timer_cancel(l, &p->backoff);
    replay_clear(&p->replay);
    stat_bundle_unref(p->retry_stats);
    snapshot_unref((struct snapshot *)(uintptr_t)p->held);
}

void plan_response_begun(struct plan *p)
{
    if (p->trace != NULL) {
        exchange_trace_answered(p->ex);
    }
    replay_lose(&p->replay);
    if (p->policy.until_head) {
        timer_cancel(p->ex->conn->w->loop, &p->lifetime);
    }
}

/* --- what happens ----------------------------------------------------------------------------- */

void plan_frame(struct plan *p)
{
    p->frame_ns = p->ex->conn->w->loop->now_ns;
}

void plan_request_data(struct plan *p, const struct chain *data)
{
    plan_frame(p);
    replay_note(&p->replay, data, &p->ex->conn->w->loop->chunks);
}

/* Wire 6.3: the last attempt may take as long as the response may. So may one whose response has
 * begun before its request ended: there will be no other. */
static bool is_last_attempt(const struct plan *p)
{
    return p->retries >= p->policy.max_retries || p->replay.is_lost;
}

void plan_request_sent(struct plan *p)
{
    struct loop *l = p->ex->conn->w->loop;

    if (p->policy.response_timeout_ns > 0) {
        timer_arm_in(l, &p->response, p->policy.response_timeout_ns);
    }
    if (p->policy.try_timeout_ns > 0 && !is_last_attempt(p) && p->pending == NULL) {
        timer_arm_in(l, &p->headers, p->policy.try_timeout_ns);
    }
}
