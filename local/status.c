/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * What pods are like: the Pod object as a cluster would show it, written into the state folder's
 * cluster, which is how the control plane learns of pods; and the answer to `tulle local status`.
 */
#define ABOUT_BYTES      (OBJECT_KEY_BYTES + 32)
#define WHY_BYTES        512
#define SETTLED_NS       (300 * NS_PER_MS)
#define SETTLED_AGAIN_NS (3 * NS_PER_S)

/* --- Pod objects --------------------------------------------------------------------------------- */

static int exit_code(const struct container *c)
{
    return WIFEXITED(c->exit_status) ? WEXITSTATUS(c->exit_status) : 128 + WTERMSIG(c->exit_status);
}

static json_t *container_status(const struct container *c)
{
    json_t *state;

    if (c->state == CONTAINER_RUNNING) {
        state = json_pack("{s:{}}", "running");
    } else if (c->state == CONTAINER_DONE) {
        state = json_pack("{s:{s:i, s:s}}", "terminated", "exitCode", exit_code(c), "reason",
                          c->exit_status == 0 ? "Completed" : "Error");
    } else {
        state = json_pack("{s:{s:s, s:s}}", "waiting", "reason",
                          c->state == CONTAINER_BACKOFF    ? "CrashLoopBackOff"
                          : c->state == CONTAINER_STARTING ? "ContainerCreating"
                                                           : "PodInitializing",
                          "message", c->reason);
    }
    return json_pack("{s:s, s:b, s:b, s:i, s:o, s:s, s:s}", "name", c->name, "ready",
                     container_is_ready(c), "started", container_has_started(c), "restartCount",
                     (int)c->restarts, "state", state, "image",
                     json_text(c->spec, "image") != NULL ? json_text(c->spec, "image") : "",
                     "imageID", "");
}

static json_t *condition(const char *type, bool is_true)
{
    return json_pack("{s:s, s:s}", "type", type, "status", is_true ? "True" : "False");
}

static json_t *pod_status(const struct pod *p)
{
    char ip4[ADDR_TEXT_BYTES], ip6[ADDR_TEXT_BYTES], node_ip[ADDR_TEXT_BYTES], started[32];
    struct addr node = net_node_ip4(p->home->net);
    json_t *init = json_array(), *main = json_array(), *ips = json_array(),
           *conditions = json_array();

    for (size_t i = 0; i < p->count; i++) {
        json_array_append_new(p->containers[i].role == ROLE_MAIN ? main : init,
                              container_status(&p->containers[i]));
    }
    json_array_append_new(ips, json_pack("{s:s}", "ip", addr_format_ip(&p->net.ip4, ip4)));
    if (!addr_is_none(&p->net.ip6)) {
        json_array_append_new(ips, json_pack("{s:s}", "ip", addr_format_ip(&p->net.ip6, ip6)));
    }
    json_array_append_new(conditions, condition("PodScheduled", true));
    json_array_append_new(conditions, condition("Initialized", p->phase >= POD_RUNNING));
    json_array_append_new(conditions, condition("ContainersReady", p->is_ready));
    json_array_append_new(conditions, condition("Ready", p->is_ready));
    clock_format_rfc3339(p->created_wall_ns, started);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:s}", "phase",
                     p->phase == POD_STARTING ? "Pending" : "Running", "podIP", ip4, "hostIP",
                     addr_format_ip(&node, node_ip), "podIPs", ips, "conditions", conditions,
                     "initContainerStatuses", init, "containerStatuses", main, "startTime",
                     started);
}

void pod_status_write(struct pod *p)
{
    struct home *h = p->home;
    const struct object *now = cluster_get(h->cluster, KIND_POD, p->ns, p->name);
    json_t *object = json_copy(p->json);
    char about[ABOUT_BYTES];
    int rc = 0;

    json_object_set_new(object, "status", pod_status(p));
    if (p->phase >= POD_LEAVING) {
        char left[32];
        json_t *metadata = json_copy(json_object_get(p->json, "metadata"));

        clock_format_rfc3339(p->left_wall_ns, left);
        json_object_set_new(metadata, "deletionTimestamp", json_string(left));
        json_object_set_new(object, "metadata", metadata);
    }
    if (now != NULL && json_equal(now->json, object)) {
        json_decref(object);
    } else {
        rc = cluster_put(h->cluster, object);
    }
    p->is_unwritten = rc != 0;
    (void)snprintf(about, sizeof(about), "state of %s", p->key);
    if (rc != 0) {
        home_problem(h, about, "the state of pod %s cannot be written: %s", p->key, err_text(rc));
        timer_arm_in(&h->loop, &h->retry, NS_PER_S);
    } else {
        home_problem_over(h, about);
    }
}

