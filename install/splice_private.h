/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INSTALL_SPLICE_PRIVATE_H
#define INSTALL_SPLICE_PRIVATE_H

#include "install/splice.h"

#define SPLICE_TEXT_BYTES_MAX YAML_BYTES_MAX /* of one edit */

struct splice_edit {
    size_t start, end; /* of the input; equal for an insertion */
    size_t order;      /* of edits at one place */
    struct bytes text;
};

/* --- splice_text.c: what is written ------------------------------------------------------------ */

/* A pair in block style: "key: value", further lines indented, without the first line's indentation
 * and the last line's end. */
void splice_print_pair(struct text *to, const char *key, const json_t *value, unsigned indent);
void splice_print_item(struct text *to, const json_t *item, unsigned indent); /* "- ..." */
void splice_print_flow_pair(struct text *to, const char *key, const json_t *value);
/* A mapping that stands in for `was`, the text of a null, or for nothing at all (NULL). */
void splice_print_made(struct text *to, const json_t *object, const char *was);
/* The null that splice_print_made() replaced, from the number of spaces; NULL when out of range. */
const char *splice_null_text(size_t spaces);
bool splice_is_null_text(const char *text); /* one of those */

/* --- splice_place.c: where it goes ------------------------------------------------------------- */

size_t place_line_start(struct bytes input, size_t at);
size_t place_line_end(struct bytes input, size_t at); /* of its text: in front of the line's end */
size_t place_next_line(struct bytes input, size_t at);
bool place_is_first(struct bytes input, size_t at);     /* only spaces in front of it in its line */
bool place_is_indented(struct bytes input, size_t at);  /* only spaces and dashes */
size_t place_skip_blank(struct bytes input, size_t at); /* spaces, line ends, comments */
/* Behind the colon of the pair; SIZE_MAX when it is not where it should be. */
size_t place_colon_end(struct bytes input, const struct yaml_node *key);
/* The dash of item `item` of a block sequence, `before` being the one before it or NULL. */
size_t place_dash(struct bytes input, const struct yaml_node *sequence,
                  const struct yaml_node *before);

#endif
