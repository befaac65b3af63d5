/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: marks, documents, aliases and merge keys, JSON, errors with their place, limits.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/alloc.h"
#include "core/err.h"
#include "core/text.h"
#include "text/yaml.h"

#define ARENA_BYTES ((size_t)512 << 20)

struct parsed {
    struct arena arena;
    struct yaml_document *first;
    char problem[256];
    int err;
};

static void parse(struct parsed *p, struct bytes text)
{
    arena_init(&p->arena, ARENA_BYTES);
    p->first = NULL;
    p->problem[0] = '\0';
    p->err = yaml_parse(&p->arena, text, &p->first, p->problem, sizeof(p->problem));
}

static void expect_json(const char *text, const char *want)
{
    struct parsed p;
    json_t *got;
    char *dumped;

    parse(&p, bytes_str(text));
    if (p.err != 0) {
        fail_msg("%s: %s", text, p.problem);
    }
    got = yaml_to_json(p.first != NULL ? p.first->root : NULL);
    dumped = json_dumps(got, JSON_ENCODE_ANY | JSON_COMPACT);
    assert_string_equal(dumped, want);
    free(dumped);
    json_decref(got);
    arena_clear(&p.arena);
}

static void expect_problem(const char *text, int err, const char *want_start)
{
    struct parsed p;

    parse(&p, bytes_str(text));
    if (p.err != err || strncmp(p.problem, want_start, strlen(want_start)) != 0) {
        fail_msg("%s: %d %s", text, p.err, p.problem);
    }
    assert_null(p.first);
    arena_clear(&p.arena);
}

static void test_block_and_flow(void **state)
{
    (void)state;
    expect_json("a: 1\nb:\n- x\n- {c: [1, 'two', \"th\\u0072ee\"]}\nd:\n",
                "{\"a\":1,\"b\":[\"x\",{\"c\":[1,\"two\",\"three\"]}],\"d\":null}");
    expect_json("|\n a\n b\n", "\"a\\nb\\n\"");
    expect_json("a: >-\n  x\n  y\n\nb: 1\n", "{\"a\":\"x y\",\"b\":1}");
    expect_json("", "null");
    expect_json("# nothing\n", "null");
    expect_json("\xef\xbb\xbf"
                "a: \xc3\xa4\n",
                "{\"a\":\"\xc3\xa4\"}");
    expect_json("a: 1\r\nb: |\r\n  x\r\n  y\r\n", "{\"a\":1,\"b\":\"x\\ny\\n\"}");
}

static void test_keys_are_strings(void **state)
{
    (void)state;
    /* Spelled as kubectl spells them. */
    expect_json("yes: 1\n0x10: 2\n1.5: 3\n1e3: 4\ny: 5\n1_0: 6\n",
                "{\"true\":5,\"16\":2,\"1.5\":3,\"1000\":4,\"10\":6}");
    expect_json("'yes': 1\n2001-01-01: 2\n", "{\"yes\":1,\"2001-01-01\":2}");
    expect_json("a: 1\na: 2\n", "{\"a\":2}");
    expect_problem("a: {? [1] : 2}\n", E_YAML, "line 1, column 7: a key must be");
}

static void test_tags(void **state)
{
    (void)state;
    expect_json("[!!str 123, !!int \"12\", !!bool 'yes', !!null \"\", !!binary aGVsbG8=, ! 12, "
                "!foo 12, !!float 3]",
                "[\"123\",12,true,null,\"hello\",\"12\",\"12\",3]");
    expect_json("a: !!map {x: 1}\nb: !!set {x}\n", "{\"a\":{\"x\":1},\"b\":{\"x\":null}}");
    expect_problem("a: !!int abc\n", E_YAML, "line 1, column 4: !!int does not fit");
    expect_problem("a: !!binary '*'\n", E_YAML, "line 1, column 4: !!binary");
}

