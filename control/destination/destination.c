/* SPDX-License-Identifier: Apache-2.0 */
#include "control/destination/private.h"

#include "core/alloc.h"
#include "core/err.h"

#define REQUEST_BYTES_MAX 8192

/* --- facts --------------------------------------------------------------------------------------- */

const char *destination_zone(const struct destination *d, const char *node)
{
    const struct object *o =
        node[0] != '\0' ? cluster_get(d->env->cluster, KIND_NODE, "", node) : NULL;
    const char *zone = o != NULL ? object_label(o, LABEL_ZONE) : NULL;

    return zone != NULL && strlen(zone) < OBJECT_NAME_BYTES ? zone : "";
}

const char *place_zone(const struct destination *d, const struct place *p)
{
    return p->by_node ? destination_zone(d, p->node) : p->zone;
}

/* Only these two have owners of their own, which the labels then name. */
struct bytes destination_owner_key(const struct object *pod, char to[DEP_KEY_BYTES])
{
    const json_t *owners = json_object_get(pod->metadata, "ownerReferences");
    const json_t *owner = json_array_get(owners, 0);
    struct json_iter it = JSON_ITER(owners);
    const char *kind, *name;

    while (json_is_array(owners) && json_next(&it)) {
        if (json_flag(it.value, "controller", false)) {
            owner = it.value; /* as pod_workload() has it */
            break;
        }
    }
    kind = json_text(owner, "kind");
    name = json_text(owner, "name");
    if (kind == NULL || name == NULL) {
        return BYTES_NONE;
    }
    if (strcmp(kind, "ReplicaSet") == 0) {
        return dep_key_name(DEP_REPLICA_SET, pod->ns, name, to);
    }
    return strcmp(kind, "Job") == 0 ? dep_key_name(DEP_JOB, pod->ns, name, to) : BYTES_NONE;
}

/* --- events -------------------------------------------------------------------------------------- */

static void touch_name(struct destination *d, char letter, const char *ns, const char *name,
                       unsigned changes)
{
    char key[DEP_KEY_BYTES];

    topics_touch(&d->topics, dep_key_name(letter, ns, name, key), changes);
}

static void touch_ip(struct destination *d, const struct addr *ip)
{
    char key[DEP_KEY_BYTES];

    topics_touch(&d->topics, dep_key_addr(DEP_IP, ip, false, key), CHANGED_SOME);
}

static void touch_service(struct destination *d, const struct object *service)
{
    struct arena a;
    struct service_view v;

    arena_init(&a, VIEW_ARENA_BYTES);
    service_view_read(service, &a, &v);
    for (unsigned i = 0; i < v.cluster_ips_count; i++) {
        touch_ip(d, &v.cluster_ips[i]);
    }
    arena_clear(&a);
    touch_name(d, DEP_SERVICE, service->ns, service->name, CHANGED_ALL);
}

static void touch_slice(struct destination *d, const struct object *slice)
{
    const char *service = object_label(slice, "kubernetes.io/service-name");

    if (service != NULL) {
        touch_name(d, DEP_SLICES, slice->ns, service, CHANGED_SOME);
    }
}

static void touch_pod(struct destination *d, const struct object *pod)
{
    char key[DEP_KEY_BYTES];
    struct arena a;
    struct pod_view v;

    arena_init(&a, VIEW_ARENA_BYTES);
    pod_view_read(pod, &a, &v);
    for (unsigned i = 0; !v.is_host_network && i < v.ips_count; i++) {
        touch_ip(d, &v.ips[i]);
    }
    for (size_t c = 0; !addr_is_none(&v.host_ip) && c < v.containers_count; c++) {
        for (size_t p = 0; p < v.containers[c].ports_count; p++) {
            struct addr at = v.host_ip;

            at.port = v.containers[c].ports[p].host_port;
            if (at.port != 0) {
                topics_touch(&d->topics, dep_key_addr(DEP_HOST_PORT, &at, true, key), CHANGED_SOME);
            }
        }
    }
    arena_clear(&a);
    touch_name(d, DEP_POD, pod->ns, pod->name, CHANGED_SOME);
}

