/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of one pod: its own annotations over its namespace's over the values, all checked
 * before anything is changed.
 */
#include <math.h>

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"
#include "core/near.h"
#include "core/text.h"
#include "install/inject_private.h"

static const struct {
    const char *name;
    enum check check;
} annotations[] = {
#define ANNOTATION(id, name, check) {name, CHECK_##check},
#include "install/inject_annotation.def"
#undef ANNOTATION
};
static_assert(ARRAY_LEN(annotations) == CONFIG_COUNT, "one row an annotation");

bool annotation_is_config(struct bytes name)
{
    return bytes_starts(name, BYTES(ANNOTATION_CONFIG)) ||
           bytes_starts(name, BYTES("config.alpha.linkerd.io/")) ||
           bytes_starts(name, BYTES("config.beta.linkerd.io/"));
}

/* Which annotation it is; CONFIG_COUNT: none. */
static size_t annotation_find(const char *name)
{
    size_t i = 0;

    while (i < CONFIG_COUNT && strcmp(annotations[i].name, name) != 0) {
        i++;
    }
    return i;
}

const char *inject_annotation_problem(const char *name, const char *value)
{
    json_t *text = json_string(value); /* NULL when it is not UTF-8 */
    size_t i = annotation_find(name);

    if (text == NULL) {
        return "a text in UTF-8";
    }
    json_decref(text);
    return i < CONFIG_COUNT ? inject_check(annotations[i].check, value)
                            : "nothing: there is no such annotation";
}

/* Dear, and asked for every object of a cluster: only of a name that is not known. */
static const char *annotation_near(const char *name)
{
    struct near n = NEAR(name);

    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        near_try(&n, annotations[i].name);
    }
    return near_word(&n);
}

void inject_annotation_read(const char *name, const char *value, struct inject_annotation *out)
{
    bool is_ours = annotation_is_config(bytes_str(name));
    size_t i = is_ours ? annotation_find(name) : CONFIG_COUNT;

    *out = (struct inject_annotation){.is_ours = is_ours, .is_known = i < CONFIG_COUNT};
    if (out->is_known) {
        out->allowed = inject_check(annotations[i].check, value);
    } else if (is_ours) {
        out->near = annotation_near(name);
    }
}

/* As much of a value as a sentence takes. */
static const char *shortened(const char *value, char *to, size_t bytes)
{
    (void)snprintf(to, bytes, "%.60s%s", value, strlen(value) > 60 ? "..." : "");
    return to;
}

/* `where`: "" or "namespace ". Later calls override what earlier ones set. */
static int read_annotations(struct inject_config *c, const json_t *from, const char *where,
                            char *problem, size_t problem_bytes)
{
    void *it;

    for (it = json_object_iter((json_t *)(uintptr_t)from);
         it != NULL; /* jansson wants it non-const */
         it = json_object_iter_next((json_t *)(uintptr_t)from, it)) {
        const char *name = json_object_iter_key(it),
                   *value = json_string_value(json_object_iter_value(it)), *allowed;
        char brief[72];
        size_t i = annotation_find(name);

        if (i == CONFIG_COUNT) {
            continue;
        }
        allowed = value != NULL ? inject_check(annotations[i].check, value)
                                : "a text; numbers, true and false stand in quotes";
        if (allowed != NULL) {
            (void)snprintf(
                problem, problem_bytes, "%sannotation %s is \"%s\"; allowed is %s", where, name,
                value != NULL ? shortened(value, brief, sizeof(brief)) : "no text", allowed);
            return E_CONFIG;
        }
        c->set[i] = value;
    }
    return 0;
}

static int resolve_list(const struct inject_config *c, enum config_key a, const char *fallback,
                        const char **out_list, char *problem, size_t problem_bytes)
{
    struct bytes unknown = BYTES_NONE;
    const char *list = config_text(c, a, fallback);

    if (list == NULL) {
        return 0;
    }
    *out_list = ports_resolve(c, list, &unknown);
    if (*out_list == NULL) {
        (void)snprintf(problem, problem_bytes,
                       "annotation %s names the port \"" BYTES_FMT
                       "\", which no container of the pod has",
                       annotations[a].name, BYTES_ARG(unknown));
        return E_CONFIG;
    }
    return 0;
}

/* One list: the namespace's entries, then the pod's; of equal names the later one counts. */
static void add_environment(struct inject_config *c, const char *text)
{
    json_t *list = json_loads(text, 0, NULL), *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        json_t *old;
        size_t at;

        json_array_foreach(c->additional_env, at, old)
        {
            if (strcmp(json_string_value(json_object_get(old, "name")), name) == 0) {
                break;
            }
        }
        if (at < json_array_size(c->additional_env)) {
            (void)json_array_set(c->additional_env, at, item);
        } else {
            (void)json_array_append(c->additional_env, item);
        }
    }
    json_decref(list);
}

