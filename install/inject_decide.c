/* SPDX-License-Identifier: Apache-2.0 */
#include "api/names.h"
#include "install/inject_private.h"

static const struct {
    const char *reason, *sentence;
} results[] = {
#define INJECT(id, reason, sentence) {reason, sentence},
#include "install/inject.def"
#undef INJECT
};

const char *inject_reason(enum inject_result r)
{
    assert((size_t)r < ARRAY_LEN(results));
    return results[r].reason;
}

const char *inject_sentence(enum inject_result r)
{
    assert((size_t)r < ARRAY_LEN(results));
    return results[r].sentence;
}

static bool starts_with(const char *text, const char *prefix)
{
    return text != NULL && strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_named(const json_t *container, const char *name)
{
    const char *got = json_string_value(json_object_get(container, "name"));

    return got != NULL && strcmp(got, name) == 0;
}

/* A mesh's proxy or its redirection: two of them in one pod would redirect each other's traffic. */
static bool is_sidecar(const json_t *container)
{
    static const char *const names[] = {CONTAINER_PROXY, CONTAINER_INIT, CONTAINER_VALIDATOR,
                                        "istio-proxy", "istio-init"};
    static const char *const images[] = {
        "cr.l5d.io/linkerd/proxy:", "gcr.io/istio-release/proxyv2:", "docker.io/istio/proxyv2:",
        "cr.l5d.io/linkerd/proxy-init:", "gcr.io/istio-release/proxy_init:"};
    const char *image = json_string_value(json_object_get(container, "image"));

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (is_named(container, names[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(images); i++) {
        if (starts_with(image, images[i])) {
            return true;
        }
    }
    return false;
}

static bool has_sidecar(const json_t *spec)
{
    static const char *const lists[] = {"containers", "initContainers"};

    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        const json_t *container;
        size_t i;

        json_array_foreach(json_object_get(spec, lists[l]), i, container)
        {
            if (is_sidecar(container)) {
                return true;
            }
        }
    }
    return false;
}

enum inject_result inject_decide(const json_t *pod, const json_t *ns_annotations,
                                 bool *out_is_ingress)
{
    const json_t *spec = json_object_get(pod, "spec");
    const json_t *own = json_object_get(
        json_object_get(json_object_get(pod, "metadata"), "annotations"), ANNOTATION_INJECT);
    const json_t *value = own != NULL ? own : json_object_get(ns_annotations, ANNOTATION_INJECT);
    const char *word = json_string_value(value);

    *out_is_ingress = false;
    if (json_is_true(json_object_get(spec, "hostNetwork"))) {
        return INJECT_HOST_NETWORK;
    }
    if (has_sidecar(spec)) {
        return INJECT_SIDECAR;
    }
    if (value == NULL || json_is_null(value)) {
        return INJECT_ABSENT;
    }
    if (word != NULL && strcmp(word, "disabled") == 0) {
        return INJECT_DISABLED;
    }
    if (word != NULL && strcmp(word, "ingress") == 0) {
        *out_is_ingress = true;
        return INJECT_OK;
    }
    if (word == NULL || strcmp(word, "enabled") != 0) {
        return own != NULL ? INJECT_INVALID_POD : INJECT_INVALID_NS;
    }
    return INJECT_OK;
}
