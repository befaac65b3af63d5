/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define END_EXTRA_S 30 /* beyond the pods' grace: then the supervisor is killed */

/* --- what all share ------------------------------------------------------------------------------ */

bool local_path(const struct local_target *t, char path[HOME_PATH_MAX])
{
    char problem[512];

    if (home_path(t->home, t->state, path, problem, sizeof(problem)) != 0) {
        (void)cli_fail("%s", problem);
        return false;
    }
    return true;
}

json_t *local_ask(const char *path, json_t *request)
{
    char *line = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL, *answer = NULL,
         problem[512];
    json_t *j = NULL;

    json_decref(request);
    if (line == NULL) {
        (void)cli_fail("what was asked for is no valid text (UTF-8)");
    } else if (home_ask(path, line, &answer, problem, sizeof(problem)) != 0) {
        (void)cli_fail("%s", problem);
    } else {
        j = json_loads(answer, 0, NULL);
        if (!json_is_true(json_object_get(j, "ok"))) {
            (void)cli_fail("%s",
                           j != NULL ? local_text(j, "error") : "the home's answer cannot be read");
            json_decref(j);
            j = NULL;
        }
    }
    mem_free(line);
    mem_free(answer);
    return j;
}

const char *local_text(const json_t *map, const char *key)
{
    const char *text = json_string_value(json_object_get(map, key));

    return text != NULL ? text : "";
}

const char *local_name(const char *argument)
{
    static const char *const kinds[] = {
        "deploy/", "deployment/", "deployments/", "deployment.apps/", "po/", "pod/", "pods/"};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strncmp(argument, kinds[i], strlen(kinds[i])) == 0) {
            return argument + strlen(kinds[i]);
        }
    }
    return argument;
}

/* A command that takes options only, and the home's path. */
static bool parse(const char *usage, const struct opt *opts, size_t count, int argc, char **argv,
                  const struct local_target *t, char path[HOME_PATH_MAX], int *out_status)
{
    struct opt_list args = {0};
    bool ok = false;

    if (!cli_parse(usage, opts, count, argc, argv, &args, out_status)) {
        return false;
    }
    *out_status = EXIT_USAGE;
    if (args.count > 0) {
        (void)cli_fail("local %s: \"%s\" is one argument too many", argv[0], args.items[0]);
    } else {
        ok = local_path(t, path);
        *out_status = 1;
    }
    opt_list_clear(&args);
    return ok;
}

/* --- down ---------------------------------------------------------------------------------------- */

/* Until the supervisor has ended, and all of the home with it. */
static void wait_gone(const json_t *answer)
{
    pid_t pid = (pid_t)json_integer_value(json_object_get(answer, "pid"));
    int64_t grace_s = json_integer_value(json_object_get(answer, "grace"));
    struct pollfd p = {.fd = pidfd_open(pid, 0), .events = POLLIN};

    if (p.fd < 0) {
        return; /* gone already */
    }
    if (poll(&p, 1, (int)MIN(grace_s + END_EXTRA_S, (int64_t)3600) * 1000) == 0) {
        (void)cli_fail("the home does not end by itself and is killed");
        (void)pidfd_send_signal(p.fd, SIGKILL, NULL, 0);
        (void)poll(&p, 1, END_EXTRA_S * 1000);
    }
    (void)close(p.fd);
}

static int cmd_down(int argc, char **argv)
{
    struct local_target t = {0};
    const struct opt opts[] = {LOCAL_TARGET_OPTS(&t)};
    char path[HOME_PATH_MAX], problem[512] = "", *text = NULL;
    json_t *answer = NULL;
    bool was_up;
    int status, rc;

    if (!parse("local down [options]", opts, ARRAY_LEN(opts), argc, argv, &t, path, &status)) {
        return status;
    }
    rc = home_ask(path, "{\"command\":\"stop\"}", &text, problem, sizeof(problem));
    was_up = rc == 0;
    if (was_up) {
        answer = json_loads(text, 0, NULL);
        wait_gone(answer);
    }
    json_decref(answer);
    mem_free(text);
    if (rc != 0 && rc != E_NOT_FOUND && err_category(rc) != ERR_CLOSED) {
        return cli_fail("%s", problem);
    }
    rc = home_sweep(path, problem, sizeof(problem)); /* of a home that was killed: its files */
    if (rc == 0) {
        (void)printf("removed what a killed home left at %s\n", path);
    } else if (rc != E_NOT_FOUND) {
        return cli_fail("%s", problem);
    } else if (was_up) {
        (void)printf("down\n");
    } else {
        (void)printf("no home runs at %s: there is nothing to end\n", path);
    }
    return 0;
}

/* --- status -------------------------------------------------------------------------------------- */

