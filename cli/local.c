/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local.h"
#include "cli/cli.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "local/home.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_DEFAULT_NS (300 * NS_PER_S)

/* --- up ------------------------------------------------------------------------------------------ */

struct up_options {
    struct home_options home;
    const char *pods4, *services4, *pods6, *services6;
    bool no_ipv6;
};

static int parse_net(const char *option, const char *text, struct cidr *out)
{
    if (cidr_parse(bytes_str(text), out) != 0) {
        (void)cli_fail("local up: --%s %s is no subnet such as 10.42.0.0/16", option, text);
        return E_CONFIG;
    }
    return 0;
}

static int parse_nets(struct up_options *o)
{
    struct net_config *n = &o->home.net;

    TRY(parse_net("pod-subnet", o->pods4, &n->pods4));
    TRY(parse_net("service-subnet", o->services4, &n->services4));
    if (!o->no_ipv6) {
        TRY(parse_net("pod-subnet6", o->pods6, &n->pods6));
        TRY(parse_net("service-subnet6", o->services6, &n->services6));
    }
    return 0;
}

static void print_ready(const json_t *status)
{
    const char *key;
    json_t *value;

    (void)printf("up: %d pods are ready\n",
                 (int)json_integer_value(json_object_get(status, "pods_ready")));
    json_object_foreach(json_object_get(status, "published"), key, value)
    {
        (void)printf("published: %s at http://localhost:%d\n", key, (int)json_integer_value(value));
    }
}

/* Why pods are not ready, for an `up` that failed. */
static void print_unready(const json_t *status)
{
    const json_t *pod, *container;
    size_t i, k;

    json_array_foreach(json_object_get(status, "pods"), i, pod)
    {
        if (json_is_true(json_object_get(pod, "ready"))) {
            continue;
        }
        json_array_foreach(json_object_get(pod, "containers"), k, container)
        {
            const char *reason = json_string_value(json_object_get(container, "reason"));

            if (!json_is_true(json_object_get(container, "ready"))) {
                (void)fprintf(stderr, "  pod %s/%s, container %s: %s\n",
                              json_string_value(json_object_get(pod, "namespace")),
                              json_string_value(json_object_get(pod, "name")),
                              json_string_value(json_object_get(container, "name")),
                              reason != NULL && reason[0] != '\0' ? reason
                                                                  : "runs and is not ready");
            }
        }
    }
}

/* True when the line ends the waiting. */
static bool follow_line(const char *line, int *io_shown, int *out_status)
{
    json_t *j = json_loads(line, 0, NULL);
    const json_t *ready = json_object_get(j, "ready"), *problem = json_object_get(j, "problem");
    bool is_end = ready != NULL;

    if (problem != NULL) {
        (void)fprintf(stderr, "tulle: %s\n", json_string_value(problem));
    } else if (json_is_true(ready)) {
        print_ready(json_object_get(j, "status"));
        *out_status = 0;
    } else if (ready != NULL) {
        print_unready(json_object_get(j, "status"));
        *out_status = 1;
    } else if (json_object_get(j, "pods_ready") != NULL) {
        int now = (int)json_integer_value(json_object_get(j, "pods_ready"));

        if (now != *io_shown) {
            (void)printf("%d of %d pods are ready\n", now,
                         (int)json_integer_value(json_object_get(j, "pods_total")));
            (void)fflush(stdout);
            *io_shown = now;
        }
    }
    json_decref(j);
    return is_end;
}

static int follow(int fd)
{
    FILE *in = fdopen(fd, "r");
    char *line = NULL;
    size_t size = 0;
    int shown = -1, status = -1;

    while (in != NULL && getline(&line, &size, in) > 0 && !follow_line(line, &shown, &status)) {
    }
    mem_free(line);
    if (in != NULL) {
        (void)fclose(in);
    }
    return status < 0 ? cli_fail("the home ended before it was ready") : status;
}

/* The supervisor's own process: away from the terminal, its log in the state folder. */
static int daemon_main(struct up_options *o, int ready_fd)
{
    char path[HOME_PATH_MAX], file[HOME_PATH_MAX + 16], problem[1024] = "";
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), log, rc;

    (void)setsid();
    rc = home_path(o->home.name, o->home.state, path, problem, sizeof(problem));
    (void)snprintf(file, sizeof(file), "%s.log", path);
    log = rc == 0 ? open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(log >= 0 ? log : null, STDOUT_FILENO);
    (void)dup2(log >= 0 ? log : null, STDERR_FILENO);
    if (rc == 0) {
        rc = home_run(&o->home, ready_fd, problem, sizeof(problem));
    }
    if (rc != 0) {
        json_t *line = json_pack("{s:s}", "problem", problem);
        char *dump = json_dumps(line, JSON_COMPACT);

        (void)dprintf(ready_fd, "%s\n{\"ready\":false}\n", dump);
        mem_free(dump);
        json_decref(line);
    }
    if (rc == 0 || rc != E_EXISTS) {
        (void)unlink(file);
    }
    return rc == 0 ? 0 : 1;
}

