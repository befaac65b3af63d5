/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/process.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNKS_MAX   8192
#define PROBLEMS_MAX 100
#define DNS_PORT     53

/* --- telling ------------------------------------------------------------------------------------- */

static void tell(struct home *h, json_t *line)
{
    char *dump = json_dumps(line, JSON_COMPACT);

    if (h->ready_fd >= 0) {
        (void)!dprintf(h->ready_fd, "%s\n", dump); /* nobody may listen any more */
    }
    mem_free(dump);
    json_decref(line);
}

void home_problem(struct home *h, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_error("%s", text);
    for (size_t i = 0; i < json_array_size(h->problems); i++) {
        if (strcmp(json_string_value(json_array_get(h->problems, i)), text) == 0) {
            return;
        }
    }
    if (json_array_size(h->problems) == PROBLEMS_MAX) {
        (void)json_array_remove(h->problems, 0);
    }
    json_array_append_new(h->problems, json_string(text));
    tell(h, json_pack("{s:s}", "problem", text));
}

static void announce(struct home *h, bool ready)
{
    h->is_announced = true;
    timer_cancel(&h->loop, &h->deadline);
    tell(h, json_pack("{s:b, s:o}", "ready", ready, "status", home_status(h)));
    if (h->ready_fd >= 0) {
        (void)close(h->ready_fd);
        h->ready_fd = -1;
    }
    if (!ready) {
        home_stop(h);
    }
}

static void on_deadline(struct timer *t)
{
    struct home *h = CONTAINER_OF(t, struct home, deadline);

    home_problem(h, "not everything was ready within %llu s",
                 (unsigned long long)(h->options->wait_ns / NS_PER_S));
    announce(h, false);
}

/* --- reconciliation ------------------------------------------------------------------------------ */

void home_reconcile_soon(struct home *h)
{
    task_wake(&h->loop, &h->reconcile);
}

static void announce_progress(struct home *h)
{
    size_t ready, total;

    if (h->is_announced || h->is_stopping || !desired_is_synced(h->desired)) {
        return;
    }
    if (json_array_size(h->problems) >
        0) { /* a home that is not what was asked for does not start */
        announce(h, false);
    } else if (home_is_ready(h, &ready, &total)) {
        announce(h, true);
    } else {
        tell(h, json_pack("{s:i, s:i}", "pods_ready", (int)ready, "pods_total", (int)total));
    }
}

static void reconcile(struct task *t)
{
    struct home *h = CONTAINER_OF(t, struct home, reconcile);

    /* Nothing starts until all manifests were read and none is wrong: half a home helps nobody. */
    if (!h->is_announced && (!desired_is_synced(h->desired) || json_array_size(h->problems) > 0)) {
        announce_progress(h);
        return;
    }
    workload_reconcile(h);
    service_reconcile(h);
    service_publish(h);
    builtin_scrape_targets(h);
    announce_progress(h);
    if (h->is_stopping && map_count(&h->pods) == 0) {
        loop_stop(&h->loop);
    }
}

static void on_retry(struct timer *t)
{
    home_reconcile_soon(CONTAINER_OF(t, struct home, retry));
}

void home_stop(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->pods);

    h->is_stopping = true;
    while (map_next(&it)) {
        pod_stop(it.value);
    }
    home_reconcile_soon(h);
}

static void reap(struct home *h)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (net_is_helper(h->net, pid)) {
            log_error("a process that holds the home together ended: the home ends too; pid=%d",
                      (int)pid);
            loop_stop(&h->loop);
        } else if (!pods_reap(h, pid, status)) {
            (void)commands_reaped(h, pid, status);
        }
    }
}

static void on_signal(void *user, int signo)
{
    struct home *h = user;

    if (signo == SIGCHLD) {
        reap(h);
    } else if (signo == SIGTERM || signo == SIGINT) {
        log_info("shutting down: received %s", signo == SIGTERM ? "SIGTERM" : "SIGINT");
        if (h->is_stopping) {
            loop_stop(&h->loop);
        } else {
            home_stop(h);
        }
    }
}

/* --- start --------------------------------------------------------------------------------------- */

