/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <signal.h>
#include <stdio.h>

#define LEAVE_NS         NS_PER_S /* between leaving the slices and SIGTERM: proxies hear of it */
#define GRACE_DEFAULT_S  10
#define TOKEN_REFRESH_NS (UINT64_C(12) * 3600 * NS_PER_S)

const char *pod_dir(const struct pod *p, char to[HOME_PATH_MAX])
{
    (void)snprintf(to, HOME_PATH_MAX, "%.3000s/pods/%s.%s", p->home->path, p->ns, p->name);
    return to;
}

/* --- containers of the manifest ------------------------------------------------------------------ */

static int add_container(struct pod *p, const json_t *spec, bool is_init, char *problem,
                         size_t problem_bytes)
{
    static const char *const probe_names[PROBE_KINDS] = {"startupProbe", "readinessProbe",
                                                         "livenessProbe"};
    const char *restart = json_text(spec, "restartPolicy");
    struct container *c = &p->containers[p->count];

    if (p->count == CONTAINERS_MAX) {
        (void)snprintf(problem, problem_bytes, "it has more than %d containers", CONTAINERS_MAX);
        return E_LIMIT;
    }
    c->pod = p;
    c->spec = spec;
    c->name = json_text(spec, "name");
    c->role = !is_init                                            ? ROLE_MAIN
              : restart != NULL && strcmp(restart, "Always") == 0 ? ROLE_SIDECAR
                                                                  : ROLE_INIT;
    c->exit_status = -1;
    (void)snprintf(c->reason, sizeof(c->reason), "waiting for its turn");
    for (size_t i = 0; i < PROBE_KINDS; i++) {
        c->probes[i].container = c;
        c->probes[i].kind = (enum probe_kind)i;
        c->probes[i].spec = json_object_get(spec, probe_names[i]);
        chain_init(&c->probes[i].answer);
    }
    p->count++;
    return 0;
}

static int add_containers(struct pod *p, char *problem, size_t problem_bytes)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_at(p->json, "spec.initContainers"), i, item)
    {
        TRY(add_container(p, item, true, problem, problem_bytes));
    }
    json_array_foreach(json_at(p->json, "spec.containers"), i, item)
    {
        TRY(add_container(p, item, false, problem, problem_bytes));
    }
    return 0;
}

/* --- starting ------------------------------------------------------------------------------------ */

/* Init containers one by one, a sidecar until it has started, then all others at once. */
static void start_next(struct pod *p)
{
    for (size_t i = 0; i < p->count; i++) {
        struct container *c = &p->containers[i];

        if (c->state == CONTAINER_WAITING) {
            container_start(c);
        }
        if (c->role == ROLE_INIT && c->state != CONTAINER_DONE) {
            return;
        }
        if (c->role == ROLE_SIDECAR && !container_has_started(c)) {
            return;
        }
    }
    p->phase = POD_RUNNING;
}

static void refresh_tokens(struct pod *p)
{
    int rc = volumes_refresh_tokens(p);

    if (rc != 0) {
        log_error("the pod's service-account token cannot be renewed; pod=%s err=%s", p->key,
                  err_text(rc));
    }
    timer_arm_in(&p->home->loop, &p->timer, TOKEN_REFRESH_NS);
}

/* --- ending -------------------------------------------------------------------------------------- */

static bool is_running(const struct pod *p, enum container_role role)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->containers[i].pid > 0 &&
            (p->containers[i].role == ROLE_SIDECAR) == (role == ROLE_SIDECAR)) {
            return true;
        }
    }
    return false;
}

static void signal_all(struct pod *p, bool sidecars, int signo)
{
    for (size_t i = 0; i < p->count; i++) {
        if ((p->containers[i].role == ROLE_SIDECAR) == sidecars) {
            container_signal(&p->containers[i], signo);
        }
    }
}

static void pod_bury(struct grave *g)
{
    struct pod *p = CONTAINER_OF(g, struct pod, grave);

    json_decref(p->json);
    mem_free(p);
}

static void pod_end(struct pod *p)
{
    struct home *h = p->home;
    char dir[HOME_PATH_MAX];

    p->phase = POD_GONE;
    for (size_t i = 0; i < p->count; i++) {
        timer_cancel(&h->loop, &p->containers[i].timer);
        for (size_t k = 0; k < PROBE_KINDS; k++) {
            probe_end(&p->containers[i].probes[k]);
        }
    }
    timer_cancel(&h->loop, &p->timer);
    task_cancel(&p->step);
    if (p->has_net) {
        net_pod_remove(h->net, &p->net);
    }
    pod_status_remove(p);
    tree_remove(pod_dir(p, dir));
    (void)map_remove(&h->pods, bytes_str(p->key));
    log_info("pod is gone; pod=%s", p->key);
    loop_free_later(&h->loop, &p->grave, pod_bury);
    home_reconcile_soon(h);
}

