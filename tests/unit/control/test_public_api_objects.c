/* SPDX-License-Identifier: Apache-2.0 */
/* Label selectors, and a pod's state in a word. */
#include "control/public_api/private.h"
#include "core/err.h"
#include "tests/unit/unit.h"

static struct arena arena;

static int setup(void **state UNUSED)
{
    arena_init(&arena, 1 << 20);
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_clear(&arena);
    return 0;
}

static bool matches(const char *selector)
{
    json_t *labels =
        json_pack("{s:s, s:s, s:s}", "app", "web", "tier", "front", "linkerd.io/x", "");
    const struct label_selector *s = NULL;
    char problem[512];
    bool yes;

    assert_int_equal(label_selector_parse(&arena, selector, &s, problem, sizeof(problem)), 0);
    yes = label_selector_matches(s, labels);
    json_decref(labels);
    return yes;
}

static void selectors_mean_what_kubectl_means(void **state UNUSED)
{
    static const char *const yes[] = {
        "app=web",          "app==web",       " app = web , tier = front ", "app!=db", "absent!=x",
        "app in (db, web)", "app notin (db)", "absent notin (a,b)",         "app",     "!absent",
        "linkerd.io/x=",    "linkerd.io/x",   "app in (web),!absent,tier",
    };
    static const char *const no[] = {
        "app=db", "app!=web", "absent=x",      "app in (db)",       "app notin (web,db)",
        "absent", "!app",     "absent in (x)", "app=web,tier=back",
    };

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        assert_true(matches(yes[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        assert_false(matches(no[i]));
    }
    assert_true(label_selector_matches(NULL, NULL));
}

static void malformed_selectors_are_refused(void **state UNUSED)
{
    static const char *const wrong[] = {
        ",",        "a=b,",
        ",a=b",     "a=b,,c=d",
        "=b",       "!",
        "a in",     "a in b",
        "a in (",   "a in ()",
        "a on (b)", "a b",
        "a=b c",    "a in (b) c",
        "()",       "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a",
    };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const struct label_selector *s = NULL;
        char problem[512] = "";

        assert_int_equal(label_selector_parse(&arena, wrong[i], &s, problem, sizeof(problem)),
                         E_CONFIG);
        assert_non_null(strstr(problem, "is no label selector"));
        assert_null(s);
    }
}

/* --- pods ---------------------------------------------------------------------------------------- */

static struct object *pod_of(const char *spec_and_status)
{
    char text[2048], problem[256];
    struct object *o = NULL;

    (void)snprintf(text, sizeof(text),
                   "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\","
                   "\"namespace\":\"n\"},%s}",
                   spec_and_status);
    assert_int_equal(object_new(json_loads(text, 0, NULL), "", &o, problem, sizeof(problem)), 0);
    return o;
}

static void assert_word(const char *spec_and_status, const char *want)
{
    struct object *o = pod_of(spec_and_status);
    char word[64];

    pod_status_word(o, word);
    assert_string_equal(word, want);
    object_unref(o);
}

#define SIDECAR                                                                                    \
    "\"spec\":{\"initContainers\":[{\"name\":\"linkerd-init\"},{\"name\":\"linkerd-proxy\","       \
    "\"restartPolicy\":"                                                                           \
    "\"Always\"}],\"containers\":[{\"name\":\"app\"}]},"

static void a_pods_state_is_kubectls_word(void **state UNUSED)
{
    assert_word("\"status\":{\"phase\":\"Running\"}", "Running");
    assert_word("\"status\":{}", "Unknown");
    assert_word("\"status\":{\"phase\":\"Failed\",\"reason\":\"Evicted\"}", "Evicted");
    assert_word("\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{\"name\":\"app\","
                "\"ready\":false,\"state\":"
                "{\"waiting\":{\"reason\":\"CrashLoopBackOff\"}}}]}",
                "CrashLoopBackOff");
    assert_word("\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{\"name\":\"app\","
                "\"ready\":false,\"state\":"
                "{\"terminated\":{\"exitCode\":1}}}]}",
                "Error");
    assert_word(
        SIDECAR
        "\"status\":{\"phase\":\"Pending\",\"initContainerStatuses\":[{\"name\":\"linkerd-init\","
        "\"state\":{\"terminated\":{\"exitCode\":0}}},{\"name\":\"linkerd-proxy\",\"started\":"
        "false,"
        "\"state\":{\"running\":{}}}]}",
        "Init:1/2");
    assert_word(
        SIDECAR
        "\"status\":{\"phase\":\"Pending\",\"initContainerStatuses\":[{\"name\":\"linkerd-init\","
        "\"state\":{\"waiting\":{\"reason\":\"CrashLoopBackOff\"}}}]}",
        "Init:CrashLoopBackOff");
    assert_word(
        SIDECAR
        "\"status\":{\"phase\":\"Running\",\"initContainerStatuses\":[{\"name\":\"linkerd-init\","
        "\"state\":{\"terminated\":{\"exitCode\":0}}},{\"name\":\"linkerd-proxy\",\"started\":true,"
        "\"state\":{\"running\":{}}}],\"containerStatuses\":[{\"name\":\"app\",\"ready\":true,"
        "\"state\":{\"running\":{}}}]}",
        "Running");
}

static void errors_say_which_container_and_why(void **state UNUSED)
{
    struct object *o =
        pod_of("\"status\":{\"initContainerStatuses\":[{\"name\":\"init\",\"image\":\"i:1\","
               "\"state\":{\"terminated\":"
               "{\"exitCode\":2,\"reason\":\"Error\",\"message\":\"no\"}}}],\"containerStatuses\":["
               "{\"name\":\"app\",\"image\":"
               "\"a:1\",\"state\":{\"waiting\":{\"reason\":\"PodInitializing\"}}},{\"name\":"
               "\"side\",\"image\":\"s:1\",\"state\":"
               "{\"waiting\":{\"reason\":\"ImagePullBackOff\",\"message\":\"none such\"}}}]}");
    Linkerd2__Public__PodErrors *e = pod_errors(o, &arena);

    assert_non_null(e);
    assert_int_equal(e->n_errors, 2);
    assert_string_equal(e->errors[0]->container->container, "init");
    assert_string_equal(e->errors[0]->container->reason, "Error");
    assert_string_equal(e->errors[1]->container->container, "side");
    assert_string_equal(e->errors[1]->container->image, "s:1");
    assert_string_equal(e->errors[1]->container->reason, "ImagePullBackOff");
    assert_string_equal(e->errors[1]->container->message, "none such");
    object_unref(o);
    o = pod_of(
        "\"status\":{\"containerStatuses\":[{\"name\":\"app\",\"state\":{\"running\":{}}}]}");
    assert_null(pod_errors(o, &arena));
    object_unref(o);
}

static void figures_are_bounded(void **state UNUSED)
{
    struct figures_map f;
    struct arena big;
    char name[32];

    arena_init(&big, SIZE_MAX);
    figures_init(&f, &big);
    for (int i = 0; i < ROWS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "pod-%d", i);
        assert_non_null(figures_at(&f, "n", name));
    }
    assert_false(f.is_full);
    assert_ptr_equal(figures_at(&f, "n", "pod-7"), figures_get(&f, "n", "pod-7"));
    assert_null(figures_get(&f, "m", "pod-7"));
    assert_null(figures_at(&f, "n", "one-more"));
    assert_true(f.is_full);
    figures_clear(&f);
    arena_clear(&big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(selectors_mean_what_kubectl_means, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_selectors_are_refused, setup, teardown),
        cmocka_unit_test(a_pods_state_is_kubectls_word),
        cmocka_unit_test_setup_teardown(errors_say_which_container_and_why, setup, teardown),
        cmocka_unit_test(figures_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
