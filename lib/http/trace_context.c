/* SPDX-License-Identifier: Apache-2.0 */
#include "http/trace_context.h"

#include "core/err.h"

#include <string.h>

#define TRACE_ID_BYTES sizeof(((struct trace_context *)NULL)->trace_id)
#define SPAN_ID_BYTES  sizeof(((struct trace_context *)NULL)->span_id)

static bool is_zero(const uint8_t *id, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (id[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool is_complete(const struct trace_context *c)
{
    return !is_zero(c->trace_id, TRACE_ID_BYTES) && !is_zero(c->span_id, SPAN_ID_BYTES);
}

/* --- hexadecimal ------------------------------------------------------------------------------ */

/* All of `text`, into the end of `to`, which is zeroed before it. */
static bool hex_read(struct bytes text, uint8_t *to, size_t bytes)
{
    size_t pad = bytes - text.len / 2;

    if (text.len == 0 || text.len % 2 != 0 || text.len / 2 > bytes) {
        return false;
    }
    memset(to, 0, pad);
    for (size_t i = 0; i < text.len; i += 2) {
        int high = bytes_hex_digit(text.at[i]), low = bytes_hex_digit(text.at[i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        to[pad + i / 2] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static char *hex_write(char *to, const uint8_t *from, size_t bytes)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < bytes; i++) {
        *to++ = digits[from[i] >> 4];
        *to++ = digits[from[i] & 15];
    }
    return to;
}

/* --- base64 (RFC 4648 4) ---------------------------------------------------------------------- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* With or without padding, as gRPC asks its readers to. False also where `to` is too small, or bits
 * that mean nothing are set. */
static bool base64_read(struct bytes text, uint8_t *to, size_t bytes_max, size_t *out_bytes)
{
    unsigned bits = 0, count = 0;
    size_t bytes = 0;

    if (text.len % 4 == 0) {
        for (unsigned i = 0; i < 2 && bytes_ends(text, BYTES("=")); i++) {
            text.len--;
        }
    }
    for (size_t i = 0; i < text.len; i++) {
        int value = base64_value(text.at[i]);

        if (value < 0) {
            return false;
        }
        bits = (bits << 6 | (unsigned)value) & 0xffff;
        count += 6;
        if (count >= 8) {
            if (bytes == bytes_max) {
                return false;
            }
            count -= 8;
            to[bytes++] = (uint8_t)(bits >> count);
        }
    }
    *out_bytes = bytes;
    return count < 6 && (bits & ((1u << count) - 1)) == 0;
}

/* Padded, for not all readers do without. */
static char *base64_write(char *to, const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 3) {
        size_t left = bytes - i;
        unsigned bits = (unsigned)from[i] << 16 | (left > 1 ? (unsigned)from[i + 1] << 8 : 0) |
                        (left > 2 ? from[i + 2] : 0);

        *to++ = base64_digits[bits >> 18];
        *to++ = base64_digits[bits >> 12 & 63];
        *to++ = left > 1 ? base64_digits[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? base64_digits[bits & 63] : '=';
    }
    return to;
}

/* --- traceparent ------------------------------------------------------------------------------ */

#define TRACEPARENT_CHARS 55 /* "00-" 32 "-" 16 "-" 2 */

static bool read_w3c(const struct fields *f, struct trace_context *out)
{
    const struct field *field = fields_get(f, FIELD_TRACEPARENT);
    struct trace_context c = {.form = TRACE_W3C};
    struct bytes v = field != NULL ? field->value : BYTES_NONE;

    if (v.len != TRACEPARENT_CHARS || !bytes_starts(v, BYTES("00-")) || v.at[35] != '-' ||
        v.at[52] != '-' || !hex_read(bytes_of(v.at + 3, 32), c.trace_id, TRACE_ID_BYTES) ||
        !hex_read(bytes_of(v.at + 36, 16), c.span_id, SPAN_ID_BYTES) ||
        !hex_read(bytes_of(v.at + 53, 2), &c.flags, 1) || !is_complete(&c)) {
        return false;
    }
    *out = c;
    return true;
}

static struct bytes print_w3c(const struct trace_context *c, char *to)
{
    char *at = to;

    *at++ = '0';
    *at++ = '0';
    *at++ = '-';
    at = hex_write(at, c->trace_id, TRACE_ID_BYTES);
    *at++ = '-';
    at = hex_write(at, c->span_id, SPAN_ID_BYTES);
    *at++ = '-';
    at = hex_write(at, &c->flags, 1);
    return bytes_of(to, (size_t)(at - to));
}

/* --- grpc-trace-bin --------------------------------------------------------------------------- */

enum { GRPC_TRACE_ID, GRPC_SPAN_ID, GRPC_OPTIONS };

#define GRPC_BYTES     29  /* as we write it: a version, and three fields */
#define GRPC_BYTES_MAX 128 /* as others do */

/* Fields are in the order of their numbers; from the first unknown one on nothing is understood. */
static bool read_grpc_fields(const uint8_t *at, const uint8_t *end, struct trace_context *c)
{
    while (at < end) {
        uint8_t *to = *at == GRPC_TRACE_ID ? c->trace_id : *at == GRPC_SPAN_ID ? c->span_id : &c->flags;
        size_t bytes = *at == GRPC_TRACE_ID ? TRACE_ID_BYTES : *at == GRPC_SPAN_ID ? SPAN_ID_BYTES : 1;

        if (*at > GRPC_OPTIONS) {
            break;
        }
        at++;
        if ((size_t)(end - at) < bytes) {
            return false;
        }
        memcpy(to, at, bytes);
        at += bytes;
    }
    return true;
}

static bool read_grpc(const struct fields *f, struct trace_context *out)
{
    const struct field *field = fields_get(f, FIELD_GRPC_TRACE_BIN);
    struct trace_context c = {.form = TRACE_GRPC};
    uint8_t raw[GRPC_BYTES_MAX];
    size_t bytes = 0;

    if (field == NULL || !base64_read(field->value, raw, sizeof(raw), &bytes) || bytes == 0 ||
        raw[0] != 0 || !read_grpc_fields(raw + 1, raw + bytes, &c) || !is_complete(&c)) {
        return false;
    }
    *out = c;
    return true;
}

static struct bytes print_grpc(const struct trace_context *c, char *to)
{
    uint8_t raw[GRPC_BYTES], *at = raw;

    *at++ = 0;
    *at++ = GRPC_TRACE_ID;
    memcpy(at, c->trace_id, TRACE_ID_BYTES);
    at += TRACE_ID_BYTES;
    *at++ = GRPC_SPAN_ID;
    memcpy(at, c->span_id, SPAN_ID_BYTES);
    at += SPAN_ID_BYTES;
    *at++ = GRPC_OPTIONS;
    *at = c->flags;
    return bytes_of(to, (size_t)(base64_write(to, raw, sizeof(raw)) - to));
}

/* --- x-b3-* ----------------------------------------------------------------------------------- */

static bool read_b3(const struct fields *f, struct trace_context *out)
{
    const struct field *trace = fields_get(f, FIELD_X_B3_TRACEID), *span, *sampled;
    struct trace_context c = {.form = TRACE_B3};

    if (trace == NULL) {
        return false;
    }
    span = fields_get(f, FIELD_X_B3_SPANID);
    if (span == NULL || !hex_read(trace->value, c.trace_id, TRACE_ID_BYTES) ||
        !hex_read(span->value, c.span_id, SPAN_ID_BYTES) || !is_complete(&c)) {
        return false;
    }
    sampled = fields_get(f, FIELD_X_B3_SAMPLED);
    c.flags = sampled != NULL && bytes_eq(sampled->value, BYTES("1")) ? TRACE_FLAG_SAMPLED : 0;
    *out = c;
    return true;
}

/* --- all of them ------------------------------------------------------------------------------ */

bool trace_context_read(const struct fields *f, struct trace_context *out)
{
    return read_w3c(f, out) || read_grpc(f, out) || read_b3(f, out);
}

int trace_context_write(struct fields *f, const struct trace_context *c)
{
    static const struct {
        enum field_id id;
        struct bytes name;
    } of_span[] = {
        [TRACE_W3C] = {FIELD_TRACEPARENT, {"traceparent", 11}},
        [TRACE_GRPC] = {FIELD_GRPC_TRACE_BIN, {"grpc-trace-bin", 14}},
        [TRACE_B3] = {FIELD_X_B3_SPANID, {"x-b3-spanid", 11}},
    };
    char text[64];
    struct bytes value, copy;

    if (fields_get(f, of_span[c->form].id) == NULL) {
        return 0;
    }
    switch (c->form) {
    case TRACE_W3C:
        value = print_w3c(c, text);
        break;
    case TRACE_GRPC:
        value = print_grpc(c, text);
        break;
    case TRACE_B3:
    default:
        value = bytes_of(text, (size_t)(hex_write(text, c->span_id, SPAN_ID_BYTES) - text));
        break;
    }
    TRY(arena_copy(f->arena, value, &copy));
    return fields_set(f, of_span[c->form].name, copy);
}
