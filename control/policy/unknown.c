/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/fields.h"

#include "control/policy/reading.h"
#include "core/near.h"

/*
 * What the tables of fields.h do not have. It is a complaint and never a refusal: what is right of the object
 * stays in effect, as it was before anybody looked.
 */
#define DEPTH_MAX      24 /* of maps; conditions of profiles nest, and have a limit of their own below it */
#define PATH_BYTES_MAX FIELD_BYTES

static void map_check(struct reading *r, const json_t *map, const struct known_field *of, const char *path,
                      unsigned depth);

static const struct known_field *field_find(const struct known_field *of, const char *name)
{
    while (of->name != NULL && strcmp(of->name, name) != 0) {
        of++;
    }
    return of->name != NULL ? of : NULL;
}

/* NULL when it is what it should be. */
static const char *type_problem(const struct known_field *f, const json_t *value)
{
    switch (f->shape) {
    case SHAPE_TEXT:
        return json_is_string(value) ? NULL : "is no text; put it in quotes";
    case SHAPE_NUMBER:
        return json_is_number(value) ? NULL : "is no number; write it without quotes";
    case SHAPE_BOOL:
        return json_is_boolean(value) ? NULL : "is neither true nor false; write it without quotes";
    case SHAPE_MAP:
        return json_is_object(value) ? NULL : "is no map";
    case SHAPE_LIST:
    case SHAPE_MIXED:
    case SHAPE_TEXTS:
        return json_is_array(value) ? NULL : "is no list";
    case SHAPE_ANY:
    case SHAPE_UNSUPPORTED:
    default:
        return NULL;
    }
}

/* What a reader has said of it is said better. */
static void complain_of_type(struct reading *r, const char *path, const char *problem)
{
    const char *name = strrchr(path, '.');

    if (!found_has(r->found, path)) {
        reading_at(r, "%s", path);
        reading_complain(r, "%.64s %s", name != NULL ? name + 1 : path, problem);
    }
}

static void items_check(struct reading *r, const json_t *list, const struct known_field *f, const char *path,
                        unsigned depth)
{
    struct json_iter it = JSON_ITER(list);
    char own[PATH_BYTES_MAX];

    while (json_is_array(list) && json_next(&it)) {
        (void)snprintf(own, sizeof(own), "%s[%zu]", path, it.index);
        if (f->shape == SHAPE_TEXTS) {
            if (!json_is_string(it.value)) {
                complain_of_type(r, own, "is no text; put it in quotes");
            }
        } else if (json_is_object(it.value)) {
            map_check(r, it.value, f->of, own, depth + 1);
        } else if (f->shape != SHAPE_MIXED || !json_is_string(it.value)) {
            complain_of_type(r, own, "is no map");
        }
    }
}

static void value_check(struct reading *r, const json_t *value, const struct known_field *f, const char *path,
                        unsigned depth)
{
    const char *problem = type_problem(f, value);

    if (json_is_null(value)) {
        return;
    }
    if (f->shape == SHAPE_UNSUPPORTED) {
        reading_at(r, "%s", path);
        reading_complain(r, "%s is not supported: it has no effect", f->name);
        reading_advise(r, "remove it");
    } else if (problem != NULL) {
        complain_of_type(r, path, problem);
    } else if (f->shape == SHAPE_MAP && f->of != NULL) {
        map_check(r, value, f->of, path, depth + 1);
    } else if (f->shape == SHAPE_LIST || f->shape == SHAPE_MIXED || f->shape == SHAPE_TEXTS) {
        items_check(r, value, f, path, depth);
    }
}

static bool has(const json_t *map, const char *key)
{
    const json_t *value = json_object_get(map, key);

    return value != NULL && !json_is_null(value);
}

/* What the map is without the field that was meant; if nobody knows which that is, without any that would
 * make it smaller. NULL: no more than it was meant to be. */
static const char *widened_to(const json_t *map, const struct known_field *of, const char *meant)
{
    if (meant != NULL) {
        return has(map, meant) ? NULL : field_without(of, meant);
    }
    for (const struct known_field *f = of; f->name != NULL; f++) {
        if (field_without(of, f->name) != NULL && has(map, f->name)) {
            return NULL;
        }
    }
    return field_without(of, NULL);
}

static void complain_of_name(struct reading *r, const json_t *map, const char *name,
                             const struct known_field *of)
{
    struct near n = NEAR(name);
    const char *widened;

    for (const struct known_field *f = of; f->name != NULL; f++) {
        near_try(&n, f->name);
    }
    widened = widened_to(map, of, near_word(&n));
    reading_complain(r, "there is no field %.100s here: it has no effect%s%s", name,
                     widened != NULL ? ", and " : "", widened != NULL ? widened : "");
    reading_suggest(r, near_word(&n), "correct its name, move it to where it belongs, or remove it");
}

/* Recursion is limited by DEPTH_MAX. */
static void map_check(struct reading *r, const json_t *map, const struct known_field *of, const char *path,
                      unsigned depth)
{
    struct json_iter it = JSON_ITER(map);
    char own[PATH_BYTES_MAX];

    while (depth < DEPTH_MAX && json_next(&it)) {
        const struct known_field *f = field_find(of, it.key);

        (void)snprintf(own, sizeof(own), "%s%s%s", path, path[0] != '\0' ? "." : "", it.key);
        if (f != NULL) {
            value_check(r, it.value, f, own, depth);
        } else {
            reading_at(r, "%s", own);
            complain_of_name(r, map, it.key, of);
        }
    }
}

/* --- versions ------------------------------------------------------------------------------------ */

static void version_check(struct reading *r, const struct object *o, const char *versions)
{
    const char *written = json_text(o->json, "apiVersion");
    struct bytes all = bytes_str(versions), version, rest = all, group, own;

    (void)bytes_split(bytes_str(written), '/', &group, &own);
    while (rest.len > 0) {
        (void)bytes_split(rest, ' ', &version, &rest);
        if (bytes_eq(version, own)) {
            return;
        }
    }
    (void)bytes_split(all, ' ', &version, &rest);
    reading_at(r, "apiVersion");
    reading_complain(r, "nobody serves a %s of " BYTES_FMT "/" BYTES_FMT ": it is read as one of " BYTES_FMT,
                     kind_info(o->kind)->name, BYTES_ARG(group), BYTES_ARG(own), BYTES_ARG(version));
    reading_advise(r, arena_printf(r->arena, "write " BYTES_FMT "/" BYTES_FMT, BYTES_ARG(group),
                                   BYTES_ARG(version)));
}

void fields_check(struct reading *r, const struct object *o)
{
    const struct object_fields *known = object_fields(o->kind);
    const struct known_field top[] = {
        {"apiVersion", SHAPE_TEXT, NULL},
        {"kind", SHAPE_TEXT, NULL},
        {"metadata", SHAPE_MAP, metadata_fields},
        {"spec", SHAPE_MAP, known != NULL ? known->spec : NULL},
        {"status", SHAPE_ANY, NULL},
        {NULL, SHAPE_ANY, NULL},
    };

    assert(r->found != NULL);
    if (known != NULL) {
        version_check(r, o, known->versions);
        map_check(r, o->json, top, "", 0);
    } else {
        map_check(r, o->metadata, metadata_fields, "metadata", 0);
    }
}
