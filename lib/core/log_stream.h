/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_LOG_STREAM_H
#define CORE_LOG_STREAM_H

/*
 * A live copy of the log for somebody who watches it: every line that passes a filter of its own, as
 * JSON, whatever the main filter lets through. Lines of all threads come to one loop.
 *
 * Limits: LOG_STREAMS_MAX at a time. Of each, 1,000 lines may be under way to its loop; lines beyond
 * that are lost to it and counted. The limit of ten lines a second and call site holds here, too.
 * Threads: that of its loop. The loop outlives all other threads that log.
 */
#include "core/bytes.h"
#include "core/log_filter.h"
#include "core/loop.h"

#define LOG_STREAMS_MAX LOG_FILTER_STREAMS

struct log_stream {
    void (*on_line)(struct log_stream *s, struct bytes line); /* with its newline; from the loop */
    void *user;
    uint64_t lost; /* lines, until now */
    int slot;      /* internal; one more than its index, 0: closed */
};
/* E_CONFIG: that is no filter (log.h). E_LIMIT: there are enough. */
int log_stream_open(struct log_stream *s, struct loop *l, const char *filter) MUST_USE;
void log_stream_close(struct log_stream *s); /* idempotent; no line follows */

/* For log.c, on any thread: is there a stream at all, and the line for those that want it. */
bool log_stream_is_any(void);
void log_stream_line(const char *target, enum log_level level, struct bytes line);

#endif
