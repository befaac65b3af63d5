/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_RATE_LIMIT_H
#define MESH_RATE_LIMIT_H

/*
 * What the local rate limit of a port has admitted so far (wire 9.4.6): token buckets whose burst is
 * one second's worth.
 *
 * A bucket is one 64-bit word, the time at which it will be full again; to take a token is to move
 * that time on by 1 s / rps, unless it would then be more than a second away. One compare-and-swap
 * does both, so all workers share the bucket itself: "10 a second" is 10 a second whether one worker
 * gets all the traffic or each an equal part. Shares of the rate for each worker would admit half of
 * it in the first case, and a balance of debts between them needs messages. The price is a cache
 * line that moves between cores, paid by requests of rate-limited ports alone.
 *
 * Order: the total, then the override that names the client, else the client's own bucket; clients
 * without an identity share one. Who has passed the total and fails after it has used its token.
 *
 * Limits: about RATE_IDENTITIES clients that called within the last second have a bucket each. A
 * bucket that is full again is as good as none and is given to the next client. Clients for whom
 * there is none share one more.
 * Ownership: reference counted. The policy of a port holds it, and the next policy with the same
 * limits takes it over, so that updates do not refill the buckets.
 * Threads: the words are read and written by all workers; the rest is immutable.
 */
#include "mesh/policy.h"

#define RATE_IDENTITIES 1024

enum rate_verdict { RATE_ADMITTED, RATE_TOTAL, RATE_IDENTITY, RATE_OVERRIDE };

struct rate_limiter;
struct rate_limiter *rate_limiter_new(const struct rate_limit *limits);
void rate_limiter_unref(struct rate_limiter *l); /* NULL is fine */
/*
 * One request of `client_id` (empty: none) at `now_ns`: admitted, or which limit it exceeds. `limits`
 * are those that it was made for, or equal ones.
 */
enum rate_verdict rate_limiter_take(struct rate_limiter *l, const struct rate_limit *limits,
                                    struct bytes client_id, uint64_t now_ns);
/* If both limit alike, `to` goes on with what `from` has admitted. Before `to` is published. */
void rate_limiter_inherit(struct server_policy *to, const struct server_policy *from);

#endif
