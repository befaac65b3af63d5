/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1 through a whole worker: in from a client, out to an application, and both at once as a
 * meshed hop.
 */
#include "peers.h"

#include "proxy/access_log.h"

#include <fcntl.h>

static struct app app;

/* The inbound listener stands before `app`. */
static void inbound_opens(void)
{
    app_open(&app);
    rig.target[INBOUND] = app.at;
    rig_know_default(app.at.port, DEFAULT_ALL_UNAUTHENTICATED, false);
}

/* The outbound listener leads to one endpoint. */
static void outbound_opens(struct endpoint *e)
{
    rig.target[OUTBOUND] = addr_v4(0x0a000001, 80);
    rig_know_target(&rig.target[OUTBOUND], policy_to(PROTOCOL_DETECT, e, NULL));
}

static void inbound_request_and_answer(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(client, "GET /a HTTP/1.1\r\nHost: web\r\nl5d-client-id: forged\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_true(peer_has(server, "GET /a HTTP/1.1\r\n"));
    assert_false(peer_has(server, "forged"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    RIG_UNTIL(peer_has(client, "\r\n\r\nhi"));
    /* The same connections serve the next one. */
    text_reset(&client->in);
    text_reset(&server->in);
    peer_send(client, "POST /b HTTP/1.1\r\nHost: web\r\ncontent-length: 3\r\n\r\nabc");
    RIG_UNTIL(peer_has(server, "\r\n\r\nabc"));
    peer_send(server, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    RIG_UNTIL(peer_has(client, "503"));
    assert_int_equal(rig_sum("request_total", "direction=\"inbound\"", NULL), 2);
    assert_int_equal(rig_sum("response_total", "status_code=\"200\"", "classification=\"success\""),
                     1);
    assert_int_equal(rig_sum("response_total", "status_code=\"503\"", "classification=\"failure\""),
                     1);
    assert_int_equal(rig_sum("response_latency_ms_count", NULL, NULL), 2);
    assert_int_equal(rig_sum("inbound_http_authz_allow_total", NULL, NULL), 2);
    rig_check_labels();
    app_close(&app);
}

static void a_meshed_hop(void **state)
{
    struct peer *client, *server;

    (void)state;
    app_open(&app);
    rig_know_default(app.at.port, DEFAULT_ALL_AUTHENTICATED, false);
    outbound_opens(endpoint_meshed(&app.at, "dst_pod=\"web-1\"", ENDPOINT_HINT_H2));
    client = peer_dial(OUTBOUND);
    peer_send(client, "POST /x HTTP/1.1\r\nHost: web\r\ntransfer-encoding: "
                      "chunked\r\n\r\n3\r\nabc\r\n0\r\nt: 1\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "0\r\nt: 1\r\n\r\n"));
    assert_true(peer_has(server, "POST /x HTTP/1.1\r\n"));
    assert_true(peer_has(server, "l5d-client-id: " SERVER_ID "\r\n"));
    assert_false(peer_has(server, "l5d-orig-proto"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    RIG_UNTIL(peer_has(client, "\r\n\r\nhi"));
    assert_false(peer_has(client, "l5d-orig-proto"));
    assert_int_equal(rig_sum("request_total", "direction=\"outbound\"", "dst_pod=\"web-1\""), 1);
    assert_int_equal(rig_sum("response_total", "direction=\"outbound\"", "tls=\"true\""), 1);
    assert_int_equal(
        rig_sum("request_total", "direction=\"inbound\"", "client_id=\"" SERVER_ID "\""), 1);
    rig_check_labels();
    app_close(&app);
}

/* Wire 5.7: an error of ours that closes says so, in time. */
static void a_refused_dial_is_answered_and_closes(void **state)
{
    struct peer *client;

    (void)state;
    inbound_opens();
    app_close(&app);
    client = peer_dial(INBOUND);
    peer_send(client, "GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    RIG_UNTIL(client->eof);
    assert_true(peer_has(client, "HTTP/1.1 502 "));
    assert_true(peer_has(client, "connection: close\r\n"));
    assert_int_equal(rig_sum("inbound_http_errors_total", "error=\"i/o\"", NULL), 1);
    assert_int_equal(rig_sum("tulle_failures_total", "hop=\"inbound\"", "phase=\"connect\""), 1);
}

static void an_upgrade_becomes_a_tunnel(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(
        client,
        "GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_true(peer_has(server, "upgrade: websocket\r\n"));
    peer_send(server,
              "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
    RIG_UNTIL(peer_has(client, "\r\n\r\nfirst"));
    RIG_UNTIL(peer_has(server, "\r\n\r\nearly"));
    peer_send(client, " and more");
    RIG_UNTIL(peer_has(server, "early and more"));
    assert_int_equal(shutdown(client->fd, SHUT_WR), 0);
    RIG_UNTIL(server->eof);
    peer_send(server, "bye");
    peer_close(server);
    RIG_UNTIL(client->eof);
    assert_true(peer_has(client, "firstbye"));
    rig_settle();
    assert_int_equal(rig_sum("response_total", "status_code=\"101\"", NULL), 1);
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
    app_close(&app);
}

/* The stream, and the request with it, are gone when the tunnel begins. */
static void an_upgrade_is_in_the_access_log(void **state)
{
    struct peer *client, *server;
    char line[4096];
    int log[2];

    (void)state;
    assert_int_equal(pipe2(log, O_CLOEXEC), 0);
    rig.w.access_log = access_log_new(rig.l, &rig.w.stats, ACCESS_APACHE, log[1]);
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(client,
              "GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    rig_settle();
    assert_true(read(log[0], line, sizeof(line)) > 0);
    assert_non_null(strstr(line, "\"GET /ws HTTP/1.1\" 101\n"));
    (void)close(log[0]);
    (void)close(log[1]);
    app_close(&app);
}

/* A request that asks for an upgrade and has a body that has not ended when the answer comes. */
static void an_upgrade_before_the_request_ended(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(client, "POST /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: "
                      "x\r\nContent-Length: 10\r\n\r\nhalf");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "half"));
    peer_send(server, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    RIG_UNTIL(client->eof || client->err != 0);
    RIG_UNTIL(server->eof || server->err != 0);
    assert_true(peer_has(client, "HTTP/1.1 502 "));
    assert_false(peer_has(client, "101"));
    peer_close(client);
    rig_settle();
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
    app_close(&app);
}

static void bytes_are_counted_to_the_last(void **state)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    struct peer *client, *server;
    size_t answered;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(client, request);
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
    peer_close(server);
    RIG_UNTIL(client->eof);
    answered = client->in.len;
    peer_close(client);
    rig_settle();
    assert_int_equal(rig_sum("tcp_read_bytes_total", "peer=\"src\"", NULL), sizeof(request) - 1);
    assert_int_equal(rig_sum("tcp_write_bytes_total", "peer=\"src\"", NULL), answered);
    assert_true(rig_sum("tcp_read_bytes_total", "peer=\"dst\"", NULL) > 50);
    assert_int_equal(rig_sum("tcp_open_total", NULL, NULL), 2);
    assert_int_equal(rig_sum("tcp_close_total", NULL, NULL), 2);
    assert_int_equal(rig_sum("tcp_open_connections", NULL, NULL), 0);
    app_close(&app);
}

/* RFC 9110 9.2.2: a request that may be repeated goes over a new connection when a kept one was
 * closed under it. */
static void a_stale_connection_is_replaced(void **state)
{
    struct peer *client, *server, *next;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(client, "GET /1 HTTP/1.1\r\nHost: web\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 204 No\r\n\r\n");
    RIG_UNTIL(peer_has(client, "204"));
    /* The request is on its way before the close is seen. */
    server->is_lazy = true;
    assert_int_equal(send(client->fd, "GET /2 HTTP/1.1\r\nHost: web\r\n\r\n", 30, 0), 30);
    rig_settle();
    peer_abort(server);
    next = app_accept(&app);
    RIG_UNTIL(peer_has(next, "GET /2"));
    peer_send(next, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    RIG_UNTIL(peer_has(client, "ok"));
    assert_int_equal(rig_sum("request_total", NULL, NULL), 2);
    assert_int_equal(rig_sum("response_total", "classification=\"success\"", NULL), 2);
    app_close(&app);
}

/* As above, with a body that is announced, and ends without a byte: the end must not get lost. */
static void an_ended_request_is_repeated_whole(void **state)
{
    struct peer *client, *server, *next;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(client, "GET /1 HTTP/1.1\r\nHost: web\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, "HTTP/1.1 204 No\r\n\r\n");
    RIG_UNTIL(peer_has(client, "204"));
    text_reset(&server->in);
    peer_send(client,
              "PUT /2 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    RIG_UNTIL(peer_has(server, "0\r\n\r\n"));
    peer_abort(server);
    next = app_accept(&app);
    RIG_UNTIL(peer_has(next, "\r\n\r\n"));
    assert_true(peer_has(next, "PUT /2"));
    peer_send(next, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    RIG_UNTIL(peer_has(client, "ok"));
    app_close(&app);
}

/* The final answer comes instead of 100 (RFC 9110 10.1.1): nobody waits for a body that never
 * comes. */
static void a_refused_expectation_ends_the_exchange(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(
        client,
        "POST /u HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "expect: 100-continue"));
    peer_send(server, "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n");
    RIG_UNTIL(peer_has(client, "413"));
    RIG_UNTIL(client->eof);
    assert_int_equal(rig.w.in_flight[INBOUND], 0);
    app_close(&app);
}

static void a_client_that_goes_is_not_counted_as_failure(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(client, "GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_abort(client);
    RIG_UNTIL(server->eof || server->err != 0);
    rig_settle();
    assert_int_equal(rig_sum("request_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("response_total", NULL, NULL), 0);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"client\"", NULL), 1);
    app_close(&app);
}

/* The proxy reads no more, and some bytes wait for it: the application has enough of them. */
static void send_until_stuck(struct peer *client)
{
    static char block[4 << 10];
    const struct conn *c = LIST_ITEM(rig.w.conns.next, struct conn, node);
    uint64_t read;

    do {
        read = http_server_io(c->server)->bytes_in;
        assert_int_equal(send(client->fd, block, sizeof(block), MSG_NOSIGNAL), sizeof(block));
        rig_settle();
    } while (http_server_io(c->server)->bytes_in > read);
}

/* The client finishes within its request's body while the application reads nothing of it: the
 * application is told at once, though bytes of the client's wait before its end. */
static void a_client_that_ends_within_a_stuck_upload_is_noticed(void **state)
{
    struct peer *client, *server;

    (void)state;
    inbound_opens();
    client = peer_dial(INBOUND);
    peer_send(client, "PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n");
    server = app_accept(&app);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    server->is_lazy = true;
    send_until_stuck(client);
    assert_int_equal(rig.w.in_flight[INBOUND], 1);
    assert_int_equal(shutdown(client->fd, SHUT_WR), 0);
    RIG_UNTIL(rig.w.in_flight[INBOUND] == 0);
    RIG_UNTIL(peer_has(client, "400 Bad Request") && client->eof);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"client\"", NULL), 1);
    assert_int_equal(rig_sum("response_total", NULL, NULL), 0);
    server->is_lazy = false;
    RIG_UNTIL(server->eof || server->err != 0);
    app_close(&app);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(inbound_request_and_answer),
        RIG_TEST(a_meshed_hop),
        RIG_TEST(a_refused_dial_is_answered_and_closes),
        RIG_TEST(an_upgrade_becomes_a_tunnel),
        RIG_TEST(an_upgrade_is_in_the_access_log),
        RIG_TEST(an_upgrade_before_the_request_ended),
        RIG_TEST(bytes_are_counted_to_the_last),
        RIG_TEST(a_stale_connection_is_replaced),
        RIG_TEST(an_ended_request_is_repeated_whole),
        RIG_TEST(a_refused_expectation_ends_the_exchange),
        RIG_TEST(a_client_that_goes_is_not_counted_as_failure),
        RIG_TEST(a_client_that_ends_within_a_stuck_upload_is_noticed),
    };

    return rig_run(tests, argc, argv);
}
