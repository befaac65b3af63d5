/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_LOG_FILTER_H
#define CORE_LOG_FILTER_H

/*
 * Which targets log at which level: the half of log.h that has nothing to do with output. The two
 * calls that others use, log_set_filter() and log_get_filter(), are declared there.
 *
 * Threads: any. The rules are behind a spin lock that is taken once for each call site and change.
 */
#include "core/log.h"

#define LOG_TARGET_BYTES 64

unsigned log_filter_generation(void); /* changes with the filter, never 0 */
enum log_level log_filter_level(const char *target);

/* "../lib/net/tls.c" is "net.tls", "control/destination/watch.c" is "control.destination.watch". */
void log_target_of(const char *file, char out_target[LOG_TARGET_BYTES]);

#endif
