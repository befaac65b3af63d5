/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INIT_APPLY_H
#define INIT_APPLY_H

/*
 * What tulle-init does to the system: enter a namespace, set one sysctl, hand a script to nft(8).
 *
 * On failure nothing is left half done, and `problem` holds a sentence that says what to do.
 * Blocks; runs in a program of one thread.
 */
#include "core/bytes.h"

/* Move this process into the network namespace at `path`, "/proc/123/ns/net" for one. */
int apply_netns(const char *path, char *problem, size_t problem_bytes) MUST_USE;

/* False where the kernel of this namespace has no IPv6 at all: nothing can go past the proxy there.
 */
bool apply_has_ipv6(void);

/* Apply the script; with close_wait_s also set the kernel's time-out for that state of tracked
 * connections. Both are done, or neither. */
int apply_rules(const char *firewall_bin, struct bytes script, uint32_t close_wait_s, char *problem,
                size_t problem_bytes) MUST_USE;

#endif
