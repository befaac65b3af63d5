/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of a trace: what goes on in their fields, and which spans are made (wire 5.9). What the
 * collector would get is taken from the queue and unpacked.
 */
#include "peers.h"

#include "api/otlp.pb-c.h"
#include "proxy/span_queue.h"

#define PATH   "web.app.svc.cluster.local:80"
#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define OK     "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#define BUSY   "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
#define SPANS  16

typedef Opentelemetry__Span pb_span;

static struct app app;
static struct span_queue queue;
static pb_span *spans[SPANS];
static size_t spans_count;
static const struct status_range server_errors = {.start = 500, .end = 599};

static void on_batch(struct span_queue *q UNUSED, struct span_batch *b)
{
    for (unsigned i = 0; i < b->count; i++) {
        struct bytes packed = span_batch_at(b, i);

        assert_true(spans_count < SPANS);
        spans[spans_count] =
            opentelemetry__span__unpack(NULL, packed.len, (const uint8_t *)packed.at);
        assert_non_null(spans[spans_count++]);
    }
    span_batch_free(b);
}

static int setup(void **state)
{
    rig_setup(state);
    app_open(&app);
    queue = (struct span_queue){.loop = rig.l, .on_batch = on_batch};
    rig.w.spans = span_writer_new(rig.l, &rig.w.stats, &queue);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig.target[INBOUND] = app.at;
    return 0;
}

static int teardown(void **state)
{
    int rc;

    app_close(&app);
    rc = rig_teardown(state);
    for (size_t i = 0; i < spans_count; i++) {
        opentelemetry__span__free_unpacked(spans[i], NULL);
    }
    spans_count = 0;
    assert_int_equal(queue.batches, 0);
    return rc;
}

static struct outbound_policy *policy_of_web(void)
{
    return policy_to(PROTOCOL_DETECT, NULL, PATH);
}

/* The service has the application for its one endpoint. */
static void know(struct outbound_policy *policy)
{
    struct endpoint *at = endpoint_at(&app.at, NULL);

    rig_know_target(&rig.target[OUTBOUND], policy);
    rig_know_endpoints(PATH, &at, 1);
}

/* --- what came out ---------------------------------------------------------------------------- */

static void collect(size_t count)
{
    if (rig.w.spans != NULL) {
        span_writer_flush(rig.w.spans);
    }
    rig_settle();
    assert_int_equal(spans_count, count);
}

static const char *hex(ProtobufCBinaryData id)
{
    static char texts[4][40];
    static unsigned next;
    char *text = texts[next++ % 4];

    for (size_t i = 0; i < id.len; i++) {
        snprintf(text + 2 * i, sizeof(texts[0]) - 2 * i, "%02x", id.data[i]);
    }
    return text;
}

/* Of all spans the nth of the kind, in the order in which they ended. */
static const pb_span *span_of(Opentelemetry__Span__SpanKind kind, size_t nth)
{
    for (size_t i = 0; i < spans_count; i++) {
        if (spans[i]->kind == kind && nth-- == 0) {
            return spans[i];
        }
    }
    fail_msg("there is no such span");
    return NULL;
}

#define SERVER span_of(OPENTELEMETRY__SPAN__SPAN_KIND__SERVER, 0)
#define CLIENT(nth) span_of(OPENTELEMETRY__SPAN__SPAN_KIND__CLIENT, nth)

static const char *attribute(const pb_span *s, const char *key)
{
    static char text[4096];

    for (size_t i = 0; i < s->n_attributes; i++) {
        const Opentelemetry__KeyValue *a = s->attributes[i];

        if (bytes_eq(bytes_of(a->key.data, a->key.len), bytes_str(key))) {
            snprintf(text, sizeof(text), "%.*s", (int)a->value->string_value.len,
                     (const char *)a->value->string_value.data);
            return text;
        }
    }
    return "(none)";
}

static void assert_child(const pb_span *child, const char *parent_id)
{
    assert_string_equal(hex(child->trace_id), TRACE);
    assert_string_equal(hex(child->parent_span_id), parent_id);
    assert_int_equal(child->span_id.len, 8);
    assert_string_not_equal(hex(child->span_id), parent_id);
    assert_true(child->start_time_unix_nano <= child->end_time_unix_nano);
}

