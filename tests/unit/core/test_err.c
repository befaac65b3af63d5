/* SPDX-License-Identifier: Apache-2.0 */
#include "core/err.h"
#include "tests/unit/unit.h"

#include <errno.h>

static void own_codes_have_name_text_and_category(void **state UNUSED)
{
    assert_int_equal(err_category(E_AGAIN), ERR_BLOCKED);
    assert_int_equal(err_category(E_TLS_IDENTITY), ERR_POLICY);
    assert_int_equal(err_category(E_INTERNAL), ERR_SYSTEM);
    assert_string_equal(err_name(E_H1_BAD_HEAD), "h1_bad_head");
    assert_string_equal(err_text(E_LIMIT), "a configured limit was reached");
}

static void own_codes_lie_below_every_errno(void **state UNUSED)
{
    assert_true(E_AGAIN < -4095);
    assert_int_equal(E_INTERNAL, -(ERR_BASE + ERR_COUNT - 1));
}

static void system_codes_have_name_text_and_category(void **state UNUSED)
{
    assert_int_equal(err_category(-EAGAIN), ERR_BLOCKED);
    assert_int_equal(err_category(-ECONNRESET), ERR_CLOSED);
    assert_int_equal(err_category(-EPIPE), ERR_CLOSED);
    assert_int_equal(err_category(-ETIMEDOUT), ERR_TIMEOUT);
    assert_int_equal(err_category(-EMFILE), ERR_RESOURCE);
    assert_int_equal(err_category(-EINVAL), ERR_SYSTEM);
    assert_string_equal(err_name(-ECONNREFUSED), "ECONNREFUSED");
    assert_string_equal(err_text(-ENOENT), "No such file or directory");
}

static void unknown_codes_are_named_so(void **state UNUSED)
{
    int beyond = -(ERR_BASE + ERR_COUNT);

    assert_string_equal(err_name(beyond), "unknown");
    assert_string_equal(err_text(beyond), "unknown error");
    assert_int_equal(err_category(beyond), ERR_SYSTEM);
    assert_string_equal(err_name(-4000), "unknown");
    assert_string_equal(err_name(0), "ok");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_codes_have_name_text_and_category),
        cmocka_unit_test(own_codes_lie_below_every_errno),
        cmocka_unit_test(system_codes_have_name_text_and_category),
        cmocka_unit_test(unknown_codes_are_named_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
