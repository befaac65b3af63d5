/* SPDX-License-Identifier: Apache-2.0 */
/* Questions, who asks them, and what they are read from (topic.h). */
#include "tests/unit/unit.h"

#include "control/topic.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

struct rig {
    struct loop loop;
    struct metrics metrics;
    struct topics topics;
};

/* A topic that answers with its text and counts how often it was asked. */
struct echo {
    struct topic topic;
    struct dep dep;
    char key[8];
    const char *answer; /* NULL: refuses everybody; "": only the new ones */
    unsigned computed, changes;
    bool *freed;
};

struct asker {
    struct subscriber subscriber;
    char heard[256];
    struct subscriber *drops; /* unsubscribed at the next message */
};

static void on_message(struct subscriber *s, struct bytes message)
{
    struct asker *a = CONTAINER_OF(s, struct asker, subscriber);

    (void)snprintf(a->heard + strlen(a->heard), sizeof(a->heard) - strlen(a->heard), BYTES_FMT ";",
                   BYTES_ARG(message));
    if (a->drops != NULL) {
        topic_unsubscribe(a->drops);
        a->drops = NULL;
    }
}

static void on_end(struct subscriber *s, enum grpc_status status, const char *why)
{
    struct asker *a = CONTAINER_OF(s, struct asker, subscriber);

    assert_null(s->topic);
    (void)snprintf(a->heard + strlen(a->heard), sizeof(a->heard) - strlen(a->heard), "end %d %s;",
                   (int)status, why);
}

static void compute(struct topic *t, unsigned changes)
{
    struct echo *e = CONTAINER_OF(t, struct echo, topic);

    e->computed++;
    e->changes = changes;
    topic_depend(t, &e->dep, bytes_str(e->key));
    if (e->answer == NULL) {
        topic_refuse(t, GRPC_NOT_FOUND, "gone", true);
    } else if (e->answer[0] == '\0') {
        topic_refuse(t, GRPC_NOT_FOUND, "gone", false);
    } else {
        topic_answer(t, bytes_str(e->answer));
    }
}

static void echo_free(struct topic *t)
{
    struct echo *e = CONTAINER_OF(t, struct echo, topic);

    dep_clear(&e->dep);
    *e->freed = true;
    mem_free(e);
}

static const struct topic_ops echo_ops = {.compute = compute, .free = echo_free};

static struct echo *echo_add(struct rig *r, const char *key, const char *dep, const char *answer,
                             bool *freed)
{
    struct echo *e = mem_new(sizeof(*e));

    e->topic.ops = &echo_ops;
    e->answer = answer;
    e->freed = freed;
    *freed = false;
    (void)snprintf(e->key, sizeof(e->key), "%s", dep);
    assert_int_equal(topics_add(&r->topics, &e->topic, bytes_str(key)), 0);
    assert_ptr_equal(topics_find(&r->topics, bytes_str(key)), &e->topic);
    return e;
}

static void asker_add(struct asker *a, struct echo *e)
{
    *a = (struct asker){.subscriber = {.on_message = on_message, .on_end = on_end}};
    topic_subscribe(&e->topic, &a->subscriber);
}

static void turn(struct rig *r)
{
    (void)loop_turn(&r->loop, 0);
    (void)loop_turn(&r->loop, 0);
}

static int setup(void **state)
{
    struct rig *r = mem_new(sizeof(*r));

    assert_int_equal(loop_open(&r->loop, 0, 16), 0);
    metrics_init(&r->metrics, 10, NS_PER_S);
    topics_init(&r->topics, &r->loop, &r->metrics, "test");
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    topics_clear(&r->topics);
    loop_close(&r->loop);
    metrics_clear(&r->metrics);
    mem_free(r);
    return 0;
}

static void answers_wait_for_the_cluster(void **state)
{
    struct rig *r = *state;
    bool freed;
    struct echo *e = echo_add(r, "q", "d", "yes", &freed);
    struct asker a;

    asker_add(&a, e);
    turn(r);
    assert_int_equal(e->computed, 0);
    topics_synced(&r->topics);
    turn(r);
    assert_int_equal(e->changes, TOPIC_NEW);
    assert_string_equal(a.heard, "yes;");
    topic_unsubscribe(&a.subscriber);
    turn(r);
    assert_true(freed);
}

static void touches_are_gathered_and_concern_only_their_topics(void **state)
{
    struct rig *r = *state;
    bool freed, other_freed;
    struct echo *e = echo_add(r, "q", "d", "1", &freed),
                *other = echo_add(r, "p", "x", "1", &other_freed);
    struct asker a, b;

    topics_synced(&r->topics);
    asker_add(&a, e);
    asker_add(&b, other);
    turn(r);
    e->answer = "2";
    topics_touch(&r->topics, BYTES("d"), 2);
    topics_touch(&r->topics, BYTES("d"), 4);
    topics_touch(&r->topics, BYTES("nobody's"), 8);
    turn(r);
    assert_int_equal(e->computed, 2);
    assert_int_equal(e->changes, 6);
    assert_int_equal(other->computed, 1);
    topics_touch(&r->topics, BYTES("d"), 2); /* the answer is the same: it is not told */
    turn(r);
    assert_int_equal(e->computed, 3);
    assert_string_equal(a.heard, "1;2;");
    topic_unsubscribe(&a.subscriber);
    topic_unsubscribe(&a.subscriber);
    topic_unsubscribe(&b.subscriber);
    turn(r);
    assert_true(freed && other_freed);
    assert_int_equal(map_count(&r->topics.deps), 0);
}

