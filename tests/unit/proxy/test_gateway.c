/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transport header with a name (wire 4.6, 5.5): requests and opaque connections are carried on to the
 * service of that name. One worker plays all proxies of the way.
 */
#include "app.h"

#include "api/names.h"
#include "proxy/forwarded.h"
#include "proxy/gateway.h"
#include "proxy/span_queue.h"

#define GET  "GET /a HTTP/1.1\r\nHost: web\r\n\r\n"
#define NAME "web.west.svc.cluster.local:8080"
#define CALLER "web.east.serviceaccount.identity.linkerd.cluster.local"

/* The client's side has an identity of its own. */
static void client_is(const char *identity)
{
    struct tls_creds *creds = pki_creds(&rig.pki, identity, rig.pki.root_pem);

    tls_ctx_free(rig.w.tls_client);
    rig.w.tls_client = tls_ctx_new(creds, false);
    assert_non_null(rig.w.tls_client);
    tls_creds_unref(creds);
}

static int setup(void **state)
{
    app_setup(state);
    client_is(CALLER);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig.config.gateway_suffixes = "svc.cluster.local.";
    rig_know_default(rig.at[INBOUND].port, DEFAULT_ALL_AUTHENTICATED, false);
    return 0;
}

#define TEST(f) APP_TEST_WITH(f, setup)

/* Mirrored from another cluster: it is reached through that one's gateway. */
static struct endpoint *mirrored(void)
{
    struct endpoint *e = endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2);

    e->authority_override = mem_strdup(NAME);
    return e;
}

static struct peer *dial(enum protocol protocol)
{
    rig_know_target(&rig.target[OUTBOUND], policy_to(protocol, mirrored(), NULL));
    return peer_dial(OUTBOUND);
}

static void the_name_is(struct endpoint *e)
{
    rig_know(QUESTION_NAME, BYTES(NAME), &policy_to(PROTOCOL_DETECT, e, NULL)->ref);
}

