/* SPDX-License-Identifier: Apache-2.0 */
/* Destination.GetProfile: services, pods, machines and strangers, by address and by name (wire 11.2). */
#include "engines.h"

static void get(struct engines *e, struct asker *a, const char *path)
{
    assert_int_equal(ask(e, destination_get_profile, a, path, TOKEN), GRPC_OK);
}

static const char *describe(struct bytes message)
{
    static char text[2048];
    Io__Linkerd__Proxy__Destination__DestinationProfile *m =
        io__linkerd__proxy__destination__destination_profile__unpack(NULL, message.len,
                                                                     (const uint8_t *)message.at);
    struct text to;

    assert_non_null(m);
    text_init_fixed(&to, text, sizeof(text));
    assert_int_equal(m->n_routes + m->n_dst_overrides, 0);
    if (m->retry_budget != NULL) {
        assert_true(m->retry_budget->retry_ratio > 0.19F && m->retry_budget->retry_ratio < 0.21F);
        assert_int_equal(m->retry_budget->min_retries_per_second, 10);
        assert_int_equal(m->retry_budget->ttl->seconds, 10);
        text_str(&to, "budget");
    } else {
        text_str(&to, "empty");
    }
    text_printf(&to, "%s%s%s", m->opaque_protocol ? " opaque" : "",
                m->fully_qualified_name[0] != '\0' ? " name=" : "", m->fully_qualified_name);
    if (m->parent_ref != NULL) {
        const Io__Linkerd__Proxy__Meta__Resource *r = m->parent_ref->resource;

        text_printf(&to, " parent=%s/%s/%s/%s:%u", r->group, r->kind, r->namespace_, r->name,
                    r->port);
    }
    if (m->endpoint != NULL) {
        text_char(&to, ' ');
        describe_endpoint(&to, m->endpoint);
    }
    io__linkerd__proxy__destination__destination_profile__free_unpacked(m, NULL);
    return text;
}

#define assert_profile(e, a, expected)                                                             \
    assert_string_equal(describe(asker_next((e), (a))), (expected))
#define WEB_PROFILE "budget name=web.default.svc.cluster.local parent=core/Service/default/web:80"
#define POD_PROFILE(at, pod)                                                                       \
    "budget " at " 10000 " WEB_ID " h2 via=4143 ping pod=" pod                                     \
    " serviceaccount=web control_plane_ns=linkerd namespace=default zone_locality=unknown\n"

static void web_open(struct engines *e)
{
    put(e, "pods.yaml", MESHED_POD("a", "10.1.0.1", "") "---\n" MESHED_POD("b", "10.1.0.2", ""));
    put(e, "slice.yaml",
        WEB_SLICE("{addresses: [10.1.0.1], hostname: web-0, targetRef: {kind: Pod, name: a}}"));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
}

static void service_by_address_and_by_name(void **state)
{
    struct engines *e = *state;
    struct asker a, b, c;

    web_open(e);
    get(e, &a, "10.96.0.10:80");
    get(e, &b, WEB);
    get(e, &c, "web.default.svc.cluster.local:81");
    assert_profile(e, &a, WEB_PROFILE);
    assert_profile(e, &b, WEB_PROFILE);
    assert_profile(e, &c, "empty");
    asker_clear(&a);
    asker_clear(&b);
    asker_clear(&c);
}

static void opaque_ports_of_a_service(void **state)
{
    struct engines *e = *state;
    struct asker a, db;

    web_open(e);
    get(e, &a, "10.96.0.10:80");
    get(e, &db, "10.96.0.10:3306");
    assert_profile(e, &a, WEB_PROFILE);
    assert_profile(
        e, &db,
        "budget opaque name=web.default.svc.cluster.local parent=core/Service/default/web:3306");
    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: web, annotations: "
        "{config.linkerd.io/opaque-ports: http}}, "
        "spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80, targetPort: 8080}]}}");
    assert_profile(
        e, &a,
        "budget opaque name=web.default.svc.cluster.local parent=core/Service/default/web:80");
    /* An annotation stands in place of the cluster's default. */
    assert_profile(
        e, &db, "budget name=web.default.svc.cluster.local parent=core/Service/default/web:3306");
    assert_quiet(e, &a);
    asker_clear(&a);
    asker_clear(&db);
}

static void unknown_service_by_name_has_the_defaults(void **state)
{
    struct engines *e = *state;
    struct asker a;

    engines_sync(e);
    get(e, &a, WEB);
    assert_profile(e, &a, WEB_PROFILE);
    asker_clear(&a);
}

static void pod_by_address(void **state)
{
    struct engines *e = *state;
    struct asker a;

    web_open(e);
    get(e, &a, "10.1.0.1:8080");
    assert_profile(e, &a, POD_PROFILE("10.1.0.1:8080", "a"));
    put(e, "pods.yaml",
        MESHED_POD("a", "10.1.0.1", ", annotations: {config.linkerd.io/opaque-ports: '8080'}"));
    assert_profile(e, &a,
                   "budget opaque 10.1.0.1:8080 10000 " WEB_ID
                   " opaque via=4143 ping pod=a serviceaccount=web "
                   "control_plane_ns=linkerd namespace=default zone_locality=unknown\n");
    remove_file(e->f, "pods.yaml");
    assert_profile(e, &a, "budget 10.1.0.1:8080 10000\n");
    asker_clear(&a);
}

