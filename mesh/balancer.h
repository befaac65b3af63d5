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

struct load { /* load.c: peak EWMA of latency, and requests in flight */
    double estimate_ns;
    uint64_t updated_ns;
    uint32_t pending;
};
void load_init(struct load *l, uint64_t default_rtt_ns, uint64_t now_ns);
/* Decayed estimate x (pending + 1). */
double load_get(struct load *l, uint64_t decay_ns, uint64_t now_ns);
void load_observe(struct load *l, uint64_t rtt_ns, uint64_t decay_ns, uint64_t now_ns);

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
struct balancer *balancer_new(uint64_t default_rtt_ns, uint64_t decay_ns,
                              const struct balancer_events *events, void *user);
/* All members must be gone: call balancer_update(b, NULL) before. */
void balancer_free(struct balancer *b);
/*
 * Apply a set (NULL: empty): members by address; adds, changes and removes are reported, others
 * keep their load.
 */
void balancer_update(struct balancer *b, const struct endpoint_set *set, uint64_t now_ns);
/* The better of two random ready members; NULL when none is ready. */
struct member *balancer_pick(struct balancer *b, struct rand *rand, uint64_t now_ns);
size_t balancer_count(const struct balancer *b);
size_t balancer_ready(const struct balancer *b);
void member_set_ready(struct balancer *b, struct member *m, bool is_ready);
void member_free(struct member *m);

#endif
