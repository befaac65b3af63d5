/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/breakdown.h"
#include "core/alloc.h"
#include "core/err.h"

/*
 * StatInbound: what the proxies of objects let in, by Server and route. StatOutbound: what they sent, by
 * route, and of each route by backend.
 */
#define ADMIN_PORT "4191" /* probes and scrapes of the proxy itself */

static void match_own(struct breakdown *b)
{
    if (b->ask.kind->kind != KIND_NAMESPACE && b->ask.ns[0] != '\0') {
        promql_add_match(&b->scope.match, "namespace", b->ask.ns);
    }
    promql_add_match(&b->scope.match, b->ask.kind->label, b->ask.name);
}

/* A Service has no proxy of its own. */
static bool has_proxies(struct breakdown *b)
{
    if (b->ask.kind->kind != KIND_SERVICE) {
        return true;
    }
    breakdown_refuse(b, "a service has no proxies of its own; name its workload, or a pod");
    return false;
}

static uint32_t port_of(const char *text)
{
    uint64_t port;

    return bytes_to_u64(bytes_str(text), UINT16_MAX, &port) == 0 ? (uint32_t)port : 0;
}

/* --- inbound ------------------------------------------------------------------------------------- */

static const char *const inbound_labels[] = {"srv_kind",   "srv_name",   "srv_port", "route_kind",
                                             "route_name", "authz_kind", "authz_name"};
enum { IN_SRV_KIND = 2, IN_SRV, IN_PORT, IN_ROUTE_KIND, IN_ROUTE, IN_AUTHZ_KIND, IN_AUTHZ };
#define AUTHZ_LABELS 2 /* at the end: left out when they do not tell rows apart */

typedef Linkerd2__Public__StatInboundResponse__Row inbound_row;

static bool is_default(const char *kind)
{
    return kind[0] == '\0' || strcmp(kind, "default") == 0;
}

/* The routes for a pod's probes are made by default, too, but let in whom the others may refuse. */
static bool is_unnamed(const struct breakdown_row *row)
{
    return is_default(row->label[IN_ROUTE_KIND]) && strcmp(row->label[IN_ROUTE], "probe") != 0;
}

static inbound_row *inbound_message(struct breakdown *b, const struct breakdown_row *row)
{
    inbound_row *m = arena_new(&b->arena, sizeof(*m));
    bool has_authz = b->labels_count == ARRAY_LEN(inbound_labels);

    linkerd2__public__stat_inbound_response__row__init(m);
    m->resource = breakdown_resource(b, row);
    m->server = breakdown_text(b, is_default(row->label[IN_SRV_KIND]) ? "" : row->label[IN_SRV]);
    m->port = port_of(row->label[IN_PORT]);
    if (!is_unnamed(row)) {
        m->route = breakdown_text(b, row->label[IN_ROUTE]);
        m->route_kind = breakdown_text(b, row->label[IN_ROUTE_KIND]);
    }
    if (has_authz) {
        m->authorization = breakdown_text(b, row->label[IN_AUTHZ]);
    }
    m->stats = breakdown_stats(b, row);
    m->denied_count = row->denied;
    m->limited_count = row->limited;
    return m;
}

static void inbound_finish(struct breakdown *b)
{
    Linkerd2__Public__StatInboundResponse response;
    Linkerd2__Public__StatInboundResponse__Ok ok;
    struct map_iter it = MAP_ITER(&b->rows);

    linkerd2__public__stat_inbound_response__init(&response);
    linkerd2__public__stat_inbound_response__ok__init(&ok);
    ok.rows = arena_new(&b->arena, (map_count(&b->rows) + 1) * sizeof(ok.rows[0]));
    while (map_next(&it)) {
        const struct breakdown_row *row = it.value;

        if ((row->figures.has_responses || row->denied + row->limited > 0) &&
            breakdown_is_selected(b, row)) {
            ok.rows[ok.n_rows++] = inbound_message(b, row);
        }
    }
    response.ok = &ok;
    response.response_case = LINKERD2__PUBLIC__STAT_INBOUND_RESPONSE__RESPONSE_OK;
    answer_message(b->call.request, &response.base);
    breakdown_free(b);
}

static void inbound_refuse(struct service_request *r, Linkerd2__Public__ResourceError *error)
{
    Linkerd2__Public__StatInboundResponse response;

    linkerd2__public__stat_inbound_response__init(&response);
    response.error = error;
    response.response_case = LINKERD2__PUBLIC__STAT_INBOUND_RESPONSE__RESPONSE_ERROR;
    answer_message(r, &response.base);
}

