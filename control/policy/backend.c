/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/route.h"

/*
 * Where traffic goes, and how it is spread (wire 6.4, 9.6). Distributions of gRPC, TLS and opaque routes are
 * built as those of HTTP (reading.h).
 */

/* A proxy insists on these, and uses its own settings (wire 3.5, 9.6). */
#define QUEUE_CAPACITY 100
#define FAILFAST_NS    (3 * NS_PER_S)
#define EWMA_RTT_NS    (30 * NS_PER_MS)
#define EWMA_DECAY_NS  (10 * NS_PER_S)
#define FORWARD_WEIGHT 1
#define WEIGHT_MAX     1000000 /* Gateway API */

typedef Io__Linkerd__Proxy__Outbound__Backend__BalanceP2c balancer_message;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__RouteBackend route_backend;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__WeightedRouteBackend weighted_backend;

/* --- backends ------------------------------------------------------------------------------------ */

backend *backend_failing(message_metadata *of, struct arena *a)
{
    backend *m = message_new(a, &io__linkerd__proxy__outbound__backend__descriptor);

    m->metadata = of;
    m->queue = message_new(a, &io__linkerd__proxy__outbound__queue__descriptor);
    m->queue->capacity = QUEUE_CAPACITY;
    m->queue->failfast_timeout = message_duration(a, FAILFAST_NS);
    return m;
}

static void set_load(balancer_message *m, const struct settings *s, struct arena *a)
{
    if (s == NULL || !s->penalizes) {
        m->load_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__BALANCE_P2C__LOAD_PEAK_EWMA;
        m->peak_ewma = message_new(
            a, &io__linkerd__proxy__outbound__backend__balance_p2c__peak_ewma__descriptor);
        m->peak_ewma->default_rtt = message_duration(a, EWMA_RTT_NS);
        m->peak_ewma->decay = message_duration(a, EWMA_DECAY_NS);
        return;
    }
    m->load_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__BALANCE_P2C__LOAD_PENALTY_PEAK_EWMA;
    m->penalty_peak_ewma = message_new(
        a, &io__linkerd__proxy__outbound__backend__balance_p2c__penalty_peak_ewma__descriptor);
    m->penalty_peak_ewma->default_rtt = message_duration(a, EWMA_RTT_NS);
    m->penalty_peak_ewma->decay = message_duration(a, EWMA_DECAY_NS);
    m->penalty_peak_ewma->penalty = message_duration(a, s->penalty_ns);
    m->penalty_peak_ewma->max_retry_after = message_duration(a, s->max_retry_after_ns);
    m->penalty_peak_ewma->penalty_decay = message_duration(a, EWMA_DECAY_NS);
}

backend *backend_balancer(message_metadata *of, const char *path, const struct settings *s,
                          struct arena *a)
{
    backend *m = backend_failing(of, a);
    balancer_message *balancer =
        message_new(a, &io__linkerd__proxy__outbound__backend__balance_p2c__descriptor);
    Io__Linkerd__Proxy__Outbound__Backend__EndpointDiscovery *discovery =
        message_new(a, &io__linkerd__proxy__outbound__backend__endpoint_discovery__descriptor);

    discovery->kind_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__ENDPOINT_DISCOVERY__KIND_DST;
    discovery->dst = message_new(
        a, &io__linkerd__proxy__outbound__backend__endpoint_discovery__destination_get__descriptor);
    discovery->dst->path = message_text(path);
    balancer->discovery = discovery;
    set_load(balancer, s, a);
    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND_BALANCER;
    m->balancer = balancer;
    return m;
}

backend *backend_forward(message_metadata *of, const struct addr *to, struct arena *a)
{
    backend *m = backend_failing(of, a);

    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND_FORWARD;
    m->forward = message_new(a, &io__linkerd__proxy__destination__weighted_addr__descriptor);
    m->forward->addr = message_addr(a, to);
    m->forward->weight = FORWARD_WEIGHT;
    return m;
}

