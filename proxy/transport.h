/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_TRANSPORT_H
#define PROXY_TRANSPORT_H

/*
 * The transport header that a client proxy sends right after the TLS handshake (wire 4.6).
 */
#include "core/chain.h"

#define TRANSPORT_START_BYTES 27    /* before the message: preface and length */
#define TRANSPORT_MESSAGE_MAX 65536 /* bytes of the message */
#define TRANSPORT_NAME_MAX    255

enum transport_session { TRANSPORT_OPAQUE, TRANSPORT_HTTP1, TRANSPORT_HTTP2 };

struct transport_header {
    uint16_t port;
    char name[TRANSPORT_NAME_MAX + 1]; /* empty: this pod's own port */
    enum transport_session session;
};

/* `override`: "host:port" of an authority override, or NULL. Appends to `to`; E_LIMIT without
 * chunks. */
int transport_print(struct chain *to, struct chunk_pool *pool, uint16_t port, const char *override,
                    enum transport_session session) MUST_USE;

/* How long is the header that begins with `in`? 0; E_AGAIN: less than TRANSPORT_START_BYTES are
 * there, and they may be one; E_TRANSPORT_HEADER. Pure. */
int transport_size(struct bytes in, size_t *out_size) MUST_USE;
/*
 * 0 and the bytes it takes; E_AGAIN: incomplete; E_TRANSPORT_HEADER: not one, port 0, or a name
 * that is no name. Pure.
 */
int transport_parse(struct bytes in, struct transport_header *out, size_t *out_consumed) MUST_USE;

#endif
