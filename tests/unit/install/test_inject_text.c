/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests rewritten in place: what is written where, that every other byte stays, that a second
 * run changes nothing, and that uninject gives back the input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/err.h"
#include "install/inject.h"
#include "text/yaml.h"

#define TEXT_MAX ((size_t)1 << 24)

static struct inject_values values;
static const struct inject_options annotate = {.mode = INJECT_ANNOTATE,
                                               .annotate_value = "enabled"};
static const struct inject_options uninject = {.mode = INJECT_UNINJECT};
static const struct inject_options manual = {
    .mode = INJECT_MANUAL, .annotate_value = "enabled", .values = &values};

static int set_up(void **state)
{
    (void)state;
    inject_values_default(&values);
    values.trust_anchors_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    return 0;
}

/* Caller frees both. */
static char *run(const struct inject_options *o, const char *input, char **out_report)
{
    struct text to, report;
    char problem[600] = "";
    char *text = NULL;

    text_init(&to, TEXT_MAX);
    text_init(&report, TEXT_MAX);
    if (inject_text(o, bytes_str(input), &to, &report, problem, sizeof(problem)) != 0) {
        fail_msg("%s\n%s", problem, input);
    }
    assert_int_equal(text_finish(&to, &text), 0);
    if (out_report != NULL) {
        assert_int_equal(text_finish(&report, out_report), 0);
    }
    text_clear(&report);
    return text;
}

static json_t *meaning(const char *text)
{
    struct arena a;
    struct yaml_document *d = NULL;
    char problem[300];
    json_t *all = json_array();

    arena_init(&a, (size_t)1 << 28);
    if (yaml_parse(&a, bytes_str(text), &d, problem, sizeof(problem)) != 0) {
        fail_msg("%s\n%s", problem, text);
    }
    for (; d != NULL; d = d->next) {
        (void)json_array_append_new(all, yaml_to_json(d->root));
    }
    arena_clear(&a);
    return all;
}

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

#define HEAD "apiVersion: apps/v1\nkind: Deployment\n"

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

static void expect_problem(const char *input, int err, const char *want)
{
    struct text to, report;
    char problem[600] = "";

    text_init(&to, TEXT_MAX);
    text_init(&report, TEXT_MAX);
    text_str(&to, "before");
    assert_int_equal(
        inject_text(&annotate, bytes_str(input), &to, &report, problem, sizeof(problem)), err);
    if (strncmp(problem, want, strlen(want)) != 0) {
        fail_msg("%s", problem);
    }
    assert_string_equal(to.at, "before");
    assert_int_equal(report.len, 0);
    text_clear(&to);
    text_clear(&report);
}

static void test_problems(void **state)
{
    (void)state;
    expect_problem("kind: Pod\nmetadata: [\n", E_YAML, "line 3, column 1: ");
    expect_problem("kind: Pod\nmetadata:\n  name: p\n  annotations:\n    a: b\n    "
                   "config.linkerd.io/proxy-uid: root\n",
                   E_CONFIG,
                   "line 6, column 34: pod \"p\": annotation config.linkerd.io/proxy-uid is "
                   "\"root\"; allowed is a number");
    expect_problem("kind: Namespace\nmetadata:\n  name: ns\n  annotations:\n"
                   "    config.linkerd.io/proxy-log-level: loud\n",
                   E_CONFIG,
                   "line 5, column 40: namespace \"ns\": annotation config.linkerd.io/proxy-log-level is "
                   "\"loud\"; allowed is off, error, warn,");
    expect_problem("kind: Pod\nmetadata:\n  name: p\n  annotations: [a]\n", E_CONFIG,
                   "line 1, column 1: pod \"p\": ");
    expect_problem(
        "kind: Pod\nmetadata:\n  name: p\n  labels: {linkerd.io/control-plane-component: web}\n",
        E_CONFIG, "line 1, column 1: pod \"p\": a part of the control plane");
    /* What would change elsewhere, too, or cannot be found in the text. */
    expect_problem("kind: List\nx: &m {name: a}\nitems:\n- kind: Pod\n  metadata: *m\n", E_YAML,
                   "line 5, column 13: this is an alias");
    expect_problem("kind: List\nitems:\n- kind: Pod\n  metadata: &m {name: a}\n- metadata: *m\n",
                   E_YAML, "line 1, column 1: the text is written in a way");
    expect_problem("kind: Pod\nmetadata:\n  ? name\n  : a\n", E_YAML,
                   "line 3, column 3: the mapping is written");
}

