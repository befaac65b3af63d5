/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers negotiate_quality() of lib/http/negotiate.c. The input is a list.
 *
 * Properties: a quality is at most 1; who is named is found with wildcards, too; a list behind
 * another one that names the type more exactly, or as exactly, changes nothing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/negotiate.h"

#define LIST_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct bytes wanted[] = {{"text/plain", 10}, {"gzip", 4}};
    static const char first[] = "text/plain;q=0.25,gzip;q=0.25,";
    char *both;

    if (size > LIST_MAX) {
        return 0;
    }
    both = malloc(sizeof(first) - 1 + size);
    require(both != NULL);
    memcpy(both, first, sizeof(first) - 1);
    if (size > 0) {
        memcpy(both + sizeof(first) - 1, data, size);
    }
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        struct bytes list = bytes_of(both + sizeof(first) - 1, size);
        unsigned any = negotiate_quality(list, wanted[i], false);
        unsigned named = negotiate_quality(list, wanted[i], true);

        require(any <= QUALITY_MAX && (named == 0 || named == any));
        require(negotiate_quality(bytes_of(both, sizeof(first) - 1 + size), wanted[i], true) ==
                QUALITY_MAX / 4);
    }
    free(both);
    return 0;
}
