/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pod: a network namespace with an address of its own, a veth pair to the bridge, and the files
 * by which its processes find names.
 *
 * The address has the longest prefix and everything goes to the bridge: with a common subnet,
 * answers would take the short way between two pods and miss the translation back to the service's
 * address.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "local/net_private.h"

#define ADDRESS_REST_NS (60 * NS_PER_S)
#define HOSTNAME_MAX    63
#define NSSWITCH_BYTES  65536

/* Sockets of name services of the host, which would answer for it; network namespaces do not
 * separate them. */
static const char *const name_sockets[] = {
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/avahi-daemon/socket",
};

struct addr net_addr_at(const struct cidr *c, size_t index)
{
    struct addr a = c->base;
    size_t last = c->base.family == AF_INET ? 3 : 15;
    size_t carry = index;

    for (size_t i = last + 1; carry > 0 && i-- > 0;) {
        carry += a.ip[i];
        a.ip[i] = (uint8_t)carry;
        carry >>= 8;
    }
    assert(cidr_contains(c, &a));
    return a;
}

/* --- files ------------------------------------------------------------------------------------ */

/* This machine's nsswitch.conf (users and groups stay what they are) with our line for hosts. */
static void write_nsswitch(struct text *to)
{
    int fd = open("/etc/nsswitch.conf", O_RDONLY | O_CLOEXEC);
    AUTOFREE char *content = mem_new(NSSWITCH_BYTES);
    ssize_t n = fd >= 0 ? read(fd, content, NSSWITCH_BYTES) : 0;
    struct bytes line, rest = bytes_of(content, n > 0 ? (size_t)n : 0);
    bool more = rest.len > 0;

    if (fd >= 0) {
        close(fd);
    }
    while (more) {
        more = bytes_split(rest, '\n', &line, &rest);
        if (!bytes_starts(bytes_trim(line, " \t"), BYTES("hosts:")) && (more || line.len > 0)) {
            text_add(to, line);
            text_char(to, '\n');
        }
    }
    text_str(to, "hosts: files dns\n");
}

static int write_state_file(const struct net *n, const char *folder, const char *name,
                            struct text *content)
{
    AUTOFREE char *path = mem_printf("%s%s/%s", n->state, folder, name);

    TRY(content->err);
    return net_file_write(path, text_bytes(content));
}

int net_pod_files_init(struct net *n, char *problem, size_t problem_bytes)
{
    AUTOFREE char *pods = mem_printf("%s/pods", n->state);
    struct text nsswitch;
    int err = 0;

    if ((mkdir(n->state, 0755) != 0 && errno != EEXIST) ||
        (mkdir(pods, 0755) != 0 && errno != EEXIST)) {
        err = -errno;
    }
    text_init(&nsswitch, 2 * NSSWITCH_BYTES);
    write_nsswitch(&nsswitch);
    if (err == 0) {
        err = write_state_file(n, "", "nsswitch.conf", &nsswitch);
    }
    text_clear(&nsswitch);
    if (err != 0) {
        snprintf(problem, problem_bytes, "cannot write to the state folder %s: %s", n->state,
                 err_text(err));
        return E_CONFIG;
    }
    return 0;
}

/* "demo/web-0": namespace and host name; without a namespace the first is empty. */
static void split_name(struct bytes name, struct bytes *out_ns, struct bytes *out_host)
{
    if (!bytes_split(name, '/', out_ns, out_host)) {
        *out_host = name;
        *out_ns = BYTES_NONE;
    }
}

static bool is_host_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.')) {
            return false;
        }
    }
    return name.len > 0 && name.len <= HOSTNAME_MAX && name.at[0] != '.' && name.at[0] != '-';
}

static size_t slot_of(const struct net *n, const struct net_pod *pod)
{
    size_t index = 0;

    for (size_t i = 0; i < 4; i++) {
        index = index << 8 | (size_t)(pod->ip4.ip[i] - n->pods4.base.ip[i]);
    }
    assert(index >= NET_FIRST_ADDRESS && index - NET_FIRST_ADDRESS < n->slots_count);
    return index - NET_FIRST_ADDRESS;
}

