/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <unistd.h>

static const char manifest[] = "apiVersion: v1\n"                    /* 1 */
                               "kind: Service\n"                     /* 2 */
                               "metadata: {name: web}\n"             /* 3 */
                               "---\n"                               /* 4 */
                               "# a route\n"                         /* 5 */
                               "kind: HTTPRoute\n"                   /* 6 */
                               "spec:\n"                             /* 7 */
                               "  rules:\n"                          /* 8 */
                               "  - name: a\n"                       /* 9 */
                               "    matchs:\n"                       /* 10 */
                               "    - path: {value: /a}\n"           /* 11 */
                               "  - filters: []\n"                   /* 12 */
                               "---\n"                               /* 13 */
                               "kind: List\n"                        /* 14 */
                               "items:\n"                            /* 15 */
                               "- kind: Server\n"                    /* 16 */
                               "  spec: {port: 80,\n"                /* 17 */
                               "    accesPolicy: deny}\n";           /* 18 */

static void expect(unsigned object, const char *field, unsigned line)
{
    char path[] = "/tmp/tulle-check-source-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, manifest, sizeof(manifest) - 1), sizeof(manifest) - 1);
    assert_int_equal(check_field_line(path, object, field), line);
    (void)close(fd);
    (void)unlink(path);
}

static void a_field_is_found_by_its_key(void **state)
{
    (void)state;
    expect(6, "spec.rules[0].matchs", 10); /* not 11, where its value begins */
    expect(6, "spec.rules[0].matchs[0].path.value", 11);
    expect(6, "spec.rules[0]", 9);
    expect(6, "spec.rules[1].filters", 12);
    expect(6, "spec", 7);
    expect(1, "metadata.name", 3);
    expect(16, "spec.accesPolicy", 18); /* an item of a List */
}

static void what_is_not_there_is_told_where_it_would_be(void **state)
{
    (void)state;
    expect(6, "spec.rules[1].matches", 12);
    expect(6, "", 6);
    expect(3, "metadata.name", 3); /* no object begins there: the file is another one by now */
    assert_int_equal(check_field_line("/nonexistent/web.yaml", 12, "spec"), 12);
}

static void assert_problem(const char *source, const char *field, const char *message, const char *want)
{
    Linkerd2__Public__CheckResult r;
    struct text t;

    linkerd2__public__check_result__init(&r);
    r.source = (char *)(uintptr_t)source;
    r.field = (char *)(uintptr_t)field;
    r.friendlymessagetouser = (char *)(uintptr_t)message;
    text_init(&t, 4096);
    check_add_problem(&t, &r);
    assert_bytes(text_bytes(&t), want);
    text_clear(&t);
}

/* What has no place, or one that is nobody's file, is told as it came. */
static void other_messages_stay(void **state)
{
    (void)state;
    assert_problem("", "", "Server a/b: no", "Server a/b: no");
    assert_problem("web.yaml:1", "spec", "web.yaml:1: Server a/b: no", "web.yaml:1: Server a/b: no");
    assert_problem("/nonexistent/a.yaml:7", "spec", "/nonexistent/a.yaml:7: Server a/b: no",
                   "/nonexistent/a.yaml:7: Server a/b: no");
    assert_problem("/nonexistent/a.yaml:x", "spec", "/nonexistent/a.yaml:x: no", "/nonexistent/a.yaml:x: no");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_field_is_found_by_its_key),
        cmocka_unit_test(what_is_not_there_is_told_where_it_would_be),
        cmocka_unit_test(other_messages_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
