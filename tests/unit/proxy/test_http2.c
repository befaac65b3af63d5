/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 through a whole worker, and what its errors become.
 */
#include "app.h"

static int setup(void **state)
{
    app_setup(state);
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig_know_target(&rig.target[OUTBOUND],
                    policy_to(PROTOCOL_DETECT, endpoint_at(&app.at, "dst_pod=\"web-1\""), NULL));
    return 0;
}

#define TEST(f) APP_TEST_WITH(f, setup)

static const char *const grpc[] = {"content-type: application/grpc", "te: trailers", NULL};

static void a_unary_call(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *server;
    struct call *c, *s;

    (void)state;
    c = h2_call(client, "POST", "/svc/Say", false, grpc);
    call_send(c, "ping");
    stream_send_end(c->s, NULL);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1 && server->calls[0].ended);
    s = &server->calls[0];
    assert_string_equal(s->body.at, "ping");
    call_answer(s, 200, grpc, false);
    call_send(s, "pong");
    call_finish(s, "5");
    RIG_UNTIL(c->ended);
    assert_string_equal(c->log, "HDE");
    assert_string_equal(c->body.at, "pong");
    assert_string_equal(c->grpc_status.at, "5");
    rig_settle();
    /* NotFound is an answer, no failure (wire 7.3). */
    assert_int_equal(rig_sum("response_total", "grpc_status=\"5\"", "classification=\"success\""),
                     1);
    assert_int_equal(rig_sum("request_total", NULL, NULL), 1);
    rig_check_labels();
    h2_free(client);
    h2_free(server);
}

/* Two routes of one port, their requests in flight together on one connection. */
static struct server_policy *two_routes(uint16_t port)
{
    struct server_policy *p =
        server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0, false, NS_PER_S, port);
    struct server_route *routes = arena_new(&p->arena, 2 * sizeof(*routes));
    struct route_match *match = arena_new(&p->arena, sizeof(*match));
    struct rule *rule = arena_new(&p->arena, sizeof(*rule));

    match->has_path = true;
    match->path = (struct text_match){.op = MATCH_EXACT, .text = BYTES("/probe")};
    rule->matches = match;
    rule->matches_count = 1;
    routes[0] = p->routes[0];
    routes[1] = p->routes[0];
    routes[1].labels = BYTES("route_group=\"\",route_kind=\"default\",route_name=\"probe\"");
    routes[1].route.rules = rule;
    routes[1].route.rules_count = 1;
    p->routes = routes;
    p->routes_count = 2;
    return p;
}

static void requests_of_two_routes_at_once(void **state)
{
    struct h2_peer *client, *server;
    struct call *one, *two;

    (void)state;
    rig_know_server(app.at.port, two_routes(app.at.port));
    client = h2_dial(INBOUND);
    one = h2_call(client, "GET", "/a", true, NULL);
    two = h2_call(client, "GET", "/probe", true, NULL);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 2);
    /* A new policy while both are under way. */
    rig_know_server(app.at.port, two_routes(app.at.port));
    call_answer(&server->calls[0], 200, NULL, true);
    call_answer(&server->calls[1], 500, NULL, true);
    RIG_UNTIL(one->status != 0 && two->status != 0);
    rig_settle();
    assert_int_equal(rig_sum("request_total", "route_name=\"probe\"", NULL), 1);
    assert_int_equal(rig_sum("response_total", "route_name=\"probe\"", "status_code=\"500\""), 1);
    assert_int_equal(rig_sum("response_total", "route_name=\"default\"", "status_code=\"200\""), 1);
    h2_free(client);
    h2_free(server);
}

