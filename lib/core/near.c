/* SPDX-License-Identifier: Apache-2.0 */
#include "core/near.h"

#include <ctype.h>
#include <string.h>

#define DISTANCE_MAX 3

static bool same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Three rows of the table are enough: the present one and the two before it. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned rows[3][NEAR_BYTES_MAX + 1];

    for (unsigned j = 0; j <= b_len; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = last[j - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1);

            now[j] = MIN(change, MIN(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1])) {
                now[j] = MIN(now[j], before[j - 2] + 1);
            }
        }
    }
    return rows[a_len % 3][b_len];
}

void near_try(struct near *n, const char *known)
{
    size_t len = strlen(n->word), known_len = strlen(known);
    unsigned found;

    if (len > NEAR_BYTES_MAX || known_len > NEAR_BYTES_MAX || len > known_len + DISTANCE_MAX ||
        known_len > len + DISTANCE_MAX) {
        return; /* the difference of lengths is a distance already */
    }
    found = distance(n->word, len, known, known_len);
    if (found > MIN(known_len / 3, (size_t)DISTANCE_MAX)) {
        return;
    }
    if (n->best == NULL || found < n->distance) {
        n->best = known;
        n->distance = found;
        n->is_tie = false;
    } else if (found == n->distance && strcmp(known, n->best) != 0) {
        n->is_tie = true;
    }
}

const char *near_word(const struct near *n)
{
    return n->is_tie ? NULL : n->best;
}
