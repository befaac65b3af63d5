/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/loop.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <sys/socket.h>

/* What ran, in order. */
static char ran[256];
static size_t ran_count;

static void note(char c)
{
    assert_true(ran_count < sizeof(ran) - 1);
    ran[ran_count++] = c;
    ran[ran_count] = '\0';
}

static struct loop loop;

static int open_loop(void **state UNUSED)
{
    ran_count = 0;
    ran[0] = '\0';
    return loop_open(&loop, 3, 16);
}

static int close_loop(void **state UNUSED)
{
    loop_close(&loop);
    return 0;
}

/* A task that notes its name, then does one more thing. */
struct actor {
    struct task task;
    char name;
    int wakes_left;              /* how often it wakes itself */
    struct actor *wake, *cancel; /* others */
    struct actor *wake_late;
};

static void actor_run(struct task *t)
{
    struct actor *a = CONTAINER_OF(t, struct actor, task);

    note(a->name);
    if (a->wakes_left > 0) {
        a->wakes_left--;
        task_wake(&loop, t);
    }
    if (a->wake != NULL) {
        task_wake(&loop, &a->wake->task);
    }
    if (a->cancel != NULL) {
        task_cancel(&a->cancel->task);
    }
    if (a->wake_late != NULL) {
        task_wake_late(&loop, &a->wake_late->task);
    }
}

#define ACTOR(n, ...)                                                                              \
    {                                                                                              \
        .task = {.run = actor_run}, .name = (n), __VA_ARGS__                                       \
    }

static void tasks_run_in_order_once_a_round(void **state UNUSED)
{
    struct actor a = ACTOR('a'), b = ACTOR('b', .wake = &a), c = ACTOR('c');

    task_wake(&loop, &a.task);
    task_wake(&loop, &b.task);
    task_wake(&loop, &b.task);
    task_wake(&loop, &c.task);
    assert_true(loop_turn(&loop, 0));
    assert_string_equal(ran, "abca");
    assert_true(loop_turn(&loop, 0));
    assert_string_equal(ran, "abca");
}

static void a_turn_has_a_bounded_number_of_rounds(void **state UNUSED)
{
    struct actor a = ACTOR('a', .wakes_left = 20);

    task_wake(&loop, &a.task);
    (void)loop_turn(&loop, -1);
    assert_int_equal(ran_count, 16);
    (void)loop_turn(&loop, -1); /* does not sleep: work is left */
    assert_int_equal(ran_count, 21);
}

static void a_pending_task_can_be_canceled(void **state UNUSED)
{
    struct actor b = ACTOR('b'), a = ACTOR('a', .cancel = &b);

    task_wake(&loop, &a.task);
    task_wake(&loop, &b.task);
    (void)loop_turn(&loop, 0);
    task_cancel(&b.task);
    assert_string_equal(ran, "a");
    task_wake(&loop, &b.task);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "ab");
}

static void late_tasks_run_after_all_others(void **state UNUSED)
{
    struct actor late = ACTOR('L'), b = ACTOR('b', .wake_late = &late);
    struct actor a = ACTOR('a', .wake_late = &late, .wake = &b);
    struct actor again = ACTOR('m', .wake_late = &again);

    task_wake(&loop, &a.task);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "abL");
    task_wake_late(&loop, &again.task);
    (void)loop_turn(&loop, -1);
    assert_string_equal(ran, "abLm"); /* woken late by a late one: the next turn, without sleep */
    (void)loop_turn(&loop, -1);
    assert_string_equal(ran, "abLmm");
    task_cancel(&again.task);
}

struct mortal {
    struct task task;
    struct grave grave;
};

static void mortal_bury(struct grave *g)
{
    note('G');
    mem_free(CONTAINER_OF(g, struct mortal, grave));
}

static void mortal_run(struct task *t)
{
    struct mortal *m = CONTAINER_OF(t, struct mortal, task);

    note('m');
    loop_free_later(&loop, &m->grave, mortal_bury);
}

static void memory_goes_at_the_end_of_the_turn(void **state UNUSED)
{
    struct mortal *m = mem_new(sizeof(*m));
    struct actor late = ACTOR('L');

    m->task.run = mortal_run;
    task_wake_late(&loop, &late.task);
    task_wake(&loop, &m->task);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "mLG");
    m = mem_new(sizeof(*m));
    m->task.run = mortal_run;
    task_wake(&loop, &m->task); /* what is left runs when the loop closes; leaks fail the program */
}

