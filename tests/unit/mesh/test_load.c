/* SPDX-License-Identifier: Apache-2.0 */
#include "../unit.h"

#include <math.h>

#include "core/clock.h"
#include "mesh/balancer.h"

#define DECAY_NS (10 * NS_PER_S)

static const struct load_config plain = {.default_rtt_ns = 30 * NS_PER_MS, .decay_ns = DECAY_NS};
static const struct load_config penal = {.default_rtt_ns = 30 * NS_PER_MS,
                                         .decay_ns = DECAY_NS,
                                         .penalty_ns = 5 * NS_PER_S,
                                         .max_retry_after_ns = 300 * NS_PER_S,
                                         .penalty_decay_ns = 2 * DECAY_NS};

static bool near(double a, double b)
{
    return fabs(a - b) <= fabs(b) * 1e-9 + 1e-9;
}

/* Wire 6.1: load = estimate x (pending + 1). */
static void load_counts_what_is_pending(void **state)
{
    struct load l;

    (void)state;
    load_init(&l, &plain, NS_PER_S);
    assert_true(near(load_get(&l, &plain, NS_PER_S), 30e6));
    l.pending = 4;
    assert_true(near(load_get(&l, &plain, NS_PER_S), 150e6));
}

/* Wire 6.1: reading the load decays the estimate towards zero. */
static void silence_decays_the_estimate(void **state)
{
    struct load l;

    (void)state;
    load_init(&l, &plain, 0);
    assert_true(near(load_get(&l, &plain, DECAY_NS), 30e6 * exp(-1)));
    /* Read twice in a row it is what it was: the time counts once. */
    assert_true(near(load_get(&l, &plain, DECAY_NS), 30e6 * exp(-1)));
    assert_true(near(load_get(&l, &plain, 3 * DECAY_NS), 30e6 * exp(-3)));
}

/* Wire 6.1: r > est then est = r, else est = est*e^(-dt/decay) + r*(1-e^(-dt/decay)). */
static void peaks_count_at_once_and_lows_slowly(void **state)
{
    struct load l;
    double keep = exp(-0.5);

    (void)state;
    load_init(&l, &plain, 0);
    load_observe(&l, &plain, 100 * NS_PER_MS, 0);
    assert_true(near(l.estimate_ns, 100e6));
    load_observe(&l, &plain, 10 * NS_PER_MS, 5 * NS_PER_S);
    assert_true(near(l.estimate_ns, 100e6 * keep + 10e6 * (1 - keep)));
}

/* A clock that a caller read earlier must not make numbers of nonsense. */
static void time_that_stands_still_or_goes_back(void **state)
{
    struct load_config no_decay = {.default_rtt_ns = 30 * NS_PER_MS};
    struct load l;

    (void)state;
    load_init(&l, &plain, 5 * NS_PER_S);
    assert_true(near(load_get(&l, &plain, 4 * NS_PER_S), 30e6));
    load_observe(&l, &plain, 10 * NS_PER_MS, 4 * NS_PER_S);
    assert_true(near(l.estimate_ns, 30e6));
    assert_true(near(load_get(&l, &no_decay, 4 * NS_PER_S),
                     0)); /* no decay time: only what is new counts */
}

/* Wire 6.1: a failure counts as the penalty, or as the endpoint's wish where that is longer and not
 * beyond the maximum. */
static void failures_count_as_a_penalty(void **state)
{
    struct load l;

    (void)state;
    load_init(&l, &penal, 0);
    load_penalize(&l, &penal, 0, 0);
    assert_true(near(l.estimate_ns, 5e9));
    load_penalize(&l, &penal, NS_PER_S, 0); /* shorter than the penalty */
    assert_true(near(l.estimate_ns, 5e9));
    load_penalize(&l, &penal, 20 * NS_PER_S, 0);
    assert_true(near(l.estimate_ns, 20e9));
    load_penalize(&l, &penal, 3600 * NS_PER_S, 0);
    assert_true(near(l.estimate_ns, 300e9));
}

/* A penalty decays at its own pace, until a latency above it is seen. */
static void a_penalty_has_its_own_decay(void **state)
{
    struct load l;

    (void)state;
    load_init(&l, &penal, 0);
    load_penalize(&l, &penal, 0, 0);
    assert_true(near(load_get(&l, &penal, 2 * DECAY_NS), 5e9 * exp(-1)));
    load_observe(&l, &penal, 6 * NS_PER_S, 2 * DECAY_NS); /* slower still: measured */
    assert_true(near(load_get(&l, &penal, 3 * DECAY_NS), 6e9 * exp(-1)));
}

/* Connections: what is open, and nothing else, however long nobody came. */
static void counted_load_is_what_is_open(void **state)
{
    struct load_config count = {.default_rtt_ns = NS_PER_MS, .decay_ns = 1, .by_count = true};
    struct load l;

    (void)state;
    load_init(&l, &count, 0);
    assert_true(near(load_get(&l, &count, 1000 * NS_PER_S), 0));
    l.pending = 3;
    assert_true(near(load_get(&l, &count, 2000 * NS_PER_S), 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load_counts_what_is_pending),
        cmocka_unit_test(silence_decays_the_estimate),
        cmocka_unit_test(peaks_count_at_once_and_lows_slowly),
        cmocka_unit_test(failures_count_as_a_penalty),
        cmocka_unit_test(a_penalty_has_its_own_decay),
        cmocka_unit_test(counted_load_is_what_is_open),
        cmocka_unit_test(time_that_stands_still_or_goes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
