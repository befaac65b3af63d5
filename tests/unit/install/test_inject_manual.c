/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole patch written into manifests: that they can be read, that a second run changes nothing,
 * and that uninject gives back what the input means.
 */
#include "text_probe.h"

#include "text/yaml.h"

static const struct inject_options manual = {
    .mode = INJECT_MANUAL, .annotate_value = "enabled", .values = &values};

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEXT_TEST(test_manual),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
