/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of many requests a server begins in a turn, and when it answers the PINGs behind them. Clients are
 * spoken by hand, and the clock is the test's.
 */
#include "tests/unit/clock_probe.h"
#include "tests/unit/http/h2_raw.h"

#define TURN_MAX  32 /* http2_begin.h */
#define CALM      11
#define GET_BYTES (sizeof(GET_HEAD) - 1)
#define CONNS_MAX 64

static void add_gets(struct text *t, unsigned first, unsigned count, char name)
{
    char head[] = GET_HEAD;

    head[GET_BYTES - 1] = name;
    for (unsigned i = 0; i < count; i++) {
        raw_frame(t, HEADERS, END_STREAM | END_HEADERS, first + 2 * i, head, GET_BYTES);
    }
}

static void add_resets(struct text *t, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        raw_frame(t, RST_STREAM, 0, first + 2 * i, "\0\0\0\x08", 4);
    }
}

static void add_ping(struct text *t, const char *mark)
{
    raw_frame(t, PING, 0, 0, mark, 8);
}

/* In one piece, so that one read brings it all; and one turn. */
static void burst(struct probe *p, int fd, struct text *t)
{
    assert_int_equal(write(fd, t->at, t->len), t->len);
    text_clear(t);
    (void)loop_turn(&p->loop, 0);
}

/* First letters of the answers to PINGs that have come; for all that has come. */
static const char *answers(struct probe *p)
{
    static struct frame f;
    static char marks[16];
    size_t count = 0;
    char next;

    while (recv(p->raw_fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
        assert_true(raw_next(p, &f));
        if (f.type == PING && f.flags == ACK) {
            assert_true(count < sizeof(marks) - 1);
            marks[count++] = (char)f.payload[0];
        }
    }
    marks[count] = '\0';
    return marks;
}

static char name_of(const struct probe *p, unsigned index)
{
    return p->accepted[index]->head->authority.at[0];
}

/* --- PINGs --------------------------------------------------------------------------------------- */

/* The answer says that what was sent before it has begun. */
static void a_ping_is_answered_when_what_was_before_it_has_begun(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    text_init(&t, 1 << 20);
    add_gets(&t, 1, 100, 'a');
    add_ping(&t, "a-------");
    add_gets(&t, 201, 100, 'b'); /* behind it: the answer does not wait for these */
    burst(p, p->raw_fd, &t);
    assert_int_equal(p->accepted_count, TURN_MAX);
    while (p->accepted_count < 100) {
        assert_string_equal(answers(p), "");
        (void)loop_turn(&p->loop, 0);
    }
    assert_in_range(p->accepted_count, 100, 100 + TURN_MAX);
    assert_string_equal(answers(p), "a");
    probe_free(p);
}

static void a_ping_behind_a_turns_requests_is_answered_at_once(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    text_init(&t, 1 << 20);
    add_gets(&t, 1, TURN_MAX, 'a');
    add_ping(&t, "a-------");
    burst(p, p->raw_fd, &t);
    assert_string_equal(answers(p), "a");
    probe_free(p);
}

/* A keep-alive that waits for its answer for 3 s, as Linkerd's does, must not find the connection dead. */
static void an_answer_is_held_for_a_second_at_most(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    text_init(&t, 1 << 20);
    add_gets(&t, 1, 900, 'a');
    add_ping(&t, "a-------");
    burst(p, p->raw_fd, &t);
    time_passes(NS_PER_S * 9 / 10);
    (void)loop_turn(&p->loop, 0);
    assert_string_equal(answers(p), "");
    time_passes(NS_PER_S / 10);
    (void)loop_turn(&p->loop, 0);
    assert_true(p->accepted_count < 200);
    assert_string_equal(answers(p), "a");
    probe_free(p);
}

static void requests_that_are_reset_hold_no_answer(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    text_init(&t, 1 << 20);
    add_gets(&t, 1, 500, 'a');
    add_ping(&t, "a-------");
    burst(p, p->raw_fd, &t);
    assert_string_equal(answers(p), "");
    add_resets(&t, 1, 500);
    burst(p, p->raw_fd, &t);
    assert_true(p->accepted_count < 100);
    assert_string_equal(answers(p), "a");
    probe_free(p);
}

/* So nobody can have us remember many. */
static void a_third_ping_is_answered_before_those_that_are_held(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    text_init(&t, 1 << 20);
    add_gets(&t, 1, 100, 'a');
    add_ping(&t, "a-------");
    add_ping(&t, "b-------");
    add_ping(&t, "c-------");
    burst(p, p->raw_fd, &t);
    assert_string_equal(answers(p), "c");
    while (p->accepted_count < 100) {
        (void)loop_turn(&p->loop, 0);
    }
    assert_string_equal(answers(p), "ab");
    probe_free(p);
}

/* CVE-2019-9512. What is held is counted as what is answered, and whether the answers are read or not. */
static void a_flood_of_pings_while_requests_wait(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    text_init(&t, 1 << 20);
    add_gets(&t, 1, 500, 'a');
    for (unsigned i = 0; i < 3; i++) {
        assert_true(p->accepted_count < 200);
        for (unsigned k = 0; k < 400; k++) { /* fewer than nghttp2 minds */
            add_ping(&t, "a-------");
        }
        burst(p, p->raw_fd, &t);
        text_init(&t, 1 << 20);
    }
    expect_goaway(p, CALM);
    probe_free(p);
}

/* --- shares -------------------------------------------------------------------------------------- */

struct conn {
    struct probe *probe;
    struct http_server *server;
    int fd;
    unsigned begun;
};
static struct conn conns[CONNS_MAX];

static void conn_on_stream(void *user, struct stream *s)
{
    struct conn *c = user;

    c->begun++;
    probe_on_stream(c->probe, s);
}

static void conn_on_closed(void *user, int err UNUSED)
{
    ((struct conn *)user)->server = NULL;
}

static const struct http_server_events conn_events = {conn_on_stream, conn_on_closed};

static void conns_open(struct probe *p, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct conn *c = &conns[i];
        int fds[2];

        probe_sockets(fds);
        *c = (struct conn){.probe = p, .fd = fds[0]};
        c->server = http2_server_new(probe_io(p, fds[1]), NULL, NULL, &conn_events, c);
        assert_int_equal(write(c->fd, PREFACE, sizeof(PREFACE) - 1), sizeof(PREFACE) - 1);
        assert_int_equal(write(c->fd, "\0\0\0\4\0\0\0\0\0", 9), 9); /* SETTINGS */
    }
    probe_settle(p);
}

