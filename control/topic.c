/* SPDX-License-Identifier: Apache-2.0 */
#include "control/topic.h"

#include "core/alloc.h"
#include "core/err.h"

struct dep_key { /* a thing in the cluster, while an answer was read from it */
    struct topics *in;
    struct list deps;
    char *key;
    size_t key_len;
};

struct topic_message {
    struct list node;
    size_t len;
    char data[];
};

static const struct metric_family family_topics = {
    .name = "tulle_topics",
    .help = "Distinct questions that clients watch.",
    .kind = METRIC_GAUGE,
};
static const struct metric_family family_subscribers = {
    .name = "tulle_topic_subscribers",
    .help = "Streams that watch a question.",
    .kind = METRIC_GAUGE,
};
static const struct metric_family family_encoded = {
    .name = "tulle_topic_encodings_total",
    .help = "Answers and changes encoded, each for all that watch the question.",
    .kind = METRIC_COUNTER,
};

/* --- things that answers are read from ----------------------------------------------------------- */

struct bytes dep_key_name(char letter, const char *ns, const char *name, char to[DEP_KEY_BYTES])
{
    int len = snprintf(to, DEP_KEY_BYTES, "%c%s/%s", letter, ns, name);

    /* A longer name is no object's: it is cut, and nothing ever touches it. */
    return bytes_of(to, MIN((size_t)len, (size_t)DEP_KEY_BYTES - 1));
}

struct bytes dep_key_addr(char letter, const struct addr *a, bool with_port, char to[DEP_KEY_BYTES])
{
    uint16_t port = with_port ? a->port : 0;

    to[0] = letter;
    to[1] = (char)a->family;
    memcpy(to + 2, a->ip, sizeof(a->ip));
    memcpy(to + 2 + sizeof(a->ip), &port, sizeof(port));
    return bytes_of(to, 2 + sizeof(a->ip) + sizeof(port));
}

static void dep_key_free(struct dep_key *k)
{
    (void)map_remove(&k->in->deps, bytes_of(k->key, k->key_len));
    mem_free(k->key);
    mem_free(k);
}

void dep_clear(struct dep *d)
{
    struct dep_key *k = d->of;

    if (k == NULL) {
        return;
    }
    list_unlink(&d->node);
    d->of = NULL;
    if (list_is_empty(&k->deps)) {
        dep_key_free(k);
    }
}

static void dep_set(struct topics *ts, struct dep *d, struct bytes key)
{
    struct dep_key *k;

    if (d->of != NULL && bytes_eq(bytes_of(d->of->key, d->of->key_len), key)) {
        return;
    }
    dep_clear(d);
    k = map_get(&ts->deps, key);
    if (k == NULL) {
        k = mem_new(sizeof(*k));
        k->in = ts;
        k->key = bytes_dup(key);
        k->key_len = key.len;
        list_init(&k->deps);
        (void)map_put(&ts->deps, key, k);
    }
    d->of = k;
    list_append(&k->deps, &d->node);
}

void topic_depend(struct topic *t, struct dep *d, struct bytes key)
{
    d->topic = t;
    dep_set(t->in, d, key);
}

void subscriber_depend(struct subscriber *s, struct bytes key)
{
    assert(s->topic != NULL);
    s->place.topic = s->topic;
    s->place.only = s;
    dep_set(s->topic->in, &s->place, key);
}

/* --- topics -------------------------------------------------------------------------------------- */

static void topic_wake(struct topic *t)
{
    struct topics *ts = t->in;

    list_unlink(&t->node);
    list_append(&ts->touched, &t->node);
    if (ts->synced) {
        task_wake(ts->loop, &ts->run);
    }
}

void topics_touch(struct topics *ts, struct bytes key, unsigned changes)
{
    struct dep_key *k = map_get(&ts->deps, key);

    if (k == NULL) {
        return;
    }
    LIST_FOREACH(node, &k->deps)
    {
        struct dep *d = LIST_ITEM(node, struct dep, node);

        if (d->only != NULL) {
            d->only->is_misplaced = true;
        } else {
            d->topic->changes |= changes;
        }
        topic_wake(d->topic);
    }
}

