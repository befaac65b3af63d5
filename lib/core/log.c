/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log.h"

#include "core/bytes.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log_filter.h"
#include "core/log_stream.h"
#include "core/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_LINE_BYTES    4096 /* PIPE_BUF: a pipe takes a line whole or not at all */
#define LOG_MESSAGE_BYTES 3072
#define LOG_PER_SECOND    10 /* lines a call site may write */

enum log_output {
    LOG_ASK,      /* shared with others, may block: ask before each write */
    LOG_NONBLOCK, /* our own description of a pipe or terminal */
    LOG_SOCKET,
    LOG_FILE, /* never blocks for long */
};

static struct {
    int fd;
    bool own; /* `fd` was opened here */
    enum log_output output;
    enum log_format format;
} log_to = {.fd = STDERR_FILENO, .output = LOG_ASK, .format = LOG_FORMAT_PLAIN};

static _Atomic uint64_t log_dropped; /* lines that a full output did not take; any thread adds */

/*
 * A blocking pipe must not stop a worker, but O_NONBLOCK belongs to the description that we share
 * with other processes. A description of our own, opened through /proc, can have it.
 */
void log_init(int fd, enum log_format format)
{
    struct stat st;
    char path[32];
    int own;

    if (log_to.own) {
        (void)close(log_to.fd);
        log_to.own = false;
    }
    log_to.fd = fd;
    log_to.format = format;
    log_to.output = LOG_ASK;
    if (fstat(fd, &st) != 0) {
        return;
    }
    if (S_ISSOCK(st.st_mode)) {
        log_to.output = LOG_SOCKET;
    } else if (S_ISREG(st.st_mode)) {
        log_to.output = LOG_FILE;
    } else {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_APPEND | O_CLOEXEC);
        if (own >= 0) {
            log_to.fd = own;
            log_to.own = true;
            log_to.output = LOG_NONBLOCK;
        }
    }
}

bool log_is_on(struct log_site *site, enum log_level level)
{
    unsigned generation = log_filter_generation();

    if (UNLIKELY(atomic_load_explicit(&site->generation, memory_order_acquire) != generation)) {
        char target[LOG_TARGET_BYTES];

        log_target_of(site->file, target);
        atomic_store_explicit(&site->level, (int)log_filter_level(target), memory_order_relaxed);
        atomic_store_explicit(&site->generation, generation, memory_order_release);
    }
    return (int)level <= atomic_load_explicit(&site->level, memory_order_relaxed);
}

/* Whether this line may be written; counts it either way. Racing threads may let one more pass. */
static bool log_take_turn(struct log_site *site)
{
    uint64_t now_s = clock_mono_ns() / NS_PER_S;
    uint64_t window_s = atomic_load_explicit(&site->window_s, memory_order_relaxed);

    if (window_s != now_s &&
        atomic_compare_exchange_strong_explicit(&site->window_s, &window_s, now_s,
                                                memory_order_relaxed, memory_order_relaxed)) {
        atomic_store_explicit(&site->written, 0, memory_order_relaxed);
    }
    if (atomic_fetch_add_explicit(&site->written, 1, memory_order_relaxed) < LOG_PER_SECOND) {
        return true;
    }
    atomic_fetch_add_explicit(&site->held, 1, memory_order_relaxed);
    return false;
}

static bool log_output_takes(void)
{
    struct pollfd asked = {.fd = log_to.fd, .events = POLLOUT};

    return poll(&asked, 1, 0) == 1 && (asked.revents & POLLOUT) != 0;
}

static bool log_emit(const char *line, size_t bytes)
{
    ssize_t sent;

    if (log_to.output == LOG_ASK && !log_output_takes()) {
        return false;
    }
    do {
        sent = log_to.output == LOG_SOCKET
                   ? send(log_to.fd, line, bytes, MSG_DONTWAIT | MSG_NOSIGNAL)
                   : write(log_to.fd, line, bytes);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)bytes;
}

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"};

    return names[level];
}