static void a_request_is_carried_on(void **state)
{
    struct peer *client, *server;

    (void)state;
    the_name_is(endpoint_at(&app.at, NULL));
    client = dial(PROTOCOL_DETECT);
    peer_send(client, GET);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_true(peer_has(server, "GET /a HTTP/1.1\r\n"));
    assert_true(peer_has(server, "forwarded: by=" SERVER_ID ";for=" CALLER ";host=" NAME
                                 ";proto=https\r\n"));
    assert_true(peer_has(server, "host: " NAME "\r\n"));
    assert_true(peer_has(server, "l5d-client-id: " CALLER "\r\n"));
    assert_false(peer_has(server, "l5d-orig-proto"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    assert_true(peer_has(client, "HTTP/1.1 200 OK\r\n"));
    assert_false(peer_has(client, "l5d-orig-proto"));
    assert_int_equal(rig_sum("inbound_tcp_transport_header_connections_total",
                             "target_name=\"web.west.svc.cluster.local\"", "target_port=\"8080\""),
                     1);
    assert_int_equal(rig_sum("inbound_http_authz_allow_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("inbound_tcp_authz_allow_total", NULL, NULL), 0);
    rig_check_labels();
}

/* To a peer that takes HTTP/2 the request goes as it came: HTTP/1 in disguise. */
static void a_request_is_carried_on_to_the_mesh(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig_know_default(app.at.port, DEFAULT_ALL_AUTHENTICATED, false);
    the_name_is(endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2));
    client = dial(PROTOCOL_DETECT);
    peer_send(client, GET);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_true(peer_has(server, "GET /a HTTP/1.1\r\n"));
    assert_false(peer_has(server, "l5d-orig-proto"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    RIG_UNTIL(peer_has(client, "HTTP/1.1 200 OK\r\n") && peer_has(client, "\r\n\r\nok"));
}

static void opaque_bytes_are_carried_on(void **state)
{
    struct peer *client, *server;

    (void)state;
    the_name_is(endpoint_at(&app.at, NULL));
    client = dial(PROTOCOL_OPAQUE);
    peer_send(client, "PING\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "PING\r\n"));
    peer_send(server, "+PONG\r\n");
    RIG_UNTIL(peer_has(client, "+PONG\r\n"));
    peer_close(client);
    RIG_UNTIL(server->eof);
    peer_close(server);
    rig_settle();
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
}

static void a_request_that_comes_back(void **state)
{
    struct peer *client;

    (void)state;
    the_name_is(mirrored());
    client = dial(PROTOCOL_DETECT);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 508 "));
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"loop\"", NULL), 1);
    assert_int_equal(rig_sum("inbound_http_errors_total", "error=\"gateway loop\"", NULL), 1);
    assert_true(app_has_nobody(&app));
}

static void a_request_of_ourselves(void **state)
{
    struct peer *client;

    (void)state;
    client_is(SERVER_ID);
    the_name_is(endpoint_at(&app.at, NULL));
    client = dial(PROTOCOL_DETECT);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 508 "));
    assert_true(app_has_nobody(&app));
}

/* From now on nobody may; loopback always may (wire 3.4), so the clients are seen elsewhere. */
static void nobody_may(void)
{
    LIST_FOREACH(node, &rig.w.conns)
    {
        LIST_ITEM(node, struct conn, node)->peer = addr_v4(0x0a090909, 1);
    }
    rig_know_default(rig.at[INBOUND].port, DEFAULT_DENY, false);
}

/* The policy of the inbound port has its say on each request, and before anything is told of names. */
static void a_request_that_may_not(void **state)
{
    struct peer *client;

    (void)state;
    rig.config.gateway_suffixes = "svc.east.local.";
    client = dial(PROTOCOL_DETECT);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 404 "));
    nobody_may();
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    assert_int_equal(rig_sum("inbound_http_authz_deny_total", NULL, NULL), 1);
    assert_true(app_has_nobody(&app));
}

static void an_opaque_connection_that_may_not_any_more(void **state)
{
    struct peer *client, *server;

    (void)state;
    the_name_is(endpoint_at(&app.at, NULL));
    client = dial(PROTOCOL_OPAQUE);
    peer_send(client, "PING\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "PING\r\n"));
    nobody_may();
    RIG_UNTIL((client->eof || client->err != 0) && (server->eof || server->err != 0));
    assert_int_equal(rig_sum("inbound_tcp_authz_terminate_total", NULL, NULL), 1);
}

/* The policy changes while the control plane is asked for the name: nobody is told of that later. */
static void an_opaque_connection_that_may_not_when_the_name_is_known(void **state)
{
    struct peer *client;

    (void)state;
    client = dial(PROTOCOL_OPAQUE);
    peer_send(client, "PING\r\n");
    RIG_UNTIL(rig_sum("inbound_tcp_authz_allow_total", NULL, NULL) == 1);
    nobody_may();
    the_name_is(endpoint_at(&app.at, NULL));
    RIG_UNTIL(client->eof || client->err != 0);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"denied\"", NULL), 1);
}

/* Nobody knows the name: there is no address to forward to, and no other meaning to the name. */
static void a_name_that_nobody_knows(void **state)
{
    struct peer *client;

    (void)state;
    rig_know(QUESTION_NAME, BYTES(NAME), &outbound_policy_new_fallback()->ref);
    client = dial(PROTOCOL_DETECT);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 404 "));
    peer_close(client);
    rig_settle();
    client = dial(PROTOCOL_OPAQUE);
    peer_send(client, "PING\r\n");
    RIG_UNTIL(client->eof || client->err != 0);
    assert_int_equal(rig_sum("inbound_http_errors_total", "error=\"gateway domain invalid\"", NULL), 1);
    assert_int_equal(rig_sum("inbound_tcp_errors_total", "error=\"gateway domain invalid\"", NULL), 1);
    assert_true(app_has_nobody(&app));
}

static void a_name_of_another_domain(void **state)
{
    struct peer *client;

    (void)state;
    rig.config.gateway_suffixes = "svc.east.local.,example.";
    client = dial(PROTOCOL_DETECT);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 404 "));
    assert_int_equal(
        rig_sum("inbound_http_errors_total", "error=\"gateway domain invalid\"", NULL), 1);
    peer_close(client);
    rig_settle();
    client = dial(PROTOCOL_OPAQUE);
    peer_send(client, "PING\r\n");
    RIG_UNTIL(client->eof || client->err != 0);
    assert_int_equal(rig_sum("inbound_tcp_errors_total", "error=\"gateway domain invalid\"", NULL),
                     1);
    assert_true(app_has_nobody(&app));
}

/* A pod by its name: no policy is for it, but its profile says where it is. */
static void a_name_with_a_profile_alone(void **state)
{
    struct outbound_policy *p = policy_to(PROTOCOL_DETECT, endpoint_at(&app.at, NULL), NULL);
    struct peer *client, *server;

    (void)state;
    p->is_fallback = true;
    p->profile.endpoint = endpoint_at(&app.at, NULL);
    rig_know(QUESTION_NAME, BYTES(NAME), &p->ref);
    client = dial(PROTOCOL_DETECT);
    peer_send(client, GET);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "GET /a HTTP/1.1\r\n"));
    peer_close(server);
    peer_close(client);
    rig_settle();
    client = dial(PROTOCOL_OPAQUE);
    peer_send(client, "PING\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "PING\r\n"));
}

/* The control plane has not answered yet: nothing is left of who does not wait for it. */
static void a_client_that_does_not_wait(void **state)
{
    const enum protocol protocols[] = {PROTOCOL_DETECT, PROTOCOL_OPAQUE};
    struct peer *client;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(protocols); i++) {
        client = dial(protocols[i]);
        peer_send(client, GET);
        RIG_UNTIL(rig_sum("inbound_tcp_transport_header_connections_total", NULL, NULL) == i + 1);
        peer_abort(client);
        RIG_UNTIL(rig.w.in_flight[INBOUND] + rig.w.in_flight[OUTBOUND] == 0);
        rig_settle();
    }
    assert_true(app_has_nobody(&app));
}

/* As a proxy would, but with a word of its own for the authority. */
static struct h2_peer *impostor_dial(void)
{
    struct h2_peer *p = mem_new(sizeof(*p));
    int fd = dial_fd(&rig.at[INBOUND]);
    struct chain header;
    struct io *io;

    set_nonblocking(fd);
    io = io_tls_client_new(rig.w.tls_client, tcp_io(rig.l, fd), BYTES(SERVER_ID), BYTES(SERVER_ID),
                           BYTES(ALPN_TRANSPORT));
    RIG_UNTIL(io_handshake(io) == 0);
    chain_init(&header);
    assert_int_equal(transport_print(&header, &rig.l->chunks, 1, NAME, TRANSPORT_HTTP2), 0);
    assert_int_equal(io_send(io, &header), 0);
    p->client = http2_client_new(io, NULL, &h2_peer_client_events, p);
    return p;
}

/* A route of the gateway's port that is for one host does not let requests for another one in. */
static void a_request_for_another_name_than_it_says(void **state)
{
    uint16_t port = rig.at[INBOUND].port;
    struct server_policy *policy = server_policy_new_default(DEFAULT_ALL_AUTHENTICATED, NULL, 0, false,
                                                             10 * NS_PER_S, port);
    struct host_match host = {.host = BYTES("web.app.svc.cluster.local")}; /* h2_call() says so */
    struct h2_peer *client;

    (void)state;
    policy->routes[0].route.hosts = &host;
    policy->routes[0].route.hosts_count = 1;
    rig_know_server(port, policy);
    the_name_is(endpoint_at(&app.at, NULL));
    client = impostor_dial();
    (void)h2_call(client, "GET", "/a", true, NULL);
    RIG_UNTIL(client->calls[0].status == 404);
    assert_true(app_has_nobody(&app));
    h2_free(client);
}

static void on_batch(struct span_queue *q UNUSED, struct span_batch *b)
{
    span_batch_free(b);
}

/* A span tells of fields that a filter wrote, and the policy of that filter may have gone by then. */
static void a_policy_goes_before_the_spans(void **state)
{
    struct span_queue queue = {.loop = rig.l, .on_batch = on_batch};
    uint16_t port = rig.at[INBOUND].port;
    struct server_policy *policy = server_policy_new_default(DEFAULT_ALL_AUTHENTICATED, NULL, 0, false,
                                                             10 * NS_PER_S, port);
    struct rule *rule = policy->routes[0].route.rules;
    const char *const traced[] = {"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                  NULL};
    struct h2_peer *client, *server;

    (void)state;
    rule->filters = arena_new(&policy->arena, sizeof(*rule->filters));
    rule->filters_count = 1;
    rule->filters->kind = FILTER_REQUEST_HEADERS;
    rule->filters->set = arena_new(&policy->arena, sizeof(*rule->filters->set));
    rule->filters->set_count = 1;
    rule->filters->set->name = BYTES("user-agent");
    assert_int_equal(arena_copy(&policy->arena, BYTES("the gateway"), &rule->filters->set->value), 0);
    rig_know_server(port, policy);
    rig.w.spans = span_writer_new(rig.l, &rig.w.stats, &queue);
    the_name_is(endpoint_at(&app.at, NULL));
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_DETECT, mirrored(), NULL));
    client = h2_dial(OUTBOUND);
    (void)h2_call(client, "GET", "/a", true, traced);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1 && server->calls[0].head != NULL);
    assert_non_null(strstr(server->calls[0].fields.at, "user-agent: the gateway\n"));
    rig_know_default(port, DEFAULT_ALL_AUTHENTICATED, false);
    (void)h2_call(client, "GET", "/b", true, NULL);
    RIG_UNTIL(server->count == 2);
    call_close(&server->calls[0], RESET_INTERNAL);
    RIG_UNTIL(client->calls[0].log_len > 0);
    h2_free(client);
    h2_free(server);
    span_writer_free(rig.w.spans);
    rig.w.spans = NULL;
    rig_settle();
}

