/* SPDX-License-Identifier: Apache-2.0 */
#include "control/destination/private.h"

#include "control/destination/profile_routes.h"
#include "core/alloc.h"
#include "core/log.h"

/*
 * What an address or a name is: a service, one endpoint, or nothing that we know (wire 11.2).
 */
#define PROFILE_BYTES_MAX                                                                          \
    (4u << 20) /* what gRPC clients take in one message unless told otherwise */

struct profile {
    struct topic topic;
    struct destination *engine;
    bool is_address;
    struct addr at;           /* of an address */
    struct service_name name; /* of a name */
    struct place place;
    struct dep deps[6];
    size_t deps_count; /* used by the present reading */
};

static void depend(struct profile *p, struct bytes key)
{
    assert(p->deps_count < ARRAY_LEN(p->deps));
    topic_depend(&p->topic, &p->deps[p->deps_count++], key);
}

static void depend_name(struct profile *p, char letter, const char *ns, const char *name)
{
    char key[DEP_KEY_BYTES];

    depend(p, dep_key_name(letter, ns, name, key));
}

static profile_message *profile_start(struct arena *a)
{
    profile_message *m =
        message_new(a, &io__linkerd__proxy__destination__destination_profile__descriptor);

    m->retry_budget = retry_budget_message(NULL, a);
    return m;
}

static void profile_send(struct profile *p, const profile_message *m, struct arena *a)
{
    topic_answer(&p->topic, message_pack(a, &m->base));
}

/* --- services ------------------------------------------------------------------------------------ */

/* The client's own ServiceProfile comes before that of the service's namespace; what is wrong with one is
 * reported by the policy engine, which looks at all of them. */
static void add_service_profile(struct profile *p, const char *ns, uint16_t port,
                                profile_message *to, struct arena *a)
{
    const struct control_env *env = p->engine->env;
    const char *const from[] = {p->place.ns, ns};
    const struct object *found = NULL;
    size_t bare = protobuf_c_message_get_packed_size(&to->base);

    for (size_t i = 0; found == NULL && i < ARRAY_LEN(from); i++) {
        if (from[i][0] != '\0') {
            depend_name(p, DEP_PROFILE, from[i], to->fully_qualified_name);
            found =
                cluster_get(env->cluster, KIND_SERVICE_PROFILE, from[i], to->fully_qualified_name);
        }
    }
    if (found == NULL) {
        return;
    }
    profile_read(found, env, port, a, to, NULL);
    if (protobuf_c_message_get_packed_size(&to->base) > bare + PROFILE_BYTES_MAX) {
        log_error(
            "a ServiceProfile is too large to be sent: its routes are left out; profile=%s/%s",
            found->ns, found->name);
        to->n_routes = to->n_dst_overrides = 0;
    }
}

static void answer_service(struct profile *p, const char *ns, const char *name,
                           const struct object *service, uint16_t port, struct arena *a)
{
    const struct control_env *env = p->engine->env;
    profile_message *m = profile_start(a);
    struct service_view v = {.has_opaque_ports = false};

    if (service != NULL) {
        service_view_read(service, a, &v);
    }
    if (v.is_external_name) {
        /* Terminal for a proxy, which then goes on without a profile, to the address that DNS gave it. */
        topic_refuse(&p->topic, GRPC_INVALID_ARGUMENT, "an ExternalName service has no profile",
                     true);
        return;
    }
    if (service != NULL && !p->is_address && service_view_port(&v, port) == NULL) {
        profile_send(
            p, message_new(a, &io__linkerd__proxy__destination__destination_profile__descriptor),
            a);
        return;
    }
    m->fully_qualified_name = arena_printf(a, "%s.%s.svc.%s", name, ns, env->cluster_domain);
    m->opaque_protocol =
        port_set_has(v.has_opaque_ports ? &v.opaque_ports : &env->opaque_ports, port);
    m->parent_ref = message_service_ref(a, ns, name, port);
    add_service_profile(p, ns, port, m, a);
    profile_send(p, m, a);
}

/* --- endpoints ----------------------------------------------------------------------------------- */

static void answer_endpoint(struct profile *p, const struct addr *at, const struct object *of,
                            const char *zone, struct arena *a)
{
    struct endpoint_facts facts = {
        .addr = *at,
        .of = of,
        .zone = zone,
        .client_zone = place_zone(p->engine, &p->place),
        .with_ns = of != NULL,
    };
    profile_message *m = profile_start(a);
    bool is_opaque = false;

    m->endpoint = endpoint_message(p->engine, &facts, a, &is_opaque);
    if (m->endpoint == NULL) {
        facts.of = NULL;
        facts.with_ns = false;
        m->endpoint = endpoint_message(p->engine, &facts, a, &is_opaque);
    }
    m->opaque_protocol = is_opaque;
    profile_send(p, m, a);
}

static void answer_pod(struct profile *p, const struct addr *at, const struct object *pod,
                       struct arena *a)
{
    const char *node = json_text(pod->spec, "nodeName");
    char key[DEP_KEY_BYTES];
    struct bytes owner = destination_owner_key(pod, key);

    if (owner.len > 0) {
        depend(p, owner);
    }
    depend_name(p, DEP_SERVERS, pod->ns, "");
    if (node != NULL) {
        depend_name(p, DEP_NODE, "", node);
    }
    answer_endpoint(p, at, pod, node != NULL ? destination_zone(p->engine, node) : "", a);
}

static bool is_running(const struct object *pod)
{
    const char *phase = json_text(pod->status, "phase");

    return phase != NULL && strcmp(phase, "Running") == 0;
}

