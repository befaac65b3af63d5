/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cluster addresses: one nft table of the node namespace, replaced as a whole in one transaction.
 *
 * A map leads from address, protocol and port to a chain of the service, which sends each new
 * connection to one of its targets by chance; the kernel remembers where established ones go. What
 * is still addressed to the service subnet after that has nobody behind it and is refused at once.
 */
#include <inttypes.h>

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "local/net_private.h"

#define TABLE "tulle_services"

static const char *protocol(const struct net_service *s)
{
    return s->udp ? "udp" : "tcp";
}

/* One of the two maps, `v4` or `v6`; services without targets are not in it. */
static void write_map(const struct net_service *services, size_t count, uint8_t family,
                      struct text *to)
{
    const char *separator = " elements = {\n        ";
    char ip[ADDR_TEXT_BYTES];

    text_printf(to, "    map v%d { type ipv%d_addr . inet_proto . inet_service : verdict;",
                family == AF_INET ? 4 : 6, family == AF_INET ? 4 : 6);
    for (size_t i = 0; i < count; i++) {
        const struct net_service *s = &services[i];

        if (s->cluster_ip.family == family && s->targets_count > 0) {
            text_printf(to, "%s%s . %s . %u : jump s%zu", separator,
                        addr_format_ip(&s->cluster_ip, ip), protocol(s), s->cluster_ip.port, i);
            separator = ",\n        ";
        }
    }
    text_str(to, separator[0] == ',' ? "\n    }; }\n" : " }\n");
}

/* Pairs of a target with itself: a pod that reaches itself through a service must see the bridge as
 * the client, for it drops packets that come from its own address. */
static void write_self(const struct net_service *services, size_t count, uint8_t family,
                       struct text *to)
{
    const char *separator = " elements = {\n        ";
    struct map seen;

    map_init(&seen);
    text_printf(to, "    set self%d { type ipv%d_addr . ipv%d_addr;", family == AF_INET ? 4 : 6,
                family == AF_INET ? 4 : 6, family == AF_INET ? 4 : 6);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < services[i].targets_count; j++) {
            const struct addr *a = &services[i].targets[j].addr;
            char ip[ADDR_TEXT_BYTES];

            addr_format_ip(a, ip);
            if (a->family != family || map_put(&seen, bytes_str(ip), to) != NULL) {
                continue;
            }
            text_printf(to, "%s%s . %s", separator, ip, ip);
            separator = ",\n        ";
        }
    }
    text_str(to, separator[0] == ',' ? "\n    }; }\n" : " }\n");
    map_clear(&seen);
}