static void refusals(void **state)
{
    struct rig *r = *state;
    bool freed;
    struct echo *e = echo_add(r, "q", "d", "1", &freed);
    struct asker a, late, later;

    topics_synced(&r->topics);
    asker_add(&a, e);
    turn(r);
    e->answer = "";
    topics_touch(&r->topics, BYTES("d"), 2);
    asker_add(&late, e);
    turn(r);
    assert_string_equal(a.heard, "1;");
    assert_string_equal(late.heard, "end 5 gone;");
    e->answer = "1";
    topics_touch(&r->topics, BYTES("d"), 2);
    asker_add(&later, e);
    turn(r);
    assert_string_equal(a.heard, "1;1;");
    assert_string_equal(later.heard, "1;");
    e->answer = NULL;
    topics_touch(&r->topics, BYTES("d"), 2);
    turn(r);
    assert_string_equal(a.heard, "1;1;end 5 gone;");
    assert_string_equal(later.heard, "1;end 5 gone;");
    assert_true(freed);
}

/* Whoever leaves while a message goes round does not get it; the others do, once. */
static void leaving_inside_a_message(void **state)
{
    struct rig *r = *state;
    bool freed;
    struct echo *e = echo_add(r, "q", "d", "1", &freed);
    struct asker a[4];

    topics_synced(&r->topics);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        asker_add(&a[i], e);
    }
    turn(r);
    a[0].drops = &a[2].subscriber;
    a[1].drops = &a[1].subscriber;
    e->answer = "2";
    topics_touch(&r->topics, BYTES("d"), 2);
    turn(r);
    assert_string_equal(a[0].heard, "1;2;");
    assert_string_equal(a[1].heard, "1;2;");
    assert_string_equal(a[2].heard, "1;");
    assert_string_equal(a[3].heard, "1;2;");
    a[0].drops = &a[3].subscriber;
    a[3].drops = &a[0].subscriber;
    e->answer = "3";
    topics_touch(&r->topics, BYTES("d"), 2);
    turn(r);
    assert_false(freed); /* one of them is left */
    topic_unsubscribe(&a[0].subscriber);
    topic_unsubscribe(&a[3].subscriber);
    turn(r);
    assert_true(freed);
}

/* Asked again in the turn in which the last one left, a topic lives on with its answer. */
static void asked_again_at_once(void **state)
{
    struct rig *r = *state;
    bool freed;
    struct echo *e = echo_add(r, "q", "d", "1", &freed);
    struct asker a, b;

    topics_synced(&r->topics);
    asker_add(&a, e);
    turn(r);
    topic_unsubscribe(&a.subscriber);
    asker_add(&b, e);
    turn(r);
    assert_false(freed);
    assert_int_equal(e->computed, 1);
    assert_string_equal(b.heard, "1;");
    topic_unsubscribe(&b.subscriber);
    topics_touch(&r->topics, BYTES("d"), 2); /* touched when nobody is left: it still goes */
    turn(r);
    assert_true(freed);
    assert_int_equal(map_count(&r->topics.by_key), 0);
}

static void a_subscriber_whose_place_changed_asks_again(void **state)
{
    struct rig *r = *state;
    bool freed;
    struct echo *e = echo_add(r, "q", "d", "1", &freed);
    struct asker a, b;

    topics_synced(&r->topics);
    asker_add(&a, e);
    subscriber_depend(&a.subscriber, BYTES("node-1"));
    asker_add(&b, e);
    subscriber_depend(&b.subscriber, BYTES("node-2"));
    turn(r);
    topics_touch(&r->topics, BYTES("node-1"), 2);
    turn(r);
    assert_non_null(strstr(a.heard, "1;end 14 "));
    assert_string_equal(b.heard, "1;");
    assert_int_equal(e->computed, 1);
    topic_unsubscribe(&b.subscriber);
    turn(r);
    assert_true(freed);
    assert_int_equal(map_count(&r->topics.deps), 0);
}

static void unasked_topics_go(void **state)
{
    struct rig *r = *state;
    bool freed;

    (void)echo_add(r, "q", "d", "1", &freed);
    turn(r);
    assert_true(freed);
}

static void limits(void **state)
{
    struct rig *r = *state;
    struct echo *e = mem_new(sizeof(*e));
    char key[TOPIC_KEY_BYTES + 1];

    e->topic.ops = &echo_ops;
    memset(key, 'k', sizeof(key));
    assert_int_equal(topics_add(&r->topics, &e->topic, bytes_of(key, sizeof(key))), E_LIMIT);
    assert_int_equal(map_count(&r->topics.by_key), 0);
    mem_free(e);
}

#define TOPIC_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TOPIC_TEST(answers_wait_for_the_cluster),
        TOPIC_TEST(touches_are_gathered_and_concern_only_their_topics),
        TOPIC_TEST(refusals),
        TOPIC_TEST(leaving_inside_a_message),
        TOPIC_TEST(asked_again_at_once),
        TOPIC_TEST(a_subscriber_whose_place_changed_asks_again),
        TOPIC_TEST(unasked_topics_go),
        TOPIC_TEST(limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
