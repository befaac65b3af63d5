/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_CGROUP_H
#define CORE_CGROUP_H

/*
 * What this process' control groups allow it, versions 1, 2 and both at once. The tightest of the
 * group and its visible ancestors counts.
 *
 * `root` is "" or, in tests, a folder that stands for "/": /proc/self/cgroup and
 * /proc/self/mountinfo are read below it, and so are the mount points that they name.
 */
#include "core/bytes.h"

uint64_t cgroup_cpu_limit_millis(const char *root); /* thousandths of a core; UINT64_MAX: none */
uint64_t cgroup_memory_limit(const char *root);     /* bytes; UINT64_MAX: none */

/*
 * The memory of the group that has the limit, open to be looked at again and again (a few µs each). In
 * version 1 what sockets hold is not part of it, in version 2 it is.
 */
struct cgroup_memory {
    int limit_fd, usage_fd, stat_fd; /* -1: there is no limit, or no such file */
    bool is_v2;
};
void cgroup_memory_open(const char *root, struct cgroup_memory *out);
void cgroup_memory_close(struct cgroup_memory *m);
/* Bytes: the limit, which may change, and all that is charged. False: they cannot be read. */
bool cgroup_memory_look(const struct cgroup_memory *m, uint64_t *out_limit, uint64_t *out_usage);
/* Bytes of it: anonymous memory of all processes, and cached files that the kernel would drop first. */
bool cgroup_memory_parts(const struct cgroup_memory *m, uint64_t *out_anonymous,
                         uint64_t *out_droppable);

#endif
