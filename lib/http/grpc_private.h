/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_GRPC_PRIVATE_H
#define HTTP_GRPC_PRIVATE_H

/*
 * What the two sides of gRPC share: frames to send, and the notation of its fields (gRPC over HTTP/2).
 */
#include "http/grpc.h"

#define GRPC_CREDIT_BYTES  ((size_t)1 << 20) /* granted ahead; the stream window is the real bound */
#define GRPC_TEXT_MAX      1024              /* of a grpc-message, decoded */
#define GRPC_TIMEOUT_BYTES 12

/* Frame a message behind `to`. E_LIMIT: beyond GRPC_MESSAGE_MAX or GRPC_PENDING_MAX, or no chunk; nothing
 * was appended. */
int grpc_frame_append(struct chain *to, struct chunk_pool *pool, struct bytes message) MUST_USE;
/* Send of `pending` what there is room for. True when nothing is left. */
bool grpc_pending_send(struct stream *s, struct chain *pending);

/* "100m" and kin, at most 8 digits: rounded up, so that nobody gives up before the caller would. */
struct bytes grpc_timeout_print(uint64_t timeout_ns, char to[GRPC_TIMEOUT_BYTES]);
int grpc_timeout_parse(struct bytes text, uint64_t *out_ns) MUST_USE; /* E_SYNTAX */

/* grpc-message in percent encoding. Encoding stops at GRPC_TEXT_MAX bytes of text; decoding leaves
 * what is no encoding as it is. */
void grpc_text_encode(struct text *to, struct bytes plain);
void grpc_text_decode(struct text *to, struct bytes encoded);

bool grpc_is_content_type(const struct fields *f);
/* Of trailers, or a head that is all there is. False: no grpc-status, or none that is a number. */
bool grpc_status_find(const struct fields *f, enum grpc_status *out_status);

#endif
