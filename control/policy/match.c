/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/reading.h"

/*
 * What routes look at (Gateway API HTTPRouteMatch, GRPCRouteMatch, hostnames).
 */
typedef Io__Linkerd__Proxy__HttpRoute__HeaderMatch header_match;
typedef Io__Linkerd__Proxy__HttpRoute__QueryParamMatch query_match;
typedef Io__Linkerd__Proxy__HttpTypes__HttpMethod method_message;
typedef Io__Linkerd__Proxy__HttpRoute__HostMatch host_match;
typedef Io__Linkerd__Proxy__GrpcRoute__GrpcRouteMatch grpc_match;

#define HOST_BYTES_MAX 253

static Io__Linkerd__Proxy__HttpRoute__PathMatch *path_new(struct arena *a)
{
    return message_new(a, &io__linkerd__proxy__http_route__path_match__descriptor);
}

http_match *match_all(struct arena *a)
{
    http_match *m = message_new(a, &io__linkerd__proxy__http_route__http_route_match__descriptor);

    m->path = path_new(a);
    m->path->kind_case = IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_PREFIX;
    m->path->prefix = message_text("/");
    return m;
}

/* `type` of a match: absent, or the word for "as it is written", or a regular expression. */
static bool is_regex(struct reading *r, const json_t *match, const char *pattern)
{
    const char *type = reading_text(r, match, "type");

    if (type == NULL || strcmp(type, "Exact") == 0) {
        return false;
    }
    if (strcmp(type, "RegularExpression") != 0) {
        reading_refuse(r, "a match is of the unknown type %.100s", type);
    } else if (!regex_is_good(pattern)) {
        reading_refuse(r, "the regular expression %.300s is malformed or needs back-references",
                       pattern);
    }
    return true;
}

/* --- HTTP ---------------------------------------------------------------------------------------- */

static void path_read(struct reading *r, const json_t *from, http_match *to)
{
    const char *type = reading_text(r, from, "type");
    const char *value = reading_text(r, from, "value");

    value = value != NULL ? value : "/";
    to->path = path_new(r->arena);
    if (type == NULL || strcmp(type, "PathPrefix") == 0) {
        to->path->kind_case = IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_PREFIX;
        to->path->prefix = message_text(value);
    } else if (is_regex(r, from, value)) {
        to->path->kind_case = IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_REGEX;
        to->path->regex = message_text(value);
        return;
    } else {
        to->path->kind_case = IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_EXACT;
        to->path->exact = message_text(value);
    }
    if (value[0] != '/') {
        reading_refuse(r, "the path %.300s does not begin with /", value);
    }
}

static void *headers_read(struct reading *r, const json_t *list, size_t *out_count)
{
    size_t count = json_array_size(list);
    header_match **all = arena_new(r->arena, MAX(count, 1) * sizeof(*all));

    for (size_t i = 0; i < count; i++) {
        const json_t *from = json_array_get(list, i);
        const char *value = reading_text(r, from, "value");

        all[i] = message_new(r->arena, &io__linkerd__proxy__http_route__header_match__descriptor);
        all[i]->name = message_text(ref_name(from));
        if (ref_name(from)[0] == '\0' || value == NULL) {
            reading_refuse(r, "a header match lacks its name or its value");
            value = "";
        }
        if (is_regex(r, from, value)) {
            all[i]->value_case = IO__LINKERD__PROXY__HTTP_ROUTE__HEADER_MATCH__VALUE_REGEX;
            all[i]->regex = message_text(value);
        } else {
            all[i]->value_case = IO__LINKERD__PROXY__HTTP_ROUTE__HEADER_MATCH__VALUE_EXACT;
            all[i]->exact.data = (uint8_t *)(void *)message_text(value);
            all[i]->exact.len = strlen(value);
        }
    }
    *out_count = count;
    return all;
}

static void queries_read(struct reading *r, const json_t *list, http_match *to)
{
    size_t count = json_array_size(list);

    to->query_params = arena_new(r->arena, MAX(count, 1) * sizeof(to->query_params[0]));
    for (size_t i = 0; i < count; i++) {
        const json_t *from = json_array_get(list, i);
        const char *value = reading_text(r, from, "value");
        query_match *m =
            message_new(r->arena, &io__linkerd__proxy__http_route__query_param_match__descriptor);

        m->name = message_text(ref_name(from));
        if (ref_name(from)[0] == '\0' || value == NULL) {
            reading_refuse(r, "a query match lacks its name or its value");
            value = "";
        }
        if (is_regex(r, from, value)) {
            m->value_case = IO__LINKERD__PROXY__HTTP_ROUTE__QUERY_PARAM_MATCH__VALUE_REGEX;
            m->regex = message_text(value);
        } else {
            m->value_case = IO__LINKERD__PROXY__HTTP_ROUTE__QUERY_PARAM_MATCH__VALUE_EXACT;
            m->exact = message_text(value);
        }
        to->query_params[to->n_query_params++] = m;
    }
}

