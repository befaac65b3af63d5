/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rand.h"
#include "tests/unit/http/h2_probe.h"

/* --- the connection's end ------------------------------------------------------------------------ */

static void draining_lets_what_runs_finish(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u = probe_open(p, &h, false), *a;

    PROBE_UNTIL(p, p->accepted_count == 1);
    a = p->accepted[0];
    a->auto_credit = true;
    stream_credit(a->s, 65536);
    http_server_drain(p->server);
    http_server_drain(p->server); /* once is enough */
    PROBE_UNTIL(p, p->client_closed);
    assert_int_equal(p->client_err, E_GOAWAY);
    assert_int_equal(u->why, RESET_NONE);
    assert_false(p->server_closed);
    u->to_send = 300000;
    u->end_after = true;
    user_pump(u);
    PROBE_UNTIL(p, a->ended);
    user_answer(a, 200, true);
    user_close(a, RESET_NONE);
    PROBE_UNTIL(p, u->head != NULL && u->sent == 300000);
    assert_int_equal(u->head->status, 200);
    user_close(u, RESET_NONE);
    PROBE_UNTIL(p, p->server_closed);
    assert_int_equal(p->server_err, 0);
    probe_free(p);
}

static void an_idle_server_drains_at_once(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);

    probe_settle(p);
    http_server_drain(p->server);
    PROBE_UNTIL(p, p->server_closed && p->client_closed);
    assert_int_equal(p->server_err, 0);
    probe_free(p);
}

static void closing_resets_every_stream(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u[3];

    for (unsigned i = 0; i < 3; i++) {
        u[i] = probe_open(p, &h, false);
    }
    PROBE_UNTIL(p, p->accepted_count == 3);
    user_answer(p->accepted[2], 200,
                true); /* complete for the client's user, but for its request */
    PROBE_UNTIL(p, u[2]->head != NULL);
    http_server_close(p->server, E_OVERLOAD);
    assert_int_equal(p->accepted[0]->why, RESET_NONE); /* events come from tasks */
    PROBE_UNTIL(p, p->accepted[0]->why != RESET_NONE && p->client_closed);
    assert_int_equal(p->accepted[0]->why, RESET_CONNECTION);
    assert_int_equal(p->accepted[0]->err, E_OVERLOAD);
    assert_false(p->server_closed); /* not before its streams are */
    for (unsigned i = 0; i < 3; i++) {
        user_close(p->accepted[i], RESET_NONE);
    }
    PROBE_UNTIL(p, p->server_closed);
    assert_int_equal(p->server_err, E_OVERLOAD);
    assert_int_equal(u[0]->why, RESET_CONNECTION);
    assert_int_equal(u[2]->why, RESET_NONE);
    probe_free(p);
}

/* All that are complete, though they are more than is written at once otherwise. */
static void closing_says_every_answer(void **state UNUSED)
{
    static const char kib[1025] = {[0 ... 1023] = 'x'};
    struct probe *p = probe_pair(NULL, NULL);
    struct head h = probe_request("POST", "/");
    struct user *u[100];

    for (unsigned i = 0; i < ARRAY_LEN(u); i++) {
        u[i] = probe_open(p, &h, i % 2 == 0); /* some are still sending */
        stream_credit(u[i]->s, 2048);
    }
    PROBE_UNTIL(p, p->accepted_count == ARRAY_LEN(u));
    for (unsigned i = 0; i < ARRAY_LEN(u); i++) {
        user_answer(p->accepted[i], 503, false);
        user_send(p->accepted[i], kib);
        stream_send_end(p->accepted[i]->s, NULL);
        user_close(p->accepted[i], RESET_NONE);
    }
    http_server_close(p->server, E_CANCELED);
    PROBE_UNTIL(p, p->server_closed && p->client_closed);
    probe_settle(p);
    for (unsigned i = 0; i < ARRAY_LEN(u); i++) {
        assert_true(u[i]->ended && u[i]->received == sizeof(kib) - 1);
        assert_int_equal(u[i]->head->status, 503);
    }
    probe_free(p);
}

static void a_client_that_goes_away(void **state UNUSED)
{
    struct probe *p = probe_pair(NULL, NULL);
    struct user *u = probe_get(p, "/");

    PROBE_UNTIL(p, p->accepted_count == 1);
    http_client_close(p->client, E_CANCELED);
    p->client = NULL;
    PROBE_UNTIL(p, u->why == RESET_CONNECTION && p->accepted[0]->why != RESET_NONE);
    assert_int_equal(u->err, E_CANCELED);
    assert_int_equal(p->accepted[0]->why, RESET_CONNECTION);
    user_close(p->accepted[0], RESET_NONE);
    PROBE_UNTIL(p, p->server_closed);
    assert_false(p->client_closed);
    probe_free(p);
}

static void capacity_is_the_peers_word(void **state UNUSED)
{
    const struct http_limits two = {.streams_max = 2};
    struct probe *p = probe_pair(&two, NULL);
    struct head h = probe_request("GET", "/");
    struct stream *s;

    PROBE_UNTIL(p, http_client_capacity(p->client) == 2);
    (void)probe_get(p, "/1");
    (void)probe_get(p, "/2");
    assert_int_equal(http_client_capacity(p->client), 0);
    assert_int_equal(http_client_streams(p->client), 2);
    assert_int_equal(http_client_open(p->client, &h, true, &user_events, NULL, &s), E_LIMIT);
    PROBE_UNTIL(p, p->accepted_count == 2);
    user_answer(p->accepted[0], 200, true);
    user_close(p->accepted[0], RESET_NONE);
    PROBE_UNTIL(p, p->capacity_count == 1);
    assert_int_equal(http_client_capacity(p->client), 1);
    (void)probe_get(p, "/3");
    PROBE_UNTIL(p, p->accepted_count == 3);
    probe_free(p);
}

