/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pod patch, item by item (wire 10.1 to 10.3, 1.2 and 2.1).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/arena.h"
#include "core/err.h"
#include "install/inject.h"

static const char web[] =
    "{\"metadata\":{\"labels\":{\"app\":\"web\"},\"annotations\":{\"linkerd.io/"
    "inject\":\"enabled\"}},"
    "\"spec\":{\"containers\":[{\"name\":\"web\",\"image\":\"web:1\",\"ports\":[{\"name\":\"http\","
    "\"containerPort\":8080},"
    "{\"containerPort\":3306,\"name\":\"mysql\"},{\"containerPort\":53,\"protocol\":\"UDP\"}],"
    "\"livenessProbe\":{\"httpGet\":{\"path\":\"/\",\"port\":\"http\"}},"
    "\"readinessProbe\":{\"tcpSocket\":{\"port\":9999}}}],\"volumes\":[{\"name\":\"data\","
    "\"emptyDir\":{}}]}}";

static struct inject_values values;
static const struct inject_owner deployment = {"deployment", "web"};

static json_t *load(const char *text)
{
    json_t *value = json_loads(text, 0, NULL);

    assert_non_null(value);
    return value;
}

static json_t *web_with(const char *annotation, const char *value)
{
    json_t *pod = load(web);

    (void)json_object_set_new(json_object_get(json_object_get(pod, "metadata"), "annotations"),
                              annotation, json_string(value));
    return pod;
}

static void inject(json_t *pod, const json_t *ns_annotations)
{
    enum inject_result result = INJECT_RESULT_COUNT;
    char problem[300] = "";

    if (inject_pod(&values, "shop", ns_annotations, &deployment, pod, &result, problem,
                   sizeof(problem)) != 0) {
        fail_msg("%s", problem);
    }
    assert_int_equal(result, INJECT_OK);
}

static json_t *named(json_t *list, const char *name)
{
    json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "name")), name) == 0) {
            return item;
        }
    }
    return NULL;
}

static json_t *member(json_t *root, const char *path) /* "spec/containers" */
{
    struct bytes rest = bytes_str(path);

    while (rest.len > 0) {
        struct bytes key;

        (void)bytes_split(rest, '/', &key, &rest);
        root = json_object_getn(root, key.at, key.len);
    }
    return root;
}

static const char *text_at(json_t *root, const char *path)
{
    return json_string_value(member(root, path));
}

static json_t *container(json_t *pod, const char *name)
{
    json_t *found = named(member(pod, "spec/initContainers"), name);

    return found != NULL ? found : named(member(pod, "spec/containers"), name);
}

static const char *env(json_t *pod, const char *name)
{
    return text_at(named(member(container(pod, "linkerd-proxy"), "env"), name), "value");
}

static void expect_env(json_t *pod, const char *name, const char *want)
{
    const char *got = env(pod, name);

    if (got == NULL || strcmp(got, want) != 0) {
        fail_msg("%s is %s, not %s", name, got != NULL ? got : "(absent)", want);
    }
}

static void expect_json(json_t *got, const char *want)
{
    json_t *value = json_loads(want, JSON_DECODE_ANY, NULL);
    char *dumped = json_dumps(got, JSON_ENCODE_ANY | JSON_SORT_KEYS);

    assert_non_null(value);
    if (!json_equal(got, value)) {
        fail_msg("%s\nis not\n%s", dumped, want);
    }
    free(dumped);
    json_decref(value);
}

static bool has_args(json_t *pod, const char *flag, const char *value)
{
    json_t *args = member(container(pod, "linkerd-init"), "args"), *arg;
    size_t i;

    json_array_foreach(args, i, arg)
    {
        if (strcmp(json_string_value(arg), flag) == 0) {
            const char *next = json_string_value(json_array_get(args, i + 1));

            return value == NULL || (next != NULL && strcmp(next, value) == 0);
        }
    }
    return false;
}

static int set_up(void **state)
{
    (void)state;
    inject_values_default(&values);
    values.trust_anchors_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    values.created_by = "tulle/cli v1";
    values.proxy_version = "v1";
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_cache_clear();
    return 0;
}

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

