/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an outbound route asks for: filters, timeouts, retries, and what is counted of them
 * (wire 5.5, 5.7, 5.8, 6.3, 7.2).
 */
#include "app.h"

#define PATH "web.app.svc.cluster.local:80"
#define GET  "GET /a HTTP/1.1\r\nHost: web\r\n\r\n"
#define POST "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"
#define BUSY "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
#define OK   "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

static struct outbound_policy *policy; /* until know() */
static struct rule *rule;
static const struct status_range server_errors = {.start = 500, .end = 599};

static int setup(void **state)
{
    app_setup(state);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig.config.outbound.failfast_ns = 50 * NS_PER_MS;
    policy = policy_to(PROTOCOL_DETECT, NULL, PATH);
    policy->meta = (struct meta){
        .group = BYTES("core"), .kind = BYTES("Service"), .name = BYTES("web"), .port = 80};
    policy->http1.at[0].meta = (struct meta){.kind = BYTES("HTTPRoute"), .name = BYTES("r")};
    policy->backends[0].meta = policy->meta;
    rule = policy->http1.at[0].rules;
    return 0;
}

static int teardown(void **state)
{
    if (policy != NULL) {
        snapshot_unref(&policy->ref);
        policy = NULL;
    }
    return app_teardown(state);
}

/* The policy is complete, and the service has the application for its one endpoint. */
static void know(void)
{
    app_know(&policy, PATH);
}

static void retry_on_server_errors(uint32_t max_retries)
{
    rule->retry = (struct retry){
        .is_on = true,
        .max_retries = max_retries,
        .max_request_bytes = 65536,
        .ranges = (struct status_range *)(uintptr_t)&server_errors,
        .ranges_count = 1,
        .grpc_codes = 1u << 14,
        .backoff_min_ns = NS_PER_MS,
        .backoff_max_ns = 2 * NS_PER_MS,
        .backoff_jitter = 1.0,
    };
}

/* The application's next request, on `p` or on a new connection. */
static struct peer *expect(struct peer *p, const char *text)
{
    if (p == NULL || p->eof || p->fd < 0) {
        p = app_accept(&app);
    }
    RIG_UNTIL(peer_has(p, text));
    return p;
}

static void answer(struct peer *p, const char *text)
{
    text_reset(&p->in);
    peer_send(p, text);
}

static long retries(const char *what)
{
    char name[128];

    (void)snprintf(name, sizeof(name), "outbound_http_route_retry_%s_total", what);
    return rig_sum(name, "route_name=\"r\"", NULL);
}

static void assert_retries(long requests, long successes, long overflow, long limit)
{
    assert_int_equal(retries("requests"), requests);
    assert_int_equal(retries("successes"), successes);
    assert_int_equal(retries("overflow"), overflow);
    assert_int_equal(retries("limit_exceeded"), limit);
}

static long route_statuses(const char *status, const char *error)
{
    return rig_sum("outbound_http_route_request_statuses_total", status, error);
}

static long backend_statuses(const char *status, const char *error)
{
    return rig_sum("outbound_http_route_backend_response_statuses_total", status, error);
}

/* --- retries ---------------------------------------------------------------------------------- */

static void a_request_is_tried_again_with_its_body(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    retry_on_server_errors(2);
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, POST);
    for (unsigned i = 0; i < 2; i++) {
        server = expect(server, "\r\n\r\nhello");
        answer(server, BUSY);
    }
    server = expect(server, "\r\n\r\nhello");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    assert_true(peer_has(client, "200 OK"));
    rig_settle();
    assert_retries(2, 1, 0, 0);
    assert_int_equal(route_statuses("http_status=\"200\",error=\"\"", NULL), 1);
    assert_int_equal(backend_statuses("http_status=\"503\"", NULL), 2);
    assert_int_equal(backend_statuses("http_status=\"200\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_route_backend_requests_total", NULL, NULL), 3);
    /* Each attempt is a request of its endpoint. */
    assert_int_equal(rig_sum("request_total", "direction=\"outbound\"", NULL), 3);
    assert_int_equal(rig_sum("response_total", "status_code=\"503\"", NULL), 2);
    rig_check_labels();
}

static void the_limit_is_kept(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    retry_on_server_errors(1);
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    for (unsigned i = 0; i < 2; i++) {
        server = expect(server, "GET /a");
        answer(server, BUSY);
    }
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503"));
    rig_settle();
    assert_retries(1, 0, 0, 1);
    assert_true(app_has_nobody(&app));
    assert_false(peer_has(server, "GET"));
}

