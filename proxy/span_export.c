/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/span_export.h"

#include "api/names.h"
#include "api/otlp.pb-c.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"

#include <unistd.h>

#define CALL_TIMEOUT_NS (10 * NS_PER_S)
#define BACKOFF_MIN_NS  NS_PER_S
#define BACKOFF_MAX_NS  (10 * NS_PER_S)
#define BACKOFF_JITTER  0.1
#define FINISH_NS       (3 * NS_PER_S)

#define PAIRS_MAX (TRACE_ATTRIBUTES_MAX + 3)

/* Statuses after which the same request may be sent again (OTLP, "Failures"). */
#define RETRYABLE                                                                                  \
    (1u << GRPC_CANCELLED | 1u << GRPC_DEADLINE_EXCEEDED | 1u << GRPC_RESOURCE_EXHAUSTED |         \
     1u << GRPC_ABORTED | 1u << GRPC_OUT_OF_RANGE | 1u << GRPC_UNAVAILABLE | 1u << GRPC_DATA_LOSS)

struct span_export {
    struct loop *loop;
    struct control *channel;
    struct span_queue *queue;
    struct list waiting; /* batches */
    struct list sending; /* those of the request at hand; kept while it backs off */
    unsigned spans;      /* in it */
    struct control_call call;
    struct timer next; /* armed while nothing is on its way and something is to be sent */
    unsigned tries;    /* of the request at hand */
    unsigned failures; /* of requests, one after the other */
    bool has_stream, is_out, has_complained;
    struct series *streams, *requests, *exports, *dropped;

    Opentelemetry__Resource resource;
    Opentelemetry__KeyValue pairs[PAIRS_MAX], *attributes[PAIRS_MAX];
    Opentelemetry__AnyValue values[PAIRS_MAX];

    void (*on_done)(void *user); /* NULL: the process goes on */
    void *user;
    struct timer done;
};

/* --- the resource ----------------------------------------------------------------------------- */

static ProtobufCBinaryData copied(const char *text)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)mem_strdup(text), .len = strlen(text)};
}

static Opentelemetry__AnyValue *add_pair(struct span_export *e, const char *key)
{
    size_t n = e->resource.n_attributes++;

    opentelemetry__key_value__init(&e->pairs[n]);
    opentelemetry__any_value__init(&e->values[n]);
    e->pairs[n].key = copied(key);
    e->pairs[n].value = &e->values[n];
    e->attributes[n] = &e->pairs[n];
    return &e->values[n];
}

static void add_text(struct span_export *e, const char *key, const char *value)
{
    Opentelemetry__AnyValue *v = add_pair(e, key);

    v->value_case = OPENTELEMETRY__ANY_VALUE__VALUE_STRING_VALUE;
    v->string_value = copied(value);
}

static void add_number(struct span_export *e, const char *key, int64_t value)
{
    Opentelemetry__AnyValue *v = add_pair(e, key);

    v->value_case = OPENTELEMETRY__ANY_VALUE__VALUE_INT_VALUE;
    v->int_value = value;
}

static void resource_make(struct span_export *e, const struct trace_resource *r)
{
    opentelemetry__resource__init(&e->resource);
    e->resource.attributes = e->attributes;
    add_number(e, "process.pid", getpid());
    add_number(e, "process.start_timestamp", (int64_t)(clock_wall_ns() / NS_PER_S));
    if (trace_resource_get(r, "host.name") == NULL) {
        add_text(e, "host.name", r->host_name);
    }
    for (size_t i = 0; i < r->count; i++) {
        add_text(e, r->at[i].key, r->at[i].value);
    }
}

static void resource_clear(struct span_export *e)
{
    for (size_t i = 0; i < e->resource.n_attributes; i++) {
        mem_free(e->pairs[i].key.data);
        if (e->values[i].value_case == OPENTELEMETRY__ANY_VALUE__VALUE_STRING_VALUE) {
            mem_free(e->values[i].string_value.data);
        }
    }
}

/* --- requests --------------------------------------------------------------------------------- */

static struct bytes request_pack(struct span_export *e)
{
    Opentelemetry__ExportTraceServiceRequest request;
    Opentelemetry__ResourceSpans of_resource, *resources = &of_resource;
    Opentelemetry__ScopeSpans of_scope, *scopes = &of_scope;
    Opentelemetry__InstrumentationScope scope;
    ProtobufCBinaryData spans[EXPORT_SPANS_MAX];
    uint8_t *packed;
    size_t n = 0;

