/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "core/alloc.h"
#include "core/log.h"

/*
 * How traffic to an address or a name is carried (wire 9.6): to a service, by its routes or straight to its
 * balancer; out of the cluster as an EgressNetwork says, or straight on; and no answer for what has none,
 * such as a pod's address.
 */
typedef Io__Linkerd__Proxy__Outbound__OutboundPolicy outbound_policy;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol proxy_protocol;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol__Opaque opaque_protocol;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol__Http1 http1_protocol;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol__Http2 http2_protocol;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol__Grpc grpc_protocol;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol__Tls tls_protocol;

struct outbound {
    struct topic topic;
    struct policy *engine;
    bool is_address;
    struct addr at;
    struct service_name name;
    char client_ns[OBJECT_NS_BYTES];
    struct depends depends;
};

/* Kinds of routes; the first one that a port has decides, the others have no effect (wire 9.3). */
enum route_class { CLASS_GRPC, CLASS_HTTP, CLASS_TLS, CLASS_TCP, CLASS_COUNT };

struct routes { /* of one target and port, as messages */
    void **at[CLASS_COUNT];
    size_t count[CLASS_COUNT];
};

/* --- routes -------------------------------------------------------------------------------------- */

static enum route_class class_of(const struct object *route)
{
    return route->kind == KIND_GRPC_ROUTE  ? CLASS_GRPC
           : route->kind == KIND_TLS_ROUTE ? CLASS_TLS
           : route->kind == KIND_TCP_ROUTE ? CLASS_TCP
                                           : CLASS_HTTP;
}

/* Producers' routes are for everybody, consumers' for their own namespace. */
static bool is_for(const struct outbound *t, const struct target *of, const struct object *route)
{
    return (strcmp(route->ns, of->ns) == 0 || strcmp(route->ns, t->client_ns) == 0) &&
           route_has_parent(route, of->is_egress ? PARENT_EGRESS : PARENT_SERVICE, of->ns, of->name,
                            of->port);
}

static void collect(struct outbound *t, const struct target *of, struct arena *a,
                    struct routes *out)
{
    char letter = of->is_egress ? ATTACH_EGRESS : ATTACH_SERVICE;
    struct attached all = attach_get(&t->engine->attach, letter, of->ns, of->name);

    *out = (struct routes){.count = {0}};
    for (size_t c = 0; c < CLASS_COUNT; c++) {
        out->at[c] = arena_new(a, (all.count + 1) * sizeof(void *)); /* and a default one */
    }
    depends_on_name(&t->depends, letter, of->ns, of->name);
    for (size_t i = 0; i < all.count; i++) {
        struct reading r = {.env = t->engine->env, .arena = a, .depends = &t->depends};
        enum route_class c = class_of(all.at[i]);
        void *m;

        if (!is_for(t, of, all.at[i])) {
            continue;
        }
        m = c == CLASS_GRPC || c == CLASS_HTTP ? (void *)http_route_read(&r, of, all.at[i])
                                               : (void *)opaque_route_read(&r, of, all.at[i]);
        if (m != NULL) {
            out->at[c][out->count[c]++] = m;
        }
    }
}

static void add_default(const struct target *of, enum route_class c, struct arena *a,
                        struct routes *rs)
{
    void *m;

    if (rs->count[c] > 0 && (!of->adds_default || c == CLASS_TCP)) {
        return;
    }
    m = c == CLASS_GRPC || c == CLASS_HTTP
            ? (void *)http_route_default(of, c == CLASS_GRPC, a)
            : (void *)opaque_route_default(of, c == CLASS_TLS ? of->tls : of->opaque, a);
    rs->at[c][rs->count[c]++] = m;
}

/* --- protocols ----------------------------------------------------------------------------------- */