static int take_lock(struct home *h, char *problem, size_t problem_bytes)
{
    char path[HOME_PATH_MAX + 16];
    int rc = tree_make(h->path);

    (void)snprintf(path, sizeof(path), "%s/lock", h->path);
    if (rc == 0) {
        h->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        rc = h->lock_fd < 0 ? -errno : 0;
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "the state folder %s cannot be used: %s", h->path,
                       err_text(rc));
        return rc;
    }
    if (flock(h->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        (void)snprintf(
            problem, problem_bytes,
            "a home runs at %s already; `tulle local down` ends it, --home NAME makes another",
            h->path);
        return E_EXISTS;
    }
    return 0;
}

/* What a killed home left in the folder; its processes ended with it. */
static void remove_remains(const struct home *h, bool keep_identity, bool keep_logs)
{
    static const char *const parts[] = {"run",       "cluster",   "pods", "prometheus",
                                        "token.key", "home.json", "net"};
    char path[HOME_PATH_MAX + 32];

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", h->path, parts[i]);
        tree_remove(path);
    }
    if (!keep_logs) {
        (void)snprintf(path, sizeof(path), "%s/logs", h->path);
        tree_remove(path);
    }
    if (!keep_identity) {
        (void)snprintf(path, sizeof(path), "%s/identity", h->path);
        tree_remove(path);
    }
}

static int make_folders(struct home *h, char *problem, size_t problem_bytes)
{
    static const char *const parts[] = {"run", "cluster", "pods", "logs", "net"};
    char path[HOME_PATH_MAX + 32];

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        int rc;

        (void)snprintf(path, sizeof(path), "%s/%s", h->path, parts[i]);
        rc = tree_make(path);
        if (rc != 0) {
            (void)snprintf(problem, problem_bytes, "%s cannot be made: %s", path, err_text(rc));
            return rc;
        }
    }
    return 0;
}

static void set_values(struct home *h)
{
    static char init[HOME_PATH_MAX + 16], proxy[HOME_PATH_MAX + 16], networks[512],
        a[4][ADDR_TEXT_BYTES];
    const struct net_config *net = &h->options->net;

    inject_values_default(&h->values);
    (void)snprintf(init, sizeof(init), "%s/tulle-init", h->bin);
    (void)snprintf(proxy, sizeof(proxy), "%s/tulle-proxy", h->bin);
    (void)snprintf(networks, sizeof(networks), "%s,%s", cidr_format(&net->pods4, a[0]),
                   cidr_format(&net->services4, a[1]));
    if (net->pods6.prefix != 0) {
        size_t len = strlen(networks);

        (void)snprintf(networks + len, sizeof(networks) - len, ",%s,%s",
                       cidr_format(&net->pods6, a[2]), cidr_format(&net->services6, a[3]));
    }
    h->values.init_command = init;
    h->values.proxy_command = proxy;
    h->values.cluster_networks = networks;
    h->values.native_sidecar = true;
    h->values.disable_ipv6 = net->pods6.prefix == 0;
    h->values.created_by = "tulle/local " TULLE_VERSION;
    if (h->options->log_level != NULL) {
        h->values.log_level = h->options->log_level;
    }
}

static int find_programs(struct home *h, char *problem, size_t problem_bytes)
{
    static const char *const programs[] = {"tulle-init", "tulle-proxy", "tulle-controller"};
    char self[PATH_MAX], path[HOME_PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n <= 0 || getcwd(h->cwd, sizeof(h->cwd)) == NULL) {
        (void)snprintf(problem, problem_bytes, "cannot learn where this program is: %s",
                       err_text(-errno));
        return -errno;
    }
    self[n] = '\0';
    (void)snprintf(h->bin, sizeof(h->bin), "%.3000s", dirname(self));
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", h->bin, programs[i]);
        if (access(path, X_OK) != 0) {
            (void)snprintf(problem, problem_bytes,
                           "%s is missing: it belongs beside tulle; build it with `make`", path);
            return E_NOT_FOUND;
        }
    }
    return 0;
}

