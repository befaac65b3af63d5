/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TEXT_YAML_H
#define TEXT_YAML_H

/*
 * YAML documents as trees with byte marks (libyaml underneath), and as JSON values.
 *
 * The tree keeps where each node begins and ends in the input, so that text can be spliced and
 * an error can name file, line and column. JSON is YAML, so both are read by the same call.
 * Scalars are resolved as kubectl resolves them (YAML 1.1 by way of sigs.k8s.io/yaml: plain yes,
 * no, on, off, y, n are booleans, 0x and 0o numbers, `1_000` ...; keys are always strings; of equal
 * keys the last one counts). Anchors, aliases and merge keys are resolved. Input that starts with {
 * or [ is read as JSON first (one value after another makes several documents), as kubectl does.
 *
 * Limits: YAML_BYTES_MAX input, YAML_DEPTH_MAX nesting, YAML_NODES_MAX nodes (aliases counted as
 * often as they are used, so that no small input grows large).
 * Ownership: nodes live in the caller's arena and borrow from `text`, which must outlive them.
 */
#include "core/arena.h"
#include "core/bytes.h"

#include <jansson.h>

#define YAML_BYTES_MAX (16u << 20)
#define YAML_DEPTH_MAX 100
#define YAML_NODES_MAX 1000000

enum yaml_type { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml_node {
    enum yaml_type type;
    size_t start,
        end; /* byte offsets in the input; end is exclusive, without trailing comment/blank */
    unsigned line, column; /* 1-based, of start */
    bool is_plain; /* a scalar without quotes, block style or tag: is subject to resolution */
    bool is_flow;  /* {..} or [..] */
    bool is_alias; /* reached through *alias or <<; start and end of the topmost one are the alias's
                      own */
    bool is_merge; /* the key of a `<<` pair; what it merges follows as pairs with is_alias set */
    bool has_properties;            /* start is at an anchor or tag, in front of the content */
    struct bytes value;             /* scalar: the text after unescaping */
    struct yaml_node *first, *last; /* sequence: items; mapping: key, value, key, value, ... */
    struct yaml_node *next;
    size_t count; /* items, or pairs */
};

struct yaml_document {
    struct yaml_node *root; /* NULL for an empty document */
    size_t start, end;      /* the document's text, separators excluded */
    unsigned line;
    struct yaml_document *next;
};

/* On failure E_YAML (or E_LIMIT) and `problem` is "line L, column C: what is wrong". */
int yaml_parse(struct arena *a, struct bytes text, struct yaml_document **out_first, char *problem,
               size_t problem_bytes) MUST_USE;
const struct yaml_node *yaml_get(const struct yaml_node *mapping,
                                 const char *key); /* NULL if absent or no mapping */
/* The node at "spec.template.spec.containers[0].image", or the deepest existing one on that way:
 * for naming the line of an error. Never NULL when root is not. */
const struct yaml_node *yaml_locate(const struct yaml_node *root, const char *path);
json_t *yaml_to_json(const struct yaml_node *n); /* new reference; JSON null for NULL */

/* What a plain scalar means: null, a boolean, a number or a string. New reference. */
json_t *yaml_resolve(struct bytes plain);

/* Emit a JSON value as block YAML, keys in insertion order, strings quoted when they must be. Every
 * line starts with `indent` spaces, the last one ends with a newline. */
struct text;
void yaml_print(struct text *to, const json_t *value, unsigned indent);
/* Emit it on one line as JSON that every YAML parser reads too: what JSON would write as a pair of
 * surrogates stays UTF-8, what YAML refuses is escaped. */
void yaml_print_flow(struct text *to, const json_t *value);

#endif