static void assert_within(const pb_span *inner, const pb_span *outer)
{
    assert_true(outer->start_time_unix_nano <= inner->start_time_unix_nano);
    assert_true(inner->end_time_unix_nano <= outer->end_time_unix_nano);
}

/* --- requests --------------------------------------------------------------------------------- */

static struct peer *ask(enum direction side, const char *fields)
{
    struct peer *client = peer_dial(side);
    char request[2048];

    snprintf(request, sizeof(request), "GET /cart/1?x=y HTTP/1.1\r\nHost: web:8080\r\n%s\r\n",
             fields);
    peer_send(client, request);
    return client;
}

static struct peer *serve(const char *answer)
{
    struct peer *server = app_accept(&app);

    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, answer);
    return server;
}

#define SAMPLED "traceparent: 00-" TRACE "-" PARENT "-01\r\n"

static void a_sampled_request_makes_two_spans(void **state UNUSED)
{
    char want[128];
    struct peer *client, *server;

    know(policy_of_web());
    client = ask(OUTBOUND, SAMPLED "tracestate: a=b\r\nuser-agent: me\r\ncontent-type: t/x\r\n");
    server = serve(OK);
    RIG_UNTIL(peer_has(client, "ok"));
    collect(2);
    assert_child(SERVER, PARENT);
    assert_child(CLIENT(0), hex(SERVER->span_id));
    assert_within(CLIENT(0), SERVER);
    snprintf(want, sizeof(want), "traceparent: 00-" TRACE "-%s-01\r\n", hex(CLIENT(0)->span_id));
    assert_true(peer_has(server, want));
    assert_true(peer_has(server, "tracestate: a=b\r\n"));
    assert_int_equal(SERVER->flags, 0x301);
    assert_int_equal(CLIENT(0)->flags, 0x101);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(bytes_eq(bytes_of(spans[i]->name.data, spans[i]->name.len), BYTES("/cart/1")));
        assert_null(spans[i]->status);
        assert_string_equal(attribute(spans[i], "direction"), "outbound");
        assert_string_equal(attribute(spans[i], "http.request.method"), "GET");
        assert_string_equal(attribute(spans[i], "url.scheme"), "http");
        assert_string_equal(attribute(spans[i], "url.path"), "/cart/1");
        assert_string_equal(attribute(spans[i], "url.query"), "x=y");
        assert_string_equal(attribute(spans[i], "url.full"), "http://web:8080/cart/1?x=y");
        assert_string_equal(attribute(spans[i], "network.transport"), "tcp");
        assert_string_equal(attribute(spans[i], "server.address"), "web");
        assert_string_equal(attribute(spans[i], "server.port"), "8080");
        assert_string_equal(attribute(spans[i], "user_agent.original"), "me");
        assert_string_equal(attribute(spans[i], "http.request.header.content-type"), "t/x");
        assert_string_equal(attribute(spans[i], "http.response.status_code"), "200");
        assert_string_equal(attribute(spans[i], "error.type"), "(none)");
    }
}

static void an_unsampled_request_makes_none_and_goes_on_under_us(void **state UNUSED)
{
    struct peer *server;

    know(policy_of_web());
    (void)ask(OUTBOUND, "traceparent: 00-" TRACE "-" PARENT "-00\r\n");
    server = serve(OK);
    collect(0);
    assert_true(peer_has(server, "traceparent: 00-" TRACE "-"));
    assert_false(peer_has(server, PARENT));
    assert_true(peer_has(server, "-00\r\n"));
}

static void every_form_goes_on_in_its_form(void **state UNUSED)
{
    struct peer *client, *server;
    char want[64];

    know(policy_of_web());
    client = ask(OUTBOUND, "x-b3-traceid: " TRACE "\r\nx-b3-spanid: " PARENT "\r\nx-b3-sampled: 1\r\n");
    server = serve(OK);
    RIG_UNTIL(peer_has(client, "ok"));
    collect(2);
    assert_child(SERVER, PARENT);
    snprintf(want, sizeof(want), "x-b3-spanid: %s\r\n", hex(CLIENT(0)->span_id));
    assert_true(peer_has(server, want));
    assert_true(peer_has(server, "x-b3-traceid: " TRACE "\r\n"));
    assert_false(peer_has(server, "traceparent"));
}

