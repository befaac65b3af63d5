/* SPDX-License-Identifier: Apache-2.0 */
/* InboundServerPolicies.WatchPort: Servers, default policies, probes (wire 3.4, 9.1, 9.4). */
#include "engines.h"

static enum grpc_status watch_port(struct engines *e, struct asker *a, const char *workload,
                                   unsigned port)
{
    Io__Linkerd__Proxy__Inbound__PortSpec m;
    uint8_t packed[1024];
    const char *why = "";
    size_t len;

    io__linkerd__proxy__inbound__port_spec__init(&m);
    m.workload = (char *)(uintptr_t)workload;
    m.port = port;
    len = io__linkerd__proxy__inbound__port_spec__pack(&m, packed);
    asker_init(a);
    return policy_watch_port(e->env.policy, bytes_of(packed, len), &a->subscriber, &why);
}

#define POD_A "{\"ns\":\"default\",\"pod\":\"a\"}\n"

static void describe_authz(struct text *t, const Io__Linkerd__Proxy__Inbound__Authz *m)
{
    char text[ADDR_TEXT_BYTES];

    assert_int_equal(m->metadata->kind_case, IO__LINKERD__PROXY__META__METADATA__KIND_DEFAULT);
    text_printf(t, " [%s", m->metadata->default_);
    assert_int_equal(m->n_labels, 3);
    for (size_t i = 0; i < m->n_labels; i++) {
        const char *expected = strcmp(m->labels[i]->key, "group") == 0  ? ""
                               : strcmp(m->labels[i]->key, "kind") == 0 ? "default"
                                                                        : m->metadata->default_;

        assert_string_equal(m->labels[i]->value, expected);
    }
    assert_true(m->n_networks > 0);
    for (size_t i = 0; i < m->n_networks; i++) {
        Io__Linkerd__Proxy__Net__TcpAddress holder;
        struct addr ip;

        io__linkerd__proxy__net__tcp_address__init(&holder);
        holder.ip = m->networks[i]->net->ip;
        ip = addr_of(&holder);
        text_printf(t, " %s/%u", addr_format_ip(&ip, text), m->networks[i]->net->prefix_len);
    }
    if (m->authentication->permit_case ==
        IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_UNAUTHENTICATED) {
        text_str(t, " anybody]");
    } else {
        assert_int_equal(m->authentication->meshtls->clients_case,
                         IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_MESH_TLS__CLIENTS_IDENTITIES);
        assert_int_equal(m->authentication->meshtls->identities->n_suffixes, 1);
        assert_int_equal(m->authentication->meshtls->identities->suffixes[0]->n_parts, 0);
        text_str(t, " identified]");
    }
}

static void describe_route(struct text *t, const Io__Linkerd__Proxy__Inbound__HttpRoute *m)
{
    text_printf(t, "\n %s", m->metadata->default_);
    assert_int_equal(m->n_rules, 1);
    for (size_t i = 0; i < m->rules[0]->n_matches; i++) {
        const Io__Linkerd__Proxy__HttpRoute__HttpRouteMatch *match = m->rules[0]->matches[i];

        if (match->path->kind_case == IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_EXACT) {
            assert_int_equal(match->method->registered,
                             IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__REGISTERED__GET);
            text_printf(t, " GET=%s", match->path->exact);
        } else {
            assert_null(match->method);
            text_printf(t, " %s*", match->path->prefix);
        }
    }
    for (size_t i = 0; i < m->n_authorizations; i++) {
        describe_authz(t, m->authorizations[i]);
    }
}

static void describe_routes(struct text *t, Io__Linkerd__Proxy__Inbound__HttpRoute **routes,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        describe_route(t, routes[i]);
    }
}

