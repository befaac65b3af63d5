/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_MACROS_H
#define CORE_MACROS_H

/*
 * The few language helpers that every file may use.
 */
#include "core/banned.h"

#include <assert.h>
#include <stddef.h>

#ifdef NDEBUG
#error "assertions stay on in every build"
#endif

#define MUST_USE          __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN          __attribute__((noreturn))
#define UNUSED            __attribute__((unused))
#define NOINLINE          __attribute__((noinline)) /* rare, and of a large frame: its caller has none */
#define LIKELY(x)         __builtin_expect(!!(x), 1)
#define UNLIKELY(x)       __builtin_expect(!!(x), 0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)    ((a) < (b) ? (a) : (b))
#define MAX(a, b)    ((a) > (b) ? (a) : (b))

/* The object of type `type` whose member `member` is at `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* Return early with the error of `expr`; only where nothing needs undoing. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        int try_rc_ = (expr);                                                                      \
        if (try_rc_ != 0) {                                                                        \
            return try_rc_;                                                                        \
        }                                                                                          \
    } while (0)

#endif
