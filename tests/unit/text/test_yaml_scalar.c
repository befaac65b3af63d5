/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What plain scalars mean. The table is what sigs.k8s.io/yaml 1.4.0, which kubectl uses, answers
 * for the same texts; where ours must differ, the row says why.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/text.h"
#include "text/yaml.h"

static const struct row {
    const char *plain, *json;
} rows[] = {
    {"y", "true"},
    {"Y", "true"},
    {"n", "false"},
    {"N", "false"},
    {"yes", "true"},
    {"Yes", "true"},
    {"YES", "true"},
    {"yEs", "\"yEs\""},
    {"no", "false"},
    {"on", "true"},
    {"On", "true"},
    {"off", "false"},
    {"OFF", "false"},
    {"true", "true"},
    {"True", "true"},
    {"TRUE", "true"},
    {"tRue", "\"tRue\""},
    {"false", "false"},
    {"null", "null"},
    {"Null", "null"},
    {"NULL", "null"},
    {"~", "null"},
    {"", "null"},
    {"0", "0"},
    {"-0", "0"},
    {"+0", "0"},
    {"007", "7"},
    {"017", "15"},
    {"-017", "-15"},
    {"+017", "15"},
    {"08", "8"},
    {"09.5", "9.5"},
    {"0o17", "15"},
    {"0O17", "15"},
    {"0x1F", "31"},
    {"0X1f", "31"},
    {"-0x1f", "-31"},
    {"0b101", "5"},
    {"-0b101", "-5"},
    {"0B11", "3"},
    {"+0b1", "1"},
    {"1_000", "1000"},
    {"_1", "\"_1\""},
    {"1__0", "10"},
    {"1_000.5", "1000.5"},
    {"0x_ff", "255"},
    {"0x", "\"0x\""},
    {"1e3", "1000"},
    {"1E3", "1000"},
    {"1e+3", "1000"},
    {"1e400", "\"1e400\""},
    {"1.", "1"},
    {".5", "0.5"},
    {".5e3", "500"},
    {"-.5", "-0.5"},
    {"+.5", "0.5"},
    {".", "\".\""},
    {"..", "\"..\""},
    {"+", "\"+\""},
    {"1.5", "1.5"},
    {"8.0", "8"},
    {"1e21", "1e+21"},
    {"123456789012345678901234567890", "1.2345678901234568e+29"},
    {"18446744073709551615", "18446744073709551615"},
    {"9223372036854775807", "9223372036854775807"},
    {"9223372036854775808", "9223372036854775808"},
    {"-9223372036854775808", "-9223372036854775808"},
    {"-9223372036854775809", "-9223372036854776000"},
    {"12:30", "\"12:30\""},
    {"190:20:30", "\"190:20:30\""},
    {"2001-12-14", "\"2001-12-14\""},
    {"2001-12-14t21:59:43.10-05:00", "\"2001-12-14t21:59:43.10-05:00\""},
    {"1:2", "\"1:2\""},
    {"0.1", "0.1"},
    {"0x1p4", "\"0x1p4\""},
    {"1e", "\"1e\""},
    {"1_e3", "1000"},
    {"100m", "\"100m\""},
    {"1Gi", "\"1Gi\""},
    {"12abc", "\"12abc\""},
    {"infinity", "\"infinity\""},
    {"nan", "\"nan\""},
    {"=", "\"=\""},
    {"<<", "\"<<\""},
    {"1.0e2", "100"},
    {"1e-7", "1e-7"},
    {"0.000001", "0.000001"},
    {"1e20", "100000000000000000000"},
    {"1e22", "1e+22"},
    {"100000000000000000000.0", "100000000000000000000"},
    {"-0.0", "-0"},
    {"0777777777777777777777777", "7.777777777777778e+23"},
    {"2e-400", "0"},
    {"١", "\"١\""},
    {"0.5e", "\"0.5e\""},
    {"0b12", "\"0b12\""},
    {"0b", "\"0b\""},
    {"0o8", "\"0o8\""},
    {"-0o17", "-15"},
    {"+1", "1"},
    {"0x7fffffffffffffff", "9223372036854775807"},
    {"0xffffffffffffffff", "18446744073709551615"},
    {"-0x8000000000000000", "-9223372036854775808"},
    {".5_0", "0.5"},
    {"._5", "\"._5\""},
    {".5_", "\".5_\""},
    {"1_e1_0", "10000000000"},
    /* Go cannot write these as JSON at all; here they stay words. */
    {".nan", "\".nan\""},
    {"-.inf", "\"-.inf\""},
    {"+.INF", "\"+.INF\""},
};

static void test_as_kubectl(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *got = yaml_resolve(bytes_str(rows[i].plain));
        json_t *want = json_loads(rows[i].json, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
        char *text = json_dumps(got, JSON_ENCODE_ANY);
        bool same = json_is_number(want)
                        ? json_number_value(got) == json_number_value(want) && json_is_number(got)
                        : json_equal(got, want);

        if (!same) {
            fail_msg("%s is %s, not %s", rows[i].plain, text, rows[i].json);
        }
        free(text);
        json_decref(got);
        json_decref(want);
    }
}

static void test_whole_numbers_are_integers(void **state)
{
    static const char *const whole[] = {
        "8.0", "1e3", "08", "1.", "9223372036854775807", "-0x8000000000000000"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        json_t *got = yaml_resolve(bytes_str(whole[i]));

        assert_true(json_is_integer(got));
        json_decref(got);
    }
}

static void test_hostile_lengths(void **state)
{
    char digits[2000];
    json_t *got;

    (void)state;
    memset(digits, '7', sizeof(digits));
    got = yaml_resolve(bytes_of(digits, sizeof(digits)));
    assert_true(json_is_string(got));
    json_decref(got);
    got = yaml_resolve(bytes_of(digits, 500)); /* beyond a double */
    assert_true(json_is_string(got));
    json_decref(got);
    got = yaml_resolve(bytes_of("1\0002", 3));
    assert_true(json_is_string(got) && json_string_length(got) == 3);
    json_decref(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_kubectl),
        cmocka_unit_test(test_whole_numbers_are_integers),
        cmocka_unit_test(test_hostile_lengths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
