/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/err.h"
#include "core/text.h"
#include "mesh/control_private.h"

/*
 * Unary calls. The channel's part of one is on the heap, so that an owner may start its next call
 * from on_answer.
 */
struct pending {
    struct list node;
    struct control *control;
    struct control_call *owner;
    const char *path;
    struct bytes request; /* owned */
    struct grpc_call *call;
    struct timer deadline, again; /* again: of one that was refused, instead of a list */
    unsigned refusals;
    struct text answer;
    uint64_t queued_ns, opened_ns, first_ns; /* first_ns: of the answer; 0: none came */
    bool has_answer;
};

static void pending_free(struct pending *p)
{
    list_unlink(&p->node);
    timer_cancel(p->control->loop, &p->deadline);
    timer_cancel(p->control->loop, &p->again);
    if (p->call != NULL) {
        grpc_call_cancel(p->call);
    }
    mem_free((char *)(uintptr_t)p->request.at);
    text_clear(&p->answer);
    mem_free(p);
}

static void answer(struct pending *p, enum grpc_status status, struct bytes message)
{
    struct control_call *owner = p->owner;

    list_unlink(&p->node);
    timer_cancel(p->control->loop, &p->deadline);
    owner->pending = NULL;
    owner->on_answer(owner, status, message); /* may free the owner and start another call */
    pending_free(p);
}

static void on_deadline(struct timer *t)
{
    struct pending *p = CONTAINER_OF(t, struct pending, deadline);
    const char *why = p->control->problem;

    answer(p, GRPC_DEADLINE_EXCEEDED,
           bytes_str(p->call == NULL && why[0] != '\0' ? why : "no answer came in time"));
}

static void on_message(void *user, struct bytes message)
{
    struct pending *p = user;

    control_heard(p->control);
    p->first_ns = p->control->loop->now_ns;
    text_reset(&p->answer);
    text_add(&p->answer, message);
    p->has_answer = true;
}

static void wait_for_turn(struct pending *p)
{
    p->queued_ns = p->control->loop->now_ns;
    list_append(&p->control->waiting_calls, &p->node);
    control_want(p->control);
}

static void on_again(struct timer *t)
{
    wait_for_turn(CONTAINER_OF(t, struct pending, again));
}

/* Not processed, and so as good as not made. It was opened before the service had said how many streams it
 * allows, most likely, or as its connection went away. */
static void ask_again(struct pending *p)
{
    struct loop *l = p->control->loop;

    list_unlink(&p->node);
    timer_arm_in(l, &p->again, control_backoff_ns(l, p->refusals++));
}

static void on_end(void *user, enum grpc_status status, struct bytes message, int err)
{
    struct pending *p = user;

    p->call = NULL;
    control_stats_response(&p->control->stats, status, err,
                           (p->first_ns != 0 ? p->first_ns : p->control->loop->now_ns) -
                               p->opened_ns);
    if (err == E_REFUSED || err == E_GOAWAY) {
        ask_again(p);
    } else if (status == GRPC_OK && p->has_answer && p->answer.err == 0) {
        answer(p, GRPC_OK, text_bytes(&p->answer));
    } else if (status == GRPC_OK) {
        answer(p, GRPC_INTERNAL, BYTES("the service answered without a message"));
    } else if (err == 0) {
        control_heard(p->control); /* it works, and refuses */
        answer(p, status, message.len > 0 ? message : bytes_str(grpc_status_name(status)));
    } else { /* it broke off, and nobody has spoken: the message is our own */
        answer(p, status, message.len > 0 ? message : bytes_str(err_text(err)));
    }
}

static const struct grpc_call_events events = {.on_message = on_message, .on_end = on_end};

bool control_call_open_next(struct control *c)
{
    struct pending *p = LIST_ITEM(c->waiting_calls.next, struct pending, node);
    struct http_client *client = control_room(c);
    int rc;

    if (client == NULL) {
        return false;
    }
    list_unlink(&p->node);
    rc = grpc_call_open(client, bytes_str(c->authority), p->path, 0, NULL, &events, p, &p->call);
    if (rc == 0) {
        rc = grpc_call_send(p->call, p->request);
    }
    if (rc != 0) {
        answer(p, GRPC_UNAVAILABLE, bytes_str(err_text(rc)));
        return true;
    }
    p->opened_ns = c->loop->now_ns;
    control_stats_request(&c->stats, p->opened_ns - p->queued_ns);
    grpc_call_finish(p->call);
    list_append(&c->open_calls, &p->node);
    return true;
}

void control_call_start(struct control *c, struct control_call *call, const char *path,
                        struct bytes request, uint64_t timeout_ns)
{
    struct pending *p = mem_new(sizeof(*p));

    assert(call->pending == NULL && call->on_answer != NULL);
    p->control = c;
    p->owner = call;
    p->path = path;
    p->request = bytes_of(bytes_dup(request), request.len);
    p->deadline.run = on_deadline;
    p->again.run = on_again;
    text_init(&p->answer, GRPC_MESSAGE_MAX);
    call->pending = p;
    timer_arm_in(c->loop, &p->deadline, timeout_ns);
    wait_for_turn(p);
}

void control_call_cancel(struct control_call *call)
{
    if (call->pending != NULL) {
        pending_free(call->pending);
        call->pending = NULL;
    }
}
