/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_DNS_H
#define LOCAL_DNS_H

/*
 * A small authoritative DNS responder for the cluster domain, UDP and TCP, on the bridge address.
 *
 * Answers A, AAAA, SRV (of headless services and named ports), PTR; NXDOMAIN with an SOA for names
 * of the zone that do not exist, NODATA where only the type is missing; REFUSED for other zones: a
 * home has no way out to them. Reverse names are ours as a whole, so that looking up a foreign
 * address fails at once.
 * The parser (dns_answer) is a pure function over bytes, fuzzed.
 * Limits: 512 bytes over UDP (or the EDNS size, at most 1232), else TC; over TCP 65535 bytes,
 * records that do not fit are left out; 64 TCP connections, 10 s each, questions of at most 4096
 * bytes.
 */
#include "core/loop.h"
#include "core/map.h"
#include "net/addr.h"

struct dns_zone;                                   /* names -> records; replaced as a whole */
struct dns_zone *dns_zone_new(const char *domain); /* "cluster.local", lower case */
void dns_zone_free(struct dns_zone *z);            /* NULL is fine */
/* Names are fully qualified, without a dot at the end; one that is no valid name is logged and left
 * out. Names above an added one exist, too, without records. */
void dns_zone_add(struct dns_zone *z, const char *name, const struct addr *ip, uint32_t ttl_s);
void dns_zone_add_srv(struct dns_zone *z, const char *name, const char *target, uint16_t port,
                      uint32_t ttl_s);
void dns_zone_add_ptr(struct dns_zone *z, const struct addr *ip, const char *name, uint32_t ttl_s);

/* 0 and the answer's length in *out_bytes. E_SYNTAX: not a question, drop it silently; E_LIMIT:
 * `to` is smaller than the question itself (282 bytes are always enough). */
int dns_answer(const struct dns_zone *z, struct bytes question, bool over_tcp, void *to,
               size_t to_bytes, size_t *out_bytes) MUST_USE;

struct dns_server;
/* Port 0 lets the kernel choose; UDP and TCP get the same. Silent until it has a zone. */
int dns_server_open(struct loop *l, const struct addr *at, struct dns_server **out) MUST_USE;
uint16_t dns_server_port(const struct dns_server *s);
void dns_server_set_zone(struct dns_server *s,
                         struct dns_zone *z); /* takes it, frees the old one */
void dns_server_close(struct dns_server *s);  /* NULL is fine */

#endif
