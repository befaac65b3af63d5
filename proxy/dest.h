/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_DEST_H
#define PROXY_DEST_H

/*
 * A balanced destination as one worker sees it: the endpoint set that discovery streams, the
 * balancer over it, an upstream for each member, and the queue of those who wait for a ready one.
 *
 * Fail-fast (wire 6.1): when somebody waits, and no endpoint became ready for the side's failfast
 * time, all who wait and all who come fail at once, until one is ready. An endpoint that is new
 * counts as ready, one whose last dial failed only when a connection to it stands again; meanwhile
 * it is tried with back-off, by one of those who wait or by the next who comes.
 *
 * Limits: the side's queue capacity; who comes beyond it is shed.
 * Ownership: held by connections and exchanges; an unheld one goes after the discovery idle time.
 */
#include "mesh/balancer.h"
#include "proxy/upstream.h"

struct dest;
struct pick { /* somebody who waits; embedded; zeroed before first use */
    struct list node;
    struct dest *dest;
    /* From a task or timer; member NULL: `why`. */
    void (*on_pick)(struct pick *p, struct member *m, enum failure why);
};

/* Found or made; held until dest_release(). `path` is "svc.ns.svc.cd:80". */
struct dest *dest_hold(struct proxy_worker *w, const struct backend *b, bool is_tcp);
void dest_ref(struct dest *d); /* held once more */
void dest_release(struct dest *d);
/* A ready member now, or NULL: then dest_wait(). */
struct member *dest_pick(struct dest *d);
void dest_wait(struct dest *d, struct pick *p);
void dest_wait_cancel(struct pick *p); /* idempotent */
/* A request or connection on this member begins and ends; the member and its upstream stay valid
 * in between. */
void dest_begin(struct dest *d, struct member *m);
void dest_end(struct dest *d, struct member *m);
void dest_observe(struct dest *d, struct member *m, uint64_t rtt_ns);
/* Would a request have a chance now? For the choice among backends; a new one has. */
bool dest_is_available(const struct dest *d);
struct bytes dest_authority(const struct dest *d); /* its path without ":80"; borrowed while held */
static inline struct upstream *member_upstream(const struct member *m)
{
    return m->user;
}
bool dest_sweep(struct proxy_worker *w); /* true: some are left that will be idle long enough */
void dest_clear(struct proxy_worker *w); /* at the worker's end */

#endif
