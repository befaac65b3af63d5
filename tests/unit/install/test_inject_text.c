/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests rewritten in place: what is written where, that every other byte stays, that a second
 * run changes nothing, and that uninject gives back the input.
 */
#include "text_probe.h"

/* There, there again without a change, and back. */
static void expect_there_and_back(const struct inject_options *o, const char *input,
                                  const char *want)
{
    char *there = run(o, input, NULL), *again, *back;

    assert_string_equal(there, want);
    again = run(o, there, NULL);
    assert_string_equal(again, want);
    back = run(&uninject, there, NULL);
    assert_string_equal(back, input);
    mem_free(there);
    mem_free(again);
    mem_free(back);
}

static void expect(const char *input, const char *want)
{
    expect_there_and_back(&annotate, input, want);
}

static void test_block_style(void **state)
{
    (void)state;
    expect(HEAD "metadata:\n"
                "  name: web\n"
                "spec:\n"
                "  # the pods\n"
                "  template:\n"
                "    metadata:\n"
                "      # what the service selects\n"
                "      labels: {app: web}   # short\n"
                "    spec:\n"
                "      containers:\n"
                "      - name: web\n"
                "        args: [ 'a',  \"b\" ]\n"
                "# the end\n",
           HEAD "metadata:\n"
                "  name: web\n"
                "spec:\n"
                "  # the pods\n"
                "  template:\n"
                "    metadata:\n"
                "      # what the service selects\n"
                "      annotations:\n"
                "        linkerd.io/inject: enabled\n"
                "      labels: {app: web}   # short\n"
                "    spec:\n"
                "      containers:\n"
                "      - name: web\n"
                "        args: [ 'a',  \"b\" ]\n"
                "# the end\n");
    /* Wide indentation is followed; other annotations stay behind the new one. */
    expect(HEAD "spec:\n"
                "     template:\n"
                "          metadata:\n"
                "               annotations:\n"
                "                    a: b # c\n"
                "          spec: {}\n",
           HEAD "spec:\n"
                "     template:\n"
                "          metadata:\n"
                "               annotations:\n"
                "                    linkerd.io/inject: enabled\n"
                "                    a: b # c\n"
                "          spec: {}\n");
    /* No metadata. */
    expect(HEAD "spec:\n  template:\n    spec:\n      containers: []\n",
           HEAD "spec:\n  template:\n    metadata:\n      annotations:\n        linkerd.io/inject: "
                "enabled\n"
                "    spec:\n      containers: []\n");
    /* No end of the last line. */
    expect(HEAD "spec:\n  template:\n    metadata:\n      name: x",
           HEAD "spec:\n  template:\n    metadata:\n      annotations:\n        linkerd.io/inject: "
                "enabled\n"
                "      name: x");
}

