/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/profile.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/text.h"

#include <ctype.h>
#include <stdarg.h>

/*
 * Routes from a .proto file. What matters of it are the package, the services, their methods and how often
 * these may be called; everything else is passed over by its brackets. So a file can be read without those
 * that it imports, and without protoc, which refuses it then.
 */
#define NAME_BYTES_MAX 512

struct token {
    enum { TOKEN_END, TOKEN_WORD, TOKEN_STRING, TOKEN_SIGN } type;
    struct bytes text; /* a word may have dots in it */
    unsigned line;
};

struct proto {
    struct bytes rest;
    unsigned line;
    struct token token; /* the one to look at */
    struct bytes package;
    json_t *routes;
    int err;
    char *problem;
    size_t problem_bytes;
};

static int fail(struct proto *p, unsigned line, const char *format, ...) PRINTF_LIKE(3, 4);
static int fail(struct proto *p, unsigned line, const char *format, ...)
{
    va_list args;
    int n;

    if (p->err == 0) {
        n = snprintf(p->problem, p->problem_bytes, "line %u: ", line);
        va_start(args, format);
        (void)vsnprintf(p->problem + n, p->problem_bytes - (size_t)n, format, args);
        va_end(args);
        p->err = E_CONFIG;
    }
    return p->err;
}

/* --- tokens -------------------------------------------------------------------------------------- */

static void advance(struct proto *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        p->line += p->rest.at[i] == '\n';
    }
    p->rest = bytes_from(p->rest, bytes);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.';
}

/* Blanks and comments. */
static int skip_blanks(struct proto *p)
{
    for (;;) {
        size_t n = 0, end;

        while (n < p->rest.len && is_space(p->rest.at[n])) {
            n++;
        }
        advance(p, n);
        if (bytes_starts(p->rest, BYTES("//"))) {
            advance(p, bytes_find(p->rest, BYTES("\n"), &end) ? end : p->rest.len);
        } else if (bytes_starts(p->rest, BYTES("/*"))) {
            unsigned line = p->line;

            advance(p, 2);
            if (!bytes_find(p->rest, BYTES("*/"), &end)) {
                return fail(p, line, "a comment has no end");
            }
            advance(p, end + 2);
        } else if (n == 0) {
            return 0;
        }
    }
}

/* The bytes of a string with its quotes. */
static int read_string(struct proto *p, size_t *out_bytes)
{
    char quote = p->rest.at[0];
    size_t n = 1;

    while (n < p->rest.len && p->rest.at[n] != quote && p->rest.at[n] != '\n') {
        n += p->rest.at[n] == '\\' && n + 1 < p->rest.len ? 2 : 1;
    }
    if (n >= p->rest.len || p->rest.at[n] != quote) {
        return fail(p, p->line, "a string has no end on its line");
    }
    *out_bytes = n + 1;
    return 0;
}

static int next(struct proto *p)
{
    size_t n = 1;

    TRY(skip_blanks(p));
    p->token = (struct token){.type = TOKEN_END, .line = p->line};
    if (p->rest.len == 0) {
        return 0;
    }
    p->token.type = TOKEN_SIGN;
    if (p->rest.at[0] == '"' || p->rest.at[0] == '\'') {
        TRY(read_string(p, &n));
        p->token.type = TOKEN_STRING;
    } else if (is_word(p->rest.at[0])) {
        while (n < p->rest.len && is_word(p->rest.at[n])) {
            n++;
        }
        p->token.type = TOKEN_WORD;
    }
    p->token.text = bytes_first(p->rest, n);
    advance(p, n);
    return 0;
}

static bool is_sign(const struct proto *p, char sign)
{
    return p->token.type == TOKEN_SIGN && p->token.text.at[0] == sign;
}

static bool is_named(const struct proto *p, const char *word)
{
    return p->token.type == TOKEN_WORD && bytes_eq(p->token.text, bytes_str(word));
}

