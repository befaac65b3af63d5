/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Containers write into their files themselves, so that no line depends on the supervisor. A file that
 * has grown beyond its limit is copied to NAME.1 and cut: it is appended to, so its writer goes on at
 * the new end.
 */
#define LOG_BYTES_MAX (10u << 20)
#define TAIL_BYTES    4096
#define TAIL_LINES    10
#define FORMER_BYTES  (HOME_PATH_MAX + 2)

void log_file_path(const struct container *c, char to[HOME_PATH_MAX])
{
    (void)snprintf(to, HOME_PATH_MAX, "%.2000s/logs/%s.%s.%s.log", c->pod->home->path, c->pod->ns,
                   c->pod->name, c->name);
}

static void trim(const char *path)
{
    char former[FORMER_BYTES];
    int from = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW), to = -1;
    struct stat st;
    off_t at;

    (void)snprintf(former, sizeof(former), "%s.1", path);
    if (from >= 0 && fstat(from, &st) == 0 && st.st_size > (off_t)LOG_BYTES_MAX) {
        at = st.st_size -
             (off_t)LOG_BYTES_MAX; /* a flood between two looks: its end is what counts */
        to = open(former, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        while (to >= 0 && copy_file_range(from, &at, to, NULL, LOG_BYTES_MAX, 0) > 0) {
        }
        if (ftruncate(from, 0) != 0) {
            log_warn("a log that is too large cannot be cut; file=%s err=%s", path,
                     err_text(-errno));
        }
    }
    if (to >= 0) {
        (void)close(to);
    }
    if (from >= 0) {
        (void)close(from);
    }
}

int log_file_open(const struct container *c)
{
    char path[HOME_PATH_MAX];
    int fd;

    log_file_path(c, path);
    trim(path);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

void log_files_trim(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->pods);
    char path[HOME_PATH_MAX];
    struct stat st;

    while (map_next(&it)) {
        const struct pod *p = it.value;

        for (size_t i = 0; i < p->count; i++) {
            log_file_path(&p->containers[i], path);
            if (stat(path, &st) == 0 && st.st_size > (off_t)LOG_BYTES_MAX) {
                trim(path);
            }
        }
    }
}

void log_files_remove(const struct pod *p)
{
    char path[HOME_PATH_MAX], former[FORMER_BYTES];

    for (size_t i = 0; i < p->count; i++) {
        log_file_path(&p->containers[i], path);
        (void)snprintf(former, sizeof(former), "%s.1", path);
        (void)unlink(path);
        (void)unlink(former);
    }
}

json_t *log_file_tail(const struct container *c)
{
    json_t *lines = json_array();
    char path[HOME_PATH_MAX], end[TAIL_BYTES];
    struct bytes rest, line;
    struct stat st;
    ssize_t n = 0;
    int fd;

    log_file_path(c, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        n = pread(fd, end, sizeof(end), MAX(st.st_size - (off_t)sizeof(end), (off_t)0));
    }
    rest = bytes_trim(bytes_of(end, n > 0 ? (size_t)n : 0), "\n");
    while (rest.len > 0) {
        struct text clean;

        (void)bytes_split(rest, '\n', &line, &rest);
        text_init(&clean, 8u * TAIL_BYTES);
        text_json(&clean, line); /* whatever its bytes are, it becomes a string */
        json_array_append_new(lines, json_loadb(clean.at, clean.len, JSON_DECODE_ANY, NULL));
        text_clear(&clean);
        if (json_array_size(lines) > TAIL_LINES) {
            (void)json_array_remove(lines, 0);
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return lines;
}
