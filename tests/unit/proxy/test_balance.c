/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is picked of balanced endpoints: not who wants to be left alone, and connections by their number;
 * destinations of their own for parents; the figures of balancers; many endpoints, many destinations.
 */
#include "balance_rig.h"

/* Two parents do not share how they count the failures of one backend. */
static void parents_have_destinations_of_their_own(void **state)
{
    const struct meta a = {.kind = BYTES("Service"), .name = BYTES("a")};
    const struct meta b = {.kind = BYTES("Service"), .name = BYTES("b")};
    struct dest *of_a, *of_b, *of_tcp, *of_tls;

    (void)state;
    (void)new_policy(PROTOCOL_HTTP1);
    of_a = dest_hold(&rig.w, &policy->backends[0], &a, DEST_HTTP);
    of_b = dest_hold(&rig.w, &policy->backends[0], &b, DEST_HTTP);
    assert_ptr_not_equal(of_a, of_b);
    assert_ptr_equal(dest_hold(&rig.w, &policy->backends[0], &a, DEST_HTTP), of_a);
    of_tcp = dest_hold(&rig.w, &policy->backends[0], &a, DEST_TCP);
    assert_ptr_not_equal(of_tcp, of_a);
    of_tls = dest_hold(&rig.w, &policy->backends[0], &a, DEST_TLS);
    assert_ptr_not_equal(of_tls, of_tcp);
    know_policy();
    dest_release(of_a);
    dest_release(of_a);
    dest_release(of_b);
    dest_release(of_tcp);
    dest_release(of_tls);
}

/* --- penalties -------------------------------------------------------------------------------- */

/* Wire 6.1: who says 503 and wants to be left alone for 20 s is not picked while there is another. */
static void who_is_busy_is_left_alone(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);
    struct backend *b = new_policy(PROTOCOL_HTTP1);

    (void)state;
    b->penalty_ns = 5 * NS_PER_S;
    b->penalty_decay_ns = 100 * NS_PER_S;
    b->penalty_max_retry_after_ns = 300 * NS_PER_S;
    know_policy();
    know_endpoints(true, true);
    hosts(BUSY, OK);
    for (unsigned i = 0; i < 10000 && first.requests == 0; i++) {
        (void)ask(client);
    }
    assert_int_equal(first.requests, 1);
    assert_true(seat_at(&one)->member->load.estimate_ns > 15e9);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(ask(client), 200);
    }
    assert_int_equal(first.requests, 1);
}

/* What one endpoint wants is not held against the one that the request is tried at next. */
static void a_wish_is_of_one_attempt(void **state)
{
    static struct status_range busy = {.start = 503, .end = 503};
    struct peer *client = peer_dial(OUTBOUND), *server;
    struct backend *b = new_policy(PROTOCOL_DETECT);

    (void)state;
    b->penalty_ns = 5 * NS_PER_S;
    b->penalty_decay_ns = 100 * NS_PER_S;
    b->penalty_max_retry_after_ns = 300 * NS_PER_S;
    policy->http1.at[0].rules[0].retry = (struct retry){
        .is_on = true, .max_retries = 1, .ranges = &busy, .ranges_count = 1,
        .backoff_min_ns = 50 * NS_PER_MS, .backoff_max_ns = 50 * NS_PER_MS};
    know_policy();
    know_endpoints(true, false);
    peer_send(client, GET);
    server = app_accept(&one);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_send(server, BUSY);
    RIG_UNTIL(seat_at(&one)->member->load.estimate_ns > 15e9);
    know_endpoints(false, true);
    server = app_accept(&two);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    peer_close(server);
    RIG_UNTIL(peer_has(client, "502 "));
    assert_true(seat_at(&two)->member->load.estimate_ns > 1e9);
    assert_true(seat_at(&two)->member->load.estimate_ns < 10e9);
}

/* Without a penalty a failure counts by its latency; the first byte of the body counts, and a
 * latency is told once. */
static void latency_is_that_of_the_first_byte(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *server;
    struct load *l;

    (void)state;
    new_policy(PROTOCOL_HTTP1)->default_rtt_ns = 1;
    know_policy();
    know_endpoints(true, false);
    peer_send(client, GET);
    server = app_accept(&one);
    RIG_UNTIL(peer_has(server, "\r\n\r\n"));
    l = &seat_at(&one)->member->load;
    peer_send(server, "HTTP/1.1 500 Bad\r\ncontent-length: 4\r\n\r\n");
    RIG_UNTIL(peer_has(client, "\r\n\r\n"));
    assert_true(l->estimate_ns <= 1);
    assert_int_equal(l->pending, 1);
    peer_send(server, "ab");
    RIG_UNTIL(peer_has(client, "\r\n\r\nab"));
    assert_true(l->estimate_ns > 1);
    l->estimate_ns = 1;
    peer_send(server, "cd");
    RIG_UNTIL(peer_has(client, "abcd"));
    assert_true(l->estimate_ns <= 1);
    assert_int_equal(l->pending, 0);
}

/* --- figures ---------------------------------------------------------------------------------- */

