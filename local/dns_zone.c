/* SPDX-License-Identifier: Apache-2.0 */
#include "local/dns.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/text.h"
#include "local/dns_private.h"

#define ZONE_BYTES_MAX                                                                             \
    ((size_t)256 * 1024 * 1024) /* a million records; the manifests end long before */

struct dns_zone *dns_zone_new(const char *domain)
{
    struct dns_zone *z = mem_new(sizeof(*z));

    assert(strlen(domain) > 0 && strlen(domain) <= DNS_NAME_MAX - 32);
    arena_init(&z->arena, ZONE_BYTES_MAX);
    map_init(&z->nodes);
    z->domain = arena_bytes(&z->arena, bytes_str(domain));
    z->serial = (uint32_t)(clock_wall_ns() / NS_PER_S);
    map_put(&z->nodes, z->domain, arena_new(&z->arena, sizeof(struct dns_node)));
    return z;
}

void dns_zone_free(struct dns_zone *z)
{
    if (z != NULL) {
        map_clear(&z->nodes);
        arena_clear(&z->arena);
        mem_free(z);
    }
}

bool dns_name_is_within(struct bytes name, struct bytes zone)
{
    return bytes_ends(name, zone) &&
           (name.len == zone.len || name.at[name.len - zone.len - 1] == '.');
}

static bool name_is_valid(struct bytes name)
{
    struct bytes label, rest = name;
    bool more = true;

    if (name.len == 0 || name.len > DNS_NAME_MAX) {
        return false;
    }
    while (more) {
        more = bytes_split(rest, '.', &label, &rest);
        if (label.len == 0 || label.len > DNS_LABEL_MAX) {
            return false;
        }
    }
    return true;
}

/* A lower-case copy in the zone's arena; names compare without regard to case (RFC 4343 3). */
static struct bytes name_copy(struct dns_zone *z, const char *name)
{
    char *copy = arena_strdup(&z->arena, bytes_str(name));

    for (char *c = copy; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    }
    return bytes_str(copy);
}

/* The node of `name`, made if needed together with every name above it up to the zone's own: they
 * exist, too, and must not be answered with NXDOMAIN (RFC 8020 2). */
static struct dns_node *node_of(struct dns_zone *z, struct bytes name)
{
    struct dns_node *node = map_get(&z->nodes, name);
    struct bytes label, above = name;

    if (node != NULL) {
        return node;
    }
    node = arena_new(&z->arena, sizeof(*node));
    map_put(&z->nodes, name, node);
    while (bytes_split(above, '.', &label, &above) && map_get(&z->nodes, above) == NULL) {
        map_put(&z->nodes, above, arena_new(&z->arena, sizeof(struct dns_node)));
    }
    return node;
}

static struct dns_record *record_add(struct dns_zone *z, const char *name, enum dns_type type,
                                     uint32_t ttl_s)
{
    struct dns_record *r;
    struct dns_node *node;

    if (!name_is_valid(bytes_str(name))) {
        log_warn("a name is no valid domain name and is left out; name=%s", name);
        return NULL;
    }
    node = node_of(z, name_copy(z, name));
    r = arena_new(&z->arena, sizeof(*r));
    r->type = type;
    r->ttl_s = ttl_s;
    if (node->last != NULL) {
        node->last->next = r;
    } else {
        node->first = r;
    }
    node->last = r;
    return r;
}

void dns_zone_add(struct dns_zone *z, const char *name, const struct addr *ip, uint32_t ttl_s)
{
    struct dns_record *r;

    assert(ip->family == AF_INET || ip->family == AF_INET6);
    r = record_add(z, name, ip->family == AF_INET ? DNS_TYPE_A : DNS_TYPE_AAAA, ttl_s);
    if (r != NULL) {
        r->ip = *ip;
    }
}

void dns_zone_add_srv(struct dns_zone *z, const char *name, const char *target, uint16_t port,
                      uint32_t ttl_s)
{
    struct dns_record *r;

    if (!name_is_valid(bytes_str(target))) {
        log_warn("a target is no valid domain name and is left out; name=%s target=%s", name,
                 target);
        return;
    }
    r = record_add(z, name, DNS_TYPE_SRV, ttl_s);
    if (r != NULL) {
        r->target = name_copy(z, target);
        r->port = port;
    }
}

/* "2.0.42.10.in-addr.arpa" (RFC 1035 3.5), or a label for each half byte (RFC 3596 2.5). */
static void reverse_name(const struct addr *ip, struct text *to)
{
    static const char hex[] = "0123456789abcdef";

    if (ip->family == AF_INET) {
        text_printf(to, "%u.%u.%u.%u.in-addr.arpa", ip->ip[3], ip->ip[2], ip->ip[1], ip->ip[0]);
        return;
    }
    for (size_t i = 16; i-- > 0;) {
        text_char(to, hex[ip->ip[i] & 15]);
        text_char(to, '.');
        text_char(to, hex[ip->ip[i] >> 4]);
        text_char(to, '.');
    }
    text_str(to, "ip6.arpa");
}

void dns_zone_add_ptr(struct dns_zone *z, const struct addr *ip, const char *name, uint32_t ttl_s)
{
    struct text reverse;
    struct dns_record *r;

    if (!name_is_valid(bytes_str(name))) {
        log_warn("a name is no valid domain name and is left out; name=%s", name);
        return;
    }
    text_init(&reverse, DNS_NAME_MAX);
    reverse_name(ip, &reverse);
    r = record_add(z, reverse.at, DNS_TYPE_PTR, ttl_s);
    assert(r != NULL);
    r->target = name_copy(z, name);
    text_clear(&reverse);
}
