/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pod patch, item by item, where no annotation asks for another (wire 10.3, 1.2 and 2.1).
 */
#include "pod_probe.h"

static void test_metadata(void **state)
{
    json_t *pod = load(web);

    (void)state;
    inject(pod, NULL);
    expect_json(member(pod, "metadata/labels"),
                "{\"app\":\"web\",\"linkerd.io/control-plane-ns\":\"linkerd\",\"linkerd.io/"
                "workload-ns\":\"shop\","
                "\"linkerd.io/proxy-deployment\":\"web\"}");
    /* The digest is sha256sum's of the bundle; 3306 is the one container port that is opaque by
     * default. */
    {
        json_t *annotations = json_object_get(json_object_get(pod, "metadata"), "annotations");

        assert_string_equal(json_string_value(json_object_get(annotations, "linkerd.io/inject")),
                            "enabled");
        assert_string_equal(
            json_string_value(json_object_get(annotations, "linkerd.io/created-by")),
            "tulle/cli v1");
        assert_string_equal(
            json_string_value(json_object_get(annotations, "linkerd.io/proxy-version")), "v1");
        assert_string_equal(
            json_string_value(json_object_get(annotations, "config.linkerd.io/opaque-ports")),
            "3306");
        assert_string_equal(
            json_string_value(json_object_get(annotations, "linkerd.io/trust-root-sha256")),
            "7cc358aa45100f42d57b76e9b235253bfc6fc830b3e45858d2bc473657aae3f7");
        assert_int_equal(json_object_size(annotations), 5);
    }
    json_decref(pod);
}

static void test_volumes(void **state)
{
    json_t *pod = load(web), *volumes;

    (void)state;
    inject(pod, NULL);
    volumes = member(pod, "spec/volumes");
    assert_int_equal(json_array_size(volumes), 4);
    assert_non_null(named(volumes, "data"));
    expect_json(named(volumes, "linkerd-identity-end-entity"),
                "{\"name\":\"linkerd-identity-end-entity\",\"emptyDir\":{\"medium\":\"Memory\"}}");
    expect_json(named(volumes, "linkerd-proxy-init-xtables-lock"),
                "{\"name\":\"linkerd-proxy-init-xtables-lock\",\"emptyDir\":{}}");
    expect_json(named(volumes, "linkerd-identity-token"),
                "{\"name\":\"linkerd-identity-token\",\"projected\":{\"sources\":[{"
                "\"serviceAccountToken\":{"
                "\"path\":\"linkerd-identity-token\",\"audience\":\"identity.l5d.io\","
                "\"expirationSeconds\":86400}}]}}");
    json_decref(pod);
}

static void test_init_container(void **state)
{
    json_t *pod = load(web), *init;

    (void)state;
    inject(pod, NULL);
    init = json_array_get(member(pod, "spec/initContainers"), 0);
    assert_string_equal(text_at(init, "name"), "linkerd-init");
    assert_string_equal(text_at(init, "image"), "tulle/proxy:v1");
    expect_json(member(init, "command"), "[\"tulle-init\"]");
    expect_json(member(init, "args"), "[\"--firewall-bin-path\",\"iptables-nft\",\"--firewall-save-"
                                      "bin-path\",\"iptables-nft-save\","
                                      "\"--ipv6=false\",\"--incoming-proxy-port\",\"4143\",\"--"
                                      "outgoing-proxy-port\",\"4140\",\"--proxy-uid\","
                                      "\"2102\",\"--inbound-ports-to-ignore\",\"4190,4191,4567,"
                                      "4568\",\"--outbound-ports-to-ignore\","
                                      "\"4567,4568\"]");
    expect_json(member(init, "securityContext"),
                "{\"allowPrivilegeEscalation\":false,\"capabilities\":{\"add\":[\"NET_ADMIN\","
                "\"NET_RAW\"]},"
                "\"privileged\":false,\"readOnlyRootFilesystem\":true,\"runAsNonRoot\":true,"
                "\"runAsUser\":65534,"
                "\"runAsGroup\":65534,\"seccompProfile\":{\"type\":\"RuntimeDefault\"}}");
    expect_json(member(init, "volumeMounts"),
                "[{\"name\":\"linkerd-proxy-init-xtables-lock\",\"mountPath\":\"/run\"}]");
    json_decref(pod);
}

