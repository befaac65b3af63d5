/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/cluster.h"

#include "cluster/names.h"

/* Owners that name a workload, and whether that may itself be owned by another one of them. */
static const struct owner_kind {
    const char *name;  /* as in ownerReferences */
    const char *lower; /* as in labels of metrics */
    enum kind kind;
    bool may_be_owned;
} owner_kinds[] = {
    {"ReplicaSet", "replicaset", KIND_REPLICA_SET, true},
    {"Deployment", "deployment", KIND_DEPLOYMENT, false},
    {"StatefulSet", "statefulset", KIND_STATEFUL_SET, false},
    {"DaemonSet", "daemonset", KIND_DAEMON_SET, false},
    {"Job", "job", KIND_JOB, true},
    {"CronJob", "cronjob", KIND_CRON_JOB, false},
    {"ReplicationController", "replicationcontroller", KIND_REPLICATION_CONTROLLER, false},
};

/* The owner that controls the object, else the first one; NULL when it stands alone. */
static const json_t *owner_of(const struct object *o)
{
    const json_t *owners = json_object_get(o->metadata, "ownerReferences");
    struct json_iter it = JSON_ITER(owners);

    while (json_is_array(owners) && json_next(&it)) {
        if (json_flag(it.value, "controller", false)) {
            return it.value;
        }
    }
    return json_array_get(owners, 0);
}

static const struct owner_kind *owner_kind_find(const char *name)
{
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(owner_kinds); i++) {
        if (strcmp(owner_kinds[i].name, name) == 0) {
            return &owner_kinds[i];
        }
    }
    return NULL;
}

void pod_workload(const struct cluster *c, const struct object *pod, struct workload *out)
{
    const struct object *at = pod;

    *out = (struct workload){.kind = ""};
    /* Two steps are the longest chain there is; a loop in the data ends here as well. */
    for (unsigned step = 0; step < 2 && at != NULL; step++) {
        const json_t *owner = owner_of(at);
        const struct owner_kind *kind = owner_kind_find(json_text(owner, "kind"));
        const char *name = json_text(owner, "name");

        if (kind == NULL || name == NULL || strlen(name) >= sizeof(out->name)) {
            return;
        }
        out->kind = kind->lower;
        memcpy(out->name, name, strlen(name) + 1);
        at = kind->may_be_owned ? cluster_get(c, kind->kind, pod->ns, name) : NULL;
    }
}

bool pod_is_ready(const struct object *pod)
{
    const json_t *conditions = json_object_get(pod->status, "conditions");
    struct json_iter it = JSON_ITER(conditions);

    if (json_text(pod->metadata, "deletionTimestamp") != NULL || !json_is_array(conditions)) {
        return false;
    }
    while (json_next(&it)) {
        const char *type = json_text(it.value, "type");
        const char *status = json_text(it.value, "status");

        if (type != NULL && status != NULL && strcmp(type, "Ready") == 0) {
            return strcmp(status, "True") == 0;
        }
    }
    return false;
}

bool pod_is_meshed(const struct object *pod, const char *control_ns)
{
    const char *has = object_label(pod, NAME_LABEL_CONTROL_NS);

    return has != NULL && strcmp(has, control_ns) == 0;
}

const char *pod_service_account(const struct object *pod)
{
    const char *name = json_text(pod->spec, "serviceAccountName");

    return name != NULL && name[0] != '\0' ? name : "default";
}
