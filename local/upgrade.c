/* SPDX-License-Identifier: Apache-2.0 */
#include "local/upgrade.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "local/command.h"
#include "net/sock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVING_NS   (120 * NS_PER_S) /* from exec until the new proxy accepts connections */
#define NOTIFY_BYTES 640

struct upgrade {
    struct home *home;
    struct client *client; /* NULL: nobody waits any more, and no further pod is begun */
    char program[HOME_PATH_MAX];
    bool is_all;           /* of the home: pods to come shall run it, too */
    json_t *pods;          /* what is told of each: namespace, name, then ok, and pid or error */
    size_t next;
    size_t failures;
    /* of the pod that is at it */
    struct container *container; /* NULL: none */
    pid_t pid;
    int setup_fd;
    struct watch notify; /* a socket in the pod's network on which the new process tells how far it is */
    struct task notified, step;
    struct timer deadline;
    char status[NOTIFY_BYTES]; /* what it said last */
};

/* --- one pod ---------------------------------------------------------------------------------- */

static void leave_pod(struct upgrade *u)
{
    if (u->container != NULL) {
        u->container->upgrade = NULL;
    }
    u->container = NULL;
    u->pid = 0;
    if (u->setup_fd >= 0) {
        (void)close(u->setup_fd);
        u->setup_fd = -1;
    }
    watch_close(&u->notify);
    task_cancel(&u->notified);
    timer_cancel(&u->home->loop, &u->deadline);
    task_wake(&u->home->loop, &u->step);
}

static void pod_failed(struct upgrade *u, const char *why)
{
    json_t *told = json_array_get(u->pods, u->next - 1);
    char clean[NOTIFY_BYTES];

    (void)snprintf(clean, sizeof(clean), "%s", why);
    home_clean(clean);
    log_warn("proxy not upgraded; pod=%s reason=\"%s\"",
             u->container != NULL ? u->container->pod->key : "", clean);
    json_object_set_new(told, "ok", json_false());
    json_object_set_new(told, "error", json_string(clean));
    u->failures++;
    if (u->pid > 0) {
        spawn_kill(u->pid, SIGKILL); /* reaped by nobody's name; the running proxy notices */
    }
    leave_pod(u);
}

/* The new process serves: it is the container from now on, and the old one finishes what it has open. */
static void pod_upgraded(struct upgrade *u)
{
    struct container *c = u->container;
    json_t *told = json_array_get(u->pods, u->next - 1);

    log_info("proxy upgraded; pod=%s pid=%d former=%d program=%s", c->pod->key, (int)u->pid,
             (int)c->pid, u->program);
    json_object_set_new(told, "ok", json_true());
    json_object_set_new(told, "pid", json_integer(u->pid));
    container_succeed(c, u->pid, u->program);
    leave_pod(u);
}

