/* SPDX-License-Identifier: Apache-2.0 */
/* Destination.Get: every field of an endpoint, and questions that have no answer (wire 3.2, 11.1). */
#include "endpoints.h"

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

/* --- questions that have no answer --------------------------------------------------------------- */

static enum grpc_status refused(struct engines *e, const char *path)
{
    struct asker a;

    return ask(e, destination_get, &a, path, TOKEN);
}

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
        ENGINES_TEST(malformed_questions),
        ENGINES_TEST(unknown_and_external_services),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
