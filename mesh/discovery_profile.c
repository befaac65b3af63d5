/* SPDX-License-Identifier: Apache-2.0 */
#include "api/names.h"
#include "core/alloc.h"
#include "core/log.h"
#include "mesh/discovery_private.h"

/*
 * The profile of a service by its name: Destination.GetProfile (wire 3.2). What an answer is without
 * a policy, `outbound_policy_new_at()` with the profile alone.
 */
struct profile_asked {
    struct asked asked;
    struct control_watch watch;
    struct bytes message; /* the newest; owned */
    uint16_t port;
};

static void publish(struct profile_asked *p, struct bytes message)
{
    asked_publish(&p->asked, &outbound_policy_new_at(BYTES_NONE, message, p->port)->ref);
}

static void on_message(struct control_watch *w, struct bytes message, bool is_first)
{
    struct profile_asked *p = CONTAINER_OF(w, struct profile_asked, watch);

    (void)is_first;
    if (p->asked.answer != NULL && bytes_eq(p->message, message)) {
        return; /* a stream that is opened again repeats what is known */
    }
    mem_free((char *)(uintptr_t)p->message.at);
    p->message = bytes_of(bytes_dup(message), message.len);
    publish(p, message);
}

/* Once something is known it stays, whatever becomes of the stream. */
static enum control_verdict on_end(struct control_watch *w, enum grpc_status status,
                                   struct bytes message)
{
    struct profile_asked *p = CONTAINER_OF(w, struct profile_asked, watch);

    (void)message;
    if (status != GRPC_INVALID_ARGUMENT && status != GRPC_FAILED_PRECONDITION) {
        return CONTROL_RETRY;
    }
    if (p->asked.answer == NULL) {
        publish(p, BYTES_NONE);
    }
    return CONTROL_STOP;
}

static uint16_t port_of(struct bytes key)
{
    uint64_t port = 0;

    for (size_t i = key.len; i > 0; i--) {
        if (key.at[i - 1] == ':') {
            return bytes_to_u64(bytes_from(key, i), UINT16_MAX, &port) == 0 ? (uint16_t)port : 0;
        }
    }
    return 0;
}

static void profile_start(struct asked *a)
{
    struct profile_asked *p = CONTAINER_OF(a, struct profile_asked, asked);
    const struct discovery *d = a->discovery;
    Io__Linkerd__Proxy__Destination__GetDestination get;
    AUTOFREE char *path = bytes_dup(a->key);

    p->port = port_of(a->key);
    io__linkerd__proxy__destination__get_destination__init(&get);
    get.path = path;
    if (d->config.context_token != NULL) {
        get.context_token = (char *)(uintptr_t)d->config.context_token;
    }
    p->watch.path = GRPC_DESTINATION_PROFILE;
    p->watch.request = request_pack(&get.base);
    p->watch.on_message = on_message;
    p->watch.on_end = on_end;
    control_watch_start(d->destination, &p->watch);
}

static void profile_stop(struct asked *a)
{
    struct profile_asked *p = CONTAINER_OF(a, struct profile_asked, asked);

    control_watch_stop(&p->watch);
    mem_free((char *)(uintptr_t)p->watch.request.at);
    mem_free((char *)(uintptr_t)p->message.at);
}

const struct asked_ops profile_ops = {
    .bytes = sizeof(struct profile_asked),
    .start = profile_start,
    .stop = profile_stop,
};
