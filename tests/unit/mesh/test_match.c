/* SPDX-License-Identifier: Apache-2.0 */
#include "../unit.h"

#include <pthread.h>

#include "core/clock.h"
#include "core/err.h"
#include "mesh/match.h"

static bool matches(const char *pattern, struct bytes value)
{
    struct text_match m = {.op = MATCH_REGEX};
    bool found;

    assert_int_equal(regex_new(bytes_str(pattern), &m.regex), 0);
    found = text_match(&m, value);
    regex_free(m.regex);
    return found;
}

/* Wire 5.6: regexes are anchored to the whole value. */
static void expressions_match_whole_values(void **state)
{
    static const struct {
        const char *pattern, *value;
        bool fits;
    } cases[] = {
        {"/users/[0-9]+", "/users/17", true},
        {"/users/[0-9]+", "/users/17/", false},
        {"/users/[0-9]+", "x/users/17", false},
        {"a|ab", "ab", true},
        {"a$", "a\n", false},
        {"", "", true},
        {"", "a", false},
        {"(?i)post", "POST", true},
        {".*", "", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (matches(cases[i].pattern, bytes_str(cases[i].value)) != cases[i].fits) {
            fail_msg("%s on %s", cases[i].pattern, cases[i].value);
        }
    }
    assert_true(matches(".*", BYTES_NONE));
    assert_false(matches("a.c", bytes_of("a\nc", 3)));
}

static void some_expressions_are_refused(void **state)
{
    char large[5000];
    struct regex *r = NULL;

    (void)state;
    memset(large, 'a', sizeof(large));
    assert_int_equal(regex_new(BYTES("a("), &r), E_SYNTAX);
    assert_int_equal(regex_new(BYTES("(a)\\1"), &r), E_UNSUPPORTED);
    assert_int_equal(regex_new(BYTES("a\\Cb"), &r), E_SYNTAX);
    assert_int_equal(regex_new(bytes_of(large, sizeof(large)), &r), E_LIMIT);
    assert_null(r);
    regex_free(NULL);
}

/* What would take ages is stopped, and counts as no match. */
static void matching_is_bounded(void **state)
{
    char value[4096];
    uint64_t before = clock_cpu_ns();

    (void)state;
    memset(value, 'a', sizeof(value));
    value[sizeof(value) - 1] = 'b';
    assert_false(matches("(a*)*c", bytes_of(value, sizeof(value))));
    assert_false(matches("(a|aa)+c", bytes_of(value, sizeof(value))));
    assert_true(clock_cpu_ns() - before < 60 * NS_PER_S); /* unbounded it would be centuries */
}

/* Wire 5.6: prefix matches are path-segment-wise. */
static void prefixes_are_whole_segments(void **state)
{
    static const struct {
        const char *prefix, *path;
        bool fits;
    } cases[] = {
        {"/a", "/a", true},    {"/a", "/a/b", true}, {"/a", "/ab", false}, {"/a/", "/a/b", true},
        {"/a/", "/a", true},   {"/", "/x", true},    {"/", "/", true},     {"", "/x", true},
        {"/a/b", "/a", false}, {"/a", "/A", false},  {"/", "*", true},     {"/a", "*", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct text_match m = {.op = MATCH_PREFIX, .text = bytes_str(cases[i].prefix)};

        if (path_match(&m, bytes_str(cases[i].path)) != cases[i].fits) {
            fail_msg("%s on %s", cases[i].prefix, cases[i].path);
        }
    }
}

static void exact_and_prefix_texts(void **state)
{
    struct text_match exact = {.op = MATCH_EXACT, .text = BYTES("ab")};
    struct text_match prefix = {.op = MATCH_PREFIX, .text = BYTES("ab")};

    (void)state;
    assert_true(text_match(&exact, BYTES("ab")));
    assert_false(text_match(&exact, BYTES("abc")));
    assert_false(text_match(&exact, BYTES("AB")));
    assert_true(text_match(&prefix, BYTES("abc")));
    assert_false(text_match(&prefix, BYTES("a")));
    assert_true(path_match(&exact, BYTES("ab")));
}

static void *match_once(void *user)
{
    struct text_match *m = user;

    return text_match(m, BYTES("/x/1")) ? m : NULL;
}

/* An expression is shared; what matching needs besides is each thread's own, and goes with it. */
static void threads_share_expressions(void **state)
{
    struct text_match m = {.op = MATCH_REGEX};
    pthread_t threads[4];
    void *result;

    (void)state;
    assert_int_equal(regex_new(BYTES("/x/[0-9]"), &m.regex), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, match_once, &m), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, &m);
    }
    regex_free(m.regex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_match_whole_values),
        cmocka_unit_test(some_expressions_are_refused),
        cmocka_unit_test(matching_is_bounded),
        cmocka_unit_test(prefixes_are_whole_segments),
        cmocka_unit_test(exact_and_prefix_texts),
        cmocka_unit_test(threads_share_expressions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