static int read_lists(struct inject_config *c, const char *ns_environment, char *problem,
                      size_t problem_bytes)
{
    const char *pod_environment = c->set[CONFIG_ADDITIONAL_ENV];
    double request, limit;

    TRY(resolve_list(c, CONFIG_SKIP_INBOUND_PORTS, c->values->skip_inbound_ports, &c->skip_inbound,
                     problem, problem_bytes));
    TRY(resolve_list(c, CONFIG_SKIP_OUTBOUND_PORTS, c->values->skip_outbound_ports,
                     &c->skip_outbound, problem, problem_bytes));
    TRY(resolve_list(c, CONFIG_OPAQUE_PORTS, NULL, &c->opaque, problem, problem_bytes));
    for (size_t i = 0; i < 3;
         i++) { /* cpu, memory, ephemeral storage: the API server would refuse the pod */
        static const enum config_key pairs[][2] = {{CONFIG_CPU_REQUEST, CONFIG_CPU_LIMIT},
                                                   {CONFIG_MEMORY_REQUEST, CONFIG_MEMORY_LIMIT},
                                                   {CONFIG_STORAGE_REQUEST, CONFIG_STORAGE_LIMIT}};
        const char *low = c->set[pairs[i][0]], *high = c->set[pairs[i][1]];

        if (low != NULL && high != NULL && check_read_quantity(low, &request) &&
            check_read_quantity(high, &limit) && request > limit) {
            (void)snprintf(problem, problem_bytes,
                           "annotation %s is \"%s\"; allowed is at most %s (%s)",
                           annotations[pairs[i][0]].name, low, high, annotations[pairs[i][1]].name);
            return E_CONFIG;
        }
    }
    if (ns_environment != NULL || pod_environment != NULL) {
        c->additional_env = json_array();
        if (ns_environment != NULL) {
            add_environment(c, ns_environment);
        }
        if (pod_environment != NULL && pod_environment != ns_environment) {
            add_environment(c, pod_environment);
        }
    }
    return 0;
}

int inject_config_read(struct inject_config *c, struct arena *a, const struct inject_values *v,
                       const char *ns, const json_t *ns_annotations,
                       const struct inject_owner *owner, const json_t *pod, char *problem,
                       size_t problem_bytes)
{
    const json_t *metadata = json_object_get(pod, "metadata");
    const char *ns_environment;

    *c = (struct inject_config){
        .arena = a, .values = v, .ns = ns, .owner = owner, .pod = pod, .ns_annotations = ns_annotations};
    c->component =
        json_string_value(json_object_get(json_object_get(metadata, "labels"), LABEL_COMPONENT));
    TRY(read_annotations(c, ns_annotations, "namespace ", problem, problem_bytes));
    ns_environment = c->set[CONFIG_ADDITIONAL_ENV];
    TRY(read_annotations(c, json_object_get(metadata, "annotations"), "", problem, problem_bytes));
    TRY(ports_collect(c, json_object_get(pod, "spec"), problem, problem_bytes));
    return read_lists(c, ns_environment, problem, problem_bytes);
}

int inject_config_check(const json_t *object, bool has_containers, char *problem,
                        size_t problem_bytes)
{
    struct inject_values v;
    struct inject_config c;
    struct arena arena;
    int err;

    inject_values_default(&v);
    arena_init(&arena, INJECT_ARENA_BYTES);
    if (has_containers) {
        err = inject_config_read(&c, &arena, &v, NULL, NULL, NULL, object, problem, problem_bytes);
        inject_config_clear(&c);
    } else {
        c = (struct inject_config){.arena = &arena};
        err = read_annotations(&c,
                               json_object_get(json_object_get(object, "metadata"), "annotations"),
                               "", problem, problem_bytes);
    }
    arena_clear(&arena);
    return err;
}

void inject_config_clear(struct inject_config *c)
{
    json_decref(c->additional_env);
    c->additional_env = NULL;
}

const char *config_text(const struct inject_config *c, enum config_key a, const char *fallback)
{
    return c->set[a] != NULL ? c->set[a] : fallback;
}

unsigned config_number(const struct inject_config *c, enum config_key a, unsigned fallback)
{
    uint64_t number;

    if (c->set[a] == NULL || bytes_to_u64(bytes_str(c->set[a]), UINT32_MAX, &number) != 0) {
        return fallback;
    }
    return (unsigned)number;
}

bool config_flag(const struct inject_config *c, enum config_key a, bool fallback)
{
    if (c->set[a] == NULL) {
        return fallback;
    }
    return strcmp(c->set[a], "true") == 0 || strcmp(c->set[a], "enabled") == 0;
}

const char *config_duration(const struct inject_config *c, enum config_key a, const char *fallback)
{
    uint64_t ms;

    if (c->set[a] == NULL || !check_read_duration(c->set[a], &ms)) {
        return fallback;
    }
    return arena_printf(c->arena, "%llums", (unsigned long long)ms);
}

bool config_is_native(const struct inject_config *c)
{
    return config_flag(
        c, CONFIG_NATIVE_SIDECAR,
        config_flag(c, CONFIG_NATIVE_SIDECAR_BETA,
                    config_flag(c, CONFIG_NATIVE_SIDECAR_ALPHA, c->values->native_sidecar)));
}

bool config_awaits(const struct inject_config *c)
{
    return config_flag(c, CONFIG_AWAIT, true);
}

const char *config_image(const struct inject_config *c)
{
    return arena_printf(c->arena, "%s:%s",
                        config_text(c, CONFIG_PROXY_IMAGE, c->values->proxy_image),
                        config_text(c, CONFIG_PROXY_VERSION, c->values->proxy_version));
}

const char *config_default_opaque(const struct inject_config *c)
{
    struct text t;
    const char *list = NULL;

    text_init(&t, PORTS_MAX * 8);
    for (size_t i = 0; i < c->container_ports_count; i++) {
        if (ports_list_has(c->values->opaque_ports, c->container_ports[i])) {
            text_printf(&t, "%s%u", t.len > 0 ? "," : "", c->container_ports[i]);
        }
    }
    if (t.len > 0) {
        list = arena_strdup(c->arena, text_bytes(&t));
    }
    text_clear(&t);
    return list;
}
