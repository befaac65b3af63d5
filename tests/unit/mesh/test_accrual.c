/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failure accrual (wire 6.2) on a clock that the test moves.
 */
#include "../unit.h"

#include "core/clock.h"
#include "mesh/accrual.h"

#define MIN_NS NS_PER_S
#define MAX_NS (8 * NS_PER_S)

static const struct accrual_config consecutive = {
    .max_failures = 3, .backoff_min_ns = MIN_NS, .backoff_max_ns = MAX_NS};
static const struct accrual_config unified = {.success_rate_threshold = 0.8,
                                              .window_ns = 10 * NS_PER_S,
                                              .min_requests = 5,
                                              .backoff_min_ns = MIN_NS,
                                              .backoff_max_ns = MAX_NS};

static struct rand r;
static struct accrual a;
static uint64_t now_ns;

static int setup(void **state)
{
    (void)state;
    rand_seed(&r, 5);
    accrual_init(&a);
    now_ns = 1000 * NS_PER_S;
    return 0;
}

static bool record_by(const struct accrual_config *c, const void *by, enum accrual_result result)
{
    return accrual_record(&a, c, by, result, now_ns, &r);
}

static bool record(const struct accrual_config *c, enum accrual_result result)
{
    return record_by(c, NULL, result);
}

static void record_many(const struct accrual_config *c, enum accrual_result result, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_false(record(c, result));
    }
}

static void eject(void)
{
    record_many(&consecutive, ACCRUAL_FAILURE, 2);
    assert_true(record(&consecutive, ACCRUAL_FAILURE));
    assert_int_equal(a.state, ACCRUAL_EJECTED);
}

/* Its time has come, and somebody tries. */
static void probe(const void *by)
{
    now_ns = a.until_ns;
    accrual_expire(&a);
    assert_true(accrual_is_available(&a));
    assert_true(accrual_begin(&a, by));
    assert_false(accrual_is_available(&a));
}

static void so_many_failures_in_a_row_eject(void **state)
{
    (void)state;
    record_many(&consecutive, ACCRUAL_FAILURE, 2);
    assert_false(record(&consecutive, ACCRUAL_SUCCESS)); /* the row is broken */
    record_many(&consecutive, ACCRUAL_FAILURE, 2);
    assert_false(record(&consecutive, ACCRUAL_BUSY)); /* 429 is no failure of an endpoint */
    eject();
    assert_false(accrual_is_available(&a));
}

static void none_eject_where_nothing_is_counted(void **state)
{
    static const struct accrual_config off = {.backoff_min_ns = MIN_NS};

    (void)state;
    assert_false(accrual_config_is_on(&off));
    assert_true(accrual_config_is_on(&consecutive) && accrual_config_is_on(&unified));
    record_many(&off, ACCRUAL_FAILURE, 1000);
    assert_true(accrual_is_available(&a));
}

/* min x 2^n, capped at max. */
static void the_probation_doubles_and_is_capped(void **state)
{
    static const uint64_t expected_s[] = {1, 2, 4, 8, 8, 8};

    (void)state;
    eject();
    for (unsigned i = 0; i < ARRAY_LEN(expected_s); i++) {
        assert_int_equal(a.until_ns - now_ns, expected_s[i] * NS_PER_S);
        probe(&a);
        assert_true(record_by(&consecutive, &a, ACCRUAL_FAILURE));
        assert_int_equal(a.state, ACCRUAL_EJECTED);
    }
    for (unsigned i = 0; i < 100; i++) { /* no shift beyond the word */
        probe(&a);
        assert_true(record_by(&consecutive, &a, ACCRUAL_FAILURE));
        assert_int_equal(a.until_ns - now_ns, MAX_NS);
    }
}

/* Uniform in [0, ratio x base], on top of the base. */
static void jitter_lengthens_it(void **state)
{
    struct accrual_config c = consecutive;
    uint64_t least = UINT64_MAX, most = 0;

    (void)state;
    c.max_failures = 1;
    c.backoff_jitter = 0.5;
    for (unsigned i = 0; i < 500; i++) {
        accrual_init(&a);
        assert_true(record(&c, ACCRUAL_FAILURE));
        least = MIN(least, a.until_ns - now_ns);
        most = MAX(most, a.until_ns - now_ns);
    }
    assert_in_range(least, MIN_NS, MIN_NS + MIN_NS / 20);
    assert_in_range(most, MIN_NS + MIN_NS * 9 / 20, MIN_NS + MIN_NS / 2);
}

static void one_probe_decides(void **state)
{
    int prober, late;

    (void)state;
    eject();
    assert_false(accrual_begin(&a, &late)); /* nobody may: but who was picked before does no harm */
    probe(&prober);
    /* What was in flight when it was ejected has no say. */
    assert_false(record_by(&consecutive, &late, ACCRUAL_SUCCESS));
    assert_false(record_by(&consecutive, &late, ACCRUAL_FAILURE));
    assert_int_equal(a.state, ACCRUAL_PROBING);
    assert_true(record_by(&consecutive, &prober, ACCRUAL_SUCCESS));
    assert_int_equal(a.state, ACCRUAL_CLOSED);
    assert_false(accrual_end(&a, &prober));
    /* As if it had never failed: it takes as many again, and the probation is the first one. */
    eject();
    assert_int_equal(a.until_ns - now_ns, MIN_NS);
}

