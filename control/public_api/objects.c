/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

static const struct stat_kind kinds[] = {
    {"deployment", KIND_DEPLOYMENT, "deployment", true},
    {"pod", KIND_POD, "pod", false},
    {"namespace", KIND_NAMESPACE, "namespace", false},
    {"service", KIND_SERVICE, "service", false},
    {"statefulset", KIND_STATEFUL_SET, "statefulset", true},
    {"daemonset", KIND_DAEMON_SET, "daemonset", true},
    {"replicaset", KIND_REPLICA_SET, "replicaset", true},
    {"replicationcontroller", KIND_REPLICATION_CONTROLLER, "replicationcontroller", true},
    {"job", KIND_JOB, "k8s_job", true},
    {"cronjob", KIND_CRON_JOB, "cronjob", true},
    {"authority", KIND_COUNT, "authority", false},
};

const struct stat_kind *stat_kind_find(const char *type)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].type, type) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

size_t stat_kinds_all(const struct stat_kind *const **out)
{
    static const struct stat_kind *const all[] = {
        &kinds[0], &kinds[1], &kinds[3], &kinds[4], &kinds[5],
        &kinds[6], &kinds[7], &kinds[8], &kinds[9],
    };

    *out = all;
    return ARRAY_LEN(all);
}

/* A Deployment's ReplicaSet, a CronJob's Job: its pods count for its owner. */
static bool is_owned(const struct object *o)
{
    return json_array_size(json_object_get(o->metadata, "ownerReferences")) > 0;
}

bool object_is_selected(const struct object *o, const struct stat_kind *k, const char *ns,
                        const char *name, const struct label_selector *labels)
{
    if (k->kind != KIND_NAMESPACE && ns[0] != '\0' && strcmp(o->ns, ns) != 0) {
        return false;
    }
    if (name[0] != '\0' ? strcmp(o->name, name) != 0 : k->is_workload && is_owned(o)) {
        return false;
    }
    return label_selector_matches(labels, o->labels) && (k->kind != KIND_POD || pod_is_present(o));
}

bool pod_is_present(const struct object *pod)
{
    const char *phase = json_text(pod->status, "phase");

    return phase == NULL || (strcmp(phase, "Succeeded") != 0 && strcmp(phase, "Failed") != 0);
}

/* The object itself among the pod's owners: a ReplicaSet that a Deployment owns, when it was named. */
static bool is_owner(const struct object *pod, const struct object *o)
{
    struct json_iter it = JSON_ITER(json_object_get(pod->metadata, "ownerReferences"));

    while (json_next(&it)) {
        const char *kind = json_text(it.value, "kind"), *name = json_text(it.value, "name");

        if (kind != NULL && name != NULL && strcmp(kind, kind_info(o->kind)->name) == 0 &&
            strcmp(name, o->name) == 0) {
            return true;
        }
    }
    return false;
}

bool pod_belongs(const struct cluster *c, const struct object *pod, const struct stat_kind *k,
                 const struct object *o)
{
    struct workload owner;

    if (k->kind == KIND_NAMESPACE) {
        return strcmp(pod->ns, o->name) == 0;
    }
    if (strcmp(pod->ns, o->ns) != 0) {
        return false;
    }
    if (k->kind == KIND_POD) {
        return strcmp(pod->name, o->name) == 0;
    }
    if (k->kind == KIND_SERVICE) {
        return json_object_size(json_object_get(o->spec, "selector")) > 0 &&
               selector_matches(json_object_get(o->spec, "selector"), pod->labels);
    }
    pod_workload(c, pod, &owner);
    return (strcmp(owner.kind, k->type) == 0 && strcmp(owner.name, o->name) == 0) ||
           is_owner(pod, o);
}
