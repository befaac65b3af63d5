/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/decode.h"

#include "core/alloc.h"
#include "net/tls.h"

/*
 * `outbound.OutboundPolicy` to struct outbound_policy, by the rules of wire 3.5.
 *
 * A gRPC route has the fields of an HTTP route under the same numbers, so its distributions and
 * filters are read as those of HTTP (decode_recast); only matches and retry conditions differ. In
 * the same way a TLS route is read as an opaque one with server names.
 */
#define STATUS_MIN 1 /* of a retry's ranges: wire 3.5 */
#define STATUS_MAX 599

/* --- HTTP and gRPC rules ---------------------------------------------------------------------- */

static void decode_timeouts(struct decode *d, const pb_timeouts *from, const pb_duration *request,
                            struct rule *to)
{
    if (from != NULL) {
        to->request_timeout_ns = decode_duration(d, from->request);
        to->response_timeout_ns = decode_duration(d, from->response);
        to->idle_timeout_ns = decode_duration(d, from->idle);
    }
    if (to->request_timeout_ns == 0) {
        to->request_timeout_ns = decode_duration(d, request);
    }
}

static void decode_retry_common(struct decode *d, uint32_t max_retries, uint32_t max_request_bytes,
                                const pb_duration *timeout, const pb_backoff *backoff,
                                struct retry *to)
{
    to->is_on = true;
    to->max_retries = max_retries;
    to->max_request_bytes = max_request_bytes;
    to->timeout_ns = decode_duration(d, timeout);
    to->backoff_min_ns = decode_backoff(d, backoff, &to->backoff_max_ns, &to->backoff_jitter);
}

static void decode_http_retry(struct decode *d, const pb_http_retry *from, struct retry *to)
{
    if (from == NULL) {
        return;
    }
    decode_retry_common(d, from->max_retries, from->max_request_bytes, from->timeout, from->backoff,
                        to);
    if (from->conditions == NULL) {
        decode_refuse(d, "a retry has no conditions");
        return;
    }
    to->ranges = decode_array(d, from->conditions->n_status_ranges, sizeof(*to->ranges));
    for (size_t i = 0; i < from->conditions->n_status_ranges && decode_is_ok(d); i++) {
        uint32_t start = from->conditions->status_ranges[i]->start,
                 end = from->conditions->status_ranges[i]->end;

        if (start < STATUS_MIN || end > STATUS_MAX || start > end) {
            decode_refuse(d, "a retry's statuses %u to %u are not within 1 to 599", start, end);
            return;
        }
        to->ranges[to->ranges_count++] =
            (struct status_range){.start = (uint16_t)start, .end = (uint16_t)end};
    }
}

