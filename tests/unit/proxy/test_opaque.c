/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opaque connections through a whole worker: bare and in the mesh, half-closed, refused,
 * unauthorised.
 */
#include "app.h"

static void inbound_opaque(enum default_policy policy)
{
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, policy, true);
}

static void outbound_opaque(struct endpoint *e)
{
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 6379);
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_OPAQUE, e, NULL));
}

static void bytes_pass_and_are_counted(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound_opaque(DEFAULT_ALL_UNAUTHENTICATED);
    client = peer_dial(INBOUND);
    peer_send(client, "PING\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "PING\r\n"));
    peer_send(server, "+PONG\r\n");
    RIG_UNTIL(peer_has(client, "+PONG\r\n"));
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 2);
    assert_int_equal(shutdown(client->fd, SHUT_WR), 0);
    RIG_UNTIL(server->eof);
    peer_send(server, "late");
    peer_close(server);
    RIG_UNTIL(client->eof);
    assert_true(peer_has(client, "+PONG\r\nlate"));
    rig_settle();
    assert_int_equal(rig_sum("tcp_read_bytes_total", "peer=\"src\"", NULL), 6);
    assert_int_equal(rig_sum("tcp_write_bytes_total", "peer=\"dst\"", NULL), 6);
    assert_int_equal(rig_sum("tcp_read_bytes_total", "peer=\"dst\"", NULL), 11);
    assert_int_equal(rig_sum("tcp_write_bytes_total", "peer=\"src\"", NULL), 11);
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
    assert_int_equal(rig_sum("tcp_close_total", "errno=\"\"", NULL), 2);
    assert_int_equal(rig_sum("inbound_tcp_authz_allow_total", NULL, NULL), 1);
    rig_check_labels();
}

static void a_meshed_hop(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig_know_default(app.at.port, DEFAULT_ALL_AUTHENTICATED, true);
    outbound_opaque(endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_OPAQUE));
    client = peer_dial(OUTBOUND);
    peer_send(client, "PING\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "PING\r\n"));
    peer_send(server, "+PONG\r\n");
    RIG_UNTIL(peer_has(client, "+PONG\r\n"));
    peer_close(client);
    RIG_UNTIL(server->eof);
    peer_close(server);
    rig_settle();
    /* The application's bytes, at each of the four ends; TLS and the transport header are not of
     * them. */
    assert_int_equal(rig_sum("tcp_read_bytes_total", "direction=\"outbound\"", "peer=\"src\""), 6);
    assert_int_equal(rig_sum("tcp_write_bytes_total", "direction=\"outbound\"", "peer=\"dst\""), 6);
    assert_int_equal(rig_sum("tcp_read_bytes_total", "direction=\"inbound\"", "peer=\"src\""), 6);
    assert_int_equal(rig_sum("tcp_write_bytes_total", "direction=\"inbound\"", "peer=\"dst\""), 6);
    assert_int_equal(rig_sum("tcp_read_bytes_total", "direction=\"outbound\"", "peer=\"dst\""), 7);
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
    assert_int_equal(
        rig_sum("inbound_tcp_transport_header_connections_total", "session_protocol=\"\"", NULL),
        1);
    rig_check_labels();
}

static void an_unauthorised_client_is_closed(void **state)
{
    struct peer *client;

    (void)state;
    inbound_opaque(DEFAULT_ALL_AUTHENTICATED);
    rig.target[INBOUND] = addr_v4(0x7f000001, app.at.port);
    /* Loopback clients are always let in (wire 3.4), so this one comes over the mesh's port
     * without a header. */
    rig.target[INBOUND] = rig.at[INBOUND];
    client = peer_dial(INBOUND);
    peer_send(client, "PING\r\n");
    RIG_UNTIL(client->eof || client->err != 0);
    assert_true(app_has_nobody(&app));
    assert_int_equal(rig_sum("inbound_tcp_errors_total", "error=\"unauthorized\"", NULL), 1);
}

static void a_refused_dial_closes_the_client(void **state)
{
    struct peer *client;

    (void)state;
    inbound_opaque(DEFAULT_ALL_UNAUTHENTICATED);
    app_close(&app);
    client = peer_dial(INBOUND);
    peer_send(client, "PING\r\n");
    RIG_UNTIL(client->eof || client->err != 0);
    rig_settle();
    assert_int_equal(rig_sum("tulle_failures_total", "phase=\"connect\"", NULL), 1);
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
}

/* A MiB each way, with both ends reading late. */
static void much_data_both_ways(void **state)
{
    static char block[1 << 20];
    struct peer *client, *server;

    (void)state;
    memset(block, 'x', sizeof(block));
    rig_know_default(app.at.port, DEFAULT_ALL_AUTHENTICATED, true);
    outbound_opaque(endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_OPAQUE));
    client = peer_dial(OUTBOUND);
    peer_send(client, "x");
    server = app_accept(&app);
    peer_send_bytes(client, bytes_of(block, sizeof(block)));
    peer_send_bytes(server, bytes_of(block, sizeof(block)));
    RIG_UNTIL(server->in.len == sizeof(block) + 1 && client->in.len == sizeof(block));
    peer_close(client);
    peer_close(server);
    rig_settle();
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        APP_TEST(bytes_pass_and_are_counted),
        APP_TEST(a_meshed_hop),
        APP_TEST(an_unauthorised_client_is_closed),
        APP_TEST(a_refused_dial_closes_the_client),
        APP_TEST(much_data_both_ways),
    };

    return rig_run(tests, argc, argv);
}
