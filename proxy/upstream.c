/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/upstream.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "proxy/link.h"

/* --- labels ----------------------------------------------------------------------------------- */

bool upstream_uses_tls(const struct upstream *u)
{
    return u->dir == OUTBOUND && !u->is_local && u->endpoint->identity != NULL;
}

void upstream_tls_labels(const struct upstream *u, struct labels *l)
{
    if (upstream_uses_tls(u)) {
        label_add(&l->text, "tls", BYTES("true"));
        label_add(&l->text, "server_id", bytes_str(u->endpoint->identity));
    } else {
        label_add(&l->text, "tls", BYTES("no_identity"));
        label_add(&l->text, "no_tls_reason",
                  u->dir == INBOUND || u->is_local ? BYTES("loopback")
                                                   : BYTES("not_provided_by_service_discovery"));
    }
}

static void upstream_labels(const struct upstream *u, struct bytes authority, bool of_connection,
                            struct labels *l)
{
    labels_init(l);
    label_add(&l->text, "direction", bytes_str(direction_name(u->dir)));
    if (of_connection) {
        label_add(&l->text, "peer", BYTES("dst"));
    }
    if (authority.len > 0) {
        label_add(&l->text, "authority", authority);
    }
    labels_target(l, &u->endpoint->addr);
    upstream_tls_labels(u, l);
    labels_add(l, bytes_str(u->endpoint->labels));
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_backoff(struct timer *t)
{
    struct upstream *u = CONTAINER_OF(t, struct upstream, backoff);

    u->state = UPSTREAM_PROBE;
    if (u->on_ready != NULL) {
        u->on_ready(u, true, false);
    }
}

/* Most of ten thousand endpoints may never be used: they are not to fill the metrics with zeros. */
static NOINLINE void begin_to_count(struct upstream *u)
{
    struct bytes authority = bytes_str(u->authority);
    struct labels labels;

    upstream_labels(u, authority, true, &labels);
    u->tcp = tcp_stats_get(&u->w->stats, labels_end(&labels));
    if (u->dir == OUTBOUND) {
        upstream_labels(u, authority, false, &labels);
        u->requests = request_stats_get(&u->w->stats, labels_end(&labels));
    }
}

void upstream_count(struct upstream *u)
{
    if (u->tcp == NULL) {
        begin_to_count(u);
    }
}

struct upstream *upstream_new(struct proxy_worker *w, enum direction dir, const struct endpoint *e,
                              struct bytes authority)
{
    struct upstream *u = mem_new(sizeof(*u));

    u->w = w;
    u->dir = dir;
    u->authority = bytes_dup(authority);
    u->endpoint = e;
    endpoint_ref(e);
    u->is_local = dir == OUTBOUND && config_is_local_ip(w->config, &e->addr);
    u->backoff.run = on_backoff;
    u->idle_since_ns = w->loop->now_ns;
    list_init(&u->h1_idle);
    list_init(&u->other);
    upstream_h2_init(u);
    list_append(&w->all_upstreams, &u->all_node);
    return u;
}

static void close_links(struct list *links)
{
    while (!list_is_empty(links)) {
        link_close(LIST_ITEM(links->next, struct link, node), E_CLOSED);
    }
}

static void upstream_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct upstream, grave));
}

void upstream_free(struct upstream *u)
{
    assert(u->users == 0 && list_is_empty(&u->waiting));
    u->on_ready = NULL;
    close_links(&u->h2);
    close_links(&u->h1_idle);
    close_links(&u->other);
    timer_cancel(u->w->loop, &u->backoff);
    timer_cancel(u->w->loop, &u->more);
    list_unlink(&u->retired_node);
    list_unlink(&u->all_node);
    if (u->key.len > 0) {
        map_remove(&u->w->upstreams, u->key);
        mem_free((char *)(uintptr_t)u->key.at);
    }
    tcp_stats_unref(u->tcp);
    request_stats_unref(u->requests);
    mem_free(u->authority);
    endpoint_unref(u->endpoint);
    loop_free_later(u->w->loop, &u->grave, upstream_bury);
}

