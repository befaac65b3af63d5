/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that name their destination themselves, in ingress mode (wire 5.6).
 */
#include "route_rig.h"

#define TO(name) "GET /a HTTP/1.1\r\nHost: edge\r\nl5d-dst-override: " name "\r\n\r\n"

static void a_request_names_its_destination(void **state)
{
    struct endpoint *at = endpoint_at(&app.at, "dst_pod=\"shop-1\"");
    struct app elsewhere;
    struct peer *client, *server;

    (void)state;
    rig.config.ingress_mode = true;
    app_open(&elsewhere);
    rig_know(QUESTION_NAME, BYTES("shop.app:80"),
             &policy_to(PROTOCOL_DETECT, endpoint_at(&elsewhere.at, NULL), NULL)->ref);
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, TO("Shop.app."));
    server = app_accept(&elsewhere);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    assert_false(peer_has(server, "l5d-"));
    assert_true(peer_has(server, "Host: edge") || peer_has(server, "host: edge"));
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    /* One that is not known to the policies is looked up as it is. */
    text_reset(&client->in);
    rig_know(QUESTION_NAME, BYTES("plain.example:81"), &outbound_policy_new_fallback()->ref);
    rig_know_endpoints("plain.example:81", &at, 1);
    peer_send(client, TO("plain.example:81"));
    server = expect(NULL, "GET /a");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    /* Without a name it is the connection's destination. */
    text_reset(&client->in);
    peer_send(client, GET);
    server = expect(NULL, "GET /a");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    app_close(&elsewhere);
    rig_check_labels();
}

static void malformed_names_are_refused(void **state)
{
    static const char *const requests[] = {TO(""),         TO(":80"),      TO("a b"),
                                           TO("shop:0"),   TO("shop:x"),   TO("shop:65536"),
                                           TO("10.1.2.3"), TO("[::1]:80"), TO("shop:80:90")};

    (void)state;
    rig.config.ingress_mode = true;
    know();
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct peer *client = peer_dial(OUTBOUND);

        peer_send(client, requests[i]);
        RIG_UNTIL(peer_has(client, "400 Bad Request"));
        peer_close(client);
    }
    rig_settle();
    assert_true(app_has_nobody(&app));
}

/* The client goes while its name is not known yet; and without the mode a name is just a field. */
static void names_that_are_waited_for(void **state)
{
    struct peer *client, *server;

    (void)state;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, TO("shop.app"));
    server = expect(NULL, "l5d-dst-override: shop.app");
    peer_close(client);
    peer_close(server);
    rig_settle();
    rig.config.ingress_mode = true;
    client = peer_dial(OUTBOUND);
    peer_send(client, TO("shop.app"));
    rig_settle();
    assert_int_equal(rig.w.in_flight[OUTBOUND], 1);
    peer_abort(client);
    RIG_UNTIL(rig.w.in_flight[OUTBOUND] == 0);
    client = peer_dial(OUTBOUND);
    peer_send(client, TO("shop.app"));
    rig_settle();
    rig_know(QUESTION_NAME, BYTES("shop.app:80"),
             &policy_to(PROTOCOL_DETECT, endpoint_at(&app.at, NULL), NULL)->ref);
    server = expect(NULL, "GET /a");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ROUTE_TEST(a_request_names_its_destination),
        ROUTE_TEST(malformed_names_are_refused),
        ROUTE_TEST(names_that_are_waited_for),
    };

    return rig_run(tests, argc, argv);
}
