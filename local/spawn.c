/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/err.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * From fork to exec. The child is alone in its process: what fails here it says on its standard error
 * and, for the supervisor, into a pipe that a successful exec closes; it ends with status 125 (our
 * doing), 126 (cannot be executed) or 127 (no such program).
 */
#define STATUS_SETUP    125
#define STATUS_NOEXEC   126
#define STATUS_NOPROG   127
#define ARENA_BYTES_MAX (8u << 20)

static struct rlimit files_limit; /* what our children get */

void spawn_init(void)
{
    if (getrlimit(RLIMIT_NOFILE, &files_limit) != 0) {
        files_limit = (struct rlimit){.rlim_cur = 1024, .rlim_max = 1024};
    }
}

void spawn_kill(pid_t pid, int signo)
{
    /* The whole group, for shells forward nothing; a child that has not come to make its own yet is alone. */
    if (kill(-pid, signo) != 0) {
        (void)kill(pid, signo);
    }
}

/* --- in the child -------------------------------------------------------------------------------- */

struct child {
    struct container *container;
    const struct spawn *spawn;
    int setup_fd;
};

static void die(const struct child *k, int status, const char *format, ...)
    PRINTF_LIKE(3, 4) NORETURN;
static void die(const struct child *k, int status, const char *format, ...)
{
    char text[REASON_BYTES - 1];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)!write(k->setup_fd, text, strlen(text));
    (void)dprintf(STDERR_FILENO, "tulle: %s\n", text);
    _exit(status);
}

static void take_streams(const struct child *k)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int i = 0; i < 3; i++) {
        if (dup2(k->spawn->fds[i] >= 0 ? k->spawn->fds[i] : null, i) < 0) {
            die(k, STATUS_SETUP, "its standard streams cannot be opened: %s", err_text(-errno));
        }
    }
    (void)close_range(3u, ~0u, CLOSE_RANGE_CLOEXEC);
    (void)setsid();
    if (k->spawn->has_terminal) {
        (void)ioctl(STDIN_FILENO, TIOCSCTTY,
                    0); /* without it a shell works, but for its job control */
    }
}

/*
 * As a process of its own begins: every signal by default, none blocked. Straight to the kernel, for
 * the C library refuses to name the two that it keeps for itself, which whoever started us may have
 * left ignored.
 */
static void reset_signals(void)
{
    static const struct { /* struct sigaction as the kernel has it: handler, flags, restorer, mask */
        unsigned long words[4];
    } by_default;
    sigset_t none;

    for (int signo = 1; signo < NSIG; signo++) {
        (void)syscall(SYS_rt_sigaction, signo, &by_default, NULL, sizeof(by_default.words[3]));
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void enter(const struct child *k)
{
    const struct container *c = k->container;
    const char *what = "";
    int rc = net_pod_enter(c->pod->home->net, &c->pod->net);

    if (rc != 0) {
        die(k, STATUS_SETUP, "the pod's namespaces cannot be entered: %s", err_text(rc));
    }
    rc = mounts_apply(c, &what);
    if (rc != 0) {
        die(k, STATUS_SETUP, "%s cannot be mounted: %s", what, err_text(rc));
    }
}

/* What to do about a program that was not executed. */
static const char *advice(const char *program, int err)
{
    struct stat st;

    if (strchr(program, '/') == NULL) {
        return "; it is looked for in PATH, that of `tulle local up` unless env sets another";
    }
    if (stat(program, &st) != 0) {
        return err == ENOENT ? "; a local home has no images, but the programs of this machine: install "
                               "it, or correct `command`"
                             : "";
    }
    if (err == ENOENT) {
        return ", though the file is there: what is not there is its interpreter, which its first line "
               "(#!) or its header names; install that, or correct the line";
    }
    if (err == EACCES && S_ISDIR(st.st_mode)) {
        return "; it is a folder: correct `command`";
    }
    if (err == EACCES) {
        return access(program, X_OK) != 0
                   ? "; it is not executable for the user of the container: chmod a+x, or correct `command`"
                   : "; its interpreter, which its first line (#!) names, or its file system (noexec) does "
                     "not let it be executed";
    }
    return "";
}

static void execute(const struct child *k, char *const *argv)
{
    int err;

    (void)execvp(argv[0], argv);
    err = errno;
    die(k, err == ENOENT ? STATUS_NOPROG : STATUS_NOEXEC, "\"%.150s\" cannot be run: %s%s", argv[0],
        err_text(-err), advice(argv[0], err));
}

/* What this one process gets besides what its container's manifest says. */
static void add_own(const struct child *k, struct arena *a, struct process_args *args)
{
    size_t count = 0;
    char **env;

    if (k->spawn->program != NULL) {
        args->argv[0] = arena_strdup(a, bytes_str(k->spawn->program));
    }
    if (k->spawn->notify != NULL) {
        while (args->env[count] != NULL) {
            count++;
        }
        env = arena_new(a, (count + 2) * sizeof(*env));
        memcpy(env, args->env, count * sizeof(*env));
        env[count] = arena_printf(a, "NOTIFY_SOCKET=%s", k->spawn->notify);
        args->env = env;
    }
}

static void child(const struct child *k) NORETURN;
static void child(const struct child *k)
{
    struct process_args args;
    struct arena arena;
    const char *denied = "";
    char problem[200];
    int rc;

    take_streams(k);
    enter(k);
    arena_init(&arena, ARENA_BYTES_MAX);
    if (process_args_make(k->container, k->spawn->term, &arena, &args, problem, sizeof(problem)) !=
        0) {
        die(k, STATUS_SETUP, "%s", problem);
    }
    add_own(k, &arena, &args);
    if (chdir(args.cwd) != 0) {
        if (json_text(k->container->spec, "workingDir") != NULL) {
            die(k, STATUS_SETUP, "its working directory %s cannot be entered: %s", args.cwd,
                err_text(-errno));
        }
        (void)!chdir("/");
    }
    (void)setrlimit(RLIMIT_NOFILE, &files_limit);
    rc = privilege_apply(k->container, &denied);
    if (rc != 0) {
        die(k, STATUS_SETUP, "%s: %s", denied, err_text(rc));
    }
    reset_signals();
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    environ = args.env; /* whose PATH is searched */
    execute(k, k->spawn->argv != NULL ? k->spawn->argv : args.argv);
    _exit(STATUS_SETUP);
}

/* --- in the supervisor --------------------------------------------------------------------------- */

int spawn_in(struct container *c, const struct spawn *s, pid_t *out_pid, int *out_setup_fd)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        return -errno;
    }
    pid = fork();
    if (pid == 0) {
        child(&(struct child){.container = c, .spawn = s, .setup_fd = fds[1]});
    }
    (void)close(fds[1]);
    if (pid < 0 || out_setup_fd == NULL) {
        (void)close(fds[0]);
    } else {
        *out_setup_fd = fds[0];
    }
    if (pid < 0) {
        return -EAGAIN;
    }
    *out_pid = pid;
    return 0;
}