struct upstream *upstream_single(struct proxy_worker *w, enum direction dir,
                                 const struct endpoint *e)
{
    struct addr a = e->addr;
    char key[sizeof(a) + 1];
    struct bytes raw = addr_key(&a);
    struct upstream *u;

    key[0] = dir == INBOUND ? 'i' : 'o';
    memcpy(key + 1, raw.at, raw.len);
    u = map_get(&w->upstreams, bytes_of(key, raw.len + 1));
    if (u != NULL && (u->endpoint == e || endpoint_same(u->endpoint, e))) {
        return u;
    }
    if (u != NULL) { /* the control plane changed its mind about this address */
        map_remove(&w->upstreams, u->key);
        mem_free((char *)(uintptr_t)u->key.at);
        u->key = BYTES_NONE;
        upstream_retire(u);
    }
    u = upstream_new(w, dir, e, BYTES_NONE);
    u->key = bytes_of(bytes_dup(bytes_of(key, raw.len + 1)), raw.len + 1);
    map_put(&w->upstreams, u->key, u);
    proxy_worker_want_sweep(w);
    return u;
}

void upstream_use(struct upstream *u)
{
    u->users++;
    upstream_count(u);
}

void upstream_leave(struct upstream *u)
{
    assert(u->users > 0);
    u->users--;
    if (u->users > 0) {
        return;
    }
    u->idle_since_ns = u->w->loop->now_ns;
    if (u->is_retired) {
        upstream_free(u);
    } else if (u->dest == NULL) {
        proxy_worker_want_sweep(u->w);
    }
}

void upstream_retire(struct upstream *u)
{
    u->is_retired = true;
    u->on_ready = NULL;
    if (u->users == 0) {
        upstream_free(u);
    } else {
        list_append(&u->w->retired, &u->retired_node);
    }
}

bool upstream_sweep(struct proxy_worker *w)
{
    struct map_iter it = MAP_ITER(&w->upstreams);
    bool is_more = false;

    while (map_next(&it)) {
        struct upstream *u = it.value;

        if (u->users == 0 &&
            w->loop->now_ns - u->idle_since_ns > worker_side(w, u->dir)->discovery_idle_ns) {
            upstream_free(u);
        } else {
            is_more = is_more || u->users == 0;
        }
    }
    return is_more;
}

unsigned upstream_drop_idle(struct proxy_worker *w)
{
    unsigned count = 0;

    LIST_FOREACH(node, &w->all_upstreams)
    {
        struct upstream *u = LIST_ITEM(node, struct upstream, all_node);

        count += u->h1_idle_count;
        close_links(&u->h1_idle);
        LIST_FOREACH(at, &u->h2)
        {
            struct link *l = LIST_ITEM(at, struct link, node);

            if (u->users == 0 && l->state == LINK_OPEN && http_client_streams(l->client) == 0) {
                link_close(l, E_CLOSED);
                count++;
            }
        }
    }
    return count;
}

void upstream_clear(struct proxy_worker *w)
{
    struct map_iter it = MAP_ITER(&w->upstreams);

    while (map_next(&it)) {
        upstream_free(it.value);
    }
    assert(list_is_empty(&w->retired)); /* their users went before */
    map_clear(&w->upstreams);
}

/* --- choosing a link -------------------------------------------------------------------------- */

enum link_kind upstream_kind(const struct upstream *u, enum http_version version, bool is_upgrade)
{
    if (version == HTTP_2) {
        return LINK_H2;
    }
    if (is_upgrade || u->is_local || u->dir == INBOUND || u->endpoint->hint != ENDPOINT_HINT_H2) {
        return LINK_H1;
    }
    return LINK_H2;
}

