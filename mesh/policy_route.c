/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/decode.h"

#include "core/err.h"
#include "http/message.h"

/*
 * The parts of routes that inbound and outbound, HTTP and gRPC share: hosts, matches and filters.
 */
typedef Io__Linkerd__Proxy__HttpTypes__Headers pb_headers;
typedef Io__Linkerd__Proxy__HttpRoute__PathMatch pb_path_match;
typedef Io__Linkerd__Proxy__HttpRoute__QueryParamMatch pb_query_match;
typedef Io__Linkerd__Proxy__HttpRoute__RequestRedirect pb_redirect;
typedef Io__Linkerd__Proxy__HttpRoute__RequestHeaderModifier pb_header_edits;
typedef Io__Linkerd__Proxy__GrpcRoute__GrpcRpcMatch pb_rpc_match;

#define REDIRECT_STATUS 301
#define STATUS_MIN      100
#define STATUS_MAX      599
#define HOST_BYTES_MAX  253

/* --- hosts ------------------------------------------------------------------------------------ */

/* "*.a.b" comes as the labels b, a (wire 3.1). */
static struct bytes suffix_text(struct decode *d,
                                const Io__Linkerd__Proxy__HttpRoute__HostMatch__Suffix *from)
{
    char host[HOST_BYTES_MAX + 1];
    struct text t;

    text_init_fixed(&t, host, sizeof(host));
    for (size_t i = from->n_reverse_labels; i > 0; i--) {
        text_str(&t, from->reverse_labels[i - 1]);
        text_str(&t, i > 1 ? "." : "");
    }
    if (t.err != 0) {
        decode_refuse(d, "a host is too long");
    }
    return decode_bytes(d, text_bytes(&t));
}

static struct bytes lower(struct bytes b)
{
    char *at = (char *)(uintptr_t)b.at; /* a copy that we just made */

    for (size_t i = 0; i < b.len; i++) {
        at[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] + ('a' - 'A') : at[i]);
    }
    return b;
}

void decode_hosts(struct decode *d, pb_host_match **from, size_t count, struct route *to)
{
    to->hosts = decode_array(d, count, sizeof(*to->hosts));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct host_match *m = &to->hosts[to->hosts_count++];

        switch ((int)from[i]->match_case) {
        case IO__LINKERD__PROXY__HTTP_ROUTE__HOST_MATCH__MATCH_EXACT:
            m->host = lower(decode_text(d, from[i]->exact));
            break;
        case IO__LINKERD__PROXY__HTTP_ROUTE__HOST_MATCH__MATCH_SUFFIX:
            m->is_suffix = true;
            m->host = lower(suffix_text(d, from[i]->suffix));
            break;
        default:
            decode_refuse(d, "a host match is empty");
        }
    }
}

/* --- matches ---------------------------------------------------------------------------------- */

static void decode_path(struct decode *d, const pb_path_match *from, struct route_match *to)
{
    to->has_path = true;
    switch ((int)from->kind_case) {
    case IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_EXACT:
        to->path = (struct text_match){.op = MATCH_EXACT, .text = decode_text(d, from->exact)};
        break;
    case IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_PREFIX:
        to->path = (struct text_match){.op = MATCH_PREFIX, .text = decode_text(d, from->prefix)};
        break;
    case IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MATCH__KIND_REGEX:
        to->path = (struct text_match){.op = MATCH_REGEX,
                                       .text = decode_text(d, from->regex),
                                       .regex = decode_regex(d, from->regex)};
        break;
    default:
        decode_refuse(d, "a path match is empty");
    }
}

static void decode_headers(struct decode *d, pb_header_match **from, size_t count,
                           struct route_match *to)
{
    to->headers = decode_array(d, count, sizeof(*to->headers));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct named_match *m = &to->headers[to->headers_count++];

        m->name = lower(decode_text(d, from[i]->name));
        switch ((int)from[i]->value_case) {
        case IO__LINKERD__PROXY__HTTP_ROUTE__HEADER_MATCH__VALUE_EXACT:
            m->value = (struct text_match){
                .op = MATCH_EXACT,
                .text = decode_bytes(d, bytes_of(from[i]->exact.data, from[i]->exact.len))};
            break;
        case IO__LINKERD__PROXY__HTTP_ROUTE__HEADER_MATCH__VALUE_REGEX:
            m->value = (struct text_match){.op = MATCH_REGEX,
                                           .text = decode_text(d, from[i]->regex),
                                           .regex = decode_regex(d, from[i]->regex)};
            break;
        default:
            decode_refuse(d, "a header match is empty");
        }
    }
}

static void decode_queries(struct decode *d, pb_query_match **from, size_t count,
                           struct route_match *to)
{
    to->queries = decode_array(d, count, sizeof(*to->queries));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct named_match *m = &to->queries[to->queries_count++];