static int write_pod_files(const struct net *n, const struct net_pod *pod, size_t slot)
{
    struct bytes ns, host;
    struct addr node = net_node_ip4(n);
    char ip[ADDR_TEXT_BYTES], file[64];
    struct text t;
    int err;

    split_name(bytes_str(pod->name), &ns, &host);
    text_init(&t, 8192);
    text_str(&t, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    text_printf(&t, "%s " BYTES_FMT "\n", addr_format_ip(&pod->ip4, ip), BYTES_ARG(host));
    if (n->has_v6) {
        text_printf(&t, "%s " BYTES_FMT "\n", addr_format_ip(&pod->ip6, ip), BYTES_ARG(host));
    }
    snprintf(file, sizeof(file), "%zu.hosts", slot);
    err = write_state_file(n, "/pods", file, &t);
    text_reset(&t);
    text_printf(&t, "nameserver %s\nsearch ", addr_format_ip(&node, ip));
    if (ns.len > 0) {
        text_printf(&t, BYTES_FMT ".svc.%s ", BYTES_ARG(ns), n->domain);
    }
    text_printf(&t, "svc.%s %s\noptions ndots:5\n", n->domain, n->domain);
    snprintf(file, sizeof(file), "%zu.resolv.conf", slot);
    if (err == 0) {
        err = write_state_file(n, "/pods", file, &t);
    }
    text_clear(&t);
    return err;
}

static void remove_pod_files(const struct net *n, size_t slot)
{
    AUTOFREE char *hosts = mem_printf("%s/pods/%zu.hosts", n->state, slot);
    AUTOFREE char *resolv = mem_printf("%s/pods/%zu.resolv.conf", n->state, slot);

    (void)unlink(hosts);
    (void)unlink(resolv);
}

/* --- the namespace ---------------------------------------------------------------------------- */

static int set_pod_sysctls(const struct net *n)
{
    static const struct {
        const char *name, *value;
        bool is_v6;
    } settings[] = {
        {"ipv4/ip_unprivileged_port_start", "0", false},
        {"ipv4/conf/all/rp_filter", "0", false},
        {"ipv4/conf/default/rp_filter", "0", false},
        {"ipv4/conf/all/accept_redirects", "0", false},
        {"ipv4/conf/default/accept_redirects", "0", false},
        {"ipv6/conf/all/disable_ipv6", "0", true},
        {"ipv6/conf/default/disable_ipv6", "0", true},
        {"ipv6/conf/default/accept_dad", "0", true},
        {"ipv6/conf/default/accept_ra", "0", true},
        {"ipv6/conf/default/accept_redirects", "0", true},
    };

    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (!settings[i].is_v6 || n->has_v6) {
            TRY(net_sysctl(settings[i].name, settings[i].value));
        }
    }
    return 0;
}

int net_pod_visit(const struct net_pod *pod)
{
    return setns(pod->netns_fd, CLONE_NEWNET) == 0 ? 0 : -errno;
}

void net_pod_return(const struct net *n)
{
    if (setns(n->node_fd, CLONE_NEWNET) != 0) {
        log_error("cannot return to the node namespace; err=%s", err_name(-errno));
        abort(); /* everything that follows would happen in the wrong place */
    }
}

/* A new network namespace, with its settings; this process is back in the node's afterwards. */
static int make_netns(const struct net *n, int *out_fd)
{
    int fd, err;

    if (unshare(CLONE_NEWNET) != 0) {
        return -errno;
    }
    fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    err = fd < 0 ? -errno : set_pod_sysctls(n);
    net_pod_return(n);
    if (err != 0 && fd >= 0) {
        close(fd);
    }
    if (err == 0) {
        *out_fd = fd;
    }
    return err;
}

