/* SPDX-License-Identifier: Apache-2.0 */
/* Destination.Get: every field of an endpoint, changes one by one, one encoding for all (wire 3.2, 11.1). */
#include "engines.h"

static void get(struct engines *e, struct asker *a, const char *path)
{
    assert_int_equal(ask(e, destination_get, a, path, TOKEN), GRPC_OK);
}

static enum grpc_status refused(struct engines *e, const char *path)
{
    struct asker a;

    return ask(e, destination_get, &a, path, TOKEN);
}

#define TWO_PODS MESHED_POD("a", "10.1.0.1", "") "---\n" MESHED_POD("b", "10.1.0.2", "")
#define TWO      OF_POD("10.1.0.1", "a") ", " OF_POD("10.1.0.2", "b")

static void web_open(struct engines *e)
{
    put(e, "pods.yaml", TWO_PODS);
    put(e, "slice.yaml", WEB_SLICE(TWO));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
}

/* --- what an endpoint says ----------------------------------------------------------------------- */

static void the_first_message_is_complete(void **state)
{
    struct engines *e = *state;
    struct asker a;

    web_open(e);
    get(e, &a, WEB);
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a") MESHED_LINE("10.1.0.2:8080", "b"));
    assert_quiet(e, &a);
    asker_clear(&a);
}

static void nothing_is_answered_before_the_cluster_is_known(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    put(e, "pods.yaml", TWO_PODS);
    put(e, "slice.yaml", WEB_SLICE(TWO));
    get(e, &a, WEB);
    assert_false(destination_is_synced(e->env.destination));
    assert_int_equal(a.count, 0);
    put(e, "service.yaml", WEB_SERVICE);
    engines_sync(e);
    /* Whichever manifests the first scan met: both askers end up with the same. */
    WAIT_UNTIL(e->f, a.ended || a.count > 0);
    mark(e->f);
    if (!a.ended) {
        assert_update(e, &a,
                      ADD MESHED_LINE("10.1.0.1:8080", "a") MESHED_LINE("10.1.0.2:8080", "b"));
    }
    get(e, &b, WEB);
    assert_update(e, &b, ADD MESHED_LINE("10.1.0.1:8080", "a") MESHED_LINE("10.1.0.2:8080", "b"));
    asker_clear(&a);
    asker_clear(&b);
}

/* Each of these changes one thing about pod a and says how its line changes. */
static void endpoint_case(struct engines *e, const char *pod, const char *line)
{
    struct asker a;
    char expected[1024];

    put(e, "pods.yaml", pod);
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.1", "a")));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    (void)snprintf(expected, sizeof(expected), ADD " 10.1.0.1:8080 10000 %s\n", line);
    assert_update(e, &a, expected);
    asker_clear(&a);
}

static void pod_without_a_proxy(void **state)
{
    endpoint_case(*state, PLAIN_POD("a", "10.1.0.1"),
                  "pod=a serviceaccount=default zone_locality=unknown");
}

static void pod_of_another_control_plane_has_no_identity(void **state)
{
    endpoint_case(*state,
                  "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: "
                  "{linkerd.io/control-plane-ns: other}}, "
                  "spec: {containers: [" PROXY_CONTAINER
                  "]}, status: {phase: Running, podIP: 10.1.0.1}}",
                  "h2 via=4143 ping pod=a serviceaccount=default control_plane_ns=other "
                  "zone_locality=unknown");
}

static void skipped_port_is_plain(void **state)
{
    endpoint_case(*state,
                  MESHED_POD("a", "10.1.0.1",
                             ", annotations: {config.linkerd.io/skip-inbound-ports: '8080'}"),
                  "pod=a serviceaccount=web control_plane_ns=linkerd zone_locality=unknown");
}