static method_message *method_read(const char *name, struct arena *a)
{
    static const char *const names[] = {"GET",     "POST",    "PUT",  "DELETE", "PATCH",
                                        "OPTIONS", "CONNECT", "HEAD", "TRACE"};
    method_message *m = message_new(a, &io__linkerd__proxy__http_types__http_method__descriptor);

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], name) == 0) {
            m->type_case = IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__TYPE_REGISTERED;
            m->registered = (Io__Linkerd__Proxy__HttpTypes__HttpMethod__Registered)i;
            return m;
        }
    }
    m->type_case = IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__TYPE_UNREGISTERED;
    m->unregistered = message_text(name);
    return m;
}

static void *http_match_read(struct reading *r, const json_t *from)
{
    http_match *m =
        message_new(r->arena, &io__linkerd__proxy__http_route__http_route_match__descriptor);
    const json_t *path = json_object_get(from, "path");
    const char *method = reading_text(r, from, "method");

    if (path != NULL && !json_is_null(path) && !json_is_object(path)) {
        reading_refuse(r, "a path has no fields");
    } else if (json_is_object(path)) {
        path_read(r, path, m);
    }
    m->headers = headers_read(r, reading_list(r, from, "headers"), &m->n_headers);
    queries_read(r, reading_list(r, from, "queryParams"), m);
    if (method != NULL && method[0] != '\0') {
        m->method = method_read(method, r->arena);
    }
    return m;
}

/* --- gRPC ---------------------------------------------------------------------------------------- */

static void *grpc_match_read(struct reading *r, const json_t *from)
{
    grpc_match *m =
        message_new(r->arena, &io__linkerd__proxy__grpc_route__grpc_route_match__descriptor);
    const json_t *method = json_object_get(from, "method");
    const char *type = reading_text(r, method, "type");
    const char *service = reading_text(r, method, "service");
    const char *name = reading_text(r, method, "method");

    if (method != NULL && !json_is_null(method) && !json_is_object(method)) {
        reading_refuse(r, "a gRPC method has no fields");
    }
    if (type != NULL && strcmp(type, "Exact") != 0) {
        reading_refuse(r, "gRPC methods can be matched by type Exact only, not by %.100s", type);
    }
    if (service != NULL || name != NULL) {
        m->rpc = message_new(r->arena, &io__linkerd__proxy__grpc_route__grpc_rpc_match__descriptor);
        m->rpc->service = message_text(service != NULL ? service : "");
        m->rpc->method = message_text(name != NULL ? name : "");
    }
    m->headers = headers_read(r, reading_list(r, from, "headers"), &m->n_headers);
    return m;
}

void *matches_read(struct reading *r, const json_t *rule, bool is_grpc, size_t *out_count)
{
    const json_t *list = reading_list(r, rule, "matches");
    size_t count = json_array_size(list);
    void **all = arena_new(r->arena, MAX(count, 1) * sizeof(*all));

    for (size_t i = 0; i < count; i++) {
        const json_t *from = json_array_get(list, i);

        all[i] = is_grpc ? grpc_match_read(r, from) : http_match_read(r, from);
    }
    if (count == 0) {
        all[count++] = is_grpc ? grpc_match_read(r, NULL) : match_all(r->arena);
    }
    *out_count = count;
    return all;
}

/* --- hosts --------------------------------------------------------------------------------------- */

/* "a.b" of "*.a.b" as the labels b, a (wire 3.1). */
static void suffix_read(const char *host, host_match *to, struct arena *a)
{
    Io__Linkerd__Proxy__HttpRoute__HostMatch__Suffix *m =
        message_new(a, &io__linkerd__proxy__http_route__host_match__suffix__descriptor);
    struct bytes rest = bytes_str(host), label;
    size_t count = 1, at;

    for (size_t i = 0; i < rest.len; i++) {
        count += rest.at[i] == '.' ? 1 : 0;
    }
    m->reverse_labels = arena_new(a, count * sizeof(m->reverse_labels[0]));
    m->n_reverse_labels = count;
    for (at = count; at > 0; at--) {
        (void)bytes_split(rest, '.', &label, &rest);
        m->reverse_labels[at - 1] = arena_strdup(a, label);
    }
    to->match_case = IO__LINKERD__PROXY__HTTP_ROUTE__HOST_MATCH__MATCH_SUFFIX;
    to->suffix = m;
}

void *hosts_read(struct reading *r, const json_t *list, size_t *out_count)
{
    size_t count = json_array_size(list);
    host_match **all = arena_new(r->arena, MAX(count, 1) * sizeof(*all));

    if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
        reading_refuse(r, "hostnames is no list");
    }
    for (size_t i = 0; i < count; i++) {
        const char *host = json_string_value(json_array_get(list, i));

        all[i] = message_new(r->arena, &io__linkerd__proxy__http_route__host_match__descriptor);
        if (host == NULL || host[0] == '\0' || strlen(host) > HOST_BYTES_MAX ||
            (strchr(host, '*') != NULL && strncmp(host, "*.", 2) != 0)) {
            reading_refuse(r, "the hostname %.300s is none", host != NULL ? host : "");
        } else if (host[0] == '*') {
            suffix_read(host + 2, all[i], r->arena);
        } else {
            all[i]->match_case = IO__LINKERD__PROXY__HTTP_ROUTE__HOST_MATCH__MATCH_EXACT;
            all[i]->exact = message_text(host);
        }
    }
    *out_count = count;
    return all;
}
