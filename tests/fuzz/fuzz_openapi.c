/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers openapi_routes() of cli/profile_openapi.c, which reads OpenAPI documents.
 *
 * Properties: a refusal names a line; each path is a regular expression that proxies take; each class of
 * responses is a range of statuses.
 */
#include "cli/profile.h"
#include "core/err.h"
#include "mesh/match.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_route(const json_t *route)
{
    const json_t *condition = json_object_get(route, "condition");
    const json_t *classes = json_object_get(route, "responseClasses");
    const char *pattern = json_string_value(json_object_get(condition, "pathRegex"));
    struct regex *regex = NULL;
    int rc;

    assert(pattern != NULL && pattern[0] == '/');
    rc = regex_new(bytes_str(pattern), &regex);
    assert(rc == 0 || rc == E_LIMIT); /* longer than a proxy takes */
    regex_free(regex);
    for (size_t i = 0; i < json_array_size(classes); i++) {
        const json_t *class = json_array_get(classes, i);
        const json_t *status =
            json_object_get(json_object_get(class, "condition"), "status");
        json_int_t min = json_integer_value(json_object_get(status, "min"));
        json_int_t max = json_integer_value(json_object_get(status, "max"));

        assert(min >= 100 && min <= max && max <= 599);
        assert(json_is_true(json_object_get(class, "isFailure")) == (min >= 500));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *routes = NULL;
    char problem[512] = "";
    int rc = openapi_routes(bytes_of(data, size), &routes, problem, sizeof(problem));

    if (rc != 0) {
        assert(routes == NULL && problem[0] != '\0');
        return 0;
    }
    assert(json_array_size(routes) <= PROFILE_ROUTES_MAX);
    for (size_t i = 0; i < json_array_size(routes); i++) {
        check_route(json_array_get(routes, i));
    }
    json_decref(routes);
    return 0;
}
