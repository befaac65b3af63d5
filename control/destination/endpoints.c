/* SPDX-License-Identifier: Apache-2.0 */
#include "control/destination/private.h"

#include "core/alloc.h"

/*
 * A service's endpoints, and what changes about them.
 *
 * Every endpoint is kept packed, with what it was made from. When something changes, the slices are read
 * again; an endpoint whose object, zone and port are the same is not made again, and one whose bytes
 * are the same is not sent again. A message is put together from packed endpoints.
 */
#define ADD_BYTES_MAX      (2u << 20) /* of one message; clients take 4 MiB */
#define MESSAGE_BYTES_MAX  (ADD_BYTES_MAX + (1u << 20))
#define SLICES_ARENA_BYTES (64u << 20)
#define FIELD_ADD          1 /* of Update */
#define FIELD_REMOVE       2
#define FIELD_ADDRS        1 /* of WeightedAddrSet and AddrSet */
#define FIELD_LABELS       2 /* of WeightedAddrSet */

#define ANNOTATION_REMOTE_NAME     "mirror.linkerd.io/remote-svc-fq-name"
#define ANNOTATION_REMOTE_IDENTITY "mirror.linkerd.io/remote-gateway-identity"
#define LABEL_REMOTE_CLUSTER       "mirror.linkerd.io/cluster-name"

struct endpoint {
    struct addr addr;
    struct dep object_dep, owner_dep;
    const struct object *of; /* a reference; NULL: of nobody */
    char *zone;
    struct bytes packed; /* WeightedAddr; owned; NULL: must not be sent */
    uint64_t seen;       /* the reading that met it last */
};

struct endpoints {
    struct topic topic;
    struct destination *engine;
    struct service_name name;
    struct place place;
    struct dep service_dep, slices_dep, servers_dep, node_dep;
    struct map by_addr; /* struct endpoint */
    struct text labels; /* of the set, packed */
    uint64_t reading;
};

/* One reading of the slices. */
struct reading {
    struct endpoints *t;
    struct arena arena;
    struct slice_view *slices;
    size_t slices_count;
    const struct service_view *service;
    const char *client_zone;
    bool remake; /* every endpoint, not only those that look different */
    bool has_v4, use_hints;
    struct text added, removed; /* packed fields of the next messages */
};

static void endpoint_free(struct endpoint *e)
{
    dep_clear(&e->object_dep);
    dep_clear(&e->owner_dep);
    object_unref(e->of);
    mem_free(e->zone);
    mem_free((void *)(uintptr_t)e->packed.at);
    mem_free(e);
}

/* --- messages ------------------------------------------------------------------------------------ */

static void message_emit(struct endpoints *t, struct text *fields, unsigned kind, bool is_whole)
{
    struct text message;

    if (fields->len == 0 || (!is_whole && list_is_empty(&t->topic.subscribers))) {
        text_reset(fields); /* nothing to say, or nobody to hear it */
        return;
    }
    if (kind == FIELD_ADD) {
        text_add(fields, text_bytes(&t->labels));
    }
    text_init(&message, fields->len + 16);
    message_put(&message, kind, text_bytes(fields));
    assert(fields->err == 0 && message.err == 0);
    if (is_whole) {
        topic_add_whole(&t->topic, text_bytes(&message));
    } else {
        topic_tell(&t->topic, text_bytes(&message));
    }
    text_clear(&message);
    text_reset(fields);
}

static void message_add(struct endpoints *t, struct text *fields, struct bytes packed,
                        unsigned kind, bool is_whole)
{
    if (fields->len + packed.len > ADD_BYTES_MAX) {
        message_emit(t, fields, kind, is_whole);
    }
    message_put(fields, FIELD_ADDRS, packed);
}

static void encode(struct topic *topic)
{
    struct endpoints *t = CONTAINER_OF(topic, struct endpoints, topic);
    struct map_iter it = MAP_ITER(&t->by_addr);
    struct text fields;

    text_init(&fields, MESSAGE_BYTES_MAX);
    while (map_next(&it)) {
        const struct endpoint *e = it.value;

        if (e->packed.at != NULL) {
            message_add(t, &fields, e->packed, FIELD_ADD, true);
        }
    }
    message_emit(t, &fields, FIELD_ADD, true);
    text_clear(&fields);
}

/* --- one endpoint -------------------------------------------------------------------------------- */

static void endpoint_retract(struct reading *r, struct endpoint *e)
{
    struct arena a;

    if (e->packed.at == NULL) {
        return;
    }
    arena_init(&a, ARENA_BLOCK_BYTES);
    message_add(r->t, &r->removed, message_pack(&a, &message_addr(&a, &e->addr)->base),
                FIELD_REMOVE, false);
    arena_clear(&a);
    mem_free((void *)(uintptr_t)e->packed.at);
    e->packed = BYTES_NONE;
}