static void test_aliases(void **state)
{
    (void)state;
    expect_json("a: &x {k: 1}\nb: *x\n", "{\"a\":{\"k\":1},\"b\":{\"k\":1}}");
    expect_json("a: &x 1\nb: &x 2\nc: *x\n", "{\"a\":1,\"b\":2,\"c\":2}");
    expect_problem("a: &x\n  b: *x\n", E_YAML,
                   "line 2, column 6: the value of anchor &x contains itself");
    expect_problem("a: *x\n", E_YAML, "line 1, column 4: no anchor &x");
    expect_problem("a: &x 1\n---\na: *x\n", E_YAML, "line 3, column 4: no anchor &x");
    /* A key's value may be an alias of that key, YAML 1.2.2 section 7.1: the anchor is known. */
    expect_json("&a k: *a\n", "{\"k\":\"k\"}");
    expect_json("&a k: *a\nx: z\n", "{\"k\":\"k\",\"x\":\"z\"}");
    expect_json("&a k: [*a, 1]\nx: {*a : 2}\n", "{\"k\":[\"k\",1],\"x\":{\"k\":2}}");
}

static void test_merge_keys(void **state)
{
    (void)state;
    /* The order of precedence is that of go-yaml v2: what stands later wins, also against the
     * merge. */
    expect_json("a: &x {k: 1, j: 2}\nb: {<<: *x, k: 5}\n",
                "{\"a\":{\"k\":1,\"j\":2},\"b\":{\"k\":5,\"j\":2}}");
    expect_json("a: &x {k: 1, j: 2}\nb: {k: 5, <<: *x}\n",
                "{\"a\":{\"k\":1,\"j\":2},\"b\":{\"k\":1,\"j\":2}}");
    expect_json("a: &x {k: 1}\nc: &y {k: 2, z: 1}\nb: {<<: [*x, *y]}\n",
                "{\"a\":{\"k\":1},\"c\":{\"k\":2,\"z\":1},\"b\":{\"k\":1,\"z\":1}}");
    expect_json("b: {<<: {q: 1}}\n", "{\"b\":{\"q\":1}}");
    expect_json("'<<': 1\n", "{\"<<\":1}");
    expect_problem("b: {<<: 1}\n", E_YAML, "line 1, column 9: << takes");
    expect_problem("b:\n  <<: [{}, 3]\n", E_YAML, "line 2, column 12: << takes");
}

static void test_json(void **state)
{
    struct parsed p;

    (void)state;
    expect_json(
        "{\"a\":[1,-2.5,1e3,true,false,null,\"\\ud83d\\ude00\\/\\n\",{}],\n\t\"b\"\n:\"\\ud800x\"}",
        "{\"a\":[1,-2.5,1000,true,false,null,\"\xf0\x9f\x98\x80/"
        "\\n\",{}],\"b\":\"\xef\xbf\xbdx\"}");
    /* What is flow YAML and no JSON is still read. */
    expect_json("{a: yes, b: [1, 2,],}", "{\"a\":true,\"b\":[1,2]}");
    /* JSON's own complaint is shown when it is neither. */
    expect_problem("{\"a\": 1,, }", E_YAML, "line 1, column 9: expected a key");
    expect_problem("{\"a\":\n [1}\n", E_YAML, "line 2, column 4: expected ',' or ']'");
    parse(&p, BYTES("{\"a\":1}\n{\"a\":2} [3]"));
    assert_int_equal(p.err, 0);
    assert_non_null(p.first->next->next);
    assert_null(p.first->next->next->next);
    assert_int_equal(p.first->next->line, 2);
    arena_clear(&p.arena);
}

static void expect_text(struct bytes text, const struct yaml_node *n, const char *want)
{
    assert_non_null(n);
    assert_int_equal(n->end - n->start, strlen(want));
    assert_memory_equal(text.at + n->start, want, strlen(want));
}

