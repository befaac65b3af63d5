/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inbound requests: authorization, rate limits, filters, in this order (wire 9.5), and the figures
 * of routes (wire 7.2).
 */
#include "app.h"

#include "mesh/rate_limit.h"

#define GET "GET /a HTTP/1.1\r\nHost: web\r\n\r\n"
#define OK  "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

static struct server_policy *policy; /* the port's, as long as the rig knows it */

static int setup(void **state)
{
    app_setup(state);
    rig.target[INBOUND] = app.at;
    policy = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0, false, 10 * NS_PER_S,
                                       app.at.port);
    return 0;
}

#define TEST(f) APP_TEST_WITH(f, setup)

static void know(void)
{
    rig_know_server(app.at.port, policy);
}

static void filter(const struct filter *f)
{
    struct rule *rule = policy->routes[0].route.rules;

    rule->filters = arena_new(&policy->arena, sizeof(*f));
    rule->filters[0] = *f;
    rule->filters_count = 1;
}

/* Loopback is always let in (wire 3.4): who is to be refused is seen at another address. */
static struct peer *stranger(void)
{
    struct peer *client = peer_dial(INBOUND);

    RIG_UNTIL(rig.w.conns_count == 1);
    LIST_ITEM(rig.w.conns.next, struct conn, node)->peer = addr_v4(0x0a090909, 1);
    return client;
}

static void refuse_everybody(void)
{
    policy->authz[0].authn = AUTHN_IDENTITY; /* of an identity that nobody has */
}

/* --- filters ---------------------------------------------------------------------------------- */

/* Where it would send a client is told to those who may call. */
static void a_redirect_is_for_the_authorized(void **state)
{
    struct peer *client;

    (void)state;
    filter(&(struct filter){.kind = FILTER_REDIRECT, .status = 302, .host = BYTES("elsewhere")});
    refuse_everybody();
    know();
    client = stranger();
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    assert_false(peer_has(client, "elsewhere"));
    assert_int_equal(rig_sum("inbound_http_authz_deny_total", NULL, NULL), 1);
    peer_close(client);
    rig_settle();
    client = peer_dial(INBOUND); /* by loopback */
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 302 "));
    assert_true(peer_has(client, "location: http://elsewhere/a\r\n"));
    assert_int_equal(rig_sum("inbound_http_authz_allow_total", NULL, NULL), 1);
    assert_true(app_has_nobody(&app));
}

static void an_injected_failure(void **state)
{
    struct peer *client;

    (void)state;
    filter(&(struct filter){.kind = FILTER_FAIL, .status = 418, .message = BYTES("no")});
    know();
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 418 "));
    assert_true(app_has_nobody(&app));
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"injected\"", NULL), 1);
}

/* Nor does a target evade it that is as long as what is looked at to tell HTTP. */
static void no_length_of_a_target_passes_by_a_filter(void **state)
{
    char text[1200];

    (void)state;
    filter(&(struct filter){.kind = FILTER_FAIL, .status = 418, .message = BYTES("no")});
    know();
    for (size_t line = 1010; line < 1030; line++) {
        struct peer *client = peer_dial(INBOUND);

        memset(text, 'x', sizeof(text));
        memcpy(text, "GET /", 5);
        memcpy(text + line, " HTTP/1.1\r\nHost: w\r\n\r\n", 23);
        peer_send(client, text);
        RIG_UNTIL(peer_has(client, "HTTP/1.1 418 "));
        peer_close(client);
    }
    assert_true(app_has_nobody(&app));
}

/* The edits are borrowed from the policy, which another request may replace meanwhile. */
static void edits_of_the_request(void **state)
{
    struct header_edit set[] = {{BYTES("x-route"), BYTES("edited")}};
    struct bytes gone[] = {BYTES("user-agent")};
    struct peer *client, *server;

    (void)state;
    filter(&(struct filter){.kind = FILTER_REQUEST_HEADERS,
                            .set = set,
                            .set_count = 1,
                            .remove = gone,
                            .remove_count = 1});
    know();
    client = peer_dial(INBOUND);
    peer_send(client, "GET /a HTTP/1.1\r\nHost: web\r\nUser-Agent: me\r\nX-Route: mine\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_true(peer_has(server, "x-route: edited\r\n"));
    assert_false(peer_has(server, "mine"));
    assert_false(peer_has(server, "user-agent"));
    rig_know_default(app.at.port, DEFAULT_DENY, false);
    peer_send(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
}

/* --- rate limits ------------------------------------------------------------------------------ */

static void limit(uint32_t total, uint32_t each)
{
    struct rate_limit *r = arena_new(&policy->arena, sizeof(*r));

    r->total_rps = total;
    r->identity_rps = each;
    r->meta = (struct meta){.group = BYTES("g"), .kind = BYTES("k"), .name = BYTES("r")};
    policy->rate_limit = r;
    policy->limiter = rate_limiter_new(r);
}

static struct peer *serve(struct peer *client)
{
    struct peer *server = app_accept(&app);

    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    return server;
}

static void a_limit_that_is_used_up(void **state)
{
    struct peer *client;

    (void)state;
    limit(1, 0);
    know();
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    (void)serve(client);
    text_reset(&client->in);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 429 "));
    assert_false(peer_has(client, "connection: close"));
    assert_int_equal(rig_sum("inbound_http_local_ratelimit_total", "ratelimit_scope=\"total\"",
                             "ratelimit_name=\"r\""),
                     1);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"rate_limit\"", NULL), 1);
    assert_int_equal(rig_sum("request_total", NULL, NULL), 1);
    rig_check_labels();
}