static void test_environment(void **state)
{
    static const char *const want[][2] = {
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
    json_t *pod = load(web);

    (void)state;
    inject(pod, NULL);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        expect_env(pod, want[i][0], want[i][1]);
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        json_t *e = named(member(container(pod, "linkerd-proxy"), "env"), fields[i][0]);

        assert_string_equal(text_at(e, "valueFrom/fieldRef/fieldPath"), fields[i][1]);
    }
    assert_null(env(pod, "LINKERD2_PROXY_INGRESS_MODE"));
    assert_null(env(pod, "LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT"));
    json_decref(pod);
}

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

static void expect_result(const char *pod_text, const char *ns_text, enum inject_result want)
{
    json_t *pod = load(pod_text), *before = json_deep_copy(pod),
           *ns = ns_text != NULL ? load(ns_text) : NULL;
    enum inject_result result = INJECT_RESULT_COUNT;
    char problem[300] = "";

    assert_int_equal(inject_pod(&values, "shop", ns, NULL, pod, &result, problem, sizeof(problem)),
                     0);
    if (result != want) {
        fail_msg("%s: %s", pod_text, inject_reason(result));
    }
    assert_true((want == INJECT_OK) != json_equal(pod, before));
    json_decref(pod);
    json_decref(before);
    json_decref(ns);
}

static void test_decision(void **state)
{
#define POD(annotation, spec)                                                                      \
    "{\"metadata\":{\"annotations\":{" annotation "}},\"spec\":{" spec                             \
    "\"containers\":[{\"name\":\"a\"}]}}"
#define ON "\"linkerd.io/inject\":\"enabled\""
    (void)state;
    expect_result(POD(ON, ""), NULL, INJECT_OK);
    expect_result(POD("", ""), NULL, INJECT_ABSENT);
    expect_result(POD("", ""), "{" ON "}", INJECT_OK);
    expect_result(POD("\"linkerd.io/inject\":\"disabled\"", ""), "{" ON "}", INJECT_DISABLED);
    expect_result(POD("\"linkerd.io/inject\":\"yes\"", ""), "{" ON "}", INJECT_INVALID_POD);
    expect_result(POD("\"linkerd.io/inject\":true", ""), NULL, INJECT_INVALID_POD);
    expect_result(POD("", ""), "{\"linkerd.io/inject\":\"yes\"}", INJECT_INVALID_NS);
    expect_result(POD(ON, "\"hostNetwork\":true,"), NULL, INJECT_HOST_NETWORK);
    expect_result(POD(ON, "\"initContainers\":[{\"name\":\"linkerd-proxy\"}],"), NULL,
                  INJECT_SIDECAR);
    expect_result("{\"metadata\":{\"annotations\":{" ON
                  "}},\"spec\":{\"containers\":[{\"name\":\"istio-proxy\"}]}}",
                  NULL, INJECT_SIDECAR);
    expect_result("{\"metadata\":{\"annotations\":{" ON
                  "}},\"spec\":{\"containers\":[{\"name\":\"x\","
                  "\"image\":\"cr.l5d.io/linkerd/proxy:v2\"}]}}",
                  NULL, INJECT_SIDECAR);
    expect_result("{\"spec\":{\"containers\":[]}}", "{" ON "}", INJECT_OK);
    assert_string_equal(inject_reason(INJECT_HOST_NETWORK), "host_network_enabled");
    assert_string_equal(inject_reason(INJECT_SIDECAR), "sidecar_already_exists");
    assert_string_equal(inject_sentence(INJECT_HOST_NETWORK), "the pod uses the host's network");
}

static void expect_problem(json_t *pod, const json_t *ns, const char *want)
{
    json_t *before = json_deep_copy(pod);
    enum inject_result result = INJECT_RESULT_COUNT;
    char problem[300] = "";

    assert_int_equal(inject_pod(&values, "shop", ns, NULL, pod, &result, problem, sizeof(problem)),
                     E_CONFIG);
    assert_string_equal(problem, want);
    assert_int_equal(result, INJECT_RESULT_COUNT);
    assert_true(json_equal(pod, before)); /* nothing half done */
    json_decref(before);
    json_decref(pod);
}

