/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/private.h"

#include "core/alloc.h"
#include "core/err.h"

/*
 * StatSummary: questions to Prometheus, all at once, a table of rows from their answers. The client that
 * goes away cancels them.
 */
#define KINDS_MAX 12

enum question {
    ASK_RESPONSES,
    ASK_P50,
    ASK_P95,
    ASK_P99,
    ASK_TCP_OPEN,
    ASK_TCP_READ,
    ASK_TCP_WRITE,
    ASK_COUNT
};
static const char *const quantiles[] = {[ASK_P50] = "0.5", [ASK_P95] = "0.95", [ASK_P99] = "0.99"};

struct stat_call;
struct stat_query {
    struct prom_query query;
    struct stat_call *call;
    struct stat_part *part;
    enum question what;
};
struct stat_part { /* one kind, one table */
    const struct stat_kind *kind;
    struct figures_map figures;
    struct stat_query queries[ASK_COUNT];
};
struct stat_call {
    struct call call;
    struct stat_ask ask;
    Linkerd2__Public__StatSummaryRequest *message;
    struct arena arena;
    struct stat_part parts[KINDS_MAX];
    size_t parts_count, waiting;
};

static void stat_free(struct stat_call *s)
{
    for (size_t i = 0; i < s->parts_count; i++) {
        for (size_t k = 0; k < ASK_COUNT; k++) {
            prom_query_cancel(&s->parts[i].queries[k].query);
        }
        figures_clear(&s->parts[i].figures);
    }
    call_end(&s->call);
    linkerd2__public__stat_summary_request__free_unpacked(s->message, NULL);
    arena_clear(&s->arena);
    mem_free(s);
}

static void stat_abandon(struct call *c)
{
    stat_free(CONTAINER_OF(c, struct stat_call, call));
}

/* What is wrong with the question itself is told within the answer, as the protocol has it. */
static void answer_refusal(struct service_request *r, const Linkerd2__Public__StatSummaryRequest *m,
                           char *problem)
{
    Linkerd2__Public__StatSummaryResponse response;
    Linkerd2__Public__ResourceError error;

    linkerd2__public__stat_summary_response__init(&response);
    linkerd2__public__resource_error__init(&error);
    error.resource = m->selector != NULL ? m->selector->resource : NULL;
    error.error = problem;
    response.error = &error;
    response.response_case = LINKERD2__PUBLIC__STAT_SUMMARY_RESPONSE__RESPONSE_ERROR;
    answer_message(r, &response.base);
}

static void stat_finish(struct stat_call *s)
{
    struct service_request *r = s->call.request;
    Linkerd2__Public__StatSummaryResponse response;
    Linkerd2__Public__StatSummaryResponse__Ok ok;
    Linkerd2__Public__StatTable *tables[KINDS_MAX];
    int rc = 0;

    linkerd2__public__stat_summary_response__init(&response);
    linkerd2__public__stat_summary_response__ok__init(&ok);
    ok.stat_tables = tables;
    ok.n_stat_tables = s->parts_count;
    response.ok = &ok;
    response.response_case = LINKERD2__PUBLIC__STAT_SUMMARY_RESPONSE__RESPONSE_OK;
    for (size_t i = 0; i < s->parts_count && rc == 0; i++) {
        rc = stat_table_build(s->call.api, &s->ask, s->parts[i].kind, &s->parts[i].figures,
                              &s->arena, &tables[i]);
    }
    if (rc == 0) {
        answer_message(r, &response.base);
    } else {
        answer_error(r, 413, "the answer has more than %d rows; name a namespace or a kind",
                     ROWS_MAX);
    }
    stat_free(s);
}

/* --- figures ------------------------------------------------------------------------------------- */

/* Sums come as whole numbers; an estimate may be below zero by a hair. */
static uint64_t whole(double value)
{
    return value > 0 ? (uint64_t)(value + 0.5) : 0;
}

static void take_sample(struct stat_query *q, const json_t *sample)
{
    struct stat_call *s = q->call;
    const char *ns, *name;
    struct figures *f;
    double value;

    stat_scope_row(&s->ask, q->part->kind, sample, &ns, &name);
    if (name[0] == '\0' || !prom_sample_value(sample, &value)) {
        return;
    }
    f = figures_at(&q->part->figures, ns, name);
    if (f == NULL) {
        return; /* told at the end */
    }
    switch (q->what) {
    case ASK_RESPONSES:
        if (strcmp(prom_sample_label(sample, "classification"), "success") == 0) {
            f->success += whole(value);
        } else {
            f->failure += whole(value);
        }
        f->has_responses = f->success + f->failure > 0;
        break;
    case ASK_P50:
    case ASK_P95:
    case ASK_P99:
        f->quantiles[q->what - ASK_P50] = value > 0 ? value : 0;
        break;
    case ASK_TCP_OPEN:
        f->tcp_open = whole(value);
        f->has_tcp = true;
        break;
    case ASK_TCP_READ:
        f->tcp_read = whole(value);
        f->has_tcp = true;
        break;
    case ASK_TCP_WRITE:
        f->tcp_write = whole(value);
        f->has_tcp = true;
        break;
    case ASK_COUNT:
    default:
        assert(!"a question that is none");
    }
}

