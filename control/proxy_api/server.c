/* SPDX-License-Identifier: Apache-2.0 */
#include "control/proxy_api/proxy_api.h"

#include "api/names.h"
#include "control/destination/destination.h"
#include "control/policy/policy.h"
#include "core/alloc.h"
#include "core/err.h"

/* --- metrics, as every gRPC server in Go names them ---------------------------------------------- */

static const struct metric_family family_started = {
    .name = "grpc_server_started_total",
    .help = "Calls begun.",
    .kind = METRIC_COUNTER,
};
static const struct metric_family family_handled = {
    .name = "grpc_server_handled_total",
    .help = "Calls ended, by status.",
    .kind = METRIC_COUNTER,
};
static const struct metric_family family_received = {
    .name = "grpc_server_msg_received_total",
    .help = "Messages received.",
    .kind = METRIC_COUNTER,
};
static const struct metric_family family_sent = {
    .name = "grpc_server_msg_sent_total",
    .help = "Messages sent.",
    .kind = METRIC_COUNTER,
};

enum method {
    METHOD_GET,
    METHOD_PROFILE,
    METHOD_PORT_WATCH,
    METHOD_PORT_GET,
    METHOD_OUT_WATCH,
    METHOD_OUT_GET,
    METHOD_COUNT
};

static const struct method_info {
    const char *path; /* "/service/Method" */
    enum api api;
    bool is_unary;
} infos[METHOD_COUNT] = {
    [METHOD_GET] = {GRPC_DESTINATION_GET, API_DESTINATION, false},
    [METHOD_PROFILE] = {GRPC_DESTINATION_PROFILE, API_DESTINATION, false},
    [METHOD_PORT_WATCH] = {GRPC_INBOUND_WATCH, API_POLICY, false},
    [METHOD_PORT_GET] = {GRPC_INBOUND_GET, API_POLICY, true},
    [METHOD_OUT_WATCH] = {GRPC_OUTBOUND_WATCH, API_POLICY, false},
    [METHOD_OUT_GET] = {GRPC_OUTBOUND_GET, API_POLICY, true},
};

struct api_server {
    const struct control_env *env;
    struct grpc_server *grpc;
    struct port_listener *listener;
    struct list calls;
    struct api_method {
        struct series *started, *received, *sent;
        struct series *handled[GRPC_UNAUTHENTICATED + 1]; /* made when needed */
    } methods[METHOD_COUNT];
};

struct api_call {
    struct list node;
    struct grpc_server_call *call;
    struct api_server *server;
    enum method method;
    struct subscriber subscriber;
    bool asked, answered, ended;
    enum grpc_status
        status; /* that we gave it; until then the client's leaving counts as CANCELLED */
    uint64_t sent_bytes;
    uint64_t *ends; /* sent_bytes after each of the newest messages; made at the first backlog */
    size_t ends_first, ends_count;
};

static void method_labels(enum method m, struct text *to)
{
    struct bytes service, name;

    (void)bytes_split(bytes_from(bytes_str(infos[m].path), 1), '/', &service, &name);
    text_init(to, SERIES_LABELS_MAX);
    label_add(to, "grpc_method", name);
    label_add(to, "grpc_service", service);
    label_add(to, "grpc_type", infos[m].is_unary ? BYTES("unary") : BYTES("server_stream"));
}

static void method_open(struct api_server *s, enum method m)
{
    struct metrics *metrics = s->env->metrics;
    struct text labels;

    method_labels(m, &labels);
    s->methods[m].started = metrics_series(metrics, &family_started, text_bytes(&labels));
    s->methods[m].received = metrics_series(metrics, &family_received, text_bytes(&labels));
    s->methods[m].sent = metrics_series(metrics, &family_sent, text_bytes(&labels));
    text_clear(&labels);
}

static void method_close(struct api_method *m)
{
    series_unref(m->started);
    series_unref(m->received);
    series_unref(m->sent);
    for (size_t i = 0; i < ARRAY_LEN(m->handled); i++) {
        series_unref(m->handled[i]);
    }
}

