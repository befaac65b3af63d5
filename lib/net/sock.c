/* SPDX-License-Identifier: Apache-2.0 */
#include "net/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "net/io_private.h"

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* Unix sockets take part in everything here but have no TCP options. */
static int set_tcp(int fd, int name, int value)
{
    int rc = set_int(fd, IPPROTO_TCP, name, value);

    return rc == -EOPNOTSUPP || rc == -ENOPROTOOPT ? 0 : rc;
}

int sock_set_opts(int fd, const struct sock_opts *o)
{
    TRY(set_tcp(fd, TCP_NODELAY, 1));
    if (o->keepalive_ms != 0) {
        unsigned idle_s = (o->keepalive_ms + 999) / 1000; /* the kernel counts seconds */

        TRY(set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1));
        TRY(set_tcp(fd, TCP_KEEPIDLE, (int)MIN(idle_s, 32767U)));
    }
    if (o->user_timeout_ms != 0) {
        TRY(set_tcp(fd, TCP_USER_TIMEOUT, (int)MIN(o->user_timeout_ms, (unsigned)INT32_MAX)));
    }
    if (o->mark != 0) {
        TRY(set_int(fd, SOL_SOCKET, SO_MARK, (int)o->mark));
    }
    return 0;
}

int sock_set_accept_opts(int fd, const struct sock_opts *o)
{
    TRY(sock_set_opts(fd, o));
    (void)set_tcp(fd, TCP_INQ, 1); /* io_tcp_accepted() does without it, too */
    return 0;
}

int sock_local(int fd, struct addr *out)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);

    memset(&at, 0, sizeof(at));
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        return -errno;
    }
    addr_from_sockaddr(&at, out);
    return 0;
}

int sock_peer(int fd, struct addr *out)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);

    memset(&at, 0, sizeof(at));
    if (getpeername(fd, (struct sockaddr *)&at, &len) != 0) {
        return -errno;
    }
    addr_from_sockaddr(&at, out);
    return 0;
}

bool sock_is_deserted(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0;
}

int sock_original_dst(int fd, int family, struct addr *out)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);
    struct addr local;
    int rc;

    if (family == AF_UNSPEC) {
        TRY(sock_local(fd, &local));
        family = local.family;
    }
    memset(&at, 0, sizeof(at));
    /* By the address, not by the socket: an IPv6 socket may carry an IPv4 connection, whose entry
     * is in the IPv4 table. */
    if (family == AF_INET6) {
        rc = getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, &at, &len);
    } else if (family == AF_INET) {
        rc = getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &at, &len);
    } else {
        return sock_local(fd, out); /* a Unix socket */
    }
    if (rc == 0) {
        addr_from_sockaddr(&at, out);
        return 0;
    }
    /* Not tracked, or no connection tracking in this kernel or namespace: nobody redirected it. */
    if (errno == ENOENT || errno == ENOPROTOOPT || errno == EOPNOTSUPP) {
        return sock_local(fd, out);
    }
    return -errno;
}

static int bind_and_listen(int fd, const struct addr *at, bool reuse_port, int backlog)
{
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(at, &sa);

    TRY(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1));
    if (reuse_port) {
        TRY(set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1));
    }
    if (at->family == AF_INET6) {
        bool any = memcmp(at->ip, &in6addr_any, 16) == 0;

        TRY(set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? 0 : 1));
    }
    if (bind(fd, (struct sockaddr *)&sa, len) != 0 || listen(fd, backlog) != 0) {
        return -errno;
    }
    return 0;
}

int sock_listen(const struct addr *at, bool reuse_port, int backlog, int *out_fd)
{
    int rc, fd = socket(at->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    rc = bind_and_listen(fd, at, reuse_port, backlog);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    *out_fd = fd;
    return 0;
}

int sock_unix_name(const char *at, struct sockaddr_un *out, socklen_t *out_len)
{
    size_t len = strlen(at);

    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (len == 0 || (at[0] == '@' && len == 1) || len >= sizeof(out->sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(out->sun_path, at, len);
    *out_len = sizeof(*out);
    if (at[0] == '@') { /* unix(7): abstract names begin with a zero and do not end with one */
        out->sun_path[0] = '\0';
        *out_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    }
    return 0;
}

/* Is somebody still answering on this socket file? */
static bool unix_is_alive(const struct sockaddr_un *at, int type)
{
    int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool alive;

    if (fd < 0) {
        return true; /* not known: leave the file alone */
    }
    alive = connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 || errno != ECONNREFUSED;
    close(fd);
    return alive;
}

static int unix_bind(int fd, const struct sockaddr_un *at, socklen_t len, int type)
{
    struct stat st;

    if (bind(fd, (const struct sockaddr *)at, len) == 0) {
        return 0;
    }
    if (errno != EADDRINUSE || at->sun_path[0] == '\0' || lstat(at->sun_path, &st) != 0 ||
        !S_ISSOCK(st.st_mode) || unix_is_alive(at, type)) {
        return -EADDRINUSE;
    }
    return unlink(at->sun_path) == 0 && bind(fd, (const struct sockaddr *)at, len) == 0 ? 0 : -errno;
}

int sock_listen_unix(const char *at, int type, int backlog, int *out_fd)
{
    struct sockaddr_un name;
    socklen_t len;
    int fd, rc;

    TRY(sock_unix_name(at, &name, &len));
    fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    rc = unix_bind(fd, &name, len, type);
    if (rc == 0 && listen(fd, backlog) != 0) {
        rc = -errno;
    }
    if (rc != 0) {
        close(fd);
        return rc;
    }
    *out_fd = fd;
    return 0;
}

static int start_connect(int fd, const struct addr *to, const struct sock_opts *o,
                         bool *out_connecting)
{
    struct sockaddr_storage sa;
    socklen_t len;

    TRY(sock_set_opts(fd, o));
    if (!addr_is_none(&o->source)) {
        len = addr_to_sockaddr(&o->source, &sa);
        if (bind(fd, (struct sockaddr *)&sa, len) != 0) {
            return -errno;
        }
    }
    len = addr_to_sockaddr(to, &sa);
    *out_connecting = connect(fd, (struct sockaddr *)&sa, len) != 0;
    if (*out_connecting && errno != EINPROGRESS && errno != EINTR) {
        return -errno;
    }
    return 0;
}

int sock_dial(struct loop *l, const struct addr *to, const struct sock_opts *o, struct task *owner,
              struct io **out_io)
{
    static const struct sock_opts none;
    struct io *io;
    bool connecting;
    int rc, fd;

    assert(!addr_is_none(to));
    fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    rc = start_connect(fd, to, o != NULL ? o : &none, &connecting);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    io = io_tcp_make(l, fd, owner, connecting, io_tcp_ask_inq(fd));
    if (io == NULL) {
        return -ENOMEM; /* the kernel's limit on watched descriptors; the socket is closed */
    }
    *out_io = io;
    return 0;
}
