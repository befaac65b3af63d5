/* SPDX-License-Identifier: Apache-2.0 */
#include "core/near.h"
#include "tests/unit/unit.h"

static const char *meant(const char *typed)
{
    static const char *const known[] = {"stat", "stat-inbound", "status", "up", "down", "namespace"};
    struct near n = NEAR(typed);

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        near_try(&n, known[i]);
    }
    return n.best;
}

static void letters_apart(void **state UNUSED)
{
    static const struct {
        const char *a, *b;
        size_t distance;
    } cases[] = {
        {"", "", 0},         {"", "abc", 3},      {"abc", "", 3},       {"stat", "stat", 0},
        {"stat", "stats", 1}, {"stat", "tsat", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1},
        {"abcd", "badc", 2},
    };
    char longer[NEAR_WORD_MAX + 2] = "";

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(near_distance(bytes_str(cases[i].a), bytes_str(cases[i].b)),
                         cases[i].distance);
    }
    memset(longer, 'x', NEAR_WORD_MAX + 1);
    assert_int_equal(near_distance(bytes_str(longer), BYTES("x")), SIZE_MAX);
    assert_int_equal(near_distance(bytes_of(longer, NEAR_WORD_MAX), BYTES("x")), NEAR_WORD_MAX - 1);
}

static void the_nearest_is_meant(void **state UNUSED)
{
    assert_string_equal(meant("stats"), "stat");
    assert_string_equal(meant("statsu"), "status");
    assert_string_equal(meant("stat-inbuond"), "stat-inbound");
    assert_string_equal(meant("namspace"), "namespace");
    assert_string_equal(meant("donw"), "down");
}

static void what_is_far_or_too_short_is_not_guessed(void **state UNUSED)
{
    assert_null(meant("dashboard"));
    assert_null(meant("tap"));
    assert_null(meant("u"));
    assert_null(meant("pu"));
    assert_null(meant(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_apart),
        cmocka_unit_test(the_nearest_is_meant),
        cmocka_unit_test(what_is_far_or_too_short_is_not_guessed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
