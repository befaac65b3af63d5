/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/profile_private.h"

#include "core/err.h"

/*
 * `destination.DestinationProfile`: what it says of a target beside its policy.
 */
#define FIELD_ROUTES        1
#define FIELD_DST_OVERRIDES 3

typedef Io__Linkerd__Proxy__Destination__DestinationProfile pb_profile;

enum wire { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

static int take_varint(struct bytes *io, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && io->len > 0; shift += 7) {
        uint8_t byte = (uint8_t)io->at[0];

        *io = bytes_from(*io, 1);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *out = value;
            return 0;
        }
    }
    return E_PROTOBUF;
}

int wire_field_take(struct bytes *io, struct wire_field *out)
{
    struct bytes rest = *io;
    uint64_t tag, skip = 0;

    TRY(take_varint(&rest, &tag));
    switch (tag & 7) {
    case WIRE_VARINT:
        TRY(take_varint(&rest, &skip));
        skip = 0;
        break;
    case WIRE_I64:
        skip = 8;
        break;
    case WIRE_LEN:
        TRY(take_varint(&rest, &skip));
        break;
    case WIRE_I32:
        skip = 4;
        break;
    default:
        return E_PROTOBUF;
    }
    if (skip > rest.len) {
        return E_PROTOBUF;
    }
    out->number = tag >> 3;
    out->is_len = (tag & 7) == WIRE_LEN;
    out->payload = out->is_len ? bytes_first(rest, (size_t)skip) : BYTES_NONE;
    rest = bytes_from(rest, (size_t)skip);
    out->whole = bytes_first(*io, io->len - rest.len);
    *io = rest;
    return 0;
}

struct bytes wire_without(struct decode *d, struct bytes message, uint64_t a, uint64_t b)
{
    char *to = arena_try(&d->scratch, message.len);
    size_t len = 0;
    struct wire_field field;

    if (to == NULL) {
        decode_refuse(d, "the profile is too large");
        return BYTES_NONE;
    }
    while (message.len > 0) {
        if (wire_field_take(&message, &field) != 0) {
            decode_refuse(d, "the profile is malformed");
            return BYTES_NONE;
        }
        if (field.number != a && field.number != b) {
            memcpy(to + len, field.whole.at, field.whole.len);
            len += field.whole.len;
        }
    }
    return bytes_of(to, len);
}

void decode_profile(struct decode *d, struct bytes message, uint16_t port, struct profile *to)
{
    struct bytes flat = wire_without(d, message, FIELD_ROUTES, FIELD_DST_OVERRIDES);
    const pb_profile *from = decode_unpack(d, PB(destination__destination_profile), flat);

    if (from == NULL) {
        return;
    }
    to->is_opaque = from->opaque_protocol;
    to->name = decode_text(d, from->fully_qualified_name);
    if (from->parent_ref != NULL) {
        to->parent = decode_meta(d, from->parent_ref, "the profile", false);
    }
    if (from->endpoint != NULL) {
        struct endpoint *e = endpoint_new(from->endpoint, NULL, 0);

        if (e == NULL) {
            decode_refuse(d, "the endpoint of the profile is malformed");
            return;
        }
        decode_hold_endpoint(d, e);
        to->endpoint = e;
    }
    if (to->name.len > 0 && port != 0 && !to->is_opaque && decode_is_ok(d)) {
        to->service = decode_service_profile(d, message, to, port);
    }
}
