/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UNIT_INSTALL_TEXT_PROBE_H
#define UNIT_INSTALL_TEXT_PROBE_H

/*
 * Manifests through inject and uninject, in each of their modes. Values are new for each test.
 */
#include "tests/unit/unit.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "install/inject.h"

#define TEXT_MAX ((size_t)1 << 24)

static struct inject_values values;
static const struct inject_options annotate = {.mode = INJECT_ANNOTATE,
                                               .annotate_value = "enabled"};
static const struct inject_options uninject = {.mode = INJECT_UNINJECT};

static inline int set_up(void **state)
{
    (void)state;
    inject_values_default(&values);
    values.trust_anchors_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    arena_cache_clear();
    return 0;
}

/* Caller frees both. */
static inline char *run(const struct inject_options *o, const char *input, char **out_report)
{
    struct text to, report;
    char problem[600] = "";
    char *text = NULL;

    text_init(&to, TEXT_MAX);
    text_init(&report, TEXT_MAX);
    if (inject_text(o, bytes_str(input), &to, &report, problem, sizeof(problem)) != 0) {
        fail_msg("%s\n%s", problem, input);
    }
    assert_int_equal(text_finish(&to, &text), 0);
    if (out_report != NULL) {
        assert_int_equal(text_finish(&report, out_report), 0);
    }
    text_clear(&report);
    return text;
}

#define HEAD "apiVersion: apps/v1\nkind: Deployment\n"

#define TEXT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
