/* SPDX-License-Identifier: Apache-2.0 */
#include "core/arena.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/poison.h"

#include <pthread.h>
#include <stdio.h>

#define ARENA_ALIGN     ((size_t)16)
#define ARENA_CACHE_MAX 64 /* blocks a thread keeps: 256 KiB */

struct arena_block {
    struct arena_block *next;
    size_t bytes; /* of the whole block, this header included */
};

#define ARENA_HEADER_BYTES (sizeof(struct arena_block))
static_assert(ARENA_HEADER_BYTES % ARENA_ALIGN == 0, "payload is aligned behind the header");

/* --- blocks kept by this thread ---------------------------------------------------------------- */

static _Thread_local struct {
    struct arena_block *blocks;
    unsigned count;
    bool at_exit; /* this thread's end frees the cache */
} arena_cache;

static pthread_key_t cache_key;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;

static void cache_thread_end(void *unused UNUSED)
{
    arena_cache.at_exit = false;
    arena_cache_clear();
}

static void cache_key_init(void)
{
    int err = pthread_key_create(&cache_key, cache_thread_end);

    assert(err == 0);
}

/* The key's value only has to be set for its destructor to run when the thread ends. */
static void cache_register(void)
{
    int err;

    (void)pthread_once(&cache_once, cache_key_init);
    err = pthread_setspecific(cache_key, &arena_cache);
    assert(err == 0);
    arena_cache.at_exit = true;
}

void arena_cache_clear(void)
{
    struct arena_block *block;

    while ((block = arena_cache.blocks) != NULL) {
        arena_cache.blocks = block->next;
        MEM_UNPOISON(block, block->bytes);
        mem_free(block);
    }
    arena_cache.count = 0;
}

static struct arena_block *block_new(size_t bytes)
{
    struct arena_block *block = arena_cache.blocks;

    if (bytes == ARENA_BLOCK_BYTES && block != NULL) {
        arena_cache.blocks = block->next;
        arena_cache.count--;
    } else {
        block = mem_resize(NULL, bytes, 1);
        block->bytes = bytes;
    }
    MEM_POISON((char *)block + ARENA_HEADER_BYTES, bytes - ARENA_HEADER_BYTES);
    return block;
}

static void block_free(struct arena_block *block)
{
    if (block->bytes != ARENA_BLOCK_BYTES || arena_cache.count >= ARENA_CACHE_MAX) {
        MEM_UNPOISON(block, block->bytes);
        mem_free(block);
        return;
    }
    if (!arena_cache.at_exit) {
        cache_register();
    }
    MEM_POISON((char *)block + ARENA_HEADER_BYTES, block->bytes - ARENA_HEADER_BYTES);
    block->next = arena_cache.blocks;
    arena_cache.blocks = block;
    arena_cache.count++;
}

/* --- arena ------------------------------------------------------------------------------------- */

void arena_init(struct arena *a, size_t bytes_max)
{
    *a = (struct arena){.bytes_max = bytes_max};
}

void arena_clear(struct arena *a)
{
    struct arena_block *block;

    while ((block = a->blocks) != NULL) {
        a->blocks = block->next;
        block_free(block);
    }
    *a = (struct arena){.bytes_max = a->bytes_max};
}

/* A piece too large for what is left of the newest block. `bytes` is aligned. */
static void *arena_grow(struct arena *a, size_t bytes)
{
    bool own = bytes > ARENA_BLOCK_BYTES - ARENA_HEADER_BYTES;
    struct arena_block *block = block_new(own ? bytes + ARENA_HEADER_BYTES : ARENA_BLOCK_BYTES);
    char *payload = (char *)block + ARENA_HEADER_BYTES;

    if (own && a->blocks != NULL) { /* behind the newest, whose free part stays in use */
        block->next = a->blocks->next;
        a->blocks->next = block;
    } else {
        block->next = a->blocks;
        a->blocks = block;
        a->next = payload + bytes;
        a->end = (char *)block + block->bytes;
    }
    return payload;
}

void *arena_try(struct arena *a, size_t bytes)
{
    size_t left = a->bytes_max - a->bytes_used;
    size_t want;
    void *piece;

    if (bytes > left || bytes > SIZE_MAX / 2) {
        return NULL;
    }
    want = (MAX(bytes, 1) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (want <= (size_t)(a->end - a->next)) {
        piece = a->next;
        a->next += want;
    } else {
        piece = arena_grow(a, want);
    }
    a->bytes_used += MIN(want, left);
    MEM_UNPOISON(piece, bytes);
    return piece;
}

/* arena_try() for sizes that no peer influences. */
static void *arena_must(struct arena *a, size_t bytes)
{
    void *piece = arena_try(a, bytes);

    assert(piece != NULL && "arena limit reached by a size that should not reach it");
    return piece;
}

void *arena_new(struct arena *a, size_t bytes)
{
    return memset(arena_must(a, bytes), 0, bytes);
}

char *arena_strdup(struct arena *a, struct bytes text)
{
    char *copy;

    assert(text.len < SIZE_MAX);
    copy = arena_must(a, text.len + 1);
    if (text.len > 0) {
        memcpy(copy, text.at, text.len);
    }
    copy[text.len] = '\0';
    return copy;
}

struct bytes arena_bytes(struct arena *a, struct bytes from)
{
    char *copy;

    if (from.len == 0) {
        return BYTES_NONE;
    }
    copy = arena_must(a, from.len);
    memcpy(copy, from.at, from.len);
    return bytes_of(copy, from.len);
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args, again;
    char *text;
    int len;

    va_start(args, format);
    va_copy(again, args);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(len >= 0);
    text = arena_must(a, (size_t)len + 1);
    (void)vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}

int arena_copy(struct arena *a, struct bytes from, struct bytes *out_copy)
{
    char *copy;

    if (from.len == 0) {
        *out_copy = BYTES_NONE;
        return 0;
    }
    copy = arena_try(a, from.len);
    if (copy == NULL) {
        return E_LIMIT;
    }
    memcpy(copy, from.at, from.len);
    *out_copy = bytes_of(copy, from.len);
    return 0;
}
