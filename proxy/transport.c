/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/transport.h"

#include "api/transport.pb-c.h"
#include "core/alloc.h"
#include "core/err.h"

#define PREFACE      "transport.l5d.io/v1\r\n\r\n"
#define LENGTH_BYTES 4

static_assert(sizeof(PREFACE) - 1 + LENGTH_BYTES == TRANSPORT_START_BYTES,
              "preface and length come first");

typedef Transport__L5d__Io__Header pb_header;
typedef Transport__L5d__Io__SessionProtocol pb_session;

/* --- to send ---------------------------------------------------------------------------------- */

/* "host:port" of an override; what is no port leaves the endpoint's own. */
static void set_override(pb_header *header, const char *override, char name[TRANSPORT_NAME_MAX + 1])
{
    struct bytes host, rest;
    uint64_t value;

    (void)bytes_split(bytes_str(override), ':', &host, &rest);
    (void)snprintf(name, TRANSPORT_NAME_MAX + 1, BYTES_FMT, BYTES_ARG(host));
    if (bytes_to_u64(rest, UINT16_MAX, &value) == 0 && value > 0) {
        header->port = (int32_t)value;
    }
    header->name = name;
}

int transport_print(struct chain *to, struct chunk_pool *pool, uint16_t port, const char *override,
                    enum transport_session session)
{
    pb_header header;
    pb_session protocol = TRANSPORT__L5D__IO__SESSION_PROTOCOL__INIT;
    Transport__L5d__Io__SessionProtocol__Http1 http1 =
        TRANSPORT__L5D__IO__SESSION_PROTOCOL__HTTP1__INIT;
    Transport__L5d__Io__SessionProtocol__Http2 http2 =
        TRANSPORT__L5D__IO__SESSION_PROTOCOL__HTTP2__INIT;
    char name[TRANSPORT_NAME_MAX + 1] = "";
    uint8_t bytes[TRANSPORT_START_BYTES + TRANSPORT_NAME_MAX + 64] = PREFACE;
    size_t size;

    transport__l5d__io__header__init(&header);
    header.port = port;
    if (override != NULL) {
        set_override(&header, override, name);
    }
    if (session == TRANSPORT_HTTP1) {
        protocol.http1 = &http1;
        protocol.kind_case = TRANSPORT__L5D__IO__SESSION_PROTOCOL__KIND_HTTP1;
    } else if (session == TRANSPORT_HTTP2) {
        protocol.http2 = &http2;
        protocol.kind_case = TRANSPORT__L5D__IO__SESSION_PROTOCOL__KIND_HTTP2;
    }
    header.session_protocol = session != TRANSPORT_OPAQUE ? &protocol : NULL;
    size = transport__l5d__io__header__get_packed_size(&header);
    assert(size <= sizeof(bytes) - TRANSPORT_START_BYTES);
    (void)transport__l5d__io__header__pack(&header, bytes + TRANSPORT_START_BYTES);
    bytes[TRANSPORT_START_BYTES - 4] = bytes[TRANSPORT_START_BYTES - 3] = 0;
    bytes[TRANSPORT_START_BYTES - 2] = (uint8_t)(size >> 8);
    bytes[TRANSPORT_START_BYTES - 1] = (uint8_t)size;
    return chain_append(to, pool, bytes_of(bytes, TRANSPORT_START_BYTES + size));
}

/* --- received --------------------------------------------------------------------------------- */

/* It ends up in a log line and in a label: a name, nothing else. */
static bool is_name(const char *name)
{
    size_t len = strlen(name);

    if (len > TRANSPORT_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (name[i] <= 0x20 || name[i] >= 0x7f || name[i] == '"' || name[i] == '\\') {
            return false;
        }
    }
    return true;
}

static enum transport_session session_of(const pb_header *h)
{
    const pb_session *s = h->session_protocol;

    if (s != NULL && s->kind_case == TRANSPORT__L5D__IO__SESSION_PROTOCOL__KIND_HTTP1) {
        return TRANSPORT_HTTP1;
    }
    if (s != NULL && s->kind_case == TRANSPORT__L5D__IO__SESSION_PROTOCOL__KIND_HTTP2) {
        return TRANSPORT_HTTP2;
    }
    return TRANSPORT_OPAQUE;
}

static int header_decode(struct bytes packed, struct transport_header *out)
{
    pb_header *h = transport__l5d__io__header__unpack(NULL, packed.len,
                                                      (const uint8_t *)(const void *)packed.at);
    const char *name;
    int rc = E_TRANSPORT_HEADER;

    if (h == NULL) {
        return rc;
    }
    name = h->name != NULL ? h->name : "";
    if (h->port > 0 && h->port <= UINT16_MAX && is_name(name)) {
        out->port = (uint16_t)h->port;
        (void)snprintf(out->name, sizeof(out->name), "%s", name);
        out->session = session_of(h);
        rc = 0;
    }
    transport__l5d__io__header__free_unpacked(h, NULL);
    return rc;
}

int transport_size(struct bytes in, size_t *out_size)
{
    const size_t preface = sizeof(PREFACE) - 1;
    uint8_t length[LENGTH_BYTES];
    size_t size;

    if (in.len > 0 && memcmp(in.at, PREFACE, MIN(in.len, preface)) != 0) {
        return E_TRANSPORT_HEADER;
    }
    if (in.len < TRANSPORT_START_BYTES) {
        return E_AGAIN;
    }
    memcpy(length, in.at + preface, sizeof(length));
    size = (size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 | length[3];
    if (size > TRANSPORT_MESSAGE_MAX) {
        return E_TRANSPORT_HEADER;
    }
    *out_size = TRANSPORT_START_BYTES + size;
    return 0;
}

int transport_parse(struct bytes in, struct transport_header *out, size_t *out_consumed)
{
    size_t size;

    TRY(transport_size(in, &size));
    if (in.len < size) {
        return E_AGAIN;
    }
    TRY(header_decode(bytes_from(bytes_first(in, size), TRANSPORT_START_BYTES), out));
    *out_consumed = size;
    return 0;
}