static void describe_protocol(struct text *t, const Io__Linkerd__Proxy__Inbound__ProxyProtocol *m)
{
    switch ((int)m->kind_case) {
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_DETECT:
        assert_int_equal(m->detect->timeout->seconds, 10);
        text_str(t, "detect");
        describe_routes(t, m->detect->http_routes, m->detect->n_http_routes);
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_HTTP1:
        text_str(t, "http1");
        describe_routes(t, m->http1->routes, m->http1->n_routes);
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_HTTP2:
        text_str(t, "http2");
        describe_routes(t, m->http2->routes, m->http2->n_routes);
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_GRPC:
        assert_int_equal(m->grpc->n_routes, 1);
        assert_string_equal(m->grpc->routes[0]->metadata->default_, "default");
        text_str(t, "grpc");
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_OPAQUE:
        text_str(t, "opaque");
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_TLS:
        text_str(t, "tls");
        break;
    default:
        fail_msg("no protocol");
    }
}

static const char *describe(struct bytes message)
{
    static char text[4096];
    Io__Linkerd__Proxy__Inbound__Server *m =
        io__linkerd__proxy__inbound__server__unpack(NULL, message.len, (const uint8_t *)message.at);
    struct text to;

    assert_non_null(m);
    assert_int_equal(m->n_server_ips, 0);
    text_init_fixed(&to, text, sizeof(text));
    for (size_t i = 0; i < m->n_labels; i++) {
        text_printf(&to, "%s=%s ", m->labels[i]->key, m->labels[i]->value);
    }
    describe_protocol(&to, m->protocol);
    text_str(&to, "\n");
    for (size_t i = 0; i < m->n_authorizations; i++) {
        describe_authz(&to, m->authorizations[i]);
    }
    io__linkerd__proxy__inbound__server__free_unpacked(m, NULL);
    return text;
}

#define assert_server(e, a, expected)                                                              \
    assert_string_equal(describe(asker_next((e), (a))), (expected))

#define ANYBODY    " [all-unauthenticated 0.0.0.0/0 ::/0 anybody]"
#define IDENTIFIED " [all-authenticated 0.0.0.0/0 ::/0 identified]"
#define DEFAULT(policy, authz)                                                                     \
    "group= kind=default name=" policy " detect\n default /*" authz "\n" authz

static void pod_open(struct engines *e, const char *pod)
{
    put(e, "pod.yaml", pod);
    mark(e->f);
    engines_sync(e);
}

static void default_of_the_cluster(void **state)
{
    struct engines *e = *state;
    struct asker a;

    pod_open(e, MESHED_POD("a", "10.1.0.1", ""));
    assert_int_equal(watch_port(e, &a, POD_A, 8080), GRPC_OK);
    assert_server(e, &a, DEFAULT("all-unauthenticated", ANYBODY));
    assert_quiet(e, &a);
    asker_clear(&a);
}

static void default_of_the_pod(void **state)
{
    struct engines *e = *state;
    struct asker a;

    pod_open(e, MESHED_POD("a", "10.1.0.1",
                           ", annotations: {config.linkerd.io/default-inbound-policy: "
                           "cluster-authenticated}"));
    assert_int_equal(watch_port(e, &a, POD_A, 8080), GRPC_OK);
    assert_server(e, &a,
                  DEFAULT("cluster-authenticated",
                          " [cluster-authenticated 10.0.0.0/8 fd00::/8 identified]"));
    put(e, "pod.yaml",
        MESHED_POD("a", "10.1.0.1",
                   ", annotations: {config.linkerd.io/default-inbound-policy: deny}"));
    assert_server(e, &a, DEFAULT("deny", ""));
    put(e, "pod.yaml",
        MESHED_POD("a", "10.1.0.1",
                   ", annotations: {config.linkerd.io/default-inbound-policy: audit}"));
    assert_server(e, &a, DEFAULT("audit", " [audit 0.0.0.0/0 ::/0 anybody]"));
    put(e, "pod.yaml",
        MESHED_POD("a", "10.1.0.1",
                   ", annotations: {config.linkerd.io/default-inbound-policy: nonsense}"));
    assert_server(e, &a, DEFAULT("all-unauthenticated", ANYBODY));
    asker_clear(&a);
}

static void ports_that_require_identity(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    pod_open(
        e, MESHED_POD(
               "a", "10.1.0.1",
               ", annotations: {config.linkerd.io/proxy-require-identity-inbound-ports: '8080'}"));
    assert_int_equal(watch_port(e, &a, POD_A, 8080), GRPC_OK);
    assert_int_equal(watch_port(e, &b, POD_A, 8081), GRPC_OK);
    assert_server(e, &a, DEFAULT("all-authenticated", IDENTIFIED));
    assert_server(e, &b, DEFAULT("all-unauthenticated", ANYBODY));
    asker_clear(&a);
    asker_clear(&b);
}

