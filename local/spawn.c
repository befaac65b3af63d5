/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/err.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * From fork to exec. The child is alone in its process: what fails here is written to the container's log
 * with what it was, and ends it with status 125 (our doing) or 127 (no such program).
 */
#define STATUS_SETUP  125
#define STATUS_NOEXEC 126
#define STATUS_NOPROG 127

/* What a container may do beyond an ordinary process: the defaults of Kubernetes, without NET_RAW. */
static const unsigned char kept_capabilities[] = {
    CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,           CAP_FSETID,     CAP_KILL,    CAP_SETGID,
    CAP_SETUID, CAP_SETPCAP,      CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_SETFCAP,
};

static void die(const char *what, int err) NORETURN;
static void die(const char *what, int err)
{
    (void)dprintf(STDERR_FILENO, "tulle: the container cannot be started: %s: %s\n", what,
                  err_text(err));
    _exit(STATUS_SETUP);
}

static bool is_added(const struct container *c, const char *capability)
{
    const json_t *add = json_at(c->spec, "securityContext.capabilities.add");
    const json_t *item;
    size_t i;

    json_array_foreach(add, i, item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), capability) == 0) {
            return true;
        }
    }
    return false;
}

static bool keeps(const struct container *c, unsigned capability)
{
    for (size_t i = 0; i < ARRAY_LEN(kept_capabilities); i++) {
        if (kept_capabilities[i] == capability) {
            return true;
        }
    }
    if (capability == CAP_NET_ADMIN) {
        /* Without real uids the proxy marks its sockets instead, which needs this. */
        return is_added(c, "NET_ADMIN") ||
               (!c->pod->home->is_root && strcmp(c->name, "linkerd-proxy") == 0);
    }
    return capability == CAP_NET_RAW && is_added(c, "NET_RAW");
}

static void drop_capabilities(const struct container *c, bool keep_for_uid)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++) {
        if (keeps(c, cap)) {
            data[cap / 32].effective |= 1u << (cap % 32);
            data[cap / 32].permitted |= 1u << (cap % 32);
        } else {
            (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
        }
    }
    if (!keep_for_uid && syscall(SYS_capset, &header, data) != 0) {
        die("dropping capabilities", -errno);
    }
}

static void become_user(const struct container *c)
{
    int64_t uid = json_number(c->spec, "securityContext.runAsUser", -1);
    int64_t gid = json_number(c->spec, "securityContext.runAsGroup", uid);

    if (uid < 0) {
        uid = json_number(c->pod->json, "spec.securityContext.runAsUser", -1);
        gid = json_number(c->pod->json, "spec.securityContext.runAsGroup", uid);
    }
    if (uid <= 0 || !c->pod->home->is_root) {
        drop_capabilities(c, false);
        return;
    }
    if (is_added(c,
                 "NET_ADMIN")) { /* keeps its capabilities through an exec: root is who it stays */
        drop_capabilities(c, false);
        return;
    }
    drop_capabilities(c, true);
    if (syscall(SYS_setgroups, 0, NULL) != 0 ||
        syscall(SYS_setresgid, (gid_t)gid, (gid_t)gid, (gid_t)gid) != 0 ||
        syscall(SYS_setresuid, (uid_t)uid, (uid_t)uid, (uid_t)uid) != 0) {
        die("changing to the user of securityContext.runAsUser", -errno);
    }
}

static void take_streams(const int fds[3])
{
    int null = open("/dev/null", O_RDWR);

    for (int i = 0; i < 3; i++) {
        if (dup2(fds[i] >= 0 ? fds[i] : null, i) < 0) {
            _exit(STATUS_SETUP);
        }
    }
    if (null > 2) {
        (void)close(null);
    }
    (void)syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
}

static void child(struct container *c, char *const argv[], const int fds[3]) NORETURN;
static void child(struct container *c, char *const argv[], const int fds[3])
{
    struct process_args args;
    struct arena arena;
    char problem[256];
    sigset_t none;
    int rc;

    (void)setsid();
    take_streams(fds);
    rc = net_pod_enter(c->pod->home->net, &c->pod->net);
    if (rc != 0) {
        die("entering the pod's namespaces", rc);
    }
    rc = mounts_apply(c);
    if (rc != 0) {
        die("mounting its volumes", rc);
    }
    arena_init(&arena, 8u << 20);
    rc = process_args_make(c, &arena, &args, problem, sizeof(problem));
    if (rc != 0) {
        die(problem, rc);
    }
    if (chdir(args.cwd) != 0 && chdir("/") != 0) {
        die("changing to its working directory", -errno);
    }
    become_user(c);
    for (int signo = 1; signo < NSIG; signo++) {
        if (signo != SIGKILL && signo != SIGSTOP) {
            struct sigaction action = {.sa_handler = SIG_DFL};

            (void)sigaction(signo, &action, NULL);
        }
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    argv = argv != NULL ? argv : args.argv;
    environ = args.env; /* whose PATH is searched */
    (void)execvp(argv[0], argv);
    rc = -errno;
    (void)dprintf(STDERR_FILENO, "tulle: \"%s\" cannot be run: %s; PATH is %s\n", argv[0],
                  err_text(rc), getenv("PATH") != NULL ? getenv("PATH") : "not set");
    _exit(rc == -ENOENT ? STATUS_NOPROG : STATUS_NOEXEC);
}

int spawn_in(struct container *c, char *const argv[], const int fds[3], pid_t *out_pid)
{
    pid_t pid = fork();

    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        child(c, argv, fds);
    }
    *out_pid = pid;
    return 0;
}
