/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/cluster.h"

#include "core/bytes.h"

#include <stdio.h>

/*
 * jansson's iterators take a mutable object although they do not write to it. Manifests are shared
 * between threads and therefore const everywhere else; this is the one place that says otherwise.
 */
static json_t *json_unconst(const json_t *json)
{
    union {
        const json_t *in;
        json_t *out;
    } u = {.in = json};

    return u.out;
}

static bool json_next_member(struct json_iter *it)
{
    json_t *of = json_unconst(it->of);

    it->member = it->key == NULL ? json_object_iter(of) : json_object_iter_next(of, it->member);
    if (it->member == NULL) {
        it->of = NULL;
        return false;
    }
    it->index += it->key != NULL ? 1 : 0;
    it->key = json_object_iter_key(it->member);
    it->value = json_object_iter_value(it->member);
    return true;
}

bool json_next(struct json_iter *it)
{
    if (json_is_object(it->of)) {
        return json_next_member(it);
    }
    if (!json_is_array(it->of)) {
        return false;
    }
    it->index += it->value != NULL ? 1 : 0;
    it->value = json_array_get(it->of, it->index);
    if (it->value == NULL) {
        it->of = NULL;
    }
    return it->value != NULL;
}

/* One step of a path: "name", then any number of "[n]". */
static const json_t *json_step(const json_t *at, struct bytes step)
{
    size_t bracket = step.len;
    struct bytes rest;
    uint64_t index;

    for (size_t i = 0; i < step.len; i++) {
        if (step.at[i] == '[') {
            bracket = i;
            break;
        }
    }
    if (bracket > 0) {
        at = json_object_getn(at, step.at, bracket);
    }
    rest = bytes_from(step, bracket);
    while (rest.len > 0 && at != NULL) {
        struct bytes head;

        assert(rest.at[0] == '[');
        if (!bytes_split(bytes_from(rest, 1), ']', &head, &rest) ||
            bytes_to_u64(head, SIZE_MAX / 2, &index) != 0) {
            return NULL;
        }
        at = json_array_get(at, (size_t)index);
        if (rest.len > 0 && rest.at[0] != '[') {
            return NULL;
        }
    }
    return at;
}

const json_t *json_at(const json_t *root, const char *path)
{
    struct bytes rest = bytes_str(path);

    while (rest.len > 0 && root != NULL) {
        struct bytes step;

        (void)bytes_split(rest, '.', &step, &rest);
        root = json_step(root, step);
    }
    return root;
}

const char *json_text(const json_t *root, const char *path)
{
    return json_string_value(json_at(root, path));
}

int64_t json_number(const json_t *root, const char *path, int64_t fallback)
{
    const json_t *found = json_at(root, path);

    return json_is_integer(found) ? (int64_t)json_integer_value(found) : fallback;
}

bool json_flag(const json_t *root, const char *path, bool fallback)
{
    const json_t *found = json_at(root, path);

    return json_is_boolean(found) ? json_is_true(found) : fallback;
}

/* --- selectors ----------------------------------------------------------------------------------- */

static bool labels_hold(const json_t *labels, const char *key, const char *value)
{
    const char *has = json_string_value(json_object_get(labels, key));

    return has != NULL && value != NULL && strcmp(has, value) == 0;
}

static bool labels_match_map(const json_t *map, const json_t *labels)
{
    struct json_iter it = JSON_ITER(map);

    while (json_next(&it)) {
        if (!labels_hold(labels, it.key, json_string_value(it.value))) {
            return false;
        }
    }
    return true;
}

static bool labels_hold_any(const json_t *labels, const char *key, const json_t *values)
{
    struct json_iter it = JSON_ITER(values);

    while (json_next(&it)) {
        if (labels_hold(labels, key, json_string_value(it.value))) {
            return true;
        }
    }
    return false;
}

/* An operator that is not known matches nothing: a typing error must not select everything. */
static bool labels_match_expression(const json_t *expression, const json_t *labels)
{
    const char *key = json_text(expression, "key");
    const char *op = json_text(expression, "operator");
    const json_t *values = json_at(expression, "values");

    if (key == NULL || op == NULL) {
        return false;
    }
    if (strcmp(op, "In") == 0) {
        return labels_hold_any(labels, key, values);
    }
    if (strcmp(op, "NotIn") == 0) {
        return !labels_hold_any(labels, key, values);
    }
    if (strcmp(op, "Exists") == 0) {
        return json_object_get(labels, key) != NULL;
    }
    if (strcmp(op, "DoesNotExist") == 0) {
        return json_object_get(labels, key) == NULL;
    }
    return false;
}

bool selector_matches(const json_t *selector, const json_t *labels)
{
    const json_t *map = json_object_get(selector, "matchLabels");
    const json_t *expressions = json_object_get(selector, "matchExpressions");
    struct json_iter it = JSON_ITER(expressions);

    if (!json_is_object(selector)) {
        return false;
    }
    /* A plain map has strings only, so a label that happens to have one of these names is no trap. */
    if (!json_is_object(map) && !json_is_array(expressions)) {
        return labels_match_map(selector, labels);
    }
    if (json_is_object(map) && !labels_match_map(map, labels)) {
        return false;
    }
    if (json_is_array(expressions)) {
        while (json_next(&it)) {
            if (!labels_match_expression(it.value, labels)) {
                return false;
            }
        }
    }
    return true;
}

const char *json_misread(const json_t *value, char to[JSON_MISREAD_BYTES])
{
    char number[64] = "";
    size_t len;

    if (json_is_boolean(value)) {
        (void)snprintf(to, JSON_MISREAD_BYTES,
                       "was read as a boolean, as YAML reads y, n, yes, no, on and off; put it in quotes");
    } else if (json_is_number(value)) {
        len = json_dumpb(value, number, sizeof(number) - 1, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        number[MIN(len, sizeof(number) - 1)] = '\0';
        (void)snprintf(to, JSON_MISREAD_BYTES, "was read as the number %s; put it in quotes", number);
    } else if (json_is_null(value)) {
        (void)snprintf(to, JSON_MISREAD_BYTES, "is empty; write a text, in quotes if it is a word of YAML");
    } else {
        (void)snprintf(to, JSON_MISREAD_BYTES, "is %s, not a string",
                       json_is_array(value) ? "a list" : "a mapping");
    }
    return to;
}