/* A peer's bytes in a message must not be able to start a line or to steer a terminal. */
static void text_visible(struct text *t, struct bytes message)
{
    size_t plain = 0;

    while (plain < message.len) {
        unsigned char c = (unsigned char)message.at[plain];

        if (c >= 0x20 && c != 0x7f) {
            plain++;
            continue;
        }
        text_add(t, bytes_first(message, plain));
        if (c == '\n') {
            text_str(t, "\\n");
        } else {
            text_printf(t, "\\x%02x", c);
        }
        message = bytes_from(message, plain + 1);
        plain = 0;
    }
    text_add(t, message);
}

static void line_build(struct text *line, enum log_format format, const char *target,
                       enum log_level level, struct bytes message)
{
    char when[32];

    clock_format_rfc3339(clock_wall_ns(), when);
    if (format == LOG_FORMAT_JSON) {
        text_printf(line, "{\"timestamp\":\"%.23sZ\",\"level\":\"%s\",\"target\":", when,
                    level_name(level));
        text_json(line, bytes_str(target));
        text_str(line, ",\"message\":");
        text_json(line, message);
        text_str(line, "}\n");
    } else {
        text_printf(line, "%.23sZ %5s %s: ", when, level_name(level), target);
        text_visible(line, message);
        text_char(line, '\n');
    }
}

/* What was held back at this site, or lost at the output, is told by the next line. */
PRINTF_LIKE(4, 0)
static void message_build(struct text *message, struct log_site *site, uint64_t dropped,
                          const char *format, va_list args)
{
    unsigned held = atomic_exchange_explicit(&site->held, 0, memory_order_relaxed);
    char tail[64] = "", words[LOG_MESSAGE_BYTES - sizeof(tail)];
    struct text suffix;

    text_init_fixed(&suffix, tail, sizeof(tail));
    if (held > 0) {
        text_printf(&suffix, " suppressed=%u", held);
    }
    if (dropped > 0) {
        text_printf(&suffix, " dropped=%llu", (unsigned long long)dropped);
    }
    if (vsnprintf(words, sizeof(words), format, args) >= (int)sizeof(words)) {
        memcpy(words + sizeof(words) - 4, "...", 4);
    }
    text_str(message, words);
    text_add(message, text_bytes(&suffix));
}

/* In the buffer of `line`, shortened if it must be. */
static void line_fit(struct text *line, enum log_format format, const char *target,
                     enum log_level level, struct bytes words)
{
    text_reset(line);
    line_build(line, format, target, level, words);
    while (line->err != 0) { /* escapes made it too long; the shortest fits in any case */
        words = bytes_first(words, words.len / 2);
        text_reset(line);
        line_build(line, format, target, level, words);
    }
}

void log_write(struct log_site *site, enum log_level level, const char *format, ...)
{
    int saved = errno;
    char message_buffer[LOG_MESSAGE_BYTES], line_buffer[LOG_LINE_BYTES];
    char target[LOG_TARGET_BYTES];
    struct text message, line;
    bool is_wanted = true;
    uint64_t dropped;
    va_list args;

    if (!log_take_turn(site)) {
        return;
    }
    dropped = atomic_exchange_explicit(&log_dropped, 0, memory_order_relaxed);
    text_init_fixed(&message, message_buffer, sizeof(message_buffer));
    va_start(args, format);
    message_build(&message, site, dropped, format, args);
    va_end(args);
    log_target_of(site->file, target);
    text_init_fixed(&line, line_buffer, sizeof(line_buffer));
    if (log_stream_is_any()) {
        line_fit(&line, LOG_FORMAT_JSON, target, level, text_bytes(&message));
        log_stream_line(target, level, text_bytes(&line));
        is_wanted = level <= log_filter_main_level(target);
    }
    if (is_wanted) {
        line_fit(&line, log_to.format, target, level, text_bytes(&message));
    }
    if (!is_wanted) {
        atomic_fetch_add_explicit(&log_dropped, dropped, memory_order_relaxed);
    } else if (!log_emit(line_buffer, line.len)) {
        atomic_fetch_add_explicit(&log_dropped, dropped + 1, memory_order_relaxed);
    }
    errno = saved;
}
