/* SPDX-License-Identifier: Apache-2.0 */
#include "local/net.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"
#include "local/net_private.h"

/* A fixed address: a bridge otherwise takes the smallest of its ports', and pods would go on
 * sending to the one they learnt before. Locally administered; nothing outside the home sees it. */
#define BRIDGE_MAC "02:74:75:6c:6c:65"

static int find_programs(struct net *n, char *problem, size_t problem_bytes)
{
    n->ip_program = net_find_program("ip");
    if (n->ip_program == NULL) {
        snprintf(problem, problem_bytes, "the program ip is missing; install the package iproute2");
        return E_CONFIG;
    }
    n->nft_program = net_find_program("nft");
    if (n->nft_program == NULL) {
        snprintf(problem, problem_bytes,
                 "the program nft is missing; install the package nftables");
        return E_CONFIG;
    }
    return 0;
}

/*
 * Settings of the node namespace. New devices start without IPv6, so that bridge ports stay mute.
 * Packets between pods come and leave through the bridge; no redirect must tell pods to take a
 * shorter way, past the translation of service addresses. Frames on the bridge are not shown to the
 * packet filter a second time.
 */
static int set_sysctls(struct net *n, char *problem, size_t problem_bytes)
{
    static const struct {
        const char *name, *value;
        bool is_v6, is_optional;
    } settings[] = {
        {"ipv4/ip_forward", "1", false, false},
        {"ipv4/conf/all/rp_filter", "0", false, false},
        {"ipv4/conf/default/rp_filter", "0", false, false},
        {"ipv4/conf/all/send_redirects", "0", false, false},
        {"ipv4/conf/default/send_redirects", "0", false, false},
        {"ipv4/ip_unprivileged_port_start", "0", false, false},
        {"bridge/bridge-nf-call-iptables", "0", false, true},
        {"bridge/bridge-nf-call-ip6tables", "0", false, true},
        {"ipv6/conf/all/disable_ipv6", "0", true, false},
        {"ipv6/conf/default/disable_ipv6", "1", true, false},
        {"ipv6/conf/default/accept_dad", "0", true, false},
        {"ipv6/conf/default/accept_ra", "0", true, false},
        {"ipv6/conf/all/forwarding", "1", true, false},
    };

    if (n->has_v6 && access("/proc/sys/net/ipv6", F_OK) != 0) {
        log_warn("this kernel has no IPv6: the home goes without");
        n->has_v6 = false;
    }
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        int err =
            settings[i].is_v6 && !n->has_v6 ? 0 : net_sysctl(settings[i].name, settings[i].value);

        if (err == -ENOENT && settings[i].is_optional) {
            continue;
        }
        if (err != 0) {
            snprintf(problem, problem_bytes,
                     "cannot set the sysctl net/%s in the home's namespace: %s", settings[i].name,
                     err_text(err));
            return err;
        }
    }
    return 0;
}

static void write_links(const struct net *n, struct text *to)
{
    char ip[ADDR_TEXT_BYTES], cidr[ADDR_TEXT_BYTES];
    struct addr node = net_node_ip4(n);

    text_str(to, "link set lo up\n"
                 "link add " NET_BRIDGE " address " BRIDGE_MAC
                 " type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n");
    text_printf(to, "addr add %s/%u dev " NET_BRIDGE "\n", addr_format_ip(&node, ip),
                n->pods4.prefix);
    text_str(to, "link set " NET_BRIDGE " up\n");
    /* So that clients in this namespace, too, have a route before the address is translated. */
    text_printf(to, "route add %s dev " NET_BRIDGE " src %s\n", cidr_format(&n->services4, cidr),
                ip);
}

static void write_links_v6(const struct net *n, struct text *to)
{
    char ip[ADDR_TEXT_BYTES], cidr[ADDR_TEXT_BYTES];
    struct addr node = net_node_ip6(n);

    text_printf(to, "addr add %s/%u dev " NET_BRIDGE " nodad\n", addr_format_ip(&node, ip),
                n->pods6.prefix);
    text_printf(to, "route add %s dev " NET_BRIDGE " src %s\n", cidr_format(&n->services6, cidr),
                ip);
}

