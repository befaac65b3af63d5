/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of clients under service profiles on a whole worker (wire 3.2, 5.5, 6.3, 6.4, 7.2, 7.3). */
#include "profile_rig.h"
#include "proxy/replay.h"

static void know_endpoint(const char *path)
{
    struct endpoint *at = endpoint_at(&app.at, "dst_pod=\"web-1\"");

    rig_know_endpoints(path, &at, 1);
}

static void know(struct bytes parts)
{
    rig_know_target(&rig.target[OUTBOUND], profile(parts));
}

static void a_request_is_counted_by_its_route(void **state)
{
    struct peer *client, *server;

    (void)state;
    know(ROUTE("r", MSG(2, MSG(1, MSG(4, NUM(1, 503), NUM(2, 503))), NUM(2, 0))));
    know_endpoint(DST);
    client = peer_dial(OUTBOUND);
    peer_send(client, "GET /a?b HTTP/1.1\r\nHost: web\r\nL5d-Dst-Canonical: mine\r\n\r\n");
    server = expect(NULL, "\r\n\r\n");
    assert_true(peer_has(server, "l5d-dst-canonical: " DST "\r\n"));
    assert_false(peer_has(server, "mine"));
    answer(server, BUSY);
    RIG_UNTIL(peer_has(client, "503"));
    rig_settle();
    assert_int_equal(routes("route_request_total", "direction=\"outbound\",dst=\"" DST "\""), 1);
    assert_int_equal(routes("route_actual_request_total", NULL), 1);
    assert_int_equal(routes("route_response_total", "classification=\"success\""), 1);
    assert_int_equal(routes("route_actual_response_total", "classification=\"success\""), 1);
    assert_int_equal(rig_sum("response_total", "status_code=\"503\"", "\"success\""), 1);
    assert_int_equal(routes("route_response_latency_ms_count", "status_code=\"503\""), 1);
    assert_int_equal(rig_sum("route_retryable_total", NULL, NULL), 0);
    rig_check_labels();
}

/* A client that gives up before the response began leaves none. */
static void who_gives_up_leaves_no_response(void **state)
{
    struct peer *client;

    (void)state;
    know(ROUTE("r"));
    know_endpoint(DST);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    (void)expect(NULL, "\r\n\r\n");
    peer_abort(client);
    RIG_UNTIL(rig.w.in_flight[OUTBOUND] == 0);
    assert_int_equal(routes("route_request_total", NULL), 1);
    assert_int_equal(routes("route_response_total", NULL), 0);
}

static void retries_last_as_long_as_the_budget(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    know(CAT(ROUTE("r", RETRYABLE), BUDGET(2, 0, 60000)));
    know_endpoint(DST);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    for (unsigned i = 0; i < 3; i++) {
        server = expect(server, "\r\n\r\n");
        answer(server, BUSY);
    }
    RIG_UNTIL(peer_has(client, "503"));
    rig_settle();
    assert_int_equal(routes("route_request_total", NULL), 1);
    assert_int_equal(routes("route_response_total", "classification=\"failure\""), 1);
    assert_int_equal(routes("route_actual_request_total", NULL), 3);
    assert_int_equal(routes("route_actual_response_total", "classification=\"failure\""), 3);
    assert_int_equal(routes("route_retryable_total", NULL), 3);
    assert_int_equal(routes("route_retryable_total", "skipped=\"no_budget\""), 1);
}

/* A retry for whose body there is no memory does not go out, and costs the budget nothing. */
static void a_retry_that_cannot_go_out_is_not_paid(void **state)
{
    struct peer *client, *server;
    struct chain others;

    (void)state;
    chain_init(&others);
    know(CAT(ROUTE("r", RETRYABLE), BUDGET(1, 0, 60000))); /* each request earns one */
    know_endpoint(DST);
    client = peer_dial(OUTBOUND);
    peer_send(client, POST);
    server = expect(NULL, "hello");
    while (!chunks_are_short(&rig.l->chunks)) {
        struct chunk *c = chunk_new(&rig.l->chunks);

        c->end = 1;
        chain_push(&others, c);
    }
    answer(server, BUSY);
    RIG_UNTIL(peer_has(client, "503"));
    chain_clear(&others);
    assert_int_equal(routes("route_actual_request_total", NULL), 1);

    text_reset(&client->in);
    peer_send(client, POST);
    for (unsigned i = 0; i < 3; i++) {
        server = expect(server, "hello");
        answer(server, BUSY);
    }
    RIG_UNTIL(peer_has(client, "503"));
    rig_settle();
    assert_int_equal(routes("route_actual_request_total", NULL), 4);
    assert_int_equal(routes("route_retryable_total", "skipped=\"no_budget\""), 1);
}

