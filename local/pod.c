/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "local/upgrade.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAVE_NS         NS_PER_S /* between leaving the slices and SIGTERM: proxies hear of it */
#define GRACE_DEFAULT_S  10
#define TOKEN_REFRESH_NS (UINT64_C(12) * 3600 * NS_PER_S)
#define PID_TEXT_BYTES   64

static void pod_step(struct task *t);

const char *pod_dir(const struct pod *p, char to[HOME_PATH_MAX])
{
    (void)snprintf(to, HOME_PATH_MAX, "%.3000s/pods/%s.%s", p->home->path, p->ns, p->name);
    return to;
}

int64_t pod_grace_s(const struct pod *p)
{
    return json_number(p->json, "spec.terminationGracePeriodSeconds", GRACE_DEFAULT_S);
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
    if (c->name == NULL || json_array_size(json_object_get(spec, "command")) == 0) {
        /* The user's were checked; an annotation may have added one that only an image can run. */
        (void)snprintf(
            problem, problem_bytes,
            "its container \"%s\" has no command: on one machine there is no image to take it from",
            c->name != NULL ? c->name : "");
        return E_UNSUPPORTED;
    }
    c->role = !is_init                                            ? ROLE_MAIN
              : restart != NULL && strcmp(restart, "Always") == 0 ? ROLE_SIDECAR
                                                                  : ROLE_INIT;
    c->exit_status = -1;
    c->setup.fd = -1;
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

static bool is_control(const struct pod *p, const char *workload)
{
    return strcmp(p->ns, NAME_CONTROL_NS) == 0 && strcmp(p->workload, workload) == 0;
}

/*
 * While a home comes up, proxies that ask for certificates and policies before somebody can answer
 * would only wait out their back-offs. So identity's pod comes first, then the controller's, then all
 * others. Later a proxy has to cope by itself, as in a cluster.
 */
static bool is_control_ready(const struct home *h, const struct pod *for_pod)
{
    struct map_iter it = MAP_ITER(&h->pods);
    bool identity = false, controller = is_control(for_pod, "linkerd-controller");

    if (h->is_announced || is_control(for_pod, "linkerd-identity")) {
        return true;
    }
    while (map_next(&it)) {
        const struct pod *p = it.value;

        identity = identity || (p->is_ready && is_control(p, "linkerd-identity"));
        controller = controller || (p->is_ready && is_control(p, "linkerd-controller"));
    }
    return identity && controller;
}

/* Init containers one by one, a sidecar until it has started, then all others at once. */
static void start_next(struct pod *p)
{
    for (size_t i = 0; i < p->count; i++) {
        struct container *c = &p->containers[i];

        if (c->state == CONTAINER_WAITING && strcmp(c->name, CONTAINER_PROXY) == 0 &&
            !is_control_ready(p->home, p)) {
            return;
        }
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

/* The control plane became ready: proxies that waited for it go on. */
static void wake_waiting(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->pods);

    while (!h->is_announced && map_next(&it)) {
        struct pod *p = it.value;

        if (p->phase == POD_STARTING) {
            pod_changed(p);
        }
    }
}

static void refresh_tokens(struct pod *p)
{
    int rc = volumes_refresh(p, true);

    if (rc != 0) {
        log_error("the pod's service-account token cannot be renewed; pod=%s err=%s", p->key,
                  err_text(rc));
    }
    timer_arm_in(&p->home->loop, &p->timer, TOKEN_REFRESH_NS);
}

/* --- ending -------------------------------------------------------------------------------------- */

static bool is_running(const struct pod *p, bool sidecars)
{
    for (size_t i = 0; i < p->count; i++) {
        if (container_is_running(&p->containers[i]) &&
            (p->containers[i].role == ROLE_SIDECAR) == sidecars) {
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
            upgrade_signal(&p->containers[i], signo);
        }
    }
}

static bool is_same(const char *pid, const char *space, const struct stat *as)
{
    char path[PID_TEXT_BYTES];
    struct stat st;

    (void)snprintf(path, sizeof(path), "/proc/%.20s/ns/%s", pid, space);
    return stat(path, &st) == 0 && st.st_dev == as->st_dev && st.st_ino == as->st_ino;
}

/* What `exec` started in it, and what left its container's process group: all of the home's processes
 * that run in its network. */
static void kill_rest(const struct pod *p)
{
    struct stat netns, pids;
    struct dirent *entry;
    DIR *list;

    if (fstat(p->net.netns_fd, &netns) != 0 || stat("/proc/self/ns/pid_for_children", &pids) != 0 ||
        (list = opendir("/proc")) == NULL) {
        return;
    }
    while ((entry = readdir(list)) != NULL) {
        const char *pid = entry->d_name;

        if (pid[0] >= '1' && pid[0] <= '9' && is_same(pid, "net", &netns) &&
            is_same(pid, "pid", &pids)) {
            (void)kill((pid_t)strtol(pid, NULL, 10), SIGKILL);
        }
    }
    (void)closedir(list);
}

static void pod_bury(struct grave *g)
{
    struct pod *p = CONTAINER_OF(g, struct pod, grave);

    json_decref(p->json);
    mem_free(p);
}

void pod_drop(struct pod *p)
{
    struct home *h = p->home;

    p->phase = POD_GONE;
    for (size_t i = 0; i < p->count; i++) {
        container_close(&p->containers[i]);
    }
    timer_cancel(&h->loop, &p->timer);
    task_cancel(&p->step);
    volumes_unmount(p);
    if (p->has_net && p->net.netns_fd >= 0) { /* what it stands for goes with the home */
        (void)close(p->net.netns_fd);
    }
    (void)map_remove(&h->pods, bytes_str(p->key));
    loop_free_later(&h->loop, &p->grave, pod_bury);
}

static void pod_end(struct pod *p)
{
    struct home *h = p->home;

    log_info("pod is gone; pod=%s", p->key);
    if (!h->is_stopping) { /* else all of it goes at once, with the home */
        kill_rest(p);
        net_pod_remove(h->net, &p->net);
        p->has_net = false;
        pod_status_remove(p);
        volumes_remove(p);
        log_files_remove(p);
    }
    pod_drop(p);
    home_reconcile_soon(h);
}

/* Containers first, then the sidecars that carried their last bytes. */
static void stop_next(struct pod *p)
{
    if (is_running(p, false)) {
        return;
    }
    if (is_running(p, true)) {
        if (!p->are_sidecars_told) {
            p->are_sidecars_told = true;
            signal_all(p, true, SIGTERM);
        }
        return;
    }
    pod_end(p);
}

static void begin_stopping(struct pod *p)
{
    p->phase = POD_STOPPING;
    timer_arm_in(&p->home->loop, &p->timer, (uint64_t)pod_grace_s(p) * NS_PER_S);
    signal_all(p, false, SIGTERM);
    pod_changed(p);
}

static void on_timer(struct timer *t)
{
    struct pod *p = CONTAINER_OF(t, struct pod, timer);

    switch (p->phase) {
    case POD_STARTING:
    case POD_RUNNING:
        refresh_tokens(p);
        break;
    case POD_LEAVING:
        begin_stopping(p);
        break;
    case POD_STOPPING:
        log_warn("pod did not end within its grace period: killed; pod=%s", p->key);
        p->phase = POD_KILLING;
        signal_all(p, false, SIGKILL);
        signal_all(p, true, SIGKILL);
        pod_changed(p);
        break;
    case POD_KILLING:
    case POD_GONE:
        break;
    }
}

/* No container starts again. */
static void begin_leaving(struct pod *p)
{
    p->phase = POD_LEAVING;
    p->left_wall_ns = clock_wall_ns();
    for (size_t i = 0; i < p->count; i++) {
        timer_cancel(&p->home->loop, &p->containers[i].timer);
    }
}

void pod_stop(struct pod *p)
{
    if (p->phase >= POD_LEAVING) {
        return;
    }
    log_info("pod is leaving; pod=%s", p->key);
    begin_leaving(p);
    timer_arm_in(&p->home->loop, &p->timer, p->is_ready ? LEAVE_NS : 0);
    pod_changed(p);
}

void pod_stop_now(struct pod *p)
{
    if (p->phase < POD_LEAVING) {
        begin_leaving(p);
    }
    if (p->phase == POD_LEAVING) {
        begin_stopping(p);
    }
}

/* --- changes ------------------------------------------------------------------------------------- */

void pod_changed(struct pod *p)
{
    if (p->phase != POD_GONE) {
        task_wake(&p->home->loop, &p->step);
    }
}

static void pod_step(struct task *t)
{
    struct pod *p = CONTAINER_OF(t, struct pod, step);
    struct home *h = p->home;
    bool ready;

    if (p->phase == POD_STARTING) {
        start_next(p);
    }
    if (p->phase == POD_STOPPING || p->phase == POD_KILLING) {
        stop_next(p);
    }
    if (p->phase == POD_GONE || h->is_stopping) {
        return; /* nobody looks at a home that ends */
    }
    ready = p->phase == POD_RUNNING;
    for (size_t i = 0; ready && i < p->count; i++) {
        ready = container_is_ready(&p->containers[i]);
    }
    if (ready != p->is_ready) {
        p->is_ready = ready;
        log_info("pod is %s; pod=%s", ready ? "ready" : "not ready", p->key);
        home_reconcile_soon(h);
        if (strcmp(p->ns, NAME_CONTROL_NS) == 0) {
            wake_waiting(h);
        }
    }
    pod_status_write(p);
}

static struct pod *pod_new(struct home *h, const char *ns, const char *name, const char *workload,
                           const char *template_hash, json_t *json)
{
    struct pod *p = mem_new(sizeof(*p));

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
    return p;
}

int pod_start(struct home *h, const char *ns, const char *name, const char *workload,
              const char *template_hash, json_t *json, char *problem, size_t problem_bytes)
{
    struct pod *p = pod_new(h, ns, name, workload, template_hash, json);
    int rc;

    problem[0] = '\0';
    rc = add_containers(p, problem, problem_bytes);
    if (rc == 0) {
        rc = volumes_make(p, problem, problem_bytes);
    }
    if (rc == 0) {
        rc = net_pod_add(h->net, p->key, &p->net, problem, problem_bytes);
    }
    if (rc != 0) {
        volumes_remove(p);
        json_decref(json);
        mem_free(p);
        return rc;
    }
    p->has_net = true;
    (void)map_put(&h->pods, bytes_str(p->key), p);
    timer_arm_in(&h->loop, &p->timer, TOKEN_REFRESH_NS);
    log_info("pod starts; pod=%s", p->key);
    pod_changed(p);
    return 0;
}
