/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "core/clock.h"

/* A proxy insists on these, and uses its own settings (wire 3.5, 9.6). */
#define QUEUE_CAPACITY 100
#define FAILFAST_NS    (3 * NS_PER_S)
#define EWMA_RTT_NS    (30 * NS_PER_MS)
#define EWMA_DECAY_NS  (10 * NS_PER_S)
#define FORWARD_WEIGHT 1

typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol proxy_protocol;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol__Opaque opaque_protocol;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol__Http1 http1_protocol;
typedef Io__Linkerd__Proxy__Outbound__ProxyProtocol__Http2 http2_protocol;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute http_route;
typedef Io__Linkerd__Proxy__Outbound__OpaqueRoute opaque_route;

Io__Linkerd__Proxy__HttpRoute__HttpRouteMatch *match_all(struct arena *a)
{
    Io__Linkerd__Proxy__HttpRoute__HttpRouteMatch *m =
        message_new(a, &io__linkerd__proxy__http_route__http_route_match__descriptor);

    m->path = message_new(a, &io__linkerd__proxy__http_route__path_match__descriptor);
    m->path->kind_case = IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_PREFIX;
    m->path->prefix = message_text("/");
    return m;
}

/* --- backends ------------------------------------------------------------------------------------ */

static backend *backend_new(message_metadata *of, struct arena *a)
{
    backend *m = message_new(a, &io__linkerd__proxy__outbound__backend__descriptor);

    m->metadata = of;
    m->queue = message_new(a, &io__linkerd__proxy__outbound__queue__descriptor);
    m->queue->capacity = QUEUE_CAPACITY;
    m->queue->failfast_timeout = message_duration(a, FAILFAST_NS);
    return m;
}

backend *backend_balancer(message_metadata *of, const char *path, struct arena *a)
{
    backend *m = backend_new(of, a);
    Io__Linkerd__Proxy__Outbound__Backend__BalanceP2c *balancer =
        message_new(a, &io__linkerd__proxy__outbound__backend__balance_p2c__descriptor);
    Io__Linkerd__Proxy__Outbound__Backend__EndpointDiscovery *discovery =
        message_new(a, &io__linkerd__proxy__outbound__backend__endpoint_discovery__descriptor);
    Io__Linkerd__Proxy__Outbound__Backend__BalanceP2c__PeakEwma *ewma =
        message_new(a, &io__linkerd__proxy__outbound__backend__balance_p2c__peak_ewma__descriptor);

    discovery->kind_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__ENDPOINT_DISCOVERY__KIND_DST;
    discovery->dst = message_new(
        a, &io__linkerd__proxy__outbound__backend__endpoint_discovery__destination_get__descriptor);
    discovery->dst->path = message_text(path);
    ewma->default_rtt = message_duration(a, EWMA_RTT_NS);
    ewma->decay = message_duration(a, EWMA_DECAY_NS);
    balancer->discovery = discovery;
    balancer->load_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__BALANCE_P2C__LOAD_PEAK_EWMA;
    balancer->peak_ewma = ewma;
    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND_BALANCER;
    m->balancer = balancer;
    return m;
}

backend *backend_forward(message_metadata *of, const struct addr *to, struct arena *a)
{
    backend *m = backend_new(of, a);

    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND_FORWARD;
    m->forward = message_new(a, &io__linkerd__proxy__destination__weighted_addr__descriptor);
    m->forward->addr = message_addr(a, to);
    m->forward->weight = FORWARD_WEIGHT;
    return m;
}

/* --- routes -------------------------------------------------------------------------------------- */

static http_route *http_route_to(const char *name, backend *to, struct arena *a)
{
    http_route *m = message_new(a, &io__linkerd__proxy__outbound__http_route__descriptor);
    Io__Linkerd__Proxy__Outbound__HttpRoute__Rule *rule =
        message_new(a, &io__linkerd__proxy__outbound__http_route__rule__descriptor);
    Io__Linkerd__Proxy__Outbound__HttpRoute__Distribution *all =
        message_new(a, &io__linkerd__proxy__outbound__http_route__distribution__descriptor);
    Io__Linkerd__Proxy__Outbound__HttpRoute__RouteBackend *one =
        message_new(a, &io__linkerd__proxy__outbound__http_route__route_backend__descriptor);

    one->backend = to;
    all->kind_case = IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__DISTRIBUTION__KIND_FIRST_AVAILABLE;
    all->first_available = message_new(
        a, &io__linkerd__proxy__outbound__http_route__distribution__first_available__descriptor);
    all->first_available->backends = message_one(a, one);
    all->first_available->n_backends = 1;
    rule->matches = message_one(a, match_all(a));
    rule->n_matches = 1;
    rule->backends = all;
    m->metadata = message_default(a, name);
    m->rules = message_one(a, rule);
    m->n_rules = 1;
    return m;
}