static int run_batch(const struct net *n, const struct text *batch, char *problem,
                     size_t problem_bytes)
{
    const char *const argv[] = {n->ip_program, "-batch", "-", NULL};
    struct net_run run = {.argv = argv, .input = text_bytes(batch), .netns_fd = -1, .pass_fd = -1};

    return net_run(&run, NULL, problem, problem_bytes);
}

static int make_links(struct net *n, char *problem, size_t problem_bytes)
{
    struct text batch;
    int err;

    text_init(&batch, 4096);
    write_links(n, &batch);
    err = run_batch(n, &batch, problem, problem_bytes);
    if (err == 0 && n->has_v6) {
        err = net_sysctl("ipv6/conf/" NET_BRIDGE "/disable_ipv6", "0");
        text_reset(&batch);
        write_links_v6(n, &batch);
        err = err != 0 ? err : run_batch(n, &batch, problem, problem_bytes);
    }
    text_clear(&batch);
    return err;
}

static struct net *net_new(const struct net_config *config)
{
    struct net *n = mem_new(sizeof(*n));
    size_t subnet = (size_t)1 << (32 - config->pods4.prefix);

    n->home = mem_strdup(config->home);
    n->state = mem_strdup(config->state);
    n->domain = mem_strdup(config->domain != NULL ? config->domain : "cluster.local");
    n->pods4 = config->pods4;
    n->services4 = config->services4;
    n->pods6 = config->pods6;
    n->services6 = config->services6;
    n->has_v6 = config->pods6.prefix != 0;
    n->node_fd = n->old_pidns_fd = n->host_fd = n->init_fd = -1;
    n->host_pid = n->init_pid = -1;
    /* Without the network's own address, the bridge's and the broadcast address. */
    n->slots_count = MIN(subnet - NET_FIRST_ADDRESS - 1, NET_ADDRESSES_MAX);
    n->slots = mem_new_array(n->slots_count, sizeof(*n->slots));
    map_init(&n->services);
    return n;
}

/* A supervisor that was started without standard descriptors would get ours in their place. */
static void fill_standard_fds(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
}

int net_open(const struct net_config *config, struct net **out, char *problem, size_t problem_bytes)
{
    struct net *n;
    int err;

    problem[0] = '\0';
    TRY(net_check_config(config, problem, problem_bytes));
    fill_standard_fds();
    n = net_new(config);
    err = find_programs(n, problem, problem_bytes);
    if (err == 0) {
        err = net_check_routes(config, n->ip_program, problem, problem_bytes);
    }
    if (err == 0) {
        err = net_pod_files_init(n, problem, problem_bytes);
    }
    if (err == 0) {
        err = net_host_start(n);
    }
    if (err == 0) {
        err = net_space_enter(n, problem, problem_bytes);
    }
    if (err == 0) {
        err = set_sysctls(n, problem, problem_bytes);
    }
    if (err == 0) {
        err = make_links(n, problem, problem_bytes);
    }
    if (err != 0) {
        if (problem[0] == '\0') {
            snprintf(problem, problem_bytes, "cannot set up the network of home \"%s\": %s",
                     config->home, err_text(err));
        }
        net_close(n);
        return err;
    }
    *out = n;
    return 0;
}

void net_close(struct net *n)
{
    if (n == NULL) {
        return;
    }
    net_space_leave(n);
    net_host_stop(n);
    map_clear(&n->services);
    mem_free(n->slots);
    mem_free(n->ip_program);
    mem_free(n->nft_program);
    mem_free(n->domain);
    mem_free(n->state);
    mem_free(n->home);
    mem_free(n);
}

struct addr net_node_ip4(const struct net *n)
{
    return net_addr_at(&n->pods4, 1);
}

struct addr net_node_ip6(const struct net *n)
{
    return n->has_v6 ? net_addr_at(&n->pods6, 1) : (struct addr){.family = 0};
}

bool net_is_helper(const struct net *n, pid_t pid)
{
    return pid > 0 && (pid == n->host_pid || pid == n->init_pid);
}
