/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/store.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"

#define EVENTS_A_RUN 512 /* then other tasks of the loop have their turn */

enum event_what { EVENT_UPSERT, EVENT_DELETE, EVENT_SYNCED, EVENT_PROBLEM };

struct event {
    struct list node; /* store.events */
    enum event_what what;
    uint64_t number;             /* of the change; watches added later do not want it */
    struct cluster_watch *only;  /* set: for this watch alone */
    const struct object *object; /* a reference */
    const struct object *old;    /* a reference or NULL */
    char *text;                  /* of a problem */
};

static void event_free(struct event *e)
{
    list_unlink(&e->node);
    object_unref(e->object);
    object_unref(e->old);
    mem_free(e->text);
    mem_free(e);
}

static struct event *event_add(struct store *s, enum event_what what, const struct object *o,
                               const struct object *old)
{
    struct event *e = mem_new(sizeof(*e));

    e->what = what;
    e->number = s->changes;
    e->object = o;
    e->old = old;
    if (o != NULL) {
        object_ref(o);
    }
    if (old != NULL) {
        object_ref(old);
    }
    list_append(&s->events, &e->node);
    task_wake(s->cluster.loop, &s->deliver);
    return e;
}

/* --- delivery ------------------------------------------------------------------------------------ */

static void event_tell(const struct event *e, struct cluster_watch *w)
{
    switch (e->what) {
    case EVENT_UPSERT:
    case EVENT_DELETE:
        if ((w->kinds & (UINT64_C(1) << e->object->kind)) != 0 && w->on_event != NULL) {
            w->on_event(w, e->what == EVENT_UPSERT ? CLUSTER_UPSERT : CLUSTER_DELETE, e->object,
                        e->old);
        }
        break;
    case EVENT_SYNCED:
        if (w->on_synced != NULL) {
            w->on_synced(w);
        }
        break;
    case EVENT_PROBLEM:
        if (w->on_problem != NULL) {
            w->on_problem(w, e->text);
        }
        break;
    }
}

/* A callback may remove any watch (next_watch steps over it) and close the cluster (no watch is left). */
static void event_deliver(struct store *s, const struct event *e)
{
    if (e->only != NULL) {
        event_tell(e, e->only);
        return;
    }
    s->next_watch = s->cluster.watches.next;
    while (!s->is_closed && s->next_watch != &s->cluster.watches) {
        struct cluster_watch *w = LIST_ITEM(s->next_watch, struct cluster_watch, node);

        s->next_watch = s->next_watch->next;
        if (e->number >= w->since) {
            event_tell(e, w);
        }
    }
    s->next_watch = NULL;
}

static void store_deliver(struct task *t)
{
    struct store *s = CONTAINER_OF(t, struct store, deliver);
    struct list *node;

    for (unsigned n = 0; n < EVENTS_A_RUN && !s->is_closed; n++) {
        struct event *e;

        if ((node = list_pop(&s->events)) == NULL) {
            return;
        }
        e = LIST_ITEM(node, struct event, node);
        event_deliver(s, e);
        event_free(e);
    }
    if (!s->is_closed && !list_is_empty(&s->events)) {
        task_wake(s->cluster.loop, &s->deliver);
    }
}

void cluster_watch_add(struct cluster *c, struct cluster_watch *w)
{
    struct store *s = store_of(c);

    assert(!s->is_closed && w->cluster == NULL);
    w->cluster = c;
    w->since = s->changes + 1;
    list_append(&c->watches, &w->node);
    for (unsigned k = 0; k < KIND_COUNT; k++) {
        struct map_iter it = MAP_ITER(&c->objects[k]);

        while ((w->kinds & (UINT64_C(1) << k)) != 0 && map_next(&it)) {
            event_add(s, EVENT_UPSERT, it.value, NULL)->only = w;
        }
    }
    if (c->synced) {
        event_add(s, EVENT_SYNCED, NULL, NULL)->only = w;
    }
}

void cluster_watch_remove(struct cluster_watch *w)
{
    struct store *s;

    if (w->cluster == NULL) {
        return;
    }
    s = store_of(w->cluster);
    if (s->next_watch == &w->node) {
        s->next_watch = w->node.next;
    }
    list_unlink(&w->node);
    w->cluster = NULL;
    LIST_FOREACH(node, &s->events)
    {
        struct event *e = LIST_ITEM(node, struct event, node);

        if (e->only == w) {
            event_free(e);
        }
    }
}

