/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far a client sends ahead of what its peer has read, as PINGs tell it. The peer is spoken by hand: it
 * reads when the test does, and the clock is the test's. So a late answer is one that the test gives late.
 */
#include "tests/unit/clock_probe.h"
#include "tests/unit/http/h2_raw.h"

#define RTT_NS   NS_PER_MS
#define DELAY_NS (200 * NS_PER_MS) /* http2_pace.h */
#define FIRST    128u
#define LEAST    16u
#define MOST     2048u

/* What the peer has read since it was asked last. */
struct seen {
    unsigned heads, pings;
    unsigned heads_before; /* the last PING */
    char mark[8];          /* of it */
};

static struct probe *paced(uint64_t rtt_ns)
{
    struct http_limits limits = {.rtt_ns = rtt_ns};
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    unsigned char preface[24];
    int fds[2];

    probe_sockets(fds);
    p->raw_fd = fds[0];
    p->client = http2_client_new(probe_io(p, fds[1]), &limits, &probe_client_events, p);
    assert_true(raw_read(p, preface, sizeof(preface)));
    raw_send(p, SETTINGS, 0, 0, "\0\x03\0\1\x86\xa0", 6); /* MAX_CONCURRENT_STREAMS 100,000 */
    probe_settle(p);
    return p;
}

static struct seen hear(struct probe *p)
{
    static struct frame f;
    struct seen seen = {0};
    char next;

    probe_settle(p);
    while (recv(p->raw_fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
        assert_true(raw_next(p, &f));
        seen.heads += f.type == HEADERS;
        if (f.type == PING && (f.flags & ACK) == 0) {
            seen.pings++;
            seen.heads_before = seen.heads;
            memcpy(seen.mark, f.payload, sizeof(seen.mark));
        }
    }
    return seen;
}

static void ask(struct probe *p, unsigned count)
{
    while (count-- > 0) {
        (void)probe_get(p, "/");
    }
}

static void answer(struct probe *p, const struct seen *seen)
{
    raw_send(p, PING, ACK, 0, seen->mark, sizeof(seen->mark));
    probe_settle(p);
}

static void later(struct probe *p, uint64_t ns)
{
    time_passes(ns);
    probe_settle(p);
}

static unsigned room(const struct probe *p)
{
    return http_client_capacity(p->client);
}

/* The PING behind what was asked is answered after so long. */
static void answer_after(struct probe *p, uint64_t ns)
{
    struct seen seen = hear(p);

    assert_int_equal(seen.pings, 1);
    time_passes(ns);
    answer(p, &seen);
}

static void round_trip(struct probe *p, unsigned count, uint64_t ns)
{
    ask(p, count);
    answer_after(p, ns);
}

static void close_all(struct probe *p)
{
    for (unsigned i = 0; i < p->dialed_count; i++) {
        if (p->dialed[i]->s != NULL) {
            user_close(p->dialed[i], RESET_CANCEL);
        }
    }
    (void)hear(p);
}

/* --- measuring ----------------------------------------------------------------------------------- */

static void few_streams_are_not_measured(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);
    struct seen seen;

    ask(p, 99);
    later(p, NS_PER_S);
    assert_int_equal(hear(p).pings, 0);
    ask(p, 1);
    seen = hear(p);
    assert_int_equal(seen.pings, 1);
    assert_int_equal(seen.heads_before, 1);
    ask(p, 10);
    assert_int_equal(hear(p).pings, 0); /* one at a time */
    answer(p, &seen);
    ask(p, 1);
    assert_int_equal(hear(p).pings, 0); /* and not again at once */
    later(p, 20 * NS_PER_MS);
    ask(p, 1);
    assert_int_equal(hear(p).pings, 1);
    probe_free(p);
}

/* nghttp2 would have a PING overtake HEADERS: then its answer would say nothing of them. */
static void a_ping_leaves_behind_the_requests_of_its_turn(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);
    struct seen seen;

    ask(p, 120);
    seen = hear(p);
    assert_int_equal(seen.heads, 120);
    assert_int_equal(seen.pings, 1);
    assert_int_equal(seen.heads_before, 120);
    probe_free(p);
}

static void who_is_no_proxy_is_not_measured(void **state UNUSED)
{
    struct probe *p = paced(0);

    assert_true(room(p) > MOST);
    ask(p, 500);
    assert_int_equal(hear(p).pings, 0);
    assert_true(room(p) > MOST);
    assert_int_equal(http_client_pace(p->client), HTTP_PACE_FREE);
    probe_free(p);
}

