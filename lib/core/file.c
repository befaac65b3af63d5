/* SPDX-License-Identifier: Apache-2.0 */
#include "core/file.h"

#include "core/alloc.h"
#include "core/err.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FILE_FIRST_BYTES 4096

/* Fill `to` as far as the file reaches. */
static int fill(int fd, char *to, size_t bytes, size_t *out_bytes)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t got = read(fd, to + done, bytes - done);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    *out_bytes = done;
    return 0;
}

static int file_read_all(int fd, size_t bytes_max, char **out_content, size_t *out_bytes)
{
    size_t capacity = MIN(bytes_max, (size_t)FILE_FIRST_BYTES) + 1, len = 0, got;
    char *content = mem_resize(NULL, capacity, 1);
    int err;

    for (;;) {
        err = fill(fd, content + len, capacity - len, &got);
        if (err != 0 || len + got < capacity) {
            break;
        }
        len += got; /* full: there may be more than fits before the terminator */
        if (len > bytes_max) {
            err = E_LIMIT;
            break;
        }
        capacity = MIN(capacity * 2, bytes_max + 1);
        content = mem_resize(content, capacity, 1);
    }
    if (err != 0) {
        mem_free(content);
        return err;
    }
    len += got;
    content[len] = '\0';
    *out_content = content;
    *out_bytes = len;
    return 0;
}

int file_read(const char *path, size_t bytes_max, char **out_content, size_t *out_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int err;

    assert(bytes_max < SIZE_MAX / 4);
    if (fd < 0) {
        return -errno;
    }
    err = file_read_all(fd, bytes_max, out_content, out_bytes);
    (void)close(fd);
    return err;
}

int file_read_into(const char *path, char *to, size_t bytes, size_t *out_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len;
    int err;

    assert(bytes > 0);
    if (fd < 0) {
        return -errno;
    }
    err = fill(fd, to, bytes - 1, &len);
    (void)close(fd);
    if (err != 0) {
        return err;
    }
    to[len] = '\0';
    *out_bytes = len;
    return 0;
}
