/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints that fail too much are taken out and probed; what counts as a failure; parameters that
 * change while requests go on (wire 6.2).
 */
#include "balance_rig.h"

/* Wire 6.2: so many failures in a row, then nothing but one probe after each probation, until one
 * succeeds. */
static void a_failing_endpoint_is_taken_out_and_probed(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);
    unsigned failed = 0;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, true);
    hosts(BAD, OK);
    for (unsigned i = 0; i < 10000 && first.requests < 2; i++) {
        failed += ask(client) == 500;
    }
    assert_int_equal(failed, 2);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    assert_int_equal(rig_sum("outbound_http_balancer_endpoints", "endpoint_state=\"ready\"", NULL),
                     1);
    assert_int_equal(
        rig_sum("outbound_http_balancer_endpoints", "endpoint_state=\"pending\"", NULL), 1);
    for (unsigned probes = 1; probes <= 2; probes++) {
        assert_int_equal(ask(client), 200);
        while (first.requests < 2 + probes) {
            failed += ask(client) == 500;
        }
        assert_int_equal(failed, 2 + probes);
        assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
        assert_int_equal(seat_at(&one)->accrual->state.ejections, 1 + probes); /* one each time */
    }
    first.answer = OK;
    HOSTS_UNTIL(seat_at(&one)->accrual->state.state == ACCRUAL_PROBE);
    while (first.requests < 5) {
        assert_int_equal(ask(client), 200);
    }
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
    while (first.requests < 8) {
        assert_int_equal(ask(client), 200);
    }
    assert_int_equal(rig_sum("outbound_http_balancer_endpoints", "endpoint_state=\"ready\"", NULL),
                     2);
    assert_int_equal(rig_sum("response_total", "classification=\"failure\"", NULL), 4);
}

/* While the only endpoint is out, requests wait; one of them is the probe, and the others go on
 * waiting until it has succeeded. */
static void waiting_requests_see_one_probe(void **state)
{
    struct peer *clients[4], *server;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = peer_dial(OUTBOUND);
    }
    assert_int_equal(ask(clients[0]), 500);
    assert_int_equal(ask(clients[0]), 500);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    first.answer = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        peer_send(clients[i], GET);
    }
    HOSTS_UNTIL(first.requests == 3);
    rig_settle();
    host_turn(&first);
    assert_int_equal(first.requests, 3);
    assert_int_equal(the_dest()->waiting_count, 3);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_length", NULL, NULL), 3);
    server = first.hands[first.count - 1];
    first.answer = OK;
    peer_send(server, OK);
    HOSTS_UNTIL(first.requests == 6);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        HOSTS_UNTIL(peer_has(clients[i], "200 OK"));
    }
    assert_int_equal(rig_sum("outbound_http_balancer_queue_length", NULL, NULL), 0);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_requests_total", NULL, NULL), 6);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_latency_seconds_count", NULL, NULL), 6);
}

/* The client of the probe goes away: somebody else's request takes its place at once. */
static void a_probe_whose_client_goes_is_given_back(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *other;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    first.answer = NULL;
    peer_send(client, GET);
    HOSTS_UNTIL(first.requests == 3);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_PROBING);
    first.answer = OK;
    peer_abort(client);
    other = peer_dial(OUTBOUND); /* not silent for long: nothing is opened early for it */
    assert_int_equal(ask(other), 200);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
}

/* An endpoint whose connections break before they answer fails, too. */
static void broken_connections_count(void **state)
{
    struct peer *client;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, true);
    hosts(NULL, OK);
    for (unsigned failed = 0, i = 0; failed < 2; i++) {
        assert_true(i < 200);
        client = peer_dial(OUTBOUND);
        peer_send(client, "POST / HTTP/1.1\r\nHost: web\r\ncontent-length: 0\r\n\r\n");
        HOSTS_UNTIL(first.requests > failed || peer_has(client, "200 OK"));
        if (first.requests > failed) {
            failed++;
            peer_abort(first.hands[first.count - 1]);
            RIG_UNTIL(peer_has(client, "502 "));
        }
        peer_close(client);
    }
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    client = peer_dial(OUTBOUND);
    assert_int_equal(ask(client), 200);
}

/* The gRPC status in the trailers decides, also after messages (wire 7.3); one of RESOURCE_EXHAUSTED
 * is no failure where only rows are counted. */
