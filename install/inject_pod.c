/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/evp.h>

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"
#include "install/inject_private.h"

#ifndef TULLE_VERSION
#define TULLE_VERSION "0.0.0"
#endif

void inject_values_default(struct inject_values *v)
{
    *v = (struct inject_values){
        .control_ns = NAME_CONTROL_NS,
        .trust_domain = NAME_TRUST_DOMAIN,
        .cluster_domain = NAME_CLUSTER_DOMAIN,
        .cluster_networks = DEFAULT_CLUSTER_NETWORKS,
        .proxy_image = "tulle/proxy",
        .proxy_version = "v" TULLE_VERSION,
        .pull_policy = "IfNotPresent",
        .opaque_ports = DEFAULT_OPAQUE_PORTS,
        .default_inbound_policy = "all-unauthenticated",
        .skip_inbound_ports = "4567,4568",
        .skip_outbound_ports = "4567,4568",
        .log_level = "warn,linkerd=info,hickory=error",
        .log_format = "plain",
        .inbound_port = PORT_INBOUND,
        .outbound_port = PORT_OUTBOUND,
        .control_port = PORT_CONTROL,
        .admin_port = PORT_ADMIN,
        .proxy_uid = PROXY_UID,
        .init_command = "tulle-init",
        .proxy_command = "tulle-proxy",
        .await_command = "/usr/lib/linkerd/linkerd-await",
        .native_sidecar = true,
        .disable_ipv6 = true,
        .created_by = "tulle/cli v" TULLE_VERSION,
    };
}

static json_t *ensure(json_t *parent, const char *key, bool (*is_type)(const json_t *),
                      json_t *(*make)(void))
{
    json_t *child = json_object_get(parent, key);

    if (child == NULL || json_is_null(child)) {
        child = make();
        (void)json_object_set_new(parent, key, child);
    }
    return is_type(child) ? child : NULL;
}

static bool is_object(const json_t *value)
{
    return json_is_object(value);
}

static bool is_array(const json_t *value)
{
    return json_is_array(value);
}

json_t *json_ensure_object(json_t *parent, const char *key)
{
    return ensure(parent, key, is_object, json_object);
}

json_t *json_ensure_array(json_t *parent, const char *key)
{
    return ensure(parent, key, is_array, json_array);
}

/* --- shape -------------------------------------------------------------------------------------
 */

static bool is_or_absent(const json_t *value, bool (*is_type)(const json_t *))
{
    return value == NULL || json_is_null(value) || is_type(value);
}

static const char *wrong_shape(const json_t *pod)
{
    const json_t *metadata = json_object_get(pod, "metadata"), *spec = json_object_get(pod, "spec");

    if (!is_or_absent(metadata, is_object)) {
        return "metadata is no mapping";
    }
    if (!is_or_absent(json_object_get(metadata, "labels"), is_object)) {
        return "metadata.labels is no mapping";
    }
    if (!is_or_absent(json_object_get(metadata, "annotations"), is_object)) {
        return "metadata.annotations is no mapping";
    }
    if (!json_is_object(spec)) {
        return "spec is missing, or is no mapping";
    }
    if (!json_is_array(json_object_get(spec, "containers"))) {
        return "spec.containers is missing, or is no list";
    }
    if (!is_or_absent(json_object_get(spec, "initContainers"), is_array)) {
        return "spec.initContainers is no list";
    }
    return is_or_absent(json_object_get(spec, "volumes"), is_array) ? NULL
                                                                    : "spec.volumes is no list";
}

/* --- the patch ---------------------------------------------------------------------------------
 */

static const char *const owner_kinds[] = {"deployment",  "replicaset", "replicationcontroller",
                                          "statefulset", "daemonset",  "job",
                                          "cronjob"};

static void set_text(json_t *object, const char *key, const char *value)
{
    if (value != NULL) {
        (void)json_object_set_new(object, key, json_string(value));
    }
}

static void set_labels(const struct inject_config *c, json_t *metadata)
{
    json_t *labels = json_ensure_object(metadata, "labels");

    set_text(labels, LABEL_CONTROL_NS, c->values->control_ns);
    set_text(labels, LABEL_WORKLOAD_NS, c->ns);
    for (size_t i = 0; c->owner != NULL && c->owner->kind != NULL && i < ARRAY_LEN(owner_kinds);
         i++) {
        if (strcmp(owner_kinds[i], c->owner->kind) == 0) {
            set_text(labels, arena_printf(c->arena, LABEL_PROXY_PREFIX "%s", owner_kinds[i]),
                     c->owner->name);
        }
    }
}

static const char *sha256_hex(const struct inject_config *c, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1];

    if (EVP_Digest(text, strlen(text), digest, &len, EVP_sha256(), NULL) != 1) {
        return NULL;
    }
    for (unsigned i = 0; i < len; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    return arena_strdup(c->arena, bytes_of(hex, 2 * (size_t)len));
}