static void endpoint_make(struct reading *r, struct endpoint *e, const struct slice_view *slice)
{
    const char *remote = object_annotation(slice->object, ANNOTATION_REMOTE_NAME);
    struct endpoint_facts facts = {
        .addr = e->addr,
        .of = e->of,
        .zone = e->zone,
        .client_zone = r->client_zone,
        .gateway_identity = object_annotation(slice->object, ANNOTATION_REMOTE_IDENTITY),
    };
    struct arena a;
    struct bytes packed;
    weighted_addr *m;
    bool is_opaque;

    arena_init(&a, ENDPOINT_ARENA_BYTES);
    if (remote != NULL && strlen(remote) < OBJECT_NAME_BYTES) {
        facts.authority = arena_printf(&a, "%s:%u", remote, r->t->name.port);
    }
    m = endpoint_message(r->t->engine, &facts, &a, &is_opaque);
    packed = m != NULL ? message_pack(&a, &m->base) : BYTES_NONE;
    if (m == NULL) {
        endpoint_retract(r, e);
    } else if (!bytes_eq(packed, e->packed)) {
        mem_free((void *)(uintptr_t)e->packed.at);
        e->packed = bytes_of(bytes_dup(packed), packed.len);
        message_add(r->t, &r->added, packed, FIELD_ADD, false);
    }
    arena_clear(&a);
}

/* The object that the endpoint stands for, and to hear when it comes, changes or goes. False when it is named
 * but not there (yet): without it nobody can say whether the endpoint is meshed. */
static bool endpoint_resolve(struct reading *r, struct endpoint *e,
                             const struct slice_endpoint *from, const struct object **out)
{
    bool is_pod = from->target_kind != NULL && strcmp(from->target_kind, "Pod") == 0;
    bool is_external =
        from->target_kind != NULL && strcmp(from->target_kind, "ExternalWorkload") == 0;
    struct cluster *c = r->t->engine->env->cluster;
    char key[DEP_KEY_BYTES];
    struct bytes owner;

    *out = NULL;
    if ((!is_pod && !is_external) || from->target_name == NULL) {
        return true;
    }
    topic_depend(
        &r->t->topic, &e->object_dep,
        dep_key_name(is_pod ? DEP_POD : DEP_EXTERNAL, from->target_ns, from->target_name, key));
    *out = cluster_get(c, is_pod ? KIND_POD : KIND_EXTERNAL_WORKLOAD, from->target_ns,
                       from->target_name);
    if (*out == NULL) {
        return false;
    }
    owner = is_pod ? destination_owner_key(*out, key) : BYTES_NONE;
    if (owner.len > 0) {
        topic_depend(&r->t->topic, &e->owner_dep, owner);
    } else {
        dep_clear(&e->owner_dep);
    }
    return true;
}

static void read_address(struct reading *r, const struct slice_view *slice,
                         const struct slice_endpoint *from, const struct addr *addr)
{
    const char *zone = from->zone != NULL ? from->zone : "";
    struct endpoint *e = map_get(&r->t->by_addr, addr_key(addr));
    const struct object *of;
    bool is_same = e != NULL;

    if (e == NULL) {
        e = mem_new(sizeof(*e));
        e->addr = *addr;
        (void)map_put(&r->t->by_addr, addr_key(addr), e);
    } else if (e->seen == r->t->reading) {
        return; /* slices may overlap while an endpoint moves between them */
    }
    e->seen = r->t->reading;
    if (!endpoint_resolve(r, e, from, &of)) {
        endpoint_retract(r, e);
        object_unref(e->of);
        e->of = NULL;
        return;
    }
    is_same = is_same && !r->remake && e->of == of && of != NULL && e->zone != NULL &&
              strcmp(e->zone, zone) == 0;
    if (is_same) {
        return;
    }
    if (of != NULL) {
        object_ref(of);
    }
    object_unref(e->of);
    e->of = of;
    mem_free(e->zone);
    e->zone = mem_strdup(zone);
    endpoint_make(r, e, slice);
}

/* --- which endpoints ----------------------------------------------------------------------------- */

/* The port of the endpoints in this slice: the slice names it as the service does, and it has the number even
 * where the service has a name for it. 0: none. */
static uint16_t target_port(const struct reading *r, const struct slice_view *slice)
{
    const struct service_port *port = service_view_port(r->service, r->t->name.port);
    const struct slice_port *has;

    if (port == NULL) {
        return r->t->name
            .port; /* a port that the service does not list leads to the same one of its pods */
    }
    has = slice_view_port(slice, port->name);
    if (has != NULL && has->port != 0) {
        return has->port;
    }
    return port->target_port; /* 0 when it has a name that is not resolved here */
}

