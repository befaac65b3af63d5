/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nghttp2 allocates for each stream, frame and header table entry. Pieces go by powers of two and are kept in
 * short lists of this thread, so that after warm-up a request costs no call of the general heap.
 *
 * The lists are bounded, and go when the thread's last session does.
 */
#include "core/alloc.h"
#include "core/poison.h"
#include "http/http2_conn.h"

#define CLASS_MIN_SHIFT  5               /* 32 bytes */
#define CLASS_COUNT      11              /* up to 32 KiB */
#define CLASS_KEEP_BYTES ((size_t)65536) /* kept of one size, and at least CLASS_KEEP_MIN pieces */
#define CLASS_KEEP_MIN   4

struct piece {
    union {
        struct piece *next; /* while it is free */
        size_t bytes;       /* while it is in use: of the payload */
    };
    unsigned class; /* CLASS_COUNT: straight from the heap */
} __attribute__((aligned(16)));
static_assert(sizeof(struct piece) == 16, "payload is aligned behind the header");

static _Thread_local struct {
    struct piece *free[CLASS_COUNT];
    unsigned count[CLASS_COUNT];
    unsigned sessions;
} cache;

static size_t class_bytes(unsigned class)
{
    return (size_t)1 << (class + CLASS_MIN_SHIFT);
}

static unsigned class_of(size_t bytes)
{
    unsigned class = 0;

    if (bytes > class_bytes(0)) {
        class = 64 - (unsigned)__builtin_clzl(bytes - 1) - CLASS_MIN_SHIFT;
    }
    return MIN(class, CLASS_COUNT);
}

static void *piece_new(size_t bytes, void *unused UNUSED)
{
    unsigned class = class_of(bytes);
    struct piece *p = class < CLASS_COUNT ? cache.free[class] : NULL;

    if (p != NULL) {
        cache.free[class] = p->next;
        cache.count[class]--;
    } else {
        p = mem_resize(NULL, 1, sizeof(*p) + (class < CLASS_COUNT ? class_bytes(class) : bytes));
        p->class = class;
        if (class < CLASS_COUNT) {
            MEM_POISON(p + 1, class_bytes(class));
        }
    }
    p->bytes = bytes;
    MEM_UNPOISON(p + 1, bytes);
    return p + 1;
}

static void piece_free(void *payload, void *unused UNUSED)
{
    struct piece *p = payload;
    unsigned class;

    if (payload == NULL) {
        return;
    }
    p--;
    class = p->class;
    if (class == CLASS_COUNT) {
        mem_free(p);
        return;
    }
    if (cache.count[class] >= MAX(CLASS_KEEP_BYTES >> (class + CLASS_MIN_SHIFT), CLASS_KEEP_MIN)) {
        MEM_UNPOISON(p + 1, class_bytes(class));
        mem_free(p);
        return;
    }
    MEM_POISON(p + 1, class_bytes(class));
    p->next = cache.free[class];
    cache.free[class] = p;
    cache.count[class]++;
}

static void *piece_zeroed(size_t count, size_t bytes, void *user)
{
    size_t all;

    if (__builtin_mul_overflow(count, bytes, &all)) {
        return NULL;
    }
    return memset(piece_new(all, user), 0, all);
}

static void *piece_resize(void *payload, size_t bytes, void *user)
{
    struct piece *p = payload;
    void *larger;

    if (payload == NULL) {
        return piece_new(bytes, user);
    }
    p--;
    if (p->class < CLASS_COUNT && bytes <= class_bytes(p->class)) {
        MEM_POISON(p + 1, class_bytes(p->class));
        MEM_UNPOISON(p + 1, bytes);
        p->bytes = bytes;
        return payload;
    }
    larger = piece_new(bytes, user);
    memcpy(larger, payload, MIN(p->bytes, bytes));
    piece_free(payload, user);
    return larger;
}

nghttp2_mem *h2_mem_open(void)
{
    static nghttp2_mem mem = {NULL, piece_new, piece_free, piece_zeroed, piece_resize};

    cache.sessions++;
    return &mem;
}

void h2_mem_close(void)
{
    assert(cache.sessions > 0);
    if (--cache.sessions > 0) {
        return;
    }
    for (unsigned class = 0; class < CLASS_COUNT; class ++) {
        struct piece *p;

        while ((p = cache.free[class]) != NULL) {
            cache.free[class] = p->next;
            MEM_UNPOISON(p + 1, class_bytes(class));
            mem_free(p);
        }
        cache.count[class] = 0;
    }
}
