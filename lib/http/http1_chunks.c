/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunked bodies (RFC 9112 7.1). One byte at a time in the lines, which are short; a chunk's data
 * are only counted.
 */
#include "core/err.h"
#include "http/http1.h"
#include "http/http1_scan.h"

#define CHUNK_SIZE_MAX (UINT64_C(1) << 60)

/*
 *  chunk          = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
 *  chunk-ext      = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
 *  chunk-ext-val  = token / quoted-string
 */
#define CHUNK_STATES(X)                                                                            \
    X(SIZE_FIRST, "the first digit of a size")                                                     \
    X(SIZE, "a further digit, an extension or the line's end")                                     \
    X(SPACE, "after whitespace: only an extension may follow")                                     \
    X(NAME_FIRST, "whitespace or the first byte of an extension's name")                           \
    X(NAME, "inside an extension's name")                                                          \
    X(NAME_SPACE, "whitespace behind a name: a value or another extension")                        \
    X(VALUE_FIRST, "whitespace or the first byte of an extension's value")                         \
    X(VALUE, "inside a token")                                                                     \
    X(QUOTED, "inside a quoted string")                                                            \
    X(ESCAPED, "behind a backslash in a quoted string")                                            \
    X(VALUE_END, "behind a quoted string")                                                         \
    X(LINE_FEED, "the line feed of a size line")                                                   \
    X(DATA, "a chunk's data")                                                                      \
    X(DATA_CR, "the carriage return behind the data")                                              \
    X(DATA_LF, "the line feed behind the data")                                                    \
    X(LAST, "the last chunk's line was read: nothing more is for us")                              \
    X(BAD, "it went wrong: nothing more is understood")

enum chunk_state {
#define CHUNK_STATE(name, text) CHUNK_##name,
    CHUNK_STATES(CHUNK_STATE)
#undef CHUNK_STATE
};

void http1_chunks_init(struct http1_chunks *c)
{
    *c = (struct http1_chunks){.state = CHUNK_SIZE_FIRST};
}

static inline bool is_token_byte(unsigned char c)
{
    return scan_lower[c] != 0;
}

/* What may follow an extension's name or value, or a size. CHUNK_BAD: `c` may not. */
static enum chunk_state after_word(unsigned char c, enum chunk_state on_space)
{
    switch (c) {
    case ';':
        return CHUNK_NAME_FIRST;
    case '\r':
        return CHUNK_LINE_FEED;
    case ' ':
    case '\t':
        return on_space;
    default:
        return CHUNK_BAD;
    }
}

static enum chunk_state size_digit(struct http1_chunks *c, unsigned char byte)
{
    int digit = bytes_hex_digit((char)byte);

    if (digit < 0) {
        /* A size has a digit; what is no digit ends it. */
        return c->state == CHUNK_SIZE ? after_word(byte, CHUNK_SPACE) : CHUNK_BAD;
    }
    if (c->size > CHUNK_SIZE_MAX >> 4) {
        return CHUNK_BAD; /* RFC 9112 7.1: no overflow */
    }
    c->size = c->size << 4 | (unsigned)digit;
    return c->size <= CHUNK_SIZE_MAX ? CHUNK_SIZE : CHUNK_BAD;
}

/* Extensions mean nothing to us (RFC 9112 7.1.1); their form is checked, so that all see the same
 * end of the line. */
static enum chunk_state extension_byte(enum chunk_state state, unsigned char c)
{
    bool is_space = c == ' ' || c == '\t';