static void what_is_no_context_is_left_alone(void **state UNUSED)
{
    static const char fields[] = "traceparent: 00-" TRACE "-" PARENT "-01-x\r\n"
                                 "x-b3-traceid: " TRACE "\r\nx-b3-spanid: no\r\n"
                                 "traceparent: 01-" TRACE "-" PARENT "-01\r\n";
    struct peer *server;

    know(policy_of_web());
    (void)ask(OUTBOUND, fields);
    server = serve(OK);
    collect(0);
    assert_true(peer_has(server, fields));
}

static void without_a_collector_all_is_left_alone(void **state UNUSED)
{
    struct peer *server;

    span_writer_free(rig.w.spans);
    rig.w.spans = NULL;
    know(policy_of_web());
    (void)ask(OUTBOUND, SAMPLED);
    server = serve(OK);
    collect(0);
    assert_true(peer_has(server, SAMPLED));
}

static void inbound_spans_name_the_proxys_side(void **state UNUSED)
{
    struct peer *client;

    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    client = ask(INBOUND, SAMPLED "x-forwarded-host: shop.example:443\r\n");
    (void)serve(OK);
    RIG_UNTIL(peer_has(client, "ok"));
    collect(2);
    assert_child(SERVER, PARENT);
    assert_child(CLIENT(0), hex(SERVER->span_id));
    assert_string_equal(attribute(SERVER, "direction"), "inbound");
    assert_string_equal(attribute(SERVER, "url.full"), "/cart/1?x=y"); /* all that it said */
    assert_string_equal(attribute(CLIENT(0), "url.full"), "http://web:8080/cart/1?x=y");
    assert_string_equal(attribute(SERVER, "server.address"), "shop.example");
    assert_string_equal(attribute(SERVER, "server.port"), "443");
}

static void each_attempt_is_a_child(void **state UNUSED)
{
    struct outbound_policy *policy = policy_of_web();
    struct peer *client, *server;

    policy->http1.at[0].rules->retry = (struct retry){
        .is_on = true,
        .max_retries = 2,
        .max_request_bytes = 65536,
        .ranges = (struct status_range *)(uintptr_t)&server_errors,
        .ranges_count = 1,
        .backoff_min_ns = NS_PER_MS,
        .backoff_max_ns = 2 * NS_PER_MS,
    };
    know(policy);
    client = ask(OUTBOUND, SAMPLED);
    server = app_accept(&app);
    for (unsigned i = 0; i < 2; i++) {
        RIG_UNTIL(peer_has(server, "\r\n\r\n"));
        text_reset(&server->in);
        peer_send(server, i == 0 ? BUSY : OK);
    }
    RIG_UNTIL(peer_has(client, "ok"));
    collect(3);
    assert_string_equal(attribute(SERVER, "http.response.status_code"), "200");
    for (unsigned i = 0; i < 2; i++) {
        assert_child(CLIENT(i), hex(SERVER->span_id));
        assert_within(CLIENT(i), SERVER);
        assert_string_equal(attribute(CLIENT(i), "http.response.status_code"), i == 0 ? "503" : "200");
    }
    assert_string_not_equal(hex(CLIENT(0)->span_id), hex(CLIENT(1)->span_id));
    assert_true(CLIENT(0)->end_time_unix_nano <= CLIENT(1)->start_time_unix_nano);
}

/* A field that a filter of the route adds goes, and takes no other one's place in the next attempt. */
static void a_filter_that_adds_a_context_adds_none(void **state UNUSED)
{
    static struct header_edit more[] = {
        {.name = {"traceparent", 11}, .value = {"00-" TRACE "-" PARENT "-00", 55}},
        {.name = {"x-last", 6}, .value = {"1", 1}}};
    static struct filter edit = {.kind = FILTER_REQUEST_HEADERS, .add = more, .add_count = 2};
    struct outbound_policy *policy = policy_of_web();
    struct rule *rule = policy->http1.at[0].rules;
    struct peer *client, *server;

    rule->retry = (struct retry){
        .is_on = true,
        .max_retries = 2,
        .max_request_bytes = 65536,
        .ranges = (struct status_range *)(uintptr_t)&server_errors,
        .ranges_count = 1,
        .backoff_min_ns = NS_PER_MS,
        .backoff_max_ns = NS_PER_MS,
    };
    rule->filters = &edit;
    rule->filters_count = 1;
    know(policy);
    client = ask(OUTBOUND, SAMPLED);
    server = app_accept(&app);
    for (unsigned i = 0; i < 3; i++) {
        const char *trace, *last;

        RIG_UNTIL(peer_has(server, "\r\n\r\n"));
        trace = strstr(server->in.at, "traceparent: 00-" TRACE "-");
        last = strstr(server->in.at, "x-last: 1\r\n");
        assert_true(trace != NULL && strstr(trace + 1, "traceparent") == NULL);
        assert_true(last != NULL && strstr(last + 1, "x-last") == NULL);
        text_reset(&server->in);
        peer_send(server, i < 2 ? BUSY : OK);
    }
    RIG_UNTIL(peer_has(client, "ok"));
    collect(4);
}