/* A pod that is busy is not to be restarted for it. */
static void a_probe_has_no_limit(void **state)
{
    struct peer *client, *server;

    (void)state;
    limit(1, 0);
    policy->routes[0].route.meta =
        (struct meta){.kind = BYTES("default"), .name = BYTES("probe")};
    know();
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    server = serve(client);
    for (unsigned i = 0; i < 3; i++) {
        text_reset(&client->in);
        text_reset(&server->in);
        peer_send(client, GET);
        RIG_UNTIL(peer_has(server, "\r\n\r\n"));
        peer_send(server, OK);
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    }
    assert_int_equal(rig_sum("inbound_http_local_ratelimit_total", NULL, NULL), 0);
}

/* What a probe asks is whether the application is there: that it is not yet is no failed response, and later
 * it is. Other requests fail as ever. */
static void a_probe_of_an_application_that_starts(void **state)
{
    struct peer *client;

    (void)state;
    policy->routes[0].route.meta =
        (struct meta){.kind = BYTES("default"), .name = BYTES("probe")};
    know();
    app_close(&app);
    for (unsigned i = 0; i < 3; i++) {
        client = peer_dial(INBOUND);
        peer_send(client, GET);
        RIG_UNTIL(peer_has(client, "HTTP/1.1 502 "));
        rig_settle();
        assert_int_equal(rig_sum("request_total", "direction=\"inbound\"", NULL), i + 1);
        assert_int_equal(rig_sum("tulle_failures_total", "cause=\"connect\"", NULL), i + 1);
        assert_int_equal(rig_sum("response_total", "classification=\"failure\"", NULL), i);
        rig.w.app_start.until_ns = 0; /* the minute is over */
    }
}

static void a_request_to_an_application_that_starts(void **state)
{
    struct peer *client;

    (void)state;
    know();
    app_close(&app);
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 502 "));
    rig_settle();
    assert_int_equal(rig_sum("response_total", "classification=\"failure\"", NULL), 1);
}

/* A filter that answers counts against the limit as any request. */
static void a_filter_does_not_pass_the_limit(void **state)
{
    struct peer *client;

    (void)state;
    limit(1, 0);
    filter(&(struct filter){.kind = FILTER_FAIL, .status = 418, .message = BYTES("no")});
    know();
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 418 "));
    text_reset(&client->in);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 429 "));
}

/* Who is not authorized takes no token from those who are. */
static void a_denied_request_takes_no_token(void **state)
{
    struct peer *client;

    (void)state;
    limit(1, 0);
    refuse_everybody();
    know();
    client = stranger();
    for (unsigned i = 0; i < 3; i++) {
        text_reset(&client->in);
        peer_send(client, GET);
        RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    }
    peer_close(client);
    rig_settle();
    client = peer_dial(INBOUND); /* by loopback */
    peer_send(client, GET);
    (void)serve(client);
}

/* --- figures ---------------------------------------------------------------------------------- */

#define ROUTE "route_kind=\"default\",route_name=\"default\""

static void a_route_is_counted(void **state)
{
    char parent[200];
    struct peer *client, *server;

    (void)state;
    know();
    snprintf(parent, sizeof(parent),
             "parent_group=\"\",parent_kind=\"default\",parent_name=\"all-unauthenticated\","
             "parent_port=\"%u\",route_group=\"\"," ROUTE,
             app.at.port);
    client = peer_dial(INBOUND);
    peer_send(client, "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 200\r\n\r\n");
    server = app_accept(&app);
    for (unsigned i = 0; i < 10; i++) {
        peer_send(client, "12345678901234567890");
    }
    RIG_UNTIL(peer_has(server, "\r\n\r\n") && server->in.len > 200);
    peer_send(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    assert_int_equal(rig_sum("inbound_http_requests_total", parent, NULL), 1);
    assert_int_equal(rig_sum("inbound_http_request_duration_seconds_count", parent, NULL), 1);
    assert_int_equal(rig_sum("inbound_http_response_duration_seconds_count", parent, NULL), 1);
    assert_int_equal(rig_sum("inbound_http_request_frame_size_bytes_sum", parent, NULL), 200);
    assert_int_equal(rig_sum("inbound_http_response_frame_size_bytes_sum", parent, NULL), 2);
    assert_int_equal(rig_sum("inbound_http_statuses_total", parent, "status=\"200\""), 1);
    assert_int_equal(rig_sum("inbound_grpc_requests_total", NULL, NULL), 0);
    assert_int_equal(rig_sum("inbound_tcp_detect_http_results_total", "result=\"http/1\"",
                             "srv_name=\"all-unauthenticated\""),
                     1);
    assert_int_equal(rig_sum("inbound_tcp_detect_http_duration_seconds_count", NULL, NULL), 1);
    rig_check_labels();
}

/* What never got as far as its route is not of the route's figures. */
static void a_denied_request_is_not_the_routes(void **state)
{
    struct peer *client;

    (void)state;
    refuse_everybody();
    know();
    client = stranger();
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    assert_int_equal(rig_sum("inbound_http_requests_total", NULL, NULL), 0);
    assert_int_equal(rig_sum("inbound_http_statuses_total", NULL, NULL), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_redirect_is_for_the_authorized),
        TEST(an_injected_failure),
        TEST(no_length_of_a_target_passes_by_a_filter),
        TEST(edits_of_the_request),
        TEST(a_limit_that_is_used_up),
        TEST(a_probe_has_no_limit),
        TEST(a_probe_of_an_application_that_starts),
        TEST(a_request_to_an_application_that_starts),
        TEST(a_filter_does_not_pass_the_limit),
        TEST(a_denied_request_takes_no_token),
        TEST(a_route_is_counted),
        TEST(a_denied_request_is_not_the_routes),
    };

    return rig_run(tests, argc, argv);
}
