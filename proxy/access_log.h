/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_ACCESS_LOG_H
#define PROXY_ACCESS_LOG_H

/*
 * One line for each inbound request, to standard error, while diagnostics go to standard output
 * (LINKERD2_PROXY_ACCESS_LOG, wire 5.9; off unless asked for).
 *
 *     apache: 10.1.0.7:51620 WHO - [2026-08-01T12:00:00.123456Z] "GET /cart HTTP/1.1" 200
 *     json:   one object, fields in alphabetical order
 *
 * Lines are gathered over a turn of the loop and written in blocks of at most 4 KiB of whole lines,
 * which a pipe takes whole or not at all, so that workers do not cut each other's lines.
 * Limits: 32 KiB wait for an output that does not take them; lines beyond that are dropped and
 * counted in tulle_access_log_dropped_total. A line has at most 2 KiB of the target, 256 bytes of each
 * other field that the client chose.
 * Threads: one belongs to one worker.
 */
#include "core/loop.h"
#include "proxy/config.h"
#include "proxy/stats.h"

struct exchange;
struct access_log;
struct access_log *access_log_new(struct loop *l, struct stats *stats, enum access_format format,
                                  int fd); /* fd is not taken */
void access_log_free(struct access_log *a); /* writes what the output takes; NULL is fine */

struct access {
    struct addr client;
    struct bytes client_id, method, scheme, authority, path, trace_id, user_agent, host;
    enum http_version version;
    unsigned status;                       /* 0: none was sent */
    int64_t request_bytes, response_bytes; /* as announced; -1: not */
    uint64_t wall_ns;                      /* when the request came */
    uint64_t total_ns;                     /* until the response's body began, or it ended without */
    uint64_t processing_ns;                /* of it, until the application was asked */
};
void access_log_write(struct access_log *a, const struct access *r);
void access_log_exchange(struct access_log *a, const struct exchange *ex); /* before it ends */

#endif
