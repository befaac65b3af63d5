/* SPDX-License-Identifier: Apache-2.0 */
#include "core/near.h"

#include "tests/unit/unit.h"

static const char *const words[] = {"accessPolicy", "podSelector", "port",  "proxyProtocol", "http",
                                    "grpc",         "limit",       "timeout", "add",          "set"};

static const char *nearest(const char *word)
{
    struct near n = NEAR(word);

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        near_try(&n, words[i]);
    }
    return near_word(&n);
}

static void a_slip_of_the_pen_is_near(void **state UNUSED)
{
    assert_string_equal(nearest("accesPolicy"), "accessPolicy");   /* one too few */
    assert_string_equal(nearest("accesssPolicy"), "accessPolicy"); /* one too many */
    assert_string_equal(nearest("accessPolizy"), "accessPolicy");  /* another one */
    assert_string_equal(nearest("acecssPolicy"), "accessPolicy");  /* two that changed places */
    assert_string_equal(nearest("accesspolicy"), "accessPolicy");
    assert_string_equal(nearest("htp"), "http");
    assert_string_equal(nearest("prot"), "port");
    assert_string_equal(nearest("podSelectors"), "podSelector");
    assert_string_equal(nearest("selector"), "podSelector"); /* three letters of eleven */
}

static void another_word_is_not(void **state UNUSED)
{
    assert_null(nearest("sector"));
    assert_null(nearest(""));
    assert_null(nearest("h"));
    assert_null(nearest("htXX")); /* of four letters one may differ */
    assert_null(nearest("podSelecXXXX"));
    assert_null(nearest("xxx"));
}

static void of_two_that_are_as_near_none_is_meant(void **state UNUSED)
{
    struct near n = NEAR("minimal-c");

    near_try(&n, "minimal-a");
    assert_string_equal(near_word(&n), "minimal-a");
    near_try(&n, "minimal-a"); /* the same one again */
    assert_string_equal(near_word(&n), "minimal-a");
    near_try(&n, "minimal-b");
    assert_null(near_word(&n));
    near_try(&n, "minimal-c"); /* a nearer one decides */
    assert_string_equal(near_word(&n), "minimal-c");
}

static void long_words_cost_nothing(void **state UNUSED)
{
    char longest[NEAR_BYTES_MAX + 1], longer[NEAR_BYTES_MAX + 2];
    struct near n = NEAR(longest), m = NEAR(longer);

    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    near_try(&n, longer);
    assert_null(near_word(&n));
    near_try(&n, longest);
    assert_string_equal(near_word(&n), longest);
    near_try(&m, longest);
    assert_null(near_word(&m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slip_of_the_pen_is_near),
        cmocka_unit_test(another_word_is_not),
        cmocka_unit_test(of_two_that_are_as_near_none_is_meant),
        cmocka_unit_test(long_words_cost_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