static void test_marks(void **state)
{
    static const char text[] =
        "# \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 shifts bytes against characters\n"
        "a: one # comment\n"
        "b:\n"
        "  c: |\n"
        "    x\n"
        "\n"
        "  d: |+\n"
        "    y\n"
        "\n"
        "e: [1, {f: 2}] # c\n"
        "g:\n"
        "- &h 'q'\n"
        "- *h\n"
        "\n"
        "# end\n";
    struct bytes input = bytes_str(text);
    struct parsed p;
    const struct yaml_node *root, *n;

    (void)state;
    parse(&p, input);
    assert_int_equal(p.err, 0);
    root = p.first->root;
    assert_int_equal(p.first->start, 0);
    assert_int_equal(p.first->end, input.len);
    assert_int_equal(root->line, 2);
    assert_int_equal(root->count, 4);
    expect_text(input, yaml_get(root, "a"), "one");
    expect_text(input, yaml_locate(root, "b.c"), "|\n    x");
    expect_text(input, yaml_locate(root, "b.d"), "|+\n    y\n");
    expect_text(input, yaml_get(root, "b"), "c: |\n    x\n\n  d: |+\n    y\n");
    expect_text(input, yaml_get(root, "e"), "[1, {f: 2}]");
    expect_text(input, yaml_locate(root, "e[1].f"), "2");
    expect_text(input, yaml_get(root, "g"), "- &h 'q'\n- *h");
    n = yaml_locate(root, "g[1]");
    expect_text(input, n, "*h");
    assert_true(n->is_alias);
    assert_true(bytes_eq(n->value, BYTES("q")));
    assert_int_equal(n->line, 13);
    assert_int_equal(n->column, 3);
    n = yaml_locate(root, "g[0]");
    assert_true(n->has_properties && !n->is_alias && !n->is_plain);
    /* The deepest existing one answers for what is missing. */
    assert_ptr_equal(yaml_locate(root, "b.nothing.here"), yaml_get(root, "b"));
    arena_clear(&p.arena);
}

static void test_marks_far_in_utf8(void **state)
{
    struct text t;
    struct parsed p;
    char want[16];

    (void)state;
    text_init(&t, 1 << 20);
    for (unsigned i = 0; i < 300; i++) {
        text_printf(&t, "k%u: \xc3\xa4%u # \xf0\x9f\x98\x80\n", i, i);
    }
    parse(&p, text_bytes(&t));
    assert_int_equal(p.err, 0);
    for (unsigned i = 0; i < 300; i++) {
        char key[16];

        (void)snprintf(key, sizeof(key), "k%u", i);
        (void)snprintf(want, sizeof(want), "\xc3\xa4%u", i);
        expect_text(text_bytes(&t), yaml_get(p.first->root, key), want);
    }
    arena_clear(&p.arena);
    text_clear(&t);
}

static void test_documents(void **state)
{
    struct bytes input = BYTES("a: 1\n---\n# only a comment\n---\nb: 2\n...\n---\n---\nc\n");
    struct parsed p;
    struct yaml_document *d;
    size_t count = 0;

    (void)state;
    parse(&p, input);
    assert_int_equal(p.err, 0);
    d = p.first;
    assert_memory_equal(input.at + d->start, "a: 1\n", d->end - d->start);
    assert_null(d->next->root);
    assert_memory_equal(input.at + d->next->next->start, "\nb: 2\n",
                        d->next->next->end - d->next->next->start);
    for (; d != NULL; d = d->next) {
        count++;
    }
    assert_int_equal(count, 5);
    arena_clear(&p.arena);
}

/* A file of no bytes is a stream of no documents. */
static void test_nothing(void **state)
{
    struct parsed p;

    (void)state;
    parse(&p, BYTES_NONE);
    assert_int_equal(p.err, 0);
    assert_true(p.first == NULL || p.first->root == NULL);
    arena_clear(&p.arena);
}

static void test_problems_have_a_place(void **state)
{
    (void)state;
    expect_problem("a: 1\nb: [1\nc: 2\n", E_YAML, "line 3, column ");
    /* YAML 1.2 section 6.1: indentation is spaces only. */
    expect_problem("a:\n\t- x\n", E_YAML, "line 2, column 1: a tab cannot indent YAML: write spaces");
    expect_problem("a:\n\tb: 1\n", E_YAML, "line 2, column 1: a tab cannot indent YAML: write spaces");
    expect_problem("a:\n  b: 1\n\tc: 2\n", E_YAML, "line 3, column 1: a tab cannot indent YAML");
    expect_problem("a:\n  - \xc3\xa4: 1\n  \t  c: 2\n", E_YAML, "line 3, column 3: a tab cannot indent YAML");
    expect_problem("a: b: c\t\n", E_YAML, "line 1, column 5: mapping values are not allowed");
    expect_problem("a: 1\nb: \xff\n", E_YAML, "line 2, column 4: ");
    expect_problem("a: 1\nb: \x01\n", E_YAML, "line 2, column 4: ");
    expect_problem("a: b: c\n", E_YAML, "line 1, column 5: ");
}

