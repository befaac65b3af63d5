/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/clock.h"
#include "mesh/discovery_private.h"

/*
 * One worker's answers. An entry that nobody holds stands in a list of its kind, the one idle
 * longest first, and goes when its time is up or when there are too many of them.
 */
#define IDLE_MAX 10000 /* entries of one kind that nobody holds */

struct cache_entry {
    struct discovery_entry entry;
    struct discovery_cache *cache;
    struct task task; /* tells the waiters */
    struct list idle_node;
    struct grave grave;
    char key[];
};

struct discovery_cache {
    struct loop *loop, *control;
    struct discovery_hub *hub;
    struct cache_link *link;
    struct map entries[QUESTION_COUNT];
    struct list idle[QUESTION_COUNT];
    size_t idle_count[QUESTION_COUNT];
    uint64_t idle_ns[QUESTION_COUNT];
    struct timer sweep;
};

/* --- entries ---------------------------------------------------------------------------------- */

/* One by one, because a waiter may cancel others, and wait again. */
static void tell_waiters(struct task *t)
{
    struct cache_entry *ce = CONTAINER_OF(t, struct cache_entry, task);
    struct list batch, *node;

    list_init(&batch);
    list_move(&batch, &ce->entry.waiters);
    while ((node = list_pop(&batch)) != NULL) {
        struct discovery_waiter *w = LIST_ITEM(node, struct discovery_waiter, node);

        w->on_answer(w, ce->entry.answer);
    }
}

static void tell_users(struct cache_entry *ce)
{
    struct list batch, *node;

    list_init(&batch);
    list_move(&batch, &ce->entry.users);
    while ((node = list_pop(&batch)) != NULL) {
        struct discovery_user *u = LIST_ITEM(node, struct discovery_user, node);

        list_append(&ce->entry.users, node); /* it stays, unless it says otherwise */
        if (u->on_change != NULL) {
            u->on_change(u, ce->entry.answer);
        }
    }
}

void cache_answer(struct discovery_cache *c, enum question q, struct bytes key,
                  struct snapshot *answer)
{
    struct cache_entry *ce = map_get(&c->entries[q], key);
    const struct snapshot *before;

    if (ce == NULL) {
        return; /* dropped meanwhile */
    }
    before = ce->entry.answer;
    ce->entry.answer = answer;
    snapshot_ref(answer);
    tell_users(ce);
    snapshot_unref((struct snapshot *)(uintptr_t)before);
    if (!list_is_empty(&ce->entry.waiters)) {
        task_wake(c->loop, &ce->task);
    }
}

static void entry_bury(struct grave *g)
{
    struct cache_entry *ce = CONTAINER_OF(g, struct cache_entry, grave);

    snapshot_unref((struct snapshot *)(uintptr_t)ce->entry.answer);
    mem_free(ce);
}

static void entry_drop(struct cache_entry *ce)
{
    struct discovery_cache *c = ce->cache;
    enum question q = ce->entry.question;

    assert(ce->entry.refs == 0);
    assert(list_is_empty(&ce->entry.waiters) && list_is_empty(&ce->entry.users));
    list_unlink(&ce->idle_node);
    c->idle_count[q]--;
    task_cancel(&ce->task);
    (void)map_remove(&c->entries[q], ce->entry.key);
    post_ask(c->control, c->hub, c->link, q, ce->entry.key, false);
    loop_free_later(c->loop, &ce->grave, entry_bury);
}

static struct cache_entry *entry_new(struct discovery_cache *c, enum question q, struct bytes key)
{
    struct cache_entry *ce = mem_new(sizeof(*ce) + key.len);

    memcpy(ce->key, key.at, key.len);
    ce->cache = c;
    ce->entry.question = q;
    ce->entry.key = bytes_of(ce->key, key.len);
    ce->task.run = tell_waiters;
    list_init(&ce->entry.waiters);
    list_init(&ce->entry.users);
    (void)map_put(&c->entries[q], ce->entry.key, ce);
    post_ask(c->control, c->hub, c->link, q, key, true);
    return ce;
}

struct discovery_entry *discovery_ask(struct discovery_cache *c, enum question q, struct bytes key)
{
    struct cache_entry *ce = map_get(&c->entries[q], key);

    if (ce == NULL) {
        ce = entry_new(c, q, key);
    } else if (ce->entry.refs == 0) {
        list_unlink(&ce->idle_node);
        c->idle_count[q]--;
    }
    ce->entry.refs++;
    return &ce->entry;
}

