/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/cluster.h"

#include <openssl/evp.h>

#include "cluster/names.h"
#include "core/alloc.h"
#include "core/bytes.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/near.h"

static const struct kind_info kinds[KIND_COUNT] = {
#define KIND(id, api_group, api_version, name_, plural_, namespaced_)                              \
    [KIND_##id] = {.kind = KIND_##id,                                                              \
                   .group = (api_group),                                                           \
                   .version = (api_version),                                                       \
                   .name = (name_),                                                                \
                   .plural = (plural_),                                                            \
                   .namespaced = (namespaced_)},
#include "cluster/kinds.def"
#undef KIND
};
static_assert(KIND_COUNT <= 64, "a watch names its kinds in 64 bits");

const struct kind_info *kind_info(enum kind k)
{
    assert((unsigned)k < KIND_COUNT);
    return &kinds[k];
}

/* "v1", "v1beta3", "v2alpha1": the shape of every version that Kubernetes allows. */
static bool version_is_valid(struct bytes version)
{
    if (version.len < 2 || version.len > 32 || version.at[0] != 'v') {
        return false;
    }
    for (size_t i = 1; i < version.len; i++) {
        char c = version.at[i];

        if (!((c >= '0' && c <= '9') || (i > 1 && c >= 'a' && c <= 'z'))) {
            return false;
        }
    }
    return true;
}

const struct kind_info *kind_find(struct bytes api_version, struct bytes kind)
{
    struct bytes group, version;

    if (!bytes_split(api_version, '/', &group, &version)) {
        version = group;
        group = BYTES_NONE;
    }
    if (!version_is_valid(version)) {
        return NULL;
    }
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (bytes_eq(bytes_str(kinds[i].name), kind) &&
            bytes_eq(bytes_str(kinds[i].group), group)) {
            return &kinds[i];
        }
    }
    return NULL;
}

/* --- names --------------------------------------------------------------------------------------- */

/* RFC 1123 names in lower case, as Kubernetes wants them; with dots a subdomain, without one a label.
 * They become file names, map keys and DNS names, so nothing else may pass. */
bool name_is_valid(struct bytes name, size_t bytes_max, bool with_dots)
{
    bool was_alnum = false;

    if (name.len == 0 || name.len > bytes_max) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (!is_alnum && !(c == '-' && i > 0 && name.at[i - 1] != '.') &&
            !(c == '.' && with_dots && was_alnum)) {
            return false;
        }
        was_alnum = is_alnum;
    }
    return was_alnum;
}

struct bytes object_key(const char *ns, const char *name, char to[OBJECT_KEY_BYTES])
{
    int len = snprintf(to, OBJECT_KEY_BYTES, "%s/%s", ns, name);

    return len > 0 && len < OBJECT_KEY_BYTES ? bytes_of(to, (size_t)len) : BYTES_NONE;
}

/* A uid in the shape of a UUID (RFC 9562, version 8: our own contents), the same for the same object. */
static char *uid_derive(const struct kind_info *kind, const char *ns, const char *name)
{
    AUTOFREE char *text = mem_printf("%s/%s/%s/%s", kind->group, kind->name, ns, name);
    uint8_t d[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int ok = EVP_Digest(text, strlen(text), d, &len, EVP_sha256(), NULL);

    assert(ok == 1 && len >= 16);
    d[6] = (uint8_t)((d[6] & 0x0f) | 0x80);
    d[8] = (uint8_t)((d[8] & 0x3f) | 0x80);
    return mem_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", d[0],
                      d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12],
                      d[13], d[14], d[15]);
}

/* --- objects ------------------------------------------------------------------------------------- */

struct object_memory { /* what an object owns besides its JSON */
    struct object object;
    char *source, *uid;
};

static void object_free(struct snapshot *s)
{
    struct object *o = CONTAINER_OF(s, struct object, ref);
    struct object_memory *m = CONTAINER_OF(o, struct object_memory, object);

    json_decref(o->json);
    mem_free(m->source);
    mem_free(m->uid);
    mem_free(m);
}

/* The reference count is the one word of an object that changes; it is atomic (snapshot.h). */
static struct snapshot *object_count(const struct object *o)
{
    union {
        const struct snapshot *in;
        struct snapshot *out;
    } u = {.in = &o->ref};

    return u.out;
}

void object_ref(const struct object *o)
{
    snapshot_ref(object_count(o));
}

void object_unref(const struct object *o)
{
    if (o != NULL) {
        snapshot_unref(object_count(o));
    }
}

/* Labels and annotations are strings; "opaque-ports: 6379" without quotes is the usual mistake. */
static int check_strings(const json_t *metadata, const char *what, char *problem,
                         size_t problem_bytes)
{
    const json_t *map = json_object_get(metadata, what);
    struct json_iter it = JSON_ITER(map);
    char misread[JSON_MISREAD_BYTES];

    if (map == NULL || json_is_null(map)) {
        return 0;
    }
    if (!json_is_object(map)) {
        (void)snprintf(problem, problem_bytes, "metadata.%s is not a mapping", what);
        return E_CONFIG;
    }
    while (json_next(&it)) {
        if (!json_is_string(it.value) && !json_is_null(it.value)) {
            (void)snprintf(problem, problem_bytes, "the value of %s in metadata.%s %s", it.key, what,
                           json_misread(it.value, misread));
            return E_CONFIG;
        }
    }
    return 0;
}

/* What was meant by a kind that there is not: another spelling of it, or another group. Nothing when nobody
 * can tell. */
