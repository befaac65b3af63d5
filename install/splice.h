/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INSTALL_SPLICE_H
#define INSTALL_SPLICE_H

/*
 * Edit a manifest's text so that it means something else, and leave every other byte alone.
 *
 * splice_change() compares what a node means now with what it shall mean and notes an edit for each
 * difference: pairs and items put in, taken out, values replaced; in block style or in flow style
 * (JSON), as the surrounding text is written. splice_apply() then writes the text out.
 *
 * What splice itself puts in, it can take out again without a trace. For that it writes its own
 * things in a recognisable way:
 *   - a pair goes in front of the first one of its mapping;
 *   - a flow mapping that was made, not extended, has spaces inside its braces, and their number says
 *     what stood there before (see splice_mapping_origin());
 *   - keys of `config.linkerd.io/` annotations are quoted in block style, and have two spaces
 *     behind the colon in flow style.
 *
 * Limits: what cannot be edited in place (a value behind an alias, a key in `? ` form) gives E_YAML and a
 * sentence with line and column. The caller must parse the result again and compare: text may be
 * woven in ways that nobody foresees, and then nothing may be written.
 */
#include "core/arena.h"
#include "core/text.h"
#include "text/yaml.h"

struct splice_edit;
struct splice {
    struct arena *arena;
    struct bytes input;
    const char *eol; /* "\n", or "\r\n" when the input's first line ends so */
    struct splice_edit *edits;
    size_t count, capacity;
    char *problem;
    size_t problem_bytes;
};

void splice_init(struct splice *s, struct arena *a, struct bytes input, char *problem,
                 size_t problem_bytes);
void splice_clear(struct splice *s);
/* `from` is yaml_to_json(node). */
int splice_change(struct splice *s, const struct yaml_node *node, const json_t *from,
                  const json_t *to) MUST_USE;
int splice_apply(struct splice *s, struct text *to) MUST_USE;

/* What a mapping that is to lose its last pair was made from. */
enum splice_origin {
    SPLICE_WAS_ABSENT, /* take the whole pair out */
    SPLICE_WAS_EMPTY,  /* {} */
    SPLICE_WAS_NULL,   /* nothing, ~, null ... */
};
enum splice_origin splice_mapping_origin(const struct splice *s, const struct yaml_node *mapping);
/* Was this pair put in by splice, and not by the user? Only for `config.linkerd.io/` keys. */
bool splice_is_ours(const struct splice *s, const struct yaml_node *mapping,
                    const struct yaml_node *key);

#endif
