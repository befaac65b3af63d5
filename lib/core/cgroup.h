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

#endif