        m->name = decode_text(d, from[i]->name);
        switch ((int)from[i]->value_case) {
        case IO__LINKERD__PROXY__HTTP_ROUTE__QUERY_PARAM_MATCH__VALUE_EXACT:
            m->value =
                (struct text_match){.op = MATCH_EXACT, .text = decode_text(d, from[i]->exact)};
            break;
        case IO__LINKERD__PROXY__HTTP_ROUTE__QUERY_PARAM_MATCH__VALUE_REGEX:
            m->value = (struct text_match){.op = MATCH_REGEX,
                                           .text = decode_text(d, from[i]->regex),
                                           .regex = decode_regex(d, from[i]->regex)};
            break;
        default:
            decode_refuse(d, "a query match is empty");
        }
    }
}

struct bytes decode_method(struct decode *d, const pb_method *from)
{
    static const char *const names[] = {"GET",     "POST",    "PUT",  "DELETE", "PATCH",
                                        "OPTIONS", "CONNECT", "HEAD", "TRACE"};

    switch ((int)from->type_case) {
    case IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__TYPE_REGISTERED:
        if ((size_t)from->registered < ARRAY_LEN(names)) {
            return bytes_str(names[from->registered]);
        }
        break;
    case IO__LINKERD__PROXY__HTTP_TYPES__HTTP_METHOD__TYPE_UNREGISTERED:
        if (from->unregistered[0] != '\0') {
            return decode_text(d, from->unregistered);
        }
        break;
    default:
        break;
    }
    decode_refuse(d, "a method match is empty or unknown");
    return BYTES_NONE;
}

void decode_http_matches(struct decode *d, pb_http_match **from, size_t count, struct rule *to)
{
    to->matches = decode_array(d, count, sizeof(*to->matches));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct route_match *m = &to->matches[to->matches_count++];

        if (from[i]->path != NULL) {
            decode_path(d, from[i]->path, m);
        }
        decode_headers(d, from[i]->headers, from[i]->n_headers, m);
        decode_queries(d, from[i]->query_params, from[i]->n_query_params, m);
        if (from[i]->method != NULL) {
            m->method = decode_method(d, from[i]->method);
        }
    }
}

/* A method of whatever service: the name is taken literally. */
static struct text_match any_service(struct decode *d, const char *method)
{
    struct text t;
    struct text_match m = {.op = MATCH_REGEX};

    text_init(&t, 2048);
    text_str(&t, "/[^/]+/");
    for (const char *c = method; *c != '\0'; c++) {
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
              *c == '_')) {
            text_char(&t, '\\');
        }
        text_char(&t, *c);
    }
    if (t.err != 0) {
        decode_refuse(d, "the name of a gRPC method is too long");
    } else {
        m.text = decode_bytes(d, text_bytes(&t));
        m.regex = decode_regex(d, t.at);
    }
    text_clear(&t);
    return m;
}

static struct bytes rpc_path(struct decode *d, const pb_rpc_match *rpc)
{
    size_t service = strlen(rpc->service), method = strlen(rpc->method);
    char *at = decode_array(d, service + method + 3, 1);

    if (at == NULL) {
        return BYTES_NONE;
    }
    (void)snprintf(at, service + method + 3, "/%s/%s", rpc->service, rpc->method);
    return bytes_str(at);
}

static void decode_rpc(struct decode *d, const pb_rpc_match *rpc, struct route_match *to)
{
    if (rpc->service[0] == '\0' && rpc->method[0] == '\0') {
        return;
    }
    to->has_path = true;
    if (rpc->service[0] == '\0') {
        to->path = any_service(d, rpc->method);
    } else {
        to->path = (struct text_match){.op = rpc->method[0] == '\0' ? MATCH_PREFIX : MATCH_EXACT,
                                       .text = rpc_path(d, rpc)};
    }
}

void decode_grpc_matches(struct decode *d, pb_grpc_match **from, size_t count, struct rule *to)
{
    to->matches = decode_array(d, count, sizeof(*to->matches));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct route_match *m = &to->matches[to->matches_count++];

        m->method = BYTES("POST"); /* wire 5.6 */
        if (from[i]->rpc != NULL) {
            decode_rpc(d, from[i]->rpc, m);
        }
        decode_headers(d, from[i]->headers, from[i]->n_headers, m);
    }
}

/* --- filters ---------------------------------------------------------------------------------- */

static unsigned decode_status(struct decode *d, uint32_t status)
{
    if (status < STATUS_MIN || status > STATUS_MAX) {
        decode_refuse(d, "%u is no HTTP status", status);
    }
    return status;
}

static void decode_failure(struct decode *d,
                           const Io__Linkerd__Proxy__HttpRoute__HttpFailureInjector *from,
                           bool is_grpc, struct filter *to)
{
    to->kind = FILTER_FAIL;
    to->is_grpc = is_grpc;
    to->status = is_grpc ? from->status : decode_status(d, from->status);
    to->message = decode_text(d, from->message);
    if (from->ratio == NULL) {
        return;
    }
    if (from->ratio->denominator == 0) {
        decode_refuse(d, "the ratio of a failure injector divides by 0");
    }
    to->numerator = from->ratio->numerator;
    to->denominator = from->ratio->denominator;
}

/* A name or value that no message can carry would fail every request at the very end. */
static struct bytes decode_name(struct decode *d, const char *from)
{
    struct bytes name = lower(decode_text(d, from));

