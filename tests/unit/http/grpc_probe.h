/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HTTP_GRPC_PROBE_H
#define TESTS_UNIT_HTTP_GRPC_PROBE_H

/*
 * A gRPC server and its client on one loop over a socket pair: a service that is told by messages what to
 * do, and callers that write down what they are answered.
 */
#include "http/grpc_private.h"
#include "tests/unit/http/h2_probe.h"

#define CALLS_MAX 256

/* --- a service that does what the first message says --------------------------------------------- */

struct served {
    struct service *service;
    struct grpc_server_call *call;
    unsigned messages;
    bool half_closed, done;
    char first[32];
};

struct service {
    struct grpc_server *grpc;
    struct served calls[CALLS_MAX];
    unsigned count, done_count;
    struct bytes metadata; /* of the last call's x-who */
};

static inline void serve_call(struct grpc_server_call *call, void *service)
{
    struct service *s = service;
    struct served *served = &s->calls[s->count++];
    const struct field *who = fields_find(grpc_server_call_metadata(call), BYTES("x-who"));

    served->service = s;
    served->call = call;
    grpc_server_call_set(call, served);
    s->metadata = who != NULL ? who->value : BYTES_NONE;
}

static inline void serve_message(struct grpc_server_call *call, void *user, struct bytes message)
{
    struct served *served = user;
    int rc = 0;

    if (served->messages++ == 0) {
        memcpy(served->first, message.at, MIN(message.len, sizeof(served->first) - 1));
    }
    if (bytes_eq(message, BYTES("fail"))) {
        grpc_finish(call, GRPC_NOT_FOUND, "no \xc3\xbc here: 100%");
    } else if (bytes_eq(message, BYTES("stream"))) {
        for (unsigned i = 0; i < 10 && rc == 0; i++) {
            rc = grpc_send(call, BYTES("piece"));
        }
        grpc_finish(call, GRPC_OK, NULL);
    } else if (bytes_eq(message, BYTES("flood"))) {
        char *large = mem_new(1 << 20);

        while (rc == 0) { /* until the client's slowness has filled the queue */
            rc = grpc_send(call, bytes_of(large, 1 << 20));
        }
        assert_int_equal(rc, E_LIMIT);
        assert_true(grpc_pending(call) <= GRPC_PENDING_MAX);
        mem_free(large);
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "too slow");
        assert_int_equal(grpc_send(call, message), E_CLOSED);
    } else if (!bytes_eq(message, BYTES("wait"))) {
        assert_int_equal(grpc_send(call, message), 0);
    }
}

static inline void serve_half_close(struct grpc_server_call *call, void *user)
{
    struct served *served = user;

    assert_false(served->half_closed);
    served->half_closed = true;
    if (strcmp(served->first, "wait") != 0) {
        grpc_finish(call, GRPC_OK, "");
    }
}

static inline void serve_done(struct grpc_server_call *call UNUSED, void *user)
{
    struct served *served = user;

    assert_false(served->done);
    served->done = true;
    served->service->done_count++;
}

static const struct grpc_method methods[] = {
    {"/t.Echo/Call", serve_call, serve_message, serve_half_close, serve_done},
};

/* --- the caller ---------------------------------------------------------------------------------- */

struct caller {
    struct grpc_call *call; /* NULL once over */
    unsigned messages;
    size_t bytes;
    bool ended, cancel_in_message;
    enum grpc_status status;
    char text[64];
    int err;
};

static inline void caller_on_message(void *user, struct bytes message)
{
    struct caller *c = user;

    c->messages++;
    c->bytes += message.len;
    if (c->cancel_in_message) {
        struct grpc_call *call = c->call;

        c->call = NULL;
        grpc_call_cancel(call);
        assert_int_equal(message.at[0], 'p'); /* still there */
    }
}

static inline void caller_on_end(void *user, enum grpc_status status, struct bytes message, int err)
{
    struct caller *c = user;

    assert_false(c->ended);
    c->ended = true;
    c->call = NULL;
    c->status = status;
    c->err = err;
    (void)snprintf(c->text, sizeof(c->text), BYTES_FMT, BYTES_ARG(message));
}

static const struct grpc_call_events caller_events = {caller_on_message, caller_on_end};

static struct service service;

static inline struct probe *pair(void)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    int fds[2];

    probe_sockets(fds);
    service = (struct service){0};
    service.grpc = grpc_server_new(&p->loop, methods, ARRAY_LEN(methods), &service);
    grpc_server_accept(service.grpc, fds[0]);
    p->client = http2_client_new(probe_io(p, fds[1]), NULL, &probe_client_events, p);
    return p;
}

static inline void pair_free(struct probe *p)
{
    grpc_server_free(service.grpc);
    assert_int_equal(service.done_count, service.count);
    probe_free(p);
}

static inline void call_open(struct probe *p, struct caller *c, const char *path, uint64_t timeout_ns)
{
    *c = (struct caller){0};
    assert_int_equal(grpc_call_open(p->client, BYTES("echo:1"), path, timeout_ns, NULL,
                                    &caller_events, c, &c->call),
                     0);
}

static inline void call_start(struct probe *p, struct caller *c, const char *message)
{
    call_open(p, c, "/t.Echo/Call", 0);
    assert_int_equal(grpc_call_send(c->call, bytes_str(message)), 0);
    grpc_call_finish(c->call);
}

#endif