/* The service goes on, so does its budget; other terms are another budget. */
static void a_budget_outlives_changes_of_the_routes(void **state)
{
    struct peer *client, *server = NULL;
    const struct bytes states[] = {
        CAT(ROUTE("r", RETRYABLE), BUDGET(0, 1, 60000)),
        CAT(ROUTE("r", RETRYABLE), ROUTE("s"), BUDGET(0, 1, 60000)),
        CAT(ROUTE("r", RETRYABLE), BUDGET(0, 2, 30000)),
    };
    static const unsigned attempts[] = {61, 1, 61};

    (void)state;
    know_endpoint(DST);
    client = peer_dial(OUTBOUND);
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        know(states[i]);
        text_reset(&client->in);
        peer_send(client, GET);
        for (unsigned k = 0; k < attempts[i]; k++) {
            server = expect(server, "\r\n\r\n");
            answer(server, BUSY);
        }
        RIG_UNTIL(peer_has(client, "503"));
    }
}

/* An endpoint that nobody can reach is no response: it is not tried again on the budget. */
static void only_responses_are_retried(void **state)
{
    struct addr closed = addr_v4(0x7f000001, 1);
    struct endpoint *at = endpoint_at(&closed, NULL);
    struct peer *client;

    (void)state;
    rig.config.outbound.failfast_ns = 50 * NS_PER_MS;
    know(CAT(ROUTE("r", RETRYABLE), BUDGET(1000, 1, 1000)));
    rig_know_endpoints(DST, &at, 1);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 50"));
    rig_settle();
    assert_int_equal(routes("route_response_total", "classification=\"failure\""), 1);
    assert_int_equal(routes("route_actual_request_total", NULL), 1);
    assert_int_equal(routes("route_retryable_total", NULL), 0);
}

static void a_timeout_covers_all_attempts(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    know(CAT(ROUTE("r", RETRYABLE, TIMEOUT(100)), BUDGET(1000, 1, 1000)));
    know_endpoint(DST);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = expect(server, "\r\n\r\n");
    answer(server, BUSY);
    (void)expect(server, "\r\n\r\n"); /* and no answer to that one */
    RIG_UNTIL(peer_has(client, "HTTP/1.1 504"));
    assert_true(peer_has(client, "connection: close")); /* wire 5.7 */
    RIG_UNTIL(client->eof);
    rig_settle();
    assert_int_equal(routes("route_actual_request_total", NULL), 2);
    assert_int_equal(routes("route_response_total", "error=\"response timeout\""), 1);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"profile_timeout\"", NULL), 1);
}

/* It is about the beginning of the response, and says nothing of its end. */
static void a_timeout_is_over_when_the_response_begins(void **state)
{
    struct peer *client, *server;
    uint64_t until_ns;

    (void)state;
    know(ROUTE("r", TIMEOUT(50)));
    know_endpoint(DST);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = expect(NULL, "\r\n\r\n");
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no");
    RIG_UNTIL(peer_has(client, "\r\n\r\no"));
    until_ns = rig.l->now_ns + 100 * NS_PER_MS;
    RIG_UNTIL(rig.l->now_ns > until_ns);
    peer_send(server, "k");
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
}

/* What failed is in the trailers; each call earns one retry. */
static void grpc_is_judged_by_its_status(void **state)
{
    static const char *const fields[] = {"content-type: application/grpc", NULL};
    static const char *const statuses[] = {"14", "5", "14", "14"};
    struct h2_peer *client, *server = NULL;
    struct call *call = NULL, *attempt;

    (void)state;
    know(CAT(ROUTE("r", RETRYABLE), BUDGET(1, 0, 60000)));
    know_endpoint(DST);
    client = h2_dial(OUTBOUND);
    for (unsigned i = 0; i < ARRAY_LEN(statuses); i++) {
        if (i % 2 == 0) {
            call = h2_call(client, "POST", "/svc/Method", true, fields);
        }
        if (server == NULL) {
            server = h2_accept(&app, NULL);
        }
        RIG_UNTIL(server->count > i && server->calls[i].log_len > 0);
        attempt = &server->calls[i];
        call_answer(attempt, 200, fields, false);
        call_finish(attempt, statuses[i]);
        if (i % 2 != 0) {
            RIG_UNTIL(call->ended);
            assert_bytes(text_bytes(&call->grpc_status), statuses[i]);
        }
    }
    rig_settle();
    assert_int_equal(routes("route_request_total", NULL), 2);
    assert_int_equal(routes("route_actual_request_total", NULL), 4);
    assert_int_equal(routes("route_response_total", "\"success\",grpc_status=\"5\""), 1);
    assert_int_equal(routes("route_response_total", "\"failure\",grpc_status=\"14\""), 1);
    assert_int_equal(routes("route_actual_response_total", "\"failure\",grpc_status=\"14\""), 3);
    assert_int_equal(routes("route_retryable_total", "skipped"), 1);
    h2_free(client);
    h2_free(server);
}

