/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>

/*
 * Deployments to pods: as many of the current template as are asked for; those of a former template
 * leave when the new ones are ready (with strategy Recreate: before the new ones are made).
 *
 * One pod is made at a time, then the loop goes on: making one takes tens of milliseconds.
 */
#define RETRY_NS    (2 * NS_PER_S)
#define NAME_TRIES  100
#define SET_BYTES   OBJECT_NAME_BYTES
#define ABOUT_BYTES (OBJECT_KEY_BYTES + 32)

struct census { /* the pods of one Deployment */
    size_t current, current_ready, former, leaving;
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

static bool is_current(const struct pod *p, const char *hash)
{
    return !p->is_former && strcmp(p->template_hash, hash) == 0;
}

static struct census count_pods(const struct home *h, const struct object *d, const char *hash)
{
    struct map_iter it = MAP_ITER(&h->pods);
    struct census c = {0};

    while (map_next(&it)) {
        const struct pod *p = it.value;

        if (!is_of(p, d)) {
            continue;
        }
        if (p->phase >= POD_LEAVING) {
            c.leaving++;
        } else if (!is_current(p, hash)) {
            c.former++;
        } else {
            c.current++;
            c.current_ready += p->is_ready;
        }
    }
    return c;
}

static size_t wanted(const struct object *d)
{
    return (size_t)MIN(MAX(json_number(d->spec, "replicas", 1), (int64_t)0), (int64_t)REPLICAS_MAX);
}

bool workload_is_ready(const struct home *h, const struct object *d, size_t *out_ready,
                       size_t *out_want)
{
    struct census c;
    char hash[17];

    template_hash(d, hash);
    c = count_pods(h, d, hash);
    *out_want = wanted(d);
    *out_ready = MIN(c.current_ready, *out_want);
    return *out_ready == *out_want;
}

bool workload_has_replaced(const struct home *h, const struct pod *p)
{
    const struct object *d = cluster_get(h->cluster, KIND_DEPLOYMENT, p->ns, p->workload);
    char hash[17];

    if (d == NULL) {
        return true;
    }
    template_hash(d, hash);
    return !is_current(p, hash);
}

/* --- making a pod -------------------------------------------------------------------------------- */

/* Of a very long name the first part. */
static void set_name(const struct object *d, const char *hash, char to[SET_BYTES])
{
    (void)snprintf(to, SET_BYTES, "%.236s-%s", d->name, hash);
}

static void put_replica_set(struct home *h, const struct object *d, const char *hash)
{
    char name[SET_BYTES], about[ABOUT_BYTES];
    json_t *set;
    int rc;

    set_name(d, hash, name);
    (void)snprintf(about, sizeof(about), "replica set of %s/%s", d->ns, d->name);
    if (cluster_get(h->cluster, KIND_REPLICA_SET, d->ns, name) != NULL) {
        return;
    }
    set = json_pack("{s:s, s:s, s:{s:s, s:s, s:[{s:s, s:s, s:s, s:s, s:b}]}, s:{}}", "apiVersion",
                    "apps/v1", "kind", "ReplicaSet", "metadata", "name", name, "namespace", d->ns,
                    "ownerReferences", "apiVersion", "apps/v1", "kind", "Deployment", "name",
                    d->name, "uid", d->uid, "controller", 1, "spec");
    rc = cluster_put(h->cluster, set);
    if (rc != 0) {
        home_problem(h, about, "the state of deployment %s/%s cannot be written: %s", d->ns,
                     d->name, err_text(rc));
    } else {
        home_problem_over(h, about);
    }
}

/* Those whose Deployment is gone, or has another template and no pod of theirs left. */
static void drop_replica_sets(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_REPLICA_SET]);

    while (map_next(&it)) {
        const struct object *set = it.value;
        const char *owner = json_text(set->json, "metadata.ownerReferences[0].name");
        const struct object *d =
            cluster_get(h->cluster, KIND_DEPLOYMENT, set->ns, owner != NULL ? owner : "");
        struct map_iter pods = MAP_ITER(&h->pods);
        bool is_used = false;
        char hash[17];

        if (d != NULL) {
            template_hash(d, hash);
            is_used = bytes_ends(bytes_str(set->name), bytes_str(hash));
        }
        while (!is_used && map_next(&pods)) {
            const struct pod *p = pods.value;

            is_used = owner != NULL && strcmp(p->ns, set->ns) == 0 &&
                      strcmp(p->workload, owner) == 0 &&
                      bytes_ends(bytes_str(set->name), bytes_str(p->template_hash));
        }
        if (!is_used && cluster_delete(h->cluster, KIND_REPLICA_SET, set->ns, set->name) != 0) {
            return; /* the disk; tried again with the next change */
        }
    }
}

static json_t *member_object(json_t *parent, const char *key)
{
    json_t *member = json_object_get(parent, key);

    if (!json_is_object(member)) {
        member = json_object();
        json_object_set_new(parent, key, member);
    }
    return member;
}

