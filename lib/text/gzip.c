/* SPDX-License-Identifier: Apache-2.0 */
#include "text/gzip.h"

#include "core/alloc.h"
#include "core/err.h"

#include <zlib.h>

#define LEVEL       1
#define WINDOW_BITS 15
#define GZIP_FORMAT 16 /* added to the window's bits: this format, not zlib's own */
#define MEMORY      7
#define PIECE_BYTES 16384

struct gzip {
    z_stream z;
};

static void *take(void *user, unsigned count, unsigned bytes)
{
    (void)user;
    return mem_new_array(count, bytes);
}

static void give(void *user, void *memory)
{
    (void)user;
    mem_free(memory);
}

struct gzip *gzip_new(void)
{
    struct gzip *g = mem_new(sizeof(*g));
    int rc;

    g->z.zalloc = take;
    g->z.zfree = give;
    rc = deflateInit2(&g->z, LEVEL, Z_DEFLATED, WINDOW_BITS + GZIP_FORMAT, MEMORY,
                      Z_DEFAULT_STRATEGY);
    assert(rc == Z_OK); /* memory is never refused, and the rest is constant */
    return g;
}

void gzip_free(struct gzip *g)
{
    if (g != NULL) {
        (void)deflateEnd(&g->z);
        mem_free(g);
    }
}

int gzip_add(struct gzip *g, struct bytes plain, bool ends, struct text *to)
{
    char piece[PIECE_BYTES];
    int rc;

    assert(plain.len <= UINT32_MAX);
    g->z.next_in = (Bytef *)(uintptr_t)plain.at; /* only read */
    g->z.avail_in = (uInt)plain.len;
    do {
        g->z.next_out = (Bytef *)piece;
        g->z.avail_out = sizeof(piece);
        rc = deflate(&g->z, ends ? Z_FINISH : Z_NO_FLUSH);
        assert(rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR);
        text_add(to, bytes_of(piece, sizeof(piece) - g->z.avail_out));
    } while (g->z.avail_out == 0);
    assert(g->z.avail_in == 0 && (!ends || rc == Z_STREAM_END));
    return to->err;
}
