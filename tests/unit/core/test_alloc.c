/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "tests/unit/unit.h"

static void new_memory_is_zeroed(void **state UNUSED)
{
    AUTOFREE char *one = mem_new(100);
    AUTOFREE uint32_t *many = mem_new_array(10, sizeof(*many));

    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(one[i], 0);
    }
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(many[i], 0);
    }
}

static void nothing_is_still_a_pointer(void **state UNUSED)
{
    AUTOFREE char *none = mem_new(0);
    AUTOFREE char *no_items = mem_new_array(0, 8);
    AUTOFREE char *shrunk = mem_resize(mem_new(8), 0, 8);

    assert_non_null(none);
    assert_non_null(no_items);
    assert_non_null(shrunk);
    mem_free(NULL);
}

static void resize_keeps_the_content(void **state UNUSED)
{
    AUTOFREE char *text = mem_strdup("abc");

    text = mem_resize(text, 1000, 4);
    assert_string_equal(text, "abc");
}

static void strings_are_copied_and_cut(void **state UNUSED)
{
    static const char unterminated[3] = {'a', 'b', 'c'};
    AUTOFREE char *whole = mem_strdup("hello");
    AUTOFREE char *cut = mem_strndup("hello", 2);
    AUTOFREE char *bounded = mem_strndup(unterminated, 3);
    AUTOFREE char *printed = mem_printf("%s-%d", "x", 7);

    assert_string_equal(whole, "hello");
    assert_string_equal(cut, "he");
    assert_string_equal(bounded, "abc");
    assert_string_equal(printed, "x-7");
}

static volatile size_t huge = SIZE_MAX / 2;
static void *volatile kept;

static void resize_with_overflow(void)
{
    kept = mem_resize(NULL, huge, 4);
}

static void sizes_that_overflow_abort(void **state UNUSED)
{
    assert_aborts(resize_with_overflow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_memory_is_zeroed),      cmocka_unit_test(nothing_is_still_a_pointer),
        cmocka_unit_test(resize_keeps_the_content),  cmocka_unit_test(strings_are_copied_and_cut),
        cmocka_unit_test(sizes_that_overflow_abort),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
