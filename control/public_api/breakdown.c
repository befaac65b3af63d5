/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/breakdown.h"

#include "core/alloc.h"
#include "core/err.h"

#include <math.h>
#include <stdarg.h>

#define KEY_BYTES_MAX 4096

struct breakdown_query {
    struct prom_query query;
    struct breakdown *of;
    enum breakdown_take take;
};

void breakdown_free(struct breakdown *b)
{
    for (size_t i = 0; i < b->queries_count; i++) {
        prom_query_cancel(&b->queries[i].query);
    }
    call_end(&b->call);
    map_clear(&b->rows);
    text_clear(&b->scope.match);
    mem_free(b->queries);
    protobuf_c_message_free_unpacked(b->request, NULL);
    arena_clear(&b->arena);
    mem_free(b);
}

static void breakdown_abandon(struct call *c)
{
    breakdown_free(CONTAINER_OF(c, struct breakdown, call));
}

/* What is wrong with the question itself is told within the answer, as the protocol has it. */
static void refuse_now(struct breakdown *b, struct service_request *r, char *problem)
{
    Linkerd2__Public__ResourceError error;

    linkerd2__public__resource_error__init(&error);
    error.resource = b->asked.selector != NULL ? b->asked.selector->resource : NULL;
    error.error = problem;
    b->refuse(r, &error);
    breakdown_free(b);
}

void breakdown_refuse(struct breakdown *b, const char *format, ...)
{
    struct service_request *r = b->call.request;
    char problem[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(problem, sizeof(problem), format, args);
    va_end(args);
    call_end(&b->call);
    refuse_now(b, r, problem);
}

struct breakdown *breakdown_open(struct public_api *api, struct service_request *r, void *request,
                                 Linkerd2__Public__ResourceSelection *selector, char *window,
                                 Linkerd2__Public__Resource *peer,
                                 void (*refuse)(struct service_request *r,
                                                Linkerd2__Public__ResourceError *error))
{
    struct breakdown *b = mem_new(sizeof(*b));
    char problem[512];

    b->refuse = refuse;
    b->request = request;
    arena_init(&b->arena, SIZE_MAX); /* rows are bounded in number, their labels by Prometheus' answer */
    map_init(&b->rows);
    linkerd2__public__stat_summary_request__init(&b->asked);
    b->asked.selector = selector;
    b->asked.time_window = window;
    if (peer != NULL) {
        b->asked.to_resource = peer;
        b->asked.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_TO_RESOURCE;
    }
    if (stat_ask_read(&b->ask, &b->asked, &b->arena, problem, sizeof(problem)) != 0 ||
        !stat_is_there(api, &b->ask, problem, sizeof(problem))) {
        refuse_now(b, r, problem);
        return NULL;
    }
    if (b->ask.kind == NULL || b->ask.kind->kind == KIND_COUNT) {
        (void)snprintf(problem, sizeof(problem), "one kind of workload, pod, service or namespace "
                                                 "is needed");
        refuse_now(b, r, problem);
        return NULL;
    }
    if (!call_begin(api, &b->call, r, breakdown_abandon)) {
        breakdown_free(b);
        return NULL;
    }
    b->own[0] = "namespace";
    b->own[1] = b->ask.kind->label;
    text_init(&b->scope.match, PROM_QUERY_BYTES_MAX);
    b->scope.window_ms = b->ask.window_ms;
    return b;
}

/* --- samples ------------------------------------------------------------------------------------- */

static const char *label_name(const struct breakdown *b, size_t index)
{
    return index < 2 ? b->own[index] : b->labels[index - 2];
}

static size_t labels_total(const struct breakdown *b)
{
    return 2 + b->labels_count;
}

/* NULL when there are too many. */
static struct breakdown_row *row_at(struct breakdown *b, const json_t *sample)
{
    struct breakdown_row *row;
    char space[KEY_BYTES_MAX];
    struct text key;

    text_init_fixed(&key, space, sizeof(space));
    for (size_t i = 0; i < labels_total(b); i++) {
        text_printf(&key, "%s\n", prom_sample_label(sample, label_name(b, i)));
    }
    row = map_get(&b->rows, text_bytes(&key));
    if (row != NULL || key.err != 0) {
        return row;
    }
    if (map_count(&b->rows) >= ROWS_MAX) {
        b->is_full = true;
        return NULL;
    }
    row = arena_new(&b->arena, sizeof(*row));
    for (size_t i = 0; i < labels_total(b); i++) {
        row->label[i] = breakdown_text(b, prom_sample_label(sample, label_name(b, i)));
    }
    (void)map_put(&b->rows, text_bytes(&key), row);
    return row;
}

static bool is_http_failure(const json_t *sample)
{
    const char *status = prom_sample_label(sample, "http_status");

    return status[0] == '5' || prom_sample_label(sample, "error")[0] != '\0';
}

/* Names of codes, however they are written: "DEADLINE_EXCEEDED", "DeadlineExceeded" (wire 7.3). */
static bool is_grpc_failure(const json_t *sample)
{
    static const char *const failures[] = {"unknown",  "deadlineexceeded", "permissiondenied",
                                           "internal", "unavailable",      "dataloss"};
    const char *status = prom_sample_label(sample, "grpc_status");
    char plain[32];
    size_t n = 0;

    for (; *status != '\0' && n < sizeof(plain) - 1; status++) {
        if (*status != '_') {
            plain[n++] = (char)(*status | 0x20);
        }
    }
    plain[n] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        if (strcmp(plain, failures[i]) == 0) {
            return true;
        }
    }
    return prom_sample_label(sample, "error")[0] != '\0';
}