/* Absent, null and empty are the same to Kubernetes, and uninject takes out lists that got empty. */
static void prune(json_t *value)
{
    const char *key;
    json_t *child;
    void *next;
    size_t i;

    json_object_foreach_safe(value, next, key, child)
    {
        prune(child);
        if (json_is_null(child) || (json_is_object(child) && json_object_size(child) == 0) ||
            (json_is_array(child) && json_array_size(child) == 0)) {
            (void)json_object_del(value, key);
        }
    }
    json_array_foreach(value, i, child)
    {
        prune(child);
    }
}

static void expect_manual(const char *input)
{
    char *there = run(&manual, input, NULL), *again = run(&manual, there, NULL), *back;
    json_t *before = meaning(input), *after, *between = meaning(there);

    assert_string_not_equal(there, input);
    assert_non_null(strstr(there, "linkerd-identity-token"));
    assert_string_equal(again, there);
    back = run(&uninject, there, NULL);
    after = meaning(back);
    prune(before);
    prune(after);
    if (!json_equal(before, after)) {
        fail_msg("%s\n---- became\n%s\n---- by way of\n%s", input, back, there);
    }
    json_decref(before);
    json_decref(after);
    json_decref(between);
    mem_free(there);
    mem_free(again);
    mem_free(back);
}

static void test_manual(void **state)
{
    char *there;

    (void)state;
    expect_manual(
        HEAD
        "metadata:\n  name: web\n  namespace: shop\nspec:\n  template:\n    metadata:\n      "
        "labels:\n"
        "        app: web\n    spec:\n      containers:\n      - name: web\n        image: web:1\n"
        "        ports:\n        - containerPort: 3306 # opaque\n      # behind\n");
    expect_manual(
        HEAD "metadata:\n  name: web\nspec:\n  template:\n    spec:\n      containers:\n"
             "        - # first\n          name: web\n          args:\n            - |+\n          "
             "    x\n\n"
             "      initContainers:\n      -   name: a\n      volumes:\n        - name: v # the\n");
    expect_manual("kind: Pod\nspec:\n  containers: [{name: a}, {name: b}]\n  volumes: []\n  "
                  "initContainers:\n");
    expect_manual("{\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"name\":\"a\"}],\"volumes\":[{"
                  "\"name\":\"v\"}]}}");
    expect_manual("{\n  \"kind\": \"Pod\",\n  \"spec\": {\n    \"containers\": [\n      {\n        "
                  "\"name\": \"a\"\n"
                  "      }\n    ]\n  }\n}\n");
    expect_manual(
        "kind: Pod\r\nspec:\r\n  containers:\r\n  - name: a\r\n    args: [\"\xc3\xa4\"]\r\n");
    expect_manual("kind: Pod\nspec:\n  containers:\n  - name: a");
    expect_manual("kind: List\nitems:\n- apiVersion: batch/v1\n  kind: CronJob\n  metadata: {name: "
                  "c}\n  spec:\n"
                  "    jobTemplate:\n      spec:\n        template:\n          spec:\n            "
                  "containers:\n"
                  "            - name: a\n- kind: Service\n");
    {
        const struct inject_values native = values;

        values.native_sidecar = false;
        expect_manual("kind: Pod\nspec:\n  containers: []\n");
        expect_manual("kind: Pod\nspec:\n  containers:\n  - name: a\n  - name: b\n");
        values = native;
    }
    there = run(&manual,
                HEAD "metadata: {name: web}\nspec:\n  template:\n    spec:\n      containers:\n    "
                     "  - name: web\n"
                     "        image: web:1\n",
                NULL);
    assert_non_null(strstr(
        there, "      initContainers:\n      - name: linkerd-init\n        image: tulle/proxy:"));
    assert_non_null(strstr(there, "        linkerd.io/proxy-deployment: web\n"));
    assert_non_null(
        strstr(there, "        - name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS\n          value: |\n"
                      "            -----BEGIN CERTIFICATE-----\n"));
    mem_free(there);
}