static void a_long_body_is_sent_once(void **state)
{
    struct peer *client, *server;

    (void)state;
    retry_on_server_errors(3);
    rule->retry.max_request_bytes = 4;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, POST);
    server = expect(NULL, "hello");
    answer(server, BUSY);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503"));
    /* Where the length comes to light on the way, too. */
    text_reset(&client->in);
    peer_send(client, "POST /b HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"
                      "5\r\nhello\r\n0\r\n\r\n");
    server = expect(server, "hello");
    answer(server, BUSY);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503"));
    rig_settle();
    assert_retries(0, 0, 0, 0);
}

/* A response that does not begin is given up; the last attempt may take its time. */
static void a_slow_attempt_is_given_up(void **state)
{
    struct peer *client, *slow, *server;

    (void)state;
    retry_on_server_errors(1);
    rule->retry.timeout_ns = 30 * NS_PER_MS;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    slow = expect(NULL, "GET /a");
    server = expect(NULL, "GET /a");
    RIG_UNTIL(slow->eof || slow->err != 0);
    for (uint64_t start = rig.l->now_ns; rig.l->now_ns - start < 60 * NS_PER_MS;) {
        rig_turn();
    }
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    rig_settle();
    assert_retries(1, 1, 0, 0);
    assert_int_equal(backend_statuses("http_status=\"\"", "RESPONSE_HEADERS_TIMEOUT"), 1);
    assert_int_equal(route_statuses("http_status=\"200\"", "error=\"\""), 1);
}

/* Nobody is left to take another attempt: what there is stands. */
static void fail_fast_overflows(void **state)
{
    struct peer *client;

    (void)state;
    retry_on_server_errors(2);
    rig_know_target(&rig.target[OUTBOUND], policy);
    policy = NULL;
    rig_know_endpoints(PATH, NULL, 0);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "504 Gateway"));
    rig_settle();
    assert_retries(0, 0, 1, 0);
    assert_int_equal(route_statuses("http_status=\"\"", "error=\"FAIL_FAST\""), 1);
}

/* A client that goes while its request waits for another attempt, and a policy that changes. */
static void a_retry_outlives_its_policy_and_not_its_client(void **state)
{
    struct outbound_policy *next = policy_to(PROTOCOL_DETECT, NULL, PATH);
    struct peer *client, *other, *server = NULL;

    (void)state;
    next->meta = next->backends[0].meta = policy->meta; /* of the same service, as before */
    retry_on_server_errors(1);
    rule->retry.backoff_min_ns = rule->retry.backoff_max_ns = 200 * NS_PER_MS;
    know();
    client = peer_dial(OUTBOUND);
    other = peer_dial(OUTBOUND);
    peer_send(client, POST);
    server = expect(server, "hello");
    answer(server, BUSY);
    rig_settle();
    rig_know_target(&rig.target[OUTBOUND], next);
    server = expect(server, "hello");
    answer(server, BUSY);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503"));
    peer_send(other, GET); /* no retries under the new policy */
    server = expect(server, "GET /a");
    answer(server, BUSY);
    RIG_UNTIL(peer_has(other, "HTTP/1.1 503"));
    peer_abort(client);
    rig_settle();
    assert_retries(1, 0, 0, 1);
}

static void a_client_that_goes_ends_its_retries(void **state)
{
    struct peer *client, *server;

    (void)state;
    retry_on_server_errors(1);
    rule->retry.backoff_min_ns = rule->retry.backoff_max_ns = 400 * NS_PER_MS;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, POST);
    server = expect(NULL, "hello");
    answer(server, BUSY);
    rig_settle();
    peer_abort(client);
    for (uint64_t start = rig.l->now_ns; rig.l->now_ns - start < 500 * NS_PER_MS;) {
        rig_turn();
    }
    assert_retries(0, 0, 0, 0);
    assert_int_equal(rig.w.in_flight[OUTBOUND], 0);
}

/* --- gRPC ------------------------------------------------------------------------------------- */

static const char *const grpc_fields[] = {"content-type: application/grpc", NULL};

/* The endpoint's next stream, on the link that all of them share. */
static struct call *next_call(struct h2_peer *server, size_t index)
{
    RIG_UNTIL(server->count > index && server->calls[index].log_len > 0);
    return &server->calls[index];
}

