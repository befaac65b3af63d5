/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_INSTALL_POD_PROBE_H
#define UNIT_INSTALL_POD_PROBE_H

/*
 * One pod, what is injected into it, and looks into the result. Values are new for each test. Who asks for a
 * part that there is not gets NULL; a pod is the caller's to json_decref().
 */
#include "tests/unit/unit.h"

#include "core/arena.h"
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

static inline json_t *load(const char *text)
{
    json_t *value = json_loads(text, 0, NULL);

    assert_non_null(value);
    return value;
}

static inline json_t *web_with(const char *annotation, const char *value)
{
    json_t *pod = load(web);

    (void)json_object_set_new(json_object_get(json_object_get(pod, "metadata"), "annotations"),
                              annotation, json_string(value));
    return pod;
}

static inline void inject(json_t *pod, const json_t *ns_annotations)
{
    enum inject_result result = INJECT_RESULT_COUNT;
    char problem[300] = "";

    if (inject_pod(&values, "shop", ns_annotations, &deployment, pod, &result, problem,
                   sizeof(problem)) != 0) {
        fail_msg("%s", problem);
    }
    assert_int_equal(result, INJECT_OK);
}

static inline json_t *named(json_t *list, const char *name)
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

static inline json_t *container(json_t *pod, const char *name)
{
    json_t *found = named(member(pod, "spec/initContainers"), name);

    return found != NULL ? found : named(member(pod, "spec/containers"), name);
}

static const char *env(json_t *pod, const char *name)
{
    return text_at(named(member(container(pod, "linkerd-proxy"), "env"), name), "value");
}

static inline void expect_env(json_t *pod, const char *name, const char *want)
{
    const char *got = env(pod, name);

    if (got == NULL || strcmp(got, want) != 0) {
        fail_msg("%s is %s, not %s", name, got != NULL ? got : "(absent)", want);
    }
}

static inline void expect_json(json_t *got, const char *want)
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

static inline bool has_args(json_t *pod, const char *flag, const char *value)
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

static inline int set_up(void **state)
{
    (void)state;
    inject_values_default(&values);
    values.trust_anchors_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    values.created_by = "tulle/cli v1";
    values.proxy_version = "v1";
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    arena_cache_clear();
    return 0;
}

#define POD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
