/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * `up` starts the supervisor as a process of its own and waits until it says that all is ready, or why
 * it is not. Ctrl-C meanwhile ends the home, and so does an end of this process.
 */
#define WAIT_DEFAULT_NS (300 * NS_PER_S)

static pid_t supervisor; /* for the signal handler */

struct up_options {
    struct home_options home;
    const char *pods4, *services4, *pods6, *services6;
    bool no_ipv6;
};

/* --- options ------------------------------------------------------------------------------------- */

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

/* "ns/name:port" or "ns/name:port=host port" */
static bool is_publication(struct bytes item)
{
    struct bytes what, host, ns, name, port;
    bool has_host = bytes_split(item, '=', &what, &host);
    uint64_t number;

    return bytes_split(what, '/', &ns, &name) && ns.len > 0 &&
           bytes_split(name, ':', &name, &port) && name.len > 0 &&
           bytes_to_u64(port, UINT16_MAX, &number) == 0 && number > 0 &&
           (!has_host || bytes_to_u64(host, UINT16_MAX, &number) == 0);
}

static int check_publish(const char *text)
{
    struct bytes rest = bytes_str(text), item;

    while (rest.len > 0) {
        (void)bytes_split(rest, ',', &item, &rest);
        if (!is_publication(item)) {
            (void)cli_fail("local up: --publish " BYTES_FMT
                           " is not of the form NAMESPACE/SERVICE:PORT=HOSTPORT",
                           BYTES_ARG(item));
            return E_CONFIG;
        }
    }
    return 0;
}

/* --- what the supervisor says -------------------------------------------------------------------- */

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

static void print_unready(const json_t *list)
{
    const json_t *item, *line;
    size_t i, k;

    json_array_foreach(list, i, item)
    {
        const json_t *lines = json_object_get(item, "lines");

        (void)fprintf(stderr, "  pod %s/%s, container %s: %s%s\n", local_text(item, "namespace"),
                      local_text(item, "pod"), local_text(item, "container"),
                      local_text(item, "reason"),
                      json_array_size(lines) > 0 ? "; its last lines:" : "");
        json_array_foreach(lines, k, line)
        {
            (void)fprintf(stderr, "    | %s\n", json_string_value(line));
        }
    }
}

static void print_line(const json_t *j)
{
    const json_t *ready = json_object_get(j, "ready");

    if (json_object_get(j, "problem") != NULL) {
        (void)cli_fail("%s", local_text(j, "problem"));
    } else if (json_object_get(j, "notice") != NULL) {
        (void)fprintf(stderr, "%s\n", local_text(j, "notice"));
    } else if (json_is_true(ready)) {
        print_ready(json_object_get(j, "status"));
    } else if (ready != NULL) {
        print_unready(json_object_get(j, "unready"));
    } else if (json_object_get(j, "pods_ready") != NULL) {
        (void)printf("%d of %d pods are ready\n",
                     (int)json_integer_value(json_object_get(j, "pods_ready")),
                     (int)json_integer_value(json_object_get(j, "pods_total")));
    }
    (void)fflush(stdout);
}

/* True when it said that all is ready. Programs that run `up` in the foreground get the lines as they are. */
static bool follow(FILE *in, bool as_it_is)
{
    bool is_ready = false, is_over = false;
    char *line = NULL;
    size_t size = 0;

    while (!is_over && getline(&line, &size, in) > 0) {
        json_t *j = json_loads(line, 0, NULL);
        const json_t *ready = json_object_get(j, "ready");

        if (as_it_is) {
            (void)fputs(line, stdout);
            (void)fflush(stdout);
        }
        if (!as_it_is || json_object_get(j, "problem") != NULL || json_is_false(ready)) {
            print_line(j);
        }
        is_ready = json_is_true(ready);
        is_over = ready != NULL;
        json_decref(j);
    }
    mem_free(line);
    if (!is_over) {
        (void)cli_fail("the home was ended before it was ready");
    }
    return is_ready;
}

/* --- the two processes --------------------------------------------------------------------------- */

/* The supervisor: away from the terminal; home_run() has its lines written into the state folder. */
static int supervise(const struct up_options *o, int ready_fd)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    char problem[1024] = "";
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), rc;

    (void)setsid();
    (void)sigaction(SIGPIPE, &ignore, NULL); /* whoever waits may go */
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    if (!o->home.foreground) {
        (void)dup2(null, STDERR_FILENO);
    }
    rc = home_run(&o->home, ready_fd, problem, sizeof(problem));
    if (rc != 0) {
        json_t *line = json_pack("{s:s}", "problem", problem);
        char *dump = json_dumps(line, JSON_COMPACT);

        (void)dprintf(ready_fd, "%s\n{\"ready\":false}\n",
                      dump != NULL ? dump : "{\"problem\":\"?\"}");
        mem_free(dump);
        json_decref(line);
    }
    return rc == 0 ? 0 : 1;
}

/* Asked once it ends in order, asked again at once. */
static void on_signal(int signo UNUSED)
{
    (void)kill(supervisor, SIGTERM);
}

static int wait_for_end(void)
{
    int status = 0;

    while (waitpid(supervisor, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

static int attend(const struct up_options *o, FILE *in)
{
    struct sigaction forward = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    bool is_ready;
    int status;

    (void)sigaction(SIGINT, &forward, NULL);
    (void)sigaction(SIGTERM, &forward, NULL);
    (void)sigaction(SIGHUP, &forward, NULL);
    is_ready = follow(in, o->home.foreground && isatty(STDOUT_FILENO) == 0);
    if (is_ready && !o->home.foreground) {
        return 0;
    }
    status = wait_for_end(); /* after a failure: until nothing is left */
    return is_ready ? status : 1;
}

static int up(const struct up_options *o)
{
    int fds[2], status = 1;
    FILE *in;

    if (pipe2(fds, O_CLOEXEC) != 0) {
        return cli_fail("no pipe can be made: %s", err_text(-errno));
    }
    (void)fflush(stdout);
    supervisor = fork();
    if (supervisor == 0) {
        (void)close(fds[0]);
        exit(supervise(o, fds[1])); /* not _exit(): sanitizers look for leaks then */
    }
    (void)close(fds[1]);
    in = fdopen(fds[0], "r");
    if (supervisor < 0 || in == NULL) {
        status = cli_fail("no process can be made: %s", err_text(-errno));
    } else {
        status = attend(o, in);
    }
    if (in != NULL) {
        (void)fclose(in);
    }
    return status;
}

int local_up(int argc, char **argv)
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
        {"wait", 0, OPT_DURATION, "TIME",
         "how long to wait (5m); 0: for ever", &o.home.wait_ns},
        {"foreground", 0, OPT_BOOL, NULL, "do not return; Ctrl-C ends the home",
         &o.home.foreground},
        {"keep-identity", 0, OPT_BOOL, NULL, "keep certificates for the next such home",
         &o.home.keep_identity},
        {"log-level", 0, OPT_STRING, "FILTER", "of the control plane and the proxies",
         &o.home.log_level},
        {"allow-l5d-request-headers", 0, OPT_BOOL, NULL,
         "requests may set timeouts and retries", &o.home.allow_request_headers},
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
    status = EXIT_USAGE;
    if (args.count == 0) {
        (void)cli_fail("local up: name the manifests: files or folders");
    } else if (parse_nets(&o) == 0 && check_publish(o.home.publish) == 0) {
        status = up(&o);
    }
    opt_list_clear(&args);
    return status;
}