struct topic *topics_find(const struct topics *ts, struct bytes key)
{
    return map_get(&ts->by_key, key);
}

int topics_add(struct topics *ts, struct topic *t, struct bytes key)
{
    assert(t->ops != NULL && topics_find(ts, key) == NULL);
    if (map_count(&ts->by_key) >= TOPICS_MAX || key.len > TOPIC_KEY_BYTES) {
        return E_LIMIT;
    }
    t->in = ts;
    t->key = bytes_dup(key);
    t->changes = TOPIC_NEW;
    list_init(&t->subscribers);
    list_init(&t->fresh);
    list_init(&t->whole);
    (void)map_put(&ts->by_key, key, t);
    series_add(ts->count, 1);
    /* Not wanted by anybody yet: freed again unless somebody subscribes. */
    list_append(&ts->unused, &t->node);
    task_wake(ts->loop, &ts->run);
    return 0;
}

void topic_subscribe(struct topic *t, struct subscriber *s)
{
    assert(s->topic == NULL && s->on_message != NULL && s->on_end != NULL);
    s->topic = t;
    s->is_misplaced = false;
    list_append(&t->fresh, &s->node);
    t->count++;
    series_add(t->in->subscribers, 1);
    topic_wake(t);
}

void topic_unsubscribe(struct subscriber *s)
{
    struct topic *t = s->topic;

    if (t == NULL) {
        return;
    }
    list_unlink(&s->node);
    dep_clear(&s->place);
    s->topic = NULL;
    series_sub(t->in->subscribers, 1);
    if (--t->count == 0) {
        /* It may be telling just now, or be asked again at once: it goes from the task. */
        list_unlink(&t->node);
        list_append(&t->in->unused, &t->node);
        task_wake(t->in->loop, &t->in->run);
    }
}

static void subscriber_end(struct subscriber *s, enum grpc_status status, const char *why)
{
    topic_unsubscribe(s);
    s->on_end(s, status, why);
}

/* Everybody who was there at the start gets it; a callback may add and remove subscribers. */
static void end_all(struct list *from, enum grpc_status status, const char *why)
{
    struct list all;
    struct list *node;

    list_init(&all);
    list_move(&all, from);
    while (!list_is_empty(&all)) {
        node = all.next;
        subscriber_end(LIST_ITEM(node, struct subscriber, node), status, why);
    }
}

void topic_refuse(struct topic *t, enum grpc_status status, const char *why, bool all)
{
    assert(status != GRPC_OK);
    t->status = status;
    t->why = why;
    topic_forget_whole(t);
    if (all) {
        end_all(&t->subscribers, status, why);
    }
}

void topic_tell(struct topic *t, struct bytes change)
{
    struct list all;
    struct list *node;

    series_add(t->in->encoded, 1);
    list_init(&all);
    list_move(&all, &t->subscribers);
    while ((node = list_pop(&all)) != NULL) {
        struct subscriber *s = LIST_ITEM(node, struct subscriber, node);

        list_append(&t->subscribers, node);
        s->on_message(s, change);
    }
}

void topic_add_whole(struct topic *t, struct bytes message)
{
    struct topic_message *m = mem_new(sizeof(*m) + message.len);

    m->len = message.len;
    memcpy(m->data, message.at, message.len);
    list_append(&t->whole, &m->node);
    t->has_whole = true;
}

void topic_forget_whole(struct topic *t)
{
    struct list *node;

    while ((node = list_pop(&t->whole)) != NULL) {
        mem_free(LIST_ITEM(node, struct topic_message, node));
    }
    t->has_whole = false;
}

void topic_answer(struct topic *t, struct bytes message)
{
    if (t->status == GRPC_OK && t->has_whole) {
        const struct topic_message *m = LIST_ITEM(t->whole.next, struct topic_message, node);

        if (bytes_eq(bytes_of(m->data, m->len), message)) {
            return;
        }
    }
    t->status = GRPC_OK;
    topic_forget_whole(t);
    topic_add_whole(t, message);
    topic_tell(t, message);
}

/* --- the task ------------------------------------------------------------------------------------ */