static void test_depth_limit(void **state)
{
    char text[2 * (YAML_DEPTH_MAX + 1) + 1];

    (void)state;
    memset(text, '[', YAML_DEPTH_MAX);
    memset(text + YAML_DEPTH_MAX, ']', YAML_DEPTH_MAX);
    text[2 * YAML_DEPTH_MAX] = '\0';
    {
        struct parsed p;

        parse(&p, bytes_str(text));
        assert_int_equal(p.err, 0);
        arena_clear(&p.arena);
    }
    memset(text, '[', YAML_DEPTH_MAX + 1);
    memset(text + YAML_DEPTH_MAX + 1, ']', YAML_DEPTH_MAX + 1);
    text[2 * YAML_DEPTH_MAX + 2] = '\0';
    expect_problem(text, E_LIMIT, "line 1, column 101: nested deeper than 100");
    /* The same in what only YAML reads, and by way of an alias. */
    text[YAML_DEPTH_MAX + 1] = '~';
    expect_problem(text, E_LIMIT, "line 1, column 101: nested deeper than 100");
    expect_problem("a: &a "
                   "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]"
                   "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n"
                   "b: "
                   "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]]"
                   "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
                   E_LIMIT, "line 1, column ");
}

static void test_alias_bomb(void **state)
{
    struct text t;
    struct parsed p;

    (void)state;
    text_init(&t, 1 << 16);
    text_str(&t, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (unsigned i = 1; i < 10; i++) {
        text_printf(&t, "a%u: &a%u [", i, i);
        for (unsigned j = 0; j < 10; j++) {
            text_printf(&t, "%s*a%u", j > 0 ? ", " : "", i - 1);
        }
        text_str(&t, "]\n");
    }
    parse(&p, text_bytes(&t));
    assert_int_equal(p.err, E_LIMIT);
    assert_non_null(strstr(p.problem, "more than 1000000 values"));
    arena_clear(&p.arena);
    /* Merge keys multiply as well. */
    text_reset(&t);
    text_str(&t, "m0: &m0 {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1, j: 1}\n");
    for (unsigned i = 1; i < 10; i++) {
        text_printf(&t, "m%u: &m%u {<<: [", i, i);
        for (unsigned j = 0; j < 10; j++) {
            text_printf(&t, "%s*m%u", j > 0 ? ", " : "", i - 1);
        }
        text_str(&t, "]}\n");
    }
    parse(&p, text_bytes(&t));
    assert_int_equal(p.err, E_LIMIT);
    arena_clear(&p.arena);
    text_clear(&t);
}

static void test_memory_limits(void **state)
{
    struct parsed p;
    char *large = mem_new(YAML_BYTES_MAX + 1);

    (void)state;
    memset(large, ' ', YAML_BYTES_MAX + 1);
    parse(&p, bytes_of(large, YAML_BYTES_MAX + 1));
    assert_int_equal(p.err, E_LIMIT);
    arena_clear(&p.arena);
    arena_init(&p.arena, 512);
    p.err = yaml_parse(&p.arena, BYTES("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"), &p.first,
                       p.problem, sizeof(p.problem));
    assert_int_equal(p.err, E_LIMIT);
    arena_clear(&p.arena);
    mem_free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_and_flow), cmocka_unit_test(test_keys_are_strings),
        cmocka_unit_test(test_tags),           cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_merge_keys),     cmocka_unit_test(test_json),
        cmocka_unit_test(test_marks),          cmocka_unit_test(test_marks_far_in_utf8),
        cmocka_unit_test(test_documents),      cmocka_unit_test(test_problems_have_a_place),
        cmocka_unit_test(test_depth_limit),    cmocka_unit_test(test_alias_bomb),
        cmocka_unit_test(test_memory_limits),  cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
