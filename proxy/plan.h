/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_PLAN_H
#define PROXY_PLAN_H

/*
 * What a request needs beyond being forwarded: timeouts, retries, filters, traces. An exchange that needs
 * none of them has no plan, and pays for none.
 *
 * Timers (wire 5.8): `lifetime` runs from the request's head, `response` and `headers` from its
 * end, `idle` while a body is on its way.
 *
 * A retry (wire 6.3) gives up the dialed stream, and its response if one has begun that the client
 * has not seen; then, after a back-off, the request goes its way once more, with what is kept of
 * its body. A gRPC response whose head does not tell its status is held back until the first frame
 * after it, for that may be the trailers.
 *
 * Ownership: in the arena of the accepted stream; exchange_unplan() ends it, before that stream is
 * closed. Holds the policy that its pointers point into.
 */
#include "core/snapshot.h"
#include "mesh/route.h"
#include "proxy/replay.h"
#include "proxy/request_policy.h"
#include "proxy/route_stats.h"

struct exchange;
struct head;
struct trace;

struct plan {
    struct exchange *ex;
    struct request_policy policy;
    const struct snapshot *held;            /* reference; NULL: none */
    struct route_choice choice;             /* of which the filters are; of NULLs: none */
    const struct weighted_backend *backend; /* of the attempt at hand, for its filters; or NULL */
    struct timer lifetime, response, headers, idle, backoff;
    uint64_t frame_ns; /* when the last frame came */
    struct replay replay;
    uint32_t retries;     /* attempts after the first one, begun or backing off */
    struct head *pending; /* a response's head, held back; NULL: none */
    bool was_retried;     /* the attempt at hand is a retry */
    struct stat_bundle *retry_stats; /* reference; NULL: not counted */
    struct trace *trace;             /* NULL: it belongs to none that we know of */
};

/* The exchange's plan, made if it has none; NULL: no room in its arena. The first `held` that is not
 * NULL is held. */
struct plan *exchange_plan(struct exchange *ex, const struct snapshot *held) MUST_USE;
/* From now on `p` governs the request of an exchange with a plan. Before it is sent anywhere. */
void exchange_govern(struct exchange *ex, const struct request_policy *p);
/* The attempt at hand may take at most so long (0: no limit), besides what else holds. */
void exchange_limit_attempt(struct exchange *ex, uint64_t timeout_ns);
void exchange_unplan(struct exchange *ex); /* idempotent */

/* What happens to an exchange with a plan. */
void plan_frame(struct plan *p);                                  /* of either body */
void plan_request_data(struct plan *p, const struct chain *data); /* before it is passed on */
void plan_request_sent(struct plan *p);                           /* to the endpoint at hand */
void plan_response_begun(struct plan *p); /* the client has its head: no other attempt is made */

/* exchange_retry.c. True: the attempt is over and another one will come (or the response waits for
 * its first frame); the caller does nothing more. */
bool plan_takes_head(struct plan *p, struct head *head);
bool plan_takes_end(struct plan *p, int grpc_status); /* trailers, while a head is held back */
bool plan_takes_failure(struct plan *p, enum failure why);
/* The head that is held back goes to the client after all. */
struct head *plan_release_head(struct plan *p);
/* Data came: what the head said is all that counts. */
struct head *plan_takes_data(struct plan *p);

#endif
