/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "net/sock.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Commands of the CLI over run/supervisor.sock: one JSON object a line, one answer a line. `exec` also passes the caller's
 * three standard streams; its answer comes when the program ended.
 */
#define REQUEST_BYTES_MAX (1u << 20)
#define FETCH_BYTES_MAX   (64u << 20)
#define FETCH_NS          (10 * NS_PER_S)
#define CLIENTS_MAX       64

struct commands {
    struct home *home;
    struct listener listener;
    struct list clients;
    size_t count;
};

struct client {
    struct list node;
    struct commands *commands;
    struct watch watch;
    struct task task;
    struct grave grave;
    struct text request, answer;
    size_t sent;
    int fds[3]; /* passed along; -1 */
    pid_t pid;  /* of exec, while it runs */
    /* fetch */
    struct io *io;
    struct chain received;
    struct text body;
    struct task fetch_task;
    struct timer fetch_timer;
    bool is_asked, is_answered;
};

static void client_run(struct task *t);

/* --- what is asked ------------------------------------------------------------------------------- */

bool home_is_ready(const struct home *h, size_t *out_ready, size_t *out_total)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_DEPLOYMENT]);
    size_t ready = 0, total = 0;

    while (map_next(&it)) {
        const struct object *d = it.value;
        struct map_iter pods = MAP_ITER(&h->pods);
        size_t have = 0, want = (size_t)MAX(json_number(d->spec, "replicas", 1), (int64_t)0);

        while (map_next(&pods)) {
            const struct pod *p = pods.value;

            have += p->is_ready && p->phase < POD_LEAVING && strcmp(p->ns, d->ns) == 0 &&
                    strcmp(p->workload, d->name) == 0;
        }
        ready += MIN(have, want);
        total += want;
    }
    *out_ready = ready;
    *out_total = total;
    return desired_is_synced(h->desired) && ready == total;
}

static json_t *pod_json(const struct pod *p)
{
    static const char *const phases[] = {"Starting", "Running", "Leaving",
                                         "Stopping", "Killing", "Gone"};
    json_t *containers = json_array();
    char ip[ADDR_TEXT_BYTES];

    for (size_t i = 0; i < p->count; i++) {
        const struct container *c = &p->containers[i];

        json_array_append_new(
            containers, json_pack("{s:s, s:b, s:b, s:i, s:i, s:s}", "name", c->name, "ready",
                                  container_is_ready(c), "running", c->pid > 0, "pid", (int)c->pid,
                                  "restarts", (int)c->restarts, "reason", c->reason));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:o, s:f}", "namespace", p->ns, "name",
                     p->name, "workload", p->workload, "phase", phases[p->phase], "ready",
                     p->is_ready, "ip", addr_format_ip(&p->net.ip4, ip), "containers", containers,
                     "age", (double)(clock_wall_ns() - p->created_wall_ns) / (double)NS_PER_S);
}

json_t *home_status(const struct home *h)
{
    struct map_iter it = MAP_ITER(&h->pods);
    json_t *pods = json_array(), *published = json_object();
    size_t ready, total;
    bool is_ready = home_is_ready(h, &ready, &total);

    while (map_next(&it)) {
        json_array_append_new(pods, pod_json(it.value));
    }
    service_published(h, published);
    return json_pack("{s:b, s:b, s:i, s:i, s:i, s:s, s:o, s:o, s:O}", "ok", 1, "ready", is_ready,
                     "pods_ready", (int)ready, "pods_total", (int)total, "pid", (int)getpid(),
                     "version", TULLE_VERSION, "pods", pods, "published", published, "problems",
                     h->problems);
}

static void finish_text(struct client *c, char *line)
{
    text_str(&c->answer, line);
    text_char(&c->answer, '\n');
    mem_free(line);
    c->is_answered = true;
    task_wake(&c->commands->home->loop, &c->task);
}

