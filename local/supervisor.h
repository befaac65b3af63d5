/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_SUPERVISOR_H
#define LOCAL_SUPERVISOR_H

/*
 * The inside of a home's supervisor: what its files share. One process, one thread, one loop.
 *
 *   home.c       start, signals, the end           state.c      the state folder
 *   announce.c   what `up` hears, and problems     desired.c    the user's manifests
 *   follow.c     a single file                     recheck.c    problems of files that are over
 *   workload.c   Deployments to pods, rollout      service.c    Services to slices, names, rules
 *   slice.c      slices that the user wrote        validate*.c  what manifests may hold
 *   pod.c        a pod's life                      container.c  a container's life
 *   spawn.c      from fork to exec                 privilege.c  users and capabilities
 *   volume.c     what volumes hold                 mount.c      where they are mounted
 *   env.c        environment and arguments         probe.c      HTTP, TCP and exec probes
 *   log_file.c   what containers write             publish.c    ports on the host's localhost
 *   status.c     what pods are like                builtin.c    the control plane's own manifests
 *   command.c    what the CLI asks; exec.c, fetch.c and upgrade.c three of its commands
 *
 * Callbacks of the loop only record and wake; pod_step() and reconcile() decide. Nothing but
 * spawn_in() forks a container's processes, and nothing but reap() waits for them.
 */
#include "cluster/cluster.h"
#include "core/arena.h"
#include "core/list.h"
#include "core/map.h"
#include "local/dns.h"
#include "local/home.h"
#include "net/io.h"

#define CONTAINERS_MAX 32
#define PROBE_KINDS    3
#define REPLICAS_MAX   500
#define ABOUT_PODS     "pods of %s/%s" /* what a problem is about: pods of a Deployment cannot be made */
#define PROBE_WHY_BYTES 128
#define FORMER_MAX     8 /* proxies of a container that have handed over and are not done yet */

struct upgrade;

struct home {
    const struct home_options *options;
    char path[HOME_PATH_MAX]; /* state */
    char bin[HOME_PATH_MAX];  /* folder of our programs */
    char cwd[HOME_PATH_MAX];  /* where `up` ran */
    bool is_root;             /* uids are honoured; else the proxy is exempted by a socket mark */
    bool has_v6;
    int lock_fd;
    struct loop loop;
    struct net *net;
    struct dns_server *dns;
    struct cluster *cluster;  /* the state folder's: what the control plane follows */
    struct desired *desired;  /* the user's */
    struct inject_values values;
    char proxy_program[HOME_PATH_MAX + 16]; /* of pods to come */
    struct upgrade *upgrade;  /* under way; or NULL */
    char *anchors_pem;
    struct map pods;          /* struct pod by "ns/name" */
    struct task reconcile;    /* something changed: bring all that follows from it up to date */
    struct timer settle;      /* manifests changed: others may follow in a moment */
    struct timer retry;       /* reconcile again, after a failure */
    struct list publishes;
    struct commands *commands;
    struct timer deadline;    /* of `up`: everything ready by then */
    struct timer logs;        /* when sizes of logs are looked at */
    struct list problems;
    uint64_t rules_hash;      /* of the rules in force; 0: none yet */
    bool is_announced, is_stopping;
    bool is_late;             /* `up` has waited long enough */
    struct announce *announce; /* to `up`, while it waits */
    struct watch folder;      /* inotify: somebody removes the state folder */
    struct task folder_task;
};

/* --- pods ---------------------------------------------------------------------------------------- */

enum container_role { ROLE_INIT, ROLE_SIDECAR, ROLE_MAIN };
#define REASON_BYTES 400 /* with what to do */

/* Starting: there is a process, which does not execute its program yet and may fail to. */
enum container_state {
    CONTAINER_WAITING,
    CONTAINER_STARTING,
    CONTAINER_RUNNING,
    CONTAINER_BACKOFF,
    CONTAINER_DONE,
};