/* --- watches ----------------------------------------------------------------------------------- */

static void turn_until(const char *want)
{
    for (int i = 0; i < 100 && strcmp(ran, want) != 0; i++) {
        (void)loop_turn(&loop, 1000);
    }
    assert_string_equal(ran, want);
}

static void readiness_is_recorded_and_sticky(void **state UNUSED)
{
    struct actor a = ACTOR('a');
    struct watch w = {0};
    int pair[2];
    char byte;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(watch_open(&w, &loop, pair[0], &a.task), 0);
    assert_int_equal(w.ready, 0);
    turn_until("a");
    assert_int_equal(w.ready, WATCH_OUT); /* a fresh socket is writable */
    assert_int_equal(write(pair[1], "xy", 2), 2);
    turn_until("aa");
    assert_int_equal(w.ready, WATCH_IN | WATCH_OUT); /* and no WATCH_FIN */
    assert_int_equal(read(pair[0], &byte, 1), 1);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "aa"); /* an edge is told once, though a byte is left */
    assert_true((w.ready & WATCH_IN) != 0);
    w.ready = 0;
    assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
    turn_until("aaa");
    assert_true((w.ready & WATCH_IN) != 0); /* the end is read, too */
    assert_true((w.ready & WATCH_HUP) == 0 && (w.ready & WATCH_FIN) != 0);
    (void)close(pair[1]);
    turn_until("aaaa");
    assert_int_equal(w.ready, WATCH_IN | WATCH_OUT | WATCH_HUP | WATCH_FIN);
    watch_close(&w);
    watch_close(&w);
    assert_int_equal(w.fd, -1);
    assert_int_equal(fcntl(pair[0], F_GETFD), -1);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "aaaa");
}

static void a_closed_watch_is_silent_though_copies_live(void **state UNUSED)
{
    struct actor a = ACTOR('a');
    struct watch w;
    int pair[2], copy;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(watch_open(&w, &loop, pair[0], &a.task), 0);
    copy = dup(pair[0]);
    watch_close(&w);
    assert_int_equal(write(pair[1], "x", 1), 1);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "");
    (void)close(copy);
    (void)close(pair[1]);
}

/* And the event that is asked for comes, though it was due before. */
static void a_descriptor_known_to_be_writable_wakes_nobody(void **state UNUSED)
{
    struct actor a = ACTOR('a');
    struct watch w;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(watch_open_writable(&w, &loop, pair[0], &a.task), 0);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "");
    assert_int_equal(w.ready, 0);
    assert_int_equal(write(pair[1], "x", 1), 1);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "a");
    assert_int_equal(w.ready, WATCH_IN);
    watch_await_out(&w);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "aa");
    assert_int_equal(w.ready, WATCH_IN | WATCH_OUT);
    watch_await_out(&w); /* from now on the kernel tells by itself */
    assert_int_equal(w.ready, WATCH_IN);
    watch_close(&w);
    (void)close(pair[1]);
}

static void a_sole_owner_leaves_the_end_of_a_watch_to_close(void **state UNUSED)
{
    struct actor a = ACTOR('a');
    size_t watches = loop.watch_count;
    struct watch w;
    int pair[2];

    loop.is_sole_owner = true;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(watch_open(&w, &loop, pair[0], &a.task), 0);
    assert_int_equal(write(pair[1], "x", 1), 1); /* an event is due already */
    watch_close(&w);
    watch_close(&w);
    assert_int_equal(fcntl(pair[0], F_GETFD), -1);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "");
    assert_int_equal(loop.watch_count, watches);
    (void)close(pair[1]);
    loop.is_sole_owner = false;
}

