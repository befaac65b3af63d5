/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

/*
 * Memory with one life: everything parsed for one exchange, one manifest, one message.
 *
 * Limits: `bytes_max` bounds all that is handed out; beyond it arena_try() returns NULL, arena_new()
 * aborts (use it only for sizes that no peer influences).
 * Ownership: freed as a whole by arena_clear(); single pieces are never freed.
 * Threads: one at a time. Blocks of the standard size are recycled through a per-thread cache (a
 * bounded free list), so that an arena per exchange costs no heap call after warm-up.
 */
#include "core/bytes.h"

#include <stdarg.h>

#define ARENA_BLOCK_BYTES 4096

struct arena_block;
struct arena {
    struct arena_block *blocks; /* newest first */
    char *next, *end;           /* free part of the newest block */
    size_t bytes_used, bytes_max;
};

void arena_init(struct arena *a, size_t bytes_max); /* allocates nothing yet */
void arena_clear(struct arena *a);                  /* frees all; usable again; idempotent */

void *arena_try(struct arena *a, size_t bytes) MUST_USE; /* aligned to 16, not zeroed; NULL at the limit */
void *arena_new(struct arena *a, size_t bytes);          /* aligned to 16, zeroed */
char *arena_strdup(struct arena *a, struct bytes text);  /* NUL-terminated */
struct bytes arena_bytes(struct arena *a, struct bytes from); /* a copy */
char *arena_printf(struct arena *a, const char *format, ...) PRINTF_LIKE(2, 3);
int arena_copy(struct arena *a, struct bytes from, struct bytes *out_copy) MUST_USE; /* 0, E_LIMIT */

void arena_cache_clear(void); /* this thread's recycled blocks go back to the heap */

#endif
