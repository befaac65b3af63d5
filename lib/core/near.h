/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_NEAR_H
#define CORE_NEAR_H

/*
 * Which known word a mistyped one was meant to be: the one that the fewest letters left out, added, changed
 * or swapped lead to, if they are few.
 *
 *     struct near n = NEAR("stats");
 *     near_try(&n, "stat");
 *     near_try(&n, "status");       // n.best is "stat"
 */
#include "core/bytes.h"

#define NEAR_WORD_MAX 48 /* longer words are not compared */

struct near {
    const char *typed;
    const char *best; /* borrowed from near_try(); NULL: none is near */
    size_t distance;
};
#define NEAR(text) {.typed = (text), .best = NULL, .distance = 0}

void near_try(struct near *n, const char *known);
/* How many letters apart; SIZE_MAX when a word is too long. */
size_t near_distance(struct bytes a, struct bytes b);

#endif
