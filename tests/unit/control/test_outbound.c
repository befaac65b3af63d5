/* SPDX-License-Identifier: Apache-2.0 */
/* OutboundPolicies.Watch: services by address and name, what lies outside, what is nobody's (wire 9.6). */
#include "engines.h"

static enum grpc_status ask_spec(struct engines *e, struct asker *a,
                                 Io__Linkerd__Proxy__Outbound__TrafficSpec *m)
{
    uint8_t packed[1024];
    const char *why = "";
    size_t len;

    m->source_workload = (char *)(uintptr_t) "{\"ns\":\"default\",\"pod\":\"client\"}\n";
    len = io__linkerd__proxy__outbound__traffic_spec__pack(m, packed);
    asker_init(a);
    return policy_watch_outbound(e->env.policy, bytes_of(packed, len), &a->subscriber, &why);
}

static enum grpc_status watch_addr(struct engines *e, struct asker *a, const char *text)
{
    Io__Linkerd__Proxy__Outbound__TrafficSpec m;
    Io__Linkerd__Proxy__Net__TcpAddress tcp;
    Io__Linkerd__Proxy__Net__IPAddress ip;
    Io__Linkerd__Proxy__Net__IPv6 v6;
    struct addr at = {0};

    assert_int_equal(addr_parse(bytes_str(text), &at), 0);
    io__linkerd__proxy__outbound__traffic_spec__init(&m);
    io__linkerd__proxy__net__tcp_address__init(&tcp);
    io__linkerd__proxy__net__ipaddress__init(&ip);
    io__linkerd__proxy__net__ipv6__init(&v6);
    if (at.family == AF_INET) {
        ip.ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4;
        ip.ipv4 = (uint32_t)at.ip[0] << 24 | (uint32_t)at.ip[1] << 16 | (uint32_t)at.ip[2] << 8 |
                  at.ip[3];
    } else {
        for (unsigned i = 0; i < 8; i++) {
            v6.first = v6.first << 8 | at.ip[i];
            v6.last = v6.last << 8 | at.ip[8 + i];
        }
        ip.ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6;
        ip.ipv6 = &v6;
    }
    tcp.ip = &ip;
    tcp.port = at.port;
    m.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_ADDR;
    m.addr = &tcp;
    return ask_spec(e, a, &m);
}

static enum grpc_status watch_name(struct engines *e, struct asker *a, const char *authority)
{
    Io__Linkerd__Proxy__Outbound__TrafficSpec m;

    io__linkerd__proxy__outbound__traffic_spec__init(&m);
    m.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_AUTHORITY;
    m.authority = (char *)(uintptr_t)authority;
    return ask_spec(e, a, &m);
}

/* --- answers as text ----------------------------------------------------------------------------- */

static void describe_ref(struct text *t, const Io__Linkerd__Proxy__Meta__Metadata *m)
{
    assert_non_null(m);
    if (m->kind_case == IO__LINKERD__PROXY__META__METADATA__KIND_DEFAULT) {
        text_printf(t, " %s", m->default_);
    } else {
        text_printf(t, " %s/%s/%s/%s:%u", m->resource->group, m->resource->kind,
                    m->resource->namespace_, m->resource->name, m->resource->port);
    }
}

static void describe_backend(struct text *t, const Io__Linkerd__Proxy__Outbound__Backend *m)
{
    assert_int_equal(m->queue->capacity, 100);
    assert_int_equal(m->queue->failfast_timeout->seconds, 3);
    if (m->kind_case == IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND_BALANCER) {
        assert_int_equal(m->balancer->load_case,
                         IO__LINKERD__PROXY__OUTBOUND__BACKEND__BALANCE_P2C__LOAD_PEAK_EWMA);
        assert_int_equal(m->balancer->peak_ewma->default_rtt->nanos, 30000000);
        assert_int_equal(m->balancer->peak_ewma->decay->seconds, 10);
        text_printf(t, " -> %s", m->balancer->discovery->dst->path);
    } else {
        struct addr at = addr_of(m->forward->addr);
        char text[ADDR_TEXT_BYTES];

        assert_int_equal(m->kind_case, IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND_FORWARD);
        text_printf(t, " => %s", addr_format(&at, text));
    }
    describe_ref(t, m->metadata);
}

