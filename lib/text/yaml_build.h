/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TEXT_YAML_BUILD_H
#define TEXT_YAML_BUILD_H

/*
 * The tree that both readers (yaml_parse.c, yaml_json.c) fill, node by node, in the order of the
 * text. All limits of yaml.h are kept here. A failed call has written `problem`.
 */
#include "core/map.h"
#include "text/yaml.h"

struct yaml_build {
    struct arena *arena;
    struct bytes text;
    char *problem;
    size_t problem_bytes;
    size_t nodes;                           /* made so far, copies for aliases included */
    struct yaml_node *open[YAML_DEPTH_MAX]; /* collections that have not ended, outermost first */
    size_t depth;
    struct map anchors; /* name to node, of this document */
    struct yaml_document *first, *last;
};

void yaml_build_init(struct yaml_build *b, struct arena *a, struct bytes text, char *problem,
                     size_t problem_bytes);
void yaml_build_clear(struct yaml_build *b);

/* Write "line L, column C: ..." and return `err`. */
int yaml_build_fail(struct yaml_build *b, int err, unsigned line, unsigned column,
                    const char *format, ...) PRINTF_LIKE(5, 6);

int yaml_build_document(struct yaml_build *b, size_t start, unsigned line) MUST_USE;
/* A zeroed node; the caller sets the fields and then calls yaml_build_add() or yaml_build_open().
 */
int yaml_build_node(struct yaml_build *b, enum yaml_type type, unsigned line, unsigned column,
                    struct yaml_node **out_node) MUST_USE;
int yaml_build_add(struct yaml_build *b,
                   struct yaml_node *n) MUST_USE; /* below the innermost open one */
int yaml_build_open(struct yaml_build *b,
                    struct yaml_node *n) MUST_USE;   /* add, and make it the innermost */
int yaml_build_close(struct yaml_build *b) MUST_USE; /* resolves its merge keys */
/* The anchored node once more, with the alias's own marks; counts all its nodes again. */
int yaml_build_alias(struct yaml_build *b, struct bytes name, size_t start, size_t end,
                     unsigned line, unsigned column) MUST_USE;

/* Read a stream of JSON texts; E_JSON when it is none, then nothing was built. */
int yaml_json_read(struct yaml_build *b) MUST_USE;

#endif
