/* SPDX-License-Identifier: Apache-2.0 */
/* The windows that a server of ours opens for the bodies sent to it: they grow for readers that keep pace. */
#include "tests/unit/http/h2_raw.h"

#define WINDOW    65535
#define WIDE      (4 * WINDOW)
#define MIB       ((size_t)1 << 20)
#define FRAME_MAX 16384

#define POST_HEAD                                                                                  \
    "\x83\x86\x84\x41\x01"                                                                         \
    "a"

/* What the server has granted beyond what was sent, by stream. */
struct peer {
    struct probe *probe;
    int64_t windows[256];
    bool slow; /* its reader stays a byte behind */
};

static void peer_open(struct peer *w, uint32_t configured)
{
    const struct http_limits limits = {.stream_window = configured};
    static struct frame f;

    *w = (struct peer){.probe = raw_server_greeted(&limits)};
    raw_send(w->probe, SETTINGS, ACK, 0, "", 0);
    assert_true(raw_expect(w->probe, SETTINGS, &f));
}

static struct user *peer_post(struct peer *w, unsigned id, uint32_t configured)
{
    struct probe *p = w->probe;
    unsigned before = p->accepted_count;

    raw_send(p, HEADERS, END_HEADERS, id, POST_HEAD, sizeof(POST_HEAD) - 1);
    PROBE_UNTIL(p, p->accepted_count == before + 1 && p->accepted[before]->head != NULL);
    w->windows[id] = configured;
    return p->accepted[before];
}

/* Let the server say what it has to say: its answer to a PING comes behind all of it. */
static void peer_hear(struct peer *w)
{
    static struct frame f;

    probe_settle(w->probe);
    raw_send(w->probe, PING, 0, 0, "whatever", 8);
    do {
        assert_true(raw_next(w->probe, &f));
        if (f.type == WINDOW_UPDATE && f.stream != 0) {
            assert_true(f.stream < ARRAY_LEN(w->windows));
            w->windows[f.stream] += code_at(&f, 0);
        }
        assert_true(f.type == WINDOW_UPDATE || f.type == PING || f.type == SETTINGS);
    } while (f.type != PING);
}

/* Send `bytes` of body as the window allows; the reader takes them at once, or keeps one waiting. */
static void peer_upload(struct peer *w, unsigned id, struct user *u, size_t bytes)
{
    static const char block[FRAME_MAX];

    while (bytes > 0) {
        size_t n = MIN(MIN(bytes, (size_t)FRAME_MAX), (size_t)w->windows[id]);

        assert_true(n > 0);
        raw_send(w->probe, DATA, 0, id, block, n);
        w->windows[id] -= (int64_t)n;
        bytes -= n;
        stream_credit(u->s, w->slow ? n - (u->received == 0) : n);
        peer_hear(w);
    }
}

static void a_reader_that_keeps_pace_gets_a_wide_window(void **state UNUSED)
{
    struct peer w;
    struct user *u;

    peer_open(&w, 0);
    u = peer_post(&w, 1, WINDOW);
    peer_upload(&w, 1, u, 2 * (size_t)WINDOW - 1);
    assert_true(w.windows[1] <= WINDOW); /* not sooner */
    peer_upload(&w, 1, u, FRAME_MAX);
    assert_true(w.windows[1] > 2 * WINDOW && w.windows[1] <= WIDE);
    /* Once only; and all of it can be used while the reader waits. */
    peer_upload(&w, 1, u, 2 * MIB);
    assert_true(w.windows[1] > WIDE / 2 && w.windows[1] <= WIDE);
    while (w.windows[1] > 0) {
        size_t n = MIN((size_t)w.windows[1], (size_t)FRAME_MAX);

        raw_send(w.probe, DATA, w.windows[1] == (int64_t)n ? END_STREAM : 0, 1,
                 (const char[FRAME_MAX]){0}, n);
        w.windows[1] -= (int64_t)n;
    }
    peer_hear(&w);
    assert_int_equal(w.windows[1], 0);
    assert_int_equal(u->why, RESET_NONE);
    stream_credit(u->s, WIDE);
    PROBE_UNTIL(w.probe, u->ended);
    assert_false(w.probe->server_closed);
    probe_free(w.probe);
}

