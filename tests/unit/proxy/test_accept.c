/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an accepted connection may be: clear, mesh TLS on the application's port or on our own,
 * foreign TLS, silence; and what the port's policy makes of it (wire 4.5, 4.6, 5.1, 9.5).
 */
#include "app.h"

#define GET "GET / HTTP/1.1\r\nHost: web\r\n\r\n"

static int setup(void **state)
{
    app_setup(state);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    return 0;
}

#define TEST(f) APP_TEST_WITH(f, setup)

/* Our own outbound side is the client: it dials `at` with TLS for `name`, and a transport header where
 * `direct`. */
static void dial_with_tls(const struct addr *at, const char *name, bool direct,
                          enum protocol protocol)
{
    struct endpoint *e = endpoint_at(at, NULL);

    e->identity = mem_strdup(name);
    e->server_name = mem_strdup(name);
    e->transport_port = direct ? rig.at[INBOUND].port : 0;
    rig_know_target(&rig.target[OUTBOUND], policy_to(protocol, e, NULL));
}

static void anonymous_client(void)
{
    struct tls_creds *creds = anonymous_creds(rig.pki.root_pem);

    tls_ctx_free(rig.w.tls_client);
    rig.w.tls_client = tls_ctx_new(creds, false);
    tls_creds_unref(creds);
}

static void serve(struct peer *client)
{
    struct peer *server = app_accept(&app);

    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
}

/* --- mesh TLS --------------------------------------------------------------------------------- */

static void mesh_tls_on_the_applications_port(void **state)
{
    struct peer *client;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_AUTHENTICATED, false);
    dial_with_tls(&rig.at[INBOUND], SERVER_ID, false, PROTOCOL_DETECT);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    serve(client);
    assert_int_equal(
        rig_sum("request_total", "direction=\"inbound\"", "client_id=\"" SERVER_ID "\""), 1);
    assert_int_equal(rig_sum("inbound_tcp_transport_header_connections_total", NULL, NULL), 0);
}

/* A client certificate is asked for and not required, except on our own port. */
static void mesh_tls_without_a_certificate(void **state)
{
    struct peer *client;

    (void)state;
    anonymous_client();
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    dial_with_tls(&rig.at[INBOUND], SERVER_ID, false, PROTOCOL_DETECT);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    serve(client);
    assert_int_equal(
        rig_sum("request_total", "direction=\"inbound\"", "tls=\"true\",client_id=\"\""), 1);
}

static void our_port_needs_a_certificate(void **state)
{
    struct peer *client;

    (void)state;
    anonymous_client();
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    dial_with_tls(&app.at, SERVER_ID, true, PROTOCOL_DETECT);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 502 "));
    assert_int_equal(rig_sum("inbound_tcp_errors_total", "error=\"unauthorized\"", NULL), 1);
    assert_true(app_has_nobody(&app));
}

static void our_port_takes_no_clear_text(void **state)
{
    struct peer *client;

    (void)state;
    client = peer_dial(INBOUND);
    peer_send(client, GET);
    RIG_UNTIL(client->eof || client->err != 0);
    assert_int_equal(rig_sum("inbound_tcp_errors_total", "error=\"unauthorized\"", NULL), 1);
}

/* Wire 4.6: a header that names our own port would loop. */
static void a_header_that_names_our_own_port(void **state)
{
    struct peer *client;

    (void)state;
    dial_with_tls(&rig.at[INBOUND], SERVER_ID, true, PROTOCOL_DETECT);
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 502 "));
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"loop\"", NULL), 1);
}

static void a_name_in_the_header_is_for_a_gateway(void **state)
{
    struct endpoint *e = endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2);
    struct peer *client;

    (void)state;
    e->authority_override = mem_strdup("web.west.svc.cluster.local:8080");
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_DETECT, e, NULL));
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 50"));
    assert_int_equal(rig_sum("inbound_tcp_transport_header_connections_total",
                             "target_name=\"web.west.svc.cluster.local\"", "target_port=\"8080\""),
                     rig_sum("inbound_tcp_errors_total", "error=\"gateway domain invalid\"", NULL));
}

/* Not the one who should be there: no request, and the reason. */
static void a_peer_with_another_identity(void **state)
{
    struct endpoint *e = endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2);
    struct peer *client;

    (void)state;
    mem_free(e->identity);
    e->identity = mem_strdup(CLIENT_ID);
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_DETECT, e, NULL));
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 502 "));
    assert_true(peer_has(client, SERVER_ID)); /* whom it found */
    assert_int_equal(rig_sum("outbound_http_errors_total", "error=\"identity required\"", NULL), 1);
}

/* --- other TLS -------------------------------------------------------------------------------- */

/* Wire 4.5: TLS for another name passes as it is, and counts as nobody. */
static void foreign_tls_passes(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    dial_with_tls(&rig.at[INBOUND], "shop.example", false, PROTOCOL_OPAQUE);
    rig.config.outbound.connect_timeout_ns = 10 * NS_PER_S;
    client = peer_dial(OUTBOUND);
    peer_send(client, "x");
    server = app_accept(&app);
    RIG_UNTIL(server->in.len > 100);
    assert_memory_equal(server->in.at, "\x16\x03", 2);
    assert_int_equal(rig_sum("tcp_open_total", "tls=\"opaque\",sni=\"shop.example\"", NULL), 1);
    rig_check_labels();
}

/* --- detection -------------------------------------------------------------------------------- */

