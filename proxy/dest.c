/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dest.h"

#include "core/alloc.h"
#include "core/log.h"

struct dest {
    struct proxy_worker *w;
    struct bytes key; /* 'h' or 't', then the path; owned */
    struct balancer *balancer;
    struct discovery_entry *entry;
    struct discovery_user user;
    const struct endpoint_set *set; /* reference: the one applied */
    struct list waiting;            /* picks */
    size_t waiting_count;
    struct timer failfast;
    struct task serve, fail;
    struct grave grave;
    bool is_failing; /* fail-fast: nobody waits any more */
    uint64_t decay_ns;
    char *authority; /* metric label: the path without ":80" */
    unsigned holders;
    uint64_t idle_since_ns;
};

/* --- members and their upstreams -------------------------------------------------------------- */

/* An endpoint is good, as far as anybody knows. */
static void dest_proven(struct dest *d)
{
    timer_cancel(d->w->loop, &d->failfast);
    if (d->is_failing) {
        log_info("destination is back: an endpoint is ready; dest=" BYTES_FMT,
                 BYTES_ARG(bytes_from(d->key, 1)));
        d->is_failing = false;
    }
}

static void wake_waiting(struct dest *d)
{
    if (!list_is_empty(&d->waiting)) {
        task_wake(d->w->loop, &d->serve);
    }
}

static void on_upstream_ready(struct upstream *u, bool is_ready, bool is_proven)
{
    struct member *m = u->user;
    struct dest *d = u->dest;

    if (m->is_removed) {
        return;
    }
    member_set_ready(d->balancer, m, is_ready);
    if (is_proven) {
        dest_proven(d);
    }
    if (is_ready) {
        wake_waiting(d);
    }
}

static void on_add(void *user, struct member *m)
{
    struct dest *d = user;
    struct upstream *u = upstream_new(d->w, OUTBOUND, m->endpoint, bytes_str(d->authority));

    u->on_ready = on_upstream_ready;
    u->user = m;
    u->dest = d;
    m->user = u;
    member_set_ready(d->balancer, m, true);
    dest_proven(d);
    wake_waiting(d);
}

static void member_drop(struct member *m)
{
    struct upstream *u = m->user;

    upstream_retire(u);
    member_free(m);
}

/* New facts of an address: a new upstream carries what comes, the old one finishes what it has. */
static void on_change(void *user, struct member *m, const struct endpoint *old)
{
    struct upstream *before = m->user;

    (void)old;
    on_add(user, m);
    upstream_retire(before);
}

static void on_remove(void *user, struct member *m)
{
    (void)user;
    if (m->load.pending == 0) {
        member_drop(m);
    }
}

static const struct balancer_events balancer_events = {
    .on_add = on_add,
    .on_change = on_change,
    .on_remove = on_remove,
};

static void on_set(struct discovery_user *user, const struct snapshot *answer)
{
    struct dest *d = CONTAINER_OF(user, struct dest, user);
    const struct endpoint_set *set = (const struct endpoint_set *)(const void *)answer;
    const struct endpoint_set *before = d->set;

    d->set = set;
    snapshot_ref((struct snapshot *)(uintptr_t)&set->ref);
    balancer_update(d->balancer, set, d->w->loop->now_ns);
    if (before != NULL) {
        snapshot_unref((struct snapshot *)(uintptr_t)&before->ref);
    }
    if (set->state == ENDPOINTS_INVALID) {
        task_wake(d->w->loop, &d->serve);
    }
}

/* --- waiting ---------------------------------------------------------------------------------- */

static enum failure dest_failure(const struct dest *d)
{
    if (d->set != NULL && d->set->state == ENDPOINTS_INVALID) {
        return FAILURE_RESOLVE;
    }
    if (d->set != NULL && d->set->state == ENDPOINTS_ABSENT) {
        return FAILURE_SERVICE_UNKNOWN;
    }
    return FAILURE_NO_ENDPOINT;
}

