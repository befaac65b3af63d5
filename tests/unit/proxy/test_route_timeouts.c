/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timeouts of a route, each with its beginning and its end, and what clients are told (wire 5.7, 5.8).
 */
#include "route_rig.h"

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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ROUTE_TEST(the_request_timeout_covers_all_attempts),
        ROUTE_TEST(a_backends_timeout_is_of_one_attempt),
        ROUTE_TEST(the_response_timeout_begins_with_the_requests_end),
        ROUTE_TEST(a_response_that_stalls_breaks_off),
        ROUTE_TEST(grpc_learns_of_a_timeout_from_trailers),
    };

    return rig_run(tests, argc, argv);
}