static void suggest_kind(const char *api_version, const char *kind, char *to, size_t bytes)
{
    const struct kind_info *of_name = NULL;
    struct near n = NEAR(kind);
    bool is_one = true;

    for (size_t i = 0; i < KIND_COUNT; i++) {
        near_try(&n, kinds[i].name);
        if (strcmp(kinds[i].name, kind) == 0) {
            is_one = of_name == NULL;
            of_name = &kinds[i];
        }
    }
    if (of_name != NULL && is_one) {
        (void)snprintf(to, bytes, "; did you mean %s%s%s?", of_name->group,
                       of_name->group[0] != '\0' ? "/" : "", of_name->version);
    } else if (of_name == NULL && near_word(&n) != NULL &&
               kind_find(bytes_str(api_version), bytes_str(near_word(&n))) != NULL) {
        (void)snprintf(to, bytes, "; did you mean %s?", near_word(&n));
    }
}

static int check_kind(const json_t *json, const struct kind_info **out, char *problem,
                      size_t problem_bytes)
{
    const char *api_version = json_text(json, "apiVersion");
    const char *kind = json_text(json, "kind");

    if (!json_is_object(json) || api_version == NULL || kind == NULL) {
        (void)snprintf(problem, problem_bytes, "%s",
                       !json_is_object(json) ? "this is not a manifest (a mapping was expected)"
                       : kind == NULL        ? "kind is missing"
                                             : "apiVersion is missing");
        return E_CONFIG;
    }
    *out = kind_find(bytes_str(api_version), bytes_str(kind));
    if (*out == NULL) {
        int len = snprintf(problem, problem_bytes, "kind %.64s of %.64s is not supported", kind,
                           api_version);

        suggest_kind(api_version, kind, problem + MIN((size_t)len, problem_bytes),
                     problem_bytes - MIN((size_t)len, problem_bytes));
        return E_CONFIG;
    }
    return 0;
}

static int check_names(const json_t *metadata, const struct kind_info *kind, const char **out_ns,
                       const char **out_name, char *problem, size_t problem_bytes)
{
    const char *name = json_text(metadata, "name");
    const json_t *in = json_object_get(metadata, "namespace");
    const char *ns = json_string_value(in);
    char misread[JSON_MISREAD_BYTES];

    if (name == NULL) {
        (void)snprintf(problem, problem_bytes, "%s: metadata.name %s", kind->name,
                       json_object_get(metadata, "name") == NULL
                           ? "is missing"
                           : json_misread(json_object_get(metadata, "name"), misread));
        return E_CONFIG;
    }
    if (!name_is_valid(bytes_str(name), OBJECT_NAME_BYTES - 1, true)) {
        (void)snprintf(problem, problem_bytes, "%s: metadata.name \"%.64s\" is not a valid name",
                       kind->name, name);
        return E_CONFIG;
    }
    if (!kind->namespaced) {
        ns = "";
    } else if (in != NULL && !json_is_string(in) && !json_is_null(in)) {
        (void)snprintf(problem, problem_bytes, "%s %s: metadata.namespace %s", kind->name, name,
                       json_misread(in, misread));
        return E_CONFIG;
    } else if (ns == NULL || ns[0] == '\0') {
        ns = "default";
    } else if (!name_is_valid(bytes_str(ns), OBJECT_NS_BYTES - 1, false)) {
        (void)snprintf(problem, problem_bytes,
                       "%s %s: metadata.namespace \"%.64s\" is not a valid name", kind->name, name,
                       ns);
        return E_CONFIG;
    }
    *out_ns = ns;
    *out_name = name;
    return 0;
}

static int object_fill(struct object *o, const json_t *json, char *problem, size_t problem_bytes)
{
    const struct kind_info *kind = NULL;
    const char *created;

    TRY(check_kind(json, &kind, problem, problem_bytes));
    o->kind = kind->kind;
    o->metadata = json_object_get(json, "metadata");
    TRY(check_names(o->metadata, kind, &o->ns, &o->name, problem, problem_bytes));
    TRY(check_strings(o->metadata, "labels", problem, problem_bytes));
    TRY(check_strings(o->metadata, "annotations", problem, problem_bytes));
    o->labels = json_object_get(o->metadata, "labels");
    o->annotations = json_object_get(o->metadata, "annotations");
    o->spec = json_object_get(json, "spec");
    o->status = json_object_get(json, "status");
    created = json_text(o->metadata, "creationTimestamp");
    if (created != NULL && clock_parse_rfc3339(bytes_str(created), &o->created_ns) != 0) {
        (void)snprintf(problem, problem_bytes,
                       "%s %s: metadata.creationTimestamp is no RFC 3339 time", kind->name,
                       o->name);
        return E_CONFIG;
    }
    return 0;
}

int object_new(json_t *json, const char *source, struct object **out, char *problem,
               size_t problem_bytes)
{
    struct object filled = {0};
    struct object_memory *m;
    struct object *o;
    const char *noted;
    int err = object_fill(&filled, json, problem, problem_bytes);

    if (err != 0) {
        json_decref(json);
        return err;
    }
    m = mem_new(sizeof(*m));
    o = &m->object;
    *o = filled;
    noted = json_string_value(json_object_get(o->annotations, NAME_SOURCE));
    snapshot_init(&o->ref, object_free);
    o->json = json;
    m->source = mem_strdup(noted != NULL ? noted : source);
    o->source = m->source;
    o->uid = json_text(o->metadata, "uid");
    if (o->uid == NULL || o->uid[0] == '\0') {
        m->uid = uid_derive(kind_info(o->kind), o->ns, o->name);
        o->uid = m->uid;
    }
    *out = o;
    return 0;
}

const char *object_label(const struct object *o, const char *key)
{
    return json_string_value(json_object_get(o->labels, key));
}

const char *object_annotation(const struct object *o, const char *key)
{
    return json_string_value(json_object_get(o->annotations, key));
}