static struct pick *pop_waiting(struct dest *d, struct list *from)
{
    struct pick *p = LIST_ITEM(list_pop(from), struct pick, node);

    assert(d->waiting_count > 0);
    d->waiting_count--;
    p->dest = NULL;
    return p;
}

static void dest_fail_waiting(struct dest *d, enum failure why)
{
    struct list failed;

    list_init(&failed);
    list_move(&failed, &d->waiting);
    while (!list_is_empty(&failed)) {
        struct pick *p = pop_waiting(d, &failed);

        p->on_pick(p, NULL, why);
    }
}

static void on_failfast(struct timer *t)
{
    struct dest *d = CONTAINER_OF(t, struct dest, failfast);

    log_warn(
        "destination has no ready endpoint: requests fail at once until it has; dest=" BYTES_FMT
        " endpoints=%zu",
        BYTES_ARG(bytes_from(d->key, 1)), balancer_count(d->balancer));
    d->is_failing = true;
    dest_fail_waiting(d, dest_failure(d));
}

static void serve_waiting(struct task *t)
{
    struct dest *d = CONTAINER_OF(t, struct dest, serve);
    struct member *m;

    if (d->set != NULL && d->set->state == ENDPOINTS_INVALID) {
        dest_fail_waiting(d, FAILURE_RESOLVE);
        return;
    }
    while (!list_is_empty(&d->waiting) && (m = dest_pick(d)) != NULL) {
        struct pick *p = pop_waiting(d, &d->waiting);

        p->on_pick(p, m, FAILURE_NONE);
    }
}

struct member *dest_pick(struct dest *d)
{
    return balancer_pick(d->balancer, &d->w->loop->rand, d->w->loop->now_ns);
}

/* Events do not come from within calls: who is refused at once is told from here. */
static void run_fail(struct task *t)
{
    struct dest *d = CONTAINER_OF(t, struct dest, fail);

    if (balancer_ready(d->balancer) > 0) {
        serve_waiting(&d->serve);
    } else if (d->is_failing || (d->set != NULL && d->set->state == ENDPOINTS_INVALID)) {
        dest_fail_waiting(d, dest_failure(d));
    }
    while (d->waiting_count > d->w->config->outbound.queue_capacity) {
        struct pick *p = LIST_ITEM(d->waiting.prev, struct pick, node); /* the newest */

        list_unlink(&p->node);
        d->waiting_count--;
        p->dest = NULL;
        p->on_pick(p, NULL, FAILURE_OVERLOAD);
    }
}

void dest_wait(struct dest *d, struct pick *p)
{
    p->dest = d;
    list_append(&d->waiting, &p->node);
    d->waiting_count++;
    if (d->is_failing || d->waiting_count > d->w->config->outbound.queue_capacity ||
        (d->set != NULL && d->set->state == ENDPOINTS_INVALID)) {
        task_wake(d->w->loop, &d->fail);
    } else if (!timer_is_armed(&d->failfast)) {
        timer_arm_in(d->w->loop, &d->failfast, d->w->config->outbound.failfast_ns);
    }
}

void dest_wait_cancel(struct pick *p)
{
    if (p->dest != NULL) {
        assert(p->dest->waiting_count > 0);
        p->dest->waiting_count--;
        p->dest = NULL;
    }
    list_unlink(&p->node);
}

/* --- life ------------------------------------------------------------------------------------- */

static struct dest *dest_new(struct proxy_worker *w, const struct backend *b, struct bytes key)
{
    struct dest *d = mem_new(sizeof(*d));
    struct bytes path = b->path;

