/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_DEST_PRIVATE_H
#define PROXY_DEST_PRIVATE_H

/*
 * What the files of a destination share: dest.c has its life, dest_member.c its endpoints,
 * dest_queue.c those who wait, dest_stats.c its figures. Private to these.
 */
#include "mesh/accrual.h"
#include "mesh/policy.h"
#include "proxy/dest.h"
#include "proxy/dest_stats.h"

struct dest {
    struct proxy_worker *w;
    struct bytes key; /* in the worker's table; owned */
    char *path;       /* what discovery is asked for */
    char *authority;  /* metric label: the path without ":80" */
    struct balancer *balancer;
    struct list seats;
    struct accrual_config accrual;
    bool has_accrual;
    struct discovery_entry *entry;
    struct discovery_user user;
    const struct endpoint_set *set; /* reference: the one applied; NULL: none came yet */

    struct list waiting; /* picks */
    size_t waiting_count;
    struct timer failfast;
    struct task serve, fail;
    bool is_failing; /* fail-fast: nobody waits any more */

    struct dest_stats stats;
    struct grave grave;
    unsigned holders;
    uint64_t idle_since_ns;
};

/* --- dest_member.c ---------------------------------------------------------------------------- */

struct seat_accrual { /* there only where the policy counts failures */
    struct seat *seat;
    struct accrual state;
    struct timer timer; /* until an ejected one may be probed */
};
struct seat { /* an endpoint's place in a destination: what a member's `user` is */
    struct list node;
    struct dest *dest;
    struct member *member;
    struct upstream *up; /* NULL until it is picked for the first time */
    struct seat_accrual *accrual;
    bool is_reachable; /* the upstream's word */
};
extern const struct balancer_events dest_balancer_events;
/* Another way to count failures: who is out stays out until its time, or comes back at once when
 * failures do not count any more. */
void dest_set_accrual(struct dest *d, const struct accrual_config *c);
void dest_count_endpoints(struct dest *d); /* for the gauges */

/* --- dest_queue.c ----------------------------------------------------------------------------- */

void dest_queue_init(struct dest *d);
void dest_queue_clear(struct dest *d); /* nobody may wait */
void dest_wake_waiting(struct dest *d);
void dest_refuse_waiting(struct dest *d); /* the control plane refused the question */
void dest_proven(struct dest *d); /* an endpoint is good, as far as anybody knows */
static inline bool dest_is_refused(const struct dest *d)
{
    return d->set != NULL && d->set->state == ENDPOINTS_INVALID;
}

#endif