static void expect_report(const struct inject_options *o, const char *input, const char *want)
{
    char *report, *text = run(o, input, &report);

    assert_string_equal(report, want);
    mem_free(report);
    mem_free(text);
}

static void test_report(void **state)
{
    static const struct inject_options verbose = {
        .mode = INJECT_ANNOTATE, .annotate_value = "enabled", .verbose = true};

    (void)state;
    expect_report(
        &annotate,
        HEAD
        "metadata: {name: web}\nspec: {template: {}}\n---\nkind: Service\nmetadata: {name: web}\n",
        "\ndeployment \"web\" injected\nservice \"web\" skipped\n\n");
    expect_report(&annotate,
                  "kind: Namespace\nmetadata:\n  name: ns\n  annotations:\n"
                  "    config.linkerd.io/nothing: x\n    config.linkerd.io/proxy-log-levle: info\n",
                  "\n\xe2\x80\xbc the annotation config.linkerd.io/nothing of namespace/ns is not known\n"
                  "\xe2\x80\xbc the annotation config.linkerd.io/proxy-log-levle of namespace/ns is not "
                  "known; did you mean config.linkerd.io/proxy-log-level?\n"
                  "\nnamespace \"ns\" annotated\n\n");
    expect_report(&annotate, "kind: Namespace\nmetadata: {name: ns}\n---\nx: 1\n",
                  "\nnamespace \"ns\" annotated\ndocument missing \"kind\" field, skipped\n\n");
    expect_report(&annotate,
                  "kind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true}\n---\n"
                  "kind: Pod\nmetadata: {name: b}\nspec: {hostNetwork: true, "
                  "automountServiceAccountToken: false,"
                  " containers: [{name: x, ports: [{containerPort: 53, protocol: UDP}]}]}\n",
                  "\n\xe2\x80\xbc \"hostNetwork: true\" is set in pod/a, pod/b\n"
                  "\xe2\x80\xbc found nothing that can be injected\n"
                  "\xe2\x80\xbc pod/b uses \"protocol: UDP\", which is not meshed\n"
                  "\xe2\x80\xbc \"automountServiceAccountToken: false\" in pod/b does not concern "
                  "the proxy, whose token is "
                  "projected\n"
                  "\npod \"a\" skipped\npod \"b\" skipped\n\n");
    expect_report(&verbose, "kind: Pod\nmetadata: {name: a}\n",
                  "\n\xe2\x88\x9a no pod uses the host's network\n\xe2\x88\x9a no pod has a "
                  "sidecar proxy yet\n"
                  "\xe2\x88\x9a at least one object can be injected or annotated\n\xe2\x88\x9a no "
                  "pod has UDP ports\n"
                  "\xe2\x88\x9a no pod has the annotation \"linkerd.io/inject: disabled\"\n"
                  "\xe2\x88\x9a no pod has \"automountServiceAccountToken: false\"\n"
                  "\npod \"a\" injected\n\n");
    expect_report(
        &uninject,
        "kind: Pod\nmetadata:\n  name: a\n  annotations:\n    linkerd.io/inject: enabled\n---\n"
        "kind: Pod\nmetadata:\n  name: b\n  annotations:\n    linkerd.io/inject: disabled\n",
        "\npod \"a\" uninjected\npod \"b\" skipped\n\n");
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
#define TEST(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        TEST(test_block_style),
        TEST(test_empty_and_null),
        TEST(test_existing_annotation),
        TEST(test_json),
        TEST(test_documents_and_line_ends),
        TEST(test_kinds),
        TEST(test_list),
        TEST(test_skipped),
        TEST(test_further_annotations),
        TEST(test_problems),
        TEST(test_manual),
        TEST(test_report),
        TEST(test_uninject_of_others_work),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    arena_cache_clear();
    return failed;
}
