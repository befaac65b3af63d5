/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `inject` and `uninject` on manifests: decide what each object shall be, in JSON; have splice.c
 * change the text accordingly; read that again and compare before anything is handed out.
 */
#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"
#include "install/inject_private.h"
#include "install/splice.h"

#define TEXT_ARENA_BYTES ((size_t)1 << 30)
#define OUTPUT_BYTES_MAX YAML_BYTES_MAX /* it is read again, here and by others */
#define LISTS_MAX        8              /* of a List in a List */

struct rewrite {
    const struct inject_options *o;
    struct arena arena;
    struct splice splice;
    struct inject_report report;
    char *problem;
    size_t problem_bytes;
};

/* One object of a List, or of a document. */
struct subject {
    const struct yaml_node *node; /* as it is in the text */
    json_t *json;                 /* as it shall be */
    struct inject_subject about;
    char kind[64], name[256];
};

static const struct kind {
    const char *name, *groups[3];
    const char *path; /* to what has the metadata; "" for the object itself */
    bool has_pods;
} kinds[] = {
    {"Deployment", {"apps", "extensions"}, "spec.template", true},
    {"StatefulSet", {"apps"}, "spec.template", true},
    {"DaemonSet", {"apps", "extensions"}, "spec.template", true},
    {"ReplicaSet", {"apps", "extensions"}, "spec.template", true},
    {"ReplicationController", {""}, "spec.template", true},
    {"Job", {"batch"}, "spec.template", true},
    {"CronJob", {"batch"}, "spec.jobTemplate.spec.template", true},
    {"Pod", {""}, "", true},
    {"Namespace", {""}, "", false},
    {"Service", {""}, "", false},
};

static const struct kind *find_kind(const char *kind, const char *api_version)
{
    const char *slash = api_version != NULL ? strchr(api_version, '/') : NULL;
    struct bytes group =
        slash != NULL ? bytes_of(api_version, (size_t)(slash - api_version)) : bytes_str("");

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        for (size_t g = 0; g < ARRAY_LEN(kinds[i].groups) && kinds[i].groups[g] != NULL; g++) {
            if (strcmp(kinds[i].name, kind) == 0 &&
                (api_version == NULL || bytes_eq(bytes_str(kinds[i].groups[g]), group))) {
                return &kinds[i];
            }
        }
    }
    return NULL;
}

/* The mapping at `path`, in the JSON and in the text at once; NULL when there is none. */
static json_t *walk(json_t *json, const struct yaml_node **node, const char *path)
{
    struct bytes rest = bytes_str(path);

    while (rest.len > 0 && json != NULL) {
        struct bytes step;
        char name[32];

        (void)bytes_split(rest, '.', &step, &rest);
        (void)snprintf(name, sizeof(name), BYTES_FMT, BYTES_ARG(step));
        json = json_object_get(json, name);
        *node = yaml_get(*node, name);
    }
    return json_is_object(json) ? json : NULL;
}

/* "line L, column C: deployment "web": why", at the annotation that `why` names if it names one. */
static int fail_at(struct rewrite *r, const struct subject *s, const struct yaml_node *holder,
                   int err, const char *why)
{
    const struct yaml_node *at = holder != NULL ? holder : s->node;
    const char *name = strstr(why, "annotation ");
    const struct yaml_node *annotations = yaml_get(yaml_get(holder, "metadata"), "annotations");
    struct bytes word = BYTES_NONE, rest;

    if (name != NULL) {
        (void)bytes_split(bytes_str(strchr(name, ' ') + 1), ' ', &word, &rest);
    }
    for (const struct yaml_node *k =
             annotations != NULL && annotations->type == YAML_MAPPING ? annotations->first : NULL;
         k != NULL; k = k->next->next) {
        if (bytes_eq(k->value, word)) {
            at = k->next;
        }
    }
    (void)snprintf(r->problem, r->problem_bytes, "line %u, column %u: %s \"%s\": %s", at->line,
                   at->column, s->about.kind, s->about.name, why);
    return err;
}

static const json_t *annotations_of(const json_t *holder)
{
    return json_object_get(json_object_get(holder, "metadata"), "annotations");
}

