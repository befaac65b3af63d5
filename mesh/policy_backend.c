/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/decode.h"

/*
 * Where the requests of an outbound route go: distributions, backends, and how failures of an
 * endpoint are counted. A backend stands once in a policy, however many routes name it.
 */
#define BACKOFF_MIN_NS 100000000ull /* when a message gives none */
#define BACKOFF_MAX_NS 10000000000ull
#define JITTER_MAX     100.0

/* --- failure accrual -------------------------------------------------------------------------- */

uint64_t decode_backoff(struct decode *d, const pb_backoff *from, uint64_t *out_max_ns,
                        double *out_jitter)
{
    uint64_t min_ns = from != NULL ? decode_duration(d, from->min_backoff) : BACKOFF_MIN_NS;
    uint64_t max_ns = from != NULL ? decode_duration(d, from->max_backoff) : BACKOFF_MAX_NS;
    double jitter = from != NULL ? (double)from->jitter_ratio : 0.0;

    *out_max_ns = MAX(min_ns, max_ns);
    *out_jitter = jitter > 0.0 && jitter <= JITTER_MAX ? jitter : 0.0; /* false for NaN */
    return min_ns;
}

static void decode_accrual(struct decode *d, const pb_accrual *from, struct backend *to)
{
    if (from == NULL) {
        return;
    }
    switch ((int)from->kind_case) {
    case IO__LINKERD__PROXY__OUTBOUND__FAILURE_ACCRUAL__KIND_CONSECUTIVE_FAILURES:
        to->max_failures = from->consecutive_failures->max_failures;
        to->backoff_min_ns = decode_backoff(d, from->consecutive_failures->backoff,
                                            &to->backoff_max_ns, &to->backoff_jitter);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__FAILURE_ACCRUAL__KIND_UNIFIED:
        if (!(from->unified->success_rate_threshold >= 0.0 &&
              from->unified->success_rate_threshold <= 1.0)) {
            decode_refuse(d, "a success rate is not between 0 and 1");
        }
        to->success_rate_threshold = from->unified->success_rate_threshold;
        to->success_rate_window_ns = decode_duration(d, from->unified->decay);
        to->success_rate_min_requests = from->unified->min_requests;
        to->max_failures = from->unified->max_consecutive_failures;
        to->backoff_min_ns =
            decode_backoff(d, from->unified->backoff, &to->backoff_max_ns, &to->backoff_jitter);
        break;
    default:
        break; /* of a kind that is newer than this proxy: off */
    }
}

/* --- one backend ------------------------------------------------------------------------------ */

static void decode_balancer(struct decode *d,
                            const Io__Linkerd__Proxy__Outbound__Backend__BalanceP2c *from,
                            struct backend *to)
{
    to->kind = BACKEND_BALANCER;
    if (from->discovery == NULL ||
        from->discovery->kind_case !=
            IO__LINKERD__PROXY__OUTBOUND__BACKEND__ENDPOINT_DISCOVERY__KIND_DST ||
        from->discovery->dst->path[0] == '\0') {
        decode_refuse(d, "a balancer does not say where its endpoints are discovered");
        return;
    }
    if (strlen(from->discovery->dst->path) > BACKEND_PATH_MAX) {
        decode_refuse(d, "the path of a backend is longer than %d bytes", BACKEND_PATH_MAX);
        return;
    }
    to->path = decode_text(d, from->discovery->dst->path);
    switch ((int)from->load_case) {
    case IO__LINKERD__PROXY__OUTBOUND__BACKEND__BALANCE_P2C__LOAD_PEAK_EWMA:
        to->default_rtt_ns = decode_duration(d, from->peak_ewma->default_rtt);
        to->decay_ns = decode_duration(d, from->peak_ewma->decay);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__BACKEND__BALANCE_P2C__LOAD_PENALTY_PEAK_EWMA:
        to->default_rtt_ns = decode_duration(d, from->penalty_peak_ewma->default_rtt);
        to->decay_ns = decode_duration(d, from->penalty_peak_ewma->decay);
        to->penalty_ns = decode_duration(d, from->penalty_peak_ewma->penalty);
        to->penalty_max_retry_after_ns =
            decode_duration(d, from->penalty_peak_ewma->max_retry_after);
        to->penalty_decay_ns = decode_duration(d, from->penalty_peak_ewma->penalty_decay);
        break;
    default:
        decode_refuse(d, "a balancer does not say how it measures load");
    }
}

static void decode_forward(struct decode *d, const pb_weighted_addr *from, struct backend *to)
{
    struct endpoint *e = endpoint_new(from, NULL, 0);

    to->kind = BACKEND_FORWARD;
    if (e == NULL) {
        decode_refuse(d, "a backend's address or identity is malformed");
        return;
    }
    decode_hold_endpoint(d, e);
    to->forward = e;
}

