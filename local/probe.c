/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/sock.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

/*
 * Probes as a kubelet makes them: HTTP GET (200 to 399 is well), a TCP connect, or a command in the
 * container. An HTTP probe comes from the node and passes the pod's inbound proxy, as in a cluster. A
 * TCP probe asks the program itself, at the pod's address: the proxy would accept whether there is a
 * program or not. For the same reason an HTTP probe knocks there first, until somebody opens: before
 * that the proxy would count failed requests, and log each.
 *
 * What has not passed yet is tried more often at first, so that a home comes up fast; a failure counts
 * no more than once in a period all the same.
 */
#define ANSWER_BYTES_MAX 4096
#define STATUS_BYTES     12 /* "HTTP/1.1 200" */
#define COMMAND_WORDS    64
#define FIRST_NS         (20 * NS_PER_MS) /* until the first attempt */
#define EAGER_NS         (50 * NS_PER_MS)
#define EAGER_ATTEMPTS   40
#define KEEN_NS          (250 * NS_PER_MS) /* and for what costs a process */
#define KEEN_ATTEMPTS    60

static void probe_run(struct task *t);

static struct loop *loop_of(const struct probe *p)
{
    return &p->container->pod->home->loop;
}

static uint64_t seconds(const struct probe *p, const char *name, int64_t fallback, int64_t least)
{
    return (uint64_t)MAX(json_number(p->spec, name, fallback), least) * NS_PER_S;
}

static uint64_t period_ns(const struct probe *p)
{
    return seconds(p, "periodSeconds", 10, 1);
}

static void stop_attempt(struct probe *p)
{
    io_close(p->io);
    p->io = NULL;
    chain_clear(&p->answer);
    task_cancel(&p->task);
    if (p->pid > 0) {
        spawn_kill(p->pid, SIGKILL);
        p->pid = 0; /* reaped by nobody's name */
    }
    p->is_sent = p->is_knocking = false;
}

/* --- results ------------------------------------------------------------------------------------- */

static void succeeded(struct probe *p)
{
    struct container *c = p->container;

    p->failures = 0;
    p->successes++;
    if (p->passes || (int64_t)p->successes < json_number(p->spec, "successThreshold", 1)) {
        return;
    }
    p->passes = true;
    if (p->kind == PROBE_STARTUP) {
        timer_cancel(loop_of(p), &p->timer);
        probe_begin(&c->probes[PROBE_READINESS]);
        probe_begin(&c->probes[PROBE_LIVENESS]);
    }
    pod_changed(c->pod);
}

static void failed(struct probe *p)
{
    struct container *c = p->container;
    uint64_t now_ns = loop_of(p)->now_ns;
    bool before = p->passes;

    p->successes = 0;
    if (p->failures > 0 && now_ns - p->counted_ns + EAGER_NS < period_ns(p)) {
        return;
    }
    p->counted_ns = now_ns;
    p->failures++;
    if ((int64_t)p->failures < json_number(p->spec, "failureThreshold", 3)) {
        return;
    }
    p->passes = false;
    if (p->kind != PROBE_READINESS) {
        log_warn("container is ended: its %s probe failed %u times; pod=%s container=%s",
                 p->kind == PROBE_LIVENESS ? "liveness" : "startup", p->failures, c->pod->key,
                 c->name);
        p->failures = 0;
        container_end(c);
    }
    if (before) {
        pod_changed(c->pod);
    }
}

static uint64_t pause_ns(const struct probe *p)
{
    bool is_command = json_object_get(p->spec, "exec") != NULL;

    if (p->passes || p->kind == PROBE_LIVENESS) {
        return period_ns(p);
    }
    if (p->attempts < EAGER_ATTEMPTS && !is_command) {
        return MIN(EAGER_NS << MIN(p->attempts, 3u), KEEN_NS);
    }
    return p->attempts < KEEN_ATTEMPTS ? MIN(KEEN_NS, period_ns(p)) : period_ns(p);
}