static void decode_grpc_retry(struct decode *d, const pb_grpc_retry *from, struct retry *to)
{
    if (from == NULL) {
        return;
    }
    decode_retry_common(d, from->max_retries, from->max_request_bytes, from->timeout, from->backoff,
                        to);
    if (from->conditions == NULL) {
        decode_refuse(d, "a retry has no conditions");
        return;
    }
    /* The bits are the codes' own numbers. */
    to->grpc_codes = (from->conditions->cancelled ? 1u << 1 : 0) |
                     (from->conditions->deadine_exceeded ? 1u << 4 : 0) |
                     (from->conditions->resource_exhausted ? 1u << 8 : 0) |
                     (from->conditions->internal ? 1u << 13 : 0) |
                     (from->conditions->unavailable ? 1u << 14 : 0);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored                                                                     \
    "-Wdeprecated-declarations" /* requestTimeout: peers still send it alone */

static void decode_http_rule(struct backend_list *l, const pb_http_rule *from,
                             const pb_accrual *accrual, struct rule *to)
{
    struct decode *d = l->decode;

    decode_http_matches(d, from->matches, from->n_matches, to);
    decode_filters(d, from->filters, from->n_filters, false, &to->filters, &to->filters_count);
    decode_distribution(l, from->backends, accrual, false, to);
    decode_timeouts(d, from->timeouts, from->requesttimeout, to);
    decode_http_retry(d, from->retry, &to->retry);
    to->allow_request_headers = from->allow_l5d_request_headers;
}

static void decode_grpc_rule(struct backend_list *l, const pb_grpc_rule *from,
                             const pb_accrual *accrual, struct rule *to)
{
    struct decode *d = l->decode;
    const pb_distribution *backends = NULL;

    if (from->backends != NULL) {
        backends = decode_recast(d, &from->backends->base, PB(outbound__http_route__distribution));
    }
    decode_grpc_matches(d, from->matches, from->n_matches, to);
    decode_filters_as(d, (ProtobufCMessage *const *)(void *)from->filters, from->n_filters, true,
                      &to->filters, &to->filters_count);
    decode_distribution(l, backends, accrual, true, to);
    decode_timeouts(d, from->timeouts, from->requesttimeout, to);
    decode_grpc_retry(d, from->retry, &to->retry);
    to->allow_request_headers = from->allow_l5d_request_headers;
}
#pragma GCC diagnostic pop

/* --- routes ----------------------------------------------------------------------------------- */

static void decode_http_routes(struct backend_list *l, pb_http_route **from, size_t count,
                               const pb_accrual *accrual, struct route_list *to)
{
    struct decode *d = l->decode;

    to->at = decode_array(d, count, sizeof(*to->at));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct route *r = &to->at[to->count++];

        r->meta = decode_meta(d, from[i]->metadata, "a route", true);
        decode_hosts(d, from[i]->hosts, from[i]->n_hosts, r);
        r->rules = decode_array(d, from[i]->n_rules, sizeof(*r->rules));
        for (size_t k = 0; k < from[i]->n_rules && decode_is_ok(d); k++) {
            decode_http_rule(l, from[i]->rules[k], accrual, &r->rules[r->rules_count++]);
        }
    }
}

static void decode_grpc_routes(struct backend_list *l, pb_grpc_route **from, size_t count,
                               const pb_accrual *accrual, struct route_list *to)
{
    struct decode *d = l->decode;

    to->at = decode_array(d, count, sizeof(*to->at));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct route *r = &to->at[to->count++];

        r->meta = decode_meta(d, from[i]->metadata, "a route", true);
        decode_hosts(d, from[i]->hosts, from[i]->n_hosts, r);
        r->rules = decode_array(d, from[i]->n_rules, sizeof(*r->rules));
        for (size_t k = 0; k < from[i]->n_rules && decode_is_ok(d); k++) {
            decode_grpc_rule(l, from[i]->rules[k], accrual, &r->rules[r->rules_count++]);
        }
    }
}

/* --- opaque and TLS routes -------------------------------------------------------------------- */

static void read_verdicts(struct decode *d,
                          Io__Linkerd__Proxy__Outbound__OpaqueRoute__Filter **from, size_t count,
                          struct route *to)
{
    for (size_t i = 0; i < count; i++) {
        switch ((int)from[i]->kind_case) {
        case IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__FILTER__KIND_INVALID:
            to->is_invalid = true;
            break;
        case IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__FILTER__KIND_FORBIDDEN:
            to->is_forbidden = true;
            break;
        default:
            decode_refuse(d, "a filter is empty or of a kind that this proxy does not know");
        }
    }
}

/*
 * A backend that carries a verdict of its own is one that fails. With the verdicts gone, an opaque
 * distribution reads as an HTTP one.
 */
static void take_verdicts(pb_opaque_backend *b)
{
    if (b != NULL && b->n_filters > 0) {
        b->n_filters = 0;
        if (b->backend != NULL) {
            b->backend->kind_case = IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND__NOT_SET;
        }
    }
}

static const pb_distribution *
opaque_distribution(struct decode *d, Io__Linkerd__Proxy__Outbound__OpaqueRoute__Distribution *from)
{
    if (from == NULL) {
        return NULL;
    }
    if (from->kind_case ==
        IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__DISTRIBUTION__KIND_FIRST_AVAILABLE) {
        for (size_t i = 0; i < from->first_available->n_backends; i++) {
            take_verdicts(from->first_available->backends[i]);
        }
    } else if (from->kind_case ==
               IO__LINKERD__PROXY__OUTBOUND__OPAQUE_ROUTE__DISTRIBUTION__KIND_RANDOM_AVAILABLE) {
        for (size_t i = 0; i < from->random_available->n_backends; i++) {
            take_verdicts(from->random_available->backends[i]->backend);
        }
    }
    return decode_recast(d, &from->base, PB(outbound__http_route__distribution));
}