/* A comment is shown by `nft list`; nothing in it may end the string. */
static void write_comment(const char *name, struct text *to)
{
    text_str(to, " comment \"");
    for (size_t i = 0; name[i] != '\0' && i < 120; i++) {
        char c = name[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '/' || c == ':' ||
                        c == '_';

        text_char(to, is_plain ? c : '?');
    }
    text_str(to, "\"");
}

static void write_service(const struct net_service *s, size_t index, struct text *to)
{
    bool is_v6 = s->cluster_ip.family == AF_INET6;
    char ip[ADDR_TEXT_BYTES];

    text_printf(to, "    chain s%zu {\n        meta l4proto %s dnat %s to ", index, protocol(s),
                is_v6 ? "ip6" : "ip");
    text_printf(to, "numgen random mod %zu map {", s->targets_count);
    for (size_t i = 0; i < s->targets_count; i++) {
        text_printf(to, "%s %zu : %s . %u", i == 0 ? "" : ",", i,
                    addr_format_ip(&s->targets[i].addr, ip), s->targets[i].addr.port);
    }
    text_str(to, " }");
    write_comment(s->name, to);
    text_str(to, "\n    }\n");
}

static void write_refuse_chain(const struct net *n, const char *name, const char *hook,
                               int priority, struct text *to)
{
    char cidr[ADDR_TEXT_BYTES];

    text_printf(to, "    chain %s {\n        type filter hook %s priority %d; policy accept;\n",
                name, hook, priority);
    text_printf(to, "        ip daddr %s jump refuse\n", cidr_format(&n->services4, cidr));
    if (n->has_v6) {
        text_printf(to, "        ip6 daddr %s jump refuse\n", cidr_format(&n->services6, cidr));
    }
    text_str(to, "    }\n");
}

void net_services_write(const struct net *n, const struct net_service *services, size_t count,
                        struct text *to)
{
    text_str(to, "add table inet " TABLE "\n"
                 "delete table inet " TABLE "\n"
                 "table inet " TABLE " {\n");
    write_map(services, count, AF_INET, to);
    write_map(services, count, AF_INET6, to);
    write_self(services, count, AF_INET, to);
    write_self(services, count, AF_INET6, to);
    text_str(to, "    chain services {\n"
                 "        ip daddr . meta l4proto . th dport vmap @v4\n"
                 "        ip6 daddr . meta l4proto . th dport vmap @v6\n"
                 "    }\n"
                 "    chain prerouting {\n"
                 "        type nat hook prerouting priority -100; policy accept;\n"
                 "        jump services\n"
                 "    }\n"
                 "    chain output {\n"
                 "        type nat hook output priority -100; policy accept;\n"
                 "        jump services\n"
                 "    }\n"
                 "    chain postrouting {\n"
                 "        type nat hook postrouting priority 100; policy accept;\n"
                 "        ip saddr . ip daddr @self4 masquerade\n"
                 "        ip6 saddr . ip6 daddr @self6 masquerade\n"
                 "    }\n"
                 "    chain refuse {\n"
                 "        meta l4proto tcp reject with tcp reset\n"
                 "        reject\n"
                 "    }\n");
    write_refuse_chain(n, "refuse_in", "prerouting", -90, to);
    write_refuse_chain(n, "refuse_out", "output", 0, to);
    for (size_t i = 0; i < count; i++) {
        if (services[i].targets_count > 0) {
            write_service(&services[i], i, to);
        }
    }
    text_str(to, "}\n");
}

static int check_services(const struct net_service *services, size_t count, char *problem,
                          size_t problem_bytes)
{
    for (size_t i = 0; i < count; i++) {
        const struct net_service *s = &services[i];

        for (size_t j = 0; j < s->targets_count; j++) {
            if (s->targets[j].addr.family != s->cluster_ip.family || s->targets[j].addr.port == 0) {
                char ip[ADDR_TEXT_BYTES];

                snprintf(problem, problem_bytes,
                         "service %s: target %s has no port or is of another address family",
                         s->name, addr_format(&s->targets[j].addr, ip));
                return E_CONFIG;
            }
        }
    }
    return 0;
}

int net_services_set(struct net *n, const struct net_service *services, size_t count, char *problem,
                     size_t problem_bytes)
{
    const char *const argv[] = {n->nft_program, "-f", "-", NULL};
    struct net_run run = {.argv = argv, .netns_fd = -1, .pass_fd = -1};
    struct text script;
    bool has_udp = false;
    int err;

    TRY(check_services(services, count, problem, problem_bytes));
    text_init(&script, NET_RULES_BYTES);
    net_services_write(n, services, count, &script);
    err = script.err;
    if (err != 0) {
        snprintf(problem, problem_bytes, "too many services for one table: %s", err_text(err));
    } else {
        run.input = text_bytes(&script);
        err = net_run(&run, NULL, problem, problem_bytes);
    }
    text_clear(&script);
    if (err != 0) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        has_udp = has_udp || services[i].udp;
    }
    if (n->had_udp || has_udp) {
        int pruned = net_conntrack_prune(n, services, count);

        if (pruned != 0) {
            log_warn("UDP flows to pods that are gone end only by their time-out; err=%s",
                     err_name(pruned));
        }
    }
    n->had_udp = has_udp;
    return 0;
}

int net_service_ip(struct net *n, const char *ns, const char *name, struct addr *out4,
                   struct addr *out6)
{
    AUTOFREE char *key = mem_printf("%s/%s", ns, name);
    size_t size = (size_t)1 << (32 - n->services4.prefix);
    uintptr_t index = (uintptr_t)map_get(&n->services, bytes_str(key));

    if (index == 0) {
        index = NET_FIRST_ADDRESS + n->services_next;
        if (index + 1 >= MIN(size, 65536)) { /* the last is the broadcast address */
            return E_LIMIT;
        }
        n->services_next++;
        map_put(&n->services, bytes_str(key), (void *)index);
    }
    *out4 = net_addr_at(&n->services4, index);
    *out6 = n->has_v6 ? net_addr_at(&n->services6, index) : (struct addr){.family = 0};
    return 0;
}
