/* SPDX-License-Identifier: Apache-2.0 */
#include "init/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/err.h"
#include "core/text.h"
#include "init/rules.h"

#define CLOSE_WAIT_PATH "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"
#define NFT_SAYS_BYTES  1024 /* of what nft says, as much as fits into a message */
#define EXIT_NO_PROGRAM 127

struct run {
    char said[NFT_SAYS_BYTES]; /* standard output and error, cut off at the end */
    size_t said_bytes;
    int exit_code; /* EXIT_NO_PROGRAM when it could not be started, 128 + n after signal n */
};

int apply_netns(const char *path, char *problem, size_t problem_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int err = 0;

    if (fd < 0) {
        err = -errno;
        snprintf(problem, problem_bytes, "--netns: cannot open %s: %s", path, err_text(err));
        return err;
    }
    if (setns(fd, CLONE_NEWNET) != 0) {
        err = -errno;
        snprintf(problem, problem_bytes,
                 err == -EPERM ? "--netns: cannot enter %s: %s; run as root"
                               : "--netns: cannot enter %s: %s; is it a network namespace?",
                 path, err_text(err));
    }
    close(fd);
    return err;
}

bool apply_has_ipv6(void)
{
    return access("/proc/net/if_inet6", F_OK) == 0;
}

/* A file in memory with the script, to be the program's standard input: it cannot fill up as a
 * pipe can while the program is still writing. */
static int script_open(struct bytes script)
{
    int fd = memfd_create("tulle-init", MFD_CLOEXEC);

    while (fd >= 0 && script.len > 0) {
        ssize_t n = write(fd, script.at, script.len);

        if (n <= 0) {
            int err = -errno;

            close(fd);
            return err;
        }
        script = bytes_from(script, (size_t)n);
    }
    if (fd < 0) {
        return -errno;
    }
    (void)lseek(fd, 0, SEEK_SET); /* cannot fail on a file in memory */
    return fd;
}

static void run_child(const char *program, int in_fd, int out_fd) NORETURN;
static void run_child(const char *program, int in_fd, int out_fd)
{
    if (dup2(in_fd, STDIN_FILENO) == STDIN_FILENO && dup2(out_fd, STDOUT_FILENO) == STDOUT_FILENO &&
        dup2(out_fd, STDERR_FILENO) == STDERR_FILENO) {
        char sbin[256];

        execlp(program, program, "-f", "-", (char *)NULL);
        /* Paths of containers and users often lack the folder that Debian puts nft into. */
        if (strchr(program, '/') == NULL &&
            snprintf(sbin, sizeof(sbin), "/usr/sbin/%s", program) < (int)sizeof(sbin)) {
            execl(sbin, program, "-f", "-", (char *)NULL);
        }
    }
    _exit(EXIT_NO_PROGRAM);
}

/* Read to the end, keep what fits. */
static void run_listen(struct run *r, int fd)
{
    char spill[256];
    ssize_t n;

    do {
        size_t room = sizeof(r->said) - 1 - r->said_bytes;

        n = room > 0 ? read(fd, r->said + r->said_bytes, room) : read(fd, spill, sizeof(spill));
        if (n > 0 && room > 0) {
            r->said_bytes += (size_t)n;
        }
    } while (n > 0 || (n < 0 && errno == EINTR));
    r->said[r->said_bytes] = '\0';
}

static int run_program(const char *program, struct bytes script, struct run *r)
{
    int in_fd = script_open(script);
    int pipe_fds[2], status = 0;
    pid_t pid;

    memset(r, 0, sizeof(*r));
    if (in_fd < 0) {
        return in_fd;
    }
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        close(in_fd);
        return -errno;
    }
    pid = fork();
    if (pid == 0) {
        run_child(program, in_fd, pipe_fds[1]);
    }
    close(in_fd);
    close(pipe_fds[1]);
    if (pid > 0) {
        run_listen(r, pipe_fds[0]);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        r->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    close(pipe_fds[0]);
    return pid < 0 ? -EAGAIN : 0;
}

/* The first line that the program said, for a message of one line. */
static struct bytes first_line(const struct run *r)
{
    struct bytes head, rest;

