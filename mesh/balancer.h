/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_BALANCER_H
#define MESH_BALANCER_H

/*
 * Latency-aware choice among the endpoints of a set: power of two choices over peak EWMA (wire 6.1;
 * Finagle's "Aperture/P2C peak EWMA" is the origin). One balancer per worker and backend: no locks.
 *
 * The balancer knows no sockets: its user says which endpoints are ready, what a response took, and
 * attaches its own state to each member.
 * Ownership: members hold a reference to their endpoint. A removed member lives until its user lets
 * go: on_remove is called, then the user frees its state and calls member_free() when no request is
 * in flight any more.
 */
#include "core/rand.h"
#include "mesh/endpoint.h"

/*
 * load.c: peak EWMA of latency, and requests in flight.
 *
 * With a penalty, a failed response counts as if it had taken that long, or as long as the endpoint
 * wishes to be left alone; so that one that fails fast does not attract requests. An estimate that
 * is such a penalty decays at its own pace.
 * Connections are not requests: how long one lasts says nothing of its endpoint. Where a balancer
 * spreads them (`by_count`), load is what is open, and nothing is observed.
 */
struct load_config {
    uint64_t default_rtt_ns, decay_ns;
    uint64_t penalty_ns; /* 0: failures count by their latency, as successes do */
    uint64_t max_retry_after_ns, penalty_decay_ns; /* of the wish; 0 for the latter: as decay_ns */
    bool by_count;
};
struct load {
    double estimate_ns;
    uint64_t updated_ns;
    uint32_t pending;
    bool is_penalty; /* the estimate is one */
};
void load_init(struct load *l, const struct load_config *c, uint64_t now_ns);
/* Decayed estimate x (pending + 1). */
double load_get(struct load *l, const struct load_config *c, uint64_t now_ns);
void load_observe(struct load *l, const struct load_config *c, uint64_t rtt_ns, uint64_t now_ns);
/* A failure, where there is a penalty: `wish_ns` counts when it is longer, up to its maximum. */
void load_penalize(struct load *l, const struct load_config *c, uint64_t wish_ns, uint64_t now_ns);

struct member {
    const struct endpoint *endpoint;
    struct load load;
    bool is_ready; /* the user's word: may be picked */
    bool is_removed;
    size_t slot;    /* internal: place among the ready ones */
    unsigned round; /* internal: last set that held it */
    void *user;     /* the dialer's state */
};
struct balancer;
struct balancer_events {
    void (*on_add)(void *user, struct member *m);
    /* Metadata changed; m->endpoint is new. */
    void (*on_change)(void *user, struct member *m, const struct endpoint *old);
    void (*on_remove)(void *user, struct member *m);
};
struct balancer *balancer_new(const struct load_config *load, const struct balancer_events *events,
                              void *user);
/* From now on; members keep what was measured. */
void balancer_configure(struct balancer *b, const struct load_config *load);
const struct load_config *balancer_load(const struct balancer *b);
/* All members must be gone: call balancer_update() to no set before. */
void balancer_free(struct balancer *b);
/*
 * Apply a set (NULL: empty) in place of the one that was applied `before` (NULL: none yet): members
 * by address, which is there once in a set; adds, changes and removes are reported, others keep
 * their load. One change costs a comparison of pointers for each endpoint of the set and one
 * look-up.
 */
struct balancer_delta {
    size_t added, changed, removed;
};
void balancer_update(struct balancer *b, const struct endpoint_set *before,
                     const struct endpoint_set *set, uint64_t now_ns, struct balancer_delta *out);
/* The better of two random ready members; NULL when none is ready. */
struct member *balancer_pick(struct balancer *b, struct rand *rand, uint64_t now_ns);
size_t balancer_count(const struct balancer *b);
size_t balancer_ready(const struct balancer *b);
void member_set_ready(struct balancer *b, struct member *m, bool is_ready);
void member_free(struct member *m);

#endif