static int up(struct up_options *o)
{
    char problem[1024] = "";
    int pipe_fds[2], status;
    pid_t pid;

    if (parse_nets(o) != 0) {
        return EXIT_USAGE;
    }
    if (o->home.foreground) {
        int rc = home_run(&o->home, STDOUT_FILENO, problem, sizeof(problem));

        return rc == 0 ? 0 : cli_fail("%s", problem);
    }
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return cli_fail("no pipe can be made: %s", err_text(-errno));
    }
    pid = fork();
    if (pid == 0) {
        (void)close(pipe_fds[0]);
        _exit(daemon_main(o, pipe_fds[1]));
    }
    (void)close(pipe_fds[1]);
    if (pid < 0) {
        return cli_fail("no process can be made: %s", err_text(-errno));
    }
    status = follow(pipe_fds[0]);
    while (status != 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        /* a home that could not start is gone when this command ends: the next one may begin */
    }
    return status;
}

static int cmd_up(int argc, char **argv)
{
    struct up_options o = {
        .home = {.wait_ns = WAIT_DEFAULT_NS},
        .pods4 = "10.42.0.0/16",
        .services4 = "10.43.0.0/16",
        .pods6 = "fd42:7577::/64",
        .services6 = "fd43:7577::/112",
    };
    const struct opt opts[] = {
        {"home", 0, OPT_STRING, "NAME", "name of the home (default)", &o.home.name},
        {"state", 0, OPT_STRING, "DIR", "where homes are kept (/var/lib/tulle)", &o.home.state},
        {"publish", 'p', OPT_STRING, "NS/SVC:PORT=HOST,...",
         "service ports on this machine's localhost", &o.home.publish},
        {"wait", 0, OPT_DURATION, "TIME", "how long to wait for everything to be ready (5m)",
         &o.home.wait_ns},
        {"foreground", 0, OPT_BOOL, NULL, "stay in the foreground", &o.home.foreground},
        {"keep-identity", 0, OPT_BOOL, NULL, "keep the certificates for the next home of this name",
         &o.home.keep_identity},
        {"log-level", 0, OPT_STRING, "FILTER", "of the control plane and the proxies",
         &o.home.log_level},
        {"pod-subnet", 0, OPT_STRING, "CIDR", "addresses of pods (10.42.0.0/16)", &o.pods4},
        {"service-subnet", 0, OPT_STRING, "CIDR", "addresses of Services (10.43.0.0/16)",
         &o.services4},
        {"pod-subnet6", 0, OPT_STRING, "CIDR", "the same, IPv6", &o.pods6},
        {"service-subnet6", 0, OPT_STRING, "CIDR", "the same, IPv6", &o.services6},
        {"disable-ipv6", 0, OPT_BOOL, NULL, "IPv4 only", &o.no_ipv6},
    };
    struct opt_list args = {0};
    int status;

    if (!cli_parse("local up FILE|DIR... [options]", opts, ARRAY_LEN(opts), argc, argv, &args,
                   &status)) {
        return status;
    }
    o.home.manifests = args.items;
    o.home.manifests_count = args.count;
    if (args.count == 0) {
        (void)cli_fail("local up: name the manifests: files or folders");
        status = EXIT_USAGE;
    } else {
        status = up(&o);
    }
    opt_list_clear(&args);
    return status;
}

/* --- down ---------------------------------------------------------------------------------------- */

/* The supervisor holds the lock while it lives: wait for it with the kernel's help. */
static void wait_gone(const char *path)
{
    char lock[HOME_PATH_MAX + 16];
    int fd;

    (void)snprintf(lock, sizeof(lock), "%s/lock", path);
    fd = open(lock, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        (void)flock(fd, LOCK_EX);
        (void)close(fd);
    }
}

static int cmd_down(int argc, char **argv)
{
    struct local_target t = {0};
    const struct opt opts[] = {LOCAL_TARGET_OPTS(&t)};
    char path[HOME_PATH_MAX], problem[512] = "", *answer = NULL;
    int status, rc;

    if (!local_parse("local down [options]", opts, ARRAY_LEN(opts), argc, argv, &t, path,
                     &status)) {
        return status;
    }
    rc = home_ask(path, "{\"command\":\"stop\"}", &answer, problem, sizeof(problem));
    mem_free(answer);
    if (rc == 0) {
        wait_gone(path);
        (void)printf("down\n");
    }
    rc = home_sweep(path, problem, sizeof(problem)); /* of a home that was killed: its files */
    if (rc == E_EXISTS) {
        return cli_fail("%s", problem);
    }
    if (rc == 0) {
        (void)printf("removed the remains of a home at %s\n", path);
    }
    return 0;
}