static void decode_opaque_route(struct backend_list *l, const pb_opaque_route *from,
                                struct route *to)
{
    struct decode *d = l->decode;

    to->meta = decode_meta(d, from->metadata, "a route", true);
    if (from->n_rules != 1) {
        decode_refuse(d, "an opaque route has %zu rules instead of one", from->n_rules);
        return;
    }
    to->rules = decode_array(d, 1, sizeof(*to->rules));
    if (to->rules != NULL) {
        to->rules_count = 1;
        read_verdicts(d, from->rules[0]->filters, from->rules[0]->n_filters, to);
        decode_distribution(l, opaque_distribution(d, from->rules[0]->backends), NULL, false,
                            &to->rules[0]);
    }
}

static void decode_opaque_routes(struct backend_list *l,
                                 const Io__Linkerd__Proxy__Outbound__ProxyProtocol__Opaque *from,
                                 struct route_list *to)
{
    if (from->n_routes > 1) {
        decode_refuse(l->decode, "an opaque protocol has more than one route");
        return;
    }
    to->at = decode_array(l->decode, from->n_routes, sizeof(*to->at));
    if (to->at != NULL) {
        to->count = 1;
        decode_opaque_route(l, from->routes[0], &to->at[0]);
    }
}

static void decode_tls_routes(struct backend_list *l, pb_tls_route **from, size_t count,
                              struct route_list *to)
{
    struct decode *d = l->decode;

    to->at = decode_array(d, count, sizeof(*to->at));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct route *r = &to->at[to->count++];
        const pb_opaque_route *opaque =
            decode_recast(d, &from[i]->base, PB(outbound__opaque_route));

        for (size_t k = 0; k < from[i]->n_snis && decode_is_ok(d); k++) {
            /* In place: a server name's match has the fields of a host's. */
            from[i]->snis[k] =
                decode_recast(d, &from[i]->snis[k]->base, PB(http_route__host_match));
        }
        if (decode_is_ok(d)) {
            decode_opaque_route(l, opaque, r);
            decode_hosts(d, (pb_host_match **)(void *)from[i]->snis, from[i]->n_snis, r);
        }
    }
}

/* --- protocols -------------------------------------------------------------------------------- */

static void decode_detect(struct backend_list *l,
                          const Io__Linkerd__Proxy__Outbound__ProxyProtocol__Detect *from,
                          struct outbound_policy *to)
{
    if (from->timeout == NULL || from->opaque == NULL || from->http1 == NULL ||
        from->http2 == NULL) {
        decode_refuse(l->decode, "protocol detection lacks a timeout or one of its protocols");
        return;
    }
    to->detect_timeout_ns = decode_duration(l->decode, from->timeout);
    decode_opaque_routes(l, from->opaque, &to->opaque);
    decode_http_routes(l, from->http1->routes, from->http1->n_routes, from->http1->failure_accrual,
                       &to->http1);
    decode_http_routes(l, from->http2->routes, from->http2->n_routes, from->http2->failure_accrual,
                       &to->http2);
}

