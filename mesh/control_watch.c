/* SPDX-License-Identifier: Apache-2.0 */
#include "core/err.h"
#include "core/log.h"
#include "mesh/control_private.h"

/*
 * A watch is in one of three places: waiting for the connection, open, or backing off (its retry
 * timer is armed).
 */

/* --- bounds (wire 3.7) ------------------------------------------------------------------------ */

/* A stream ends by itself when its first message, the next one, or its replacement is due. */
static void arm_bound(struct control_watch *w)
{
    const struct control *c = w->control;
    uint64_t wait_ns = w->is_first ? c->first_message_ns : c->idle_ns;
    uint64_t at_ns = UINT64_MAX;

    if (wait_ns != 0) {
        at_ns = c->loop->now_ns + wait_ns;
    }
    if (c->lifetime_ns != 0) {
        at_ns = MIN(at_ns, w->opened_ns + c->lifetime_ns);
    }
    if (at_ns != UINT64_MAX) {
        timer_arm(c->loop, &w->bound, at_ns);
    } else {
        timer_cancel(c->loop, &w->bound);
    }
}

static void wait_again(struct control_watch *w)
{
    w->queued_ns = w->control->loop->now_ns;
    list_append(&w->control->waiting_watches, &w->node);
    control_want(w->control);
}

static void retry_later(struct control_watch *w)
{
    timer_arm_in(w->control->loop, &w->retry, control_backoff_ns(w->control->loop, w->failures++));
}

static void on_bound(struct timer *t)
{
    struct control_watch *w = CONTAINER_OF(t, struct control_watch, bound);

    assert(w->call != NULL);
    grpc_call_cancel(w->call);
    w->call = NULL;
    list_unlink(&w->node);
    if (w->is_first) {
        retry_later(w); /* nothing came */
    } else {
        wait_again(w);
    }
}

static void on_retry(struct timer *t)
{
    wait_again(CONTAINER_OF(t, struct control_watch, retry));
}

/* --- the call --------------------------------------------------------------------------------- */

static void on_message(void *user, struct bytes message)
{
    struct control_watch *w = user;
    bool is_first = w->is_first;

    control_heard(w->control);
    w->failures = 0;
    w->is_first = false;
    w->first_ns = is_first ? w->control->loop->now_ns : w->first_ns;
    arm_bound(w);
    w->on_message(w, message, is_first); /* may free it */
}

static enum control_verdict default_verdict(enum grpc_status status)
{
    return status == GRPC_INVALID_ARGUMENT || status == GRPC_FAILED_PRECONDITION ? CONTROL_STOP
                                                                                 : CONTROL_RETRY;
}

static void on_end(void *user, enum grpc_status status, struct bytes message, int err)
{
    struct control_watch *w = user;
    enum control_verdict verdict;

    log_debug("a watch ended; service=%s path=%s status=%s err=%s message=\"" BYTES_FMT "\"",
              w->control->authority, w->path, grpc_status_name(status),
              err != 0 ? err_name(err) : "none", BYTES_ARG(message));
    control_stats_response(&w->control->stats, status, err,
                           (w->first_ns != 0 ? w->first_ns : w->control->loop->now_ns) -
                               w->opened_ns);
    w->call = NULL;
    list_unlink(&w->node);
    timer_cancel(w->control->loop, &w->bound);
    verdict = w->on_end != NULL ? w->on_end(w, status, message) : default_verdict(status);
    if (verdict == CONTROL_STOP) {
        w->is_started = false;
    } else if (w->is_started) {
        retry_later(w);
    }
}

static const struct grpc_call_events events = {.on_message = on_message, .on_end = on_end};

bool control_watch_open_next(struct control *c)
{
    struct control_watch *w = LIST_ITEM(c->waiting_watches.next, struct control_watch, node);
    struct http_client *client = control_room(c);
    int rc;

    if (client == NULL) {
        return false;
    }
    list_unlink(&w->node);
    w->is_first = true;
    w->opened_ns = c->loop->now_ns;
    w->first_ns = 0;
    rc = grpc_call_open(client, bytes_str(c->authority), w->path, 0, NULL, &events, w, &w->call);
    if (rc == 0) {
        control_stats_request(&c->stats, w->opened_ns - w->queued_ns);
        list_append(&c->open_watches, &w->node);
        rc = grpc_call_send(w->call, w->request);
        assert(rc == 0); /* the first and only message */
        grpc_call_finish(w->call);
        arm_bound(w);
    } else {
        w->call = NULL;
        retry_later(w);
    }
    return true;
}

/* --- life ------------------------------------------------------------------------------------- */

void control_watch_start(struct control *c, struct control_watch *w)
{
    assert(!w->is_started && w->on_message != NULL && w->path != NULL);
    w->control = c;
    w->call = NULL;
    w->retry = (struct timer){.run = on_retry};
    w->bound = (struct timer){.run = on_bound};
    w->failures = 0;
    w->is_started = true;
    wait_again(w);
}

void control_watch_stop(struct control_watch *w)
{
    if (!w->is_started) {
        return;
    }
    w->is_started = false;
    list_unlink(&w->node);
    timer_cancel(w->control->loop, &w->retry);
    timer_cancel(w->control->loop, &w->bound);
    if (w->call != NULL) {
        grpc_call_cancel(w->call);
        w->call = NULL;
    }
}