static void test_proxy_container(void **state)
{
    json_t *pod = load(web), *proxy;

    (void)state;
    inject(pod, NULL);
    assert_int_equal(json_array_size(member(pod, "spec/initContainers")), 2);
    assert_int_equal(json_array_size(member(pod, "spec/containers")), 1);
    proxy = json_array_get(member(pod, "spec/initContainers"), 1);
    assert_string_equal(text_at(proxy, "name"), "linkerd-proxy");
    assert_string_equal(text_at(proxy, "restartPolicy"), "Always");
    expect_json(member(proxy, "command"), "[\"tulle-proxy\"]");
    expect_json(member(proxy, "ports"), "[{\"name\":\"linkerd-proxy\",\"containerPort\":4143},"
                                        "{\"name\":\"linkerd-admin\",\"containerPort\":4191}]");
    expect_json(member(proxy, "livenessProbe"), "{\"httpGet\":{\"path\":\"/live\",\"port\":4191},"
                                                "\"initialDelaySeconds\":10,\"timeoutSeconds\":1}");
    expect_json(member(proxy, "readinessProbe"), "{\"httpGet\":{\"path\":\"/ready\",\"port\":4191},"
                                                 "\"initialDelaySeconds\":2,\"timeoutSeconds\":1}");
    expect_json(member(proxy, "startupProbe"),
                "{\"httpGet\":{\"path\":\"/"
                "ready\",\"port\":4191},\"initialDelaySeconds\":0,\"timeoutSeconds\":1,"
                "\"periodSeconds\":1,\"failureThreshold\":120}");
    expect_json(member(proxy, "securityContext"),
                "{\"allowPrivilegeEscalation\":false,\"capabilities\":{\"drop\":[\"ALL\"]},"
                "\"readOnlyRootFilesystem\":true,\"runAsNonRoot\":true,\"runAsUser\":2102,"
                "\"seccompProfile\":{\"type\":\"RuntimeDefault\"}}");
    expect_json(member(proxy, "volumeMounts"),
                "[{\"name\":\"linkerd-identity-end-entity\",\"mountPath\":\"/var/run/linkerd/"
                "identity/end-entity\"},"
                "{\"name\":\"linkerd-identity-token\",\"mountPath\":\"/var/run/secrets/tokens\"}]");
    assert_string_equal(text_at(proxy, "terminationMessagePolicy"), "FallbackToLogsOnError");
    assert_null(member(proxy, "lifecycle"));
    assert_null(member(proxy, "resources"));
    json_decref(pod);
}

