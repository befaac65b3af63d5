/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_MATCH_H
#define MESH_MATCH_H

/*
 * Text matches of routes. Regular expressions run in bounded time: PCRE2 without JIT, anchored to
 * the whole value, back-references refused, steps limited; a match that exceeds its limit counts as
 * no match.
 */
#include "mesh/policy.h"

/* E_SYNTAX: not an expression that we accept. The object lives until regex_free(). */
int regex_new(struct bytes pattern, struct regex **out) MUST_USE;
void regex_free(struct regex *r); /* NULL is fine */
bool text_match(const struct text_match *m, struct bytes value);
/* Path prefixes match whole segments: /a matches /a and /a/b, not /ab (wire 5.6). */
bool path_match(const struct text_match *m, struct bytes path);

#endif
