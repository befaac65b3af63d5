/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "core/alloc.h"

/*
 * How traffic to an address or a name is carried (wire 9.6): a service's default routes to its
 * balancer, out of the cluster straight on, and no answer for what has none, such as a pod's address.
 *
 * User routes, failure accrual and EgressNetworks are not read yet. The answer does not depend on who asks.
 */
struct outbound {
    struct topic topic;
    struct policy *engine;
    bool is_address;
    struct addr at;
    struct service_name name;
    struct dep ip_dep, service_dep;
};

static const struct app_protocol { /* of the service's port; any other word means opaque */
    const char *name;
    enum outbound_protocol protocol;
} app_protocols[] = {
    {"http", OUTBOUND_HTTP1},
    {"kubernetes.io/h2c", OUTBOUND_HTTP2},
};

static enum outbound_protocol pick_protocol(const struct policy *p, const struct service_view *v,
                                            uint16_t number)
{
    const struct service_port *port = service_view_port(v, number);
    const struct port_set *opaque = v->has_opaque_ports ? &v->opaque_ports : &p->env->opaque_ports;

    if (port == NULL || port->app_protocol == NULL) {
        return port_set_has(opaque, number) ? OUTBOUND_OPAQUE : OUTBOUND_DETECT;
    }
    for (size_t i = 0; i < ARRAY_LEN(app_protocols); i++) {
        if (strcmp(app_protocols[i].name, port->app_protocol) == 0) {
            return app_protocols[i].protocol;
        }
    }
    return OUTBOUND_OPAQUE;
}

/* `service` is NULL for a name that is not there (yet): it has the defaults. */
static void answer_service(struct outbound *t, const struct object *service, const char *ns,
                           const char *name, uint16_t port, struct arena *a)
{
    struct policy *p = t->engine;
    message_metadata *of = message_service_ref(a, ns, name, port);
    struct outbound_routes routes = {.http = "http", .opaque = "opaq"};
    struct service_view v = {.has_opaque_ports = false};
    outbound_policy *m;

    if (service != NULL) {
        service_view_read(service, a, &v);
    }
    if (t->is_address && service_view_port(&v, port) == NULL) {
        m = outbound_forbidden(of, "undefined-port", a);
    } else {
        routes.backend = backend_balancer(
            of, arena_printf(a, "%s.%s.svc.%s:%u", name, ns, p->env->cluster_domain, port), a);
        m = outbound_answer(of, pick_protocol(p, &v, port), &routes, a);
    }
    topic_answer(&t->topic, message_pack(a, &m->base));
}

static bool is_in_cluster(const struct control_env *env, const struct addr *at)
{
    for (size_t i = 0; i < env->cluster_networks_count; i++) {
        if (cidr_contains(&env->cluster_networks[i], at)) {
            return true;
        }
    }
    return false;
}

static void answer_egress(struct outbound *t, struct arena *a)
{
    static const char name[] = "egress-fallback";
    message_metadata *of = message_default(a, name);
    struct outbound_routes routes = {
        .http = name, .opaque = name, .backend = backend_forward(of, &t->at, a)};
    outbound_policy *m = outbound_answer(of, OUTBOUND_DETECT, &routes, a);

    topic_answer(&t->topic, message_pack(a, &m->base));
}

static void compute(struct topic *topic, unsigned changes)
{
    struct outbound *t = CONTAINER_OF(topic, struct outbound, topic);
    const struct control_env *env = t->engine->env;
    struct index_set services = cluster_index_services(env->index, &t->at);
    char key[DEP_KEY_BYTES];
    struct arena a;

    (void)changes;
    arena_init(&a, ANSWER_ARENA_BYTES);
    if (!t->is_address) {
        topic_depend(topic, &t->service_dep,
                     dep_key_name(DEP_SERVICE, t->name.ns, t->name.name, key));
        answer_service(t, cluster_get(env->cluster, KIND_SERVICE, t->name.ns, t->name.name),
                       t->name.ns, t->name.name, t->name.port, &a);
    } else {
        topic_depend(topic, &t->ip_dep, dep_key_addr(DEP_IP, &t->at, false, key));
        if (services.count > 0) {
            answer_service(t, services.at[0], services.at[0]->ns, services.at[0]->name, t->at.port,
                           &a);
        } else if (is_in_cluster(env, &t->at)) {
            /* The usual case of a pod's address: the proxy then goes by the profile. */
            topic_refuse(topic, GRPC_NOT_FOUND, "no service has this address", true);
        } else {
            answer_egress(t, &a);
        }
    }
    arena_clear(&a);
}

static void outbound_free(struct topic *topic)
{
    struct outbound *t = CONTAINER_OF(topic, struct outbound, topic);

    dep_clear(&t->ip_dep);
    dep_clear(&t->service_dep);
    mem_free(t);
}

static const struct topic_ops outbound_ops = {.compute = compute, .free = outbound_free};

static struct outbound *outbound_new(struct policy *p)
{
    struct outbound *t = mem_new(sizeof(*t));

    t->topic.ops = &outbound_ops;
    t->engine = p;
    return t;
}

struct topic *outbound_new_address(struct policy *p, const struct addr *at)
{
    struct outbound *t = outbound_new(p);

    t->is_address = true;
    t->at = *at;
    return &t->topic;
}

struct topic *outbound_new_name(struct policy *p, const struct service_name *name)
{
    struct outbound *t = outbound_new(p);

    t->name = *name;
    return &t->topic;
}
