/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "local/upgrade.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MAX_S   30
#define STEADY_NS       (60 * NS_PER_S) /* ran so long: the next back-off starts from 1 s again */
#define GROUP_NS        (50 * NS_PER_MS)
#define CRASHES_MAX     5 /* while `up` waits: then it is not going to work */
#define STUCK_BACKOFF_S 16 /* the back-off after so many in a row */
#define ARENA_BYTES_MAX (8u << 20)

/* --- its end ------------------------------------------------------------------------------------- */

/* While a home comes up: tell, and give up on what cannot work. */
static void announce_failure(struct container *c, bool is_hopeless)
{
    struct home *h = c->pod->home;

    if (h->is_announced || h->is_stopping) {
        return;
    }
    if (is_hopeless) {
        home_problem(h, c->pod->key, "pod %s: container %s cannot be started: %s", c->pod->key,
                     c->name, c->reason);
    } else if (c->restarts + 1 >= CRASHES_MAX) {
        home_problem(h, c->pod->key, "pod %s: container %s %s, for the %uth time", c->pod->key,
                     c->name, c->reason, c->restarts + 1);
    } else {
        announce_notice(h, "pod %s: container %s %s, and is started again", c->pod->key, c->name,
                        c->reason);
    }
}

static void container_failed(struct container *c, const char *why, bool is_hopeless)
{
    struct home *h = c->pod->home;

    (void)snprintf(c->reason, sizeof(c->reason), "%s", why);
    home_clean(c->reason);
    if (c->pod->phase > POD_RUNNING) {
        c->state = CONTAINER_DONE;
        return;
    }
    c->backoff_s = c->backoff_s == 0 ? 1 : MIN(c->backoff_s * 2, (unsigned)BACKOFF_MAX_S);
    c->state = CONTAINER_BACKOFF;
    c->is_hopeless = is_hopeless;
    timer_arm_in(&h->loop, &c->timer, c->backoff_s * NS_PER_S);
    log_warn("container will be started again; pod=%s container=%s reason=\"%s\" in=%us",
             c->pod->key, c->name, why, c->backoff_s);
    announce_failure(c, is_hopeless);
}

static void begin_probes(struct container *c)
{
    for (size_t i = 0; i < PROBE_KINDS; i++) {
        c->probes[i].passes = false;
    }
    if (c->probes[PROBE_STARTUP].spec != NULL) {
        probe_begin(&c->probes[PROBE_STARTUP]); /* the others follow when it has passed */
        return;
    }
    probe_begin(&c->probes[PROBE_READINESS]);
    probe_begin(&c->probes[PROBE_LIVENESS]);
}

/*
 * Whether its program is executed, once that is known. Before, it is neither started nor ready: a Service
 * must not lead to what turns out not to be there.
 */
static void learn_of_start(struct container *c)
{
    char why[sizeof(c->reason)];
    ssize_t n = c->setup.fd >= 0 ? read(c->setup.fd, why, sizeof(why) - 1) : -1;

    if (n < 0) {
        return;
    }
    watch_close(&c->setup);
    if (n > 0) { /* its end comes next */
        why[n] = '\0';
        (void)snprintf(c->reason, sizeof(c->reason), "%s", why);
        c->is_hopeless = true;
        return;
    }
    c->state = CONTAINER_RUNNING;
    c->started_ns = c->pod->home->loop.now_ns;
    c->reason[0] = '\0';
    begin_probes(c);
    log_info("container started; pod=%s container=%s pid=%d", c->pod->key, c->name, (int)c->pid);
    pod_changed(c->pod);
}

static void on_setup_told(struct task *t)
{
    learn_of_start(CONTAINER_OF(t, struct container, setup_told));
}

/*
 * Shells die of a SIGTERM before what they run has ended in its own way; so when a container was told to
 * end, all of its process group may take the time. It has no event for its end: it is looked at.
 */
static void look_at_group(struct container *c)
{
    if (kill(-c->group, 0) == 0) {
        timer_arm_in(&c->pod->home->loop, &c->timer, GROUP_NS);
        return;
    }
    c->group = 0;
    pod_changed(c->pod);
}

