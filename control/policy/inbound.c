/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"

/*
 * What a port of a workload lets in (wire 9.4): the Server that the port belongs to, or the default policy;
 * its protocol, who may come, its routes or the default ones, and its rate limit.
 */
#define ANNOTATION_REQUIRE_IDENTITY "config.linkerd.io/proxy-require-identity-inbound-ports"

typedef Io__Linkerd__Proxy__Inbound__Server server_message;
typedef Io__Linkerd__Proxy__Inbound__ProxyProtocol proxy_protocol;
typedef Io__Linkerd__Proxy__Inbound__HttpRoute http_route;
typedef Io__Linkerd__Proxy__Inbound__GrpcRoute grpc_route;
typedef Io__Linkerd__Proxy__HttpRoute__HttpRouteMatch http_match;

struct inbound {
    struct topic topic;
    struct policy *engine;
    struct workload_name workload;
    uint16_t port;
    struct depends depends;
};

/* One answer in the making. */
struct answer {
    struct inbound *of;
    const struct object *workload;
    const struct pod_view *pod;  /* NULL: an ExternalWorkload */
    const struct object *server; /* NULL: none, the default policy holds */
    const char *policy;          /* name of the default policy that holds, also within a Server */
    struct authz_list authorizations;
    rate_limit_message *rate_limit; /* NULL: none */
    bool is_shut;                   /* the answer with all its routes is too large: nobody may */
    struct arena *arena;
};

/* --- routes -------------------------------------------------------------------------------------- */

static http_route *default_http_route(const struct answer *w, struct authz_list who)
{
    struct arena *a = w->arena;
    http_route *m = message_new(a, &io__linkerd__proxy__inbound__http_route__descriptor);
    Io__Linkerd__Proxy__Inbound__HttpRoute__Rule *rule =
        message_new(a, &io__linkerd__proxy__inbound__http_route__rule__descriptor);

    rule->matches = message_one(a, match_all(a));
    rule->n_matches = 1;
    m->metadata = message_default(a, "default");
    m->rules = message_one(a, rule);
    m->n_rules = 1;
    m->authorizations = who.at;
    m->n_authorizations = who.count;
    return m;
}

static http_match *probe_match(struct bytes path, struct arena *a)
{
    http_match *m = message_new(a, &io__linkerd__proxy__http_route__http_route_match__descriptor);

    m->path = message_new(a, &io__linkerd__proxy__http_route__path_match__descriptor);
    m->path->kind_case = IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_EXACT;
    m->path->exact = arena_strdup(a, path);
    m->method = message_new(a, &io__linkerd__proxy__http_types__http_method__descriptor);
    m->method->type_case = IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__TYPE_REGISTERED;
    m->method->registered = IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__REGISTERED__GET;
    return m;
}

static bool is_new_path(const struct pod_view *pod, size_t probe)
{
    for (size_t i = 0; i < probe; i++) {
        if (pod->probes[i].port == pod->probes[probe].port &&
            bytes_eq(pod->probes[i].path, pod->probes[probe].path)) {
            return false;
        }
    }
    return true;
}

/* NULL when nothing probes this port. Several probes of one path are one match. */
static http_route *probe_route(const struct answer *w, struct authz_list who)
{
    const struct control_env *env = w->of->engine->env;
    struct arena *a = w->arena;
    Io__Linkerd__Proxy__Inbound__HttpRoute__Rule *rule;
    http_route *m;

    if (w->pod == NULL || w->pod->probes_count == 0 || env->probe_networks_count == 0) {
        return NULL;
    }
    rule = message_new(a, &io__linkerd__proxy__inbound__http_route__rule__descriptor);
    rule->matches = arena_new(a, w->pod->probes_count * sizeof(http_match *));
    for (size_t i = 0; i < w->pod->probes_count; i++) {
        if (w->pod->probes[i].port == w->of->port && is_new_path(w->pod, i)) {
            rule->matches[rule->n_matches++] = probe_match(w->pod->probes[i].path, a);
        }
    }
    if (rule->n_matches == 0) {
        return NULL;
    }
    m = message_new(a, &io__linkerd__proxy__inbound__http_route__descriptor);
    m->metadata = message_default(a, "probe");
    m->rules = message_one(a, rule);
    m->n_rules = 1;
    /* Its own authorization first, then the server's. */
    m->authorizations = arena_new(a, (1 + who.count) * sizeof(authz *));
    m->authorizations[0] = probe_authorization(env, a);
    for (size_t i = 0; i < who.count; i++) {
        m->authorizations[1 + i] = who.at[i];
    }
    m->n_authorizations = 1 + who.count;
    return m;
}

