/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_DISCOVERY_H
#define MESH_DISCOVERY_H

/*
 * What the proxy learns while it runs, one stream to the control plane per question per proxy,
 * shared by all workers (decision D6).
 *
 * Five kinds of question, one mechanism:
 *   OUTBOUND   key: struct addr (original destination)   -> struct outbound_policy
 *              (OutboundPolicies.Watch always; GetProfile when the IP is in the profile networks;
 *              both awaited)
 *   NAME       key: "svc.ns.svc.cluster.local:80"        -> struct outbound_policy
 *              (the same two questions by name: GetProfile for one with a profile suffix)
 *   ENDPOINTS  key: "svc.ns.svc.cluster.local:80"        -> struct endpoint_set
 *              (Destination.Get; a name outside the profile suffixes is resolved by DNS instead)
 *   INBOUND    key: struct addr with only the port       -> struct server_policy
 *              (WatchPort; never awaited: the default policy is published at once)
 *   PROFILE    key: "svc.ns.svc.cluster.local:80"        -> struct outbound_policy, its profile alone
 *              (GetProfile by name, for the inbound side)
 *
 * The control thread owns the streams (struct discovery). Each worker owns a cache (struct
 * discovery_cache) with the entries that it uses; a cache miss posts a message, an answer comes
 * back as one, and every later change too.
 *
 * Limits: 10,000 questions of a kind. One more is answered with an error: a policy with a problem,
 * an INVALID set, a policy that denies.
 * The end: while a cache is freed and its worker's loop closes, the control loop must not turn (it
 * waits in worker_stop()), so that nothing is posted to a loop that is gone. discovery_free() comes
 * after all workers; what their caches still had to say finds it gone.
 */
#include "core/mailbox.h"
#include "mesh/control.h"
#include "mesh/policy.h"

enum question {
    QUESTION_OUTBOUND,
    QUESTION_NAME,
    QUESTION_ENDPOINTS,
    QUESTION_INBOUND,
    QUESTION_PROFILE,
    QUESTION_COUNT
};

struct discovery_config {         /* pointers must outlive the discovery */
    const char *context_token;    /* DESTINATION_CONTEXT */
    const char *workload;         /* POLICY_WORKLOAD */
    const char *profile_suffixes; /* comma separated */
    const struct cidr *profile_networks;
    size_t profile_networks_count;
    enum default_policy inbound_default;
    const struct cidr *cluster_networks;
    size_t cluster_networks_count;
    bool (*is_opaque_by_default)(const void *user, uint16_t port);
    const void *user;
    uint64_t inbound_detect_timeout_ns;
};

/* --- control thread --------------------------------------------------------------------------- */

struct discovery;
struct discovery *discovery_new(struct loop *l, struct dns *dns, struct control *destination,
                                struct control *policy, const struct discovery_config *config);
void discovery_free(struct discovery *d); /* before the channels; NULL is fine */
void discovery_watch_port(struct discovery *d, uint16_t port);      /* eager, kept for ever */
size_t discovery_count(const struct discovery *d, enum question q); /* under way; metrics, tests */

/* Is it one of the names that the control plane knows, by these suffixes (comma separated)? "."
 * stands for every name. */
bool discovery_is_mesh_name(const char *suffixes, struct bytes name);

/* --- workers ---------------------------------------------------------------------------------- */

struct discovery_cache;
struct discovery_waiter { /* somebody who needs an answer before it can go on; embedded */
    struct list node;
    /* Once; the answer is borrowed: take a reference. */
    void (*on_answer)(struct discovery_waiter *w, const struct snapshot *answer);
};
struct discovery_entry { /* one key in one worker */
    enum question question;
    struct bytes key;
    const struct snapshot *answer; /* the newest; NULL until the first */
    struct list waiters, users;
    uint64_t idle_since_ns;
    unsigned refs;
    /* internal members follow in discovery_cache.c by embedding */
};
struct discovery_user { /* somebody who follows an entry while it lives; embedded */
    struct list node;
    void (*on_change)(struct discovery_user *u, const struct snapshot *answer); /* may be NULL */
};
struct discovery_cache *discovery_cache_new(struct loop *worker, struct loop *control,
                                            struct discovery *d, uint64_t outbound_idle_ns,
                                            uint64_t inbound_idle_ns);
/* Every entry was released before: asserted. */
void discovery_cache_free(struct discovery_cache *c);
/*
 * Find or ask. The entry is held (refs) until discovery_release(); unheld ones are dropped after
 * their idle time.
 */
struct discovery_entry *discovery_ask(struct discovery_cache *c, enum question q, struct bytes key);
void discovery_release(struct discovery_cache *c, struct discovery_entry *e);
/* Call on_answer when there is an answer: from a task, also if there is one already. */
void discovery_wait(struct discovery_cache *c, struct discovery_entry *e,
                    struct discovery_waiter *w);
void discovery_wait_cancel(struct discovery_waiter *w); /* idempotent */
void discovery_follow(struct discovery_entry *e, struct discovery_user *u);
void discovery_unfollow(struct discovery_user *u); /* idempotent */

#endif
