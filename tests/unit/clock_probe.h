/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_CLOCK_PROBE_H
#define UNIT_CLOCK_PROBE_H

/*
 * A clock that stands until the test moves it, for programs linked with --wrap=clock_mono_ns. Each look moves
 * it by a microsecond, so that no two turns of a loop have the same time. Loops still sleep in real time.
 */
#include "core/clock.h"

static uint64_t probe_clock_ns = 1000 * NS_PER_S;

uint64_t __wrap_clock_mono_ns(void);
uint64_t __wrap_clock_mono_ns(void)
{
    return probe_clock_ns += NS_PER_US;
}

/* The next turn of any loop is so much later. */
static inline void time_passes(uint64_t ns)
{
    probe_clock_ns += ns;
}

#endif