static void conns_ask(unsigned count, unsigned requests)
{
    for (unsigned i = 0; i < count; i++) {
        struct text t;

        text_init(&t, 1 << 20);
        add_gets(&t, 1, requests, 'a');
        assert_int_equal(write(conns[i].fd, t.at, t.len), t.len);
        text_clear(&t);
    }
}

static void conns_close(struct probe *p, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        http_server_close(conns[i].server, 0);
    }
    for (unsigned i = 0; i < p->accepted_count; i++) {
        if (p->accepted[i]->s != NULL) {
            user_close(p->accepted[i], RESET_CANCEL);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        PROBE_UNTIL(p, conns[i].server == NULL);
        (void)close(conns[i].fd);
    }
    probe_free(p);
}

static void connections_have_equal_shares_of_a_turn(void **state UNUSED)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);

    conns_open(p, 4);
    conns_ask(4, 100);
    (void)loop_turn(&p->loop, 0);
    assert_in_range(p->accepted_count, TURN_MAX, TURN_MAX + 3); /* it was not known how many would come */
    for (unsigned i = 0; i < 4; i++) {
        assert_true(conns[i].begun > 0);
        conns[i].begun = 0;
    }
    for (unsigned turn = 1; turn < 4; turn++) {
        (void)loop_turn(&p->loop, 0);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(conns[i].begun, turn * TURN_MAX / 4);
        }
    }
    conns_close(p, 4);
}

/* However many: nobody has to wait for all others. */
static void each_connection_begins_one_in_a_turn(void **state UNUSED)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);

    conns_open(p, CONNS_MAX);
    conns_ask(CONNS_MAX, 50);
    (void)loop_turn(&p->loop, 0);
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        assert_true(conns[i].begun > 0);
        conns[i].begun = 0;
    }
    for (unsigned turn = 1; turn < 10; turn++) {
        (void)loop_turn(&p->loop, 0);
        for (unsigned i = 0; i < CONNS_MAX; i++) {
            assert_int_equal(conns[i].begun, turn);
        }
    }
    conns_close(p, CONNS_MAX);
}

/* What will begin in a moment holds no answer, be the moment several turns long. */
static void a_ping_behind_few_is_answered_while_they_wait(void **state UNUSED)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    struct text t;

    conns_open(p, CONNS_MAX);
    conns_ask(CONNS_MAX, 50);
    PROBE_UNTIL(p, conns[0].begun >= 25);
    p->raw_fd = conns[0].fd;
    text_init(&t, 1 << 20);
    add_ping(&t, "a-------");
    burst(p, p->raw_fd, &t);
    assert_true(conns[0].begun < 40);
    assert_string_equal(answers(p), "a");
    p->raw_fd = -1;
    conns_close(p, CONNS_MAX);
}