/* The peer refuses a stream: it is sent again on the same connection. */
static void a_refused_request_is_repeated(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *server;
    struct call *c, *s;

    (void)state;
    c = h2_call(client, "POST", "/x", false, NULL);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1);
    call_close(&server->calls[0], RESET_REFUSED);
    RIG_UNTIL(server->count == 2); /* had some of the body gone with the first, it could not be repeated */
    call_send(c, "the whole body");
    stream_send_end(c->s, NULL);
    RIG_UNTIL(server->calls[1].ended);
    s = &server->calls[1];
    assert_string_equal(s->body.at, "the whole body");
    call_answer(s, 200, NULL, true);
    RIG_UNTIL(c->status == 200);
    rig_settle();
    assert_int_equal(rig_sum("request_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("response_total", NULL, NULL), 1);
    h2_free(client);
    h2_free(server);
}

/* Wire 5.7: after the headers of a gRPC response the status comes in trailers. */
static void a_broken_grpc_response_ends_with_trailers(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *server;
    struct call *c, *s;

    (void)state;
    c = h2_call(client, "POST", "/svc/Say", true, grpc);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1);
    s = &server->calls[0];
    call_answer(s, 200, grpc, false);
    call_send(s, "part");
    RIG_UNTIL(c->body.len == 4);
    /* The connection breaks. */
    http_server_close(server->server, E_INTERNAL);
    RIG_UNTIL(c->ended || c->why != RESET_NONE);
    assert_true(c->ended);
    assert_string_equal(c->grpc_status.at, "14");
    rig_settle();
    assert_int_equal(rig_sum("response_total", "status_code=\"200\"", "classification=\"failure\""),
                     1);
    h2_free(client);
    h2_free(server);
}

static void a_reset_passes_with_its_code_and_is_counted(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *server;
    struct call *c;

    (void)state;
    c = h2_call(client, "GET", "/", true, NULL);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1);
    call_close(&server->calls[0], RESET_CALM);
    RIG_UNTIL(c->why != RESET_NONE);
    assert_int_equal(c->why, RESET_CALM);
    rig_settle();
    assert_int_equal(rig_sum("response_total", "status_code=\"\"", "classification=\"failure\""),
                     1);
    assert_int_equal(rig_sum("tulle_failures_total", "hop=\"outbound\"", NULL), 1);
    h2_free(client);
    h2_free(server);
}

/* The peer goes away in order while a response is under way: it is finished, and the next
 * request dials anew. */
static void goaway_while_a_response_is_under_way(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *server, *next;
    struct call *c, *d;

    (void)state;
    c = h2_call(client, "GET", "/1", true, NULL);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1);
    call_answer(&server->calls[0], 200, NULL, false);
    RIG_UNTIL(c->status == 200);
    http_server_drain(server->server);
    rig_settle();
    call_send(&server->calls[0], "still here");
    stream_send_end(server->calls[0].s, NULL);
    RIG_UNTIL(c->ended);
    assert_string_equal(c->body.at, "still here");
    d = h2_call(client, "GET", "/2", true, NULL);
    next = h2_accept(&app, NULL);
    RIG_UNTIL(next->count == 1);
    call_answer(&next->calls[0], 204, NULL, true);
    RIG_UNTIL(d->status == 204);
    /* The first one may still linger when the worker ends. */
    h2_free(client);
    h2_free(server);
    h2_free(next);
}

/* A proxy that ends while a dialed connection, which broke the protocol, still waits for its
 * peer's FIN. */
static void a_worker_ends_with_a_lingering_connection(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND);
    struct call *c;
    struct peer *raw;

    (void)state;
    c = h2_call(client, "GET", "/1", true, NULL);
    raw = app_accept(&app);
    RIG_UNTIL(raw->in.len > 70);
    /* SETTINGS, then DATA on stream 0 (RFC 9113 6.1: a connection error). */
    peer_send_bytes(raw, bytes_of("\0\0\0\4\0\0\0\0\0", 9));
    peer_send_bytes(raw, bytes_of("\0\0\1\0\0\0\0\0\0x", 10));
    RIG_UNTIL(c->status == 502);
    h2_free(client);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_unary_call),
        TEST(requests_of_two_routes_at_once),
        TEST(a_refused_request_is_repeated),
        TEST(a_broken_grpc_response_ends_with_trailers),
        TEST(a_reset_passes_with_its_code_and_is_counted),
        TEST(goaway_while_a_response_is_under_way),
        TEST(a_worker_ends_with_a_lingering_connection),
    };

    return rig_run(tests, argc, argv);
}
