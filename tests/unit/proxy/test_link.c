/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections to endpoints over time: idle and old ones go, pools are bounded, dials that fail are
 * repeated with back-off; and no request notices.
 */
#include "app.h"
#include "proxy/link.h"

#include <poll.h>

#define GET "GET / HTTP/1.1\r\nHost: web\r\n\r\n"
#define OK  "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

static int setup(void **state)
{
    app_setup(state);
    rig.target[OUTBOUND] = app.at;
    rig_know_target(&app.at, outbound_policy_new_fallback());
    return 0;
}

#define TEST(f) APP_TEST_WITH(f, setup)

static struct upstream *the_upstream(void)
{
    struct map_iter it = MAP_ITER(&rig.w.upstreams);

    assert_int_equal(map_count(&rig.w.upstreams), 1);
    assert_true(map_next(&it));
    return it.value;
}

static struct link *h2_at(unsigned index)
{
    struct list *node = the_upstream()->h2.next;

    while (index-- > 0) {
        node = node->next;
    }
    assert_ptr_not_equal(node, &the_upstream()->h2);
    return LIST_ITEM(node, struct link, node);
}

static void serve(struct peer *server, struct peer *client)
{
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    text_reset(&server->in);
    peer_send(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    text_reset(&client->in);
}

/* The newest call of this server is the one that the client waits for. */
static void answer(struct h2_peer *server, unsigned index, const struct call *c)
{
    RIG_UNTIL(server->count == index + 1 && server->calls[index].ended);
    call_answer(&server->calls[index], 200, NULL, true);
    RIG_UNTIL(c->status == 200);
    call_close(&server->calls[index], RESET_NONE);
}

static void call_and_answer(struct h2_peer *client, struct h2_peer *server)
{
    unsigned index = (unsigned)server->count;

    answer(server, index, h2_call(client, "GET", "/", true, NULL));
}

/* Wire 6.1: 3 s, here less. */
static void an_idle_connection_is_closed(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;

    (void)state;
    rig.config.outbound.pool_idle_ns = 30 * NS_PER_MS;
    peer_send(client, GET);
    server = app_accept(&app);
    serve(server, client);
    assert_int_equal(the_upstream()->h1_idle_count, 1);
    RIG_UNTIL(server->eof);
    assert_int_equal(the_upstream()->h1_idle_count, 0);
    peer_send(client, GET);
    serve(app_accept(&app), client);
}

static void a_pool_is_bounded(void **state)
{
    struct peer *clients[4], *servers[4];

    (void)state;
    rig.config.outbound.pool_max = 2;
    for (unsigned i = 0; i < 4; i++) {
        clients[i] = peer_dial(OUTBOUND);
        peer_send(clients[i], GET);
        servers[i] = app_accept(&app);
    }
    for (unsigned i = 0; i < 4; i++) {
        serve(servers[i], clients[i]);
    }
    RIG_UNTIL(servers[2]->eof && servers[3]->eof);
    assert_int_equal(the_upstream()->h1_idle_count, 2);
    assert_false(servers[0]->eof || servers[1]->eof);
}

/* An old HTTP/1 connection finishes its request, and is not kept. */
static void an_old_connection_ends_after_its_request(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;
    struct link *l;

    (void)state;
    peer_send(client, GET);
    server = app_accept(&app);
    serve(server, client);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    l = LIST_ITEM(the_upstream()->other.next, struct link, node);
    assert_in_range(l->old_at_ns, rig.l->now_ns + LINK_AGE_NS / 2,
                    rig.l->now_ns + LINK_AGE_NS + LINK_AGE_NS / 5);
    l->old_at_ns = rig.l->now_ns;
    serve(server, client);
    RIG_UNTIL(server->eof);
    peer_send(client, GET);
    serve(app_accept(&app), client);
}

/* An old HTTP/2 link serves until its successor stands, finishes its streams, and goes. */
static void an_old_link_has_a_successor(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *before, *after;
    struct call *slow, *c;

    (void)state;
    slow = h2_call(client, "GET", "/slow", true, NULL);
    before = h2_accept(&app, NULL);
    RIG_UNTIL(before->count == 1 && before->calls[0].ended);
    h2_at(0)->old_at_ns = rig.l->now_ns;
    c = h2_call(client, "GET", "/", true, NULL);
    answer(before, 1, c); /* nobody waits */
    after = h2_accept(&app, NULL);
    RIG_UNTIL(the_upstream()->h2_count == 2 && h2_at(1)->state == LINK_OPEN);
    for (unsigned i = 0; i < 3; i++) {
        call_and_answer(client, after);
    }
    assert_int_equal(before->count, 2);
    call_answer(&before->calls[0], 200, NULL, true);
    RIG_UNTIL(slow->status == 200);
    call_close(&before->calls[0], RESET_NONE);
    RIG_UNTIL(before->is_closed);
    assert_int_equal(the_upstream()->h2_count, 1);
    call_and_answer(client, after);
    h2_free(client);
    h2_free(before);
    h2_free(after);
}

/* The successor cannot be dialed: the old one serves on, and it is not tried at each request. */
static void an_old_link_without_a_successor_serves_on(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *server;
    struct call *c = h2_call(client, "GET", "/", true, NULL);
    uint64_t until_ns;

    (void)state;
    server = h2_accept(&app, NULL);
    answer(server, 0, c);
    app_close(&app);
    h2_at(0)->old_at_ns = rig.l->now_ns;
    call_and_answer(client, server);
    until_ns = h2_at(0)->old_at_ns;
    assert_true(until_ns > rig.l->now_ns);
    for (unsigned i = 0; i < 5; i++) {
        call_and_answer(client, server);
    }
    RIG_UNTIL(the_upstream()->h2_count == 1);
    assert_int_equal(h2_at(0)->old_at_ns, until_ns);
    assert_int_equal(rig_sum("outbound_http_errors_total", NULL, NULL), 0);
    h2_free(client);
    h2_free(server);
}

/* Unused for a whole period: closed; used within it, or with a stream open: not. */
static void an_unused_link_is_closed(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *server;
    struct call *c = h2_call(client, "GET", "/", true, NULL);

    (void)state;
    server = h2_accept(&app, NULL);
    RIG_UNTIL(server->count == 1 && server->calls[0].ended);
    for (unsigned i = 0; i < 3; i++) {
        timer_arm(rig.l, &h2_at(0)->timer, rig.l->now_ns);
        rig_settle();
        assert_int_equal(the_upstream()->h2_count, 1); /* a stream is open */
    }
    answer(server, 0, c);
    call_and_answer(client, server);
    timer_arm(rig.l, &h2_at(0)->timer, rig.l->now_ns);
    rig_settle();
    assert_int_equal(the_upstream()->h2_count, 1); /* it was used since */
    timer_arm(rig.l, &h2_at(0)->timer, rig.l->now_ns);
    RIG_UNTIL(server->is_closed);
    assert_int_equal(the_upstream()->h2_count, 0);
    h2_free(server);
    c = h2_call(client, "GET", "/", true, NULL);
    server = h2_accept(&app, NULL);
    answer(server, 0, c);
    h2_free(client);
    h2_free(server);
}

/* Nobody accepts: the dial is given up after its time, and the client is told. */
static void a_dial_that_hangs_is_given_up(void **state)
{
    struct addr at = addr_v4(0x7f000001, 0);
    struct peer *client;
    int fd, filler[3];
    struct sockaddr_storage sa;
    socklen_t len;

    (void)state;
    assert_int_equal(sock_listen(&at, false, 0, &fd), 0);
    assert_int_equal(sock_local(fd, &at), 0);
    len = addr_to_sockaddr(&at, &sa);
    for (unsigned i = 0; i < ARRAY_LEN(filler); i++) { /* the backlog is full */
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(filler[i], (struct sockaddr *)&sa, len);
    }
    rig.config.outbound.connect_timeout_ns = 50 * NS_PER_MS;
    rig.target[OUTBOUND] = at;
    rig_know_target(&at, outbound_policy_new_fallback());
    client = peer_dial(OUTBOUND);
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "504 "));
    for (unsigned i = 0; i < ARRAY_LEN(filler); i++) {
        close(filler[i]);
    }
    close(fd);
}

