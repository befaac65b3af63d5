/* SPDX-License-Identifier: Apache-2.0 */
#include "core/text.h"

#include "core/alloc.h"
#include "core/err.h"

#include <errno.h>
#include <stdio.h>

#define TEXT_FIRST_BYTES 128
#define REPLACEMENT      "\xef\xbf\xbd" /* U+FFFD stands for what is not UTF-8 */

void text_init(struct text *t, size_t bytes_max)
{
    assert(bytes_max < SIZE_MAX / 4);
    *t = (struct text){.bytes_max = bytes_max};
}

void text_init_fixed(struct text *t, char *buffer, size_t bytes)
{
    assert(bytes > 0);
    *t = (struct text){.at = buffer, .capacity = bytes, .bytes_max = bytes - 1};
    buffer[0] = '\0';
}

void text_clear(struct text *t)
{
    mem_free(t->at);
    *t = (struct text){.bytes_max = t->bytes_max};
}

void text_reset(struct text *t)
{
    t->len = 0;
    t->err = 0;
    if (t->at != NULL) {
        t->at[0] = '\0';
    }
}

/* Make room for `bytes` more and the terminator. False at the limit or after an earlier error. */
static bool text_reserve(struct text *t, size_t bytes)
{
    size_t want, capacity;

    if (t->err == 0 && bytes > t->bytes_max - t->len) {
        t->err = E_LIMIT;
    }
    if (t->err != 0) {
        return false;
    }
    want = t->len + bytes + 1;
    if (want > t->capacity) {
        capacity = MAX(MAX(t->capacity * 2, want), TEXT_FIRST_BYTES);
        t->capacity = MIN(capacity, t->bytes_max + 1);
        t->at = mem_resize(t->at, t->capacity, 1);
    }
    return true;
}

void text_add(struct text *t, struct bytes b)
{
    if (!text_reserve(t, b.len)) {
        return;
    }
    if (b.len > 0) {
        memcpy(t->at + t->len, b.at, b.len);
    }
    t->len += b.len;
    t->at[t->len] = '\0';
}

void text_str(struct text *t, const char *s)
{
    text_add(t, bytes_str(s));
}

void text_char(struct text *t, char c)
{
    text_add(t, bytes_of(&c, 1));
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_vprintf(t, format, args);
    va_end(args);
}

void text_vprintf(struct text *t, const char *format, va_list args)
{
    va_list again;
    int len;

    if (!text_reserve(t, 0)) {
        return;
    }
    va_copy(again, args);
    len = vsnprintf(t->at + t->len, t->capacity - t->len, format, args);
    if (len < 0) {
        t->err = -errno;
    } else if ((size_t)len >= t->capacity - t->len && text_reserve(t, (size_t)len)) {
        (void)vsnprintf(t->at + t->len, t->capacity - t->len, format, again);
    }
    va_end(again);
    if (t->err == 0) {
        t->len += (size_t)len;
    }
    t->at[t->len] = '\0'; /* what did not fit is taken back */
}

/*
 * Bytes of the well-formed UTF-8 sequence at the start of `b`, 0 when there is none. RFC 3629
 * section 4: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
static size_t utf8_len(struct bytes b)
{
    unsigned char lead = (unsigned char)b.at[0], low = 0x80, high = 0xbf;
    size_t len;

    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4) {
        return 0;
    }
    len = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : low;
    high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : high;
    if (b.len < len || (unsigned char)b.at[1] < low || (unsigned char)b.at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (((unsigned char)b.at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

void text_utf8(struct text *t, struct bytes b, size_t bytes_max)
{
    struct bytes bad = BYTES(REPLACEMENT);
    size_t plain = 0;

    while (plain < b.len) {
        size_t len = utf8_len(bytes_from(b, plain));

        if (plain + (len > 0 ? len : bad.len) > bytes_max) {
            break;
        }
        if (len > 0) {
            plain += len;
            continue;
        }
        text_add(t, bytes_first(b, plain));
        text_add(t, bad);
        bytes_max -= plain + bad.len;
        b = bytes_from(b, plain + 1);
        plain = 0;
    }
    text_add(t, bytes_first(b, plain));
}

/* One character that may not stand in a JSON string as it is (RFC 8259 section 7). */
static void text_json_escape(struct text *t, unsigned char c)
{
    static const char letters[] = "btnvfr"; /* 8 to 13; \v is no JSON escape */

    if (c == '"' || c == '\\') {
        text_char(t, '\\');
        text_char(t, (char)c);
    } else if (c >= '\b' && c <= '\r' && c != '\v') {
        text_char(t, '\\');
        text_char(t, letters[c - '\b']);
    } else {
        text_printf(t, "\\u%04x", c);
    }
}

void text_json(struct text *t, struct bytes b)
{
    size_t plain = 0, len;

    text_char(t, '"');
    while (plain < b.len) {
        unsigned char c = (unsigned char)b.at[plain];

        len = utf8_len(bytes_from(b, plain));
        if (len > 0 && c >= 0x20 && c != '"' && c != '\\') {
            plain += len;
            continue;
        }
        text_add(t, bytes_first(b, plain));
        if (len == 0) {
            text_add(t, BYTES(REPLACEMENT));
        } else {
            text_json_escape(t, c);
        }
        b = bytes_from(b, plain + 1);
        plain = 0;
    }
    text_add(t, b);
    text_char(t, '"');
}

int text_finish(struct text *t, char **out_text)
{
    int err;

    (void)text_reserve(t, 0); /* an empty text is "" */
    err = t->err;
    if (err != 0) {
        text_clear(t);
        return err;
    }
    t->at[t->len] = '\0';
    *out_text = t->at;
    *t = (struct text){.bytes_max = t->bytes_max};
    return 0;
}
