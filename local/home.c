/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/file.h"
#include "core/log.h"
#include "core/process.h"
#include "local/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNKS_MAX 8192
#define DNS_PORT   53
#define LOGS_NS    (15 * NS_PER_S) /* between looks at the sizes of logs */
#define MAPS_BYTES 4096

/* --- reconciliation ------------------------------------------------------------------------------ */

void home_reconcile_soon(struct home *h)
{
    task_wake(&h->loop, &h->reconcile);
}

static void reconcile(struct task *t)
{
    struct home *h = CONTAINER_OF(t, struct home, reconcile);

    if (h->is_stopping) {
        if (map_count(&h->pods) == 0) {
            loop_stop(&h->loop);
        }
        return;
    }
    /* Nothing starts until all manifests were read and none is wrong: half a home helps nobody. */
    if (h->is_announced || (desired_is_synced(h->desired) && list_is_empty(&h->problems))) {
        workload_reconcile(h);
        service_reconcile(h);
        service_publish(h);
        builtin_scrape_targets(h);
    }
    announce_progress(h);
}

static void on_soon(struct timer *t)
{
    home_reconcile_soon(CONTAINER_OF(t, struct home, retry));
}

static void on_settled(struct timer *t)
{
    home_reconcile_soon(CONTAINER_OF(t, struct home, settle));
}

static void on_deadline(struct timer *t)
{
    struct home *h = CONTAINER_OF(t, struct home, deadline);

    h->is_late = true;
    home_problem(h, "deadline", "not everything was ready within %llu s",
                 (unsigned long long)(h->options->wait_ns / NS_PER_S));
}

static void on_logs(struct timer *t)
{
    struct home *h = CONTAINER_OF(t, struct home, logs);

    log_files_trim(h);
    timer_arm_in(&h->loop, &h->logs, LOGS_NS);
}

void home_stop(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->pods);

    if (h->is_stopping) {
        return;
    }
    log_info("the home ends");
    h->is_stopping = true;
    timer_cancel(&h->loop, &h->deadline);
    while (map_next(&it)) {
        pod_stop_now(it.value);
    }
    home_reconcile_soon(h);
}

/* --- signals ------------------------------------------------------------------------------------- */

static void reap(struct home *h)
{
    siginfo_t info;
    int status;

    for (;;) {
        bool is_pods;

        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
            return;
        }
        if (net_is_helper(h->net, info.si_pid)) {
            log_error("a process that holds the home together ended: the home ends too; pid=%d",
                      (int)info.si_pid);
            loop_stop(&h->loop);
            return; /* net_close() waits for it */
        }
        is_pods = pods_own(h, info.si_pid);
        if (waitpid(info.si_pid, &status, WNOHANG) != info.si_pid) {
            return;
        }
        if (is_pods) {
            pods_reap(h, info.si_pid, status);
        } else {
            commands_reaped(h, info.si_pid, status);
        }
    }
}

static void on_signal(void *user, int signo)
{
    struct home *h = user;

    if (signo == SIGCHLD) {
        reap(h);
    } else if (signo == SIGTERM || signo == SIGINT) {
        log_info("received %s", signo == SIGTERM ? "SIGTERM" : "SIGINT");
        if (h->is_stopping) { /* asked twice: without further ado */
            loop_stop(&h->loop);
        } else {
            home_stop(h);
        }
    }
}

/* --- start --------------------------------------------------------------------------------------- */

static void set_values(struct home *h)
{
    static char init[HOME_PATH_MAX + 16], networks[512];
    const struct net_config *net = &h->options->net;
    char a[2][ADDR_TEXT_BYTES];
    struct text t;

    inject_values_default(&h->values);
    (void)snprintf(init, sizeof(init), "%s/tulle-init", h->bin);
    (void)snprintf(h->proxy_program, sizeof(h->proxy_program), "%s/tulle-proxy", h->bin);
    text_init_fixed(&t, networks, sizeof(networks));
    text_printf(&t, "%s,%s", cidr_format(&net->pods4, a[0]), cidr_format(&net->services4, a[1]));
    if (h->has_v6) {
        text_printf(&t, ",%s,%s", cidr_format(&net->pods6, a[0]),
                    cidr_format(&net->services6, a[1]));
    }
    h->values.init_command = init;
    h->values.proxy_command = h->proxy_program;
    h->values.cluster_networks = networks;
    h->values.native_sidecar = true;
    h->values.disable_ipv6 = !h->has_v6;
    h->values.created_by = "tulle/local " TULLE_VERSION;
    h->values.trust_anchors_pem = h->anchors_pem;
    if (h->options->log_level != NULL) {
        h->values.log_level = h->options->log_level;
    }
}

