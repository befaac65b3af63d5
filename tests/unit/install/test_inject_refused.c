/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pods are injected, which are left alone, and which are refused, in which words (wire 10.1 and 10.2).
 */
#include "pod_probe.h"

#include "core/err.h"

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

static const char *const wrong[][3] = {
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

static void test_bad_annotations(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char name[100], want[300];
        json_t *ns;

        (void)snprintf(name, sizeof(name), "config.linkerd.io/%s", wrong[i][0]);
        if (wrong[i][2] == NULL) { /* an empty item at the end is as Linkerd has it: nothing */
            json_t *pod = web_with(name, wrong[i][1]);

            inject(pod, NULL);
            json_decref(pod);
            continue;
        }
        (void)snprintf(want, sizeof(want), "annotation %s is \"%s\"; allowed is %s", name,
                       wrong[i][1], wrong[i][2]);
        expect_problem(web_with(name, wrong[i][1]), NULL, want);
        (void)snprintf(want, sizeof(want), "namespace annotation %s is \"%s\"; allowed is %s", name,
                       wrong[i][1], wrong[i][2]);
        ns = json_pack("{s:s}", name, wrong[i][1]);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        POD_TEST(test_decision),
        POD_TEST(test_unknown_annotations),
        POD_TEST(test_bad_annotations),
        POD_TEST(test_bad_shapes),
        POD_TEST(test_many_ports),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
