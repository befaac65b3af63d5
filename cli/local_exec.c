/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local.h"

#include "core/alloc.h"
#include "core/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

/*
 * The program gets the caller's standard streams themselves, so what passes through a pipe passes no
 * process of ours. With a terminal it gets one of its own (a pseudo terminal), for a session has its
 * own terminal and the caller's belongs to the caller's; we carry bytes and the window's size between
 * the two.
 */
#define PART_BYTES       4096
#define ANSWER_BYTES_MAX 65536

struct session {
    int socket_fd; /* to the supervisor */
    int master_fd; /* our end of the program's terminal; -1: it has none */
    bool stdin_ended;
    struct text answer;
};

static int wake_fds[2] = {-1, -1}; /* the window's size has changed */

static void on_window(int signo UNUSED)
{
    int saved = errno;

    (void)!write(wake_fds[1], "", 1);
    errno = saved;
}

/* --- the request --------------------------------------------------------------------------------- */

/* With its first byte go the three streams. */
static int send_request(int fd, const char *line, const int streams[3])
{
    union {
        struct cmsghdr header;
        char at[CMSG_SPACE(3 * sizeof(int))];
    } control = {.at = {0}};
    struct iovec iov = {.iov_base = (char *)(uintptr_t)line, .iov_len = strlen(line)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.at,
                       .msg_controllen = sizeof(control.at)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    size_t sent;
    ssize_t n;

    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(3 * sizeof(int));
    memcpy(CMSG_DATA(h), streams, 3 * sizeof(int));
    n = sendmsg(fd, &m, MSG_NOSIGNAL);
    for (sent = n > 0 ? (size_t)n : 0; n > 0 && sent < iov.iov_len;
         sent += (size_t)MAX(n, (ssize_t)0)) {
        n = send(fd, line + sent, iov.iov_len - sent, MSG_NOSIGNAL);
    }
    return n < 0 ? -errno : 0;
}

/* --- the terminal -------------------------------------------------------------------------------- */

static void copy_window(int to)
{
    struct winsize size;

    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) {
        (void)ioctl(to, TIOCSWINSZ, &size);
    }
}

/* A terminal for the program, set like ours. */
static int open_terminal(int *out_master, int *out_slave)
{
    struct termios settings;
    char name[64];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave = -1, rc = 0;

    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0 ||
        ptsname_r(master, name, sizeof(name)) != 0 ||
        (slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
        rc = -errno;
    }
    if (rc != 0) {
        if (master >= 0) {
            (void)close(master);
        }
        return rc;
    }
    if (tcgetattr(STDIN_FILENO, &settings) == 0) {
        (void)tcsetattr(slave, TCSANOW, &settings);
    }
    copy_window(master);
    *out_master = master;
    *out_slave = slave;
    return 0;
}

static bool write_all(int fd, const char *from, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(fd, from, bytes);

        if (n < 0 && errno != EINTR) {
            return false;
        }
        from += MAX(n, (ssize_t)0);
        bytes -= (size_t)MAX(n, (ssize_t)0);
    }
    return true;
}

/* False at the end of what can be read. */
static bool carry(int from, int to)
{
    char part[PART_BYTES];
    ssize_t n = read(from, part, sizeof(part));

    return n > 0 ? write_all(to, part, (size_t)n) : n < 0 && (errno == EINTR || errno == EAGAIN);
}

static void drain_wakes(void)
{
    char part[64];

    while (read(wake_fds[0], part, sizeof(part)) > 0) {
    }
}

/* --- until it has ended -------------------------------------------------------------------------- */