static void requests_go_where_overrides_say(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    know(CAT(MSG(3, STR(1, "a.app.svc.cluster.local:81"), NUM(2, 0)),
             MSG(3, STR(1, "b.app.svc.cluster.local:82"), NUM(2, 10000))));
    know_endpoint("b.app.svc.cluster.local:82");
    client = peer_dial(OUTBOUND);
    for (unsigned i = 0; i < 5; i++) {
        text_reset(&client->in);
        peer_send(client, GET);
        server = expect(server, "l5d-dst-canonical: " DST "\r\n");
        answer(server, OK);
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    }
    rig_settle();
    assert_int_equal(rig_sum("request_total", "authority=\"b.app.svc.cluster.local:82\"", NULL), 5);
    assert_int_equal(rig_sum("route_request_total", "dst=\"" DST "\"", NULL), 5);
}

/* Of two that stand in, one has nobody: the other one gets all. */
static void an_override_without_endpoints_is_passed_over(void **state)
{
    struct endpoint_set *nobody = endpoint_set_new(ENDPOINTS_EXIST, 0);
    struct peer *client, *server = NULL;

    (void)state;
    rig.config.outbound.failfast_ns = 20 * NS_PER_MS;
    rig_know(QUESTION_ENDPOINTS, BYTES("a.app.svc.cluster.local:81"), &nobody->ref);
    know_endpoint("b.app.svc.cluster.local:82");
    know(MSG(3, STR(1, "a.app.svc.cluster.local:81"), NUM(2, 1)));
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 504")); /* from now on it is known to have nobody */
    know(CAT(MSG(3, STR(1, "a.app.svc.cluster.local:81"), NUM(2, 1000)),
             MSG(3, STR(1, "b.app.svc.cluster.local:82"), NUM(2, 1))));
    client = peer_dial(OUTBOUND);
    for (unsigned i = 0; i < 10; i++) {
        text_reset(&client->in);
        peer_send(client, GET);
        server = expect(server, "\r\n\r\n");
        answer(server, OK);
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    }
}

/* In ingress mode the request names its service, whose profile is not the connection's. */
static void a_name_has_its_own_profile(void **state)
{
    static const char *const requests[] = {
        "GET /a HTTP/1.1\r\nHost: web\r\nl5d-dst-override: " DST "\r\n\r\n", GET};
    struct peer *client, *servers[2] = {NULL, NULL}; /* one connection for each service */

    (void)state;
    rig.config.ingress_mode = true;
    know_endpoint(DST);
    know_endpoint("other.app.svc.cluster.local:80");
    rig_know(QUESTION_NAME, BYTES(DST), &profile(ROUTE("r"))->ref);
    rig_know_target(&rig.target[OUTBOUND],
                    outbound_policy_new_at(
                        BYTES_NONE, CAT(ROUTE("s"), STR(5, "other.app.svc.cluster.local")), 80));
    client = peer_dial(OUTBOUND);
    for (unsigned i = 0; i < 6; i++) {
        text_reset(&client->in);
        peer_send(client, requests[i % 2]);
        servers[i % 2] =
            expect(servers[i % 2], i % 2 == 0 ? "l5d-dst-canonical: " DST : "canonical: other.app");
        answer(servers[i % 2], OK);
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    }
    rig_settle();
    assert_int_equal(routes("route_response_total", "dst=\"" DST "\""), 3);
    assert_int_equal(rig_sum("route_response_total", "dst=\"other.app", "rt_route=\"s\""), 3);
}

/* The profile goes while a request is under way: that one ends as it began. */
static void a_profile_goes_under_a_request(void **state)
{
    struct peer *client, *server;

    (void)state;
    know(ROUTE("r", RETRYABLE, TIMEOUT(60000)));
    know_endpoint(DST);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = expect(NULL, "\r\n\r\n");
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_DETECT, NULL, DST));
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    text_reset(&client->in);
    peer_send(client, GET);
    server = expect(NULL, "\r\n\r\n"); /* of a policy with another parent: another destination */
    assert_false(peer_has(server, "l5d-dst-canonical"));
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    rig_settle();
    assert_int_equal(routes("route_request_total", NULL), 1);
    assert_int_equal(routes("route_response_total", NULL), 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PROFILE_TEST(a_request_is_counted_by_its_route),
        PROFILE_TEST(who_gives_up_leaves_no_response),
        PROFILE_TEST(retries_last_as_long_as_the_budget),
        PROFILE_TEST(a_retry_that_cannot_go_out_is_not_paid),
        PROFILE_TEST(a_budget_outlives_changes_of_the_routes),
        PROFILE_TEST(only_responses_are_retried),
        PROFILE_TEST(a_timeout_covers_all_attempts),
        PROFILE_TEST(a_timeout_is_over_when_the_response_begins),
        PROFILE_TEST(grpc_is_judged_by_its_status),
        PROFILE_TEST(requests_go_where_overrides_say),
        PROFILE_TEST(an_override_without_endpoints_is_passed_over),
        PROFILE_TEST(a_name_has_its_own_profile),
        PROFILE_TEST(a_profile_goes_under_a_request),
    };

    return rig_run(tests, argc, argv);
}
