/* SPDX-License-Identifier: Apache-2.0 */
#include "core/err.h"
#include "core/text.h"
#include "text/yaml.h"

static const struct yaml_node *get(const struct yaml_node *mapping, struct bytes key)
{
    const struct yaml_node *found = NULL;

    if (mapping == NULL || mapping->type != YAML_MAPPING) {
        return NULL;
    }
    for (const struct yaml_node *k = mapping->first; k != NULL; k = k->next->next) {
        if (!k->is_merge && bytes_eq(k->value, key)) {
            found = k->next; /* of equal keys the last one counts */
        }
    }
    return found;
}

const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key)
{
    return get(mapping, bytes_str(key));
}

/* One step into a list: "[3]..." */
static const struct yaml_node *locate_item(const struct yaml_node *n, struct bytes *path)
{
    struct bytes digits, rest;
    uint64_t index;
    const struct yaml_node *item;

    if (n->type != YAML_SEQUENCE || !bytes_split(bytes_from(*path, 1), ']', &digits, &rest) ||
        bytes_to_u64(digits, YAML_NODES_MAX, &index) != 0) {
        return NULL;
    }
    item = n->first;
    while (item != NULL && index-- > 0) {
        item = item->next;
    }
    *path = rest;
    return item;
}

/* One step into a mapping. Keys may hold dots: the longest one that exists is taken. */
static const struct yaml_node *locate_key(const struct yaml_node *n, struct bytes *path)
{
    for (size_t len = path->len; len > 0; len--) {
        const struct yaml_node *value;

        if (len < path->len && path->at[len] != '.' && path->at[len] != '[') {
            continue;
        }
        value = get(n, bytes_first(*path, len));
        if (value != NULL) {
            *path = bytes_from(*path, len);
            return value;
        }
    }
    return NULL;
}

const struct yaml_node *yaml_locate(const struct yaml_node *root, const char *path)
{
    struct bytes rest = bytes_str(path);
    const struct yaml_node *at = root;

    while (at != NULL && rest.len > 0) {
        const struct yaml_node *next;

        if (rest.at[0] == '.') {
            rest = bytes_from(rest, 1);
        }
        next = rest.len > 0 && rest.at[0] == '[' ? locate_item(at, &rest) : locate_key(at, &rest);
        if (next == NULL) {
            break;
        }
        at = next;
    }
    return at;
}

static json_t *text_to_json(struct bytes b)
{
    json_t *value = json_stringn(b.at != NULL ? b.at : "", b.len);

    /* Only a decoded !!binary can hold what is not UTF-8. */
    return value != NULL ? value : json_null();
}

/* The key as kubectl spells it: a number or boolean by its value, everything else by its text. */
static void put(json_t *object, const struct yaml_node *key, json_t *value)
{
    json_t *name = key->is_plain ? yaml_resolve(key->value) : NULL;
    char number[32];
    const char *text = key->value.at;
    size_t len = key->value.len;

    if (json_is_boolean(name)) {
        text = json_is_true(name) ? "true" : "false";
        len = strlen(text);
    } else if (json_is_number(name)) {
        len = json_is_integer(name)
                  ? (size_t)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
                                     json_integer_value(name))
                  : (size_t)snprintf(number, sizeof(number), "%.17g", json_real_value(name));
        text = number;
    }
    if (text == NULL) {
        text = "";
    }
    if (json_object_setn_new(object, text, len, value) != 0) {
        (void)json_object_set_new(object, "", json_null()); /* a !!binary key that is not UTF-8 */
    }
    json_decref(name);
}

/* The recursion is as deep as the tree: YAML_DEPTH_MAX at most. */
json_t *yaml_to_json(const struct yaml_node *n)
{
    json_t *value;

    if (n == NULL) {
        return json_null();
    }
    switch (n->type) {
    case YAML_SCALAR:
        return n->is_plain ? yaml_resolve(n->value) : text_to_json(n->value);
    case YAML_SEQUENCE:
        value = json_array();
        for (const struct yaml_node *i = n->first; i != NULL; i = i->next) {
            (void)json_array_append_new(value, yaml_to_json(i));
        }
        return value;
    case YAML_MAPPING:
    default:
        value = json_object();
        for (const struct yaml_node *k = n->first; k != NULL; k = k->next->next) {
            if (!k->is_merge) {
                put(value, k, yaml_to_json(k->next));
            }
        }
        return value;
    }
}