enum probe_kind { PROBE_STARTUP, PROBE_READINESS, PROBE_LIVENESS };
struct probe {
    struct container *container;
    enum probe_kind kind;
    const json_t *spec;          /* NULL: none */
    struct timer timer;
    struct task task;
    bool passes;
    unsigned attempts;
    unsigned successes, failures; /* in a row */
    uint64_t counted_ns;         /* when a failure last counted */
    /* one attempt */
    struct io *io;
    struct chain answer;
    pid_t pid;
    bool is_running, is_sent;
    bool is_knocking, has_knocked; /* at the program's own port, before its proxy is asked */
    char why[PROBE_WHY_BYTES];   /* what the last attempt found wrong, for people; "" */
};

struct container {
    struct pod *pod;
    const json_t *spec;          /* borrowed from the pod's json */
    const char *name;
    enum container_role role;
    enum container_state state;
    pid_t pid;                   /* 0: not running */
    pid_t group;                 /* told to end, its program did, and these are still at it; or 0 */
    struct watch setup;          /* ends when the child executes its program, or holds what hindered it */
    struct task setup_told;
    unsigned restarts, backoff_s;
    uint64_t started_ns;
    int exit_status;             /* as of wait(2); -1: never ended */
    char *program;               /* run instead of the first word of its command, after an upgrade */
    pid_t former[FORMER_MAX];    /* processes that have handed over to `pid` */
    size_t former_count;
    struct upgrade *upgrade;     /* a successor of `pid` is being started; or NULL */
    char reason[REASON_BYTES];   /* why it waits, for people */
    bool is_hopeless;            /* it could not even be started: nothing changes by waiting */
    bool is_ending;              /* told to */
    struct timer timer;          /* backing off: restart; ending: SIGKILL; looks at the group */
    struct probe probes[PROBE_KINDS];
};

enum pod_phase { POD_STARTING, POD_RUNNING, POD_LEAVING, POD_STOPPING, POD_KILLING, POD_GONE };
struct pod {
    struct home *home;
    char ns[OBJECT_NS_BYTES], name[OBJECT_NS_BYTES], key[OBJECT_KEY_BYTES]; /* key: "ns/name" */
    char workload[OBJECT_NAME_BYTES]; /* Deployment, in the same namespace */
    char template_hash[17];
    bool is_former;              /* to be replaced though its template is the current one */
    json_t *json;                /* the Pod object, injected; status is added when written */
    struct net_pod net;
    bool has_net, is_ready, is_unwritten; /* unwritten: the disk refused its status */
    bool are_sidecars_told;      /* they got their SIGTERM */
    enum pod_phase phase;
    struct container containers[CONTAINERS_MAX];
    size_t count;
    struct timer timer;          /* tokens; leaving, stopping */
    struct task step;
    struct grave grave;
    uint64_t created_wall_ns, left_wall_ns;
};

/* --- announce.c: `up` waits on a descriptor for lines of JSON: {"pods_ready":N,"pods_total":N},
 * {"notice":"..."}, {"problem":"..."}, and at the end {"ready":true|false,"status":{...},
 * "unready":[...]}. Its end ends a home that is not up yet. --- */
void announce_open(struct home *h, int fd);   /* takes fd; -1: nobody waits */
void announce_close(struct home *h);
void announce_progress(struct home *h);       /* how far it is, or that it is up, or has failed */
void announce_notice(struct home *h, const char *format, ...) PRINTF_LIKE(2, 3);

/* Sentences that `up` and `status` show, until they are over. `about` names what one concerns; a new
 * one replaces the former. While `up` waits any of them is its end. */
void home_problem(struct home *h, const char *about, const char *format, ...) PRINTF_LIKE(3, 4);
void home_problem_over(struct home *h, const char *about);
json_t *home_problems(const struct home *h);  /* array of texts, oldest first */
const char *home_problem_of(const struct home *h, const char *about); /* NULL: none */
void home_clean(char *text);                  /* what is not UTF-8 becomes '?' */