static void annotated_port_is_opaque(void **state)
{
    endpoint_case(
        *state,
        MESHED_POD("a", "10.1.0.1", ", annotations: {config.linkerd.io/opaque-ports: '8080'}"),
        WEB_ID " opaque via=4143 ping pod=a serviceaccount=web control_plane_ns=linkerd "
               "zone_locality=unknown");
}

static void owner_is_the_deployment(void **state)
{
    endpoint_case(*state,
                  MESHED_POD("a", "10.1.0.1",
                             ", ownerReferences: [{kind: ReplicaSet, name: web-5d4, controller: "
                             "true}]") "---\n"
                                       "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: "
                                       "web-5d4, "
                                       "ownerReferences: [{kind: Deployment, name: web}]}}",
                  WEB_ID " h2 via=4143 ping pod=a deployment=web serviceaccount=web "
                         "control_plane_ns=linkerd "
                         "zone_locality=unknown");
}

static void job_has_a_label_of_its_own(void **state)
{
    endpoint_case(
        *state, MESHED_POD("a", "10.1.0.1", ", ownerReferences: [{kind: Job, name: once}]"),
        WEB_ID " h2 via=4143 ping pod=a k8s_job=once serviceaccount=web control_plane_ns=linkerd "
               "zone_locality=unknown");
}

static void server_makes_a_port_opaque(void **state)
{
    struct engines *e = *state;
    struct asker a;

    web_open(e);
    get(e, &a, WEB);
    (void)asker_next(e, &a);
    put(e, "server.yaml",
        "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: web}, spec: "
        "{podSelector: "
        "{matchLabels: {app: web}}, port: http, proxyProtocol: opaque}}");
    assert_non_null(strstr(describe_update(asker_next(e, &a)), " opaque via=4143 ping pod=b"));
    remove_file(e->f, "server.yaml");
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a") MESHED_LINE("10.1.0.2:8080", "b"));
    asker_clear(&a);
}

static void default_opaque_port_and_the_proxy_s_own(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pods.yaml", TWO_PODS);
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: db, port: "
        "3306}, "
        "{name: admin, port: 4191}]}}");
    put(e, "slice.yaml",
        SLICE("web-4", "web", "IPv4", "{name: db, port: 3306}, {name: admin, port: 4191}",
              OF_POD("10.1.0.1", "a")));
    mark(e->f);
    engines_sync(e);
    get(e, &a, "web.default.svc.cluster.local:3306");
    assert_non_null(strstr(describe_update(asker_next(e, &a)), " opaque via=4143"));
    asker_clear(&a);
    get(e, &a, "web.default.svc.cluster.local:4191");
    assert_update(
        e, &a,
        ADD " 10.1.0.1:4191 10000 " WEB_ID
            " h2 ping pod=a serviceaccount=web control_plane_ns=linkerd zone_locality=unknown\n");
    asker_clear(&a);
}

static void options_turn_hints_off(void **state)
{
    struct engines *e = *state;
    struct asker a;

    e->env.h2_upgrade = false;
    e->env.transport_header = false;
    web_open(e);
    get(e, &a, WEB);
    assert_non_null(strstr(describe_update(asker_next(e, &a)), WEB_ID " any ping pod=a"));
    asker_clear(&a);
}

/* Its proxy would be spoken to in vain, and in clear text it might refuse. */
static void meshed_pod_without_a_proxy_is_left_out(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "bad.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: c, labels: {linkerd.io/control-plane-ns: "
        "linkerd}}, "
        "spec: {containers: [{name: app}]}, status: {phase: Running, podIP: 10.1.0.3}}");
    put(e, "pods.yaml", TWO_PODS);
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.3", "c") ", " OF_POD("10.1.0.1", "a")));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a"));
    put(e, "bad.yaml", MESHED_POD("c", "10.1.0.3", ""));
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.3:8080", "c"));
    asker_clear(&a);
}