static void decode_protocol(struct backend_list *l, const pb_outbound_protocol *from,
                            struct outbound_policy *to)
{
    switch ((int)(from != NULL ? from->kind_case
                               : IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND__NOT_SET)) {
    case IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_DETECT:
        to->protocol = PROTOCOL_DETECT;
        decode_detect(l, from->detect, to);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_OPAQUE:
        to->protocol = PROTOCOL_OPAQUE;
        decode_opaque_routes(l, from->opaque, &to->opaque);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_HTTP1:
        to->protocol = PROTOCOL_HTTP1;
        decode_http_routes(l, from->http1->routes, from->http1->n_routes,
                           from->http1->failure_accrual, &to->http1);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_HTTP2:
        to->protocol = PROTOCOL_HTTP2;
        decode_http_routes(l, from->http2->routes, from->http2->n_routes,
                           from->http2->failure_accrual, &to->http2);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_GRPC:
        to->protocol = PROTOCOL_GRPC;
        decode_grpc_routes(l, from->grpc->routes, from->grpc->n_routes, from->grpc->failure_accrual,
                           &to->grpc);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND_TLS:
        to->protocol = PROTOCOL_TLS;
        decode_tls_routes(l, from->tls->routes, from->tls->n_routes, &to->tls);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__PROXY_PROTOCOL__KIND__NOT_SET:
    default:
        decode_refuse(l->decode, "the policy names no protocol that this proxy knows");
    }
}

/* --- the policy ------------------------------------------------------------------------------- */

static void policy_free(struct snapshot *s)
{
    struct outbound_policy *p = CONTAINER_OF(s, struct outbound_policy, ref);

    policy_held_free(p->held);
    arena_clear(&p->arena);
    mem_free(p);
}

static struct outbound_policy *policy_new(struct decode *d)
{
    struct outbound_policy *p = mem_new(sizeof(*p));

    snapshot_init(&p->ref, policy_free);
    p->protocol = PROTOCOL_DETECT;
    decode_init(d, &p->arena, &p->held);
    return p;
}

static void decode_policy(struct decode *d, struct bytes message, struct outbound_policy *to)
{
    const pb_outbound *policy = decode_unpack(d, PB(outbound__outbound_policy), message);
    struct backend_list backends;

    if (policy == NULL) {
        return;
    }
    backend_list_init(&backends, d);
    to->meta = decode_meta(d, policy->metadata, "the policy", true);
    decode_protocol(&backends, policy->protocol, to);
    to->backends = backends.at;
    to->backends_count = backends.count;
    backend_list_clear(&backends);
}

/* Nothing of a message that breaks a rule is used. */
static void policy_set_problem(struct outbound_policy *p, const char *problem)
{
    p->problem = arena_strdup(&p->arena, bytes_str(problem));
    p->protocol = PROTOCOL_DETECT;
    p->meta = (struct meta){0};
    p->http1 = p->http2 = p->grpc = p->opaque = p->tls = (struct route_list){0};
    p->backends = NULL;
    p->backends_count = 0;
}

struct outbound_policy *outbound_policy_new_at(struct bytes policy_message,
                                               struct bytes profile_message, uint16_t port)
{
    struct decode d;
    struct outbound_policy *p = policy_new(&d);

    if (policy_message.len == 0) {
        p->is_fallback = true;
    } else {
        decode_policy(&d, policy_message, p);
    }
    if (!decode_is_ok(&d)) {
        /* What was kept may have filled the arena; the sentence about it must fit in any case. */
        p->arena.bytes_max += sizeof(d.problem) + ARENA_BLOCK_BYTES;
        policy_set_problem(p, d.problem);
    } else if (profile_message.len > 0) {
        decode_profile(&d, profile_message, port, &p->profile);
        if (!decode_is_ok(&d)) { /* as if there were none: the policy itself is sound */
            memset(&p->profile, 0, sizeof(p->profile));
        }
    }
    decode_clear(&d);
    return p;
}

struct outbound_policy *outbound_policy_new(struct bytes policy_message,
                                            struct bytes profile_message)
{
    return outbound_policy_new_at(policy_message, profile_message, 0);
}

struct outbound_policy *outbound_policy_new_fallback(void)
{
    return outbound_policy_new(BYTES_NONE, BYTES_NONE);
}

struct outbound_policy *outbound_policy_new_refused(void)
{
    struct outbound_policy *p = outbound_policy_new_fallback();

    p->is_fallback = false;
    p->is_refused = true;
    return p;
}

struct outbound_policy *outbound_policy_new_problem(const char *problem)
{
    struct outbound_policy *p = outbound_policy_new_fallback();

    p->is_fallback = false;
    policy_set_problem(p, problem);
    return p;
}
