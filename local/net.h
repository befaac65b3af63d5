/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_NET_H
#define LOCAL_NET_H

/*
 * The network of one local home (decision D20): a node namespace with a bridge, one namespace a pod
 * joined by a veth pair, cluster addresses as one nft table, and a way back to the host's
 * localhost.
 *
 * The supervisor calls net_open() before anything else, while it has one thread: the calling
 * process moves into the node namespace (network and mount; with a user namespace when it is not
 * root). A small host-side process, forked before, stays outside and binds published ports on
 * request.
 *
 * Processes: what the supervisor forks after net_open() lives in a pid namespace of the home, whose
 * first process ends when the supervisor does, however it dies, and takes all others along. The
 * kernel therefore refuses new *threads* in the supervisor from then on (fork and exec work). Two
 * children are this module's own, net_is_helper() tells them; one of them ending by itself means
 * that the home cannot go on.
 *
 * Limits: NET_PODS_MAX pods. Pod addresses are never given out twice within 60 s.
 * Ownership: everything made here dies with the supervisor (namespaces have no names in the file
 * system, links and rules live in them). Files of pods in `state` are removed with the pods.
 * Threads: one. Calls run `ip` and `nft`, they block for milliseconds; none is on a data path.
 */
#include <sys/types.h>

#include "core/loop.h"
#include "net/addr.h"

#define NET_PODS_MAX 1000
#define NET_PROXY_MARK                                                                             \
    0x1539 /* SO_MARK of a pod's proxy: `tulle-init --proxy-mark` lets it through */

struct net_config {
    const char *home;             /* name of the home, for messages */
    struct cidr pods4;            /* 10.42.0.0/16 by default */
    struct cidr services4;        /* 10.43.0.0/16 */
    struct cidr pods6, services6; /* fd42::/64 and fd43::/112 kind; prefix 0: no IPv6 */
    const char *state;            /* folder for resolv.conf, nsswitch.conf, hosts of the pods */
    const char *domain;           /* cluster domain for resolv.conf; NULL: "cluster.local" */
};

struct net_pod {
    char name[128];       /* as given */
    struct addr ip4, ip6; /* port 0; ip6 none when off */
    int netns_fd;         /* held open: the pod's network namespace */
};

struct net;
/* E_CONFIG with a sentence when a subnet overlaps one of this machine's routes, when a program
 * (nft, ip) is missing, or when the kernel forbids namespaces (it says which setting to change).
 * After a failure the process may be half moved: it has to end. */
int net_open(const struct net_config *config, struct net **out, char *problem,
             size_t problem_bytes) MUST_USE;
/* Ends every process of the home and reaps all children of the caller. NULL is fine. */
void net_close(struct net *n);
struct addr net_node_ip4(const struct net *n); /* the bridge's own address: DNS (port 53), probes */
struct addr
net_node_ip6(const struct net *n); /* none when IPv6 is off (also when the kernel has none) */
bool net_is_helper(const struct net *n, pid_t pid);

/* `name` is "pod" or "namespace/pod"; with a namespace its services are found by their short names.
 * The pod's part is its hostname: lower-case letters, digits, '-' and '.', at most 63. */
int net_pod_add(struct net *n, const char *name, struct net_pod *out, char *problem,
                size_t problem_bytes) MUST_USE;
void net_pod_remove(struct net *n, struct net_pod *pod);
/* In a forked child: enter the pod's namespaces, with resolv.conf and nsswitch.conf in place (bind
 * mounts in a private mount namespace), /etc/hosts with the pod's name, hostname set to the pod's,
 * and a /proc that shows the home's processes where the kernel allows. */
int net_pod_enter(struct net *n, const struct net_pod *pod) MUST_USE;

/* Sockets made between the two calls are of the pod's network: to ask a program itself, not the proxy
 * in front of it. Nothing else may happen in between. */
int net_pod_visit(const struct net_pod *pod) MUST_USE;
void net_pod_return(const struct net *n);

struct net_target {
    struct addr addr; /* pod address and port, of the cluster address' family */
};
struct net_service {
    const char *name;       /* "demo/web", for comments */
    struct addr cluster_ip; /* with the service's port; no two with the same */
    bool udp;
    const struct net_target *targets;
    size_t targets_count; /* 0: connections are reset at once */
};
/* Replace the whole table atomically; live TCP flows survive, UDP flows to gone targets are
 * forgotten. On failure the old rules stay. */
int net_services_set(struct net *n, const struct net_service *services, size_t count, char *problem,
                     size_t problem_bytes) MUST_USE;
/* Service addresses, stable while the home lives: the same key gives the same address again.
 * E_LIMIT when the subnet is used up. *out6 is none when IPv6 is off. */
int net_service_ip(struct net *n, const char *ns, const char *name, struct addr *out4,
                   struct addr *out6) MUST_USE;

/* Listen on the host's 127.0.0.1 and ::1 (host_port 0: any); each connection is dialed to `to`
 * inside the node namespace and copied both ways. E_CONFIG names the port when it is in use. */
struct net_publish;
int net_publish(struct net *n, struct loop *l, uint16_t host_port, const struct addr *to,
                struct net_publish **out, uint16_t *out_port, char *problem,
                size_t problem_bytes) MUST_USE;
/* The same on a Unix socket in the host's file system. */
int net_publish_unix(struct net *n, struct loop *l, const char *path, const struct addr *to,
                     struct net_publish **out) MUST_USE;
void net_publish_retarget(struct net_publish *p, const struct addr *to); /* for new connections */
void net_unpublish(struct net_publish *p); /* resets what is open; NULL is fine */

#endif