static void test_empty_and_null(void **state)
{
    static const char *const cases[][2] = {
        {" {}", " {\"linkerd.io/inject\": \"enabled\"}"},
        {" { }", " {\"linkerd.io/inject\": \"enabled\" }"},
        {" {   }", " {\"linkerd.io/inject\": \"enabled\"   }"},
        {"", " {  \"linkerd.io/inject\": \"enabled\" }"},
        {" null", " {   \"linkerd.io/inject\": \"enabled\" }"},
        {" ~", " {    \"linkerd.io/inject\": \"enabled\" }"},
        {"   Null", "   {     \"linkerd.io/inject\": \"enabled\" }"},
        {" NULL", " {      \"linkerd.io/inject\": \"enabled\" }"},
        {" # none", " {  \"linkerd.io/inject\": \"enabled\" } # none"},
        {" {a: b}", " {\"linkerd.io/inject\": \"enabled\", a: b}"},
        {" { a: b, }", " { \"linkerd.io/inject\": \"enabled\", a: b, }"},
        {" {\n          a: b }",
         " {\n          \"linkerd.io/inject\": \"enabled\",\n          a: b }"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char input[400], want[400];

        (void)snprintf(input, sizeof(input),
                       HEAD
                       "spec:\n  template:\n    metadata:\n      annotations:%s\n      name: x\n",
                       cases[i][0]);
        (void)snprintf(want, sizeof(want),
                       HEAD
                       "spec:\n  template:\n    metadata:\n      annotations:%s\n      name: x\n",
                       cases[i][1]);
        expect(input, want);
    }
    expect(HEAD "spec:\n  template:\n    metadata:\n    spec: {}\n",
           HEAD "spec:\n  template:\n    metadata: {  \"annotations\": { \"linkerd.io/inject\": "
                "\"enabled\" } }\n"
                "    spec: {}\n");
    expect(HEAD "spec:\n  template:\n    metadata: {}\n    spec: {}\n",
           HEAD "spec:\n  template:\n    metadata: {\"annotations\": { \"linkerd.io/inject\": "
                "\"enabled\" }}\n"
                "    spec: {}\n");
    expect(
        HEAD "spec: {template: {metadata: {annotations: }}}\n", HEAD
        "spec: {template: {metadata: {annotations: {  \"linkerd.io/inject\": \"enabled\" } }}}\n");
}

static void test_existing_annotation(void **state)
{
    static const char *const cases[][2] = {
        {"ingress", "enabled"},       {"\"ingress\"", "\"enabled\""}, {"'ingress'", "'enabled'"},
        {"yes", "enabled"},           {"true # c", "enabled # c"},    {"", " enabled"},
        {"!!str ingress", "enabled"}, {"enabled", "enabled"},         {"'enabled'", "'enabled'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char input[400], want[400], *there;
        const char *space = *cases[i][0] == '\0' ? "" : " ";

#define FORMAT                                                                                     \
    HEAD "spec:\n  template:\n    metadata:\n      annotations:\n        linkerd.io/inject:%s%s\n" \
         "        a: b\n"
        (void)snprintf(input, sizeof(input), FORMAT, space, cases[i][0]);
        (void)snprintf(want, sizeof(want), FORMAT, space, cases[i][1]);
        there = run(&annotate, input, NULL);
        assert_string_equal(there, want);
        mem_free(there);
    }
}

static void test_json(void **state)
{
    (void)state;
    expect("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"},\"spec\":{"
           "\"containers\":[]}}",
           "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"annotations\": { "
           "\"linkerd.io/inject\": \"enabled\" "
           "}, \"name\":\"a\"},\"spec\":{\"containers\":[]}}");
    expect("{\n\t\"kind\": \"Pod\",\n\t\"apiVersion\": \"v1\",\n\t\"metadata\": {\n\t\t\"name\": "
           "\"\\ud83d\\ude00\",\n"
           "\t\t\"annotations\": {\n\t\t\t\"a\": \"b\"\n\t\t}\n\t},\n\t\"spec\": {\"containers\": "
           "[]}\n}\n",
           "{\n\t\"kind\": \"Pod\",\n\t\"apiVersion\": \"v1\",\n\t\"metadata\": {\n\t\t\"name\": "
           "\"\\ud83d\\ude00\",\n"
           "\t\t\"annotations\": {\n\t\t\t\"linkerd.io/inject\": \"enabled\",\n\t\t\t\"a\": "
           "\"b\"\n\t\t}\n\t},\n"
           "\t\"spec\": {\"containers\": []}\n}\n");
    /* One after another, as kubectl takes them. */
    expect("{\"kind\":\"Pod\",\"spec\":{\"containers\":[]}}\n{\"kind\":\"X\"}\n",
           "{\"metadata\": { \"annotations\": { \"linkerd.io/inject\": \"enabled\" } }, "
           "\"kind\":\"Pod\",\"spec\":{\"containers\":[]}}\n{\"kind\":\"X\"}\n");
}

static void test_documents_and_line_ends(void **state)
{
    (void)state;
    expect("# first\r\n---\r\n"
           "kind: Namespace\r\napiVersion: v1\r\nmetadata:\r\n  name: shop\r\n---\r\n"
           "kind: ConfigMap\r\ndata:\r\n  a: |\r\n    x\r\n...\r\n---\r\n# empty\r\n---\r\n"
           "kind: Pod\r\napiVersion: v1\r\nmetadata:\r\n  name: p\r\nspec:\r\n  containers: []\r\n",
           "# first\r\n---\r\n"
           "kind: Namespace\r\napiVersion: v1\r\nmetadata:\r\n  annotations:\r\n"
           "    linkerd.io/inject: enabled\r\n  name: shop\r\n---\r\n"
           "kind: ConfigMap\r\ndata:\r\n  a: |\r\n    x\r\n...\r\n---\r\n# empty\r\n---\r\n"
           "kind: Pod\r\napiVersion: v1\r\nmetadata:\r\n  annotations:\r\n    linkerd.io/inject: "
           "enabled\r\n"
           "  name: p\r\nspec:\r\n  containers: []\r\n");
    expect("", "");
    expect("# only\n", "# only\n");
    expect("\xef\xbb\xbfkind: Pod\nmetadata:\n  name: \xc3\xa4\n",
           "\xef\xbb\xbfkind: Pod\nmetadata:\n  annotations:\n    linkerd.io/inject: enabled\n  "
           "name: \xc3\xa4\n");
}

static void test_kinds(void **state)
{
    static const char *const workloads[][2] = {
        {"apps/v1", "Deployment"},
        {"apps/v1", "StatefulSet"},
        {"apps/v1", "DaemonSet"},
        {"apps/v1", "ReplicaSet"},
        {"v1", "ReplicationController"},
        {"batch/v1", "Job"},
        {"extensions/v1beta1", "Deployment"},
    };
    static const char *const others[][2] = {
        {"v1", "ConfigMap"},
        {"batch.volcano.sh/v1alpha1", "Job"},
        {"serving.knative.dev/v1", "Service"},
        {"example.org/v1", "Deployment"},
        {"v1", "Service"},
    };
    char input[400], want[400];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(workloads); i++) {
        (void)snprintf(
            input, sizeof(input),
            "apiVersion: %s\nkind: %s\nspec:\n  template:\n    metadata:\n      name: x\n",
            workloads[i][0], workloads[i][1]);
        (void)snprintf(
            want, sizeof(want),
            "apiVersion: %s\nkind: %s\nspec:\n  template:\n    metadata:\n      annotations:\n"
            "        linkerd.io/inject: enabled\n      name: x\n",
            workloads[i][0], workloads[i][1]);
        expect(input, want);
    }
    expect(
        "apiVersion: batch/v1\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n  "
        "      spec: {}\n",
        "apiVersion: batch/v1\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n"
        "        metadata:\n          annotations:\n            linkerd.io/inject: enabled\n       "
        " spec: {}\n");
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        (void)snprintf(input, sizeof(input),
                       "apiVersion: %s\nkind: %s\nmetadata:\n  name: x\nspec:\n  template:\n    "
                       "metadata:\n      name: x\n",
                       others[i][0], others[i][1]);
        expect(input, input);
    }
}

