/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/arena.h"
#include "core/mailbox.h"
#include "core/worker.h"
#include "tests/unit/unit.h"

#include <semaphore.h>

#define WORKERS 3

struct post {
    struct worker worker;
    unsigned setups, teardowns, answers; /* the worker's own until it is joined */
    sem_t answered;
};

static void post_setup(struct worker *w)
{
    struct post *p = w->user;

    assert_ptr_equal(loop_self(), &w->loop);
    assert_true(pthread_equal(pthread_self(), w->thread));
    p->setups++;
}

static void post_teardown(struct worker *w)
{
    struct post *p = w->user;

    assert_ptr_equal(loop_self(), &w->loop);
    p->teardowns++;
}

struct question {
    struct message message;
    struct post *to;
};

static void question_deliver(struct message *m, struct loop *l)
{
    struct question *q = CONTAINER_OF(m, struct question, message);
    struct arena a;

    assert_ptr_equal(l, &q->to->worker.loop);
    assert_int_equal(q->to->setups, 1); /* setup comes first */
    arena_init(&a, 10000);
    (void)arena_new(&a, 100);
    arena_clear(&a);
    q->to->answers++;
    (void)sem_post(&q->to->answered);
    mem_free(q);
}

static void ask(struct post *p)
{
    struct question *q = mem_new(sizeof(*q));

    q->message.deliver = question_deliver;
    q->to = p;
    loop_post(&p->worker.loop, &q->message);
}

static void start(struct post *p, unsigned index)
{
    *p = (struct post){.worker = {.setup = post_setup, .teardown = post_teardown, .user = p}};
    assert_int_equal(sem_init(&p->answered, 0, 0), 0);
    assert_int_equal(worker_start(&p->worker, index, 4), 0);
    assert_null(loop_self()); /* the caller's own loop does not change */
}

static void workers_answer_on_their_own_threads(void **state UNUSED)
{
    struct post posts[WORKERS];

    for (unsigned i = 0; i < WORKERS; i++) {
        start(&posts[i], i + 1);
    }
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < WORKERS; i++) {
            ask(&posts[i]);
        }
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        for (unsigned round = 0; round < 100; round++) {
            assert_int_equal(sem_wait(&posts[i].answered), 0);
        }
        worker_stop(&posts[i].worker);
        assert_int_equal(posts[i].setups, 1);
        assert_int_equal(posts[i].teardowns, 1);
        assert_int_equal(posts[i].answers, 100);
        (void)sem_destroy(&posts[i].answered);
    }
}

static void stop_right_after_start_loses_nothing(void **state UNUSED)
{
    for (int i = 0; i < 50; i++) {
        struct post p;

        start(&p, 1);
        ask(&p);
        worker_stop(&p.worker);
        assert_int_equal(p.setups + p.teardowns + p.answers, 3);
        (void)sem_destroy(&p.answered);
    }
}

static void setup_and_teardown_are_optional(void **state UNUSED)
{
    struct worker w = {0};

    assert_int_equal(worker_start(&w, 1, 0), 0);
    worker_stop(&w);
}

static void this_machine_has_a_core_and_memory(void **state UNUSED)
{
    assert_in_range(worker_default_count(), 1, sysconf(_SC_NPROCESSORS_CONF));
    assert_true(worker_memory_limit() > 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_answer_on_their_own_threads),
        cmocka_unit_test(stop_right_after_start_loses_nothing),
        cmocka_unit_test(setup_and_teardown_are_optional),
        cmocka_unit_test(this_machine_has_a_core_and_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
