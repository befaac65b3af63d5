/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_UPGRADE_H
#define LOCAL_UPGRADE_H

/*
 * `tulle local upgrade`: a new proxy process beside the running one of each pod, which takes over its
 * listening sockets (docs/internals/handover.md). One upgrade a home at a time, pod by pod; the first
 * failure is its end, and the pods behind it keep what they have.
 *
 * While it lasts a container has a second process. When that serves it becomes the container's, and
 * the one before it is `former` until it has finished what it had open; it is signalled with the
 * container when the pod ends.
 */
#include "local/supervisor.h"

bool upgrade_owns(const struct container *c, pid_t pid); /* a successor's or a former one's process? */
void upgrade_reaped(struct container *c, pid_t pid, int status); /* one of these has ended */
void upgrade_signal(const struct container *c, int signo);       /* the pod ends: these, too */
void upgrade_forget(const struct container *c);                  /* its pod is dropped */
void upgrade_close(struct home *h);                              /* the home is over */

#endif
