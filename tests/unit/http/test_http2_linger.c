/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a server that has said its last answer waits for a client to take it. Clients are spoken by hand,
 * and the clock is the test's.
 */
#include "tests/unit/clock_probe.h"
#include "tests/unit/http/h2_raw.h"
#include "tests/unit/http/slow_layer.h"

#define BODY  60000 /* within the window that every client has from the start */
#define PARTS 20    /* a local socket tells that something was taken when all of a write was */

static void later(struct probe *p, uint64_t ns)
{
    time_passes(ns);
    probe_settle(p);
}

static struct probe *slow_server(void)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    int fds[2];

    probe_sockets(fds);
    p->raw_fd = fds[0];
    p->server = http2_server_new(slow_open(probe_io(p, fds[1])), NULL, NULL, &probe_server_events, p);
    return p;
}

/* A server that drains has answered, and nothing is left to say. */
static void say_all(struct probe *p)
{
    struct user *u;

    raw_write(p, PREFACE, sizeof(PREFACE) - 1);
    raw_send(p, SETTINGS, 0, 0, "", 0);
    raw_send(p, HEADERS, END_STREAM | END_HEADERS, 1, GET_HEAD, sizeof(GET_HEAD) - 1);
    PROBE_UNTIL(p, p->accepted_count == 1);
    http_server_drain(p->server);
    u = p->accepted[0];
    user_answer(u, 200, false);
    for (unsigned i = 0; i < PARTS; i++) {
        u->to_send = BODY / PARTS;
        u->end_after = i == PARTS - 1;
        user_pump(u);
        probe_settle(p);
    }
    assert_int_equal(u->sent, BODY);
    user_close(u, RESET_NONE);
    probe_settle(p);
    later(p, NS_PER_S + NS_PER_MS); /* to the second GOAWAY */
}

/* So many bytes of what was sent, at most. */
static size_t take(struct probe *p, size_t most)
{
    char block[4096];
    size_t taken = 0;
    ssize_t n = 1;

    while (taken < most && n > 0) {
        n = read(p->raw_fd, block, MIN(sizeof(block), most - taken));
        taken += n > 0 ? (size_t)n : 0;
    }
    return taken;
}

static void take_all(struct probe *p, size_t taken)
{
    char more;

    taken += take(p, BODY * 2);
    assert_true(taken > BODY);
    assert_int_equal(read(p->raw_fd, &more, 1), 0); /* and its end */
}

static void what_a_layer_holds_is_not_cut(void **state UNUSED)
{
    struct probe *p = slow_server();

    say_all(p);
    for (unsigned i = 0; i < 10; i++) {
        later(p, 3 * NS_PER_S);
    }
    assert_false(p->server_closed);
    slow_is_behind = false;
    task_wake(&p->loop, slow.owner); /* as such a layer does */
    probe_settle(p);
    take_all(p, 0);
    assert_false(p->server_closed); /* from now on it lingers */
    later(p, NS_PER_S + NS_PER_MS);
    assert_true(p->server_closed);
    probe_free(p);
}

static void what_a_layer_holds_is_not_cut_for_a_client_that_has_finished(void **state UNUSED)
{
    struct probe *p = slow_server();

    say_all(p);
    (void)shutdown(p->raw_fd, SHUT_WR);
    later(p, 3 * NS_PER_S);
    assert_false(p->server_closed);
    slow_is_behind = false;
    task_wake(&p->loop, slow.owner);
    probe_settle(p);
    assert_true(p->server_closed);
    take_all(p, 0);
    probe_free(p);
}

static void a_layer_that_is_stuck_is_not_waited_for_for_ever(void **state UNUSED)
{
    struct probe *p = slow_server();

    say_all(p);
    for (unsigned i = 0; i < 20; i++) {
        later(p, 3 * NS_PER_S);
    }
    assert_true(p->server_closed);
    probe_free(p);
}

/* Its window updates, to a socket that is closed, would be answered with a reset. */
static void a_client_that_reads_slowly_gets_it_all(void **state UNUSED)
{
    struct probe *p = raw_server(NULL);
    size_t taken = 0;

    say_all(p);
    for (unsigned i = 0; i < 9; i++) {
        taken += take(p, 2 * BODY / PARTS);
        raw_send(p, WINDOW_UPDATE, 0, 0, "\0\0\x17\x70", 4);
        later(p, 5 * NS_PER_S + NS_PER_MS);
        assert_false(p->server_closed);
    }
    take_all(p, taken);
    later(p, 5 * NS_PER_S + NS_PER_MS);
    assert_true(p->server_closed);
    assert_int_equal(p->server_err, 0);
    probe_free(p);
}

static void a_client_that_does_not_read_is_not_waited_for(void **state UNUSED)
{
    struct probe *p = raw_server(NULL);

    say_all(p);
    later(p, NS_PER_S + NS_PER_MS);
    assert_false(p->server_closed);
    later(p, 5 * NS_PER_S + NS_PER_MS);
    assert_true(p->server_closed);
    probe_free(p);
}

/* But a minute. */
static void no_client_is_waited_for_for_ever(void **state UNUSED)
{
    struct probe *p = raw_server(NULL);
    unsigned steps = 0;

    say_all(p);
    for (; !p->server_closed && steps < PARTS; steps++) {
        (void)take(p, BODY / PARTS);
        later(p, 5 * NS_PER_S + NS_PER_MS);
    }
    assert_in_range(steps, 12, 14);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_layer_holds_is_not_cut),
        cmocka_unit_test(what_a_layer_holds_is_not_cut_for_a_client_that_has_finished),
        cmocka_unit_test(a_layer_that_is_stuck_is_not_waited_for_for_ever),
        cmocka_unit_test(a_client_that_reads_slowly_gets_it_all),
        cmocka_unit_test(a_client_that_does_not_read_is_not_waited_for),
        cmocka_unit_test(no_client_is_waited_for_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
