/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that are tried again because their route asks for it: when, with what, how often, and what is
 * counted of that (wire 6.3, 7.2).
 */
#include "route_rig.h"

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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ROUTE_TEST(a_request_is_tried_again_with_its_body),
        ROUTE_TEST(the_limit_is_kept),
        ROUTE_TEST(a_long_body_is_sent_once),
        ROUTE_TEST(a_slow_attempt_is_given_up),
        ROUTE_TEST(fail_fast_overflows),
        ROUTE_TEST(a_retry_outlives_its_policy_and_not_its_client),
        ROUTE_TEST(a_client_that_goes_ends_its_retries),
        ROUTE_TEST(grpc_retries_by_the_first_trailers),
        ROUTE_TEST(a_held_back_head_comes_with_its_end),
        ROUTE_TEST(who_answers_early_is_in_time),
        ROUTE_TEST(a_body_is_kept_no_longer_than_needed),
        ROUTE_TEST(a_refused_stream_is_tried_again),
    };

    return rig_run(tests, argc, argv);
}
