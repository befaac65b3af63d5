/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local.h"

#include "core/alloc.h"
#include "core/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

bool local_parse(const char *usage, const struct opt *opts, size_t count, int argc, char **argv,
                 const struct local_target *t, char path[HOME_PATH_MAX], int *out_status)
{
    struct opt_list args = {0};
    char problem[512];

    if (!cli_parse(usage, opts, count, argc, argv, &args, out_status)) {
        return false;
    }
    if (args.count > 0) {
        (void)cli_fail("local %s: \"%s\" is one argument too many", argv[0], args.items[0]);
        *out_status = EXIT_USAGE;
    } else if (home_path(t->home, t->state, path, problem, sizeof(problem)) != 0) {
        *out_status = cli_fail("%s", problem);
    } else {
        opt_list_clear(&args);
        return true;
    }
    opt_list_clear(&args);
    return false;
}

/* Ask, and give the answer as JSON; NULL after a problem was printed. */
static json_t *ask(const char *path, json_t *request)
{
    char *line = json_dumps(request, JSON_COMPACT), *answer = NULL, problem[512];
    json_t *j = NULL;

    json_decref(request);
    if (home_ask(path, line, &answer, problem, sizeof(problem)) != 0) {
        (void)cli_fail("%s", problem);
    } else {
        j = json_loads(answer, 0, NULL);
        if (!json_is_true(json_object_get(j, "ok"))) {
            (void)cli_fail("%s", json_string_value(json_object_get(j, "error")));
            json_decref(j);
            j = NULL;
        }
    }
    mem_free(line);
    mem_free(answer);
    return j;
}

/* --- logs ---------------------------------------------------------------------------------------- */

static const json_t *find_pod(const json_t *status, const char *ns, const char *name)
{
    const json_t *pod;
    size_t i;

    for (int by_workload = 0; by_workload < 2; by_workload++) {
        json_array_foreach(json_object_get(status, "pods"), i, pod)
        {
            if (strcmp(json_string_value(json_object_get(pod, "namespace")), ns) == 0 &&
                strcmp(json_string_value(json_object_get(pod, by_workload ? "workload" : "name")),
                       name) == 0) {
                return pod;
            }
        }
    }
    return NULL;
}

/* The application's container unless another is named. */
static const char *pick_container(const json_t *pod, const char *asked)
{
    const json_t *containers = json_object_get(pod, "containers"), *c;
    const char *last = NULL;
    size_t i;

    json_array_foreach(containers, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));

        if (asked != NULL && strcmp(asked, name) == 0) {
            return name;
        }
        if (asked == NULL && strncmp(name, "linkerd-", 8) != 0) {
            return name;
        }
        last = name;
    }
    return asked != NULL ? NULL : last;
}

static void copy_out(int fd)
{
    char part[65536];
    ssize_t n;

    while ((n = read(fd, part, sizeof(part))) > 0) {
        (void)fwrite(part, 1, (size_t)n, stdout);
    }
    (void)fflush(stdout);
}

static int show_log(const char *file, bool follow)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC), watch;
    char events[4096];

    if (fd < 0) {
        return cli_fail("%s: %s", file, err_text(-errno));
    }
    copy_out(fd);
    if (follow) {
        watch = inotify_init1(IN_CLOEXEC);
        if (watch < 0 ||
            inotify_add_watch(watch, file, IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF) < 0) {
            (void)close(fd);
            return cli_fail("%s cannot be followed: %s", file, err_text(-errno));
        }
        while (access(file, R_OK) == 0 && read(watch, events, sizeof(events)) > 0) {
            copy_out(fd);
        }
        (void)close(watch);
    }
    (void)close(fd);
    return 0;
}

int local_logs(int argc, char **argv)
{
    struct local_target t = {0};
    const char *ns = "default", *container = NULL;
    bool follow = false;
    const struct opt opts[] = {
        LOCAL_TARGET_OPTS(&t),
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the pod (default)", &ns},
        {"container", 'c', OPT_STRING, "NAME", "container; the application's unless said",
         &container},
        {"follow", 'f', OPT_BOOL, NULL, "go on as it writes", &follow},
    };
    char path[HOME_PATH_MAX], file[HOME_PATH_MAX + 512], problem[512];
    struct opt_list args = {0};
    const json_t *pod;
    json_t *status_json;
    int status;

    if (!cli_parse("local logs POD|DEPLOYMENT [options]", opts, ARRAY_LEN(opts), argc, argv, &args,
                   &status)) {
        return status;
    }
    if (args.count != 1) {
        opt_list_clear(&args);
        (void)cli_fail("local logs: name one pod or Deployment");
        return EXIT_USAGE;
    }
    if (home_path(t.home, t.state, path, problem, sizeof(problem)) != 0) {
        opt_list_clear(&args);
        return cli_fail("%s", problem);
    }
    status_json = ask(path, json_pack("{s:s}", "command", "status"));
    pod = find_pod(status_json, ns, args.items[0]);
    if (status_json == NULL) {
        status = 1;
    } else if (pod == NULL) {
        status = cli_fail("there is no pod or Deployment called %s in namespace %s; `tulle local "
                          "status` lists them",
                          args.items[0], ns);
    } else if (pick_container(pod, container) == NULL) {
        status = cli_fail("the pod has no container called %s", container);
    } else {
        (void)snprintf(file, sizeof(file), "%.3000s/logs/%s.%s.%s.log", path, ns,
                       json_string_value(json_object_get(pod, "name")),
                       pick_container(pod, container));
        status = show_log(file, follow);
    }
    json_decref(status_json);
    opt_list_clear(&args);
    return status;
}

