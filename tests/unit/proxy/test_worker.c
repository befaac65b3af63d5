/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's life: drains, new certificates, what goes when it is idle; and traffic that is large,
 * slow or odd.
 */
#include "app.h"

#include <netinet/tcp.h>

#define GET "GET / HTTP/1.1\r\nHost: web\r\n\r\n"
#define OK  "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#define MIB ((size_t)1 << 20)

static int setup(void **state)
{
    app_setup(state);
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig_know_target(
        &rig.target[OUTBOUND],
        policy_to(PROTOCOL_DETECT, endpoint_meshed(&app.at, NULL, ENDPOINT_HINT_H2), NULL));
    return 0;
}

/* The inbound listener stands before the application, and not only for the mesh. */
static struct peer *inbound_client(void)
{
    rig.target[INBOUND] = app.at;
    return peer_dial(INBOUND);
}

#define TEST(f) APP_TEST_WITH(f, setup)

static struct peer *serve(struct peer *client, struct peer *server)
{
    server = server != NULL ? server : app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    text_reset(&server->in);
    peer_send(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    return server;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void a_drain_finishes_what_is_open(void **state)
{
    struct peer *idle = inbound_client(), *busy = peer_dial(INBOUND), *silent, *server;
    struct h2_peer *h2 = h2_dial(INBOUND), *h2_server;
    struct call *call;

    (void)state;
    peer_send(idle, GET);
    server = serve(idle, NULL);
    peer_send(busy, GET);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    call = h2_call(h2, "GET", "/", true, NULL);
    h2_server = h2_accept(&app, NULL);
    RIG_UNTIL(h2_server->count == 1);
    silent = peer_dial(INBOUND);
    RIG_UNTIL(rig.w.conns_count == 4);

    proxy_worker_order(&rig.w, WORKER_DRAIN, 1);
    RIG_UNTIL(idle->eof && silent->eof);
    peer_close(idle);
    assert_int_equal(rig.drained, 0);
    text_reset(&server->in);
    peer_send(server, OK);
    RIG_UNTIL(busy->eof);
    assert_true(peer_has(busy, "connection: close\r\n"));
    peer_close(busy);
    call_answer(&h2_server->calls[0], 204, NULL, true);
    RIG_UNTIL(call->status == 204 && h2->is_closed);
    call_close(call, RESET_NONE);
    RIG_UNTIL(rig.drained == 1);
    assert_int_equal(rig.w.conns_count, 0);
    h2_free(h2);
    h2_free(h2_server);
}

/* From now on who connects waits in the kernel's queue. */
static void hold_the_door(void)
{
    proxy_worker_order(&rig.w, WORKER_PAUSE, 7);
    RIG_UNTIL(rig.obeyed == 7);
}

/* Those who have connected before a drain are served, accepted or not, and told to go; one that has not
 * sent its request yet has a moment for it. */
static void a_drain_serves_who_waits_to_be_accepted(void **state)
{
    struct peer *clients[20], *silent, *slow, *server;

    (void)state;
    hold_the_door();
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = inbound_client();
        peer_send(clients[i], GET);
    }
    silent = inbound_client();
    slow = inbound_client();
    rig_settle();
    assert_int_equal(rig.w.conns_count, 0);
    proxy_worker_order(&rig.w, WORKER_DRAIN, 8);
    RIG_UNTIL(rig.w.conns_count == ARRAY_LEN(clients) + 2);
    peer_send(slow, GET);
    for (size_t i = 0; i < ARRAY_LEN(clients) + 1; i++) {
        server = app_accept(&app);
        RIG_UNTIL(peer_has(server, "\r\n\r\n"));
        peer_send(server, OK);
    }
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        RIG_UNTIL(clients[i]->eof);
        assert_true(peer_has(clients[i], "connection: close\r\n") && peer_has(clients[i], "\r\n\r\nok"));
        peer_close(clients[i]);
    }
    RIG_UNTIL(slow->eof && silent->eof);
    assert_true(peer_has(slow, "\r\n\r\nok"));
    assert_false(peer_has(silent, ""));
    peer_close(slow);
    peer_close(silent);
    RIG_UNTIL(rig.drained == 1);
    assert_int_equal(rig.w.conns_count, 0);
    rig_settle();
    assert_int_equal(rig.drained, 1);
}

