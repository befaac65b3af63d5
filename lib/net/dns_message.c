/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_message.h"

#include "core/err.h"

#define HEADER_BYTES   12
#define LABEL_MAX      63
#define TYPE_CNAME     5
#define CLASS_IN       1
#define RCODE_NXDOMAIN 3

static unsigned u16_at(struct bytes m, size_t at)
{
    return (unsigned)((unsigned char)m.at[at] << 8 | (unsigned char)m.at[at + 1]);
}

/* RFC 2181 8: a TTL with the top bit set is 0. */
static uint32_t ttl_at(struct bytes m, size_t at)
{
    uint32_t ttl = (uint32_t)u16_at(m, at) << 16 | u16_at(m, at + 2);

    return ttl > INT32_MAX ? 0 : ttl;
}

/*
 * Read the name at *at into `to` (NULL: only skip it) and move *at behind it. RFC 1035 4.1.4: a
 * pointer leads to an earlier place; requiring each to lead before the last makes it end.
 */
static int read_name(struct bytes m, size_t *at, char *to)
{
    size_t here = *at, lowest = *at, used = 0;
    bool jumped = false;

    for (;;) {
        unsigned len;

        if (here >= m.len) {
            return E_SYNTAX;
        }
        len = (unsigned char)m.at[here];
        if (len == 0) {
            break;
        }
        if (len >= 0xc0) {
            size_t target;

            if (m.len - here < 2) {
                return E_SYNTAX;
            }
            target = u16_at(m, here) & 0x3fff;
            if (target >= lowest) {
                return E_SYNTAX;
            }
            if (!jumped) {
                *at = here + 2;
            }
            jumped = true;
            here = lowest = target;
            continue;
        }
        if (len > LABEL_MAX || len > m.len - here - 1 || used + len + 2 > DNS_NAME_BYTES) {
            return E_SYNTAX;
        }
        if (to != NULL) {
            if (used > 0) {
                to[used - 1] = '.';
            }
            memcpy(to + used, m.at + here + 1, len);
            to[used + len] = '\0';
        }
        used += len + 1;
        here += len + 1;
    }
    if (!jumped) {
        *at = here + 1;
    }
    if (to != NULL && used == 0) {
        to[0] = '\0';
    }
    return 0;
}

/* A host name that may be asked for again: no dots or controls hidden in labels. */
static bool is_host_name(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            return false;
        }
    }
    return strlen(name) == len;
}

static int read_srv(struct bytes m, size_t at, size_t len, struct dns_record *out)
{
    size_t end = at + len, name_at = at + 6;

    if (len < 7) {
        return E_SYNTAX;
    }
    out->priority = (uint16_t)u16_at(m, at);
    out->weight = (uint16_t)u16_at(m, at + 2);
    out->port = (uint16_t)u16_at(m, at + 4);
    TRY(read_name(bytes_first(m, end), &name_at, out->target));
    if (name_at != end || !is_host_name(out->target, strlen(out->target))) {
        return E_SYNTAX;
    }
    return 0;
}

static int read_data(struct bytes m, size_t at, size_t len, enum dns_type type,
                     struct dns_record *out)
{
    if (type == DNS_SRV) {
        return read_srv(m, at, len, out);
    }
    if (len != (type == DNS_A ? 4U : 16U)) {
        return E_SYNTAX;
    }
    if (type == DNS_A) {
        memcpy(out->addr.ip, m.at + at, 4);
        out->addr.family = AF_INET;
    } else {
        struct sockaddr_storage from;
        struct sockaddr_in6 *v6 = (void *)&from;

        memset(&from, 0, sizeof(from));
        v6->sin6_family = AF_INET6;
        memcpy(&v6->sin6_addr, m.at + at, 16);
        addr_from_sockaddr(&from, &out->addr);
    }
    return 0;
}

static int read_records(struct bytes m, size_t at, unsigned count, enum dns_type type,
                        struct dns_record *out, size_t max, size_t *out_count)
{
    uint32_t alias_ttl = UINT32_MAX;
    size_t found = 0;

    for (unsigned i = 0; i < count; i++) {
        unsigned got, class;
        size_t len;
        uint32_t ttl;

        TRY(read_name(m, &at, NULL));
        if (m.len - at < 10) {
            return E_SYNTAX;
        }
        got = u16_at(m, at);
        class = u16_at(m, at + 2);
        ttl = ttl_at(m, at + 4);
        len = u16_at(m, at + 8);
        at += 10;
        if (len > m.len - at) {
            return E_SYNTAX;
        }
        if (got == TYPE_CNAME && class == CLASS_IN) {
            alias_ttl = MIN(alias_ttl, ttl);
        }
        if (got == (unsigned)type && class == CLASS_IN && found < max) {
            memset(&out[found], 0, sizeof(out[found]));
            TRY(read_data(m, at, len, type, &out[found]));
            out[found++].ttl_s = MIN(ttl, alias_ttl);
        }
        at += len;
    }
    *out_count = found;
    return 0;
}

int dns_parse_answer(struct bytes message, enum dns_type type, struct dns_record *out, size_t max,
                     size_t *out_count)
{
    unsigned flags, questions, rcode;
    size_t at = HEADER_BYTES;

    if (message.len < HEADER_BYTES) {
        return E_SYNTAX;
    }
    flags = u16_at(message, 2);
    questions = u16_at(message, 4);
    rcode = flags & 0xf;
    if ((flags & 0x8000) == 0) { /* RFC 1035 4.1.1: QR, this is a response */
        return E_SYNTAX;
    }
    if (rcode != 0) {
        return rcode == RCODE_NXDOMAIN ? E_DNS_NAME : E_DNS_FAIL;
    }
    for (unsigned i = 0; i < questions; i++) {
        TRY(read_name(message, &at, NULL));
        if (message.len - at < 4) {
            return E_SYNTAX;
        }
        at += 4;
    }
    return read_records(message, at, u16_at(message, 6), type, out, max, out_count);
}

bool dns_dashed_ip(struct bytes name, struct addr *out)
{
    struct bytes label, rest;
    char text[16];

    (void)bytes_split(name, '.', &label, &rest);
    if (label.len == 0 || label.len >= sizeof(text)) {
        return false;
    }
    for (size_t i = 0; i < label.len; i++) {
        text[i] = label.at[i] == '-' ? '.' : label.at[i];
    }
    return addr_parse_ip(bytes_of(text, label.len), out) == 0 && out->family == AF_INET;
}
