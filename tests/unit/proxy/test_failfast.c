/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for an endpoint: for how long and how many may, and when the gate shuts and opens (wire 6.1).
 */
#include "balance_rig.h"

static void availability_follows_the_gate(void **state)
{
    struct peer *client = peer_dial(OUTBOUND);

    (void)state;
    rig.config.outbound.failfast_ns = 50 * NS_PER_MS;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    hosts(OK, OK);
    peer_send(client, GET);
    RIG_UNTIL(map_count(&rig.w.dests) == 1);
    assert_true(dest_is_available(the_dest())); /* as long as nothing is known */
    know_endpoints(false, false);
    assert_true(dest_is_available(the_dest())); /* as long as who comes may wait */
    RIG_UNTIL(peer_has(client, "504 "));
    assert_false(dest_is_available(the_dest()));
    assert_int_equal(rig_sum("outbound_http_balancer_queue_gate_shut_total", NULL, NULL), 1);
    assert_int_equal(rig_sum("outbound_http_balancer_queue_gate_open_total", NULL, NULL), 1);
    assert_true(rig_sum("outbound_http_balancer_queue_gate_open_time_seconds", NULL, NULL) == 0);
    assert_true(rig_sum("outbound_http_balancer_queue_gate_shut_time_seconds", NULL, NULL) >
                1700000000);
    know_endpoints(true, false);
    assert_true(dest_is_available(the_dest()));
    assert_int_equal(rig_sum("outbound_http_balancer_queue_gate_open_total", NULL, NULL), 2);
    rig_check_labels();
}

/* All endpoints are out, for good: the gate shuts; when one may be probed, who comes is its probe,
 * and its success opens the gate. */
static void a_probe_opens_the_gate(void **state)
{
    struct peer *client = peer_dial(OUTBOUND), *waiting = peer_dial(OUTBOUND);

    (void)state;
    rig.config.outbound.failfast_ns = 20 * NS_PER_MS;
    (void)new_policy_accruing(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(true, false);
    hosts(BAD, NULL);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(client), 500);
    assert_int_equal(ask(waiting), 504);
    assert_true(the_dest()->is_failing);
    first.answer = OK;
    HOSTS_UNTIL(seat_at(&one)->accrual->state.state == ACCRUAL_PROBE);
    assert_true(the_dest()->is_failing && dest_is_available(the_dest()));
    assert_int_equal(ask(client), 200);
    assert_false(the_dest()->is_failing);
}

/* Wire 6.1: so many may wait; who comes beyond is shed, and those who wait are served in their
 * order. */
static void the_queue_is_bounded(void **state)
{
    struct peer *clients[4];

    (void)state;
    rig.config.outbound.queue_capacity = 3;
    (void)new_policy(PROTOCOL_HTTP1);
    know_policy();
    know_endpoints(false, false);
    hosts(OK, OK);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = peer_dial(OUTBOUND);
        peer_send(clients[i], GET);
        rig_settle();
    }
    RIG_UNTIL(peer_has(clients[3], "503 "));
    assert_int_equal(the_dest()->waiting_count, 3);
    assert_int_equal(rig_sum("outbound_http_errors_total", "error=\"loadshed\"", NULL), 1);
    peer_abort(clients[1]);
    RIG_UNTIL(the_dest()->waiting_count == 2);
    know_endpoints(true, false);
    HOSTS_UNTIL(peer_has(clients[0], "200 OK") && peer_has(clients[2], "200 OK"));
    assert_int_equal(the_dest()->waiting_count, 0);
    assert_int_equal(first.requests, 2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        BALANCE_TEST(availability_follows_the_gate),
        BALANCE_TEST(a_probe_opens_the_gate),
        BALANCE_TEST(the_queue_is_bounded),
    };

    return rig_run(tests, argc, argv);
}
