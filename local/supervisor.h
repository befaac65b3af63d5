/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_SUPERVISOR_H
#define LOCAL_SUPERVISOR_H

/*
 * The inside of a home's supervisor: what its files share. One process, one thread, one loop.
 *
 *   home.c       start, signals, the end         desired.c   the user's manifests, accepted or refused
 *   workload.c   Deployments to pods, rollout    service.c   Services to addresses, slices, names, rules
 *   pod.c        a pod's life                    container.c a container's life: start, end, back-off
 *   spawn.c      from fork to exec               volume.c    what volumes hold; mount.c where they are mounted
 *   env.c        environment and arguments       probe.c     HTTP, TCP and exec probes
 *   status.c     Pod objects with status         command.c   what the CLI asks
 *   builtin.c    the control plane's own manifests
 */
#include "cluster/cluster.h"
#include "core/list.h"
#include "core/map.h"
#include "http/conn.h"
#include "local/dns.h"
#include "local/home.h"

#define CONTAINERS_MAX 32
#define PROBE_KINDS    3

struct home {
    const struct home_options *options;
    char path[HOME_PATH_MAX], bin[HOME_PATH_MAX], cwd[HOME_PATH_MAX]; /* state; folder of our programs; where `up` ran */
    bool is_root;                /* real root: uids are honoured; else the proxy is exempted by a socket mark */
    int lock_fd, ready_fd;
    struct loop loop;
    struct net *net;
    struct dns_server *dns;
    struct cluster *cluster;     /* the state folder's: what the control plane follows */
    struct desired *desired;     /* the user's */
    struct inject_values values;
    char *anchors_pem;
    struct map pods;             /* struct pod by "ns/name" */
    struct task reconcile;       /* something changed: bring pods, slices, names and rules up to date */
    struct timer retry;          /* reconcile again, after a failure */
    struct list publishes;
    struct commands *commands;
    struct timer deadline;       /* of `up`: everything ready by then */
    bool is_announced, is_stopping;
    json_t *problems;            /* sentences that `status` and `up` show */
};

/* --- pods ---------------------------------------------------------------------------------------- */

enum container_role { ROLE_INIT, ROLE_SIDECAR, ROLE_MAIN };
enum container_state { CONTAINER_WAITING, CONTAINER_RUNNING, CONTAINER_BACKOFF, CONTAINER_DONE };

enum probe_kind { PROBE_STARTUP, PROBE_READINESS, PROBE_LIVENESS };
struct probe {
    struct container *container;
    enum probe_kind kind;
    const json_t *spec;          /* NULL: none */
    struct timer timer;
    struct task task;
    bool passes;
    unsigned successes, failures; /* in a row */
    /* one attempt */
    struct io *io;
    struct chain answer;
    pid_t pid;
    bool is_running, is_sent;
};

struct container {
    struct pod *pod;
    const json_t *spec;          /* borrowed from the pod's json */
    const char *name;
    enum container_role role;
    enum container_state state;
    pid_t pid;                   /* 0: not running */
    unsigned restarts, backoff_s;
    uint64_t started_ns;
    int exit_status;             /* as of wait(2); -1: never ended */
    char reason[96];             /* why it waits, for people */
    struct timer timer;          /* restart after a back-off */
    struct probe probes[PROBE_KINDS];
};

enum pod_phase { POD_STARTING, POD_RUNNING, POD_LEAVING, POD_STOPPING, POD_KILLING, POD_GONE };
struct pod {
    struct home *home;
    char ns[64], name[128], key[200]; /* key: "ns/name" */
    char workload[128];          /* Deployment, in the same namespace */
    char template_hash[17];
    json_t *json;                /* the Pod object, injected; status is added when written */
    struct net_pod net;
    bool has_net, is_ready, was_ready;
    enum pod_phase phase;
    struct container containers[CONTAINERS_MAX];
    size_t count;
    struct timer timer;          /* of leaving, stopping */
    struct task step;
    struct grave grave;
    uint64_t created_wall_ns, left_wall_ns;
};