    LIST_FOREACH(node, &e->sending)
    {
        const struct span_batch *b = LIST_ITEM(node, struct span_batch, node);

        for (unsigned i = 0; i < b->count; i++) {
            struct bytes span = span_batch_at(b, i);

            spans[n++] = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)span.at, .len = span.len};
        }
    }
    assert(n == e->spans);
    opentelemetry__export_trace_service_request__init(&request);
    opentelemetry__resource_spans__init(&of_resource);
    opentelemetry__scope_spans__init(&of_scope);
    opentelemetry__instrumentation_scope__init(&scope);
    scope.name = (char *)(uintptr_t) "tulle-proxy";
    scope.version = (char *)(uintptr_t)TULLE_VERSION;
    of_scope.scope = &scope;
    of_scope.spans = spans;
    of_scope.n_spans = n;
    of_resource.resource = &e->resource;
    of_resource.scope_spans = &scopes;
    of_resource.n_scope_spans = 1;
    request.resource_spans = &resources;
    request.n_resource_spans = 1;
    n = opentelemetry__export_trace_service_request__get_packed_size(&request);
    packed = mem_new(n);
    (void)opentelemetry__export_trace_service_request__pack(&request, packed);
    return bytes_of(packed, n);
}

static void send_request(struct span_export *e)
{
    struct bytes packed = request_pack(e);

    e->tries++;
    if (!e->has_stream) {
        e->has_stream = true;
        series_add(e->streams, 1);
    }
    series_add(e->requests, 1);
    control_call_start(e->channel, &e->call, GRPC_TRACE_EXPORT, packed, CALL_TIMEOUT_NS);
    mem_free((char *)(uintptr_t)packed.at);
}

/* Fill a request from what waits. */
static void gather(struct span_export *e)
{
    while (!list_is_empty(&e->waiting)) {
        struct span_batch *b = LIST_ITEM(e->waiting.next, struct span_batch, node);

        if (e->spans + b->count > EXPORT_SPANS_MAX) {
            break;
        }
        list_unlink(&b->node);
        list_append(&e->sending, &b->node);
        e->spans += b->count;
    }
}

/* The request at hand is over. */
static void forget(struct span_export *e)
{
    struct list *node;

    while ((node = list_pop(&e->sending)) != NULL) {
        span_batch_free(LIST_ITEM(node, struct span_batch, node));
    }
    e->spans = 0;
    e->tries = 0;
}

static bool has_more(const struct span_export *e)
{
    return !list_is_empty(&e->sending) || !list_is_empty(&e->waiting);
}

static void on_next(struct timer *t)
{
    struct span_export *e = CONTAINER_OF(t, struct span_export, next);

    if (list_is_empty(&e->sending)) {
        gather(e);
    }
    send_request(e);
}

static void maybe_done(struct span_export *e, bool has_failed)
{
    if (e->on_done != NULL && (has_failed || !has_more(e))) {
        timer_arm_in(e->loop, &e->done, 0);
    }
}

static void want(struct span_export *e, uint64_t delay_ns)
{
    if (has_more(e) && e->call.pending == NULL && !timer_is_armed(&e->next)) {
        timer_arm_in(e->loop, &e->next, delay_ns);
    }
}

/* --- answers ---------------------------------------------------------------------------------- */

/* How many of the spans were taken. */
static unsigned taken(struct span_export *e, struct bytes message)
{
    Opentelemetry__ExportTraceServiceResponse *r =
        opentelemetry__export_trace_service_response__unpack(NULL, message.len,
                                                             (const uint8_t *)message.at);
    const Opentelemetry__ExportTracePartialSuccess *partial = r != NULL ? r->partial_success : NULL;
    unsigned rejected = 0;

    if (partial != NULL && partial->rejected_spans > 0) {
        rejected = (unsigned)MIN(partial->rejected_spans, (int64_t)e->spans);
    }
    if (rejected > 0 && !e->has_complained) {
        e->has_complained = true;
        log_warn("the trace collector rejected spans; rejected=%u of=%u reason=\"%.200s\"", rejected,
                 e->spans, partial->error_message);
    }
    if (r != NULL) {
        opentelemetry__export_trace_service_response__free_unpacked(r, NULL);
    }
    return e->spans - rejected;
}