static void finish(struct client *c, json_t *answer)
{
    char *line = json_dumps(answer, JSON_COMPACT);

    json_decref(answer);
    finish_text(c, line);
}

static void refuse(struct client *c, const char *format, ...) PRINTF_LIKE(2, 3);
static void refuse(struct client *c, const char *format, ...)
{
    char why[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    finish(c, json_pack("{s:b, s:s}", "ok", 0, "error", why));
}

static struct pod *find_pod(const struct client *c, const json_t *request)
{
    const char *ns = json_text(request, "namespace"), *name = json_text(request, "pod");
    struct map_iter it = MAP_ITER(&c->commands->home->pods);
    struct pod *found = NULL;

    while (name != NULL &&
           map_next(&it)) { /* a pod's name, or its Deployment's: the first pod of it */
        struct pod *p = it.value;

        if (strcmp(p->ns, ns != NULL ? ns : "default") != 0 || p->phase == POD_GONE) {
            continue;
        }
        if (strcmp(p->name, name) == 0) {
            return p;
        }
        if (strcmp(p->workload, name) == 0 &&
            (found == NULL || (p->is_ready && !found->is_ready))) {
            found = p;
        }
    }
    return found;
}

static void do_restart(struct client *c, const json_t *request)
{
    const char *ns = json_text(request, "namespace"), *name = json_text(request, "workload");
    struct home *h = c->commands->home;
    struct map_iter it = MAP_ITER(&h->pods);
    int count = 0;

    while (name != NULL && map_next(&it)) {
        struct pod *p = it.value;

        if (strcmp(p->ns, ns != NULL ? ns : "default") == 0 &&
            (strcmp(p->workload, name) == 0 || strcmp(p->name, name) == 0) &&
            p->phase < POD_LEAVING) {
            /* As a former template's pod: it leaves when its successor is ready. */
            (void)snprintf(p->template_hash, sizeof(p->template_hash), "restarted");
            count++;
        }
    }
    if (count == 0) {
        refuse(c, "there is no deployment or pod called %s in this namespace",
               name != NULL ? name : "");
        return;
    }
    home_reconcile_soon(h);
    finish(c, json_pack("{s:b, s:i}", "ok", 1, "pods", count));
}

/* --- exec ---------------------------------------------------------------------------------------- */

static void do_exec(struct client *c, const json_t *request)
{
    struct pod *p = find_pod(c, request);
    const char *name = json_text(request, "container");
    const json_t *item;
    char *argv[256];
    size_t i, count = 0;

    if (p == NULL) {
        refuse(c, "there is no pod called %s in this namespace", json_text(request, "pod"));
        return;
    }
    json_array_foreach(json_object_get(request, "argv"), i, item)
    {
        if (json_is_string(item) && count + 1 < ARRAY_LEN(argv)) {
            argv[count++] = (char *)(uintptr_t)json_string_value(item);
        }
    }
    argv[count] = NULL;
    for (i = 0; i < p->count; i++) {
        struct container *container = &p->containers[i];

        if (name != NULL ? strcmp(container->name, name) == 0 : container->role == ROLE_MAIN) {
            if (count == 0 || spawn_in(container, argv, c->fds, &c->pid) != 0) {
                refuse(c, "%s cannot be run", count > 0 ? argv[0] : "an empty command");
            }
            return;
        }
    }
    refuse(c, "the pod has no container called %s", name != NULL ? name : "");
}

bool commands_reaped(struct home *h, pid_t pid, int status)
{
    LIST_FOREACH(node, &h->commands->clients)
    {
        struct client *c = LIST_ITEM(node, struct client, node);

        if (c->pid == pid && pid > 0) {
            c->pid = 0;
            finish(c, json_pack("{s:b, s:i}", "ok", 1, "status",
                                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)));
            return true;
        }
    }
    return false;
}

/* --- fetch --------------------------------------------------------------------------------------- */

