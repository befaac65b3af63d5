/* SPDX-License-Identifier: Apache-2.0 */
#include "http/negotiate.h"
#include "tests/unit/unit.h"

#define OPENMETRICS BYTES("application/openmetrics-text")
#define PLAIN       BYTES("text/plain")

#define quality(list, wanted) negotiate_quality(BYTES(list), wanted, false)

/* RFC 9110 12.5.1: the most specific range counts, wherever it stands. */
static void media_types(void **state UNUSED)
{
    assert_int_equal(quality("text/plain", PLAIN), 1000);
    assert_int_equal(quality("TEXT/Plain", PLAIN), 1000);
    assert_int_equal(quality("text/html", PLAIN), 0);
    assert_int_equal(quality("", PLAIN), 0);
    assert_int_equal(quality("*/*;q=0.9, text/*;q=0.5, text/plain;q=0.25", PLAIN), 250);
    assert_int_equal(quality("text/plain;q=0.25, text/*;q=0.5, */*", PLAIN), 250);
    assert_int_equal(quality("*/*;q=0.9, text/*;q=0.5", PLAIN), 500);
    assert_int_equal(quality("*/*;q=0.9, image/*;q=0.5", PLAIN), 900);
    assert_int_equal(quality("text/plain;version=0.0.4;q=0.3", PLAIN), 300);
    assert_int_equal(quality("text/plain ; Q = 0.3", PLAIN), 300);
    assert_int_equal(negotiate_quality(BYTES("*/*"), PLAIN, true), 0);
    assert_int_equal(negotiate_quality(BYTES("text/*"), PLAIN, true), 0);
}

/* What Prometheus sends. */
static void prometheus(void **state UNUSED)
{
    static const char list[] = "application/openmetrics-text;version=1.0.0,application/openmetrics-"
                               "text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

    assert_int_equal(negotiate_quality(bytes_str(list), OPENMETRICS, true), 1000);
    assert_int_equal(negotiate_quality(bytes_str(list), PLAIN, false), 500);
}

static void codings(void **state UNUSED)
{
    assert_int_equal(quality("gzip", BYTES("gzip")), 1000);
    assert_int_equal(quality("deflate, gzip;q=0", BYTES("gzip")), 0);
    assert_int_equal(quality("*;q=0.5", BYTES("gzip")), 500);
    assert_int_equal(quality("*, gzip;q=0.0", BYTES("gzip")), 0);
    assert_int_equal(quality("gzipped", BYTES("gzip")), 0);
}

/* RFC 9110 12.4.2. */
static void qualities(void **state UNUSED)
{
    assert_int_equal(quality("a;q=1", BYTES("a")), 1000);
    assert_int_equal(quality("a;q=1.000", BYTES("a")), 1000);
    assert_int_equal(quality("a;q=0", BYTES("a")), 0);
    assert_int_equal(quality("a;q=0.", BYTES("a")), 0);
    assert_int_equal(quality("a;q=0.123", BYTES("a")), 123);
    assert_int_equal(quality("a;q=1.5", BYTES("a")), 1000);
    assert_int_equal(quality("a;q=0.1234", BYTES("a")), 1000); /* not of the form */
    assert_int_equal(quality("a;q=x", BYTES("a")), 1000);
    assert_int_equal(quality("a;q=", BYTES("a")), 1000);
    assert_int_equal(quality("a;q", BYTES("a")), 1000);
    assert_int_equal(quality("a;q=0.x", BYTES("a")), 1000);
    assert_int_equal(quality(";;q=0.5,,a;q=0.5", BYTES("a")), 500);
}

static void several_fields(void **state UNUSED)
{
    struct arena arena;
    struct fields f;

    arena_init(&arena, 1 << 16);
    fields_init(&f, &arena);
    assert_int_equal(negotiate_fields(&f, BYTES("accept"), PLAIN, false), 0);
    assert_int_equal(fields_add(&f, BYTES("accept"), BYTES("*/*;q=0.1")), 0);
    assert_int_equal(fields_add(&f, BYTES("accept"), BYTES("text/plain;q=0.7")), 0);
    assert_int_equal(fields_add(&f, BYTES("accept-encoding"), BYTES("text/plain;q=0.9")), 0);
    assert_int_equal(negotiate_fields(&f, BYTES("accept"), PLAIN, false), 700);
    arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(media_types), cmocka_unit_test(prometheus),     cmocka_unit_test(codings),
        cmocka_unit_test(qualities),   cmocka_unit_test(several_fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