static int open_loop(struct home *h, char *problem, size_t problem_bytes)
{
    struct addr dns = net_node_ip4(h->net);
    char path[HOME_PATH_MAX + 16];
    int rc = loop_open(&h->loop, 0, CHUNKS_MAX);

    dns.port = DNS_PORT;
    (void)snprintf(path, sizeof(path), "%s/cluster", h->path);
    if (rc == 0) {
        rc = process_signals_open(&h->loop, on_signal, h);
    }
    if (rc == 0) {
        rc = dns_server_open(&h->loop, &dns, &h->dns);
    }
    if (rc == 0) {
        rc = cluster_open_dir(&h->loop, path, &h->cluster);
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "the supervisor cannot be set up: %s", err_text(rc));
        return rc;
    }
    h->reconcile.run = reconcile;
    h->retry.run = on_retry;
    h->deadline.run = on_deadline;
    if (h->options->wait_ns != 0) {
        timer_arm_in(&h->loop, &h->deadline, h->options->wait_ns);
    }
    return 0;
}

static int home_open(struct home *h, char *problem, size_t problem_bytes)
{
    TRY(find_programs(h, problem, problem_bytes));
    TRY(take_lock(h, problem, problem_bytes));
    remove_remains(h, true, false);
    TRY(make_folders(h, problem, problem_bytes));
    set_values(h);
    TRY(builtin_identity(h, problem, problem_bytes));
    h->values.trust_anchors_pem = h->anchors_pem;
    if (builtin_prometheus(h) != 0) {
        (void)snprintf(problem, problem_bytes,
                       "Prometheus' configuration cannot be written below %s", h->path);
        return E_CONFIG;
    }
    return 0;
}

static void home_close(struct home *h)
{
    commands_close(h->commands);
    desired_close(h->desired);
    service_unpublish_all(h);
    if (h->cluster != NULL) {
        cluster_close(h->cluster);
    }
    dns_server_close(h->dns);
    process_signals_close();
    timer_cancel(&h->loop, &h->retry);
    timer_cancel(&h->loop, &h->deadline);
    task_cancel(&h->reconcile);
    while (loop_turn(&h->loop, 0) && !list_is_empty(&h->loop.graves)) {
        /* what was closed is freed at the end of a turn */
    }
    loop_close(&h->loop);
    map_clear(&h->pods);
}

int home_run(const struct home_options *o, int ready_fd, char *problem, size_t problem_bytes)
{
    static struct home home; /* one a process */
    struct home *h = &home;
    struct net_config net = o->net;
    char net_state[HOME_PATH_MAX + 8];
    int rc;

    h->options = o;
    h->ready_fd = ready_fd;
    h->lock_fd = -1;
    h->is_root = geteuid() == 0;
    h->problems = json_array();
    map_init(&h->pods);
    list_init(&h->publishes);
    TRY(home_path(o->name, o->state, h->path, problem, problem_bytes));
    rc = home_open(h, problem, problem_bytes);
    if (rc == 0) {
        (void)snprintf(net_state, sizeof(net_state), "%s/net", h->path);
        net.state = net_state;
        net.home = o->name != NULL ? o->name : "default";
        rc = net_open(&net, &h->net, problem, problem_bytes);
    }
    if (rc == 0) {
        rc = open_loop(h, problem, problem_bytes);
        if (rc == 0) {
            rc = commands_open(h, problem, problem_bytes);
        }
        if (rc == 0) {
            rc = desired_open(h, problem, problem_bytes);
        }
        if (rc == 0) {
            home_reconcile_soon(h);
            loop_run(&h->loop);
        }
        home_close(h);
    }
    net_close(h->net);
    if (rc != E_EXISTS && h->lock_fd >= 0) {
        remove_remains(h, o->keep_identity, false);
        (void)snprintf(net_state, sizeof(net_state), "%.3700s/lock", h->path);
        (void)unlink(net_state);
        (void)rmdir(h->path);
    }
    json_decref(h->problems);
    mem_free(h->anchors_pem);
    arena_cache_clear();
    return rc;
}

int home_sweep(const char *path, char *problem, size_t problem_bytes)
{
    struct home h = {.lock_fd = -1};
    char lock[HOME_PATH_MAX + 16];

    (void)snprintf(h.path, sizeof(h.path), "%s", path);
    (void)snprintf(lock, sizeof(lock), "%s/lock", path);
    if (access(path, F_OK) != 0) {
        return E_NOT_FOUND;
    }
    TRY(take_lock(&h, problem, problem_bytes));
    remove_remains(&h, false, false);
    (void)unlink(lock);
    (void)rmdir(path);
    (void)close(h.lock_fd);
    return 0;
}