    if (decode_is_ok(d) && !http_is_token(name)) {
        decode_refuse(d, "a header modifier names no header: %.64s", from);
    }
    return name;
}

static struct bytes decode_value(struct decode *d, const ProtobufCBinaryData *from)
{
    struct bytes value = decode_bytes(d, bytes_of(from->data, from->len));

    if (decode_is_ok(d) && !http_is_field_value(value)) {
        decode_refuse(d, "a header modifier has a value with control characters");
    }
    return value;
}

static void decode_edits(struct decode *d, const pb_headers *from, struct header_edit **out,
                         size_t *out_count)
{
    size_t count = from != NULL ? from->n_headers : 0;

    *out = decode_array(d, count, sizeof(**out));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        (*out)[(*out_count)++] = (struct header_edit){
            .name = decode_name(d, from->headers[i]->name),
            .value = decode_value(d, &from->headers[i]->value),
        };
    }
}

static void decode_header_edits(struct decode *d, enum filter_kind kind,
                                const pb_header_edits *from, struct filter *to)
{
    to->kind = kind;
    decode_edits(d, from->add, &to->add, &to->add_count);
    decode_edits(d, from->set, &to->set, &to->set_count);
    to->remove = decode_array(d, from->n_remove, sizeof(*to->remove));
    for (size_t i = 0; i < from->n_remove && decode_is_ok(d); i++) {
        to->remove[to->remove_count++] = decode_name(d, from->remove[i]);
    }
}

static struct bytes decode_scheme(struct decode *d,
                                  const Io__Linkerd__Proxy__HttpTypes__Scheme *from)
{
    if (from == NULL) {
        return BYTES_NONE;
    }
    switch ((int)from->type_case) {
    case IO__LINKERD__PROXY__HTTP_TYPES__SCHEME__TYPE_REGISTERED:
        return from->registered == IO__LINKERD__PROXY__HTTP_TYPES__SCHEME__REGISTERED__HTTPS
                   ? BYTES("https")
                   : BYTES("http");
    case IO__LINKERD__PROXY__HTTP_TYPES__SCHEME__TYPE_UNREGISTERED:
        return decode_text(d, from->unregistered);
    default:
        return BYTES_NONE;
    }
}

static void decode_redirect(struct decode *d, const pb_redirect *from, struct filter *to)
{
    to->kind = FILTER_REDIRECT;
    to->status = from->status == 0 ? REDIRECT_STATUS : decode_status(d, from->status);
    to->scheme = decode_scheme(d, from->scheme);
    to->host = decode_text(d, from->host);
    if (from->port > UINT16_MAX) {
        decode_refuse(d, "%u is no port", from->port);
    }
    to->port = from->port;
    if (from->path == NULL) {
        return;
    }
    if (from->path->replace_case == IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MODIFIER__REPLACE_FULL) {
        to->path = decode_text(d, from->path->full);
    } else if (from->path->replace_case ==
               IO__LINKERD__PROXY__HTTP_ROUTE__PATH_MODIFIER__REPLACE_PREFIX) {
        to->path_prefix = from->path->prefix[0] != '\0' ? decode_text(d, from->path->prefix)
                                                        : BYTES("/"); /* a prefix that goes away */
    }
}

static void decode_filter(struct decode *d, const pb_filter *from, bool is_grpc, struct filter *to)
{
    switch ((int)from->kind_case) {
    case IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__FILTER__KIND_FAILURE_INJECTOR:
        decode_failure(d, from->failure_injector, is_grpc, to);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__FILTER__KIND_REQUEST_HEADER_MODIFIER:
        decode_header_edits(d, FILTER_REQUEST_HEADERS, from->request_header_modifier, to);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__FILTER__KIND_REDIRECT:
        decode_redirect(d, from->redirect, to);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__FILTER__KIND_RESPONSE_HEADER_MODIFIER: {
        /* Both kinds of modifier have the same fields. */
        const pb_header_edits *edits = decode_recast(d, &from->response_header_modifier->base,
                                                     PB(http_route__request_header_modifier));

        if (edits != NULL) {
            decode_header_edits(d, FILTER_RESPONSE_HEADERS, edits, to);
        }
        break;
    }
    default:
        decode_refuse(d, "a filter is empty or of a kind that this proxy does not know");
    }
}

void decode_filters(struct decode *d, pb_filter **from, size_t count, bool is_grpc,
                    struct filter **out, size_t *out_count)
{
    *out = decode_array(d, count, sizeof(**out));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        decode_filter(d, from[i], is_grpc, &(*out)[(*out_count)++]);
    }
}

void decode_filters_as(struct decode *d, ProtobufCMessage *const *from, size_t count, bool is_grpc,
                       struct filter **out, size_t *out_count)
{
    *out = decode_array(d, count, sizeof(**out));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        const pb_filter *filter = decode_recast(d, from[i], PB(outbound__http_route__filter));

        if (filter != NULL) {
            decode_filter(d, filter, is_grpc, &(*out)[(*out_count)++]);
        }
    }
}
