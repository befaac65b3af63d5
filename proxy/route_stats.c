/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/route_stats.h"

#include "http/grpc.h"

/* --- families --------------------------------------------------------------------------------- */

enum { ROUTE_DURATION, ROUTE_FRAME };
enum { BACKEND_REQUESTS, BACKEND_DURATION, BACKEND_FRAME };

#define ROUTE_FAMILIES(p)                                                                          \
    {                                                                                              \
        [ROUTE_DURATION] = STAT_##p##_ROUTE_DURATION, [ROUTE_FRAME] = STAT_##p##_ROUTE_FRAME       \
    }
#define RETRY_FAMILIES(p)                                                                          \
    {                                                                                              \
        [ROUTE_RETRY_REQUESTS] = STAT_##p##_RETRY_REQUESTS,                                        \
        [ROUTE_RETRY_SUCCESSES] = STAT_##p##_RETRY_SUCCESSES,                                      \
        [ROUTE_RETRY_OVERFLOW] = STAT_##p##_RETRY_OVERFLOW,                                        \
        [ROUTE_RETRY_LIMIT_EXCEEDED] = STAT_##p##_RETRY_LIMIT,                                     \
    }
#define BACKEND_FAMILIES(p)                                                                        \
    {                                                                                              \
        [BACKEND_REQUESTS] = STAT_##p##_BACKEND_REQUESTS,                                          \
        [BACKEND_DURATION] = STAT_##p##_BACKEND_DURATION,                                          \
        [BACKEND_FRAME] = STAT_##p##_BACKEND_FRAME,                                                \
    }

static const enum stat_id http_route[] = ROUTE_FAMILIES(HTTP), grpc_route[] = ROUTE_FAMILIES(GRPC),
                          http_retry[] = RETRY_FAMILIES(HTTP), grpc_retry[] = RETRY_FAMILIES(GRPC),
                          http_backend[] = BACKEND_FAMILIES(HTTP),
                          grpc_backend[] = BACKEND_FAMILIES(GRPC);

/* Each by whether it is gRPC. */
static const struct bundle_kind route_kinds[2] = {
    {http_route, ARRAY_LEN(http_route), STAT_HTTP_ROUTE_STATUSES, STATUS_HTTP},
    {grpc_route, ARRAY_LEN(grpc_route), STAT_GRPC_ROUTE_STATUSES, STATUS_GRPC},
};
static const struct bundle_kind retry_kinds[2] = {
    {.stats = http_retry, .count = ARRAY_LEN(http_retry), .status_label = STATUS_NONE},
    {.stats = grpc_retry, .count = ARRAY_LEN(grpc_retry), .status_label = STATUS_NONE},
};
static const struct bundle_kind backend_kinds[2] = {
    {http_backend, ARRAY_LEN(http_backend), STAT_HTTP_BACKEND_STATUSES, STATUS_HTTP},
    {grpc_backend, ARRAY_LEN(grpc_backend), STAT_GRPC_BACKEND_STATUSES, STATUS_GRPC},
};

/* Inbound, with the members of the two above. */
#define IN_REQUEST_FAMILIES(p)                                                                     \
    {                                                                                              \
        [ROUTE_DURATION] = STAT_##p##_IN_DURATION, [ROUTE_FRAME] = STAT_##p##_IN_FRAME             \
    }
#define IN_RESPONSE_FAMILIES(p)                                                                    \
    {                                                                                              \
        [BACKEND_REQUESTS] = STAT_##p##_IN_REQUESTS,                                               \
        [BACKEND_DURATION] = STAT_##p##_IN_RESPONSE_DURATION,                                      \
        [BACKEND_FRAME] = STAT_##p##_IN_RESPONSE_FRAME,                                            \
    }

static const enum stat_id http_in_request[] = IN_REQUEST_FAMILIES(HTTP),
                          grpc_in_request[] = IN_REQUEST_FAMILIES(GRPC),
                          http_in_response[] = IN_RESPONSE_FAMILIES(HTTP),
                          grpc_in_response[] = IN_RESPONSE_FAMILIES(GRPC);

static const struct bundle_kind in_request_kinds[2] = {
    {http_in_request, ARRAY_LEN(http_in_request), STAT_HTTP_IN_STATUSES, STATUS_CODE},
    {grpc_in_request, ARRAY_LEN(grpc_in_request), STAT_GRPC_IN_STATUSES, STATUS_CODE},
};
static const struct bundle_kind in_response_kinds[2] = {
    {.stats = http_in_response, .count = ARRAY_LEN(http_in_response), .status_label = STATUS_NONE},
    {.stats = grpc_in_response, .count = ARRAY_LEN(grpc_in_response), .status_label = STATUS_NONE},
};

/* --- labels (wire 7.1) ------------------------------------------------------------------------ */

struct label_key {
    char text[32];
};

static struct label_key key_of(const char *of, const char *part)
{
    struct label_key key;
    size_t of_len = strlen(of), part_len = strlen(part);

    assert(of_len + part_len + 2 <= sizeof(key.text));
    memcpy(key.text, of, of_len);
    key.text[of_len] = '_';
    memcpy(key.text + of_len + 1, part, part_len + 1);
    return key;
}

void labels_meta(struct labels *l, const char *of, const struct meta *m, bool is_target)
{
    label_add(&l->text, key_of(of, "group").text, m->group);
    label_add(&l->text, key_of(of, "kind").text, m->kind);
    label_add(&l->text, key_of(of, "namespace").text, m->ns);
    label_add(&l->text, key_of(of, "name").text, m->name);
    if (!is_target) {
        return;
    }
    if (m->port != 0) {
        label_add_u64(&l->text, key_of(of, "port").text, m->port);
    } else {
        label_add(&l->text, key_of(of, "port").text, BYTES_NONE);
    }
    label_add(&l->text, key_of(of, "section_name").text, m->section);
}

