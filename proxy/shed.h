/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_SHED_H
#define PROXY_SHED_H

/*
 * The memory ceiling (decision D9, docs/internals/overload.md): shed.c looks from the control thread
 * at what the control group has left and tells the workers a level; shed_worker.c is what a worker
 * gives up at each.
 *
 *   level    when less is left   what is given up
 *            than this (the
 *            smaller one)
 *   NONE
 *   IDLE     45 %, 80 MiB        idle kept connections and caches; free memory goes back to the system
 *   TAPS     38 %, 64 MiB        taps and traces; buffers get no more
 *   STREAMS  31 %, 48 MiB        new requests get 503; buffers get fewer; clients that keep memory
 *                                without moving bytes are closed
 *   CONNS    25 %, 32 MiB        new connections are closed
 *   LAST     15 %, 16 MiB        connections are closed, those that keep most first
 *
 * A worker gets its chunks in grants, and looks before it takes another one, so that buffers cannot
 * outgrow what a look has seen. A level ends when a twentieth of the limit more is left than where it began.
 *
 * What counts is the group's usage without files that the kernel would drop, for that is what the
 * kernel kills for. It counts only where this process has a quarter of it: somebody else's memory
 * is not given back by refusing requests.
 *
 * Without a limit none of this runs, but for the last part of STREAMS: when an eighth of a worker's
 * chunks is all that is left, stuck clients are closed whatever the level.
 *
 * Threads: struct shed belongs to the control thread; the calls that take a worker, to the worker. As
 * connections come, a worker looks for itself, for the control thread may have to wait for a core.
 */
#include "core/cgroup.h"
#include "core/loop.h"
#include "core/metric.h"
#include "proxy/worker.h"

#include <stdatomic.h>

struct shed {
    struct proxy *proxy;
    struct cgroup_memory group;
    int statm_fd;
    uint64_t limit, used; /* as of the last look; limit 0: there is none */
    _Atomic uint64_t spared; /* of the usage, what does not count: written here, read by workers */
    bool is_half; /* of the limit is in use, whoever uses it */
    enum shed_level level;
    struct timer timer; /* the next look */
    uint64_t looked_ns, pressed_ns;
};

/* After the loop, before the workers run. */
void shed_open(struct shed *s, struct proxy *p);
void shed_close(struct shed *s); /* idempotent */
void shed_look(struct shed *s);  /* now, unless it was just now */
void shed_collect(const struct shed *s, struct metric_samples *to);
enum shed_level shed_level_of(enum shed_level now, uint64_t used, uint64_t limit);

/* --- a worker's part --------------------------------------------------------------------------- */

void shed_worker_open(struct proxy_worker *w);
void shed_worker_close(struct proxy_worker *w);
/* Any thread: the level if `more` bytes were used. */
enum shed_level shed_peek(const struct shed *s, enum shed_level now, uint64_t more);
void shed_worker_rest(struct proxy_worker *w); /* no request came for a while */
void shed_worker_set(struct proxy_worker *w, enum shed_level level); /* from the control thread */
/* `ln` accepted a connection. False: it was closed, with its reason counted. */
bool shed_admits(struct proxy_worker *w, enum direction side, struct listener *ln, int fd);

#endif