/* --- home.c --- */
void home_reconcile_soon(struct home *h);
void home_stop(struct home *h);               /* end everything, then the loop; idempotent */

/* --- state.c: the state folder --- */
/* Locked, emptied and ours. */
int state_open(struct home *h, char *problem, size_t problem_bytes) MUST_USE;
void state_close(struct home *h);             /* removes it */
int state_note(const struct home *h) MUST_USE; /* home.json */
int state_watch(struct home *h) MUST_USE;     /* ends the home when its folder goes */
void tree_remove(const char *path);           /* a folder of the state, with what is in it */
int tree_make(const char *path) MUST_USE;     /* mkdir -p; -errno */
int file_write(const char *path, struct bytes content, unsigned mode) MUST_USE; /* by rename */

/* --- workload.c: make the pods be what the Deployments ask for --- */
void workload_reconcile(struct home *h);
bool workload_is_ready(const struct home *h, const struct object *deployment, size_t *out_ready,
                       size_t *out_want);
bool workload_has_replaced(const struct home *h, const struct pod *p); /* it is to leave for newer ones */

/* --- pod.c. The pod owns json, also when it cannot be started. --- */
int pod_start(struct home *h, const char *ns, const char *name, const char *workload,
              const char *template_hash, json_t *json, char *problem,
              size_t problem_bytes) MUST_USE;
void pod_stop(struct pod *p);                 /* leaves the slices, then ends; idempotent */
void pod_stop_now(struct pod *p);             /* without leaving first: the home ends */
void pod_drop(struct pod *p);                 /* the home is over: forget it */
void pod_changed(struct pod *p);              /* a container or probe changed */
int64_t pod_grace_s(const struct pod *p);      /* how long its programs may take to end */
const char *pod_dir(const struct pod *p, char to[HOME_PATH_MAX]);

/* --- container.c --- */
void container_start(struct container *c);
void container_signal(struct container *c, int signo);
void container_end(struct container *c);      /* SIGTERM, then SIGKILL; it starts again */
/* `pid`, running `program`, has taken over; the process before it finishes what it has open. */
void container_succeed(struct container *c, pid_t pid, const char *program);
bool container_is_ready(const struct container *c);
bool container_has_started(const struct container *c);
/* It fails over and over, or cannot be started: waiting does not make it ready. */
bool container_is_stuck(const struct container *c);
/* Why it is not ready, in a few words that live in `to`. */
const char *container_why(const struct container *c, char *to, size_t bytes);
/* How its program ended last, in a few words that live in `to`; "" when it never did. */
const char *container_end_text(const struct container *c, char *to, size_t bytes);
void container_close(struct container *c);    /* its pod goes */
bool container_is_running(const struct container *c); /* or a part of it is */
/* A process has ended and can be waited for. True: it is a container's or an exec probe's, and what it
 * left running has been seen to. */
bool pods_own(const struct home *h, pid_t pid);
void pods_reap(struct home *h, pid_t pid, int status);

/* --- log_file.c --- */
void log_file_path(const struct container *c, char to[HOME_PATH_MAX]);
int log_file_open(const struct container *c) MUST_USE; /* descriptor, or -errno */
void log_files_trim(struct home *h);          /* those that have grown too large */
void log_files_remove(const struct pod *p);
json_t *log_file_tail(const struct container *c); /* array: its last lines */

/* --- spawn.c: run a program in the container's namespaces and surroundings --- */
struct spawn {
    char *const *argv;      /* NULL: the container's own */
    int fds[3];             /* standard streams; -1 is /dev/null */
    bool has_terminal;      /* fds[0] becomes the controlling terminal */
    const char *term;       /* for TERM; NULL: as it is */
    const char *program;    /* instead of argv[0]; NULL: as it is */
    const char *notify;     /* for NOTIFY_SOCKET; NULL: none */
};
/* *out_setup_fd (may be NULL): a pipe that ends empty when the program is executed, and holds a sentence if
 * it could not be started. */