static void describe_http(struct text *t, const char *kind,
                          Io__Linkerd__Proxy__Outbound__HttpRoute **routes, size_t count)
{
    assert_int_equal(count, 1);
    assert_int_equal(routes[0]->n_hosts, 0);
    assert_int_equal(routes[0]->n_rules, 1);
    assert_int_equal(routes[0]->rules[0]->n_matches, 1);
    assert_string_equal(routes[0]->rules[0]->matches[0]->path->prefix, "/");
    assert_int_equal(routes[0]->rules[0]->n_filters, 0);
    assert_int_equal(routes[0]->rules[0]->backends->first_available->n_backends, 1);
    text_printf(t, "\n %s", kind);
    describe_ref(t, routes[0]->metadata);
    describe_backend(t, routes[0]->rules[0]->backends->first_available->backends[0]->backend);
}

static void describe_opaque(struct text *t,
                            const Io__Linkerd__Proxy__Outbound__ProxyProtocol__Opaque *m)
{
    const Io__Linkerd__Proxy__Outbound__OpaqueRoute__Rule *rule;

    assert_int_equal(m->n_routes, 1);
    assert_int_equal(m->routes[0]->n_rules, 1);
    rule = m->routes[0]->rules[0];
    text_str(t, "\n opaque");
    describe_ref(t, m->routes[0]->metadata);
    for (size_t i = 0; i < rule->n_filters; i++) {
        assert_int_equal(rule->filters[i]->kind_case,
                         IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__FILTER__KIND_FORBIDDEN);
        text_str(t, " forbidden");
    }
    if (rule->backends->kind_case ==
        IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__DISTRIBUTION__KIND_EMPTY) {
        text_str(t, " empty");
    } else {
        assert_int_equal(rule->backends->first_available->n_backends, 1);
        describe_backend(t, rule->backends->first_available->backends[0]->backend);
    }
}

static const char *describe(struct bytes message)
{
    static char text[4096];
    Io__Linkerd__Proxy__Outbound__OutboundPolicy *m =
        io__linkerd__proxy__outbound__outbound_policy__unpack(NULL, message.len,
                                                              (const uint8_t *)message.at);
    const Io__Linkerd__Proxy__Outbound__ProxyProtocol *p;
    struct text to;

    assert_non_null(m);
    p = m->protocol;
    text_init_fixed(&to, text, sizeof(text));
    text_str(&to, "of");
    describe_ref(&to, m->metadata);
    if (p->kind_case == IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_DETECT) {
        assert_int_equal(p->detect->timeout->seconds, 10);
        text_str(&to, " detect");
        describe_opaque(&to, p->detect->opaque);
        describe_http(&to, "http1", p->detect->http1->routes, p->detect->http1->n_routes);
        describe_http(&to, "http2", p->detect->http2->routes, p->detect->http2->n_routes);
    } else if (p->kind_case == IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_OPAQUE) {
        describe_opaque(&to, p->opaque);
    } else if (p->kind_case == IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_HTTP1) {
        describe_http(&to, "http1", p->http1->routes, p->http1->n_routes);
    } else {
        assert_int_equal(p->kind_case, IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_HTTP2);
        describe_http(&to, "http2", p->http2->routes, p->http2->n_routes);
    }
    assert_int_equal(to.err, 0);
    io__linkerd__proxy__outbound__outbound_policy__free_unpacked(m, NULL);
    return text;
}

#define assert_policy(e, a, expected)                                                              \
    assert_string_equal(describe(asker_next((e), (a))), (expected))
#define REF(port)    "core/Service/default/web:" port
#define TO_WEB(port) " -> web.default.svc.cluster.local:" port " " REF(port)
#define HTTP1(port)  "\n http1 http" TO_WEB(port)
#define HTTP2(port)  "\n http2 http" TO_WEB(port)
#define OPAQUE(port) "\n opaque opaq" TO_WEB(port)
#define DETECT(port) "of " REF(port) " detect" OPAQUE(port) HTTP1(port) HTTP2(port)

/* --- tests --------------------------------------------------------------------------------------- */

static void service_by_address_and_by_name(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    assert_int_equal(watch_addr(e, &a, "10.96.0.10:80"), GRPC_OK);
    assert_int_equal(watch_name(e, &b, WEB), GRPC_OK);
    assert_policy(e, &a, DETECT("80"));
    assert_policy(e, &b, DETECT("80"));
    asker_clear(&a);
    asker_clear(&b);
}