static void on_answer(struct prom_query *query, int err, const json_t *samples, const char *problem)
{
    struct stat_query *q = query->user;
    struct stat_call *s = q->call;

    if (err != 0) {
        answer_error(s->call.request, err_category(err) == ERR_TIMEOUT ? 504 : 503, "%s", problem);
        stat_free(s);
        return;
    }
    for (size_t i = 0; i < json_array_size(samples); i++) {
        take_sample(q, json_array_get(samples, i));
    }
    assert(s->waiting > 0);
    if (--s->waiting == 0) {
        stat_finish(s);
    }
}

/* --- asking -------------------------------------------------------------------------------------- */

static void ask_one(struct stat_part *part, enum question what, const struct promql_scope *scope,
                    struct text *promql, struct stat_call *s)
{
    struct stat_query *q = &part->queries[what];

    switch (what) {
    case ASK_RESPONSES:
        promql_responses(promql, scope);
        break;
    case ASK_P50:
    case ASK_P95:
    case ASK_P99:
        promql_latency(promql, scope, quantiles[what]);
        break;
    case ASK_TCP_OPEN:
        promql_tcp_open(promql, scope);
        break;
    case ASK_TCP_READ:
        promql_tcp_bytes(promql, scope, "tcp_read_bytes_total");
        break;
    case ASK_TCP_WRITE:
        promql_tcp_bytes(promql, scope, "tcp_write_bytes_total");
        break;
    case ASK_COUNT:
    default:
        assert(!"a question that is none");
    }
    assert(promql->err == 0);
    q->call = s;
    q->part = part;
    q->what = what;
    q->query.on_answer = on_answer;
    q->query.user = q;
    prometheus_ask(s->call.api->prometheus, &q->query, text_bytes(promql));
    s->waiting++;
}

static void ask_part(struct stat_call *s, const struct stat_kind *k, struct text *promql)
{
    struct stat_part *part = &s->parts[s->parts_count++];
    struct promql_scope scope;
    enum question last = s->ask.message->tcp_stats ? ASK_TCP_WRITE : ASK_P99;

    part->kind = k;
    figures_init(&part->figures, &s->arena);
    if (s->ask.message->skip_stats) {
        return;
    }
    stat_scope_init(&scope, &s->ask, k);
    for (enum question what = ASK_RESPONSES; what <= last; what++) {
        ask_one(part, what, &scope, promql, s);
    }
    text_clear(&scope.match);
}

static void stat_start(struct stat_call *s)
{
    const struct stat_kind *const *all = &s->ask.kind;
    size_t count = 1;
    struct text promql;

    if (s->ask.kind == NULL) {
        count = stat_kinds_all(&all);
    }
    assert(count <= KINDS_MAX);
    text_init(&promql, PROM_QUERY_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        ask_part(s, all[i], &promql);
    }
    text_clear(&promql);
    if (s->waiting == 0) {
        stat_finish(s);
    }
}

/* A name that nothing has is more often a slip than a question. Labels may well select nothing. */
static bool is_there(const struct public_api *api, const struct stat_kind *k, const char *ns,
                     const char *name, char *problem, size_t problem_bytes)
{
    struct map_iter it;

    if (k == NULL || k->kind == KIND_COUNT || name[0] == '\0') {
        return true;
    }
    it = (struct map_iter)MAP_ITER(&api->env->cluster->objects[k->kind]);
    while (map_next(&it)) {
        const struct object *o = it.value;

        if (strcmp(o->name, name) == 0 &&
            (k->kind == KIND_NAMESPACE || ns[0] == '\0' || strcmp(o->ns, ns) == 0)) {
            return true;
        }
    }
    ns = k->kind != KIND_NAMESPACE ? ns : "";
    (void)snprintf(problem, problem_bytes, "there is no %s called \"%s\"%s%s", k->type, name,
                   ns[0] != '\0' ? " in namespace " : "", ns);
    return false;
}

bool stat_is_there(const struct public_api *api, const struct stat_ask *ask, char *problem,
                   size_t problem_bytes)
{
    return is_there(api, ask->kind, ask->ns, ask->name, problem, problem_bytes) &&
           (ask->peer == NULL ||
            is_there(api, ask->peer, ask->peer_ns, ask->peer_name, problem, problem_bytes));
}

void call_stat_summary(struct public_api *api, struct service_request *r)
{
    Linkerd2__Public__StatSummaryRequest *m = linkerd2__public__stat_summary_request__unpack(
        NULL, r->body.len, (const uint8_t *)(const void *)r->body.at);
    struct stat_call *s;
    char problem[512];

    if (m == NULL) {
        answer_error(r, 400, "the request is no StatSummaryRequest");
        return;
    }
    s = mem_new(sizeof(*s));
    arena_init(&s->arena, SIZE_MAX); /* rows, their errors and names are bounded one by one */
    s->message = m;
    if (stat_ask_read(&s->ask, m, &s->arena, problem, sizeof(problem)) != 0 ||
        !stat_is_there(api, &s->ask, problem, sizeof(problem))) {
        answer_refusal(r, m, problem);
        stat_free(s);
    } else if (!call_begin(api, &s->call, r, stat_abandon)) {
        stat_free(s);
    } else {
        stat_start(s);
    }
}
