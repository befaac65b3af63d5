/* SPDX-License-Identifier: Apache-2.0 */
/* Watches: who hears what, in which order, and what a callback may do. */
#include "fixture.h"

struct reader {
    struct cluster_watch watch;
    struct fixture *f;
    const char *name;
    void (*on_first)(struct reader *r); /* called within its first event */
    struct reader *victim;
};

static void reader_event(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                         const struct object *old)
{
    struct reader *r = CONTAINER_OF(w, struct reader, watch);
    void (*on_first)(struct reader *) = r->on_first;
    const char *was = old != NULL ? object_annotation(old, "v") : "";
    const char *is = object_annotation(o, "v");

    text_printf(&r->f->heard, "%s %c %s %s>%s\n", r->name, e == CLUSTER_DELETE ? '-' : '+', o->name,
                was != NULL ? was : "", is != NULL ? is : "");
    r->on_first = NULL;
    if (on_first != NULL) {
        on_first(r);
    }
}

static void reader_synced(struct cluster_watch *w)
{
    struct reader *r = CONTAINER_OF(w, struct reader, watch);

    text_printf(&r->f->heard, "%s synced\n", r->name);
}

/* Not on a test's stack: the cluster of a test that fails is closed after its function is gone. */
static struct reader readers[3];

static struct reader *reader_at(size_t i, struct fixture *f, const char *name, uint64_t kinds)
{
    readers[i] = (struct reader){
        .watch = {.kinds = kinds, .on_event = reader_event, .on_synced = reader_synced},
        .f = f,
        .name = name};
    return &readers[i];
}

static void put(struct fixture *f, const char *name, const char *value)
{
    assert_int_equal(cluster_put(f->cluster, json_pack("{s:s, s:s, s:{s:s, s:{s:s}}}", "apiVersion",
                                                       "v1", "kind", "Service", "metadata", "name",
                                                       name, "annotations", "v", value)),
                     0);
}

static void open_bare(struct fixture *f)
{
    assert_int_equal(cluster_open_dir(&f->loop, f->dir, &f->cluster), 0);
    WAIT_UNTIL(f, f->cluster->synced);
}

#define SERVICES (UINT64_C(1) << KIND_SERVICE)

static void a_late_watch_hears_the_present_then_the_news(void **state)
{
    struct fixture *f = *state;
    struct reader *early = reader_at(0, f, "early", SERVICES),
                  *late = reader_at(1, f, "late", SERVICES);

    open_bare(f);
    cluster_watch_add(f->cluster, &early->watch);
    put(f, "a", "1");
    put(f, "a", "2");
    /* Both are still on their way when the late one comes: it has the newest state only. */
    cluster_watch_add(f->cluster, &late->watch);
    put(f, "a", "3");
    assert_int_equal(f->heard.len, 0);
    assert_heard(f, "early synced\nearly + a >1\nearly + a 1>2\nlate + a >2\nlate synced\n"
                    "early + a 2>3\nlate + a 2>3\n");
    assert_int_equal(cluster_delete(f->cluster, KIND_SERVICE, "default", "a"), 0);
    assert_heard(f, "early - a 3>3\nlate - a 3>3\n");
}

static void only_wanted_kinds_are_told(void **state)
{
    struct fixture *f = *state;
    struct reader *pods = reader_at(0, f, "pods", UINT64_C(1) << KIND_POD),
                  *all = reader_at(1, f, "all", ~UINT64_C(0));

    open_bare(f);
    put(f, "a", "1");
    cluster_watch_add(f->cluster, &pods->watch);
    cluster_watch_add(f->cluster, &all->watch);
    put(f, "a", "2");
    assert_heard(f, "pods synced\nall + a >1\nall synced\nall + a 1>2\n");
}

static void remove_victim(struct reader *r)
{
    cluster_watch_remove(&r->victim->watch);
    cluster_watch_remove(&r->victim->watch); /* idempotent */
}

