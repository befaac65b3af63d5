/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that Prometheus 2.42 gave, and what is none of its answers. */
#include "control/public_api/prometheus.h"
#include "core/err.h"
#include "tests/unit/unit.h"

static char problem[256];

static int parse(const char *body, unsigned status, json_t **out)
{
    problem[0] = '\0';
    return prom_parse(bytes_str(body), status, out, problem, sizeof(problem));
}

static void samples_have_labels_and_a_value(void **state UNUSED)
{
    static const char body[] = "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\","
                               "\"result\":[{\"metric\":{\"__name__\":\"up\","
                               "\"instance\":\"127.77.1.9:9190\",\"job\":\"self\",\"namespace\":"
                               "\"demo\",\"pod\":\"web-1\"},"
                               "\"value\":[1795457812.578,\"1\"]}]}}";
    json_t *samples = NULL;
    double value = 0;

    assert_int_equal(parse(body, 200, &samples), 0);
    assert_int_equal(json_array_size(samples), 1);
    assert_string_equal(prom_sample_label(json_array_get(samples, 0), "pod"), "web-1");
    assert_string_equal(prom_sample_label(json_array_get(samples, 0), "deployment"), "");
    assert_true(prom_sample_value(json_array_get(samples, 0), &value));
    assert_true(value == 1.0);
    json_decref(samples);
}

static void no_samples_are_an_answer(void **state UNUSED)
{
    json_t *samples = NULL;

    assert_int_equal(
        parse("{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}", 200,
              &samples),
        0);
    assert_int_equal(json_array_size(samples), 0);
    json_decref(samples);
}

static void what_is_no_number_is_no_value(void **state UNUSED)
{
    static const char *const values[] = {"NaN", "+Inf", "-Inf", "", "1x", "x"};

    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        json_t *sample =
            json_pack("{s:{}, s:[f, s]}", "metric", "value", 1795457812.602, values[i]);
        double value = 7;

        assert_false(prom_sample_value(sample, &value));
        assert_true(value == 7);
        json_decref(sample);
    }
    assert_false(prom_sample_value(NULL, &(double){0}));
}

static void its_own_words_are_passed_on(void **state UNUSED)
{
    static const char body[] =
        "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"invalid parameter "
        "\\\"query\\\": 1:5: parse error: unclosed left parenthesis\"}";
    json_t *samples = NULL;

    assert_int_equal(parse(body, 400, &samples), E_INTERNAL);
    assert_non_null(strstr(problem, "unclosed left parenthesis"));
    assert_null(samples);
}

static void what_is_none_of_its_answers_is_refused(void **state UNUSED)
{
    static const char *const bodies[] = {
        "",
        "<html>",
        "[]",
        "null",
        "{}",
        "{\"status\":1}",
        "{\"status\":\"success\"}",
        "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1795457812.636,"
        "\"1\"]}}",
        "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":{}}}",
        "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}",
    };
    json_t *samples = NULL;

    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        assert_int_equal(parse(bodies[i], 200, &samples), E_JSON);
        assert_true(problem[0] != '\0');
    }
    assert_int_equal(
        parse("{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}", 502,
              &samples),
        E_JSON);
    assert_non_null(strstr(problem, "502"));
    assert_null(samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_have_labels_and_a_value),
        cmocka_unit_test(no_samples_are_an_answer),
        cmocka_unit_test(what_is_no_number_is_no_value),
        cmocka_unit_test(its_own_words_are_passed_on),
        cmocka_unit_test(what_is_none_of_its_answers_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