    (void)bytes_split(bytes_of(r->said, r->said_bytes), '\n', &head, &rest);
    return bytes_trim(head, " \t\r");
}

static int run_nft(const char *program, struct bytes script, char *problem, size_t problem_bytes)
{
    struct run r;
    struct bytes said;
    size_t offset;
    int err = run_program(program, script, &r);

    if (err != 0) {
        snprintf(problem, problem_bytes, "cannot run %s: %s", program, err_text(err));
        return err;
    }
    if (r.exit_code == 0) {
        return 0;
    }
    said = first_line(&r);
    if (r.exit_code == EXIT_NO_PROGRAM && said.len == 0) {
        snprintf(problem, problem_bytes,
                 "cannot run the program %s: install the package nftables, or name the program "
                 "with --firewall-bin",
                 program);
        return E_NOT_FOUND;
    }
    if (bytes_find(bytes_of(r.said, r.said_bytes), BYTES("Operation not permitted"), &offset)) {
        snprintf(problem, problem_bytes,
                 "not permitted to change the firewall of this network namespace: run as root, or "
                 "give the container the capability NET_ADMIN (" BYTES_FMT ")",
                 BYTES_ARG(said));
        return -EPERM;
    }
    snprintf(problem, problem_bytes,
             "%s refused the rules with exit code %d: " BYTES_FMT
             "; the firewall is as it was. Does this kernel have nf_tables with NAT for the family "
             "inet (5.2 or newer)?",
             program, r.exit_code, BYTES_ARG(said));
    return E_CONFIG;
}

static int sysctl_read(uint32_t *out_value)
{
    int fd = open(CLOSE_WAIT_PATH, O_RDONLY | O_CLOEXEC);
    char text[32];
    uint64_t value;
    ssize_t n;

    if (fd < 0) {
        return -errno;
    }
    n = read(fd, text, sizeof(text));
    close(fd);
    if (n <= 0 ||
        bytes_to_u64(bytes_trim(bytes_of(text, (size_t)n), "\n"), UINT32_MAX, &value) != 0) {
        return E_SYNTAX;
    }
    *out_value = (uint32_t)value;
    return 0;
}

static int sysctl_write(uint32_t value)
{
    int fd = open(CLOSE_WAIT_PATH, O_WRONLY | O_CLOEXEC);
    char text[32];
    int length = snprintf(text, sizeof(text), "%u", value);
    int err = 0;

    if (fd < 0) {
        return -errno;
    }
    if (write(fd, text, (size_t)length) != length) {
        err = -errno;
    }
    close(fd);
    return err;
}

static int refuse_sysctl(int err, char *problem, size_t problem_bytes)
{
    snprintf(problem, problem_bytes,
             "--timeout-close-wait-secs: cannot write " CLOSE_WAIT_PATH
             ": %s; run privileged, or leave the flag out",
             err_text(err));
    return err;
}

int apply_rules(const char *firewall_bin, struct bytes script, uint32_t close_wait_s, char *problem,
                size_t problem_bytes)
{
    uint32_t before = 0;
    bool has_sysctl = close_wait_s > 0 && sysctl_read(&before) == 0;
    struct text removal;
    char ignored[NFT_SAYS_BYTES];
    int err;

    if (has_sysctl && (err = sysctl_write(close_wait_s)) != 0) {
        return refuse_sysctl(err, problem, problem_bytes);
    }
    err = run_nft(firewall_bin, script, problem, problem_bytes);
    if (err != 0) {
        if (has_sysctl && sysctl_write(before) != 0) {
            size_t length = strlen(problem);

            snprintf(problem + length, problem_bytes - length,
                     "; the close-wait time-out could not be set back to %u", before);
        }
        return err;
    }
    if (close_wait_s == 0 || has_sysctl) {
        return 0;
    }
    /* The setting appears with connection tracking, which the rules have just brought in. */
    err = sysctl_write(close_wait_s);
    if (err != 0) {
        text_init(&removal, INIT_SCRIPT_BYTES);
        rules_write_removal(&removal);
        (void)run_nft(firewall_bin, text_bytes(&removal), ignored, sizeof(ignored));
        text_clear(&removal);
        return refuse_sysctl(err, problem, problem_bytes);
    }
    return 0;
}
