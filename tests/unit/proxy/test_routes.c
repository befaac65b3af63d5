/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an outbound route asks for beside retries and timeouts: filters, what requests may say for
 * themselves, and the figures of routes (wire 5.5, 6.3, 7.2).
 */
#include "route_rig.h"

/* --- filters ---------------------------------------------------------------------------------- */

#define EDIT(n, v)                                                                                 \
    {                                                                                              \
        .name = {n, sizeof(n) - 1}, .value = { v, sizeof(v) - 1 }                                  \
    }

static void headers_are_edited_both_ways(void **state)
{
    static struct header_edit up = EDIT("x-up", "1"), near = EDIT("x-near", "1"),
                              down = EDIT("x-down", "route"), below = EDIT("x-down", "backend");
    static struct bytes gone = {"x-gone", 6}, cookie = {"set-cookie", 10};
    struct filter on_route[] = {
        {.kind = FILTER_REQUEST_HEADERS,
         .set = &up,
         .set_count = 1,
         .remove = &gone,
         .remove_count = 1},
        {.kind = FILTER_RESPONSE_HEADERS,
         .add = &down,
         .add_count = 1,
         .remove = &cookie,
         .remove_count = 1},
    };
    struct filter on_backend[] = {
        {.kind = FILTER_REQUEST_HEADERS, .add = &near, .add_count = 1},
        {.kind = FILTER_RESPONSE_HEADERS, .set = &below, .set_count = 1},
    };
    struct peer *client, *server = NULL;

    (void)state;
    retry_on_server_errors(1);
    rule->filters = on_route;
    rule->filters_count = ARRAY_LEN(on_route);
    rule->backends[0].filters = on_backend;
    rule->backends[0].filters_count = ARRAY_LEN(on_backend);
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, "GET /a HTTP/1.1\r\nHost: web\r\nConnection: x-up\r\nX-Gone: 1\r\n\r\n");
    for (unsigned i = 0; i < 2; i++) { /* once for each attempt, and not twice */
        char *found;

        server = expect(server, "\r\n\r\n");
        found = strstr(server->in.at, "x-near: 1");
        assert_non_null(found);
        assert_null(strstr(found + 1, "x-near"));
        assert_true(peer_has(server, "x-up: 1"));
        assert_false(peer_has(server, "x-gone"));
        answer(server, i == 0 ? BUSY
                              : "HTTP/1.1 200 OK\r\nset-cookie: a\r\nx-down: app\r\n"
                                "content-length: 0\r\n\r\n");
    }
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    assert_true(peer_has(client, "x-down: backend\r\n"));
    assert_true(peer_has(client, "x-down: route\r\n"));
    assert_false(peer_has(client, "x-down: app"));
    assert_false(peer_has(client, "set-cookie"));
    peer_close(client);
    rig_settle();
}

static void filters_answer(void **state)
{
    struct filter filters[] = {
        {.kind = FILTER_FAIL, .status = 418, .message = {"no", 2}, .denominator = 1},
        {.kind = FILTER_REDIRECT, .status = 307, .scheme = {"https", 5}},
    };
    struct peer *client;

    (void)state;
    rule->filters = filters;
    rule->filters_count = 2;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, "GET /a?b HTTP/1.1\r\nHost: web:8080\r\n\r\n");
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    assert_true(peer_has(client, "307 "));
    assert_true(peer_has(client, "location: https://web/a?b\r\n"));
    assert_true(peer_has(client, "content-length: 0\r\n"));
    text_reset(&client->in);
    filters[0].numerator = 1;
    peer_send(client, GET);
    RIG_UNTIL(peer_has(client, "418 "));
    rig_settle();
    assert_int_equal(route_statuses("http_status=\"307\",error=\"\"", NULL), 1);
    assert_int_equal(route_statuses("http_status=\"418\",error=\"\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_route_request_duration_seconds_count", NULL, NULL), 2);
    assert_true(app_has_nobody(&app));
    peer_close(client);
    rig_settle();
}

/* --- l5d-* ------------------------------------------------------------------------------------ */