const char *service_path(const struct control_env *env, const char *ns, const char *name,
                         uint16_t port, struct arena *a)
{
    return arena_printf(a, "%s.%s.svc.%s:%u", name, ns, env->cluster_domain, port);
}

/* --- backendRefs --------------------------------------------------------------------------------- */

static void *refusal(enum family f, const char *message, struct arena *a)
{
    return f == FAMILY_HTTP   ? (void *)filter_fail(500, message, a)
           : f == FAMILY_GRPC ? (void *)filter_fail(GRPC_UNAVAILABLE, message, a)
                              : filter_refuse(message, a);
}

/* It keeps its share of the traffic, which fails and says why (wire 6.4). */
static void fail(struct reading *r, enum family f, message_metadata *of, const char *message,
                 route_backend *to)
{
    reading_complain(r, "%s", message);
    to->backend = backend_failing(of, r->arena);
    to->filters = message_one(r->arena, refusal(f, message, r->arena));
    to->n_filters = 1;
}

bool service_lacks_port(const struct object *service, int64_t port)
{
    const json_t *ports = json_object_get(service->spec, "ports");

    for (size_t i = 0; i < json_array_size(ports); i++) {
        if (json_number(json_array_get(ports, i), "port", 0) == port) {
            return false;
        }
    }
    return json_array_size(ports) > 0;
}

static void service_ref_read(struct reading *r, const struct target *t, const struct object *o,
                             const json_t *ref, enum family f, route_backend *to)
{
    const char *ns = ref_ns(ref, o->ns), *name = ref_name(ref);
    int64_t port = json_number(ref, "port", 0);
    const struct object *service;
    message_metadata *of;

    depends_on_name(r->depends, DEP_SERVICE, ns, name);
    if (port <= 0 || port > UINT16_MAX || name[0] == '\0') {
        fail(r, f, message_default(r->arena, "invalid"),
             "a backendRef to a Service lacks its name or its port", to);
        return;
    }
    of = message_service_ref(r->arena, ns, name, (uint16_t)port);
    service = cluster_get(r->env->cluster, KIND_SERVICE, ns, name);
    if (service == NULL) {
        fail(r, f, of, arena_printf(r->arena, "there is no Service %s/%s, a backend", ns, name),
             to);
        reading_advise(r, "create it, or correct the name; until then its share of the traffic fails");
        return;
    }
    if (service_lacks_port(service, port)) { /* the destination service answers with the number as it is */
        reading_complain(r,
                         "the Service %s/%s, a backend, has no port %lld: requests go to that port of its "
                         "pods",
                         ns, name, (long long)port);
        reading_advise(r, "name one of the Service's ports");
    }
    to->backend = backend_balancer(of, service_path(r->env, ns, name, (uint16_t)port, r->arena),
                                   &t->settings, r->arena);
}

static route_backend *backend_ref_read(struct reading *r, const struct target *t,
                                       const struct object *o, const json_t *ref, enum family f)
{
    route_backend *m =
        message_new(r->arena, &io__linkerd__proxy__outbound__http_route__route_backend__descriptor);
    bool is_service = json_text(ref, "kind") == NULL
                          ? json_text(ref, "group") == NULL || json_text(ref, "group")[0] == '\0'
                          : ref_is(ref, "", "Service");

    if (f != FAMILY_OPAQUE) {
        m->filters = filters_read(r, json_object_get(ref, "filters"), false, &m->n_filters);
    }
    if (is_service) {
        service_ref_read(r, t, o, ref, f, m);
    } else if (!ref_is(ref, GROUP_POLICY, "EgressNetwork")) {
        fail(r, f, message_default(r->arena, "invalid"),
             "a backendRef is neither a Service nor an EgressNetwork", m);
    } else if (!t->is_egress || strcmp(ref_ns(ref, o->ns), t->ns) != 0 ||
               strcmp(ref_name(ref), t->name) != 0) {
        fail(r, f, message_default(r->arena, "invalid"),
             "a backendRef to an EgressNetwork must name the route's parent", m);
    } else {
        m->backend = t->backend;
    }
    return m;
}

