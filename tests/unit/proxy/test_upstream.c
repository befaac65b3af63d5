/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that wait for a stream on an HTTP/2 link: in which order, for how long, and for which links. The
 * endpoint's proxy has a loop of its own, so that it reads when the test says so; the clock is the test's.
 */
#include "app.h"
#include "proxy/link.h"
#include "tests/unit/clock_probe.h"

#define FIRST 128 /* the window of a link, lib/http/http2_pace.c */
#define GET   "GET / HTTP/1.1\r\nHost: web\r\n\r\n"

static struct loop far_loop;
static struct tls_ctx *far_tls;
static struct task far_task;

static void far_run(struct task *t UNUSED)
{
}

static int setup(void **state)
{
    struct endpoint *e;

    app_setup(state);
    e = endpoint_at(&app.at, NULL);
    e->identity = mem_strdup(SERVER_ID);
    e->server_name = mem_strdup(SERVER_ID);
    e->hint = ENDPOINT_HINT_H2;
    rig.target[OUTBOUND] = app.at;
    rig_know_target(&app.at, policy_to(PROTOCOL_DETECT, e, NULL));
    assert_int_equal(loop_open(&far_loop, 2, RIG_CHUNKS), 0);
    far_tls = tls_ctx_new(rig.creds, true);
    far_task.run = far_run;
    rig_turn();
    return 0;
}