/* The filters of a backend edit a copy of the fields, which has to get the attempt's id each time. */
static void a_repeated_attempt_has_its_id(void **state UNUSED)
{
    static struct header_edit near = {.name = {"x-near", 6}, .value = {"1", 1}};
    static struct filter edit = {.kind = FILTER_REQUEST_HEADERS, .add = &near, .add_count = 1};
    struct outbound_policy *policy = policy_of_web();
    struct weighted_backend *backend = &policy->http1.at[0].rules->backends[0];
    struct peer *client, *server;
    char want[128];

    backend->filters = &edit;
    backend->filters_count = 1;
    know(policy);
    client = ask(OUTBOUND, "");
    server = serve(OK);
    RIG_UNTIL(peer_has(client, "ok"));
    text_reset(&client->in);
    /* The request is on its way before the close is seen. */
    server->is_lazy = true;
    peer_send(client, "GET / HTTP/1.1\r\nHost: web\r\n" SAMPLED "\r\n");
    rig_settle();
    peer_abort(server);
    server = serve(OK);
    RIG_UNTIL(peer_has(client, "ok"));
    collect(2);
    assert_child(CLIENT(0), hex(SERVER->span_id));
    snprintf(want, sizeof(want), "traceparent: 00-" TRACE "-%s-01\r\n", hex(CLIENT(0)->span_id));
    assert_true(peer_has(server, want));
}

/* --- failures --------------------------------------------------------------------------------- */

static void a_broken_endpoint_is_named_as_the_cause(void **state UNUSED)
{
    struct peer *client, *server;

    know(policy_of_web());
    client = ask(OUTBOUND, SAMPLED);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_close(server);
    RIG_UNTIL(peer_has(client, "502"));
    collect(2);
    for (unsigned i = 0; i < 2; i++) {
        assert_string_equal(attribute(spans[i], "error.type"), "first_byte");
        assert_non_null(spans[i]->status);
        assert_int_equal(spans[i]->status->code, OPENTELEMETRY__STATUS__STATUS_CODE__ERROR);
    }
    assert_string_equal(attribute(SERVER, "http.response.status_code"), "502");
    assert_string_equal(attribute(CLIENT(0), "http.response.status_code"), "(none)");
}

static void a_refused_client_is_told_of_without_an_attempt(void **state UNUSED)
{
    struct server_policy *policy = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0,
                                                             false, 10 * NS_PER_S, app.at.port);
    struct peer *client = peer_dial(INBOUND);

    policy->authz[0].authn = AUTHN_IDENTITY; /* of an identity that nobody has */
    rig_know_server(app.at.port, policy);
    RIG_UNTIL(rig.w.conns_count == 1);
    LIST_ITEM(rig.w.conns.next, struct conn, node)->peer = addr_v4(0x0a090909, 1);
    peer_send(client, "GET / HTTP/1.1\r\nHost: web\r\n" SAMPLED "\r\n");
    RIG_UNTIL(peer_has(client, "403"));
    collect(1);
    assert_child(SERVER, PARENT);
    assert_string_equal(attribute(SERVER, "http.response.status_code"), "403");
    assert_string_equal(attribute(SERVER, "error.type"), "denied");
    assert_null(SERVER->status); /* the client's fault */
}

static void a_client_that_goes_away_ends_its_spans(void **state UNUSED)
{
    struct peer *client, *server;

    know(policy_of_web());
    client = ask(OUTBOUND, SAMPLED);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_abort(client);
    RIG_UNTIL(rig.w.in_flight[OUTBOUND] == 0);
    collect(2);
    assert_string_equal(attribute(SERVER, "http.response.status_code"), "(none)");
    assert_string_equal(attribute(SERVER, "error.type"), "client");
}

