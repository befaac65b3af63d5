/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

/*
 * Diagnostics to standard output (a proxy) or standard error (a command).
 *
 * A line is a sentence, then key=value pairs in the text form, or one JSON object. A caller that
 * has pairs writes them into the format behind the sentence: "cannot connect; addr=%s err=%s".
 * Levels are filtered by target, "warn,proxy=info,net=debug"; the target is the folder of the file
 * ("proxy"), optionally with the file ("proxy.accept"). `linkerd` and `tulle` stand for every target
 * of ours, so that filters written for Linkerd keep their meaning. The value `off` silences.
 * Rate limit: each call site writes at most 10 lines a second; what it held back is counted in the
 * next line it writes (suppressed=N).
 * Threads: any. A line is one write(2); a full pipe drops it and counts it, and never blocks.
 */
#include "core/macros.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };
enum log_format { LOG_FORMAT_PLAIN, LOG_FORMAT_JSON };

struct log_site {
    const char *file; /* __FILE__, from which the target is derived once */
    int line;
    _Atomic unsigned generation; /* of the filter that `level` was computed for */
    _Atomic int level;           /* most verbose level let through at this site */
    _Atomic uint64_t window_s;   /* the second that `written` counts */
    _Atomic unsigned written, held;
};

void log_init(int fd, enum log_format format);           /* before threads start; default fd 2, plain */
int log_set_filter(const char *filter) MUST_USE;         /* E_CONFIG and the old filter stays */
void log_get_filter(char *to, size_t bytes);
bool log_is_on(struct log_site *site, enum log_level level);
void log_write(struct log_site *site, enum log_level level, const char *format, ...) PRINTF_LIKE(3, 4);

#define LOG_AT(level_, ...)                                                                        \
    do {                                                                                           \
        static struct log_site site_ = {.file = __FILE__, .line = __LINE__};                       \
        if (UNLIKELY(log_is_on(&site_, (level_)))) {                                               \
            log_write(&site_, (level_), __VA_ARGS__);                                              \
        }                                                                                          \
    } while (0)

#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_info(...)  LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define log_trace(...) LOG_AT(LOG_TRACE, __VA_ARGS__)

#endif