static void label_route(struct labels *l, const struct route_names *n)
{
    labels_init(l);
    labels_meta(l, "parent", n->parent, true);
    labels_meta(l, "route", n->route, false);
}

struct stat_bundle *route_stats_get(struct stats *s, const struct route_names *n)
{
    struct labels l;

    label_route(&l, n);
    label_add(&l.text, "hostname", n->hostname);
    return stat_bundle_get(s, &route_kinds[n->is_grpc], labels_end(&l));
}

struct stat_bundle *retry_stats_get(struct stats *s, const struct route_names *n)
{
    struct labels l;

    label_route(&l, n);
    return stat_bundle_get(s, &retry_kinds[n->is_grpc], labels_end(&l));
}

struct stat_bundle *backend_stats_get(struct stats *s, const struct route_names *n)
{
    struct labels l;

    label_route(&l, n);
    labels_meta(&l, "backend", n->backend, true);
    return stat_bundle_get(s, &backend_kinds[n->is_grpc], labels_end(&l));
}

static void label_inbound(struct labels *l, const struct route_names *n)
{
    labels_init(l);
    label_add(&l->text, "parent_group", n->parent->group);
    label_add(&l->text, "parent_kind", n->parent->kind);
    label_add(&l->text, "parent_name", n->parent->name);
    label_add_u64(&l->text, "parent_port", n->parent->port);
    label_add(&l->text, "route_group", n->route->group);
    label_add(&l->text, "route_kind", n->route->kind);
    label_add(&l->text, "route_name", n->route->name);
}

struct stat_bundle *inbound_request_stats_get(struct stats *s, const struct route_names *n)
{
    struct labels l;

    label_inbound(&l, n);
    return stat_bundle_get(s, &in_request_kinds[n->is_grpc], labels_end(&l));
}

struct stat_bundle *inbound_response_stats_get(struct stats *s, const struct route_names *n)
{
    struct labels l;

    label_inbound(&l, n);
    return stat_bundle_get(s, &in_response_kinds[n->is_grpc], labels_end(&l));
}

/* --- counting --------------------------------------------------------------------------------- */

static void count_status(struct stat_bundle *b, const struct route_outcome *o)
{
    unsigned grpc = o->grpc_status >= 0 ? (unsigned)o->grpc_status : GRPC_UNKNOWN;

    stat_bundle_status(b, o->is_grpc ? grpc : o->status, o->error);
}

void route_stats_frame(struct stat_bundle *b, size_t bytes)
{
    if (b != NULL) {
        stat_bundle_observe(b, ROUTE_FRAME, (double)bytes);
    }
}

void route_stats_end(struct stat_bundle *b, const struct route_outcome *o)
{
    if (b != NULL) {
        stat_bundle_observe(b, ROUTE_DURATION, (double)o->elapsed_ns);
        count_status(b, o);
    }
}

void retry_stats_count(struct stat_bundle *b, enum route_retry what)
{
    if (b != NULL) {
        stat_bundle_add(b, what, 1);
    }
}

void backend_stats_request(struct stat_bundle *b)
{
    if (b != NULL) {
        stat_bundle_add(b, BACKEND_REQUESTS, 1);
    }
}

void backend_stats_frame(struct stat_bundle *b, size_t bytes)
{
    if (b != NULL) {
        stat_bundle_observe(b, BACKEND_FRAME, (double)bytes);
    }
}

void backend_stats_end(struct stat_bundle *b, const struct route_outcome *o)
{
    if (b != NULL) {
        stat_bundle_observe(b, BACKEND_DURATION, (double)o->elapsed_ns);
        count_status(b, o);
    }
}

/* --- errors ----------------------------------------------------------------------------------- */

static const char *reset_error(enum reset reset)
{
    switch (reset) {
    case RESET_CANCEL:
        return "CANCEL";
    case RESET_REFUSED:
        return "REFUSED";
    case RESET_CALM:
        return "ENHANCE_YOUR_CALM";
    case RESET_GOAWAY:
        return "GO_AWAY";
    case RESET_CONNECTION:
    case RESET_TRUNCATED:
        return "IO";
    case RESET_PROTOCOL:
    case RESET_INTERNAL:
    case RESET_TIMEOUT:
        return "RESET";
    case RESET_NONE:
        break;
    }
    return "UNKNOWN";
}

const char *route_error(enum failure why, enum reset reset)
{
    switch ((int)why) {
    case FAILURE_NONE:
    case FAILURE_INJECTED: /* an answer that was asked for */
    case FAILURE_INVALID_BACKEND:
    case FAILURE_REDIRECTED:
        return "";
    case FAILURE_NO_ENDPOINT:
    case FAILURE_SERVICE_UNKNOWN:
    case FAILURE_CONNECT_TIMEOUT:
        return "FAIL_FAST";
    case FAILURE_OVERLOAD:
    case FAILURE_MEMORY:
        return "LOAD_SHED";
    case FAILURE_REQUEST_TIMEOUT:
    case FAILURE_PROFILE_TIMEOUT:
        return "REQUEST_TIMEOUT";
    case FAILURE_HEADERS_TIMEOUT:
        return "RESPONSE_HEADERS_TIMEOUT";
    case FAILURE_RESPONSE_TIMEOUT:
        return "RESPONSE_STREAM_TIMEOUT";
    case FAILURE_IDLE_TIMEOUT:
        return "IDLE_TIMEOUT";
    case FAILURE_CLIENT:
        return "CANCEL";
    case FAILURE_CONNECT:
    case FAILURE_TLS:
    case FAILURE_TLS_IDENTITY:
        return "IO";
    default:
        return reset_error(reset);
    }
}
