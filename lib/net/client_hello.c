/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recognising a TLS ClientHello at the head of a connection, RFC 8446 4.1.2 and 5.1.
 *
 * The message is read strictly from front to back. Every check needs only bytes in front of it, so
 * a prefix that lacks bytes is "more", one that breaks a rule is "no", and neither answer can be
 * overturned by what follows.
 */
#include "net/tls.h"

#include "core/err.h"

#define RECORD_HANDSHAKE     22
#define CLIENT_HELLO         1
#define EXTENSION_SNI        0
#define SNI_HOST_NAME        0
#define RECORD_HEADER_BYTES  5
#define MESSAGE_HEADER_BYTES 4

/* A cursor that may run ahead of the bytes at hand, but never beyond `limit`. */
struct reader {
    struct bytes head; /* what has arrived */
    size_t at;
    size_t limit; /* end of the vector being read; declared, perhaps not arrived */
};

/* Is there room for n more bytes in this vector, and have they arrived? 0, E_SYNTAX, E_AGAIN. */
static int reader_need(const struct reader *r, size_t n)
{
    if (n > r->limit - r->at) {
        return E_SYNTAX;
    }
    return r->head.len < r->at || n > r->head.len - r->at ? E_AGAIN : 0;
}

static int read_uint(struct reader *r, unsigned bytes, size_t *out)
{
    size_t value = 0;

    TRY(reader_need(r, bytes));
    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | (unsigned char)r->head.at[r->at++];
    }
    *out = value;
    return 0;
}

static int skip(struct reader *r, size_t n)
{
    TRY(reader_need(r, n));
    r->at += n;
    return 0;
}

/* The length of a vector of min..max bytes, checked against what encloses it. */
static int read_length(struct reader *r, unsigned bytes, size_t min, size_t max, size_t *out)
{
    size_t len;

    TRY(read_uint(r, bytes, &len));
    if (len < min || len > max || len > r->limit - r->at) {
        return E_SYNTAX;
    }
    *out = len;
    return 0;
}

/* One byte is checked as soon as it is there: cleartext is told by its first byte. */
static int expect_byte(struct reader *r, unsigned value)
{
    size_t found;

    TRY(read_uint(r, 1, &found));
    return found == value ? 0 : E_SYNTAX;
}

static int read_headers(struct reader *r)
{
    size_t minor, len, message_len;

    TRY(expect_byte(r, RECORD_HANDSHAKE));
    TRY(expect_byte(r, 3));
    TRY(read_uint(r, 1, &minor));
    if (minor != 1 && minor != 3) { /* RFC 8446 5.1: 0x0301 or 0x0303 */
        return E_SYNTAX;
    }
    TRY(read_length(r, 2, MESSAGE_HEADER_BYTES, TLS_HELLO_MAX - RECORD_HEADER_BYTES, &len));
    r->limit = r->at + len;
    TRY(expect_byte(r, CLIENT_HELLO));
    TRY(read_uint(r, 3, &message_len));
    /* One record holds the message and nothing else. */
    return message_len == len - MESSAGE_HEADER_BYTES ? 0 : E_SYNTAX;
}

/* RFC 6066 3: a list of names, at most one of a type. */
static int read_sni(struct reader *r, size_t end, struct bytes *out_sni)
{
    size_t len, type, name_len;
    bool found = false;

    TRY(read_length(r, 2, 1, end - r->at, &len));
    if (len != end - r->at) {
        return E_SYNTAX;
    }
    while (r->at < end) {
        TRY(read_uint(r, 1, &type));
        TRY(read_length(r, 2, 1, TLS_HELLO_MAX, &name_len));
        if (type != SNI_HOST_NAME) {
            TRY(skip(r, name_len));
            continue;
        }
        if (found || name_len > 255) { /* RFC 1035 2.3.4: no name is longer */
            return E_SYNTAX;
        }
        found = true;
        *out_sni = bytes_of(r->head.at + r->at, name_len);
        TRY(skip(r, name_len));
        if (memchr(out_sni->at, '\0', name_len) != NULL) {
            return E_SYNTAX;
        }
    }
    return 0;
}

static int read_extensions(struct reader *r, struct bytes *out_sni)
{
    size_t outer = r->limit, len, type;
    bool has_sni = false;

    TRY(read_length(r, 2, 0, TLS_HELLO_MAX, &len));
    if (len != outer - r->at) {
        return E_SYNTAX;
    }
    while (r->at < outer) {
        TRY(read_uint(r, 2, &type));
        TRY(read_length(r, 2, 0, TLS_HELLO_MAX, &len));
        if (type != EXTENSION_SNI) {
            TRY(skip(r, len));
            continue;
        }
        if (has_sni) { /* RFC 8446 4.2: no two of the same type */
            return E_SYNTAX;
        }
        has_sni = true;
        r->limit = r->at + len;
        TRY(read_sni(r, r->limit, out_sni));
        r->limit = outer;
    }
    return 0;
}

static int read_hello(struct reader *r, struct bytes *out_sni)
{
    size_t len;

    TRY(expect_byte(r, 3)); /* legacy_version is 0x0303 */
    TRY(expect_byte(r, 3));
    TRY(skip(r, 32));                    /* random */
    TRY(read_length(r, 1, 0, 32, &len)); /* legacy_session_id */
    TRY(skip(r, len));
    TRY(read_length(r, 2, 2, TLS_HELLO_MAX, &len)); /* cipher_suites */
    if (len % 2 != 0) {
        return E_SYNTAX;
    }
    TRY(skip(r, len));
    TRY(read_length(r, 1, 1, 255, &len)); /* legacy_compression_methods */
    TRY(skip(r, len));
    if (r->at == r->limit) {
        return 0; /* before TLS 1.3 extensions may be absent altogether */
    }
    return read_extensions(r, out_sni);
}

int tls_parse_client_hello(struct bytes head, struct bytes *out_sni)
{
    struct reader r = {.head = head, .limit = TLS_HELLO_MAX};
    struct bytes sni = BYTES_NONE;

    TRY(read_headers(&r));
    TRY(read_hello(&r, &sni));
    assert(r.at == r.limit && r.at <= head.len);
    *out_sni = sni;
    return 0;
}
