/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/bytes.h"
#include "core/err.h"
#include "tests/unit/unit.h"

static void equality_and_order(void **state UNUSED)
{
    assert_true(bytes_eq(BYTES_NONE, BYTES("")));
    assert_true(bytes_eq(bytes_str(NULL), BYTES_NONE));
    assert_false(bytes_eq(BYTES("a"), BYTES("ab")));
    assert_true(bytes_eq(BYTES("a\0b"), bytes_of("a\0b", 3)));
    assert_true(bytes_eq_nocase(BYTES("Content-LENGTH"), BYTES("content-length")));
    assert_false(
        bytes_eq_nocase(BYTES("@"), BYTES("`"))); /* differ by the case bit, are no letters */
    assert_true(bytes_cmp(BYTES("a"), BYTES("b")) < 0);
    assert_true(bytes_cmp(BYTES("a"), BYTES("ab")) < 0);
    assert_true(bytes_cmp(BYTES("\xff"), BYTES("a")) > 0);
    assert_int_equal(bytes_cmp(BYTES_NONE, BYTES("")), 0);
    assert_true(bytes_cmp(BYTES("a"), BYTES_NONE) > 0);
}

static void prefixes_suffixes_and_parts(void **state UNUSED)
{
    assert_true(bytes_starts(BYTES("abc"), BYTES("ab")));
    assert_true(bytes_starts(BYTES("abc"), BYTES_NONE));
    assert_false(bytes_starts(BYTES("ab"), BYTES("abc")));
    assert_true(bytes_ends(BYTES("abc"), BYTES("bc")));
    assert_false(bytes_ends(BYTES_NONE, BYTES("c")));
    assert_bytes(bytes_from(BYTES("abc"), 3), "");
    assert_bytes(bytes_first(BYTES("abc"), 2), "ab");
    assert_bytes(bytes_trim(BYTES(" \t a b \t"), " \t"), "a b");
    assert_bytes(bytes_trim(BYTES("   "), " "), "");
    assert_int_equal(bytes_trim(BYTES("\0a\0"), " ").len, 3); /* NUL is in no set */
}

static void splitting(void **state UNUSED)
{
    struct bytes head, rest = BYTES("a,,b");

    assert_true(bytes_split(rest, ',', &head, &rest));
    assert_bytes(head, "a");
    assert_true(bytes_split(rest, ',', &head, &rest));
    assert_bytes(head, "");
    assert_false(bytes_split(rest, ',', &head, &rest));
    assert_bytes(head, "b");
    assert_int_equal(rest.len, 0);
    assert_false(bytes_split(rest, ',', &head, &rest));
    assert_int_equal(head.len, 0);
}

static void finding(void **state UNUSED)
{
    size_t at = 99;

    assert_true(bytes_find(BYTES("abcabd"), BYTES("abd"), &at));
    assert_int_equal(at, 3);
    assert_false(bytes_find(BYTES("ab"), BYTES("abc"), &at));
    assert_int_equal(at, 3);
    assert_true(bytes_find(BYTES_NONE, BYTES_NONE, &at));
    assert_int_equal(at, 0);
}

static void hash_depends_on_every_byte(void **state UNUSED)
{
    char text[40];
    uint64_t seen[40 * 8 + 1];
    size_t count = 0;

    memset(text, 'x', sizeof(text));
    seen[count++] = bytes_hash(bytes_of(text, sizeof(text)));
    assert_true(seen[0] == bytes_hash(bytes_of(text, sizeof(text))));
    for (size_t bit = 0; bit < sizeof(text) * 8; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        seen[count] = bytes_hash(bytes_of(text, sizeof(text)));
        for (size_t i = 0; i < count; i++) {
            assert_true(seen[i] != seen[count]);
        }
        count++;
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
    }
}

static void hash_tells_lengths_apart(void **state UNUSED)
{
    static const char zeros[24];

    for (size_t i = 0; i < sizeof(zeros); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_true(bytes_hash(bytes_of(zeros, i)) != bytes_hash(bytes_of(zeros, j)));
        }
    }
}

static void numbers(void **state UNUSED)
{
    static const char *const malformed[] = {"",    "-1", "+1", " 1", "1 ",
                                            "0x1", "1a", "/",  ":",  "99999999999999999999999x"};
    static const char hex[] = "0123456789abcdefABCDEF", not_hex[] = "/:@G`g\x10\xb0";
    char digits[BYTES_U64_MAX];
    uint64_t value = 7;

    for (int i = 0; i < 22; i++) {
        assert_int_equal(bytes_hex_digit(hex[i]), i < 16 ? i : i - 6);
    }
    for (size_t i = 0; i < sizeof(not_hex); i++) {
        assert_int_equal(bytes_hex_digit(not_hex[i]), -1);
    }
    assert_int_equal(bytes_to_u64(BYTES("0"), 10, &value), 0);
    assert_true(value == 0);
    assert_int_equal(bytes_to_u64(BYTES("18446744073709551615"), UINT64_MAX, &value), 0);
    assert_true(value == UINT64_MAX);
    assert_int_equal(bytes_to_u64(BYTES("007"), 7, &value), 0);
    assert_true(value == 7);
    assert_int_equal(bytes_to_u64(BYTES("8"), 7, &value), E_RANGE);
    assert_true(bytes_eq(bytes_from_u64(digits, 0), BYTES("0")));
    assert_true(bytes_eq(bytes_from_u64(digits, UINT64_MAX), BYTES("18446744073709551615")));
    assert_int_equal(bytes_to_u64(BYTES("18446744073709551616"), UINT64_MAX, &value), E_RANGE);
    assert_int_equal(bytes_to_u64(BYTES("99999999999999999999999"), UINT64_MAX, &value), E_RANGE);
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
        assert_int_equal(bytes_to_u64(bytes_str(malformed[i]), UINT64_MAX, &value), E_SYNTAX);
    }
    assert_true(value == 7); /* untouched on failure */
}

static void copies_are_terminated(void **state UNUSED)
{
    AUTOFREE char *copy = bytes_dup(bytes_of("abcdef", 3));
    AUTOFREE char *empty = bytes_dup(BYTES_NONE);

    assert_string_equal(copy, "abc");
    assert_string_equal(empty, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality_and_order),
        cmocka_unit_test(prefixes_suffixes_and_parts),
        cmocka_unit_test(splitting),
        cmocka_unit_test(finding),
        cmocka_unit_test(hash_depends_on_every_byte),
        cmocka_unit_test(hash_tells_lengths_apart),
        cmocka_unit_test(numbers),
        cmocka_unit_test(copies_are_terminated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
