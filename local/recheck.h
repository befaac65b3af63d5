/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_RECHECK_H
#define LOCAL_RECHECK_H

/*
 * Which problems of a folder of manifests are over? A cluster says what is wrong with a file once, and
 * nothing when it is right again. So while there are problems their files are looked at, and after a
 * change the folder is read anew, by a cluster of its own that nobody else listens to: what that one
 * does not complain about is over.
 *
 * Ownership: `user` outlives it. Threads: the loop's.
 */
#include "core/loop.h"

#define RECHECK_PROBLEMS_MAX 100
#define DIR_TEXT_BYTES       2048

struct recheck;
/* `say` tells a problem by name, and that it is over (text NULL). */
struct recheck *recheck_new(struct loop *l, const char *root,
                            void (*say)(void *user, const char *about, const char *text),
                            void *user);
void recheck_note(struct recheck *r, const char *text); /* "web.yaml:12: ...", as the cluster says it */
void recheck_soon(struct recheck *r);                   /* something changed */
void recheck_free(struct recheck *r);                   /* NULL is fine */

#endif
