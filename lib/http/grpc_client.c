/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that we make.
 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "http/grpc_private.h"

#define METADATA_MAX (HTTP_FIELDS_MAX - 8)

struct grpc_call {
    struct stream *s;
    const struct grpc_call_events *events;
    void *user;
    struct grpc_frames frames;
    struct chain pending;
    bool finishing; /* no more messages from us */
    bool dead;      /* on_end was called, or the call was canceled */
    struct timer deadline;
    struct grave grave;
};

static void call_bury(struct grave *grave)
{
    struct grpc_call *call = CONTAINER_OF(grave, struct grpc_call, grave);

    grpc_frames_clear(
        &call->frames); /* not before: its buffer may hold the message being delivered */
    mem_free(call);
}

static void call_free(struct grpc_call *call)
{
    struct loop *l = call->s->loop;

    timer_cancel(l, &call->deadline);
    chain_clear(&call->pending);
    stream_close(call->s, RESET_CANCEL);
    loop_free_later(l, &call->grave, call_bury);
}

static void call_end(struct grpc_call *call, enum grpc_status status, struct bytes message, int err)
{
    if (call->dead) {
        return;
    }
    call->dead = true;
    call->events->on_end(call->user, status, message, err); /* may borrow from the stream */
    call_free(call);
}

/* The end by trailers, or by a head that stands for them. */
static void call_end_by_fields(struct grpc_call *call, const struct fields *f,
                               enum grpc_status otherwise)
{
    const struct field *encoded = f != NULL ? fields_get(f, FIELD_GRPC_MESSAGE) : NULL;
    enum grpc_status status = otherwise;
    char decoded[GRPC_TEXT_MAX];
    struct text message;

    text_init_fixed(&message, decoded, sizeof(decoded));
    if (f == NULL || !grpc_status_find(f, &status)) {
        text_str(&message, "the answer has no grpc-status");
    } else if (encoded != NULL) {
        grpc_text_decode(&message, encoded->value);
    }
    if (status == GRPC_OK && !grpc_frames_is_whole(&call->frames)) {
        call_end(call, GRPC_INTERNAL, BYTES("the answer ends in the middle of a message"),
                 E_GRPC_FRAME);
        return;
    }
    call_end(call, status, text_bytes(&message), 0);
}

static void on_head(void *user, struct head *head)
{
    struct grpc_call *call = user;
    enum grpc_status status;

    if (head->status < 200) {
        return;
    }
    if (head->ends || (head->status != 200 && grpc_status_find(&head->fields, &status))) {
        call_end_by_fields(call, &head->fields, grpc_status_of_http(head->status));
    } else if (head->status != 200) {
        call_end(call, grpc_status_of_http(head->status), bytes_str(http_reason(head->status)), 0);
    } else if (!grpc_is_content_type(&head->fields)) {
        call_end(call, GRPC_UNKNOWN, BYTES("the answer is not gRPC"), 0);
    }
}

static void on_message(void *user, struct bytes message)
{
    struct grpc_call *call = user;

    if (!call->dead) {
        call->events->on_message(call->user, message);
    }
}

static void on_data(void *user, struct chain *bytes)
{
    struct grpc_call *call = user;
    size_t size = chain_size(bytes);
    int rc = grpc_frames_feed(&call->frames, bytes, on_message, call);

    if (call->dead) {
        return;
    }
    if (rc != 0) {
        enum grpc_status status = rc == E_LIMIT         ? GRPC_RESOURCE_EXHAUSTED
                                  : rc == E_UNSUPPORTED ? GRPC_UNIMPLEMENTED
                                                        : GRPC_INTERNAL;

        call_end(call, status, bytes_str(err_text(rc)), rc);
        return;
    }
    stream_credit(call->s, size);
}

static void on_end(void *user, struct fields *trailers)
{
    call_end_by_fields(user, trailers, GRPC_UNKNOWN);
}

static enum grpc_status status_of_reset(enum reset why)
{
    switch (why) {
    case RESET_REFUSED:
    case RESET_GOAWAY:
    case RESET_CONNECTION:
        return GRPC_UNAVAILABLE;
    case RESET_NONE:
    case RESET_CANCEL:
        return GRPC_CANCELLED;
    case RESET_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case RESET_TIMEOUT:
        return GRPC_DEADLINE_EXCEEDED;
    case RESET_PROTOCOL:
    case RESET_INTERNAL:
    case RESET_TRUNCATED:
        return GRPC_INTERNAL;
    }
    return GRPC_UNKNOWN;
}

