/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/upstream.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "proxy/link.h"

/* --- life ---------------------------------------------------------------------------------------- */

static void tcp_labels(const struct upstream *u, struct bytes authority, struct text *t)
{
    const struct endpoint *e = u->endpoint;

    label_add(t, "direction", bytes_str(direction_name(u->dir)));
    label_add(t, "peer", BYTES("dst"));
    if (authority.len > 0) {
        label_add(t, "authority", authority);
    }
    labels_target(t, &e->addr);
    upstream_tls_labels(u, t);
    if (e->labels != NULL && e->labels[0] != '\0') {
        text_char(t, ',');
        text_str(t, e->labels);
    }
}

static void request_labels(const struct upstream *u, struct bytes authority, struct text *t)
{
    const struct endpoint *e = u->endpoint;

    label_add(t, "direction", BYTES("outbound"));
    if (authority.len > 0) {
        label_add(t, "authority", authority);
    }
    labels_target(t, &e->addr);
    upstream_tls_labels(u, t);
    if (e->labels != NULL && e->labels[0] != '\0') {
        text_char(t, ',');
        text_str(t, e->labels);
    }
}

void upstream_tls_labels(const struct upstream *u, struct text *t)
{
    if (upstream_uses_tls(u)) {
        label_add(t, "tls", BYTES("true"));
        label_add(t, "server_id", bytes_str(u->endpoint->identity));
    } else {
        label_add(t, "tls", BYTES("no_identity"));
        label_add(t, "no_tls_reason",
                  u->dir == INBOUND || u->is_local ? BYTES("loopback") : BYTES("not_provided_by_service_discovery"));
    }
}

bool upstream_uses_tls(const struct upstream *u)
{
    return u->dir == OUTBOUND && !u->is_local && u->endpoint->identity != NULL;
}

static void on_backoff(struct timer *t)
{
    struct upstream *u = CONTAINER_OF(t, struct upstream, backoff);

    u->is_ready = true;
    if (u->on_ready != NULL) {
        u->on_ready(u, true);
    }
}

struct upstream *upstream_new(struct proxy_worker *w, enum direction dir, const struct endpoint *e, struct bytes authority)
{
    struct upstream *u = mem_new(sizeof(*u));
    struct text labels;

    u->w = w;
    u->dir = dir;
    u->endpoint = e;
    endpoint_ref(e);
    u->is_local = dir == OUTBOUND && config_is_local_ip(w->config, &e->addr);
    u->is_ready = true;
    u->backoff.run = on_backoff;
    u->idle_since_ns = w->loop->now_ns;
    list_init(&u->h2);
    list_init(&u->h1_idle);
    list_init(&u->other);
    list_init(&u->waiting);

    text_init(&labels, 4096);
    tcp_labels(u, authority, &labels);
    tcp_stats_init(&u->tcp, &w->metrics, text_bytes(&labels));
    if (dir == OUTBOUND) {
        text_reset(&labels);
        request_labels(u, authority, &labels);
        u->requests = request_stats_new(&w->metrics, text_bytes(&labels));
    }
    text_clear(&labels);
    return u;
}

static void close_links(struct list *links)
{
    LIST_FOREACH(node, links) {
        link_close(LIST_ITEM(node, struct link, node), E_CLOSED);
    }
}

static void upstream_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct upstream, grave));
}

void upstream_free(struct upstream *u)
{
    assert(u->users == 0 && list_is_empty(&u->waiting));
    close_links(&u->h2);
    close_links(&u->h1_idle);
    close_links(&u->other);
    timer_cancel(u->w->loop, &u->backoff);
    if (u->key.len > 0) {
        map_remove(&u->w->upstreams, u->key);
        mem_free((char *)(uintptr_t)u->key.at);
    }
    tcp_stats_clear(&u->tcp);
    request_stats_free(u->requests);
    endpoint_unref(u->endpoint);
    loop_free_later(u->w->loop, &u->grave, upstream_bury);
}

struct upstream *upstream_single(struct proxy_worker *w, enum direction dir, const struct endpoint *e)
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
    return u;
}