static json_t *pod_manifest(struct home *h, const struct object *d, const char *hash,
                            const char *name)
{
    json_t *pod = json_deep_copy(json_object_get(d->spec, "template"));
    json_t *metadata = member_object(pod, "metadata"), *labels = member_object(metadata, "labels");
    struct rand *r = &h->loop.rand;
    char created[32], set[SET_BYTES], uid[40];

    clock_format_rfc3339(clock_wall_ns(), created);
    set_name(d, hash, set);
    (void)snprintf(uid, sizeof(uid), "%08x-%04x-4%03x-8%03x-%012llx", (unsigned)rand_u64(r),
                   (unsigned)rand_below(r, 65536), (unsigned)rand_below(r, 4096),
                   (unsigned)rand_below(r, 4096),
                   (unsigned long long)rand_below(r, UINT64_C(1) << 48));
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
    char key[OBJECT_KEY_BYTES], tail[6] = "";

    for (unsigned n = 0; n < NAME_TRIES; n++) {
        for (size_t i = 0; i < 5; i++) {
            tail[i] = letters[rand_below(&h->loop.rand, sizeof(letters) - 1)];
        }
        /* The name is the hostname too: at most 63 bytes. */
        (void)snprintf(out, bytes, "%.46s-%s-%s", d->name, hash, tail);
        if (map_get(&h->pods, object_key(d->ns, out, key)) == NULL) {
            return;
        }
    }
}

static bool make_pod(struct home *h, const struct object *d, const char *hash)
{
    const struct object *ns = cluster_get(h->cluster, KIND_NAMESPACE, "", d->ns);
    struct inject_owner owner = {.kind = "deployment", .name = d->name};
    char name[OBJECT_NS_BYTES], about[ABOUT_BYTES], problem[512] = "";
    enum inject_result result;
    json_t *pod;
    int rc;

    random_name(h, d, hash, name, sizeof(name));
    pod = pod_manifest(h, d, hash, name);
    rc = inject_pod(&h->values, d->ns, ns != NULL ? ns->annotations : NULL, &owner, pod, &result,
                    problem, sizeof(problem));
    if (rc == 0 && (result == INJECT_INVALID_POD || result == INJECT_INVALID_NS)) {
        rc = E_CONFIG; /* neither meshed nor not is what was asked for */
        (void)snprintf(problem, sizeof(problem), "%s", inject_sentence(result));
    }
    if (rc == 0) {
        put_replica_set(h, d, hash);
        rc = pod_start(h, d->ns, name, d->name, hash, pod, problem, sizeof(problem));
    } else {
        json_decref(pod);
    }
    (void)snprintf(about, sizeof(about), ABOUT_PODS, d->ns, d->name);
    if (rc != 0) {
        home_problem(h, about, "%s%sDeployment %s/%s: a pod cannot be started: %s", d->source,
                     d->source[0] != '\0' ? ": " : "", d->ns, d->name, problem);
        timer_arm_in(&h->loop, &h->retry, RETRY_NS);
    } else {
        home_problem_over(h, about);
        home_reconcile_soon(h); /* for the next one */
    }
    return rc == 0;
}

/* --- rollout ------------------------------------------------------------------------------------- */

/* Stop up to `count` of its pods whose template is (or is not) the current one, unready ones first. */
static void stop_pods(struct home *h, const struct object *d, const char *hash, bool current,
                      size_t count)
{
    for (int ready = 0; ready <= 1 && count > 0; ready++) {
        struct map_iter it = MAP_ITER(&h->pods);

        while (count > 0 && map_next(&it)) {
            struct pod *p = it.value;

            if (is_of(p, d) && p->phase < POD_LEAVING && is_current(p, hash) == current &&
                p->is_ready == (ready == 1)) {
                pod_stop(p);
                count--;
            }
        }
    }
}

/* True when it made a pod; one that cannot be made now does not hold up the other Deployments. */
static bool reconcile_deployment(struct home *h, const struct object *d)
{
    const char *strategy = json_text(d->spec, "strategy.type");
    bool recreate = strategy != NULL && strcmp(strategy, "Recreate") == 0;
    size_t want = wanted(d);
    struct census c;
    char hash[17];

    template_hash(d, hash);
    c = count_pods(h, d, hash);
    if (c.current > want) {
        stop_pods(h, d, hash, true, c.current - want);
    }
    if (c.former > 0 && (recreate || c.current_ready >= want)) {
        stop_pods(h, d, hash, false, c.former);
    }
    return c.current < want && !(recreate && c.former + c.leaving > 0) && make_pod(h, d, hash);
}

/* Which Deployment gets the next pod: those of the control plane, and of them identity, come first. */
static bool is_turn(const struct object *d, unsigned turn)
{
    bool is_control = strcmp(d->ns, NAME_CONTROL_NS) == 0;
    unsigned own = !is_control ? 2 : strcmp(d->name, "linkerd-identity") == 0 ? 0 : 1;

    return own == turn;
}

void workload_reconcile(struct home *h)
{
    struct map_iter pods = MAP_ITER(&h->pods);
    bool made = false;

    while (map_next(&pods)) {
        struct pod *p = pods.value;

        if (cluster_get(h->cluster, KIND_DEPLOYMENT, p->ns, p->workload) == NULL) {
            pod_stop(p);
        }
        if (p->is_unwritten) {
            pod_changed(p);
        }
    }
    for (unsigned turn = 0; turn <= 2 && !made; turn++) {
        struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_DEPLOYMENT]);

        while (!made && map_next(&it)) {
            made = is_turn(it.value, turn) && reconcile_deployment(h, it.value);
        }
    }
    if (!made) {
        drop_replica_sets(h);
    }
}
