/* SPDX-License-Identifier: Apache-2.0 */
#include "core/clock.h"
#include "core/err.h"
#include "proxy/exchange.h"
#include "proxy/span_queue.h"

/* Ids of zeroes are none (W3C Trace Context 3.2.2.4). */
static void new_id(struct rand *r, uint8_t id[8])
{
    uint64_t value = rand_u64(r);

    if (value == 0) {
        value = 1;
    }
    memcpy(id, &value, sizeof(value));
}

/* It began at `begin_ns` and ends now. Where memory is short, traces are given up first (decision
 * D9). */
static void write_span(struct exchange *ex, struct span *s, uint64_t begin_ns)
{
    const struct trace *t = ex->plan->trace;
    struct proxy_worker *w = ex->conn->w;
    const struct failure_info *info =
        ex->failure != FAILURE_NONE && ex->failure != FAILURE_REDIRECTED
            ? failure_info(ex->failure)
            : NULL;

    if (UNLIKELY(w->shed_level >= SHED_TAPS)) {
        span_writer_drop(w->spans, "memory");
        return;
    }
    memcpy(s->trace_id, t->from.trace_id, sizeof(s->trace_id));
    s->flags = t->from.flags;
    s->is_outbound = ex->conn->dir == OUTBOUND;
    s->begin_wall_ns = t->begin_wall_ns + (begin_ns - t->begin_ns);
    s->end_wall_ns = t->begin_wall_ns + (clock_mono_ns() - t->begin_ns);
    s->cause = info != NULL ? info->cause : NULL;
    s->is_error = info != NULL && info->status >= 500;
    span_writer_add(w->spans, s);
}

void exchange_trace(struct exchange *ex)
{
    struct trace_context from, ours;
    struct plan *plan;
    struct trace *t;

    if (!trace_context_read(&ex->request->fields, &from)) {
        return;
    }
    plan = exchange_plan(ex, NULL);
    t = plan != NULL ? arena_try(&ex->a->arena, sizeof(*t)) : NULL;
    ours = from;
    new_id(&ex->conn->w->loop->rand, ours.span_id);
    if (t == NULL || trace_context_write(&ex->request->fields, &ours) != 0) {
        return; /* it goes on as it came */
    }
    memset(t, 0, sizeof(*t));
    t->from = from;
    memcpy(t->server_id, ours.span_id, sizeof(t->server_id));
    if (trace_context_is_sampled(&from)) {
        t->begin_wall_ns = clock_wall_ns();
        t->begin_ns = clock_mono_ns();
        span_request_note(&t->asked, ex->request);
        if (ex->conn->dir == OUTBOUND && t->asked.scheme.len == 0) {
            t->asked.scheme = BYTES("http"); /* what the target in origin form stands for */
        }
    }
    plan->trace = t;
}

/*
 * The fields of the head that is sent are those of the request as long as nothing was added for the
 * endpoint. A filter may have added another field of ours, which goes: from both then, or the next
 * attempt would send the last field twice.
 */
static int write_sent(struct exchange *ex, const struct trace_context *ours)
{
    struct fields *sent = &ex->forward.fields, *asked = &ex->request->fields;

    if (sent->at != asked->at) {
        return trace_context_write(sent, ours);
    }
    TRY(trace_context_write(asked, ours));
    *sent = *asked;
    return 0;
}

void exchange_trace_sent(struct exchange *ex)
{
    struct trace *t = ex->plan->trace;
    struct trace_context ours = t->from;
    bool is_repeated = t->is_attempt; /* with the id that it had */

    if (!is_repeated) {
        new_id(&ex->conn->w->loop->rand, t->client_id);
    }
    memcpy(ours.span_id, t->client_id, sizeof(ours.span_id));
    if (write_sent(ex, &ours) != 0 || is_repeated ||
        !trace_context_is_sampled(&t->from)) {
        return; /* without room, who is called becomes the child of the server span */
    }
    t->is_attempt = true;
    t->attempt_ns = clock_mono_ns();
    span_request_note(&t->sent, &ex->forward);
}

void exchange_trace_attempt(struct exchange *ex, unsigned status)
{
    struct trace *t = ex->plan->trace;
    struct span s;

    if (!t->is_attempt) {
        return;
    }
    t->is_attempt = false;
    s = (struct span){
        .is_client = true,
        .request = &t->sent,
        .status = status,
    };
    memcpy(s.span_id, t->client_id, sizeof(s.span_id));
    memcpy(s.parent_id, t->server_id, sizeof(s.parent_id));
    write_span(ex, &s, t->attempt_ns);
}

static void answer_span(struct exchange *ex, unsigned status)
{
    struct trace *t = ex->plan->trace;
    struct span s;

    if (t->is_answered || !trace_context_is_sampled(&t->from)) {
        return;
    }
    t->is_answered = true;
    s = (struct span){.request = &t->asked, .status = status};
    memcpy(s.span_id, t->server_id, sizeof(s.span_id));
    memcpy(s.parent_id, t->from.span_id, sizeof(s.parent_id));
    write_span(ex, &s, t->begin_ns);
}

void exchange_trace_answered(struct exchange *ex)
{
    answer_span(ex, ex->status);
}

void exchange_trace_end(struct exchange *ex)
{
    /* A status of its own has only what an endpoint answered, or a filter. */
    exchange_trace_attempt(ex, ex->status);
    answer_span(ex, ex->failure == FAILURE_CLIENT ? ex->status : exchange_status(ex));
}
