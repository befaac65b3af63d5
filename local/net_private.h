/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_NET_PRIVATE_H
#define LOCAL_NET_PRIVATE_H

/*
 * What the net_*.c files share.
 */
#include <sys/types.h>

#include "core/map.h"
#include "core/text.h"
#include "local/net.h"

#define NET_BRIDGE        "tulle0"
#define NET_ADDRESSES_MAX 65000 /* pod addresses in rotation, however large the subnet */
#define NET_RUN_BYTES     ((size_t)16 * 1024 * 1024)
#define NET_PASSED_FD     3 /* where a program finds net_run.pass_fd */
#define NET_FIRST_ADDRESS 2 /* .0 is the network, .1 the bridge (services: unused) */
#define NET_RULES_BYTES   ((size_t)64 * 1024 * 1024)

struct net_slot { /* one pod address */
    bool is_used;
    uint64_t freed_ns; /* 0: never used */
};

struct net {
    char *home, *state, *domain;
    char *ip_program, *nft_program;
    struct cidr pods4, services4, pods6, services6;
    bool has_v6;

    int node_fd;      /* the node's network namespace */
    int old_pidns_fd; /* to return to in net_close(), where allowed */
    int host_fd;      /* socket to the host-side process */
    int init_fd;      /* pipe whose end makes the pid namespace's first process end */
    pid_t host_pid, init_pid;

    struct net_slot *slots;
    size_t slots_count, slots_next, pods_count;

    struct map services; /* "ns/name" -> index + 1, as a pointer's value */
    size_t services_next;
    bool had_udp; /* the present table has a UDP service */
};

/* --- net_run.c: programs ---------------------------------------------------------------------- */

struct net_run {
    const char *const *argv; /* argv[0] is a path */
    struct bytes input;      /* standard input */
    int netns_fd;            /* namespace to run in, -1: the present one */
    int pass_fd;             /* inherited as NET_PASSED_FD, -1: none */
};

/* Find a program in PATH and in the sbin folders, which users' paths often lack. mem_free()d by the
 * caller; NULL when it is not there. */
char *net_find_program(const char *name);

/* Run to the end. `out` (may be NULL) gets standard output and error. E_CONFIG when it exits with
 * another code than 0; `problem` has the first line that it said. */
int net_run(const struct net_run *r, struct text *out, char *problem,
            size_t problem_bytes) MUST_USE;

int net_sysctl(const char *name,
               const char *value) MUST_USE; /* "ipv4/ip_forward" below /proc/sys/net */
int net_file_write(const char *path, struct bytes content) MUST_USE;

/* --- net_check.c ------------------------------------------------------------------------------ */

int net_check_config(const struct net_config *c, char *problem, size_t problem_bytes) MUST_USE;
int net_check_routes(const struct net_config *c, const char *ip_program, char *problem,
                     size_t problem_bytes) MUST_USE;

/* --- net_space.c: namespaces of the supervisor ------------------------------------------------ */

/* For a child of fork(): close everything but one descriptor, standard ones go to /dev/null. */
void net_keep_only(int keep_fd);
int net_space_enter(struct net *n, char *problem, size_t problem_bytes) MUST_USE;
void net_space_leave(struct net *n);

/* --- net_host.c ------------------------------------------------------------------------------- */

int net_host_start(struct net *n) MUST_USE;
void net_host_stop(struct net *n);
/* A listening socket of the host's namespace: -errno as bind(2) and listen(2) gave it. */
int net_host_listen(struct net *n, const struct addr *at, int *out_fd) MUST_USE;

/* --- net_pod.c -------------------------------------------------------------------------------- */

struct addr net_addr_at(const struct cidr *c, size_t index); /* base + index */
int net_pod_files_init(struct net *n, char *problem, size_t problem_bytes) MUST_USE;

/* --- net_services.c, net_conntrack.c ---------------------------------------------------------- */

void net_services_write(const struct net *n, const struct net_service *services, size_t count,
                        struct text *to);
/* Forget UDP flows to addresses of `services4/6` whose target is no longer one of the service's. */
int net_conntrack_prune(const struct net *n, const struct net_service *services,
                        size_t count) MUST_USE;

#endif
