/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/known.h"

#include "core/alloc.h"
#include "proxy/profile_use.h"
#include "proxy/worker.h"

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

static void parked_free(struct parked *p)
{
    struct known *k = CONTAINER_OF(p, struct known, parked);
    struct known_key key;

    map_remove(&k->w->known, key_of(&key, k->policy, &k->target, k->without_tls));
    known_free(k);
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
    k->parked.free = parked_free;
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
    parking_take(&w->known_parked, &k->parked);
    k->refs++;
    return k;
}

void known_unref(struct known *k)
{
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
    parking_put(&k->w->known_parked, &k->parked);
    proxy_worker_want_sweep(k->w);
}

void known_open(struct proxy_worker *w)
{
    map_init(&w->known);
    parking_init(&w->known_parked, KNOWN_IDLE_MAX);
}

void known_clear(struct proxy_worker *w)
{
    parking_clear(&w->known_parked);
    assert(map_count(&w->known) == 0);
    map_clear(&w->known);
}
