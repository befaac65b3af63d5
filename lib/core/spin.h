/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_SPIN_H
#define CORE_SPIN_H

/*
 * A lock for a few instructions of the log, which any thread may be in. Not for the data path, where
 * nothing is shared (decision D6).
 */
#include <sched.h>
#include <stdatomic.h>

static inline void spin_acquire(atomic_flag *lock)
{
    while (atomic_flag_test_and_set_explicit(lock, memory_order_acquire)) {
        (void)sched_yield();
    }
}

static inline void spin_release(atomic_flag *lock)
{
    atomic_flag_clear_explicit(lock, memory_order_release);
}

#endif
