/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_NEGOTIATE_H
#define HTTP_NEGOTIATE_H

/*
 * What a client would rather have: Accept and Accept-Encoding (RFC 9110 12.5). Pure functions.
 */
#include "http/message.h"

#define QUALITY_MAX 1000 /* q=1 */

/*
 * The quality in thousandths of a media type, "text/plain", or of a coding, "gzip", in a list such as
 * "text/plain;q=0.5, gzip"; 0: not wanted, or not named. The most specific member that matches
 * counts; parameters other than q are not looked at. `is_named`: wildcards do not count.
 */
unsigned negotiate_quality(struct bytes list, struct bytes wanted, bool is_named);
/* The same over all fields of that name; absent fields want nothing. */
unsigned negotiate_fields(const struct fields *f, struct bytes name, struct bytes wanted,
                          bool is_named);

#endif