static void a_drain_serves_http2_that_waits_to_be_accepted(void **state)
{
    struct h2_peer *h2, *server;
    struct call *call;

    (void)state;
    hold_the_door();
    rig.target[INBOUND] = app.at;
    h2 = h2_dial(INBOUND);
    call = h2_call(h2, "GET", "/", true, NULL);
    rig_settle();
    assert_int_equal(rig.w.conns_count, 0);
    proxy_worker_order(&rig.w, WORKER_DRAIN, 8);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1);
    call_answer(&server->calls[0], 204, NULL, true);
    RIG_UNTIL(call->status == 204 && h2->is_closed);
    call_close(call, RESET_NONE);
    RIG_UNTIL(rig.drained == 1);
    h2_free(h2);
    h2_free(server);
}

/* Another process has the sockets, too: who waits is left to it. */
static void a_drain_of_shared_sockets_leaves_who_waits_to_the_other(void **state)
{
    int shared = dup(rig.w.listeners[0].listener.watch.fd), fd;
    struct peer *client;

    (void)state;
    assert_true(shared >= 0);
    hold_the_door();
    client = inbound_client();
    peer_send(client, GET);
    proxy_worker_order(&rig.w, WORKER_DRAIN_SHARED, 8);
    RIG_UNTIL(rig.drained == 1);
    RIG_UNTIL((fd = accept4(shared, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    peer_send(client, GET);
    assert_false(client->eof);
    close(fd);
    client = inbound_client(); /* a new one comes to it as ever */
    RIG_UNTIL((fd = accept4(shared, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    close(fd);
    close(shared);
}

static void a_drain_without_connections_is_done(void **state)
{
    (void)state;
    proxy_worker_order(&rig.w, WORKER_DRAIN, 1);
    proxy_worker_order(&rig.w, WORKER_DRAIN, 1);
    RIG_UNTIL(rig.drained == 1);
    rig_settle();
    assert_int_equal(rig.drained, 1);
}

/* Of a client whose first bytes come in the turn in which its time is over they count. */
static void a_drain_loses_no_request_that_has_come(void **state)
{
    struct peer *client = inbound_client(), *server;
    struct conn *c;

    (void)state;
    RIG_UNTIL(rig.w.conns_count == 1);
    c = LIST_ITEM(rig.w.conns.next, struct conn, node);
    RIG_UNTIL(c->state == CONN_PEEK && timer_is_armed(&c->timer));
    proxy_worker_order(&rig.w, WORKER_DRAIN, 1);
    RIG_UNTIL(rig.obeyed == 1);
    rig.w.draining_ns = c->asked_ns = 1; /* as if the time had gone by */
    timer_arm(rig.l, &c->timer, 0);
    peer_send(client, GET);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, OK);
    RIG_UNTIL(client->eof);
    assert_true(peer_has(client, "connection: close\r\n") && peer_has(client, "\r\n\r\nok"));
    peer_close(client);
    RIG_UNTIL(rig.drained == 1);
}

/* Who was slow at that has as long for its first byte as any other. */
static void a_drain_does_not_count_a_handshake(void **state)
{
    struct server_policy *policy = server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0, false,
                                                             10 * NS_PER_S, app.at.port);
    struct h2_peer *client = mem_new(sizeof(*client)), *server;
    struct call *call;
    struct conn *c;
    struct io *io;
    int fd;

    (void)state;
    policy->protocol = PROTOCOL_HTTP1; /* its server cannot be one that speaks first */
    rig_know_server(app.at.port, policy);
    rig.target[INBOUND] = app.at;
    fd = dial_fd(&rig.at[INBOUND]);
    set_nonblocking(fd);
    io = io_tls_client_new(rig.w.tls_client, tcp_io(rig.l, fd), BYTES(SERVER_ID), BYTES(SERVER_ID),
                           BYTES_NONE);
    assert_int_equal(io_handshake(io), E_AGAIN);
    RIG_UNTIL(rig.w.conns_count == 1);
    c = LIST_ITEM(rig.w.conns.next, struct conn, node);
    RIG_UNTIL(c->state == CONN_HANDSHAKE);
    proxy_worker_order(&rig.w, WORKER_DRAIN, 1);
    RIG_UNTIL(rig.obeyed == 1);
    rig.w.draining_ns = c->since_ns = c->asked_ns = 1; /* as if it had taken long */
    RIG_UNTIL(io_handshake(io) == 0);
    RIG_UNTIL(c->state == CONN_DETECT);
    c->asked_ns += 60 * NS_PER_S; /* however slow this machine is */
    rig_settle(); /* it is closed, if its time is over */
    client->client = http2_client_new(io, NULL, &h2_peer_client_events, client);
    call = h2_call(client, "GET", "/", true, NULL);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1);
    call_answer(&server->calls[0], 204, NULL, true);
    RIG_UNTIL(call->status == 204 && client->is_closed);
    h2_free(client);
    RIG_UNTIL(rig.drained == 1);
    h2_free(server);
}

/* The time to drain may be over before all are accepted: then nobody is let in any more. */
static void a_cut_lets_nobody_in(void **state)
{
    struct peer *client;

    (void)state;
    hold_the_door();
    client = inbound_client();
    peer_send(client, GET);
    rig_settle();
    proxy_worker_order(&rig.w, WORKER_DRAIN, 8);
    proxy_worker_order(&rig.w, WORKER_CUT, 9);
    RIG_UNTIL(rig.drained == 1);
    assert_int_equal(rig.obeyed, 9);
    assert_int_equal(rig.w.conns_count, 0);
    RIG_UNTIL(client->err == ECONNRESET);
    rig_settle();
    assert_int_equal(rig.w.conns_count, 0);
    assert_int_equal(rig.drained, 1);
}

/* The end of the grace period, in the middle of everything: each request and tunnel is told of once. */
static void a_cut_ends_all_that_is_open(void **state)
{
    struct h2_peer *h2 = h2_dial(OUTBOUND);
    struct peer *client = peer_dial(OUTBOUND), *upgraded = inbound_client(), *opaque, *server;

    (void)state;
    peer_send(upgraded, "GET / HTTP/1.1\r\nHost: w\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    RIG_UNTIL(peer_has(upgraded, "101"));
    opaque = inbound_client();
    peer_send(opaque, "\x01\x02 no HTTP\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "no HTTP"));
    (void)h2_call(h2, "POST", "/1", false, NULL);
    (void)h2_call(h2, "GET", "/2", true, NULL);
    peer_send(client, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 10\r\n\r\nhalf");
    (void)app_accept(&app);
    RIG_UNTIL(rig.w.in_flight[OUTBOUND] == 3 && rig.w.in_flight[INBOUND] == 3);
    proxy_worker_order(&rig.w, WORKER_DRAIN, 1);
    RIG_UNTIL(rig.obeyed == 1);
    assert_int_equal(rig.drained, 0);
    proxy_worker_order(&rig.w, WORKER_CUT, 2);
    RIG_UNTIL(rig.drained == 1);
    assert_int_equal(rig.w.conns_count, 0);
    assert_int_equal(rig.w.in_flight[OUTBOUND] + rig.w.in_flight[INBOUND], 0);
    rig_settle();
    /* Three requests, by both proxies, and two tunnels. */
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"shutdown\"", NULL), 8);
    assert_int_equal(rig_sum("tulle_failures_total", NULL, NULL), 8);
    assert_int_equal(rig.drained, 1);
    h2_free(h2);
}

/* Whose answer has not begun is told why, and gRPC in any case; what has begun must not pass for whole. */
static void a_cut_answers_what_is_not_answered(void **state)
{
    static const char *const grpc[] = {"content-type: application/grpc", "te: trailers", NULL};
    static const char reason[] = "l5d-proxy-error: it was not done when the time to shut down was over";
    struct h2_peer *h2 = h2_dial(OUTBOUND), *server;
    struct peer *client = peer_dial(OUTBOUND), *begun = peer_dial(OUTBOUND), *far;
    struct call *plain, *call, *stream;

    (void)state;
    peer_send(client, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 70000\r\n\r\nhalf");
    (void)app_accept(&app);
    peer_send(begun, GET);
    far = app_accept(&app);
    RIG_UNTIL(peer_has(far, "\r\n\r\n"));
    peer_send(far, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    RIG_UNTIL(peer_has(begun, "half"));
    plain = h2_call(h2, "POST", "/1", false, NULL);
    call = h2_call(h2, "POST", "/2", true, grpc);
    stream = h2_call(h2, "POST", "/3", true, grpc);
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 3);
    call_answer(&server->calls[2], 200, grpc, false);
    RIG_UNTIL(stream->status == 200 && rig.w.in_flight[OUTBOUND] == 5 && rig.w.in_flight[INBOUND] == 5);
    proxy_worker_order(&rig.w, WORKER_DRAIN, 1);
    RIG_UNTIL(rig.obeyed == 1);
    assert_int_equal(write(client->fd, "late", 4), 4); /* nobody has read it when the connection is closed */
    proxy_worker_order(&rig.w, WORKER_CUT, 2);
    RIG_UNTIL(rig.drained == 1 && client->eof && begun->eof && h2->is_closed);
    assert_int_equal(client->err + begun->err, 0);
    assert_true(peer_has(client, "HTTP/1.1 503 ") && peer_has(client, "\r\nconnection: close\r\n"));
    assert_true(peer_has(client, reason));
    assert_false(peer_has(begun, "503") || peer_has(begun, "\r\n0\r\n"));
    assert_int_equal(plain->status, 503);
    assert_non_null(strstr(plain->fields.at, reason));
    assert_string_equal(call->log, "H");
    assert_string_equal(call->grpc_status.at, "14");
    assert_string_equal(stream->log, "HE");
    assert_string_equal(stream->grpc_status.at, "14");
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"shutdown\"", NULL), 10);
    assert_int_equal(rig_sum("tulle_failures_total", NULL, NULL), 10);
    h2_free(h2);
    h2_free(server);
}

/* The worker ends in the middle of everything. */
static void an_end_in_the_middle(void **state)
{
    struct h2_peer *h2 = h2_dial(OUTBOUND);
    struct peer *client = peer_dial(OUTBOUND), *upgraded = inbound_client(), *server;

    (void)state;
    peer_send(upgraded, "GET / HTTP/1.1\r\nHost: w\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    RIG_UNTIL(peer_has(upgraded, "101"));
    (void)h2_call(h2, "POST", "/1", false, NULL);
    (void)h2_call(h2, "GET", "/2", true, NULL);
    peer_send(client, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 10\r\n\r\nhalf");
    (void)app_accept(&app);
    h2_free(h2);
    peer_send(client, "er");
    /* teardown ends the worker */
}

/* --- certificates ----------------------------------------------------------------------------- */

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

/* --- idle ------------------------------------------------------------------------------------- */

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

/* --- traffic ---------------------------------------------------------------------------------- */

/* 8 MiB each way through two proxies to a peer that reads late: memory stays bounded (decision D9). */
static void bodies_flow_at_the_pace_of_the_slower(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;
    char *block = mem_new(64 << 10);
    size_t most = 0;

    (void)state;
    memset(block, 'b', 64 << 10);
    peer_send(client, "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 8388608\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    text_reset(&server->in);
    server->is_lazy = true;
    for (size_t sent = 0, turns = 0; sent < 8 * MIB;) {
        ssize_t n = send(client->fd, block, MIN((size_t)64 << 10, 8 * MIB - sent), MSG_NOSIGNAL);

        sent += (size_t)MAX(n, 0);
        rig_turn();
        most = MAX(most, rig.l->chunks.used_count);
        if (++turns % 4 == 0) {
            peer_read(server);
        }
        assert_true(turns < RIG_TURNS_MAX);
    }
    server->is_lazy = false;
    RIG_UNTIL(server->in.len == 8 * MIB);
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n");
    client->is_lazy = true;
    for (size_t sent = 0, turns = 0; sent < 8 * MIB;) {
        ssize_t n = send(server->fd, block, MIN((size_t)64 << 10, 8 * MIB - sent), MSG_NOSIGNAL);

        sent += (size_t)MAX(n, 0);
        rig_turn();
        most = MAX(most, rig.l->chunks.used_count);
        if (++turns % 4 == 0) {
            peer_read(client);
        }
        assert_true(turns < RIG_TURNS_MAX);
    }
    client->is_lazy = false;
    RIG_UNTIL(client->in.len > 8 * MIB);
    assert_true(most * CHUNK_BYTES < MIB);
    mem_free(block);
}

static void requests_one_behind_the_other(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;

    (void)state;
    peer_send(client, "GET /1 HTTP/1.1\r\nHost: web\r\n\r\nGET /2 HTTP/1.1\r\nHost: web\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "GET /1"));
    rig_settle();
    assert_false(peer_has(server, "GET /2"));
    peer_send(server, OK);
    RIG_UNTIL(peer_has(server, "GET /2"));
    peer_send(server, "HTTP/1.1 204 No\r\n\r\n");
    RIG_UNTIL(peer_has(client, "HTTP/1.1 204"));
}

/* Wire 5.3: HTTP/1.0 and absolute targets survive the hop as they were. */
static void forms_of_http1_survive_the_mesh(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;

    (void)state;
    peer_send(client, "GET http://web/x HTTP/1.1\r\nHost: web\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_true(peer_has(server, "GET http://web/x HTTP/1.1\r\n"));
    peer_send(server, OK);
    RIG_UNTIL(peer_has(client, "ok"));
    client = peer_dial(OUTBOUND);
    text_reset(&server->in);
    peer_send(client, "GET /old HTTP/1.0\r\n\r\n");
    RIG_UNTIL(peer_has(server, "GET /old HTTP/1.1\r\n"));
    assert_true(peer_has(server, "host: 10.0.0.1\r\n") ||
                peer_has(server, "host: 10.0.0.1:80\r\n"));
    peer_send(server, OK);
    RIG_UNTIL(client->eof);
    assert_true(peer_has(client, "ok"));
}

static void interim_answers_pass(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;

    (void)state;
    peer_send(client,
              "POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 100 Continue\r\n\r\n");
    RIG_UNTIL(peer_has(client, "HTTP/1.1 100 "));
    peer_send(client, "body");
    RIG_UNTIL(peer_has(server, "body"));
    peer_send(server, "HTTP/1.1 103 Early\r\nlink: </x>\r\n\r\n" OK);
    RIG_UNTIL(peer_has(client, "ok"));
    assert_true(peer_has(client, "HTTP/1.1 103 ") && peer_has(client, "link: </x>"));
}

/* An upgrade is never carried over HTTP/2: it has a connection of its own, in mutual TLS (wire 5.3). */
static void an_upgrade_through_the_mesh(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;

    (void)state;
    peer_send(client,
              "GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_true(peer_has(server, "upgrade: websocket\r\n"));
    assert_true(peer_has(server, "l5d-client-id: " SERVER_ID));
    peer_send(server, "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello");
    RIG_UNTIL(peer_has(client, "\r\n\r\nhello"));
    peer_send(client, "ping");
    RIG_UNTIL(peer_has(server, "ping"));
    peer_close(client);
    RIG_UNTIL(server->eof);
    peer_close(server);
    rig_settle();
    assert_int_equal(rig_sum("inbound_tcp_transport_header_connections_total",
                             "session_protocol=\"http/1\"", NULL),
                     1);
    assert_int_equal(rig_sum("response_total", "status_code=\"101\"", NULL), 2);
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
    rig_check_labels();
}

/* What cannot be said in HTTP/1 is refused, and the connection that was to carry it goes back to the pool. */
static void a_request_that_http1_cannot_say(void **state)
{
    static const char *const fields[] = {"l5d-orig-proto: HTTP/1.1", NULL};
    struct h2_peer *client;
    struct peer *server;
    struct call *c;

    (void)state;
    rig.target[INBOUND] = app.at;
    client = h2_dial(INBOUND);
    c = h2_call(client, "GET", "/good", true, fields);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, OK);
    RIG_UNTIL(c->ended);
    c = h2_call(client, "GET", "a", true, fields);
    RIG_UNTIL(c->status == 400);
    text_reset(&server->in);
    c = h2_call(client, "GET", "/again", true, fields);
    RIG_UNTIL(peer_has(server, "GET /again"));
    peer_send(server, OK);
    RIG_UNTIL(c->ended);
    h2_free(client);
}

/* As many requests at once as the peer allows, and more: they wait, or get another connection. */
static void more_streams_than_one_connection_has(void **state)
{
    struct http_limits few = {.streams_max = 4};
    struct h2_peer *client, *one, *two;
    struct call *calls[6];

    (void)state;
    rig_know_target(&rig.target[OUTBOUND],
                    policy_to(PROTOCOL_DETECT, endpoint_at(&app.at, NULL), NULL));
    client = h2_dial(OUTBOUND);
    calls[0] = h2_call(client, "GET", "/", true, NULL);
    one = h2_accept(&app, &few);
    RIG_UNTIL(one->count == 1);
    for (unsigned i = 1; i < ARRAY_LEN(calls); i++) {
        calls[i] = h2_call(client, "GET", "/", true, NULL);
    }
    RIG_UNTIL(one->count == 4);
    two = h2_accept(&app, &few);
    RIG_UNTIL(two->count == 2);
    for (unsigned i = 0; i < 4; i++) {
        call_answer(&one->calls[i], 204, NULL, true);
    }
    call_answer(&two->calls[0], 204, NULL, true);
    call_answer(&two->calls[1], 204, NULL, true);
    for (unsigned i = 0; i < ARRAY_LEN(calls); i++) {
        RIG_UNTIL(calls[i]->status == 204);
    }
    h2_free(client);
    h2_free(one);
    h2_free(two);
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
        TEST(a_drain_finishes_what_is_open),
        TEST(a_drain_serves_who_waits_to_be_accepted),
        TEST(a_drain_serves_http2_that_waits_to_be_accepted),
        TEST(a_drain_of_shared_sockets_leaves_who_waits_to_the_other),
        TEST(a_drain_without_connections_is_done),
        TEST(a_drain_loses_no_request_that_has_come),
        TEST(a_drain_does_not_count_a_handshake),
        TEST(a_cut_lets_nobody_in),
        TEST(a_cut_ends_all_that_is_open),
        TEST(a_cut_answers_what_is_not_answered),
        TEST(an_end_in_the_middle),
        TEST(a_new_certificate_leaves_connections_alone),
        TEST(what_is_idle_goes),
        TEST(bodies_flow_at_the_pace_of_the_slower),
        TEST(requests_one_behind_the_other),
        TEST(forms_of_http1_survive_the_mesh),
        TEST(interim_answers_pass),
        TEST(an_upgrade_through_the_mesh),
        TEST(a_request_that_http1_cannot_say),
        TEST(more_streams_than_one_connection_has),
        TEST(who_came_before_the_first_certificate_has_all_options),
    };

    return rig_run(tests, argc, argv);
}