    switch ((unsigned)state) {
    case CHUNK_SPACE: /* whitespace alone before the line's end is none of the grammar */
        return c == '\r' ? CHUNK_BAD : after_word(c, CHUNK_SPACE);
    case CHUNK_NAME_FIRST:
        return is_space ? state : is_token_byte(c) ? CHUNK_NAME : CHUNK_BAD;
    case CHUNK_NAME:
        if (is_token_byte(c)) {
            return state;
        }
        return c == '=' ? CHUNK_VALUE_FIRST : after_word(c, CHUNK_NAME_SPACE);
    case CHUNK_NAME_SPACE:
        if (c == '\r') {
            return CHUNK_BAD;
        }
        return c == '=' ? CHUNK_VALUE_FIRST : after_word(c, CHUNK_NAME_SPACE);
    case CHUNK_VALUE_FIRST:
        if (c == '"') {
            return CHUNK_QUOTED;
        }
        return is_space ? state : is_token_byte(c) ? CHUNK_VALUE : CHUNK_BAD;
    case CHUNK_VALUE:
        return is_token_byte(c) ? state : after_word(c, CHUNK_SPACE);
    case CHUNK_QUOTED: /* RFC 9110 5.6.4; a CR or LF inside would end the line for others */
        if (c == '"') {
            return CHUNK_VALUE_END;
        }
        return c == '\\' ? CHUNK_ESCAPED : scan_is_value_byte(c) ? CHUNK_QUOTED : CHUNK_BAD;
    case CHUNK_ESCAPED:
        return scan_is_value_byte(c) ? CHUNK_QUOTED : CHUNK_BAD;
    case CHUNK_VALUE_END:
        return after_word(c, CHUNK_SPACE);
    default:
        return CHUNK_BAD;
    }
}

/* One byte outside of data. */
static enum chunk_state line_byte(struct http1_chunks *c, unsigned char byte)
{
    switch (c->state) {
    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        return size_digit(c, byte);
    case CHUNK_LINE_FEED:
        /* RFC 9112 2.2 and 7.1: the line ends in CRLF, never in one of the two. */
        if (byte != '\n') {
            return CHUNK_BAD;
        }
        c->left = c->size;
        c->size = 0;
        c->line_bytes = 0;
        return c->left > 0 ? CHUNK_DATA : CHUNK_LAST;
    case CHUNK_DATA_CR: /* RFC 9112 7.1: CRLF behind the data, or the size was not what it seemed */
        return byte == '\r' ? CHUNK_DATA_LF : CHUNK_BAD;
    case CHUNK_DATA_LF:
        return byte == '\n' ? CHUNK_SIZE_FIRST : CHUNK_BAD;
    default:
        return extension_byte((enum chunk_state)c->state, byte);
    }
}

static int feed_line(struct http1_chunks *c, const char *in, size_t len, size_t *out_consumed)
{
    size_t i = 0;

    while (i < len && c->state != CHUNK_DATA && c->state != CHUNK_LAST) {
        if (c->state != CHUNK_DATA_CR && c->state != CHUNK_DATA_LF &&
            ++c->line_bytes > HTTP1_CHUNK_LINE_MAX) {
            c->state = CHUNK_BAD; /* RFC 9112 7.1.1: the total length of extensions is limited */
        } else {
            c->state = line_byte(c, (unsigned char)in[i]);
        }
        if (c->state == CHUNK_BAD) {
            return E_H1_BAD_CHUNK;
        }
        i++;
    }
    *out_consumed = i;
    return 0;
}

int http1_chunks_feed(struct http1_chunks *c, const char *in, size_t len, size_t *out_consumed,
                      size_t *out_data, size_t *out_data_len)
{
    size_t consumed = 0, data_len = 0;

    if (c->state == CHUNK_BAD) {
        return E_H1_BAD_CHUNK;
    }
    assert(c->state != CHUNK_LAST);
    if (len == 0) {
        return E_AGAIN;
    }
    if (c->state == CHUNK_DATA) {
        consumed = data_len = (size_t)MIN(c->left, (uint64_t)len);
        c->left -= data_len;
        if (c->left == 0) {
            c->state = CHUNK_DATA_CR;
        }
    } else {
        TRY(feed_line(c, in, len, &consumed));
    }
    *out_consumed = consumed;
    *out_data = 0;
    *out_data_len = data_len;
    return c->state == CHUNK_LAST ? E_EOF : 0;
}