static void pod_must_run(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pod.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, status: {phase: Pending, podIP: "
        "10.1.0.1}}");
    mark(e->f);
    engines_sync(e);
    get(e, &a, "10.1.0.1:8080");
    assert_profile(e, &a, "budget 10.1.0.1:8080 10000\n");
    put(e, "pod.yaml", PLAIN_POD("a", "10.1.0.1"));
    assert_profile(e, &a,
                   "budget 10.1.0.1:8080 10000 pod=a serviceaccount=default namespace=default "
                   "zone_locality=unknown\n");
    asker_clear(&a);
}

static void pod_by_host_name(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    web_open(e);
    get(e, &a, "web-0.web.default.svc.cluster.local:8080");
    assert_profile(e, &a, POD_PROFILE("10.1.0.1:8080", "a"));
    get(e, &b, "web-7.web.default.svc.cluster.local:8080");
    assert_int_equal(asker_end(e, &b), GRPC_NOT_FOUND);
    asker_clear(&a);
    asker_clear(&b);
}

static void pod_by_the_port_of_its_host(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    put(e, "pod.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: app, ports: "
        "[{containerPort: 80, hostPort: 8088}]}]}, status: {phase: Running, podIP: 10.1.0.1, "
        "hostIP: 10.2.0.1}}");
    mark(e->f);
    engines_sync(e);
    get(e, &a, "10.2.0.1:8088");
    assert_profile(e, &a,
                   "budget 10.2.0.1:8088 10000 pod=a serviceaccount=default namespace=default "
                   "zone_locality=unknown\n");
    get(e, &b, "10.2.0.1:8089");
    assert_profile(e, &b, "budget 10.2.0.1:8089 10000\n");
    asker_clear(&a);
    asker_clear(&b);
}

static void machine_outside_the_cluster(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "w.yaml",
        "{apiVersion: workload.linkerd.io/v1beta1, kind: ExternalWorkload, metadata: {name: vm}, "
        "spec: {meshTLS: "
        "{identity: 'spiffe://root/vm', serverName: vm.example}, workloadIPs: [{ip: 192.0.2.7}]}}");
    mark(e->f);
    engines_sync(e);
    get(e, &a, "192.0.2.7:80");
    assert_profile(e, &a,
                   "budget 192.0.2.7:80 10000 id=spiffe://root/vm sni=vm.example h2 via=4143 ping "
                   "external_workload=vm namespace=default zone_locality=unknown\n");
    asker_clear(&a);
}

static void stranger(void **state)
{
    struct engines *e = *state;
    struct asker a, db, six;

    web_open(e);
    get(e, &a, "192.0.2.1:443");
    get(e, &db, "192.0.2.1:4444");
    get(e, &six, "[2001:db8::1]:443");
    assert_profile(e, &a, "budget 192.0.2.1:443 10000\n");
    assert_profile(e, &db, "budget opaque 192.0.2.1:4444 10000\n");
    assert_profile(e, &six, "budget [2001:db8::1]:443 10000\n");
    asker_clear(&a);
    asker_clear(&db);
    asker_clear(&six);
}

static void one_address_of_two(void **state)
{
    struct engines *e = *state;
    struct asker a, b;

    web_open(e);
    get(e, &a, "10.1.0.1:8080");
    (void)asker_next(e, &a);
    put(e, "twin.yaml", PLAIN_POD("twin", "10.1.0.1"));
    assert_int_equal(asker_end(e, &a), GRPC_FAILED_PRECONDITION);
    put(e, "other.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: other}, spec: {clusterIP: 10.96.0.10}}");
    mark(e->f);
    get(e, &b, "10.96.0.10:80");
    assert_int_equal(asker_end(e, &b), GRPC_FAILED_PRECONDITION);
    remove_file(e->f, "twin.yaml");
    WAIT_UNTIL(e->f, has_heard(e->f, "- Pod default/twin"));
    asker_clear(&a);
    asker_clear(&b);
    get(e, &a, "10.1.0.1:8080");
    assert_profile(e, &a, POD_PROFILE("10.1.0.1:8080", "a"));
    asker_clear(&a);
}

static void address_that_becomes_a_service(void **state)
{
    struct engines *e = *state;
    struct asker a;

    engines_sync(e);
    get(e, &a, "10.96.0.10:80");
    assert_profile(e, &a, "budget 10.96.0.10:80 10000\n");
    put(e, "service.yaml", WEB_SERVICE);
    assert_profile(e, &a, WEB_PROFILE);
    asker_clear(&a);
}

static void refused(void **state)
{
    static const char *const bad[] = {"", "example.com:80", "10.0.0.1:http", "web",
                                      "web.default.svc.cluster.local:x"};
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: out}, spec: {type: ExternalName, "
        "externalName: a.example}}");
    mark(e->f);
    engines_sync(e);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(ask(e, destination_get_profile, &a, bad[i], TOKEN), GRPC_INVALID_ARGUMENT);
    }
    get(e, &a, "out.default.svc.cluster.local:80");
    assert_int_equal(asker_end(e, &a), GRPC_INVALID_ARGUMENT);
    asker_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(service_by_address_and_by_name),
        ENGINES_TEST(opaque_ports_of_a_service),
        ENGINES_TEST(unknown_service_by_name_has_the_defaults),
        ENGINES_TEST(pod_by_address),
        ENGINES_TEST(pod_must_run),
        ENGINES_TEST(pod_by_host_name),
        ENGINES_TEST(pod_by_the_port_of_its_host),
        ENGINES_TEST(machine_outside_the_cluster),
        ENGINES_TEST(stranger),
        ENGINES_TEST(one_address_of_two),
        ENGINES_TEST(address_that_becomes_a_service),
        ENGINES_TEST(refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
