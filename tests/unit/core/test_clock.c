/* SPDX-License-Identifier: Apache-2.0 */
#include "core/clock.h"
#include "core/err.h"
#include "core/rand.h"
#include "tests/unit/unit.h"

static void clocks_run(void **state UNUSED)
{
    uint64_t before = clock_mono_ns();

    assert_true(clock_mono_ns() >= before);
    assert_true(clock_wall_ns() > UINT64_C(1700000000) * NS_PER_S);
    assert_true(clock_cpu_ns() > 0);
}

static void dates_are_printed(void **state UNUSED)
{
    char text[32];

    clock_format_rfc3339(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
    clock_format_rfc3339(UINT64_C(1785585600) * NS_PER_S + 123456789, text);
    assert_string_equal(text, "2026-08-01T12:00:00.123456Z");
    clock_format_rfc3339(UINT64_C(951782400) * NS_PER_S, text);
    assert_string_equal(text, "2000-02-29T00:00:00.000000Z");
    clock_format_rfc3339(UINT64_MAX, text);
    assert_string_equal(text, "2554-07-21T23:34:33.709551Z");
}

static void expect_date(const char *text, uint64_t seconds, uint64_t ns)
{
    uint64_t got = 1;

    assert_int_equal(clock_parse_rfc3339(bytes_str(text), &got), 0);
    assert_true(got == seconds * NS_PER_S + ns);
}

/* RFC 3339 section 5.6 and 5.8 */
static void dates_are_read(void **state UNUSED)
{
    expect_date("1970-01-01T00:00:00Z", 0, 0);
    expect_date("2026-08-01T12:00:00.5Z", 1785585600, 500000000);
    expect_date("2026-08-01t14:00:00.000000001+02:00", 1785585600, 1);
    expect_date("2026-08-01 07:30:00-04:30", 1785585600, 0);
    expect_date("2026-08-01T12:00:00.1234567899z", 1785585600, 123456789);
    expect_date("1990-12-31T23:59:60Z", 662688000, 0); /* a leap second */
    expect_date("2000-02-29T00:00:00Z", 951782400, 0);
}

static void malformed_dates_are_refused(void **state UNUSED)
{
    static const char *const malformed[] = {
        "",
        "2026-08-01",
        "2026-08-01T12:00Z",
        "2026-08-01T12:00:00",
        "2026-08-01T12:00:00.Z",
        "2026-08-01T12:00:00Zx",
        "2026-08-01T12:00:00+0200",
        "2026-08-01T12:00:00+24:00",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "1900-02-29T12:00:00Z",
        "2026-08-01T24:00:00Z",
        "2026-08-01T12:60:00Z",
        "2026-08-01T12:00:61Z",
        "-026-08-01T12:00:00Z",
        "2026-8-01T12:00:00Z",
    };
    uint64_t got = 1;

    for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
        assert_int_equal(clock_parse_rfc3339(bytes_str(malformed[i]), &got), E_SYNTAX);
    }
    assert_int_equal(clock_parse_rfc3339(BYTES("0001-01-01T00:00:00Z"), &got), E_RANGE);
    assert_int_equal(clock_parse_rfc3339(BYTES("1970-01-01T00:00:00+01:00"), &got), E_RANGE);
    assert_int_equal(clock_parse_rfc3339(BYTES("2600-01-01T00:00:00Z"), &got), E_RANGE);
    assert_true(got == 1);
}

static void what_is_printed_reads_back(void **state UNUSED)
{
    struct rand r;

    rand_seed(&r, 3);
    for (int i = 0; i < 20000; i++) {
        uint64_t at = rand_below(&r, UINT64_C(18000000000)) * NS_PER_S, got;
        char text[32];

        clock_format_rfc3339(at, text);
        assert_int_equal(clock_parse_rfc3339(bytes_str(text), &got), 0);
        assert_true(got == at);
    }
}

static void durations(void **state UNUSED)
{
    static const char *const malformed[] = {"",    "1",   "00", "s",     "-1s", "1.5s",
                                            "1 s", "1s ", "1S", "1m30s", "1us", "1sec"};
    uint64_t got = 7;

    assert_int_equal(clock_parse_duration(BYTES("0"), &got), 0);
    assert_true(got == 0);
    assert_int_equal(clock_parse_duration(BYTES("250ms"), &got), 0);
    assert_true(got == 250 * NS_PER_MS);
    assert_int_equal(clock_parse_duration(BYTES("10s"), &got), 0);
    assert_true(got == 10 * NS_PER_S);
    assert_int_equal(clock_parse_duration(BYTES("2m"), &got), 0);
    assert_true(got == 120 * NS_PER_S);
    assert_int_equal(clock_parse_duration(BYTES("1h"), &got), 0);
    assert_true(got == 3600 * NS_PER_S);
    assert_int_equal(clock_parse_duration(BYTES("365d"), &got), 0);
    assert_true(got == UINT64_C(365) * 86400 * NS_PER_S);
    assert_int_equal(clock_parse_duration(BYTES("18446744073709551615ms"), &got), E_RANGE);
    assert_int_equal(clock_parse_duration(BYTES("300000d"), &got), E_RANGE);
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
        assert_int_equal(clock_parse_duration(bytes_str(malformed[i]), &got), E_SYNTAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_run),
        cmocka_unit_test(dates_are_printed),
        cmocka_unit_test(dates_are_read),
        cmocka_unit_test(malformed_dates_are_refused),
        cmocka_unit_test(what_is_printed_reads_back),
        cmocka_unit_test(durations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
