/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that say nothing at first (decision D14, early.h): the server's greeting passes without
 * anybody waiting for a timeout, and whoever speaks first makes the connection what it is.
 */
#include "proxy/early.c"

#include "app.h"

#define GET "GET / HTTP/1.1\r\nHost: web\r\n\r\n"

static int setup(void **state)
{
    app_setup(state);
    rig.config.early_grace_ns = 20 * NS_PER_MS;
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 3307);
    return 0;
}

#define TEST(f) APP_TEST_WITH(f, setup)

/* Detection may take ten seconds, which no test waits out. */
static void inbound(enum default_policy policy)
{
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, policy, false);
}

static void outbound(struct endpoint *e)
{
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_DETECT, e, NULL));
}

static long outcomes(const char *direction, const char *outcome)
{
    char one[64], two[64];

    snprintf(one, sizeof(one), "direction=\"%s\"", direction);
    snprintf(two, sizeof(two), "outcome=\"%s\"", outcome);
    return rig_sum("tulle_tcp_detect_early_total", one, two);
}

static void early_clear_memory(void)
{
    if (rig.w.early != NULL) {
        memset(rig.w.early->slots, 0, sizeof(rig.w.early->slots));
    }
}

static void all_is_closed(void)
{
    rig_settle();
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
    assert_true(rig.w.early == NULL || rig.w.early->open == 0);
    rig_check_labels();
}

/* A session of a protocol whose server speaks first. */
static void greet(struct peer *client)
{
    struct peer *server = app_accept(&app);

    peer_send(server, "220 ready\r\n");
    RIG_UNTIL(peer_has(client, "220 ready\r\n"));
    peer_send(client, "HELO\r\n");
    RIG_UNTIL(peer_has(server, "HELO\r\n"));
    peer_send(server, "250 ok\r\n");
    RIG_UNTIL(peer_has(client, "220 ready\r\n250 ok\r\n"));
    peer_close(client);
    RIG_UNTIL(server->eof);
    peer_close(server);
}

/* --- the server speaks first ------------------------------------------------------------------ */

