/* SPDX-License-Identifier: Apache-2.0 */
/* What all who ask share: one question for each key, its cache, its limits, its end. */
#include "discovery_probe.h"

#include "core/worker.h"

static struct asker second;

/* --- the cache -------------------------------------------------------------------------------- */

static void one_question_for_all_who_ask(void **state)
{
    struct discovery_cache *other = discovery_cache_new(&loop, &loop, discovery, IDLE_NS, IDLE_NS);
    struct discovery_cache *mine = cache;

    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    cache = other;
    ask(&second, QUESTION_ENDPOINTS, BYTES(WEB));
    cache = mine;
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, asker.answers == 1 && second.answers == 1);
    assert_ptr_equal(asker.entry->answer, second.entry->answer); /* a snapshot is shared */
    assert_int_equal(plane.asked, 1);
    let_go(&asker);
    discovery_cache_free(mine); /* says at once that it wants no more */
    cache = NULL;
    settle(&loop);
    assert_true(CALLED(GET)); /* the other still does */
    plane_send(&plane, GET, ADD(EP(2)));
    UNTIL(&loop, knows(&second, "1 2", ENDPOINTS_EXIST));
    cache = other;
    let_go(&second);
    UNTIL(&loop, discovery_count(discovery, QUESTION_ENDPOINTS) == 0 && !CALLED(GET));
}

static void entries_are_kept_a_while(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    ask(&second, QUESTION_ENDPOINTS, BYTES(WEB));
    assert_ptr_equal(asker.entry, second.entry);
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, asker.answers == 1 && second.answers == 1);
    let_go(&asker);
    let_go(&second);
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB)); /* back in time: nothing was asked anew */
    assert_non_null(asker.entry->answer);
    assert_int_equal(asker.answers, 0); /* told from a task, never from the call */
    UNTIL(&loop, asker.answers == 1);
    assert_int_equal(plane.asked, 1);
    let_go(&asker);
    UNTIL(&loop, discovery_count(discovery, QUESTION_ENDPOINTS) == 0);
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    assert_null(asker.entry->answer);
    UNTIL(&loop, plane.asked == 2);
    let_go(&asker);
}

static void who_waits_may_give_up(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    ask(&second, QUESTION_ENDPOINTS, BYTES(WEB));
    discovery_wait_cancel(&asker.waiter);
    discovery_wait_cancel(&asker.waiter);
    discovery_unfollow(&second.user);
    discovery_unfollow(&second.user);
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, second.answers == 1);
    assert_int_equal(asker.answers, 0);
    assert_int_equal(asker.changes, 1);
    assert_int_equal(second.changes, 0);
    let_go(&asker);
    let_go(&second);
}

/* One waiter's answer may end another's wait, and its own interest. */
static void on_answer_end_other(struct discovery_waiter *w, const struct snapshot *answer)
{
    on_answer(w, answer);
    let_go(&second);
    let_go(&asker);
}

static void on_change_end_all(struct discovery_user *u, const struct snapshot *answer)
{
    on_change(u, answer);
    discovery_unfollow(&asker.user);
    discovery_unfollow(&second.user);
}

static void callbacks_may_do_anything(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    ask(&second, QUESTION_ENDPOINTS, BYTES(WEB));
    asker.waiter.on_answer = on_answer_end_other;
    asker.user.on_change = on_change_end_all;
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, asker.entry == NULL);
    assert_int_equal(asker.changes, 1);
    assert_int_equal(second.changes + second.answers, 0);
}