static const char *const environment[][2] = {
    {"_pod_containerName", "linkerd-proxy"},
    {"_l5d_ns", "linkerd"},
    {"_l5d_trustdomain", "cluster.local"},
    {"LINKERD2_PROXY_LOG", "warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off"},
    {"LINKERD2_PROXY_LOG_FORMAT", "plain"},
    {"LINKERD2_PROXY_CORES_MIN", "1"},
    {"LINKERD2_PROXY_DESTINATION_SVC_ADDR",
     "linkerd-dst-headless.linkerd.svc.cluster.local.:8086"},
    {"LINKERD2_PROXY_DESTINATION_SVC_NAME",
     "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"},
    {"LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS",
     "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"},
    {"LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES", "svc.cluster.local."},
    {"LINKERD2_PROXY_DESTINATION_CONTEXT",
     "{\"ns\":\"$(_pod_ns)\", \"nodeName\":\"$(_pod_nodeName)\", \"pod\":\"$(_pod_name)\"}\n"},
    {"LINKERD2_PROXY_POLICY_SVC_ADDR", "linkerd-policy.linkerd.svc.cluster.local.:8090"},
    {"LINKERD2_PROXY_POLICY_SVC_NAME",
     "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"},
    {"LINKERD2_PROXY_POLICY_WORKLOAD", "{\"ns\":\"$(_pod_ns)\", \"pod\":\"$(_pod_name)\"}\n"},
    {"LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS",
     "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"},
    {"LINKERD2_PROXY_INBOUND_DEFAULT_POLICY", "all-unauthenticated"},
    {"LINKERD2_PROXY_IDENTITY_SVC_ADDR",
     "linkerd-identity-headless.linkerd.svc.cluster.local.:8080"},
    {"LINKERD2_PROXY_IDENTITY_SVC_NAME",
     "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"},
    {"LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
     "$(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local"},
    {"LINKERD2_PROXY_IDENTITY_DIR", "/var/run/linkerd/identity/end-entity"},
    {"LINKERD2_PROXY_IDENTITY_TOKEN_FILE", "/var/run/secrets/tokens/linkerd-identity-token"},
    {"LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS",
     "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
    {"LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "127.0.0.1:4140"},
    {"LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS", "127.0.0.1:4140"},
    {"LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "0.0.0.0:4143"},
    {"LINKERD2_PROXY_CONTROL_LISTEN_ADDR", "0.0.0.0:4190"},
    {"LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "0.0.0.0:4191"},
    {"LINKERD2_PROXY_INBOUND_PORTS", "3306,8080,9999"},
    {"LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
     "25,587,3306,4444,5432,6379,9300,11211"},
    {"LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT", "100ms"},
    {"LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT", "1000ms"},
    {"LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT", "90s"},
    {"LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT", "5s"},
    {"LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE", "10000ms"},
    {"LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE", "10000ms"},
    {"LINKERD2_PROXY_INBOUND_ACCEPT_USER_TIMEOUT", "30s"},
    {"LINKERD2_PROXY_OUTBOUND_CONNECT_USER_TIMEOUT", "30s"},
    {"LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT", "3s"},
    {"LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT", "5m"},
    {"LINKERD2_PROXY_CONTROL_STREAM_LIFETIME", "1h"},
    {"LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED", "false"},
    {"LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", "120s"},
};

static const char *const fields[][2] = {
    {"_pod_name", "metadata.name"},
    {"_pod_ns", "metadata.namespace"},
    {"_pod_uid", "metadata.uid"},
    {"_pod_ip", "status.podIP"},
    {"_pod_nodeName", "spec.nodeName"},
    {"_pod_sa", "spec.serviceAccountName"},
    {"LINKERD2_PROXY_INBOUND_IPS", "status.podIPs"},
};

static void test_environment(void **state)
{
    json_t *pod = load(web);

    (void)state;
    inject(pod, NULL);
    for (size_t i = 0; i < ARRAY_LEN(environment); i++) {
        expect_env(pod, environment[i][0], environment[i][1]);
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        json_t *e = named(member(container(pod, "linkerd-proxy"), "env"), fields[i][0]);

        assert_string_equal(text_at(e, "valueFrom/fieldRef/fieldPath"), fields[i][1]);
    }
    assert_null(env(pod, "LINKERD2_PROXY_INGRESS_MODE"));
    assert_null(env(pod, "LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT"));
    json_decref(pod);
}

static void test_ipv6(void **state)
{
    json_t *pod = load(web);

    (void)state;
    values.disable_ipv6 = false;
    inject(pod, NULL);
    assert_false(has_args(pod, "--ipv6=false", NULL));
    expect_env(pod, "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS", "127.0.0.1:4140,[::1]:4140");
    expect_env(pod, "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "[::]:4143");
    expect_env(pod, "LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "[::]:4191");
    json_decref(pod);
}

static void test_control_plane_pod(void **state)
{
    json_t *pod = load(web);

    (void)state;
    (void)json_object_set_new(member(pod, "metadata/labels"), "linkerd.io/control-plane-component",
                              json_string("destination"));
    inject(pod, NULL);
    expect_env(pod, "LINKERD2_PROXY_DESTINATION_SVC_ADDR", "localhost.:8086");
    expect_env(pod, "LINKERD2_PROXY_POLICY_SVC_ADDR", "localhost.:8090");
    expect_env(pod, "LINKERD2_PROXY_IDENTITY_SVC_ADDR",
               "linkerd-identity-headless.linkerd.svc.cluster.local.:8080");
    assert_string_equal(text_at(named(member(container(pod, "linkerd-proxy"), "env"),
                                      "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"),
                                "valueFrom/configMapKeyRef/name"),
                        "linkerd-identity-trust-roots");
    assert_true(has_args(pod, "--outbound-ports-to-ignore", "443,6443,4567,4568"));
    json_decref(pod);
}

static void test_twice_and_back(void **state)
{
    json_t *pod = load(web), *once, *before = json_deep_copy(pod);
    enum inject_result result;
    char problem[200];

    (void)state;
    inject(pod, NULL);
    once = json_deep_copy(pod);
    assert_int_equal(
        inject_pod(&values, "shop", NULL, &deployment, pod, &result, problem, sizeof(problem)), 0);
    assert_int_equal(result, INJECT_SIDECAR);
    assert_true(json_equal(pod, once));
    assert_true(uninject_pod(pod));
    (void)json_object_del(member(pod, "metadata/annotations"), "config.linkerd.io/opaque-ports");
    assert_true(json_equal(pod, before));
    assert_false(uninject_pod(pod));
    json_decref(pod);
    json_decref(once);
    json_decref(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_metadata),
        POD_TEST(test_volumes),
        POD_TEST(test_init_container),
        POD_TEST(test_proxy_container),
        POD_TEST(test_environment),
        POD_TEST(test_ipv6),
        POD_TEST(test_control_plane_pod),
        POD_TEST(test_twice_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
