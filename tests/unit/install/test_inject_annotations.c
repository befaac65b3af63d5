/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the annotations of a pod and its namespace change in the pod patch (wire 10.2 and 2.1).
 */
#include "pod_probe.h"

static void test_annotations_in_environment(void **state)
{
    static const char *const cases[][4] = {
        {"linkerd.io/inject", "ingress", "INGRESS_MODE", "true"},
        {"config.linkerd.io/proxy-log-level", "debug", "LOG",
         "debug,[{headers}]=off,[{request}]=off"},
        {"config.linkerd.io/proxy-log-http-headers", "insecure", "LOG",
         "warn,linkerd=info,hickory=error"},
        {"config.linkerd.io/proxy-log-format", "json", "LOG_FORMAT", "json"},
        {"config.linkerd.io/access-log", "apache", "ACCESS_LOG", "apache"},
        {"config.linkerd.io/proxy-cpu-limit", "1500m", "CORES", "2"},
        {"config.linkerd.io/proxy-cpu-ratio-limit", "0.25", "CORES_MAX_RATIO", "0.25"},
        {"config.linkerd.io/inbound-port", "5143", "INBOUND_LISTEN_ADDR", "0.0.0.0:5143"},
        {"config.linkerd.io/outbound-port", "5140", "OUTBOUND_LISTEN_ADDRS", "127.0.0.1:5140"},
        {"config.linkerd.io/control-port", "5190", "CONTROL_LISTEN_ADDR", "0.0.0.0:5190"},
        {"config.linkerd.io/admin-port", "5191", "ADMIN_LISTEN_ADDR", "0.0.0.0:5191"},
        {"config.linkerd.io/opaque-ports", "mysql,7000-7010",
         "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", "3306,7000-7010"},
        {"config.linkerd.io/pod-inbound-ports", "80,81", "INBOUND_PORTS", "80,81"},
        {"config.linkerd.io/proxy-require-identity-inbound-ports", "80",
         "INBOUND_PORTS_REQUIRE_IDENTITY", "80"},
        {"config.linkerd.io/default-inbound-policy", "deny", "INBOUND_DEFAULT_POLICY", "deny"},
        {"config.linkerd.io/enable-external-profiles", "true", "DESTINATION_PROFILE_SUFFIXES", "."},
        {"config.linkerd.io/proxy-metrics-hostname-labels", "true",
         "OUTBOUND_METRICS_HOSTNAME_LABELS", "true"},
        {"config.linkerd.io/proxy-inbound-connect-timeout", "1.5s", "INBOUND_CONNECT_TIMEOUT",
         "1500ms"},
        {"config.linkerd.io/proxy-outbound-connect-timeout", "1m30s", "OUTBOUND_CONNECT_TIMEOUT",
         "90000ms"},
        {"config.linkerd.io/proxy-inbound-discovery-cache-unused-timeout", "1d",
         "INBOUND_DISCOVERY_IDLE_TIMEOUT", "86400000ms"},
        {"config.linkerd.io/proxy-outbound-discovery-cache-unused-timeout", "0",
         "OUTBOUND_DISCOVERY_IDLE_TIMEOUT", "0ms"},
        {"config.linkerd.io/proxy-disable-inbound-protocol-detect-timeout", "true",
         "INBOUND_DETECT_TIMEOUT", "365d"},
        {"config.linkerd.io/proxy-disable-outbound-protocol-detect-timeout", "true",
         "OUTBOUND_DETECT_TIMEOUT", "365d"},
        {"config.linkerd.io/enable-gateway", "true", "INBOUND_GATEWAY_SUFFIXES",
         "svc.cluster.local."},
        {"config.linkerd.io/proxy-admin-shutdown", "enabled", "SHUTDOWN_ENDPOINT_ENABLED", "true"},
        {"config.linkerd.io/shutdown-grace-period", "5s", "SHUTDOWN_GRACE_PERIOD", "5000ms"},
        {"config.linkerd.io/proxy-additional-env",
         "[{\"name\":\"LINKERD2_PROXY_X\",\"value\":\"y\"}]", "X", "y"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *pod = web_with(cases[i][0], cases[i][1]);
        char name[80];

        (void)snprintf(name, sizeof(name), "LINKERD2_PROXY_%s", cases[i][2]);
        inject(pod, NULL);
        expect_env(pod, name, cases[i][3]);
        json_decref(pod);
    }
}

static const char *mount_of(json_t *pod, const char *volume)
{
    json_t *init = named(member(pod, "spec/initContainers"), "linkerd-proxy");

    return json_string_value(
        json_object_get(named(json_object_get(init, "volumeMounts"), volume), "mountPath"));
}

/* Wire 2.1, 10.3: who gets spans is known by the account and the namespace that its name tells. */
static void test_traces(void **state)
{
    static const char *const cases[][3] = {
        {"collector.tracing:4317", NULL, "default.tracing.serviceaccount.identity.linkerd.cluster.local"},
        {"collector.tracing.svc.cluster.local.:4317", "otel",
         "otel.tracing.serviceaccount.identity.linkerd.cluster.local"},
        {"collector:4317", "otel", "otel.$(_pod_ns).serviceaccount.identity.linkerd.cluster.local"},
        {"localhost:4317", NULL, NULL},
        {"[::1]:4317", "otel", NULL},
    };
    json_t *pod;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *notes;

        pod = web_with("config.linkerd.io/trace-collector", cases[i][0]);
        notes = member(pod, "metadata/annotations");
        if (cases[i][1] != NULL) {
            (void)json_object_set_new(notes, "config.linkerd.io/trace-collector-service-account",
                                      json_string(cases[i][1]));
        }
        (void)json_object_set_new(notes, "resource.opentelemetry.io/team", json_string("a b"));
        (void)json_object_set_new(member(pod, "metadata/labels"), "app.kubernetes.io/name",
                                  json_string("cart"));
        inject(pod, NULL);
        expect_env(pod, "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR", cases[i][0]);
        if (cases[i][2] != NULL) {
            expect_env(pod, "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME", cases[i][2]);
        } else {
            assert_null(env(pod, "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME"));
        }
        expect_env(pod, "LINKERD2_PROXY_TRACE_SERVICE_NAME", "linkerd-proxy");
        expect_env(pod, "LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES",
                   "k8s.pod.ip=$(_pod_ip)\nk8s.pod.uid=$(_pod_uid)\n"
                   "k8s.container.name=$(_pod_containerName)\nservice.name=cart\nteam=a b\n");
        expect_env(pod, "LINKERD2_PROXY_TRACE_ATTRIBUTES_PATH", "/var/run/linkerd/podinfo/labels");
        assert_string_equal(mount_of(pod, "linkerd-podinfo"), "/var/run/linkerd/podinfo");
        expect_json(named(member(pod, "spec/volumes"), "linkerd-podinfo"),
                    "{\"name\":\"linkerd-podinfo\",\"downwardAPI\":{\"items\":[{\"path\":\"labels\","
                    "\"fieldRef\":{\"fieldPath\":\"metadata.labels\"}}]}}");
        json_decref(pod);
    }
    pod = load(web);
    inject(pod, NULL);
    assert_null(env(pod, "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR"));
    assert_null(mount_of(pod, "linkerd-podinfo"));
    json_decref(pod);
}