/* What there is not is left out, as Linkerd does it, and can be told with what was meant. */
static void test_unknown_annotations(void **state)
{
    struct inject_annotation a;
    json_t *pod = web_with("config.linkerd.io/proxy-log-levle", "info");
    json_t *ns = json_pack("{s:s}", "config.alpha.linkerd.io/x", "1");

    (void)state;
    inject(pod, ns);
    json_decref(pod);
    json_decref(ns);
    inject_annotation_read("config.linkerd.io/proxy-log-levle", "loud", &a);
    assert_true(a.is_ours && !a.is_known && a.allowed == NULL);
    assert_string_equal(a.near, "config.linkerd.io/proxy-log-level");
    inject_annotation_read("config.linkerd.io/colour", "red", &a);
    assert_true(a.is_ours && !a.is_known && a.near == NULL);
    inject_annotation_read("config.linkerd.io/proxy-log-level", "loud", &a);
    assert_true(a.is_ours && a.is_known && a.allowed != NULL);
    inject_annotation_read("config.linkerd.io/proxy-log-level", "warn,linkerd=debug", &a);
    assert_true(a.is_ours && a.is_known && a.allowed == NULL);
    inject_annotation_read("kubernetes.io/proxy-log-level", "loud", &a);
    assert_false(a.is_ours || a.is_known);
}