/* `*out_who`: who may where there are none; nobody when one of them cannot be read (inbound_route.c). */
static void *user_routes(const struct answer *w, bool is_grpc, size_t *out_count,
                         struct authz_list *out_who)
{
    struct inbound *t = w->of;
    const struct reading like = {.env = t->engine->env, .arena = w->arena, .depends = &t->depends};
    void *list;

    *out_count = 0;
    *out_who = w->authorizations;
    if (w->server == NULL || w->is_shut) {
        return NULL;
    }
    list = inbound_routes(t->engine, w->server, is_grpc, w->authorizations, &like, out_count);
    if (list == NULL) {
        out_who->count = 0;
    }
    return list;
}

/* With routes of the user's there are no others: what they do not match is not found. */
static http_route **http_routes(const struct answer *w, size_t *out_count)
{
    struct authz_list who;
    http_route **list = user_routes(w, false, out_count, &who);
    http_route *probe;
    size_t count = 0;

    if (*out_count > 0) {
        return list;
    }
    list = arena_new(w->arena, 2 * sizeof(*list));
    probe = probe_route(w, who);

    if (probe != NULL) {
        list[count++] = probe;
    }
    list[count++] = default_http_route(w, who);
    *out_count = count;
    return list;
}

static grpc_route *default_grpc_route(const struct answer *w, struct authz_list who)
{
    struct arena *a = w->arena;
    grpc_route *m = message_new(a, &io__linkerd__proxy__inbound__grpc_route__descriptor);
    Io__Linkerd__Proxy__Inbound__GrpcRoute__Rule *rule =
        message_new(a, &io__linkerd__proxy__inbound__grpc_route__rule__descriptor);

    rule->matches = message_one(
        a, message_new(a, &io__linkerd__proxy__grpc_route__grpc_route_match__descriptor));
    rule->n_matches = 1;
    m->metadata = message_default(a, "default");
    m->rules = message_one(a, rule);
    m->n_rules = 1;
    m->authorizations = who.at;
    m->n_authorizations = who.count;
    return m;
}

/* --- protocol ------------------------------------------------------------------------------------ */

static void set_detect(const struct answer *w, proxy_protocol *m)
{
    m->kind_case = IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_DETECT;
    m->detect =
        message_new(w->arena, &io__linkerd__proxy__inbound__proxy_protocol__detect__descriptor);
    m->detect->timeout = message_duration(w->arena, DETECT_TIMEOUT_NS);
    m->detect->http_routes = http_routes(w, &m->detect->n_http_routes);
    m->detect->http_local_rate_limit = w->rate_limit;
}

static void set_opaque(const struct answer *w, proxy_protocol *m)
{
    m->kind_case = IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_OPAQUE;
    m->opaque =
        message_new(w->arena, &io__linkerd__proxy__inbound__proxy_protocol__opaque__descriptor);
}

static void set_tls(const struct answer *w, proxy_protocol *m)
{
    m->kind_case = IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_TLS;
    m->tls = message_new(w->arena, &io__linkerd__proxy__inbound__proxy_protocol__tls__descriptor);
}