static void end_misplaced(struct list *in)
{
    struct list all;
    struct list *node;

    list_init(&all);
    list_move(&all, in);
    while ((node = list_pop(&all)) != NULL) {
        struct subscriber *s = LIST_ITEM(node, struct subscriber, node);

        list_append(in, node);
        if (s->is_misplaced) {
            subscriber_end(s, GRPC_UNAVAILABLE,
                           "what the question was about has changed: ask again");
        }
    }
}

static void tell_whole(struct topic *t, struct subscriber *s)
{
    LIST_FOREACH(node, &t->whole)
    {
        const struct topic_message *m = LIST_ITEM(node, struct topic_message, node);

        if (s->topic == t) {
            s->on_message(s, bytes_of(m->data, m->len));
        }
    }
}

static void topic_serve_fresh(struct topic *t)
{
    struct list all;
    struct list *node;

    if (list_is_empty(&t->fresh)) {
        return;
    }
    if (t->status != GRPC_OK) {
        end_all(&t->fresh, t->status, t->why);
        return;
    }
    if (!t->has_whole && t->ops->encode != NULL) {
        t->ops->encode(t);
        series_add(t->in->encoded, t->has_whole ? 1 : 0);
        t->has_whole = true;
    }
    list_init(&all);
    list_move(&all, &t->fresh);
    while ((node = list_pop(&all)) != NULL) {
        list_append(&t->subscribers, node);
        tell_whole(t, LIST_ITEM(node, struct subscriber, node));
    }
}

static void topic_run(struct topic *t)
{
    unsigned changes = t->changes;

    if (t->count == 0) {
        list_append(&t->in->unused, &t->node); /* touched after its last subscriber left */
        return;
    }
    end_misplaced(&t->subscribers);
    end_misplaced(&t->fresh);
    t->changes = 0;
    if (changes != 0) {
        t->ops->compute(t, changes);
    }
    topic_serve_fresh(t);
}

static void topic_free(struct topic *t)
{
    (void)map_remove(&t->in->by_key, bytes_str(t->key));
    series_sub(t->in->count, 1);
    list_unlink(&t->node);
    topic_forget_whole(t);
    mem_free(t->key);
    t->ops->free(t);
}

static void topics_run(struct task *task)
{
    struct topics *ts = CONTAINER_OF(task, struct topics, run);
    struct list *node;

    while (ts->synced && (node = list_pop(&ts->touched)) != NULL) {
        topic_run(LIST_ITEM(node, struct topic, node));
    }
    while ((node = list_pop(&ts->unused)) != NULL) {
        topic_free(LIST_ITEM(node, struct topic, node));
    }
}

void topics_synced(struct topics *ts)
{
    ts->synced = true;
    task_wake(ts->loop, &ts->run);
}

void topics_init(struct topics *ts, struct loop *l, struct metrics *m, const char *engine)
{
    struct text labels;

    *ts = (struct topics){.loop = l, .run = {.run = topics_run}};
    map_init(&ts->by_key);
    map_init(&ts->deps);
    list_init(&ts->touched);
    list_init(&ts->unused);
    text_init(&labels, SERIES_LABELS_MAX);
    label_add(&labels, "engine", bytes_str(engine));
    ts->count = metrics_series(m, &family_topics, text_bytes(&labels));
    ts->subscribers = metrics_series(m, &family_subscribers, text_bytes(&labels));
    ts->encoded = metrics_series(m, &family_encoded, text_bytes(&labels));
    text_clear(&labels);
}

void topics_clear(struct topics *ts)
{
    struct map_iter it = MAP_ITER(&ts->by_key);

    while (map_next(&it)) {
        struct topic *t = it.value;
        struct list *lists[] = {&t->subscribers, &t->fresh};

        for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
            while (!list_is_empty(lists[i])) {
                topic_unsubscribe(LIST_ITEM(lists[i]->next, struct subscriber, node));
            }
        }
        topic_free(t);
    }
    task_cancel(&ts->run);
    assert(map_count(&ts->deps) == 0);
    map_clear(&ts->by_key);
    map_clear(&ts->deps);
    series_unref(ts->count);
    series_unref(ts->subscribers);
    series_unref(ts->encoded);
}
