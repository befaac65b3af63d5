/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/exchange.h"

#include "core/clock.h"
#include "core/log.h"
#include "http/grpc.h"

/* When a request is tried again, and how (wire 6.3). */

/* --- whether ---------------------------------------------------------------------------------- */

static bool is_retryable(const struct plan *p, unsigned status, int grpc_status)
{
    const struct request_policy *policy = &p->policy;

    if (policy->is_retryable != NULL) {
        return policy->is_retryable(policy->user, status, grpc_status);
    }
    for (size_t i = 0; i < policy->ranges_count; i++) {
        if (status >= policy->ranges[i].start && status <= policy->ranges[i].end) {
            return true;
        }
    }
    return grpc_status >= 0 && grpc_status <= GRPC_CODES_MAX &&
           (policy->grpc_codes >> grpc_status & 1u) != 0;
}

/* Failures of an attempt that another one may not have. Load that was shed is not made anew. */
static bool is_retryable_failure(enum failure why)
{
    switch ((int)why) {
    case FAILURE_HEADERS_TIMEOUT:
    case FAILURE_NO_ENDPOINT:
    case FAILURE_SERVICE_UNKNOWN:
    case FAILURE_CONNECT:
    case FAILURE_CONNECT_TIMEOUT:
    case FAILURE_TLS:
    case FAILURE_RESET: /* REFUSED_STREAM */
        return true;
    default:
        return false;
    }
}

static uint64_t backoff_ns(struct plan *p)
{
    const struct request_policy *policy = &p->policy;
    uint64_t delay = policy->backoff_min_ns;

    for (uint32_t i = 0; i < p->retries && delay < policy->backoff_max_ns; i++) {
        delay *= 2;
    }
    delay = MIN(delay, policy->backoff_max_ns);
    delay +=
        (uint64_t)((double)delay * policy->backoff_jitter * rand_unit(&p->ex->conn->w->loop->rand));
    return MIN(delay, policy->backoff_max_ns);
}

static bool is_last(const struct plan *p)
{
    return p->retries + 1 == p->policy.max_retries;
}

/* Counts why not, where there is a figure for it. The budget is asked last, for a yes has paid. */
static bool may_retry(struct plan *p, uint64_t delay_ns)
{
    struct exchange *ex = p->ex;
    struct loop *l = ex->conn->w->loop;

    if (p->policy.max_retries == 0 || p->policy.again == NULL) {
        return false;
    }
    if (p->retries >= p->policy.max_retries) {
        retry_stats_count(p->retry_stats, ROUTE_RETRY_LIMIT_EXCEEDED);
        return false;
    }
    if (!replay_can_take(&p->replay, &l->chunks, is_last(p)) ||
        (p->policy.request_timeout_ns > 0 &&
         l->now_ns + delay_ns >= ex->start_ns + p->policy.request_timeout_ns)) {
        return false;
    }
    if ((p->policy.has_way != NULL && !p->policy.has_way(ex)) ||
        (p->policy.may_retry != NULL && !p->policy.may_retry(p->policy.user))) {
        retry_stats_count(p->retry_stats, ROUTE_RETRY_OVERFLOW);
        return false;
    }
    return true;
}

/* --- how -------------------------------------------------------------------------------------- */

static void on_backoff(struct timer *t)
{
    struct plan *p = CONTAINER_OF(t, struct plan, backoff);

    p->was_retried = true;
    retry_stats_count(p->retry_stats, ROUTE_RETRY_REQUESTS);
    p->policy.again(p->ex);
}

/* The attempt leaves nothing behind but its figures. */
static void attempt_end(struct plan *p, const struct head *response)
{
    struct exchange *ex = p->ex;
    struct loop *l = ex->conn->w->loop;
    struct stream *d = ex->d;
    bool is_whole = response != NULL && response->ends && ex->request_sent;

    if (response != NULL) {
        exchange_outcome_body(ex, true);
    } else if (d != NULL) {
        exchange_outcome_broken(ex); /* its time ran out */
    }
    timer_cancel(l, &p->response);
    timer_cancel(l, &p->headers);
    exchange_limit_attempt(ex, 0); /* what its backend allowed is over with it */
    p->pending = NULL;
    p->backend = NULL;
    ex->d = NULL;
    if (d != NULL) {
        stream_close(d, is_whole ? RESET_NONE : RESET_CANCEL);
    }
    exchange_leave(ex);
    if (ex->dest != NULL) {
        dest_release(ex->dest);
        ex->dest = NULL;
    }
    exchange_attempt_over(ex);
    ex->request_sent = ex->body_begun = ex->wants_fresh = ex->is_reused_link = false;
    ex->attempts = ex->repeats = 0;
    ex->give_up_ns = 0;
}

static bool retry(struct plan *p, const struct head *response)
{
    struct exchange *ex = p->ex;
    struct loop *l = ex->conn->w->loop;
    uint64_t delay_ns = backoff_ns(p);

    if (!may_retry(p, delay_ns)) {
        return false;
    }
    replay_take(&p->replay, &l->chunks, is_last(p), &ex->held);
    log_debug("the request is tried again; retry=%u delay_ms=%llu", p->retries + 1,
              (unsigned long long)(delay_ns / NS_PER_MS));
    attempt_end(p, response);
    p->retries++;
    p->backoff.run = on_backoff;
    timer_arm_in(l, &p->backoff, delay_ns);
    return true;
}

/* --- what tells ------------------------------------------------------------------------------- */

static void note_success(struct plan *p)
{
    if (p->was_retried) {
        retry_stats_count(p->retry_stats, ROUTE_RETRY_SUCCESSES);
    }
}

static bool judge(struct plan *p, const struct head *head, int grpc_status)
{
    struct exchange *ex = p->ex;

    if (!is_retryable(p, head->status, grpc_status)) {
        note_success(p);
        return false;
    }
    ex->status = head->status;
    ex->grpc_status = grpc_status;
    return retry(p, head);
}

bool plan_takes_head(struct plan *p, struct head *head)
{
    struct exchange *ex = p->ex;
    int grpc_status;

    timer_cancel(ex->conn->w->loop, &p->headers);
    plan_frame(p);
    if (p->trace != NULL) {
        exchange_trace_attempt(ex, head->status);
    }
    if (p->policy.max_retries == 0) {
        return false;
    }
    grpc_status = exchange_grpc_status(ex, &head->fields);
    if (ex->is_grpc && grpc_status < 0 && !head->ends && !is_retryable(p, head->status, -1)) {
        p->pending = head;
        stream_credit(ex->d, ex->a->room);
        return true;
    }
    return judge(p, head, grpc_status);
}

bool plan_takes_end(struct plan *p, int grpc_status)
{
    return judge(p, p->pending, grpc_status);
}

bool plan_takes_failure(struct plan *p, enum failure why)
{
    struct exchange *ex = p->ex;

    if (ex->response_begun || p->pending != NULL || p->policy.only_responses ||
        !is_retryable_failure(why)) {
        return false;
    }
    ex->failure = why;
    if (retry(p, NULL)) {
        return true;
    }
    ex->failure = FAILURE_NONE;
    return false;
}

struct head *plan_release_head(struct plan *p)
{
    struct head *head = p->pending;

    p->pending = NULL;
    return head;
}

struct head *plan_takes_data(struct plan *p)
{
    note_success(p);
    return plan_release_head(p);
}