static void set_http1(const struct answer *w, proxy_protocol *m)
{
    m->kind_case = IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_HTTP1;
    m->http1 =
        message_new(w->arena, &io__linkerd__proxy__inbound__proxy_protocol__http1__descriptor);
    m->http1->routes = http_routes(w, &m->http1->n_routes);
    m->http1->local_rate_limit = w->rate_limit;
}

static void set_http2(const struct answer *w, proxy_protocol *m)
{
    m->kind_case = IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_HTTP2;
    m->http2 =
        message_new(w->arena, &io__linkerd__proxy__inbound__proxy_protocol__http2__descriptor);
    m->http2->routes = http_routes(w, &m->http2->n_routes);
    m->http2->local_rate_limit = w->rate_limit;
}

static void set_grpc(const struct answer *w, proxy_protocol *m)
{
    struct authz_list who;

    m->kind_case = IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_GRPC;
    m->grpc = message_new(w->arena, &io__linkerd__proxy__inbound__proxy_protocol__grpc__descriptor);
    m->grpc->routes = user_routes(w, true, &m->grpc->n_routes, &who);
    if (m->grpc->n_routes == 0) {
        m->grpc->routes = message_one(w->arena, default_grpc_route(w, who));
        m->grpc->n_routes = 1;
    }
}

static const struct protocol_name { /* Server.spec.proxyProtocol; any other word is "unknown" */
    const char *name;
    void (*set)(const struct answer *w, proxy_protocol *m);
} protocol_names[] = {
    {"HTTP/1", set_http1},  {"HTTP/2", set_http2}, {"gRPC", set_grpc},
    {"opaque", set_opaque}, {"TLS", set_tls},      {"unknown", set_detect},
};

static proxy_protocol *protocol(const struct answer *w)
{
    proxy_protocol *m =
        message_new(w->arena, &io__linkerd__proxy__inbound__proxy_protocol__descriptor);
    const char *name = w->server != NULL ? json_text(w->server->spec, "proxyProtocol") : NULL;
    void (*set)(const struct answer *w, proxy_protocol *m) = set_detect;

    /* The cluster's opaque ports do not count here: the injector copies them into the annotation. */
    if (w->server == NULL && w->pod != NULL && port_set_has(&w->pod->opaque_ports, w->of->port)) {
        set = set_opaque;
    }
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(protocol_names); i++) {
        if (strcmp(protocol_names[i].name, name) == 0) {
            set = protocol_names[i].set;
        }
    }
    set(w, m);
    return m;
}

/* --- the answer ---------------------------------------------------------------------------------- */

/* The cluster's, the pod's, the Server's: the later one wins (wire 9.1). */
static const char *pick_policy(const struct answer *w)
{
    const char *name = w->of->engine->env->default_policy;
    const char *access = w->server != NULL ? json_text(w->server->spec, "accessPolicy") : NULL;
    const char *require = object_annotation(w->workload, ANNOTATION_REQUIRE_IDENTITY);
    struct port_set ports;

    if (w->server != NULL) {
        return default_policy_is_known(access) ? access : "deny";
    }
    if (w->pod != NULL && w->pod->default_inbound_policy != NULL) {
        if (default_policy_is_known(w->pod->default_inbound_policy)) {
            name = w->pod->default_inbound_policy;
        } else {
            log_warn("a pod's annotation names no default policy: the cluster's holds; pod=%s/%s "
                     "policy=%s",
                     w->workload->ns, w->workload->name, w->pod->default_inbound_policy);
        }
    }
    if (require != NULL && port_set_parse(bytes_str(require), &ports) == 0 &&
        port_set_has(&ports, w->of->port)) {
        return default_policy_authenticated(name);
    }
    return name;
}

