/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/decode.h"

#include "core/err.h"

/*
 * `destination.DestinationProfile`: what it says of a target beside its policy.
 *
 * Its routes are cut out of the bytes before they are unpacked. Their conditions nest without
 * limit, and protobuf-c would follow them down the stack.
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

/* The next field of a message, whole with its tag. */
static int take_field(struct bytes *io, uint64_t *out_number, struct bytes *out_field)
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
    rest = bytes_from(rest, (size_t)skip);
    *out_number = tag >> 3;
    *out_field = bytes_first(*io, io->len - rest.len);
    *io = rest;
    return 0;
}

static struct bytes without_routes(struct decode *d, struct bytes message)
{
    char *to = arena_try(&d->scratch, message.len);
    size_t len = 0;
    uint64_t number;
    struct bytes field;

    if (to == NULL) {
        decode_refuse(d, "the profile is too large");
        return BYTES_NONE;
    }
    while (message.len > 0) {
        if (take_field(&message, &number, &field) != 0) {
            decode_refuse(d, "the profile is malformed");
            return BYTES_NONE;
        }
        if (number != FIELD_ROUTES && number != FIELD_DST_OVERRIDES) {
            memcpy(to + len, field.at, field.len);
            len += field.len;
        }
    }
    return bytes_of(to, len);
}

void decode_profile(struct decode *d, struct bytes message, struct profile *to)
{
    struct bytes flat = without_routes(d, message);
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
}