static void a_released_descriptor_stays_open(void **state UNUSED)
{
    struct watch w;
    int pair[2];

    assert_int_equal(pipe2(pair, O_NONBLOCK), 0);
    assert_int_equal(watch_open(&w, &loop, pair[0], NULL), 0);
    assert_int_equal(write(pair[1], "x", 1), 1);
    (void)loop_turn(&loop, 0); /* nobody to wake */
    assert_int_equal(w.ready, WATCH_IN);
    assert_int_equal(watch_release(&w), pair[0]);
    assert_int_equal(fcntl(pair[0], F_GETFD), 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void what_cannot_be_watched_is_refused(void **state UNUSED)
{
    struct watch w = {0}, zeroed = {0};
    int fd = open("/dev/null", O_RDONLY), file = open("/proc/self/exe", O_RDONLY);

    assert_int_equal(watch_open(&w, &loop, file, NULL), -EPERM);
    assert_int_equal(fcntl(file, F_GETFD), 0); /* still the caller's */
    (void)close(file);
    (void)close(fd);
    watch_close(&zeroed); /* closes nothing, not even descriptor 0 */
    assert_true(fcntl(0, F_GETFD) >= 0 || errno == EBADF);
}

/* --- timers ------------------------------------------------------------------------------------ */

struct clockwork {
    struct timer timer;
    char name;
    uint64_t again_ns;
};

static void clockwork_run(struct timer *t)
{
    struct clockwork *c = CONTAINER_OF(t, struct clockwork, timer);

    assert_false(timer_is_armed(t));
    note(c->name);
    if (c->again_ns > 0) {
        timer_arm(&loop, t, c->again_ns);
    }
}

#define CLOCKWORK(n, ...)                                                                          \
    {                                                                                              \
        .timer = {.run = clockwork_run}, .name = (n), __VA_ARGS__                                  \
    }

static void timers_run_in_order_of_time(void **state UNUSED)
{
    struct clockwork a = CLOCKWORK('a'), b = CLOCKWORK('b'), c = CLOCKWORK('c');
    uint64_t now = loop.now_ns;

    timer_arm(&loop, &b.timer, now + 2000);
    timer_arm(&loop, &c.timer, now + 3000);
    timer_arm(&loop, &a.timer, now + 9000);
    timer_arm(&loop, &a.timer, now + 1000);
    assert_true(timer_is_armed(&a.timer));
    turn_until("abc");
    assert_false(timer_is_armed(&a.timer));
}

static void a_canceled_timer_does_not_run(void **state UNUSED)
{
    struct clockwork a = CLOCKWORK('a'), b = CLOCKWORK('b');

    timer_arm_in(&loop, &a.timer, 1000);
    timer_arm_in(&loop, &b.timer, 2000);
    timer_cancel(&loop, &a.timer);
    timer_cancel(&loop, &a.timer);
    turn_until("b");
    timer_arm_in(&loop, &a.timer, UINT64_MAX); /* far away, not in the past */
    assert_true(a.timer.at_ns == UINT64_MAX);
    (void)loop_turn(&loop, 0);
    assert_string_equal(ran, "b");
    timer_cancel(&loop, &a.timer);
}

static void a_timer_for_the_past_cannot_hold_the_turn_up(void **state UNUSED)
{
    struct clockwork a = CLOCKWORK('a', .again_ns = 1);

    timer_arm(&loop, &a.timer, 0);
    for (size_t i = 0; i < 3; i++) {
        (void)loop_turn(&loop, -1);
        assert_int_equal(ran_count, i + 1);
    }
    timer_cancel(&loop, &a.timer);
}

struct numbered {
    struct timer timer;
    uint64_t at_ns;
};

static uint64_t last_at_ns;
static size_t numbered_ran;

static void numbered_run(struct timer *t)
{
    struct numbered *n = CONTAINER_OF(t, struct numbered, timer);

    assert_true(t->at_ns == n->at_ns && n->at_ns >= last_at_ns);
    last_at_ns = n->at_ns;
    numbered_ran++;
}

static void many_timers_keep_their_order(void **state UNUSED)
{
    static struct numbered timers[1000];
    struct rand r;
    size_t armed = 0;

    rand_seed(&r, 9);
    last_at_ns = numbered_ran = 0;
    for (size_t i = 0; i < 10000; i++) {
        struct numbered *n = &timers[rand_below(&r, ARRAY_LEN(timers))];

        n->timer.run = numbered_run;
        if (rand_below(&r, 3) == 0) {
            timer_cancel(&loop, &n->timer);
        } else {
            n->at_ns = loop.now_ns + 1 + rand_below(&r, 100000);
            timer_arm(&loop, &n->timer, n->at_ns);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        armed += timer_is_armed(&timers[i].timer);
    }
    assert_int_equal(loop.heap_count, armed);
    while (numbered_ran < armed) {
        (void)loop_turn(&loop, -1);
    }
    assert_int_equal(loop.heap_count, 0);
}

/* --- the rest ---------------------------------------------------------------------------------- */

static void stop_run(struct task *t UNUSED)
{
    note('s');
    loop_stop(&loop);
}

static void stop_ends_the_turn_and_the_run(void **state UNUSED)
{
    struct task stop = {.run = stop_run};
    struct actor b = ACTOR('b'), late = ACTOR('L');

    task_wake(&loop, &stop);
    task_wake(&loop, &b.task);
    task_wake_late(&loop, &late.task);
    loop_run(&loop);
    assert_string_equal(ran, "sbL");
    assert_false(loop_turn(&loop, 0));
}

static void a_thread_knows_its_loop(void **state UNUSED)
{
    struct loop other;

    assert_ptr_equal(loop_self(), &loop);
    assert_int_equal(loop_open(&other, 4, 0), 0);
    assert_ptr_equal(loop_self(), &other);
    (void)loop_turn(&loop, 0);
    assert_ptr_equal(loop_self(), &loop);
    loop_close(&other);
    assert_ptr_equal(loop_self(), &loop);
}

static void an_idle_loop_gives_its_chunks_back(void **state UNUSED)
{
    struct chunk *chunks[10];

    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        chunks[i] = chunk_new(&loop.chunks);
    }
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        chunk_free(chunks[i]);
    }
    (void)loop_turn(&loop, 0);
    assert_true(loop.trim_at_ns != UINT64_MAX);
    while (loop.trim_at_ns != UINT64_MAX) {
        loop.trim_at_ns = 1; /* a second has passed */
        (void)loop_turn(&loop, -1);
    }
    assert_int_equal(loop.chunks.free_count, 2);
    (void)loop_turn(&loop, 0);
    assert_true(loop.trim_at_ns == UINT64_MAX);
}

static void close_with_a_timer(void)
{
    static struct loop doomed;
    static struct clockwork a = CLOCKWORK('a');

    if (loop_open(&doomed, 0, 0) == 0) {
        timer_arm_in(&doomed, &a.timer, NS_PER_S);
        loop_close(&doomed);
    }
}

static void close_with_a_watch(void)
{
    static struct loop doomed;
    static struct watch w;
    int pair[2];

    if (loop_open(&doomed, 0, 0) == 0 && pipe(pair) == 0 &&
        watch_open(&w, &doomed, pair[0], NULL) == 0) {
        loop_close(&doomed);
    }
}

static void nothing_may_outlive_the_loop(void **state UNUSED)
{
    assert_aborts(close_with_a_timer);
    assert_aborts(close_with_a_watch);
}

#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, open_loop, close_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(tasks_run_in_order_once_a_round),
        LOOP_TEST(a_turn_has_a_bounded_number_of_rounds),
        LOOP_TEST(a_pending_task_can_be_canceled),
        LOOP_TEST(late_tasks_run_after_all_others),
        LOOP_TEST(memory_goes_at_the_end_of_the_turn),
        LOOP_TEST(readiness_is_recorded_and_sticky),
        LOOP_TEST(a_closed_watch_is_silent_though_copies_live),
        LOOP_TEST(a_descriptor_known_to_be_writable_wakes_nobody),
        LOOP_TEST(a_sole_owner_leaves_the_end_of_a_watch_to_close),
        LOOP_TEST(a_released_descriptor_stays_open),
        LOOP_TEST(what_cannot_be_watched_is_refused),
        LOOP_TEST(timers_run_in_order_of_time),
        LOOP_TEST(a_canceled_timer_does_not_run),
        LOOP_TEST(a_timer_for_the_past_cannot_hold_the_turn_up),
        LOOP_TEST(many_timers_keep_their_order),
        LOOP_TEST(stop_ends_the_turn_and_the_run),
        LOOP_TEST(a_thread_knows_its_loop),
        LOOP_TEST(an_idle_loop_gives_its_chunks_back),
        cmocka_unit_test(nothing_may_outlive_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
