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

unsigned log_filter_generation(void); /* changes with any of the filters, never 0 */
enum log_level log_filter_level(const char *target);     /* the most verbose of all filters */
enum log_level log_filter_main_level(const char *target); /* of log_set_filter() */

/* log_set_filter() would take it. */
bool log_filter_is_good(const char *filter);

/* Filters of live streams (log_stream.h), by index below LOG_FILTER_STREAMS. */
#define LOG_FILTER_STREAMS 4
int log_filter_stream_set(unsigned index, const char *filter) MUST_USE; /* E_CONFIG */
void log_filter_stream_clear(unsigned index);
enum log_level log_filter_stream_level(unsigned index, const char *target);

/* "../lib/net/tls.c" is "net.tls", "control/destination/watch.c" is "control.destination.watch". */
void log_target_of(const char *file, char out_target[LOG_TARGET_BYTES]);

#endif
