/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/reading.h"

/*
 * What routes do to requests and responses (Gateway API HTTPRouteFilter).
 */
typedef Io__Linkerd__Proxy__HttpTypes__Headers headers_message;
typedef Io__Linkerd__Proxy__HttpRoute__RequestHeaderModifier request_edits;
typedef Io__Linkerd__Proxy__HttpRoute__ResponseHeaderModifier response_edits;
typedef Io__Linkerd__Proxy__HttpRoute__RequestRedirect redirect_message;

#define REDIRECT_STATUS 302 /* the default of the Gateway API */

static filter_message *filter_new(int kind, struct arena *a)
{
    filter_message *m =
        message_new(a, &io__linkerd__proxy__outbound__http_route__filter__descriptor);

    m->kind_case = (Io__Linkerd__Proxy__Outbound__HttpRoute__Filter__KindCase)kind;
    return m;
}

filter_message *filter_fail(unsigned status, const char *message, struct arena *a)
{
    filter_message *m =
        filter_new(IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__FILTER__KIND_FAILURE_INJECTOR, a);

    m->failure_injector =
        message_new(a, &io__linkerd__proxy__http_route__http_failure_injector__descriptor);
    m->failure_injector->status = status;
    m->failure_injector->message = message_text(message);
    return m;
}

void *filter_refuse(const char *message, struct arena *a)
{
    Io__Linkerd__Proxy__Outbound__OpaqueRoute__Filter *m =
        message_new(a, &io__linkerd__proxy__outbound__opaque_route__filter__descriptor);

    if (message == NULL) {
        m->kind_case = IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__FILTER__KIND_FORBIDDEN;
        m->forbidden = message_new(a, &io__linkerd__proxy__opaque_route__forbidden__descriptor);
    } else {
        m->kind_case = IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__FILTER__KIND_INVALID;
        m->invalid = message_new(a, &io__linkerd__proxy__opaque_route__invalid__descriptor);
        m->invalid->message = message_text(message);
    }
    return m;
}

/* --- header fields ------------------------------------------------------------------------------- */

static bool is_token(const char *name) /* RFC 9110 5.6.2 */
{
    const char *at = name;

    while ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') ||
           (*at != '\0' && strchr("!#$%&'*+-.^_`|~", *at) != NULL)) {
        at++;
    }
    return at != name && *at == '\0';
}

/* RFC 9110 5.5: nothing that could end the line. */
static bool is_field_value(const char *value)
{
    for (; *value != '\0'; value++) {
        if (((unsigned char)*value < 0x20 && *value != '\t') || *value == 0x7f) {
            return false;
        }
    }
    return true;
}

static headers_message *fields_read(struct reading *r, const json_t *list)
{
    size_t count = json_array_size(list);
    headers_message *m;

    if (count == 0) {
        return NULL;
    }
    m = message_new(r->arena, &io__linkerd__proxy__http_types__headers__descriptor);
    m->headers = arena_new(r->arena, count * sizeof(m->headers[0]));
    for (size_t i = 0; i < count; i++) {
        const json_t *from = json_array_get(list, i);
        const char *value = json_text(from, "value");
        Io__Linkerd__Proxy__HttpTypes__Headers__Header *h =
            message_new(r->arena, &io__linkerd__proxy__http_types__headers__header__descriptor);

        if (!is_token(ref_name(from)) || value == NULL || !is_field_value(value)) {
            reading_refuse(r, "a header modifier has the malformed field %.100s", ref_name(from));
            value = "";
        }
        h->name = message_text(ref_name(from));
        h->value.data = (uint8_t *)(void *)message_text(value);
        h->value.len = strlen(value);
        m->headers[m->n_headers++] = h;
    }
    return m;
}

static char **names_read(struct reading *r, const json_t *list, size_t *out_count)
{
    size_t count = json_array_size(list);
    char **all = arena_new(r->arena, MAX(count, 1) * sizeof(*all));

    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (name == NULL || !is_token(name)) {
            reading_refuse(r, "a header modifier removes a field with a malformed name");
            name = "";
        }
        all[i] = message_text(name);
    }
    *out_count = count;
    return all;
}

static filter_message *request_edits_read(struct reading *r, const json_t *from)
{
    request_edits *m =
        message_new(r->arena, &io__linkerd__proxy__http_route__request_header_modifier__descriptor);
    filter_message *f = filter_new(
        IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__FILTER__KIND_REQUEST_HEADER_MODIFIER, r->arena);

    m->add = fields_read(r, json_object_get(from, "add"));
    m->set = fields_read(r, json_object_get(from, "set"));
    m->remove = names_read(r, json_object_get(from, "remove"), &m->n_remove);
    f->request_header_modifier = m;
    return f;
}

