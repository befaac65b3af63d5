/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_RAND_H
#define CORE_RAND_H

#include "core/macros.h"

#include <stdint.h>

/*
 * Fast random numbers for choices (balancing, jitter); seeded from the kernel, never for secrets.
 * A struct rand belongs to one thread; tests seed it.
 */
struct rand {
    uint64_t s[4];
};
void rand_init(struct rand *r);                      /* seeded by getrandom(2) */
void rand_seed(struct rand *r, uint64_t seed);       /* the same sequence for the same seed */
uint64_t rand_u64(struct rand *r);
uint64_t rand_below(struct rand *r, uint64_t bound); /* unbiased, 0 <= x < bound, bound > 0 */
double rand_unit(struct rand *r);                    /* 0 <= x < 1 */

void rand_secret(void *to, size_t bytes);            /* getrandom(2); for keys and nonces */

#endif
