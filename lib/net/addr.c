/* SPDX-License-Identifier: Apache-2.0 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "core/err.h"

/* RFC 4291 2.5.5.2: the addresses ::ffff:a.b.c.d. */
static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static size_t ip_bytes(const struct addr *a)
{
    return a->family == AF_INET ? 4 : a->family == AF_INET6 ? 16 : 0;
}

static void normalise(struct addr *a)
{
    if (a->family == AF_INET6 && memcmp(a->ip, v4_mapped, sizeof(v4_mapped)) == 0) {
        memmove(a->ip, a->ip + 12, 4);
        memset(a->ip + 4, 0, 12);
        a->family = AF_INET;
    }
}

bool addr_ip_eq(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, ip_bytes(a)) == 0;
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    return addr_ip_eq(a, b) && a->port == b->port;
}

int addr_cmp(const struct addr *a, const struct addr *b)
{
    int order;

    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }
    order = memcmp(a->ip, b->ip, ip_bytes(a));
    if (order != 0) {
        return order < 0 ? -1 : 1;
    }
    return a->port == b->port ? 0 : a->port < b->port ? -1 : 1;
}

bool addr_is_loopback(const struct addr *a)
{
    static const uint8_t v6_loopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

    if (a->family == AF_INET) {
        return a->ip[0] == 127; /* RFC 1122 3.2.1.3 (g) */
    }
    return a->family == AF_INET6 && memcmp(a->ip, v6_loopback, sizeof(v6_loopback)) == 0;
}

bool addr_is_none(const struct addr *a)
{
    return a->family == 0;
}

int addr_parse_ip(struct bytes text, struct addr *out)
{
    char name[INET6_ADDRSTRLEN];
    struct addr a = {.family = 0};

    /* A NUL inside would end the text early for inet_pton(). */
    if (text.len == 0 || text.len >= sizeof(name) || memchr(text.at, '\0', text.len) != NULL) {
        return E_SYNTAX;
    }
    memcpy(name, text.at, text.len);
    name[text.len] = '\0';
    if (inet_pton(AF_INET, name, a.ip) == 1) {
        a.family = AF_INET;
    } else if (inet_pton(AF_INET6, name, a.ip) == 1) {
        a.family = AF_INET6;
        normalise(&a);
    } else {
        return E_SYNTAX;
    }
    *out = a;
    return 0;
}

/* The last colon parts address and port; IPv6 needs the brackets of RFC 3986 3.2.2. */
static bool split_port(struct bytes text, struct bytes *out_ip, struct bytes *out_port)
{
    const char *colon = text.len > 0 ? memrchr(text.at, ':', text.len) : NULL;
    struct bytes ip;

    if (colon == NULL) {
        return false;
    }
    ip = bytes_of(text.at, (size_t)(colon - text.at));
    *out_port = bytes_of(colon + 1, text.len - ip.len - 1);
    if (ip.len >= 2 && ip.at[0] == '[' && ip.at[ip.len - 1] == ']') {
        ip = bytes_of(ip.at + 1, ip.len - 2);
        *out_ip = ip;
        return ip.len > 0 && memchr(ip.at, ':', ip.len) != NULL;
    }
    *out_ip = ip;
    return ip.len > 0 && memchr(ip.at, ':', ip.len) == NULL;
}

int addr_parse(struct bytes text, struct addr *out)
{
    struct bytes ip, port_text;
    struct addr a;
    uint64_t port;

    if (!split_port(text, &ip, &port_text) || addr_parse_ip(ip, &a) != 0 ||
        bytes_to_u64(port_text, UINT16_MAX, &port) != 0) {
        return E_SYNTAX;
    }
    a.port = (uint16_t)port;
    *out = a;
    return 0;
}

const char *addr_format_ip(const struct addr *a, char to[ADDR_TEXT_BYTES])
{
    if (a->family == 0 || inet_ntop(a->family, a->ip, to, ADDR_TEXT_BYTES) == NULL) {
        snprintf(to, ADDR_TEXT_BYTES, "-");
    }
    return to;
}

const char *addr_format(const struct addr *a, char to[ADDR_TEXT_BYTES])
{
    char ip[ADDR_TEXT_BYTES];
    int len;

    addr_format_ip(a, ip);
    if (a->family == 0) {
        len = snprintf(to, ADDR_TEXT_BYTES, "-");
    } else {
        len = snprintf(to, ADDR_TEXT_BYTES, a->family == AF_INET6 ? "[%.45s]:%u" : "%.45s:%u", ip,
                       a->port);
    }
    assert(len > 0 && len < ADDR_TEXT_BYTES);
    return to;
}