static void a_client_without_a_proxy_is_greeted(void **state)
{
    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    greet(peer_dial(INBOUND));
    all_is_closed();
    assert_int_equal(outcomes("inbound", "server_first"), 1);
    assert_int_equal(rig_sum("inbound_tcp_authz_allow_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("tcp_open_total", NULL, NULL), 2);
    assert_int_equal(rig_sum("tcp_read_bytes_total", "peer=\"dst\"", NULL), 19);
    assert_int_equal(rig_sum("tcp_write_bytes_total", "peer=\"src\"", NULL), 19);
    assert_int_equal(rig_sum("tcp_read_bytes_total", "peer=\"src\"", NULL), 6);
}

/* The far proxy is told by the transport header that there is nothing to detect. */
static void a_meshed_client_is_greeted(void **state)
{
    (void)state;
    inbound(DEFAULT_ALL_AUTHENTICATED);
    rig.target[INBOUND] = (struct addr){0};
    outbound(endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2));
    greet(peer_dial(OUTBOUND));
    all_is_closed();
    assert_int_equal(outcomes("outbound", "server_first"), 1);
    assert_int_equal(rig_sum("tcp_write_bytes_total", "direction=\"outbound\"", "peer=\"src\""),
                     19);
    assert_int_equal(rig_sum("outbound_tcp_route_open_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("outbound_tcp_route_close_total", "error=\"\"", NULL), 1);
}

/* Both proxies have to find out, where the peer has no port for transport headers. */
static void both_proxies_wait_on_both_sides(void **state)
{
    struct endpoint *e = endpoint_meshed(&rig.at[INBOUND], NULL, ENDPOINT_HINT_NONE);

    (void)state;
    e->transport_port = 0;
    inbound(DEFAULT_ALL_AUTHENTICATED);
    outbound(e);
    greet(peer_dial(OUTBOUND));
    all_is_closed();
    assert_int_equal(outcomes("outbound", "server_first"), 1);
    assert_int_equal(outcomes("inbound", "server_first"), 1);
}

/* The next client of such a destination is not made to wait at all; a mesh peer that is slow could
 * be broken by that, so a client that may be one is. */
static void what_a_destination_is_like_is_remembered(void **state)
{
    struct peer *client;

    (void)state;
    outbound(endpoint_at(&app.at, NULL));
    greet(peer_dial(OUTBOUND));
    rig_settle();
    client = peer_dial(OUTBOUND);
    RIG_UNTIL(rig.w.conns_count == 1);
    assert_true(slot_known(LIST_ITEM(rig.w.conns.next, struct conn, node))->server_first);
    greet(client);
    all_is_closed();
    assert_int_equal(outcomes("outbound", "server_first"), 2);

    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    greet(peer_dial(INBOUND));
    rig_settle();
    client = peer_dial(INBOUND);
    RIG_UNTIL(rig.w.conns_count == 1 &&
              LIST_ITEM(rig.w.conns.next, struct conn, node)->state == CONN_PEEK);
    assert_true(early_grace_ns(LIST_ITEM(rig.w.conns.next, struct conn, node)) == 50 * NS_PER_MS);
    greet(client);
    all_is_closed();
}

/* Servers of HTTP may say something without having been asked: that makes no tunnel of the
 * connection, past the routes of its policy. */
static void a_server_of_http_has_said_nothing(void **state)
{
    static const char *const greetings[] = {"HTTP/1.1 408 Request Timeout\r\n\r\n",
                                            "\0\0\6\4\0\0\0\0\0\0\3\0\0\0\1", "\0\0\0\4\0\0\0\0\0"};
    const size_t lengths[] = {32, 15, 9};

    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    for (size_t i = 0; i < ARRAY_LEN(greetings); i++) {
        struct peer *client, *early, *server;

        early_clear_memory();
        client = peer_dial(INBOUND);
        early = app_accept(&app);
        for (size_t k = 0; k < lengths[i]; k++) { /* also when it comes byte by byte */
            if (!early->eof && early->err == 0) {
                (void)!send(early->fd, greetings[i] + k, 1, MSG_NOSIGNAL);
                rig_turn();
            }
        }
        RIG_UNTIL(early->eof || early->err != 0);
        assert_int_equal(outcomes("inbound", "http"), i + 1);
        assert_int_equal(client->in.len, 0);
        peer_send(client, GET);
        server = app_accept(&app);
        RIG_UNTIL(peer_has(server, "\r\n\r\n"));
        peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
        peer_close(client);
        peer_close(early);
        peer_close(server);
        rig_settle();
    }
    assert_int_equal(rig_sum("request_total", NULL, NULL), 3);
    all_is_closed();
}

/* --- the client speaks after all -------------------------------------------------------------- */

static void a_late_request_is_a_request(void **state)
{
    struct peer *client, *early, *server;

    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    client = peer_dial(INBOUND);
    early = app_accept(&app);
    peer_send(client, GET);
    RIG_UNTIL(early->eof); /* without a byte */
    assert_int_equal(early->in.len, 0);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    assert_int_equal(outcomes("inbound", "client_first"), 1);
    assert_int_equal(rig_sum("request_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("inbound_tcp_authz_allow_total", NULL, NULL), 0);
    peer_close(early);
    peer_close(client);
    peer_close(server);
    rig_settle();
    /* A port where clients speak is not called for the next silent one so soon. */
    client = peer_dial(INBOUND);
    RIG_UNTIL(rig.w.conns_count == 1 &&
              LIST_ITEM(rig.w.conns.next, struct conn, node)->state == CONN_PEEK);
    assert_true(early_grace_ns(LIST_ITEM(rig.w.conns.next, struct conn, node)) == GRACE_LONG_NS);
    peer_close(client);
    all_is_closed();
}

static void opaque_bytes_go_on_what_was_opened(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    client = peer_dial(INBOUND);
    server = app_accept(&app);
    peer_send_bytes(client, bytes_of("\0\0\0\1 a question of its own kind", 30));
    RIG_UNTIL(server->in.len == 30);
    assert_true(app_has_nobody(&app));
    peer_close(client);
    peer_close(server);
    all_is_closed();
    assert_int_equal(outcomes("inbound", "client_first"), 1);
}

/* TLS for somebody else is opaque, too: the connection is not early any more. */
static void foreign_tls_goes_on_what_was_opened(void **state)
{
    static const char hello[50] = "\x16\x03\x01\0\x2d\x01\0\0\x29\x03\x03"
                                  "the client's thirty-two random b"
                                  "\0\0\x02\x13\x01\x01";
    struct peer *client, *server;

    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    client = peer_dial(INBOUND);
    server = app_accept(&app);
    peer_send_bytes(client, bytes_of(hello, sizeof(hello)));
    RIG_UNTIL(server->in.len == sizeof(hello));
    assert_true(app_has_nobody(&app));
    assert_int_equal(rig.w.early->open, 0);
    assert_int_equal(outcomes("inbound", "client_first"), 1);
    peer_send(server, "to the client");
    RIG_UNTIL(peer_has(client, "to the client"));
    peer_close(client);
    peer_close(server);
    all_is_closed();
}

/* The beginning of a ClientHello came late: the peer must not get a greeting in the clear. */
static void nothing_is_said_into_a_handshake(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    client = peer_dial(INBOUND);
    server = app_accept(&app);
    peer_send_bytes(client, bytes_of("\x16\x03\x01\x02\x00\x01", 6));
    RIG_UNTIL(chain_size(&LIST_ITEM(rig.w.conns.next, struct conn, node)->head) == 6);
    peer_send(server, "220 ready\r\n");
    rig_settle();
    assert_int_equal(client->in.len, 0);
    peer_close(client);
    RIG_UNTIL(server->eof || server->err != 0);
    peer_close(server);
    all_is_closed();
}

/* --- silence ---------------------------------------------------------------------------------- */

/* Wire 5.1: when the time is over it is opaque, whoever says something then. */
static void both_are_silent(void **state)
{
    struct server_policy *p = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0, false,
                                                        150 * NS_PER_MS, app.at.port);
    struct peer *client, *server;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_server(app.at.port, p);
    client = peer_dial(INBOUND);
    server = app_accept(&app);
    RIG_UNTIL(outcomes("inbound", "silent") == 1);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(server, GET)); /* as it is */
    assert_int_equal(rig_sum("request_total", NULL, NULL), 0);
    peer_close(client);
    peer_close(server);
    all_is_closed();
}

static void clients_that_go_away(void **state)
{
    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    for (unsigned i = 0; i < 2; i++) {
        struct peer *client = peer_dial(INBOUND), *server = app_accept(&app);

        if (i == 0) {
            peer_close(client);
        } else {
            peer_abort(client);
        }
        RIG_UNTIL(server->eof || server->err != 0);
        peer_close(server);
    }
    all_is_closed();
    assert_int_equal(outcomes("inbound", "closed"), 2);
}

/* Many idle clients do not become as many connections of the application. */
static void idle_clients_are_bounded(void **state)
{
    struct peer *clients[EARLY_TARGET_MAX + 4], *servers[EARLY_TARGET_MAX + 4];

    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = peer_dial(INBOUND);
    }
    for (size_t i = 0; i < EARLY_TARGET_MAX; i++) {
        servers[i] = app_accept(&app);
    }
    RIG_UNTIL(rig.w.conns_count == ARRAY_LEN(clients));
    rig_settle();
    assert_true(app_has_nobody(&app));
    assert_int_equal(rig.w.early->open, EARLY_TARGET_MAX);
    for (size_t i = 0; i < 4; i++) {
        peer_close(clients[i]);
    }
    for (size_t i = EARLY_TARGET_MAX; i < ARRAY_LEN(servers); i++) { /* who waits gets their room */
        servers[i] = app_accept(&app);
    }
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        peer_close(servers[i]);
        peer_close(clients[i]);
    }
    all_is_closed();
}

