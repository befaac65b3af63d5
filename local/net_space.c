/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's own namespaces: it moves into a network and a mount namespace (inside a user
 * namespace when it lacks the right) and starts the first process of a pid namespace, in which all
 * its later children live.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "local/net_private.h"

#define SPACES (CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID)

void net_keep_only(int keep_fd)
{
    int null_fd = open("/dev/null", O_RDWR);
    int moved;

    for (int fd = 0; null_fd >= 0 && fd <= STDERR_FILENO; fd++) {
        (void)dup2(null_fd, fd);
    }
    if (keep_fd > STDERR_FILENO + 1) {
        (void)close_range(STDERR_FILENO + 1, (unsigned)keep_fd - 1, 0);
    }
    (void)close_range((unsigned)keep_fd + 1, ~0u, 0);
    moved = chdir("/"); /* hold no file system; where that fails, hold one */
    (void)moved;
}

/* --- the first process of the pid namespace --------------------------------------------------- */

/*
 * As long as it lives the namespace does; when it ends the kernel kills all others in it. It ends
 * when the pipe that only the supervisor holds closes, or by the signal of its parent's death:
 * either would do, but the first fails if a descriptor is leaked, the second if the supervisor's
 * forking thread ends. Orphans of the pods become its children; SIG_IGN makes the kernel reap them.
 */
static void init_serve(int pipe_fd) NORETURN;
static void init_serve(int pipe_fd)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t none;
    char byte;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* too late if it died before: then the pipe has ended */
    prctl(PR_SET_NAME, "tulle-home");
    sigaction(SIGCHLD, &ignore, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    net_keep_only(pipe_fd);
    while (read(pipe_fd, &byte, 1) < 0 && errno == EINTR) {
    }
    _exit(0);
}

static int init_start(struct net *n)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0) {
        return -errno;
    }
    n->init_pid = fork();
    if (n->init_pid == 0) {
        init_serve(fds[0]);
    }
    close(fds[0]);
    if (n->init_pid < 0) {
        close(fds[1]);
        return -EAGAIN;
    }
    n->init_fd = fds[1];
    return 0;
}

/* --- moving ----------------------------------------------------------------------------------- */

static bool sysctl_is(const char *path, char value)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char first = '\0';

    if (fd >= 0) {
        if (read(fd, &first, 1) != 1) {
            first = '\0';
        }
        close(fd);
    }
    return first == value;
}

/* What to change so that this user may make namespaces. */
static const char *advice(int err)
{
    if (err == -ENOSPC || sysctl_is("/proc/sys/user/max_user_namespaces", '0')) {
        return "raise the sysctl user.max_user_namespaces, or run as root";
    }
    if (sysctl_is("/proc/sys/kernel/unprivileged_userns_clone", '0')) {
        return "set the sysctl kernel.unprivileged_userns_clone=1, or run as root";
    }
    if (sysctl_is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", '1')) {
        return "set the sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root";
    }
    return "run as root; inside a container, allow the system call unshare (seccomp) and the "
           "capability SYS_ADMIN";
}

/* Become root of a user namespace, where programs that we run keep the right to configure it. */
static int map_user(uid_t uid, gid_t gid)
{
    AUTOFREE char *uid_map = mem_printf("0 %u 1\n", uid);
    AUTOFREE char *gid_map = mem_printf("0 %u 1\n", gid);

    TRY(net_file_write("/proc/self/setgroups", BYTES("deny")));
    TRY(net_file_write("/proc/self/uid_map", bytes_str(uid_map)));
    return net_file_write("/proc/self/gid_map", bytes_str(gid_map));
}

static int enter_spaces(void)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (uid == 0 && unshare(SPACES) == 0) {
        return 0;
    }
    if (uid == 0 && errno != EPERM) {
        return -errno;
    }
    if (unshare(CLONE_NEWUSER) != 0) {
        return -errno;
    }
    TRY(map_user(uid, gid));
    return unshare(SPACES) == 0 ? 0 : -errno;
}

int net_space_enter(struct net *n, char *problem, size_t problem_bytes)
{
    int err;

    n->old_pidns_fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    err = enter_spaces();
    if (err != 0) {
        snprintf(problem, problem_bytes,
                 "this machine does not let home \"%s\" make namespaces: %s; %s", n->home,
                 err_text(err), advice(err));
        return E_CONFIG;
    }
    err = init_start(n);
    if (err == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        err = -errno;
    }
    if (err == 0) {
        n->node_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        err = n->node_fd < 0 ? -errno : 0;
    }
    if (err != 0) {
        snprintf(problem, problem_bytes, "cannot set up the namespaces of home \"%s\": %s", n->home,
                 err_text(err));
    }
    return err;
}

void net_space_leave(struct net *n)
{
    pid_t ended;

    if (n->init_fd >= 0) {
        close(n->init_fd);
        n->init_fd = -1;
        (void)kill(n->init_pid, SIGKILL); /* a child may still hold the pipe */
        /* It is gone only when every process of its namespace has been waited for, and those that
         * we forked are ours to wait for. */
        do {
            ended = waitpid(-1, NULL, 0);
        } while (ended != n->init_pid && (ended >= 0 || errno == EINTR));
    }
    if (n->old_pidns_fd >= 0) {
        (void)setns(n->old_pidns_fd,
                    CLONE_NEWPID); /* not allowed without root; then no more forks */
        close(n->old_pidns_fd);
        n->old_pidns_fd = -1;
    }
    if (n->node_fd >= 0) {
        close(n->node_fd);
        n->node_fd = -1;
    }
}
