/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/settings.h"

#include "core/clock.h"
#include "core/near.h"

#include <stdlib.h>

/*
 * Annotations of Services, EgressNetworks and routes (wire 6.2, 6.3). A value that cannot be read leaves out
 * the setting that it belongs to.
 */
#define BALANCER "balancer.linkerd.io/failure-accrual"
#define ALPHA    "balancer.alpha.linkerd.io/"

#define RETRY_BYTES_MAX      65536 /* wire 6.3 */
#define RETRY_BACKOFF_MIN_NS (25 * NS_PER_MS)
#define RETRY_BACKOFF_MAX_NS (250 * NS_PER_MS)
#define RETRY_JITTER         1.0F
#define RETRY_LIMIT          1
#define RETRY_LIMIT_MAX      UINT16_MAX
#define JITTER_MAX           100.0

typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Retry http_retry;
typedef Io__Linkerd__Proxy__Outbound__GrpcRoute__Retry grpc_retry;
typedef Io__Linkerd__Proxy__Outbound__ExponentialBackoff backoff_message;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Retry__Conditions__StatusRange status_range;

/* --- values -------------------------------------------------------------------------------------- */

/* False, and a complaint, when it is there and malformed; absent ones leave *io as it is. */
static bool duration_get(struct reading *r, const struct object *o, const char *key, uint64_t *io)
{
    const char *text = object_annotation(o, key);

    if (text == NULL || clock_parse_duration(bytes_str(text), io) == 0) {
        return true;
    }
    reading_complain(r, "the annotation %s is no duration: %.100s", key, text);
    reading_advise(r, "write a whole number and its unit: 500ms, 10s, 1m, 2h");
    return false;
}

static bool number_get(struct reading *r, const struct object *o, const char *key, uint64_t max,
                       uint32_t *io)
{
    const char *text = object_annotation(o, key);
    uint64_t value;

    if (text == NULL) {
        return true;
    }
    if (bytes_to_u64(bytes_str(text), max, &value) == 0) {
        *io = (uint32_t)value;
        return true;
    }
    reading_complain(r, "the annotation %s is no number up to %llu: %.100s", key,
                     (unsigned long long)max, text);
    return false;
}

static bool ratio_get(struct reading *r, const struct object *o, const char *key, double max,
                      double *io)
{
    const char *text = object_annotation(o, key);
    char *end = NULL;
    double value;

    if (text == NULL) {
        return true;
    }
    value = strtod(text, &end);
    if (end != text && *end == '\0' && value >= 0.0 && value <= max) {
        *io = value;
        return true;
    }
    reading_complain(r, "the annotation %s is no number between 0 and %g: %.100s", key, max, text);
    return false;
}

static bool flag_get(struct reading *r, const struct object *o, const char *key)
{
    const char *text = object_annotation(o, key);

    if (text != NULL && strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        reading_complain(r, "the annotation %s is neither true nor false: %.100s", key, text);
        reading_advise(r, "write \"true\" or \"false\", in quotes");
    }
    return text != NULL && strcmp(text, "true") == 0;
}

static backoff_message *backoff_new(uint64_t min_ns, uint64_t max_ns, float jitter, struct arena *a)
{
    backoff_message *m =
        message_new(a, &io__linkerd__proxy__outbound__exponential_backoff__descriptor);

    m->min_backoff = message_duration(a, min_ns);
    m->max_backoff = message_duration(a, max_ns);
    m->jitter_ratio = jitter;
    return m;
}

/* --- timeouts ------------------------------------------------------------------------------------ */

static void timeouts_read(struct reading *r, const struct object *o, struct timeouts *out)
{
    *out = (struct timeouts){.request_ns = 0};
    if (!duration_get(r, o, "timeout.linkerd.io/request", &out->request_ns)) {
        out->request_ns = 0;
    }
    if (!duration_get(r, o, "timeout.linkerd.io/response", &out->response_ns)) {
        out->response_ns = 0;
    }
    if (!duration_get(r, o, "timeout.linkerd.io/idle", &out->idle_ns)) {
        out->idle_ns = 0;
    }
}