void pod_status_remove(struct pod *p)
{
    int rc = cluster_delete(p->home->cluster, KIND_POD, p->ns, p->name);
    char about[ABOUT_BYTES];

    (void)snprintf(about, sizeof(about), "state of %s", p->key);
    if (rc != 0 && rc != E_NOT_FOUND) {
        home_problem(p->home, about, "the state of pod %s cannot be removed: %s", p->key,
                     err_text(rc));
    } else {
        home_problem_over(p->home, about);
    }
}

/* --- for the CLI --------------------------------------------------------------------------------- */

static int compare_pods(const void *a, const void *b)
{
    const struct pod *const *one = a, *const *other = b;
    int by_ns = strcmp((*one)->ns, (*other)->ns);

    return by_ns != 0 ? by_ns : strcmp((*one)->name, (*other)->name);
}

/* All pods by namespace and name; the caller frees. */
static const struct pod **sorted_pods(const struct home *h, size_t *out_count)
{
    const struct pod **all = mem_new_array(map_count(&h->pods) + 1, sizeof(*all));
    struct map_iter it = MAP_ITER(&h->pods);
    size_t count = 0;

    while (map_next(&it)) {
        all[count++] = it.value;
    }
    qsort(all, count, sizeof(*all), compare_pods);
    *out_count = count;
    return all;
}

/* How long until a program that has no probe may be taken to run: many that end do so at once. */
static uint64_t unsettled_ns(const struct home *h, const struct container *c)
{
    uint64_t least_ns = c->restarts == 0 ? SETTLED_NS : SETTLED_AGAIN_NS, ran_ns;
    bool has_probe =
        c->probes[PROBE_READINESS].spec != NULL || c->probes[PROBE_STARTUP].spec != NULL;

    if (c->role == ROLE_INIT || (has_probe && c->restarts == 0)) {
        return 0;
    }
    ran_ns = h->loop.now_ns - c->started_ns;
    return ran_ns < least_ns ? least_ns - ran_ns : 0;
}

uint64_t home_unsettled_ns(const struct home *h)
{
    struct map_iter it = MAP_ITER(&h->pods);
    uint64_t most_ns = 0;

    while (map_next(&it)) {
        const struct pod *p = it.value;

        for (size_t i = 0; i < p->count; i++) {
            most_ns = MAX(most_ns, unsettled_ns(h, &p->containers[i]));
        }
    }
    return most_ns;
}

static const char *program_of(const struct container *c)
{
    const char *program =
        json_string_value(json_array_get(json_object_get(c->spec, "command"), 0));

    return c->program != NULL ? c->program : program != NULL ? program : "";
}

static json_t *container_json(const struct container *c)
{
    static const char *const roles[] = {"init", "sidecar", "main"};
    static const char *const states[] = {"Waiting", "Starting", "Running", "Backoff", "Done"};
    char why[WHY_BYTES], ended[64];

    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:i, s:i, s:s, s:s, s:s, s:i}", "name", c->name, "role",
                     roles[c->role], "state", states[c->state], "ready", container_is_ready(c),
                     "running", c->pid > 0, "pid", (int)c->pid, "restarts", (int)c->restarts,
                     "reason", container_why(c, why, sizeof(why)), "ended",
                     container_end_text(c, ended, sizeof(ended)), "program", program_of(c), "former",
                     (int)c->former_count);
}

