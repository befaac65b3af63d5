/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"
#include "core/err.h"
#include "tests/unit/unit.h"

#define MAX_ARGS 4

static struct resource_arg got[MAX_ARGS];
static size_t count;
static char problem[512];

static int parse(const char *const *words, size_t words_count)
{
    const char *items[8];
    struct opt_list args = {.items = items, .count = words_count};

    for (size_t i = 0; i < words_count; i++) {
        items[i] = words[i];
    }
    count = 0;
    problem[0] = '\0';
    return resource_parse(&args, 0, got, MAX_ARGS, &count, problem, sizeof(problem));
}

#define PARSE(...)                                                                                 \
    parse((const char *const[]){__VA_ARGS__},                                                      \
          sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void assert_resource(size_t at, const char *kind, const char *name)
{
    assert_true(at < count);
    assert_string_equal(got[at].kind, kind);
    assert_string_equal(got[at].name, name);
}

static void every_spelling_of_a_kind_is_known(void **state UNUSED)
{
    static const char *const spellings[][4] = {
        {"deployment", "deployments", "deploy", "Deploy"},
        {"pod", "pods", "po", "PODS"},
        {"namespace", "namespaces", "ns", "NS"},
        {"service", "services", "svc", "Svc"},
        {"statefulset", "statefulsets", "sts", "STS"},
        {"daemonset", "daemonsets", "ds", "DS"},
        {"replicaset", "replicasets", "rs", "RS"},
        {"job", "jobs", "job", "JOB"},
        {"cronjob", "cronjobs", "cj", "CJ"},
        {"authority", "authorities", "au", "AU"},
        {"all", "all", "all", "ALL"},
    };

    for (size_t i = 0; i < ARRAY_LEN(spellings); i++) {
        for (size_t k = 0; k < 4; k++) {
            assert_int_equal(PARSE(spellings[i][k]), 0);
            assert_resource(0, spellings[i][0], "");
        }
    }
    assert_string_equal(kind_short("deployment"), "deploy");
    assert_string_equal(kind_short("gremlin"), "gremlin");
}

static void names_follow_a_slash_or_a_bare_type(void **state UNUSED)
{
    assert_int_equal(PARSE("deploy/web"), 0);
    assert_resource(0, "deployment", "web");
    assert_int_equal(PARSE("deploy", "web", "po"), 0); /* as linkerd does: "po" is a name here */
    assert_int_equal(count, 2);
    assert_resource(0, "deployment", "web");
    assert_resource(1, "deployment", "po");
    assert_int_equal(PARSE("po/a", "svc/b"), 0);
    assert_resource(0, "pod", "a");
    assert_resource(1, "service", "b");
    assert_int_equal(PARSE("po/a", "ns"), 0);
    assert_resource(1, "namespace", "");
    assert_int_equal(PARSE("deploy", "po/a"), 0);
    assert_int_equal(count, 1);
    assert_resource(0, "pod", "a");
}

static void what_is_wrong_is_said(void **state UNUSED)
{
    assert_int_equal(PARSE("gremlin"), E_CONFIG);
    assert_non_null(strstr(problem, "\"gremlin\" is no kind of resource"));
    assert_int_equal(PARSE("gremlin/web"), E_CONFIG);
    assert_non_null(strstr(problem, "\"gremlin\""));
    assert_int_equal(PARSE("deploy/"), E_CONFIG);
    assert_int_equal(PARSE("all/web"), E_CONFIG);
    assert_int_equal(PARSE("all", "web"), E_CONFIG);
    assert_int_equal(PARSE("po/a", "po/b", "po/c", "po/d", "po/e"), E_CONFIG);
    assert_non_null(strstr(problem, "at most 4"));
    assert_int_equal(parse(NULL, 0), E_CONFIG);
    assert_non_null(strstr(problem, "name a resource"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_of_a_kind_is_known),
        cmocka_unit_test(names_follow_a_slash_or_a_bare_type),
        cmocka_unit_test(what_is_wrong_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
