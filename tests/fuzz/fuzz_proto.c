/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers proto_routes() of cli/profile_proto.c, which reads .proto files.
 *
 * Properties: a refusal names a line of the input; each route is a POST of a path of two parts; a comment
 * behind the text changes nothing.
 */
#include "cli/profile.h"
#include "core/alloc.h"
#include "core/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_routes(const json_t *routes)
{
    assert(json_array_size(routes) > 0 && json_array_size(routes) <= PROFILE_ROUTES_MAX);
    for (size_t i = 0; i < json_array_size(routes); i++) {
        const json_t *condition = json_object_get(json_array_get(routes, i), "condition");
        const char *regex = json_string_value(json_object_get(condition, "pathRegex"));

        assert(strcmp(json_string_value(json_object_get(condition, "method")), "POST") == 0);
        assert(regex != NULL && regex[0] == '/' && strchr(regex + 1, '/') == strrchr(regex, '/'));
        assert(json_string_value(json_object_get(json_array_get(routes, i), "name")) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *routes = NULL, *again = NULL;
    char problem[256] = "", *longer;
    int rc = proto_routes(bytes_of(data, size), &routes, problem, sizeof(problem));

    if (rc != 0) {
        assert(rc == E_CONFIG || rc == E_LIMIT);
        assert(routes == NULL && strncmp(problem, "line ", 5) == 0);
        return 0;
    }
    check_routes(routes);
    longer = mem_printf("%.*s\n/* the end */ // really", (int)size, (const char *)data);
    if (strlen(longer) == size + 24) { /* no NUL within */
        assert(proto_routes(bytes_str(longer), &again, problem, sizeof(problem)) == 0);
        assert(json_equal(routes, again));
        json_decref(again);
    }
    mem_free(longer);
    json_decref(routes);
    return 0;
}