/* False: nothing (more) has come. */
static bool take_notice(struct upgrade *u)
{
    union {
        struct cmsghdr header;
        char at[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char text[NOTIFY_BYTES];
    struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.at,
                       .msg_controllen = sizeof(control.at)};
    ssize_t n = recvmsg(u->notify.fd, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *h = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;
    struct ucred from = {0};

    if (n < 0) {
        return false;
    }
    if (h != NULL && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_CREDENTIALS) {
        memcpy(&from, CMSG_DATA(h), sizeof(from));
    }
    text[n] = '\0';
    if (from.pid == u->pid && strncmp(text, "STATUS=", 7) == 0) {
        (void)snprintf(u->status, sizeof(u->status), "%s", text + 7);
    } else if (from.pid == u->pid && strcmp(text, "READY=1") == 0) {
        pod_upgraded(u);
    }
    return true;
}

static void on_notified(struct task *t)
{
    struct upgrade *u = CONTAINER_OF(t, struct upgrade, notified);

    while (u->container != NULL && take_notice(u)) {
    }
}

static void on_deadline(struct timer *t)
{
    pod_failed(CONTAINER_OF(t, struct upgrade, deadline),
               "it did not begin to serve within 120 s; its log says why");
}

void upgrade_reaped(struct container *c, pid_t pid, int status)
{
    struct upgrade *u = c->upgrade;
    char why[NOTIFY_BYTES];
    ssize_t n;

    for (size_t i = 0; i < c->former_count; i++) {
        if (c->former[i] == pid) {
            log_info("a former proxy has finished; pod=%s pid=%d", c->pod->key, (int)pid);
            c->former[i] = c->former[--c->former_count];
            pod_changed(c->pod);
            return;
        }
    }
    if (u == NULL || u->pid != pid) {
        return;
    }
    on_notified(&u->notified); /* its last words */
    if (u->pid != pid) { /* it served, and has ended already: the container's, now */
        pods_reap(c->pod->home, pid, status);
        return;
    }
    u->pid = 0;
    n = u->setup_fd >= 0 ? read(u->setup_fd, why, sizeof(why) - 1) : 0;
    if (n > 0) {
        why[n] = '\0';
    } else if (u->status[0] != '\0') {
        (void)snprintf(why, sizeof(why), "%s", u->status);
    } else if (WIFSIGNALED(status)) {
        (void)snprintf(why, sizeof(why), "it ended by signal %d before it served",
                       WTERMSIG(status));
    } else {
        (void)snprintf(why, sizeof(why), "it ended with status %d before it served",
                       WEXITSTATUS(status));
    }
    pod_failed(u, why);
}

bool upgrade_owns(const struct container *c, pid_t pid)
{
    for (size_t i = 0; i < c->former_count; i++) {
        if (c->former[i] == pid) {
            return true;
        }
    }
    return c->upgrade != NULL && c->upgrade->pid == pid && pid > 0;
}

void upgrade_signal(const struct container *c, int signo)
{
    for (size_t i = 0; i < c->former_count; i++) {
        spawn_kill(c->former[i], signo);
    }
    if (c->upgrade != NULL) {
        pod_failed(c->upgrade, "the pod ends");
    }
}

void upgrade_forget(const struct container *c)
{
    if (c->upgrade != NULL) {
        pod_failed(c->upgrade, "the pod has gone");
    }
}

/* --- starting one ------------------------------------------------------------------------------ */

/* In the pod's network, where its name is nobody else's. */
static int open_notify(struct upgrade *u, char name[64])
{
    struct container *c = u->container;
    struct sockaddr_un at;
    socklen_t len;
    int fd, rc = 0, yes = 1;

    (void)snprintf(name, 64, "@tulle-upgrade-%s", c->name);
    TRY(sock_unix_name(name, &at, &len));
    TRY(net_pod_visit(&c->pod->net));
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) != 0 ||
        bind(fd, (const struct sockaddr *)&at, len) != 0) {
        rc = -errno;
    }
    net_pod_return(c->pod->home->net);
    if (rc == 0) {
        rc = watch_open(&u->notify, &u->home->loop, fd, &u->notified);
    }
    if (rc != 0 && fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static void begin(struct upgrade *u, struct container *c)
{
    char name[64], why[256];
    struct spawn s = {.fds = {-1, -1, -1}, .program = u->program, .notify = name};
    int rc;

    if (c->former_count == FORMER_MAX) {
        pod_failed(u, "too many former proxies of it still have connections to finish");
        return;
    }
    u->container = c;
    c->upgrade = u;
    u->status[0] = '\0';
    rc = open_notify(u, name);
    if (rc == 0) {
        rc = log_file_open(c);
    }
    if (rc >= 0) {
        s.fds[1] = s.fds[2] = rc;
        rc = spawn_in(c, &s, &u->pid, &u->setup_fd);
        (void)close(s.fds[1]);
    }
    if (rc != 0) {
        (void)snprintf(why, sizeof(why), "no process can be made: %s", err_text(rc));
        pod_failed(u, why);
        return;
    }
    timer_arm_in(&u->home->loop, &u->deadline, SERVING_NS);
}

/* The pod's proxy, if there is one and it runs. */
static struct container *proxy_of(struct pod *p)
{
    for (size_t i = 0; p->phase <= POD_RUNNING && i < p->count; i++) {
        struct container *c = &p->containers[i];

        if (strcmp(c->name, CONTAINER_PROXY) == 0 && c->pid > 0) {
            return c;
        }
    }
    return NULL;
}

/* --- all of them ------------------------------------------------------------------------------- */

static void finish(struct upgrade *u)
{
    struct home *h = u->home;

    if (u->is_all && u->failures == 0 && u->next == json_array_size(u->pods)) {
        (void)snprintf(h->proxy_program, sizeof(h->proxy_program), "%s", u->program);
    }
    if (u->client != NULL) {
        u->client->upgrade = NULL;
        client_answer(u->client, json_pack("{s:b, s:O}", "ok", 1, "pods", u->pods));
    }
    h->upgrade = NULL;
    task_cancel(&u->step);
    json_decref(u->pods);
    mem_free(u);
}

/* One pod after the other, and none after one that failed: what is wrong with the new program is
 * wrong with it in all. */
static void on_step(struct task *t)
{
    struct upgrade *u = CONTAINER_OF(t, struct upgrade, step);
    struct container *c;
    const json_t *told;
    char key[OBJECT_KEY_BYTES];
    struct pod *p;

    if (u->container != NULL) {
        return;
    }
    if (u->next == json_array_size(u->pods) || u->failures > 0 || u->client == NULL) {
        finish(u);
        return;
    }
    told = json_array_get(u->pods, u->next++);
    (void)snprintf(key, sizeof(key), "%s/%s", json_text(told, "namespace"),
                   json_text(told, "name"));
    p = map_get(&u->home->pods, bytes_str(key));
    c = p != NULL ? proxy_of(p) : NULL;
    if (c == NULL) {
        pod_failed(u, "its proxy does not run any more");
    } else {
        begin(u, c);
    }
}

static bool is_asked_for(const struct pod *p, const char *ns, const char *name)
{
    return (ns == NULL || strcmp(p->ns, ns) == 0) &&
           (name == NULL || strcmp(p->workload, name) == 0 || strcmp(p->name, name) == 0);
}

static json_t *find_pods(const struct home *h, const char *ns, const char *name, bool *out_exists)
{
    struct map_iter it = MAP_ITER(&h->pods);
    json_t *found = json_array();

    *out_exists = false;
    while (map_next(&it)) {
        struct pod *p = it.value;

        if (is_asked_for(p, ns, name)) {
            *out_exists = true;
            if (proxy_of(p) != NULL) {
                json_array_append_new(found,
                                      json_pack("{s:s, s:s}", "namespace", p->ns, "name", p->name));
            }
        }
    }
    return found;
}

void client_upgrade(struct client *client, const json_t *request)
{
    const char *ns = json_text(request, "namespace"), *name = json_text(request, "workload"),
               *program = json_text(request, "proxy");
    struct home *h = client->commands->home;
    struct upgrade *u;
    bool exists;
    json_t *pods = find_pods(h, ns, name, &exists);

    if (h->upgrade != NULL) {
        client_refuse(client, "another upgrade is under way");
    } else if (program == NULL || program[0] != '/' || strlen(program) >= HOME_PATH_MAX ||
               access(program, X_OK) != 0) {
        client_refuse(client, "%s is no program that can be run", program != NULL ? program : "");
    } else if (json_array_size(pods) == 0 && name != NULL && ns != NULL && !exists) {
        client_refuse_name(client, ns, name);
    } else if (json_array_size(pods) == 0) {
        client_refuse(client, "no proxy runs in the pods of %s in namespace %s",
                      name != NULL ? name : "any Deployment", ns != NULL ? ns : "(all)");
    } else {
        u = mem_new(sizeof(*u));
        u->home = h;
        u->client = client;
        u->pods = json_incref(pods);
        u->is_all = ns == NULL && name == NULL;
        u->setup_fd = -1;
        u->notify.fd = -1;
        u->notified.run = on_notified;
        u->step.run = on_step;
        u->deadline.run = on_deadline;
        (void)snprintf(u->program, sizeof(u->program), "%s", program);
        h->upgrade = u;
        client->upgrade = u;
        task_wake(&h->loop, &u->step);
    }
    json_decref(pods);
}

void client_upgrade_end(struct client *client)
{
    if (client->upgrade != NULL) {
        client->upgrade->client = NULL;
        client->upgrade = NULL;
    }
}

void upgrade_close(struct home *h)
{
    struct upgrade *u = h->upgrade;

    if (u != NULL) {
        if (u->container != NULL) {
            pod_failed(u, "the home ends");
        }
        finish(u);
    }
}
