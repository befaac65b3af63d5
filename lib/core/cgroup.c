/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cgroup.h"

#include "core/alloc.h"
#include "core/file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define PROC_BYTES_MAX (1024 * 1024) /* mountinfo of a busy node */
#define LEVELS_MAX     64            /* ancestors looked at */
/* Version 1 writes "no limit" as the largest page count in bytes. */
#define MEMORY_NONE (UINT64_C(1) << 62)

/* Limit found in the files of one group; UINT64_MAX: none. */
typedef uint64_t (*limit_read)(const char *dir, bool v2);

struct tightest {
    uint64_t limit;
    char dir[PATH_MAX]; /* whose it is; empty: there is none */
    bool is_v2;
};

static struct bytes take_line(struct bytes *rest)
{
    struct bytes line;

    (void)bytes_split(*rest, '\n', &line, rest);
    return line;
}

static struct bytes take_word(struct bytes *rest)
{
    struct bytes word;

    (void)bytes_split(*rest, ' ', &word, rest);
    return word;
}

static bool has_item(struct bytes list, const char *item)
{
    struct bytes head;

    while (list.len > 0) {
        (void)bytes_split(list, ',', &head, &list);
        if (bytes_eq(head, bytes_str(item))) {
            return true;
        }
    }
    return false;
}

/* One line of /proc/PID/cgroup, "4:cpu,cpuacct:/path"; "0::/path" for version 2. */
static bool group_path(struct bytes groups, const char *controller, struct bytes *out_path)
{
    struct bytes line, id, controllers;

    while (groups.len > 0) {
        line = take_line(&groups);
        (void)bytes_split(line, ':', &id, &line);
        (void)bytes_split(line, ':', &controllers, out_path);
        if (controller == NULL ? controllers.len == 0 && bytes_eq(id, BYTES("0"))
                               : has_item(controllers, controller)) {
            return true;
        }
    }
    return false;
}

/*
 * One line of /proc/PID/mountinfo: id, parent, device, root, mount point, options, tags, "-", type,
 * source, super options.
 */
static bool group_mount(struct bytes mounts, const char *controller, struct bytes *out_root,
                        struct bytes *out_point)
{
    while (mounts.len > 0) {
        struct bytes line = take_line(&mounts), type;

        for (int i = 0; i < 3; i++) {
            (void)take_word(&line);
        }
        *out_root = take_word(&line);
        *out_point = take_word(&line);
        while (line.len > 0 && !bytes_eq(take_word(&line), BYTES("-"))) {
        }
        type = take_word(&line);
        (void)take_word(&line);
        if (controller == NULL ? bytes_eq(type, BYTES("cgroup2"))
                               : bytes_eq(type, BYTES("cgroup")) && has_item(line, controller)) {
            return true;
        }
    }
    return false;
}

/* The first number in a file; UINT64_MAX when it says "max", -1, or cannot be read. */
static uint64_t number_in(const char *dir, const char *file, uint64_t *out_second)
{
    char path[PATH_MAX], content[64];
    size_t len;
    struct bytes rest, word;
    uint64_t first;

    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path) ||
        file_read_into(path, content, sizeof(content), &len) != 0) {
        return UINT64_MAX;
    }
    rest = bytes_trim(bytes_of(content, len), " \n");
    word = take_word(&rest);
    if (out_second != NULL && bytes_to_u64(rest, UINT64_MAX, out_second) != 0) {
        return UINT64_MAX;
    }
    return bytes_to_u64(word, UINT64_MAX, &first) == 0 ? first : UINT64_MAX;
}

static uint64_t read_memory(const char *dir, bool v2)
{
    uint64_t bytes = number_in(dir, v2 ? "memory.max" : "memory.limit_in_bytes", NULL);

    return bytes >= MEMORY_NONE ? UINT64_MAX : bytes;
}

static uint64_t read_cpu(const char *dir, bool v2)
{
    uint64_t quota, period;

    if (v2) {
        quota = number_in(dir, "cpu.max", &period);
    } else {
        quota = number_in(dir, "cpu.cfs_quota_us", NULL);
        period = number_in(dir, "cpu.cfs_period_us", NULL);
    }
    if (quota > UINT64_MAX / 1000 || period == 0 || period > UINT64_MAX / 1000) {
        return UINT64_MAX;
    }
    return MAX(quota * 1000 / period, 1);
}

/* The tightest limit from the process' group up to the mount point. */
static void limit_up(const char *root, struct bytes mount_point, struct bytes below, bool v2,
                     limit_read read, struct tightest *io)
{
    for (int level = 0; level < LEVELS_MAX; level++) {
        char dir[PATH_MAX];
        const char *slash;

        if (snprintf(dir, sizeof(dir), "%s" BYTES_FMT BYTES_FMT, root, BYTES_ARG(mount_point),
                     BYTES_ARG(below)) < (int)sizeof(dir)) {
            uint64_t here = read(dir, v2);

            if (here < io->limit) {
                io->limit = here;
                io->is_v2 = v2;
                memcpy(io->dir, dir, sizeof(dir));
            }
        }
        slash = below.len > 0 ? memrchr(below.at, '/', below.len) : NULL;
        if (slash == NULL) {
            break;
        }
        below.len = (size_t)(slash - below.at);
    }
}

