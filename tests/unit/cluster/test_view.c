/* SPDX-License-Identifier: Apache-2.0 */
/* Typed views over manifests as users and Kubernetes write them, and over odd ones. */
#include "fixture.h"

#include "cluster/view.h"
#include "text/yaml.h"

struct viewed {
    struct object *object;
    struct arena arena, text;
};

static void viewed_open(struct viewed *v, const char *yaml)
{
    struct yaml_document *doc = NULL;
    char problem[256] = "";

    arena_init(&v->arena, VIEW_ARENA_BYTES);
    arena_init(&v->text, 64u << 20);
    if (yaml_parse(&v->text, bytes_str(yaml), &doc, problem, sizeof(problem)) != 0 ||
        object_new(yaml_to_json(doc->root), "here:1", &v->object, problem, sizeof(problem)) != 0) {
        fail_msg("%s", problem);
    }
}

static void viewed_close(struct viewed *v)
{
    object_unref(v->object);
    arena_clear(&v->arena);
    arena_clear(&v->text);
}

static void assert_ip(const struct addr *a, const char *expected)
{
    char text[ADDR_TEXT_BYTES];

    assert_string_equal(addr_format_ip(a, text), expected);
    assert_int_equal(a->port, 0);
}

/* --- port sets ----------------------------------------------------------------------------------- */

static void port_sets_are_parsed(void **state)
{
    struct port_set s = {.count = 9};
    static const struct {
        const char *text;
        int err;
    } bad[] = {{"0", E_RANGE},   {"65536", E_RANGE}, {"1,,2", E_SYNTAX}, {"http", E_SYNTAX},
               {"5-3", E_RANGE}, {"1-", E_SYNTAX},   {"-1", E_SYNTAX},   {"1-2-3", E_SYNTAX},
               {",", E_SYNTAX},  {"1 2", E_SYNTAX},  {"80,", E_SYNTAX}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(port_set_parse(bytes_str(bad[i].text), &s), bad[i].err);
        assert_int_equal(s.count, 9);
    }
    assert_int_equal(port_set_parse(BYTES("25, 587 ,3000-3010,65535,3005"), &s), 0);
    assert_int_equal(s.count, 4); /* 3005 is in there already */
    assert_true(port_set_has(&s, 25) && port_set_has(&s, 587) && port_set_has(&s, 65535));
    assert_true(port_set_has(&s, 3000) && port_set_has(&s, 3010));
    assert_false(port_set_has(&s, 2999) || port_set_has(&s, 3011) || port_set_has(&s, 0));
    assert_int_equal(port_set_parse(BYTES(" "), &s), 0);
    assert_int_equal(s.count, 0);
}

static void port_sets_are_bounded(void **state)
{
    struct port_set s = {.count = 0};
    struct text t;

    (void)state;
    text_init(&t, 4096);
    for (unsigned i = 0; i < PORT_RANGES_MAX; i++) {
        text_printf(&t, "%s%u", i > 0 ? "," : "", 1 + 2 * i);
    }
    assert_int_equal(port_set_parse(text_bytes(&t), &s), 0);
    assert_int_equal(s.count, PORT_RANGES_MAX);
    text_str(&t, ",60000");
    assert_int_equal(port_set_parse(text_bytes(&t), &s), E_LIMIT);
    text_clear(&t);
}

/* --- service ------------------------------------------------------------------------------------- */