static void succeeded(struct span_export *e, struct bytes message)
{
    unsigned count = taken(e, message);

    series_add(e->exports, count);
    series_add(e->dropped, e->spans - count);
    e->failures = 0;
    if (e->is_out) {
        e->is_out = false;
        log_info("spans are exported again");
    }
    forget(e);
    maybe_done(e, false);
    want(e, 0);
}

static uint64_t backoff_ns(const struct span_export *e)
{
    uint64_t base = MIN(BACKOFF_MIN_NS << MIN(e->failures, 8u), BACKOFF_MAX_NS);

    return base + (uint64_t)(rand_unit(&e->loop->rand) * BACKOFF_JITTER * (double)base);
}

static void failed(struct span_export *e, enum grpc_status status, struct bytes problem)
{
    bool is_final = status > GRPC_CODES_MAX || (RETRYABLE >> status & 1u) == 0 ||
                    e->tries >= EXPORT_TRIES_MAX;

    if (!e->is_out) {
        e->is_out = true;
        log_warn("spans are not exported; status=%s reason=\"%.*s\"; look at whether the collector "
                 "of LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR runs, takes OTLP over gRPC, and has "
                 "the identity of LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME",
                 grpc_status_name(status), (int)MIN(problem.len, (size_t)200), problem.at);
    }
    log_debug("a request with spans failed; spans=%u try=%u status=%s", e->spans, e->tries,
              grpc_status_name(status));
    e->has_stream = false;
    if (is_final) {
        series_add(e->dropped, e->spans);
        forget(e);
    }
    maybe_done(e, true);
    want(e, backoff_ns(e));
    e->failures++;
}

static void on_answer(struct control_call *call, enum grpc_status status, struct bytes message)
{
    struct span_export *e = CONTAINER_OF(call, struct span_export, call);

    if (status == GRPC_OK) {
        succeeded(e, message);
    } else {
        failed(e, status, message);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_batch(struct span_queue *q, struct span_batch *b)
{
    struct span_export *e = q->user;

    list_append(&e->waiting, &b->node);
    want(e, 0);
}

static void on_finished(struct timer *t)
{
    struct span_export *e = CONTAINER_OF(t, struct span_export, done);
    void (*tell)(void *user) = e->on_done;

    e->on_done = NULL;
    tell(e->user);
}

struct span_export *span_export_open(struct loop *l, struct control *channel, struct span_queue *q,
                                     const struct trace_resource *resource)
{
    struct span_export *e = mem_new(sizeof(*e));
    struct metrics *m = l->metrics;

    e->loop = l;
    e->channel = channel;
    e->queue = q;
    list_init(&e->waiting);
    list_init(&e->sending);
    e->call.on_answer = on_answer;
    e->next.run = on_next;
    e->done.run = on_finished;
    resource_make(e, resource);
    e->streams = metrics_series(m, stat_family(STAT_SPAN_STREAMS), BYTES_NONE);
    e->requests = metrics_series(m, stat_family(STAT_SPAN_REQUESTS), BYTES_NONE);
    e->exports = metrics_series(m, stat_family(STAT_SPAN_EXPORTS), BYTES_NONE);
    e->dropped =
        metrics_series(m, stat_family(STAT_SPANS_DROPPED), BYTES("reason=\"collector\""));
    q->loop = l;
    q->user = e;
    q->on_batch = on_batch;
    return e;
}

void span_export_close(struct span_export *e)
{
    if (e == NULL) {
        return;
    }
    e->queue->on_batch = NULL;
    e->queue->user = NULL;
    control_call_cancel(&e->call);
    timer_cancel(e->loop, &e->next);
    timer_cancel(e->loop, &e->done);
    forget(e);
    list_move(&e->sending, &e->waiting);
    forget(e);
    resource_clear(e);
    series_unref(e->streams);
    series_unref(e->requests);
    series_unref(e->exports);
    series_unref(e->dropped);
    mem_free(e);
}

void span_export_finish(struct span_export *e, void (*on_done)(void *user), void *user)
{
    assert(e->on_done == NULL && !timer_is_armed(&e->done));
    e->on_done = on_done;
    e->user = user;
    timer_arm_in(e->loop, &e->done, has_more(e) ? FINISH_NS : 0);
    if (timer_is_armed(&e->next)) {
        timer_arm_in(e->loop, &e->next, 0); /* it backs off, and this is its last chance */
    }
}