/* --- the window ---------------------------------------------------------------------------------- */

static void the_window_doubles_while_answers_come_at_once(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);

    assert_int_equal(room(p), FIRST);
    for (unsigned window = FIRST; window < MOST; window *= 2) {
        ask(p, window);
        assert_int_equal(room(p), 0);
        assert_int_equal(http_client_pace(p->client), HTTP_PACE_BOUND);
        answer_after(p, 2 * RTT_NS);
        assert_int_equal(room(p), MIN(2 * window, MOST));
    }
    ask(p, MOST);
    assert_int_equal(http_client_pace(p->client), HTTP_PACE_FREE); /* it is the bound, not the peer */
    answer_after(p, 2 * RTT_NS);
    assert_int_equal(room(p), MOST);
    probe_free(p);
}

static void a_window_that_is_not_used_up_does_not_grow(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);

    round_trip(p, 120, 2 * RTT_NS);
    assert_int_equal(room(p), FIRST);
    probe_free(p);
}

/* 128 in 0.4 s are 64 in 0.2 s. */
static void a_late_answer_makes_the_window_what_was_read_in_time(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);
    unsigned window;

    round_trip(p, FIRST, RTT_NS + 2 * DELAY_NS);
    window = room(p);
    assert_in_range(window, FIRST / 2 - 1, FIRST / 2);
    for (unsigned i = 0; i < 3; i++) {
        ask(p, window);
        assert_int_equal(room(p), 0);
        assert_int_equal(http_client_pace(p->client), HTTP_PACE_BEHIND);
        answer_after(p, 2 * RTT_NS);
        assert_int_equal(room(p), window + window / 4);
        window = room(p);
    }
    round_trip(p, window, 100 * NS_PER_S);
    assert_int_equal(room(p), LEAST); /* less would not tell when it has recovered */
    probe_free(p);
}

/* Neither late nor quick: more would be late. And who waits for room has nothing better to hope for. */
static void an_answer_in_between_changes_nothing(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);

    for (unsigned i = 0; i < 3; i++) {
        round_trip(p, FIRST, RTT_NS + DELAY_NS * 3 / 4);
        assert_int_equal(room(p), FIRST);
    }
    ask(p, FIRST);
    assert_int_equal(http_client_pace(p->client), HTTP_PACE_BEHIND);
    answer_after(p, 2 * RTT_NS);
    assert_int_equal(room(p), 2 * FIRST);
    probe_free(p);
}

static void the_networks_share_is_no_delay(void **state UNUSED)
{
    struct probe *p = paced(2 * DELAY_NS);

    round_trip(p, FIRST, 2 * DELAY_NS);
    assert_int_equal(room(p), 2 * FIRST);
    round_trip(p, 2 * FIRST, 4 * DELAY_NS); /* of which the half is the network's */
    assert_in_range(room(p), FIRST - 1, FIRST);
    round_trip(p, room(p), RTT_NS); /* it is nearer than it seemed when it was connected */
    round_trip(p, room(p), 2 * DELAY_NS);
    assert_in_range(room(p), FIRST / 2, FIRST * 5 / 4 / 2 + 1);
    probe_free(p);
}

static void what_was_learned_is_forgotten_after_a_second_unused(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);
    unsigned window;

    round_trip(p, FIRST, RTT_NS + 6 * DELAY_NS); /* which is more than a second by itself */
    window = room(p);
    assert_in_range(window, FIRST / 6 - 1, FIRST / 6);
    close_all(p);
    later(p, NS_PER_S * 9 / 10);
    ask(p, 1);
    assert_int_equal(room(p), window - 1);
    later(p, NS_PER_S / 5);
    ask(p, 1);
    assert_int_equal(room(p), FIRST - 2);
    ask(p, FIRST - 2);
    assert_int_equal(http_client_pace(p->client), HTTP_PACE_BOUND);
    probe_free(p);
}

/* --- while an answer is due ---------------------------------------------------------------------- */

static void a_ping_that_is_late_stops_what_would_be_later(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);
    struct seen seen;
    unsigned told;

    ask(p, 100);
    seen = hear(p);
    later(p, DELAY_NS);
    assert_int_equal(room(p), FIRST - 100);
    later(p, 2 * RTT_NS);
    assert_int_equal(room(p), 0);
    assert_int_equal(http_client_pace(p->client), HTTP_PACE_BEHIND);
    told = p->capacity_count;
    answer(p, &seen);
    assert_in_range(room(p), 98, 100); /* of 100 in a little more than 0.2 s */
    assert_int_equal(http_client_pace(p->client), HTTP_PACE_FREE);
    assert_true(p->capacity_count > told); /* though it vanished without a turn */
    probe_free(p);
}

