/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/known.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "proxy/profile_use.h"
#include "proxy/worker.h"

#define IDLE_NS NS_PER_S

struct known_key {
    const void *policy, *without_tls;
    struct addr target;
};

static struct bytes key_of(struct known_key *to, const struct snapshot *policy,
                           const struct addr *target, const char *without_tls)
{
    memset(to, 0, sizeof(*to));
    to->policy = policy;
    to->without_tls = without_tls;
    to->target = *target;
    return bytes_of((const char *)to, sizeof(*to));
}

static struct known *known_new(struct proxy_worker *w, const struct snapshot *policy,
                               const struct addr *target, const char *without_tls)
{
    struct known *k = mem_new(sizeof(*k));

    k->w = w;
    k->refs = 1;
    k->policy = policy;
    k->target = *target;
    k->without_tls = without_tls;
    snapshot_ref((struct snapshot *)(uintptr_t)policy);
    return k;
}

struct known *known_get(struct proxy_worker *w, const struct snapshot *policy,
                        const struct addr *target, const char *without_tls)
{
    struct known_key key;
    struct bytes key_bytes = key_of(&key, policy, target, without_tls);
    struct known *k;

    if (without_tls == NULL) {
        return known_new(w, policy, target, NULL);
    }
    k = map_get(&w->known, key_bytes);
    if (k == NULL) {
        k = known_new(w, policy, target, without_tls);
        map_put(&w->known, key_bytes, k);
        return k;
    }
    if (k->refs == 0) {
        list_unlink(&k->idle_node);
        w->known_idle_count--;
    }
    k->refs++;
    return k;
}

static void known_free(struct known *k)
{
    assert(k->refs == 0);
    tcp_stats_unref(k->tcp);
    series_unref(k->detect_took);
    for (unsigned i = 0; i < KNOWN_PROTOCOLS; i++) {
        series_unref(k->protocols[i]);
    }
    for (unsigned i = 0; i < KNOWN_RESULTS; i++) {
        series_unref(k->detected[i]);
    }
    for (unsigned i = 0; i < KNOWN_ROUTES; i++) {
        stat_bundle_unref(k->routes[i].stats);
        stat_bundle_unref(k->routes[i].retries);
    }
    for (unsigned i = 0; i < KNOWN_BACKENDS; i++) {
        if (k->backends[i].dest != NULL) {
            dest_release(k->backends[i].dest);
        }
        stat_bundle_unref(k->backends[i].stats);
    }
    for (unsigned i = 0; i < KNOWN_REQUESTS; i++) {
        request_stats_unref(k->requests[i].requests);
        series_unref(k->requests[i].allowed);
        stat_bundle_unref(k->requests[i].asked);
        stat_bundle_unref(k->requests[i].answered);
    }
    profile_view_unref(k->profile);
    snapshot_unref((struct snapshot *)(uintptr_t)k->policy);
    mem_free(k);
}

static void drop_idle(struct known *k)
{
    struct proxy_worker *w = k->w;
    struct known_key key;

    list_unlink(&k->idle_node);
    w->known_idle_count--;
    map_remove(&w->known, key_of(&key, k->policy, &k->target, k->without_tls));
    known_free(k);
}

/* NULL: there is none. */
static struct known *idle_longest(struct proxy_worker *w)
{
    return list_is_empty(&w->known_idle) ? NULL
                                         : LIST_ITEM(w->known_idle.next, struct known, idle_node);
}

void known_unref(struct known *k)
{
    struct proxy_worker *w;

    if (k == NULL) {
        return;
    }
    assert(k->refs > 0);
    if (--k->refs > 0) {
        return;
    }
    if (k->without_tls == NULL) {
        known_free(k);
        return;
    }
    w = k->w;
    k->idle_since_ns = w->loop->now_ns;
    list_append(&w->known_idle, &k->idle_node);
    if (++w->known_idle_count > KNOWN_IDLE_MAX) {
        drop_idle(idle_longest(w));
    }
    proxy_worker_want_sweep(w);
}

bool known_sweep(struct proxy_worker *w)
{
    struct known *k;

    while ((k = idle_longest(w)) != NULL && w->loop->now_ns - k->idle_since_ns >= IDLE_NS) {
        drop_idle(k);
    }
    return k != NULL;
}

void known_clear(struct proxy_worker *w)
{
    struct known *k;

    while ((k = idle_longest(w)) != NULL) {
        drop_idle(k);
    }
    assert(map_count(&w->known) == 0);
    map_clear(&w->known);
}