static void machine_outside_the_cluster(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "w.yaml",
        "{apiVersion: workload.linkerd.io/v1beta1, kind: ExternalWorkload, metadata: {name: vm}, "
        "spec: {meshTLS: "
        "{identity: 'spiffe://root/vm', serverName: vm.example}, workloadIPs: [{ip: 192.0.2.7}], "
        "ports: [{name: linkerd-proxy, port: 4999}]}}");
    put(e, "slice.yaml",
        WEB_SLICE("{addresses: [192.0.2.7], targetRef: {kind: ExternalWorkload, name: vm}}"));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_update(e, &a,
                  ADD " 192.0.2.7:8080 10000 id=spiffe://root/vm sni=vm.example h2 via=4999 ping "
                      "external_workload=vm zone_locality=unknown\n");
    asker_clear(&a);
}

static void service_of_another_cluster(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web, labels: "
        "{mirror.linkerd.io/cluster-name: east}, "
        "annotations: {mirror.linkerd.io/remote-svc-fq-name: web.shop.svc.cluster.local}}, "
        "spec: {ports: [{name: http, port: 80}]}}");
    put(e, "slice.yaml",
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: "
        "{name: web-1, labels: "
        "{kubernetes.io/service-name: web}, annotations: {mirror.linkerd.io/remote-svc-fq-name: "
        "web.shop.svc.cluster.local, mirror.linkerd.io/remote-gateway-identity: gateway.id}}, "
        "ports: [{name: http, port: 4143}], endpoints: [{addresses: [192.0.2.9]}]}");
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_update(
        e, &a,
        "add service=web namespace=default target_cluster=east target_service=web "
        "target_service_namespace=shop\n 192.0.2.9:4143 10000 id=gateway.id sni=gateway.id h2 ping "
        "authority=web.shop.svc.cluster.local:80\n");
    asker_clear(&a);
}

/* --- which endpoints ----------------------------------------------------------------------------- */

static void named_target_is_resolved_by_the_slice(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pods.yaml", TWO_PODS);
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: api, port: "
        "80, "
        "targetPort: grpc}]}}");
    put(e, "slice.yaml",
        SLICE("web-4", "web", "IPv4", "{name: other, port: 1}, {name: api, port: 9000}", TWO));
    mark(e->f);
    engines_sync(e);
    get(e, &a, "web.default.svc.cluster.local"); /* port 80 */
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:9000", "a") MESHED_LINE("10.1.0.2:9000", "b"));
    asker_clear(&a);
    get(e, &a, "web.default.svc.cluster.local:7000"); /* not listed: the pods' own */
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:7000", "a") MESHED_LINE("10.1.0.2:7000", "b"));
    asker_clear(&a);
}

static void not_ready_and_unknown_pods_are_left_out(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pods.yaml", TWO_PODS);
    put(e, "slice.yaml",
        WEB_SLICE(OF_POD("10.1.0.1",
                         "a") ", {addresses: [10.1.0.2], conditions: {ready: false}, targetRef: "
                              "{kind: Pod, name: b}}, " OF_POD("10.1.0.9", "ghost")));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a"));
    put(e, "ghost.yaml", MESHED_POD("ghost", "10.1.0.9", ""));
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.9:8080", "ghost"));
    remove_file(e->f, "ghost.yaml");
    assert_update(e, &a, "remove\n 10.1.0.9:8080\n");
    asker_clear(&a);
}

static void ipv4_is_preferred(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pods.yaml", TWO_PODS);
    put(e, "service.yaml", WEB_SERVICE);
    put(e, "six.yaml",
        SLICE("web-6", "web", "IPv6", "{name: http, port: 8080}", OF_POD("'fd00::1'", "a")));
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_update(e, &a, ADD MESHED_LINE("[fd00::1]:8080", "a"));
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.1", "a")));
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a"));
    assert_update(e, &a, "remove\n [fd00::1]:8080\n");
    asker_clear(&a);
}

