/* SPDX-License-Identifier: Apache-2.0 */
/* Destination.Get: which endpoints of a service a client is told (wire 3.2, 11.1). */
#include "endpoints.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(named_target_is_resolved_by_the_slice),
        ENGINES_TEST(not_ready_and_unknown_pods_are_left_out),
        ENGINES_TEST(ipv4_is_preferred),
        ENGINES_TEST(host_name_picks_one),
        ENGINES_TEST(hints_keep_traffic_in_its_zone),
        ENGINES_TEST(a_node_that_moves_ends_its_clients),
        ENGINES_TEST(local_policy_keeps_traffic_on_the_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
