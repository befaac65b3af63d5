/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_ACCRUAL_H
#define MESH_ACCRUAL_H

/*
 * Failure accrual: when is an endpoint taken out because of what it answers, and when may it come
 * back (wire 6.2). A state machine without clock, timer or socket: its user says what came of each
 * attempt and when, and asks whether the endpoint may be picked.
 *
 *   CLOSED   attempts count; too many failures in a row, or a success rate that is too low over the
 *            window, eject the endpoint
 *   EJECTED  nothing may be sent until `until_ns`: min x 2^n, capped at max, and jitter
 *   PROBE    one attempt may be made
 *   PROBING  it is in progress; its success closes, its failure ejects for twice as long
 *
 * What is still in flight when the endpoint is ejected ends without a say, so that late failures do
 * not lengthen the probation and late successes do not end it.
 *
 * One accrual per endpoint and worker, as a balancer (balancer.h). Its size is fixed.
 */
#include "core/rand.h"

#include <stdbool.h>

#define ACCRUAL_BUCKETS 10 /* of the window of the success rate */

struct accrual_config { /* all 0: off */
    uint32_t max_failures;         /* in a row; 0: not counted */
    double success_rate_threshold; /* 0: not counted */
    uint64_t window_ns;            /* of the success rate; at least 10 ms are taken */
    uint32_t min_requests;         /* in the window, before the rate says anything */
    uint64_t backoff_min_ns, backoff_max_ns;
    double backoff_jitter; /* of the back-off, added at random */
};

enum accrual_state { ACCRUAL_CLOSED, ACCRUAL_EJECTED, ACCRUAL_PROBE, ACCRUAL_PROBING };

/* What an attempt came to. */
enum accrual_result {
    ACCRUAL_SUCCESS,
    ACCRUAL_BUSY, /* refused by a working endpoint (429, RESOURCE_EXHAUSTED): lowers the rate alone */
    ACCRUAL_FAILURE
};

struct accrual {
    enum accrual_state state;
    uint32_t failures;  /* in a row */
    uint32_t ejections; /* in a row */
    uint64_t until_ns;  /* EJECTED: then it is to be probed */
    const void *probe;  /* PROBING: whose attempt decides */
    uint64_t bucket;    /* number of the newest one, counted from time 0 */
    struct accrual_bucket {
        uint32_t successes, failures;
    } buckets[ACCRUAL_BUCKETS];
};

static inline bool accrual_config_is_on(const struct accrual_config *c)
{
    return c->max_failures > 0 || c->success_rate_threshold > 0.0;
}
bool accrual_config_same(const struct accrual_config *a, const struct accrual_config *b);

void accrual_init(struct accrual *a); /* CLOSED */
/* May an attempt be made? */
static inline bool accrual_is_available(const struct accrual *a)
{
    return a->state == ACCRUAL_CLOSED || a->state == ACCRUAL_PROBE;
}
/* `until_ns` has come. */
void accrual_expire(struct accrual *a);
/* An available endpoint is given an attempt; the first one after EJECTED is the probe: then true. */
bool accrual_begin(struct accrual *a, const void *by);
/*
 * What it came to. True: the state changed; when it is EJECTED now, accrual_expire() is to be
 * called at `until_ns`.
 */
bool accrual_record(struct accrual *a, const struct accrual_config *c, const void *by,
                    enum accrual_result result, uint64_t now_ns, struct rand *rand);
/* It ended. True: it was the probe, came to nothing (its client gave up), and another may try. */
bool accrual_end(struct accrual *a, const void *by);

#endif
