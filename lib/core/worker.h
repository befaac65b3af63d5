/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_WORKER_H
#define CORE_WORKER_H

/*
 * A thread that runs one loop. Everything a worker touches is its own (share nothing); other
 * threads reach it by loop_post() alone.
 */
#include "core/loop.h"

#include <pthread.h>

struct worker {
    struct loop loop;
    pthread_t thread;
    void (*setup)(struct worker *w);    /* on the thread, before the first turn */
    void (*teardown)(struct worker *w); /* on the thread, after the last turn, before loop_close */
    void *user;
};

/* `setup`, `teardown` and `user` are set before; the first two may be NULL. */
int worker_start(struct worker *w, unsigned index, size_t chunks_max) MUST_USE;
void worker_stop(struct worker *w); /* any other thread: stops the loop, joins */

/* How many workers this process should run: the cgroup's CPU quota (v1, v2) rounded up, at most
 * the cores of its affinity mask, at least 1. */
unsigned worker_default_count(void);

/* Memory limit of this process' cgroup (v1, v2; the tightest ancestor that is visible), bytes;
 * UINT64_MAX when there is none. */
uint64_t worker_memory_limit(void);

#endif