static void late_results_do_not_lengthen_a_probation(void **state)
{
    uint64_t until_ns;

    (void)state;
    eject();
    until_ns = a.until_ns;
    now_ns += MIN_NS / 2;
    record_many(&consecutive, ACCRUAL_FAILURE, 50);
    record_many(&consecutive, ACCRUAL_SUCCESS, 50);
    assert_int_equal(a.until_ns, until_ns);
    assert_int_equal(a.state, ACCRUAL_EJECTED);
}

/* The client of the probe gives up: somebody else may, and only one. */
static void a_probe_that_comes_to_nothing_is_given_back(void **state)
{
    int first, second;

    (void)state;
    eject();
    probe(&first);
    assert_false(accrual_end(&a, &second));
    assert_true(accrual_end(&a, &first));
    assert_true(accrual_is_available(&a));
    assert_true(accrual_begin(&a, &second));
    assert_false(accrual_begin(&a, &first));
    assert_true(record_by(&consecutive, &second, ACCRUAL_SUCCESS));
}

/* unified: the rate over the window, with at least so many requests in it. */
static void a_low_success_rate_ejects(void **state)
{
    (void)state;
    record_many(&unified, ACCRUAL_FAILURE, 4); /* too few to say anything */
    assert_true(record(&unified, ACCRUAL_FAILURE));
    accrual_init(&a);
    record_many(&unified, ACCRUAL_SUCCESS, 40);
    record_many(&unified, ACCRUAL_FAILURE, 10); /* 40 of 50: not below 0.8 */
    assert_true(record(&unified, ACCRUAL_FAILURE));
}

/* 429 and RESOURCE_EXHAUSTED count for the rate. */
static void busy_answers_lower_the_rate(void **state)
{
    (void)state;
    record_many(&unified, ACCRUAL_BUSY, 4);
    assert_true(record(&unified, ACCRUAL_BUSY));
    probe(&a);
    assert_true(record_by(&unified, &a, ACCRUAL_BUSY));
    assert_int_equal(a.state, ACCRUAL_EJECTED);
    assert_int_equal(a.ejections, 2);
}

static void the_window_forgets(void **state)
{
    (void)state;
    record_many(&unified, ACCRUAL_FAILURE, 4);
    now_ns += 9 * NS_PER_S; /* still within it */
    assert_true(record(&unified, ACCRUAL_FAILURE));
    accrual_init(&a);
    record_many(&unified, ACCRUAL_FAILURE, 4);
    now_ns += 10 * NS_PER_S; /* its bucket was the oldest one, and is gone */
    record_many(&unified, ACCRUAL_FAILURE, 4);
    now_ns += 3600 * NS_PER_S;
    record_many(&unified, ACCRUAL_FAILURE, 4);
    /* A steady trickle of one failure among ten stays below the threshold for ever. */
    accrual_init(&a);
    for (unsigned i = 0; i < 1000; i++) {
        now_ns += 100 * NS_PER_MS;
        assert_false(record(&unified, i % 10 == 9 ? ACCRUAL_FAILURE : ACCRUAL_SUCCESS));
    }
}

/* A window of nothing is one of 10 ms. */
static void the_smallest_window(void **state)
{
    struct accrual_config c = unified;

    (void)state;
    c.window_ns = 0;
    record_many(&c, ACCRUAL_FAILURE, 4);
    now_ns += 5 * NS_PER_MS;
    assert_true(record(&c, ACCRUAL_FAILURE));
    accrual_init(&a);
    record_many(&c, ACCRUAL_FAILURE, 4);
    now_ns += 10 * NS_PER_MS;
    assert_false(record(&c, ACCRUAL_FAILURE));
}

/* Either dimension ejects. */
static void unified_counts_rows_too(void **state)
{
    struct accrual_config c = unified;

    (void)state;
    c.max_failures = 7;
    record_many(&c, ACCRUAL_SUCCESS, 100);
    record_many(&c, ACCRUAL_FAILURE, 6);
    assert_true(record(&c, ACCRUAL_FAILURE));
}

static void configurations_are_compared(void **state)
{
    struct accrual_config c = unified;

    (void)state;
    assert_true(accrual_config_same(&c, &unified));
    c.backoff_jitter = 0.25;
    assert_false(accrual_config_same(&c, &unified));
    c = unified;
    c.window_ns++;
    assert_false(accrual_config_same(&c, &unified));
    assert_false(accrual_config_same(&consecutive, &unified));
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(so_many_failures_in_a_row_eject),
        TEST(none_eject_where_nothing_is_counted),
        TEST(the_probation_doubles_and_is_capped),
        TEST(jitter_lengthens_it),
        TEST(one_probe_decides),
        TEST(late_results_do_not_lengthen_a_probation),
        TEST(a_probe_that_comes_to_nothing_is_given_back),
        TEST(a_low_success_rate_ejects),
        TEST(busy_answers_lower_the_rate),
        TEST(the_window_forgets),
        TEST(the_smallest_window),
        TEST(unified_counts_rows_too),
        TEST(configurations_are_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
