/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_FILE_H
#define CORE_FILE_H

/*
 * Small files read whole: settings, tokens, certificates, what /proc and /sys tell.
 */
#include "core/bytes.h"

/* The content, NUL-terminated (it may hold NULs of its own); the caller frees. E_LIMIT when it is
 * longer than `bytes_max`, -EISDIR, -ENOENT and so on. Blocks: off the data path only. */
int file_read(const char *path, size_t bytes_max, char **out_content, size_t *out_bytes) MUST_USE;

/* Into `to`, NUL-terminated, without allocating: at most bytes - 1, the rest is left out. */
int file_read_into(const char *path, char *to, size_t bytes, size_t *out_bytes) MUST_USE;

#endif