static filter_message *response_edits_read(struct reading *r, const json_t *from)
{
    response_edits *m = message_new(
        r->arena, &io__linkerd__proxy__http_route__response_header_modifier__descriptor);
    filter_message *f = filter_new(
        IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__FILTER__KIND_RESPONSE_HEADER_MODIFIER, r->arena);

    m->add = fields_read(r, json_object_get(from, "add"));
    m->set = fields_read(r, json_object_get(from, "set"));
    m->remove = names_read(r, json_object_get(from, "remove"), &m->n_remove);
    f->response_header_modifier = m;
    return f;
}

/* --- redirects ----------------------------------------------------------------------------------- */

static void redirect_path_read(struct reading *r, const json_t *from, redirect_message *to)
{
    const char *full = json_text(from, "replaceFullPath");
    const char *prefix = json_text(from, "replacePrefixMatch");

    if (full == NULL && prefix == NULL) {
        reading_refuse(r, "a redirect's path says neither replaceFullPath nor replacePrefixMatch");
        return;
    }
    to->path = message_new(r->arena, &io__linkerd__proxy__http_route__path_modifier__descriptor);
    if (full != NULL) {
        to->path->replace_case = IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MODIFIER__REPLACE_FULL;
        to->path->full = message_text(full);
    } else {
        to->path->replace_case = IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MODIFIER__REPLACE_PREFIX;
        to->path->prefix = message_text(prefix);
    }
}

static void redirect_scheme_read(struct reading *r, const char *name, redirect_message *to)
{
    bool is_https = strcmp(name, "https") == 0;

    if (!is_https && strcmp(name, "http") != 0) {
        reading_refuse(r, "a redirect has the unknown scheme %.100s", name);
        return;
    }
    to->scheme = message_new(r->arena, &io__linkerd__proxy__http_types__scheme__descriptor);
    to->scheme->type_case = IO__LINKERD__PROXY__HTTP_TYPES__SCHEME__TYPE_REGISTERED;
    to->scheme->registered = is_https ? IO__LINKERD__PROXY__HTTP_TYPES__SCHEME__REGISTERED__HTTPS
                                      : IO__LINKERD__PROXY__HTTP_TYPES__SCHEME__REGISTERED__HTTP;
}

static filter_message *redirect_read(struct reading *r, const json_t *from)
{
    redirect_message *m =
        message_new(r->arena, &io__linkerd__proxy__http_route__request_redirect__descriptor);
    filter_message *f =
        filter_new(IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__FILTER__KIND_REDIRECT, r->arena);
    const char *scheme = json_text(from, "scheme");
    const char *host = json_text(from, "hostname");
    int64_t port = json_number(from, "port", 0);
    int64_t status = json_number(from, "statusCode", REDIRECT_STATUS);

    if (port < 0 || port > UINT16_MAX || status < 300 || status > 399 ||
        (host != NULL && !is_field_value(host))) {
        reading_refuse(r, "a redirect has a malformed hostname, port or statusCode");
        return f;
    }
    if (scheme != NULL) {
        redirect_scheme_read(r, scheme, m);
    }
    if (json_object_get(from, "path") != NULL) {
        redirect_path_read(r, json_object_get(from, "path"), m);
    }
    m->host = message_text(host != NULL ? host : "");
    m->port = (uint32_t)port;
    m->status = (uint32_t)status;
    f->redirect = m;
    return f;
}

static filter_message *filter_read(struct reading *r, const json_t *from, bool is_inbound)
{
    const char *type = json_text(from, "type");

    type = type != NULL ? type : "";
    if (strcmp(type, "RequestHeaderModifier") == 0) {
        return request_edits_read(r, json_object_get(from, "requestHeaderModifier"));
    }
    if (strcmp(type, "ResponseHeaderModifier") == 0 && !is_inbound) {
        return response_edits_read(r, json_object_get(from, "responseHeaderModifier"));
    }
    if (strcmp(type, "RequestRedirect") == 0) {
        return redirect_read(r, json_object_get(from, "requestRedirect"));
    }
    reading_refuse(r, "the filter %.100s is not supported%s", type,
                   is_inbound ? " on a Server" : "");
    return filter_fail(500, "unsupported filter", r->arena);
}

void *filters_read(struct reading *r, const json_t *list, bool is_inbound, size_t *out_count)
{
    size_t count = json_array_size(list);
    filter_message **all = arena_new(r->arena, MAX(count, 1) * sizeof(*all));

    if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
        reading_refuse(r, "filters is no list");
    }
    for (size_t i = 0; i < count; i++) {
        all[i] = filter_read(r, json_array_get(list, i), is_inbound);
    }
    *out_count = count;
    return all;
}
