/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "local/net_private.h"

#define EXIT_NO_PROGRAM 127

char *net_find_program(const char *name)
{
    const char *path = getenv("PATH");
    AUTOFREE char *folders =
        mem_printf("%s:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", path != NULL ? path : "");
    struct bytes rest = bytes_str(folders), folder;
    bool more = true;

    while (more) {
        char *candidate;

        more = bytes_split(rest, ':', &folder, &rest);
        if (folder.len == 0 || folder.at[0] != '/') {
            continue; /* never from the working directory */
        }
        candidate = mem_printf(BYTES_FMT "/%s", BYTES_ARG(folder), name);
        if (access(candidate, X_OK) == 0) {
            return candidate;
        }
        mem_free(candidate);
    }
    return NULL;
}

static int write_all(int fd, struct bytes b)
{
    while (b.len > 0) {
        ssize_t n = write(fd, b.at, b.len);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        b = bytes_from(b, n > 0 ? (size_t)n : 0);
    }
    return 0;
}

int net_file_write(const char *path, struct bytes content)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int err;

    if (fd < 0) {
        return -errno;
    }
    err = write_all(fd, content);
    if (close(fd) != 0 && err == 0) {
        err = -errno;
    }
    return err;
}

int net_sysctl(const char *name, const char *value)
{
    AUTOFREE char *path = mem_printf("/proc/sys/net/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int err;

    if (fd < 0) {
        return -errno;
    }
    err = write_all(fd, bytes_str(value));
    close(fd);
    return err;
}

/* In memory, not through a pipe: the program may write before it has read all. */
static int input_open(struct bytes input)
{
    int fd = memfd_create("tulle-input", MFD_CLOEXEC);
    int err;

    if (fd < 0) {
        return -errno;
    }
    err = write_all(fd, input);
    if (err != 0) {
        close(fd);
        return err;
    }
    (void)lseek(fd, 0, SEEK_SET); /* cannot fail on a file in memory */
    return fd;
}

static void child_exec(const struct net_run *r, int in_fd, int out_fd) NORETURN;
static void child_exec(const struct net_run *r, int in_fd, int out_fd)
{
    /* The program's names are passed on as execve's type wants them; it does not change them. */
    union {
        const char *const *given;
        char *const *wanted;
    } argv = {.given = r->argv};
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if ((r->netns_fd < 0 || setns(r->netns_fd, CLONE_NEWNET) == 0) &&
        dup2(in_fd, STDIN_FILENO) >= 0 && dup2(out_fd, STDOUT_FILENO) >= 0 &&
        dup2(out_fd, STDERR_FILENO) >= 0) {
        int passed = r->pass_fd;

        if (passed == NET_PASSED_FD) {
            (void)fcntl(passed, F_SETFD, 0);
        } else if (passed >= 0) {
            (void)dup2(passed, NET_PASSED_FD);
        }
        execv(r->argv[0], argv.wanted);
    }
    _exit(EXIT_NO_PROGRAM);
}

static void collect(int fd, struct text *to)
{
    char buffer[8192];
    ssize_t n;

    do {
        n = read(fd, buffer, sizeof(buffer));
        if (n > 0) {
            text_add(to, bytes_of(buffer, (size_t)n));
        }
    } while (n > 0 || (n < 0 && errno == EINTR));
}

static int spawn(const struct net_run *r, struct text *out, int *out_status)
{
    int pipe_fds[2], err = 0;
    int in_fd = input_open(r->input);
    pid_t pid;

    if (in_fd < 0) {
        return in_fd;
    }
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        close(in_fd);
        return -errno;
    }
    pid = fork();
    if (pid == 0) {
        child_exec(r, in_fd, pipe_fds[1]);
    }
    err = pid < 0 ? -errno : 0;
    close(in_fd);
    close(pipe_fds[1]);
    if (pid > 0) {
        collect(pipe_fds[0], out);
        while (waitpid(pid, out_status, 0) < 0 && errno == EINTR) {
        }
    }
    close(pipe_fds[0]);
    return err;
}

int net_run(const struct net_run *r, struct text *out, char *problem, size_t problem_bytes)
{
    struct text said;
    struct bytes line, rest;
    int status = 0;
    int err;

    text_init(&said, NET_RUN_BYTES);
    err = spawn(r, &said, &status);
    if (err != 0) {
        snprintf(problem, problem_bytes, "cannot run %s: %s", r->argv[0], err_text(err));
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        (void)bytes_split(text_bytes(&said), '\n', &line, &rest);
        snprintf(problem, problem_bytes, "%s failed (%s %d): " BYTES_FMT, r->argv[0],
                 WIFEXITED(status) ? "exit code" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
                 BYTES_ARG(bytes_first(line, MIN(line.len, 300))));
        err = E_CONFIG;
    } else if (out != NULL) {
        text_add(out, text_bytes(&said));
    }
    text_clear(&said);
    return err;
}