/* The cluster's opaque ports are not the pod's: the injector writes those into its annotation. */
static void only_the_annotation_makes_a_port_opaque(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    pod_open(
        e, MESHED_POD("a", "10.1.0.1", ", annotations: {config.linkerd.io/opaque-ports: '9000'}"));
    assert_int_equal(watch_port(e, &a, POD_A, 9000), GRPC_OK);
    assert_int_equal(watch_port(e, &b, POD_A, 3306), GRPC_OK);
    assert_server(e, &a, "group= kind=default name=all-unauthenticated opaque\n" ANYBODY);
    assert_server(e, &b, DEFAULT("all-unauthenticated", ANYBODY));
    asker_clear(&a);
    asker_clear(&b);
}

static void probes_are_let_in(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    pod_open(
        e,
        "{apiVersion: v1, kind: Pod, metadata: {name: a, annotations: "
        "{config.linkerd.io/default-inbound-policy: deny}}, spec: {containers: [{name: app, ports: "
        "[{name: http, containerPort: 8080}], livenessProbe: {httpGet: {path: '/live?x=1', port: "
        "http}}, "
        "readinessProbe: {httpGet: {path: /ready, port: 8080}}, startupProbe: {httpGet: {path: "
        "/ready, "
        "port: 8080}}}]}, status: {phase: Running, podIP: 10.1.0.1}}");
    assert_int_equal(watch_port(e, &a, POD_A, 8080), GRPC_OK);
    assert_int_equal(watch_port(e, &b, POD_A, 8081), GRPC_OK);
    assert_server(e, &a,
                  "group= kind=default name=deny detect\n probe GET=/live GET=/ready [probe "
                  "0.0.0.0/0 anybody]\n "
                  "default /*\n");
    assert_server(e, &b, DEFAULT("deny", ""));
    asker_clear(&a);
    asker_clear(&b);
}

#define SERVER(name, created, more)                                                                \
    "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: " name                 \
    ", creationTimestamp: '" created "'}, spec: {podSelector: {matchLabels: {app: web}}, " more    \
    "}}\n"
#define OF_SERVER(name, protocol) "group=policy.linkerd.io kind=server name=" name " " protocol

static void server_decides(void **state)
{
    static const struct {
        const char *name, *protocol;
    } cases[] = {
        {"unknown", "detect\n default /*" IDENTIFIED},
        {"HTTP/1", "http1\n default /*" IDENTIFIED},
        {"HTTP/2", "http2\n default /*" IDENTIFIED},
        {"gRPC", "grpc"},
        {"opaque", "opaque"},
        {"TLS", "tls"},
    };
    struct engines *e = *state;
    struct asker a;

    pod_open(e, MESHED_POD("a", "10.1.0.1", ""));
    assert_int_equal(watch_port(e, &a, POD_A, 8080), GRPC_OK);
    (void)asker_next(e, &a);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char manifest[512], expected[512];

        (void)snprintf(manifest, sizeof(manifest),
                       SERVER("s", "2026-01-01T00:00:00Z",
                              "port: http, accessPolicy: all-authenticated, proxyProtocol: %s"),
                       cases[i].name);
        (void)snprintf(expected, sizeof(expected), OF_SERVER("s", "%s\n") IDENTIFIED,
                       cases[i].protocol);
        put(e, "server.yaml", manifest);
        assert_server(e, &a, expected);
    }
    /* Without an access policy nobody may come. */
    put(e, "server.yaml", SERVER("s", "2026-01-01T00:00:00Z", "port: 8080"));
    assert_server(e, &a, OF_SERVER("s", "detect\n default /*\n"));
    asker_clear(&a);
}

