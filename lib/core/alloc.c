/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No formatting and no allocation on the way down: there is no memory left for either. */
NORETURN static void alloc_fail(void)
{
    static const char words[] = "out of memory\n";

    (void)!write(STDERR_FILENO, words, sizeof(words) - 1);
    abort();
}

void *mem_new(size_t bytes)
{
    void *memory = calloc(1, MAX(bytes, 1));

    if (memory == NULL) {
        alloc_fail();
    }
    return memory;
}

void *mem_new_array(size_t count, size_t bytes)
{
    void *memory = calloc(MAX(count, 1), MAX(bytes, 1)); /* checks the product */

    if (memory == NULL) {
        alloc_fail();
    }
    return memory;
}

void *mem_resize(void *old, size_t count, size_t bytes)
{
    void *memory = reallocarray(old, MAX(count, 1), MAX(bytes, 1));

    if (memory == NULL) {
        alloc_fail();
    }
    return memory;
}

void mem_free(void *memory)
{
    free(memory);
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

char *mem_strndup(const char *text, size_t bytes)
{
    size_t len = text != NULL ? strnlen(text, bytes) : 0;
    char *copy;

    assert(len < SIZE_MAX);
    copy = malloc(len + 1);
    if (copy == NULL) {
        alloc_fail();
    }
    if (len > 0) {
        memcpy(copy, text, len);
    }
    copy[len] = '\0';
    return copy;
}

char *mem_printf(const char *format, ...)
{
    va_list args;
    char *text = NULL;
    int len;

    va_start(args, format);
    len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0) {
        alloc_fail();
    }
    return text;
}

void mem_trim(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    (void)malloc_trim(0);
#endif
}
