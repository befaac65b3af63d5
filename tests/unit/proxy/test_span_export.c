/* SPDX-License-Identifier: Apache-2.0 */
/* Spans to a collector on the same loop, which the test makes answer, refuse and vanish. */
#include "proxy/span_export.h"

#include "api/names.h"
#include "api/otlp.pb-c.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "net/sock.h"
#include "tests/unit/unit.h"

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        uint64_t until_ = clock_mono_ns() + 60 * NS_PER_S;                                         \
        while (!(condition)) {                                                                     \
            (void)loop_turn(&loop, 100);                                                           \
            assert_true(clock_mono_ns() < until_);                                                 \
        }                                                                                          \
    } while (0)

static struct loop loop;
static struct metrics metrics;
static struct stats stats;
static struct dns *dns;
static struct control *channel;
static struct span_queue queue;
static struct span_writer *writer;
static struct span_export *export;
static struct span_request request = {
    .method = {"GET", 3}, .scheme = {"http", 4}, .authority = {"web", 3}, .path = {"/", 1}};

/* --- the collector ---------------------------------------------------------------------------- */

static struct {
    struct listener listener;
    struct grpc_server *server;
    uint16_t port;
    enum grpc_status refusal;
    int64_t rejects;
    unsigned requests, spans;
    char service[64], last_name[64];
} collector;

static void on_accept(struct listener *ln UNUSED, int fd, const struct addr *peer UNUSED)
{
    grpc_server_accept(collector.server, fd);
}

static void on_call(struct grpc_server_call *call, void *service UNUSED)
{
    grpc_server_call_set(call, call);
}

static void note_resource(const Opentelemetry__Resource *r)
{
    for (size_t i = 0; i < r->n_attributes; i++) {
        const Opentelemetry__KeyValue *a = r->attributes[i];

        if (bytes_eq(bytes_of(a->key.data, a->key.len), BYTES("service.name"))) {
            snprintf(collector.service, sizeof(collector.service), "%.*s",
                     (int)a->value->string_value.len, (const char *)a->value->string_value.data);
        }
    }
}

static void note_spans(const Opentelemetry__ScopeSpans *s)
{
    assert_string_equal(s->scope->name, "tulle-proxy");
    for (size_t i = 0; i < s->n_spans; i++) {
        Opentelemetry__Span *span =
            opentelemetry__span__unpack(NULL, s->spans[i].len, s->spans[i].data);

        assert_non_null(span);
        snprintf(collector.last_name, sizeof(collector.last_name), "%.*s", (int)span->name.len,
                 (const char *)span->name.data);
        opentelemetry__span__free_unpacked(span, NULL);
        collector.spans++;
    }
}

static void answer(struct grpc_server_call *call)
{
    Opentelemetry__ExportTracePartialSuccess partial;
    Opentelemetry__ExportTraceServiceResponse response;
    char reason[] = "too dull";
    uint8_t packed[64];
    size_t bytes;

    opentelemetry__export_trace_partial_success__init(&partial);
    opentelemetry__export_trace_service_response__init(&response);
    partial.rejected_spans = collector.rejects;
    partial.error_message = reason;
    response.partial_success = collector.rejects != 0 ? &partial : NULL;
    bytes = opentelemetry__export_trace_service_response__pack(&response, packed);
    assert_int_equal(grpc_send(call, bytes_of(packed, bytes)), 0);
    grpc_finish(call, GRPC_OK, NULL);
}

static void on_message(struct grpc_server_call *call, void *user UNUSED, struct bytes message)
{
    Opentelemetry__ExportTraceServiceRequest *r =
        opentelemetry__export_trace_service_request__unpack(NULL, message.len,
                                                            (const uint8_t *)message.at);

    assert_non_null(r);
    assert_int_equal(r->n_resource_spans, 1);
    collector.requests++;
    if (collector.refusal != GRPC_OK) {
        grpc_finish(call, collector.refusal, "not now");
    } else {
        note_resource(r->resource_spans[0]->resource);
        note_spans(r->resource_spans[0]->scope_spans[0]);
        answer(call);
    }
    opentelemetry__export_trace_service_request__free_unpacked(r, NULL);
}

