/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_NET_DOOR_PROBE_H
#define UNIT_NET_DOOR_PROBE_H

/*
 * A listener that keeps all it accepts, and who knocks at it.
 */
#include "net_probe.h"

#include <netinet/tcp.h>

struct door {
    struct listener ln;
    int fds[256];
    unsigned count;
    struct addr last_peer;
    bool close_on_accept, is_finished;
};

static inline void door_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct door *d = ln->user;

    assert_true(d->count < ARRAY_LEN(d->fds));
    d->fds[d->count++] = fd;
    d->last_peer = *peer;
    if (d->close_on_accept) {
        listener_close(ln);
    }
}

/* A door on a port of the kernel's choice; *out_at is where. */
static inline void door_open(struct door *d, struct loop *l, struct addr *out_at)
{
    struct addr at = addr_v4(0x7f000001, 0);
    int fd;

    memset(d, 0, sizeof(*d));
    assert_int_equal(sock_listen(&at, false, 128, &fd), 0);
    assert_int_equal(sock_local(fd, out_at), 0);
    assert_int_not_equal(out_at->port, 0);
    assert_int_equal(listener_open(&d->ln, l, fd, door_accept, d), 0);
}

static inline void door_close(struct door *d)
{
    listener_close(&d->ln);
    listener_close(&d->ln); /* idempotent */
    for (unsigned i = 0; i < d->count; i++) {
        close(d->fds[i]);
    }
}

static inline int connect_to(const struct addr *at)
{
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(at, &sa);
    int fd = socket(at->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
    return fd;
}

static inline int int_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static inline struct tcp_info tcp_info_of(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info;
}

#endif