static server_message *answer_message(const struct answer *w)
{
    server_message *m = message_new(w->arena, &io__linkerd__proxy__inbound__server__descriptor);
    const char *const of_server[] = {"group", "policy.linkerd.io",
                                     "kind",  "server",
                                     "name",  w->server != NULL ? w->server->name : NULL,
                                     NULL};
    const char *const of_default[] = {"group", "", "kind", "default", "name", w->policy, NULL};

    m->labels =
        message_labels(w->arena, &io__linkerd__proxy__inbound__server__labels_entry__descriptor,
                       w->server != NULL ? of_server : of_default, &m->n_labels);
    m->protocol = protocol(w);
    m->authorizations = w->authorizations.at;
    m->n_authorizations = w->authorizations.count;
    return m;
}

/* A proxy without an answer goes by its own default, which may let more in: so one is always sent. */
static void send_answer(struct answer *w)
{
    server_message *m = answer_message(w);

    if (protobuf_c_message_get_packed_size(&m->base) > ANSWER_BYTES_MAX) {
        log_error("the policy of a port is too large to be sent: nobody may come; workload=%s/%s "
                  "port=%u",
                  w->workload->ns, w->workload->name, w->of->port);
        w->is_shut = true;
        w->authorizations.count = 0;
        w->rate_limit = NULL;
        m = answer_message(w);
    }
    topic_answer(&w->of->topic, message_pack(w->arena, &m->base));
}

/* Whoever the Server's objects let in comes before its access policy. */
static void read_server(struct answer *w)
{
    struct policy *p = w->of->engine;
    struct reading r = {.env = p->env, .arena = w->arena, .depends = &w->of->depends};
    const struct object *limit;

    w->authorizations =
        authz_list_join(server_authorizations(p, w->server, &r), w->authorizations, w->arena);
    limit = rate_limit_find(p, w->server->ns, w->server->name);
    if (limit != NULL) {
        w->rate_limit = rate_limit_read(&r, limit);
    }
}

static void compute(struct topic *topic, unsigned changes)
{
    struct inbound *t = CONTAINER_OF(topic, struct inbound, topic);
    const struct workload_name *name = &t->workload;
    const struct control_env *env = t->engine->env;
    struct pod_view pod;
    struct arena a;
    struct answer w = {.of = t, .arena = &a};

    (void)changes;
    t->engine->computed++;
    depends_begin(&t->depends, topic);
    depends_on_name(&t->depends, name->is_external ? DEP_EXTERNAL : DEP_POD, name->ns, name->name);
    depends_on_name(&t->depends, DEP_SERVERS, name->ns, "");
    w.workload = cluster_get(env->cluster, name->is_external ? KIND_EXTERNAL_WORKLOAD : KIND_POD,
                             name->ns, name->name);
    if (w.workload == NULL) {
        depends_end(&t->depends);
        topic_refuse(topic, GRPC_NOT_FOUND, "there is no such workload", true);
        return;
    }
    arena_init(&a, SIZE_MAX); /* in proportion to the manifests, which the cluster limits */
    if (!name->is_external) {
        pod_view_read(w.workload, &a, &pod);
        w.pod = &pod;
    }
    w.server = servers_pick(&t->engine->servers, w.workload, w.pod, t->port);
    w.policy = pick_policy(&w);
    w.authorizations = default_policy_authorizations(env, w.policy, &a);
    if (w.server != NULL) {
        read_server(&w);
    }
    send_answer(&w);
    depends_end(&t->depends);
    arena_clear(&a);
}

static void inbound_free(struct topic *topic)
{
    struct inbound *t = CONTAINER_OF(topic, struct inbound, topic);

    depends_clear(&t->depends);
    mem_free(t);
}

static const struct topic_ops inbound_ops = {.compute = compute, .free = inbound_free};

struct topic *inbound_new(struct policy *p, const struct workload_name *workload, uint16_t port)
{
    struct inbound *t = mem_new(sizeof(*t));

    t->topic.ops = &inbound_ops;
    t->engine = p;
    t->workload = *workload;
    t->port = port;
    return &t->topic;
}
