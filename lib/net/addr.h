/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_ADDR_H
#define NET_ADDR_H

/*
 * A socket address (IPv4 or IPv6 and a port) and a network, by value.
 * An IPv4-mapped IPv6 address is always normalised to IPv4, so that equal peers compare equal.
 */
#include "core/bytes.h"

#include <netinet/in.h>
#include <sys/socket.h>

struct addr {
    uint8_t ip[16]; /* IPv4: the first four bytes, network order, the rest zero */
    uint16_t port;  /* host order */
    uint8_t family; /* AF_INET, AF_INET6; 0: none */
};

struct cidr {
    struct addr base; /* port 0, host bits zero */
    unsigned prefix;
};

#define ADDR_TEXT_BYTES 56 /* "[v6]:port" and NUL */

bool addr_eq(const struct addr *a, const struct addr *b); /* with port */
bool addr_ip_eq(const struct addr *a, const struct addr *b);
int addr_cmp(const struct addr *a, const struct addr *b);
bool addr_is_loopback(const struct addr *a);
bool addr_is_none(const struct addr *a);
int addr_parse(struct bytes text, struct addr *out) MUST_USE;    /* "1.2.3.4:80", "[::1]:80"; E_SYNTAX */
int addr_parse_ip(struct bytes text, struct addr *out) MUST_USE; /* no port, port = 0 */
const char *addr_format(const struct addr *a, char to[ADDR_TEXT_BYTES]);    /* with port; returns `to` */
const char *addr_format_ip(const struct addr *a, char to[ADDR_TEXT_BYTES]);
void addr_from_sockaddr(const struct sockaddr_storage *from, struct addr *out);
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *out);
struct addr addr_v4(uint32_t host_order_ip, uint16_t port);
struct bytes addr_key(const struct addr *a); /* stable bytes of this address for map.h; borrows *a,
                                                which must be zeroed before it was filled */

int cidr_parse(struct bytes text, struct cidr *out) MUST_USE; /* "10.0.0.0/8" or a single address */
bool cidr_contains(const struct cidr *c, const struct addr *a);
const char *cidr_format(const struct cidr *c, char to[ADDR_TEXT_BYTES]);

#endif