static void a_slow_reader_gets_none(void **state UNUSED)
{
    struct peer w;
    struct user *u;

    peer_open(&w, 0);
    w.slow = true;
    u = peer_post(&w, 1, WINDOW);
    peer_upload(&w, 1, u, MIB);
    assert_int_equal(u->received, MIB - 1);
    assert_true(w.windows[1] <= WINDOW);
    /* From when it keeps pace it does. */
    w.slow = false;
    stream_credit(u->s, 1);
    peer_upload(&w, 1, u, FRAME_MAX);
    assert_true(w.windows[1] > 2 * WINDOW);
    probe_free(w.probe);
}

static void windows_stay_while_chunks_are_few(void **state UNUSED)
{
    static struct chunk *taken[PROBE_CHUNKS_MAX];
    unsigned count = 0;
    struct peer w;
    struct user *u;

    peer_open(&w, 0);
    while (chunk_pool_is_ample(&w.probe->loop.chunks)) {
        taken[count++] = chunk_new(&w.probe->loop.chunks);
    }
    u = peer_post(&w, 1, WINDOW);
    peer_upload(&w, 1, u, MIB);
    assert_int_equal(u->received, MIB);
    assert_true(w.windows[1] <= WINDOW);
    while (count > 0) {
        chunk_free(taken[--count]);
    }
    peer_upload(&w, 1, u, FRAME_MAX);
    assert_true(w.windows[1] > 2 * WINDOW);
    probe_free(w.probe);
}

/* A window that is configured is the least, also one beyond what it would grow to or near the largest. */
static void a_window_never_shrinks(void **state UNUSED)
{
    static const struct {
        uint32_t configured, least, most;
    } cases[] = {
        {30000, 60001, 120000},
        {300000, 524289, 1048576},
        {1048576, 524289, 1048576},
        {2097152, 1048577, 2097152},
        {INT32_MAX, INT32_MAX - 8 * MIB, INT32_MAX},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer w;
        struct user *u;

        peer_open(&w, cases[i].configured);
        u = peer_post(&w, 1, cases[i].configured);
        peer_upload(&w, 1, u, MIN(2 * (size_t)cases[i].configured + 3 * FRAME_MAX, 5 * MIB));
        assert_in_range(w.windows[1], cases[i].least, cases[i].most);
        assert_false(w.probe->server_closed);
        probe_free(w.probe);
    }
}

static void a_connection_has_few_wide_windows(void **state UNUSED)
{
    struct peer w;
    struct user *users[40];
    unsigned wide = 0;

    peer_open(&w, 0);
    for (unsigned i = 0; i < ARRAY_LEN(users); i++) {
        users[i] = peer_post(&w, 2 * i + 1, WINDOW);
        peer_upload(&w, 2 * i + 1, users[i], 2 * (size_t)WINDOW + FRAME_MAX);
        wide += w.windows[2 * i + 1] > WINDOW;
    }
    assert_int_equal(wide, 32);
    /* One that ends leaves its place to another. */
    user_close(users[0], RESET_CANCEL);
    probe_settle(w.probe);
    expect_reset(w.probe, 1, 8);
    peer_upload(&w, 79, users[39], FRAME_MAX);
    assert_true(w.windows[79] > 2 * WINDOW);
    peer_upload(&w, 77, users[38], FRAME_MAX);
    assert_true(w.windows[77] <= WINDOW);
    probe_free(w.probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_that_keeps_pace_gets_a_wide_window),
        cmocka_unit_test(a_slow_reader_gets_none),
        cmocka_unit_test(windows_stay_while_chunks_are_few),
        cmocka_unit_test(a_window_never_shrinks),
        cmocka_unit_test(a_connection_has_few_wide_windows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
