/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_DNS_PRIVATE_H
#define LOCAL_DNS_PRIVATE_H

/*
 * What dns_zone.c, which fills a zone, and dns_answer.c, which reads it, share.
 */
#include "core/arena.h"
#include "local/dns.h"

#define DNS_NAME_MAX  253 /* text, without the dot at the end (RFC 1035 2.3.4: 255 on the wire) */
#define DNS_LABEL_MAX 63

enum dns_type {
    DNS_TYPE_A = 1,
    DNS_TYPE_SOA = 6,
    DNS_TYPE_PTR = 12,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_SRV = 33,
    DNS_TYPE_OPT = 41,
    DNS_TYPE_IXFR = 251,
    DNS_TYPE_AXFR = 252,
    DNS_TYPE_ANY = 255,
};

struct dns_record {
    struct dns_record *next;
    enum dns_type type;
    uint32_t ttl_s;
    struct addr ip;      /* A, AAAA */
    uint16_t port;       /* SRV */
    struct bytes target; /* SRV, PTR: a name */
};

/* A name that exists. Without records it is an "empty non-terminal": something below it exists. */
struct dns_node {
    struct dns_record *first, *last;
};

struct dns_zone {
    struct arena arena;
    struct map nodes; /* lower-case name -> struct dns_node */
    struct bytes domain;
    uint32_t serial;
};

/* Is `name` (lower case) `zone` or below it? */
bool dns_name_is_within(struct bytes name, struct bytes zone);

#endif
