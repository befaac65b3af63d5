/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/dir.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "core/err.h"
#include "text/yaml.h"

/* Room for the tree of the largest text that yaml.h accepts, and for its unescaped scalars. */
#define PARSE_ARENA_BYTES (YAML_NODES_MAX * sizeof(struct yaml_node) + 2 * (size_t)YAML_BYTES_MAX)

struct parse {
    const char *path;
    struct dir_entries entries;
    size_t capacity;
    char *problem;
    size_t problem_bytes;
};

void entries_clear(struct dir_entries *e)
{
    for (size_t i = 0; i < e->count; i++) {
        object_unref(e->at[i].object);
    }
    mem_free(e->at);
    *e = (struct dir_entries){0};
}

static int parse_refuse(struct parse *p, unsigned line, const char *why)
{
    (void)snprintf(p->problem, p->problem_bytes, "%s:%u: %s", p->path, line, why);
    return E_CONFIG;
}

static int parse_object(struct parse *p, const struct yaml_node *node)
{
    AUTOFREE char *source = mem_printf("%s:%u", p->path, node->line);
    char why[256];
    struct object *o = NULL;

    if (p->entries.count >= DIR_FILE_OBJECTS_MAX) {
        (void)parse_refuse(p, node->line, "too many objects in one file");
        return E_LIMIT;
    }
    if (object_new(yaml_to_json(node), source, &o, why, sizeof(why)) != 0) {
        return parse_refuse(p, node->line, why);
    }
    if (p->entries.count == p->capacity) {
        p->capacity = MAX(8, p->capacity * 2);
        p->entries.at = mem_resize(p->entries.at, p->capacity, sizeof(p->entries.at[0]));
    }
    p->entries.at[p->entries.count++] = (struct dir_entry){.object = o};
    return 0;
}

/* "List", and the typed lists that the API serves ("PodList"). */
static bool is_list(const struct yaml_node *root)
{
    const struct yaml_node *kind = yaml_get(root, "kind");

    return kind != NULL && kind->type == YAML_SCALAR && bytes_ends(kind->value, BYTES("List"));
}

static bool is_nothing(const struct yaml_node *node)
{
    return node == NULL || (node->type == YAML_SCALAR && node->is_plain &&
                            (node->value.len == 0 || bytes_eq(node->value, BYTES("null")) ||
                             bytes_eq(node->value, BYTES("~"))));
}

static int parse_document(struct parse *p, const struct yaml_node *root)
{
    const struct yaml_node *items;

    if (is_nothing(root)) {
        return 0;
    }
    if (!is_list(root)) {
        return parse_object(p, root);
    }
    items = yaml_get(root, "items");
    if (is_nothing(items)) {
        return 0;
    }
    if (items->type != YAML_SEQUENCE) {
        return parse_refuse(p, items->line, "the items of a List are not a sequence");
    }
    for (const struct yaml_node *item = items->first; item != NULL; item = item->next) {
        if (is_list(item)) {
            return parse_refuse(p, item->line, "a List inside a List is not supported");
        }
        TRY(parse_object(p, item));
    }
    return 0;
}

int parse_objects(const char *path, struct bytes text, struct dir_entries *out, char *problem,
                  size_t problem_bytes)
{
    struct parse p = {.path = path, .problem = problem, .problem_bytes = problem_bytes};
    struct yaml_document *doc = NULL;
    struct arena arena;
    char why[256] = "";
    int err;

    arena_init(&arena, PARSE_ARENA_BYTES);
    err = yaml_parse(&arena, text, &doc, why, sizeof(why));
    if (err != 0) {
        /* The parser says "line L, column C: what"; ours is "path:L:C: what", as compilers write it. */
        unsigned line = 0, column = 0;
        size_t at = 0;
        struct bytes left = bytes_str(why), number, rest;
        uint64_t value;

        if (bytes_starts(left, BYTES("line ")) &&
            bytes_split(bytes_from(left, 5), ',', &number, &rest) &&
            bytes_to_u64(number, UINT32_MAX, &value) == 0 && bytes_find(rest, BYTES(": "), &at)) {
            line = (unsigned)value;
            left = bytes_from(rest, at + 2);
            if (bytes_starts(rest, BYTES(" column ")) &&
                bytes_to_u64(bytes_from(bytes_first(rest, at), 8), UINT32_MAX, &value) == 0) {
                column = (unsigned)value;
            }
        }
        (void)snprintf(problem, problem_bytes, "%s:%u:%u: " BYTES_FMT, path, line, column,
                       BYTES_ARG(left));
    }
    for (; err == 0 && doc != NULL; doc = doc->next) {
        err = parse_document(&p, doc->root);
    }
    arena_clear(&arena);
    if (err != 0) {
        entries_clear(&p.entries);
        return err;
    }
    *out = p.entries;
    return 0;
}