static void set_annotations(const struct inject_config *c, json_t *metadata)
{
    json_t *annotations = json_ensure_object(metadata, "annotations");
    void *it;

    for (it = json_object_iter((json_t *)(uintptr_t)c->ns_annotations); it != NULL;
         it = json_object_iter_next((json_t *)(uintptr_t)c->ns_annotations, it)) {
        const char *name = json_object_iter_key(it);

        if (annotation_is_config(bytes_str(name)) && json_object_get(annotations, name) == NULL) {
            (void)json_object_set(annotations, name, json_object_iter_value(it));
        }
    }
    set_text(annotations, ANNOTATION_CREATED_BY, c->values->created_by);
    set_text(annotations, ANNOTATION_PROXY_VERSION,
             config_text(c, CONFIG_PROXY_VERSION, c->values->proxy_version));
    if (c->values->trust_anchors_pem != NULL) {
        set_text(annotations, ANNOTATION_TRUST_ROOT, sha256_hex(c, c->values->trust_anchors_pem));
    }
    if (json_object_get(annotations, ANNOTATION_OPAQUE_PORTS) == NULL) {
        set_text(annotations, ANNOTATION_OPAQUE_PORTS, config_default_opaque(c));
    }
}

static void set_containers(const struct inject_config *c, json_t *spec)
{
    json_t *init = json_ensure_array(spec, "initContainers");
    json_t *containers = json_object_get(spec, "containers");
    json_t *debug = inject_debug_container(c), *volumes = inject_volumes(c);

    (void)json_array_insert_new(init, 0, inject_init_container(c));
    if (config_is_native(c)) {
        (void)json_array_insert_new(init, 1, inject_proxy_container(c));
    } else {
        /* First, because the kubelet waits for its postStart before it starts the next one. */
        (void)json_array_insert_new(containers, 0, inject_proxy_container(c));
    }
    if (debug != NULL) {
        (void)json_array_append_new(containers, debug);
    }
    (void)json_array_extend(json_ensure_array(spec, "volumes"), volumes);
    json_decref(volumes);
}

int inject_pod(const struct inject_values *v, const char *ns, const json_t *ns_annotations,
               const struct inject_owner *owner, json_t *pod, enum inject_result *out_result,
               char *problem, size_t problem_bytes)
{
    const char *wrong = wrong_shape(pod);
    struct inject_config c;
    struct arena arena;
    enum inject_result result;
    bool is_ingress;
    int err;

    if (wrong != NULL) {
        (void)snprintf(problem, problem_bytes, "%s", wrong);
        return E_CONFIG;
    }
    result = inject_decide(pod, ns_annotations, &is_ingress);
    if (result != INJECT_OK) {
        *out_result = result;
        return 0;
    }
    arena_init(&arena, INJECT_ARENA_BYTES);
    err = inject_config_read(&c, &arena, v, ns, ns_annotations, owner, pod, problem, problem_bytes);
    c.is_ingress = is_ingress;
    if (err == 0) {
        json_t *metadata = json_ensure_object(pod, "metadata");

        set_labels(&c, metadata);
        set_annotations(&c, metadata);
        set_containers(&c, json_object_get(pod, "spec"));
        *out_result = INJECT_OK;
    }
    inject_config_clear(&c);
    arena_clear(&arena);
    return err;
}

/* --- and back ----------------------------------------------------------------------------------
 */

static bool is_in(const char *name, const char *const *names)
{
    for (; name != NULL && *names != NULL; names++) {
        if (strcmp(name, *names) == 0) {
            return true;
        }
    }
    return false;
}

static bool drop_items(json_t *parent, const char *key, const char *const *names)
{
    json_t *list = json_object_get(parent, key);
    size_t before = json_array_size(list);

    for (size_t i = before; i-- > 0;) {
        if (is_in(json_string_value(json_object_get(json_array_get(list, i), "name")), names)) {
            (void)json_array_remove(list, i);
        }
    }
    if (before > 0 && json_array_size(list) == 0) {
        (void)json_object_del(parent, key); /* the patch had made it */
        return true;
    }
    return json_array_size(list) < before;
}

static bool drop_member(json_t *parent, const char *key, const char *name)
{
    json_t *object = json_object_get(parent, key);

    if (json_object_del(object, name) != 0) {
        return false;
    }
    if (json_object_size(object) == 0) {
        (void)json_object_del(parent, key);
    }
    return true;
}

bool uninject_pod(json_t *pod)
{
    static const char *const containers[] = {CONTAINER_PROXY, CONTAINER_INIT, CONTAINER_DEBUG,
                                             CONTAINER_VALIDATOR, NULL};
    static const char *const volumes[] = {VOLUME_IDENTITY, VOLUME_TOKEN, VOLUME_XTABLES,
                                          VOLUME_PODINFO, NULL};
    json_t *spec = json_object_get(pod, "spec"), *metadata = json_object_get(pod, "metadata");
    bool changed = drop_items(spec, "initContainers", containers);

    changed |= drop_items(spec, "containers", containers);
    changed |= drop_items(spec, "volumes", volumes);
    changed |= drop_member(metadata, "labels", LABEL_CONTROL_NS);
    changed |= drop_member(metadata, "labels", LABEL_WORKLOAD_NS);
    for (size_t i = 0; i < ARRAY_LEN(owner_kinds); i++) {
        char label[64];

        (void)snprintf(label, sizeof(label), LABEL_PROXY_PREFIX "%s", owner_kinds[i]);
        changed |= drop_member(metadata, "labels", label);
    }
    changed |= drop_member(metadata, "annotations", ANNOTATION_CREATED_BY);
    changed |= drop_member(metadata, "annotations", ANNOTATION_PROXY_VERSION);
    changed |= drop_member(metadata, "annotations", ANNOTATION_TRUST_ROOT);
    return changed;
}
