/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RFC 9113 8.7: what a server has read and not begun when it closes is refused, so that the client may make
 * it again, whatever it is. Clients are spoken by hand.
 */
#include "tests/unit/http/h2_raw.h"

#define REQUESTS  100
#define BEGUN     32 /* of them in the first turn (http2_begin.h) */
#define NO_ERROR  0
#define INTERNAL  2
#define REFUSED   7
#define CALM      11
#define GET_BYTES (sizeof(GET_HEAD) - 1)

static unsigned codes[2 * REQUESTS + 64]; /* of RST_STREAM, by stream; 0: none came */

/* One turn, with so many requests read and BEGUN of them begun, and what follows them. */
static struct probe *server_with_requests(struct text *t, const struct http_limits *limits)
{
    struct probe *p = raw_server_greeted(limits);
    struct text all;

    text_init(&all, 1 << 20);
    for (unsigned i = 0; i < REQUESTS; i++) {
        raw_frame(&all, HEADERS, END_STREAM | END_HEADERS, 1 + 2 * i, GET_HEAD, GET_BYTES);
    }
    text_add(&all, text_bytes(t));
    assert_int_equal(write(p->raw_fd, all.at, all.len), all.len);
    (void)loop_turn(&p->loop, 0);
    text_clear(&all);
    text_clear(t);
    return p;
}

/* Up to the GOAWAY, which must have this code. */
static void read_resets(struct probe *p, unsigned code)
{
    static struct frame f;

    memset(codes, 0, sizeof(codes));
    do {
        assert_true(raw_next(p, &f));
        if (f.type == RST_STREAM) {
            assert_true(f.stream < ARRAY_LEN(codes));
            assert_int_equal(codes[f.stream], 0);
            codes[f.stream] = code_at(&f, 0);
        }
    } while (f.type != GOAWAY);
    assert_int_equal(code_at(&f, 4), code);
    assert_false(raw_next(p, &f));
}

static void end(struct probe *p)
{
    assert_int_equal(p->accepted_count, BEGUN); /* and nothing began behind the end */
    for (unsigned i = 0; i < p->accepted_count; i++) {
        PROBE_UNTIL(p, p->accepted[i]->why != RESET_NONE);
        assert_int_equal(p->accepted[i]->why, RESET_CONNECTION);
        user_close(p->accepted[i], RESET_NONE);
    }
    PROBE_UNTIL(p, p->server_closed);
    probe_free(p);
}

static void expect_refused(unsigned from, unsigned count)
{
    for (unsigned id = 1; id < ARRAY_LEN(codes); id++) {
        bool is_refused = id % 2 == 1 && id > 2 * from && id < 2 * (from + count);

        assert_int_equal(codes[id], is_refused ? REFUSED : 0);
    }
}

static void what_has_not_begun_is_refused(void **state UNUSED)
{
    static const struct {
        int err;
        unsigned code;
    } ends[] = {{0, NO_ERROR}, {E_CANCELED, INTERNAL}};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct text nothing = {0};
        struct probe *p = server_with_requests(&nothing, NULL);

        assert_int_equal(p->accepted_count, BEGUN);
        http_server_close(p->server, ends[i].err);
        read_resets(p, ends[i].code);
        expect_refused(BEGUN, REQUESTS - BEGUN);
        end(p);
    }
}

static void what_was_answered_is_said_too(void **state UNUSED)
{
    static struct frame f;
    struct text nothing = {0};
    struct probe *p = server_with_requests(&nothing, NULL);

    user_answer(p->accepted[0], 200, true);
    http_server_close(p->server, 0);
    do {
        assert_true(raw_expect(p, HEADERS, &f));
    } while (f.stream != 1);
    read_resets(p, NO_ERROR);
    user_close(p->accepted[0], RESET_NONE);
    for (unsigned i = 1; i < p->accepted_count; i++) {
        PROBE_UNTIL(p, p->accepted[i]->why != RESET_NONE);
        user_close(p->accepted[i], RESET_NONE);
    }
    PROBE_UNTIL(p, p->server_closed);
    assert_int_equal(p->accepted_count, BEGUN);
    probe_free(p);
}

/* Its head is not complete: nobody can have begun it. */
static void an_unfinished_head_is_refused(void **state UNUSED)
{
    struct text t;
    struct probe *p;

    text_init(&t, 1 << 20);
    raw_frame(&t, HEADERS, END_STREAM, 1 + 2 * REQUESTS, GET_HEAD, GET_BYTES);
    p = server_with_requests(&t, NULL);
    http_server_close(p->server, 0);
    read_resets(p, NO_ERROR);
    expect_refused(BEGUN, REQUESTS - BEGUN + 1);
    end(p);
}

/* Who sends more than is good is not asked to do it again. */
static void a_flood_is_not_refused(void **state UNUSED)
{
    struct text t;
    struct probe *p;

    text_init(&t, 1 << 20);
    raw_frame(&t, HEADERS, END_STREAM, 1 + 2 * REQUESTS, GET_HEAD, GET_BYTES);
    for (unsigned i = 0; i < 100; i++) {
        raw_frame(&t, CONTINUATION, 0, 1 + 2 * REQUESTS, "", 0);
    }
    p = server_with_requests(&t, NULL);
    read_resets(p, CALM);
    expect_refused(0, 0);
    for (unsigned i = 0; i < p->accepted_count; i++) {
        user_close(p->accepted[i], RESET_NONE);
    }
    PROBE_UNTIL(p, p->server_closed);
    assert_true(p->accepted_count <= BEGUN);
    probe_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_not_begun_is_refused),
        cmocka_unit_test(what_was_answered_is_said_too),
        cmocka_unit_test(an_unfinished_head_is_refused),
        cmocka_unit_test(a_flood_is_not_refused),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