static bool is_timeout(const json_t *sample)
{
    const char *error = prom_sample_label(sample, "error");

    return strstr(error, "TIMEOUT") != NULL; /* REQUEST_TIMEOUT, RESPONSE_HEADERS_TIMEOUT ... */
}

/* What its HTTP status does not tell, which most of the time is 200. */
static bool is_grpc_failure_only(const json_t *sample)
{
    const char *grpc = prom_sample_label(sample, "grpc_status");

    return grpc[0] != '\0' && strcmp(grpc, "0") != 0 && prom_sample_label(sample, "status_code")[0] == '2' &&
           strcmp(prom_sample_label(sample, "classification"), "failure") == 0;
}

static void take_responses(struct breakdown_row *row, const json_t *sample, bool is_failure,
                           uint64_t count)
{
    *(is_failure ? &row->figures.failure : &row->figures.success) += count;
    row->timeouts += is_timeout(sample) ? count : 0;
    row->figures.has_responses = row->figures.success + row->figures.failure > 0;
}

/* Of families that tell of one row only one has traffic; should both have, the slower one stands. */
static void take_quantile(struct breakdown_row *row, unsigned which, double ms)
{
    row->figures.quantiles[which] = fmax(row->figures.quantiles[which], ms);
}

static void take_sample(struct breakdown_query *q, const json_t *sample)
{
    struct breakdown_row *row;
    double value;
    uint64_t count;
    bool is_failure = strcmp(prom_sample_label(sample, "classification"), "success") != 0;

    if (prom_sample_label(sample, q->of->own[1])[0] == '\0' ||
        !prom_sample_value(sample, &value)) {
        return;
    }
    row = row_at(q->of, sample);
    if (row == NULL) {
        return; /* told at the end */
    }
    count = value > 0 ? (uint64_t)(value + 0.5) : 0;
    switch (q->take) {
    case TAKE_CLASSIFIED:
        take_responses(row, sample, is_failure, count);
        break;
    case TAKE_ACTUAL:
        *(is_failure ? &row->actual_failure : &row->actual_success) += count;
        break;
    case TAKE_HTTP_STATUS:
        take_responses(row, sample, is_http_failure(sample), count);
        row->is_by_http = true;
        break;
    case TAKE_GRPC_STATUS:
        take_responses(row, sample, is_grpc_failure(sample), count);
        row->is_by_grpc = true;
        break;
    case TAKE_P50:
    case TAKE_P95:
    case TAKE_P99:
        take_quantile(row, q->take - TAKE_P50, value);
        break;
    case TAKE_P50_S:
    case TAKE_P95_S:
    case TAKE_P99_S:
        take_quantile(row, q->take - TAKE_P50_S, value * 1000);
        break;
    case TAKE_RETRIES:
        row->retries += count;
        break;
    case TAKE_DENIED:
        row->denied += count;
        break;
    case TAKE_LIMITED:
        row->limited += count;
        break;
    case TAKE_GRPC_FAILED:
        row->grpc_failed += is_grpc_failure_only(sample) ? count : 0;
        break;
    default:
        assert(!"a sample that is none");
    }
}

static void on_answer(struct prom_query *query, int err, const json_t *samples, const char *problem)
{
    struct breakdown_query *q = query->user;
    struct breakdown *b = q->of;

    if (err != 0) {
        answer_error(b->call.request, err_category(err) == ERR_TIMEOUT ? 504 : 503, "%s", problem);
        breakdown_free(b);
        return;
    }
    for (size_t i = 0; i < json_array_size(samples); i++) {
        take_sample(q, json_array_get(samples, i));
    }
    assert(b->waiting > 0);
    if (--b->waiting > 0) {
        return;
    }
    if (b->is_full) {
        answer_error(b->call.request, 413,
                     "the answer has more than %d rows; name a namespace or an object", ROWS_MAX);
        breakdown_free(b);
    } else {
        b->finish(b);
    }
}