static void test_bad_annotations(void **state)
{
    static const char *const cases[][3] = {
        {"proxy-cpu-request", "lots", "a quantity like 100m, 0.5 or 250Mi"},
        {"proxy-memory-limit", "1e", "a quantity like 100m, 0.5 or 250Mi"},
        {"proxy-memory-limit", "0x10", "a quantity like 100m, 0.5 or 250Mi"},
        {"proxy-cpu-ratio-limit", "2", "a number above 0, at most 1"},
        {"proxy-uid", "-1", "a number from 0 to 2147483647"},
        {"inbound-port", "0", "a number from 1 to 65535"},
        {"admin-port", "65536", "a number from 1 to 65535"},
        {"skip-inbound-ports", "25,", NULL},
        {"skip-inbound-ports", "10-5", "ports, ranges and port names like 25,8000-8010,mysql"},
        {"skip-outbound-ports", "a b", "ports, ranges and port names like 25,8000-8010,mysql"},
        {"opaque-ports", "99999", "ports, ranges and port names like 25,8000-8010,mysql"},
        {"skip-subnets", "10.0.0.0/33", "networks like 10.0.0.0/8,fd00::/8"},
        {"skip-subnets", "10.0.0.0", "networks like 10.0.0.0/8,fd00::/8"},
        {"image-pull-policy", "always", "Always, IfNotPresent or Never"},
        {"proxy-log-format", "xml", "plain or json"},
        {"proxy-log-level", "loud",
         "off, error, warn, info, debug, trace or a filter like warn,linkerd=info"},
        {"proxy-log-level", "warn,linkerd=loud",
         "off, error, warn, info, debug, trace or a filter like warn,linkerd=info"},
        {"proxy-await", "true", "enabled or disabled"},
        {"proxy-enable-native-sidecar", "yes", "true or false"},
        {"default-inbound-policy", "none",
         "all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, "
         "deny or audit"},
        {"proxy-inbound-connect-timeout", "1", "a duration like 100ms, 30s or 1m30s"},
        {"proxy-inbound-connect-timeout", "1ms2", "a duration like 100ms, 30s or 1m30s"},
        {"close-wait-timeout", "s", "a duration like 100ms, 30s or 1m30s"},
        {"access-log", "nginx", "apache or json"},
        {"proxy-image", "a b", "an image name or version without spaces"},
        {"proxy-additional-env", "{}", "a JSON list like [{\"name\": \"A\", \"value\": \"b\"}]"},
        {"proxy-additional-env", "[{\"name\":1}]",
         "a JSON list like [{\"name\": \"A\", \"value\": \"b\"}]"},
        {"trace-collector", "collector", "a host and port like collector.tracing:4317"},
        {"trace-collector", ":4317", "a host and port like collector.tracing:4317"},
        {"trace-collector", "a b:4317", "a host and port like collector.tracing:4317"},
        {"trace-collector", "a:0", "a host and port like collector.tracing:4317"},
        {"trace-collector-service-account", "A B", "the name of a service account"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char name[100], want[300];
        json_t *ns;

        (void)snprintf(name, sizeof(name), "config.linkerd.io/%s", cases[i][0]);
        if (cases[i][2] == NULL) { /* an empty item at the end is as Linkerd has it: nothing */
            json_t *pod = web_with(name, cases[i][1]);

            inject(pod, NULL);
            json_decref(pod);
            continue;
        }
        (void)snprintf(want, sizeof(want), "annotation %s is \"%s\"; allowed is %s", name,
                       cases[i][1], cases[i][2]);
        expect_problem(web_with(name, cases[i][1]), NULL, want);
        (void)snprintf(want, sizeof(want), "namespace annotation %s is \"%s\"; allowed is %s", name,
                       cases[i][1], cases[i][2]);
        ns = json_pack("{s:s}", name, cases[i][1]);
        expect_problem(load(web), ns, want);
        json_decref(ns);
    }
    expect_problem(web_with("config.linkerd.io/skip-inbound-ports", "redis"), NULL,
                   "annotation config.linkerd.io/skip-inbound-ports names the port \"redis\", "
                   "which no container of the "
                   "pod has");
    {
        json_t *pod = web_with("config.linkerd.io/proxy-cpu-request", "2");

        (void)json_object_set_new(member(pod, "metadata/annotations"),
                                  "config.linkerd.io/proxy-cpu-limit", json_string("500m"));
        expect_problem(
            pod, NULL,
            "annotation config.linkerd.io/proxy-cpu-request is \"2\"; allowed is at most 500m "
            "(config.linkerd.io/proxy-cpu-limit)");
    }
    {
        json_t *pod = load(web);

        (void)json_object_set_new(member(pod, "metadata/annotations"),
                                  "config.linkerd.io/proxy-uid", json_integer(7));
        expect_problem(
            pod, NULL,
            "annotation config.linkerd.io/proxy-uid is \"no text\"; allowed is a text; numbers, "
            "true and false stand in quotes");
    }
}

static void test_bad_shapes(void **state)
{
    (void)state;
    expect_problem(load("{\"spec\":{}}"), NULL, "spec.containers is missing, or is no list");
    expect_problem(load("{\"metadata\":{}}"), NULL, "spec is missing, or is no mapping");
    expect_problem(load("{\"metadata\":{\"labels\":[]},\"spec\":{\"containers\":[]}}"), NULL,
                   "metadata.labels is no mapping");
    expect_problem(load("{\"metadata\":{\"annotations\":\"x\"},\"spec\":{\"containers\":[]}}"),
                   NULL, "metadata.annotations is no mapping");
    expect_problem(load("{\"spec\":{\"containers\":[],\"volumes\":{}}}"), NULL,
                   "spec.volumes is no list");
}

static void test_many_ports(void **state)
{
    json_t *pod = load(web), *ports = json_array();
    enum inject_result result;
    char problem[200];

    (void)state;
    for (int i = 1; i < 5000; i++) {
        (void)json_array_append_new(ports, json_pack("{s:i}", "containerPort", i));
    }
    (void)json_object_set_new(json_array_get(member(pod, "spec/containers"), 0), "ports", ports);
    assert_int_equal(
        inject_pod(&values, "shop", NULL, NULL, pod, &result, problem, sizeof(problem)), E_CONFIG);
    assert_string_equal(problem, "the pod has more than 1023 ports");
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
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_metadata),
        TEST(test_volumes),
        TEST(test_init_container),
        TEST(test_proxy_container),
        TEST(test_environment),
        TEST(test_annotations_in_environment),
        TEST(test_traces),
        TEST(test_annotations_in_redirection),
        TEST(test_annotations_in_containers),
        TEST(test_not_native),
        TEST(test_ipv6),
        TEST(test_namespace_annotations),
        TEST(test_control_plane_pod),
        TEST(test_decision),
        TEST(test_unknown_annotations),
        TEST(test_bad_annotations),
        TEST(test_bad_shapes),
        TEST(test_many_ports),
        TEST(test_twice_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