/* `controller` is NULL for version 2. */
static void limit_of(const char *root, struct bytes groups, struct bytes mounts,
                     const char *controller, limit_read read, struct tightest *io)
{
    struct bytes path, mount_root, mount_point;

    if (!group_path(groups, controller, &path) ||
        !group_mount(mounts, controller, &mount_root, &mount_point)) {
        return;
    }
    path = bytes_eq(path, BYTES("/")) ? BYTES_NONE : path;
    mount_root = bytes_eq(mount_root, BYTES("/")) ? BYTES_NONE : mount_root;
    /* In a container the mount may begin at the group itself, or elsewhere altogether. */
    if (bytes_starts(path, mount_root)) {
        path = bytes_from(path, mount_root.len);
    } else {
        path = BYTES_NONE;
    }
    if (bytes_starts(path, BYTES("/.."))) {
        path = BYTES_NONE;
    }
    limit_up(root, mount_point, path, controller == NULL, read, io);
}

static void cgroup_limit(const char *root, const char *controller, limit_read read,
                         struct tightest *out)
{
    AUTOFREE char *groups = NULL;
    AUTOFREE char *mounts = NULL;
    char path[PATH_MAX];
    size_t groups_len, mounts_len;

    out->limit = UINT64_MAX;
    out->dir[0] = '\0';
    out->is_v2 = false;
    (void)snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    if (file_read(path, PROC_BYTES_MAX, &groups, &groups_len) != 0) {
        return;
    }
    (void)snprintf(path, sizeof(path), "%s/proc/self/mountinfo", root);
    if (file_read(path, PROC_BYTES_MAX, &mounts, &mounts_len) != 0) {
        return;
    }
    limit_of(root, bytes_of(groups, groups_len), bytes_of(mounts, mounts_len), controller, read,
             out);
    limit_of(root, bytes_of(groups, groups_len), bytes_of(mounts, mounts_len), NULL, read, out);
}

uint64_t cgroup_cpu_limit_millis(const char *root)
{
    struct tightest t;

    cgroup_limit(root, "cpu", read_cpu, &t);
    return t.limit;
}

uint64_t cgroup_memory_limit(const char *root)
{
    struct tightest t;

    cgroup_limit(root, "memory", read_memory, &t);
    return t.limit;
}

/* --- looking again ------------------------------------------------------------------------------ */

static int open_in(const struct tightest *t, const char *v1, const char *v2)
{
    char path[PATH_MAX];

    if (t->dir[0] == '\0' || snprintf(path, sizeof(path), "%s/%s", t->dir, t->is_v2 ? v2 : v1) >=
                                 (int)sizeof(path)) {
        return -1;
    }
    return open(path, O_RDONLY | O_CLOEXEC);
}

void cgroup_memory_open(const char *root, struct cgroup_memory *out)
{
    struct tightest t;

    cgroup_limit(root, "memory", read_memory, &t);
    out->is_v2 = t.is_v2;
    out->limit_fd = open_in(&t, "memory.limit_in_bytes", "memory.max");
    out->usage_fd = open_in(&t, "memory.usage_in_bytes", "memory.current");
    out->stat_fd = open_in(&t, "memory.stat", "memory.stat");
}

void cgroup_memory_close(struct cgroup_memory *m)
{
    int *const fds[] = {&m->limit_fd, &m->usage_fd, &m->stat_fd};

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (*fds[i] >= 0) {
            (void)close(*fds[i]);
            *fds[i] = -1;
        }
    }
}

static bool read_again(int fd, char *to, size_t bytes, struct bytes *out)
{
    ssize_t n = fd >= 0 ? pread(fd, to, bytes, 0) : -1;

    *out = bytes_of(to, (size_t)MAX(n, (ssize_t)0));
    return n > 0;
}

bool cgroup_memory_look(const struct cgroup_memory *m, uint64_t *out_limit, uint64_t *out_usage)
{
    char limit[64], usage[64];
    struct bytes limit_text, usage_text;

    if (!read_again(m->usage_fd, usage, sizeof(usage), &usage_text) ||
        !read_again(m->limit_fd, limit, sizeof(limit), &limit_text) ||
        bytes_to_u64(bytes_trim(usage_text, " \n"), UINT64_MAX, out_usage) != 0) {
        return false;
    }
    limit_text = bytes_trim(limit_text, " \n");
    if (bytes_to_u64(limit_text, UINT64_MAX, out_limit) != 0 || *out_limit >= MEMORY_NONE) {
        *out_limit = UINT64_MAX; /* "max", or lifted */
    }
    return true;
}

bool cgroup_memory_parts(const struct cgroup_memory *m, uint64_t *out_anonymous,
                         uint64_t *out_droppable)
{
    /* Of version 1 those with the groups below. */
    const struct bytes anonymous = m->is_v2 ? BYTES("anon") : BYTES("total_rss"),
                       droppable = m->is_v2 ? BYTES("inactive_file") : BYTES("total_inactive_file");
    char stat[8192];
    struct bytes rest, line, name;
    unsigned found = 0;

    if (!read_again(m->stat_fd, stat, sizeof(stat), &rest)) {
        return false;
    }
    while (rest.len > 0 && found < 2) {
        line = take_line(&rest);
        name = take_word(&line);
        if (bytes_eq(name, anonymous)) {
            found += bytes_to_u64(line, UINT64_MAX, out_anonymous) == 0;
        } else if (bytes_eq(name, droppable)) {
            found += bytes_to_u64(line, UINT64_MAX, out_droppable) == 0;
        }
    }
    return found == 2;
}
