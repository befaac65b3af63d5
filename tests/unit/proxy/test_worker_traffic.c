/* SPDX-License-Identifier: Apache-2.0 */
/* Traffic through both proxies that is large, slow or odd. */
#include "meshed_app.h"

#define MIB ((size_t)1 << 20)

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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(bodies_flow_at_the_pace_of_the_slower),
        TEST(requests_one_behind_the_other),
        TEST(forms_of_http1_survive_the_mesh),
        TEST(interim_answers_pass),
        TEST(an_upgrade_through_the_mesh),
        TEST(a_request_that_http1_cannot_say),
        TEST(more_streams_than_one_connection_has),
    };

    return rig_run(tests, argc, argv);
}