static void container_exited(struct container *c, int status)
{
    char why[sizeof(c->reason)];
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;

    learn_of_start(c);
    for (size_t i = 0; i < PROBE_KINDS; i++) {
        probe_end(&c->probes[i]);
    }
    timer_cancel(&c->pod->home->loop, &c->timer);
    if (c->pod->phase > POD_RUNNING) {
        c->group = c->pid;
    }
    c->pid = 0;
    c->is_ending = false;
    c->exit_status = status;
    if (c->is_hopeless) {
        (void)snprintf(why, sizeof(why), "%s", c->reason);
    } else {
        (void)container_end_text(c, why, sizeof(why));
    }
    if (c->role == ROLE_INIT && ok) {
        c->state = CONTAINER_DONE;
        (void)snprintf(c->reason, sizeof(c->reason), "completed");
    } else {
        if (c->pod->home->loop.now_ns - c->started_ns > STEADY_NS) {
            c->backoff_s = 0;
        }
        container_failed(c, why, c->is_hopeless);
    }
    if (c->group > 0) {
        look_at_group(c);
    }
    pod_changed(c->pod);
}

/* --- its start ----------------------------------------------------------------------------------- */

static void on_timer(struct timer *t)
{
    struct container *c = CONTAINER_OF(t, struct container, timer);

    if (c->group > 0) {
        look_at_group(c);
        return;
    }
    if (c->pid > 0) { /* told to end, and it did not */
        container_signal(c, SIGKILL);
        return;
    }
    if (c->upgrade != NULL) { /* its successor may be about to serve */
        timer_arm_in(&c->pod->home->loop, &c->timer, NS_PER_S);
        return;
    }
    c->restarts++;
    container_start(c);
}

/* Arguments are made here too, where their problem can be told, though it is the child that uses them. */
static int start(struct container *c, char *problem, size_t problem_bytes)
{
    struct spawn s = {.fds = {-1, -1, -1}, .program = c->program};
    struct process_args args;
    struct arena arena;
    int rc, setup_fd;

    arena_init(&arena, ARENA_BYTES_MAX);
    rc = process_args_make(c, NULL, &arena, &args, problem, problem_bytes);
    arena_clear(&arena);
    TRY(rc);
    rc = log_file_open(c);
    if (rc < 0) {
        (void)snprintf(problem, problem_bytes, "its log cannot be written: %s", err_text(rc));
        return rc;
    }
    s.fds[1] = s.fds[2] = rc;
    rc = spawn_in(c, &s, &c->pid, &setup_fd);
    (void)close(s.fds[1]);
    if (rc == 0 && (rc = watch_open(&c->setup, &c->pod->home->loop, setup_fd, &c->setup_told)) != 0) {
        (void)close(setup_fd);
        spawn_kill(c->pid, SIGKILL); /* reaped by nobody's name */
        c->pid = 0;
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "no process can be made: %s", err_text(rc));
    }
    return rc;
}

void container_start(struct container *c)
{
    char problem[sizeof(c->reason)] = "";
    int rc;

    c->timer.run = on_timer;
    c->setup_told.run = on_setup_told;
    c->is_hopeless = false;
    rc = start(c, problem, sizeof(problem));
    if (rc != 0) {
        container_failed(c, problem, true);
    } else {
        c->state = CONTAINER_STARTING;
        c->started_ns = c->pod->home->loop.now_ns;
        (void)snprintf(c->reason, sizeof(c->reason), "is being started");
    }
    pod_changed(c->pod);
}

/* --- meanwhile ----------------------------------------------------------------------------------- */

void container_signal(struct container *c, int signo)
{
    if (c->pid > 0) {
        spawn_kill(c->pid, signo);
    } else if (c->group > 0) {
        (void)kill(-c->group, signo);
    }
}

bool container_is_running(const struct container *c)
{
    return c->pid > 0 || c->group > 0 || c->former_count > 0;
}

void container_succeed(struct container *c, pid_t pid, const char *program)
{
    char *copy = mem_strdup(program);

    assert(c->former_count < FORMER_MAX);
    if (c->pid > 0) {
        c->former[c->former_count++] = c->pid;
    }
    if (c->state != CONTAINER_RUNNING) { /* it died meanwhile, and is not started again */
        watch_close(&c->setup);
        begin_probes(c);
    }
    mem_free(c->program);
    c->program = copy;
    c->pid = pid;
    c->state = CONTAINER_RUNNING;
    c->is_ending = false;
    c->started_ns = c->pod->home->loop.now_ns;
    c->reason[0] = '\0';
    timer_cancel(&c->pod->home->loop, &c->timer);
    pod_changed(c->pod);
}