/* --- changes ------------------------------------------------------------------------------------- */

int store_upsert(struct store *s, struct object *o)
{
    char buffer[OBJECT_KEY_BYTES];
    struct bytes key = object_key(o->ns, o->name, buffer);
    struct map *map = &s->cluster.objects[o->kind];
    struct object *old = map_get(map, key);

    assert(key.len > 0 && !s->is_closed);
    if (old == NULL && s->objects_count >= STORE_OBJECTS_MAX) {
        object_unref(o);
        return E_LIMIT;
    }
    (void)map_put(map, key, o);
    s->objects_count += old == NULL ? 1 : 0;
    if (old == NULL || !json_equal(old->json, o->json)) {
        s->changes++;
        (void)event_add(s, EVENT_UPSERT, o, old);
    }
    object_unref(old);
    return 0;
}

void store_remove(struct store *s, enum kind k, const char *ns, const char *name)
{
    char buffer[OBJECT_KEY_BYTES];
    struct object *old = map_remove(&s->cluster.objects[k], object_key(ns, name, buffer));

    if (old != NULL) {
        s->objects_count--;
        s->changes++;
        (void)event_add(s, EVENT_DELETE, old, old);
        object_unref(old);
    }
}

void store_synced(struct store *s)
{
    if (!s->cluster.synced) {
        s->cluster.synced = true;
        s->changes++;
        (void)event_add(s, EVENT_SYNCED, NULL, NULL);
    }
}

void store_problem(struct store *s, const char *text)
{
    log_error("%s", text);
    s->changes++;
    event_add(s, EVENT_PROBLEM, NULL, NULL)->text = mem_strdup(text);
}

/* --- life ---------------------------------------------------------------------------------------- */

void store_init(struct store *s, struct loop *l, const struct cluster_ops *ops)
{
    *s = (struct store){.cluster = {.ops = ops, .loop = l}, .deliver = {.run = store_deliver}};
    list_init(&s->events);
    list_init(&s->cluster.watches);
    for (unsigned k = 0; k < KIND_COUNT; k++) {
        map_init(&s->cluster.objects[k]);
    }
}

void store_close(struct store *s)
{
    struct list *node;

    s->is_closed = true;
    s->next_watch = NULL;
    task_cancel(&s->deliver);
    while ((node = list_pop(&s->cluster.watches)) != NULL) {
        LIST_ITEM(node, struct cluster_watch, node)->cluster = NULL;
    }
    while ((node = list_pop(&s->events)) != NULL) {
        event_free(LIST_ITEM(node, struct event, node));
    }
    for (unsigned k = 0; k < KIND_COUNT; k++) {
        struct map_iter it = MAP_ITER(&s->cluster.objects[k]);

        while (map_next(&it)) {
            object_unref(it.value);
        }
        map_clear(&s->cluster.objects[k]);
    }
}

/* --- the interface ------------------------------------------------------------------------------- */

const struct object *cluster_get(const struct cluster *c, enum kind k, const char *ns,
                                 const char *name)
{
    char buffer[OBJECT_KEY_BYTES];

    assert((unsigned)k < KIND_COUNT);
    return map_get(&c->objects[k], object_key(ns, name, buffer));
}

void cluster_close(struct cluster *c)
{
    if (c != NULL) {
        c->ops->close(c);
    }
}

int cluster_put(struct cluster *c, json_t *json)
{
    struct object *o = NULL;
    char problem[256];
    int err = object_new(json, "", &o, problem, sizeof(problem));

    if (err != 0) {
        log_debug("an object that was to be written is refused: %s", problem);
        return err;
    }
    return c->ops->put(c, o);
}

int cluster_delete(struct cluster *c, enum kind k, const char *ns, const char *name)
{
    if (cluster_get(c, k, ns, name) == NULL) {
        return E_NOT_FOUND;
    }
    return c->ops->remove(c, k, ns, name);
}

void cluster_review_token(struct cluster *c, struct token_review *r, struct bytes token,
                          const char *audience)
{
    assert(r->pending == NULL && r->on_answer != NULL);
    c->ops->review(c, r, token, audience);
}
