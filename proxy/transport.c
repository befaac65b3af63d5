/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/transport.h"

#include "api/transport.pb-c.h"
#include "core/alloc.h"
#include "core/err.h"

#define PREFACE "transport.l5d.io/v1\r\n\r\n"

int transport_print(struct chain *to, struct chunk_pool *pool, uint16_t port, const char *override,
                    enum transport_session session)
{
    Transport__L5d__Io__Header header;
    Transport__L5d__Io__SessionProtocol protocol = TRANSPORT__L5D__IO__SESSION_PROTOCOL__INIT;
    Transport__L5d__Io__SessionProtocol__Http1 http1 = TRANSPORT__L5D__IO__SESSION_PROTOCOL__HTTP1__INIT;
    Transport__L5d__Io__SessionProtocol__Http2 http2 = TRANSPORT__L5D__IO__SESSION_PROTOCOL__HTTP2__INIT;
    uint8_t packed[512];
    char name[256] = "";
    uint8_t length[4];
    size_t size;

    transport__l5d__io__header__init(&header);
    header.port = port;
    if (override != NULL) {
        struct bytes host, rest;
        uint64_t value;

        bytes_split(bytes_str(override), ':', &host, &rest);
        snprintf(name, sizeof(name), BYTES_FMT, BYTES_ARG(host));
        if (bytes_to_u64(rest, UINT16_MAX, &value) == 0) {
            header.port = (int32_t)value;
        }
        header.name = name;
    }
    if (session == TRANSPORT_HTTP1) {
        protocol.http1 = &http1;
        protocol.kind_case = TRANSPORT__L5D__IO__SESSION_PROTOCOL__KIND_HTTP1;
        header.session_protocol = &protocol;
    } else if (session == TRANSPORT_HTTP2) {
        protocol.http2 = &http2;
        protocol.kind_case = TRANSPORT__L5D__IO__SESSION_PROTOCOL__KIND_HTTP2;
        header.session_protocol = &protocol;
    }
    size = transport__l5d__io__header__pack(&header, packed);
    assert(size <= sizeof(packed));
    length[0] = length[1] = 0;
    length[2] = (uint8_t)(size >> 8);
    length[3] = (uint8_t)size;
    TRY(chain_append(to, pool, BYTES(PREFACE)));
    TRY(chain_append(to, pool, bytes_of(length, sizeof(length))));
    return chain_append(to, pool, bytes_of(packed, size));
}

static int header_decode(struct bytes packed, struct transport_header *out)
{
    Transport__L5d__Io__Header *h =
        transport__l5d__io__header__unpack(NULL, packed.len, (const uint8_t *)(const void *)packed.at);
    int rc = 0;

    if (h == NULL) {
        return E_TRANSPORT_HEADER;
    }
    if (h->port <= 0 || h->port > UINT16_MAX || (h->name != NULL && strlen(h->name) >= sizeof(out->name))) {
        rc = E_TRANSPORT_HEADER;
    } else {
        out->port = (uint16_t)h->port;
        snprintf(out->name, sizeof(out->name), "%s", h->name != NULL ? h->name : "");
        out->session = TRANSPORT_OPAQUE;
        if (h->session_protocol != NULL &&
            h->session_protocol->kind_case == TRANSPORT__L5D__IO__SESSION_PROTOCOL__KIND_HTTP1) {
            out->session = TRANSPORT_HTTP1;
        } else if (h->session_protocol != NULL &&
                   h->session_protocol->kind_case == TRANSPORT__L5D__IO__SESSION_PROTOCOL__KIND_HTTP2) {
            out->session = TRANSPORT_HTTP2;
        }
    }
    transport__l5d__io__header__free_unpacked(h, NULL);
    return rc;
}

int transport_parse(struct bytes in, struct transport_header *out, size_t *out_consumed)
{
    const size_t preface = sizeof(PREFACE) - 1;
    const uint8_t *length = (const uint8_t *)(const void *)(in.at + preface);
    size_t size;

    if (memcmp(in.at, PREFACE, MIN(in.len, preface)) != 0) {
        return E_TRANSPORT_HEADER;
    }
    if (in.len < preface + 4) {
        return E_AGAIN;
    }
    size = (size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 | length[3];
    if (size > TRANSPORT_HEADER_MAX) {
        return E_TRANSPORT_HEADER;
    }
    if (in.len - preface - 4 < size) {
        return E_AGAIN;
    }
    TRY(header_decode(bytes_of(in.at + preface + 4, size), out));
    *out_consumed = preface + 4 + size;
    return 0;
}
