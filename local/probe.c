/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/sock.h"

#include <signal.h>
#include <stdio.h>
#include <strings.h>
#include <sys/wait.h>

/*
 * Probes from the node namespace, as a kubelet makes them: HTTP GET (200 to 399 is well), a TCP connect, or a
 * command in the container. They pass the pod's inbound proxy, as in a cluster.
 */
#define ANSWER_BYTES_MAX 4096

static void probe_run(struct task *t);

static struct loop *loop_of(const struct probe *p)
{
    return &p->container->pod->home->loop;
}

static uint64_t seconds(const struct probe *p, const char *name, int64_t fallback)
{
    int64_t s = json_number(p->spec, name, fallback);

    return (uint64_t)MAX(s, (int64_t)0) * NS_PER_S;
}

static void stop_attempt(struct probe *p)
{
    io_close(p->io);
    p->io = NULL;
    chain_clear(&p->answer);
    task_cancel(&p->task);
    if (p->pid > 0) {
        (void)kill(-p->pid, SIGKILL);
        p->pid = 0; /* reaped by nobody's name */
    }
    p->is_sent = false;
}

static void judge(struct probe *p, bool ok)
{
    struct container *c = p->container;
    int64_t need = ok ? json_number(p->spec, "successThreshold", 1)
                      : json_number(p->spec, "failureThreshold", 3);
    bool before = p->passes;

    p->successes = ok ? p->successes + 1 : 0;
    p->failures = ok ? 0 : p->failures + 1;
    if (ok && (int64_t)p->successes >= need) {
        p->passes = true;
    } else if (!ok && (int64_t)p->failures >= need) {
        p->passes = false;
        if (p->kind != PROBE_READINESS) {
            log_warn("container is ended: its %s probe failed %u times; pod=%s container=%s",
                     p->kind == PROBE_LIVENESS ? "liveness" : "startup", p->failures, c->pod->key,
                     c->name);
            p->failures = 0;
            container_signal(c, SIGKILL);
        }
    }
    if (p->passes == before) {
        return;
    }
    if (p->kind == PROBE_STARTUP && p->passes) {
        timer_cancel(loop_of(p), &p->timer);
        probe_begin(&c->probes[PROBE_READINESS]);
        probe_begin(&c->probes[PROBE_LIVENESS]);
    }
    pod_changed(c->pod);
}

static void finish(struct probe *p, bool ok)
{
    stop_attempt(p);
    if (!p->is_running) {
        return;
    }
    /* A pod that is starting is looked at often at first, so that a home comes up fast. */
    timer_arm_in(loop_of(p), &p->timer,
                 !ok && !p->passes && p->failures < 20 ? 200 * NS_PER_MS
                                                       : seconds(p, "periodSeconds", 10));
    judge(p, ok);
}

/* --- attempts ------------------------------------------------------------------------------------ */

static bool probe_port(const struct probe *p, const json_t *value, uint16_t *out)
{
    const json_t *port;
    size_t i;

    if (json_is_integer(value)) {
        *out = (uint16_t)json_integer_value(value);
        return true;
    }
    json_array_foreach(json_object_get(p->container->spec, "ports"), i, port)
    {
        const char *name = json_text(port, "name");

        if (name != NULL && json_is_string(value) && strcmp(name, json_string_value(value)) == 0) {
            *out = (uint16_t)json_number(port, "containerPort", 0);
            return true;
        }
    }
    return false;
}

static int send_request(struct probe *p, const json_t *get)
{
    struct pod *pod = p->container->pod;
    const char *path = json_text(get, "path");
    char text[1200], ip[ADDR_TEXT_BYTES];
    struct chain bytes;
    int rc;

    (void)snprintf(text, sizeof(text),
                   "GET %.1000s HTTP/1.1\r\nHost: %s\r\nUser-Agent: "
                   "kube-probe/tulle\r\nConnection: close\r\n\r\n",
                   path != NULL ? path : "/", addr_format_ip(&pod->net.ip4, ip));
    chain_init(&bytes);
    rc = chain_append(&bytes, &loop_of(p)->chunks, bytes_str(text));
    if (rc == 0) {
        rc = io_send(p->io, &bytes);
    }
    chain_clear(&bytes);
    p->is_sent = true;
    return rc;
}

