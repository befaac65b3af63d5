/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/budget.h"

#include "core/clock.h"

#include <string.h>

#define SCALE    1000    /* of deposits, where the ratio is above 1 */
#define COST_MAX 1000000 /* a smaller ratio than its inverse is as good as this one */
#define MS_PER_S 1000
/* The largest reserve, INT32_MAX a second for 60 s at the largest cost, fits in 63 bits. */
static_assert((uint64_t)INT32_MAX * 60 <= (uint64_t)INT64_MAX / COST_MAX / 2, "reserve");

bool budget_terms_are_valid(const struct budget_terms *t)
{
    return t->ratio >= 0 && t->ratio <= BUDGET_RATIO_MAX && t->min_per_s <= INT32_MAX &&
           t->ttl_ns >= BUDGET_TTL_MIN_NS && t->ttl_ns <= BUDGET_TTL_MAX_NS;
}

bool budget_terms_eq(const struct budget_terms *a, const struct budget_terms *b)
{
    return a->is_on == b->is_on && a->min_per_s == b->min_per_s && a->ttl_ns == b->ttl_ns &&
           memcmp(&a->ratio, &b->ratio, sizeof(a->ratio)) == 0;
}

/* In single precision, as the ratio comes: 1 / 0.2f is then 5, and not a little less. */
static int64_t cost_of(float tokens, float ratio)
{
    float cost = tokens / ratio;

    return cost >= (float)COST_MAX ? COST_MAX : (int64_t)cost;
}

void budget_init(struct budget *b, const struct budget_terms *t, unsigned shares, uint64_t now_ns)
{
    uint64_t retries;

    assert(shares > 0);
    *b = (struct budget){.cost = 1, .slot_ns = BUDGET_TTL_MIN_NS / BUDGET_SLOTS};
    if (t->is_on && budget_terms_are_valid(t)) {
        b->slot_ns = t->ttl_ns / BUDGET_SLOTS;
        if (t->ratio > 1) {
            b->deposit = SCALE;
            b->cost = cost_of(SCALE, t->ratio);
        } else if (t->ratio > 0) {
            b->deposit = 1;
            b->cost = cost_of(1, t->ratio);
        }
        retries = t->min_per_s * (t->ttl_ns / NS_PER_MS) / MS_PER_S;
        b->reserve = (int64_t)((retries + shares - 1) / shares) * b->cost;
    }
    b->slot = now_ns / b->slot_ns;
}

/* Slots that have passed meanwhile begin empty. */
static int64_t *slot_at(struct budget *b, uint64_t now_ns)
{
    uint64_t slot = now_ns / b->slot_ns;

    assert(slot >= b->slot);
    if (slot - b->slot >= BUDGET_SLOTS) {
        memset(b->tokens, 0, sizeof(b->tokens));
        b->slot = slot;
    }
    while (b->slot < slot) {
        b->tokens[++b->slot % BUDGET_SLOTS] = 0;
    }
    return &b->tokens[slot % BUDGET_SLOTS];
}

void budget_deposit(struct budget *b, uint64_t now_ns)
{
    *slot_at(b, now_ns) += b->deposit;
}

bool budget_withdraw(struct budget *b, uint64_t now_ns)
{
    int64_t *tokens = slot_at(b, now_ns);
    int64_t sum = b->reserve;

    for (unsigned i = 0; i < BUDGET_SLOTS; i++) {
        sum += b->tokens[i];
    }
    if (sum < b->cost) {
        return false;
    }
    *tokens -= b->cost;
    return true;
}