static int set_annotation(json_t *holder, const char *name, const char *value)
{
    json_t *metadata = json_ensure_object(holder, "metadata");
    json_t *annotations = metadata != NULL ? json_ensure_object(metadata, "annotations") : NULL;

    return annotations != NULL && json_object_set_new(annotations, name, json_string(value)) == 0
               ? 0
               : E_CONFIG;
}

static int set_annotations(const struct rewrite *r, json_t *holder, bool is_service)
{
    for (size_t i = 0; i < r->o->annotations_count; i++) {
        if (!is_service || strcmp(r->o->annotations[i][0], ANNOTATION_OPAQUE_PORTS) == 0) {
            TRY(set_annotation(holder, r->o->annotations[i][0], r->o->annotations[i][1]));
        }
    }
    return 0;
}

static bool has_opaque_ports(const struct rewrite *r)
{
    for (size_t i = 0; i < r->o->annotations_count; i++) {
        if (strcmp(r->o->annotations[i][0], ANNOTATION_OPAQUE_PORTS) == 0) {
            return true;
        }
    }
    return false;
}

/* Is the pod fit? Its namespace is unknown here, so only what stands in its way counts. */
static enum inject_result decide(const json_t *pod)
{
    bool is_ingress;
    enum inject_result result = inject_decide(pod, NULL, &is_ingress);

    return result == INJECT_HOST_NETWORK || result == INJECT_SIDECAR || result == INJECT_DISABLED
               ? result
               : INJECT_OK;
}

static int annotate_pods(struct rewrite *r, struct subject *s, const struct yaml_node *holder,
                         json_t *pod)
{
    char why[512];
    int err = set_annotation(pod, ANNOTATION_INJECT, r->o->annotate_value);

    if (err == 0) {
        err = set_annotations(r, pod, false);
    }
    if (err != 0) {
        return fail_at(r, s, holder, err, "metadata or its annotations are no mapping");
    }
    err = inject_config_check(pod, json_object_get(pod, "spec") != NULL, why, sizeof(why));
    if (err != 0) {
        return fail_at(r, s, holder, err, why);
    }
    report_unknown(&r->report, &s->about, annotations_of(pod));
    s->about.done = "injected";
    return 0;
}

static int write_containers(struct rewrite *r, struct subject *s, const struct yaml_node *holder,
                            json_t *pod)
{
    const char *ns =
        json_string_value(json_object_get(json_object_get(s->json, "metadata"), "namespace"));
    bool is_owned = pod != s->json;
    struct inject_owner owner = {is_owned ? s->about.kind : NULL, is_owned ? s->about.name : NULL};
    enum inject_result result;
    char why[512];
    int err;

    TRY(annotate_pods(r, s, holder, pod));
    err = inject_pod(r->o->values, ns, NULL, &owner, pod, &result, why, sizeof(why));
    if (err != 0) {
        return fail_at(r, s, holder, err, why);
    }
    assert(result == INJECT_OK);
    return 0;
}

static int inject_pods(struct rewrite *r, struct subject *s, const struct yaml_node *holder,
                       json_t *pod)
{
    const json_t *labels = json_object_get(json_object_get(pod, "metadata"), "labels");

    s->about.spec = json_object_get(pod, "spec");
    s->about.result = decide(pod);
    if (s->about.result != INJECT_OK) {
        return 0;
    }
    if (r->o->mode == INJECT_MANUAL) {
        return write_containers(r, s, holder, pod);
    }
    if (json_object_get(labels, LABEL_COMPONENT) != NULL) {
        return fail_at(r, s, holder, E_CONFIG,
                       "a part of the control plane is injected with --manual only");
    }
    return annotate_pods(r, s, holder, pod);
}