static int expected(struct proto *p, const char *what)
{
    if (p->token.type == TOKEN_END) {
        return fail(p, p->token.line, "the file ends where %s is expected", what);
    }
    return fail(p, p->token.line, "\"%.*s\" stands where %s is expected",
                (int)MIN(p->token.text.len, (size_t)64), p->token.text.at, what);
}

static int take_sign(struct proto *p, char sign)
{
    const char what[] = {'"', sign, '"', '\0'};

    return is_sign(p, sign) ? next(p) : expected(p, what);
}

static int take_name(struct proto *p, const char *what, struct bytes *out)
{
    bool is_good = p->token.type == TOKEN_WORD && !isdigit((unsigned char)p->token.text.at[0]) &&
                   p->token.text.len <= NAME_BYTES_MAX;

    if (!is_good) {
        return expected(p, what);
    }
    *out = p->token.text;
    return next(p);
}

/* To behind the ";" of a statement, or the "}" of its block, whatever stands between. */
static int skip_statement(struct proto *p)
{
    size_t depth = 0;

    for (;;) {
        if (p->token.type == TOKEN_END) {
            return expected(p, depth > 0 ? "\"}\"" : "\";\"");
        }
        if (is_sign(p, '{')) {
            depth++;
        } else if (is_sign(p, '}')) {
            if (depth == 0) {
                return expected(p, "\";\"");
            }
            depth--;
            if (depth == 0) {
                return next(p);
            }
        } else if (is_sign(p, ';') && depth == 0) {
            return next(p);
        }
        TRY(next(p));
    }
}

/* --- services ------------------------------------------------------------------------------------ */

static int add_route(struct proto *p, struct bytes service, struct bytes method, bool is_retryable)
{
    json_t *route;
    struct text regex;

    if (json_array_size(p->routes) >= PROFILE_ROUTES_MAX) {
        (void)fail(p, p->token.line, "more than %d methods", PROFILE_ROUTES_MAX);
        return p->err = E_LIMIT;
    }
    text_init(&regex, 6 * NAME_BYTES_MAX + 16);
    text_char(&regex, '/');
    regex_quote(&regex, p->package);
    text_str(&regex, p->package.len > 0 ? "\\." : "");
    regex_quote(&regex, service);
    text_char(&regex, '/');
    regex_quote(&regex, method);
    assert(regex.err == 0); /* three names, each character at most doubled */
    route = json_object();
    json_object_set_new(route, "name", json_stringn(method.at, method.len));
    json_object_set_new(route, "condition",
                        json_pack("{s:s, s:s}", "method", "POST", "pathRegex", regex.at));
    if (is_retryable) {
        json_object_set_new(route, "isRetryable", json_true());
    }
    json_array_append_new(p->routes, route);
    text_clear(&regex);
    return 0;
}

/* option idempotency_level = NO_SIDE_EFFECTS; */
static int read_option(struct proto *p, bool *io_retryable)
{
    TRY(next(p));
    if (is_named(p, "idempotency_level")) {
        TRY(next(p));
        TRY(take_sign(p, '='));
        if (is_named(p, "NO_SIDE_EFFECTS") || is_named(p, "IDEMPOTENT")) {
            *io_retryable = true;
        } else if (!is_named(p, "IDEMPOTENCY_UNKNOWN")) {
            return expected(p, "NO_SIDE_EFFECTS, IDEMPOTENT or IDEMPOTENCY_UNKNOWN");
        }
    }
    return skip_statement(p);
}

/* "(stream a.Message)" */
static int skip_type(struct proto *p)
{
    struct bytes name;

    TRY(take_sign(p, '('));
    TRY(take_name(p, "a message", &name));
    if (bytes_eq(name, BYTES("stream")) && !is_sign(p, ')')) {
        TRY(take_name(p, "a message", &name));
    }
    return take_sign(p, ')');
}

