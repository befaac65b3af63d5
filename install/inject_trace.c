/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traces, where the annotation config.linkerd.io/trace-collector names a collector: the proxy's
 * settings (wire 2.1), and the pod's labels as a file, which become attributes of its spans (wire
 * 10.3).
 */
#include "api/names.h"
#include "core/text.h"
#include "install/inject_private.h"

#define P          "LINKERD2_PROXY_TRACE_"
#define INFO_DIR   "/var/run/linkerd/podinfo"
#define ATTRIBUTE  "resource.opentelemetry.io/" /* + the name of an attribute */
#define LINES_MAX  65536

static const char *collector(const struct inject_config *c)
{
    return config_text(c, CONFIG_TRACE_COLLECTOR, NULL);
}

static void add(json_t *env, const char *name, const char *value)
{
    (void)json_array_append_new(env, json_pack("{s:s, s:s}", "name", name, "value", value));
}

static bool is_loopback(struct bytes host)
{
    return bytes_eq(host, BYTES("localhost")) || bytes_eq(host, BYTES("localhost.")) ||
           bytes_starts(host, BYTES("127.")) || bytes_eq(host, BYTES("[::1]"));
}

/* NAME.NAMESPACE...:PORT; a name alone is of the pod's own namespace. NULL: on loopback nobody has
 * an identity. */
static const char *identity(const struct inject_config *c)
{
    struct bytes host = bytes_str(collector(c)), service, ns, rest;
    size_t end = host.len;

    while (end > 0 && host.at[end - 1] != ':') {
        end--;
    }
    host = bytes_first(host, end > 0 ? end - 1 : 0);
    if (is_loopback(host)) {
        return NULL;
    }
    (void)bytes_split(host, '.', &service, &rest);
    (void)bytes_split(rest, '.', &ns, &rest);
    return arena_printf(c->arena, "%s." BYTES_FMT ".serviceaccount.identity.%s.%s",
                        config_text(c, CONFIG_TRACE_ACCOUNT, "default"),
                        BYTES_ARG(ns.len > 0 ? ns : BYTES("$(_pod_ns)")), c->values->control_ns,
                        c->values->trust_domain);
}

/* The pod's own name for its service wins over what its labels say. */
static const char *attributes(const struct inject_config *c)
{
    static const char *const services[] = {"app.kubernetes.io/instance", "app.kubernetes.io/name"};
    json_t *metadata = json_object_get(c->pod, "metadata"), *value;
    json_t *labels = json_object_get(metadata, "labels");
    const char *service = NULL, *key, *lines;
    struct text t;

    for (size_t i = 0; i < ARRAY_LEN(services) && service == NULL; i++) {
        service = json_string_value(json_object_get(labels, services[i]));
    }
    text_init(&t, LINES_MAX);
    text_str(&t, "k8s.pod.ip=$(_pod_ip)\nk8s.pod.uid=$(_pod_uid)\n"
                 "k8s.container.name=$(_pod_containerName)\n");
    if (service != NULL) {
        text_printf(&t, "service.name=%s\n", service);
    }
    json_object_foreach(json_object_get(metadata, "annotations"), key, value)
    {
        if (bytes_starts(bytes_str(key), BYTES(ATTRIBUTE)) && json_is_string(value)) {
            text_printf(&t, "%s=%s\n", key + strlen(ATTRIBUTE), json_string_value(value));
        }
    }
    lines = arena_strdup(c->arena, text_bytes(&t));
    text_clear(&t);
    return lines;
}

void inject_trace_env(const struct inject_config *c, json_t *env)
{
    const char *name;

    if (collector(c) == NULL) {
        return;
    }
    add(env, P "ATTRIBUTES_PATH", INFO_DIR "/labels");
    add(env, P "SERVICE_NAME", CONTAINER_PROXY);
    add(env, P "COLLECTOR_SVC_ADDR", collector(c));
    name = identity(c);
    if (name != NULL) {
        add(env, P "COLLECTOR_SVC_NAME", name);
    }
    add(env, P "EXTRA_ATTRIBUTES", attributes(c));
}

void inject_trace_volume(const struct inject_config *c, json_t *container, json_t *volumes)
{
    if (collector(c) == NULL) {
        return;
    }
    if (container != NULL) {
        (void)json_array_append_new(
            json_object_get(container, "volumeMounts"),
            json_pack("{s:s, s:s}", "name", VOLUME_PODINFO, "mountPath", INFO_DIR));
    }
    if (volumes != NULL) {
        (void)json_array_append_new(
            volumes, json_pack("{s:s, s:{s:[{s:s, s:{s:s}}]}}", "name", VOLUME_PODINFO,
                               "downwardAPI", "items", "path", "labels", "fieldRef", "fieldPath",
                               "metadata.labels"));
    }
}
