/* SPDX-License-Identifier: Apache-2.0 */
#include "core/worker.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "core/cgroup.h"
#include "core/err.h"
#include "core/mailbox.h"

#include <sched.h>
#include <stdio.h>

#define CPUS_MAX 4096

static void *worker_main(void *user)
{
    struct worker *w = user;
    char name[16];

    (void)snprintf(name, sizeof(name), "worker-%u", w->loop.index % 100000);
    (void)pthread_setname_np(pthread_self(), name);
    (void)loop_set_self(&w->loop);
    if (w->setup != NULL) {
        w->setup(w);
    }
    loop_run(&w->loop);
    if (w->teardown != NULL) {
        w->teardown(w);
    }
    loop_close(&w->loop);
    arena_cache_clear();
    return NULL;
}

int worker_start(struct worker *w, unsigned index, size_t chunks_max)
{
    const struct loop *own = loop_self();
    int err = loop_open(&w->loop, index, chunks_max);

    (void)loop_set_self(own);
    if (err != 0) {
        return err;
    }
    err = pthread_create(&w->thread, NULL, worker_main, w);
    if (err != 0) {
        loop_close(&w->loop);
        return -err;
    }
    return 0;
}

static void deliver_stop(struct message *m, struct loop *l)
{
    mem_free(m);
    loop_stop(l);
}

void worker_stop(struct worker *w)
{
    struct message *m = mem_new(sizeof(*m));
    int err;

    assert(!pthread_equal(pthread_self(), w->thread));
    m->deliver = deliver_stop;
    loop_post(&w->loop, m);
    err = pthread_join(w->thread, NULL);
    assert(err == 0);
}

/* Cores in the affinity mask, on machines of any size. */
static unsigned affinity_cores(void)
{
    size_t bytes = CPU_ALLOC_SIZE(CPUS_MAX);
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
    int cores = 1;

    assert(set != NULL);
    if (sched_getaffinity(0, bytes, set) == 0) {
        cores = CPU_COUNT_S(bytes, set);
    }
    CPU_FREE(set);
    return (unsigned)MAX(cores, 1);
}

unsigned worker_default_count(void)
{
    uint64_t millis = cgroup_cpu_limit_millis("");
    uint64_t cores = affinity_cores();
    uint64_t quota = millis == UINT64_MAX ? cores : (millis - 1) / 1000 + 1;

    return (unsigned)MAX(MIN(quota, cores), 1);
}

uint64_t worker_memory_limit(void)
{
    return cgroup_memory_limit("");
}