/* The status line is enough. */
static void read_answer(struct probe *p)
{
    char line[16] = "";
    size_t got, n;
    int rc;

    do {
        rc = io_recv(p->io, &p->answer, ANSWER_BYTES_MAX, &got);
    } while (rc == 0 && chain_size(&p->answer) < 12);
    n = chain_peek(&p->answer, line, 12);
    if (n < 12 && rc == E_AGAIN) {
        return;
    }
    finish(p, n == 12 && memcmp(line, "HTTP/1.", 7) == 0 && (line[9] == '2' || line[9] == '3'));
}

static void probe_run(struct task *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, task);
    const json_t *get = json_object_get(p->spec, "httpGet");
    int rc = io_handshake(p->io);

    if (rc == E_AGAIN) {
        return;
    }
    if (rc != 0 || get == NULL) {
        finish(p, rc == 0);
        return;
    }
    if (!p->is_sent && send_request(p, get) != 0) {
        finish(p, false);
        return;
    }
    read_answer(p);
}

static void begin_exec(struct probe *p, const json_t *command)
{
    char *argv[64];
    const int fds[3] = {-1, -1, -1};
    const json_t *item;
    size_t i, count = 0;

    json_array_foreach(command, i, item)
    {
        if (json_is_string(item) && count + 1 < ARRAY_LEN(argv)) {
            argv[count++] = (char *)(uintptr_t)json_string_value(item);
        }
    }
    argv[count] = NULL;
    if (count == 0 || spawn_in(p->container, argv, fds, &p->pid) != 0) {
        finish(p, false);
    }
}

static void begin_attempt(struct probe *p)
{
    struct pod *pod = p->container->pod;
    const json_t *get = json_object_get(p->spec, "httpGet"),
                 *tcp = json_object_get(p->spec, "tcpSocket");
    const json_t *command = json_at(p->spec, "exec.command");
    struct addr to = pod->net.ip4;

    if (command != NULL) {
        begin_exec(p, command);
        return;
    }
    if (!probe_port(p, json_object_get(get != NULL ? get : tcp, "port"), &to.port) ||
        sock_dial(loop_of(p), &to, &(struct sock_opts){0}, &p->task, &p->io) != 0) {
        finish(p, false);
        return;
    }
    task_wake(loop_of(p), &p->task);
}

static void on_timer(struct timer *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, timer);
    bool under_way = p->io != NULL || p->pid > 0;

    if (under_way) {
        finish(p, false); /* timeoutSeconds ran out */
        return;
    }
    timer_arm_in(loop_of(p), &p->timer, MAX(seconds(p, "timeoutSeconds", 1), NS_PER_S));
    begin_attempt(p);
}

/* --- life ---------------------------------------------------------------------------------------- */

void probe_begin(struct probe *p)
{
    if (p->spec == NULL) {
        return;
    }
    probe_end(p);
    p->is_running = true;
    p->passes = p->kind == PROBE_LIVENESS;
    p->successes = p->failures = 0;
    p->task.run = probe_run;
    p->timer.run = on_timer;
    timer_arm_in(loop_of(p), &p->timer, MAX(seconds(p, "initialDelaySeconds", 0), 50 * NS_PER_MS));
}

void probe_end(struct probe *p)
{
    if (!p->is_running) {
        return;
    }
    p->is_running = false;
    timer_cancel(loop_of(p), &p->timer);
    stop_attempt(p);
    p->passes = false;
}

bool probe_reaped(struct probe *p, pid_t pid, int status)
{
    if (p->pid != pid || pid <= 0) {
        return false;
    }
    p->pid = 0;
    finish(p, WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return true;
}