/* --- restart ------------------------------------------------------------------------------------- */

int local_restart(int argc, char **argv)
{
    struct local_target t = {0};
    const char *ns = "default";
    const struct opt opts[] = {
        LOCAL_TARGET_OPTS(&t),
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the Deployment (default)", &ns},
    };
    char path[HOME_PATH_MAX], problem[512];
    struct opt_list args = {0};
    json_t *answer = NULL;
    int status;

    if (!cli_parse("local restart DEPLOYMENT|POD... [options]", opts, ARRAY_LEN(opts), argc, argv,
                   &args, &status)) {
        return status;
    }
    if (args.count == 0) {
        (void)cli_fail("local restart: name a Deployment or pod");
        return EXIT_USAGE;
    }
    status = 0;
    if (home_path(t.home, t.state, path, problem, sizeof(problem)) != 0) {
        status = cli_fail("%s", problem);
    }
    for (size_t i = 0; i < args.count && status == 0; i++) {
        answer = ask(path, json_pack("{s:s, s:s, s:s}", "command", "restart", "namespace", ns,
                                     "workload", args.items[i]));
        status = answer == NULL;
        if (answer != NULL) {
            (void)printf("%s: %d pods are replaced\n", args.items[i],
                         (int)json_integer_value(json_object_get(answer, "pods")));
        }
        json_decref(answer);
    }
    opt_list_clear(&args);
    return status;
}

/* --- exec ---------------------------------------------------------------------------------------- */

/* The request, and with its first byte the caller's three standard streams. */
static int send_exec(int fd, const char *line)
{
    char control[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct iovec iov = {.iov_base = (char *)(uintptr_t)line, .iov_len = strlen(line)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    const int fds[3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};

    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(h), fds, sizeof(fds));
    return sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)iov.iov_len &&
                   send(fd, "\n", 1, MSG_NOSIGNAL) == 1
               ? 0
               : -errno;
}

static int exec_in(const char *path, json_t *request)
{
    char *line = json_dumps(request, JSON_COMPACT), answer[4096] = "";
    size_t len = 0;
    ssize_t n;
    json_t *j;
    int fd = -1, rc = home_connect(path, &fd), status;

    json_decref(request);
    if (rc == 0) {
        rc = send_exec(fd, line);
    }
    mem_free(line);
    while (rc == 0 && len < sizeof(answer) - 1 &&
           (n = read(fd, answer + len, sizeof(answer) - 1 - len)) > 0) {
        len += (size_t)n;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    j = json_loads(answer, 0, NULL);
    if (rc != 0 || j == NULL) {
        json_decref(j);
        return cli_fail("no home answers at %s; is it up? `tulle local status`", path);
    }
    if (json_is_true(json_object_get(j, "ok"))) {
        status = (int)json_integer_value(json_object_get(j, "status"));
    } else {
        status = cli_fail("%s", json_string_value(json_object_get(j, "error")));
    }
    json_decref(j);
    return status;
}

int local_exec(int argc, char **argv)
{
    struct local_target t = {0};
    const char *ns = "default", *container = NULL;
    const struct opt opts[] = {
        LOCAL_TARGET_OPTS(&t),
        {"namespace", 'n', OPT_STRING, "NS", "namespace of the pod (default)", &ns},
        {"container", 'c', OPT_STRING, "NAME",
         "container; the first application container unless said", &container},
    };
    char path[HOME_PATH_MAX], problem[512];
    struct opt_list args = {0};
    json_t *request, *command;
    int status;

    if (!cli_parse("local exec POD|DEPLOYMENT [options] -- COMMAND...", opts, ARRAY_LEN(opts), argc,
                   argv, &args, &status)) {
        return status;
    }
    if (args.count < 2) {
        opt_list_clear(&args);
        (void)cli_fail("local exec: name a pod and, behind --, a command");
        return EXIT_USAGE;
    }
    command = json_array();
    for (size_t i = 1; i < args.count; i++) {
        json_array_append_new(command, json_string(args.items[i]));
    }
    request = json_pack("{s:s, s:s, s:s, s:o}", "command", "exec", "namespace", ns, "pod",
                        args.items[0], "argv", command);
    request = request != NULL ? request : json_object();
    if (container != NULL) {
        json_object_set_new(request, "container", json_string(container));
    }
    opt_list_clear(&args);
    if (home_path(t.home, t.state, path, problem, sizeof(problem)) != 0) {
        json_decref(request);
        return cli_fail("%s", problem);
    }
    return exec_in(path, request);
}