static void test_annotations_in_redirection(void **state)
{
    static const char *const cases[][4] = {
        {"config.linkerd.io/skip-inbound-ports", "25,mysql,100-200", "--inbound-ports-to-ignore",
         "4190,4191,25,3306,100-200"},
        {"config.linkerd.io/skip-outbound-ports", "443", "--outbound-ports-to-ignore", "443"},
        {"config.linkerd.io/skip-subnets", "10.1.0.0/16,fd00::/8", "--subnets-to-ignore",
         "10.1.0.0/16,fd00::/8"},
        {"config.linkerd.io/proxy-uid", "3000", "--proxy-uid", "3000"},
        {"config.linkerd.io/proxy-gid", "3001", "--proxy-gid", "3001"},
        {"config.linkerd.io/inbound-port", "5143", "--incoming-proxy-port", "5143"},
        {"config.linkerd.io/outbound-port", "5140", "--outgoing-proxy-port", "5140"},
        {"config.linkerd.io/admin-port", "5191", "--inbound-ports-to-ignore",
         "4190,5191,4567,4568"},
        {"config.linkerd.io/close-wait-timeout", "3600s", "--timeout-close-wait-secs", "3600"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *pod = web_with(cases[i][0], cases[i][1]);

        inject(pod, NULL);
        if (!has_args(pod, cases[i][2], cases[i][3])) {
            fail_msg("%s: %s", cases[i][0], cases[i][1]);
        }
        json_decref(pod);
    }
    /* The sysctl of close-wait needs root. */
    {
        json_t *pod = web_with("config.linkerd.io/close-wait-timeout", "3600s");

        inject(pod, NULL);
        assert_true(
            json_is_true(member(container(pod, "linkerd-init"), "securityContext/privileged")));
        assert_int_equal(
            json_integer_value(member(container(pod, "linkerd-init"), "securityContext/runAsUser")),
            0);
        json_decref(pod);
    }
}

static void test_annotations_in_containers(void **state)
{
    json_t *pod = web_with("config.linkerd.io/proxy-image", "example.org/p"), *proxy, *annotations;

    (void)state;
    annotations = member(pod, "metadata/annotations");
    (void)json_object_set_new(annotations, "config.linkerd.io/proxy-version", json_string("v9"));
    (void)json_object_set_new(annotations, "config.linkerd.io/image-pull-policy",
                              json_string("Always"));
    (void)json_object_set_new(annotations, "config.linkerd.io/proxy-cpu-request",
                              json_string("100m"));
    (void)json_object_set_new(annotations, "config.linkerd.io/proxy-memory-limit",
                              json_string("250Mi"));
    (void)json_object_set_new(annotations, "config.linkerd.io/proxy-ephemeral-storage-request",
                              json_string("1Gi"));
    (void)json_object_set_new(annotations, "config.alpha.linkerd.io/proxy-wait-before-exit-seconds",
                              json_string("30"));
    (void)json_object_set_new(annotations, "config.linkerd.io/proxy-uid", json_string("3000"));
    (void)json_object_set_new(annotations, "config.linkerd.io/proxy-gid", json_string("3001"));
    (void)json_object_set_new(annotations, "config.linkerd.io/proxy-await",
                              json_string("disabled"));
    (void)json_object_set_new(annotations, "config.linkerd.io/enable-debug-sidecar",
                              json_string("true"));
    (void)json_object_set_new(annotations, "config.linkerd.io/debug-image-version",
                              json_string("v8"));
    inject(pod, NULL);
    proxy = container(pod, "linkerd-proxy");
    assert_string_equal(text_at(proxy, "image"), "example.org/p:v9");
    assert_string_equal(text_at(container(pod, "linkerd-init"), "image"), "example.org/p:v9");
    assert_string_equal(text_at(proxy, "imagePullPolicy"), "Always");
    expect_json(member(proxy, "resources"), "{\"limits\":{\"memory\":\"250Mi\"},\"requests\":{"
                                            "\"cpu\":\"100m\",\"ephemeral-storage\":\"1Gi\"}}");
    expect_json(member(proxy, "lifecycle"),
                "{\"preStop\":{\"exec\":{\"command\":[\"/bin/sleep\",\"30\"]}}}");
    assert_int_equal(json_integer_value(member(proxy, "securityContext/runAsUser")), 3000);
    assert_int_equal(json_integer_value(member(proxy, "securityContext/runAsGroup")), 3001);
    assert_null(member(proxy, "startupProbe"));
    assert_string_equal(text_at(container(pod, "linkerd-debug"), "image"),
                        "cr.l5d.io/linkerd/debug:v8");
    json_decref(pod);
}

static void test_not_native(void **state)
{
    static const char *const names[] = {"config.linkerd.io/proxy-enable-native-sidecar",
                                        "config.beta.linkerd.io/proxy-enable-native-sidecar",
                                        "config.alpha.linkerd.io/proxy-enable-native-sidecar"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *pod = web_with(names[i], "false"), *proxy;

        inject(pod, NULL);
        assert_int_equal(json_array_size(member(pod, "spec/initContainers")), 1);
        proxy = json_array_get(member(pod, "spec/containers"), 0);
        assert_string_equal(text_at(proxy, "name"), "linkerd-proxy");
        assert_null(member(proxy, "restartPolicy"));
        assert_null(member(proxy, "startupProbe"));
        expect_json(member(proxy, "lifecycle"), "{\"postStart\":{\"exec\":{\"command\":[\"/usr/lib/"
                                                "linkerd/linkerd-await\",\"--timeout=2m\","
                                                "\"--port=4191\"]}}}");
        json_decref(pod);
    }
}

static void test_namespace_annotations(void **state)
{
    json_t *pod = web_with("config.linkerd.io/proxy-log-level", "debug");
    json_t *ns = load("{\"config.linkerd.io/proxy-log-level\":\"trace\",\"config.linkerd.io/"
                      "opaque-ports\":\"7000\","
                      "\"config.linkerd.io/"
                      "proxy-additional-env\":\"[{\\\"name\\\":\\\"A\\\",\\\"value\\\":\\\"ns\\\"},"
                      "{\\\"name\\\":\\\"B\\\",\\\"value\\\":\\\"ns\\\"}]\",\"other\":\"x\"}");
    json_t *annotations = member(pod, "metadata/annotations");

    (void)state;
    (void)json_object_set_new(annotations, "config.linkerd.io/proxy-additional-env",
                              json_string("[{\"name\":\"B\",\"value\":\"pod\"}]"));
    inject(pod, ns);
    expect_env(pod, "LINKERD2_PROXY_LOG", "debug,[{headers}]=off,[{request}]=off");
    expect_env(pod, "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", "7000");
    expect_env(pod, "A", "ns");
    expect_env(pod, "B", "pod");
    assert_string_equal(
        json_string_value(json_object_get(annotations, "config.linkerd.io/opaque-ports")), "7000");
    assert_string_equal(
        json_string_value(json_object_get(annotations, "config.linkerd.io/proxy-log-level")),
        "debug");
    assert_null(json_object_get(annotations, "other"));
    json_decref(pod);
    json_decref(ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_annotations_in_environment),
        POD_TEST(test_traces),
        POD_TEST(test_annotations_in_redirection),
        POD_TEST(test_annotations_in_containers),
        POD_TEST(test_not_native),
        POD_TEST(test_namespace_annotations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
