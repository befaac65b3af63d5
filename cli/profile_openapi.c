/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/profile.h"

#include "core/alloc.h"
#include "core/arena.h"
#include "core/err.h"
#include "core/opt.h"
#include "core/text.h"
#include "text/yaml.h"

#include <stdarg.h>
#include <stdlib.h>

/*
 * Routes from an OpenAPI document: version 2 with its basePath, or version 3 with the path of its first
 * server. Errors name the line, so the document is read as a tree with marks.
 */
#define REGEX_BYTES_MAX 8192

struct openapi {
    struct arena arena;
    const char *base; /* a regular expression: "" or "/v1" */
    json_t *routes;
    char *problem;
    size_t problem_bytes;
};

static int fail(struct openapi *o, const struct yaml_node *at, const char *format, ...)
    PRINTF_LIKE(3, 4);
static int fail(struct openapi *o, const struct yaml_node *at, const char *format, ...)
{
    va_list args;
    int n = snprintf(o->problem, o->problem_bytes, "line %u: ", at->line);

    va_start(args, format);
    (void)vsnprintf(o->problem + n, o->problem_bytes - (size_t)n, format, args);
    va_end(args);
    return E_CONFIG;
}

void regex_quote(struct text *to, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (strchr("\\.+*?()|[]{}^$", text.at[i]) != NULL && text.at[i] != '\0') {
            text_char(to, '\\');
        }
        text_char(to, text.at[i]);
    }
}

/* --- paths --------------------------------------------------------------------------------------- */

/* "/books/{id}" as "/books/[^/]*". */
static int path_regex(struct openapi *o, const struct yaml_node *at, struct bytes path,
                      char **out_regex)
{
    struct bytes rest = path, literal, name;
    struct text t;

    text_init(&t, REGEX_BYTES_MAX);
    while (rest.len > 0) {
        bool has_parameter = bytes_split(rest, '{', &literal, &rest);

        regex_quote(&t, literal);
        if (!has_parameter) {
            break;
        }
        if (!bytes_split(rest, '}', &name, &rest)) {
            text_clear(&t);
            return fail(o, at, "the path %.*s has a { without its }", (int)MIN(path.len, (size_t)200),
                        path.at);
        }
        text_str(&t, "[^/]*");
    }
    if (t.err != 0) {
        text_clear(&t);
        return fail(o, at, "the path is longer than %d bytes", REGEX_BYTES_MAX);
    }
    *out_regex = arena_strdup(&o->arena, text_bytes(&t));
    text_clear(&t);
    return 0;
}

static bool is_scalar(const struct yaml_node *n)
{
    return n != NULL && n->type == YAML_SCALAR;
}

/* The path of "https://host/v1", or of "/v1". */
static struct bytes url_path(struct bytes url)
{
    size_t at;

    if (bytes_find(url, BYTES("://"), &at)) {
        url = bytes_from(url, at + 3);
        at = 0;
        while (at < url.len && url.at[at] != '/') {
            at++;
        }
        url = bytes_from(url, at);
    }
    for (at = 0; at < url.len && url.at[at] != '?' && url.at[at] != '#';) {
        at++;
    }
    return bytes_first(url, at);
}

static int read_base(struct openapi *o, const struct yaml_node *root)
{
    const struct yaml_node *at = yaml_get(root, "basePath"), *servers = yaml_get(root, "servers");
    struct bytes path = BYTES_NONE;
    char *regex = NULL;

    if (is_scalar(at)) {
        path = at->value;
    } else if (servers != NULL && servers->type == YAML_SEQUENCE && servers->first != NULL) {
        at = yaml_get(servers->first, "url");
        path = is_scalar(at) ? url_path(at->value) : BYTES_NONE;
    }
    while (path.len > 0 && path.at[path.len - 1] == '/') {
        path = bytes_first(path, path.len - 1);
    }
    o->base = "";
    if (path.len == 0) {
        return 0;
    }
    if (path.at[0] != '/') {
        return fail(o, at, "the base path %.*s does not begin with /",
                    (int)MIN(path.len, (size_t)200), path.at);
    }
    TRY(path_regex(o, at, path, &regex));
    o->base = regex;
    return 0;
}

/* --- operations ---------------------------------------------------------------------------------- */

/* "404", "4XX"; false for anything else. */
static bool read_status(struct bytes text, unsigned *out_min, unsigned *out_max)
{
    uint64_t value;

    if (text.len == 3 && text.at[0] >= '1' && text.at[0] <= '5' &&
        bytes_eq_nocase(bytes_from(text, 1), BYTES("xx"))) {
        *out_min = (unsigned)(text.at[0] - '0') * 100;
        *out_max = *out_min + 99;
        return true;
    }
    if (text.len == 3 && bytes_to_u64(text, 599, &value) == 0 && value >= 100) {
        *out_min = *out_max = (unsigned)value;
        return true;
    }
    return false;
}

