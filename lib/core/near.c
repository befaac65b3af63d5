/* SPDX-License-Identifier: Apache-2.0 */
#include "core/near.h"

#include <stdint.h>

/* Optimal string alignment: three rows of its table are alive at a time. */
size_t near_distance(struct bytes a, struct bytes b)
{
    size_t rows[3][NEAR_WORD_MAX + 1];

    if (a.len > NEAR_WORD_MAX || b.len > NEAR_WORD_MAX) {
        return SIZE_MAX;
    }
    for (size_t k = 0; k <= b.len; k++) {
        rows[0][k] = k;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t *now = rows[i % 3], *above = rows[(i - 1) % 3], *swapped = rows[(i + 1) % 3];

        now[0] = i;
        for (size_t k = 1; k <= b.len; k++) {
            now[k] = MIN(MIN(above[k], now[k - 1]) + 1, above[k - 1] + (a.at[i - 1] != b.at[k - 1]));
            if (i > 1 && k > 1 && a.at[i - 1] == b.at[k - 2] && a.at[i - 2] == b.at[k - 1]) {
                now[k] = MIN(now[k], swapped[k - 2] + 1);
            }
        }
    }
    return rows[a.len % 3][b.len];
}

void near_try(struct near *n, const char *known)
{
    size_t len = strlen(n->typed), most = len < 3 ? 0 : len < 6 ? 1 : 2;
    size_t distance = near_distance(bytes_str(n->typed), bytes_str(known));

    if (distance <= most && (n->best == NULL || distance < n->distance)) {
        n->best = known;
        n->distance = distance;
    }
}