static void grpc_retries_by_the_first_trailers(void **state)
{
    static const char *const only[] = {"content-type: application/grpc", "grpc-status: 14", NULL};
    struct h2_peer *client, *server;
    struct call *call, *attempt;

    (void)state;
    retry_on_server_errors(3);
    know();
    client = h2_dial(OUTBOUND);
    call = h2_call(client, "POST", "/svc/Method", false, grpc_fields);
    call_send(call, "question");
    call_finish(call, NULL);
    server = h2_accept(&app, NULL);
    attempt = next_call(server, 0); /* trailers only */
    call_answer(attempt, 200, only, true);
    attempt = next_call(server, 1); /* trailers right behind the head */
    RIG_UNTIL(attempt->ended);
    assert_bytes(text_bytes(&attempt->body), "question");
    call_answer(attempt, 200, grpc_fields, false);
    call_finish(attempt, "14");
    attempt = next_call(server, 2); /* behind a message: not any more */
    call_answer(attempt, 200, grpc_fields, false);
    call_send(attempt, "answer");
    call_finish(attempt, "14");
    RIG_UNTIL(call->ended);
    assert_bytes(text_bytes(&call->body), "answer");
    assert_bytes(text_bytes(&call->grpc_status), "14");
    assert_int_equal(call->why, RESET_NONE);
    assert_string_equal(call->log, "HDE");
    rig_settle();
    assert_retries(2, 1, 0, 0);
    h2_free(client);
    h2_free(server);
}

static void a_held_back_head_comes_with_its_end(void **state)
{
    struct h2_peer *client, *server;
    struct call *call, *attempt;

    (void)state;
    retry_on_server_errors(1);
    know();
    client = h2_dial(OUTBOUND);
    call = h2_call(client, "POST", "/svc/Method", true, grpc_fields);
    server = h2_accept(&app, NULL);
    attempt = next_call(server, 0);
    call_answer(attempt, 200, grpc_fields, false);
    rig_settle();
    assert_int_equal(call->log_len, 0);
    call_finish(attempt, "5");
    RIG_UNTIL(call->ended);
    assert_bytes(text_bytes(&call->grpc_status), "5");
    assert_string_equal(call->log, "HE");
    /* And with the reset of its stream, which goes on as it came. */
    call = h2_call(client, "POST", "/svc/Method", true, grpc_fields);
    attempt = next_call(server, 1);
    call_answer(attempt, 200, grpc_fields, false);
    rig_settle();
    call_close(attempt, RESET_CALM);
    RIG_UNTIL(call->why != RESET_NONE);
    assert_int_equal(call->why, RESET_CALM);
    rig_settle();
    assert_int_equal(route_statuses("error=\"ENHANCE_YOUR_CALM\"", NULL), 1);
    h2_free(client);
    h2_free(server);
}

/* A response may begin before its request ends; how long the rest takes is not the attempt's
 * time. */
static void who_answers_early_is_in_time(void **state)
{
    static const char *const plain[] = {"content-type: text/plain", NULL};
    const char *const *const fields[] = {plain, grpc_fields}; /* whose head is held back */
    struct h2_peer *client, *server = NULL;
    struct call *call, *attempt;

    (void)state;
    retry_on_server_errors(1);
    rule->retry.timeout_ns = 30 * NS_PER_MS;
    know();
    client = h2_dial(OUTBOUND);
    for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
        call = h2_call(client, "POST", "/svc/Method", false, fields[i]);
        call_send(call, "question");
        server = server != NULL ? server : h2_accept(&app, NULL);
        attempt = next_call(server, i);
        call_answer(attempt, 200, fields[i], false);
        rig_settle();
        call_finish(call, NULL);
        RIG_UNTIL(attempt->ended);
        for (uint64_t start = rig.l->now_ns; rig.l->now_ns - start < 60 * NS_PER_MS;) {
            rig_turn();
        }
        call_send(attempt, "answer");
        call_finish(attempt, "0");
        RIG_UNTIL(call->ended);
        assert_int_equal(call->why, RESET_NONE);
        assert_bytes(text_bytes(&call->body), "answer");
    }
    rig_settle();
    assert_retries(0, 0, 0, 0);
    h2_free(client);
    h2_free(server);
}

