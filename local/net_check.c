/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be known to be wrong before anything is made: subnets that are too small, overlap each
 * other, or overlap what this machine reaches otherwise.
 */
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "local/net_private.h"

#define PREFIX4_MIN 8
#define PREFIX4_MAX 28
#define PREFIX6_MIN 8
#define PREFIX6_MAX 112 /* as many addresses as the largest IPv4 subnet in use */

struct named_cidr {
    const char *what;
    const struct cidr *cidr;
    uint8_t family;
    unsigned prefix_min, prefix_max;
};

static bool cidrs_overlap(const struct cidr *a, const struct cidr *b)
{
    return a->base.family == b->base.family &&
           (cidr_contains(a, &b->base) || cidr_contains(b, &a->base));
}

static size_t subnets_of(const struct net_config *c, struct named_cidr out_all[4])
{
    size_t count = 2;

    out_all[0] = (struct named_cidr){"pod subnet", &c->pods4, AF_INET, PREFIX4_MIN, PREFIX4_MAX};
    out_all[1] =
        (struct named_cidr){"service subnet", &c->services4, AF_INET, PREFIX4_MIN, PREFIX4_MAX};
    if (c->pods6.prefix != 0 || c->services6.prefix != 0) {
        out_all[2] =
            (struct named_cidr){"IPv6 pod subnet", &c->pods6, AF_INET6, PREFIX6_MIN, PREFIX6_MAX};
        out_all[3] = (struct named_cidr){"IPv6 service subnet", &c->services6, AF_INET6,
                                         PREFIX6_MIN, PREFIX6_MAX};
        count = 4;
    }
    return count;
}

int net_check_config(const struct net_config *c, char *problem, size_t problem_bytes)
{
    struct named_cidr all[4];
    size_t count = subnets_of(c, all);
    char one[ADDR_TEXT_BYTES], other[ADDR_TEXT_BYTES];

    for (size_t i = 0; i < count; i++) {
        const struct cidr *cidr = all[i].cidr;

        if (cidr->base.family != all[i].family || cidr->prefix < all[i].prefix_min ||
            cidr->prefix > all[i].prefix_max) {
            snprintf(problem, problem_bytes,
                     "the %s must be an IPv%d network with a prefix from /%u to /%u, not %s",
                     all[i].what, all[i].family == AF_INET ? 4 : 6, all[i].prefix_min,
                     all[i].prefix_max,
                     cidr->base.family != 0 ? cidr_format(cidr, one) : "none at all");
            return E_CONFIG;
        }
        for (size_t j = 0; j < i; j++) {
            if (cidrs_overlap(cidr, all[j].cidr)) {
                snprintf(problem, problem_bytes, "the %s %s overlaps the %s %s; choose another",
                         all[i].what, cidr_format(cidr, one), all[j].what,
                         cidr_format(all[j].cidr, other));
                return E_CONFIG;
            }
        }
    }
    if (access("/etc/resolv.conf", F_OK) != 0) {
        snprintf(problem, problem_bytes,
                 "/etc/resolv.conf is missing or leads nowhere; make it, it may be empty: pods get "
                 "their own in its place");
        return E_CONFIG;
    }
    return 0;
}

/* "10.0.0.0/8 dev tun0 ..." or "unreachable 10.0.0.0/8 ...": the network, unless it is the default
 * route or the line is none of these. */
static bool route_network(struct bytes line, struct cidr *out_network)
{
    struct bytes word, rest = line;

    for (unsigned i = 0; i < 2; i++) {
        (void)bytes_split(rest, ' ', &word, &rest);
        if (cidr_parse(word, out_network) == 0) {
            return out_network->prefix > 0;
        }
    }
    return false;
}

static int check_route(const struct named_cidr *all, size_t count, struct bytes line, char *problem,
                       size_t problem_bytes)
{
    char one[ADDR_TEXT_BYTES];
    struct cidr network;

    if (!route_network(line, &network)) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (cidrs_overlap(all[i].cidr, &network)) {
            line = bytes_trim(line, " \t");
            snprintf(problem, problem_bytes,
                     "the %s %s overlaps a route of this machine (" BYTES_FMT
                     "); choose another subnet",
                     all[i].what, cidr_format(all[i].cidr, one),
                     BYTES_ARG(bytes_first(line, MIN(line.len, 200))));
            return E_CONFIG;
        }
    }
    return 0;
}

int net_check_routes(const struct net_config *c, const char *ip_program, char *problem,
                     size_t problem_bytes)
{
    static const char *const families[] = {"-4", "-6"};
    struct named_cidr all[4];
    size_t count = subnets_of(c, all);
    int err = 0;

    if (access("/proc/net/if_inet6", F_OK) != 0) {
        count = 2; /* no IPv6 here, no routes to ask for */
    }
    for (size_t i = 0; err == 0 && i < count / 2; i++) {
        const char *const argv[] = {ip_program, families[i], "-o",  "route",
                                    "show",     "table",     "all", NULL};
        struct net_run run = {.argv = argv, .netns_fd = -1, .pass_fd = -1};
        struct bytes line, rest;
        struct text routes;
        bool more = true;

        text_init(&routes, NET_RUN_BYTES);
        err = net_run(&run, &routes, problem, problem_bytes);
        rest = text_bytes(&routes);
        while (err == 0 && more) {
            more = bytes_split(rest, '\n', &line, &rest);
            err = check_route(all, count, line, problem, problem_bytes);
        }
        text_clear(&routes);
    }
    return err;
}
