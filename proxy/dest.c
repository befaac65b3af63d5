/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dest_private.h"

#include "core/alloc.h"

/*
 * The life of a destination: found by what it is, made, told of new endpoints and parameters, and
 * gone when nobody has used it for a while.
 */
static void set_unref(const struct endpoint_set *set)
{
    if (set != NULL) {
        snapshot_unref((struct snapshot *)(uintptr_t)&set->ref);
    }
}

/* A set counts as the updates that it amounts to (wire 7.2). */
static void count_updates(struct dest *d, bool is_first, const struct balancer_delta *delta)
{
    if (is_first) {
        dest_stats_add(&d->stats, DEST_STAT_RESETS);
        return;
    }
    if (delta->added + delta->changed > 0) {
        dest_stats_add(&d->stats, DEST_STAT_ADDS);
    }
    if (delta->removed > 0) {
        dest_stats_add(&d->stats, DEST_STAT_REMOVES);
    }
}

static void on_set(struct discovery_user *user, const struct snapshot *answer)
{
    struct dest *d = CONTAINER_OF(user, struct dest, user);
    const struct endpoint_set *set = (const struct endpoint_set *)(const void *)answer;
    const struct endpoint_set *before = d->set;
    struct balancer_delta delta;

    d->set = set;
    snapshot_ref((struct snapshot *)(uintptr_t)&set->ref);
    balancer_update(d->balancer, before, set, d->w->loop->now_ns, &delta);
    count_updates(d, before == NULL, &delta);
    dest_count_endpoints(d);
    set_unref(before);
    if (dest_is_refused(d)) {
        dest_refuse_waiting(d);
    }
}

/* --- parameters ------------------------------------------------------------------------------- */

static struct load_config load_config_of(const struct backend *b, bool is_tcp)
{
    return (struct load_config){
        .default_rtt_ns = b->default_rtt_ns,
        .decay_ns = b->decay_ns,
        .penalty_ns = b->penalty_ns,
        .max_retry_after_ns = b->penalty_max_retry_after_ns,
        .penalty_decay_ns = b->penalty_decay_ns,
        .by_count = is_tcp,
    };
}

static struct accrual_config accrual_config_of(const struct backend *b)
{
    return (struct accrual_config){
        .max_failures = b->max_failures,
        .success_rate_threshold = b->success_rate_threshold,
        .window_ns = b->success_rate_window_ns,
        .min_requests = b->success_rate_min_requests,
        .backoff_min_ns = b->backoff_min_ns,
        .backoff_max_ns = b->backoff_max_ns,
        .backoff_jitter = b->backoff_jitter,
    };
}

/* The newest word of the policy. What was measured stays: only the rules are others. */
static void dest_configure(struct dest *d, const struct backend *b)
{
    struct load_config load = load_config_of(b, balancer_load(d->balancer)->by_count);
    struct accrual_config accrual = accrual_config_of(b);

    balancer_configure(d->balancer, &load);
    if (!accrual_config_same(&accrual, &d->accrual)) {
        dest_set_accrual(d, &accrual);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static struct dest *dest_new(struct proxy_worker *w, const struct backend *b, enum dest_kind kind,
                             struct bytes key)
{
    struct dest *d = mem_new(sizeof(*d));
    struct load_config load = load_config_of(b, kind != DEST_HTTP);
    struct bytes host = b->path;

    if (bytes_ends(host, BYTES(":80"))) {
        host = bytes_first(host, host.len - 3);
    }
    d->w = w;
    d->key = bytes_of(bytes_dup(key), key.len);
    d->path = bytes_dup(b->path);
    d->authority = bytes_dup(host);
    d->accrual = accrual_config_of(b);
    d->has_accrual = accrual_config_is_on(&d->accrual);
    d->user.on_change = on_set;
    list_init(&d->seats);
    dest_queue_init(d);
    /* The labels are the key's end. */
    dest_stats_open(&d->stats, &w->stats, bytes_from(d->key, b->path.len + 1), kind,
                    w->config->outbound.failfast_ns);
    d->balancer = balancer_new(&load, &dest_balancer_events, d);
    map_put(&w->dests, d->key, d);
    d->entry = discovery_ask(w->cache, QUESTION_ENDPOINTS, b->path);
    discovery_follow(d->entry, &d->user);
    if (d->entry->answer != NULL && d->set == NULL) {
        on_set(&d->user, d->entry->answer);
    }
    return d;
}

struct dest *dest_hold(struct proxy_worker *w, const struct backend *b, const struct meta *parent,
                       enum dest_kind kind)
{
    static const char prefixes[DEST_KINDS] = {[DEST_HTTP] = 'h', [DEST_TCP] = 't', [DEST_TLS] = 's'};
    char buffer[SERIES_LABELS_MAX + 1024]; /* the path is bounded by policy.c */
    struct labels labels;
    struct text key;
    struct dest *d;

    dest_labels(&labels, parent, b, kind);
    text_init_fixed(&key, buffer, sizeof(buffer));
    text_char(&key, prefixes[kind]);
    text_add(&key, b->path);
    text_add(&key, labels_end(&labels)); /* what is too long to be told apart is one */
    assert(key.err == 0);
    d = map_get(&w->dests, text_bytes(&key));
    if (d == NULL) {
        d = dest_new(w, b, kind, text_bytes(&key));
    } else {
        dest_configure(d, b);
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
    mem_free(d->path);
    mem_free(d->authority);
    mem_free(d);
}

static void dest_free(struct dest *d)
{
    struct balancer_delta delta;

    assert(d->holders == 0);
    discovery_unfollow(&d->user);
    discovery_release(d->w->cache, d->entry);
    balancer_update(d->balancer, d->set, NULL, d->w->loop->now_ns, &delta);
    balancer_free(d->balancer);
    dest_queue_clear(d);
    dest_stats_close(&d->stats);
    set_unref(d->set);
    map_remove(&d->w->dests, d->key);
    loop_free_later(d->w->loop, &d->grave, dest_bury);
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