/* Containers first, then the sidecars that carried their last bytes. */
static void stop_next(struct pod *p)
{
    if (is_running(p, ROLE_MAIN)) {
        return;
    }
    if (is_running(p, ROLE_SIDECAR)) {
        if (p->phase == POD_STOPPING) {
            signal_all(p, true, SIGTERM);
        }
        return;
    }
    pod_end(p);
}

static void on_timer(struct timer *t)
{
    struct pod *p = CONTAINER_OF(t, struct pod, timer);
    uint64_t grace_s =
        (uint64_t)json_number(p->json, "spec.terminationGracePeriodSeconds", GRACE_DEFAULT_S);

    switch (p->phase) {
    case POD_STARTING:
    case POD_RUNNING:
        refresh_tokens(p);
        break;
    case POD_LEAVING:
        p->phase = POD_STOPPING;
        timer_arm_in(&p->home->loop, &p->timer, grace_s * NS_PER_S);
        signal_all(p, false, SIGTERM);
        stop_next(p);
        break;
    case POD_STOPPING:
        log_warn("pod did not end within its grace period: killed; pod=%s grace=%llus", p->key,
                 (unsigned long long)grace_s);
        p->phase = POD_KILLING;
        signal_all(p, false, SIGKILL);
        signal_all(p, true, SIGKILL);
        stop_next(p);
        break;
    case POD_KILLING:
    case POD_GONE:
        break;
    }
}

void pod_stop(struct pod *p)
{
    if (p->phase >= POD_LEAVING) {
        return;
    }
    log_info("pod is leaving; pod=%s", p->key);
    p->phase = POD_LEAVING;
    p->left_wall_ns = clock_wall_ns();
    for (size_t i = 0; i < p->count; i++) {
        timer_cancel(&p->home->loop, &p->containers[i].timer);
    }
    timer_arm_in(&p->home->loop, &p->timer, p->is_ready ? LEAVE_NS : 0);
    pod_changed(p);
}

/* --- changes ------------------------------------------------------------------------------------- */

void pod_changed(struct pod *p)
{
    if (p->phase != POD_GONE) {
        task_wake(&p->home->loop, &p->step);
    }
}

void pod_step(struct task *t)
{
    struct pod *p = CONTAINER_OF(t, struct pod, step);
    bool ready = p->phase == POD_RUNNING;

    if (p->phase == POD_STARTING) {
        start_next(p);
        ready = p->phase == POD_RUNNING;
    }
    if (p->phase == POD_STOPPING || p->phase == POD_KILLING) {
        stop_next(p);
        if (p->phase == POD_GONE) {
            return;
        }
    }
    for (size_t i = 0; ready && i < p->count; i++) {
        ready = container_is_ready(&p->containers[i]);
    }
    if (ready != p->is_ready) {
        p->is_ready = ready;
        p->was_ready = p->was_ready || ready;
        log_info("pod is %s; pod=%s", ready ? "ready" : "not ready", p->key);
        home_reconcile_soon(p->home);
    }
    pod_status_write(p);
}

int pod_start(struct home *h, const char *ns, const char *name, const char *workload,
              const char *template_hash, json_t *json, struct pod **out, char *problem,
              size_t problem_bytes)
{
    struct pod *p = mem_new(sizeof(*p));
    char dir[HOME_PATH_MAX];
    int rc;

    p->home = h;
    p->json = json;
    (void)snprintf(p->ns, sizeof(p->ns), "%s", ns);
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    (void)snprintf(p->key, sizeof(p->key), "%s/%s", ns, name);
    (void)snprintf(p->workload, sizeof(p->workload), "%s", workload);
    (void)snprintf(p->template_hash, sizeof(p->template_hash), "%s", template_hash);
    p->created_wall_ns = clock_wall_ns();
    p->step.run = pod_step;
    p->timer.run = on_timer;
    problem[0] = '\0';
    rc = tree_make(pod_dir(p, dir));
    if (rc == 0) {
        rc = add_containers(p, problem, problem_bytes);
    }
    if (rc == 0) {
        rc = net_pod_add(h->net, p->key, &p->net, problem, problem_bytes);
        p->has_net = rc == 0;
    }
    if (rc == 0) {
        rc = volumes_make(p, problem, problem_bytes);
    }
    if (rc != 0) {
        if (problem[0] == '\0') {
            (void)snprintf(problem, problem_bytes, "its folder cannot be made: %s", err_text(rc));
        }
        if (p->has_net) {
            net_pod_remove(h->net, &p->net);
        }
        tree_remove(dir);
        json_decref(json);
        mem_free(p);
        return rc;
    }
    (void)map_put(&h->pods, bytes_str(p->key), p);
    timer_arm_in(&h->loop, &p->timer, TOKEN_REFRESH_NS);
    log_info("pod starts; pod=%s", p->key);
    pod_changed(p);
    *out = p;
    return 0;
}
