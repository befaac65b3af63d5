/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_ALLOC_H
#define CORE_ALLOC_H

/*
 * The general heap. Small bounded allocations abort when memory is gone: under a cgroup that cannot
 * be recovered from. Any size that a peer influences meets a named limit before it gets here.
 * Nothing on the data path calls these after warm-up: it uses arenas and chunks.
 */
#include "core/macros.h"

void *mem_new(size_t bytes) __attribute__((malloc, alloc_size(1)));           /* zeroed */
void *mem_new_array(size_t count, size_t bytes) __attribute__((malloc, alloc_size(1, 2))); /* zeroed */
void *mem_resize(void *old, size_t count, size_t bytes) MUST_USE;             /* new part not zeroed */
void mem_free(void *memory);                                                  /* NULL is fine */
char *mem_strdup(const char *text) __attribute__((malloc));
char *mem_strndup(const char *text, size_t bytes) __attribute__((malloc));
char *mem_printf(const char *format, ...) PRINTF_LIKE(1, 2) __attribute__((malloc));

/*
 * Give the kernel back the pages that are free in the heap, in all threads' arenas: walks them, under their
 * locks. From any thread.
 *
 * Nothing where a sanitizer has put its own allocator in the C library's place. There is nothing to give
 * back there, and malloc_trim() would be the first that its heap is used for: it marks the heap as set up
 * before the lists in it are, and takes no lock for that (glibc 2.36, ptmalloc_init()), so that of two
 * threads which come first together one walks lists that are not there. Elsewhere the heap is in use before
 * there is a second thread.
 */
void mem_trim(void);

/* Free on leaving the scope: `AUTOFREE char *s = ...`. Off the data path only. */
#define AUTOFREE __attribute__((cleanup(mem_autofree)))
static inline void mem_autofree(void *slot)
{
    mem_free(*(void **)slot);
}

#endif