static void test_list(void **state)
{
    (void)state;
    expect("kind: List\napiVersion: v1\nitems:\n"
           "- kind: Deployment\n  apiVersion: apps/v1\n  spec:\n    template:\n      metadata:\n   "
           "     labels:\n"
           "          a: b\n"
           "-   apiVersion: v1\n    metadata: {name: s}\n    kind: Service\n"
           "- kind: List\n  items:\n  - metadata:\n      name: p\n    kind: Pod\n",
           "kind: List\napiVersion: v1\nitems:\n"
           "- kind: Deployment\n  apiVersion: apps/v1\n  spec:\n    template:\n      metadata:\n"
           "        annotations:\n          linkerd.io/inject: enabled\n        labels:\n"
           "          a: b\n"
           "-   apiVersion: v1\n    metadata: {name: s}\n    kind: Service\n"
           "- kind: List\n  items:\n  - metadata:\n      annotations:\n        linkerd.io/inject: "
           "enabled\n      name: p\n"
           "    kind: Pod\n");
    /* A pod without metadata: the pair goes behind the dash. */
    expect("kind: List\nitems:\n- kind: Pod\n  spec: {}\n",
           "kind: List\nitems:\n- metadata:\n    annotations:\n      linkerd.io/inject: enabled\n  "
           "kind: Pod\n  spec: {}\n");
    expect("kind: List\nitems: []\n", "kind: List\nitems: []\n");
    expect("kind: List\nitems:\n", "kind: List\nitems:\n");
}