/* Without a backend the distribution is empty. */
static opaque_route *opaque_route_to(const char *name, backend *to, struct arena *a)
{
    opaque_route *m = message_new(a, &io__linkerd__proxy__outbound__opaque_route__descriptor);
    Io__Linkerd__Proxy__Outbound__OpaqueRoute__Rule *rule =
        message_new(a, &io__linkerd__proxy__outbound__opaque_route__rule__descriptor);
    Io__Linkerd__Proxy__Outbound__OpaqueRoute__Distribution *all =
        message_new(a, &io__linkerd__proxy__outbound__opaque_route__distribution__descriptor);
    Io__Linkerd__Proxy__Outbound__OpaqueRoute__RouteBackend *one;

    if (to == NULL) {
        all->kind_case = IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__DISTRIBUTION__KIND_EMPTY;
        all->empty = message_new(
            a, &io__linkerd__proxy__outbound__opaque_route__distribution__empty__descriptor);
    } else {
        one =
            message_new(a, &io__linkerd__proxy__outbound__opaque_route__route_backend__descriptor);
        one->backend = to;
        all->kind_case =
            IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__DISTRIBUTION__KIND_FIRST_AVAILABLE;
        all->first_available = message_new(
            a,
            &io__linkerd__proxy__outbound__opaque_route__distribution__first_available__descriptor);
        all->first_available->backends = message_one(a, one);
        all->first_available->n_backends = 1;
    }
    rule->backends = all;
    m->metadata = message_default(a, name);
    m->rules = message_one(a, rule);
    m->n_rules = 1;
    return m;
}

/* --- protocols ----------------------------------------------------------------------------------- */

static opaque_protocol *opaque(opaque_route *route, struct arena *a)
{
    opaque_protocol *m =
        message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__opaque__descriptor);

    m->routes = message_one(a, route);
    m->n_routes = 1;
    return m;
}

static http1_protocol *http1(http_route *route, struct arena *a)
{
    http1_protocol *m =
        message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__http1__descriptor);

    m->routes = message_one(a, route);
    m->n_routes = 1;
    return m;
}

static http2_protocol *http2(http_route *route, struct arena *a)
{
    http2_protocol *m =
        message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__http2__descriptor);

    m->routes = message_one(a, route);
    m->n_routes = 1;
    return m;
}

static void set_detect(proxy_protocol *m, opaque_route *tcp, http_route *http, struct arena *a)
{
    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_DETECT;
    m->detect = message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__detect__descriptor);
    m->detect->timeout = message_duration(a, DETECT_TIMEOUT_NS);
    m->detect->opaque = opaque(tcp, a);
    m->detect->http1 = http1(http, a);
    m->detect->http2 = http2(http, a);
}

static outbound_policy *policy_new_message(message_metadata *of, struct arena *a)
{
    outbound_policy *m = message_new(a, &io__linkerd__proxy__outbound__outbound_policy__descriptor);

    m->metadata = of;
    m->protocol = message_new(a, &io__linkerd__proxy__outbound__proxy_protocol__descriptor);
    return m;
}

outbound_policy *outbound_answer(message_metadata *of, enum outbound_protocol protocol,
                                 const struct outbound_routes *routes, struct arena *a)
{
    outbound_policy *m = policy_new_message(of, a);
    opaque_route *tcp = opaque_route_to(routes->opaque, routes->backend, a);
    http_route *http = http_route_to(routes->http, routes->backend, a);

    switch (protocol) {
    case OUTBOUND_DETECT:
        set_detect(m->protocol, tcp, http, a);
        break;
    case OUTBOUND_OPAQUE:
        m->protocol->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_OPAQUE;
        m->protocol->opaque = opaque(tcp, a);
        break;
    case OUTBOUND_HTTP1:
        m->protocol->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_HTTP1;
        m->protocol->http1 = http1(http, a);
        break;
    case OUTBOUND_HTTP2:
        m->protocol->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_HTTP2;
        m->protocol->http2 = http2(http, a);
        break;
    }
    return m;
}

outbound_policy *outbound_forbidden(message_metadata *of, const char *route, struct arena *a)
{
    outbound_policy *m = policy_new_message(of, a);
    opaque_route *tcp = opaque_route_to(route, NULL, a);
    Io__Linkerd__Proxy__Outbound__OpaqueRoute__Filter *filter =
        message_new(a, &io__linkerd__proxy__outbound__opaque_route__filter__descriptor);

    filter->kind_case = IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__FILTER__KIND_FORBIDDEN;
    filter->forbidden = message_new(a, &io__linkerd__proxy__opaque_route__forbidden__descriptor);
    tcp->rules[0]->filters = message_one(a, filter);
    tcp->rules[0]->n_filters = 1;
    m->protocol->kind_case = IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_OPAQUE;
    m->protocol->opaque = opaque(tcp, a);
    return m;
}
