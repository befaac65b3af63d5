/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_NEAR_H
#define CORE_NEAR_H

/*
 * The known word that somebody meant who wrote another one: a letter too many, too few, another one, or two
 * that changed places (optimal string alignment). Case does not count.
 *
 *     struct near n = NEAR("accesPolicy");
 *     near_try(&n, "accessPolicy");       // each word that is known
 *     near_word(&n);                      // "accessPolicy"
 *
 * Bounds: words of more than NEAR_BYTES_MAX are near to none; the work is the product of both lengths, some
 * microseconds a word: so not for a word that is known, where there are many.
 * Ownership: borrows all words.
 */
#include "core/macros.h"

#include <stdbool.h>

#define NEAR_BYTES_MAX 96

struct near {
    const char *word;
    const char *best;  /* private, as what follows */
    unsigned distance; /* of `best`, while there is one */
    bool is_tie;       /* another one is as near */
};
#define NEAR(word_) {.word = (word_)}
void near_try(struct near *n, const char *known);
/* NULL unless one word alone is the nearest. Of a word a third may differ, and at most three letters. */
const char *near_word(const struct near *n);

#endif