/* What was kept of a body for another attempt goes when there will be none. */
static void a_body_is_kept_no_longer_than_needed(void **state)
{
    struct h2_peer *client, *server;
    struct call *call, *attempt;
    const struct exchange *ex;

    (void)state;
    retry_on_server_errors(1);
    know();
    client = h2_dial(OUTBOUND);
    call = h2_call(client, "POST", "/a", false, NULL);
    call_send(call, "question");
    server = h2_accept(&app, NULL);
    attempt = next_call(server, 0);
    ex = LIST_ITEM(LIST_ITEM(rig.w.conns.next, struct conn, node)->exchanges.next, struct exchange,
                   node);
    RIG_UNTIL(chain_size(&ex->plan->replay.kept) > 0);
    call_answer(attempt, 200, NULL, false);
    RIG_UNTIL(call->log_len > 0);
    assert_int_equal(chain_size(&ex->plan->replay.kept), 0);
    call_finish(call, NULL);
    call_finish(attempt, NULL);
    RIG_UNTIL(call->ended);
    h2_free(client);
    h2_free(server);
}

static void a_refused_stream_is_tried_again(void **state)
{
    struct h2_peer *client, *server;
    struct call *call, *attempt;

    (void)state;
    retry_on_server_errors(1);
    know();
    client = h2_dial(OUTBOUND);
    call = h2_call(client, "POST", "/svc/Method", true, grpc_fields);
    server = h2_accept(&app, NULL);
    call_close(next_call(server, 0), RESET_REFUSED);
    attempt = next_call(server, 1);
    call_answer(attempt, 200, grpc_fields, false);
    call_send(attempt, "answer");
    call_finish(attempt, "0");
    RIG_UNTIL(call->ended);
    rig_settle();
    assert_retries(1, 1, 0, 0);
    assert_int_equal(backend_statuses("http_status=\"\",error=\"REFUSED\"", NULL), 1);
    h2_free(client);
    h2_free(server);
}

/* --- timeouts --------------------------------------------------------------------------------- */

static void the_request_timeout_covers_all_attempts(void **state)
{
    struct peer *client, *server;

    (void)state;
    retry_on_server_errors(1);
    rule->request_timeout_ns = 300 * NS_PER_MS;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = expect(NULL, "GET /a");
    answer(server, BUSY);
    (void)expect(server, "GET /a");
    RIG_UNTIL(peer_has(client, "504 Gateway"));
    assert_false(peer_has(client, "connection: close"));
    rig_settle();
    assert_int_equal(route_statuses("http_status=\"\"", "error=\"REQUEST_TIMEOUT\""), 1);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"request_timeout\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_errors_total", "error=\"response timeout\"", NULL), 1);
}

/* What a backend allows an attempt is not taken from the next one. */
static void a_backends_timeout_is_of_one_attempt(void **state)
{
    struct peer *client, *server;

    (void)state;
    retry_on_server_errors(1);
    rule->backends[0].request_timeout_ns = 300 * NS_PER_MS;
    rule->retry.backoff_min_ns = rule->retry.backoff_max_ns = 400 * NS_PER_MS;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = expect(NULL, "GET /a");
    answer(server, BUSY);
    server = expect(server, "GET /a");
    RIG_UNTIL(peer_has(client, "504 Gateway"));
    rig_settle();
    assert_retries(1, 0, 0, 0);
    assert_int_equal(backend_statuses("http_status=\"\"", "error=\"REQUEST_TIMEOUT\""), 1);
}

/* It begins when the request has been sent, however long that takes. */
static void the_response_timeout_begins_with_the_requests_end(void **state)
{
    struct peer *client, *server;

    (void)state;
    rule->response_timeout_ns = 40 * NS_PER_MS;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhel");
    server = expect(NULL, "hel");
    for (uint64_t start = rig.l->now_ns; rig.l->now_ns - start < 80 * NS_PER_MS;) {
        rig_turn();
    }
    assert_false(peer_has(client, "504"));
    peer_send(client, "lo");
    (void)expect(server, "hello");
    RIG_UNTIL(peer_has(client, "504 Gateway"));
    rig_settle();
    assert_int_equal(route_statuses("http_status=\"\"", "error=\"RESPONSE_STREAM_TIMEOUT\""), 1);
}

