/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_PROFILE_PRIVATE_H
#define MESH_PROFILE_PRIVATE_H

/*
 * What the files that decode a DestinationProfile share: the fields of a message, one by one. Its
 * conditions nest without limit, and protobuf-c would follow them down the stack; so they are taken
 * from the bytes, and only flat messages are unpacked.
 */
#include "mesh/decode.h"
#include "mesh/profile.h"

struct wire_field {
    uint64_t number;
    bool is_len;           /* has a payload: text, bytes, or a message */
    struct bytes payload;  /* empty when it has none */
    struct bytes whole;    /* with its tag */
};
/* Take the next one off; E_PROTOBUF, with nothing taken. */
int wire_field_take(struct bytes *io, struct wire_field *out) MUST_USE;
/* The message without its fields `a` and `b`, in scratch; refused when it is malformed. */
struct bytes wire_without(struct decode *d, struct bytes message, uint64_t a, uint64_t b);

/* profile_routes.c: routes, overrides and budget of a well-formed profile. NULL: neither routes nor
 * overrides. */
const struct service_profile *decode_service_profile(struct decode *d, struct bytes message,
                                                     const struct profile *of, uint16_t port);

#endif
