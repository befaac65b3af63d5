/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_DEST_H
#define PROXY_DEST_H

/*
 * A balanced destination as one worker sees it: the endpoint set that discovery streams, the
 * balancer over it, an upstream for each member, and the queue of those who wait for a ready one.
 *
 * An endpoint may be picked while both of these hold:
 *   - it can be reached: its last dial did not fail, or its back-off ran out and one may try again
 *     (upstream.h);
 *   - it does not fail what it is given, where the policy counts that (accrual.h), or its probation
 *     is over and one may try.
 *
 * Fail-fast (wire 6.1): when somebody waits, and no endpoint became ready for the side's failfast
 * time, all who wait and all who come fail at once, until one is ready. An endpoint that is new
 * counts as ready; one that failed only when a connection to it stands again, or its probe
 * succeeded. Meanwhile it is tried with back-off, by one of those who wait or by the next who comes.
 *
 * Requests are balanced one by one, whatever connection of the application they came on. So a new
 * endpoint gets its share of the requests of connections that are older than it is; only streams
 * and tunnels that are open stay where they are until they end.
 *
 * Limits: the side's queue capacity; who comes beyond it is shed. An endpoint takes a few hundred
 * bytes until it is picked for the first time; only then has it an upstream, and series of its own.
 * Ownership: held by connections and exchanges; an unheld one goes after the discovery idle time.
 */
#include "mesh/balancer.h"
#include "proxy/upstream.h"

struct dest;
struct pick { /* somebody who waits; embedded; zeroed before first use */
    struct list node;
    struct dest *dest;
    uint64_t since_ns;
    /* From a task or timer; member NULL: `why`. */
    void (*on_pick)(struct pick *p, struct member *m, enum failure why);
};

/*
 * What came of one attempt: of a request that was given to an endpoint. Told once, when the first
 * byte of the response's body comes, or the response ends without one (so that the status of
 * trailers is known); or when the connection broke. When the body goes on (`is_open`), its end is
 * told by a second one, with the same `by`.
 * What the client gave up, and what may be sent again as if it had never been sent, is not told.
 */
struct response_outcome {
    const void *by;          /* who began the attempt, as in dest_begin() */
    uint64_t rtt_ns;         /* from when the endpoint was given the request; 0: told before */
    unsigned status;         /* 0: no head came */
    int grpc_status;         /* -1: none */
    bool is_open;            /* there is more to come, which may fail */
    bool is_connection_error;
    uint64_t retry_after_ns; /* the endpoint's wish (retry_after.h); 0: none */
};

/* Whose family of figures it has. Connections are shared out by their number, requests by latency. */
enum dest_kind { DEST_HTTP, DEST_TCP, DEST_TLS /* of somebody else, by TLS routes */, DEST_KINDS };

/* Found or made; held until dest_release(). `parent`: whose policy it is; parents do not share a
 * destination. A backend with other parameters than before changes those of the destination. */
struct dest *dest_hold(struct proxy_worker *w, const struct backend *b, const struct meta *parent,
                       enum dest_kind kind);
void dest_ref(struct dest *d); /* held once more */
void dest_release(struct dest *d);
/* A ready member now, or NULL: then dest_wait(). */
struct member *dest_pick(struct dest *d);
void dest_wait(struct dest *d, struct pick *p);
void dest_wait_cancel(struct pick *p); /* idempotent */
/* Some endpoint can be picked, or might be soon: nobody who comes fails at once. True also while
 * nothing is known yet. For the split of traffic over backends (wire 6.4). */
bool dest_is_available(const struct dest *d);
/* A request or connection on this member begins and ends; the member and its upstream stay valid
 * in between. `by` names the attempt, and is only compared. */
void dest_begin(struct dest *d, struct member *m, const void *by);
void dest_respond(struct dest *d, struct member *m, const struct response_outcome *o);
void dest_end(struct dest *d, struct member *m, const void *by);
struct bytes dest_authority(const struct dest *d); /* its path without ":80"; borrowed while held */
struct upstream *member_upstream(const struct member *m); /* between dest_begin() and dest_end() */
bool dest_sweep(struct proxy_worker *w); /* true: some are left that will be idle long enough */
void dest_clear(struct proxy_worker *w); /* at the worker's end */

#endif
