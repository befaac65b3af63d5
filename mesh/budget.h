/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_BUDGET_H
#define MESH_BUDGET_H

/*
 * A retry budget (wire 6.3): how many retries the requests of the recent past have earned.
 *
 * Each request deposits a token, a retry costs floor(1/ratio) of them; a ratio above 1 deposits
 * 1000, and a retry costs floor(1000/ratio); a ratio of 0 deposits nothing. Beside that there is a
 * reserve, worth min_per_s * ttl retries in any time of `ttl`, so that a client with few requests
 * can retry at all. Time passes in slots of ttl/10, counted from the clock's zero: what was
 * deposited and what was spent is forgotten together with its slot, so that the sum is that of the
 * present slot and the nine before it.
 *
 * Shares: a proxy has one budget per worker for a profile, and no lock between them. What requests
 * earn needs no division: each worker spends what its own requests deposited, and the sum keeps to
 * the ratio. The reserve does not come from requests and is divided: a budget is there to protect
 * the servers from a storm of retries, so it must hold for the sum of the workers. A share is
 * rounded up, never to nothing while the reserve is something; the sum can exceed the reserve by
 * workers - 1 retries. The price: one connection, which is one worker's, has only its share of the
 * reserve.
 *
 * Threads: one worker's. Pure: the clock is the caller's, and does not run backwards.
 */
#include "core/macros.h"

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_SLOTS      10
#define BUDGET_TTL_MIN_NS 1000000000ull
#define BUDGET_TTL_MAX_NS 60000000000ull
#define BUDGET_RATIO_MAX  1000

struct budget_terms {
    bool is_on; /* false: nothing is ever retried */
    float ratio;
    uint32_t min_per_s;
    uint64_t ttl_ns;
};
/* Within the bounds of wire 6.3: ratio 0 to 1000, ttl 1 to 60 s, min_per_s a positive int32. */
bool budget_terms_are_valid(const struct budget_terms *t);
bool budget_terms_eq(const struct budget_terms *a, const struct budget_terms *b);

struct budget {
    int64_t deposit, cost, reserve; /* tokens */
    uint64_t slot_ns, slot;         /* the present one, by number */
    int64_t tokens[BUDGET_SLOTS];   /* of slot n at n % BUDGET_SLOTS; negative: more was spent */
};
/* One of `shares` of them, which is not 0; terms that are off or not valid make one that allows
 * nothing. */
void budget_init(struct budget *b, const struct budget_terms *t, unsigned shares, uint64_t now_ns);
void budget_deposit(struct budget *b, uint64_t now_ns); /* a request; its retries are none */
bool budget_withdraw(struct budget *b, uint64_t now_ns); /* may one be sent again? Then it is paid */

#endif
