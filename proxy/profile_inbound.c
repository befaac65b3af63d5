/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/profile_route.h"

#include "core/alloc.h"
#include "core/text.h"
#include "mesh/discovery.h"

#include <ctype.h>

/*
 * Inbound: the profile of the name by which a request was made, for the figures of its routes (wire
 * 5.5). Names are shared by the worker's connections; each holds the one of its last request, so that
 * the next one by that name pays a comparison. One that nobody holds is kept for a moment, for
 * connections whose requests take turns by name; it gives way where there are as many as may be.
 */
#define ASKED_MAX    100  /* names of a worker that are asked for: strangers choose them */
#define NAMES_MAX    1000 /* with those that the control plane does not know */
#define PARKED_MAX   64
#define NAME_BYTES   300
#define DEFAULT_PORT ":80"
#define PATIENCE_NS  (10 * NS_PER_S) /* after an answer that did not come none is waited for */

struct profile_name {
    struct parked parked; /* without references */
    struct proxy_worker *w;
    unsigned refs;
    struct discovery_entry *entry; /* held; NULL: it has no profile */
    const struct snapshot *answer; /* reference: the one that `view` was made for */
    struct profile_view *view;     /* reference; NULL: there are no routes */
    size_t len;
    char at[]; /* as it came */
};

struct profile_wait { /* in the arena of the request's stream */
    struct exchange *ex;
    struct profile_name *name; /* reference */
    struct discovery_waiter waiter;
    struct timer timer;
    void (*go)(struct exchange *ex);
};

/* --- names ------------------------------------------------------------------------------------ */

/* "host:port" in lower case, as the control plane is asked; empty: it would not know the name. */
static struct bytes key_of(const struct proxy_worker *w, struct bytes name, char to[NAME_BYTES])
{
    struct bytes port, host = authority_host(name, &port);
    size_t len = 0;

    if (name.len + sizeof(DEFAULT_PORT) > NAME_BYTES ||
        !discovery_is_mesh_name(w->config->profile_suffixes, host)) {
        return BYTES_NONE;
    }
    for (; len < name.len; len++) {
        to[len] = (char)tolower((unsigned char)name.at[len]);
    }
    if (port.len == 0) {
        memcpy(to + len, DEFAULT_PORT, sizeof(DEFAULT_PORT) - 1);
        len += sizeof(DEFAULT_PORT) - 1;
    }
    return bytes_of(to, len);
}

static void name_free(struct parked *parked)
{
    struct profile_name *n = CONTAINER_OF(parked, struct profile_name, parked);

    (void)map_remove(&n->w->profile_names, bytes_of(n->at, n->len));
    profile_view_unref(n->view);
    snapshot_unref((struct snapshot *)(uintptr_t)n->answer);
    if (n->entry != NULL) {
        n->w->profile_names_asked--;
        discovery_release(n->w->cache, n->entry);
    }
    mem_free(n);
}

/* Room for one more, which is somebody's, is taken from those that are nobody's. */
static bool make_room(struct proxy_worker *w, const size_t *count, size_t max)
{
    while (*count >= max) {
        if (!parking_drop(&w->profile_names_parked)) {
            return false;
        }
    }
    return true;
}

static struct profile_name *name_new(struct proxy_worker *w, struct bytes name)
{
    struct profile_name *n = mem_new(sizeof(*n) + name.len);
    char buffer[NAME_BYTES];
    struct bytes key = key_of(w, name, buffer);

    n->parked.free = name_free;
    n->w = w;
    n->len = name.len;
    if (name.len > 0) {
        memcpy(n->at, name.at, name.len);
    }
    if (key.len > 0 && make_room(w, &w->profile_names_asked, ASKED_MAX)) {
        w->profile_names_asked++;
        n->entry = discovery_ask(w->cache, QUESTION_PROFILE, key);
    }
    (void)map_put(&w->profile_names, bytes_of(n->at, n->len), n);
    return n;
}

/* A reference; NULL: there are too many. */
static struct profile_name *name_get(struct proxy_worker *w, struct bytes name)
{
    struct profile_name *n = map_get(&w->profile_names, name);

    if (n == NULL) {
        if (name.len > NAME_BYTES || !make_room(w, &w->profile_names.count, NAMES_MAX)) {
            return NULL;
        }
        n = name_new(w, name);
    }
    parking_take(&w->profile_names_parked, &n->parked);
    n->refs++;
    return n;
}

