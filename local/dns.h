/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_DNS_H
#define LOCAL_DNS_H

/*
 * A small authoritative DNS responder for the cluster domain, UDP and TCP, on the bridge address.
 *
 * Answers A, AAAA, SRV (of headless services and named ports), PTR; NXDOMAIN with an SOA for names
 * of the zone that do not exist, NODATA where only the type is missing; REFUSED for other zones
 * unless an upstream is set (then it forwards over UDP, bounded).
 * The parser (dns_answer) is a pure function over bytes, fuzzed.
 * Limits: 512 bytes over UDP (or the EDNS size, at most 1232), else TC; 64 TCP connections, 10 s each.
 */
#include "core/loop.h"
#include "core/map.h"
#include "net/addr.h"

struct dns_zone; /* names -> records; replaced as a whole */
struct dns_zone *dns_zone_new(const char *domain); /* "cluster.local" */
void dns_zone_free(struct dns_zone *z);
void dns_zone_add(struct dns_zone *z, const char *name, const struct addr *ip, uint32_t ttl_s); /* fully qualified, no dot at the end */
void dns_zone_add_srv(struct dns_zone *z, const char *name, const char *target, uint16_t port, uint32_t ttl_s);
void dns_zone_add_ptr(struct dns_zone *z, const struct addr *ip, const char *name, uint32_t ttl_s);

/* 0 and the answer's length in *out_bytes; E_SYNTAX: drop the question silently. */
int dns_answer(const struct dns_zone *z, struct bytes question, bool over_tcp, void *to, size_t to_bytes,
               size_t *out_bytes) MUST_USE;

struct dns_server;
int dns_server_open(struct loop *l, const struct addr *at, struct dns_server **out) MUST_USE;
void dns_server_set_zone(struct dns_server *s, struct dns_zone *z); /* takes it, frees the old one */
void dns_server_close(struct dns_server *s);

#endif
