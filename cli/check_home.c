/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"

#include "cluster/cluster.h"
#include "core/alloc.h"
#include "core/err.h"

#include <sys/stat.h>

int check_home_folder(struct checker *c, char *problem, size_t problem_bytes)
{
    char others[OTHERS_BYTES];
    struct stat st;

    TRY(home_path(c->target.home, c->target.state, c->home, problem, problem_bytes));
    if (stat(c->home, &st) != 0 || !S_ISDIR(st.st_mode)) {
        (void)snprintf(problem, problem_bytes, "there is no folder %.900s%s", c->home,
                       home_others(c->home, others, sizeof(others)));
        return E_NOT_FOUND;
    }
    return 0;
}

int check_supervisor(struct checker *c, char *problem, size_t problem_bytes)
{
    char *answer = NULL;
    json_error_t error;

    json_decref(c->status);
    c->status = NULL;
    TRY(home_ask(c->home, "{\"command\":\"status\"}", &answer, problem, problem_bytes));
    c->status = json_loads(answer, 0, &error);
    mem_free(answer);
    if (!json_flag(c->status, "ok", false)) {
        const char *why = json_text(c->status, "error");

        (void)snprintf(problem, problem_bytes, "the supervisor says: %.900s",
                       why != NULL ? why : "nothing that can be read");
        return E_INTERNAL;
    }
    return 0;
}

/* "demo/web-1: Running, linkerd-proxy: waiting for its certificate" */
static void add_pod(struct text *t, const json_t *pod)
{
    struct json_iter it = JSON_ITER(json_object_get(pod, "containers"));

    text_printf(t, "%s%s/%s: %s", t->len > 0 ? "\n" : "", json_text(pod, "namespace"),
                json_text(pod, "name"), json_text(pod, "phase"));
    while (json_next(&it)) {
        const char *name = json_text(it.value, "name"), *reason = json_text(it.value, "reason");
        int64_t restarts = json_number(it.value, "restarts", 0);

        if (name != NULL && !json_flag(it.value, "ready", false)) {
            text_printf(t, ", %s: %s", name,
                        reason != NULL && *reason != '\0' ? reason : "is not ready");
        }
        if (name != NULL && restarts > 0) {
            text_printf(t, " (%s was restarted %lld %s)", name, (long long)restarts,
                        restarts == 1 ? "time" : "times");
        }
    }
}

static bool is_leaving(const json_t *pod)
{
    const char *phase = json_text(pod, "phase");

    return phase == NULL || (strcmp(phase, "Starting") != 0 && strcmp(phase, "Running") != 0);
}

/* What does not become ready by waiting: which, why, and where to look. */
static void add_stuck(struct text *t, const json_t *stuck)
{
    const char *ns = json_text(stuck, "namespace"), *pod = json_text(stuck, "pod"),
               *container = json_text(stuck, "container"), *reason = json_text(stuck, "reason");

    text_str(t, t->len > 0 ? "\n" : "");
    if (pod == NULL) { /* of a Deployment; the reason names it */
        text_str(t, reason);
        return;
    }
    text_printf(t, "pod %s/%s: container %s %s: %s; see `tulle local logs %s -n %s -c %s`", ns, pod,
                container,
                json_flag(stuck, "unstartable", false) ? "cannot be started"
                                                       : "fails over and over",
                reason, pod, ns, container);
}

int check_home_pods(struct checker *c, char *problem, size_t problem_bytes)
{
    struct json_iter it;
    struct text t;

    TRY(check_supervisor(c, problem, problem_bytes)); /* afresh at each try */
    if (json_flag(c->status, "ready", false)) {
        return 0;
    }
    text_init_fixed(&t, problem, problem_bytes);
    it = (struct json_iter)JSON_ITER(json_object_get(c->status, "stuck"));
    while (json_next(&it)) {
        add_stuck(&t, it.value);
    }
    if (t.len > 0) {
        return E_CONFIG;
    }
    it = (struct json_iter)JSON_ITER(json_object_get(c->status, "pods"));
    while (json_next(&it)) {
        if (!json_flag(it.value, "ready", false) && !is_leaving(it.value)) {
            add_pod(&t, it.value);
        }
    }
    if (t.len == 0) {
        text_printf(&t, "%lld of %lld pods are ready",
                    (long long)json_number(c->status, "pods_ready", 0),
                    (long long)json_number(c->status, "pods_total", 0));
    }
    return E_NOT_FOUND;
}

int check_home_problems(struct checker *c, char *problem, size_t problem_bytes)
{
    struct json_iter it = JSON_ITER(json_object_get(c->status, "problems"));
    struct text t;

    text_init_fixed(&t, problem, problem_bytes);
    while (json_next(&it)) {
        const char *sentence = json_string_value(it.value);

        if (sentence != NULL) {
            text_printf(&t, "%s%s", t.len > 0 ? "\n" : "", sentence);
        }
    }
    return t.len > 0 ? E_CONFIG : 0;
}
