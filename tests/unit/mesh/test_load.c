/* SPDX-License-Identifier: Apache-2.0 */
#include "../unit.h"

#include <math.h>

#include "core/clock.h"
#include "mesh/balancer.h"

#define DECAY_NS (10 * NS_PER_S)

static bool near(double a, double b)
{
    return fabs(a - b) <= fabs(b) * 1e-9 + 1e-9;
}

/* Wire 6.1: load = estimate x (pending + 1). */
static void load_counts_what_is_pending(void **state)
{
    struct load l;

    (void)state;
    load_init(&l, 30 * NS_PER_MS, NS_PER_S);
    assert_true(near(load_get(&l, DECAY_NS, NS_PER_S), 30e6));
    l.pending = 4;
    assert_true(near(load_get(&l, DECAY_NS, NS_PER_S), 150e6));
}

/* Wire 6.1: reading the load decays the estimate towards zero. */
static void silence_decays_the_estimate(void **state)
{
    struct load l;

    (void)state;
    load_init(&l, 30 * NS_PER_MS, 0);
    assert_true(near(load_get(&l, DECAY_NS, DECAY_NS), 30e6 * exp(-1)));
    /* Read twice in a row it is what it was: the time counts once. */
    assert_true(near(load_get(&l, DECAY_NS, DECAY_NS), 30e6 * exp(-1)));
    assert_true(near(load_get(&l, DECAY_NS, 3 * DECAY_NS), 30e6 * exp(-3)));
}

/* Wire 6.1: r > est then est = r, else est = est*e^(-dt/decay) + r*(1-e^(-dt/decay)). */
static void peaks_count_at_once_and_lows_slowly(void **state)
{
    struct load l;
    double keep = exp(-0.5);

    (void)state;
    load_init(&l, 30 * NS_PER_MS, 0);
    load_observe(&l, 100 * NS_PER_MS, DECAY_NS, 0);
    assert_true(near(l.estimate_ns, 100e6));
    load_observe(&l, 10 * NS_PER_MS, DECAY_NS, 5 * NS_PER_S);
    assert_true(near(l.estimate_ns, 100e6 * keep + 10e6 * (1 - keep)));
}

/* A clock that a caller read earlier must not make numbers of nonsense. */
static void time_that_stands_still_or_goes_back(void **state)
{
    struct load l;

    (void)state;
    load_init(&l, 30 * NS_PER_MS, 5 * NS_PER_S);
    assert_true(near(load_get(&l, DECAY_NS, 4 * NS_PER_S), 30e6));
    load_observe(&l, 10 * NS_PER_MS, DECAY_NS, 4 * NS_PER_S);
    assert_true(near(l.estimate_ns, 30e6));
    assert_true(
        near(load_get(&l, 0, 4 * NS_PER_S), 0)); /* no decay time: only what is new counts */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load_counts_what_is_pending),
        cmocka_unit_test(silence_decays_the_estimate),
        cmocka_unit_test(peaks_count_at_once_and_lows_slowly),
        cmocka_unit_test(time_that_stands_still_or_goes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