void call_stat_inbound(struct public_api *api, struct service_request *r)
{
    static const struct breakdown_question questions[] = {
        {"response_total", TAKE_CLASSIFIED},
        {"response_latency_ms_bucket", TAKE_P50},
        {"response_latency_ms_bucket", TAKE_P95},
        {"response_latency_ms_bucket", TAKE_P99},
        {"inbound_http_authz_deny_total", TAKE_DENIED},
        {"inbound_http_local_ratelimit_total", TAKE_LIMITED},
    };
    Linkerd2__Public__StatInboundRequest *m = linkerd2__public__stat_inbound_request__unpack(
        NULL, r->body.len, (const uint8_t *)(const void *)r->body.at);
    struct breakdown *b;

    if (m == NULL) {
        answer_error(r, 400, "the request is no StatInboundRequest");
        return;
    }
    b = breakdown_open(api, r, m, m->selector, m->time_window, NULL, inbound_refuse);
    if (b == NULL || !has_proxies(b)) {
        return;
    }
    b->labels = inbound_labels;
    b->labels_count = ARRAY_LEN(inbound_labels) - (m->by_authorization ? 0 : AUTHZ_LABELS);
    b->finish = inbound_finish;
    match_own(b);
    /* Denials and rate limits are counted by families that are inbound by their name, and lack the label. */
    promql_add_match_op(&b->scope.match, "direction", "!=", "outbound");
    promql_add_match_op(&b->scope.match, "srv_port", "!=", ADMIN_PORT);
    breakdown_start(b, questions, ARRAY_LEN(questions));
}

/* --- outbound ------------------------------------------------------------------------------------ */

static const char *const outbound_labels[] = {
    "parent_kind", "parent_namespace", "parent_name",       "parent_port",  "route_kind",
    "route_name",  "backend_kind",     "backend_namespace", "backend_name", "backend_port",
    "dst_namespace", "dst_service", /* of response_total alone */
};
enum { OUT_PARENT = 2, OUT_ROUTE_KIND = 6, OUT_ROUTE, OUT_BACKEND, OUT_DST = 12 };

typedef Linkerd2__Public__StatOutboundResponse__Row outbound_row;
typedef Linkerd2__Public__StatOutboundResponse__Target outbound_target;
typedef Linkerd2__Public__StatOutboundResponse__GrpcFailures grpc_failures;

/* Four labels from `at` on: kind, namespace, name, port. */
static outbound_target *target_message(struct breakdown *b, const struct breakdown_row *row,
                                       size_t at)
{
    outbound_target *m = arena_new(&b->arena, sizeof(*m));

    linkerd2__public__stat_outbound_response__target__init(m);
    m->kind = breakdown_text(b, row->label[at]);
    m->namespace_ = breakdown_text(b, row->label[at + 1]);
    m->name = breakdown_text(b, row->label[at + 2]);
    m->port = port_of(row->label[at + 3]);
    return m;
}

static outbound_row *outbound_message(struct breakdown *b, const struct breakdown_row *row)
{
    outbound_row *m = arena_new(&b->arena, sizeof(*m));

    linkerd2__public__stat_outbound_response__row__init(m);
    m->resource = breakdown_resource(b, row);
    m->parent = target_message(b, row, OUT_PARENT);
    if (!is_default(row->label[OUT_ROUTE_KIND])) {
        m->route = breakdown_text(b, row->label[OUT_ROUTE]);
        m->route_kind = breakdown_text(b, row->label[OUT_ROUTE_KIND]);
    }
    if (row->label[OUT_BACKEND][0] != '\0') {
        m->backend = target_message(b, row, OUT_BACKEND);
    }
    m->stats = breakdown_stats(b, row);
    m->timeout_count = row->timeouts;
    m->retry_count = row->retries;
    return m;
}

/* "object's namespace, its name, service's namespace, its name" of a backend (labels from `at` on). */
static struct bytes service_key(struct breakdown *b, const struct breakdown_row *row, size_t at)
{
    return bytes_str(arena_printf(&b->arena, "%s\n%s\n%s\n%s", row->label[0], row->label[1], row->label[at],
                                  row->label[at + 1]));
}

