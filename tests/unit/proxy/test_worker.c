/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's life: its first certificate, a new one, and what goes when it is idle. */
#include "meshed_app.h"

#include <netinet/tcp.h>

static void a_new_certificate_leaves_connections_alone(void **state)
{
    struct tls_creds *creds = pki_creds(&rig.pki, SERVER_ID, rig.pki.root_pem);
    struct peer *client = peer_dial(OUTBOUND), *server;

    (void)state;
    peer_send(client, GET);
    server = serve(client, NULL);
    proxy_worker_set_creds(&rig.w, creds);
    tls_creds_unref(creds);
    rig_settle();
    text_reset(&client->in);
    peer_send(client, GET);
    (void)serve(client, server);
    assert_int_equal(rig_sum("tcp_open_total", "direction=\"outbound\"", "peer=\"dst\""), 1);
}

/* Nothing is kept for ever: kept connections, endpoints, destinations. */
static void what_is_idle_goes(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig.config.inbound.discovery_idle_ns = rig.config.outbound.discovery_idle_ns = NS_PER_MS;
    rig.config.inbound.pool_idle_ns = 20 * NS_PER_MS;
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    server = serve(client, NULL);
    RIG_UNTIL(server->eof); /* the pool's time is up */
    assert_int_equal(map_count(&rig.w.upstreams), 2);
    peer_close(client);
    RIG_UNTIL(map_count(&rig.w.upstreams) == 0);
    RIG_UNTIL(rig.w.conns_count == 0);
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
    RIG_UNTIL(map_count(&rig.w.profile_names) == 0);
    RIG_UNTIL(!timer_is_armed(&rig.w.sweep));
}

/* The sockets are bound before there is a certificate, and clients come meanwhile. */
static void who_came_before_the_first_certificate_has_all_options(void **state UNUSED)
{
    static const int options[][2] = {{IPPROTO_TCP, TCP_NODELAY}, {SOL_SOCKET, SO_KEEPALIVE}};
    struct proxy_worker w = {.config = &rig.config};
    struct sockaddr_storage sa;
    struct addr at = addr_v4(0x7f000001, 0);
    int listening, client, accepted;

    rig.config.inbound.accept_opts.keepalive_ms = 10000;
    assert_int_equal(sock_listen(&at, false, 8, &listening), 0);
    assert_int_equal(sock_local(listening, &at), 0);
    assert_int_equal(proxy_worker_add_listener(&w, INBOUND, listening), 0);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client >= 0);
    assert_int_equal(connect(client, (struct sockaddr *)&sa, addr_to_sockaddr(&at, &sa)), 0);
    accepted = accept(listening, NULL, NULL);
    assert_true(accepted >= 0);
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        int value = 0;
        socklen_t len = sizeof(value);

        assert_int_equal(getsockopt(accepted, options[i][0], options[i][1], &value, &len), 0);
        assert_int_equal(value, 1);
    }
    close(accepted);
    close(client);
    proxy_worker_drop_listeners(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_certificate_leaves_connections_alone),
        TEST(what_is_idle_goes),
        TEST(who_came_before_the_first_certificate_has_all_options),
    };

    return rig_run(tests, argc, argv);
}
