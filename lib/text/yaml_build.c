/* SPDX-License-Identifier: Apache-2.0 */
#include "text/yaml_build.h"

#include <stdarg.h>

#include "core/err.h"

void yaml_build_init(struct yaml_build *b, struct arena *a, struct bytes text, char *problem,
                     size_t problem_bytes)
{
    memset(b, 0, sizeof(*b));
    b->arena = a;
    b->text = text;
    b->problem = problem;
    b->problem_bytes = problem_bytes;
    map_init(&b->anchors);
}

void yaml_build_clear(struct yaml_build *b)
{
    map_clear(&b->anchors);
}

int yaml_build_fail(struct yaml_build *b, int err, unsigned line, unsigned column,
                    const char *format, ...)
{
    char what[256];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (b->problem_bytes > 0) {
        (void)snprintf(b->problem, b->problem_bytes, "line %u, column %u: %s", line, column, what);
    }
    return err;
}

int yaml_build_document(struct yaml_build *b, size_t start, unsigned line)
{
    struct yaml_document *d = arena_try(b->arena, sizeof(*d));

    if (d == NULL) {
        return yaml_build_fail(b, E_LIMIT, line, 1, "too large for the memory allowed");
    }
    *d = (struct yaml_document){.start = start, .end = b->text.len, .line = line};
    if (b->last != NULL) {
        b->last->next = d;
    } else {
        b->first = d;
    }
    b->last = d;
    b->depth = 0;
    map_clear(&b->anchors);
    map_init(&b->anchors);
    return 0;
}

int yaml_build_node(struct yaml_build *b, enum yaml_type type, unsigned line, unsigned column,
                    struct yaml_node **out_node)
{
    struct yaml_node *n;

    if (b->nodes >= YAML_NODES_MAX) {
        return yaml_build_fail(b, E_LIMIT, line, column,
                               "more than %d values, aliases counted as often as used",
                               YAML_NODES_MAX);
    }
    n = arena_try(b->arena, sizeof(*n));
    if (n == NULL) {
        return yaml_build_fail(b, E_LIMIT, line, column, "too large for the memory allowed");
    }
    b->nodes++;
    *n = (struct yaml_node){.type = type, .line = line, .column = column};
    *out_node = n;
    return 0;
}

static void append(struct yaml_node *parent, struct yaml_node *n)
{
    n->next = NULL;
    if (parent->last != NULL) {
        parent->last->next = n;
    } else {
        parent->first = n;
    }
    parent->last = n;
}

static bool key_follows(const struct yaml_node *mapping)
{
    bool key = true;

    /* Only ever asked of `last`: a key is marked while its value is missing, see yaml_build_add().
     */
    if (mapping->last != NULL && mapping->last->count == SIZE_MAX) {
        key = false;
    }
    return key;
}

int yaml_build_add(struct yaml_build *b, struct yaml_node *n)
{
    struct yaml_node *parent;

    if (b->depth == 0) {
        assert(b->last != NULL && b->last->root == NULL);
        b->last->root = n;
        return 0;
    }
    parent = b->open[b->depth - 1];
    if (parent->type == YAML_SEQUENCE) {
        parent->count++;
        append(parent, n);
        return 0;
    }
    if (key_follows(parent)) {
        if (n->type != YAML_SCALAR) {
            return yaml_build_fail(b, E_YAML, n->line, n->column,
                                   "a key must be a text, not a mapping or a list");
        }
        n->count = SIZE_MAX; /* waits for its value */
        n->is_merge = n->is_plain && !n->is_alias && bytes_eq(n->value, BYTES("<<"));
    } else {
        parent->last->count = 0;
        parent->count++;
    }
    append(parent, n);
    return 0;
}

int yaml_build_open(struct yaml_build *b, struct yaml_node *n)
{
    if (b->depth >= YAML_DEPTH_MAX) {
        return yaml_build_fail(b, E_LIMIT, n->line, n->column, "nested deeper than %d levels",
                               YAML_DEPTH_MAX);
    }
    TRY(yaml_build_add(b, n));
    b->open[b->depth++] = n;
    return 0;
}

/* A copy below `depth` open collections; the recursion is bounded by that. */
static int copy(struct yaml_build *b, const struct yaml_node *from, size_t depth,
                struct yaml_node **out_copy)
{
    struct yaml_node *n;

