/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/index.h"

#include "cluster/names.h"
#include "cluster/view.h"
#include "core/alloc.h"

struct bucket { /* value of the maps: the objects of one key */
    const struct object **at;
    size_t count, capacity;
};

/* An address as a key: with its port only where the port matters. */
static struct bytes ip_key(struct addr *a, const struct addr *from, bool with_port)
{
    memset(a, 0, sizeof(*a)); /* the key is of its bytes */
    memcpy(a->ip, from->ip, sizeof(a->ip));
    a->family = from->family;
    a->port = with_port ? from->port : 0;
    return addr_key(a);
}

static int object_cmp(const struct object *a, const struct object *b)
{
    int by_ns = strcmp(a->ns, b->ns);

    return by_ns != 0 ? by_ns : strcmp(a->name, b->name);
}

/* Where the object is, or would be. */
static size_t bucket_find(const struct bucket *b, const struct object *o)
{
    size_t low = 0, high = b->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (object_cmp(b->at[middle], o) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void index_add(struct map *m, struct bytes key, const struct object *o)
{
    struct bucket *b = map_get(m, key);
    size_t at;

    if (b == NULL) {
        b = mem_new(sizeof(*b));
        (void)map_put(m, key, b);
    }
    at = bucket_find(b, o);
    object_ref(o);
    if (at < b->count && object_cmp(b->at[at], o) == 0) {
        object_unref(b->at[at]); /* the same pod publishes a port twice */
        b->at[at] = o;
        return;
    }
    if (b->count == b->capacity) {
        b->capacity = MAX(1, b->capacity * 2);
        b->at = mem_resize(b->at, b->capacity, sizeof(b->at[0]));
    }
    memmove(&b->at[at + 1], &b->at[at], (b->count - at) * sizeof(b->at[0]));
    b->at[at] = o;
    b->count++;
}

static void bucket_free(struct bucket *b)
{
    mem_free(b->at);
    mem_free(b);
}

static void index_drop(struct map *m, struct bytes key, const struct object *o)
{
    struct bucket *b = map_get(m, key);
    size_t at = b != NULL ? bucket_find(b, o) : 0;

    if (b == NULL || at == b->count || object_cmp(b->at[at], o) != 0) {
        return;
    }
    object_unref(b->at[at]);
    b->count--;
    memmove(&b->at[at], &b->at[at + 1], (b->count - at) * sizeof(b->at[0]));
    if (b->count == 0) {
        (void)map_remove(m, key);
        bucket_free(b);
    }
}

typedef void index_change(struct map *m, struct bytes key, const struct object *o);

/* --- keys of each kind ---------------------------------------------------------------------------- */

static void index_pod(struct cluster_index *ix, const struct object *pod, index_change *change)
{
    struct arena arena;
    struct pod_view v;
    struct addr key;

    if (!pod_has_traffic(pod)) {
        return;
    }
    arena_init(&arena, VIEW_ARENA_BYTES);
    pod_view_read(pod, &arena, &v);
    for (unsigned i = 0; !v.is_host_network && i < v.ips_count; i++) {
        change(&ix->pods, ip_key(&key, &v.ips[i], false), pod);
    }
    for (size_t c = 0; !addr_is_none(&v.host_ip) && c < v.containers_count; c++) {
        for (size_t p = 0; p < v.containers[c].ports_count; p++) {
            struct addr at = v.host_ip;

            at.port = v.containers[c].ports[p].host_port;
            if (at.port != 0 && v.containers[c].ports[p].protocol == PORT_TCP) {
                change(&ix->host_ports, ip_key(&key, &at, true), pod);
            }
        }
    }
    arena_clear(&arena);
}

static void index_service(struct cluster_index *ix, const struct object *service,
                          index_change *change)
{
    struct arena arena;
    struct service_view v;
    struct addr key;

    arena_init(&arena, VIEW_ARENA_BYTES);
    service_view_read(service, &arena, &v);
    for (unsigned i = 0; i < v.cluster_ips_count; i++) {
        change(&ix->services, ip_key(&key, &v.cluster_ips[i], false), service);
    }
    arena_clear(&arena);
}

static void index_workload(struct cluster_index *ix, const struct object *workload,
                           index_change *change)
{
    const json_t *list = json_object_get(workload->spec, "workloadIPs");

    for (size_t i = 0; i < MIN(json_array_size(list), (size_t)VIEW_IPS_MAX); i++) {
        const char *text = json_text(json_array_get(list, i), "ip");
        struct addr ip = {0}, key;

        if (text != NULL && addr_parse_ip(bytes_str(text), &ip) == 0) {
            change(&ix->workloads, ip_key(&key, &ip, false), workload);
        }
    }
}

static void index_slice(struct cluster_index *ix, const struct object *slice, index_change *change)
{
    const char *service = object_label(slice, NAME_LABEL_SERVICE);
    char buffer[OBJECT_KEY_BYTES];
    struct bytes key = service != NULL ? object_key(slice->ns, service, buffer) : BYTES_NONE;

    if (key.len > 0) {
        change(&ix->slices, key, slice);
    }
}

static void index_object(struct cluster_index *ix, const struct object *o, index_change *change)
{
    if (o->kind == KIND_POD) {
        index_pod(ix, o, change);
    } else if (o->kind == KIND_SERVICE) {
        index_service(ix, o, change);
    } else if (o->kind == KIND_EXTERNAL_WORKLOAD) {
        index_workload(ix, o, change);
    } else if (o->kind == KIND_ENDPOINT_SLICE) {
        index_slice(ix, o, change);
    }
}

/* --- life ---------------------------------------------------------------------------------------- */

/* Keys are read from the objects themselves, so the former one says where it is found. */
static void index_on_event(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                           const struct object *old)
{
    struct cluster_index *ix = CONTAINER_OF(w, struct cluster_index, watch);

    if (old != NULL) {
        index_object(ix, old, index_drop);
    }
    if (e == CLUSTER_UPSERT) {
        index_object(ix, o, index_add);
    }
}

static void index_on_synced(struct cluster_watch *w)
{
    w->user = w; /* read by cluster_index_is_synced() */
}

void cluster_index_open(struct cluster_index *ix, struct cluster *c)
{
    *ix = (struct cluster_index){.watch = {.kinds = UINT64_C(1) << KIND_POD |
                                                    UINT64_C(1) << KIND_SERVICE |
                                                    UINT64_C(1) << KIND_ENDPOINT_SLICE |
                                                    UINT64_C(1) << KIND_EXTERNAL_WORKLOAD,
                                           .on_event = index_on_event,
                                           .on_synced = index_on_synced}};
    map_init(&ix->pods);
    map_init(&ix->host_ports);
    map_init(&ix->services);
    map_init(&ix->workloads);
    map_init(&ix->slices);
    cluster_watch_add(c, &ix->watch);
}

void cluster_index_close(struct cluster_index *ix)
{
    struct map *maps[] = {&ix->pods, &ix->host_ports, &ix->services, &ix->workloads, &ix->slices};

    cluster_watch_remove(&ix->watch);
    for (size_t m = 0; m < ARRAY_LEN(maps); m++) {
        struct map_iter it = MAP_ITER(maps[m]);

        while (map_next(&it)) {
            struct bucket *b = it.value;

            for (size_t i = 0; i < b->count; i++) {
                object_unref(b->at[i]);
            }
            bucket_free(b);
        }
        map_clear(maps[m]);
    }
}

/* --- lookups ------------------------------------------------------------------------------------- */

static struct index_set index_get(const struct map *m, struct bytes key)
{
    const struct bucket *b = map_get(m, key);

    return b != NULL ? (struct index_set){.at = b->at, .count = b->count}
                     : (struct index_set){.count = 0};
}

struct index_set cluster_index_pods(const struct cluster_index *ix, const struct addr *ip)
{
    struct addr key;

    return index_get(&ix->pods, ip_key(&key, ip, false));
}

struct index_set cluster_index_host_port(const struct cluster_index *ix, const struct addr *at)
{
    struct addr key;

    return index_get(&ix->host_ports, ip_key(&key, at, true));
}

struct index_set cluster_index_services(const struct cluster_index *ix, const struct addr *ip)
{
    struct addr key;

    return index_get(&ix->services, ip_key(&key, ip, false));
}

struct index_set cluster_index_workloads(const struct cluster_index *ix, const struct addr *ip)
{
    struct addr key;

    return index_get(&ix->workloads, ip_key(&key, ip, false));
}

struct index_set cluster_index_slices(const struct cluster_index *ix, const char *ns,
                                      const char *service)
{
    char buffer[OBJECT_KEY_BYTES];

    return index_get(&ix->slices, object_key(ns, service, buffer));
}