/* --- a loop that is late ---------------------------------------------------------------------- */

static struct link *dialed_in(enum link_state state)
{
    struct list *others;

    RIG_UNTIL(map_count(&rig.w.upstreams) == 1);
    others = &the_upstream()->other;
    RIG_UNTIL(!list_is_empty(others) && LIST_ITEM(others->next, struct link, node)->state == state);
    return LIST_ITEM(others->next, struct link, node);
}

/* The connection stands as far as the kernel is concerned; its event and its timer come in one turn. */
static struct link *stands_when_overdue(void)
{
    struct link *l = dialed_in(LINK_CONNECT);
    struct pollfd ready = {.fd = app.fd, .events = POLLIN};

    assert_int_equal(poll(&ready, 1, 60000), 1);
    timer_arm(rig.l, &l->timer, rig.l->now_ns);
    rig_turn();
    return l;
}

static void a_dial_that_has_succeeded_is_not_overdue(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    peer_send(client, GET);
    assert_int_equal(stands_when_overdue()->state, LINK_OPEN);
    serve(app_accept(&app), client);
}

static void know_meshed(void)
{
    struct endpoint *e = endpoint_at(&app.at, NULL);

    e->identity = mem_strdup(SERVER_ID);
    e->server_name = mem_strdup(SERVER_ID);
    rig_know_target(&app.at, policy_to(PROTOCOL_DETECT, e, NULL));
}

/* The handshake, which could not begin sooner, has its time; and no more than that. */
static void a_dial_that_is_overdue_has_time_for_tls_once(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);
    struct link *l;

    (void)state;
    know_meshed();
    peer_send(client, GET);
    l = stands_when_overdue();
    assert_int_equal(l->state, LINK_TLS);
    assert_in_range(l->timer.at_ns, rig.l->now_ns + 1,
                    rig.l->now_ns + rig.config.outbound.connect_timeout_ns);
    rig_settle();
    assert_false(peer_has(client, "504 "));
    timer_arm(rig.l, &l->timer, rig.l->now_ns);
    task_wake(rig.l, &l->task); /* as when a byte came, and not enough of them */
    rig_turn();
    assert_true(list_is_empty(&the_upstream()->other));
    RIG_UNTIL(peer_has(client, "504 "));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(an_idle_connection_is_closed),
        TEST(a_pool_is_bounded),
        TEST(an_old_connection_ends_after_its_request),
        TEST(an_old_link_has_a_successor),
        TEST(an_old_link_without_a_successor_serves_on),
        TEST(an_unused_link_is_closed),
        TEST(a_dial_that_hangs_is_given_up),
        TEST(a_dial_that_has_succeeded_is_not_overdue),
        TEST(a_dial_that_is_overdue_has_time_for_tls_once),
    };

    return rig_run(tests, argc, argv);
}