/* Beyond the limit a question is answered, with an error, and not asked. */
static void too_many_questions(void **state)
{
    static struct asker many[QUESTIONS_MAX];
    struct addr addr = addr_v4(0xc0000200, 1);
    struct asker web, closed;

    (void)state;
    plane_down(&plane);
    for (uint32_t i = 0; i < QUESTIONS_MAX; i++) {
        addr = addr_v4(0xc0000000u + i, 1);
        ask(&many[i], QUESTION_OUTBOUND, addr_key(&addr));
    }
    settle(&loop);
    assert_int_equal(discovery_count(discovery, QUESTION_OUTBOUND), QUESTIONS_MAX);
    ask(&asker, QUESTION_OUTBOUND, target("198.51.100.1:80"));
    UNTIL(&loop, asker.answers == 1);
    assert_non_null(policy_of(&asker)->problem);
    assert_int_equal(discovery_count(discovery, QUESTION_OUTBOUND), QUESTIONS_MAX);
    let_go(&many[0]);
    UNTIL(&loop, discovery_count(discovery, QUESTION_OUTBOUND) == QUESTIONS_MAX - 1);
    ask(&second, QUESTION_OUTBOUND, target("198.51.100.2:80"));
    settle(&loop);
    assert_int_equal(second.answers, 0); /* there is room again: it is asked */
    assert_int_equal(discovery_count(discovery, QUESTION_OUTBOUND), QUESTIONS_MAX);
    let_go(&asker);
    let_go(&second);
    for (uint32_t i = 1; i < QUESTIONS_MAX; i++) {
        let_go(&many[i]);
    }
    UNTIL(&loop, discovery_count(discovery, QUESTION_OUTBOUND) == 0);

    for (uint32_t i = 0; i < QUESTIONS_MAX; i++) {
        discovery_watch_port(discovery, (uint16_t)(i + 1));
    }
    ask(&closed, QUESTION_INBOUND, port(60000));
    UNTIL(&loop, closed.answers == 1);
    assert_bytes(server_of(&closed)->meta.name, "deny");
    assert_non_null(strstr(server_of(&closed)->labels.at, "srv_port=\"60000\""));
    let_go(&closed);
    ask(&web, QUESTION_ENDPOINTS, BYTES(WEB)); /* each kind has a limit of its own */
    settle(&loop);
    assert_int_equal(discovery_count(discovery, QUESTION_ENDPOINTS), 1);
    let_go(&web);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Workers go first; what they still had to say is delivered when the discovery is gone. */
static void messages_outlive_both_sides(void **state)
{
    (void)state;
    ask(&asker, QUESTION_ENDPOINTS, BYTES(WEB));
    UNTIL(&loop, CALLED(GET));
    plane_send(&plane, GET, ADD(EP(1)));
    UNTIL(&loop, asker.answers == 1);
    /* On their way when all ends. */
    discovery_release(cache, discovery_ask(cache, QUESTION_OUTBOUND, target("10.1.2.3:80")));
    discovery_release(cache, discovery_ask(cache, QUESTION_INBOUND, port(1)));
    let_go(&asker);
}

/* --- threads ---------------------------------------------------------------------------------- */

#define THREADS 3
#define ROUNDS  200

/* Every worker asks for the same services again and again, and lets go of them. */
struct client {
    struct worker worker;
    struct discovery_cache *cache;
    struct discovery_waiter waiter;
    struct discovery_entry *entry;
    struct timer next;
    unsigned round, answers;
    _Atomic bool done;
};

static void client_ask(struct client *c);

static void client_answer(struct discovery_waiter *w, const struct snapshot *answer)
{
    struct client *c = CONTAINER_OF(w, struct client, waiter);
    const struct endpoint_set *set = (const struct endpoint_set *)(const void *)answer;

    assert_int_equal(set->state, ENDPOINTS_EXIST);
    assert_int_equal(set->at[0]->addr.port, 80);
    c->answers++;
    discovery_release(c->cache, c->entry);
    c->entry = NULL;
    timer_arm_in(&c->worker.loop, &c->next, 0);
}

static void client_next(struct timer *t)
{
    struct client *c = CONTAINER_OF(t, struct client, next);

    if (++c->round < ROUNDS) {
        client_ask(c);
    } else {
        atomic_store(&c->done, true);
    }
}

static void client_ask(struct client *c)
{
    char key[64];

    (void)snprintf(key, sizeof(key), "web-%u.app.svc.cluster.local:80", c->round % 7);
    c->entry = discovery_ask(c->cache, QUESTION_ENDPOINTS, bytes_str(key));
    discovery_wait(c->cache, c->entry, &c->waiter);
}

static void client_setup(struct worker *w)
{
    struct client *c = w->user;

    c->cache = discovery_cache_new(&w->loop, &loop, discovery, 0, 0); /* dropped as soon as idle */
    c->waiter.on_answer = client_answer;
    c->next.run = client_next;
    client_ask(c);
}

static void client_teardown(struct worker *w)
{
    struct client *c = w->user;

    timer_cancel(&w->loop, &c->next);
    if (c->entry != NULL) {
        discovery_wait_cancel(&c->waiter);
        discovery_release(c->cache, c->entry);
    }
    discovery_cache_free(c->cache);
}

static void answer_get(struct plane *p, struct grpc_server_call *call, const char *path,
                       struct bytes message)
{
    (void)p;
    (void)path;
    (void)message;
    assert_int_equal(grpc_send(call, ADD(EP(1), EP(2))), 0);
}

static void workers_share_the_discovery(void **state)
{
    static struct client clients[THREADS];
    unsigned done = 0;

    (void)state;
    memset(clients, 0, sizeof(clients));
    plane.on_request = answer_get;
    for (unsigned i = 0; i < THREADS; i++) {
        clients[i].worker.setup = client_setup;
        clients[i].worker.teardown = client_teardown;
        clients[i].worker.user = &clients[i];
        assert_int_equal(worker_start(&clients[i].worker, i + 1, 100), 0);
    }
    UNTIL(&loop, atomic_load(&clients[0].done)); /* the others are stopped wherever they are */
    for (unsigned i = 0; i < THREADS; i++) {
        worker_stop(&clients[i].worker);
        done += clients[i].answers;
    }
    assert_true(done >= ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_question_for_all_who_ask),
        TEST(entries_are_kept_a_while),
        TEST(who_waits_may_give_up),
        TEST(callbacks_may_do_anything),
        TEST(too_many_questions),
        TEST(messages_outlive_both_sides),
        TEST(workers_share_the_discovery),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