static void a_service_is_viewed(void **state)
{
    struct viewed v;
    struct service_view s;

    (void)state;
    viewed_open(&v,
                "apiVersion: v1\nkind: Service\n"
                "metadata: {name: web, annotations: {config.linkerd.io/opaque-ports: \"redis, "
                "7000-7002,bad-,99999\"}}\n"
                "spec:\n  clusterIP: 10.96.0.7\n  clusterIPs: [10.96.0.7, \"fd00::7\", nonsense]\n"
                "  internalTrafficPolicy: Local\n  publishNotReadyAddresses: true\n  selector: "
                "{app: web}\n  ports:\n"
                "  - {name: http, port: 80, targetPort: web, appProtocol: http}\n"
                "  - {name: redis, port: 6379, targetPort: 16379, nodePort: 30001}\n"
                "  - {name: dns, port: 53, protocol: UDP}\n  - {name: none}\n  - {port: 53}\n  - "
                "{port: 70000}\n");
    service_view_read(v.object, &v.arena, &s);
    assert_string_equal(s.type, "ClusterIP");
    assert_int_equal(s.cluster_ips_count, 2);
    assert_ip(&s.cluster_ips[0], "10.96.0.7");
    assert_ip(&s.cluster_ips[1], "fd00::7");
    assert_false(s.is_headless || s.is_external_name || s.is_cut);
    assert_true(s.is_local_only && s.publishes_not_ready);
    assert_non_null(s.selector);
    assert_int_equal(s.ports_count, 4);
    assert_string_equal(s.ports[0].target_name, "web");
    assert_int_equal(s.ports[0].target_port, 0);
    assert_string_equal(s.ports[0].app_protocol, "http");
    assert_int_equal(s.ports[1].target_port, 16379);
    assert_null(s.ports[1].target_name);
    assert_int_equal(s.ports[1].node_port, 30001);
    assert_null(s.ports[1].app_protocol);
    assert_int_equal(s.ports[2].protocol, PORT_UDP);
    assert_int_equal(s.ports[2].target_port, 53);
    assert_string_equal(s.ports[3].name, "");
    assert_ptr_equal(service_view_port(&s, 53), &s.ports[3]); /* not the UDP one */
    assert_null(service_view_port(&s, 81));
    assert_true(s.has_opaque_ports);
    assert_true(port_set_has(&s.opaque_ports, 6379) && port_set_has(&s.opaque_ports, 7001));
    assert_int_equal(s.opaque_ports.count, 2);
    viewed_close(&v);
}

static void services_without_an_address(void **state)
{
    struct viewed v;
    struct service_view s;

    (void)state;
    viewed_open(&v, "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: None, "
                    "selector: {}}}");
    service_view_read(v.object, &v.arena, &s);
    assert_true(s.is_headless);
    assert_int_equal(s.cluster_ips_count, 0);
    assert_null(s.selector);
    assert_false(s.has_opaque_ports);
    viewed_close(&v);
    viewed_open(&v, "{apiVersion: v1, kind: Service, metadata: {name: a, annotations: "
                    "{config.linkerd.io/opaque-ports: \"\"}},"
                    " spec: {type: ExternalName, externalName: example.org, clusterIP: 10.0.0.1}}");
    service_view_read(v.object, &v.arena, &s);
    assert_true(s.is_external_name);
    assert_string_equal(s.external_name, "example.org");
    assert_int_equal(s.cluster_ips_count, 0);
    assert_true(s.has_opaque_ports);
    assert_int_equal(s.opaque_ports.count, 0);
    viewed_close(&v);
    viewed_open(&v, "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: [1], status: 5}");
    service_view_read(v.object, &v.arena, &s);
    assert_int_equal(s.ports_count, 0);
    viewed_close(&v);
}

/* --- slice --------------------------------------------------------------------------------------- */

