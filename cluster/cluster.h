/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_CLUSTER_H
#define CLUSTER_CLUSTER_H

/*
 * The desired state that the control plane follows: typed Kubernetes objects with upsert and delete
 * events, token review, and writes of a few objects. One interface, two sources (decision D3):
 * `dir` (a directory of manifests) here; `kube` (the Kubernetes API) later.
 *
 * A source fills a store; readers get callbacks and may look anything up at any time in between.
 * Until `synced` a reader must not answer questions from it: objects may still be missing.
 * Ownership: objects are immutable and reference-counted; an update is a new object. A callback
 * borrows; keep with object_ref().
 * Threads: a cluster belongs to one loop. Objects may be read by any thread that holds a reference.
 */
#include "core/list.h"
#include "core/loop.h"
#include "core/map.h"
#include "core/snapshot.h"

#include <jansson.h>

#define OBJECT_NS_BYTES   64  /* a DNS label and NUL */
#define OBJECT_NAME_BYTES 254 /* a DNS subdomain and NUL */
#define OBJECT_KEY_BYTES  (OBJECT_NS_BYTES + OBJECT_NAME_BYTES)

enum kind {
#define KIND(id, api_group, api_version, name, plural, namespaced) KIND_##id,
#include "cluster/kinds.def"
#undef KIND
    KIND_COUNT
};

struct kind_info {
    enum kind kind;
    const char *group;   /* "" for core */
    const char *version; /* the storage version; others of the same group are accepted too */
    const char *name;    /* "Pod" */
    const char *plural;  /* "pods" */
    bool namespaced;
};
const struct kind_info *kind_info(enum kind k);
/* By apiVersion and kind of a manifest; NULL when it is not one that we know. */
const struct kind_info *kind_find(struct bytes api_version, struct bytes kind);

struct object {
    struct snapshot ref;
    enum kind kind;
    const char *ns;      /* "" for cluster-scoped; "default" when a namespaced manifest names none */
    const char *name;
    const char *uid;
    uint64_t created_ns; /* creationTimestamp, wall clock; 0 unknown */
    json_t *json;        /* the whole manifest; read-only */
    const json_t *metadata, *labels, *annotations, *spec, *status; /* inside json; NULL when absent */
    const char *source;  /* where it came from: "web.yaml:12"; "" for an API server. What the local home
                          * copied tells the user's own file, in the annotation tulle/source */
};

/* Takes over `json`, also on failure. E_CONFIG with a sentence when it is no object of a known kind.
 * A missing uid is derived from kind, namespace and name, so that it stays the same. */
int object_new(json_t *json, const char *source, struct object **out, char *problem,
               size_t problem_bytes) MUST_USE;
/* "ns/name"; empty when it is too long. */
struct bytes object_key(const char *ns, const char *name, char to[OBJECT_KEY_BYTES]);
void object_ref(const struct object *o);
void object_unref(const struct object *o); /* NULL is fine */
const char *object_label(const struct object *o, const char *key);      /* NULL when absent */
const char *object_annotation(const struct object *o, const char *key); /* NULL when absent */
/* matchLabels/matchExpressions, or a plain map (Service selector). An absent selector (NULL) matches
 * nothing; an empty one everything. */
bool selector_matches(const json_t *selector, const json_t *labels);
/* Members of an object or items of an array, in order; anything else (NULL too) has none:
 * struct json_iter it = JSON_ITER(x); while (json_next(&it)) {...it.key, it.value...} */
struct json_iter {
    const json_t *of;
    size_t index;      /* of the value in an array; counts members of an object */
    void *member;
    const char *key;   /* NULL in an array */
    const json_t *value;
};
#define JSON_ITER(json) {.of = (json)}
bool json_next(struct json_iter *it);
/* The value at "a.b[0].c", NULL when absent. */
const json_t *json_at(const json_t *root, const char *path);
const char *json_text(const json_t *root, const char *path);            /* NULL when absent or no string */
int64_t json_number(const json_t *root, const char *path, int64_t fallback);
bool json_flag(const json_t *root, const char *path, bool fallback);
/* For a value that should be a text: what the manifest's YAML made of it, and what to do. In `to`. */
#define JSON_MISREAD_BYTES 128
const char *json_misread(const json_t *value, char to[JSON_MISREAD_BYTES]);

/* --- facts of objects that several components need (object.c, workload.c) ------------------------ */

struct workload { /* who owns a pod: "deployment" "web" */
    const char *kind; /* lower case; "" when unknown; borrowed from static storage */
    char name[OBJECT_NAME_BYTES];
};
struct cluster;
/* Follows ownerReferences: Pod -> ReplicaSet -> Deployment, Pod -> Job -> CronJob. A pod that stands
 * alone has an empty kind and name. */