/* A few may always be on their way: how else would it be seen that the peer reads again? */
static void a_few_are_sent_to_a_peer_that_is_late(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);

    round_trip(p, 100, RTT_NS);
    later(p, 20 * NS_PER_MS);
    ask(p, 10);
    assert_int_equal(hear(p).pings, 1);
    later(p, 2 * DELAY_NS);
    assert_int_equal(room(p), LEAST - 10);
    probe_free(p);
}

static void room_that_comes_back_is_told(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);
    unsigned told;

    ask(p, FIRST);
    (void)hear(p);
    told = p->capacity_count;
    probe_settle(p);
    assert_int_equal(p->capacity_count, told); /* there is none */
    user_close(p->dialed[0], RESET_CANCEL); /* a stream that is over was read, or needs not be */
    probe_settle(p);
    assert_int_equal(room(p), 1);
    assert_true(p->capacity_count > told);
    probe_free(p);
}

/* --- what does not count -------------------------------------------------------------------------- */

/* Their HEADERS never leave: nothing that is read later could tell that these were. */
static void requests_that_were_given_up_in_their_turn(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);
    unsigned before;

    for (unsigned i = 0; i < 10; i++) {
        before = p->dialed_count;
        ask(p, 50);
        for (unsigned k = before; k < p->dialed_count; k++) {
            user_close(p->dialed[k], RESET_CANCEL);
        }
        assert_int_equal(hear(p).heads, 0);
    }
    assert_int_equal(room(p), FIRST);
    round_trip(p, 100, RTT_NS);
    assert_int_equal(room(p), FIRST); /* all 100 that are open were read */
    probe_free(p);
}

static void answers_to_other_pings(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);
    struct seen first, second;

    ask(p, FIRST);
    first = hear(p);
    raw_send(p, PING, ACK, 0, "\0\0\0\0\0\0\0\0", 8); /* that of keep-alive */
    probe_settle(p);
    assert_int_equal(room(p), 0);
    answer(p, &first);
    assert_int_equal(room(p), 2 * FIRST);
    ask(p, 2 * FIRST);
    second = hear(p);
    answer(p, &first); /* twice */
    assert_int_equal(room(p), 0);
    answer(p, &second);
    assert_int_equal(room(p), 4 * FIRST);
    answer(p, &second); /* and when none is on its way */
    assert_int_equal(room(p), 4 * FIRST);
    probe_free(p);
}

/* RFC 9113 6.7 makes it answer; one that does not, and yet lives, is not to be asked less for it. */
static void a_peer_that_answers_no_ping(void **state UNUSED)
{
    struct probe *p = paced(RTT_NS);

    ask(p, FIRST);
    (void)hear(p);
    later(p, 20 * NS_PER_S);
    assert_int_equal(room(p), 0); /* silent in all: it hangs */
    assert_int_equal(http_client_pace(p->client), HTTP_PACE_BEHIND);
    raw_send(p, WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
    probe_settle(p);
    assert_true(room(p) > MOST);
    assert_int_equal(http_client_pace(p->client), HTTP_PACE_FREE);
    assert_true(p->capacity_count > 0);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_streams_are_not_measured),
        cmocka_unit_test(a_ping_leaves_behind_the_requests_of_its_turn),
        cmocka_unit_test(who_is_no_proxy_is_not_measured),
        cmocka_unit_test(the_window_doubles_while_answers_come_at_once),
        cmocka_unit_test(a_window_that_is_not_used_up_does_not_grow),
        cmocka_unit_test(a_late_answer_makes_the_window_what_was_read_in_time),
        cmocka_unit_test(an_answer_in_between_changes_nothing),
        cmocka_unit_test(the_networks_share_is_no_delay),
        cmocka_unit_test(what_was_learned_is_forgotten_after_a_second_unused),
        cmocka_unit_test(a_ping_that_is_late_stops_what_would_be_later),
        cmocka_unit_test(a_few_are_sent_to_a_peer_that_is_late),
        cmocka_unit_test(room_that_comes_back_is_told),
        cmocka_unit_test(requests_that_were_given_up_in_their_turn),
        cmocka_unit_test(answers_to_other_pings),
        cmocka_unit_test(a_peer_that_answers_no_ping),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
