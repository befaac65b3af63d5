/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_STORE_H
#define CLUSTER_STORE_H

/*
 * What every source is built on: the present objects, the readers' watches, and the queue of events
 * between the two. Private to cluster/.
 *
 * A change is in the store at once and reaches the watches from a task, in order. A watch that is
 * added gets its own copy of what is present into the same queue, so it neither misses a change nor
 * sees one twice.
 * Limits: STORE_OBJECTS_MAX objects. The queue holds at most what the sources changed in this turn
 * and what new watches are owed; it is emptied EVENTS_A_RUN at a time.
 * Ownership: the store holds one reference to each object, an event one to each of its two.
 */
#include "cluster/cluster.h"

#define STORE_OBJECTS_MAX 262144

struct cluster_ops {
    void (*close)(struct cluster *c); /* end the source, then store_close(); memory at the end of the turn */
    int (*put)(struct cluster *c, struct object *o); /* takes the reference, also on failure */
    int (*remove)(struct cluster *c, enum kind k, const char *ns, const char *name);
    void (*review)(struct cluster *c, struct token_review *r, struct bytes token, const char *audience);
    void (*review_cancel)(struct token_review *r);
};

struct store {
    struct cluster cluster;
    struct list events;      /* struct event */
    struct task deliver;
    struct list *next_watch; /* where the delivery of the present event goes on */
    uint64_t changes;        /* number of the newest event for everybody */
    size_t objects_count;
    bool is_closed;
};

static inline struct store *store_of(struct cluster *c)
{
    return CONTAINER_OF(c, struct store, cluster);
}

void store_init(struct store *s, struct loop *l, const struct cluster_ops *ops);
/* No event follows; watches are removed, references dropped. The struct itself belongs to the source,
 * which keeps it to the end of the turn. */
void store_close(struct store *s);

/* Takes the reference, also on failure. An object equal to the present one replaces it (its source may
 * have moved) without an event. E_LIMIT: the store is full. */
int store_upsert(struct store *s, struct object *o) MUST_USE;
void store_remove(struct store *s, enum kind k, const char *ns, const char *name); /* absent: nothing */
void store_synced(struct store *s);                    /* idempotent */
void store_problem(struct store *s, const char *text); /* logs it and tells the watches */

#endif