/* As kubectl shows it: two units at most. */
static void print_age(struct table *t, double seconds)
{
    long s = (long)seconds;

    if (s < 120) {
        table_cell(t, "%lds", s);
    } else if (s < 600) {
        table_cell(t, "%ldm%lds", s / 60, s % 60);
    } else if (s < 3600) {
        table_cell(t, "%ldm", s / 60);
    } else if (s < 86400) {
        table_cell(t, "%ldh%ldm", s / 3600, s / 60 % 60);
    } else {
        table_cell(t, "%ldd%ldh", s / 86400, s / 3600 % 24);
    }
}

static bool is_backing_off(const json_t *container)
{
    return strcmp(local_text(container, "state"), "Backoff") == 0;
}

/* It runs, and something can be said about why it is not ready. */
static bool is_unready(const json_t *container)
{
    return strcmp(local_text(container, "state"), "Running") == 0 &&
           local_text(container, "reason")[0] != '\0';
}

/* The table has the sum of its pod: here is whose they are, and how it ended before the last. */
static void print_restarts(const json_t *container, struct text *to)
{
    int restarts = (int)json_integer_value(json_object_get(container, "restarts"));

    text_printf(to, "was started again %d time%s", restarts, restarts == 1 ? "" : "s");
    if (local_text(container, "ended")[0] != '\0') {
        text_printf(to, "; it %s", local_text(container, "ended"));
    }
}

/* Below the table, for a container that has something to tell. */
static void print_container(const json_t *pod, const json_t *container, struct text *to)
{
    bool has_others = json_array_size(json_object_get(pod, "containers")) > 1;
    bool has_restarts = json_integer_value(json_object_get(container, "restarts")) > 0;
    bool has_reason = is_backing_off(container) || is_unready(container);

    if (!has_reason && !(has_restarts && has_others)) {
        return;
    }
    text_printf(to, "pod %s/%s: container %s", local_text(pod, "namespace"), local_text(pod, "name"),
                local_text(container, "name"));
    if (has_reason) {
        text_printf(to, ": %s", local_text(container, "reason"));
    }
    if (has_restarts && has_others) {
        text_printf(to, has_reason ? "; it " : " ");
        print_restarts(container, to);
    }
    text_char(to, '\n');
}

static void print_pod(struct table *t, const json_t *pod)
{
    const json_t *containers = json_object_get(pod, "containers"), *container;
    const char *shown = local_text(pod, "phase");
    int ready = 0, restarts = 0;
    size_t i;

    json_array_foreach(containers, i, container)
    {
        ready += json_is_true(json_object_get(container, "ready"));
        restarts += (int)json_integer_value(json_object_get(container, "restarts"));
        shown = is_backing_off(container) ? "CrashLoopBackOff" : shown;
    }
    table_cell(t, "%s", local_text(pod, "namespace"));
    table_cell(t, "%s", local_text(pod, "name"));
    table_cell(t, "%d/%zu", ready, json_array_size(containers));
    table_cell(t, "%s", shown);
    table_cell(t, "%d", restarts);
    table_cell(t, "%s", local_text(pod, "ip"));
    print_age(t, json_real_value(json_object_get(pod, "age")));
}

static bool is_shown(const json_t *pod, const char *ns)
{
    return ns == NULL || strcmp(ns, local_text(pod, "namespace")) == 0;
}

static bool has_pods(const json_t *status, const char *ns)
{
    const json_t *pod;
    size_t i;

    json_array_foreach(json_object_get(status, "pods"), i, pod)
    {
        if (is_shown(pod, ns)) {
            return true;
        }
    }
    return false;
}

/* Proxies that finish what they have open, after a successor took over. */
static void print_upgraded(const json_t *status, const char *ns, struct text *to)
{
    const json_t *pod, *container;
    size_t i, k;

    json_array_foreach(json_object_get(status, "pods"), i, pod)
    {
        json_array_foreach(json_object_get(pod, "containers"), k, container)
        {
            int former = (int)json_integer_value(json_object_get(container, "former"));

            if (is_shown(pod, ns) && former > 0) {
                text_printf(to,
                            "pod %s/%s: container %s was upgraded; %d former %s finish%s what %s "
                            "open\n",
                            local_text(pod, "namespace"), local_text(pod, "name"),
                            local_text(container, "name"), former,
                            former == 1 ? "process" : "processes", former == 1 ? "es" : "",
                            former == 1 ? "it has" : "they have");
            }
        }
    }
}