static int teardown(void **state)
{
    io_close_lingering(&far_loop);
    loop_close(&far_loop);
    tls_ctx_free(far_tls);
    return app_teardown(state);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void far_turn(void)
{
    (void)loop_turn(&far_loop, 0);
    rig_turn();
}

#define FAR_UNTIL(condition)                                                                       \
    do {                                                                                           \
        for (unsigned turn_ = 0; !(condition); turn_++) {                                          \
            if (turn_ > RIG_TURNS_MAX) {                                                           \
                fail_msg("never came: %s", #condition);                                            \
            }                                                                                      \
            far_turn();                                                                            \
        }                                                                                          \
    } while (0)

static struct h2_peer *far_accept(unsigned streams_max)
{
    const struct http_limits limits = {.streams_max = streams_max};
    struct h2_peer *p = mem_new(sizeof(*p));
    struct io *io;
    int fd = -1;

    RIG_UNTIL((fd = accept4(app.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
    io = io_tls_server_new(far_tls, tcp_io(&far_loop, fd), BYTES_NONE);
    io_set_owner(io, &far_task);
    FAR_UNTIL(io_handshake(io) == 0);
    p->server = http2_server_new(io, NULL, &limits, &h2_peer_server_events, p);
    return p;
}

static void far_free(struct h2_peer *p)
{
    if (p->server != NULL) {
        http_server_close(p->server, 0);
    }
    for (size_t i = 0; i < p->count; i++) {
        call_close(&p->calls[i], RESET_CANCEL);
    }
    FAR_UNTIL(p->server == NULL);
    h2_free(p);
}

/* All that were asked and are not answered yet. */
static void far_answer(struct h2_peer *p)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->calls[i].s != NULL && p->calls[i].ended) {
            call_answer(&p->calls[i], 200, NULL, true);
            call_close(&p->calls[i], RESET_NONE);
        }
    }
}

static struct upstream *the_upstream(void)
{
    struct map_iter it = MAP_ITER(&rig.w.upstreams);

    assert_int_equal(map_count(&rig.w.upstreams), 1);
    assert_true(map_next(&it));
    return it.value;
}

static unsigned waiting(void)
{
    unsigned count = 0;

    LIST_FOREACH(node, &the_upstream()->waiting)
    {
        count++;
    }
    return count;
}

static void later(uint64_t ns)
{
    time_passes(ns);
    rig_settle();
}

static void ask(struct h2_peer *client, unsigned count)
{
    char path[32];

    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(path, sizeof(path), "/%u", (unsigned)client->count);
        (void)h2_call(client, "GET", path, true, NULL);
    }
    rig_settle();
}

static unsigned answered(const struct h2_peer *client, unsigned status)
{
    unsigned count = 0;

    for (size_t i = 0; i < client->count; i++) {
        count += client->calls[i].status == status;
    }
    return count;
}

/* One request was served: the link stands, and the peer's settings are known. */
static struct h2_peer *begin(struct h2_peer *client, unsigned streams_max)
{
    struct h2_peer *far;

    ask(client, 1);
    far = far_accept(streams_max);
    FAR_UNTIL(far->count == 1 && far->calls[0].ended);
    far_answer(far);
    FAR_UNTIL(answered(client, 200) == 1);
    return far;
}

static void newcomers_queue_behind_those_who_wait(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *far = begin(client, 0);
    char path[32];

    (void)state;
    ask(client, FIRST + 50);
    assert_int_equal(waiting(), 50);
    call_close(&client->calls[1], RESET_CANCEL); /* there is room for one; in the same turn one more comes */
    ask(client, 1);
    assert_int_equal(waiting(), 50);
    FAR_UNTIL(far->count == FIRST + 50 + 1);
    assert_int_equal(waiting(), 0);
    for (size_t i = 1; i < far->count; i++) { /* the one that was given up was never begun */
        (void)snprintf(path, sizeof(path), "/%zu", i + 1);
        assert_string_equal(far->calls[i].path.at, path);
    }
    h2_free(client);
    far_free(far);
}

static void another_link_is_no_use_where_the_peer_does_not_read(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *far = begin(client, 0);

    (void)state;
    ask(client, FIRST + 50);
    assert_int_equal(waiting(), 50);
    for (unsigned i = 0; i < 15; i++) { /* from bound to behind */
        later(30 * NS_PER_MS);
        assert_int_equal(the_upstream()->h2_count, 1);
    }
    assert_int_equal(waiting(), 50);
    FAR_UNTIL(waiting() == 0);
    assert_true(app_has_nobody(&app));
    h2_free(client);
    far_free(far);
}

static void another_link_is_dialed_when_the_streams_are_used_up(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *far = begin(client, 20), *another;

    (void)state;
    ask(client, 30);
    assert_int_equal(waiting(), 10);
    assert_int_equal(the_upstream()->h2_count, 1); /* it may well be over in a moment */
    later(25 * NS_PER_MS);
    assert_int_equal(the_upstream()->h2_count, 2);
    another = far_accept(20);
    FAR_UNTIL(waiting() == 0 && another->count == 10);
    assert_int_equal(far->count, 1 + 20);
    h2_free(client);
    far_free(far);
    far_free(another);
}

/* It failed: those who wait ask for another one by themselves. */
static void a_further_link_that_fails_is_dialed_again(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *far = begin(client, 20), *another;
    int fd;

    (void)state;
    ask(client, 30);
    later(25 * NS_PER_MS);
    RIG_UNTIL((fd = accept4(app.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    close(fd);
    RIG_UNTIL(the_upstream()->h2_count == 1);
    assert_int_equal(waiting(), 10);
    later(25 * NS_PER_MS);
    another = far_accept(20);
    FAR_UNTIL(waiting() == 0 && another->count == 10);
    h2_free(client);
    far_free(far);
    far_free(another);
}

static void a_queue_that_stands_is_answered(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *far = begin(client, 0);
    struct peer *old = peer_dial(OUTBOUND);

    (void)state;
    ask(client, FIRST + 50);
    peer_send(old, GET);
    rig_settle();
    assert_int_equal(waiting(), 51);
    later(300 * NS_PER_MS); /* it reads late; but a burst may wait */
    later(150 * NS_PER_MS);
    assert_int_equal(answered(client, 503), 0);
    assert_int_equal(waiting(), 51);
    later(100 * NS_PER_MS);
    assert_int_equal(answered(client, 503), 50);
    assert_int_equal(the_upstream()->h2_count, 2); /* another worker of it may read */
    RIG_UNTIL(peer_has(old, "HTTP/1.1 503 "));
    assert_int_equal(waiting(), 0);
    assert_int_equal(rig_sum("tulle_failures_total", "cause=\"overload\"", "hop=\"outbound\""), 51);
    ask(client, 10); /* who comes now may wait for a while, for the peer may read again */
    later(150 * NS_PER_MS);
    assert_int_equal(waiting(), 10);
    later(100 * NS_PER_MS);
    assert_int_equal(answered(client, 503), 60);
    assert_int_equal(the_upstream()->h2_count, 2); /* no other one within a second */
    assert_false(client->is_closed || old->eof || peer_has(old, "close"));
    text_reset(&old->in);
    FAR_UNTIL(far->count == 1 + FIRST);
    far_answer(far);
    FAR_UNTIL(answered(client, 200) == 1 + FIRST);
    peer_send(old, GET); /* on the same connection */
    FAR_UNTIL(far->count == 2 + FIRST && far->calls[1 + FIRST].ended);
    far_answer(far);
    FAR_UNTIL(peer_has(old, "HTTP/1.1 200 "));
    h2_free(client);
    far_free(far);
}

/* The further link hangs in its handshake, and the queue had been empty when the next ones came. */
static void a_dial_that_hangs_makes_nobody_wait(void **state)
{
    struct h2_peer *client = h2_dial(OUTBOUND), *far = begin(client, 0), *another;

    (void)state;
    ask(client, FIRST + 50);
    later(300 * NS_PER_MS);
    later(250 * NS_PER_MS);
    assert_int_equal(answered(client, 503), 50);
    later(30 * NS_PER_MS);
    assert_int_equal(waiting(), 0);
    assert_false(timer_is_armed(&the_upstream()->more));
    assert_int_equal(the_upstream()->h2_count, 2);
    ask(client, 10);
    later(150 * NS_PER_MS);
    assert_int_equal(waiting(), 10);
    later(60 * NS_PER_MS);
    assert_int_equal(answered(client, 503), 60);
    ask(client, 10);
    another = far_accept(0); /* and whom it still finds waiting when it stands gets it */
    FAR_UNTIL(another->count == 10);
    assert_int_equal(waiting(), 0);
    assert_int_equal(answered(client, 503), 60);
    h2_free(client);
    far_free(far);
    far_free(another);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(newcomers_queue_behind_those_who_wait),
        TEST(another_link_is_no_use_where_the_peer_does_not_read),
        TEST(another_link_is_dialed_when_the_streams_are_used_up),
        TEST(a_further_link_that_fails_is_dialed_again),
        TEST(a_queue_that_stands_is_answered),
        TEST(a_dial_that_hangs_makes_nobody_wait),
    };

    return rig_run(tests, argc, argv);
}