static void a_response_that_stalls_breaks_off(void **state)
{
    struct peer *client, *server;

    (void)state;
    rule->idle_timeout_ns = 250 * NS_PER_MS;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = expect(NULL, "GET /a");
    for (uint64_t start = rig.l->now_ns; rig.l->now_ns - start < 400 * NS_PER_MS;) {
        rig_turn(); /* no body is on its way: that is the response's timeout's business */
    }
    answer(server, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n");
    for (unsigned i = 0; i < 4; i++) {
        for (uint64_t start = rig.l->now_ns; rig.l->now_ns - start < 80 * NS_PER_MS;) {
            rig_turn();
        }
        peer_send(server, "x");
    }
    RIG_UNTIL(peer_has(client, "xxxx"));
    RIG_UNTIL(client->eof || client->err != 0);
    rig_settle();
    assert_int_equal(route_statuses("http_status=\"200\"", "error=\"IDLE_TIMEOUT\""), 1);
}

static void grpc_learns_of_a_timeout_from_trailers(void **state)
{
    struct h2_peer *client, *server;
    struct call *call, *attempt;

    (void)state;
    rule->request_timeout_ns = 300 * NS_PER_MS;
    know();
    client = h2_dial(OUTBOUND);
    call = h2_call(client, "POST", "/svc/Method", true, grpc_fields);
    server = h2_accept(&app, NULL);
    attempt = next_call(server, 0);
    call_answer(attempt, 200, grpc_fields, false);
    call_send(attempt, "part");
    RIG_UNTIL(call->ended);
    assert_bytes(text_bytes(&call->grpc_status), "4");
    assert_string_equal(call->log, "HDE");
    RIG_UNTIL(attempt->why == RESET_CANCEL);
    h2_free(client);
    h2_free(server);
}

/* --- filters ---------------------------------------------------------------------------------- */

#define EDIT(n, v)                                                                                 \
    {                                                                                              \
        .name = {n, sizeof(n) - 1}, .value = { v, sizeof(v) - 1 }                                  \
    }

static void headers_are_edited_both_ways(void **state)
{
    static struct header_edit up = EDIT("x-up", "1"), near = EDIT("x-near", "1"),
                              down = EDIT("x-down", "route"), below = EDIT("x-down", "backend");
    static struct bytes gone = {"x-gone", 6}, cookie = {"set-cookie", 10};
    struct filter on_route[] = {
        {.kind = FILTER_REQUEST_HEADERS,
         .set = &up,
         .set_count = 1,
         .remove = &gone,
         .remove_count = 1},
        {.kind = FILTER_RESPONSE_HEADERS,
         .add = &down,
         .add_count = 1,
         .remove = &cookie,
         .remove_count = 1},
    };
    struct filter on_backend[] = {
        {.kind = FILTER_REQUEST_HEADERS, .add = &near, .add_count = 1},
        {.kind = FILTER_RESPONSE_HEADERS, .set = &below, .set_count = 1},
    };
    struct peer *client, *server = NULL;

    (void)state;
    retry_on_server_errors(1);
    rule->filters = on_route;
    rule->filters_count = ARRAY_LEN(on_route);
    rule->backends[0].filters = on_backend;
    rule->backends[0].filters_count = ARRAY_LEN(on_backend);
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, "GET /a HTTP/1.1\r\nHost: web\r\nConnection: x-up\r\nX-Gone: 1\r\n\r\n");
    for (unsigned i = 0; i < 2; i++) { /* once for each attempt, and not twice */
        char *found;

        server = expect(server, "\r\n\r\n");
        found = strstr(server->in.at, "x-near: 1");
        assert_non_null(found);
        assert_null(strstr(found + 1, "x-near"));
        assert_true(peer_has(server, "x-up: 1"));
        assert_false(peer_has(server, "x-gone"));
        answer(server, i == 0 ? BUSY
                              : "HTTP/1.1 200 OK\r\nset-cookie: a\r\nx-down: app\r\n"
                                "content-length: 0\r\n\r\n");
    }
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    assert_true(peer_has(client, "x-down: backend\r\n"));
    assert_true(peer_has(client, "x-down: route\r\n"));
    assert_false(peer_has(client, "x-down: app"));
    assert_false(peer_has(client, "set-cookie"));
    peer_close(client);
    rig_settle();
}