/* --- distributions ------------------------------------------------------------------------------- */

distribution *distribution_empty(struct arena *a)
{
    distribution *m =
        message_new(a, &io__linkerd__proxy__outbound__http_route__distribution__descriptor);

    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__DISTRIBUTION__KIND_EMPTY;
    m->empty =
        message_new(a, &io__linkerd__proxy__outbound__http_route__distribution__empty__descriptor);
    return m;
}

distribution *distribution_to(backend *to, struct arena *a)
{
    distribution *m =
        message_new(a, &io__linkerd__proxy__outbound__http_route__distribution__descriptor);
    route_backend *one =
        message_new(a, &io__linkerd__proxy__outbound__http_route__route_backend__descriptor);

    one->backend = to;
    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__DISTRIBUTION__KIND_FIRST_AVAILABLE;
    m->first_available = message_new(
        a, &io__linkerd__proxy__outbound__http_route__distribution__first_available__descriptor);
    m->first_available->backends = message_one(a, one);
    m->first_available->n_backends = 1;
    return m;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored                                                                     \
    "-Wdeprecated-declarations" /* the only place for the timeout of one backend */
static void set_timeout(route_backend *m, uint64_t ns, struct arena *a)
{
    if (ns != 0) {
        m->requesttimeout = message_duration(a, ns);
    }
}
#pragma GCC diagnostic pop

/* Proxies draw by weight among several backends, and do not ask an only one for its weight (wire 6.4). */
static void check_weights(struct reading *r, size_t count, uint64_t total)
{
    if (total > 0) {
        return;
    }
    if (count == 1) {
        reading_complain(r, "the weight 0 of an only backend is passed over, as in Linkerd: it gets all of "
                            "the traffic");
        reading_advise(r, "leave it out; to turn traffic off, deny the clients at the Server");
    } else {
        reading_complain(r, "all backends have the weight 0: there is none to draw, and the traffic fails");
        reading_advise(r, "give one of them a weight");
    }
}

distribution *distribution_read(struct reading *r, const struct target *t, const struct object *o,
                                const json_t *rule, enum family f, uint64_t timeout_ns)
{
    const json_t *refs = reading_list(r, rule, "backendRefs");
    size_t count = json_array_size(refs);
    uint64_t total = 0;
    distribution *m;

    if (count == 0) {
        m = distribution_to(t->backend, r->arena);
        set_timeout(m->first_available->backends[0], timeout_ns, r->arena);
        return m;
    }
    m = message_new(r->arena, &io__linkerd__proxy__outbound__http_route__distribution__descriptor);
    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__DISTRIBUTION__KIND_RANDOM_AVAILABLE;
    m->random_available = message_new(
        r->arena,
        &io__linkerd__proxy__outbound__http_route__distribution__random_available__descriptor);
    m->random_available->backends = arena_new(r->arena, count * sizeof(weighted_backend *));
    for (size_t i = 0; i < count; i++) {
        const json_t *ref = json_array_get(refs, i);
        int64_t weight = json_number(ref, "weight", 1);
        weighted_backend *w = message_new(
            r->arena,
            &io__linkerd__proxy__outbound__http_route__weighted_route_backend__descriptor);

        if (weight < 0 || weight > WEIGHT_MAX) {
            reading_refuse(r, "the weight of a backendRef is not between 0 and %d", WEIGHT_MAX);
            weight = 0;
        }
        w->weight = (uint32_t)weight;
        total += w->weight;
        w->backend = backend_ref_read(r, t, o, ref, f);
        set_timeout(w->backend, timeout_ns, r->arena);
        m->random_available->backends[m->random_available->n_backends++] = w;
    }
    check_weights(r, count, total);
    return m;
}
