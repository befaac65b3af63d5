/* SPDX-License-Identifier: Apache-2.0 */
#include "core/err.h"
#include "install/inject_private.h"
#include "install/splice_private.h"

/* Spellings of null, in the order of the number of spaces that stand for them: two and more. */
static const char *const nulls[] = {"", "null", "~", "Null", "NULL"};
#define NULL_SPACES 2

const char *splice_null_text(size_t spaces)
{
    return spaces >= NULL_SPACES && spaces < NULL_SPACES + ARRAY_LEN(nulls)
               ? nulls[spaces - NULL_SPACES]
               : NULL;
}

bool splice_is_null_text(const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++) {
        if (strcmp(nulls[i], text) == 0) {
            return true;
        }
    }
    return false;
}

static json_t *iterable(const json_t *value)
{
    return (
        json_t *)(uintptr_t)value; /* jansson iterates by non-const pointers, changing nothing */
}

/* Metadata and annotations are the only mappings of ours with keys to mark. */
static bool has_config(const json_t *value, unsigned levels)
{
    const char *key;
    json_t *child;

    if (levels == 0) {
        return false;
    }
    json_object_foreach(iterable(value), key, child)
    {
        if (annotation_is_config(bytes_str(key)) || has_config(child, levels - 1)) {
            return true;
        }
    }
    return false;
}

static void add_without_end(struct text *to, struct bytes printed, unsigned indent)
{
    printed = bytes_from(printed, MIN((size_t)indent, printed.len));
    if (printed.len > 0 && printed.at[printed.len - 1] == '\n') {
        printed = bytes_first(printed, printed.len - 1);
    }
    text_add(to, printed);
}

static void print_whole(struct text *to, const json_t *value, unsigned indent)
{
    struct text printed;

    text_init(&printed, SPLICE_TEXT_BYTES_MAX);
    yaml_print(&printed, value, indent);
    if (printed.err != 0) {
        to->err = printed.err;
    } else {
        add_without_end(to, text_bytes(&printed), indent);
    }
    text_clear(&printed);
}

/* The recursion goes as deep as has_config() looks. */
void splice_print_pair(struct text *to, const char *key, const json_t *value, unsigned indent)
{
    json_t *pair, *child;
    const char *name;

    if (has_config(value, 2)) {
        text_printf(to, "%s:", key);
        json_object_foreach(iterable(value), name, child)
        {
            text_printf(to, "\n%*s", (int)indent + 2, "");
            splice_print_pair(to, name, child, indent + 2);
        }
        return;
    }
    if (annotation_is_config(bytes_str(key))) {
        struct text rest;

        text_init(&rest, SPLICE_TEXT_BYTES_MAX);
        yaml_print_flow(&rest, value);
        text_printf(to, "\"%s\": " BYTES_FMT, key, BYTES_ARG(text_bytes(&rest)));
        text_clear(&rest);
        return;
    }
    pair = json_object();
    (void)json_object_set(pair, key, iterable(value));
    print_whole(to, pair, indent);
    json_decref(pair);
}

void splice_print_item(struct text *to, const json_t *item, unsigned indent)
{
    json_t *list = json_array();

    (void)json_array_append(list, iterable(item));
    print_whole(to, list, indent);
    json_decref(list);
}

void splice_print_flow_pair(struct text *to, const char *key, const json_t *value)
{
    json_t *name = json_string(key);

    yaml_print_flow(to, name);
    json_decref(name);
    text_str(to, annotation_is_config(bytes_str(key)) ? ":  " : ": ");
    if (json_object_size(value) > 0) {
        splice_print_made(to, value, NULL);
    } else {
        yaml_print_flow(to, value);
    }
}

/* Recursion by splice_print_flow_pair() is as deep as the values that inject makes; the tree that
 * they came from bounds all others. */
void splice_print_made(struct text *to, const json_t *object, const char *was)
{
    size_t spaces = 1;
    const char *key, *separator = "";
    json_t *child;

    for (size_t i = 0; was != NULL && i < ARRAY_LEN(nulls); i++) {
        if (strcmp(nulls[i], was) == 0) {
            spaces = NULL_SPACES + i;
        }
    }
    text_printf(to, "{%*s", (int)spaces, "");
    json_object_foreach(iterable(object), key, child)
    {
        text_str(to, separator);
        splice_print_flow_pair(to, key, child);
        separator = ", ";
    }
    text_str(to, " }");
}