bool timeouts_are_set(const struct timeouts *t)
{
    return t->request_ns != 0 || t->response_ns != 0 || t->idle_ns != 0;
}

/* --- retries ------------------------------------------------------------------------------------- */

static bool status_read(struct bytes text, uint32_t *out)
{
    uint64_t value;

    if (bytes_to_u64(text, 599, &value) != 0 || value < 100) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

static bool statuses_read(struct bytes item, status_range *to)
{
    struct bytes first, last;

    if (bytes_eq(item, BYTES("5xx"))) {
        to->start = 500;
        to->end = 599;
        return true;
    }
    if (bytes_eq(item, BYTES("gateway-error"))) {
        to->start = 502;
        to->end = 504;
        return true;
    }
    if (!bytes_split(item, '-', &first, &last)) {
        last = first;
    }
    return status_read(first, &to->start) && status_read(last, &to->end) && to->start <= to->end;
}

/* Items of "a, b,c"; an empty one is malformed. */
static size_t items_count(const char *text)
{
    size_t count = 1;

    for (; *text != '\0'; text++) {
        count += *text == ',' ? 1 : 0;
    }
    return count;
}

static void retry_common_read(struct reading *r, const struct object *o, http_retry *to)
{
    uint64_t timeout_ns = 0;

    to->max_retries = RETRY_LIMIT;
    (void)number_get(r, o, "retry.linkerd.io/limit", RETRY_LIMIT_MAX, &to->max_retries);
    to->max_request_bytes = RETRY_BYTES_MAX;
    if (duration_get(r, o, "retry.linkerd.io/timeout", &timeout_ns) && timeout_ns != 0) {
        to->timeout = message_duration(r->arena, timeout_ns);
    }
    to->backoff = backoff_new(RETRY_BACKOFF_MIN_NS, RETRY_BACKOFF_MAX_NS, RETRY_JITTER, r->arena);
}

static void *http_retry_read(struct reading *r, const struct object *o)
{
    const char *text = object_annotation(o, "retry.linkerd.io/http");
    struct bytes rest = bytes_str(text), item;
    http_retry *m;
    size_t count;

    if (text == NULL) {
        return NULL;
    }
    m = message_new(r->arena, &io__linkerd__proxy__outbound__http_route__retry__descriptor);
    m->conditions = message_new(
        r->arena, &io__linkerd__proxy__outbound__http_route__retry__conditions__descriptor);
    count = items_count(text);
    m->conditions->status_ranges =
        arena_new(r->arena, count * sizeof(m->conditions->status_ranges[0]));
    for (size_t i = 0; i < count; i++) {
        status_range *range = message_new(
            r->arena,
            &io__linkerd__proxy__outbound__http_route__retry__conditions__status_range__descriptor);

        (void)bytes_split(rest, ',', &item, &rest);
        if (!statuses_read(bytes_trim(item, " \t"), range)) {
            reading_complain(r,
                             "the annotation retry.linkerd.io/http is no list of statuses: "
                             "%.100s",
                             text);
            reading_advise(r, "list 5xx, gateway-error, statuses as 503 and ranges as 500-504");
            return NULL;
        }
        m->conditions->status_ranges[m->conditions->n_status_ranges++] = range;
    }
    retry_common_read(r, o, m);
    return m;
}

static protobuf_c_boolean *
condition_find(Io__Linkerd__Proxy__Outbound__GrpcRoute__Retry__Conditions *m, struct bytes name)
{
    const struct {
        const char *name;
        protobuf_c_boolean *flag;
    } all[] = {
        {"cancelled", &m->cancelled},     {"deadline-exceeded", &m->deadine_exceeded},
        {"internal", &m->internal},       {"resource-exhausted", &m->resource_exhausted},
        {"unavailable", &m->unavailable},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (bytes_eq(name, bytes_str(all[i].name))) {
            return all[i].flag;
        }
    }
    return NULL;
}

static void *grpc_retry_read(struct reading *r, const struct object *o)
{
    const char *text = object_annotation(o, "retry.linkerd.io/grpc");
    struct bytes rest = bytes_str(text), item;
    grpc_retry *m;
    http_retry common;

    if (text == NULL) {
        return NULL;
    }
    m = message_new(r->arena, &io__linkerd__proxy__outbound__grpc_route__retry__descriptor);
    m->conditions = message_new(
        r->arena, &io__linkerd__proxy__outbound__grpc_route__retry__conditions__descriptor);
    for (size_t i = items_count(text); i > 0; i--) {
        protobuf_c_boolean *flag;

        (void)bytes_split(rest, ',', &item, &rest);
        flag = condition_find(m->conditions, bytes_trim(item, " \t"));
        if (flag == NULL) {
            reading_complain(r,
                             "the annotation retry.linkerd.io/grpc is no list of conditions: "
                             "%.100s",
                             text);
            reading_advise(r, "list cancelled, deadline-exceeded, internal, resource-exhausted, "
                              "unavailable");
            return NULL;
        }
        *flag = true;
    }
    io__linkerd__proxy__outbound__http_route__retry__init(&common);
    retry_common_read(r, o, &common);
    m->max_retries = common.max_retries;
    m->max_request_bytes = common.max_request_bytes;
    m->timeout = common.timeout;
    m->backoff = common.backoff;
    return m;
}

/* --- failure accrual and load -------------------------------------------------------------------- */

static backoff_message *accrual_backoff_read(struct reading *r, const struct object *o)
{
    uint64_t min_ns = NS_PER_S, max_ns = 60 * NS_PER_S;
    double jitter = 0.5;
    backoff_message *m;

    if (!duration_get(r, o, BALANCER "-consecutive-min-penalty", &min_ns) ||
        !duration_get(r, o, BALANCER "-consecutive-max-penalty", &max_ns) ||
        !ratio_get(r, o, BALANCER "-consecutive-jitter-ratio", JITTER_MAX, &jitter)) {
        return NULL;
    }
    if (min_ns == 0 || min_ns > max_ns) {
        reading_complain(r, "the annotations for the penalties of failure accrual give no range");
        reading_advise(r, "make the minimum more than 0 and at most the maximum (60s unless set)");
        return NULL;
    }
    m = backoff_new(min_ns, max_ns, (float)jitter, r->arena);
    m->respect_retry_after_hint = flag_get(r, o, ALPHA "failure-accrual-honor-retry-after");
    return m;
}

static bool unified_read(struct reading *r, const struct object *o,
                         Io__Linkerd__Proxy__Outbound__FailureAccrual__Unified *m)
{
    uint64_t window_ns = 10 * NS_PER_S;

    m->success_rate_threshold = 0.8;
    m->min_requests = 5;
    if (!ratio_get(r, o, ALPHA "failure-accrual-success-rate-threshold", 1.0,
                   &m->success_rate_threshold) ||
        !duration_get(r, o, ALPHA "failure-accrual-success-rate-window", &window_ns) ||
        !number_get(r, o, ALPHA "failure-accrual-success-rate-min-requests", UINT32_MAX,
                    &m->min_requests)) {
        return false;
    }
    m->decay = message_duration(r->arena, window_ns);
    return true;
}

static accrual_message *accrual_read(struct reading *r, const struct object *o)
{
    const char *kind = object_annotation(o, BALANCER);
    accrual_message *m;
    backoff_message *backoff;
    uint32_t max_failures = 7;

    if (kind == NULL) {
        return NULL;
    }
    if (strcmp(kind, "consecutive") != 0 && strcmp(kind, "unified") != 0) {
        reading_complain(r,
                         "the annotation " BALANCER " is neither consecutive nor unified: "
                         "%.100s",
                         kind);
        return NULL;
    }
    backoff = accrual_backoff_read(r, o);
    if (backoff == NULL ||
        !number_get(r, o, BALANCER "-consecutive-max-failures", UINT32_MAX, &max_failures)) {
        return NULL;
    }
    m = message_new(r->arena, &io__linkerd__proxy__outbound__failure_accrual__descriptor);
    if (strcmp(kind, "consecutive") == 0) {
        m->kind_case = IO__LINKERD__PROXY__OUTBOUND__FAILURE_ACCRUAL__KIND_CONSECUTIVE_FAILURES;
        m->consecutive_failures = message_new(
            r->arena,
            &io__linkerd__proxy__outbound__failure_accrual__consecutive_failures__descriptor);
        m->consecutive_failures->max_failures = max_failures;
        m->consecutive_failures->backoff = backoff;
        return m;
    }
    m->kind_case = IO__LINKERD__PROXY__OUTBOUND__FAILURE_ACCRUAL__KIND_UNIFIED;
    m->unified =
        message_new(r->arena, &io__linkerd__proxy__outbound__failure_accrual__unified__descriptor);
    m->unified->max_consecutive_failures = max_failures;
    m->unified->backoff = backoff;
    return unified_read(r, o, m->unified) ? m : NULL;
}

static void load_read(struct reading *r, const struct object *o, struct settings *out)
{
    out->penalty_ns = 5 * NS_PER_S;
    out->max_retry_after_ns = 300 * NS_PER_S;
    out->penalizes =
        flag_get(r, o, ALPHA "penalize-failures") &&
        duration_get(r, o, ALPHA "load-biaser-penalty", &out->penalty_ns) &&
        duration_get(r, o, ALPHA "load-biaser-max-retry-after", &out->max_retry_after_ns);
}

void settings_read(struct reading *r, const struct object *o, bool is_route, struct settings *out)
{
    *out = (struct settings){.accrual = NULL};
    reading_at(r, "metadata.annotations");
    timeouts_read(r, o, &out->timeouts);
    out->http_retry = http_retry_read(r, o);
    out->grpc_retry = grpc_retry_read(r, o);
    if (!is_route) {
        out->accrual = accrual_read(r, o);
        load_read(r, o, out);
    }
}

/* --- names ---------------------------------------------------------------------------------------- */

bool settings_has_prefix(const char *name)
{
    static const char *const prefixes[] = {"timeout.linkerd.io/", "retry.linkerd.io/",
                                           "balancer.linkerd.io/", ALPHA};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

static const char *const of_routes[] = {
    "timeout.linkerd.io/request", "timeout.linkerd.io/response", "timeout.linkerd.io/idle",
    "retry.linkerd.io/http",      "retry.linkerd.io/grpc",       "retry.linkerd.io/limit",
    "retry.linkerd.io/timeout",   NULL,
};
static const char *const of_services[] = {
    BALANCER,
    BALANCER "-consecutive-max-failures",
    BALANCER "-consecutive-min-penalty",
    BALANCER "-consecutive-max-penalty",
    BALANCER "-consecutive-jitter-ratio",
    ALPHA "failure-accrual-success-rate-threshold",
    ALPHA "failure-accrual-success-rate-window",
    ALPHA "failure-accrual-success-rate-min-requests",
    ALPHA "failure-accrual-honor-retry-after",
    ALPHA "penalize-failures",
    ALPHA "load-biaser-penalty",
    ALPHA "load-biaser-max-retry-after",
    NULL,
};

static bool is_among(const char *const *names, const char *name)
{
    while (*names != NULL && strcmp(*names, name) != 0) {
        names++;
    }
    return *names != NULL;
}

static void try_all(struct near *n, const char *const *names)
{
    for (; *names != NULL; names++) {
        near_try(n, *names);
    }
}

void settings_check_names(struct reading *r, const struct object *o, bool is_route)
{
    struct json_iter it = JSON_ITER(o->annotations);

    reading_at(r, "metadata.annotations");
    while (json_next(&it)) {
        struct near n = NEAR(it.key);

        if (!settings_has_prefix(it.key) || is_among(of_routes, it.key) ||
            (!is_route && is_among(of_services, it.key))) {
            continue;
        }
        try_all(&n, of_routes);
        if (!is_route) {
            try_all(&n, of_services);
        }
        reading_complain(r, "the annotation %.200s is not known%s", it.key, is_route ? " on a route" : "");
        reading_suggest(r, near_word(&n), "correct its name, or remove it");
    }
}
