/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads to and from lists of fields (RFC 9113 8.2, 8.3). What comes in was validated by nghttp2; what goes
 * out is validated here, for it may have come from anywhere.
 */
#include "core/err.h"
#include "http/http2_conn.h"

#include <inttypes.h>

static void nva_push(struct h2_nva *to, struct bytes name, struct bytes value, bool never_index)
{
    assert(to->count < ARRAY_LEN(to->at));
    /* nghttp2's types lack const; it copies and never writes. */
    to->at[to->count++] = (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)name.at,
        .namelen = name.len,
        .value = (uint8_t *)(uintptr_t)value.at,
        .valuelen = value.len,
        .flags = never_index ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
    };
}

/* RFC 9113 8.2.2: connection-specific fields have no place in HTTP/2, but for `te: trailers`. */
static bool is_dropped(const struct field *f)
{
    switch (f->id) {
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_UPGRADE:
    case FIELD_HTTP2_SETTINGS:
    case FIELD_CONTENT_LENGTH: /* written from head.content_length */
        return true;
    case FIELD_TE:
        return !bytes_eq_nocase(f->value, BYTES("trailers"));
    default:
        return false;
    }
}

/*
 * A Host that says something else than :authority would have this proxy route by the one and the
 * application answer by the other. RFC 9112 3.2.2 has a proxy replace it; RFC 9113 8.3.1 lets a
 * server refuse the message.
 */
static struct bytes value_of(const struct field *f, struct bytes authority)
{
    return f->id == FIELD_HOST && authority.len > 0 ? authority : f->value;
}

static int fields_encode(struct h2_nva *to, const struct fields *f, struct bytes authority)
{
    if (f->count > HTTP_FIELDS_MAX) {
        return E_LIMIT;
    }
    for (unsigned i = 0; i < f->count; i++) {
        const struct field *field = &f->at[i];

        if (is_dropped(field)) {
            continue;
        }
        /* RFC 9113 8.2.1; a colon in front would make a pseudo-field, and is no token. */
        if (!http_is_token(field->name) || !http_is_field_value(field->value)) {
            return E_SYNTAX;
        }
        nva_push(to, field->name, value_of(field, authority), field->never_index);
    }
    return 0;
}

static int request_encode(struct h2_nva *to, const struct head *h)
{
    if (!http_is_token(h->method) || !http_is_field_value(h->path) ||
        !http_is_field_value(h->authority)) {
        return E_SYNTAX;
    }
    nva_push(to, BYTES(":method"), h->method, false);
    if (!h->is_connect) { /* RFC 9113 8.5: CONNECT has neither scheme nor path */
        if (h->path.len == 0) {
            return E_SYNTAX;
        }
        nva_push(to, BYTES(":scheme"), h->scheme.len > 0 ? h->scheme : BYTES("http"), false);
        nva_push(to, BYTES(":path"), h->path, false);
    }
    if (h->authority.len > 0) {
        nva_push(to, BYTES(":authority"), h->authority, false);
    }
    return 0;
}

int h2_head_encode(struct h2_nva *to, const struct head *h)
{
    to->count = 0;
    if (h->status == 0) {
        TRY(request_encode(to, h));
    } else {
        /* RFC 9113 8.6: there is no 101. */
        if (h->status < 100 || h->status > 999 || h->status == 101) {
            return E_SYNTAX;
        }
        to->status[0] = (char)('0' + h->status / 100);
        to->status[1] = (char)('0' + h->status / 10 % 10);
        to->status[2] = (char)('0' + h->status % 10);
        nva_push(to, BYTES(":status"), bytes_of(to->status, 3), false);
    }
    /* RFC 9110 8.6: not in a 1xx or 204. */
    if (h->content_length >= 0 && !h->is_connect &&
        (h->status == 0 || (h->status >= 200 && h->status != 204))) {
        int n = snprintf(to->length, sizeof(to->length), "%" PRId64, h->content_length);

        nva_push(to, BYTES("content-length"), bytes_of(to->length, (size_t)n), false);
    }
    return fields_encode(to, &h->fields, h->authority);
}

