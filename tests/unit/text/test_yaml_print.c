/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing: the shape that kubectl's users know, and what is read again is what was written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/text.h"
#include "text/yaml.h"

static void expect(const char *json, unsigned indent, const char *want)
{
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    struct text t;

    assert_non_null(value);
    text_init(&t, 1 << 20);
    yaml_print(&t, value, indent);
    assert_int_equal(t.err, 0);
    assert_string_equal(t.at, want);
    text_clear(&t);
    json_decref(value);
}

static void test_shape(void **state)
{
    (void)state;
    expect("{\"a\":1,\"b\":[{\"c\":\"x\",\"d\":[\"z\",[]]},2],\"e\":{},\"f\":null}", 2,
           "  a: 1\n  b:\n  - c: x\n    d:\n    - z\n    - []\n  - 2\n  e: {}\n  f: null\n");
    expect("\"plain\"", 0, "plain\n");
    expect("[]", 4, "    []\n");
    expect("[[1,2],[3]]", 0, "- - 1\n  - 2\n- - 3\n");
    expect("{\"t\":\"a\\nb\\n\",\"u\":\"a\\n\\nb\",\"v\":\"a\\n\\n\"}", 0,
           "t: |\n  a\n  b\nu: |-\n  a\n\n  b\nv: |+\n  a\n\n");
}

static void test_quotes(void **state)
{
    (void)state;
    expect("[\"yes\",\"y\",\"1\",\"017\",\"1_0\",\"2001-12-14\",\"12:30\",\"null\",\"\",\"~\",\"."
           "nan\",\"1e3\"]",
           0,
           "- \"yes\"\n- \"y\"\n- \"1\"\n- \"017\"\n- \"1_0\"\n- \"2001-12-14\"\n- \"12:30\"\n- "
           "\"null\"\n- \"\"\n"
           "- \"~\"\n- \".nan\"\n- \"1e3\"\n");
    expect("[\"--flag\",\"-x\",\"-\",\"- a\",\"a: b\",\"a:b\",\"a "
           "#b\",\"a#b\",\"*a\",\"{a\",\"100m\",\"a:\",\"---\"]",
           0,
           "- \"--flag\"\n- -x\n- \"-\"\n- \"- a\"\n- \"a: b\"\n- a:b\n- \"a #b\"\n- a#b\n- "
           "\"*a\"\n- \"{a\"\n- 100m\n"
           "- \"a:\"\n- \"---\"\n");
    expect("[\"\\u007f\\u0085\\u2028\\ufeff\\t\",\"\xc3\xa4\"]", 0,
           "- \"\\u007f\\u0085\\u2028\\ufeff\\t\"\n- \"\xc3\xa4\"\n");
    expect("{\"yes\":1,\"a/b\":2}", 0, "\"yes\": 1\na/b: 2\n");
}

static void round_trip(const json_t *value, bool flow)
{
    struct text t;
    struct arena a;
    struct yaml_document *d = NULL;
    char problem[200] = "";
    json_t *got;

    text_init(&t, 1 << 20);
    if (flow) {
        yaml_print_flow(&t, value);
        text_char(&t, '\n');
    } else {
        yaml_print(&t, value, 0);
    }
    text_str(&t, "---\n"); /* forces the YAML reader on the flow form */
    arena_init(&a, 1 << 24);
    if (yaml_parse(&a, text_bytes(&t), &d, problem, sizeof(problem)) != 0) {
        fail_msg("%s\n%s", t.at, problem);
    }
    got = yaml_to_json(d->root);
    if (!json_equal(got, value)) {
        fail_msg("%s", t.at);
    }
    json_decref(got);
    arena_clear(&a);
    text_clear(&t);
}

static void test_round_trip_of_short_texts(void **state)
{
    static const char alphabet[] = " \n\t:-#'\"\\ya0.,[]{}&*!|>%@`?~=+_e\x7f";
    size_t n = sizeof(alphabet) - 1;

    (void)state;
    for (size_t i = 0; i < n * n * n; i++) {
        char s[] = {alphabet[i % n], alphabet[i / n % n], alphabet[i / n / n], '\0'};

        for (size_t skip = 0; skip < 3; skip++) {
            json_t *value = json_pack("{s:[s], s:s}", s + skip, s + skip, "k", s + skip);

            round_trip(value, false);
            if (i % 7 == 0) {
                round_trip(value, true);
            }
            json_decref(value);
            if (i % 11 != 0) {
                break; /* the shorter ones come up often enough */
            }
        }
    }
}

static void test_round_trip_of_numbers(void **state)
{
    json_t *value = json_pack("[I, I, f, f, f, b, n]", (json_int_t)INT64_MIN, (json_int_t)INT64_MAX,
                              0.1, 1e300, -2.5e-7, 1);

    (void)state;
    round_trip(value, false);
    round_trip(value, true);
    json_decref(value);
}

static void test_limits(void **state)
{
    json_t *value = json_array();
    struct text t;

    (void)state;
    for (unsigned i = 0; i < 150; i++) {
        value = json_pack("[o]", value);
    }
    text_init(&t, 1 << 20);
    yaml_print(&t, value, 0);
    assert_int_equal(t.err, E_LIMIT);
    text_clear(&t);
    json_decref(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_quotes),
        cmocka_unit_test(test_round_trip_of_short_texts),
        cmocka_unit_test(test_round_trip_of_numbers),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
