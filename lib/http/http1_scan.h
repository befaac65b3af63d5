/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_HTTP1_SCAN_H
#define HTTP_HTTP1_SCAN_H

/*
 * Searching for the first byte of a kind, 16 at a time where the processor can (every x86-64 has
 * SSE2), and the table of token characters. For the files of this folder.
 *
 * All look at [at, end) and never read a byte beyond it.
 */
#include "core/bytes.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* The lower-case form of a token character (RFC 9110 5.6.2), 0 for all others. message.c has the
 * table. */
extern const unsigned char scan_lower[256];

static inline bool
scan_is_value_byte(unsigned char c) /* RFC 9110 5.5: VCHAR, obs-text, SP and HTAB */
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static inline bool scan_is_target_byte(unsigned char c) /* visible ASCII: no SP, CTL, obs-text */
{
    return c > 0x20 && c < 0x7f;
}

/* The first line feed; `end` when there is none. */
static inline const char *scan_line_feed(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i feed = _mm_set1_epi8('\n');

    for (; end - at >= 16; at += 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)(const void *)at);
        unsigned hits = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(block, feed));

        if (hits != 0) {
            return at + __builtin_ctz(hits);
        }
    }
#endif
    while (at < end && *at != '\n') {
        at++;
    }
    return at;
}

/* The first byte that may not stand in a field value. */
static inline const char *scan_value_end(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i control = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'),
                  del = _mm_set1_epi8(0x7f);

    for (; end - at >= 16; at += 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(block, control), block); /* unsigned <= 0x1f */
        __m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(block, tab), low),
                                   _mm_cmpeq_epi8(block, del));
        unsigned hits = (unsigned)_mm_movemask_epi8(bad);

        if (hits != 0) {
            return at + __builtin_ctz(hits);
        }
    }
#endif
    while (at < end && scan_is_value_byte((unsigned char)*at)) {
        at++;
    }
    return at;
}

/* The first byte that may not stand in a request target. */
static inline const char *scan_target_end(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i first = _mm_set1_epi8(0x21), del = _mm_set1_epi8(0x7f);

    for (; end - at >= 16; at += 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* Signed: bytes over 0x7f count as smaller than all others. */
        __m128i bad = _mm_or_si128(_mm_cmplt_epi8(block, first), _mm_cmpeq_epi8(block, del));
        unsigned hits = (unsigned)_mm_movemask_epi8(bad);

        if (hits != 0) {
            return at + __builtin_ctz(hits);
        }
    }
#endif
    while (at < end && scan_is_target_byte((unsigned char)*at)) {
        at++;
    }
    return at;
}

#endif