static void filters_answer(void **state)
{
    struct filter filters[] = {
        {.kind = FILTER_FAIL, .status = 418, .message = {"no", 2}, .denominator = 1},
        {.kind = FILTER_REDIRECT, .status = 307, .scheme = {"https", 5}},
    };
    struct peer *client;

    (void)state;
    rule->filters = filters;
    rule->filters_count = 2;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, "GET /a?b HTTP/1.1\r\nHost: web:8080\r\n\r\n");
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    assert_true(peer_has(client, "307 "));
    assert_true(peer_has(client, "location: https://web/a?b\r\n"));
    assert_true(peer_has(client, "content-length: 0\r\n"));
    text_reset(&client->in);
    filters[0].numerator = 1;
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "418 "));
    rig_settle();
    assert_int_equal(route_statuses("http_status=\"307\",error=\"\"", NULL), 1);
    assert_int_equal(route_statuses("http_status=\"418\",error=\"\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_route_request_duration_seconds_count", NULL, NULL), 2);
    assert_true(app_has_nobody(&app));
    peer_close(client);
    rig_settle();
}

/* --- l5d-* ------------------------------------------------------------------------------------ */

static void requests_govern_themselves_where_they_may(void **state)
{
    static const char request[] = "POST /a HTTP/1.1\r\nHost: web\r\nl5d-retry-http: 503\r\n"
                                  "l5d-retry-limit: 2\r\nl5d-timeout: 20s\r\n"
                                  "Content-Length: 5\r\n\r\nhello";
    struct peer *client, *server = NULL;

    (void)state;
    rule->allow_request_headers = true;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, request);
    for (unsigned i = 0; i < 3; i++) {
        server = expect(server, "hello");
        assert_false(peer_has(server, "l5d-"));
        answer(server, BUSY);
    }
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503"));
    rig_settle();
    assert_retries(2, 0, 0, 1);
}

static void requests_do_not_where_they_may_not(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, "GET /a HTTP/1.1\r\nHost: web\r\nl5d-retry-http: 503\r\n"
                      "l5d-response-timeout: 1ms\r\n\r\n");
    server = expect(server, "\r\n\r\n");
    assert_false(peer_has(server, "l5d-"));
    answer(server, BUSY);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503"));
    rig_settle();
    assert_retries(0, 0, 0, 0);
}

/* --- ingress mode ----------------------------------------------------------------------------- */

#define TO(name) "GET /a HTTP/1.1\r\nHost: edge\r\nl5d-dst-override: " name "\r\n\r\n"

static void a_request_names_its_destination(void **state)
{
    struct endpoint *at = endpoint_at(&app.at, "dst_pod=\"shop-1\"");
    struct app elsewhere;
    struct peer *client, *server;

    (void)state;
    rig.config.ingress_mode = true;
    app_open(&elsewhere);
    rig_know(QUESTION_NAME, BYTES("shop.app:80"),
             &policy_to(PROTOCOL_DETECT, endpoint_at(&elsewhere.at, NULL), NULL)->ref);
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, TO("Shop.app."));
    server = app_accept(&elsewhere);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_false(peer_has(server, "l5d-"));
    assert_true(peer_has(server, "Host: edge") || peer_has(server, "host: edge"));
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    /* One that is not known to the policies is looked up as it is. */
    text_reset(&client->in);
    rig_know(QUESTION_NAME, BYTES("plain.example:81"), &outbound_policy_new_fallback()->ref);
    rig_know_endpoints("plain.example:81", &at, 1);
    peer_send(client, TO("plain.example:81"));
    server = expect(NULL, "GET /a");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    /* Without a name it is the connection's destination. */
    text_reset(&client->in);
    peer_send(client, GET);
    server = expect(NULL, "GET /a");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    app_close(&elsewhere);
    rig_check_labels();
}

static void malformed_names_are_refused(void **state)
{
    static const char *const requests[] = {TO(""),         TO(":80"),      TO("a b"),
                                           TO("shop:0"),   TO("shop:x"),   TO("shop:65536"),
                                           TO("10.1.2.3"), TO("[::1]:80"), TO("shop:80:90")};

    (void)state;
    rig.config.ingress_mode = true;
    know();
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct peer *client = peer_dial(OUTBOUND);

        peer_send(client, requests[i]);
        RIG_UNTIL(peer_has(client, "400 Bad Request"));
        peer_close(client);
    }
    rig_settle();
    assert_true(app_has_nobody(&app));
}