static void count_handled(struct api_server *s, enum method m, enum grpc_status status)
{
    struct series **series = &s->methods[m].handled[status];
    struct text labels;

    if (*series == NULL) {
        method_labels(m, &labels);
        label_add(&labels, "grpc_code", bytes_str(grpc_status_name(status)));
        *series = metrics_series(s->env->metrics, &family_handled, text_bytes(&labels));
        text_clear(&labels);
    }
    series_add(*series, 1);
}

/* --- one stream ---------------------------------------------------------------------------------- */

static void call_finish(struct api_call *c, enum grpc_status status, const char *why)
{
    if (c->ended) {
        return;
    }
    c->ended = true;
    c->status = status;
    topic_unsubscribe(&c->subscriber);
    grpc_finish(c->call, status, why);
}

/* Messages are counted by where each ends in the bytes sent: what is pending is the tail of them. */
static size_t call_backlog(struct api_call *c)
{
    uint64_t pending = grpc_pending(c->call), written;

    if (pending == 0) {
        c->ends_count = 0;
        return 0;
    }
    written = c->sent_bytes - MIN(pending, c->sent_bytes);
    while (c->ends_count > 0 && c->ends[c->ends_first] <= written) {
        c->ends_first = (c->ends_first + 1) % STREAM_MESSAGES_MAX;
        c->ends_count--;
    }
    return c->ends_count;
}

static void call_note_sent(struct api_call *c, struct bytes message)
{
    c->sent_bytes +=
        message.len + 5; /* the frame's head (gRPC over HTTP/2, Length-Prefixed-Message) */
    if (grpc_pending(c->call) == 0) {
        return;
    }
    if (c->ends == NULL) {
        c->ends = mem_new_array(STREAM_MESSAGES_MAX, sizeof(c->ends[0]));
    }
    assert(c->ends_count < STREAM_MESSAGES_MAX);
    c->ends[(c->ends_first + c->ends_count) % STREAM_MESSAGES_MAX] = c->sent_bytes;
    c->ends_count++;
}

static void on_engine_message(struct subscriber *subscriber, struct bytes message)
{
    struct api_call *c = CONTAINER_OF(subscriber, struct api_call, subscriber);

    if (call_backlog(c) >= STREAM_MESSAGES_MAX || grpc_send(c->call, message) != 0) {
        call_finish(c, GRPC_UNAVAILABLE, "the client is too slow for the changes: ask again");
        return;
    }
    call_note_sent(c, message);
    c->answered = true;
    series_add(c->server->methods[c->method].sent, 1);
    if (infos[c->method].is_unary) {
        call_finish(c, GRPC_OK, "");
    }
}

static void on_engine_end(struct subscriber *subscriber, enum grpc_status status, const char *why)
{
    call_finish(CONTAINER_OF(subscriber, struct api_call, subscriber), status, why);
}

static enum grpc_status call_ask(struct api_call *c, struct bytes request, const char **out_why)
{
    const struct control_env *env = c->server->env;

    switch (c->method) {
    case METHOD_GET:
        return destination_get(env->destination, request, &c->subscriber, out_why);
    case METHOD_PROFILE:
        return destination_get_profile(env->destination, request, &c->subscriber, out_why);
    case METHOD_PORT_WATCH:
    case METHOD_PORT_GET:
        return policy_watch_port(env->policy, request, &c->subscriber, out_why);
    case METHOD_OUT_WATCH:
    case METHOD_OUT_GET:
        return policy_watch_outbound(env->policy, request, &c->subscriber, out_why);
    case METHOD_COUNT:
        break;
    }
    *out_why = "no such method";
    return GRPC_UNIMPLEMENTED;
}

static void call_begin(struct grpc_server_call *call, struct api_server *s, enum method m)
{
    struct api_call *c = mem_new(sizeof(*c));

    c->call = call;
    c->server = s;
    c->method = m;
    c->status = GRPC_CANCELLED;
    c->subscriber.on_message = on_engine_message;
    c->subscriber.on_end = on_engine_end;
    list_append(&s->calls, &c->node);
    series_add(s->methods[m].started, 1);
    grpc_server_call_set(call, c);
}