static void test_skipped(void **state)
{
    static const char *const inputs[] = {
        "kind: Pod\nspec:\n  hostNetwork: true\n",
        "kind: Pod\nspec:\n  hostNetwork: yes\n", /* as kubectl reads it */
        "kind: Pod\nspec:\n  containers:\n  - name: istio-proxy\n",
        "kind: Pod\nmetadata:\n  annotations:\n    linkerd.io/inject: disabled\n",
        HEAD "metadata:\n  name: a\n",
        HEAD "spec: null\n",
        HEAD "spec: {template: [1]}\n",
        "- kind: Pod\n",
        "just text\n",
        "kind: 5\n",
        "metadata:\n  name: x\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(inputs); i++) {
        expect(inputs[i], inputs[i]);
    }
}

static void test_further_annotations(void **state)
{
    static const char *const annotations[][2] = {{"config.linkerd.io/proxy-log-level", "debug"},
                                                 {"config.linkerd.io/opaque-ports", "3306"}};
    const struct inject_options o = {.mode = INJECT_ANNOTATE,
                                     .annotate_value = "ingress",
                                     .annotations = annotations,
                                     .annotations_count = 2};

    (void)state;
    expect_there_and_back(
        &o,
        "kind: Pod\nmetadata:\n  name: x\n---\nkind: Service\nmetadata:\n  name: s\n---\n"
        "kind: Namespace\nmetadata:\n  annotations:\n    config.linkerd.io/skip-subnets: "
        "10.0.0.0/8\n",
        "kind: Pod\nmetadata:\n  annotations:\n    linkerd.io/inject: ingress\n"
        "    \"config.linkerd.io/proxy-log-level\": \"debug\"\n    "
        "\"config.linkerd.io/opaque-ports\": \"3306\"\n  name: x\n"
        "---\nkind: Service\nmetadata:\n  annotations:\n    \"config.linkerd.io/opaque-ports\": "
        "\"3306\"\n  name: s\n---\n"
        "kind: Namespace\nmetadata:\n  annotations:\n    linkerd.io/inject: ingress\n"
        "    \"config.linkerd.io/proxy-log-level\": \"debug\"\n    "
        "\"config.linkerd.io/opaque-ports\": \"3306\"\n"
        "    config.linkerd.io/skip-subnets: 10.0.0.0/8\n");
    expect_there_and_back(
        &o,
        "{\"kind\":\"Service\",\"metadata\":{\"annotations\":{\"config.linkerd.io/proxy-uid\": "
        "\"1\"}}}\n",
        "{\"kind\":\"Service\",\"metadata\":{\"annotations\":{\"config.linkerd.io/opaque-ports\":  "
        "\"3306\", \"config.linkerd.io/proxy-uid\": \"1\"}}}\n");
}

static void test_uninject_of_others_work(void **state)
{
    char *back = run(
        &uninject,
        HEAD
        "spec:\n  template:\n    metadata:\n      annotations:\n"
        "        config.linkerd.io/proxy-cpu-request: 100m\n"
        "        # why\n"
        "        linkerd.io/inject: enabled   # on\n"
        "        z: 1\n"
        "      labels: {linkerd.io/control-plane-ns: linkerd, a: b, linkerd.io/workload-ns: x}\n"
        "    spec:\n      containers:\n      - {name: linkerd-proxy}\n      - name: web\n",
        NULL);

    (void)state;
    /* The user's own settings stay. */
    assert_string_equal(back, HEAD "spec:\n  template:\n    metadata:\n      annotations:\n"
                                   "        config.linkerd.io/proxy-cpu-request: 100m\n"
                                   "        # why\n"
                                   "        z: 1\n"
                                   "      labels: {a: b}\n"
                                   "    spec:\n      containers:\n      - name: web\n");
    mem_free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEXT_TEST(test_block_style),
        TEXT_TEST(test_empty_and_null),
        TEXT_TEST(test_existing_annotation),
        TEXT_TEST(test_json),
        TEXT_TEST(test_documents_and_line_ends),
        TEXT_TEST(test_kinds),
        TEXT_TEST(test_list),
        TEXT_TEST(test_skipped),
        TEXT_TEST(test_further_annotations),
        TEXT_TEST(test_uninject_of_others_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