static int run_batch(const struct net *n, struct text *batch, int netns_fd, int pass_fd,
                     char *problem, size_t problem_bytes)
{
    const char *const argv[] = {n->ip_program, "-batch", "-", NULL};
    struct net_run run = {
        .argv = argv, .input = text_bytes(batch), .netns_fd = netns_fd, .pass_fd = pass_fd};

    TRY(batch->err);
    return net_run(&run, NULL, problem, problem_bytes);
}

static void write_pod_links(const struct net *n, const struct net_pod *pod, struct text *to)
{
    struct addr node4 = net_node_ip4(n), node6 = net_node_ip6(n);
    char ip[ADDR_TEXT_BYTES], via[ADDR_TEXT_BYTES];

    addr_format_ip(&pod->ip4, ip);
    addr_format_ip(&node4, via);
    text_printf(to,
                "link set lo up\n"
                "link set eth0 up\n"
                "addr add %s/32 dev eth0\n"
                "route add %s dev eth0 scope link\n"
                "route add default via %s dev eth0\n",
                ip, via, via);
    if (n->has_v6) {
        addr_format_ip(&pod->ip6, ip);
        addr_format_ip(&node6, via);
        text_printf(to,
                    "addr add %s/128 dev eth0 nodad\n"
                    "route add %s dev eth0\n"
                    "route add ::/0 via %s dev eth0\n",
                    ip, via, via);
    }
}

static int make_links(const struct net *n, const struct net_pod *pod, size_t slot, char *problem,
                      size_t problem_bytes)
{
    struct text batch;
    int err;

    text_init(&batch, 4096);
    text_printf(&batch,
                "link add p%zu type veth peer name eth0 netns /proc/self/fd/%d\n"
                "link set p%zu master " NET_BRIDGE " up\n",
                slot, NET_PASSED_FD, slot);
    err = run_batch(n, &batch, -1, pod->netns_fd, problem, problem_bytes);
    text_reset(&batch);
    write_pod_links(n, pod, &batch);
    if (err == 0) {
        err = run_batch(n, &batch, pod->netns_fd, -1, problem, problem_bytes);
    }
    text_clear(&batch);
    return err;
}

static void remove_link(const struct net *n, size_t slot)
{
    char link[32], ignored[256];
    const char *const argv[] = {n->ip_program, "link", "delete", link, NULL};
    struct net_run run = {.argv = argv, .netns_fd = -1, .pass_fd = -1};

    snprintf(link, sizeof(link), "p%zu", slot);
    if (net_run(&run, NULL, ignored, sizeof(ignored)) != 0) {
        log_debug("the link of a pod is gone already; link=%s", link);
    }
}

/* The next address in turn that has rested. */
static bool take_slot(struct net *n, size_t *out_slot)
{
    uint64_t now_ns = clock_mono_ns();

    for (size_t i = 0; i < n->slots_count && n->pods_count < NET_PODS_MAX; i++) {
        size_t slot = (n->slots_next + i) % n->slots_count;
        const struct net_slot *s = &n->slots[slot];

        if (!s->is_used && (s->freed_ns == 0 || now_ns - s->freed_ns >= ADDRESS_REST_NS)) {
            n->slots[slot].is_used = true;
            n->slots_next = slot + 1;
            n->pods_count++;
            *out_slot = slot;
            return true;
        }
    }
    return false;
}

static void free_slot(struct net *n, size_t slot)
{
    assert(n->slots[slot].is_used);
    n->slots[slot].is_used = false;
    n->slots[slot].freed_ns = clock_mono_ns();
    n->pods_count--;
}