    if (bytes_ends(path, BYTES(":80"))) {
        path = bytes_first(path, path.len - 3);
    }
    d->w = w;
    d->key = bytes_of(bytes_dup(key), key.len);
    d->authority = bytes_dup(path);
    d->decay_ns = b->decay_ns;
    d->failfast.run = on_failfast;
    d->serve.run = serve_waiting;
    d->fail.run = run_fail;
    d->user.on_change = on_set;
    list_init(&d->waiting);
    d->balancer = balancer_new(b->default_rtt_ns, b->decay_ns, &balancer_events, d);
    map_put(&w->dests, d->key, d);
    d->entry = discovery_ask(w->cache, QUESTION_ENDPOINTS, b->path);
    discovery_follow(d->entry, &d->user);
    if (d->entry->answer != NULL && d->set == NULL) {
        on_set(&d->user, d->entry->answer);
    }
    return d;
}

struct dest *dest_hold(struct proxy_worker *w, const struct backend *b, const struct meta *parent,
                       bool is_tcp)
{
    (void)parent;
    char key[512];
    struct dest *d;

    assert(b->path.len + 1 <= sizeof(key)); /* bounded by policy.c */
    key[0] = is_tcp ? 't' : 'h';
    memcpy(key + 1, b->path.at, b->path.len);
    d = map_get(&w->dests, bytes_of(key, b->path.len + 1));
    if (d == NULL) {
        d = dest_new(w, b, bytes_of(key, b->path.len + 1));
    }
    d->holders++;
    return d;
}

void dest_ref(struct dest *d)
{
    d->holders++;
}

void dest_release(struct dest *d)
{
    assert(d->holders > 0);
    d->holders--;
    d->idle_since_ns = d->w->loop->now_ns;
    if (d->holders == 0) {
        proxy_worker_want_sweep(d->w);
    }
}

struct bytes dest_authority(const struct dest *d)
{
    return bytes_str(d->authority);
}

static void dest_bury(struct grave *g)
{
    struct dest *d = CONTAINER_OF(g, struct dest, grave);

    mem_free((char *)(uintptr_t)d->key.at);
    mem_free(d->authority);
    mem_free(d);
}

static void dest_free(struct dest *d)
{
    assert(d->holders == 0 && list_is_empty(&d->waiting));
    discovery_unfollow(&d->user);
    discovery_release(d->w->cache, d->entry);
    balancer_update(d->balancer, NULL, d->w->loop->now_ns);
    balancer_free(d->balancer);
    timer_cancel(d->w->loop, &d->failfast);
    task_cancel(&d->serve);
    task_cancel(&d->fail);
    if (d->set != NULL) {
        snapshot_unref((struct snapshot *)(uintptr_t)&d->set->ref);
    }
    map_remove(&d->w->dests, d->key);
    loop_free_later(d->w->loop, &d->grave, dest_bury);
}

void dest_begin(struct dest *d, struct member *m, const void *by)
{
    (void)d;
    (void)by;
    m->load.pending++;
}

void dest_end(struct dest *d, struct member *m, const void *by)
{
    (void)d;
    (void)by;
    assert(m->load.pending > 0);
    m->load.pending--;
    if (m->is_removed && m->load.pending == 0) {
        member_drop(m);
    }
}

void dest_respond(struct dest *d, struct member *m, const struct response_outcome *o)
{
    if (o->rtt_ns > 0 && !o->is_connection_error) {
        load_observe(&m->load, o->rtt_ns, d->decay_ns, d->w->loop->now_ns);
    }
}

bool dest_is_available(const struct dest *d)
{
    return !d->is_failing && !(d->set != NULL && d->set->state == ENDPOINTS_INVALID);
}

bool dest_sweep(struct proxy_worker *w)
{
    struct map_iter it = MAP_ITER(&w->dests);
    bool is_more = false;

    while (map_next(&it)) {
        struct dest *d = it.value;

        if (d->holders == 0 &&
            w->loop->now_ns - d->idle_since_ns > w->config->outbound.discovery_idle_ns) {
            dest_free(d);
        } else {
            is_more = is_more || d->holders == 0;
        }
    }
    return is_more;
}

void dest_clear(struct proxy_worker *w)
{
    struct map_iter it = MAP_ITER(&w->dests);

    while (map_next(&it)) {
        dest_free(it.value);
    }
    map_clear(&w->dests);
}