static void grpc_statuses_count(void **state)
{
    static const char *const grpc[] = {"content-type: application/grpc", NULL};
    static const struct {
        const char *status;
        enum accrual_state state;
    } calls[] = {
        {"13", ACCRUAL_CLOSED}, {"0", ACCRUAL_CLOSED},  {"13", ACCRUAL_CLOSED},
        {"8", ACCRUAL_CLOSED},  {"14", ACCRUAL_CLOSED}, {"2", ACCRUAL_EJECTED},
    };
    struct h2_peer *client = h2_dial(OUTBOUND), *server = NULL;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_GRPC);
    know_policy();
    know_endpoints(true, false);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        struct call *c = h2_call(client, "POST", "/svc/Method", true, grpc);

        if (server == NULL) {
            server = h2_accept(&one, NULL);
        }
        RIG_UNTIL(server->count == i + 1 && server->calls[i].ended);
        call_answer(&server->calls[i], 200, grpc, false);
        if (i % 2 == 0) {
            call_send(&server->calls[i], "a message");
        }
        call_finish(&server->calls[i], calls[i].status);
        RIG_UNTIL(c->ended);
        assert_string_equal(c->grpc_status.at, calls[i].status);
        assert_int_equal(seat_at(&one)->accrual->state.state, calls[i].state);
    }
    h2_free(client);
    h2_free(server);
}

/* Attempts that are retried have outcomes of their own, and one whose time ran out has failed. */
static void retried_and_timed_out_attempts_count(void **state)
{
    static const struct status_range errors = {.start = 500, .end = 599};
    struct peer *client = peer_dial(OUTBOUND);
    struct rule *rule;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    rule = policy->http1.at[0].rules;
    rule->retry = (struct retry){.is_on = true,
                                 .max_retries = 1,
                                 .max_request_bytes = 65536,
                                 .ranges = (struct status_range *)(uintptr_t)&errors,
                                 .ranges_count = 1,
                                 .backoff_min_ns = NS_PER_MS,
                                 .backoff_max_ns = NS_PER_MS};
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(first.requests, 2);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);

    (void)new_policy_accruing(PROTOCOL_HTTP1);
    policy->backends[0].max_failures = 1;
    policy->http1.at[0].rules->response_timeout_ns = 20 * NS_PER_MS;
    know_policy();
    first.answer = OK;
    assert_int_equal(ask(client), 200);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
    first.answer = NULL;
    assert_int_equal(ask(client), 504);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
}

/* Who is out and goes leaves nothing behind; who comes in its place begins anew. */
static void an_endpoint_that_is_out_may_go(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, OK);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    know_endpoints(false, true);
    assert_int_equal(ask(client), 200);
    know_endpoints(true, false);
    first.answer = OK;
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
    assert_int_equal(ask(client), 200);
}

/* --- parameters that change ------------------------------------------------------------------- */

/* Failures do not count any more: who was out is back at once; they count again: from nothing. The
 * connections and what was measured stay. */
static void accrual_is_switched_while_requests_go_on(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);
    struct upstream *up;

    (void)state;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    assert_int_equal(balancer_ready(the_dest()->balancer), 0);
    up = seat_at(&one)->up;

    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(ask(client), 500);
    }
    assert_null(seat_at(&one)->accrual);

    new_policy_accruing(PROTOCOL_HTTP1)->max_failures = 3;
    know_policy();
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_CLOSED);
    assert_int_equal(ask(client), 500);
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    assert_ptr_equal(seat_at(&one)->up, up);
    assert_int_equal(first.count, 1); /* one connection for all of them */
}

/* Another threshold does not let an endpoint back in before its time. */
static void who_is_out_stays_out_when_parameters_change(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *other = peer_dial(OUTBOUND);

    (void)state;
    new_policy_accruing(PROTOCOL_HTTP1)->backoff_min_ns = 3600 * NS_PER_S;
    policy->backends[0].backoff_max_ns = 3600 * NS_PER_S;
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    new_policy_accruing(PROTOCOL_HTTP1)->max_failures = 50;
    know_policy();
    peer_send(other, GET);
    rig_settle();
    assert_int_equal(seat_at(&one)->accrual->state.state, ACCRUAL_EJECTED);
    assert_int_equal(the_dest()->accrual.max_failures, 50);
    assert_int_equal(the_dest()->waiting_count, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        BALANCE_TEST(a_failing_endpoint_is_taken_out_and_probed),
        BALANCE_TEST(waiting_requests_see_one_probe),
        BALANCE_TEST(a_probe_whose_client_goes_is_given_back),
        BALANCE_TEST(broken_connections_count),
        BALANCE_TEST(grpc_statuses_count),
        BALANCE_TEST(retried_and_timed_out_attempts_count),
        BALANCE_TEST(an_endpoint_that_is_out_may_go),
        BALANCE_TEST(accrual_is_switched_while_requests_go_on),
        BALANCE_TEST(who_is_out_stays_out_when_parameters_change),
    };

    return rig_run(tests, argc, argv);
}