static void collector_open(void)
{
    static const struct grpc_method methods[] = {
        {.path = GRPC_TRACE_EXPORT, .on_call = on_call, .on_message = on_message}};
    struct addr at = addr_v4(0x7f000001, collector.port);
    int fd;

    assert_int_equal(sock_listen(&at, false, 16, &fd), 0);
    assert_int_equal(sock_local(fd, &at), 0);
    collector.port = at.port;
    collector.server = grpc_server_new(&loop, methods, 1, NULL);
    assert_int_equal(listener_open(&collector.listener, &loop, fd, on_accept, NULL), 0);
}

static void collector_close(void)
{
    if (collector.server != NULL) {
        listener_close(&collector.listener);
        grpc_server_free(collector.server);
        collector.server = NULL;
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static int setup(void **state UNUSED)
{
    struct trace_settings settings = {.service_name = "web"};
    struct control_config config = {.name = "trace_collector", .host = "127.0.0.1"};
    struct trace_resource resource;

    memset(&collector, 0, sizeof(collector));
    memset(&queue, 0, sizeof(queue));
    memset(&stats, 0, sizeof(stats));
    assert_int_equal(loop_open(&loop, 0, 4096), 0);
    metrics_init(&metrics, 2000, 600 * NS_PER_S);
    loop.metrics = &metrics;
    stats_open(&stats, 2000, 600 * NS_PER_S);
    assert_int_equal(dns_open(&loop, &dns), 0);
    collector_open();
    config.port = collector.port;
    channel = control_new(&loop, dns, &config);
    assert_int_equal(trace_resource_read(&resource, &settings), 0);
    export = span_export_open(&loop, channel, &queue, &resource);
    trace_resource_clear(&resource);
    writer = span_writer_new(&loop, &stats, &queue);
    return 0;
}

static int teardown(void **state UNUSED)
{
    span_writer_free(writer);
    span_export_close(export);
    control_free(channel);
    collector_close();
    dns_close(dns);
    for (unsigned i = 0; i < 200; i++) {
        (void)loop_turn(&loop, 0);
        io_close_lingering(&loop);
    }
    loop_close(&loop);
    assert_int_equal(queue.batches, 0);
    stats_close(&stats);
    metrics_clear(&metrics);
    arena_cache_clear();
    return 0;
}

static void make_spans(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        span_writer_add(writer, &(struct span){.trace_id = {1},
                                               .span_id = {2},
                                               .parent_id = {3},
                                               .request = &request});
    }
    span_writer_flush(writer);
}

static unsigned long figure(const char *name, const char *labels)
{
    const struct series *s = metrics_find(&metrics, name, bytes_str(labels));

    return s != NULL ? (unsigned long)s->count : 0;
}

static unsigned long dropped(void)
{
    return figure("tulle_spans_dropped_total", "reason=\"collector\"");
}

/* --- tests ------------------------------------------------------------------------------------ */

static void spans_are_exported_and_counted(void **state UNUSED)
{
    make_spans(3);
    UNTIL(figure("opentelemetry_span_exports", "") == 3);
    assert_int_equal(collector.spans, 3);
    assert_string_equal(collector.service, "web");
    assert_string_equal(collector.last_name, "/");
    assert_int_equal(figure("opentelemetry_span_export_requests", ""), 1);
    assert_int_equal(figure("opentelemetry_span_export_streams", ""), 1);
    make_spans(1);
    UNTIL(figure("opentelemetry_span_exports", "") == 4);
    assert_int_equal(figure("opentelemetry_span_export_requests", ""), 2);
    assert_int_equal(figure("opentelemetry_span_export_streams", ""), 1);
    assert_int_equal(queue.batches, 0);
}

/* 12 batches of 128 spans are 1,536: more than go into one request. */
static void many_spans_are_several_requests(void **state UNUSED)
{
    make_spans(12 * SPAN_BATCH_SPANS);
    UNTIL(figure("opentelemetry_span_exports", "") + dropped() >= 10 * SPAN_BATCH_SPANS);
    UNTIL(queue.batches == 0);
    assert_int_equal(collector.spans, 12 * SPAN_BATCH_SPANS);
    assert_true(figure("opentelemetry_span_export_requests", "") >= 2);
    assert_int_equal(dropped(), 0);
}

static void a_refusal_is_final(void **state UNUSED)
{
    collector.refusal = GRPC_INVALID_ARGUMENT;
    make_spans(5);
    UNTIL(dropped() == 5);
    assert_int_equal(collector.requests, 1);
    assert_int_equal(queue.batches, 0);
    collector.refusal = GRPC_OK;
    make_spans(1);
    UNTIL(collector.spans == 1);
    assert_int_equal(figure("opentelemetry_span_export_streams", ""), 2);
}

static void what_is_not_taken_now_is_sent_again(void **state UNUSED)
{
    collector.refusal = GRPC_UNAVAILABLE;
    make_spans(5);
    UNTIL(collector.requests == 2);
    assert_int_equal(dropped(), 0);
    collector.refusal = GRPC_OK;
    UNTIL(collector.spans == 5);
    assert_int_equal(dropped(), 0);
}

static void rejected_spans_are_not_exported_ones(void **state UNUSED)
{
    collector.rejects = 2;
    make_spans(5);
    UNTIL(figure("opentelemetry_span_exports", "") == 3);
    assert_int_equal(dropped(), 2);
    collector.rejects = INT64_MAX; /* more than there were */
    make_spans(4);
    UNTIL(dropped() == 6);
    collector.rejects = -1;
    make_spans(1);
    UNTIL(figure("opentelemetry_span_exports", "") == 4);
}

static void a_collector_that_is_down_gets_them_when_it_is_up(void **state UNUSED)
{
    collector_close();
    make_spans(2);
    UNTIL(figure("opentelemetry_span_export_requests", "") >= 1);
    for (unsigned i = 0; i < 50; i++) {
        (void)loop_turn(&loop, 10);
    }
    assert_int_equal(queue.batches, 1);
    collector_open();
    UNTIL(collector.spans == 2);
}

/* What comes while nobody takes anything: as much as the queue holds, and no more. */
static void an_outage_keeps_what_the_queue_holds(void **state UNUSED)
{
    collector_close();
    make_spans(2 * SPAN_BATCHES_MAX * SPAN_BATCH_SPANS);
    (void)loop_turn(&loop, 0);
    assert_int_equal(queue.batches, SPAN_BATCHES_MAX);
    assert_true(metrics_find(&stats.metrics, "tulle_spans_dropped_total",
                             BYTES("reason=\"queue\"")) != NULL);
}

static bool is_done;
static void on_done(void *user UNUSED)
{
    is_done = true;
}

static void the_end_waits_for_what_is_left(void **state UNUSED)
{
    is_done = false;
    make_spans(4);
    (void)loop_turn(&loop, 0);
    span_export_finish(export, on_done, NULL);
    assert_false(is_done);
    UNTIL(is_done);
    assert_int_equal(collector.spans, 4);
}

static void the_end_does_not_wait_for_a_collector_that_fails(void **state UNUSED)
{
    is_done = false;
    collector.refusal = GRPC_UNAVAILABLE;
    make_spans(4);
    UNTIL(collector.requests == 1);
    span_export_finish(export, on_done, NULL);
    UNTIL(is_done);
    assert_true(collector.requests <= 2);
}

static void the_end_comes_at_once_where_nothing_is_left(void **state UNUSED)
{
    is_done = false;
    span_export_finish(export, on_done, NULL);
    UNTIL(is_done);
}

/* Batches that are under way when the exporter goes are dropped. */
static void nobody_takes_what_comes_after_the_end(void **state UNUSED)
{
    make_spans(1);
    span_export_close(export);
    export = NULL;
    UNTIL(queue.batches == 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(spans_are_exported_and_counted),
        TEST(many_spans_are_several_requests),
        TEST(a_refusal_is_final),
        TEST(what_is_not_taken_now_is_sent_again),
        TEST(rejected_spans_are_not_exported_ones),
        TEST(a_collector_that_is_down_gets_them_when_it_is_up),
        TEST(an_outage_keeps_what_the_queue_holds),
        TEST(the_end_waits_for_what_is_left),
        TEST(the_end_does_not_wait_for_a_collector_that_fails),
        TEST(the_end_comes_at_once_where_nothing_is_left),
        TEST(nobody_takes_what_comes_after_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