void pod_workload(const struct cluster *c, const struct object *pod, struct workload *out);
bool pod_is_ready(const struct object *pod);  /* condition Ready, not terminating */
bool pod_is_meshed(const struct object *pod, const char *control_ns); /* label linkerd.io/control-plane-ns */
const char *pod_service_account(const struct object *pod); /* "default" when absent */

/* --- the cluster ------------------------------------------------------------------------------- */

enum cluster_event { CLUSTER_UPSERT, CLUSTER_DELETE };
struct cluster_watch { /* embedded in the reader */
    struct list node;
    uint64_t kinds;    /* bit 1 << KIND_X for each kind wanted */
    void (*on_event)(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                     const struct object *old); /* old: NULL when new */
    void (*on_synced)(struct cluster_watch *w); /* once; from a task */
    /* Optional. Something that the source refuses, "web.yaml:12: ..."; said once, also in the log. */
    void (*on_problem)(struct cluster_watch *w, const char *text);
    void *user;
    struct cluster *cluster; /* private: set while the watch is added */
    uint64_t since;          /* private: changes from this one on are news */
};

struct cluster_ops;
struct cluster {
    const struct cluster_ops *ops;
    struct loop *loop;
    struct map objects[KIND_COUNT]; /* by "ns/name" */
    struct list watches;
    bool synced;
};

/* `path` is watched with inotify, folders below it too: *.yaml, *.yml, *.json; editors' temporary
 * files are ignored, a file is read when it is complete (close, rename). A bad file is reported once
 * with file, line and reason, and the objects that it held before stay. */
int cluster_open_dir(struct loop *l, const char *path, struct cluster **out) MUST_USE;
void cluster_close(struct cluster *c);

/* Present objects are delivered as upserts from a task before on_synced. Events come in the order of
 * the changes and, for one change, in the order in which watches were added; the store is always the
 * newest state, so it may be ahead of the event. A callback may add and remove watches, put, delete
 * and close the cluster. */
void cluster_watch_add(struct cluster *c, struct cluster_watch *w);
void cluster_watch_remove(struct cluster_watch *w); /* idempotent; no callback after it */
const struct object *cluster_get(const struct cluster *c, enum kind k, const char *ns, const char *name);
/* Iterate: struct map_iter it = MAP_ITER(&c->objects[KIND_POD]); while (map_next(&it)) {...it.value...} */

/* Create or replace. The dir source writes "<kind>.<ns>.<name>.json" with rename(2). Takes json, also on
 * failure. The store has it at once, the event follows from a task. E_CONFIG: no valid object;
 * E_EXISTS: another file (somebody's manifest) holds it, so it is not ours to replace or delete;
 * -errno: the disk. cluster_delete(): E_NOT_FOUND when there is none. */
int cluster_put(struct cluster *c, json_t *json) MUST_USE;
int cluster_delete(struct cluster *c, enum kind k, const char *ns, const char *name) MUST_USE;

/* Is this token good for `audience`? `user` is "system:serviceaccount:NS:SA"; err 0, E_DENIED, or why
 * the question could not be asked. Called from a task. */
struct token_review {
    void (*on_answer)(struct token_review *r, int err, const char *user, const char *problem);
    void *user;
    struct review *pending; /* private: NULL unless a question is open */
};
void cluster_review_token(struct cluster *c, struct token_review *r, struct bytes token,
                          const char *audience);
void cluster_review_cancel(struct token_review *r); /* no answer after it; idempotent. Closing the cluster
                                                       drops open questions in the same way. */

/* --- tokens of the local home (token.c): JWT, HS256, key in a file of mode 0600 ------------------- */
int token_key_create(const char *path) MUST_USE; /* keeps an existing one */
#define TOKEN_BYTES_MAX      8192 /* a longer one is refused unread */
#define TOKEN_USER_BYTES     400  /* "system:serviceaccount:NS:SA" and NUL */
/* A token for NS:SA and audience, valid for lifetime_s; caller mem_free()s. */
int token_mint(const char *key_path, const char *ns, const char *sa, const char *audience,
               unsigned lifetime_s, char **out_token) MUST_USE;
/* 0; E_DENIED and why; -errno or E_CONFIG when the key cannot be used (also when others than its owner
 * may read it). */
int token_verify(const char *key_path, struct bytes token, const char *audience, char *out_user,
                 size_t user_bytes, char *problem, size_t problem_bytes) MUST_USE;
/* The dir source reviews tokens with the key at "<path>/../token.key". */

#endif