static bool is_in_path(const char *name)
{
    struct bytes rest = bytes_str(getenv("PATH")), folder;
    char path[HOME_PATH_MAX];
    bool more = rest.len > 0;

    while (more) {
        more = bytes_split(rest, ':', &folder, &rest);
        (void)snprintf(path, sizeof(path), BYTES_FMT "/%s", BYTES_ARG(folder), name);
        if (folder.len > 0 && access(path, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static int find_programs(struct home *h, char *problem, size_t problem_bytes)
{
    static const char *const programs[] = {"tulle-init", "tulle-proxy", "tulle-controller"};
    char self[PATH_MAX], path[HOME_PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n <= 0 || getcwd(h->cwd, sizeof(h->cwd)) == NULL) {
        (void)snprintf(problem, problem_bytes,
                       "cannot learn where this program is, or from where it was called: %s",
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
    if (!is_in_path("prometheus")) {
        (void)snprintf(problem, problem_bytes,
                       "the program prometheus is not in PATH, and a home measures with it: "
                       "apt-get install prometheus");
        return E_NOT_FOUND;
    }
    return 0;
}

/* The supervisor's own lines go into the state folder, unless it stays in the foreground. */
static int open_log(const struct home *h, char *problem, size_t problem_bytes)
{
    char path[HOME_PATH_MAX + 32];
    int fd, rc = 0;

    if (h->options->foreground) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "%s/supervisor.log", h->path);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0) {
        rc = -errno;
        (void)snprintf(problem, problem_bytes, "%s cannot be written: %s", path, err_text(rc));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static int open_folder(struct home *h, char *problem, size_t problem_bytes)
{
    int rc;

    TRY(state_open(h, problem, problem_bytes));
    TRY(open_log(h, problem, problem_bytes));
    TRY(builtin_identity(h, problem, problem_bytes));
    rc = builtin_prometheus(h);
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes,
                       "Prometheus' configuration cannot be written below %s: %s", h->path,
                       err_text(rc));
    }
    return rc;
}

/* The next number of a line of columns. */
static bool take_number(struct bytes *io_line, uint64_t *out)
{
    struct bytes word;

    *io_line = bytes_trim(*io_line, " ");
    (void)bytes_split(*io_line, ' ', &word, io_line);
    return bytes_to_u64(word, UINT32_MAX, out) == 0;
}

/* Are other users of this machine ours to become? Not in a user namespace, where one is mapped. */
static bool may_become(unsigned uid)
{
    char maps[MAPS_BYTES];
    struct bytes rest, line;
    uint64_t inside, outside, count;
    size_t len;

    if (file_read_into("/proc/self/uid_map", maps, sizeof(maps), &len) != 0) {
        return false;
    }
    rest = bytes_of(maps, len);
    while (rest.len > 0) {
        (void)bytes_split(rest, '\n', &line, &rest);
        if (take_number(&line, &inside) && take_number(&line, &outside) &&
            take_number(&line, &count) && uid >= inside && uid - inside < count) {
            return true;
        }
    }
    return false;
}

static int open_net(struct home *h, char *problem, size_t problem_bytes)
{
    struct net_config net = h->options->net;
    char state[HOME_PATH_MAX + 8];
    struct addr node6;

    (void)snprintf(state, sizeof(state), "%s/net", h->path);
    net.state = state;
    net.home = h->options->name != NULL ? h->options->name : "default";
    TRY(net_open(&net, &h->net, problem, problem_bytes));
    node6 = net_node_ip6(h->net);
    h->has_v6 = !addr_is_none(&node6);
    h->is_root = may_become(PROXY_UID);
    return 0;
}

static int open_parts(struct home *h, char *problem, size_t problem_bytes)
{
    struct addr dns = net_node_ip4(h->net);
    char path[HOME_PATH_MAX + 16];
    int rc = process_signals_open(&h->loop, on_signal, h);

    dns.port = DNS_PORT;
    (void)snprintf(path, sizeof(path), "%s/cluster", h->path);
    if (rc == 0) {
        rc = dns_server_open(&h->loop, &dns, &h->dns);
    }
    if (rc == 0) {
        rc = cluster_open_dir(&h->loop, path, &h->cluster);
    }
    if (rc == 0) {
        rc = state_watch(h);
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "the supervisor cannot be set up: %s", err_text(rc));
        return rc;
    }
    TRY(commands_open(h, problem, problem_bytes));
    TRY(desired_open(h, problem, problem_bytes));
    rc = state_note(h);
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "%s/home.json cannot be written: %s", h->path,
                       err_text(rc));
    }
    return rc;
}

/* --- life ---------------------------------------------------------------------------------------- */

static void home_close(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->pods);

    h->is_stopping = true;
    upgrade_close(h);
    commands_close(h->commands);
    desired_close(h->desired);
    service_unpublish_all(h);
    while (map_next(&it)) { /* the loop was stopped before they had ended */
        pod_drop(it.value);
    }
    if (h->cluster != NULL) {
        cluster_close(h->cluster);
    }
    dns_server_close(h->dns);
    watch_close(&h->folder);
    task_cancel(&h->folder_task);
    process_signals_close();
    announce_close(h);
    timer_cancel(&h->loop, &h->retry);
    timer_cancel(&h->loop, &h->settle);
    timer_cancel(&h->loop, &h->deadline);
    timer_cancel(&h->loop, &h->logs);
    task_cancel(&h->reconcile);
    io_close_lingering(&h->loop);
    loop_close(&h->loop);
    map_clear(&h->pods);
}