int h2_trailers_encode(struct h2_nva *to, const struct fields *f)
{
    to->count = 0;
    return fields_encode(to, f, BYTES_NONE);
}

/* RFC 9113 8.3: pseudo-fields. nghttp2 has refused unknown, repeated and misplaced ones. */
static void pseudo_field(struct head *h, struct bytes name, struct bytes value)
{
    if (bytes_eq(name, BYTES(":method"))) {
        h->method = value;
    } else if (bytes_eq(name, BYTES(":path"))) {
        h->path = value;
    } else if (bytes_eq(name, BYTES(":authority"))) {
        h->authority = value;
    } else if (bytes_eq(name, BYTES(":scheme"))) {
        h->scheme = value;
    } else if (bytes_eq(name, BYTES(":status"))) {
        uint64_t status;

        if (bytes_to_u64(value, 999, &status) == 0) {
            h->status = (unsigned)status;
        }
    }
}

int h2_head_field(struct head *h, struct bytes name, struct bytes value, bool never_index)
{
    struct fields *f = &h->fields;

    if (name.len > 0 && name.at[0] == ':') {
        pseudo_field(h, name, value);
        return 0;
    }
    TRY(fields_add(f, name, value));
    f->at[f->count - 1].never_index = never_index;
    return 0;
}

int h2_head_finish(struct head *h, bool ends)
{
    const struct field *length = fields_get(&h->fields, FIELD_CONTENT_LENGTH);
    uint64_t bytes;

    h->version = HTTP_2;
    h->ends = ends;
    h->keep_alive = true;
    h->is_connect = bytes_eq(h->method, BYTES("CONNECT"));
    h->content_length = -1;
    if (length != NULL && bytes_to_u64(length->value, INT64_MAX, &bytes) == 0) {
        h->content_length = (int64_t)bytes;
    }
    if (h->status == 0 && h->authority.len == 0) { /* RFC 9113 8.3.1: Host stands in for it */
        const struct field *host = fields_get(&h->fields, FIELD_HOST);

        h->authority = host != NULL ? host->value : BYTES_NONE;
    }
    /* RFC 9113 8.3.1: no user information. What is before the "@" deceives whoever reads as far. */
    return h->authority.len > 0 && memchr(h->authority.at, '@', h->authority.len) != NULL
               ? E_H2_PROTOCOL
               : 0;
}

/* RFC 9113 7 */
enum reset h2_reset_of_code(uint32_t code)
{
    switch (code) {
    case NGHTTP2_NO_ERROR:
    case NGHTTP2_CANCEL:
        return RESET_CANCEL;
    case NGHTTP2_REFUSED_STREAM:
        return RESET_REFUSED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return RESET_CALM;
    case NGHTTP2_PROTOCOL_ERROR:
    case NGHTTP2_FLOW_CONTROL_ERROR:
    case NGHTTP2_SETTINGS_TIMEOUT:
    case NGHTTP2_STREAM_CLOSED:
    case NGHTTP2_FRAME_SIZE_ERROR:
    case NGHTTP2_COMPRESSION_ERROR:
        return RESET_PROTOCOL;
    default:
        return RESET_INTERNAL;
    }
}

uint32_t h2_code_of_reset(enum reset why)
{
    switch (why) {
    case RESET_NONE:
    case RESET_CANCEL:
    case RESET_TIMEOUT:
        return NGHTTP2_CANCEL;
    case RESET_REFUSED:
    case RESET_GOAWAY:
        return NGHTTP2_REFUSED_STREAM;
    case RESET_PROTOCOL:
        return NGHTTP2_PROTOCOL_ERROR;
    case RESET_CALM:
        return NGHTTP2_ENHANCE_YOUR_CALM;
    case RESET_INTERNAL:
    case RESET_CONNECTION:
    case RESET_TRUNCATED:
        return NGHTTP2_INTERNAL_ERROR;
    }
    return NGHTTP2_INTERNAL_ERROR;
}
