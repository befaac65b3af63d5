/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers forwarded_is_by() of proxy/forwarded.c. The first line is the identity, the rest the field.
 *
 * Properties: what it finds is in the field; an element of ours that is appended is always found; one
 * more element never hides another.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* Is `field`, with `more` behind it, by `id`? In memory of exactly its size. */
static bool is_by(struct bytes field, const char *more, struct bytes id)
{
    size_t more_len = strlen(more);
    char *copy = malloc(field.len + more_len + 1);
    bool found;

    require(copy != NULL);
    memcpy(copy, field.at, field.len);
    memcpy(copy + field.len, more, more_len);
    found = forwarded_is_by(bytes_of(copy, field.len + more_len), id);
    free(copy);
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    struct bytes id, field;
    bool found;

    if (end == NULL || end == data) {
        return 0;
    }
    id = bytes_of((const char *)data, (size_t)(end - data));
    field = bytes_of((const char *)end + 1, size - id.len - 1);
    found = is_by(field, "", id);
    require(!found || memmem(field.at, field.len, id.at, id.len) != NULL);
    require(!found || is_by(field, ",by=somebody;for=else", id));
    require(is_by(field, ",by=ours", bytes_str("ours")));
    return 0;
}