static int home_live(struct home *h, int ready_fd, char *problem, size_t problem_bytes)
{
    int rc = loop_open(&h->loop, 0, CHUNKS_MAX);

    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "the supervisor's loop cannot be made: %s",
                       err_text(rc));
        return rc;
    }
    h->reconcile.run = reconcile;
    h->retry.run = on_soon;
    h->settle.run = on_settled;
    h->deadline.run = on_deadline;
    h->logs.run = on_logs;
    announce_open(h, ready_fd < 0 ? -1 : fcntl(ready_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    rc = open_parts(h, problem, problem_bytes);
    if (rc == 0) {
        if (h->options->wait_ns != 0) {
            timer_arm_in(&h->loop, &h->deadline, h->options->wait_ns);
        }
        timer_arm_in(&h->loop, &h->logs, LOGS_NS);
        home_reconcile_soon(h);
        loop_run(&h->loop);
    }
    home_close(h);
    return rc;
}

/* A pod costs us a few descriptors; what our children get is put back in spawn.c. */
static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int home_run(const struct home_options *o, int ready_fd, char *problem, size_t problem_bytes)
{
    static struct home home; /* one a process */
    struct home *h = &home;
    int rc;

    (void)umask(022);
    spawn_init();
    raise_limits();
    h->options = o;
    h->lock_fd = -1;
    map_init(&h->pods);
    list_init(&h->publishes);
    list_init(&h->problems);
    TRY(home_path(o->name, o->state, h->path, problem, problem_bytes));
    TRY(find_programs(h, problem, problem_bytes));
    rc = open_folder(h, problem, problem_bytes);
    if (rc == 0) {
        rc = open_net(h, problem, problem_bytes);
    }
    if (rc == 0) {
        set_values(h);
        rc = home_live(h, ready_fd, problem, problem_bytes);
    }
    net_close(h->net);
    state_close(h);
    mem_free(h->anchors_pem);
    arena_cache_clear();
    return rc;
}