int net_pod_add(struct net *n, const char *name, struct net_pod *out, char *problem,
                size_t problem_bytes)
{
    struct net_pod pod = {.netns_fd = -1};
    struct bytes ns, host;
    size_t slot;
    int err;

    problem[0] = '\0';
    split_name(bytes_str(name), &ns, &host);
    if (!is_host_name(host) || (host.len < strlen(name) && !is_host_name(ns)) ||
        strlen(name) >= sizeof(pod.name)) {
        snprintf(
            problem, problem_bytes,
            "\"%s\" cannot be a pod's name: lower-case letters, digits, '-' and '.', at most %d",
            name, HOSTNAME_MAX);
        return E_CONFIG;
    }
    if (!take_slot(n, &slot)) {
        char cidr[ADDR_TEXT_BYTES];

        snprintf(
            problem, problem_bytes,
            "no address is free for pod %s: home \"%s\" has %zu pods (at most %d) in %s, and an "
            "address rests a minute before it is used again",
            name, n->home, n->pods_count, NET_PODS_MAX, cidr_format(&n->pods4, cidr));
        return E_LIMIT;
    }
    snprintf(pod.name, sizeof(pod.name), "%s", name);
    pod.ip4 = net_addr_at(&n->pods4, slot + NET_FIRST_ADDRESS);
    if (n->has_v6) {
        pod.ip6 = net_addr_at(&n->pods6, slot + NET_FIRST_ADDRESS);
    }
    err = write_pod_files(n, &pod, slot);
    if (err == 0) {
        err = make_netns(n, &pod.netns_fd);
    }
    if (err == 0) {
        err = make_links(n, &pod, slot, problem, problem_bytes);
    }
    if (err != 0) {
        if (problem[0] == '\0') {
            snprintf(problem, problem_bytes, "cannot make the network of pod %s: %s", name,
                     err_text(err));
        }
        net_pod_remove(n, &pod);
        return err;
    }
    *out = pod;
    return 0;
}

void net_pod_remove(struct net *n, struct net_pod *pod)
{
    size_t slot = slot_of(n, pod);

    /* The namespace goes with its last process; the link and so the address go at once. */
    if (pod->netns_fd >= 0) {
        remove_link(n, slot);
        close(pod->netns_fd);
        pod->netns_fd = -1;
    }
    remove_pod_files(n, slot);
    free_slot(n, slot);
}

/* --- entering --------------------------------------------------------------------------------- */

/* Put `from` in the place of `at`, of which there may be none. */
static int overlay(const char *from, const char *at, bool is_needed)
{
    if (mount(from, at, NULL, MS_BIND, NULL) == 0 || (errno == ENOENT && !is_needed)) {
        return 0;
    }
    return -errno;
}

static int mount_names(const struct net *n, size_t slot)
{
    AUTOFREE char *hosts = mem_printf("%s/pods/%zu.hosts", n->state, slot);
    AUTOFREE char *resolv = mem_printf("%s/pods/%zu.resolv.conf", n->state, slot);
    AUTOFREE char *nsswitch = mem_printf("%s/nsswitch.conf", n->state);

    TRY(overlay(resolv, "/etc/resolv.conf", true));
    TRY(overlay(hosts, "/etc/hosts", false));
    TRY(overlay(nsswitch, "/etc/nsswitch.conf", false));
    for (size_t i = 0; i < ARRAY_LEN(name_sockets); i++) {
        TRY(overlay("/dev/null", name_sockets[i], false));
    }
    return 0;
}

int net_pod_enter(struct net *n, const struct net_pod *pod)
{
    struct bytes ns, host;

    /* What keeps the home's helpers alive is the supervisor's alone, also if this child never
     * executes anything. */
    close(n->init_fd);
    close(n->host_fd);
    if (setns(pod->netns_fd, CLONE_NEWNET) != 0 || unshare(CLONE_NEWNS | CLONE_NEWUTS) != 0) {
        return -errno;
    }
    /* A copied namespace shares its propagation; the supervisor's own was made private already,
     * this keeps it so wherever we are called from. */
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return -errno;
    }
    split_name(bytes_str(pod->name), &ns, &host);
    if (sethostname(host.at, host.len) != 0) {
        return -errno;
    }
    TRY(mount_names(n, slot_of(n, pod)));
    /* Refused where parts of /proc are hidden (containers); then the host's stays, which works but
     * for the numbers of processes. */
    (void)mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    return 0;
}