/* --- idle entries ----------------------------------------------------------------------------- */

static struct cache_entry *idle_first(struct discovery_cache *c, size_t q)
{
    return list_is_empty(&c->idle[q]) ? NULL
                                      : LIST_ITEM(c->idle[q].next, struct cache_entry, idle_node);
}

static void arm_sweep(struct discovery_cache *c)
{
    uint64_t at_ns = UINT64_MAX;

    for (size_t q = 0; q < QUESTION_COUNT; q++) {
        const struct cache_entry *first = idle_first(c, q);

        if (first != NULL) {
            at_ns = MIN(at_ns, first->entry.idle_since_ns + c->idle_ns[q]);
        }
    }
    if (at_ns != UINT64_MAX) {
        timer_arm(c->loop, &c->sweep, at_ns);
    }
}

static void on_sweep(struct timer *t)
{
    struct discovery_cache *c = CONTAINER_OF(t, struct discovery_cache, sweep);

    for (size_t q = 0; q < QUESTION_COUNT; q++) {
        struct cache_entry *first;

        while ((first = idle_first(c, q)) != NULL &&
               c->loop->now_ns >= first->entry.idle_since_ns + c->idle_ns[q]) {
            entry_drop(first);
        }
    }
    arm_sweep(c);
}

void discovery_release(struct discovery_cache *c, struct discovery_entry *e)
{
    struct cache_entry *ce = CONTAINER_OF(e, struct cache_entry, entry);
    enum question q = e->question;

    assert(e->refs > 0);
    if (--e->refs > 0) {
        return;
    }
    e->idle_since_ns = c->loop->now_ns;
    list_append(&c->idle[q], &ce->idle_node);
    c->idle_count[q]++;
    if (c->idle_count[q] > IDLE_MAX) {
        entry_drop(idle_first(c, q)); /* never this one, which is the last */
    }
    if (!timer_is_armed(&c->sweep)) {
        arm_sweep(c);
    }
}

/* --- those who want to know ------------------------------------------------------------------- */

void discovery_wait(struct discovery_cache *c, struct discovery_entry *e,
                    struct discovery_waiter *w)
{
    assert(e->refs > 0 && w->on_answer != NULL);
    list_append(&e->waiters, &w->node);
    if (e->answer != NULL) {
        task_wake(c->loop, &CONTAINER_OF(e, struct cache_entry, entry)->task);
    }
}

void discovery_wait_cancel(struct discovery_waiter *w)
{
    list_unlink(&w->node);
}

void discovery_follow(struct discovery_entry *e, struct discovery_user *u)
{
    assert(e->refs > 0);
    list_append(&e->users, &u->node);
}

void discovery_unfollow(struct discovery_user *u)
{
    list_unlink(&u->node);
}

/* --- life ------------------------------------------------------------------------------------- */

static void link_free(struct snapshot *s)
{
    mem_free(CONTAINER_OF(s, struct cache_link, ref));
}

struct discovery_cache *discovery_cache_new(struct loop *worker, struct loop *control,
                                            struct discovery *d, uint64_t outbound_idle_ns,
                                            uint64_t inbound_idle_ns)
{
    struct discovery_cache *c = mem_new(sizeof(*c));

    c->loop = worker;
    c->control = control;
    c->hub = d->hub; /* set before any worker started, and never again */
    snapshot_ref(&c->hub->ref);
    c->link = mem_new(sizeof(*c->link));
    snapshot_init(&c->link->ref, link_free);
    c->link->worker = worker;
    c->link->cache = c;
    for (size_t q = 0; q < QUESTION_COUNT; q++) {
        map_init(&c->entries[q]);
        list_init(&c->idle[q]);
        c->idle_ns[q] = q == QUESTION_INBOUND || q == QUESTION_PROFILE ? inbound_idle_ns
                                                                       : outbound_idle_ns;
    }
    c->sweep.run = on_sweep;
    return c;
}

void discovery_cache_free(struct discovery_cache *c)
{
    for (size_t q = 0; q < QUESTION_COUNT; q++) {
        struct cache_entry *first;

        while ((first = idle_first(c, q)) != NULL) {
            entry_drop(first);
        }
        assert(map_count(&c->entries[q]) == 0); /* whoever holds one releases it before */
        map_clear(&c->entries[q]);
    }
    timer_cancel(c->loop, &c->sweep);
    c->link->cache = NULL; /* answers may still be on their way */
    snapshot_unref(&c->link->ref);
    snapshot_unref(&c->hub->ref);
    mem_free(c);
}
