/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>

/*
 * Environment and arguments of a container, as Kubernetes makes them: env over envFrom, $(NAME)
 * expanded from what stands before, $$ a plain $. From the caller's own environment only what a program
 * needs to run at all.
 *
 * Limits: what a manifest can make grow is counted, and is an error long before the arena is full.
 */
#define VARIABLES_MAX 1024
#define ARGS_MAX      1024
#define STRING_BYTES_MAX                                                                           \
    (128u << 10)                  /* of one argument or variable: the kernel takes no longer one */
#define WORK_BYTES_MAX (4u << 20) /* of all values that were made on the way */

struct variables {
    struct arena *arena;
    struct bytes names[VARIABLES_MAX], values[VARIABLES_MAX];
    size_t count, bytes;
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

static void fail_size(struct variables *v)
{
    fail(v, "its arguments and environment are larger than a program can be given");
}

/* A copy that lives as long as the arena; beyond the limits "", and an error. */
static char *keep(struct variables *v, struct bytes text)
{
    if (text.len >= STRING_BYTES_MAX || text.len >= WORK_BYTES_MAX - v->bytes) {
        fail_size(v);
        text = BYTES("");
    } else {
        v->bytes += text.len;
    }
    return arena_strdup(v->arena, text);
}

static void set(struct variables *v, struct bytes name, struct bytes value)
{
    if (name.len == 0 || memchr(name.at, '=', name.len) != NULL) {
        return; /* no variable can be called so */
    }
    for (size_t i = 0; i < v->count; i++) {
        if (bytes_eq(v->names[i], name)) {
            v->values[i] = value;
            return;
        }
    }
    if (v->count == VARIABLES_MAX) {
        fail(v, "it has more than %d environment variables", VARIABLES_MAX);
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
static char *expand(struct variables *v, const char *text)
{
    struct text out;
    char *copy;

    text_init(&out, STRING_BYTES_MAX);
    while (*text != '\0' && out.err == 0) {
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
    if (out.err != 0) {
        fail_size(v);
    }
    copy = keep(v, text_bytes(&out));
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

static const char *ips(struct variables *v, const struct pod *p)
{
    char ip4[ADDR_TEXT_BYTES], ip6[ADDR_TEXT_BYTES];

    addr_format_ip(&p->net.ip4, ip4);
    if (addr_is_none(&p->net.ip6)) {
        return arena_strdup(v->arena, bytes_str(ip4));
    }
    return arena_printf(v->arena, "%s,%s", ip4, addr_format_ip(&p->net.ip6, ip6));
}

static const char *field(struct variables *v, const struct pod *p, const char *path)
{
    char ip[ADDR_TEXT_BYTES];
    const char *value;

    if (strcmp(path, "status.podIP") == 0) {
        return arena_strdup(v->arena, bytes_str(addr_format_ip(&p->net.ip4, ip)));
    }
    if (strcmp(path, "status.podIPs") == 0) {
        return ips(v, p);
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
    value = json_text(p->json, path);
    return value == NULL && strcmp(path, "spec.serviceAccountName") == 0 ? "default" : value;
}

/* One value of a ConfigMap or Secret; NULL when there is none. */
static const char *value_of(struct variables *v, const struct object *o, const char *key)
{
    bool is_secret = o->kind == KIND_SECRET;
    const char *value = json_string_value(
        json_object_get(json_object_get(o->json, is_secret ? "stringData" : "data"), key));
    struct text decoded;
    char *copy = NULL;

    if (value != NULL || !is_secret) {
        return value;
    }
    value = json_string_value(json_object_get(json_object_get(o->json, "data"), key));
    text_init(&decoded, STRING_BYTES_MAX);
    if (value != NULL && secret_decode(value, &decoded) == 0) {
        copy = keep(v, text_bytes(&decoded));
    }
    if (decoded.at != NULL) {
        explicit_bzero(decoded.at, decoded.len);
    }
    text_clear(&decoded);
    return copy;
}

static const char *from_object(struct variables *v, const struct pod *p, enum kind kind,
                               const json_t *ref)
{
    const char *name = json_text(ref, "name"), *key = json_text(ref, "key");
    const struct object *o = cluster_get(p->home->cluster, kind, p->ns, name != NULL ? name : "");

    return o != NULL && key != NULL ? value_of(v, o, key) : NULL;
}

static void add_value_from(struct variables *v, const struct pod *p, const char *name,
                           const json_t *from)
{
    const char *value = NULL, *what = "a field", *where = "";
    const json_t *ref;

    if ((ref = json_object_get(from, "fieldRef")) != NULL) {
        where = json_text(ref, "fieldPath");
        value = where != NULL ? field(v, p, where) : NULL;
    } else if ((ref = json_object_get(from, "configMapKeyRef")) != NULL) {
        what = "a key of a ConfigMap";
        where = json_text(ref, "name");
        value = from_object(v, p, KIND_CONFIG_MAP, ref);
    } else if ((ref = json_object_get(from, "secretKeyRef")) != NULL) {
        what = "a key of a Secret";
        where = json_text(ref, "name");
        value = from_object(v, p, KIND_SECRET, ref);
    }
    if (value != NULL) {
        set(v, bytes_str(name), bytes_str(value));
    } else if (!json_is_true(json_object_get(ref, "optional"))) {
        fail(v, "the environment variable %s takes its value from %s that does not exist: %s %s",
             name, what, where != NULL ? where : "",
             json_text(ref, "key") != NULL ? json_text(ref, "key") : "");
    }
}

static void add_env_from(struct variables *v, const struct pod *p, const json_t *source)
{
    const json_t *map = json_object_get(source, "configMapRef");
    const json_t *ref = map != NULL ? map : json_object_get(source, "secretRef");
    enum kind kind = map != NULL ? KIND_CONFIG_MAP : KIND_SECRET;
    const char *prefix = json_text(source, "prefix"), *name = json_text(ref, "name");
    const struct object *o = cluster_get(p->home->cluster, kind, p->ns, name != NULL ? name : "");

    if (o == NULL) {
        if (!json_is_true(json_object_get(ref, "optional"))) {
            fail(v, "envFrom names the %s \"%s\", which does not exist", kind_info(kind)->name,
                 name != NULL ? name : "");
        }
        return;
    }
    for (int i = 0; i < (kind == KIND_SECRET ? 2 : 1); i++) {
        struct json_iter it = JSON_ITER(json_object_get(o->json, i == 0 ? "data" : "stringData"));

        while (json_next(&it) && v->err == 0) {
            const char *value = value_of(v, o, it.key);

            if (value != NULL) {
                set(v,
                    bytes_str(arena_printf(v->arena, "%s%s", prefix != NULL ? prefix : "", it.key)),
                    bytes_str(keep(v, bytes_str(value))));
            }
        }
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
    if (strcmp(c->name, CONTAINER_PROXY) == 0) { /* for upgrade.c */
        set(v, BYTES(ENV_PROXY_HANDOVER), BYTES("@tulle-proxy"));
    }
    if (!p->home->is_root && strcmp(c->name, CONTAINER_PROXY) == 0) {
        set(v, BYTES("LINKERD2_PROXY_SOCKET_MARK"),
            bytes_str(arena_printf(v->arena, "%u", NET_PROXY_MARK)));
    }
}

static size_t add_args(struct variables *v, const json_t *list, char **argv, size_t at)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        if (at + 1 >= ARGS_MAX) {
            fail(v, "it has more than %d arguments", ARGS_MAX - 2);
            break;
        }
        argv[at++] = expand(v, json_is_string(item) ? json_string_value(item) : "");
    }
    return at;
}

static int make_argv(struct variables *v, const struct container *c, struct process_args *out)
{
    size_t count;

    out->argv = arena_new(v->arena, ARGS_MAX * sizeof(char *));
    count = add_args(v, json_object_get(c->spec, "command"), out->argv, 0);
    if (count == 0) {
        fail(v, "it has no command: on one machine there is no image to take it from");
    }
    count = add_args(v, json_object_get(c->spec, "args"), out->argv, count);
    if (!c->pod->home->is_root && strcmp(c->name, CONTAINER_INIT) == 0 && count + 2 < ARGS_MAX) {
        out->argv[count++] = arena_strdup(v->arena, BYTES("--proxy-mark"));
        out->argv[count] = arena_printf(v->arena, "%u", NET_PROXY_MARK);
    }
    return v->err;
}

static int make_env(struct variables *v, struct process_args *out)
{
    size_t total = 0;

    for (size_t i = 0; out->argv[i] != NULL; i++) {
        total += strlen(out->argv[i]);
    }
    for (size_t i = 0; i < v->count; i++) {
        size_t one = v->names[i].len + v->values[i].len;

        total += one < STRING_BYTES_MAX ? one : PROCESS_ARGS_BYTES_MAX;
    }
    if (total >= PROCESS_ARGS_BYTES_MAX) {
        fail_size(v);
        return v->err;
    }
    out->env = arena_new(v->arena, (v->count + 1) * sizeof(char *));
    for (size_t i = 0; i < v->count; i++) {
        out->env[i] = arena_printf(v->arena, BYTES_FMT "=" BYTES_FMT, BYTES_ARG(v->names[i]),
                                   BYTES_ARG(v->values[i]));
    }
    return 0;
}

int process_args_make(const struct container *c, const char *term, struct arena *a,
                      struct process_args *out, char *problem, size_t problem_bytes)
{
    struct variables *v = arena_new(a, sizeof(*v));
    const char *dir = json_text(c->spec, "workingDir");

    v->arena = a;
    v->problem = problem;
    v->problem_bytes = problem_bytes;
    add_env(v, c);
    if (term != NULL) {
        set(v, BYTES("TERM"), bytes_str(term));
    }
    TRY(v->err);
    TRY(make_argv(v, c, out));
    TRY(make_env(v, out));
    out->cwd = dir != NULL ? dir : c->pod->home->cwd;
    return 0;
}
