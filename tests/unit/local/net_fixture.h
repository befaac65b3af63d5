/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_LOCAL_NET_FIXTURE_H
#define TESTS_UNIT_LOCAL_NET_FIXTURE_H

/*
 * Homes for tests: each runs in a process of its own (net_open() moves its caller for good), which
 * the test starts, listens to and waits for. A CHECK that fails there ends that process with a
 * message, and the test with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/err.h"
#include "local/net.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s (errno: %s)\n", __FILE__, __LINE__, #condition,     \
                    strerror(errno));                                                              \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#define STALL_S 20 /* longer than anything takes; a socket that waits so long fails the test */

struct home {
    struct net *net;
    int node_fd; /* the node's network namespace */
    char state[64];
    char problem[512];
};

static inline struct cidr cidr_of(const char *text)
{
    struct cidr c;

    CHECK(cidr_parse(bytes_str(text), &c) == 0);
    return c;
}

static inline struct net_config home_config(const char *state)
{
    return (struct net_config){.home = "test",
                               .pods4 = cidr_of("10.42.0.0/16"),
                               .services4 = cidr_of("10.43.0.0/16"),
                               .pods6 = cidr_of("fd42::/64"),
                               .services6 = cidr_of("fd43::/112"),
                               .state = state};
}

static inline void home_open(struct home *h)
{
    struct net_config config;
    int err;

    memset(h, 0, sizeof(*h));
    snprintf(h->state, sizeof(h->state), "/tmp/tulle-test-net-XXXXXX");
    CHECK(mkdtemp(h->state) != NULL);
    config = home_config(h->state);
    err = net_open(&config, &h->net, h->problem, sizeof(h->problem));
    if (err != 0) {
        fprintf(stderr, "net_open: %s\n", h->problem);
    }
    CHECK(err == 0);
    h->node_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    CHECK(h->node_fd >= 0);
}

static inline void home_remove_state(const struct home *h)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/nsswitch.conf", h->state);
    CHECK(unlink(path) == 0);
    snprintf(path, sizeof(path), "%s/pods", h->state);
    CHECK(rmdir(path) == 0); /* the files of the pods went with the pods */
    CHECK(rmdir(h->state) == 0);
}

static inline struct net_pod pod_add(struct home *h, const char *name)
{
    struct net_pod pod;
    int err = net_pod_add(h->net, name, &pod, h->problem, sizeof(h->problem));

    if (err != 0) {
        fprintf(stderr, "net_pod_add: %s\n", h->problem);
    }
    CHECK(err == 0);
    return pod;
}

/* --- servers and clients ---------------------------------------------------------------------- */

/* A socket of the namespace; this process is in the node's before and after. */
static inline int socket_in(const struct home *h, int netns_fd, int family, int type)
{
    struct timeval stall = {.tv_sec = STALL_S};
    int fd;

    CHECK(setns(netns_fd, CLONE_NEWNET) == 0);
    fd = socket(family, type | SOCK_CLOEXEC, 0);
    CHECK(setns(h->node_fd, CLONE_NEWNET) == 0);
    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall)) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof(stall)) == 0);
    return fd;
}

static inline struct addr with_port(struct addr a, uint16_t port)
{
    a.port = port;
    return a;
}