/* workload.c: make the pods be what the Deployments ask for. */
void workload_reconcile(struct home *h);
void home_reconcile_soon(struct home *h);
void home_problem(struct home *h, const char *format, ...) PRINTF_LIKE(2, 3); /* shown by status and up; logged */

/* pod.c. The pod owns json. */
int pod_start(struct home *h, const char *ns, const char *name, const char *workload, const char *template_hash,
              json_t *json, struct pod **out, char *problem, size_t problem_bytes) MUST_USE;
void pod_stop(struct pod *p);                /* leaves the slices, then ends; idempotent */
void pod_changed(struct pod *p);             /* a container or probe changed: decide, write the status */
void pod_step(struct task *t);
const char *pod_dir(const struct pod *p, char to[HOME_PATH_MAX]);

/* container.c */
void container_start(struct container *c);
void container_exited(struct container *c, int status);
void container_signal(struct container *c, int signo);
bool container_is_ready(const struct container *c);
bool container_has_started(const struct container *c);
/* Who had this pid: a container or an exec probe. True when it was ours. */
bool pods_reap(struct home *h, pid_t pid, int status);
void container_log_path(const struct container *c, char to[HOME_PATH_MAX]);

/* spawn.c: run argv in the container's namespaces and surroundings. Standard streams: fds[3]; a -1 is /dev/null. */
int spawn_in(struct container *c, char *const argv[], const int fds[3], pid_t *out_pid) MUST_USE;

/* volume.c: make the pod's volumes (supervisor); mount.c: mount them (child, in its own mount namespace). */
int volumes_make(struct pod *p, char *problem, size_t problem_bytes) MUST_USE;
int volumes_refresh_tokens(struct pod *p) MUST_USE;
int mounts_apply(const struct container *c) MUST_USE; /* child; -errno */
void tree_remove(const char *path);          /* a folder of the state, with what is in it */
int tree_make(const char *path) MUST_USE;    /* mkdir -p; -errno */
int file_write(const char *path, struct bytes content, unsigned mode) MUST_USE; /* by rename */

int secret_decode(const char *base64, struct text *out) MUST_USE; /* base64.c; E_SYNTAX */

/* env.c: the strings live in the arena. E_CONFIG names what is missing. */
struct process_args {
    char **argv, **env;
    const char *cwd;
};
int process_args_make(const struct container *c, struct arena *a, struct process_args *out, char *problem,
                      size_t problem_bytes) MUST_USE;

/* probe.c */
void probe_begin(struct probe *p);           /* its container runs now */
void probe_end(struct probe *p);             /* its container ended; idempotent */
bool probe_reaped(struct probe *p, pid_t pid, int status);

/* status.c: the Pod object, as a cluster shows it, into cluster/. */
void pod_status_write(struct pod *p);
void pod_status_remove(struct pod *p);

/* desired.c: the user's manifests and the built-in ones, in one list. */
struct desired;
int desired_open(struct home *h, char *problem, size_t problem_bytes) MUST_USE;
void desired_close(struct desired *d);
bool desired_is_synced(const struct desired *d);
/* builtin.c */
json_t *builtin_objects(const struct home *h); /* array of manifests of the control plane */
int builtin_identity(struct home *h, char *problem, size_t problem_bytes) MUST_USE; /* anchors, issuer, token key */
int builtin_prometheus(const struct home *h) MUST_USE;      /* its configuration */
void builtin_scrape_targets(const struct home *h);          /* who is to be scraped now */

/* service.c */
void service_reconcile(struct home *h);
/* publish.c: service ports on the host's localhost, the control plane's on Unix sockets. */
void service_publish(struct home *h);
void service_published(const struct home *h, json_t *to); /* "ns/name:port": host port */
void service_unpublish_all(struct home *h);

/* home.c */
void home_stop(struct home *h);              /* end everything, then the loop; idempotent */

/* command.c */
int commands_open(struct home *h, char *problem, size_t problem_bytes) MUST_USE;
void commands_close(struct commands *c);
json_t *home_status(const struct home *h);
bool home_is_ready(const struct home *h, size_t *out_ready, size_t *out_total);
bool commands_reaped(struct home *h, pid_t pid, int status);

#endif