static void on_reset(void *user, enum reset why, int err)
{
    err = why == RESET_REFUSED ? E_REFUSED : err;
    call_end(user, status_of_reset(why), bytes_str(err_text(err)), err);
}

static void call_flush(struct grpc_call *call)
{
    if (call->s->sent_end) {
        return;
    }
    if (grpc_pending_send(call->s, &call->pending) && call->finishing) {
        stream_send_end(call->s, NULL);
    }
}

static void on_room(void *user, size_t bytes UNUSED)
{
    call_flush(user);
}

static const struct stream_events call_stream_events = {
    .on_head = on_head,
    .on_data = on_data,
    .on_room = on_room,
    .on_end = on_end,
    .on_reset = on_reset,
};

static void on_deadline(struct timer *timer)
{
    struct grpc_call *call = CONTAINER_OF(timer, struct grpc_call, deadline);

    call_end(call, GRPC_DEADLINE_EXCEEDED, BYTES("the time allowed ran out"), E_TIMEOUT);
}

static int call_head(struct head *h, struct arena *arena, const char *timeout,
                     const struct fields *metadata)
{
    struct fields *f = &h->fields;

    fields_init(f, arena);
    TRY(fields_add(f, BYTES("content-type"), BYTES("application/grpc")));
    TRY(fields_add(f, BYTES("te"), BYTES("trailers")));
    TRY(fields_add(f, BYTES("user-agent"), BYTES("tulle/" TULLE_VERSION)));
    if (timeout != NULL) {
        TRY(fields_add(f, BYTES("grpc-timeout"), bytes_str(timeout)));
    }
    for (unsigned i = 0; metadata != NULL && i < metadata->count; i++) {
        TRY(fields_add(f, metadata->at[i].name, metadata->at[i].value));
    }
    return 0;
}

int grpc_call_open(struct http_client *c, struct bytes authority, const char *path,
                   uint64_t timeout_ns, const struct fields *metadata,
                   const struct grpc_call_events *events, void *user, struct grpc_call **out)
{
    struct grpc_call *call;
    struct head h = {
        .method = BYTES("POST"),
        .scheme = BYTES("http"),
        .authority = authority,
        .path = bytes_str(path),
        .content_length = -1,
        .version = HTTP_2,
    };
    char timeout[GRPC_TIMEOUT_BYTES];
    struct arena arena;
    int rc;

    if (metadata != NULL && metadata->count > METADATA_MAX) {
        return E_LIMIT;
    }
    if (timeout_ns > 0) {
        (void)grpc_timeout_print(timeout_ns, timeout);
    }
    call = mem_new(sizeof(*call));
    call->events = events;
    call->user = user;
    call->deadline.run = on_deadline;
    grpc_frames_init(&call->frames, GRPC_MESSAGE_MAX);
    chain_init(&call->pending);
    arena_init(&arena, ARENA_BLOCK_BYTES * 4);
    rc = call_head(&h, &arena, timeout_ns > 0 ? timeout : NULL, metadata);
    if (rc == 0) {
        rc = http_client_open(c, &h, false, &call_stream_events, call, &call->s);
    }
    arena_clear(&arena);
    if (rc != 0) {
        mem_free(call);
        return rc;
    }
    stream_credit(call->s, GRPC_CREDIT_BYTES);
    if (timeout_ns > 0) {
        timer_arm_in(call->s->loop, &call->deadline, timeout_ns);
    }
    *out = call;
    return 0;
}

int grpc_call_send(struct grpc_call *call, struct bytes message)
{
    assert(!call->finishing && !call->dead);
    TRY(grpc_frame_append(&call->pending, &call->s->loop->chunks, message));
    call_flush(call);
    return 0;
}

void grpc_call_finish(struct grpc_call *call)
{
    assert(!call->finishing && !call->dead);
    call->finishing = true;
    call_flush(call);
}

void grpc_call_cancel(struct grpc_call *call)
{
    assert(!call->dead);
    call->dead = true;
    call_free(call);
}