/* False once the supervisor has closed the connection, after its answer. */
static bool take_answer(struct session *s)
{
    char part[PART_BYTES];
    ssize_t n = read(s->socket_fd, part, sizeof(part));

    if (n > 0) {
        text_add(&s->answer, bytes_of(part, (size_t)n));
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

static void attend(struct session *s)
{
    bool goes_on = true;

    while (goes_on) {
        struct pollfd p[4] = {
            {.fd = s->socket_fd, .events = POLLIN},
            {.fd = s->master_fd, .events = POLLIN},
            {.fd = s->master_fd >= 0 && !s->stdin_ended ? STDIN_FILENO : -1, .events = POLLIN},
            {.fd = s->master_fd >= 0 ? wake_fds[0] : -1, .events = POLLIN},
        };

        if (poll(p, ARRAY_LEN(p), -1) < 0) {
            continue;
        }
        if (p[3].revents != 0) {
            drain_wakes();
            copy_window(s->master_fd);
        }
        if (p[2].revents != 0) {
            s->stdin_ended = !carry(STDIN_FILENO, s->master_fd);
        }
        if (p[1].revents != 0 && !carry(s->master_fd, STDOUT_FILENO)) {
            (void)close(s->master_fd); /* all that had the terminal open have closed it */
            s->master_fd = -1;
        }
        if (p[0].revents != 0 && (p[1].revents & POLLIN) == 0) { /* its last words first */
            goes_on = take_answer(s);
        }
    }
}

static int run_in_terminal(struct session *s)
{
    struct sigaction window = {.sa_handler = on_window, .sa_flags = SA_RESTART};
    struct termios before, raw;
    bool is_raw = false;

    if (pipe2(wake_fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        return -errno;
    }
    (void)sigaction(SIGWINCH, &window, NULL);
    if (tcgetattr(STDIN_FILENO, &before) == 0) {
        raw = before;
        cfmakeraw(&raw);
        is_raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    attend(s);
    if (is_raw) {
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    }
    return 0;
}

/* What the answer says: the program's status, or why it could not be run. */
static int judge(const struct session *s)
{
    json_t *j = s->answer.len > 0 ? json_loadb(s->answer.at, s->answer.len, 0, NULL) : NULL;
    int status;

    if (j == NULL) {
        return cli_fail("the home ended before the command did");
    }
    if (json_is_true(json_object_get(j, "ok"))) {
        status = (int)json_integer_value(json_object_get(j, "status"));
    } else {
        status = cli_fail("%s", local_text(j, "error"));
    }
    json_decref(j);
    return status;
}

static int run(const char *path, const char *line, bool has_terminal)
{
    struct session s = {.socket_fd = -1, .master_fd = -1};
    int streams[3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}, slave = -1, status, rc;
    char others[OTHERS_BYTES];

    text_init(&s.answer, ANSWER_BYTES_MAX);
    rc = home_connect(path, &s.socket_fd);
    if (rc == 0 && has_terminal) {
        rc = open_terminal(&s.master_fd, &slave);
        streams[0] = streams[1] = streams[2] = slave;
    }
    if (rc == 0) {
        rc = send_request(s.socket_fd, line, streams);
    }
    if (slave >= 0) {
        (void)close(slave);
    }
    if (rc == 0 && has_terminal) {
        rc = run_in_terminal(&s);
    } else if (rc == 0) {
        attend(&s);
    }
    status = rc == 0 ? judge(&s)
             : rc == E_NOT_FOUND
                 ? cli_fail("no home runs at %s; `tulle local up` starts one%s", path,
                            home_others(path, others, sizeof(others)))
                 : cli_fail("the home at %s cannot be asked: %s", path, err_text(rc));
    text_clear(&s.answer);
    if (s.socket_fd >= 0) {
        (void)close(s.socket_fd);
    }
    if (s.master_fd >= 0) {
        (void)close(s.master_fd);
    }
    return status;
}

/* --- the command line ---------------------------------------------------------------------------- */

struct exec_options {
    struct local_target target;
    const char *ns, *container;
    bool has_stdin, has_terminal;
};

static char *request(const struct exec_options *o, const struct opt_list *args)
{
    json_t *command = json_array(), *j;
    const char *term = getenv("TERM");
    char *text, *line = NULL;

    for (size_t i = 1; i < args->count; i++) {
        json_array_append_new(command, json_string(args->items[i]));
    }
    if (json_array_size(command) + 1 != args->count) {
        json_decref(command);
        (void)cli_fail("local exec: an argument is no valid text (UTF-8)");
        return NULL;
    }
    j = json_pack("{s:s, s:s, s:s, s:o, s:b}", "command", "exec", "namespace", o->ns, "pod",
                  local_name(args->items[0]), "argv", command, "terminal", o->has_terminal);
    if (o->container != NULL) {
        json_object_set_new(j, "container", json_string(o->container));
    }
    if (o->has_terminal && term != NULL) {
        json_object_set_new(j, "term", json_string(term));
    }
    text = json_dumps(j, JSON_COMPACT);
    if (text == NULL) {
        (void)cli_fail("local exec: an argument is no valid text (UTF-8)");
    } else {
        line = mem_printf("%s\n", text);
    }
    mem_free(text);
    json_decref(j);
    return line;
}

/* In the background, as under timeout(1), who changes the terminal's mode is stopped; for a terminal that
 * does not control the process (-1) nobody is. */
static bool is_foreground(void)
{
    pid_t group = tcgetpgrp(STDIN_FILENO);

    return group < 0 || group == getpgrp();
}

int local_exec(int argc, char **argv)
{
    bool is_terminal = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && is_foreground();
    struct exec_options o = {.ns = "default", .has_stdin = true, .has_terminal = is_terminal};
    const struct opt opts[] = {
        LOCAL_TARGET_OPTS(&o.target),
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the pod (default)", &o.ns},
        {"container", 'c', OPT_STRING, "NAME",
         "container; the first application container unless said", &o.container},
        {"stdin", 'i', OPT_BOOL, NULL, "pass standard input on (it always is)", &o.has_stdin},
        {"tty", 't', OPT_BOOL, NULL,
         "give it a terminal (it has one where we have; --tty=false: none)", &o.has_terminal},
    };
    char path[HOME_PATH_MAX];
    struct opt_list args = {0};
    char *line = NULL;
    int status;

    if (!cli_parse("local exec POD|DEPLOYMENT [options] -- COMMAND...", opts, ARRAY_LEN(opts), argc,
                   argv, &args, &status)) {
        return status;
    }
    if (o.has_terminal && !is_terminal) {
        (void)fprintf(stderr, "tulle: input or output is no terminal: the command gets none\n");
        o.has_terminal = false;
    }
    status = EXIT_USAGE;
    if (args.count < 2) {
        (void)cli_fail("local exec: name a pod and, behind --, a command");
    } else if (local_path(&o.target, path)) {
        line = request(&o, &args);
        status = line != NULL ? run(path, line, o.has_terminal) : 1;
    }
    mem_free(line);
    opt_list_clear(&args);
    return status;
}