static void fetch_end(struct client *c, const char *problem)
{
    struct loop *l = &c->commands->home->loop;
    struct bytes all = text_bytes(&c->body);
    size_t at = 0;
    json_t *answer;

    timer_cancel(l, &c->fetch_timer);
    task_cancel(&c->fetch_task);
    io_close(c->io);
    c->io = NULL;
    if (problem != NULL || !bytes_find(all, BYTES("\r\n\r\n"), &at) || all.len < 12) {
        refuse(c, "the pod's port did not answer: %s", problem != NULL ? problem : "no HTTP");
        return;
    }
    answer = json_pack("{s:b, s:i, s:s%}", "ok", 1, "status", (int)strtol(all.at + 9, NULL, 10),
                       "body", all.at + at + 4, (int)(all.len - at - 4));
    if (answer == NULL) {
        refuse(c, "the pod's answer is no text");
        return;
    }
    finish(c, answer);
}

static void fetch_run(struct task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, fetch_task);
    size_t got;
    int rc = io_handshake(c->io);

    if (rc == 0 && !c->is_asked) {
        struct chain out;

        chain_init(&out);
        rc = chain_append(&out, &c->commands->home->loop.chunks, text_bytes(&c->body));
        if (rc == 0) {
            rc = io_send(c->io, &out);
        }
        chain_clear(&out);
        text_reset(&c->body);
        c->is_asked = true;
    }
    while (rc == 0) {
        rc = io_recv(c->io, &c->received, 65536, &got);
        while (chain_size(&c->received) > 0) {
            struct bytes head = chain_head(&c->received);

            text_add(&c->body, head);
            chain_drop(&c->received, head.len);
        }
    }
    if (rc != E_AGAIN) {
        fetch_end(c, rc == E_EOF ? NULL : err_text(rc));
    }
}

static void on_fetch_timeout(struct timer *t)
{
    fetch_end(CONTAINER_OF(t, struct client, fetch_timer), "it took too long");
}

static void do_fetch(struct client *c, const json_t *request)
{
    struct home *h = c->commands->home;
    struct pod *p = find_pod(c, request);
    const char *path = json_text(request, "path");
    struct addr to;

    if (p == NULL) {
        refuse(c, "there is no pod called %s in this namespace", json_text(request, "pod"));
        return;
    }
    to = p->net.ip4;
    to.port = (uint16_t)json_number(request, "port", 0);
    text_init(&c->body, FETCH_BYTES_MAX);
    text_printf(&c->body, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", path != NULL ? path : "/");
    c->fetch_task.run = fetch_run;
    c->fetch_timer.run = on_fetch_timeout;
    if (sock_dial(&h->loop, &to, &(struct sock_opts){0}, &c->fetch_task, &c->io) != 0) {
        refuse(c, "the pod's port cannot be dialed");
        return;
    }
    timer_arm_in(&h->loop, &c->fetch_timer, FETCH_NS);
    task_wake(&h->loop, &c->fetch_task);
}

/* --- clients ------------------------------------------------------------------------------------- */

static void dispatch(struct client *c)
{
    struct home *h = c->commands->home;
    json_error_t error;
    json_t *request = json_loadb(c->request.at, c->request.len, 0, &error);
    const char *command = json_text(request, "command");

    if (command == NULL) {
        refuse(c, "the request cannot be read: %s",
               request == NULL ? error.text : "it names no command");
    } else if (strcmp(command, "status") == 0) {
        finish(c, home_status(h));
    } else if (strcmp(command, "stop") == 0) {
        finish(c, json_pack("{s:b, s:i}", "ok", 1, "pid", (int)getpid()));
        home_stop(h);
    } else if (strcmp(command, "restart") == 0) {
        do_restart(c, request);
    } else if (strcmp(command, "exec") == 0) {
        do_exec(c, request);
    } else if (strcmp(command, "fetch") == 0) {
        do_fetch(c, request);
    } else {
        refuse(c, "there is no command %s", command);
    }
    json_decref(request);
}

static void client_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct client, grave));
}