/* A mapping that lost its last pair becomes what it was before inject made it or put something in. */
static void collapse(const struct rewrite *r, json_t *parent, const char *key,
                     const struct yaml_node *node)
{
    json_t *object = json_object_get(parent, key);

    if (!json_is_object(object) || json_object_size(object) > 0 || node == NULL ||
        node->type != YAML_MAPPING || node->first == NULL) {
        return;
    }
    switch (splice_mapping_origin(&r->splice, node)) {
    case SPLICE_WAS_ABSENT:
        (void)json_object_del(parent, key);
        break;
    case SPLICE_WAS_NULL:
        (void)json_object_set_new(parent, key, json_null());
        break;
    case SPLICE_WAS_EMPTY:
    default:
        break;
    }
}

static bool drop_annotations(const struct rewrite *r, const struct yaml_node *node, json_t *json)
{
    bool changed = false;

    for (const struct yaml_node *k = node != NULL ? node->first : NULL; k != NULL;
         k = k->next->next) {
        bool is_switch = bytes_eq(k->value, BYTES(ANNOTATION_INJECT)) &&
                         !bytes_eq(k->next->value, BYTES("disabled"));
        bool is_config = annotation_is_config(k->value) && splice_is_ours(&r->splice, node, k);

        if (is_switch || is_config) {
            changed |= json_object_deln(json, k->value.at, k->value.len) == 0;
        }
    }
    return changed;
}

static int uninject(struct rewrite *r, struct subject *s, const struct yaml_node *holder,
                    json_t *object, bool has_pods)
{
    const struct yaml_node *metadata_node = yaml_get(holder, "metadata");
    const struct yaml_node *annotations_node = yaml_get(metadata_node, "annotations");
    json_t *metadata = json_object_get(object, "metadata");
    json_t *annotations = json_object_get(metadata, "annotations");
    bool changed = false;

    if (annotations_node != NULL && annotations_node->type == YAML_MAPPING) {
        changed = drop_annotations(r, annotations_node, annotations);
    }
    collapse(r, metadata, "annotations", annotations_node);
    changed |= has_pods && uninject_pod(object);
    collapse(r, object, "metadata", metadata_node);
    if (changed) {
        s->about.done = "uninjected";
    }
    return 0;
}

static int rewrite_object(struct rewrite *r, struct subject *s, const struct kind *kind)
{
    const struct yaml_node *holder = s->node;
    json_t *object = walk(s->json, &holder, kind->path);
    bool is_service = strcmp(kind->name, "Service") == 0;
    char why[512];
    int err;

    if (object == NULL) {
        return 0;
    }
    if (r->o->mode == INJECT_UNINJECT) {
        return uninject(r, s, holder, object, kind->has_pods);
    }
    if (kind->has_pods) {
        return inject_pods(r, s, holder, object);
    }
    if (is_service && !has_opaque_ports(r)) {
        return 0;
    }
    err = is_service ? 0 : set_annotation(object, ANNOTATION_INJECT, r->o->annotate_value);
    if (err == 0) {
        err = set_annotations(r, object, is_service);
    }
    if (err != 0) {
        return fail_at(r, s, holder, err, "metadata or its annotations are no mapping");
    }
    err = inject_config_check(object, false, why, sizeof(why));
    if (err != 0) {
        return fail_at(r, s, holder, err, why);
    }
    report_unknown(&r->report, &s->about, annotations_of(object));
    s->about.done = "annotated";
    return 0;
}

static void name_subject(struct subject *s)
{
    const char *kind = json_string_value(json_object_get(s->json, "kind"));
    const char *name =
        json_string_value(json_object_get(json_object_get(s->json, "metadata"), "name"));

    if (kind != NULL) {
        (void)snprintf(s->kind, sizeof(s->kind), "%s", kind);
        for (char *c = s->kind; *c != '\0'; c++) {
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
        }
        s->about.kind = s->kind;
    }
    (void)snprintf(s->name, sizeof(s->name), "%s", name != NULL ? name : "");
    s->about.name = s->name;
}