/* --- what is read ----------------------------------------------------------------------------- */

static void suffixes(void **state)
{
    const struct {
        const char *suffixes, *host;
        bool fits;
    } cases[] = {
        {"svc.cluster.local.", "web.app.svc.cluster.local", true},
        {"svc.cluster.local", "web.app.SVC.cluster.local.", true},
        {"svc.cluster.local.", "svc.cluster.local", false},
        {"svc.cluster.local.", "websvc.cluster.local", false},
        {"east., svc.cluster.local.", "web.app.svc.cluster.local", true},
        {"east.,", "web.app.svc.cluster.local", false},
        {".", "anything.at.all", true},
        {"", "web.east", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(gateway_has_suffix(cases[i].suffixes, bytes_str(cases[i].host)),
                         cases[i].fits);
    }
}

/* RFC 7239 4 */
static void forwarded_elements(void **state)
{
    const struct {
        const char *field;
        bool is_by;
    } cases[] = {
        {"by=us;for=x", true},
        {"for=x; By=\"us\" ;proto=https", true},
        {"by=them;for=us, for=us;by=us", true},
        {"by=them, for=us", false},
        {"by=us2", false},
        {"by", false},
        {";;,,=by=us", false},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (forwarded_is_by(bytes_str(cases[i].field), BYTES("us")) != cases[i].is_by) {
            fail_msg("%s", cases[i].field);
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_carried_on),        TEST(a_request_is_carried_on_to_the_mesh),
        TEST(opaque_bytes_are_carried_on),    TEST(a_request_that_comes_back),
        TEST(a_name_of_another_domain),       TEST(a_request_of_ourselves),
        TEST(a_request_that_may_not),         TEST(an_opaque_connection_that_may_not_any_more),
        TEST(a_name_that_nobody_knows),       TEST(a_name_with_a_profile_alone),
        TEST(a_client_that_does_not_wait),    TEST(a_policy_goes_before_the_spans),
        TEST(an_opaque_connection_that_may_not_when_the_name_is_known),
        TEST(a_request_for_another_name_than_it_says),
        cmocka_unit_test(suffixes),           cmocka_unit_test(forwarded_elements),
    };

    return rig_run(tests, argc, argv);
}
