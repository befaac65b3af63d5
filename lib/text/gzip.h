/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TEXT_GZIP_H
#define TEXT_GZIP_H

/*
 * Compression to the gzip format (RFC 1952), piece by piece; a thin face over zlib.
 *
 * At level 1: text of metrics shrinks to a fifteenth all the same, for a third of the time.
 * Limits: 140 KiB a compressor.
 */
#include "core/text.h"

struct gzip;
struct gzip *gzip_new(void);
void gzip_free(struct gzip *g); /* NULL is fine */
/* Append what comes out of `plain` now; `ends`: all of the rest, and nothing may be added any more.
 * E_LIMIT: `to` has no room; the stream is lost. */
int gzip_add(struct gzip *g, struct bytes plain, bool ends, struct text *to) MUST_USE;

#endif
