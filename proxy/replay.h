/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_REPLAY_H
#define PROXY_REPLAY_H

/*
 * A copy of what came of a request's body, for another attempt (wire 6.3).
 *
 * Limits: `bytes_max` is given at begin, and chunks are not taken from the last ones that there
 * are; beyond either the copy is given up, and the request can be sent once only.
 * Ownership: owns its chunks until replay_clear().
 */
#include "core/chain.h"

struct replay {
    struct chain kept;
    size_t bytes_max;
    bool is_lost; /* something of the body is not in it */
};

void replay_begin(struct replay *r, size_t bytes_max);
/* Copy all of `bytes`, which stay the caller's. */
void replay_note(struct replay *r, const struct chain *bytes, struct chunk_pool *pool);
/* Is there something to send again, and are there chunks for it? Asked before what a retry costs is
 * paid, and true until something else takes chunks. */
bool replay_can_take(const struct replay *r, const struct chunk_pool *pool, bool last);
/* What is kept becomes the body to send: a copy, or on the `last` time itself. Only where
 * replay_can_take(). */
void replay_take(struct replay *r, struct chunk_pool *pool, bool last, struct chain *out_body);
void replay_lose(struct replay *r);  /* it will not be needed: free what is kept; idempotent */
void replay_clear(struct replay *r); /* idempotent */
/* So few chunks are left that they are for what is in progress. */
bool chunks_are_short(const struct chunk_pool *p);

#endif
