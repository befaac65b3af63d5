/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/rate_limit.h"

#include "core/alloc.h"
#include "core/clock.h"

#include <stdatomic.h>

#define WAYS  8 /* buckets that a client may have */
#define SETS  (RATE_IDENTITIES / WAYS)
#define TRIES 4 /* when another worker takes the same free bucket first */

struct bucket {
    _Atomic uint64_t full_ns; /* when it is full again; in the past: it is full */
};
struct client_bucket {
    _Atomic uint64_t client; /* hash of an identity; 0: nobody had it yet */
    struct bucket bucket;
};

struct rate_limiter {
    _Atomic unsigned refs;
    struct bucket total;
    struct bucket rest;            /* of clients for whom there is no bucket */
    struct client_bucket *clients; /* NULL: no limit per identity */
    struct bucket overrides[];
};

static bool bucket_take(struct bucket *b, uint32_t rps, uint64_t now_ns)
{
    uint64_t cost_ns = MAX(NS_PER_S / rps, 1u);
    uint64_t full_ns = atomic_load_explicit(&b->full_ns, memory_order_relaxed), next_ns;

    do {
        next_ns = MAX(full_ns, now_ns) + cost_ns;
        if (next_ns > now_ns + NS_PER_S) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&b->full_ns, &full_ns, next_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* One of the client's own, or one that is full and so remembers nothing of the client before. */
static struct client_bucket *client_find(struct client_bucket *set, uint64_t client,
                                         uint64_t now_ns)
{
    struct client_bucket *free = NULL;

    for (unsigned i = 0; i < WAYS; i++) {
        uint64_t owner = atomic_load_explicit(&set[i].client, memory_order_relaxed);

        if (owner == client) {
            return &set[i];
        }
        if (free == NULL &&
            atomic_load_explicit(&set[i].bucket.full_ns, memory_order_relaxed) <= now_ns) {
            free = &set[i];
        }
    }
    return free;
}

/* A worker that is about to charge the client before charges the new one instead: one token. */
static struct bucket *client_bucket(struct rate_limiter *l, struct bytes id, uint64_t now_ns)
{
    uint64_t client = bytes_hash(id) | 1;
    struct client_bucket *set = &l->clients[(client >> 1) % SETS * WAYS];

    for (unsigned i = 0; i < TRIES; i++) {
        struct client_bucket *c = client_find(set, client, now_ns);
        uint64_t owner;

        if (c == NULL) {
            break;
        }
        owner = atomic_load_explicit(&c->client, memory_order_relaxed);
        if (owner == client ||
            atomic_compare_exchange_strong_explicit(&c->client, &owner, client,
                                                    memory_order_relaxed, memory_order_relaxed)) {
            return &c->bucket;
        }
    }
    return &l->rest;
}

struct rate_limiter *rate_limiter_new(const struct rate_limit *limits)
{
    struct rate_limiter *l =
        mem_new(sizeof(*l) + limits->overrides_count * sizeof(l->overrides[0]));

    atomic_init(&l->refs, 1);
    if (limits->identity_rps != 0) {
        l->clients = mem_new(RATE_IDENTITIES * sizeof(l->clients[0]));
    }
    return l;
}

void rate_limiter_unref(struct rate_limiter *l)
{
    if (l != NULL && atomic_fetch_sub(&l->refs, 1) == 1) {
        mem_free(l->clients);
        mem_free(l);
    }
}

static const struct rate_override *override_of(const struct rate_limit *limits, struct bytes id)
{
    for (size_t i = 0; i < limits->overrides_count && id.len > 0; i++) {
        const struct rate_override *o = &limits->overrides[i];

        for (size_t k = 0; k < o->identities_count; k++) {
            if (bytes_eq(o->identities[k], id)) {
                return o;
            }
        }
    }
    return NULL;
}

enum rate_verdict rate_limiter_take(struct rate_limiter *l, const struct rate_limit *limits,
                                    struct bytes client_id, uint64_t now_ns)
{
    const struct rate_override *o;

    if (limits->total_rps != 0 && !bucket_take(&l->total, limits->total_rps, now_ns)) {
        return RATE_TOTAL;
    }
    o = override_of(limits, client_id);
    if (o != NULL) {
        return bucket_take(&l->overrides[o - limits->overrides], o->rps, now_ns) ? RATE_ADMITTED
                                                                                 : RATE_OVERRIDE;
    }
    if (limits->identity_rps != 0 &&
        !bucket_take(client_bucket(l, client_id, now_ns), limits->identity_rps, now_ns)) {
        return RATE_IDENTITY;
    }
    return RATE_ADMITTED;
}

static bool is_same(const struct rate_limit *a, const struct rate_limit *b)
{
    bool same = a->total_rps == b->total_rps && a->identity_rps == b->identity_rps &&
                a->overrides_count == b->overrides_count;

    for (size_t i = 0; same && i < a->overrides_count; i++) {
        const struct rate_override *x = &a->overrides[i], *y = &b->overrides[i];

        same = x->rps == y->rps && x->identities_count == y->identities_count;
        for (size_t k = 0; same && k < x->identities_count; k++) {
            same = bytes_eq(x->identities[k], y->identities[k]);
        }
    }
    return same;
}

void rate_limiter_inherit(struct server_policy *to, const struct server_policy *from)
{
    if (to->limiter == NULL || from->limiter == NULL ||
        !is_same(to->rate_limit, from->rate_limit)) {
        return;
    }
    rate_limiter_unref(to->limiter);
    to->limiter = from->limiter;
    (void)atomic_fetch_add(&to->limiter->refs, 1);
}