    if (from->type != YAML_SCALAR && depth >= YAML_DEPTH_MAX) {
        return yaml_build_fail(b, E_LIMIT, from->line, from->column,
                               "nested deeper than %d levels by aliases", YAML_DEPTH_MAX);
    }
    TRY(yaml_build_node(b, from->type, from->line, from->column, &n));
    *n = *from;
    n->first = n->last = n->next = NULL;
    n->is_alias = true;
    if (n->type == YAML_SCALAR) {
        n->count = 0; /* `from` may be the key that waits for this very value */
    }
    for (const struct yaml_node *c = from->first; c != NULL; c = c->next) {
        struct yaml_node *child;

        TRY(copy(b, c, depth + 1, &child));
        append(n, child);
    }
    *out_copy = n;
    return 0;
}

int yaml_build_alias(struct yaml_build *b, struct bytes name, size_t start, size_t end,
                     unsigned line, unsigned column)
{
    const struct yaml_node *from = map_get(&b->anchors, name);
    struct yaml_node *n;

    if (from == NULL) {
        return yaml_build_fail(b, E_YAML, line, column,
                               "no anchor &" BYTES_FMT " before this alias",
                               (int)MIN(name.len, (size_t)64), name.at);
    }
    for (size_t i = 0; i < b->depth; i++) {
        if (b->open[i] == from) {
            return yaml_build_fail(b, E_YAML, line, column,
                                   "the value of anchor &" BYTES_FMT " contains itself",
                                   (int)MIN(name.len, (size_t)64), name.at);
        }
    }
    TRY(copy(b, from, b->depth, &n));
    n->start = start;
    n->end = end;
    n->line = line;
    n->column = column;
    n->has_properties = false;
    return yaml_build_add(b, n);
}

/* Copies of all pairs of `from` that count, put in behind `after`, which moves to the last of them.
 */
static int merge_mapping(struct yaml_build *b, struct yaml_node *into, struct yaml_node **after,
                         const struct yaml_node *from)
{
    for (const struct yaml_node *key = from->first; key != NULL; key = key->next->next) {
        struct yaml_node *k, *v;

        if (key->is_merge) {
            continue;
        }
        TRY(copy(b, key, b->depth, &k));
        TRY(copy(b, key->next, b->depth, &v));
        v->next = (*after)->next;
        k->next = v;
        (*after)->next = k;
        if (into->last == *after) {
            into->last = v;
        }
        *after = v;
        into->count++;
    }
    return 0;
}

/*
 * Put what a `<<` pair names right behind it. Later pairs win over earlier ones in this tree, so a
 * list, whose first mapping counts most, goes in backwards; keys that stand before the `<<` lose
 * against it, as they do with kubectl.
 */
static int merge(struct yaml_build *b, struct yaml_node *into, struct yaml_node *key)
{
    const struct yaml_node *value = key->next;
    struct yaml_node *after = key->next;

    if (value->type == YAML_MAPPING) {
        return merge_mapping(b, into, &after, value);
    }
    for (const struct yaml_node *i = value->first; i != NULL; i = i->next) {
        struct yaml_node *at = key->next;

        if (i->type != YAML_MAPPING) {
            return yaml_build_fail(b, E_YAML, i->line, i->column,
                                   "<< takes a mapping or a list of mappings");
        }
        TRY(merge_mapping(b, into, &at, i)); /* in front of those merged before */
    }
    if (value->type == YAML_SCALAR) {
        return yaml_build_fail(b, E_YAML, value->line, value->column,
                               "<< takes a mapping or a list of mappings");
    }
    return 0;
}

int yaml_build_close(struct yaml_build *b)
{
    struct yaml_node *n, *next;

    assert(b->depth > 0);
    n = b->open[b->depth - 1];
    assert(n->type == YAML_SEQUENCE || key_follows(n));
    if (n->type == YAML_MAPPING) {
        for (struct yaml_node *key = n->first; key != NULL; key = next) {
            next = key->next->next; /* before the merge puts its pairs in between */
            if (key->is_merge) {
                TRY(merge(b, n, key));
            }
        }
    }
    b->depth--;
    return 0;
}