static void a_watch_may_remove_any_watch(void **state)
{
    struct fixture *f = *state;
    struct reader *a = reader_at(0, f, "a", SERVICES), *b = reader_at(1, f, "b", SERVICES),
                  *c = reader_at(2, f, "c", SERVICES);

    open_bare(f);
    cluster_watch_add(f->cluster, &a->watch);
    cluster_watch_add(f->cluster, &b->watch);
    cluster_watch_add(f->cluster, &c->watch);
    assert_heard(f, "a synced\nb synced\nc synced\n");
    a->on_first = remove_victim;
    a->victim = b;
    c->on_first = remove_victim;
    c->victim = c;
    put(f, "x", "1");
    put(f, "x", "2");
    assert_heard(f, "a + x >1\nc + x >1\na + x 1>2\n");
    /* What a removed one was still owed is gone as well. */
    cluster_watch_add(f->cluster, &b->watch);
    cluster_watch_remove(&b->watch);
    put(f, "x", "3");
    assert_heard(f, "a + x 2>3\n");
}

static void add_victim(struct reader *r)
{
    cluster_watch_add(r->f->cluster, &r->victim->watch);
}

static void a_watch_may_add_another(void **state)
{
    struct fixture *f = *state;
    struct reader *a = reader_at(0, f, "a", SERVICES), *b = reader_at(1, f, "b", SERVICES);

    open_bare(f);
    a->on_first = add_victim;
    a->victim = b;
    cluster_watch_add(f->cluster, &a->watch);
    put(f, "x", "1");
    put(f, "x", "2");
    assert_heard(f, "a synced\na + x >1\na + x 1>2\nb + x >2\nb synced\n");
}

static void close_cluster(struct reader *r)
{
    cluster_close(r->f->cluster);
    r->f->cluster = NULL;
}

static void a_watch_may_close_the_cluster(void **state)
{
    struct fixture *f = *state;
    struct reader *a = reader_at(0, f, "a", SERVICES), *b = reader_at(1, f, "b", SERVICES);

    open_bare(f);
    a->on_first = close_cluster;
    cluster_watch_add(f->cluster, &a->watch);
    cluster_watch_add(f->cluster, &b->watch);
    put(f, "x", "1");
    WAIT_UNTIL(f, f->cluster == NULL);
    (void)loop_turn(&f->loop, 0);
    assert_string_equal(f->heard.at, "a synced\nb synced\na + x >1\n");
    cluster_watch_remove(&b->watch); /* harmless */
}

static const struct object *kept;

static void keep_event(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                       const struct object *old)
{
    (void)w;
    (void)e;
    (void)old;
    if (kept == NULL) {
        object_ref(o);
        kept = o;
    }
}

static void an_object_outlives_its_cluster(void **state)
{
    struct fixture *f = *state;
    static struct cluster_watch w;

    w = (struct cluster_watch){.kinds = SERVICES, .on_event = keep_event};
    kept = NULL;
    open_bare(f);
    cluster_watch_add(f->cluster, &w);
    put(f, "x", "1");
    WAIT_UNTIL(f, kept != NULL);
    put(f, "x", "2");
    fixture_close(f);
    assert_string_equal(kept->name, "x");
    assert_string_equal(object_annotation(kept, "v"), "1");
    object_unref(kept);
}

/* More than one run of the delivery. */
static void many_events_keep_their_order(void **state)
{
    struct fixture *f = *state;
    struct reader *a = reader_at(0, f, "a", SERVICES);
    char expected[64];
    const char *at;

    open_bare(f);
    cluster_watch_add(f->cluster, &a->watch);
    for (unsigned i = 0; i < 1500; i++) {
        char value[16];

        (void)snprintf(value, sizeof(value), "%u", i);
        put(f, "x", value);
    }
    WAIT_UNTIL(f, has_heard(f, "a + x 1498>1499\n"));
    at = f->heard.at;
    for (unsigned i = 1; i < 1500; i++) {
        (void)snprintf(expected, sizeof(expected), "a + x %u>%u\n", i - 1, i);
        at = strstr(at, expected);
        assert_non_null(at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIR_TEST(a_late_watch_hears_the_present_then_the_news),
        DIR_TEST(only_wanted_kinds_are_told),
        DIR_TEST(a_watch_may_remove_any_watch),
        DIR_TEST(a_watch_may_add_another),
        DIR_TEST(a_watch_may_close_the_cluster),
        DIR_TEST(an_object_outlives_its_cluster),
        DIR_TEST(many_events_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