static void host_name_picks_one(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pods.yaml", TWO_PODS);
    put(e, "service.yaml", WEB_SERVICE);
    put(e, "slice.yaml",
        WEB_SLICE("{addresses: [10.1.0.1], hostname: web-0, targetRef: {kind: Pod, name: a}}, "
                  "{addresses: [10.1.0.2], hostname: web-1, targetRef: {kind: Pod, name: b}}"));
    mark(e->f);
    engines_sync(e);
    get(e, &a, "web-1.web.default.svc.cluster.local:80");
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.2:8080", "b"));
    asker_clear(&a);
}

#define NODE(name, zone)                                                                           \
    "{apiVersion: v1, kind: Node, metadata: {name: " name                                          \
    ", labels: {topology.kubernetes.io/zone: " zone "}}}\n"
#define IN_ZONE(ip, pod, zone)                                                                     \
    "{addresses: [" ip "], zone: " zone ", hints: {forZones: [{name: " zone                        \
    "}]}, targetRef: {kind: Pod, name: " pod "}}"

static void hints_keep_traffic_in_its_zone(void **state)
{
    struct engines *e = *state;
    struct asker a, elsewhere;

    put(e, "nodes.yaml", NODE("n1", "east") "---\n" NODE("n2", "north"));
    put(e, "pods.yaml", TWO_PODS);
    put(e, "service.yaml", WEB_SERVICE);
    put(e, "slice.yaml",
        WEB_SLICE(IN_ZONE("10.1.0.1", "a", "east") ", " IN_ZONE("10.1.0.2", "b", "west")));
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_int_equal(ask(e, destination_get, &elsewhere, WEB, "{\"nodeName\":\"n2\"}"), GRPC_OK);
    assert_update(e, &a,
                  ADD " 10.1.0.1:8080 10000 " WEB_ID " h2 via=4143 ping pod=a serviceaccount=web "
                      "control_plane_ns=linkerd zone=east zone_locality=local\n");
    /* No endpoint serves this zone, so all of them do. */
    assert_update(e, &elsewhere,
                  ADD " 10.1.0.1:8080 10000 " WEB_ID " h2 via=4143 ping pod=a serviceaccount=web "
                      "control_plane_ns=linkerd zone=east zone_locality=remote\n"
                      " 10.1.0.2:8080 10000 " WEB_ID " h2 via=4143 ping pod=b serviceaccount=web "
                      "control_plane_ns=linkerd zone=west zone_locality=remote\n");
    /* One without hints: none count. */
    put(e, "slice.yaml", WEB_SLICE(IN_ZONE("10.1.0.1", "a", "east") ", " OF_POD("10.1.0.2", "b")));
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.2:8080", "b"));
    asker_clear(&a);
    asker_clear(&elsewhere);
}

static void a_node_that_moves_ends_its_clients(void **state)
{
    struct engines *e = *state;
    struct asker moved, stays;

    put(e, "n1.yaml", NODE("n1", "east"));
    put(e, "n2.yaml", NODE("n2", "east"));
    web_open(e);
    get(e, &moved, WEB);
    assert_int_equal(ask(e, destination_get, &stays, WEB, "{\"nodeName\":\"n2\"}"), GRPC_OK);
    (void)asker_next(e, &moved);
    (void)asker_next(e, &stays);
    assert_int_equal(counted(e, "tulle_topics", "destination"), 1);
    put(e, "n1.yaml", NODE("n1", "west"));
    assert_int_equal(asker_end(e, &moved), GRPC_UNAVAILABLE);
    assert_quiet(e, &stays);
    asker_clear(&moved);
    asker_clear(&stays);
}