static void a_slice_is_viewed(void **state)
{
    struct viewed v;
    struct slice_view s;
    const struct slice_endpoint *e;

    (void)state;
    viewed_open(
        &v,
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nports:\n- {name: http, port: 8080, appProtocol: http}\n- {name: dns, "
        "port: 53, protocol: UDP}\n- {}\n"
        "endpoints:\n"
        "- addresses: [10.1.0.1, x]\n  targetRef: {kind: Pod, name: web-a, namespace: shop2}\n  "
        "nodeName: n1\n  zone: z1\n"
        "  hostname: web-0\n  hints: {forZones: [{name: z1}, {nope: 1}, {name: z2}]}\n"
        "- addresses: [10.1.0.2]\n  conditions: {ready: false, serving: true, terminating: true}\n"
        "  targetRef: {kind: Pod, name: web-b}\n"
        "- addresses: [10.1.0.3]\n  conditions: {ready: false}\n"
        "- addresses: [10.1.0.4]\n  conditions: {ready: null}\n");
    slice_view_read(v.object, &v.arena, &s);
    assert_string_equal(s.service, "web");
    assert_int_equal(s.type, SLICE_IPV4);
    assert_int_equal(s.endpoints_count, 4);
    e = s.endpoints;
    assert_int_equal(e[0].addresses_count, 1);
    assert_ip(&e[0].addresses[0], "10.1.0.1");
    assert_true(e[0].is_ready && e[0].is_serving && !e[0].is_terminating);
    assert_string_equal(e[0].target_kind, "Pod");
    assert_string_equal(e[0].target_ns, "shop2");
    assert_string_equal(e[0].target_name, "web-a");
    assert_string_equal(e[0].node, "n1");
    assert_string_equal(e[0].zone, "z1");
    assert_string_equal(e[0].hostname, "web-0");
    assert_int_equal(e[0].hint_zones_count, 2);
    assert_string_equal(e[0].hint_zones[1], "z2");
    assert_true(!e[1].is_ready && e[1].is_serving && e[1].is_terminating);
    assert_string_equal(e[1].target_ns, "shop");
    assert_null(e[1].hostname);
    assert_true(!e[2].is_ready && !e[2].is_serving);
    assert_null(e[2].target_name);
    assert_null(e[2].target_ns);
    assert_true(e[3].is_ready);
    assert_int_equal(s.ports_count, 3);
    assert_int_equal(slice_view_port(&s, "http")->port, 8080);
    assert_null(slice_view_port(&s, "dns"));
    assert_int_equal(slice_view_port(&s, "")->port, 0);
    viewed_close(&v);

    viewed_open(&v, "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, "
                    "addressType: FQDN,"
                    " endpoints: [{addresses: [example.org, 10.0.0.1]}]}");
    slice_view_read(v.object, &v.arena, &s);
    assert_int_equal(s.type, SLICE_FQDN);
    assert_null(s.service);
    assert_int_equal(s.endpoints[0].addresses_count, 0);
    viewed_close(&v);
}

static void a_view_is_bounded(void **state)
{
    struct viewed v;
    struct slice_view s;
    struct service_view sv;
    struct arena small;
    struct text t;

    (void)state;
    text_init(&t, 1u << 20);
    text_str(&t, "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [");
    for (unsigned i = 1; i <= VIEW_PORTS_MAX + 5; i++) {
        text_printf(&t, "{port: %u},", i);
    }
    text_str(&t, "]}}");
    viewed_open(&v, t.at);
    service_view_read(v.object, &v.arena, &sv);
    assert_true(sv.is_cut);
    assert_int_equal(sv.ports_count, VIEW_PORTS_MAX);
    arena_init(&small, 64);
    service_view_read(v.object, &small, &sv);
    assert_true(sv.is_cut);
    assert_int_equal(sv.ports_count, 0);
    viewed_close(&v);
    text_reset(&t);
    text_str(
        &t,
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, endpoints: [");
    for (unsigned i = 0; i < VIEW_ENDPOINTS_MAX + 1; i++) {
        text_str(&t, "{addresses: [10.0.0.1], nodeName: n},");
    }
    text_str(&t, "]}");
    viewed_open(&v, t.at);
    slice_view_read(v.object, &v.arena, &s);
    assert_true(s.is_cut);
    assert_int_equal(s.endpoints_count, VIEW_ENDPOINTS_MAX);
    assert_int_equal(s.endpoints[VIEW_ENDPOINTS_MAX - 1].addresses_count, 1);
    slice_view_read(v.object, &small, &s);
    assert_true(s.is_cut);
    assert_int_equal(s.endpoints_count, 0);
    viewed_close(&v);
    arena_clear(&small);
    text_clear(&t);
}

/* --- pod ----------------------------------------------------------------------------------------- */

static const char web_pod[] =
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web-a\n  annotations:\n"
    "    config.linkerd.io/opaque-ports: \"redis,9000\"\n    config.linkerd.io/skip-inbound-ports: "
    "\"22,8000-8001\"\n"
    "    config.linkerd.io/default-inbound-policy: deny\n"
    "spec:\n  nodeName: n1\n  serviceAccountName: web\n  hostname: web-0\n  subdomain: web\n"
    "  initContainers:\n"
    "  - name: linkerd-proxy\n    ports: [{name: linkerd-proxy, containerPort: 4143}, {name: "
    "linkerd-admin, containerPort: 4191}]\n"
    "    env:\n    - {name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR, value: \"0.0.0.0:4143\"}\n"
    "    - {name: _pod_ip, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n"
    "    livenessProbe: {httpGet: {path: /live, port: 4191}}\n"
    "  containers:\n"
    "  - name: web\n    ports: [{name: http, containerPort: 8080, hostPort: 80}, {name: redis, "
    "containerPort: 6379},"
    " {name: http, containerPort: 53, protocol: UDP}, {name: none}]\n"
    "    readinessProbe: {httpGet: {path: \"/ready?full=1\", port: http}}\n"
    "    livenessProbe: {httpGet: {path: health, port: 8080}}\n"
    "    startupProbe: {httpGet: {port: 8080}}\n"
    "  - name: side\n    readinessProbe: {tcpSocket: {port: 1}}\n    livenessProbe: {httpGet: "
    "{port: http, path: /x}}\n"
    "status:\n  phase: Running\n  hostIP: 192.168.0.1\n  podIP: 10.1.0.1\n  podIPs: [{ip: "
    "10.1.0.1}, {ip: \"fd00::1\"}]\n";

static void a_pod_is_viewed(void **state)
{
    struct viewed v;
    struct pod_view p;
    uint16_t port = 0;

    (void)state;
    viewed_open(&v, web_pod);
    pod_view_read(v.object, &v.arena, &p);
    assert_int_equal(p.ips_count, 2);
    assert_ip(&p.ips[0], "10.1.0.1");
    assert_ip(&p.ips[1], "fd00::1");
    assert_ip(&p.host_ip, "192.168.0.1");
    assert_string_equal(p.phase, "Running");
    assert_string_equal(p.node, "n1");
    assert_string_equal(p.service_account, "web");
    assert_string_equal(p.hostname, "web-0");
    assert_string_equal(p.subdomain, "web");
    assert_false(p.is_host_network || p.is_terminating || p.is_cut);
    assert_int_equal(p.containers_count, 3);
    assert_true(p.containers[0].is_init && !p.containers[1].is_init);
    assert_string_equal(p.containers[1].name, "web");
    assert_int_equal(p.containers[1].ports_count, 3);
    assert_int_equal(p.containers[1].ports[0].host_port, 80);
    assert_int_equal(p.containers[1].ports[2].protocol, PORT_UDP);
    assert_true(pod_view_port(&p, "http", &port));
    assert_int_equal(port, 8080);
    assert_false(pod_view_port(&p, "", &port));
    assert_false(pod_view_port(&p, "nope", &port));
    /* In the order of the containers; of each liveness, readiness, startup. The side container has no
     * port of that name. */
    assert_int_equal(p.probes_count, 4);
    assert_int_equal(p.probes[0].port, 4191);
    assert_true(bytes_eq(p.probes[0].path, BYTES("/live")));
    assert_true(bytes_eq(p.probes[1].path, BYTES("/health")));
    assert_int_equal(p.probes[2].port, 8080);
    assert_true(bytes_eq(p.probes[2].path, BYTES("/ready")));
    assert_true(bytes_eq(p.probes[3].path, BYTES("/")));
    assert_true(p.has_opaque_ports);
    assert_true(port_set_has(&p.opaque_ports, 6379) && port_set_has(&p.opaque_ports, 9000));
    assert_true(port_set_has(&p.skip_inbound_ports, 8001));
    assert_string_equal(p.default_inbound_policy, "deny");
    assert_string_equal(pod_proxy_env(v.object, "LINKERD2_PROXY_INBOUND_LISTEN_ADDR"),
                        "0.0.0.0:4143");
    assert_null(pod_proxy_env(v.object, "_pod_ip"));
    assert_null(pod_proxy_env(v.object, "OTHER"));
    assert_true(pod_has_traffic(v.object));
    viewed_close(&v);
}

static void odd_pods_are_viewed(void **state)
{
    struct viewed v;
    struct pod_view p;
    struct arena small;

    (void)state;
    viewed_open(&v, "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: 5, "
                    "initContainers: [1, {ports: x}]},"
                    " status: {podIPs: {}, hostIP: 7}}");
    pod_view_read(v.object, &v.arena, &p);
    assert_int_equal(p.ips_count, 0);
    assert_true(addr_is_none(&p.host_ip));
    assert_string_equal(p.phase, "");
    assert_null(p.node);
    assert_string_equal(p.service_account, "default");
    assert_int_equal(p.containers_count, 2);
    assert_string_equal(p.containers[1].name, "");
    assert_null(pod_proxy_env(v.object, "X"));
    arena_init(&small, 16);
    pod_view_read(v.object, &small, &p);
    assert_true(p.is_cut);
    assert_int_equal(p.containers_count, 0);
    arena_clear(&small);
    viewed_close(&v);
    viewed_open(
        &v,
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: true, containers: ["
        "{name: linkerd-proxy, env: [{name: A, value: b}], ports: [{containerPort: 9}]}]}, status: "
        "{phase: Failed}}");
    pod_view_read(v.object, &v.arena, &p);
    assert_true(p.is_host_network);
    assert_int_equal(p.containers[0].ports[0].host_port, 9);
    assert_string_equal(pod_proxy_env(v.object, "A"), "b");
    assert_false(pod_has_traffic(v.object));
    viewed_close(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(port_sets_are_parsed), cmocka_unit_test(port_sets_are_bounded),
        cmocka_unit_test(a_service_is_viewed),  cmocka_unit_test(services_without_an_address),
        cmocka_unit_test(a_slice_is_viewed),    cmocka_unit_test(a_view_is_bounded),
        cmocka_unit_test(a_pod_is_viewed),      cmocka_unit_test(odd_pods_are_viewed),
    };

    log_init(2, LOG_FORMAT_PLAIN);
    if (log_set_filter("off") != 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