void profile_name_unref(struct profile_name *n)
{
    if (n == NULL) {
        return;
    }
    assert(n->refs > 0);
    if (--n->refs == 0) {
        parking_put(&n->w->profile_names_parked, &n->parked);
        proxy_worker_want_sweep(n->w);
    }
}

void profile_names_open(struct proxy_worker *w)
{
    map_init(&w->profile_names);
    parking_init(&w->profile_names_parked, PARKED_MAX);
}

void profile_names_clear(struct proxy_worker *w)
{
    parking_clear(&w->profile_names_parked);
    map_clear(&w->profile_names); /* the connections held the others */
}

/* The newest that is known. */
static struct profile_view *name_view(struct profile_name *n)
{
    const struct snapshot *answer = n->entry->answer;
    const struct service_profile *service;

    if (answer != n->answer) {
        profile_view_unref(n->view);
        snapshot_unref((struct snapshot *)(uintptr_t)n->answer);
        n->answer = answer;
        snapshot_ref((struct snapshot *)(uintptr_t)answer);
        service = ((const struct outbound_policy *)(const void *)answer)->profile.service;
        n->view = service != NULL ? profile_view_get(n->w, INBOUND, answer, service) : NULL;
    }
    return n->view;
}

/* --- requests --------------------------------------------------------------------------------- */

static void begin(struct exchange *ex, struct profile_name *n)
{
    struct profile_view *view = name_view(n);

    if (view != NULL) {
        profile_call_begin(&ex->profile, view, ex->request);
    }
}

void profile_wait_cancel(struct exchange *ex)
{
    struct profile_wait *wait = ex->profile_wait;

    if (wait != NULL) {
        ex->profile_wait = NULL;
        discovery_wait_cancel(&wait->waiter);
        timer_cancel(ex->conn->w->loop, &wait->timer);
        profile_name_unref(wait->name);
    }
}

static void on_answer(struct discovery_waiter *waiter, const struct snapshot *answer)
{
    struct profile_wait *wait = CONTAINER_OF(waiter, struct profile_wait, waiter);
    struct exchange *ex = wait->ex;

    (void)answer;
    begin(ex, wait->name);
    profile_wait_cancel(ex);
    wait->go(ex);
}

static void on_timeout(struct timer *t)
{
    struct profile_wait *wait = CONTAINER_OF(t, struct profile_wait, timer);
    struct exchange *ex = wait->ex;
    struct proxy_worker *w = ex->conn->w;

    w->profile_patience_ns = w->loop->now_ns + PATIENCE_NS;
    profile_wait_cancel(ex);
    wait->go(ex);
}

/* False: there is no room, or the last wait was in vain. */
static bool await_answer(struct exchange *ex, struct profile_name *n,
                         void (*go)(struct exchange *ex))
{
    struct proxy_worker *w = ex->conn->w;
    struct profile_wait *wait;

    if (w->config->profile_timeout_ns == 0 || w->loop->now_ns < w->profile_patience_ns) {
        return false;
    }
    wait = arena_try(&ex->a->arena, sizeof(*wait));
    if (wait == NULL) {
        return false;
    }
    *wait = (struct profile_wait){
        .ex = ex, .name = n, .waiter.on_answer = on_answer, .timer.run = on_timeout, .go = go};
    n->refs++;
    ex->profile_wait = wait;
    discovery_wait(w->cache, n->entry, &wait->waiter);
    timer_arm_in(w->loop, &wait->timer, w->config->profile_timeout_ns);
    return true;
}

void profile_inbound(struct exchange *ex, void (*go)(struct exchange *ex))
{
    struct conn *c = ex->conn;
    const struct field *canonical = fields_get(&ex->request->fields, FIELD_L5D_DST_CANONICAL);
    struct bytes name = canonical != NULL ? canonical->value : ex->request->authority;
    struct profile_name *n = c->profile_name;

    if (n == NULL || !bytes_eq(name, bytes_of(n->at, n->len))) {
        n = name_get(c->w, name);
        profile_name_unref(c->profile_name);
        c->profile_name = n;
    }
    if (n != NULL && n->entry != NULL) {
        if (n->entry->answer != NULL) {
            begin(ex, n);
        } else if (canonical != NULL && await_answer(ex, n, go)) {
            return;
        }
    }
    go(ex);
}