/* Silence: the server may speak first. */
static void a_silent_client_becomes_opaque(void **state)
{
    struct server_policy *p = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0, false,
                                                        20 * NS_PER_MS, app.at.port);
    struct peer *client, *server;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_server(app.at.port, p); /* the policy's time counts, not the environment's */
    client = peer_dial(INBOUND);
    server = app_accept(&app);
    peer_send(server, "220 ready\r\n");
    RIG_UNTIL(peer_has(client, "220 ready"));
}

/* Half a ClientHello is neither. */
static void half_a_client_hello_is_closed(void **state)
{
    struct server_policy *p = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0, false,
                                                        20 * NS_PER_MS, app.at.port);
    struct peer *client;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_server(app.at.port, p);
    client = peer_dial(INBOUND);
    peer_send_bytes(client, bytes_of("\x16\x03\x01\x02\x00\x01", 6));
    RIG_UNTIL(client->eof || client->err != 0);
    assert_int_equal(rig_sum("inbound_tcp_errors_total", "error=\"tls detection timeout\"", NULL),
                     1);
}

/* Wire 5.1: where the policy says HTTP/1, a timeout means HTTP/1; there is nothing to detect in the clear. */
static void an_http1_port_needs_no_detection(void **state)
{
    struct server_policy *p = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0, false,
                                                        20 * NS_PER_MS, app.at.port);
    struct peer *client;

    (void)state;
    p->protocol = PROTOCOL_HTTP1;
    rig.target[INBOUND] = app.at;
    rig_know_server(app.at.port, p);
    client = peer_dial(INBOUND);
    peer_send(client, "ZZZZZZZZZZZZZZZZZZZZZZZZ\r\n\r\n"); /* would be opaque */
    RIG_UNTIL(peer_has(client, "HTTP/1.1 400 "));
}

static void bytes_that_come_one_by_one(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    client = peer_dial(INBOUND);
    for (const char *at = "GET /x HTTP/1.1\r\nHost: web\r\n\r\n"; *at != '\0'; at++) {
        peer_send_bytes(client, bytes_of(at, 1));
    }
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_true(peer_has(server, "GET /x HTTP/1.1\r\n"));
}

static void a_client_that_closes_or_resets_early(void **state)
{
    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    for (unsigned i = 0; i < 4; i++) {
        struct peer *client = peer_dial(INBOUND);

        if (i % 2 == 1) {
            peer_send(client, "GE");
        } else {
            RIG_UNTIL(rig.w.conns_count == 1);
        }
        if (i < 2) {
            peer_abort(client);
        } else {
            peer_close(client);
        }
        if (i == 3) { /* "GE" and an end: opaque, and passed on as such */
            struct peer *server = app_accept(&app);

            RIG_UNTIL(server->eof);
            assert_true(peer_has(server, "GE"));
            peer_close(server);
        }
        RIG_UNTIL(rig.w.conns_count == 0);
    }
}

/* --- policy ----------------------------------------------------------------------------------- */

static struct server_policy *nobody(bool is_opaque)
{
    struct server_policy *p = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0,
                                                        is_opaque, NS_PER_S, app.at.port);

    /* Loopback is always let in (wire 3.4); so is nobody, where the test must see a refusal: the
     * client is seen at another address. */
    p->authz[0].authn = AUTHN_IDENTITY;
    return p;
}

static void see_clients_elsewhere(void)
{
    LIST_FOREACH(node, &rig.w.conns)
    {
        LIST_ITEM(node, struct conn, node)->peer = addr_v4(0x0a090909, 1);
    }
}

static void a_denied_request_keeps_the_connection(void **state)
{
    struct peer *client;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_server(app.at.port, nobody(false));
    client = peer_dial(INBOUND);
    RIG_UNTIL(rig.w.conns_count == 1);
    see_clients_elsewhere();
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    assert_false(peer_has(client, "connection: close"));
    assert_false(peer_has(client, "l5d-proxy-error")); /* only the mesh is told why (wire 5.5) */
    text_reset(&client->in);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    assert_int_equal(rig_sum("inbound_http_authz_deny_total", NULL, NULL), 2);
    assert_int_equal(rig_sum("request_total", NULL, NULL), 0);
    /* A policy that lets it in counts for the next request. */
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    text_reset(&client->in);
    peer_send(client, GET);
    serve(client);
    rig_check_labels();
}

/* Wire 3.4: an opaque connection that becomes unauthorised is ended. */
static void a_tunnel_that_is_not_allowed_any_more(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, true);
    client = peer_dial(INBOUND);
    peer_send(client, "x");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "x"));
    see_clients_elsewhere();
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED,
                     true); /* changed, and still allowed */
    peer_send(client, "y");
    RIG_UNTIL(peer_has(server, "xy"));
    rig_know_server(app.at.port, nobody(true));
    RIG_UNTIL((client->eof || client->err != 0) && (server->eof || server->err != 0));
    rig_settle();
    assert_int_equal(rig_sum("inbound_tcp_authz_terminate_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(mesh_tls_on_the_applications_port),     TEST(mesh_tls_without_a_certificate),
        TEST(our_port_needs_a_certificate),          TEST(our_port_takes_no_clear_text),
        TEST(a_header_that_names_our_own_port),      TEST(a_name_in_the_header_is_for_a_gateway),
        TEST(a_peer_with_another_identity),          TEST(foreign_tls_passes),
        TEST(a_silent_client_becomes_opaque),        TEST(half_a_client_hello_is_closed),
        TEST(an_http1_port_needs_no_detection),      TEST(bytes_that_come_one_by_one),
        TEST(a_client_that_closes_or_resets_early),  TEST(a_denied_request_keeps_the_connection),
        TEST(a_tunnel_that_is_not_allowed_any_more),
    };

    return rig_run(tests, argc, argv);
}