/* The recursion is LISTS_MAX deep at most. */
static int rewrite_subject(struct rewrite *r, const struct yaml_node *node, json_t *json,
                           unsigned lists)
{
    const char *kind = json_string_value(json_object_get(json, "kind"));
    const struct kind *known;
    struct subject s = {.node = node, .json = json};

    if (kind != NULL && strcmp(kind, "List") == 0 && lists < LISTS_MAX) {
        json_t *items = json_object_get(json, "items");
        const struct yaml_node *items_node = yaml_get(node, "items"), *item;
        size_t i = 0;

        item = json_is_array(items) ? items_node->first : NULL;
        for (; item != NULL; item = item->next, i++) {
            TRY(rewrite_subject(r, item, json_array_get(items, i), lists + 1));
        }
        return 0;
    }
    s.about.result = INJECT_UNSUPPORTED;
    name_subject(&s);
    known = kind != NULL ? find_kind(kind, json_string_value(json_object_get(json, "apiVersion")))
                         : NULL;
    if (known != NULL) {
        TRY(rewrite_object(r, &s, known));
    }
    report_add(&r->report, &s.about);
    return 0;
}

/* Does the new text mean what it should? `wanted`: a document each. */
static int check_result(struct rewrite *r, struct bytes output, const json_t *wanted)
{
    struct arena arena;
    struct yaml_document *d = NULL;
    char why[384] = "";
    size_t i = 0;
    int err;

    arena_init(&arena, TEXT_ARENA_BYTES);
    err = yaml_parse(&arena, output, &d, why, sizeof(why));
    for (; err == 0 && d != NULL; d = d->next, i++) {
        json_t *got = yaml_to_json(d->root);

        if (!json_equal(got, json_array_get(wanted, i))) {
            (void)snprintf(why, sizeof(why), "line %u", d->line);
            err = E_YAML;
        }
        json_decref(got);
    }
    arena_clear(&arena);
    if (err == 0 && i == json_array_size(wanted)) {
        return 0;
    }
    (void)snprintf(r->problem, r->problem_bytes,
                   "line 1, column 1: the text is written in a way that cannot be edited in place "
                   "(it would break at %s)",
                   why);
    return E_YAML;
}

static int rewrite_documents(struct rewrite *r, const struct yaml_document *first, json_t *wanted)
{
    for (const struct yaml_document *d = first; d != NULL; d = d->next) {
        json_t *from = yaml_to_json(d->root), *to = json_deep_copy(from);
        int err = 0;

        (void)json_array_append_new(wanted, to);
        if (d->root != NULL) {
            err = rewrite_subject(r, d->root, to, 0);
        }
        if (err == 0 && d->root != NULL) {
            err = splice_change(&r->splice, d->root, from, to);
        }
        json_decref(from);
        TRY(err);
    }
    return 0;
}

static int rewrite(struct rewrite *r, struct bytes input, struct text *output)
{
    struct yaml_document *first = NULL;
    json_t *wanted = json_array();
    int err = yaml_parse(&r->arena, input, &first, r->problem, r->problem_bytes);

    if (err == 0) {
        err = rewrite_documents(r, first, wanted);
    }
    if (err == 0) {
        err = splice_apply(&r->splice, output);
        if (err == E_LIMIT) {
            (void)snprintf(
                r->problem, r->problem_bytes,
                "line 1, column 1: the result would be longer than %u MiB; split the file",
                OUTPUT_BYTES_MAX >> 20);
        }
    }
    if (err == 0 && r->splice.count > 0) {
        err = check_result(r, text_bytes(output), wanted);
    }
    json_decref(wanted);
    return err;
}

int inject_text(const struct inject_options *o, struct bytes input, struct text *to,
                struct text *report, char *problem, size_t problem_bytes)
{
    struct rewrite r = {.o = o, .problem = problem, .problem_bytes = problem_bytes};
    struct text output;
    int err;

    text_init(&output, OUTPUT_BYTES_MAX);
    arena_init(&r.arena, TEXT_ARENA_BYTES);
    splice_init(&r.splice, &r.arena, input, problem, problem_bytes);
    report_init(&r.report);
    err = rewrite(&r, input, &output);
    if (err == 0) {
        text_add(to, text_bytes(&output));
        report_print(&r.report, o->mode, o->verbose, report);
        err = to->err != 0 ? to->err : report->err;
    }
    report_clear(&r.report);
    splice_clear(&r.splice);
    arena_clear(&r.arena);
    text_clear(&output);
    return err;
}
