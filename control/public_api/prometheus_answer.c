/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/prometheus.h"

#include "core/err.h"

#include <math.h>

int prom_parse(struct bytes body, unsigned status, json_t **out_samples, char *problem,
               size_t problem_bytes)
{
    json_error_t error;
    json_t *root = json_loadb(body.at != NULL ? body.at : "", body.len, 0, &error), *result;
    const char *state = json_string_value(json_object_get(root, "status"));
    const char *why = json_string_value(json_object_get(root, "error"));
    const char *type =
        json_string_value(json_object_get(json_object_get(root, "data"), "resultType"));

    if (state == NULL || (status != 200 && why == NULL)) {
        (void)snprintf(problem, problem_bytes, "status %u and no answer of Prometheus'", status);
        json_decref(root);
        return E_JSON;
    }
    if (strcmp(state, "success") != 0) {
        (void)snprintf(problem, problem_bytes, "it says \"%.200s\"", why != NULL ? why : state);
        json_decref(root);
        return E_INTERNAL;
    }
    result = json_object_get(json_object_get(root, "data"), "result");
    if (type == NULL || strcmp(type, "vector") != 0 || !json_is_array(result)) {
        (void)snprintf(problem, problem_bytes, "the answer is no vector of samples");
        json_decref(root);
        return E_JSON;
    }
    *out_samples = json_incref(result);
    json_decref(root);
    return 0;
}

bool prom_sample_value(const json_t *sample, double *out_value)
{
    const char *text = json_string_value(json_array_get(json_object_get(sample, "value"), 1));
    char *end = NULL;
    double value = text != NULL ? strtod(text, &end) : NAN;

    if (text == NULL || end == text || *end != '\0' || !isfinite(value)) {
        return false;
    }
    *out_value = value;
    return true;
}

const char *prom_sample_label(const json_t *sample, const char *label)
{
    const char *value =
        json_string_value(json_object_get(json_object_get(sample, "metric"), label));

    return value != NULL ? value : "";
}
