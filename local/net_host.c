/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host-side process: it stays in the network namespace that the supervisor left, binds
 * listening sockets there on request and sends them over. One message a request, one an answer; it
 * does nothing else, and ends when the supervisor's end of the socket closes.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/err.h"
#include "local/net_private.h"
#include "net/sock.h"

#define BACKLOG 128

struct reply {
    int err; /* with 0 comes the socket */
};

union control {
    struct cmsghdr header;
    char at[CMSG_SPACE(sizeof(int))];
};

/* --- in the host-side process ----------------------------------------------------------------- */

static void reply_send(int socket_fd, int err, int passed_fd)
{
    struct reply reply = {.err = err};
    struct iovec iov = {.iov_base = &reply, .iov_len = sizeof(reply)};
    union control control = {.at = {0}};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (err == 0) {
        struct cmsghdr *c;

        message.msg_control = control.at;
        message.msg_controllen = sizeof(control.at);
        c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &passed_fd, sizeof(int));
    }
    (void)sendmsg(socket_fd, &message, MSG_NOSIGNAL);
}

static void host_serve(int socket_fd) NORETURN;
static void host_serve(int socket_fd)
{
    struct addr at;

    while (recv(socket_fd, &at, sizeof(at), 0) == (ssize_t)sizeof(at)) {
        int fd = -1;
        int err = sock_listen(&at, false, BACKLOG, &fd);

        reply_send(socket_fd, err, fd);
        if (err == 0) {
            close(fd);
        }
    }
    _exit(0);
}

/* A child that holds nothing of its parent but one descriptor, and does not outlive it. */
static void child_detach(int keep_fd, pid_t parent)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(0); /* it died before that was set */
    }
    prctl(PR_SET_NAME, "tulle-host");
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) {
        sigaction(ignored[i], &ignore, NULL); /* Ctrl-C is the supervisor's; it still needs us */
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    net_keep_only(keep_fd);
}

/* --- in the supervisor ------------------------------------------------------------------------ */

int net_host_start(struct net *n)
{
    pid_t parent = getpid();
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        return -errno;
    }
    n->host_pid = fork();
    if (n->host_pid == 0) {
        child_detach(fds[1], parent);
        host_serve(fds[1]);
    }
    close(fds[1]);
    if (n->host_pid < 0) {
        close(fds[0]);
        return -EAGAIN;
    }
    n->host_fd = fds[0];
    return 0;
}

void net_host_stop(struct net *n)
{
    if (n->host_fd >= 0) {
        close(n->host_fd);
        n->host_fd = -1;
        (void)kill(n->host_pid, SIGKILL);
        while (waitpid(n->host_pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
}

int net_host_listen(struct net *n, const struct addr *at, int *out_fd)
{
    struct reply reply = {.err = 0};
    struct iovec iov = {.iov_base = &reply, .iov_len = sizeof(reply)};
    union control control = {.at = {0}};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.at,
                             .msg_controllen = sizeof(control.at)};
    struct cmsghdr *c;
    ssize_t got;

    if (send(n->host_fd, at, sizeof(*at), MSG_NOSIGNAL) != (ssize_t)sizeof(*at)) {
        return -errno;
    }
    do {
        got = recvmsg(n->host_fd, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof(reply)) {
        return got < 0 ? -errno : E_CLOSED;
    }
    if (reply.err != 0) {
        return reply.err;
    }
    c = CMSG_FIRSTHDR(&message);
    if (c == NULL || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int))) {
        return -EMFILE; /* the kernel drops a descriptor that we have no room for */
    }
    memcpy(out_fd, CMSG_DATA(c), sizeof(int));
    return 0;
}