#define WITH_PORT(annotations, more)                                                               \
    "{apiVersion: v1, kind: Service, metadata: {name: web, annotations: {" annotations             \
    "}}, spec: {clusterIP: 10.96.0.10, ports: [{port: 80" more "}]}}"

static void protocols_of_a_port(void **state)
{
    static const struct {
        const char *manifest, *protocol;
    } cases[] = {
        {WITH_PORT("", ", appProtocol: http"), HTTP1("80")},
        {WITH_PORT("", ", appProtocol: kubernetes.io/h2c"), HTTP2("80")},
        {WITH_PORT("", ", appProtocol: linkerd.io/opaque"), OPAQUE("80")},
        {WITH_PORT("", ", appProtocol: http, nodePort: 1"), HTTP1("80")},
        {WITH_PORT("", ", appProtocol: grpc"), OPAQUE("80")},
        {WITH_PORT("config.linkerd.io/opaque-ports: '80'", ", appProtocol: http"), HTTP1("80")},
        {WITH_PORT("config.linkerd.io/opaque-ports: '80'", ""), OPAQUE("80")},
    };
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    assert_int_equal(watch_addr(e, &a, "10.96.0.10:80"), GRPC_OK);
    assert_policy(e, &a, DETECT("80"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char expected[1024];

        (void)snprintf(expected, sizeof(expected), "of " REF("80") "%s", cases[i].protocol);
        put(e, "service.yaml", cases[i].manifest);
        assert_policy(e, &a, expected);
    }
    asker_clear(&a);
}

static void default_opaque_ports(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.10, "
        "ports: [{port: 3306}]}}");
    mark(e->f);
    engines_sync(e);
    assert_int_equal(watch_addr(e, &a, "10.96.0.10:3306"), GRPC_OK);
    assert_policy(e, &a, "of " REF("3306") OPAQUE("3306"));
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web, annotations: "
        "{config.linkerd.io/opaque-ports: ''}}, "
        "spec: {clusterIP: 10.96.0.10, ports: [{port: 3306}]}}");
    assert_policy(e, &a, DETECT("3306"));
    asker_clear(&a);
}

static void undefined_port_is_forbidden(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    assert_int_equal(watch_addr(e, &a, "10.96.0.10:81"), GRPC_OK);
    assert_policy(e, &a, "of " REF("81") "\n opaque undefined-port forbidden empty");
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.10, "
        "ports: [{port: 81}]}}");
    assert_policy(e, &a, DETECT("81"));
    asker_clear(&a);
}

static void every_address_of_a_dual_stack_service(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.10, "
        "clusterIPs: "
        "[10.96.0.10, 'fd00:96::10'], ports: [{port: 80}]}}");
    mark(e->f);
    engines_sync(e);
    assert_int_equal(watch_addr(e, &a, "[fd00:96::10]:80"), GRPC_OK);
    assert_policy(e, &a, DETECT("80"));
    asker_clear(&a);
}

#define EGRESS(at)                                                                                 \
    "of egress-fallback detect\n opaque egress-fallback => " at " egress-fallback"                 \
    "\n http1 egress-fallback => " at " egress-fallback\n http2 egress-fallback => " at            \
    " egress-fallback"

static void out_of_the_cluster_goes_straight_on(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    engines_sync(e);
    assert_int_equal(watch_addr(e, &a, "192.0.2.1:443"), GRPC_OK);
    assert_int_equal(watch_addr(e, &b, "[2001:db8::1]:443"), GRPC_OK);
    assert_policy(e, &a, EGRESS("192.0.2.1:443"));
    assert_policy(e, &b, EGRESS("[2001:db8::1]:443"));
    asker_clear(&a);
    asker_clear(&b);
}

static void nobody_s_address_in_the_cluster(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pod.yaml", MESHED_POD("a", "10.1.0.1", ""));
    mark(e->f);
    engines_sync(e);
    assert_int_equal(watch_addr(e, &a, "10.1.0.1:8080"), GRPC_OK);
    assert_int_equal(asker_end(e, &a), GRPC_NOT_FOUND);
    asker_clear(&a);
    assert_int_equal(watch_addr(e, &a, "[fd00::1]:80"), GRPC_OK);
    assert_int_equal(asker_end(e, &a), GRPC_NOT_FOUND);
    asker_clear(&a);
}

