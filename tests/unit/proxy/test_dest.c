/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where requests go: balanced endpoints that come, go, refuse and return; fail-fast; identities
 * that are required; targets without a policy.
 */
#include "peers.h"

#include <poll.h>

#define PATH "web.app.svc.cluster.local:80"

static struct app one, two;

static int setup(void **state)
{
    rig_setup(state);
    app_open(&one);
    app_open(&two);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_DETECT, NULL, PATH));
    return 0;
}

static int teardown(void **state)
{
    if (one.fd >= 0) {
        app_close(&one);
    }
    if (two.fd >= 0) {
        app_close(&two);
    }
    return rig_teardown(state);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void endpoints(bool with_one, bool with_two)
{
    struct endpoint *at[2];
    size_t n = 0;

    if (with_one) {
        at[n++] = endpoint_at(&one.at, "dst_pod=\"one\"");
    }
    if (with_two) {
        at[n++] = endpoint_at(&two.at, "dst_pod=\"two\"");
    }
    rig_know_endpoints(PATH, at, n);
}

#define GET "GET / HTTP/1.1\r\nHost: web\r\n\r\n"
#define OK  "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

static void serve(struct peer *server, struct peer *client)
{
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    text_reset(&server->in);
    peer_send(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    text_reset(&client->in);
}

/* One of two refuses: nobody notices. */
static void a_refusing_endpoint_is_passed_over(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;

    (void)state;
    app_close(&one);
    endpoints(true, true);
    peer_send(client, GET);
    server = app_accept(&two);
    serve(server, client);
    for (unsigned i = 0; i < 20; i++) {
        peer_send(client, GET);
        serve(server, client);
    }
    assert_int_equal(rig_sum("request_total", "dst_pod=\"two\"", NULL), 21);
    assert_int_equal(rig_sum("request_total", "dst_pod=\"one\"", NULL), 0);
    assert_int_equal(rig_sum("response_total", "classification=\"success\"", NULL), 21);
    assert_int_equal(rig_sum("request_total", "authority=\"web.app.svc.cluster.local\"", NULL), 21);
    rig_check_labels();
}

/* A service may have ten thousand endpoints, and metrics have a budget: zeros must not use it up. */
static void endpoints_that_nobody_uses_have_no_series(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;
    struct pollfd waits[2] = {{.fd = one.fd, .events = POLLIN}, {.fd = two.fd, .events = POLLIN}};
    bool has_one, has_two;
    char *text;

    (void)state;
    endpoints(true, true);
    peer_send(client, GET);
    RIG_UNTIL(poll(waits, 2, 0) > 0);
    server = app_accept(waits[0].revents != 0 ? &one : &two);
    serve(server, client);
    text = rig_metrics();
    has_one = strstr(text, "dst_pod=\"one\"") != NULL;
    has_two = strstr(text, "dst_pod=\"two\"") != NULL;
    assert_true(has_one != has_two); /* that of the one that was used */
    mem_free(text);
}

static void requests_wait_for_the_first_endpoint(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    peer_send(client, GET);
    rig_settle();
    endpoints(true, false);
    serve(app_accept(&one), client);
}

/* Wire 6.1: without a ready endpoint a request waits for the fail-fast time, then all fail at
 * once. */
static void no_endpoint_fails_fast(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *other = peer_dial(OUTBOUND);

    (void)state;
    rig.config.outbound.failfast_ns = 50 * NS_PER_MS;
    endpoints(false, false);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "504 "));
    assert_true(peer_has(client, "connection: close"));
    peer_send(other, GET);
    RIG_UNTIL(peer_has(other, "504 "));
    assert_int_equal(rig_sum("outbound_http_errors_total", "error=\"failfast\"", NULL), 2);
    /* An endpoint: it is over. */
    endpoints(true, false);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    serve(app_accept(&one), client);
}

/* The same with an endpoint that exists and refuses: it is tried with back-off, which does not
 * count as ready. */
static void a_dead_endpoint_fails_fast_and_comes_back(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);
    struct addr at = one.at;

    (void)state;
    rig.config.outbound.failfast_ns = 300 * NS_PER_MS;
    /* No try ends when the fail-fast time does: which of the two came first would decide the answer. */
    rig.config.outbound.backoff_min_ns = 80 * NS_PER_MS;
    rig.config.outbound.backoff_max_ns = 80 * NS_PER_MS;
    app_close(&one);
    endpoints(true, false);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 "));
    assert_true(peer_has(client, "504 "));
    assert_int_equal(rig_sum("outbound_http_errors_total", "error=\"failfast\"", NULL), 1);
    assert_int_equal(sock_listen(&at, false, 128, &one.fd), 0);
    for (unsigned i = 0; i < 200; i++) {
        client = peer_dial(OUTBOUND);
        peer_send(client, GET);
        RIG_UNTIL(peer_has(client, "504 ") || !app_has_nobody(&one));
        if (!peer_has(client, "504 ")) {
            return;
        }
        rig_settle(); /* the back-off's time must pass before another try can help */
    }
    fail_msg("it never came back");
}

/* An endpoint that is taken away finishes what it has, and gets nothing new. */
static void removal_with_a_request_in_flight(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *late = peer_dial(OUTBOUND), *server;

    (void)state;
    endpoints(true, false);
    peer_send(client, GET);
    server = app_accept(&one);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha");
    RIG_UNTIL(peer_has(client, "ha"));
    endpoints(false, true);
    peer_send(late, GET);
    serve(app_accept(&two), late);
    peer_send(server, "lf");
    RIG_UNTIL(peer_has(client, "half"));
    RIG_UNTIL(server->eof);
    assert_int_equal(rig_sum("response_total", "dst_pod=\"one\"", "classification=\"success\""), 1);
    assert_int_equal(rig_sum("response_total", "dst_pod=\"two\"", "classification=\"success\""), 1);
}

