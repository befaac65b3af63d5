/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/failure_time.h"

#include "core/clock.h"
#include "core/text.h"
#include "mesh/profile.h"
#include "proxy/exchange.h"

#define ROUTE_BYTES 128 /* of what a ServiceProfile calls its route */

static void add_time(struct text *t, uint64_t ns)
{
    uint64_t ms = ns / NS_PER_MS;
    bool is_whole = ms >= 1000 && ms % 1000 == 0;

    text_printf(t, "%llu%s", (unsigned long long)(is_whole ? ms / 1000 : ms), is_whole ? "s" : "ms");
}

static void add_which(struct text *t, const struct exchange *ex, enum timeout_kind kind, uint64_t ns)
{
    static const char *const names[] = {
        [TIMEOUT_REQUEST] = "request timeout",
        [TIMEOUT_BACKEND] = "timeout of requests to the backend",
        [TIMEOUT_PROFILE] = "ServiceProfile's timeout",
        [TIMEOUT_RESPONSE] = "response timeout",
        [TIMEOUT_HEADERS] = "timeout of one attempt",
        [TIMEOUT_IDLE] = "idle timeout",
    };

    text_printf(t, "the %s of ", names[kind]);
    add_time(t, ns);
    if (kind == TIMEOUT_PROFILE && ex->profile.route != NULL) {
        struct bytes route = ex->profile.route->labels;

        text_printf(t, " (%.*s)", (int)MIN(route.len, (size_t)ROUTE_BYTES), route.at);
    }
    text_str(t, " is over: ");
}

/* While the endpoint has a stream of it. */
static void add_at_endpoint(struct text *t, const struct exchange *ex)
{
    if (ex->response_begun) {
        text_printf(t, "the answer, with status %u, has begun and did not end", ex->status);
    } else if (!ex->request_ended && !ex->request_sent) {
        text_str(t, "the client has not sent the whole request");
    } else if (!ex->request_sent) {
        text_str(t, "the endpoint has not read the whole request");
    } else {
        text_str(t, "the endpoint got the whole request ");
        add_time(t, ex->conn->w->loop->now_ns - ex->ended_ns);
        text_str(t, ex->plan->pending != NULL ? " ago, and has sent the head of an answer alone"
                                              : " ago, and has not answered");
    }
}

static void add_where(struct text *t, const struct exchange *ex)
{
    const struct plan *plan = ex->plan;

    if (ex->d != NULL) {
        add_at_endpoint(t, ex);
    } else if (timer_is_armed(&plan->backoff)) {
        text_str(t, "the last attempt failed, and the next one had not begun");
    } else if (ex->up != NULL) {
        text_str(t, "no connection to the endpoint stood");
    } else {
        text_str(t, "no endpoint was ready");
    }
    if (plan->retries > 0) {
        text_printf(t, "; retries=%u", plan->retries);
    }
}

const char *timeout_text(const struct exchange *ex, enum timeout_kind kind, uint64_t timeout_ns,
                         char to[TIMEOUT_TEXT_BYTES])
{
    struct text t;

    text_init_fixed(&t, to, TIMEOUT_TEXT_BYTES);
    add_which(&t, ex, kind, timeout_ns);
    add_where(&t, ex);
    assert(t.err == 0);
    return to;
}