void container_end(struct container *c)
{
    if (c->pid > 0 && !c->is_ending) {
        c->is_ending = true;
        container_signal(c, SIGTERM);
        timer_arm_in(&c->pod->home->loop, &c->timer, (uint64_t)pod_grace_s(c->pod) * NS_PER_S);
    }
}

void container_close(struct container *c)
{
    upgrade_forget(c);
    mem_free(c->program);
    c->program = NULL;
    timer_cancel(&c->pod->home->loop, &c->timer);
    for (size_t i = 0; i < PROBE_KINDS; i++) {
        probe_end(&c->probes[i]);
    }
    watch_close(&c->setup);
    task_cancel(&c->setup_told);
}

bool container_has_started(const struct container *c)
{
    return c->state == CONTAINER_RUNNING &&
           (c->probes[PROBE_STARTUP].spec == NULL || c->probes[PROBE_STARTUP].passes);
}

bool container_is_ready(const struct container *c)
{
    if (c->role == ROLE_INIT) {
        return c->state == CONTAINER_DONE;
    }
    return container_has_started(c) &&
           (c->probes[PROBE_READINESS].spec == NULL || c->probes[PROBE_READINESS].passes);
}

bool container_is_stuck(const struct container *c)
{
    return c->state == CONTAINER_BACKOFF && (c->is_hopeless || c->backoff_s >= STUCK_BACKOFF_S);
}

const char *container_why(const struct container *c, char *to, size_t bytes)
{
    const struct probe *startup = &c->probes[PROBE_STARTUP],
                       *readiness = &c->probes[PROBE_READINESS];
    const struct probe *p = startup->spec != NULL && !startup->passes ? startup : readiness;

    if (c->reason[0] != '\0' || container_is_ready(c)) {
        (void)snprintf(to, bytes, "%s", c->reason);
    } else if (p->why[0] == '\0') {
        (void)snprintf(to, bytes, "runs and is not ready");
    } else {
        (void)snprintf(to, bytes, "runs and is not ready; its %s probe fails: %s",
                       p->kind == PROBE_STARTUP ? "startup" : "readiness", p->why);
    }
    return to;
}

const char *container_end_text(const struct container *c, char *to, size_t bytes)
{
    int status = c->exit_status;

    to[0] = '\0';
    if (status != -1 && WIFSIGNALED(status)) {
        (void)snprintf(to, bytes, "ended by signal %d", WTERMSIG(status));
    } else if (status != -1) {
        (void)snprintf(to, bytes, "ended with status %d", WEXITSTATUS(status));
    }
    return to;
}

/* --- whose process ------------------------------------------------------------------------------- */

/* The container or the probe (not both) that this pid belongs to. */
static bool find(const struct home *h, pid_t pid, struct container **out_container,
                 struct probe **out_probe)
{
    struct map_iter it = MAP_ITER(&h->pods);

    *out_container = NULL;
    *out_probe = NULL;
    while (map_next(&it)) {
        struct pod *p = it.value;

        for (size_t i = 0; i < p->count; i++) {
            struct container *c = &p->containers[i];

            if (c->pid == pid || upgrade_owns(c, pid)) {
                *out_container = c;
                return true;
            }
            for (size_t k = 0; k < PROBE_KINDS; k++) {
                if (c->probes[k].pid == pid) {
                    *out_probe = &c->probes[k];
                    return true;
                }
            }
        }
    }
    return false;
}

bool pods_own(const struct home *h, pid_t pid)
{
    struct container *c;
    struct probe *p;

    if (!find(h, pid, &c, &p)) {
        return false;
    }
    if (c == NULL || c->pod->phase <= POD_RUNNING) {
        /* It would hold the ports of what is started next. The number is not given away yet. */
        (void)kill(-pid, SIGKILL);
    }
    return true;
}

void pods_reap(struct home *h, pid_t pid, int status)
{
    struct container *c;
    struct probe *p;

    if (!find(h, pid, &c, &p)) {
        return;
    }
    if (c != NULL && c->pid != pid) {
        upgrade_reaped(c, pid, status);
    } else if (c != NULL) {
        container_exited(c, status);
    } else {
        probe_reaped(p, status);
    }
}
