/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users are told: where in a manifest what is wrong, and what was done with each object.
 */
#include "text_probe.h"

#include "core/err.h"

static void expect_problem(const char *input, int err, const char *want)
{
    struct text to, report;
    char problem[600] = "";

    text_init(&to, TEXT_MAX);
    text_init(&report, TEXT_MAX);
    text_str(&to, "before");
    assert_int_equal(
        inject_text(&annotate, bytes_str(input), &to, &report, problem, sizeof(problem)), err);
    if (strncmp(problem, want, strlen(want)) != 0) {
        fail_msg("%s", problem);
    }
    assert_string_equal(to.at, "before");
    assert_int_equal(report.len, 0);
    text_clear(&to);
    text_clear(&report);
}

static void test_problems(void **state)
{
    (void)state;
    expect_problem("kind: Pod\nmetadata: [\n", E_YAML, "line 3, column 1: ");
    expect_problem("kind: Pod\nmetadata:\n  name: p\n  annotations:\n    a: b\n    "
                   "config.linkerd.io/proxy-uid: root\n",
                   E_CONFIG,
                   "line 6, column 34: pod \"p\": annotation config.linkerd.io/proxy-uid is "
                   "\"root\"; allowed is a number");
    expect_problem("kind: Namespace\nmetadata:\n  name: ns\n  annotations:\n"
                   "    config.linkerd.io/proxy-log-level: loud\n",
                   E_CONFIG,
                   "line 5, column 40: namespace \"ns\": annotation config.linkerd.io/proxy-log-level is "
                   "\"loud\"; allowed is off, error, warn,");
    expect_problem("kind: Pod\nmetadata:\n  name: p\n  annotations: [a]\n", E_CONFIG,
                   "line 1, column 1: pod \"p\": ");
    expect_problem(
        "kind: Pod\nmetadata:\n  name: p\n  labels: {linkerd.io/control-plane-component: web}\n",
        E_CONFIG, "line 1, column 1: pod \"p\": a part of the control plane");
    /* What would change elsewhere, too, or cannot be found in the text. */
    expect_problem("kind: List\nx: &m {name: a}\nitems:\n- kind: Pod\n  metadata: *m\n", E_YAML,
                   "line 5, column 13: this is an alias");
    expect_problem("kind: List\nitems:\n- kind: Pod\n  metadata: &m {name: a}\n- metadata: *m\n",
                   E_YAML, "line 1, column 1: the text is written in a way");
    expect_problem("kind: Pod\nmetadata:\n  ? name\n  : a\n", E_YAML,
                   "line 3, column 3: the mapping is written");
}

static void expect_report(const struct inject_options *o, const char *input, const char *want)
{
    char *report, *text = run(o, input, &report);

    assert_string_equal(report, want);
    mem_free(report);
    mem_free(text);
}

static void test_report(void **state)
{
    static const struct inject_options verbose = {
        .mode = INJECT_ANNOTATE, .annotate_value = "enabled", .verbose = true};

    (void)state;
    expect_report(
        &annotate,
        HEAD
        "metadata: {name: web}\nspec: {template: {}}\n---\nkind: Service\nmetadata: {name: web}\n",
        "\ndeployment \"web\" injected\nservice \"web\" skipped\n\n");
    expect_report(&annotate,
                  "kind: Namespace\nmetadata:\n  name: ns\n  annotations:\n"
                  "    config.linkerd.io/nothing: x\n    config.linkerd.io/proxy-log-levle: info\n",
                  "\n\xe2\x80\xbc the annotation config.linkerd.io/nothing of namespace/ns is not known\n"
                  "\xe2\x80\xbc the annotation config.linkerd.io/proxy-log-levle of namespace/ns is not "
                  "known; did you mean config.linkerd.io/proxy-log-level?\n"
                  "\nnamespace \"ns\" annotated\n\n");
    expect_report(&annotate, "kind: Namespace\nmetadata: {name: ns}\n---\nx: 1\n",
                  "\nnamespace \"ns\" annotated\ndocument missing \"kind\" field, skipped\n\n");
    expect_report(&annotate,
                  "kind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true}\n---\n"
                  "kind: Pod\nmetadata: {name: b}\nspec: {hostNetwork: true, "
                  "automountServiceAccountToken: false,"
                  " containers: [{name: x, ports: [{containerPort: 53, protocol: UDP}]}]}\n",
                  "\n\xe2\x80\xbc \"hostNetwork: true\" is set in pod/a, pod/b\n"
                  "\xe2\x80\xbc found nothing that can be injected\n"
                  "\xe2\x80\xbc pod/b uses \"protocol: UDP\", which is not meshed\n"
                  "\xe2\x80\xbc \"automountServiceAccountToken: false\" in pod/b does not concern "
                  "the proxy, whose token is "
                  "projected\n"
                  "\npod \"a\" skipped\npod \"b\" skipped\n\n");
    expect_report(&verbose, "kind: Pod\nmetadata: {name: a}\n",
                  "\n\xe2\x88\x9a no pod uses the host's network\n\xe2\x88\x9a no pod has a "
                  "sidecar proxy yet\n"
                  "\xe2\x88\x9a at least one object can be injected or annotated\n\xe2\x88\x9a no "
                  "pod has UDP ports\n"
                  "\xe2\x88\x9a no pod has the annotation \"linkerd.io/inject: disabled\"\n"
                  "\xe2\x88\x9a no pod has \"automountServiceAccountToken: false\"\n"
                  "\npod \"a\" injected\n\n");
    expect_report(
        &uninject,
        "kind: Pod\nmetadata:\n  name: a\n  annotations:\n    linkerd.io/inject: enabled\n---\n"
        "kind: Pod\nmetadata:\n  name: b\n  annotations:\n    linkerd.io/inject: disabled\n",
        "\npod \"a\" uninjected\npod \"b\" skipped\n\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEXT_TEST(test_problems),
        TEXT_TEST(test_report),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
