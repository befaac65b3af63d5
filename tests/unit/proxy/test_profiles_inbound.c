/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to an application whose services have profiles, on a whole worker (wire 3.2, 5.5, 7.2). */
#include "profile_rig.h"

#define NAMED "GET /a HTTP/1.1\r\nHost: web\r\nl5d-dst-canonical: " DST "\r\n\r\n"

static size_t names_in_use(void)
{
    return map_count(&rig.w.profile_names) - rig.w.profile_names_parked.count;
}

static void know_name(struct bytes parts)
{
    rig_know(QUESTION_PROFILE, BYTES(DST), &profile(parts)->ref);
}

/* Who knows of a profile waits until we do. */
static void a_canonical_name_is_waited_for(void **state)
{
    struct peer *client, *server;

    (void)state;
    client = peer_dial(INBOUND);
    peer_send(client, NAMED);
    rig_settle();
    assert_true(app_has_nobody(&app));
    know_name(ROUTE("r"));
    server = expect(NULL, "\r\n\r\n");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    rig_settle();
    assert_int_equal(routes("route_request_total", "direction=\"inbound\",dst=\"" DST "\""), 1);
    assert_int_equal(routes("route_response_total", "classification=\"success\""), 1);
    assert_int_equal(rig_sum("route_actual_request_total", NULL, NULL), 0);
}

static void nobody_waits_for_long_nor_twice(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig.config.profile_timeout_ns = 30 * NS_PER_MS;
    client = peer_dial(INBOUND);
    peer_send(client, NAMED);
    server = expect(NULL, "\r\n\r\n");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    rig.config.profile_timeout_ns = 3600 * NS_PER_S;
    text_reset(&client->in);
    peer_send(client, NAMED);
    server = expect(server, "\r\n\r\n");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    assert_int_equal(rig_sum("route_request_total", NULL, NULL), 0);
}

static void who_waits_may_give_up(void **state)
{
    struct peer *client;

    (void)state;
    client = peer_dial(INBOUND);
    peer_send(client, NAMED);
    RIG_UNTIL(rig.w.in_flight[INBOUND] == 1);
    peer_abort(client);
    RIG_UNTIL(rig.w.in_flight[INBOUND] == 0);
    know_name(ROUTE("r"));
    rig_settle();
    assert_true(app_has_nobody(&app));
    assert_int_equal(names_in_use(), 0);
}

/* Without the canonical name it is the authority's; nobody waits for that. */
static void an_authority_is_as_good_a_name(void **state)
{
    static const char *const requests[] = {
        "GET /a HTTP/1.1\r\nHost: " NAME "\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: " DST "\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: WEB.app.svc.cluster.local:80\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: " NAME ":81\r\n\r\n",
    };
    static const long counted[] = {0, 1, 2, 2, 2};
    struct peer *client, *server = NULL;

    (void)state;
    client = peer_dial(INBOUND);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        text_reset(&client->in);
        peer_send(client, requests[i]);
        server = expect(server, "\r\n\r\n");
        answer(server, OK);
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
        rig_settle();
        assert_int_equal(routes("route_request_total", NULL), counted[i]);
        if (i == 0) {
            know_name(ROUTE("r"));
        }
    }
    assert_int_equal(names_in_use(), 1); /* the last one's */
}

static struct peer *strange(unsigned i)
{
    struct peer *client = peer_dial(INBOUND);
    char request[256];

    (void)snprintf(request, sizeof(request),
                   "GET /a HTTP/1.1\r\nHost: x%u.app.svc.cluster.local\r\n\r\n", i);
    peer_send(client, request);
    return client;
}

static void strangers_names_are_bounded(void **state)
{
    struct peer *clients[101];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = strange(i);
    }
    RIG_UNTIL(rig.w.in_flight[INBOUND] == ARRAY_LEN(clients));
    assert_int_equal(map_count(&rig.w.profile_names), ARRAY_LEN(clients));
    assert_int_equal(rig.w.profile_names_asked, 100);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        peer_abort(clients[i]);
    }
    RIG_UNTIL(rig.w.conns_count == 0);
    assert_int_equal(names_in_use(), 0);
    RIG_UNTIL(map_count(&rig.w.profile_names) == 0); /* what is nobody's goes soon */
    assert_int_equal(rig.w.profile_names_asked, 0);
}

/* What is kept for nobody in particular stands in nobody's way. */
static void names_that_are_kept_give_way(void **state)
{
    struct peer *clients[100];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = strange(i);
    }
    RIG_UNTIL(rig.w.in_flight[INBOUND] == ARRAY_LEN(clients));
    for (unsigned i = 0; i < 10; i++) {
        peer_abort(clients[i]);
    }
    RIG_UNTIL(rig.w.in_flight[INBOUND] == ARRAY_LEN(clients) - 10);
    for (unsigned i = 0; i < 10; i++) {
        (void)strange(100 + i);
    }
    RIG_UNTIL(rig.w.in_flight[INBOUND] == ARRAY_LEN(clients));
    assert_int_equal(names_in_use(), 100);
    assert_int_equal(rig.w.profile_names_asked, 100); /* all of those that are in use */
    assert_int_equal(rig.w.profile_names_parked.count, 0);
}

static void a_changed_profile_is_followed(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    client = peer_dial(INBOUND);
    for (unsigned i = 0; i < 3; i++) {
        know_name(i < 2 ? ROUTE(i == 0 ? "r" : "s") : BUDGET(0.2f, 10, 10000));
        text_reset(&client->in);
        peer_send(client, NAMED);
        server = expect(server, "\r\n\r\n");
        answer(server, OK);
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    }
    rig_settle();
    assert_int_equal(rig_sum("route_request_total", NULL, NULL), 2);
    assert_int_equal(routes("route_request_total", NULL), 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PROFILE_TEST(a_canonical_name_is_waited_for),
        PROFILE_TEST(nobody_waits_for_long_nor_twice),
        PROFILE_TEST(who_waits_may_give_up),
        PROFILE_TEST(an_authority_is_as_good_a_name),
        PROFILE_TEST(strangers_names_are_bounded),
        PROFILE_TEST(names_that_are_kept_give_way),
        PROFILE_TEST(a_changed_profile_is_followed),
    };

    return rig_run(tests, argc, argv);
}