/* --- who may not, and what is not there ------------------------------------------------------- */

static void a_client_that_may_not_opens_nothing(void **state)
{
    struct server_policy *p = server_policy_new_default(DEFAULT_ALL_AUTHENTICATED, NULL, 0, false,
                                                        10 * NS_PER_S, app.at.port);
    struct peer *client;

    (void)state;
    rig.target[INBOUND] = app.at;
    rig_know_server(app.at.port, p);
    client = peer_dial(INBOUND);
    RIG_UNTIL(rig.w.conns_count == 1);
    LIST_ITEM(rig.w.conns.next, struct conn, node)->peer = addr_v4(0x0a090909, 1);
    RIG_UNTIL(outcomes("inbound", "forbidden") == 1);
    assert_true(app_has_nobody(&app));
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 403 "));
    peer_close(client);
    all_is_closed();
}

/* Detection goes on, and whatever comes is told what is wrong. */
static void a_server_that_is_not_there(void **state)
{
    struct peer *client;

    (void)state;
    inbound(DEFAULT_ALL_UNAUTHENTICATED);
    app_close(&app);
    client = peer_dial(INBOUND);
    RIG_UNTIL(outcomes("inbound", "failed") == 1);
    assert_int_equal(rig_sum("tulle_failures_total", NULL, NULL), 0);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 502 "));
    peer_close(client);
    all_is_closed();
}

/* What was chosen by a policy that counts no more is left. */
static void a_policy_that_changes_meanwhile(void **state)
{
    struct peer *client, *first, *second;
    struct app other;

    (void)state;
    app_open(&other);
    outbound(endpoint_at(&app.at, NULL));
    client = peer_dial(OUTBOUND);
    first = app_accept(&app);
    outbound(endpoint_at(&other.at, NULL));
    peer_send_bytes(client, bytes_of("\0\0\0\1 a question of its own kind", 30));
    second = app_accept(&other);
    RIG_UNTIL(second->in.len == 30 && first->eof);
    assert_int_equal(first->in.len, 0);
    peer_close(client);
    peer_close(first);
    peer_close(second);
    app_close(&other);
    all_is_closed();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_client_without_a_proxy_is_greeted),
        TEST(a_meshed_client_is_greeted),
        TEST(both_proxies_wait_on_both_sides),
        TEST(what_a_destination_is_like_is_remembered),
        TEST(a_server_of_http_has_said_nothing),
        TEST(a_late_request_is_a_request),
        TEST(opaque_bytes_go_on_what_was_opened),
        TEST(foreign_tls_goes_on_what_was_opened),
        TEST(nothing_is_said_into_a_handshake),
        TEST(both_are_silent),
        TEST(clients_that_go_away),
        TEST(idle_clients_are_bounded),
        TEST(a_client_that_may_not_opens_nothing),
        TEST(a_server_that_is_not_there),
        TEST(a_policy_that_changes_meanwhile),
    };

    return rig_run(tests, argc, argv);
}
