/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/accrual.h"

#include "core/clock.h"

#include <string.h>

#define WINDOW_MIN_NS (10 * NS_PER_MS)
#define SHIFT_MAX     32 /* the cap was reached long before */

bool accrual_config_same(const struct accrual_config *a, const struct accrual_config *b)
{
    return a->max_failures == b->max_failures &&
           !(a->success_rate_threshold < b->success_rate_threshold) &&
           !(a->success_rate_threshold > b->success_rate_threshold) &&
           a->window_ns == b->window_ns && a->min_requests == b->min_requests &&
           a->backoff_min_ns == b->backoff_min_ns && a->backoff_max_ns == b->backoff_max_ns &&
           !(a->backoff_jitter < b->backoff_jitter) && !(a->backoff_jitter > b->backoff_jitter);
}

void accrual_init(struct accrual *a)
{
    *a = (struct accrual){.state = ACCRUAL_CLOSED};
}

void accrual_expire(struct accrual *a)
{
    if (a->state == ACCRUAL_EJECTED) {
        a->state = ACCRUAL_PROBE;
    }
}

bool accrual_begin(struct accrual *a, const void *by)
{
    if (a->state != ACCRUAL_PROBE) {
        return false;
    }
    a->state = ACCRUAL_PROBING;
    a->probe = by;
    return true;
}

bool accrual_end(struct accrual *a, const void *by)
{
    if (a->state != ACCRUAL_PROBING || a->probe != by) {
        return false;
    }
    a->state = ACCRUAL_PROBE;
    a->probe = NULL;
    return true;
}

/* --- the success rate ------------------------------------------------------------------------- */

/* Make the bucket of `now_ns` the newest one; those that fell out of the window are emptied. */
static struct accrual_bucket *bucket_now(struct accrual *a, uint64_t window_ns, uint64_t now_ns)
{
    uint64_t number = now_ns / (MAX(window_ns, WINDOW_MIN_NS) / ACCRUAL_BUCKETS);

    if (number - a->bucket >= ACCRUAL_BUCKETS) { /* also when another width made it jump back */
        memset(a->buckets, 0, sizeof(a->buckets));
    } else {
        for (uint64_t i = a->bucket + 1; i <= number; i++) {
            a->buckets[i % ACCRUAL_BUCKETS] = (struct accrual_bucket){0};
        }
    }
    a->bucket = number;
    return &a->buckets[number % ACCRUAL_BUCKETS];
}

/* Is the rate too low, with this attempt? */
static bool rate_is_low(struct accrual *a, const struct accrual_config *c,
                        enum accrual_result result, uint64_t now_ns)
{
    struct accrual_bucket *now;
    uint64_t successes = 0, failures = 0;

    if (!(c->success_rate_threshold > 0.0)) {
        return false;
    }
    now = bucket_now(a, c->window_ns, now_ns);
    now->successes += result == ACCRUAL_SUCCESS;
    now->failures += result != ACCRUAL_SUCCESS;
    for (unsigned i = 0; i < ACCRUAL_BUCKETS; i++) {
        successes += a->buckets[i].successes;
        failures += a->buckets[i].failures;
    }
    return successes + failures >= c->min_requests &&
           (double)successes < c->success_rate_threshold * (double)(successes + failures);
}

/* --- the states ------------------------------------------------------------------------------- */

static void eject(struct accrual *a, const struct accrual_config *c, uint64_t now_ns,
                  struct rand *rand)
{
    unsigned shift = MIN(a->ejections, (uint32_t)SHIFT_MAX);
    uint64_t base = c->backoff_min_ns > c->backoff_max_ns >> shift ? c->backoff_max_ns
                                                                   : c->backoff_min_ns << shift;

    a->state = ACCRUAL_EJECTED;
    a->ejections++;
    a->probe = NULL;
    a->until_ns = now_ns + base + (uint64_t)(rand_unit(rand) * c->backoff_jitter * (double)base);
}

static bool record_closed(struct accrual *a, const struct accrual_config *c,
                          enum accrual_result result, uint64_t now_ns, struct rand *rand)
{
    bool is_low = rate_is_low(a, c, result, now_ns);

    a->failures = result == ACCRUAL_FAILURE ? a->failures + 1 : 0;
    if (!is_low && (c->max_failures == 0 || a->failures < c->max_failures)) {
        return false;
    }
    eject(a, c, now_ns, rand);
    return true;
}

static bool record_probe(struct accrual *a, const struct accrual_config *c,
                         enum accrual_result result, uint64_t now_ns, struct rand *rand)
{
    bool is_failure =
        result == ACCRUAL_FAILURE || (result == ACCRUAL_BUSY && c->success_rate_threshold > 0.0);

    if (is_failure) {
        eject(a, c, now_ns, rand);
    } else {
        accrual_init(a); /* as if it had never failed */
    }
    return true;
}

bool accrual_record(struct accrual *a, const struct accrual_config *c, const void *by,
                    enum accrual_result result, uint64_t now_ns, struct rand *rand)
{
    switch (a->state) {
    case ACCRUAL_CLOSED:
        return record_closed(a, c, result, now_ns, rand);
    case ACCRUAL_PROBING:
        return a->probe == by && record_probe(a, c, result, now_ns, rand);
    case ACCRUAL_EJECTED:
    case ACCRUAL_PROBE:
        break;
    }
    return false;
}