/* Not findable any more; goes away with its last user. */
void upstream_retire(struct upstream *u)
{
    u->is_retired = true;
    if (u->users == 0 && list_is_empty(&u->waiting)) {
        upstream_free(u);
    } else {
        list_append(&u->w->retired, &u->retired_node);
    }
}

void upstream_sweep(struct proxy_worker *w)
{
    struct map_iter it = MAP_ITER(&w->upstreams);

    while (map_next(&it)) {
        struct upstream *u = it.value;
        uint64_t idle_ns = worker_side(w, u->dir)->discovery_idle_ns;

        if (u->users == 0 && list_is_empty(&u->waiting) && w->loop->now_ns - u->idle_since_ns > idle_ns) {
            upstream_free(u);
        }
    }
    LIST_FOREACH(node, &w->retired) {
        struct upstream *u = LIST_ITEM(node, struct upstream, retired_node);

        if (u->users == 0 && list_is_empty(&u->waiting)) {
            list_unlink(&u->retired_node);
            upstream_free(u);
        }
    }
}

void upstream_meters(struct proxy_worker *w)
{
    LIST_FOREACH(node, &w->links) {
        link_meter(LIST_ITEM(node, struct link, worker_node));
    }
}

/* --- choosing a link ----------------------------------------------------------------------------- */

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
    if (kind == LINK_H2) {
        LIST_FOREACH(node, &u->h2) {
            struct link *l = LIST_ITEM(node, struct link, node);

            if (l->state == LINK_OPEN && http_client_capacity(l->client) > 0) {
                return l;
            }
        }
    } else if (kind == LINK_H1) {
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

static bool is_dialing_h2(const struct upstream *u)
{
    LIST_FOREACH(node, &u->h2) {
        if (LIST_ITEM(node, struct link, node)->state < LINK_OPEN) {
            return true;
        }
    }
    return false;
}

void upstream_dial(struct upstream *u, struct dial *d)
{
    d->link = NULL;
    if (d->kind == LINK_H2) {
        list_append(&u->waiting, &d->node);
        if (!is_dialing_h2(u)) {
            (void)link_dial(u, LINK_H2, NULL);
        }
        return;
    }
    d->link = link_dial(u, d->kind, d);
}

void upstream_dial_cancel(struct dial *d)
{
    list_unlink(&d->node);
    if (d->link != NULL && d->link->dial == d) {
        d->link->dial = NULL;
        link_close(d->link, E_CANCELED);
    }
    d->link = NULL;
}

/* --- what links report --------------------------------------------------------------------------- */

void upstream_link_open(struct upstream *u, struct link *l)
{
    u->failures = 0;
    if (!u->is_ready) {
        timer_cancel(u->w->loop, &u->backoff);
        u->is_ready = true;
        if (u->on_ready != NULL) {
            u->on_ready(u, true);
        }
    }
    if (l->dial != NULL) {
        struct dial *d = l->dial;

        l->dial = NULL;
        d->on_link(d, l, FAILURE_NONE, NULL);
        return;
    }
    upstream_serve_waiting(u);
}

/* Streams can be opened on an HTTP/2 link: serve those who wait, dial once more for the rest. */
void upstream_serve_waiting(struct upstream *u)
{
    struct link *l;

    while (!list_is_empty(&u->waiting) && (l = upstream_link(u, LINK_H2)) != NULL) {
        struct dial *d = LIST_ITEM(list_pop(&u->waiting), struct dial, node);

        d->link = NULL;
        d->on_link(d, l, FAILURE_NONE, NULL);
    }
}

static void arm_backoff(struct upstream *u)
{
    const struct side_config *side = worker_side(u->w, u->dir);
    unsigned shift = MIN(u->failures, 16u);
    uint64_t base = MIN(side->backoff_min_ns << shift, side->backoff_max_ns);
    double jitter = rand_unit(&u->w->loop->rand) * side->backoff_jitter * (double)base;

    u->failures++;
    u->is_ready = false;
    timer_arm_in(u->w->loop, &u->backoff, base + (uint64_t)jitter);
    if (u->on_ready != NULL) {
        u->on_ready(u, false);
    }
}

void upstream_link_failed(struct upstream *u, struct link *l, enum failure why, const char *detail)
{
    struct dial *d = l->dial;
    struct list failed;

    l->dial = NULL;
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