static bool is_on_node(const struct reading *r, const struct slice_endpoint *e)
{
    const char *node = e->node;

    if (node == NULL && e->target_name != NULL && e->target_kind != NULL &&
        strcmp(e->target_kind, "Pod") == 0) {
        const struct object *pod =
            cluster_get(r->t->engine->env->cluster, KIND_POD, e->target_ns, e->target_name);

        node = pod != NULL ? json_text(pod->spec, "nodeName") : NULL;
    }
    /* Where nodes have no names there is only one. */
    return strcmp(node != NULL ? node : "", r->t->place.node) == 0;
}

static bool is_hinted_here(const struct reading *r, const struct slice_endpoint *e)
{
    for (size_t i = 0; i < e->hint_zones_count; i++) {
        if (strcmp(e->hint_zones[i], r->client_zone) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_wanted(const struct reading *r, const struct slice_endpoint *e)
{
    const char *host = r->t->name.host;

    return e->is_ready && e->addresses_count > 0 &&
           (host[0] == '\0' || (e->hostname != NULL && strcmp(e->hostname, host) == 0)) &&
           (!r->service->is_local_only || is_on_node(r, e));
}

static bool slice_is_usable(const struct reading *r, const struct slice_view *slice)
{
    return slice->type == (r->has_v4 ? SLICE_IPV4 : SLICE_IPV6) && target_port(r, slice) != 0;
}

/* Hints count only where every endpoint has some, and some lead here; else all serve (wire 11.1). */
static void read_hints(struct reading *r)
{
    size_t wanted = 0, hinted = 0, here = 0;

    if (r->client_zone[0] == '\0' || r->service->is_local_only) {
        return;
    }
    for (size_t s = 0; s < r->slices_count; s++) {
        for (size_t i = 0; slice_is_usable(r, &r->slices[s]) && i < r->slices[s].endpoints_count;
             i++) {
            const struct slice_endpoint *e = &r->slices[s].endpoints[i];

            if (is_wanted(r, e)) {
                wanted++;
                hinted += e->hint_zones_count > 0 ? 1 : 0;
                here += is_hinted_here(r, e) ? 1 : 0;
            }
        }
    }
    r->use_hints = hinted == wanted && here > 0;
}

static void read_slices(struct reading *r)
{
    const struct destination *d = r->t->engine;
    struct index_set set = cluster_index_slices(d->env->index, r->t->name.ns, r->t->name.name);

    r->slices = arena_try(&r->arena, MAX(set.count, 1) * sizeof(r->slices[0]));
    for (size_t i = 0; r->slices != NULL && i < set.count; i++) {
        slice_view_read(set.at[i], &r->arena, &r->slices[i]);
        r->has_v4 = r->has_v4 || r->slices[i].type == SLICE_IPV4;
        r->slices_count++;
    }
    read_hints(r);
    for (size_t s = 0; s < r->slices_count; s++) {
        const struct slice_view *slice = &r->slices[s];

        for (size_t i = 0; slice_is_usable(r, slice) && i < slice->endpoints_count; i++) {
            const struct slice_endpoint *e = &slice->endpoints[i];

            if (!is_wanted(r, e) || (r->use_hints && !is_hinted_here(r, e))) {
                continue;
            }
            for (size_t k = 0; k < e->addresses_count; k++) {
                struct addr at;

                memset(&at, 0, sizeof(at)); /* its bytes are a key */
                memcpy(at.ip, e->addresses[k].ip, sizeof(at.ip));
                at.family = e->addresses[k].family;
                at.port = target_port(r, slice);
                read_address(r, slice, e, &at);
            }
        }
    }
}

static void sweep(struct reading *r)
{
    struct map_iter it = MAP_ITER(&r->t->by_addr);

    while (map_next(&it)) {
        struct endpoint *e = it.value;

        if (e->seen != r->t->reading) {
            endpoint_retract(r, e);
            (void)map_remove(&r->t->by_addr, addr_key(&e->addr));
            endpoint_free(e);
        }
    }
}

/* --- the topic ----------------------------------------------------------------------------------- */

/* Labels of the set; those of a mirrored service name the original too (wire 11.1). */
static void set_labels(struct endpoints *t, const struct object *service)
{
    const char *cluster = object_label(service, LABEL_REMOTE_CLUSTER);
    const char *remote = object_annotation(service, ANNOTATION_REMOTE_NAME);
    struct bytes name, ns, rest;
    char text[OBJECT_NAME_BYTES];

    text_reset(&t->labels);
    message_put_label(&t->labels, FIELD_LABELS, "service", t->name.name);
    message_put_label(&t->labels, FIELD_LABELS, "namespace", t->name.ns);
    if (cluster == NULL) {
        return;
    }
    message_put_label(&t->labels, FIELD_LABELS, "target_cluster", cluster);
    if (remote != NULL && bytes_split(bytes_str(remote), '.', &name, &rest)) {
        (void)bytes_split(rest, '.', &ns, &rest);
        snprintf(text, sizeof(text), BYTES_FMT, BYTES_ARG(name));
        message_put_label(&t->labels, FIELD_LABELS, "target_service", text);
        snprintf(text, sizeof(text), BYTES_FMT, BYTES_ARG(ns));
        message_put_label(&t->labels, FIELD_LABELS, "target_service_namespace", text);
    }
}

static void depend(struct endpoints *t)
{
    char key[DEP_KEY_BYTES];

    topic_depend(&t->topic, &t->service_dep,
                 dep_key_name(DEP_SERVICE, t->name.ns, t->name.name, key));
    topic_depend(&t->topic, &t->slices_dep,
                 dep_key_name(DEP_SLICES, t->name.ns, t->name.name, key));
    topic_depend(&t->topic, &t->servers_dep, dep_key_name(DEP_SERVERS, t->name.ns, "", key));
    if (t->place.by_node) {
        topic_depend(&t->topic, &t->node_dep, dep_key_name(DEP_NODE, "", t->place.node, key));
    }
}

/* Sets what new subscribers are told; true when there are endpoints to read. */
static bool check_service(struct endpoints *t, const struct object *service,
                          const struct service_view *view)
{
    if (service == NULL) {
        topic_refuse(&t->topic, GRPC_NOT_FOUND, "there is no such service", false);
        return false;
    }
    if (view->is_external_name) {
        topic_refuse(&t->topic, GRPC_INVALID_ARGUMENT, "an ExternalName service has no endpoints",
                     false);
        return false;
    }
    if (view->is_local_only && !t->place.by_node) {
        topic_refuse(&t->topic, GRPC_UNAVAILABLE,
                     "the service now keeps traffic on its node: ask again", true);
        return false;
    }
    t->topic.status = GRPC_OK;
    return true;
}

static void compute(struct topic *topic, unsigned changes)
{
    struct endpoints *t = CONTAINER_OF(topic, struct endpoints, topic);
    const struct object *service =
        cluster_get(t->engine->env->cluster, KIND_SERVICE, t->name.ns, t->name.name);
    struct service_view view = {.object = NULL};
    struct reading r = {
        .t = t,
        .service = &view,
        .client_zone = place_zone(t->engine, &t->place),
        .remake = (changes & (TOPIC_NEW | CHANGED_ALL)) != 0,
    };

    depend(t);
    t->reading++;
    arena_init(&r.arena, SLICES_ARENA_BYTES);
    text_init(&r.added, MESSAGE_BYTES_MAX);
    text_init(&r.removed, MESSAGE_BYTES_MAX);
    topic_forget_whole(topic);
    if (service != NULL) {
        service_view_read(service, &r.arena, &view);
        set_labels(t, service);
    }
    if (check_service(t, service, &view)) {
        read_slices(&r);
    }
    sweep(&r);
    /* New ones first, so that a set that is replaced is never empty on the way. */
    message_emit(t, &r.added, FIELD_ADD, false);
    message_emit(t, &r.removed, FIELD_REMOVE, false);
    text_clear(&r.added);
    text_clear(&r.removed);
    arena_clear(&r.arena);
}

static void endpoints_free(struct topic *topic)
{
    struct endpoints *t = CONTAINER_OF(topic, struct endpoints, topic);
    struct map_iter it = MAP_ITER(&t->by_addr);

    while (map_next(&it)) {
        endpoint_free(it.value);
    }
    map_clear(&t->by_addr);
    dep_clear(&t->service_dep);
    dep_clear(&t->slices_dep);
    dep_clear(&t->servers_dep);
    dep_clear(&t->node_dep);
    text_clear(&t->labels);
    mem_free(t);
}

static const struct topic_ops endpoints_ops = {
    .compute = compute, .encode = encode, .free = endpoints_free};

struct topic *endpoints_new(struct destination *d, const struct service_name *name,
                            const struct place *place)
{
    struct endpoints *t = mem_new(sizeof(*t));

    t->topic.ops = &endpoints_ops;
    t->engine = d;
    t->name = *name;
    t->place = *place;
    map_init(&t->by_addr);
    text_init(&t->labels, 4096);
    return &t->topic;
}