/* A class of a single status below `min`, before which it belongs. */
static bool is_before(const json_t *class, unsigned min)
{
    const json_t *status = json_object_get(json_object_get(class, "condition"), "status");
    json_int_t from = json_integer_value(json_object_get(status, "min"));

    return from == json_integer_value(json_object_get(status, "max")) && from < min;
}

/* A single status counts before the range that holds it: the first class that matches decides. */
static void class_insert(json_t *classes, unsigned min, unsigned max)
{
    json_t *class = json_pack("{s:{s:{s:i, s:i}}, s:b}", "condition", "status", "min", (int)min, "max",
                              (int)max, "isFailure", min >= 500);
    size_t at = 0;

    while (at < json_array_size(classes) &&
           (min != max || is_before(json_array_get(classes, at), min))) {
        at++;
    }
    json_array_insert_new(classes, at, class);
}

static int read_responses(struct openapi *o, const struct yaml_node *operation, json_t *route)
{
    const struct yaml_node *all = yaml_get(operation, "responses");
    json_t *classes;

    if (all == NULL || all->type != YAML_MAPPING) {
        return 0; /* a stub of a document: the usual classes hold */
    }
    classes = json_array();
    for (const struct yaml_node *key = all->first; key != NULL; key = key->next->next) {
        unsigned min, max;

        if (bytes_eq(key->value, BYTES("default")) || bytes_starts(key->value, BYTES("x-"))) {
            continue;
        }
        if (!read_status(key->value, &min, &max)) {
            json_decref(classes);
            return fail(o, key, "the response %.*s is neither a status, a range as 4XX nor default",
                        (int)MIN(key->value.len, (size_t)100), key->value.at);
        }
        class_insert(classes, min, max);
    }
    if (json_array_size(classes) > 0) {
        json_object_set_new(route, "responseClasses", classes);
    } else {
        json_decref(classes);
    }
    return 0;
}

/* As on our own command line, which takes what Go writes. */
static bool is_duration(struct bytes text)
{
    AUTOFREE char *option = mem_printf("--t=%.*s", (int)MIN(text.len, (size_t)100), text.at);
    char program[] = "x", *argv[] = {program, option}, problem[256];
    uint64_t ns;
    const struct opt opts[] = {{"t", 0, OPT_DURATION, NULL, "", &ns}};
    struct opt_list args = {0};
    bool is_good = opt_parse(opts, 1, 2, argv, &args, problem, sizeof(problem)) == 0;

    opt_list_clear(&args);
    return is_good;
}

/* Of the operation, else of its path. */
static const struct yaml_node *extension(const struct yaml_node *operation,
                                         const struct yaml_node *path, const char *name)
{
    const struct yaml_node *own = yaml_get(operation, name);

    return own != NULL ? own : yaml_get(path, name);
}

static int read_extensions(struct openapi *o, const struct yaml_node *operation,
                           const struct yaml_node *path, json_t *route)
{
    const struct yaml_node *retryable = extension(operation, path, "x-linkerd-retryable");
    const struct yaml_node *timeout = extension(operation, path, "x-linkerd-timeout");

    if (retryable != NULL) {
        json_t *value = yaml_to_json(retryable);

        if (!json_is_boolean(value)) {
            json_decref(value);
            return fail(o, retryable, "x-linkerd-retryable is neither true nor false");
        }
        if (json_is_true(value)) {
            json_object_set(route, "isRetryable", value);
        }
        json_decref(value);
    }
    if (timeout != NULL) {
        if (!is_scalar(timeout) || !is_duration(timeout->value)) {
            return fail(o, timeout, "x-linkerd-timeout is no duration, as 300ms or 1m30s");
        }
        json_object_set_new(route, "timeout",
                            json_stringn(timeout->value.at, timeout->value.len));
    }
    return 0;
}

static int add_operation(struct openapi *o, const struct yaml_node *key,
                         const struct yaml_node *path_key, const char *method, const char *regex)
{
    const struct yaml_node *operation = key->next, *path = path_key->next;
    json_t *route;
    int rc;

    if (json_array_size(o->routes) >= PROFILE_ROUTES_MAX) {
        (void)fail(o, key, "more than %d routes", PROFILE_ROUTES_MAX);
        return E_LIMIT;
    }
    if (operation->type != YAML_MAPPING) {
        return fail(o, operation, "an operation is no mapping");
    }
    route = json_object();
    json_object_set_new(route, "name",
                        json_sprintf("%s " BYTES_FMT, method, BYTES_ARG(path_key->value)));
    json_object_set_new(route, "condition",
                        json_pack("{s:s, s:s}", "method", method, "pathRegex", regex));
    json_array_append_new(o->routes, route);
    rc = read_responses(o, operation, route);
    return rc == 0 ? read_extensions(o, operation, path, route) : rc;
}

