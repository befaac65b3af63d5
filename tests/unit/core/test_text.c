/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/err.h"
#include "core/text.h"
#include "tests/unit/unit.h"

static void pieces_add_up(void **state UNUSED)
{
    struct text t;
    AUTOFREE char *done = NULL;

    text_init(&t, 1000);
    assert_int_equal(text_bytes(&t).len, 0);
    text_str(&t, "a");
    text_char(&t, '-');
    text_add(&t, bytes_of("bcd", 2));
    text_add(&t, BYTES_NONE);
    text_printf(&t, "%d%s", 12, "x");
    assert_string_equal(t.at, "a-bc12x");
    assert_int_equal(text_finish(&t, &done), 0);
    assert_string_equal(done, "a-bc12x");
    text_clear(&t);
    text_clear(&t);
}

static void an_empty_text_is_a_string(void **state UNUSED)
{
    struct text t;
    AUTOFREE char *done = NULL;

    text_init(&t, 0);
    assert_int_equal(text_finish(&t, &done), 0);
    assert_string_equal(done, "");
}

static void the_limit_is_sticky_and_pieces_stay_whole(void **state UNUSED)
{
    struct text t;
    char *done = NULL;

    text_init(&t, 5);
    text_str(&t, "abc");
    text_str(&t, "def");
    assert_int_equal(t.err, E_LIMIT);
    text_char(&t, 'x'); /* would fit */
    assert_string_equal(t.at, "abc");
    assert_int_equal(text_finish(&t, &done), E_LIMIT);
    assert_null(done);
    assert_null(t.at);
    text_printf(&t, "%s", "12345");
    text_printf(&t, "%s", "6");
    assert_int_equal(t.err, E_LIMIT);
    assert_string_equal(t.at, "12345");
    text_reset(&t);
    assert_string_equal(t.at, "");
    text_str(&t, "fresh");
    assert_int_equal(t.err, 0);
    text_clear(&t);
}

static void long_prints_grow_the_buffer(void **state UNUSED)
{
    struct text t;

    text_init(&t, 100000);
    for (int i = 0; i < 10; i++) {
        text_printf(&t, "%0*d", 777 * i, i);
    }
    assert_int_equal(t.err, 0);
    assert_int_equal(t.len, 777 * 45 + 1); /* a width of 0 still prints its digit */
    assert_int_equal(strlen(t.at), t.len);
    text_clear(&t);
}

static void a_fixed_buffer_is_never_left(void **state UNUSED)
{
    char buffer[8];
    struct text t;

    text_init_fixed(&t, buffer, sizeof(buffer));
    assert_string_equal(buffer, "");
    text_str(&t, "1234");
    text_printf(&t, "%d", 567);
    assert_ptr_equal(t.at, buffer);
    assert_string_equal(buffer, "1234567");
    text_char(&t, '8');
    assert_int_equal(t.err, E_LIMIT);
    assert_string_equal(buffer, "1234567");
    text_reset(&t);
    text_printf(&t, "%s", "12345678");
    assert_int_equal(t.err, E_LIMIT);
    assert_string_equal(buffer, "");
}

static void expect_json(struct bytes from, const char *want)
{
    struct text t;

    text_init(&t, 1000);
    text_json(&t, from);
    assert_string_equal(t.at, want);
    text_clear(&t);
}

/* RFC 8259 section 7 */
static void json_strings_are_escaped(void **state UNUSED)
{
    expect_json(BYTES_NONE, "\"\"");
    expect_json(BYTES("plain"), "\"plain\"");
    expect_json(BYTES("a\"b\\c/"), "\"a\\\"b\\\\c/\"");
    expect_json(BYTES("\b\t\n\f\r"), "\"\\b\\t\\n\\f\\r\"");
    expect_json(BYTES("\0\v\x1f\x7f"), "\"\\u0000\\u000b\\u001f\x7f\"");
    expect_json(BYTES("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
                "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

#define BAD "\xef\xbf\xbd"

/* RFC 3629 section 4 */
static void json_strings_are_utf8_whatever_comes(void **state UNUSED)
{
    expect_json(BYTES("a\xff"
                      "b"),
                "\"a" BAD "b\"");
    expect_json(BYTES("\xc3"), "\"" BAD "\""); /* cut short */
    expect_json(BYTES("\xe2\x82"), "\"" BAD BAD "\"");
    expect_json(BYTES("\xc0\xaf"), "\"" BAD BAD "\""); /* overlong */
    expect_json(BYTES("\xe0\x80\xaf"), "\"" BAD BAD BAD "\"");
    expect_json(BYTES("\xed\xa0\x80"), "\"" BAD BAD BAD "\"");         /* surrogate */
    expect_json(BYTES("\xf4\x90\x80\x80"), "\"" BAD BAD BAD BAD "\""); /* beyond U+10FFFF */
    expect_json(BYTES("\xc3"
                      "\""),
                "\"" BAD "\\\"\"");
}

static void expect_utf8(struct bytes from, size_t bytes_max, const char *want)
{
    struct text t;

    text_init(&t, 1000);
    text_str(&t, ">");
    text_utf8(&t, from, bytes_max);
    assert_int_equal(t.err, 0);
    assert_string_equal(t.at + 1, want);
    text_clear(&t);
}

static void utf8_is_mended_and_cut_between_characters(void **state UNUSED)
{
    expect_utf8(BYTES_NONE, 10, "");
    expect_utf8(BYTES("plain"), 10, "plain");
    expect_utf8(BYTES("plain"), 3, "pla");
    expect_utf8(BYTES("\xe2\x82\xac\xe2\x82\xac"), 6, "\xe2\x82\xac\xe2\x82\xac");
    expect_utf8(BYTES("\xe2\x82\xac\xe2\x82\xac"), 5, "\xe2\x82\xac");
    expect_utf8(BYTES("a\xff\xc3"), 10, "a" BAD BAD);
    expect_utf8(BYTES("a\xff\xc3"), 4, "a" BAD);
    expect_utf8(BYTES("a\xff\xc3"), 3, "a");
    expect_utf8(BYTES("plain"), 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_add_up),
        cmocka_unit_test(an_empty_text_is_a_string),
        cmocka_unit_test(the_limit_is_sticky_and_pieces_stay_whole),
        cmocka_unit_test(long_prints_grow_the_buffer),
        cmocka_unit_test(a_fixed_buffer_is_never_left),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(json_strings_are_utf8_whatever_comes),
        cmocka_unit_test(utf8_is_mended_and_cut_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