static void touch_external(struct destination *d, const struct object *workload)
{
    const json_t *ips = json_object_get(workload->spec, "workloadIPs");

    for (size_t i = 0; i < MIN(json_array_size(ips), (size_t)VIEW_IPS_MAX); i++) {
        const char *text = json_text(json_array_get(ips, i), "ip");
        struct addr ip;

        memset(&ip, 0, sizeof(ip));
        if (text != NULL && addr_parse_ip(bytes_str(text), &ip) == 0) {
            touch_ip(d, &ip);
        }
    }
    touch_name(d, DEP_EXTERNAL, workload->ns, workload->name, CHANGED_SOME);
}

/* A node's heartbeats and a ReplicaSet's counts say nothing to us. */
static void touch_if(struct destination *d, const struct object *o, const struct object *old,
                     enum cluster_event e)
{
    const char *now = e == CLUSTER_UPSERT ? object_label(o, LABEL_ZONE) : NULL;
    const char *before = old != NULL ? object_label(old, LABEL_ZONE) : NULL;

    if (o->kind == KIND_NODE) {
        if (strcmp(now != NULL ? now : "", before != NULL ? before : "") != 0) {
            touch_name(d, DEP_NODE, "", o->name, CHANGED_ALL);
        }
    } else if (old == NULL || e == CLUSTER_DELETE ||
               !json_equal(json_object_get(o->metadata, "ownerReferences"),
                           json_object_get(old->metadata, "ownerReferences"))) {
        touch_name(d, o->kind == KIND_JOB ? DEP_JOB : DEP_REPLICA_SET, o->ns, o->name, CHANGED_ALL);
    }
}

static void on_event(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                     const struct object *old)
{
    struct destination *d = CONTAINER_OF(w, struct destination, watch);
    void (*touch)(struct destination * d, const struct object *o) =
        o->kind == KIND_SERVICE             ? touch_service
        : o->kind == KIND_ENDPOINT_SLICE    ? touch_slice
        : o->kind == KIND_POD               ? touch_pod
        : o->kind == KIND_EXTERNAL_WORKLOAD ? touch_external
                                            : NULL;

    if (o->kind == KIND_SERVER) {
        servers_on_event(&d->servers, e, o);
        touch_name(d, DEP_SERVERS, o->ns, "", CHANGED_ALL);
    } else if (o->kind == KIND_SERVICE_PROFILE) {
        touch_name(d, DEP_PROFILE, o->ns, o->name, CHANGED_ALL);
    } else if (touch == NULL) {
        touch_if(d, o, old, e);
    } else {
        if (old != NULL) {
            touch(d, old);
        }
        touch(d, o);
    }
}

static void on_synced(struct cluster_watch *w)
{
    topics_synced(&CONTAINER_OF(w, struct destination, watch)->topics);
}

/* --- questions ----------------------------------------------------------------------------------- */

/* What is asked, before it is known what the answer depends on. */
struct question {
    char path[OBJECT_KEY_BYTES + 64]; /* in one spelling */
    struct client client;
    struct place place;
    bool is_address;
    struct addr at;
    struct service_name name;
};

static enum grpc_status question_read(const struct destination *d, struct bytes request,
                                      struct question *q, const char **out_why)
{
    Io__Linkerd__Proxy__Destination__GetDestination *m = NULL;
    const char *domain = d->env->cluster_domain;
    struct bytes path;

    memset(q, 0, sizeof(*q));
    if (request.len <= REQUEST_BYTES_MAX) {
        m = io__linkerd__proxy__destination__get_destination__unpack(
            NULL, request.len, (const uint8_t *)(const void *)request.at);
    }
    if (m == NULL) {
        *out_why = "malformed request";
        return GRPC_INVALID_ARGUMENT;
    }
    path = bytes_str(m->path);
    client_parse(bytes_str(m->context_token), &q->client);
    q->is_address = address_parse(path, &q->at) == 0;
    if (q->is_address) {
        (void)addr_format(&q->at, q->path);
    } else if (service_name_parse(path, domain, &q->name) == 0) {
        snprintf(q->path, sizeof(q->path), "%s.%s.%s:%u", q->name.host, q->name.name, q->name.ns,
                 q->name.port);
    } else {
        *out_why = "the path is no name of a service in this cluster";
    }
    io__linkerd__proxy__destination__get_destination__free_unpacked(m, NULL);
    return q->path[0] != '\0' ? GRPC_OK : GRPC_INVALID_ARGUMENT;
}