/* --- status -------------------------------------------------------------------------------------- */

static void print_pods(const json_t *status, const char *ns, struct text *to)
{
    static const char *const heads[] = {"NAMESPACE", "NAME", "READY", "STATUS",
                                        "RESTARTS",  "IP",   "AGE"};
    struct table *t = table_new(heads, ARRAY_LEN(heads), 2);
    const json_t *pod, *container;
    size_t i, k;

    json_array_foreach(json_object_get(status, "pods"), i, pod)
    {
        const json_t *containers = json_object_get(pod, "containers");
        const char *pod_ns = json_string_value(json_object_get(pod, "namespace"));
        int ready = 0, restarts = 0;

        json_array_foreach(containers, k, container)
        {
            ready += json_is_true(json_object_get(container, "ready"));
            restarts += (int)json_integer_value(json_object_get(container, "restarts"));
        }
        if (ns != NULL && strcmp(ns, pod_ns) != 0) {
            continue;
        }
        table_cell(t, "%s", pod_ns);
        table_cell(t, "%s", json_string_value(json_object_get(pod, "name")));
        table_cell(t, "%d/%zu", ready, json_array_size(containers));
        table_cell(t, "%s", json_string_value(json_object_get(pod, "phase")));
        table_cell(t, "%d", restarts);
        table_cell(t, "%s", json_string_value(json_object_get(pod, "ip")));
        table_cell(t, "%.0fs", json_real_value(json_object_get(pod, "age")));
    }
    table_print(t, to);
    table_free(t);
}

static int cmd_status(int argc, char **argv)
{
    struct local_target t = {0};
    const char *ns = NULL, *output = "table";
    const struct opt opts[] = {
        LOCAL_TARGET_OPTS(&t),
        {"namespace", 'n', OPT_STRING, "NS", "only pods of this namespace", &ns},
        {"output", 'o', OPT_STRING, "FORMAT", "table or json", &output},
    };
    char path[HOME_PATH_MAX], problem[512], *answer = NULL;
    struct text out;
    const json_t *item;
    const char *key;
    json_t *status_json, *value;
    size_t i;
    int status;

    if (!local_parse("local status [options]", opts, ARRAY_LEN(opts), argc, argv, &t, path,
                     &status)) {
        return status;
    }
    if (home_ask(path, "{\"command\":\"status\"}", &answer, problem, sizeof(problem)) != 0) {
        return cli_fail("%s", problem);
    }
    if (strcmp(output, "json") == 0) {
        (void)printf("%s", answer);
        mem_free(answer);
        return 0;
    }
    status_json = json_loads(answer, 0, NULL);
    mem_free(answer);
    text_init(&out, 16u << 20);
    print_pods(status_json, ns, &out);
    json_object_foreach(json_object_get(status_json, "published"), key, value)
    {
        text_printf(&out, "published: %s at http://localhost:%d\n", key,
                    (int)json_integer_value(value));
    }
    json_array_foreach(json_object_get(status_json, "problems"), i, item)
    {
        text_printf(&out, "problem: %s\n", json_string_value(item));
    }
    (void)fwrite(out.at, 1, out.len, stdout);
    text_clear(&out);
    status = json_is_true(json_object_get(status_json, "ready")) ? 0 : 1;
    json_decref(status_json);
    return status;
}

/* --- dispatch ------------------------------------------------------------------------------------ */

int cli_local(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
        const char *help;
    } commands[] = {
        {"up", cmd_up, "start a mesh with these manifests on this machine"},
        {"down", cmd_down, "end it, and leave nothing behind"},
        {"status", cmd_status, "its pods"},
        {"logs", local_logs, "what a pod writes"},
        {"restart", local_restart,
         "new pods for a Deployment, the old ones leave when they are ready"},
        {"exec", local_exec, "run a command in a pod"},
    };

    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(argc > 1 && strcmp(argv[1], "--help") == 0 ? stdout : stderr,
                  "usage: tulle local COMMAND [options]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        (void)fprintf(argc > 1 && strcmp(argv[1], "--help") == 0 ? stdout : stderr, "  %-9s %s\n",
                      commands[i].name, commands[i].help);
    }
    return argc > 1 && strcmp(argv[1], "--help") == 0 ? 0 : EXIT_USAGE;
}