static opaque_protocol *opaque(const struct routes *rs, struct arena *a)
{
    opaque_protocol *m =
        message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__opaque__descriptor);

    m->routes = (void *)rs->at[CLASS_TCP]; /* the same on the wire (reading.h) */
    m->n_routes = 1;                       /* more than one is refused (wire 3.5) */
    return m;
}

static http1_protocol *http1(const struct target *of, const struct routes *rs, struct arena *a)
{
    http1_protocol *m =
        message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__http1__descriptor);

    m->routes = (void *)rs->at[CLASS_HTTP];
    m->n_routes = rs->count[CLASS_HTTP];
    m->failure_accrual = of->settings.accrual;
    return m;
}

static http2_protocol *http2(const struct target *of, const struct routes *rs, struct arena *a)
{
    http2_protocol *m =
        message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__http2__descriptor);

    m->routes = (void *)rs->at[CLASS_HTTP];
    m->n_routes = rs->count[CLASS_HTTP];
    m->failure_accrual = of->settings.accrual;
    return m;
}

static grpc_protocol *grpc(const struct target *of, const struct routes *rs, struct arena *a)
{
    grpc_protocol *m =
        message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__grpc__descriptor);

    m->routes = (void *)rs->at[CLASS_GRPC];
    m->n_routes = rs->count[CLASS_GRPC];
    m->failure_accrual = of->settings.accrual;
    return m;
}

static void set_detect(const struct target *of, const struct routes *rs, struct arena *a,
                       proxy_protocol *m)
{
    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_DETECT;
    m->detect = message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__detect__descriptor);
    m->detect->timeout = message_duration(a, DETECT_TIMEOUT_NS);
    m->detect->opaque = opaque(rs, a);
    m->detect->http1 = http1(of, rs, a);
    m->detect->http2 = http2(of, rs, a);
}

enum carrier { CARRY_DETECT, CARRY_OPAQUE, CARRY_HTTP1, CARRY_HTTP2, CARRY_GRPC, CARRY_TLS };

static void set_protocol(enum carrier c, const struct target *of, const struct routes *rs,
                         struct arena *a, proxy_protocol *m)
{
    switch (c) {
    case CARRY_DETECT:
        set_detect(of, rs, a, m);
        break;
    case CARRY_OPAQUE:
        m->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_OPAQUE;
        m->opaque = opaque(rs, a);
        break;
    case CARRY_HTTP1:
        m->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_HTTP1;
        m->http1 = http1(of, rs, a);
        break;
    case CARRY_HTTP2:
        m->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_HTTP2;
        m->http2 = http2(of, rs, a);
        break;
    case CARRY_GRPC:
        m->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_GRPC;
        m->grpc = grpc(of, rs, a);
        break;
    case CARRY_TLS:
        m->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_TLS;
        m->tls = message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__tls__descriptor);
        m->tls->routes = (void *)rs->at[CLASS_TLS];
        m->tls->n_routes = rs->count[CLASS_TLS];
        break;
    }
}

/* By the port's appProtocol; any word that is not known means opaque. Without one by its routes. */
static enum carrier pick_carrier(const char *app_protocol, bool is_opaque, const struct routes *rs)
{
    if (app_protocol == NULL) {
        return is_opaque                   ? CARRY_OPAQUE
               : rs->count[CLASS_GRPC] > 0 ? CARRY_GRPC
               : rs->count[CLASS_HTTP] > 0 ? CARRY_DETECT
               : rs->count[CLASS_TLS] > 0  ? CARRY_TLS
               : rs->count[CLASS_TCP] > 0  ? CARRY_OPAQUE
                                           : CARRY_DETECT;
    }
    if (strcmp(app_protocol, "http") == 0) {
        return CARRY_HTTP1;
    }
    if (strcmp(app_protocol, "kubernetes.io/h2c") == 0) {
        return rs->count[CLASS_GRPC] > 0 ? CARRY_GRPC : CARRY_HTTP2;
    }
    return CARRY_OPAQUE;
}

/* --- answers ------------------------------------------------------------------------------------- */

