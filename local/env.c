/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>

/*
 * Environment and arguments of a container, as Kubernetes makes them: env over envFrom, $(NAME) expanded from
 * what stands before, $$( is a plain $(. From the caller's own environment only what a program needs to run at all.
 */
#define VARIABLES_MAX 1024
#define ARGS_MAX      1024

struct variables {
    struct arena *arena;
    struct bytes names[VARIABLES_MAX], values[VARIABLES_MAX];
    size_t count;
    char *problem;
    size_t problem_bytes;
    int err;
};

static void fail(struct variables *v, const char *format, ...) PRINTF_LIKE(2, 3);
static void fail(struct variables *v, const char *format, ...)
{
    va_list args;

    if (v->err == 0) {
        v->err = E_CONFIG;
        va_start(args, format);
        (void)vsnprintf(v->problem, v->problem_bytes, format, args);
        va_end(args);
    }
}

static void set(struct variables *v, struct bytes name, struct bytes value)
{
    for (size_t i = 0; i < v->count; i++) {
        if (bytes_eq(v->names[i], name)) {
            v->values[i] = value;
            return;
        }
    }
    if (v->count == VARIABLES_MAX) {
        fail(v, "it has too many environment variables");
        return;
    }
    v->names[v->count] = name;
    v->values[v->count++] = value;
}

static const struct bytes *get(const struct variables *v, struct bytes name)
{
    for (size_t i = 0; i < v->count; i++) {
        if (bytes_eq(v->names[i], name)) {
            return &v->values[i];
        }
    }
    return NULL;
}

/* $(NAME) becomes its value, an unknown one stays as it is, $$ stands for $. */
static char *expand(const struct variables *v, const char *text)
{
    struct text out;
    char *copy;

    text_init(&out, 1u << 20);
    while (*text != '\0') {
        const char *end = text[0] == '$' && text[1] == '(' ? strchr(text + 2, ')') : NULL;
        const struct bytes *value =
            end != NULL ? get(v, bytes_of(text + 2, (size_t)(end - text - 2))) : NULL;

        if (text[0] == '$' && text[1] == '$') {
            text_char(&out, '$');
            text += 2;
        } else if (value != NULL) {
            text_add(&out, *value);
            text = end + 1;
        } else {
            text_char(&out, *text++);
        }
    }
    copy = arena_strdup(v->arena, text_bytes(&out));
    text_clear(&out);
    return copy;
}

/* --- valueFrom ----------------------------------------------------------------------------------- */

/* metadata.labels['x'], metadata.annotations['x'] */
static const char *map_field(const json_t *pod, const char *path, const char *which)
{
    char prefix[64], key[320];
    size_t n = (size_t)snprintf(prefix, sizeof(prefix), "metadata.%s['", which);
    size_t len = strlen(path);

    if (strncmp(path, prefix, n) != 0 || len < n + 2 || strcmp(path + len - 2, "']") != 0 ||
        len - n - 2 >= sizeof(key)) {
        return NULL;
    }
    memcpy(key, path + n, len - n - 2);
    key[len - n - 2] = '\0';
    path = json_string_value(
        json_object_get(json_object_get(json_object_get(pod, "metadata"), which), key));
    return path != NULL ? path : "";
}

static const char *field(const struct variables *v, const struct pod *p, const char *path)
{
    char ip[ADDR_TEXT_BYTES];
    const char *value;

    if (strcmp(path, "status.podIP") == 0) {
        return arena_strdup(v->arena, bytes_str(addr_format_ip(&p->net.ip4, ip)));
    }
    if (strcmp(path, "status.podIPs") == 0) {
        char ip6[ADDR_TEXT_BYTES];

        addr_format_ip(&p->net.ip4, ip);
        return addr_is_none(&p->net.ip6)
                   ? arena_strdup(v->arena, bytes_str(ip))
                   : arena_printf(v->arena, "%s,%s", ip, addr_format_ip(&p->net.ip6, ip6));
    }
    if (strcmp(path, "status.hostIP") == 0 || strcmp(path, "status.hostIPs") == 0) {
        struct addr node = net_node_ip4(p->home->net);

        return arena_strdup(v->arena, bytes_str(addr_format_ip(&node, ip)));
    }
    value = map_field(p->json, path, "labels");
    value = value != NULL ? value : map_field(p->json, path, "annotations");
    if (value != NULL) {
        return value;
    }
    if (strcmp(path, "spec.serviceAccountName") == 0) {
        value = json_text(p->json, path);
        return value != NULL ? value : "default";
    }
    return json_text(p->json, path);
}

static const char *from_object(const struct variables *v, const struct pod *p, enum kind kind,
                               const json_t *ref)
{
    const char *name = json_text(ref, "name"), *key = json_text(ref, "key");
    const struct object *o = cluster_get(p->home->cluster, kind, p->ns, name != NULL ? name : "");
    const char *value;
    struct text decoded;
    char *copy;

    if (o == NULL || key == NULL) {
        return NULL;
    }
    value = json_string_value(json_object_get(
        json_object_get(o->json, kind == KIND_SECRET ? "stringData" : "data"), key));
    if (value != NULL || kind != KIND_SECRET) {
        return value;
    }
    value = json_string_value(json_object_get(json_object_get(o->json, "data"), key));
    if (value == NULL) {
        return NULL;
    }
    text_init(&decoded, 1u << 20);
    if (secret_decode(value, &decoded) != 0) {
        text_clear(&decoded);
        return NULL;
    }
    copy = arena_strdup(v->arena, text_bytes(&decoded));
    text_clear(&decoded);
    return copy;
}