/* `why`, when it failed: in a few words. NULL: it succeeded. */
static void finish(struct probe *p, const char *why)
{
    bool ok = why == NULL;

    stop_attempt(p);
    (void)snprintf(p->why, sizeof(p->why), "%s", ok ? "" : why);
    home_clean(p->why);
    if (!p->is_running) {
        return;
    }
    if (ok) {
        p->attempts = 0;
        succeeded(p);
    } else {
        p->attempts++;
        failed(p);
    }
    if (p->is_running && !(p->kind == PROBE_STARTUP && p->passes)) {
        timer_arm_in(loop_of(p), &p->timer, pause_ns(p));
    }
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

static const char *path_of(const struct probe *p)
{
    const char *path = json_text(p->spec, "httpGet.path");

    return path != NULL && path[0] != '\0' ? path : "/";
}

static int send_request(struct probe *p)
{
    struct pod *pod = p->container->pod;
    const char *path = path_of(p);
    char text[1200], ip[ADDR_TEXT_BYTES];
    struct chain bytes;
    int rc;

    (void)snprintf(text, sizeof(text),
                   "GET %s%.1000s HTTP/1.1\r\nHost: %s\r\nUser-Agent: "
                   "kube-probe/tulle\r\nConnection: close\r\n\r\n",
                   path[0] == '/' ? "" : "/", path,
                   addr_format_ip(&pod->net.ip4, ip));
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
    char line[STATUS_BYTES + 1] = "", why[PROBE_WHY_BYTES];
    size_t got, n;
    int rc;

    do {
        rc = io_recv(p->io, &p->answer, ANSWER_BYTES_MAX, &got);
    } while (rc == 0 && chain_size(&p->answer) < STATUS_BYTES);
    n = chain_peek(&p->answer, line, STATUS_BYTES);
    if (n < STATUS_BYTES && rc == E_AGAIN) {
        return;
    }
    if (n < STATUS_BYTES || memcmp(line, "HTTP/1.", 7) != 0) {
        finish(p, "the answer is no HTTP");
    } else if (line[9] == '2' || line[9] == '3') {
        finish(p, NULL);
    } else {
        (void)snprintf(why, sizeof(why), "GET %.80s is answered with %s", path_of(p), line + 9);
        finish(p, why);
    }
}

static int dial(struct probe *p, const struct addr *to, bool past_proxy)
{
    struct pod *pod = p->container->pod;
    int rc;

    if (!past_proxy) {
        return sock_dial(loop_of(p), to, NULL, &p->task, &p->io);
    }
    TRY(net_pod_visit(&pod->net));
    rc = sock_dial(loop_of(p), to, NULL, &p->task, &p->io);
    net_pod_return(pod->home->net);
    return rc;
}

static bool has_proxy(const struct pod *p)
{
    bool found = false;

    for (size_t i = 0; i < p->count; i++) {
        found = found || strcmp(p->containers[i].name, CONTAINER_PROXY) == 0;
    }
    return found;
}

static void begin_request(struct probe *p);

/* The connection that knocked is there, or not. */
static void knocked(struct probe *p, int rc)
{
    char why[PROBE_WHY_BYTES];
    uint16_t port = 0;

    (void)probe_port(p, json_at(p->spec, "httpGet.port"), &port);
    if (rc != 0) {
        (void)snprintf(why, sizeof(why), "port %u: %s", port, err_text(rc));
        finish(p, why);
        return;
    }
    io_close(p->io);
    p->io = NULL;
    p->is_knocking = false;
    p->has_knocked = true;
    begin_request(p);
}

static void probe_run(struct task *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, task);
    const json_t *get = json_object_get(p->spec, "httpGet");
    int rc = io_handshake(p->io);

    if (rc == E_AGAIN) {
        return;
    }
    if (p->is_knocking) {
        knocked(p, rc);
        return;
    }
    if (rc != 0 || get == NULL) {
        finish(p, rc != 0 ? err_text(rc) : NULL);
        return;
    }
    rc = p->is_sent ? 0 : send_request(p);
    if (rc != 0) {
        finish(p, err_text(rc));
        return;
    }
    read_answer(p);
}

static void begin_command(struct probe *p, const json_t *command)
{
    char *argv[COMMAND_WORDS + 1];
    const struct spawn s = {.argv = argv, .fds = {-1, -1, -1}};
    const json_t *item;
    size_t i, count = 0;

    json_array_foreach(command, i, item)
    {
        if (json_is_string(item) && count < COMMAND_WORDS) {
            argv[count++] = (char *)(uintptr_t)json_string_value(item);
        }
    }
    argv[count] = NULL;
    if (count == 0 || spawn_in(p->container, &s, &p->pid, NULL) != 0) {
        finish(p, "its command cannot be run");
    }
}

static void begin_request(struct probe *p)
{
    const json_t *get = json_object_get(p->spec, "httpGet"),
                 *tcp = json_object_get(p->spec, "tcpSocket");
    struct addr to = p->container->pod->net.ip4;
    int rc;

    if (!probe_port(p, json_object_get(get != NULL ? get : tcp, "port"), &to.port)) {
        finish(p, "no port of the container has the name that it asks for");
        return;
    }
    rc = dial(p, &to, get == NULL || p->is_knocking);
    if (rc != 0) {
        p->io = NULL;
        finish(p, err_text(rc));
        return;
    }
    task_wake(loop_of(p), &p->task);
}

static void begin_attempt(struct probe *p)
{
    const json_t *command = json_at(p->spec, "exec.command");

    if (command != NULL) {
        begin_command(p, command);
        return;
    }
    p->is_knocking = json_object_get(p->spec, "httpGet") != NULL && !p->passes && !p->has_knocked &&
                     strcmp(p->container->name, CONTAINER_PROXY) != 0 &&
                     has_proxy(p->container->pod);
    begin_request(p);
}

static void on_timer(struct timer *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, timer);

    if (p->io != NULL || p->pid > 0) { /* timeoutSeconds ran out */
        finish(p, "no answer in time (timeoutSeconds)");
        return;
    }
    timer_arm_in(loop_of(p), &p->timer, seconds(p, "timeoutSeconds", 1, 1));
    begin_attempt(p);
}

/* --- life ---------------------------------------------------------------------------------------- */

/* The proxy's /ready is true or not at any time: there is nothing to wait for before asking. */
static uint64_t delay_ns(const struct probe *p)
{
    if (p->kind == PROBE_READINESS && strcmp(p->container->name, CONTAINER_PROXY) == 0) {
        return FIRST_NS;
    }
    return MAX(seconds(p, "initialDelaySeconds", 0, 0), FIRST_NS);
}

void probe_begin(struct probe *p)
{
    if (p->spec == NULL) {
        return;
    }
    probe_end(p);
    p->is_running = true;
    p->passes = p->kind == PROBE_LIVENESS;
    p->has_knocked = false;
    p->why[0] = '\0';
    p->successes = p->failures = p->attempts = 0;
    p->task.run = probe_run;
    p->timer.run = on_timer;
    timer_arm_in(loop_of(p), &p->timer, delay_ns(p));
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

void probe_reaped(struct probe *p, int status)
{
    char why[PROBE_WHY_BYTES];

    p->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        finish(p, NULL);
        return;
    }
    (void)snprintf(why, sizeof(why), "its command ended %s %d",
                   WIFEXITED(status) ? "with status" : "by signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    finish(p, why);
}