/* --- questions ----------------------------------------------------------------------------------- */

static void write_question(struct text *promql, const struct breakdown *b,
                           const struct breakdown_question *q)
{
    switch (q->take) {
    case TAKE_CLASSIFIED:
    case TAKE_ACTUAL:
        promql_count(promql, &b->scope, q->metric, "classification");
        break;
    case TAKE_HTTP_STATUS:
        promql_count(promql, &b->scope, q->metric, "http_status,error");
        break;
    case TAKE_GRPC_STATUS:
        promql_count(promql, &b->scope, q->metric, "grpc_status,error");
        break;
    case TAKE_GRPC_FAILED:
        promql_count(promql, &b->scope, q->metric, "classification,grpc_status,status_code");
        break;
    case TAKE_P50:
    case TAKE_P50_S:
        promql_quantile(promql, &b->scope, q->metric, "0.5");
        break;
    case TAKE_P95:
    case TAKE_P95_S:
        promql_quantile(promql, &b->scope, q->metric, "0.95");
        break;
    case TAKE_P99:
    case TAKE_P99_S:
        promql_quantile(promql, &b->scope, q->metric, "0.99");
        break;
    case TAKE_RETRIES:
    case TAKE_DENIED:
    case TAKE_LIMITED:
    default:
        promql_count(promql, &b->scope, q->metric, "");
        break;
    }
}

void breakdown_start(struct breakdown *b, const struct breakdown_question *questions, size_t count)
{
    struct text promql, group;

    assert(count <= BREAKDOWN_QUESTIONS_MAX && labels_total(b) <= BREAKDOWN_LABELS_MAX);
    text_init_fixed(&group, b->scope.group, sizeof(b->scope.group));
    for (size_t i = 0; i < labels_total(b); i++) {
        bool is_new = true;

        for (size_t k = 0; k < i; k++) { /* of a namespace both labels are one */
            is_new = is_new && strcmp(label_name(b, i), label_name(b, k)) != 0;
        }
        if (is_new) {
            text_printf(&group, "%s%s", i > 0 ? "," : "", label_name(b, i));
        }
    }
    assert(group.err == 0);
    b->queries = mem_new_array(count, sizeof(*b->queries));
    b->queries_count = b->waiting = count;
    text_init(&promql, PROM_QUERY_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        struct breakdown_query *q = &b->queries[i];

        write_question(&promql, b, &questions[i]);
        assert(promql.err == 0);
        q->of = b;
        q->take = questions[i].take;
        q->query.on_answer = on_answer;
        q->query.user = q;
        prometheus_ask(b->call.api->prometheus, &q->query, text_bytes(&promql));
    }
    text_clear(&promql);
}

/* --- rows ---------------------------------------------------------------------------------------- */

char *breakdown_text(struct breakdown *b, const char *text)
{
    return arena_strdup(&b->arena, bytes_str(text));
}

bool breakdown_is_selected(const struct breakdown *b, const struct breakdown_row *row)
{
    bool is_namespace = b->ask.kind->kind == KIND_NAMESPACE;
    const struct object *o;

    if (b->ask.labels == NULL) {
        return true;
    }
    o = cluster_get(b->call.api->env->cluster, b->ask.kind->kind, is_namespace ? "" : row->label[0],
                    row->label[1]);
    return o != NULL && label_selector_matches(b->ask.labels, o->labels);
}

Linkerd2__Public__BasicStats *breakdown_stats(struct breakdown *b, const struct breakdown_row *row)
{
    Linkerd2__Public__BasicStats *s;

    if (!row->figures.has_responses && row->actual_success + row->actual_failure == 0) {
        return NULL;
    }
    s = arena_new(&b->arena, sizeof(*s));
    linkerd2__public__basic_stats__init(s);
    s->success_count = row->figures.success;
    s->failure_count = row->figures.failure;
    s->latency_ms_p50 = (uint64_t)llround(row->figures.quantiles[0]);
    s->latency_ms_p95 = (uint64_t)llround(row->figures.quantiles[1]);
    s->latency_ms_p99 = (uint64_t)llround(row->figures.quantiles[2]);
    s->actual_success_count = row->actual_success;
    s->actual_failure_count = row->actual_failure;
    return s;
}

Linkerd2__Public__Resource *breakdown_resource(struct breakdown *b, const struct breakdown_row *row)
{
    Linkerd2__Public__Resource *r = arena_new(&b->arena, sizeof(*r));

    linkerd2__public__resource__init(r);
    r->namespace_ =
        breakdown_text(b, b->ask.kind->kind == KIND_NAMESPACE ? "" : row->label[0]);
    r->type = breakdown_text(b, b->ask.kind->type);
    r->name = breakdown_text(b, row->label[1]);
    return r;
}
