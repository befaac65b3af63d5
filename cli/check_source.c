/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "core/file.h"
#include "text/yaml.h"

/*
 * The line of a field in the user's file. The control plane has objects as values and knows where each
 * begins; lines within it are looked up here, where the file is, as it is now.
 */
#define ARENA_BYTES_MAX (64u << 20)

/* The object that begins at that line: a document, or an item of a List. NULL: another file by now. */
static const struct yaml_node *object_at(const struct yaml_document *doc, unsigned line)
{
    const struct yaml_node *items, *item;

    for (; doc != NULL; doc = doc->next) {
        items = yaml_get(doc->root, "items");
        if (items == NULL && doc->root != NULL && doc->root->line == line) {
            return doc->root;
        }
        item = items != NULL && items->type == YAML_SEQUENCE ? items->first : NULL;
        while (item != NULL && item->line != line) {
            item = item->next;
        }
        if (item != NULL) {
            return item;
        }
    }
    return NULL;
}

/* Of the key where the path ends in one, for its value may begin below it; of what is there of the path. */
static unsigned key_line(const struct yaml_node *object, const char *field)
{
    const char *dot = strrchr(field, '.');
    AUTOFREE char *above = mem_strndup(field, dot != NULL ? (size_t)(dot - field) : 0);
    struct bytes last = bytes_str(dot != NULL ? dot + 1 : field), key = last, rest;
    const struct yaml_node *map = yaml_locate(object, above), *value = yaml_locate(object, field);
    const struct yaml_node *k = map->type == YAML_MAPPING ? map->first : NULL;
    unsigned found = value->line;

    (void)bytes_split(last, '[', &key, &rest);
    if (key.len < last.len) {
        return found; /* an item of a list begins where it stands */
    }
    for (; k != NULL; k = k->next->next) {
        if (k->next == value && bytes_eq(k->value, key)) {
            found = k->line;
        }
    }
    return found;
}

unsigned check_field_line(const char *path, unsigned line, const char *field)
{
    AUTOFREE char *content = NULL;
    struct yaml_document *doc = NULL;
    const struct yaml_node *object;
    unsigned found = line;
    struct arena arena;
    char problem[256];
    size_t len = 0;

    if (field[0] == '\0' || file_read(path, YAML_BYTES_MAX, &content, &len) != 0) {
        return line;
    }
    arena_init(&arena, ARENA_BYTES_MAX);
    if (yaml_parse(&arena, bytes_of(content, len), &doc, problem, sizeof(problem)) == 0) {
        object = object_at(doc, line);
        found = object != NULL ? key_line(object, field) : line;
    }
    arena_clear(&arena);
    return found;
}

void check_add_problem(struct text *to, const Linkerd2__Public__CheckResult *r)
{
    const char *message = r->friendlymessagetouser, *colon = strrchr(r->source, ':');
    size_t len = strlen(r->source);
    uint64_t line;

    /* Other paths than whole ones are those of a control plane that has a folder of its own. */
    if (r->source[0] == '/' && colon != NULL && strncmp(message, r->source, len) == 0 &&
        bytes_to_u64(bytes_str(colon + 1), UINT32_MAX, &line) == 0) {
        AUTOFREE char *path = mem_strndup(r->source, (size_t)(colon - r->source));

        text_printf(to, "%s:%u%s", path, check_field_line(path, (unsigned)line, r->field), message + len);
    } else {
        text_str(to, message);
    }
}