static void keepalive_notices_a_dead_peer(void **state UNUSED)
{
    const struct http_limits pings = {.ping_interval_ns = 5 * NS_PER_MS,
                                      .ping_timeout_ns = 5 * NS_PER_MS};
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    struct user *u;
    int fds[2];

    probe_sockets(fds);
    p->raw_fd = fds[0]; /* never answers */
    p->client = http2_client_new(probe_io(p, fds[1]), &pings, &probe_client_events, p);
    u = probe_get(p, "/");
    PROBE_UNTIL(p, p->client_closed);
    assert_int_equal(p->client_err, E_TIMEOUT);
    PROBE_UNTIL(p, u->why == RESET_CONNECTION);
    assert_int_equal(u->err, E_TIMEOUT);
    probe_free(p);
}

static void keepalive_keeps_a_live_peer(void **state UNUSED)
{
    const struct http_limits pings = {
        .ping_interval_ns = NS_PER_MS, .ping_timeout_ns = 60 * NS_PER_S, .ping_while_idle = true};
    struct probe *p = probe_pair(NULL, &pings);
    uint64_t before = http_client_io(p->client)->bytes_in;

    /* Each PING and its answer have 17 bytes. */
    PROBE_UNTIL(p, http_client_io(p->client)->bytes_in > before + 100 + 10 * 17);
    assert_false(p->client_closed);
    probe_free(p);
}

static void an_idle_connection_is_ended(void **state UNUSED)
{
    const struct http_limits idle = {.idle_timeout_ns = 5 * NS_PER_MS};
    struct probe *p = probe_pair(&idle, NULL);
    struct user *u = probe_get(p, "/");

    PROBE_UNTIL(p, p->accepted_count == 1);
    for (uint64_t until = clock_mono_ns() + 20 * NS_PER_MS; clock_mono_ns() < until;) {
        (void)loop_turn(&p->loop, 5);
    }
    assert_false(p->server_closed || p->client_closed); /* a stream is open */
    user_answer(p->accepted[0], 200, true);
    user_close(p->accepted[0], RESET_NONE);
    PROBE_UNTIL(p, u->head != NULL);
    user_close(u, RESET_NONE);
    PROBE_UNTIL(p, p->server_closed && p->client_closed);
    assert_int_equal(p->server_err, 0);
    probe_free(p);
}

/* --- any order of calls -------------------------------------------------------------------------- */

static struct rand chaos_rand;

static void chaos_event(struct user *u, char event)
{
    uint64_t dice = rand_below(&chaos_rand, 16);

    if (u->s == NULL) {
        return;
    }
    if (dice == 0 || event == 'X') {
        user_close(u, dice % 2 == 0 ? RESET_CANCEL : RESET_REFUSED);
        return;
    }
    if (u->is_accepted && !u->s->sent_head && dice < 8) {
        user_answer(u, 200, false);
        u->to_send = rand_below(&chaos_rand, 4) * 50000;
        u->end_after = dice % 2 == 0;
        user_pump(u);
    }
    if (u->s->credit < 100000) {
        stream_credit(u->s, 1 + rand_below(&chaos_rand, 60000));
    }
    if (u->s->got_end && u->s->sent_end) {
        user_close(u, RESET_NONE);
    } else if (dice == 1 && u->s->sent_head && !u->s->sent_end) {
        u->to_send = 0;
        stream_send_end(u->s, NULL);
    } else if (dice == 2 && u->probe->client != NULL && u->probe->dialed_count < 2000 &&
               http_client_capacity(u->probe->client) > 0) {
        (void)probe_get(u->probe, "/from/an/event");
    }
}

/* Whatever users do inside their events, nothing breaks, nothing leaks, and the books balance. */
static void events_may_do_anything(void **state UNUSED)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct probe *p = probe_pair(NULL, NULL);
        struct head h = probe_request("POST", "/");

        rand_seed(&chaos_rand, seed);
        p->on_accepted_event = chaos_event;
        for (unsigned i = 0; i < 60; i++) {
            struct user *u;

            if (p->client == NULL || http_client_capacity(p->client) == 0) {
                break;
            }
            u = probe_open(p, &h, false);
            u->on_event = chaos_event;
            u->to_send = rand_below(&chaos_rand, 5) * 40000;
            u->end_after = true;
            stream_credit(u->s, rand_below(&chaos_rand, 30000));
            user_pump(u);
            if (i % 7 == 3) {
                probe_turn(p);
            }
            if (seed % 4 == 0 && i == 50) {
                http_server_drain(p->server);
            }
        }
        probe_settle(p);
        probe_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draining_lets_what_runs_finish),
        cmocka_unit_test(an_idle_server_drains_at_once),
        cmocka_unit_test(closing_resets_every_stream),
        cmocka_unit_test(closing_says_every_answer),
        cmocka_unit_test(a_client_that_goes_away),
        cmocka_unit_test(capacity_is_the_peers_word),
        cmocka_unit_test(keepalive_notices_a_dead_peer),
        cmocka_unit_test(keepalive_keeps_a_live_peer),
        cmocka_unit_test(an_idle_connection_is_ended),
        cmocka_unit_test(events_may_do_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
