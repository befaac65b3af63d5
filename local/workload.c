/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>

/*
 * Deployments to pods: as many of the current template as are asked for; those of a former template leave when the
 * new ones are ready.
 */
#define REPLICAS_MAX 500
#define RETRY_NS     (2 * NS_PER_S)

struct census { /* the pods of one Deployment */
    size_t current, current_ready, former;
};

static void template_hash(const struct object *deployment, char out[17])
{
    char *dump =
        json_dumps(json_object_get(deployment->spec, "template"), JSON_COMPACT | JSON_SORT_KEYS);

    (void)snprintf(out, 17, "%010llx",
                   (unsigned long long)(bytes_hash(bytes_str(dump)) & 0xffffffffffull));
    mem_free(dump);
}

static bool is_of(const struct pod *p, const struct object *d)
{
    return strcmp(p->ns, d->ns) == 0 && strcmp(p->workload, d->name) == 0;
}

static struct census count_pods(struct home *h, const struct object *d, const char *hash)
{
    struct map_iter it = MAP_ITER(&h->pods);
    struct census c = {0};

    while (map_next(&it)) {
        const struct pod *p = it.value;

        if (!is_of(p, d) || p->phase >= POD_LEAVING) {
            continue;
        }
        if (strcmp(p->template_hash, hash) != 0) {
            c.former++;
        } else {
            c.current++;
            c.current_ready += p->is_ready;
        }
    }
    return c;
}

/* --- making a pod -------------------------------------------------------------------------------- */

static void put_replica_set(struct home *h, const struct object *d, const char *hash)
{
    char name[300];
    json_t *set;

    (void)snprintf(name, sizeof(name), "%s-%s", d->name, hash);
    if (cluster_get(h->cluster, KIND_REPLICA_SET, d->ns, name) != NULL) {
        return;
    }
    set = json_pack("{s:s, s:s, s:{s:s, s:s, s:[{s:s, s:s, s:s, s:s, s:b}]}, s:{}}", "apiVersion",
                    "apps/v1", "kind", "ReplicaSet", "metadata", "name", name, "namespace", d->ns,
                    "ownerReferences", "apiVersion", "apps/v1", "kind", "Deployment", "name",
                    d->name, "uid", d->uid, "controller", 1, "spec");
    if (cluster_put(h->cluster, set) != 0) {
        home_problem(h, "the state of deployment %s/%s cannot be written", d->ns, d->name);
    }
}

static json_t *pod_manifest(const struct object *d, const char *hash, const char *name)
{
    json_t *pod = json_deep_copy(json_object_get(d->spec, "template"));
    json_t *metadata = json_object_get(pod, "metadata"), *labels;
    char created[32], set[300], uid[40];
    struct rand r;

    if (metadata == NULL) {
        metadata = json_object();
        json_object_set_new(pod, "metadata", metadata);
    }
    labels = json_object_get(metadata, "labels");
    if (labels == NULL) {
        labels = json_object();
        json_object_set_new(metadata, "labels", labels);
    }
    rand_init(&r);
    clock_format_rfc3339(clock_wall_ns(), created);
    (void)snprintf(set, sizeof(set), "%s-%s", d->name, hash);
    (void)snprintf(uid, sizeof(uid), "%08x-%04x-4%03x-8%03x-%012llx", (unsigned)rand_u64(&r),
                   (unsigned)rand_below(&r, 65536), (unsigned)rand_below(&r, 4096),
                   (unsigned)rand_below(&r, 4096),
                   (unsigned long long)rand_below(&r, UINT64_C(1) << 48));
    json_object_set_new(labels, "pod-template-hash", json_string(hash));
    json_object_set_new(pod, "apiVersion", json_string("v1"));
    json_object_set_new(pod, "kind", json_string("Pod"));
    json_object_set_new(metadata, "name", json_string(name));
    json_object_set_new(metadata, "namespace", json_string(d->ns));
    json_object_set_new(metadata, "uid", json_string(uid));
    json_object_set_new(metadata, "creationTimestamp", json_string(created));
    json_object_set_new(metadata, "ownerReferences",
                        json_pack("[{s:s, s:s, s:s, s:s, s:b}]", "apiVersion", "apps/v1", "kind",
                                  "ReplicaSet", "name", set, "uid", set, "controller", 1));
    json_object_set_new(json_object_get(pod, "spec"), "nodeName", json_string("local"));
    return pod;
}