static void who_is_alone_again_has_the_whole_turn(void **state UNUSED)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    unsigned before;

    conns_open(p, 8);
    conns_ask(8, 20);
    PROBE_UNTIL(p, p->accepted_count == 8 * 20);
    (void)loop_turn(&p->loop, 0);
    before = conns[0].begun;
    for (unsigned i = 0; i < 2; i++) {
        struct text t;

        text_init(&t, 1 << 20);
        add_gets(&t, 201 + 100 * i, 50, 'a');
        burst(p, conns[0].fd, &t);
    }
    assert_int_equal(conns[0].begun - before, 2 * TURN_MAX);
    conns_close(p, 8);
}

/* --- order --------------------------------------------------------------------------------------- */

static void requests_begin_in_their_order(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    struct text t;

    text_init(&t, 1 << 20);
    for (unsigned i = 0; i < 26; i++) {
        add_gets(&t, 1 + 10 * i, 5, (char)('a' + i));
    }
    burst(p, p->raw_fd, &t);
    time_passes(300 * NS_PER_MS); /* long, and not yet too long */
    PROBE_UNTIL(p, p->accepted_count == 130);
    for (unsigned i = 0; i < 130; i++) {
        assert_int_equal(name_of(p, i), 'a' + i / 5);
    }
    probe_free(p);
}

/* Who came last does not wait for all that came before, and who came first is not forgotten for them. */
static void late_ones_give_way_to_the_last_that_came(void **state UNUSED)
{
    struct probe *p = raw_server_greeted(NULL);
    unsigned before, last = 0;
    struct text t;

    text_init(&t, 1 << 20);
    add_gets(&t, 1, 32, 'x');
    add_gets(&t, 65, 10, 'a'); /* the first that wait */
    add_gets(&t, 85, 400, 'b');
    burst(p, p->raw_fd, &t);
    time_passes(500 * NS_PER_MS);
    add_gets(&t, 885, 10, 'c');
    burst(p, p->raw_fd, &t);
    before = p->accepted_count;
    (void)loop_turn(&p->loop, 0);
    assert_int_equal(p->accepted_count, before + TURN_MAX);
    for (unsigned i = 0; i < TURN_MAX; i++) {
        assert_int_equal(name_of(p, before + i), i % 8 == 0 ? 'a' : i < 12 ? 'c' : 'b');
        last += name_of(p, before + i) == 'c';
    }
    assert_int_equal(last, 10);
    probe_free(p);
}

/* With a share of one, too: else where many connections wait every answer would be late. */
static void late_ones_give_way_on_many_connections(void **state UNUSED)
{
    struct probe *p = probe_new(PROBE_CHUNKS_MAX);
    unsigned before, last = 0;

    conns_open(p, CONNS_MAX);
    conns_ask(CONNS_MAX, 100);
    (void)loop_turn(&p->loop, 0);
    time_passes(500 * NS_PER_MS);
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        struct text t;

        text_init(&t, 1 << 20);
        add_gets(&t, 1001, 8, 'z');
        assert_int_equal(write(conns[i].fd, t.at, t.len), t.len);
        text_clear(&t);
    }
    (void)loop_turn(&p->loop, 0);
    before = p->accepted_count;
    for (unsigned turn = 0; turn < 8; turn++) {
        (void)loop_turn(&p->loop, 0);
    }
    assert_int_equal(p->accepted_count - before, 8 * CONNS_MAX);
    for (unsigned i = before; i < p->accepted_count; i++) {
        last += name_of(p, i) == 'z';
    }
    assert_int_equal(last, 7 * CONNS_MAX);
    conns_close(p, CONNS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ping_is_answered_when_what_was_before_it_has_begun),
        cmocka_unit_test(a_ping_behind_a_turns_requests_is_answered_at_once),
        cmocka_unit_test(an_answer_is_held_for_a_second_at_most),
        cmocka_unit_test(requests_that_are_reset_hold_no_answer),
        cmocka_unit_test(a_third_ping_is_answered_before_those_that_are_held),
        cmocka_unit_test(a_flood_of_pings_while_requests_wait),
        cmocka_unit_test(connections_have_equal_shares_of_a_turn),
        cmocka_unit_test(each_connection_begins_one_in_a_turn),
        cmocka_unit_test(a_ping_behind_few_is_answered_while_they_wait),
        cmocka_unit_test(who_is_alone_again_has_the_whole_turn),
        cmocka_unit_test(requests_begin_in_their_order),
        cmocka_unit_test(late_ones_give_way_to_the_last_that_came),
        cmocka_unit_test(late_ones_give_way_on_many_connections),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
