/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_BYTES_H
#define CORE_BYTES_H

/*
 * A borrowed run of bytes: pointer and length, passed by value, owned by somebody else. May hold
 * NULs; {NULL, 0} is empty.
 */
#include "core/macros.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const char *at;
    size_t len;
};

#define BYTES(literal)                                                                             \
    ((struct bytes){.at = ("" literal), .len = sizeof(literal) - 1})
#define BYTES_NONE     ((struct bytes){.at = NULL, .len = 0})
#define BYTES_FMT      "%.*s" /* with BYTES_ARG, for printf */
#define BYTES_ARG(b)   (int)(b).len, (b).at

static inline struct bytes bytes_of(const void *at, size_t len)
{
    return (struct bytes){.at = at, .len = len};
}

static inline struct bytes bytes_str(const char *text) /* NULL gives the empty run */
{
    return (struct bytes){.at = text, .len = text != NULL ? strlen(text) : 0};
}

static inline bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

bool bytes_eq_nocase(struct bytes a, struct bytes b);      /* ASCII only */
int bytes_cmp(struct bytes a, struct bytes b);             /* as memcmp, shorter first */
bool bytes_starts(struct bytes b, struct bytes prefix);
bool bytes_ends(struct bytes b, struct bytes suffix);
struct bytes bytes_trim(struct bytes b, const char *set);  /* drop `set` at both ends */
struct bytes bytes_from(struct bytes b, size_t offset);    /* offset <= len */
struct bytes bytes_first(struct bytes b, size_t len);      /* len <= b.len */
/* Split at the first `c`: head before it (whole when absent), rest after it (empty). True if found. */
bool bytes_split(struct bytes b, char c, struct bytes *out_head, struct bytes *out_rest);
bool bytes_find(struct bytes b, struct bytes needle, size_t *out_offset);
uint64_t bytes_hash(struct bytes b);                       /* keyed per process; not stable */
char *bytes_dup(struct bytes b);                           /* NUL-terminated, caller frees */

static inline int bytes_hex_digit(char c) /* 0 to 15, of either case; -1: it is none */
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Whole input must be a decimal (no sign, no space), at most `max`; else E_SYNTAX or E_RANGE. */
int bytes_to_u64(struct bytes b, uint64_t max, uint64_t *out_value) MUST_USE;
#define BYTES_U64_MAX 20 /* digits of the largest */
/* The decimal, written into the end of `to`. Without printf: most of a large scrape are such numbers. */
struct bytes bytes_from_u64(char to[BYTES_U64_MAX], uint64_t value);

#endif
