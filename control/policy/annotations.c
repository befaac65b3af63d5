/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "control/policy/settings.h"
#include "core/near.h"
#include "install/inject.h"

/*
 * Annotations of sidecars (wire 10.2), on Namespaces, Pods and what makes pods; Services and EgressNetworks
 * have one of them. The injector goes by those that it knows, leaves out those that there are not, and
 * refuses a pod for a value that is none.
 */
#define INJECT_NAME   "linkerd.io/inject"
#define INJECT_PREFIX "linkerd.io/"

/* Others write annotations under linkerd.io/, too, so only a word that is nearly ours is one of ours. */
static const char *near_inject(const char *name)
{
    struct near n = NEAR(name + strlen(INJECT_PREFIX));

    near_try(&n, INJECT_NAME + strlen(INJECT_PREFIX));
    return strcmp(name, INJECT_NAME) != 0 && near_word(&n) != NULL ? INJECT_NAME : NULL;
}

static void complain_of_name(struct reading *r, const char *name, const char *meant)
{
    reading_complain(r, "the annotation %.200s is not known", name);
    reading_suggest(r, meant, "correct its name, or remove it");
}

static void annotation_check(struct reading *r, const char *name, const char *value, bool is_of_pods)
{
    struct inject_annotation a;

    if (strncmp(name, INJECT_PREFIX, strlen(INJECT_PREFIX)) == 0) {
        if (near_inject(name) != NULL) {
            complain_of_name(r, name, INJECT_NAME);
        }
        return;
    }
    if (is_of_pods && settings_has_prefix(name)) {
        reading_complain(r, "the annotation %.200s has no effect on pods", name);
        reading_advise(r, "move it to the Service or the route that it is for");
        return;
    }
    inject_annotation_read(name, value, &a);
    if (!a.is_ours) {
        return;
    }
    if (!a.is_known) {
        complain_of_name(r, name, a.near);
    } else if (a.allowed != NULL && is_of_pods) {
        reading_refuse(r, "the annotation %s is \"%.100s\"", name, value);
        reading_advise(r, arena_printf(r->arena, "write %s", a.allowed));
    } else if (a.allowed != NULL) {
        reading_complain(r, "the annotation %s is \"%.100s\"", name, value);
        reading_advise(r, arena_printf(r->arena, "write %s", a.allowed));
    }
}

static void annotations_read(struct reading *r, const json_t *annotations, bool is_of_pods)
{
    struct json_iter it = JSON_ITER(annotations);

    while (json_is_object(annotations) && json_next(&it)) {
        const char *value = json_string_value(it.value);

        annotation_check(r, it.key, value != NULL ? value : "", is_of_pods);
    }
}

void annotations_check(struct reading *r, const struct object *o)
{
    reading_at(r, "metadata.annotations");
    annotations_read(r, o->annotations, false);
}

/* --- of pods ------------------------------------------------------------------------------------- */

#define OF_TEMPLATE "spec.template.metadata.annotations"
#define OF_CRON_JOB "spec.jobTemplate.spec.template.metadata.annotations"

static const char *path_of(enum kind k)
{
    return k == KIND_NAMESPACE || k == KIND_POD ? "metadata.annotations"
           : k == KIND_CRON_JOB                 ? OF_CRON_JOB
                                                : OF_TEMPLATE;
}

/* The usual mistake: pods have the annotations of their template, and not those of what makes them. */
static void misplaced_check(struct reading *r, const struct object *o, const char *path)
{
    struct json_iter it = JSON_ITER(o->annotations);
    struct inject_annotation a;

    reading_at(r, "metadata.annotations");
    while (json_is_object(o->annotations) && json_next(&it)) {
        inject_annotation_read(it.key, "", &a);
        if (a.is_ours || strcmp(it.key, INJECT_NAME) == 0) {
            reading_complain(r, "the annotation %.200s has no effect on a %s", it.key,
                             kind_info(o->kind)->name);
            reading_advise(r, arena_printf(r->arena, "move it to %s", path));
        }
    }
}

void pod_annotations_check(struct reading *r, const struct object *o)
{
    const char *path = path_of(o->kind);

    reading_at(r, "%s", path);
    annotations_read(r, json_at(o->json, path), true);
    if (strcmp(path, "metadata.annotations") != 0) {
        misplaced_check(r, o, path);
    }
}

static bool are_equal(const json_t *a, const json_t *b)
{
    return a == b || json_equal(a, b) == 1;
}

bool pod_annotations_are_equal(const struct object *a, const struct object *b)
{
    return are_equal(a->annotations, b->annotations) &&
           are_equal(json_at(a->json, path_of(a->kind)), json_at(b->json, path_of(b->kind)));
}
