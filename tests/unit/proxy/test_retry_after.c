/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "core/clock.h"
#include "proxy/retry_after.h"

/* Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 5.6.7 */
#define EXAMPLE_S UINT64_C(784111777)
#define YEAR_S    (UINT64_C(366) * 86400)

static uint64_t seconds(const char *value, uint64_t now_s)
{
    return retry_after_parse(bytes_str(value), now_s * NS_PER_S + 1) / NS_PER_S;
}

/* RFC 9110 10.2.3: delay-seconds or an HTTP-date. */
static void seconds_and_dates(void **state)
{
    (void)state;
    assert_int_equal(seconds("0", EXAMPLE_S), 0);
    assert_int_equal(seconds("120", EXAMPLE_S), 120);
    assert_int_equal(seconds("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_S - 90), 90);
    assert_int_equal(seconds("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_S), 0);
    assert_int_equal(seconds("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_S + 5), 0);
}

static void dates_of_many_years(void **state)
{
    (void)state;
    for (uint64_t at_s = 2 * YEAR_S; at_s < 200 * YEAR_S; at_s += 86400 * 13 + 12345) {
        char date[30];

        http_date(at_s * NS_PER_S, date);
        assert_int_equal(seconds(date, at_s - 77), 77);
    }
}

static void a_year_is_the_most(void **state)
{
    (void)state;
    assert_int_equal(seconds("18446744073709551615", EXAMPLE_S), YEAR_S);
    assert_int_equal(seconds("Fri, 31 Dec 9999 23:59:59 GMT", EXAMPLE_S), YEAR_S);
    assert_int_equal(seconds("18446744073709551616", EXAMPLE_S), 0); /* no number of 64 bits */
}

static void what_is_malformed_is_no_hint(void **state)
{
    static const char *const bad[] = {
        "",
        "-5",
        "1.5",
        " 5",
        "soon",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08-49:37 GMT",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(seconds(bad[i], 0), 0);
    }
}

static uint64_t hint(const char *name, const char *value, bool is_grpc)
{
    struct arena arena;
    struct fields f;
    uint64_t ns;

    arena_init(&arena, 4096);
    fields_init(&f, &arena);
    assert_int_equal(fields_add(&f, bytes_str(name), bytes_str(value)), 0);
    ns = retry_after_ns(&f, is_grpc);
    arena_clear(&arena);
    return ns;
}

/* Wire 6.1: which field counts depends on the protocol. */
static void each_protocol_has_its_field(void **state)
{
    (void)state;
    assert_int_equal(hint("retry-after", "3", false), 3 * NS_PER_S);
    assert_int_equal(hint("retry-after", "3", true), 0);
    assert_int_equal(hint("grpc-retry-pushback-ms", "250", true), 250 * NS_PER_MS);
    assert_int_equal(hint("grpc-retry-pushback-ms", "250", false), 0);
    assert_int_equal(hint("grpc-retry-pushback-ms", "-1", true), 0);
    assert_int_equal(hint("grpc-retry-pushback-ms", "99999999999999", true), YEAR_S * NS_PER_S);
    assert_true(http_is_busy(429) && http_is_busy(503) && !http_is_busy(500));
    assert_true(grpc_is_busy(8) && grpc_is_busy(14) && !grpc_is_busy(-1) && !grpc_is_busy(13));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_and_dates),
        cmocka_unit_test(dates_of_many_years),
        cmocka_unit_test(a_year_is_the_most),
        cmocka_unit_test(what_is_malformed_is_no_hint),
        cmocka_unit_test(each_protocol_has_its_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