static void add_value_from(struct variables *v, const struct pod *p, const char *name,
                           const json_t *from)
{
    const json_t *ref;
    const char *value = NULL;

    if ((ref = json_object_get(from, "fieldRef")) != NULL) {
        const char *path = json_text(ref, "fieldPath");

        value = path != NULL ? field(v, p, path) : NULL;
    } else if ((ref = json_object_get(from, "configMapKeyRef")) != NULL) {
        value = from_object(v, p, KIND_CONFIG_MAP, ref);
    } else if ((ref = json_object_get(from, "secretKeyRef")) != NULL) {
        value = from_object(v, p, KIND_SECRET, ref);
    }
    if (value != NULL) {
        set(v, bytes_str(name), bytes_str(value));
    } else if (!json_is_true(json_object_get(ref, "optional"))) {
        fail(v, "the environment variable %s takes its value from something that does not exist",
             name);
    }
}

static void add_env_from(struct variables *v, const struct pod *p, const json_t *source)
{
    const json_t *ref = json_object_get(source, "configMapRef");
    enum kind kind = ref != NULL ? KIND_CONFIG_MAP : KIND_SECRET;
    const char *prefix = json_text(source, "prefix"), *name, *key;
    const struct object *o;
    json_t *value;

    ref = ref != NULL ? ref : json_object_get(source, "secretRef");
    name = json_text(ref, "name");
    o = cluster_get(p->home->cluster, kind, p->ns, name != NULL ? name : "");
    if (o == NULL) {
        if (!json_is_true(json_object_get(ref, "optional"))) {
            fail(v, "envFrom names \"%s\", which does not exist", name != NULL ? name : "");
        }
        return;
    }
    json_object_foreach(json_object_get(o->json, "data"), key, value)
    {
        json_t *one = json_pack("{s:s, s:s}", "name", name, "key", key);
        const char *text = from_object(v, p, kind, one);

        if (text != NULL) {
            set(v, bytes_str(arena_printf(v->arena, "%s%s", prefix != NULL ? prefix : "", key)),
                bytes_str(arena_strdup(v->arena, bytes_str(text))));
        }
        json_decref(one);
    }
}

/* --- putting it together ------------------------------------------------------------------------- */

static void add_inherited(struct variables *v)
{
    static const char *const names[] = {"PATH", "HOME", "LANG",        "LC_ALL", "TZ",
                                        "TERM", "USER", "VIRTUAL_ENV", "GOROOT", "NODE_PATH"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (getenv(names[i]) != NULL) {
            set(v, bytes_str(names[i]), bytes_str(getenv(names[i])));
        }
    }
}

static void add_env(struct variables *v, const struct container *c)
{
    const struct pod *p = c->pod;
    const json_t *item;
    size_t i;

    add_inherited(v);
    set(v, BYTES("HOSTNAME"), bytes_str(p->name));
    json_array_foreach(json_object_get(c->spec, "envFrom"), i, item)
    {
        add_env_from(v, p, item);
    }
    json_array_foreach(json_object_get(c->spec, "env"), i, item)
    {
        const char *name = json_text(item, "name");
        const json_t *from = json_object_get(item, "valueFrom");
        const char *value = json_text(item, "value");

        if (name == NULL) {
            continue;
        }
        if (from != NULL) {
            add_value_from(v, p, name, from);
        } else {
            set(v, bytes_str(name), bytes_str(expand(v, value != NULL ? value : "")));
        }
    }
    if (!p->home->is_root && strcmp(c->name, "linkerd-proxy") == 0) {
        set(v, BYTES("LINKERD2_PROXY_SOCKET_MARK"),
            bytes_str(arena_printf(v->arena, "%u", NET_PROXY_MARK)));
    }
}

static size_t add_args(const struct variables *v, const json_t *list, char **argv, size_t at)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        if (json_is_string(item) && at + 1 < ARGS_MAX) {
            argv[at++] = expand(v, json_string_value(item));
        }
    }
    return at;
}

int process_args_make(const struct container *c, struct arena *a, struct process_args *out,
                      char *problem, size_t problem_bytes)
{
    struct variables *v = arena_new(a, sizeof(*v));
    const char *dir = json_text(c->spec, "workingDir");
    size_t count;

    v->arena = a;
    v->problem = problem;
    v->problem_bytes = problem_bytes;
    add_env(v, c);
    if (v->err != 0) {
        return v->err;
    }
    out->argv = arena_new(a, ARGS_MAX * sizeof(char *));
    count = add_args(v, json_object_get(c->spec, "command"), out->argv, 0);
    if (count == 0) {
        (void)snprintf(problem, problem_bytes,
                       "it has no `command`: on one machine there is no image to take it from");
        return E_CONFIG;
    }
    count = add_args(v, json_object_get(c->spec, "args"), out->argv, count);
    if (!c->pod->home->is_root && strcmp(c->name, "linkerd-init") == 0 && count + 2 < ARGS_MAX) {
        out->argv[count++] = arena_strdup(a, BYTES("--proxy-mark"));
        out->argv[count++] = arena_printf(a, "%u", NET_PROXY_MARK);
    }
    out->env = arena_new(a, (v->count + 1) * sizeof(char *));
    for (size_t i = 0; i < v->count; i++) {
        out->env[i] = arena_printf(a, BYTES_FMT "=" BYTES_FMT, BYTES_ARG(v->names[i]),
                                   BYTES_ARG(v->values[i]));
    }
    out->cwd = dir != NULL ? dir : c->pod->home->cwd;
    return 0;
}