static void oldest_server_that_matches_wins(void **state)
{
    struct engines *e = *state;
    struct asker a;

    pod_open(e, MESHED_POD("a", "10.1.0.1", ""));
    put(e, "s1.yaml", SERVER("young", "2026-02-01T00:00:00Z", "port: 8080, proxyProtocol: opaque"));
    put(e, "s2.yaml", SERVER("b-old", "2026-01-01T00:00:00Z", "port: 8080, proxyProtocol: opaque"));
    put(e, "s3.yaml", SERVER("a-old", "2026-01-01T00:00:00Z", "port: 8080, proxyProtocol: opaque"));
    put(e, "s4.yaml",
        SERVER("other-port", "2025-01-01T00:00:00Z", "port: 8081, proxyProtocol: opaque"));
    put(e, "s5.yaml",
        "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: other-pod, "
        "creationTimestamp: "
        "'2025-01-01T00:00:00Z'}, spec: {podSelector: {matchLabels: {app: db}}, port: 8080}}");
    mark(e->f);
    assert_int_equal(watch_port(e, &a, POD_A, 8080), GRPC_OK);
    assert_server(e, &a, OF_SERVER("a-old", "opaque\n"));
    remove_file(e->f, "s3.yaml");
    assert_server(e, &a, OF_SERVER("b-old", "opaque\n"));
    asker_clear(&a);
}

static void machine_outside_the_cluster(void **state)
{
    struct engines *e = *state;
    struct asker a;

    pod_open(e, "{apiVersion: workload.linkerd.io/v1beta1, kind: ExternalWorkload, metadata: "
                "{name: vm, labels: "
                "{app: vm}}, spec: {ports: [{name: api, port: 9000}]}}");
    assert_int_equal(watch_port(e, &a, "{\"ns\":\"default\",\"external_workload\":\"vm\"}", 9000),
                     GRPC_OK);
    assert_server(e, &a, DEFAULT("all-unauthenticated", ANYBODY));
    put(e, "server.yaml",
        "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: vm}, spec: "
        "{externalWorkloadSelector: {matchLabels: {app: vm}}, port: api, proxyProtocol: opaque}}");
    assert_server(e, &a, OF_SERVER("vm", "opaque\n"));
    asker_clear(&a);
}

static void unknown_pods_and_those_that_go(void **state)
{
    struct engines *e = *state;
    struct asker a;

    pod_open(e, MESHED_POD("a", "10.1.0.1", ""));
    assert_int_equal(watch_port(e, &a, "{\"ns\":\"default\",\"pod\":\"ghost\"}", 80), GRPC_OK);
    assert_int_equal(asker_end(e, &a), GRPC_NOT_FOUND);
    asker_clear(&a);
    assert_int_equal(watch_port(e, &a, "default:a", 80), GRPC_OK);
    (void)asker_next(e, &a);
    remove_file(e->f, "pod.yaml");
    assert_int_equal(asker_end(e, &a), GRPC_NOT_FOUND);
    asker_clear(&a);
}

static void malformed_questions(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *why = NULL;

    engines_sync(e);
    assert_int_equal(watch_port(e, &a, "", 80), GRPC_INVALID_ARGUMENT);
    assert_int_equal(watch_port(e, &a, "{\"ns\":\"default\"}", 80), GRPC_INVALID_ARGUMENT);
    assert_int_equal(watch_port(e, &a, POD_A, 0), GRPC_INVALID_ARGUMENT);
    assert_int_equal(watch_port(e, &a, POD_A, 65536), GRPC_INVALID_ARGUMENT);
    assert_int_equal(policy_watch_port(e->env.policy, BYTES("\xff"), &a.subscriber, &why),
                     GRPC_INVALID_ARGUMENT);
    assert_int_equal(counted(e, "tulle_topics", "policy"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(default_of_the_cluster),
        ENGINES_TEST(default_of_the_pod),
        ENGINES_TEST(ports_that_require_identity),
        ENGINES_TEST(only_the_annotation_makes_a_port_opaque),
        ENGINES_TEST(probes_are_let_in),
        ENGINES_TEST(server_decides),
        ENGINES_TEST(oldest_server_that_matches_wins),
        ENGINES_TEST(machine_outside_the_cluster),
        ENGINES_TEST(unknown_pods_and_those_that_go),
        ENGINES_TEST(malformed_questions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