static json_t *pod_json(const struct pod *p)
{
    static const char *const phases[] = {"Starting", "Running", "Leaving",
                                         "Stopping", "Killing", "Gone"};
    json_t *containers = json_array();
    char ip[ADDR_TEXT_BYTES];

    for (size_t i = 0; i < p->count; i++) {
        json_array_append_new(containers, container_json(&p->containers[i]));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:o, s:f}", "namespace", p->ns, "name",
                     p->name, "workload", p->workload, "phase", phases[p->phase], "ready",
                     p->is_ready, "ip", addr_format_ip(&p->net.ip4, ip), "containers", containers,
                     "age", (double)(clock_wall_ns() - p->created_wall_ns) / (double)NS_PER_S);
}

bool home_is_ready(const struct home *h, size_t *out_ready, size_t *out_total)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_DEPLOYMENT]);
    bool all = desired_is_synced(h->desired);

    *out_ready = *out_total = 0;
    while (map_next(&it)) {
        const struct object *d = it.value;
        size_t ready, want;

        all = workload_is_ready(h, d, &ready, &want) && all;
        *out_ready += ready;
        *out_total += want;
    }
    return all;
}

/* What waiting does not mend: pods that cannot be made, and containers that fail over and over. */
static json_t *stuck_json(const struct home *h, const struct pod *const *pods, size_t count)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_DEPLOYMENT]);
    json_t *list = json_array();

    while (map_next(&it)) {
        const struct object *d = it.value;
        char about[ABOUT_BYTES];
        const char *problem;

        (void)snprintf(about, sizeof(about), ABOUT_PODS, d->ns, d->name);
        problem = home_problem_of(h, about);
        if (problem != NULL) {
            json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "namespace", d->ns,
                                                  "deployment", d->name, "reason", problem));
        }
    }
    for (size_t i = 0; i < count; i++) {
        bool is_over = workload_has_replaced(h, pods[i]);

        for (size_t k = 0; k < pods[i]->count; k++) {
            const struct container *c = &pods[i]->containers[k];

            if (!is_over && container_is_stuck(c)) {
                json_array_append_new(
                    list, json_pack("{s:s, s:s, s:s, s:b, s:s}", "namespace", pods[i]->ns, "pod",
                                    pods[i]->name, "container", c->name, "unstartable",
                                    c->is_hopeless, "reason", c->reason));
            }
        }
    }
    return list;
}

json_t *home_status(const struct home *h)
{
    json_t *pods = json_array(), *published = json_object();
    size_t ready, total, count;
    const struct pod **all = sorted_pods(h, &count);
    bool is_ready = home_is_ready(h, &ready, &total);
    json_t *stuck = stuck_json(h, all, count);

    for (size_t i = 0; i < count; i++) {
        json_array_append_new(pods, pod_json(all[i]));
    }
    mem_free((void *)all);
    service_published(h, published);
    return json_pack("{s:b, s:b, s:i, s:i, s:i, s:s, s:o, s:o, s:o, s:o}", "ok", 1, "ready", is_ready,
                     "pods_ready", (int)ready, "pods_total", (int)total, "pid", (int)getpid(),
                     "version", TULLE_VERSION, "pods", pods, "published", published, "problems",
                     home_problems(h), "stuck", stuck);
}

static bool is_to_blame(const struct container *c, bool all)
{
    bool has_failed =
        c->state == CONTAINER_BACKOFF || (c->exit_status != -1 && c->exit_status != 0);

    return !container_is_ready(c) && (has_failed || (all && c->state != CONTAINER_WAITING));
}

json_t *home_unready(const struct home *h, bool all_unready)
{
    char why[WHY_BYTES];
    json_t *list = json_array();
    size_t count;
    const struct pod **all = sorted_pods(h, &count);

    for (size_t i = 0; i < count; i++) {
        const struct pod *p = all[i];

        for (size_t k = 0; k < p->count; k++) {
            const struct container *c = &p->containers[k];

            if (is_to_blame(c, all_unready)) {
                json_array_append_new(
                    list, json_pack("{s:s, s:s, s:s, s:s, s:o}", "namespace", p->ns, "pod", p->name,
                                    "container", c->name, "reason",
                                    container_why(c, why, sizeof(why)),
                                    "lines", log_file_tail(c)));
            }
        }
    }
    mem_free((void *)all);
    return list;
}