static void a_service_that_goes_ends_its_watches(void **state)
{
    struct engines *e = *state;
    struct asker by_address, by_name;

    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    assert_int_equal(watch_addr(e, &by_address, "10.96.0.10:80"), GRPC_OK);
    assert_int_equal(watch_name(e, &by_name, WEB), GRPC_OK);
    (void)asker_next(e, &by_address);
    (void)asker_next(e, &by_name);
    remove_file(e->f, "service.yaml");
    assert_int_equal(asker_end(e, &by_address), GRPC_NOT_FOUND);
    assert_quiet(e, &by_name); /* a name has the defaults without a service, too */
    asker_clear(&by_address);
    asker_clear(&by_name);
}

static void names(void **state)
{
    static const char *const not_ours[] = {"",
                                           "example.com:80",
                                           "10.96.0.10:80",
                                           "web:80",
                                           "web-0.web.default.svc.cluster.local:80",
                                           "a.svc.cluster.local"};
    struct engines *e = *state;
    struct asker a;

    engines_sync(e);
    for (size_t i = 0; i < ARRAY_LEN(not_ours); i++) {
        assert_int_equal(watch_name(e, &a, not_ours[i]), GRPC_NOT_FOUND);
    }
    assert_int_equal(watch_name(e, &a, "web.default.svc.cluster.local"),
                     GRPC_OK); /* unknown, port 80 */
    assert_policy(e, &a, DETECT("80"));
    asker_clear(&a);
}

static void clients_share_a_question(void **state)
{
    struct engines *e = *state;
    struct asker all[20];
    uint64_t before;

    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    before = counted(e, "tulle_topic_encodings_total", "policy");
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_int_equal(watch_addr(e, &all[i], "10.96.0.10:80"), GRPC_OK);
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_policy(e, &all[i], DETECT("80"));
    }
    assert_int_equal(counted(e, "tulle_topics", "policy"), 1);
    assert_int_equal(counted(e, "tulle_topic_encodings_total", "policy"), before + 1);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        asker_clear(&all[i]);
    }
}

static void malformed_questions(void **state)
{
    struct engines *e = *state;
    Io__Linkerd__Proxy__Outbound__TrafficSpec m;
    Io__Linkerd__Proxy__Net__TcpAddress tcp;
    struct asker a;
    const char *why = NULL;

    engines_sync(e);
    io__linkerd__proxy__outbound__traffic_spec__init(&m);
    assert_int_equal(ask_spec(e, &a, &m), GRPC_INVALID_ARGUMENT); /* no target */
    io__linkerd__proxy__net__tcp_address__init(&tcp);
    m.target_case = IO__LINKERD__PROXY__OUTBOUND__TRAFFIC_SPEC__TARGET_ADDR;
    m.addr = &tcp;
    assert_int_equal(ask_spec(e, &a, &m), GRPC_INVALID_ARGUMENT); /* no address */
    assert_int_equal(watch_addr(e, &a, "10.96.0.10:0"), GRPC_INVALID_ARGUMENT);
    assert_int_equal(policy_watch_outbound(e->env.policy, BYTES("\xff"), &a.subscriber, &why),
                     GRPC_INVALID_ARGUMENT);
    /* source_workload "x" */
    assert_int_equal(policy_watch_outbound(e->env.policy, BYTES("\x0a\x01x"), &a.subscriber, &why),
                     GRPC_INVALID_ARGUMENT);
    assert_non_null(strstr(why, "source workload"));
    assert_int_equal(counted(e, "tulle_topics", "policy"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(service_by_address_and_by_name),
        ENGINES_TEST(protocols_of_a_port),
        ENGINES_TEST(default_opaque_ports),
        ENGINES_TEST(undefined_port_is_forbidden),
        ENGINES_TEST(every_address_of_a_dual_stack_service),
        ENGINES_TEST(out_of_the_cluster_goes_straight_on),
        ENGINES_TEST(nobody_s_address_in_the_cluster),
        ENGINES_TEST(a_service_that_goes_ends_its_watches),
        ENGINES_TEST(names),
        ENGINES_TEST(clients_share_a_question),
        ENGINES_TEST(malformed_questions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
