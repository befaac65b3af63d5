/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_ERR_H
#define CORE_ERR_H

/*
 * Error values.
 *
 * A function that can fail returns 0 or a negative code: a system error as -errno, one of ours as
 * E_NAME, which lies below every errno. Results go to an out parameter, last, untouched on failure.
 * Callers branch on the category, people read the text.
 */
#include "core/macros.h"

enum err_category {
    ERR_BLOCKED,  /* not a failure: try again after the next event */
    ERR_CLOSED,   /* the other side, or the owner, ended it */
    ERR_TIMEOUT,  /* it took too long */
    ERR_PEER,     /* somebody's bytes or words are wrong */
    ERR_POLICY,   /* it is understood and forbidden */
    ERR_NOTFOUND, /* what was named does not exist */
    ERR_RESOURCE, /* a bound was reached */
    ERR_SYSTEM,   /* the kernel or this program failed */
};

#define ERR_BASE 10000

enum err_index {
#define ERR(name, category, text) ERR_INDEX_##name,
#include "core/err.def"
#undef ERR
    ERR_COUNT
};

enum err {
#define ERR(name, category, text) E_##name = -(ERR_BASE + ERR_INDEX_##name),
#include "core/err.def"
#undef ERR
};

/* Category of a negative code. ECONNRESET, ECONNREFUSED, EPIPE and kin are
 * CLOSED, ETIMEDOUT is TIMEOUT. */
enum err_category err_category(int err);

/* Lower-case name for metrics and logs ("h1_bad_head", "ECONNREFUSED"). Static storage. */
const char *err_name(int err);

/* One sentence for people. Static storage or strerror's for errno. */
const char *err_text(int err);

#endif