static void on_message(struct grpc_server_call *call, void *user, struct bytes message)
{
    struct api_call *c = user;
    const char *why = "";
    enum grpc_status status;

    (void)call;
    series_add(c->server->methods[c->method].received, 1);
    if (c->ended) {
        return;
    }
    if (c->asked) {
        call_finish(c, GRPC_INVALID_ARGUMENT, "a call asks one question");
        return;
    }
    c->asked = true;
    status = call_ask(c, message, &why);
    if (status != GRPC_OK) {
        call_finish(c, status, why);
    }
}

static void on_half_close(struct grpc_server_call *call, void *user)
{
    struct api_call *c = user;

    (void)call;
    if (!c->asked) {
        call_finish(c, GRPC_INVALID_ARGUMENT, "the call asks nothing");
    }
}

static void on_done(struct grpc_server_call *call, void *user)
{
    struct api_call *c = user;

    (void)call;
    topic_unsubscribe(&c->subscriber);
    count_handled(c->server, c->method, c->status);
    list_unlink(&c->node);
    mem_free(c->ends);
    mem_free(c);
}

/* --- the table ----------------------------------------------------------------------------------- */

static void on_get(struct grpc_server_call *call, void *service)
{
    call_begin(call, service, METHOD_GET);
}

static void on_get_profile(struct grpc_server_call *call, void *service)
{
    call_begin(call, service, METHOD_PROFILE);
}

static void on_watch_port(struct grpc_server_call *call, void *service)
{
    call_begin(call, service, METHOD_PORT_WATCH);
}

static void on_get_port(struct grpc_server_call *call, void *service)
{
    call_begin(call, service, METHOD_PORT_GET);
}

static void on_watch_outbound(struct grpc_server_call *call, void *service)
{
    call_begin(call, service, METHOD_OUT_WATCH);
}

static void on_get_outbound(struct grpc_server_call *call, void *service)
{
    call_begin(call, service, METHOD_OUT_GET);
}

#define METHOD(path_, on_call_)                                                                    \
    {                                                                                              \
        .path = (path_), .on_call = (on_call_), .on_message = on_message,                          \
        .on_half_close = on_half_close, .on_done = on_done                                         \
    }

static const struct grpc_method destination_methods[] = {
    METHOD(GRPC_DESTINATION_GET, on_get),
    METHOD(GRPC_DESTINATION_PROFILE, on_get_profile),
};
static const struct grpc_method policy_methods[] = {
    METHOD(GRPC_INBOUND_WATCH, on_watch_port),
    METHOD(GRPC_INBOUND_GET, on_get_port),
    METHOD(GRPC_OUTBOUND_WATCH, on_watch_outbound),
    METHOD(GRPC_OUTBOUND_GET, on_get_outbound),
};

int api_server_open(const struct control_env *env, enum api api, uint16_t port,
                    struct api_server **out, char *problem, size_t problem_bytes)
{
    struct api_server *s = mem_new(sizeof(*s));
    int rc;

    s->env = env;
    list_init(&s->calls);
    for (unsigned m = 0; m < METHOD_COUNT; m++) {
        if (infos[m].api == api) {
            method_open(s, m);
        }
    }
    if (api == API_DESTINATION) {
        s->grpc =
            grpc_server_new(env->loop, destination_methods, ARRAY_LEN(destination_methods), s);
    } else {
        s->grpc = grpc_server_new(env->loop, policy_methods, ARRAY_LEN(policy_methods), s);
    }
    rc = serve_grpc(env, port, s->grpc, &s->listener, problem, problem_bytes);
    if (rc != 0) {
        api_server_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void api_server_drain(struct api_server *s)
{
    LIST_FOREACH(node, &s->calls)
    {
        struct api_call *c = LIST_ITEM(node, struct api_call, node);

        /* A watch that has its answer just ends; the client keeps it and asks elsewhere. */
        if (c->answered) {
            call_finish(c, GRPC_OK, "");
        } else {
            call_finish(c, GRPC_UNAVAILABLE, "the server is going away");
        }
    }
    grpc_server_drain(s->grpc);
}

void api_server_close(struct api_server *s)
{
    if (s == NULL) {
        return;
    }
    serve_close(s->listener);
    grpc_server_free(s->grpc);
    for (unsigned m = 0; m < METHOD_COUNT; m++) {
        method_close(&s->methods[m]);
    }
    mem_free(s);
}