static void client_close(struct client *c)
{
    struct loop *l = &c->commands->home->loop;

    if (c->pid > 0) {
        (void)kill(-c->pid, SIGHUP); /* its terminal is gone */
    }
    for (size_t i = 0; i < ARRAY_LEN(c->fds); i++) {
        if (c->fds[i] >= 0) {
            (void)close(c->fds[i]);
        }
    }
    watch_close(&c->watch);
    task_cancel(&c->task);
    task_cancel(&c->fetch_task);
    timer_cancel(l, &c->fetch_timer);
    io_close(c->io);
    chain_clear(&c->received);
    text_clear(&c->request);
    text_clear(&c->answer);
    text_clear(&c->body);
    list_unlink(&c->node);
    c->commands->count--;
    loop_free_later(l, &c->grave, client_bury);
}

/* Read a part of the request, and the descriptors that came with it. 0 at the end of the stream. */
static ssize_t client_read(struct client *c)
{
    char data[4096], control[CMSG_SPACE(3 * sizeof(int))];
    struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(c->watch.fd, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

    if (h != NULL && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
        size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        int fds[3];

        memcpy(fds, CMSG_DATA(h), MIN(count, (size_t)3) * sizeof(int));
        for (size_t i = 0; i < MIN(count, (size_t)3); i++) {
            if (c->fds[i] >= 0) {
                (void)close(c->fds[i]);
            }
            c->fds[i] = fds[i];
        }
    }
    if (n > 0) {
        text_add(&c->request, bytes_of(data, (size_t)n));
    }
    return n;
}

static void client_run(struct task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, task);
    bool was_complete = c->request.len > 0 && c->request.at[c->request.len - 1] == '\n';
    ssize_t n;

    while ((n = client_read(c)) > 0 && c->request.err == 0) {
    }
    if (n == 0 || (n < 0 && errno != EAGAIN) || c->request.err != 0) {
        client_close(c);
        return;
    }
    if (!was_complete && c->request.len > 0 && c->request.at[c->request.len - 1] == '\n') {
        dispatch(c);
    }
    while (c->is_answered && c->sent < c->answer.len) {
        n = send(c->watch.fd, c->answer.at + c->sent, c->answer.len - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) {
                client_close(c);
            }
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->is_answered) {
        client_close(c);
    }
}

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct commands *commands = ln->user;
    struct client *c;

    (void)peer;
    if (commands->count >= CLIENTS_MAX) {
        (void)close(fd);
        return;
    }
    c = mem_new(sizeof(*c));
    c->commands = commands;
    c->fds[0] = c->fds[1] = c->fds[2] = -1;
    c->task.run = client_run;
    chain_init(&c->received);
    text_init(&c->request, REQUEST_BYTES_MAX);
    text_init(&c->answer, FETCH_BYTES_MAX + 65536);
    if (watch_open(&c->watch, &commands->home->loop, fd, &c->task) != 0) {
        (void)close(fd);
        mem_free(c);
        return;
    }
    list_append(&commands->clients, &c->node);
    commands->count++;
}

int commands_open(struct home *h, char *problem, size_t problem_bytes)
{
    struct commands *c = mem_new(sizeof(*c));
    char path[HOME_PATH_MAX + 32];
    int fd = -1, rc;

    h->commands = c;
    c->home = h;
    list_init(&c->clients);
    (void)snprintf(path, sizeof(path), "%s/run/supervisor.sock", h->path);
    rc = sock_listen_unix(path, 16, &fd);
    if (rc == 0) {
        rc = listener_open(&c->listener, &h->loop, fd, on_accept, c);
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "cannot listen on %s: %s", path, err_text(rc));
    }
    return rc;
}

void commands_close(struct commands *c)
{
    if (c == NULL) {
        return;
    }
    listener_close(&c->listener);
    while (!list_is_empty(&c->clients)) {
        client_close(LIST_ITEM(c->clients.next, struct client, node));
    }
    mem_free(c);
}