static void requests_govern_themselves_where_they_may(void **state)
{
    static const char request[] = "POST /a HTTP/1.1\r\nHost: web\r\nl5d-retry-http: 503\r\n"
                                  "l5d-retry-limit: 2\r\nl5d-timeout: 20s\r\n"
                                  "Content-Length: 5\r\n\r\nhello";
    struct peer *client, *server = NULL;

    (void)state;
    rule->allow_request_headers = true;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, request);
    for (unsigned i = 0; i < 3; i++) {
        server = expect(server, "hello");
        assert_false(peer_has(server, "l5d-"));
        answer(server, BUSY);
    }
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503"));
    rig_settle();
    assert_retries(2, 0, 0, 1);
}

static void requests_do_not_where_they_may_not(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    know();
    client = peer_dial(OUTBOUND);
    peer_send(client, "GET /a HTTP/1.1\r\nHost: web\r\nl5d-retry-http: 503\r\n"
                      "l5d-response-timeout: 1ms\r\n\r\n");
    server = expect(server, "\r\n\r\n");
    assert_false(peer_has(server, "l5d-"));
    answer(server, BUSY);
    RIG_UNTIL(peer_has(client, "HTTP/1.1 503"));
    rig_settle();
    assert_retries(0, 0, 0, 0);
}

/* --- figures ---------------------------------------------------------------------------------- */

static void without_a_policy_it_is_the_endpoint(void **state)
{
    struct peer *client, *server;

    (void)state;
    rig.target[OUTBOUND] = app.at;
    rig_know_target(&app.at, outbound_policy_new_fallback());
    client = peer_dial(OUTBOUND);
    peer_send(client, POST);
    server = expect(NULL, "hello");
    answer(server, OK);
    RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    rig_settle();
    assert_int_equal(rig_sum("outbound_http_route_backend_response_statuses_total",
                             "parent_group=\"\",parent_kind=\"default\",parent_namespace=\"\","
                             "parent_name=\"endpoint\",parent_port=\"\",parent_section_name=\"\","
                             "route_group=\"\",route_kind=\"default\",route_namespace=\"\","
                             "route_name=\"endpoint\",backend_group=\"\",backend_kind=\"default\","
                             "backend_namespace=\"\",backend_name=\"endpoint\",backend_port=\"\","
                             "backend_section_name=\"\",http_status=\"200\",error=\"\"",
                             NULL),
                     1);
    assert_int_equal(rig_sum("outbound_http_route_request_frame_size_bytes_count", NULL, NULL), 1);
    assert_int_equal(rig_sum("outbound_http_route_request_frame_size_bytes_sum", NULL, NULL), 5);
    assert_int_equal(
        rig_sum("outbound_http_route_backend_response_frame_size_bytes_sum", NULL, NULL), 2);
    rig_check_labels();
}

/* Wire 2.1: the hostname label is filled where the configuration says so. */
static void hosts_are_told_apart_when_asked(void **state)
{
    struct peer *client, *server = NULL;

    (void)state;
    rig.config.hostname_labels = true;
    know();
    client = peer_dial(OUTBOUND);
    for (unsigned i = 0; i < 3; i++) {
        text_reset(&client->in);
        peer_send(client, i == 1 ? "GET / HTTP/1.1\r\nHost: b:80\r\n\r\n"
                                 : "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        server = expect(server, "GET /");
        answer(server, OK);
        RIG_UNTIL(peer_has(client, "\r\n\r\nok"));
    }
    rig_settle();
    assert_int_equal(route_statuses("hostname=\"a\"", "http_status=\"200\""), 2);
    assert_int_equal(route_statuses("hostname=\"b\"", "http_status=\"200\""), 1);
    rig_check_labels();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ROUTE_TEST(headers_are_edited_both_ways),
        ROUTE_TEST(filters_answer),
        ROUTE_TEST(requests_govern_themselves_where_they_may),
        ROUTE_TEST(requests_do_not_where_they_may_not),
        ROUTE_TEST(without_a_policy_it_is_the_endpoint),
        ROUTE_TEST(hosts_are_told_apart_when_asked),
    };

    return rig_run(tests, argc, argv);
}