static void random_name(struct home *h, const struct object *d, const char *hash, char *out,
                        size_t bytes)
{
    static const char letters[] = "bcdfghjklmnpqrstvwxz2456789";
    char tail[6] = "";

    for (size_t i = 0; i < 5; i++) {
        tail[i] = letters[rand_below(&h->loop.rand, sizeof(letters) - 1)];
    }
    /* The name is the hostname too: at most 63 bytes. */
    (void)snprintf(out, bytes, "%.46s-%s-%s", d->name, hash, tail);
}

static bool make_pod(struct home *h, const struct object *d, const char *hash)
{
    const struct object *ns = cluster_get(h->cluster, KIND_NAMESPACE, "", d->ns);
    struct inject_owner owner = {.kind = "deployment", .name = d->name};
    enum inject_result result;
    char name[64], problem[512] = "";
    struct pod *p;
    json_t *pod;
    int rc;

    random_name(h, d, hash, name, sizeof(name));
    pod = pod_manifest(d, hash, name);
    rc = inject_pod(&h->values, d->ns, ns != NULL ? ns->annotations : NULL, &owner, pod, &result,
                    problem, sizeof(problem));
    if (rc == 0 && (result == INJECT_INVALID_POD || result == INJECT_INVALID_NS)) {
        (void)snprintf(problem, sizeof(problem), "%s", inject_sentence(result));
        rc = E_CONFIG;
    }
    if (rc == 0) {
        put_replica_set(h, d, hash);
        rc = pod_start(h, d->ns, name, d->name, hash, pod, &p, problem, sizeof(problem));
    } else {
        json_decref(pod);
    }
    if (rc != 0) {
        home_problem(h, "deployment %s/%s: a pod cannot be started: %s", d->ns, d->name, problem);
        timer_arm_in(&h->loop, &h->retry, RETRY_NS);
    }
    return rc == 0;
}

/* --- rollout ------------------------------------------------------------------------------------- */

/* Stop up to `count` pods of the Deployment whose template is (or is not) the current one, unready ones first. */
static void stop_pods(struct home *h, const struct object *d, const char *hash, bool current,
                      size_t count)
{
    for (int ready = 0; ready <= 1 && count > 0; ready++) {
        struct map_iter it = MAP_ITER(&h->pods);

        while (count > 0 && map_next(&it)) {
            struct pod *p = it.value;

            if (is_of(p, d) && p->phase < POD_LEAVING &&
                (strcmp(p->template_hash, hash) == 0) == current && p->is_ready == (ready == 1)) {
                pod_stop(p);
                count--;
            }
        }
    }
}

static void reconcile_deployment(struct home *h, const struct object *d)
{
    size_t want =
        (size_t)MIN(MAX(json_number(d->spec, "replicas", 1), (int64_t)0), (int64_t)REPLICAS_MAX);
    struct census c;
    char hash[17];

    template_hash(d, hash);
    c = count_pods(h, d, hash);
    while (c.current < want && make_pod(h, d, hash)) {
        c.current++;
    }
    if (c.current > want) {
        stop_pods(h, d, hash, true, c.current - want);
    }
    if (c.former > 0 && c.current_ready >= want) {
        stop_pods(h, d, hash, false, c.former);
    }
}

void workload_reconcile(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_DEPLOYMENT]);
    struct map_iter pods = MAP_ITER(&h->pods);

    while (map_next(&pods)) {
        struct pod *p = pods.value;

        if (cluster_get(h->cluster, KIND_DEPLOYMENT, p->ns, p->workload) == NULL) {
            pod_stop(p);
        }
    }
    while (!h->is_stopping && map_next(&it)) {
        reconcile_deployment(h, it.value);
    }
}
