/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "core/alloc.h"
#include "tests/unit/unit.h"

static void columns_are_as_wide_as_their_widest_cell(void **state UNUSED)
{
    static const char *const heads[] = {"NAME", "MESHED", "RPS"};
    struct table *t = table_new(heads, 3, 1);
    struct text out;

    text_init(&out, 4096);
    table_cell(t, "%s", "a-long-name");
    table_cell(t, "%d/%d", 1, 1);
    table_cell(t, "%.1frps", 1234.5);
    table_cell(t, "b");
    table_cell(t, "-");
    table_cell(t, "-");
    table_print(t, &out);
    assert_string_equal(out.at, "NAME          MESHED         RPS\n"
                                "a-long-name      1/1   1234.5rps\n"
                                "b                  -           -\n");
    text_clear(&out);
    table_free(t);
}

static void characters_count_not_bytes(void **state UNUSED)
{
    static const char *const heads[] = {"A", "B"};
    struct table *t = table_new(heads, 2, 2);
    struct text out;

    text_init(&out, 4096);
    table_cell(t, "√ö");
    table_cell(t, "x");
    table_cell(t, "abc");
    table_cell(t, "y");
    table_print(t, &out);
    /* Left-aligned to the end: nothing is padded behind the last column. */
    assert_string_equal(out.at, "A     B\n√ö    x\nabc   y\n");
    text_clear(&out);
    table_free(t);
}

static void a_table_grows(void **state UNUSED)
{
    static const char *const heads[] = {"N"};
    struct table *t = table_new(heads, 1, 1);
    struct text out;
    size_t lines = 0;

    text_init(&out, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        table_cell(t, "%d", i);
    }
    table_print(t, &out);
    for (size_t i = 0; i < out.len; i++) {
        lines += out.at[i] == '\n';
    }
    assert_int_equal(lines, 1001);
    assert_true(bytes_ends(text_bytes(&out), BYTES("\n999\n")));
    text_clear(&out);
    table_free(t);
}

static char *within(const struct table *t, size_t columns)
{
    struct text to;
    char *out = NULL;

    text_init(&to, 4096);
    table_print_within(t, columns, &to);
    assert_int_equal(text_finish(&to, &out), 0);
    return out;
}

/* First the blanks between columns go, then long heads are broken; after that nothing can be done. */
static void a_narrow_terminal(void **state UNUSED)
{
    static const char *const heads[] = {"NAME", "LATENCY_P50", "READ_BYTES/SEC"};
    struct table *t = table_new(heads, 3, 1);
    static const struct {
        size_t columns;
        const char *shown;
    } cases[] = {
        {35, "NAME   LATENCY_P50   READ_BYTES/SEC\n"
             "web            1ms          12.0B/s\n"},
        {34, "NAME  LATENCY_P50  READ_BYTES/SEC\n"
             "web           1ms         12.0B/s\n"},
        {31, "NAME LATENCY_P50 READ_BYTES/SEC\n"
             "web          1ms        12.0B/s\n"},
        {30, "NAME LATENCY      READ\n"
             "         P50 BYTES/SEC\n"
             "web      1ms   12.0B/s\n"},
        {5, "NAME LATENCY      READ\n"
            "         P50 BYTES/SEC\n"
            "web      1ms   12.0B/s\n"},
    };

    table_cell(t, "web");
    table_cell(t, "1ms");
    table_cell(t, "12.0B/s");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *shown = within(t, cases[i].columns);

        assert_string_equal(shown, cases[i].shown);
        mem_free(shown);
    }
    table_free(t);
}

/* Broken heads that begin with one word share it, and their columns are as wide as what stands below. */
static void broken_heads_share_their_first_word(void **state UNUSED)
{
    static const char *const heads[] = {"NAME", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "TCP_CONN"};
    struct table *t = table_new(heads, 5, 1);
    char *shown;

    for (int i = 0; i < 5; i++) {
        table_cell(t, "%s", i == 0 ? "web" : i == 3 ? "1200ms" : "1ms");
    }
    shown = within(t, 30);
    assert_string_equal(shown, "NAME     LATENCY     TCP\n"
                               "     P50 P95    P99 CONN\n"
                               "web  1ms 1ms 1200ms  1ms\n");
    mem_free(shown);
    table_free(t);
}

/* Nor are the columns narrower than the word; and nothing stands behind the last one. */
static void a_shared_word_is_not_cut(void **state UNUSED)
{
    static const char *const heads[] = {"N", "EFFECTIVE_A", "EFFECTIVE_B"};
    struct table *t = table_new(heads, 3, 1);
    char *shown;

    for (int i = 0; i < 3; i++) {
        table_cell(t, "%d", i);
    }
    shown = within(t, 5);
    assert_string_equal(shown, "N EFFECTIVE\n"
                               "  A       B\n"
                               "0 1       2\n");
    mem_free(shown);
    table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(characters_count_not_bytes),
        cmocka_unit_test(a_table_grows),
        cmocka_unit_test(a_narrow_terminal),
        cmocka_unit_test(broken_heads_share_their_first_word),
        cmocka_unit_test(a_shared_word_is_not_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