static void local_policy_keeps_traffic_on_the_node(void **state)
{
    struct engines *e = *state;
    struct asker a, other;

    put(e, "pods.yaml", TWO_PODS);
    put(e, "slice.yaml",
        WEB_SLICE("{addresses: [10.1.0.1], nodeName: n1, targetRef: {kind: Pod, name: a}}, "
                  "{addresses: [10.1.0.2], nodeName: n2, targetRef: {kind: Pod, name: b}}"));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    (void)asker_next(e, &a);
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {internalTrafficPolicy: "
        "Local, "
        "ports: [{name: http, port: 80, targetPort: 8080}]}}");
    assert_int_equal(asker_end(e, &a), GRPC_UNAVAILABLE);
    asker_clear(&a);
    get(e, &a, WEB);
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a"));
    assert_int_equal(ask(e, destination_get, &other, WEB, "{\"nodeName\":\"n2\"}"), GRPC_OK);
    assert_update(e, &other, ADD MESHED_LINE("10.1.0.2:8080", "b"));
    asker_clear(&a);
    asker_clear(&other);
}

/* --- changes ------------------------------------------------------------------------------------- */

static void changes_are_told_one_by_one(void **state)
{
    struct engines *e = *state;
    struct asker a, late;

    web_open(e);
    get(e, &a, WEB);
    (void)asker_next(e, &a);
    put(e, "c.yaml", MESHED_POD("c", "10.1.0.3", ""));
    put(e, "slice.yaml", WEB_SLICE(TWO ", " OF_POD("10.1.0.3", "c")));
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.3:8080", "c"));
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.2", "b") ", " OF_POD("10.1.0.3", "c")));
    assert_update(e, &a, "remove\n 10.1.0.1:8080\n");
    put(e, "c.yaml",
        MESHED_POD("c", "10.1.0.3", ", annotations: {config.linkerd.io/opaque-ports: '8080'}"));
    assert_update(e, &a,
                  ADD " 10.1.0.3:8080 10000 " WEB_ID
                      " opaque via=4143 ping pod=c serviceaccount=web "
                      "control_plane_ns=linkerd zone_locality=unknown\n");
    get(e, &late, WEB);
    assert_update(
        e, &late,
        ADD MESHED_LINE(
            "10.1.0.2:8080",
            "b") " 10.1.0.3:8080 10000 " WEB_ID
                 " opaque via=4143 ping pod=c serviceaccount=web control_plane_ns=linkerd "
                 "zone_locality=unknown\n");
    assert_quiet(e, &a);
    asker_clear(&a);
    asker_clear(&late);
}

static void late_replica_set_names_the_deployment(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pods.yaml",
        MESHED_POD("a", "10.1.0.1", ", ownerReferences: [{kind: ReplicaSet, name: rs}]"));
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.1", "a")));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_non_null(strstr(describe_update(asker_next(e, &a)), " replicaset=rs "));
    put(e, "rs.yaml",
        "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: rs, ownerReferences: "
        "[{kind: Deployment, name: shop}]}}");
    assert_non_null(strstr(describe_update(asker_next(e, &a)), " deployment=shop "));
    asker_clear(&a);
}

static void what_says_the_same_is_not_told(void **state)
{
    struct engines *e = *state;
    struct asker a;
    uint64_t before;

    web_open(e);
    get(e, &a, WEB);
    (void)asker_next(e, &a);
    before = counted(e, "tulle_topic_encodings_total", "destination");
    put(e, "pods.yaml",
        MESHED_POD("a", "10.1.0.1", ", annotations: {note: x}") "---\n" MESHED_POD("b", "10.1.0.2",
                                                                                   ""));
    put(e, "other.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: other}, spec: {clusterIP: 10.96.0.77}}");
    assert_quiet(e, &a);
    assert_int_equal(counted(e, "tulle_topic_encodings_total", "destination"), before);
    asker_clear(&a);
}

static void a_service_that_goes_leaves_no_endpoint(void **state)
{
    struct engines *e = *state;
    struct asker a, late;

    web_open(e);
    get(e, &a, WEB);
    (void)asker_next(e, &a);
    remove_file(e->f, "service.yaml");
    assert_update(e, &a, "remove\n 10.1.0.1:8080\n 10.1.0.2:8080\n");
    get(e, &late, WEB);
    assert_int_equal(asker_end(e, &late), GRPC_NOT_FOUND);
    put(e, "service.yaml", WEB_SERVICE);
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a") MESHED_LINE("10.1.0.2:8080", "b"));
    asker_clear(&a);
    asker_clear(&late);
}