static int read_method(struct proto *p, struct bytes service)
{
    struct bytes method;
    bool is_retryable = false;

    TRY(next(p));
    TRY(take_name(p, "the name of a method", &method));
    TRY(skip_type(p));
    if (!is_named(p, "returns")) {
        return expected(p, "\"returns\"");
    }
    TRY(next(p));
    TRY(skip_type(p));
    if (is_sign(p, '{')) {
        TRY(next(p));
        while (!is_sign(p, '}')) {
            if (is_named(p, "option")) {
                TRY(read_option(p, &is_retryable));
            } else if (is_sign(p, ';')) {
                TRY(next(p));
            } else {
                return expected(p, "an option of the method or \"}\"");
            }
        }
        TRY(next(p));
    } else {
        TRY(take_sign(p, ';'));
    }
    return add_route(p, service, method, is_retryable);
}

static int read_service(struct proto *p)
{
    struct bytes name;

    TRY(next(p));
    TRY(take_name(p, "the name of a service", &name));
    TRY(take_sign(p, '{'));
    while (!is_sign(p, '}')) {
        if (is_named(p, "rpc")) {
            TRY(read_method(p, name));
        } else if (is_named(p, "option")) {
            TRY(skip_statement(p));
        } else if (is_sign(p, ';')) {
            TRY(next(p));
        } else {
            return expected(p, "\"rpc\" or \"}\"");
        }
    }
    return next(p);
}

static int read_file(struct proto *p)
{
    TRY(next(p));
    while (p->token.type != TOKEN_END) {
        if (is_named(p, "service")) {
            TRY(read_service(p));
        } else if (is_named(p, "package")) {
            TRY(next(p));
            TRY(take_name(p, "the name of a package", &p->package));
            TRY(take_sign(p, ';'));
        } else if (p->token.type == TOKEN_WORD || is_sign(p, ';')) {
            TRY(skip_statement(p)); /* syntax, import, option, message, enum, extend */
        } else {
            return expected(p, "a statement");
        }
    }
    return json_array_size(p->routes) > 0 ? 0 : fail(p, p->line, "the file has no method of a service");
}

/* Methods of two services by one name are told apart: "Votes/List". */
static void name_apart(json_t *routes)
{
    json_t *seen = json_object();

    for (size_t i = 0; i < json_array_size(routes); i++) {
        const char *name =
            json_string_value(json_object_get(json_array_get(routes, i), "name"));
        json_int_t count = json_integer_value(json_object_get(seen, name));

        json_object_set_new(seen, name, json_integer(count + 1));
    }
    for (size_t i = 0; i < json_array_size(routes); i++) {
        json_t *route = json_array_get(routes, i);
        const char *name = json_string_value(json_object_get(route, "name"));
        const char *regex = json_string_value(
            json_object_get(json_object_get(route, "condition"), "pathRegex"));
        const char *slash = strrchr(regex, '/'), *from = slash;

        if (json_integer_value(json_object_get(seen, name)) < 2) {
            continue;
        }
        while (from > regex + 1 && from[-1] != '.') {
            from--;
        }
        json_object_set_new(route, "name", json_sprintf("%.*s%s", (int)(slash - from), from, slash));
    }
    json_decref(seen);
}

int proto_routes(struct bytes text, json_t **out_routes, char *problem, size_t problem_bytes)
{
    struct proto p = {
        .rest = text, .line = 1, .problem = problem, .problem_bytes = problem_bytes};

    if (text.len > PROTO_BYTES_MAX) {
        (void)snprintf(problem, problem_bytes, "line 1: the file is larger than %u MiB",
                       PROTO_BYTES_MAX >> 20);
        return E_LIMIT;
    }
    p.routes = json_array();
    if (read_file(&p) != 0) {
        json_decref(p.routes);
        return p.err;
    }
    name_apart(p.routes);
    *out_routes = p.routes;
    return 0;
}
