/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"
#include "tests/unit/unit.h"

static int never(struct checker *c UNUSED, char *problem UNUSED, size_t problem_bytes UNUSED)
{
    return 0;
}

static const struct check good = {"first", "this works", never, 0, 0, 0, "do nothing"};
static const struct check warned = {"first", "this could be better", never,         0,
                                    0,       CHECK_WARNING,          "do something"};
static const struct check bad = {"second", "this does not work", never, 0, 0, 0, "do a lot"};
static char worse[] = "it is old", broken[] = "it is broken\nand so is that";

static void assert_table(const struct check_outcome *all, size_t count, bool only_failures,
                         const char *want)
{
    struct text out;

    text_init(&out, 65536);
    check_print_table(all, count, only_failures, &out);
    assert_string_equal(out.at, want);
    text_clear(&out);
}

static void each_category_has_a_heading(void **state UNUSED)
{
    const struct check_outcome all[] = {
        {&good, CHECK_SUCCESS, NULL}, {&warned, CHECK_WARNED, worse}, {&bad, CHECK_ERROR, broken}};

    assert_table(all, 3, false,
                 "first\n-----\n√ this works\n‼ this could be better\n    it is old\n    hint: do "
                 "something\n"
                 "\nsecond\n------\n× this does not work\n    it is broken\n    and so is that\n   "
                 " hint: do a lot\n"
                 "\nStatus check results are ×\n");
    assert_table(all, 3, true,
                 "first\n-----\n‼ this could be better\n    it is old\n    hint: do something\n"
                 "\nsecond\n------\n× this does not work\n    it is broken\n    and so is that\n   "
                 " hint: do a lot\n"
                 "\nStatus check results are ×\n");
    assert_false(check_succeeded(all, 3));
}

static void warnings_are_no_failure(void **state UNUSED)
{
    const struct check_outcome all[] = {{&good, CHECK_SUCCESS, NULL},
                                        {&warned, CHECK_WARNED, worse}};

    assert_true(check_succeeded(all, 2));
    assert_table(all, 1, true, "Status check results are √\n");
}

static void json_groups_by_category(void **state UNUSED)
{
    const struct check_outcome all[] = {{&good, CHECK_SUCCESS, NULL}, {&bad, CHECK_ERROR, broken}};
    json_t *got, *want;
    struct text out;

    text_init(&out, 65536);
    check_print_json(all, 2, &out);
    got = json_loads(out.at, 0, NULL);
    want =
        json_pack("{s:b, s:[{s:s, s:[{s:s, s:s}]}, {s:s, s:[{s:s, s:s, s:s, s:s}]}]}", "success", 0,
                  "categories", "categoryName", "first", "checks", "description", "this works",
                  "result", "success", "categoryName", "second", "checks", "description",
                  "this does not work", "hint", "do a lot", "error", broken, "result", "error");
    assert_non_null(want);
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
    text_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_category_has_a_heading),
        cmocka_unit_test(warnings_are_no_failure),
        cmocka_unit_test(json_groups_by_category),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
