/* SPDX-License-Identifier: Apache-2.0 */
/* Retry budgets (wire 6.3). Times are made up. */
#include "../unit.h"

#include "core/clock.h"
#include "mesh/budget.h"

#define START (1000 * NS_PER_S)

static struct budget_terms terms(float ratio, uint32_t min_per_s, uint64_t ttl_s)
{
    return (struct budget_terms){
        .is_on = true, .ratio = ratio, .min_per_s = min_per_s, .ttl_ns = ttl_s * NS_PER_S};
}

static struct budget budget(float ratio, uint32_t min_per_s, uint64_t ttl_s)
{
    struct budget_terms t = terms(ratio, min_per_s, ttl_s);
    struct budget b;

    budget_init(&b, &t, 1, START);
    return b;
}

static unsigned drain(struct budget *b, uint64_t now_ns)
{
    unsigned count = 0;

    while (count < 100000 && budget_withdraw(b, now_ns)) {
        count++;
    }
    return count;
}

static void deposit(struct budget *b, unsigned count, uint64_t now_ns)
{
    for (unsigned i = 0; i < count; i++) {
        budget_deposit(b, now_ns);
    }
}

/* A retry costs the whole part of 1/ratio: 0.2 of a hundred requests are twenty retries. */
static void requests_earn_retries(void **state)
{
    static const struct {
        float ratio;
        unsigned requests, retries;
    } cases[] = {
        {0.2f, 100, 20}, {0.2f, 4, 0},    {0.5f, 11, 5},  {1.0f, 7, 7},
        {0.1f, 100, 10}, {0.3f, 10, 3},   {0.7f, 10, 10}, /* 1/0.7 is 1 and a bit */
        {2.0f, 10, 20},  {1000, 3, 3000}, {0, 1000, 0},   {1e-30f, 1000, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct budget b = budget(cases[i].ratio, 0, 10);

        assert_false(budget_withdraw(&b, START));
        deposit(&b, cases[i].requests, START);
        assert_int_equal(drain(&b, START), cases[i].retries);
    }
}

/* min_per_s * ttl, whatever a retry costs; and it comes back with the slots that spent it. */
static void the_reserve_is_there_without_requests(void **state)
{
    struct budget b = budget(0.2f, 10, 10), none = budget(0, 3, 20), empty = budget(0.2f, 0, 10);

    (void)state;
    assert_int_equal(drain(&b, START), 100);
    assert_int_equal(drain(&none, START), 60);
    assert_int_equal(drain(&empty, START), 0);
    assert_int_equal(drain(&b, START + 9 * NS_PER_S), 0);
    assert_int_equal(drain(&b, START + 10 * NS_PER_S), 100);
}

/* Ten slots of a tenth of the ttl: what came in one of them goes with it. */
static void deposits_expire_by_slots(void **state)
{
    struct budget b = budget(1, 0, 10);

    (void)state;
    deposit(&b, 3, START);
    deposit(&b, 4, START + 5 * NS_PER_S);
    assert_int_equal(drain(&b, START + 10 * NS_PER_S - 1), 7);
    deposit(&b, 2, START + 10 * NS_PER_S - 1);
    /* The three that are gone were spent, too: in slot 9, which stays. 4 + 2 - 7 */
    assert_int_equal(drain(&b, START + 10 * NS_PER_S), 0);
    deposit(&b, 1, START + 10 * NS_PER_S);
    assert_int_equal(drain(&b, START + 10 * NS_PER_S), 0);
    deposit(&b, 1, START + 10 * NS_PER_S);
    assert_int_equal(drain(&b, START + 10 * NS_PER_S), 1);
    /* A pause of any length forgets all. */
    deposit(&b, 9, START + 11 * NS_PER_S);
    assert_int_equal(drain(&b, START + 3600 * NS_PER_S), 0);
    deposit(&b, 1, START + 3600 * NS_PER_S);
    assert_int_equal(drain(&b, START + 3600 * NS_PER_S), 1);
}

/* The sum of the workers' shares is the reserve, but for the rounding. */
static void the_reserve_is_shared(void **state)
{
    struct budget_terms t = terms(0.5f, 1, 10);
    unsigned sum = 0;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct budget b;

        budget_init(&b, &t, 4, START);
        sum += drain(&b, START);
    }
    assert_int_equal(sum, 12);
    for (unsigned i = 0; i < 64; i++) {
        struct budget b;

        budget_init(&b, &t, 64, START);
        assert_int_equal(drain(&b, START), 1);
    }
}

static void terms_have_bounds(void **state)
{
    static const struct {
        float ratio;
        uint32_t min_per_s;
        uint64_t ttl_ns;
        bool is_valid;
    } cases[] = {
        {0.2f, 10, 10 * NS_PER_S, true},
        {0, 0, NS_PER_S, true},
        {1000, INT32_MAX, 60 * NS_PER_S, true},
        {-0.1f, 10, 10 * NS_PER_S, false},
        {1000.5f, 10, 10 * NS_PER_S, false},
        {__builtin_nanf(""), 10, 10 * NS_PER_S, false},
        {__builtin_inff(), 10, 10 * NS_PER_S, false},
        {0.2f, (uint32_t)INT32_MAX + 1, 10 * NS_PER_S, false},
        {0.2f, 10, NS_PER_S - 1, false},
        {0.2f, 10, 60 * NS_PER_S + 1, false},
        {0.2f, 10, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct budget_terms t = {.is_on = true,
                                 .ratio = cases[i].ratio,
                                 .min_per_s = cases[i].min_per_s,
                                 .ttl_ns = cases[i].ttl_ns};
        struct budget b;

        assert_int_equal(budget_terms_are_valid(&t), cases[i].is_valid);
        budget_init(&b, &t, 1, START);
        deposit(&b, 10, START);
        if (!cases[i].is_valid) {
            assert_int_equal(drain(&b, START + NS_PER_S), 0);
        }
        t.is_on = false;
        budget_init(&b, &t, 1, START);
        deposit(&b, 10, START);
        assert_int_equal(drain(&b, START), 0);
    }
}

/* The largest terms do not overflow, however much is spent. */
static void the_largest_terms(void **state)
{
    struct budget_terms t = terms(1e-30f, INT32_MAX, 60);
    struct budget b;

    (void)state;
    budget_init(&b, &t, 1, START);
    assert_int_equal(drain(&b, START), 100000);
    assert_int_equal(drain(&b, START + NS_PER_S), 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_earn_retries),
        cmocka_unit_test(the_reserve_is_there_without_requests),
        cmocka_unit_test(deposits_expire_by_slots),
        cmocka_unit_test(the_reserve_is_shared),
        cmocka_unit_test(terms_have_bounds),
        cmocka_unit_test(the_largest_terms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