static void a_service_without_endpoints_says_nothing(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_quiet(e, &a);
    put(e, "pods.yaml", TWO_PODS);
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.1", "a")));
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a"));
    asker_clear(&a);
}

/* --- many ---------------------------------------------------------------------------------------- */

#define CLIENTS 1000

static void one_encoding_serves_all(void **state)
{
    struct engines *e = *state;
    struct asker *all = mem_new_array(CLIENTS, sizeof(*all));
    uint64_t before;

    web_open(e);
    before = counted(e, "tulle_topic_encodings_total", "destination");
    for (size_t i = 0; i < CLIENTS; i++) {
        char token[128];

        /* Each client is another pod. */
        (void)snprintf(token, sizeof(token),
                       "{\"ns\":\"default\",\"nodeName\":\"n%zu\",\"pod\":\"p%zu\"}", i % 50, i);
        assert_int_equal(ask(e, destination_get, &all[i], WEB, token), GRPC_OK);
    }
    WAIT_UNTIL(e->f, all[CLIENTS - 1].count == 1);
    assert_int_equal(counted(e, "tulle_topics", "destination"), 1);
    assert_int_equal(counted(e, "tulle_topic_subscribers", "destination"), CLIENTS);
    assert_int_equal(counted(e, "tulle_topic_encodings_total", "destination"), before + 1);
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.1", "a")));
    WAIT_UNTIL(e->f, all[CLIENTS - 1].count == 2);
    assert_int_equal(counted(e, "tulle_topic_encodings_total", "destination"), before + 2);
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_update(e, &all[i],
                      ADD MESHED_LINE("10.1.0.1:8080", "a") MESHED_LINE("10.1.0.2:8080", "b"));
        assert_update(e, &all[i], "remove\n 10.1.0.2:8080\n");
        asker_clear(&all[i]);
    }
    (void)loop_turn(&e->f->loop, 0);
    assert_int_equal(counted(e, "tulle_topics", "destination"), 0);
    assert_int_equal(counted(e, "tulle_topic_subscribers", "destination"), 0);
    mem_free(all);
}

#define MANY 20000

/* Clients take 4 MiB a message: the first resets what they knew, the others add to it. */
static void a_set_that_is_too_long_comes_in_parts(void **state)
{
    struct engines *e = *state;
    struct text t;
    struct asker a;
    size_t seen = 0;

    text_init(&t, 64u << 20);
    for (unsigned s = 0; s < MANY / 1000; s++) {
        text_printf(
            &t,
            "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, "
            "metadata: "
            "{name: web-%u, labels: {kubernetes.io/service-name: web}, annotations: "
            "{mirror.linkerd.io/remote-gateway-identity: "
            "a-very-long-identity-so-that-it-takes-room."
            "serviceaccount.identity.linkerd.cluster.local, mirror.linkerd.io/remote-svc-fq-name: "
            "web.default.svc.cluster.local}}, ports: [{name: http, port: 8080}], endpoints: [",
            s);
        for (unsigned i = 0; i < 1000; i++) {
            text_printf(&t, "%s{addresses: [10.%u.%u.%u]}", i > 0 ? ", " : "", 100 + s, i / 250,
                        i % 250);
        }
        text_str(&t, "]}\n");
    }
    assert_int_equal(t.err, 0);
    put(e, "slices.yaml", t.at);
    text_clear(&t);
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    WAIT_UNTIL(e->f, a.count > 0);
    assert_true(a.count > 1);
    for (size_t i = 0; i < a.count; i++) {
        Io__Linkerd__Proxy__Destination__Update *m =
            io__linkerd__proxy__destination__update__unpack(NULL, a.messages[i].len,
                                                            (const uint8_t *)a.messages[i].at);

        assert_true(a.messages[i].len < 3u << 20);
        assert_non_null(m);
        assert_int_equal(m->add->n_metric_labels, 2);
        seen += m->add->n_addrs;
        io__linkerd__proxy__destination__update__free_unpacked(m, NULL);
    }
    assert_int_equal(seen, MANY);
    asker_clear(&a);
}