static void decode_backend(struct decode *d, const pb_backend *from, const pb_accrual *accrual,
                           struct backend *to)
{
    to->meta = decode_meta(d, from->metadata, "a backend", true);
    if (from->queue == NULL || from->queue->failfast_timeout == NULL) {
        decode_refuse(d, "a backend has no queue with a failfast timeout");
        return;
    }
    to->queue_capacity = from->queue->capacity;
    to->failfast_ns = decode_duration(d, from->queue->failfast_timeout);
    decode_accrual(d, accrual, to);
    switch ((int)from->kind_case) {
    case IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND_FORWARD:
        decode_forward(d, from->forward, to);
        break;
    case IO__LINKERD__PROXY__OUTBOUND__BACKEND__KIND_BALANCER:
        decode_balancer(d, from->balancer, to);
        break;
    default:
        to->kind = BACKEND_FAIL; /* wire 3.5 */
    }
}

/* --- the backends of a policy ----------------------------------------------------------------- */

void backend_list_init(struct backend_list *l, struct decode *d)
{
    *l = (struct backend_list){.decode = d};
    map_init(&l->by_bytes);
}

void backend_list_clear(struct backend_list *l)
{
    map_clear(&l->by_bytes);
}

static struct backend *backend_list_add(struct backend_list *l)
{
    if (l->count == l->capacity) {
        size_t capacity = MAX((size_t)4, l->capacity * 2);
        struct backend *larger = decode_array(l->decode, capacity, sizeof(*larger));

        if (larger == NULL) {
            return NULL;
        }
        if (l->count > 0) {
            memcpy(larger, l->at, l->count * sizeof(*larger));
        }
        l->at = larger;
        l->capacity = capacity;
    }
    return &l->at[l->count++];
}

/* What tells backends apart: all that is said of them, and how failures are counted. */
static struct bytes backend_key(struct decode *d, const pb_backend *from, const pb_accrual *accrual)
{
    struct bytes a = decode_pack(d, &from->base);
    struct bytes b = accrual != NULL ? decode_pack(d, &accrual->base) : BYTES_NONE;
    char *at = arena_try(&d->scratch, a.len + b.len + 1);

    if (at == NULL || !decode_is_ok(d)) {
        decode_refuse(d, "the message is too large");
        return BYTES_NONE;
    }
    memcpy(at, a.at, a.len);
    at[a.len] = accrual != NULL;
    if (b.len > 0) {
        memcpy(at + a.len + 1, b.at, b.len);
    }
    return bytes_of(at, a.len + b.len + 1);
}

static size_t backend_index(struct backend_list *l, const pb_backend *from,
                            const pb_accrual *accrual)
{
    struct bytes key = backend_key(l->decode, from, accrual);
    uintptr_t found = (uintptr_t)map_get(&l->by_bytes, key);
    struct backend *b;

    if (found != 0) {
        return (size_t)found - 1;
    }
    b = backend_list_add(l);
    if (b == NULL) {
        return 0;
    }
    decode_backend(l->decode, from, accrual, b);
    (void)map_put(&l->by_bytes, key, (void *)(uintptr_t)l->count);
    return l->count - 1;
}

static void decode_route_backend(struct backend_list *l, const pb_route_backend *from,
                                 uint32_t weight, const pb_accrual *accrual, bool is_grpc,
                                 struct weighted_backend *to)
{
    struct decode *d = l->decode;

    if (from == NULL || from->backend == NULL) {
        decode_refuse(d, "a route names no backend");
        return;
    }
    to->backend = backend_index(l, from->backend, accrual);
    to->weight = weight;
    decode_filters(d, from->filters, from->n_filters, is_grpc, &to->filters, &to->filters_count);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored                                                                     \
    "-Wdeprecated-declarations" /* peers still send it, and nothing else in its place */
    to->request_timeout_ns = decode_duration(d, from->requesttimeout);
#pragma GCC diagnostic pop
}

void decode_distribution(struct backend_list *l, const pb_distribution *from,
                         const pb_accrual *accrual, bool is_grpc, struct rule *to)
{
    struct decode *d = l->decode;
    size_t count;

    if (from == NULL) {
        decode_refuse(d, "a rule says nothing of backends");
        return;
    }
    switch ((int)from->kind_case) {
    case IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__DISTRIBUTION__KIND_EMPTY:
        to->distribution = DISTRIBUTE_EMPTY;
        return;
    case IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__DISTRIBUTION__KIND_FIRST_AVAILABLE:
        to->distribution = DISTRIBUTE_FIRST;
        count = from->first_available->n_backends;
        break;
    case IO__LINKERD__PROXY__OUTBOUND__HTTP_ROUTE__DISTRIBUTION__KIND_RANDOM_AVAILABLE:
        to->distribution = DISTRIBUTE_RANDOM;
        count = from->random_available->n_backends;
        break;
    default:
        decode_refuse(d, "a rule says nothing of backends");
        return;
    }
    if (count == 0) {
        decode_refuse(d, "a rule distributes over no backends");
    }
    to->backends = decode_array(d, count, sizeof(*to->backends));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct weighted_backend *w = &to->backends[to->backends_count++];

        if (to->distribution == DISTRIBUTE_FIRST) {
            decode_route_backend(l, from->first_available->backends[i], 1, accrual, is_grpc, w);
        } else {
            decode_route_backend(l, from->random_available->backends[i]->backend,
                                 from->random_available->backends[i]->weight, accrual, is_grpc, w);
        }
    }
    if (count == 1) {
        to->distribution = DISTRIBUTE_FIRST; /* whatever its weight (wire 6.4) */
    }
}