/* The client goes while its name is not known yet; and without the mode a name is just a field. */
static void names_that_are_waited_for(void **state)
{
    struct peer *client, *server;

    (void)state;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, TO("shop.app"));
    server = expect(NULL, "l5d-dst-override: shop.app");
    peer_close(client);
    peer_close(server);
    rig_settle();
    rig.config.ingress_mode = true;
    client = peer_dial(OUTBOUND);
    peer_send(client, TO("shop.app"));
    rig_settle();
    assert_int_equal(rig.w.in_flight[OUTBOUND], 1);
    peer_abort(client);
    RIG_UNTIL(rig.w.in_flight[OUTBOUND] == 0);
    client = peer_dial(OUTBOUND);
    peer_send(client, TO("shop.app"));
    rig_settle();
    rig_know(QUESTION_NAME, BYTES("shop.app:80"),
             &policy_to(PROTOCOL_DETECT, endpoint_at(&app.at, NULL), NULL)->ref);
    server = expect(NULL, "GET /a");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
}

/* --- figures ---------------------------------------------------------------------------------- */

static void without_a_policy_it_is_the_endpoint(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig.target[OUTBOUND] = app.at;
    rig_know_target(&app.at, outbound_policy_new_fallback());
    client = peer_dial(OUTBOUND);
    peer_send(client, POST);
    server = expect(NULL, "hello");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    rig_settle();
    assert_int_equal(rig_sum("outbound_http_route_backend_response_statuses_total",
                             "parent_group=\"\",parent_kind=\"default\",parent_namespace=\"\","
                             "parent_name=\"endpoint\",parent_port=\"\",parent_section_name=\"\","
                             "route_group=\"\",route_kind=\"default\",route_namespace=\"\","
                             "route_name=\"endpoint\",backend_group=\"\",backend_kind=\"default\","
                             "backend_namespace=\"\",backend_name=\"endpoint\",backend_port=\"\","
                             "backend_section_name=\"\",http_status=\"200\",error=\"\"",
                             NULL),
                     1);
    assert_int_equal(rig_sum("outbound_http_route_request_frame_size_bytes_count", NULL, NULL), 1);
    assert_int_equal(rig_sum("outbound_http_route_request_frame_size_bytes_sum", NULL, NULL), 5);
    assert_int_equal(
        rig_sum("outbound_http_route_backend_response_frame_size_bytes_sum", NULL, NULL), 2);
    rig_check_labels();
}

/* Wire 2.1: the hostname label is filled where the configuration says so. */
static void hosts_are_told_apart_when_asked(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    rig.config.hostname_labels = true;
    know();
    client = peer_dial(OUTBOUND);
    for (unsigned i = 0; i < 3; i++) {
        text_reset(&client->in);
        peer_send(client, i == 1 ? "GET / HTTP/1.1\r\nHost: b:80\r\n\r\n"
                                 : "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        server = expect(server, "GET /");
        answer(server, OK);
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    }
    rig_settle();
    assert_int_equal(route_statuses("hostname=\"a\"", "http_status=\"200\""), 2);
    assert_int_equal(route_statuses("hostname=\"b\"", "http_status=\"200\""), 1);
    rig_check_labels();
}

int main(int argc, char **argv)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_tried_again_with_its_body),
        TEST(the_limit_is_kept),
        TEST(a_long_body_is_sent_once),
        TEST(a_slow_attempt_is_given_up),
        TEST(fail_fast_overflows),
        TEST(a_retry_outlives_its_policy_and_not_its_client),
        TEST(a_client_that_goes_ends_its_retries),
        TEST(grpc_retries_by_the_first_trailers),
        TEST(a_held_back_head_comes_with_its_end),
        TEST(who_answers_early_is_in_time),
        TEST(a_body_is_kept_no_longer_than_needed),
        TEST(a_refused_stream_is_tried_again),
        TEST(the_request_timeout_covers_all_attempts),
        TEST(a_backends_timeout_is_of_one_attempt),
        TEST(the_response_timeout_begins_with_the_requests_end),
        TEST(a_response_that_stalls_breaks_off),
        TEST(grpc_learns_of_a_timeout_from_trailers),
        TEST(headers_are_edited_both_ways),
        TEST(filters_answer),
        TEST(requests_govern_themselves_where_they_may),
        TEST(requests_do_not_where_they_may_not),
        TEST(a_request_names_its_destination),
        TEST(malformed_names_are_refused),
        TEST(names_that_are_waited_for),
        TEST(without_a_policy_it_is_the_endpoint),
        TEST(hosts_are_told_apart_when_asked),
    };

    return rig_run(tests, argc, argv);
}