/* Before the cluster is known, whatever the answer may come to depend on is part of the question. */
static void question_place(const struct destination *d, struct question *q, bool is_local)
{
    q->place.by_node = is_local || !d->topics.synced;
    if (q->place.by_node) {
        memcpy(q->place.node, q->client.node, sizeof(q->place.node));
    } else {
        snprintf(q->place.zone, sizeof(q->place.zone), "%s", destination_zone(d, q->client.node));
    }
}

static enum grpc_status subscribe(struct destination *d, const struct question *q, char method,
                                  struct subscriber *s, const char **out_why)
{
    char text[TOPIC_KEY_BYTES], node[DEP_KEY_BYTES];
    int len =
        snprintf(text, sizeof(text), "%c %s %c %s %s", method, q->path,
                 q->place.by_node ? 'n' : 'z', q->place.by_node ? q->place.node : q->place.zone,
                 q->place.ns);
    struct bytes key = bytes_of(text, (size_t)len);
    struct topic *t = topics_find(&d->topics, key);

    assert(len > 0 && (size_t)len < sizeof(text));
    if (t == NULL) {
        t = method == 'g'   ? endpoints_new(d, &q->name, &q->place)
            : q->is_address ? profile_new_address(d, &q->at, &q->place)
                            : profile_new_name(d, &q->name, &q->place);
        if (topics_add(&d->topics, t, key) != 0) {
            t->ops->free(t);
            *out_why = "too many distinct questions";
            return GRPC_RESOURCE_EXHAUSTED;
        }
    }
    topic_subscribe(t, s);
    if (!q->place.by_node && q->client.node[0] != '\0') {
        subscriber_depend(s, dep_key_name(DEP_NODE, "", q->client.node, node));
    }
    return GRPC_OK;
}

enum grpc_status destination_get(struct destination *d, struct bytes request, struct subscriber *s,
                                 const char **out_why)
{
    struct question q;
    const struct object *service;
    enum grpc_status status = question_read(d, request, &q, out_why);

    if (status != GRPC_OK) {
        return status;
    }
    if (q.is_address) {
        *out_why = "an address has no endpoints: ask for a service";
        return GRPC_INVALID_ARGUMENT;
    }
    service = cluster_get(d->env->cluster, KIND_SERVICE, q.name.ns, q.name.name);
    question_place(
        d, &q,
        service != NULL &&
            bytes_eq(bytes_str(json_text(service->spec, "internalTrafficPolicy")), BYTES("Local")));
    return subscribe(d, &q, 'g', s, out_why);
}

enum grpc_status destination_get_profile(struct destination *d, struct bytes request,
                                         struct subscriber *s, const char **out_why)
{
    struct question q;
    enum grpc_status status = question_read(d, request, &q, out_why);

    if (status != GRPC_OK) {
        return status;
    }
    question_place(d, &q, false);
    memcpy(q.place.ns, q.client.ns, sizeof(q.place.ns));
    return subscribe(d, &q, 'p', s, out_why);
}

/* --- life ---------------------------------------------------------------------------------------- */

struct destination *destination_new(const struct control_env *env)
{
    struct destination *d = mem_new(sizeof(*d));

    d->env = env;
    topics_init(&d->topics, env->loop, env->metrics, "destination");
    servers_init(&d->servers);
    d->watch = (struct cluster_watch){
        .kinds = UINT64_C(1) << KIND_SERVICE | UINT64_C(1) << KIND_ENDPOINT_SLICE |
                 UINT64_C(1) << KIND_POD | UINT64_C(1) << KIND_EXTERNAL_WORKLOAD |
                 UINT64_C(1) << KIND_SERVER | UINT64_C(1) << KIND_NODE |
                 UINT64_C(1) << KIND_REPLICA_SET | UINT64_C(1) << KIND_JOB |
                 UINT64_C(1) << KIND_SERVICE_PROFILE,
        .on_event = on_event,
        .on_synced = on_synced,
    };
    cluster_watch_add(env->cluster, &d->watch);
    return d;
}

bool destination_is_synced(const struct destination *d)
{
    return d->topics.synced;
}

void destination_free(struct destination *d)
{
    if (d != NULL) {
        cluster_watch_remove(&d->watch);
        topics_clear(&d->topics);
        servers_clear(&d->servers);
        mem_free(d);
    }
}
