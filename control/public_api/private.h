/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PUBLIC_API_PRIVATE_H
#define PUBLIC_API_PRIVATE_H

/*
 * The public API: what the command line and the dashboard ask (features A.5).
 *
 *   public_api.c   the component: methods, errors      prometheus.c   questions to Prometheus
 *   stat.c         StatSummary: what is asked          promql.c       its questions as text
 *   stat_scope.c   who is asked about                  figures.c      the answers, a row at a time
 *   stat_rows.c    the rows of the answer              objects.c      which objects, which pods are theirs
 *   list.c         ListPods, ListServices              pod_status.c   a pod's state in a word
 *   pod_ports.c    ports of a pod that are spoken of
 *   self_check.c   SelfCheck                           selector.c     label selectors as kubectl takes them
 *   breakdown.c    figures by further labels: routes.c (TopRoutes), stat_route.c (StatInbound, StatOutbound)
 */
#include "api/public.pb-c.h"
#include "control/component.h"
#include "control/public_api/prometheus.h"
#include "control/public_api/promql.h"
#include "core/arena.h"

#define ROWS_MAX        20000 /* of one answer */
#define ERRORS_PODS_MAX 1000  /* pods with errors in one answer */
#define ERRORS_MAX      16    /* of one pod */
#define IN_PROGRESS_MAX 64    /* calls that wait for Prometheus */
#define SELECTOR_TERMS_MAX 32
#define PORTS_PODS_MAX  100   /* pods of one answer whose ports are told */
#define POD_SERVICE_PORTS_MAX 64 /* of Services, of one pod */

struct public_api {
    const struct control_env *env;
    struct prometheus *prometheus;
    struct service *service;
    struct port_listener *listener;
    struct list calls;      /* of struct call: those that wait for Prometheus */
    size_t calls_count;
};

/* A call that waits. Each method embeds it first; `abandon` frees everything when the client went away. */
struct call {
    struct list node;
    struct public_api *api;
    struct service_request *request;
    void (*abandon)(struct call *c);
};
/* False: too many are under way, and the request was answered so. */
bool call_begin(struct public_api *api, struct call *c, struct service_request *r,
                void (*abandon)(struct call *c));
void call_end(struct call *c); /* before it is answered or freed */

/* Pack a message and answer with it; or with an ApiError and the header linkerd-error. */
void answer_message(struct service_request *r, const ProtobufCMessage *m);
void answer_error(struct service_request *r, unsigned status, const char *format, ...) PRINTF_LIKE(3, 4);

/* --- kinds and objects ------------------------------------------------------------------------ */

struct stat_kind {
    const char *type;   /* "deployment", as in requests and answers */
    enum kind kind;     /* KIND_COUNT: no objects (authority) */
    const char *label;  /* in metrics; "dst_" before it for the peer's */
    bool is_workload;   /* owns pods */
};
const struct stat_kind *stat_kind_find(const char *type); /* NULL when unknown */
size_t stat_kinds_all(const struct stat_kind *const **out); /* what "all" stands for */

/* "app=web,tier!=db,env in (a,b),!canary". */
struct label_selector;
int label_selector_parse(struct arena *a, const char *text, const struct label_selector **out, char *problem,
                         size_t problem_bytes) MUST_USE;
bool label_selector_matches(const struct label_selector *s, const json_t *labels);

/* Is the object one of those that the resource names (empty namespace or name: any)? Workloads that another
 * one owns (a Deployment's ReplicaSets) only when they are named. */
bool object_is_selected(const struct object *o, const struct stat_kind *k, const char *ns, const char *name,
                        const struct label_selector *labels);
/* Pods that have not ended. */
bool pod_is_present(const struct object *pod);
/* Is the pod one of this object's? */
bool pod_belongs(const struct cluster *c, const struct object *pod, const struct stat_kind *k,
                 const struct object *o);

/* kubectl's STATUS: "Running", "Pending", "CrashLoopBackOff", "Init:0/1", "Terminating" ... */
void pod_status_word(const struct object *pod, char out[64]);
/* Fills in `ports` and `service_ports`, in the arena. */
void pod_ports_fill(const struct public_api *api, const struct object *pod, struct arena *a,
                    Linkerd2__Public__Pod *to);
/* Why containers do not run: up to ERRORS_MAX, in the arena; NULL when there is nothing to say. */
Linkerd2__Public__PodErrors *pod_errors(const struct object *pod, struct arena *a);

/* --- StatSummary ------------------------------------------------------------------------------ */

struct figures { /* of one row */
    uint64_t success, failure;
    double quantiles[3];
    uint64_t tcp_open, tcp_read, tcp_write;
    bool has_responses, has_tcp;
};

struct stat_ask { /* a request, checked */
    const Linkerd2__Public__StatSummaryRequest *message;
    const struct stat_kind *kind;    /* NULL: all */
    const char *ns, *name;           /* "" when open */
    const struct stat_kind *peer;    /* of to or from; NULL: neither */
    const char *peer_ns, *peer_name;
    bool is_to, is_from;
    const struct label_selector *labels; /* NULL: none */
    const char *window;
    uint64_t window_ms;
};
/* E_CONFIG with a sentence. Borrows from the message and the arena. */
int stat_ask_read(struct stat_ask *ask, const Linkerd2__Public__StatSummaryRequest *message, struct arena *a,
                  char *problem, size_t problem_bytes) MUST_USE;
/* False, and a sentence: an object is named that does not exist. */
bool stat_is_there(const struct public_api *api, const struct stat_ask *ask, char *problem,
                   size_t problem_bytes);
/* "30s", "1m30s", "500ms"; empty: 1m. E_CONFIG. */
int window_parse(const char *text, uint64_t *out_ms) MUST_USE;
/* Which series tell of this kind; `out->match` is to be cleared. */
void stat_scope_init(struct promql_scope *out, const struct stat_ask *ask, const struct stat_kind *k);
/* The labels of a row in that scope's samples; namespace "" for namespaces themselves. */
void stat_scope_row(const struct stat_ask *ask, const struct stat_kind *k, const json_t *sample,
                    const char **out_ns, const char **out_name);

/* Figures by row, added up as samples come. */
struct figures_map {
    struct map rows; /* "ns/name" to struct figures, in the arena */
    struct arena *arena;
    bool is_full;    /* ROWS_MAX was reached */
};
void figures_init(struct figures_map *f, struct arena *a);
void figures_clear(struct figures_map *f);
struct figures *figures_at(struct figures_map *f, const char *ns, const char *name); /* NULL when full */
const struct figures *figures_get(const struct figures_map *f, const char *ns, const char *name);

/* One table. E_LIMIT when there are more than ROWS_MAX rows. */
int stat_table_build(const struct public_api *api, const struct stat_ask *ask, const struct stat_kind *k,
                     const struct figures_map *f, struct arena *a,
                     Linkerd2__Public__StatTable **out) MUST_USE;

/* --- methods ---------------------------------------------------------------------------------- */

void call_stat_summary(struct public_api *api, struct service_request *r);
void call_list_pods(struct public_api *api, struct service_request *r);
void call_list_services(struct public_api *api, struct service_request *r);
void call_self_check(struct public_api *api, struct service_request *r);
void call_top_routes(struct public_api *api, struct service_request *r);
void call_stat_inbound(struct public_api *api, struct service_request *r);
void call_stat_outbound(struct public_api *api, struct service_request *r);
void call_version(struct public_api *api, struct service_request *r);

#endif