struct link *upstream_link(struct upstream *u, enum link_kind kind)
{
    if (kind == LINK_H2) { /* those who wait come first */
        return list_is_empty(&u->waiting) ? upstream_h2_link(u) : NULL;
    }
    if (kind == LINK_H1) {
        while (!list_is_empty(&u->h1_idle)) {
            struct link *l = LIST_ITEM(u->h1_idle.prev, struct link, node); /* the one used last */

            link_busy(l);
            if (http_client_capacity(l->client) > 0) {
                return l;
            }
            link_close(l, E_CLOSED);
        }
    }
    return NULL;
}

/* The one dial that PROBE allows has begun. */
static void note_probe(struct upstream *u, const struct link *l)
{
    if (u->state == UPSTREAM_PROBE) {
        u->state = UPSTREAM_BACKOFF;
        u->probe = l;
        if (u->on_ready != NULL) {
            u->on_ready(u, false, false);
        }
    }
}

void upstream_dial(struct upstream *u, struct dial *d)
{
    d->link = NULL;
    if (d->kind != LINK_H2) {
        d->link = link_dial(u, d->kind, d);
        note_probe(u, d->link);
        return;
    }
    if (upstream_h2_wait(u, d)) {
        note_probe(u, link_dial(u, LINK_H2, NULL));
    }
}

void upstream_dial_cancel(struct dial *d)
{
    struct link *l = d->link;

    list_unlink(&d->node);
    d->link = NULL;
    if (l != NULL) {
        assert(l->dial == d);
        l->dial = NULL;
        link_close(l, E_CANCELED);
    }
}

/* --- what links report ------------------------------------------------------------------------ */

void upstream_link_open(struct upstream *u, struct link *l)
{
    struct dial *d = l->dial;

    if (l->kind == LINK_H2) {
        upstream_h2_retire(u);
    }
    u->failures = 0;
    u->probe = NULL;
    if (u->state != UPSTREAM_READY) {
        timer_cancel(u->w->loop, &u->backoff);
        u->state = UPSTREAM_READY;
    }
    if (u->on_ready != NULL) {
        u->on_ready(u, true, true);
    }
    if (d != NULL) {
        l->dial = NULL;
        d->link = NULL;
        d->on_link(d, l, FAILURE_NONE, NULL);
        return;
    }
    upstream_h2_serve(u);
}

/* Many dials may fail at once; together they are one failure. */
static void arm_backoff(struct upstream *u)
{
    const struct side_config *side = worker_side(u->w, u->dir);
    unsigned shift = MIN(u->failures, 16u);
    uint64_t base = MIN(side->backoff_min_ns << shift, side->backoff_max_ns);
    double jitter = rand_unit(&u->w->loop->rand) * side->backoff_jitter * (double)base;

    if (u->on_ready == NULL || timer_is_armed(&u->backoff)) {
        return;
    }
    u->failures++;
    u->state = UPSTREAM_BACKOFF;
    timer_arm_in(u->w->loop, &u->backoff, base + (uint64_t)jitter);
    u->on_ready(u, false, false);
}

void upstream_link_failed(struct upstream *u, struct link *l, enum failure why, const char *detail)
{
    struct dial *d = l->dial;
    struct list failed;

    l->dial = NULL;
    if (d == NULL && u->h2_count > 0) {
        upstream_h2_serve(u); /* one more, on which nobody depends; but who waits looks on */
        return;
    }
    arm_backoff(u);
    if (d != NULL) {
        d->link = NULL;
        d->on_link(d, NULL, why, detail);
        return;
    }
    list_init(&failed);
    list_move(&failed, &u->waiting);
    while (!list_is_empty(&failed)) {
        d = LIST_ITEM(list_pop(&failed), struct dial, node);
        d->on_link(d, NULL, why, detail);
    }
}

void upstream_link_gone(struct upstream *u, struct link *l)
{
    if (u->probe != l) {
        return;
    }
    u->probe = NULL;
    if (u->state == UPSTREAM_BACKOFF && !timer_is_armed(&u->backoff)) {
        /* The one who tried gave up before it was decided: somebody else may. */
        u->state = UPSTREAM_PROBE;
        if (u->on_ready != NULL) {
            u->on_ready(u, true, false);
        }
    }
}