static int read_path(struct openapi *o, const struct yaml_node *key)
{
    static const struct {
        const char *key, *method;
    } methods[] = {{"get", "GET"},       {"put", "PUT"},   {"post", "POST"},   {"delete", "DELETE"},
                   {"options", "OPTIONS"}, {"head", "HEAD"}, {"patch", "PATCH"}, {"trace", "TRACE"}};
    const struct yaml_node *path = key->next;
    char *own, *regex;

    if (key->value.len == 0 || key->value.at[0] != '/') {
        return fail(o, key, "the path %.*s does not begin with /",
                    (int)MIN(key->value.len, (size_t)200), key->value.at);
    }
    if (path->type != YAML_MAPPING) {
        return fail(o, path, "a path is no mapping of methods");
    }
    if (yaml_get(path, "$ref") != NULL) {
        return fail(o, path, "$ref in a path is not followed: put the path itself here");
    }
    TRY(path_regex(o, key, key->value, &own));
    regex = arena_printf(&o->arena, "%s%s", o->base, own);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        for (const struct yaml_node *k = path->first; k != NULL; k = k->next->next) {
            if (bytes_eq(k->value, bytes_str(methods[i].key))) {
                TRY(add_operation(o, k, key, methods[i].method, regex));
            }
        }
    }
    return 0;
}

/* --- the document -------------------------------------------------------------------------------- */

/* Byte by byte, a parameter after everything else: the more specific path comes first. */
static int compare_paths(const void *a, const void *b)
{
    const struct bytes x = (*(const struct yaml_node *const *)a)->value;
    const struct bytes y = (*(const struct yaml_node *const *)b)->value;

    for (size_t i = 0; i < MIN(x.len, y.len); i++) {
        unsigned c = x.at[i] == '{' ? 256 : (unsigned char)x.at[i];
        unsigned d = y.at[i] == '{' ? 256 : (unsigned char)y.at[i];

        if (c != d) {
            return c < d ? -1 : 1;
        }
    }
    return x.len < y.len ? -1 : x.len > y.len;
}

static int read_paths(struct openapi *o, const struct yaml_node *paths)
{
    const struct yaml_node **sorted = mem_new_array(paths->count + 1, sizeof(*sorted));
    size_t count = 0;
    int rc = 0;

    for (const struct yaml_node *key = paths->first; key != NULL; key = key->next->next) {
        if (!bytes_starts(key->value, BYTES("x-"))) {
            sorted[count++] = key;
        }
    }
    if (count > 1) {
        qsort(sorted, count, sizeof(sorted[0]), compare_paths);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = read_path(o, sorted[i]);
    }
    mem_free(sorted);
    return rc;
}

static int read_document(struct openapi *o, const struct yaml_document *doc)
{
    const struct yaml_node *root = doc != NULL ? doc->root : NULL, *version, *paths;

    if (root == NULL || root->type != YAML_MAPPING) {
        (void)snprintf(o->problem, o->problem_bytes, "line 1: this is no OpenAPI document");
        return E_CONFIG;
    }
    version = yaml_get(root, "openapi");
    version = version != NULL ? version : yaml_get(root, "swagger");
    if (!is_scalar(version)) {
        return fail(o, root, "neither openapi nor swagger says a version");
    }
    if (!bytes_starts(version->value, BYTES("2.")) && !bytes_starts(version->value, BYTES("3."))) {
        return fail(o, version, "version %.*s is not known; 2 and 3 are",
                    (int)MIN(version->value.len, (size_t)32), version->value.at);
    }
    paths = yaml_get(root, "paths");
    if (paths == NULL || paths->type != YAML_MAPPING) {
        return fail(o, paths != NULL ? paths : root, "the document has no paths");
    }
    TRY(read_base(o, root));
    return read_paths(o, paths);
}

int openapi_routes(struct bytes text, json_t **out_routes, char *problem, size_t problem_bytes)
{
    struct openapi o = {.problem = problem, .problem_bytes = problem_bytes};
    struct yaml_document *doc = NULL;
    int rc;

    arena_init(&o.arena, SIZE_MAX); /* the YAML reader has bounds of its own */
    o.routes = json_array();
    rc = yaml_parse(&o.arena, text, &doc, problem, problem_bytes);
    if (rc == 0) {
        rc = read_document(&o, doc);
    }
    arena_clear(&o.arena);
    if (rc != 0) {
        json_decref(o.routes);
        return rc;
    }
    *out_routes = o.routes;
    return 0;
}