/* Wire 7.2, with the labels of parent and backend. */
static void a_balancer_has_its_figures(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, true);
    hosts(OK, OK);
    assert_int_equal(ask(client), 200);
    know_endpoints(true, false);
    know_endpoints(true, true);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_endpoints",
                             "parent_group=\"core\",parent_kind=\"Service\",parent_namespace="
                             "\"app\",parent_name=\"web\",parent_port=\"80\",parent_section_name="
                             "\"\"",
                             "backend_name=\"web\""),
                     2);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_updates_total", "op=\"Reset\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_updates_total", "op=\"Remove\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_updates_total", "op=\"Add\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_requests_total", NULL, NULL), 1);
    assert_int_equal(
        rig_sum("outbound_http_balancer_queue_latency_seconds_bucket", "le=\"0.0005\"", NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_gate_timeout_seconds", NULL, NULL), 3);
    rig_check_labels();
}

/* --- connections ------------------------------------------------------------------------------ */

/* Opaque connections go to who has fewer of them, and count until they end. */
static void connections_are_spread_by_their_number(void **state)
{
    struct peer *clients[20], *held[20];
    unsigned at_one = 0;

    (void)state;
    (void)new_policy(PROTOCOL_OPAQUE);
    know_policy();
    know_endpoints(true, true);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        int fd = -1, other = -1;

        clients[i] = peer_dial(OUTBOUND);
        peer_send(clients[i], "hello");
        RIG_UNTIL((fd = accept4(one.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0 ||
                  (other = accept4(two.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
        at_one += fd >= 0;
        held[i] = peer_new(MAX(fd, other));
        RIG_UNTIL(peer_has(held[i], "hello"));
    }
    assert_int_equal(at_one, 10);
    assert_int_equal(seat_at(&one)->member->load.pending, 10);
    assert_int_equal(rig_sum("outbound_tcp_balancer_queue_requests_total",
                             "logical=\"" PATH "\",concrete=\"" PATH "\"", NULL),
                     20);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        peer_close(clients[i]);
        peer_close(held[i]);
    }
    RIG_UNTIL(seat_at(&one)->member->load.pending == 0 && seat_at(&two)->member->load.pending == 0);
    rig_check_labels();
}

/* --- many ------------------------------------------------------------------------------------- */

#define CROWD 10000

static size_t lines_of_metrics(void)
{
    char *text = rig_metrics();
    size_t lines = 0;

    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    mem_free(text);
    return lines;
}

/* What an endpoint costs before it is picked is its place; series come with the first request. */
static void ten_thousand_endpoints(void **state)
{
    static struct endpoint *at[CROWD];
    struct peer *client = peer_dial(OUTBOUND);
    size_t lines;

    (void)state;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    hosts(OK, OK);
    know_endpoints(true, false);
    assert_int_equal(ask(client), 200);
    lines = lines_of_metrics();
    for (unsigned i = 0; i < CROWD; i++) {
        struct addr a = i == 0 ? one.at : addr_v4(0x0b000000 + i, 80);

        at[i] = endpoint_at(&a, "dst_pod=\"one\"");
    }
    rig_know_endpoints(PATH, at, CROWD);
    assert_int_equal(balancer_ready(the_dest()->balancer), CROWD);
    assert_int_equal(lines_of_metrics(), lines + 1); /* op="Add" */
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_endpoints", NULL, NULL), CROWD);
    know_endpoints(true, false);
    assert_int_equal(balancer_count(the_dest()->balancer), 1);
    assert_int_equal(ask(client), 200);
}

/* Destinations that nobody holds go, all of them, after their time and not before. */
static void two_thousand_destinations_are_forgotten(void **state)
{
    struct meta parent = {.kind = BYTES("Service"), .name = BYTES("x")};

    (void)state;
    rig.config.outbound.discovery_idle_ns = 30 * NS_PER_MS;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    for (unsigned i = 0; i < 2000; i++) {
        struct backend b = policy->backends[0];
        char path[64];

        (void)snprintf(path, sizeof(path), "s%u.app.svc.cluster.local:80", i);
        b.path = bytes_str(path);
        dest_release(dest_hold(&rig.w, &b, &parent, DEST_HTTP));
    }
    assert_int_equal(map_count(&rig.w.dests), 2000);
    RIG_UNTIL(map_count(&rig.w.dests) == 0);
    assert_int_equal(rig_sum("outbound_http_balancer_p2c_endpoints", NULL, NULL), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        BALANCE_TEST(parents_have_destinations_of_their_own),
        BALANCE_TEST(who_is_busy_is_left_alone),
        BALANCE_TEST(a_wish_is_of_one_attempt),
        BALANCE_TEST(latency_is_that_of_the_first_byte),
        BALANCE_TEST(a_balancer_has_its_figures),
        BALANCE_TEST(connections_are_spread_by_their_number),
        BALANCE_TEST(ten_thousand_endpoints),
        BALANCE_TEST(two_thousand_destinations_are_forgotten),
    };

    return rig_run(tests, argc, argv);
}