static void send_answer(struct outbound *t, const struct target *of, enum carrier c,
                        struct routes *rs, struct arena *a)
{
    outbound_policy *m = message_new(a, &io__linkerd__proxy__outbound__outbound_policy__descriptor);

    m->metadata = of->ref;
    m->protocol = message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__descriptor);
    if (c == CARRY_DETECT) {
        rs->count[CLASS_TCP] = 0; /* they have lost against those of HTTP */
    }
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        add_default(of, (enum route_class)i, a, rs);
    }
    set_protocol(c, of, rs, a, m->protocol);
    if (protobuf_c_message_get_packed_size(&m->base) > ANSWER_BYTES_MAX) {
        log_error("the routes of a target are too large to be sent: its clients keep what they "
                  "have; target=%s/%s port=%u",
                  of->ns, of->name, of->port);
        topic_refuse(&t->topic, GRPC_RESOURCE_EXHAUSTED, "the routes are too large", false);
        return;
    }
    topic_answer(&t->topic, message_pack(a, &m->base));
}

static void answer_forbidden(struct outbound *t, const struct target *of, struct arena *a)
{
    struct routes rs = {.count = {0}};

    rs.at[CLASS_TCP] = message_one(a, opaque_route_forbidden("undefined-port", a));
    rs.count[CLASS_TCP] = 1;
    for (size_t c = 0; c < CLASS_TCP; c++) {
        rs.at[c] = arena_new(a, sizeof(void *));
    }
    send_answer(t, of, CARRY_OPAQUE, &rs, a);
}

/* `service` is NULL for a name that is not there (yet): it has the defaults. */
static void answer_service(struct outbound *t, const struct object *service, const char *ns,
                           const char *name, uint16_t port, struct arena *a)
{
    const struct control_env *env = t->engine->env;
    struct reading r = {.env = env, .arena = a};
    struct service_view v = {.has_opaque_ports = false};
    const struct service_port *defined = NULL;
    struct target of = {.ns = ns,
                        .name = name,
                        .port = port,
                        .allows_headers = env->allow_request_headers,
                        .ref = message_service_ref(a, ns, name, port),
                        .http = "http",
                        .grpc = "grpc",
                        .tls = "tls",
                        .opaque = "opaq"};
    struct routes rs;

    depends_on_name(&t->depends, DEP_SERVICE, ns, name);
    if (service != NULL) {
        service_view_read(service, a, &v);
        settings_read(&r, service, false, &of.settings);
        defined = service_view_port(&v, port);
    }
    of.backend = backend_balancer(of.ref, service_path(env, ns, name, port, a), &of.settings, a);
    if (t->is_address && defined == NULL) {
        answer_forbidden(t, &of, a);
        return;
    }
    collect(t, &of, a, &rs);
    send_answer(
        t, &of,
        pick_carrier(defined != NULL ? defined->app_protocol : NULL,
                     port_set_has(v.has_opaque_ports ? &v.opaque_ports : &env->opaque_ports, port),
                     &rs),
        &rs, a);
}

static void answer_network(struct outbound *t, const struct object *network, struct arena *a)
{
    const struct control_env *env = t->engine->env;
    const char *opaque_ports = object_annotation(network, "config.linkerd.io/opaque-ports");
    bool denied = egress_is_denied(network);
    struct reading r = {.env = env, .arena = a};
    struct port_set ports = env->opaque_ports;
    struct target of = {
        .ns = network->ns,
        .name = network->name,
        .port = t->at.port,
        .is_egress = true,
        .is_denied = denied,
        .allows_headers = env->allow_request_headers,
        .adds_default = true,
        .ref =
            resource_ref(a, GROUP_POLICY, "EgressNetwork", network->name, network->ns, t->at.port),
        .http = denied ? "http-egress-deny" : "http-egress-allow",
        .grpc = denied ? "grpc-egress-deny" : "grpc-egress-allow",
        .tls = denied ? "tls-egress-deny" : "tls-egress-allow",
        .opaque = denied ? "tcp-egress-deny" : "tcp-egress-allow",
    };
    struct routes rs;

    if (opaque_ports != NULL && port_set_parse(bytes_str(opaque_ports), &ports) != 0) {
        ports = env->opaque_ports;
    }
    settings_read(&r, network, false, &of.settings);
    of.backend = backend_forward(of.ref, &t->at, a);
    collect(t, &of, a, &rs);
    send_answer(t, &of, pick_carrier(NULL, port_set_has(&ports, t->at.port), &rs), &rs, a);
}