static void print_status(const json_t *status, const char *ns, struct text *to)
{
    static const char *const heads[] = {"NAMESPACE", "NAME", "READY", "STATUS",
                                        "RESTARTS",  "IP",   "AGE"};
    struct table *t = table_new(heads, ARRAY_LEN(heads), ARRAY_LEN(heads));
    const json_t *pod, *container, *problem;
    const char *key;
    json_t *value;
    size_t i, k;

    json_array_foreach(json_object_get(status, "pods"), i, pod)
    {
        if (is_shown(pod, ns)) {
            print_pod(t, pod);
        }
    }
    table_print(t, to);
    table_free(t);
    json_array_foreach(json_object_get(status, "pods"), i, pod)
    {
        json_array_foreach(json_object_get(pod, "containers"), k, container)
        {
            if (is_shown(pod, ns)) {
                print_container(pod, container, to);
            }
        }
    }
    print_upgraded(status, ns, to);
    json_object_foreach(json_object_get(status, "published"), key, value)
    {
        text_printf(to, "published: %s at http://localhost:%d\n", key,
                    (int)json_integer_value(value));
    }
    json_array_foreach(json_object_get(status, "problems"), i, problem)
    {
        text_printf(to, "problem: %s\n", json_string_value(problem));
    }
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
    char path[HOME_PATH_MAX];
    json_t *status_json;
    struct text out;
    int status;

    if (!parse("local status [options]", opts, ARRAY_LEN(opts), argc, argv, &t, path, &status)) {
        return status;
    }
    if (strcmp(output, "json") != 0 && strcmp(output, "table") != 0) {
        (void)cli_fail("local status: --output %s is neither table nor json", output);
        return EXIT_USAGE;
    }
    status_json = local_ask(path, json_pack("{s:s}", "command", "status"));
    if (status_json == NULL) {
        return 1;
    }
    text_init(&out, 64u << 20);
    if (strcmp(output, "json") == 0) {
        char *dump = json_dumps(status_json, JSON_INDENT(2));

        text_str(&out, dump != NULL ? dump : "{}");
        text_char(&out, '\n');
        mem_free(dump);
    } else if (ns != NULL && !has_pods(status_json, ns)) {
        (void)fprintf(stderr, "No pods found in namespace %s; without -n all are shown.\n", ns);
    } else {
        print_status(status_json, ns, &out);
    }
    (void)fwrite(out.at != NULL ? out.at : "", 1, out.len, stdout);
    text_clear(&out);
    status = json_is_true(json_object_get(status_json, "ready")) ? 0 : 1;
    json_decref(status_json);
    return status;
}

/* --- dispatch ------------------------------------------------------------------------------------ */

/* Words of kubectl and of others that run things, and what is in their place. */
static const char *local_instead(const char *word)
{
    static const struct {
        const char *word, *instead;
    } words[] = {
        {"delete", "`tulle local restart POD` makes a new pod in the place of one; what is taken out of the "
                   "manifests ends; `tulle local down` ends all"},
        {"rm", "`tulle local restart POD` makes a new pod in the place of one; `tulle local down` ends all"},
        {"kill", "`tulle local restart POD` makes a new pod in the place of one; `tulle local exec POD -- "
                 "kill PID` reaches a process in it"},
        {"stop", "`tulle local down` ends all; a Deployment with `replicas: 0` has no pods"},
        {"rollout", "`tulle local restart DEPLOYMENT` makes new pods; the old ones leave when those are "
                    "ready"},
        {"scale", "change `replicas` in the manifest: it is watched"},
        {"apply", "change the manifests that `tulle local up` was given: they are watched"},
        {"start", "`tulle local up FILE|DIR...` starts a home"},
        {"ps", "`tulle local status` lists the pods"},
        {"get", "`tulle local status` lists the pods"},
        {"describe", "`tulle local status` lists the pods and what is wrong with them"},
    };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(word, words[i].word) == 0) {
            return words[i].instead;
        }
    }
    return NULL;
}

int cli_local(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
        const char *help;
    } commands[] = {
        {"up", local_up, "start a mesh with these manifests on this machine"},
        {"down", cmd_down, "end it, and leave nothing behind"},
        {"status", cmd_status, "its pods"},
        {"logs", local_logs, "what a pod writes"},
        {"restart", local_restart,
         "a new pod for one, or for each of a Deployment; then the old leave"},
        {"upgrade", local_upgrade,
         "a new proxy in running pods, without a restart or a failed request"},
        {"exec", local_exec, "run a command in a pod"},
    };
    bool is_help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    FILE *to = is_help ? stdout : stderr;

    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (argc > 1 && local_instead(argv[1]) != NULL) {
        (void)cli_fail("there is no command \"local %s\": %s", argv[1], local_instead(argv[1]));
        return EXIT_USAGE;
    }
    if (argc > 1 && !is_help) {
        return cli_no_command("local ", argv[1], &commands[0].name, ARRAY_LEN(commands),
                              sizeof(commands[0]));
    }
    (void)fprintf(to, "usage: tulle local COMMAND [options]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        (void)fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].help);
    }
    return is_help ? 0 : EXIT_USAGE;
}
