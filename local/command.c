/* SPDX-License-Identifier: Apache-2.0 */
#include "local/command.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 64
#define BACKLOG     16
#define PASSED_MAX  3

static void client_run(struct task *t);

/* --- answers ------------------------------------------------------------------------------------- */

void client_answer(struct client *c, json_t *answer)
{
    char *line = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;

    json_decref(answer);
    if (!c->is_answered) {
        text_str(&c->answer,
                 line != NULL ? line : "{\"ok\":false,\"error\":\"the answer is no text\"}");
        text_char(&c->answer, '\n');
        c->is_answered = true;
        task_wake(&c->commands->home->loop, &c->task);
    }
    mem_free(line);
}

void client_refuse(struct client *c, const char *format, ...)
{
    char why[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    home_clean(why);
    client_answer(c, json_pack("{s:b, s:s}", "ok", 0, "error", why));
}

static const char *namespace_of(const json_t *request)
{
    const char *ns = json_text(request, "namespace");

    return ns != NULL ? ns : "default";
}

void client_refuse_name(struct client *c, const char *ns, const char *name)
{
    struct map_iter it = MAP_ITER(&c->commands->home->pods);
    const struct pod *found = NULL;

    name = name != NULL ? name : "";
    while (map_next(&it)) {
        const struct pod *p = it.value;

        if (strcmp(p->workload, name) == 0 || strcmp(p->name, name) == 0) {
            found = p;
        }
    }
    if (found != NULL) {
        client_refuse(c,
                      "there is no Deployment or pod called %s in namespace %s; there is one in "
                      "namespace %s: -n %s",
                      name, ns, found->ns, found->ns);
    } else {
        client_refuse(c,
                      "there is no Deployment or pod called %s in namespace %s; `tulle local "
                      "status` lists them",
                      name, ns);
    }
}

struct pod *client_pod(struct client *c, const json_t *request)
{
    const char *ns = namespace_of(request), *name = json_text(request, "pod");
    struct map_iter it = MAP_ITER(&c->commands->home->pods);
    struct pod *found = NULL;

    while (name != NULL && map_next(&it)) {
        struct pod *p = it.value;

        if (strcmp(p->ns, ns) != 0) {
            continue;
        }
        if (strcmp(p->name, name) == 0) {
            return p;
        }
        if (strcmp(p->workload, name) == 0 && p->phase < POD_LEAVING &&
            (found == NULL || (p->is_ready && !found->is_ready))) {
            found = p;
        }
    }
    if (found == NULL) {
        client_refuse_name(c, ns, name);
    }
    return found;
}

/* --- commands ------------------------------------------------------------------------------------ */

static void do_status(struct client *c, const json_t *request UNUSED)
{
    client_answer(c, home_status(c->commands->home));
}

static void do_stop(struct client *c, const json_t *request UNUSED)
{
    struct map_iter it = MAP_ITER(&c->commands->home->pods);
    int64_t grace_s = 0;

    while (map_next(&it)) {
        grace_s = MAX(grace_s, pod_grace_s(it.value));
    }
    client_answer(c, json_pack("{s:b, s:i, s:I}", "ok", 1, "pid", (int)getpid(), "grace",
                               (json_int_t)grace_s));
    home_stop(c->commands->home);
}

/* Its pods are as those of a former template: they leave when their successors are ready. */
static void do_restart(struct client *c, const json_t *request)
{
    const char *ns = namespace_of(request), *name = json_text(request, "workload");
    struct home *h = c->commands->home;
    struct map_iter it = MAP_ITER(&h->pods);
    int count = 0;

    while (name != NULL && map_next(&it)) {
        struct pod *p = it.value;

        if (strcmp(p->ns, ns) == 0 &&
            (strcmp(p->workload, name) == 0 || strcmp(p->name, name) == 0) &&
            p->phase < POD_LEAVING) {
            p->is_former = true;
            count++;
        }
    }
    if (count == 0 &&
        cluster_get(h->cluster, KIND_DEPLOYMENT, ns, name != NULL ? name : "") == NULL) {
        client_refuse_name(c, ns, name);
        return;
    }
    home_reconcile_soon(h);
    client_answer(c, json_pack("{s:b, s:i}", "ok", 1, "pods", count));
}

static void dispatch(struct client *c)
{
    static const struct {
        const char *name;
        void (*run)(struct client *c, const json_t *request);
    } commands[] = {
        {"status", do_status}, {"stop", do_stop},       {"restart", do_restart},
        {"exec", client_exec}, {"fetch", client_fetch}, {"upgrade", client_upgrade},
    };
    json_error_t error = {.text = ""};
    json_t *request = json_loadb(c->request.at, c->request.len, 0, &error);
    const char *name = json_text(request, "command");
    size_t i = 0;

    c->is_dispatched = true;
    while (name != NULL && i < ARRAY_LEN(commands) && strcmp(commands[i].name, name) != 0) {
        i++;
    }
    if (name == NULL) {
        client_refuse(c, "the request cannot be read: %s",
                      request == NULL ? error.text : "it names no command");
    } else if (i == ARRAY_LEN(commands)) {
        client_refuse(c, "there is no command %s", name);
    } else if (c->commands->home->is_stopping && strcmp(name, "status") != 0 &&
               strcmp(name, "stop") != 0) {
        client_refuse(c, "the home is ending");
    } else {
        commands[i].run(c, request);
    }
    json_decref(request);
}

/* --- clients ------------------------------------------------------------------------------------- */

static void client_bury(struct grave *g)
{
    mem_free(CONTAINER_OF(g, struct client, grave));
}

static void client_close(struct client *c)
{
    client_exec_end(c);
    client_fetch_end(c);
    client_upgrade_end(c);
    watch_close(&c->watch);
    task_cancel(&c->task);
    text_clear(&c->request);
    text_clear(&c->answer);
    text_clear(&c->body);
    list_unlink(&c->node);
    c->commands->count--;
    loop_free_later(&c->commands->home->loop, &c->grave, client_bury);
}

static void take_passed(struct client *c, const struct cmsghdr *h)
{
    size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    int fds[PASSED_MAX];

    memcpy(fds, CMSG_DATA(h), MIN(count, (size_t)PASSED_MAX) * sizeof(int));
    for (size_t i = 0; i < MIN(count, (size_t)PASSED_MAX); i++) {
        if (c->fds[i] >= 0) {
            (void)close(c->fds[i]);
        }
        c->fds[i] = fds[i];
    }
}

/* Read a part of the request, and the descriptors that came with it. 0 at the end of the stream. */
static ssize_t client_read(struct client *c)
{
    union {
        struct cmsghdr header;
        char at[CMSG_SPACE(PASSED_MAX * sizeof(int))];
    } control;
    char data[4096];
    struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.at,
                       .msg_controllen = sizeof(control.at)};
    ssize_t n = recvmsg(c->watch.fd, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

    if (h != NULL && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
        take_passed(c, h);
    }
    if (n > 0 && !c->is_dispatched) {
        text_add(&c->request, bytes_of(data, (size_t)n));
    }
    return n;
}

static void client_write(struct client *c)
{
    while (c->sent < c->answer.len) {
        ssize_t n =
            send(c->watch.fd, c->answer.at + c->sent, c->answer.len - c->sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            break;
        }
        c->sent += (size_t)n;
    }
    client_close(c);
}

static void client_run(struct task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, task);
    ssize_t n;

    do {
        n = client_read(c);
    } while (n > 0 && c->request.err == 0);
    if (n == 0 || (n < 0 && errno != EAGAIN) || c->request.err != 0) {
        client_close(c);
        return;
    }
    if (!c->is_dispatched && c->request.len > 0 && c->request.at[c->request.len - 1] == '\n') {
        dispatch(c);
    }
    if (c->is_answered) {
        client_write(c);
    }
}

static void on_accept(struct listener *ln, int fd, const struct addr *peer)
{
    struct commands *commands = ln->user;
    struct client *c;

    (void)peer;
    if (commands->count >= CLIENTS_MAX) {
        log_warn("too many commands at once; max=%d", CLIENTS_MAX);
        (void)close(fd);
        return;
    }
    c = mem_new(sizeof(*c));
    c->commands = commands;
    c->fds[0] = c->fds[1] = c->fds[2] = -1;
    c->task.run = client_run;
    chain_init(&c->received);
    text_init(&c->request, REQUEST_BYTES_MAX);
    text_init(&c->answer, ANSWER_BYTES_MAX);
    text_init(&c->body, FETCH_BYTES_MAX);
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
    rc = sock_listen_unix(path, SOCK_STREAM, BACKLOG, &fd);
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
