/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_TEXT_H
#define CORE_TEXT_H

/*
 * A growing string with a ceiling and a sticky error: append freely, check once at the end.
 *
 * Limits: beyond `bytes_max` the text keeps what it has, ignores further appends and remembers
 * E_LIMIT. An append goes in whole or not at all. The buffer is NUL-terminated from the first append
 * on; before it `at` is NULL.
 */
#include "core/bytes.h"

#include <stdarg.h>

struct text {
    char *at;
    size_t len, capacity, bytes_max;
    int err;
};

void text_init(struct text *t, size_t bytes_max); /* allocates nothing */
/* Writes into `buffer` and never grows: at most bytes - 1 characters. Never cleared, never finished. */
void text_init_fixed(struct text *t, char *buffer, size_t bytes);
void text_clear(struct text *t);                  /* frees; idempotent */
void text_reset(struct text *t);                  /* empty again, keeps the memory and drops the error */
void text_add(struct text *t, struct bytes b);
void text_str(struct text *t, const char *s);
void text_char(struct text *t, char c);
void text_printf(struct text *t, const char *format, ...) PRINTF_LIKE(2, 3);
void text_vprintf(struct text *t, const char *format, va_list args) PRINTF_LIKE(2, 0);
/* U+FFFD for what is not UTF-8; cut before the character that would make it more than `bytes_max`. */
void text_utf8(struct text *t, struct bytes b, size_t bytes_max);
void text_json(struct text *t, struct bytes b);   /* a JSON string; U+FFFD for what is not UTF-8 */
/* Moves the buffer out; the caller frees it. After an error: the sticky code, and the text is cleared. */
int text_finish(struct text *t, char **out_text) MUST_USE;
static inline struct bytes text_bytes(const struct text *t)
{
    return bytes_of(t->at, t->len);
}

#endif