void addr_from_sockaddr(const struct sockaddr_storage *from, struct addr *out)
{
    struct addr a;

    memset(&a, 0, sizeof(a));
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)from;

        memcpy(a.ip, &v4->sin_addr, 4);
        a.port = ntohs(v4->sin_port);
        a.family = AF_INET;
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)from;

        memcpy(a.ip, &v6->sin6_addr, 16);
        a.port = ntohs(v6->sin6_port);
        a.family = AF_INET6;
        normalise(&a);
    }
    *out = a;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (a->family == AF_INET) {
        struct sockaddr_in *v4 = (void *)out;

        v4->sin_family = AF_INET;
        v4->sin_port = htons(a->port);
        memcpy(&v4->sin_addr, a->ip, 4);
        return sizeof(*v4);
    }
    if (a->family == AF_INET6) {
        struct sockaddr_in6 *v6 = (void *)out;

        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(a->port);
        memcpy(&v6->sin6_addr, a->ip, 16);
        return sizeof(*v6);
    }
    return 0;
}

struct addr addr_v4(uint32_t host_order_ip, uint16_t port)
{
    struct addr a;

    memset(&a, 0, sizeof(a));
    a.ip[0] = (uint8_t)(host_order_ip >> 24);
    a.ip[1] = (uint8_t)(host_order_ip >> 16);
    a.ip[2] = (uint8_t)(host_order_ip >> 8);
    a.ip[3] = (uint8_t)host_order_ip;
    a.port = port;
    a.family = AF_INET;
    return a;
}

struct bytes addr_key(const struct addr *a)
{
    /* Address, port and family lie side by side; the padding after them is left out. */
    static_assert(offsetof(struct addr, port) == 16 && offsetof(struct addr, family) == 18,
                  "no hole inside struct addr");
    return bytes_of(a, offsetof(struct addr, family) + sizeof(a->family));
}

static void mask_host_bits(struct addr *a, unsigned prefix)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned bits = prefix > i * 8 ? MIN(prefix - i * 8, 8U) : 0;

        a->ip[i] = (uint8_t)(a->ip[i] & (0xff00U >> bits));
    }
}

int cidr_parse(struct bytes text, struct cidr *out)
{
    struct bytes ip_text, prefix_text;
    struct addr a;
    uint64_t prefix;
    bool has_prefix = bytes_split(text, '/', &ip_text, &prefix_text);
    bool written_as_v6;

    if (addr_parse_ip(ip_text, &a) != 0) {
        return E_SYNTAX;
    }
    written_as_v6 = memchr(ip_text.at, ':', ip_text.len) != NULL;
    prefix = written_as_v6 ? 128 : 32;
    if (has_prefix && bytes_to_u64(prefix_text, prefix, &prefix) != 0) {
        return E_SYNTAX;
    }
    if (written_as_v6 && a.family == AF_INET) {
        /* Written as IPv4-mapped: the same network of IPv4. One that reaches beyond the mapped
         * range has no such meaning, as no address of it would ever be seen as IPv6. */
        if (prefix < 96) {
            return E_SYNTAX;
        }
        prefix -= 96;
    }
    mask_host_bits(&a, (unsigned)prefix);
    *out = (struct cidr){.base = a, .prefix = (unsigned)prefix};
    return 0;
}

bool cidr_contains(const struct cidr *c, const struct addr *a)
{
    unsigned whole = c->prefix / 8, bits = c->prefix % 8;

    if (c->base.family != a->family || a->family == 0) {
        return false;
    }
    assert(c->prefix <= 8 * ip_bytes(a));
    if (memcmp(c->base.ip, a->ip, whole) != 0) {
        return false;
    }
    return bits == 0 || ((c->base.ip[whole] ^ a->ip[whole]) & (0xff00U >> bits) & 0xff) == 0;
}

const char *cidr_format(const struct cidr *c, char to[ADDR_TEXT_BYTES])
{
    char ip[ADDR_TEXT_BYTES];
    int len = snprintf(to, ADDR_TEXT_BYTES, "%.45s/%u", addr_format_ip(&c->base, ip), c->prefix);

    assert(len > 0 && len < ADDR_TEXT_BYTES);
    return to;
}