static void answer_fallback(struct outbound *t, struct arena *a)
{
    static const char name[] = "egress-fallback";
    message_metadata *ref = message_default(a, name);
    struct target of = {.ns = "",
                        .name = name,
                        .port = t->at.port,
                        .ref = ref,
                        .backend = backend_forward(ref, &t->at, a),
                        .http = name,
                        .grpc = name,
                        .tls = name,
                        .opaque = name};
    struct routes rs = {.count = {0}};

    for (size_t c = 0; c < CLASS_COUNT; c++) {
        rs.at[c] = arena_new(a, sizeof(void *));
    }
    send_answer(t, &of, CARRY_DETECT, &rs, a);
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

static void compute_address(struct outbound *t, struct arena *a)
{
    const struct control_env *env = t->engine->env;
    struct index_set services = cluster_index_services(env->index, &t->at);
    const struct object *network;
    char key[DEP_KEY_BYTES];

    depends_on(&t->depends, dep_key_addr(DEP_IP, &t->at, false, key));
    if (services.count > 0) {
        answer_service(t, services.at[0], services.at[0]->ns, services.at[0]->name, t->at.port, a);
        return;
    }
    if (is_in_cluster(env, &t->at)) {
        /* The usual case of a pod's address: the proxy then goes by the profile. */
        topic_refuse(&t->topic, GRPC_NOT_FOUND, "no service has this address", true);
        return;
    }
    network = egress_pick(t->engine, t->client_ns, &t->at, &t->depends);
    if (network != NULL) {
        answer_network(t, network, a);
    } else {
        answer_fallback(t, a);
    }
}

static void compute(struct topic *topic, unsigned changes)
{
    struct outbound *t = CONTAINER_OF(topic, struct outbound, topic);
    struct arena a;

    (void)changes;
    t->engine->computed++;
    arena_init(&a, SIZE_MAX); /* in proportion to the manifests, which the cluster limits */
    depends_begin(&t->depends, topic);
    if (t->is_address) {
        compute_address(t, &a);
    } else {
        answer_service(t,
                       cluster_get(t->engine->env->cluster, KIND_SERVICE, t->name.ns, t->name.name),
                       t->name.ns, t->name.name, t->name.port, &a);
    }
    depends_end(&t->depends);
    arena_clear(&a);
}

static void outbound_free(struct topic *topic)
{
    struct outbound *t = CONTAINER_OF(topic, struct outbound, topic);

    depends_clear(&t->depends);
    mem_free(t);
}

static const struct topic_ops outbound_ops = {.compute = compute, .free = outbound_free};

static struct outbound *outbound_new(struct policy *p, const char *client_ns)
{
    struct outbound *t = mem_new(sizeof(*t));

    t->topic.ops = &outbound_ops;
    t->engine = p;
    (void)snprintf(t->client_ns, sizeof(t->client_ns), "%s", client_ns);
    return t;
}

struct topic *outbound_new_address(struct policy *p, const struct addr *at, const char *client_ns)
{
    struct outbound *t = outbound_new(p, client_ns);

    t->is_address = true;
    t->at = *at;
    return &t->topic;
}

struct topic *outbound_new_name(struct policy *p, const struct service_name *name,
                                const char *client_ns)
{
    struct outbound *t = outbound_new(p, client_ns);

    t->name = *name;
    return &t->topic;
}