/* --- questions that have no answer --------------------------------------------------------------- */

static void malformed_questions(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *why = NULL;

    engines_sync(e);
    assert_int_equal(refused(e, ""), GRPC_INVALID_ARGUMENT);
    assert_int_equal(refused(e, "10.96.0.10:80"), GRPC_INVALID_ARGUMENT);
    assert_int_equal(refused(e, "[fd00::1]:80"), GRPC_INVALID_ARGUMENT);
    assert_int_equal(refused(e, "example.com:80"), GRPC_INVALID_ARGUMENT);
    assert_int_equal(refused(e, "web.default.svc.cluster.local:0"), GRPC_INVALID_ARGUMENT);
    asker_init(&a);
    assert_int_equal(
        destination_get(e->env.destination, BYTES("\xff\xff\xff"), &a.subscriber, &why),
        GRPC_INVALID_ARGUMENT);
    assert_string_equal(why, "malformed request");
    assert_int_equal(counted(e, "tulle_topics", "destination"), 0);
}

static void unknown_and_external_services(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: out}, spec: {type: ExternalName, "
        "externalName: a.example}}");
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_int_equal(asker_end(e, &a), GRPC_NOT_FOUND);
    asker_clear(&a);
    get(e, &a, "out.default.svc.cluster.local:80");
    assert_int_equal(asker_end(e, &a), GRPC_INVALID_ARGUMENT);
    asker_clear(&a);
    (void)loop_turn(&e->f->loop, 0);
    assert_int_equal(counted(e, "tulle_topics", "destination"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(the_first_message_is_complete),
        ENGINES_TEST(nothing_is_answered_before_the_cluster_is_known),
        ENGINES_TEST(pod_without_a_proxy),
        ENGINES_TEST(pod_of_another_control_plane_has_no_identity),
        ENGINES_TEST(skipped_port_is_plain),
        ENGINES_TEST(annotated_port_is_opaque),
        ENGINES_TEST(owner_is_the_deployment),
        ENGINES_TEST(job_has_a_label_of_its_own),
        ENGINES_TEST(server_makes_a_port_opaque),
        ENGINES_TEST(default_opaque_port_and_the_proxy_s_own),
        ENGINES_TEST(options_turn_hints_off),
        ENGINES_TEST(meshed_pod_without_a_proxy_is_left_out),
        ENGINES_TEST(machine_outside_the_cluster),
        ENGINES_TEST(service_of_another_cluster),
        ENGINES_TEST(named_target_is_resolved_by_the_slice),
        ENGINES_TEST(not_ready_and_unknown_pods_are_left_out),
        ENGINES_TEST(ipv4_is_preferred),
        ENGINES_TEST(host_name_picks_one),
        ENGINES_TEST(hints_keep_traffic_in_its_zone),
        ENGINES_TEST(a_node_that_moves_ends_its_clients),
        ENGINES_TEST(local_policy_keeps_traffic_on_the_node),
        ENGINES_TEST(changes_are_told_one_by_one),
        ENGINES_TEST(late_replica_set_names_the_deployment),
        ENGINES_TEST(what_says_the_same_is_not_told),
        ENGINES_TEST(a_service_that_goes_leaves_no_endpoint),
        ENGINES_TEST(a_service_without_endpoints_says_nothing),
        ENGINES_TEST(one_encoding_serves_all),
        ENGINES_TEST(a_set_that_is_too_long_comes_in_parts),
        ENGINES_TEST(malformed_questions),
        ENGINES_TEST(unknown_and_external_services),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
