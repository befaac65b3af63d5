/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"
#include "tests/unit/unit.h"

static void assert_becomes(const char *metrics, const char *want)
{
    struct text out;

    text_init(&out, 65536);
    metrics_obfuscate(bytes_str(metrics), &out);
    assert_string_equal(out.at != NULL ? out.at : "", want);
    text_clear(&out);
}

/* The hashes are the first four bytes of SHA-256, as sha256sum prints them. */
static void values_that_name_somebody_are_hashed(void **state UNUSED)
{
    assert_becomes("# HELP request_total authority=\"kept\"\n"
                   "request_total{direction=\"inbound\",authority=\"abc\",client_id=\"\",status_"
                   "code=\"200\"} 7\n"
                   "up 1\n",
                   "# HELP request_total authority=\"kept\"\n"
                   "request_total{direction=\"inbound\",authority=\"ba7816bf\",client_id=\"\","
                   "status_code=\"200\"} 7\n"
                   "up 1\n");
    assert_becomes("a{dst=\"abc\"} 1\nb{dst=\"abc\"} 1",
                   "a{dst=\"ba7816bf\"} 1\nb{dst=\"ba7816bf\"} 1");
}

static void quotes_and_commas_in_values_are_no_ends(void **state UNUSED)
{
    assert_becomes("a{x=\"1\\\",authority=\\\"q\",authority=\"abc\"} 1\n",
                   "a{x=\"1\\\",authority=\\\"q\",authority=\"ba7816bf\"} 1\n");
    assert_becomes("a{x=\"=\",authority=\"abc\"} 1\n", "a{x=\"=\",authority=\"ba7816bf\"} 1\n");
}

static void what_is_cut_off_stays_short(void **state UNUSED)
{
    assert_becomes("", "");
    assert_becomes("a{authority=\"", "a{authority=\"");
    assert_becomes("a{authority=\"abc", "a{authority=\"ba7816bf");
    assert_becomes("a{x=\"\\", "a{x=\"\\");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_that_name_somebody_are_hashed),
        cmocka_unit_test(quotes_and_commas_in_values_are_no_ends),
        cmocka_unit_test(what_is_cut_off_stays_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
