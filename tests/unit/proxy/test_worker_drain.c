/* SPDX-License-Identifier: Apache-2.0 */
/* How a worker ends: who is still served by a drain, and what a cut tells the others. */
#include "meshed_app.h"

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
    };

    return rig_run(tests, argc, argv);
}