/* The one that runs; NULL when there is none, or with *io_count > 1 when there are several. */
static const struct object *pick_running(struct index_set set, size_t *io_count)
{
    const struct object *found = NULL;

    for (size_t i = 0; i < set.count; i++) {
        if (is_running(set.at[i])) {
            found = set.at[i];
            (*io_count)++;
        }
    }
    return found;
}

/* --- addresses ----------------------------------------------------------------------------------- */

static void compute_address(struct profile *p, struct arena *a)
{
    const struct cluster_index *index = p->engine->env->index;
    struct index_set services = cluster_index_services(index, &p->at);
    struct index_set externals = cluster_index_workloads(index, &p->at);
    size_t pods = 0, hosts = 0;
    const struct object *pod = pick_running(cluster_index_pods(index, &p->at), &pods);
    const struct object *on_host = pick_running(cluster_index_host_port(index, &p->at), &hosts);
    char key[DEP_KEY_BYTES];

    depend(p, dep_key_addr(DEP_IP, &p->at, false, key));
    depend(p, dep_key_addr(DEP_HOST_PORT, &p->at, true, key));
    if (services.count > 1 || pods + externals.count > 1 ||
        (pods + externals.count == 0 && hosts > 1)) {
        topic_refuse(&p->topic, GRPC_FAILED_PRECONDITION, "several objects have this address",
                     true);
    } else if (services.count == 1) {
        answer_service(p, services.at[0]->ns, services.at[0]->name, services.at[0], p->at.port, a);
    } else if (pod != NULL) {
        answer_pod(p, &p->at, pod, a);
    } else if (externals.count == 1) {
        depend_name(p, DEP_SERVERS, externals.at[0]->ns, "");
        answer_endpoint(p, &p->at, externals.at[0], "", a);
    } else if (on_host != NULL) {
        answer_pod(p, &p->at, on_host, a);
    } else {
        answer_endpoint(p, &p->at, NULL, "", a);
    }
}

/* --- names --------------------------------------------------------------------------------------- */

/* The address of the endpoint with that host name, and its pod. */
static const struct object *find_host(const struct profile *p, struct arena *a, struct addr *out)
{
    const struct control_env *env = p->engine->env;
    struct index_set set = cluster_index_slices(env->index, p->name.ns, p->name.name);
    struct slice_view v;

    for (size_t s = 0; s < set.count; s++) {
        slice_view_read(set.at[s], a, &v);
        for (size_t i = 0; i < v.endpoints_count; i++) {
            const struct slice_endpoint *e = &v.endpoints[i];

            if (e->addresses_count > 0 && e->hostname != NULL &&
                strcmp(e->hostname, p->name.host) == 0 && e->target_kind != NULL &&
                strcmp(e->target_kind, "Pod") == 0 && e->target_name != NULL) {
                *out = e->addresses[0];
                out->port = p->name.port;
                return cluster_get(env->cluster, KIND_POD, e->target_ns, e->target_name);
            }
        }
    }
    return NULL;
}

static void compute_name(struct profile *p, struct arena *a)
{
    struct cluster *c = p->engine->env->cluster;
    const struct object *pod;
    struct addr at;

    if (p->name.host[0] == '\0') {
        depend_name(p, DEP_SERVICE, p->name.ns, p->name.name);
        answer_service(p, p->name.ns, p->name.name,
                       cluster_get(c, KIND_SERVICE, p->name.ns, p->name.name), p->name.port, a);
        return;
    }
    depend_name(p, DEP_SLICES, p->name.ns, p->name.name);
    memset(&at, 0, sizeof(at));
    pod = find_host(p, a, &at);
    if (pod == NULL) {
        topic_refuse(&p->topic, GRPC_NOT_FOUND, "no pod has this name", true);
        return;
    }
    depend_name(p, DEP_POD, pod->ns, pod->name);
    answer_pod(p, &at, pod, a);
}

static void compute(struct topic *topic, unsigned changes)
{
    struct profile *p = CONTAINER_OF(topic, struct profile, topic);
    struct arena a;

    (void)changes;            /* one answer: all of it or nothing */
    arena_init(&a, SIZE_MAX); /* in proportion to the manifests, which the cluster limits */
    p->deps_count = 0;
    if (p->place.by_node) {
        depend_name(p, DEP_NODE, "", p->place.node);
    }
    if (p->is_address) {
        compute_address(p, &a);
    } else {
        compute_name(p, &a);
    }
    for (size_t i = p->deps_count; i < ARRAY_LEN(p->deps); i++) {
        dep_clear(&p->deps[i]);
    }
    arena_clear(&a);
}

static void profile_free(struct topic *topic)
{
    struct profile *p = CONTAINER_OF(topic, struct profile, topic);

    for (size_t i = 0; i < ARRAY_LEN(p->deps); i++) {
        dep_clear(&p->deps[i]);
    }
    mem_free(p);
}

static const struct topic_ops profile_ops = {.compute = compute, .free = profile_free};

static struct profile *profile_new(struct destination *d, const struct place *place)
{
    struct profile *p = mem_new(sizeof(*p));

    p->topic.ops = &profile_ops;
    p->engine = d;
    p->place = *place;
    return p;
}

struct topic *profile_new_address(struct destination *d, const struct addr *at,
                                  const struct place *place)
{
    struct profile *p = profile_new(d, place);

    p->is_address = true;
    p->at = *at;
    return &p->topic;
}

struct topic *profile_new_name(struct destination *d, const struct service_name *name,
                               const struct place *place)
{
    struct profile *p = profile_new(d, place);

    p->name = *name;
    return &p->topic;
}