void spawn_init(void);      /* before our own limits are raised */
int spawn_in(struct container *c, const struct spawn *s, pid_t *out_pid,
             int *out_setup_fd) MUST_USE;
void spawn_kill(pid_t pid, int signo);        /* its whole process group */
/* privilege.c, in the child: what the securityContext says. */
int privilege_apply(const struct container *c, const char **out_problem) MUST_USE;

/* --- volume.c: make the pod's volumes (supervisor); mount.c: mount them (child) --- */
int volumes_make(struct pod *p, char *problem, size_t problem_bytes) MUST_USE;
void volumes_unmount(struct pod *p);          /* so that the state folder can be removed */
void volumes_remove(struct pod *p);
/* What ConfigMaps and Secrets hold now, and new tokens; or these alone. */
int volumes_refresh(struct pod *p, bool tokens_only) MUST_USE;
bool volumes_use(const struct pod *p, const struct object *o); /* this ConfigMap or Secret? */
int mounts_apply(const struct container *c, const char **out_what) MUST_USE;
int secret_decode(const char *base64, struct text *out) MUST_USE; /* base64.c; E_SYNTAX */

/* --- env.c: the strings live in the arena. E_CONFIG names what is missing. --- */
#define PROCESS_ARGS_BYTES_MAX (1536u << 10) /* in all; less than what the kernel takes */
struct process_args {
    char **argv, **env;
    const char *cwd;
};
int process_args_make(const struct container *c, const char *term, struct arena *a,
                      struct process_args *out, char *problem, size_t problem_bytes) MUST_USE;

/* --- probe.c --- */
void probe_begin(struct probe *p);            /* its container runs now */
void probe_end(struct probe *p);              /* its container ended; idempotent */
void probe_reaped(struct probe *p, int status); /* its command ended */

/* --- status.c: the Pod object, as a cluster shows it, into cluster/ --- */
void pod_status_write(struct pod *p);
void pod_status_remove(struct pod *p);
json_t *home_status(const struct home *h);    /* for the CLI */
/* What keeps it from being ready, with last lines: what failed; with `all`, also what just is not ready. */
json_t *home_unready(const struct home *h, bool all);
bool home_is_ready(const struct home *h, size_t *out_ready, size_t *out_total);
uint64_t home_unsettled_ns(const struct home *h); /* until what is ready is likely to stay so */

/* --- desired.c: the user's manifests and the built-in ones, in one list --- */
struct desired;
int desired_open(struct home *h, char *problem, size_t problem_bytes) MUST_USE;
void desired_close(struct desired *d);
bool desired_is_synced(const struct desired *d);

/* --- follow.c: one file --- */
struct follow;
/* Copies `file` (an absolute path) to `copy`, now and whenever it changes. */
int follow_open(struct loop *l, const char *file, const char *copy, struct follow **out) MUST_USE;
void follow_close(struct follow *f);          /* NULL is fine */

/* --- builtin.c --- */
json_t *builtin_objects(const struct home *h); /* array of manifests of the control plane */
/* Anchors, issuer, token key. */
int builtin_identity(struct home *h, char *problem, size_t problem_bytes) MUST_USE;
int builtin_prometheus(const struct home *h) MUST_USE; /* its configuration */
void builtin_scrape_targets(const struct home *h);     /* who is to be scraped now */

/* --- service.c --- */
void service_reconcile(struct home *h);
/* As in Kubernetes: unless it asks for both families. */
bool service_is_ipv4_only(const json_t *spec);
/* --- publish.c: service ports on the host's localhost, the control plane's on Unix sockets --- */
void service_publish(struct home *h);
void service_published(const struct home *h, json_t *to); /* "ns/name:port": host port */
void service_unpublish_all(struct home *h);

/* --- command.c --- */
int commands_open(struct home *h, char *problem, size_t problem_bytes) MUST_USE;
void commands_close(struct commands *c);
void commands_reaped(struct home *h, pid_t pid, int status);

#endif
