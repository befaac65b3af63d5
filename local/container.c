/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MAX_S 30
#define STEADY_NS     (60 * NS_PER_S) /* ran so long: the next back-off starts from 1 s again */
#define LOG_BYTES_MAX (10u << 20)

void container_log_path(const struct container *c, char to[HOME_PATH_MAX])
{
    (void)snprintf(to, HOME_PATH_MAX, "%.2000s/logs/%s.%s.%s.log", c->pod->home->path, c->pod->ns,
                   c->pod->name, c->name);
}

/* Rotated when a container starts: one former file is kept. */
static int open_log(const struct container *c)
{
    char path[HOME_PATH_MAX], former[HOME_PATH_MAX + 4];
    struct stat st;

    container_log_path(c, path);
    if (stat(path, &st) == 0 && st.st_size > LOG_BYTES_MAX) {
        (void)snprintf(former, sizeof(former), "%s.1", path);
        (void)rename(path, former);
    }
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void begin_probes(struct container *c)
{
    for (size_t i = 0; i < PROBE_KINDS; i++) {
        c->probes[i].passes = false;
    }
    if (c->probes[PROBE_STARTUP].spec != NULL) {
        probe_begin(
            &c->probes
                 [PROBE_STARTUP]); /* the others follow when it has passed: container_has_started() */
        return;
    }
    probe_begin(&c->probes[PROBE_READINESS]);
    probe_begin(&c->probes[PROBE_LIVENESS]);
}

static void container_failed(struct container *c, const char *why)
{
    struct home *h = c->pod->home;

    (void)snprintf(c->reason, sizeof(c->reason), "%s", why);
    if (c->pod->phase > POD_RUNNING) {
        c->state = CONTAINER_DONE;
        return;
    }
    c->backoff_s = c->backoff_s == 0 ? 1 : MIN(c->backoff_s * 2, (unsigned)BACKOFF_MAX_S);
    c->state = CONTAINER_BACKOFF;
    timer_arm_in(&h->loop, &c->timer, c->backoff_s * NS_PER_S);
    log_warn("container will be started again; pod=%s container=%s reason=\"%s\" in=%us",
             c->pod->key, c->name, why, c->backoff_s);
}

static void on_restart(struct timer *t)
{
    struct container *c = CONTAINER_OF(t, struct container, timer);

    c->restarts++;
    container_start(c);
}

void container_start(struct container *c)
{
    struct home *h = c->pod->home;
    struct process_args args;
    struct arena arena;
    char problem[256];
    int fds[3] = {-1, -1, -1};
    int rc;

    c->timer.run = on_restart;
    arena_init(&arena, 8u << 20);
    rc = process_args_make(c, &arena, &args, problem, sizeof(problem));
    if (rc == 0) {
        fds[1] = fds[2] = open_log(c);
        if (fds[1] < 0) {
            (void)snprintf(problem, sizeof(problem), "its log cannot be written: %s",
                           err_text(-errno));
            rc = -errno;
        }
    }
    if (rc == 0) {
        rc = spawn_in(c, NULL, fds, &c->pid);
        (void)snprintf(problem, sizeof(problem), "it cannot be forked: %s", err_text(rc));
    }
    if (fds[1] >= 0) {
        (void)close(fds[1]);
    }
    arena_clear(&arena);
    if (rc != 0) {
        container_failed(c, problem);
    } else {
        c->state = CONTAINER_RUNNING;
        c->started_ns = h->loop.now_ns;
        c->reason[0] = '\0';
        begin_probes(c);
        log_info("container started; pod=%s container=%s pid=%d", c->pod->key, c->name,
                 (int)c->pid);
    }
    pod_changed(c->pod);
}

void container_exited(struct container *c, int status)
{
    char why[96];
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;

    for (size_t i = 0; i < PROBE_KINDS; i++) {
        probe_end(&c->probes[i]);
    }
    c->pid = 0;
    c->exit_status = status;
    if (WIFSIGNALED(status)) {
        (void)snprintf(why, sizeof(why), "ended by signal %d", WTERMSIG(status));
    } else {
        (void)snprintf(why, sizeof(why), "ended with status %d", WEXITSTATUS(status));
    }
    if (c->role == ROLE_INIT && ok) {
        c->state = CONTAINER_DONE;
    } else {
        if (c->pod->home->loop.now_ns - c->started_ns > STEADY_NS) {
            c->backoff_s = 0;
        }
        container_failed(c, why);
    }
    pod_changed(c->pod);
}

void container_signal(struct container *c, int signo)
{
    if (c->pid > 0) {
        (void)kill(-c->pid, signo); /* the whole group: shells forward nothing */
    }
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

bool pods_reap(struct home *h, pid_t pid, int status)
{
    struct map_iter it = MAP_ITER(&h->pods);

    while (map_next(&it)) {
        struct pod *p = it.value;

        for (size_t i = 0; i < p->count; i++) {
            struct container *c = &p->containers[i];

            if (c->pid == pid) {
                container_exited(c, status);
                return true;
            }
            for (size_t k = 0; k < PROBE_KINDS; k++) {
                if (probe_reaped(&c->probes[k], pid, status)) {
                    return true;
                }
            }
        }
    }
    return false;
}