/* The same, with changed facts about the address: what is in flight ends, what comes is counted
 * under the new ones. */
static void a_change_with_a_request_in_flight(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *late = peer_dial(OUTBOUND), *server;
    struct endpoint *e;

    (void)state;
    endpoints(true, false);
    peer_send(client, GET);
    server = app_accept(&one);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    e = endpoint_at(&one.at, "dst_pod=\"renamed\"");
    rig_know_endpoints(PATH, &e, 1);
    peer_send(late, GET);
    serve(app_accept(&one), late);
    serve(server, client);
    rig_settle();
    assert_int_equal(rig_sum("response_total", "dst_pod=\"one\"", NULL), 1);
    assert_int_equal(rig_sum("response_total", "dst_pod=\"renamed\"", NULL), 1);
}

/* The endpoint goes away while a connection to it is being made, or a request waits for one. */
static void removal_while_dialing(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    endpoints(true, false);
    assert_int_equal(send(client->fd, GET, strlen(GET), 0), strlen(GET));
    (void)loop_turn(rig.l, 1);
    (void)loop_turn(rig.l, 1);
    endpoints(false, false);
    rig_settle();
    peer_abort(client);
    rig_settle();
    endpoints(false, true);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    serve(app_accept(&two), client);
}

/* A request whose connection went away unprocessed waits for an endpoint; its body comes
 * meanwhile and is kept. */
static void a_body_that_comes_between_two_attempts(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *server;
    struct call *c;
    struct peer *raw;

    (void)state;
    endpoints(true, false);
    c = h2_call(client, "POST", "/x", false, NULL);
    raw = app_accept(&one);
    RIG_UNTIL(raw->in.len > 70);
    endpoints(false, false);
    /* SETTINGS; GOAWAY: nothing was processed. */
    peer_send_bytes(raw, bytes_of("\0\0\0\4\0\0\0\0\0", 9));
    peer_send_bytes(raw, bytes_of("\0\0\10\7\0\0\0\0\0\0\0\0\0\0\0\0\0", 17));
    rig_settle();
    call_send(c, "the whole body");
    stream_send_end(c->s, NULL);
    rig_settle();
    endpoints(false, true);
    server = h2_accept(&two, NULL);
    RIG_UNTIL(server->count == 1 && server->calls[0].ended);
    assert_string_equal(server->calls[0].body.at, "the whole body");
    call_answer(&server->calls[0], 200, NULL, true);
    RIG_UNTIL(c->status == 200);
    assert_int_equal(rig_sum("request_total", NULL, NULL), 1);
    h2_free(client);
    h2_free(server);
}

/* Wire 5.5: who does not present the required identity gets no request, at any attempt, balanced
 * or not. */
static void a_required_identity(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    endpoints(true, true);
    peer_send(client, "GET / HTTP/1.1\r\nHost: web\r\nl5d-require-id: tap.linkerd\r\n\r\n");
    RIG_UNTIL(peer_has(client, "502 "));
    rig_settle();
    assert_true(app_has_nobody(&one) && app_has_nobody(&two));
}

static void without_a_policy_the_connection_goes_where_it_was_going(void **state)
{
    struct peer *client;

    (void)state;
    rig.target[OUTBOUND] = one.at;
    rig_know_target(&one.at, outbound_policy_new_fallback());
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    serve(app_accept(&one), client);
    assert_int_equal(
        rig_sum("request_total", "no_tls_reason=\"not_provided_by_service_discovery\"", NULL), 1);
}

static void a_policy_with_a_problem_answers_500(void **state)
{
    struct peer *client;

    (void)state;
    rig.target[OUTBOUND] = one.at;
    rig_know_target(&one.at, outbound_policy_new_problem("no metadata"));
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "500 "));
    assert_true(peer_has(client, "l5d-proxy-error: no metadata\r\n"));
    assert_true(app_has_nobody(&one));
}

/* The client goes while it waits for a policy that does not come. */
static void a_client_that_goes_before_there_is_a_policy(void **state)
{
    struct peer *client;

    (void)state;
    rig.target[OUTBOUND] = addr_v4(0x0a000002, 80);
    client = peer_dial(OUTBOUND);
    RIG_UNTIL(rig.w.conns_count == 1);
    peer_close(client);
    RIG_UNTIL(rig.w.conns_count == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_refusing_endpoint_is_passed_over),
        TEST(endpoints_that_nobody_uses_have_no_series),
        TEST(requests_wait_for_the_first_endpoint),
        TEST(no_endpoint_fails_fast),
        TEST(a_dead_endpoint_fails_fast_and_comes_back),
        TEST(removal_with_a_request_in_flight),
        TEST(a_change_with_a_request_in_flight),
        TEST(removal_while_dialing),
        TEST(a_body_that_comes_between_two_attempts),
        TEST(a_required_identity),
        TEST(without_a_policy_the_connection_goes_where_it_was_going),
        TEST(a_policy_with_a_problem_answers_500),
        TEST(a_client_that_goes_before_there_is_a_policy),
    };

    return rig_run(tests, argc, argv);
}