/* Services that gRPC routes lead to, too, are left out: their failures may be counted there. */
static void add_grpc_failures(struct breakdown *b, Linkerd2__Public__StatOutboundResponse__Ok *ok)
{
    struct map_iter it = MAP_ITER(&b->rows);
    struct map by_http, by_grpc;

    map_init(&by_http);
    map_init(&by_grpc);
    while (map_next(&it)) {
        struct breakdown_row *row = it.value;

        if (strcmp(row->label[OUT_BACKEND], "Service") == 0 && (row->is_by_http || row->is_by_grpc)) {
            (void)map_put(row->is_by_grpc ? &by_grpc : &by_http, service_key(b, row, OUT_BACKEND + 1), row);
        }
    }
    ok->grpc_failures = arena_new(&b->arena, (map_count(&b->rows) + 1) * sizeof(ok->grpc_failures[0]));
    it = (struct map_iter)MAP_ITER(&b->rows);
    while (map_next(&it)) {
        const struct breakdown_row *row = it.value;
        struct bytes key = service_key(b, row, OUT_DST);
        grpc_failures *m;

        if (row->grpc_failed == 0 || !breakdown_is_selected(b, row) || map_get(&by_http, key) == NULL ||
            map_get(&by_grpc, key) != NULL) {
            continue;
        }
        m = arena_new(&b->arena, sizeof(*m));
        linkerd2__public__stat_outbound_response__grpc_failures__init(m);
        m->resource = breakdown_resource(b, row);
        m->namespace_ = breakdown_text(b, row->label[OUT_DST]);
        m->service = breakdown_text(b, row->label[OUT_DST + 1]);
        m->count = row->grpc_failed;
        ok->grpc_failures[ok->n_grpc_failures++] = m;
    }
    map_clear(&by_http);
    map_clear(&by_grpc);
}

static void outbound_finish(struct breakdown *b)
{
    Linkerd2__Public__StatOutboundResponse response;
    Linkerd2__Public__StatOutboundResponse__Ok ok;
    struct map_iter it = MAP_ITER(&b->rows);

    linkerd2__public__stat_outbound_response__init(&response);
    linkerd2__public__stat_outbound_response__ok__init(&ok);
    ok.rows = arena_new(&b->arena, (map_count(&b->rows) + 1) * sizeof(ok.rows[0]));
    add_grpc_failures(b, &ok);
    while (map_next(&it)) {
        const struct breakdown_row *row = it.value;

        if ((row->figures.has_responses || row->retries > 0) && breakdown_is_selected(b, row)) {
            ok.rows[ok.n_rows++] = outbound_message(b, row);
        }
    }
    response.ok = &ok;
    response.response_case = LINKERD2__PUBLIC__STAT_OUTBOUND_RESPONSE__RESPONSE_OK;
    answer_message(b->call.request, &response.base);
    breakdown_free(b);
}

static void outbound_refuse(struct service_request *r, Linkerd2__Public__ResourceError *error)
{
    Linkerd2__Public__StatOutboundResponse response;

    linkerd2__public__stat_outbound_response__init(&response);
    response.error = error;
    response.response_case = LINKERD2__PUBLIC__STAT_OUTBOUND_RESPONSE__RESPONSE_ERROR;
    answer_message(r, &response.base);
}

#define OUTBOUND_QUESTIONS(p, take_status)                                                         \
    {"outbound_" p "_route_request_statuses_total", take_status},                                  \
        {"outbound_" p "_route_request_duration_seconds_bucket", TAKE_P50_S},                      \
        {"outbound_" p "_route_request_duration_seconds_bucket", TAKE_P95_S},                      \
        {"outbound_" p "_route_request_duration_seconds_bucket", TAKE_P99_S},                      \
        {"outbound_" p "_route_retry_requests_total", TAKE_RETRIES},                               \
        {"outbound_" p "_route_backend_response_statuses_total", take_status},                     \
        {"outbound_" p "_route_backend_response_duration_seconds_bucket", TAKE_P50_S},             \
        {"outbound_" p "_route_backend_response_duration_seconds_bucket", TAKE_P95_S},             \
        {"outbound_" p "_route_backend_response_duration_seconds_bucket", TAKE_P99_S},

void call_stat_outbound(struct public_api *api, struct service_request *r)
{
    static const struct breakdown_question questions[] = {
        OUTBOUND_QUESTIONS("http", TAKE_HTTP_STATUS) OUTBOUND_QUESTIONS("grpc", TAKE_GRPC_STATUS)
            {"response_total", TAKE_GRPC_FAILED}};
    Linkerd2__Public__StatOutboundRequest *m = linkerd2__public__stat_outbound_request__unpack(
        NULL, r->body.len, (const uint8_t *)(const void *)r->body.at);
    struct breakdown *b;

    if (m == NULL) {
        answer_error(r, 400, "the request is no StatOutboundRequest");
        return;
    }
    b = breakdown_open(api, r, m, m->selector, m->time_window, NULL, outbound_refuse);
    if (b == NULL || !has_proxies(b)) {
        return;
    }
    b->labels = outbound_labels;
    b->labels_count = ARRAY_LEN(outbound_labels);
    b->finish = outbound_finish;
    match_own(b);
    breakdown_start(b, questions, ARRAY_LEN(questions));
}
