/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_LOOP_H
#define CORE_LOOP_H

/*
 * One thread's event loop: readiness of descriptors, timers, tasks, and the end of each turn.
 *
 * A turn:
 *   1. epoll_wait; each event is only recorded in its `struct watch`, whose owner task is woken;
 *   2. messages of other threads are delivered (mailbox.h);
 *   3. expired timers run;
 *   4. woken tasks run, first in first out, each at most once a round, a bounded number of rounds;
 *   5. late tasks run: they write out what the tasks of this turn produced (one record, one write);
 *   6. memory given to loop_free_later() is freed.
 *
 * Rules: a task or timer callback is never called from inside another of our functions, so it may
 * close, free or reset anything, itself included. Descriptors are edge-triggered and registered
 * once: whoever owns a watch reads or writes until it would block, then clears the flag.
 * Threads: everything here belongs to the loop's own thread, except loop_post() in mailbox.h.
 */
#include "core/chain.h"
#include "core/list.h"
#include "core/rand.h"

#include <stdint.h>

struct loop;
struct metrics;

/* A piece of work that may be pending. Embedded in its owner; zeroed and given a `run` it is ready. */
struct task {
    struct list node;
    void (*run)(struct task *task);
};

/* One descriptor. `ready` is sticky: set by events, cleared by the owner when a call would block. */
enum watch_ready {
    WATCH_IN   = 1, /* readable, or the peer finished, or an error is to be read */
    WATCH_OUT  = 2, /* writable */
    WATCH_HUP  = 4, /* both directions are over, or an error is pending */
    WATCH_FIN  = 8, /* the peer finished; bytes from before may be unread. Stays set */
};
struct watch {
    int fd; /* -1 when closed */
    unsigned ready;
    bool has_out; /* events of WATCH_OUT come */
    struct task *owner; /* woken at each event */
    struct loop *loop;
};

/* One timer. Embedded in its owner. */
struct timer {
    uint64_t at_ns;   /* when it runs, clock_mono_ns() */
    size_t heap_slot; /* 0: not armed */
    void (*run)(struct timer *timer);
};

/* Memory to free at the end of the turn, so that nobody up the stack is left with a dead pointer. */
struct grave {
    struct list node;
    void (*bury)(struct grave *grave);
};

struct loop {
    int epoll_fd;
    uint64_t now_ns;          /* clock_mono_ns() at the start of this turn */
    unsigned index;           /* 0 for the control thread, 1.. for workers; names the loop in logs */
    struct list ready, late;  /* tasks */
    struct list graves;
    struct timer **heap;      /* 1-based binary heap by at_ns */
    size_t heap_count, heap_capacity;
    struct chunk_pool chunks;
    struct rand rand;
    struct metrics *metrics;  /* this loop's metrics, owned by whoever made the loop; may be NULL */
    struct mailbox *mailbox;
    uint64_t trim_at_ns;      /* when unused chunks are looked at again; UINT64_MAX: when used again */
    size_t watch_count;
    unsigned events;          /* that the kernel had for this turn */
    bool is_sole_owner;       /* set by who knows: no process is forked from this one, and no descriptor
                                 under watch is sent to another, but for those of watch_release() */
    bool stopping;
};

/* Makes it the loop of the calling thread. */
int loop_open(struct loop *l, unsigned index, size_t chunks_max) MUST_USE;
/* Delivers the messages and runs the tasks that are left; then all watches, timers and chunks must be
 * gone: asserted. */
void loop_close(struct loop *l);
void loop_run(struct loop *l);   /* until loop_stop() */
bool loop_turn(struct loop *l, int wait_ms); /* one turn, at most wait_ms asleep (-1: as long as needed);
                                                false when stopping; for tests */
void loop_stop(struct loop *l);
/* The loop of this thread; NULL outside any. Only for assertions and log prefixes. */
const struct loop *loop_self(void);
const struct loop *loop_set_self(const struct loop *l); /* returns the one before; loop_turn() does it too */

void task_wake(struct loop *l, struct task *t);      /* idempotent while pending */
void task_wake_late(struct loop *l, struct task *t); /* idempotent while pending */
void task_cancel(struct task *t);                    /* idempotent */

/* Take `fd` (non-blocking, close-on-exec) under watch, edge-triggered in both directions. */
/* `owner` may be NULL and may be exchanged by assignment. On failure `fd` stays the caller's. */
int watch_open(struct watch *w, struct loop *l, int fd, struct task *owner) MUST_USE;
/* The same for a descriptor that can be written to now, which need not be told: no event of WATCH_OUT
 * comes before watch_await_out(). */
int watch_open_writable(struct watch *w, struct loop *l, int fd, struct task *owner) MUST_USE;
void watch_await_out(struct watch *w); /* a write would have blocked: the event comes when none would */
void watch_close(struct watch *w);                   /* closes the descriptor; idempotent, also when zeroed */
int watch_release(struct watch *w);                  /* stops watching and returns the open descriptor */

/* (Re)arms; `at_ns` is absolute. One that is due already runs in the next turn, never in this one. */
void timer_arm(struct loop *l, struct timer *t, uint64_t at_ns);
void timer_arm_in(struct loop *l, struct timer *t, uint64_t delay_ns); /* from l->now_ns */
void timer_cancel(struct loop *l, struct timer *t);                    /* idempotent */
static inline bool timer_is_armed(const struct timer *t)
{
    return t->heap_slot != 0;
}

void loop_free_later(struct loop *l, struct grave *g, void (*bury)(struct grave *g));

#endif