/* The end of the grace period breaks off what is open; it is told of before the worker counts as drained. */
static void what_is_cut_leaves_its_spans(void **state UNUSED)
{
    struct peer *server;

    know(policy_of_web());
    (void)ask(OUTBOUND, SAMPLED);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    proxy_worker_order(&rig.w, WORKER_DRAIN, 1);
    RIG_UNTIL(rig.obeyed == 1);
    assert_int_equal(rig.drained, 0);
    proxy_worker_order(&rig.w, WORKER_CUT, 2);
    RIG_UNTIL(rig.drained == 1);
    assert_int_equal(spans_count, 2); /* nobody flushed them here */
    assert_string_equal(attribute(SERVER, "error.type"), "shutdown");
    assert_child(CLIENT(0), hex(SERVER->span_id));
    RIG_UNTIL(rig.obeyed == 2);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"shutdown\"", NULL), 1);
}

/* RFC 9110 7.8: the exchange ends with the head, and its stream goes. */
static void an_upgrade_is_a_response(void **state UNUSED)
{
    struct peer *client, *server;

    know(policy_of_web());
    client = ask(OUTBOUND, SAMPLED "connection: upgrade\r\nupgrade: chat\r\n");
    server = serve("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n");
    RIG_UNTIL(peer_has(client, "101"));
    peer_send(server, "hello");
    RIG_UNTIL(peer_has(client, "hello"));
    collect(2);
    assert_string_equal(attribute(SERVER, "http.response.status_code"), "101");
    assert_string_equal(attribute(CLIENT(0), "http.response.status_code"), "101");
}

/* --- bounds ----------------------------------------------------------------------------------- */

static void short_memory_gives_traces_up(void **state UNUSED)
{
    struct peer *client, *server;

    know(policy_of_web());
    rig.w.shed_level = SHED_TAPS;
    client = ask(OUTBOUND, SAMPLED);
    server = serve(OK);
    RIG_UNTIL(peer_has(client, "ok"));
    rig.w.shed_level = SHED_NONE;
    collect(0);
    assert_false(peer_has(server, PARENT));
    assert_int_equal(rig_sum("tulle_spans_dropped_total", "reason=\"memory\"", NULL), 2);
}

static void a_full_queue_drops_and_counts(void **state UNUSED)
{
    struct peer *client;

    know(policy_of_web());
    queue.batches = SPAN_BATCHES_MAX;
    client = ask(OUTBOUND, SAMPLED);
    (void)serve(OK);
    RIG_UNTIL(peer_has(client, "ok"));
    assert_int_equal(queue.batches, SPAN_BATCHES_MAX);
    queue.batches = 0;
    collect(0);
    assert_int_equal(rig_sum("tulle_spans_dropped_total", "reason=\"queue\"", NULL), 2);
}

/* A span that comes alone does not wait for company: the timer hands it over. */
static void what_is_a_second_old_is_handed_over(void **state UNUSED)
{
    struct peer *client;

    know(policy_of_web());
    client = ask(OUTBOUND, SAMPLED);
    (void)serve(OK);
    RIG_UNTIL(peer_has(client, "ok"));
    RIG_UNTIL(spans_count == 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sampled_request_makes_two_spans),
        TEST(an_unsampled_request_makes_none_and_goes_on_under_us),
        TEST(every_form_goes_on_in_its_form),
        TEST(what_is_no_context_is_left_alone),
        TEST(without_a_collector_all_is_left_alone),
        TEST(inbound_spans_name_the_proxys_side),
        TEST(each_attempt_is_a_child),
        TEST(a_filter_that_adds_a_context_adds_none),
        TEST(a_repeated_attempt_has_its_id),
        TEST(a_broken_endpoint_is_named_as_the_cause),
        TEST(a_refused_client_is_told_of_without_an_attempt),
        TEST(a_client_that_goes_away_ends_its_spans),
        TEST(what_is_cut_leaves_its_spans),
        TEST(an_upgrade_is_a_response),
        TEST(short_memory_gives_traces_up),
        TEST(a_full_queue_drops_and_counts),
        TEST(what_is_a_second_old_is_handed_over),
    };

    return rig_run(tests, argc, argv);
}