static inline int dial(const struct home *h, int netns_fd, const struct addr *to, int type)
{
    struct sockaddr_storage sa;
    socklen_t bytes = addr_to_sockaddr(to, &sa);
    int fd = socket_in(h, netns_fd, to->family, type);

    if (connect(fd, (struct sockaddr *)&sa, bytes) != 0) {
        int err = errno;

        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

/* "name peer\n": who answers, and whom it sees. */
static inline void exchange(int fd, char *out_answer, size_t answer_bytes)
{
    ssize_t n;

    CHECK(send(fd, "?", 1, MSG_NOSIGNAL) == 1);
    n = recv(fd, out_answer, answer_bytes - 1, 0);
    CHECK(n > 0);
    out_answer[n] = '\0';
}

/* False: the client is gone. */
static inline bool answer_one(int fd, const char *name, bool is_udp)
{
    char question[16], answer[128], ip[ADDR_TEXT_BYTES];
    struct sockaddr_storage peer;
    socklen_t bytes = sizeof(peer);
    struct addr from;
    int length;

    if (is_udp) {
        CHECK(recvfrom(fd, question, sizeof(question), 0, (struct sockaddr *)&peer, &bytes) > 0);
    } else if (recv(fd, question, sizeof(question), 0) <= 0 ||
               getpeername(fd, (struct sockaddr *)&peer, &bytes) != 0) {
        return false;
    }
    addr_from_sockaddr(&peer, &from);
    length = snprintf(answer, sizeof(answer), "%s %s", name, addr_format_ip(&from, ip));
    if (is_udp) {
        (void)sendto(fd, answer, (size_t)length, 0, (struct sockaddr *)&peer, bytes);
    } else {
        (void)send(fd, answer, (size_t)length, MSG_NOSIGNAL);
    }
    return true;
}

/* Answers over TCP and UDP until it is killed. Never returns. */
static inline void serve(const char *name, int tcp_fd, int udp_fd)
{
    struct pollfd fds[64] = {{.fd = tcp_fd, .events = POLLIN}, {.fd = udp_fd, .events = POLLIN}};

    for (size_t i = 2; i < ARRAY_LEN(fds); i++) {
        fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    }
    while (poll(fds, ARRAY_LEN(fds), -1) > 0) {
        for (size_t i = 2; i < ARRAY_LEN(fds); i++) {
            if (fds[i].revents != 0 && !answer_one(fds[i].fd, name, false)) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
        }
        if (fds[1].revents != 0) {
            (void)answer_one(udp_fd, name, true);
        }
        for (size_t i = 2; fds[0].revents != 0 && i < ARRAY_LEN(fds); i++) {
            if (fds[i].fd < 0) {
                fds[i].fd = accept(tcp_fd, NULL, NULL);
                break;
            }
        }
    }
    _exit(1);
}

static inline int bound_socket(int type)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    int fd = socket(AF_INET6, type, 0);

    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0);
    return fd;
}

/* A process in the pod that answers with the pod's name; returns when it listens. */
static inline pid_t pod_serve(struct home *h, const struct net_pod *pod)
{
    int ready[2];
    char byte;
    pid_t pid;

    CHECK(pipe(ready) == 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        int tcp_fd, udp_fd;

        close(ready[0]);
        CHECK(net_pod_enter(h->net, pod) == 0);
        tcp_fd = bound_socket(SOCK_STREAM);
        udp_fd = bound_socket(SOCK_DGRAM);
        CHECK(listen(tcp_fd, 64) == 0);
        CHECK(write(ready[1], "!", 1) == 1);
        close(ready[1]);
        serve(pod->name, tcp_fd, udp_fd);
    }
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    return pid;
}

/* Ask once over a new connection: who answered, and whom it saw (64 bytes each). */
static inline void ask(const struct home *h, int netns_fd, const struct addr *to, char *out_name,
                       char *out_peer)
{
    char answer[128], *gap;
    int fd = dial(h, netns_fd, to, SOCK_STREAM);

    CHECK(fd >= 0);
    exchange(fd, answer, sizeof(answer));
    gap = strchr(answer, ' ');
    CHECK(gap != NULL);
    snprintf(out_name, 64, "%.*s", (int)(gap - answer), answer);
    snprintf(out_peer, 64, "%s", gap + 1);
    close(fd);
}

static inline void services_set(struct home *h, const struct net_service *services, size_t count)
{
    int err = net_services_set(h->net, services, count, h->problem, sizeof(h->problem));

    if (err != 0) {
        fprintf(stderr, "net_services_set: %s\n", h->problem);
    }
    CHECK(err == 0);
}

/* --- processes -------------------------------------------------------------------------------- */

/* Run `scenario` in a process of its own; with `as_nobody` without any right. */
static inline void run(void (*scenario)(struct home *h), bool as_nobody)
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct home h;

        if (as_nobody) {
            CHECK(setgid(65534) == 0 && setuid(65534) == 0);
            CHECK(prctl(PR_SET_DUMPABLE, 1) ==
                  0); /* as after exec: /proc/self is the user's again */
        }
        home_open(&h);
        scenario(&h);
        net_close(h.net);
        home_remove_state(&h);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#endif
