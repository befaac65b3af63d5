/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_TRANSPORT_H
#define PROXY_TRANSPORT_H

/*
 * The transport header that a client proxy sends right after the TLS handshake (wire 4.6).
 */
#include "core/chain.h"

#define TRANSPORT_HEADER_MAX 65536

enum transport_session { TRANSPORT_OPAQUE, TRANSPORT_HTTP1, TRANSPORT_HTTP2 };

struct transport_header {
    uint16_t port;
    char name[256];  /* empty: this pod's own port */
    enum transport_session session;
};

/* `override`: "host:port" of an authority override, or NULL. Appends to `to`; E_LIMIT without chunks. */
int transport_print(struct chain *to, struct chunk_pool *pool, uint16_t port, const char *override,
                    enum transport_session session) MUST_USE;
/* 0 and the bytes it takes; E_AGAIN: incomplete; E_TRANSPORT_HEADER: not one, or port 0. Pure. */
int transport_parse(struct bytes in, struct transport_header *out, size_t *out_consumed) MUST_USE;

#endif
