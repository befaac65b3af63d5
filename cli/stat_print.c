/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stat.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"

#include <stdlib.h>

typedef Linkerd2__Public__StatTable__PodGroup__Row
    row_type; /* the generated name is longer than a line */

int stat_rows_add(struct stat_rows *r, Linkerd2__Public__StatSummaryResponse *s, char *problem,
                  size_t problem_bytes)
{
    r->answers = mem_resize(r->answers, r->answers_count + 1, sizeof(*r->answers));
    r->answers[r->answers_count++] = s;
    if (s->response_case == LINKERD2__PUBLIC__STAT_SUMMARY_RESPONSE__RESPONSE_ERROR) {
        snprintf(problem, problem_bytes, "%s", s->error->error);
        return E_INTERNAL;
    }
    if (s->response_case != LINKERD2__PUBLIC__STAT_SUMMARY_RESPONSE__RESPONSE_OK) {
        return 0;
    }
    for (size_t i = 0; i < s->ok->n_stat_tables; i++) {
        const Linkerd2__Public__StatTable *t = s->ok->stat_tables[i];

        if (t->table_case != LINKERD2__PUBLIC__STAT_TABLE__TABLE_POD_GROUP) {
            continue;
        }
        r->at = mem_resize(r->at, r->count + t->pod_group->n_rows + 1, sizeof(*r->at));
        for (size_t k = 0; k < t->pod_group->n_rows; k++) {
            if (t->pod_group->rows[k]->resource != NULL) {
                r->at[r->count++] = t->pod_group->rows[k];
            }
        }
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    const Linkerd2__Public__Resource *x = (*(row_type *const *)a)->resource;
    const Linkerd2__Public__Resource *y = (*(row_type *const *)b)->resource;
    int order = strcmp(x->type, y->type);

    order = order != 0 ? order : strcmp(x->namespace_, y->namespace_);
    return order != 0 ? order : strcmp(x->name, y->name);
}

void stat_rows_sort(struct stat_rows *r)
{
    if (r->count > 0) {
        qsort(r->at, r->count, sizeof(*r->at), compare);
    }
}

void stat_rows_clear(struct stat_rows *r)
{
    for (size_t i = 0; i < r->answers_count; i++) {
        linkerd2__public__stat_summary_response__free_unpacked(r->answers[i], NULL);
    }
    mem_free(r->answers);
    mem_free(r->at);
}

/* --- figures of a row ---------------------------------------------------------------------------- */

static uint64_t requests(const row_type *row)
{
    return row->stats != NULL ? row->stats->success_count + row->stats->failure_count : 0;
}

static double success_rate(const row_type *row)
{
    return (double)row->stats->success_count / (double)requests(row);
}

static double per_second(const struct stat_options *o, uint64_t count)
{
    return (double)count * (double)NS_PER_S / (double)o->window_ns;
}

static bool has_peer(const struct stat_options *o)
{
    return o->to_peer.kind != NULL || o->from_peer.kind != NULL;
}

static bool has_mesh(const row_type *row)
{
    return strcmp(row->resource->type, "service") != 0 &&
           strcmp(row->resource->type, "authority") != 0;
}

static bool is_of_kind(const row_type *row, const char *kind)
{
    return strcmp(row->resource->type, kind) == 0;
}

static bool is_shown(const struct stat_options *o, const row_type *row)
{
    bool has_traffic =
        requests(row) > 0 || (row->tcp_stats != NULL && (row->tcp_stats->open_connections > 0 ||
                                                         row->tcp_stats->read_bytes_total > 0 ||
                                                         row->tcp_stats->write_bytes_total > 0));

    return has_traffic ||
           (!has_peer(o) && (o->unmeshed || !has_mesh(row) || row->meshed_pod_count > 0));
}

/* --- table --------------------------------------------------------------------------------------- */

static void print_stats(const struct stat_options *o, const row_type *row, struct table *t)
{
    if (requests(row) == 0) {
        for (int i = 0; i < 5; i++) {
            table_cell(t, "-");
        }
        return;
    }
    table_cell(t, "%.2f%%", 100.0 * success_rate(row));
    table_cell(t, "%.1frps", per_second(o, requests(row)));
    table_cell(t, "%llums", (unsigned long long)row->stats->latency_ms_p50);
    table_cell(t, "%llums", (unsigned long long)row->stats->latency_ms_p95);
    table_cell(t, "%llums", (unsigned long long)row->stats->latency_ms_p99);
}

static void print_tcp(const struct stat_options *o, const row_type *row, struct table *t)
{
    const Linkerd2__Public__TcpStats *tcp = row->tcp_stats;

    if (tcp != NULL) {
        table_cell(t, "%llu", (unsigned long long)tcp->open_connections);
    } else {
        table_cell(t, "-");
    }
    if (strcmp(o->output, "wide") != 0) {
        return;
    }
    if (tcp != NULL) {
        table_cell(t, "%.1fB/s", per_second(o, tcp->read_bytes_total));
        table_cell(t, "%.1fB/s", per_second(o, tcp->write_bytes_total));
    } else {
        table_cell(t, "-");
        table_cell(t, "-");
    }
}

static bool has_ns_column(const struct stat_options *o, const row_type *row)
{
    return o->all_namespaces && !is_of_kind(row, "namespace");
}

static void print_row(const struct stat_options *o, const row_type *row, struct table *t)
{
    if (has_ns_column(o, row)) {
        table_cell(t, "%s", row->resource->namespace_);
    }
    table_cell(t, "%s%s%s", o->is_many ? kind_short(row->resource->type) : "",
               o->is_many ? "/" : "", row->resource->name);
    if (is_of_kind(row, "pod")) {
        table_cell(t, "%s", row->status[0] != '\0' ? row->status : "-");
    }
    if (!has_mesh(row)) {
        table_cell(t, "-");
    } else {
        table_cell(t, "%llu/%llu", (unsigned long long)row->meshed_pod_count,
                   (unsigned long long)row->running_pod_count);
    }
    print_stats(o, row, t);
    print_tcp(o, row, t);
}

static void print_kind(const struct stat_options *o, row_type *const *rows, size_t count,
                       struct text *to)
{
    const char *heads[12];
    size_t columns = 0;
    struct table *t;

    if (has_ns_column(o, rows[0])) {
        heads[columns++] = "NAMESPACE";
    }
    heads[columns++] = "NAME";
    if (is_of_kind(rows[0], "pod")) {
        heads[columns++] = "STATUS";
    }
    heads[columns++] = "MESHED";
    heads[columns++] = "SUCCESS";
    heads[columns++] = "RPS";
    heads[columns++] = "LATENCY_P50";
    heads[columns++] = "LATENCY_P95";
    heads[columns++] = "LATENCY_P99";
    heads[columns++] = "TCP_CONN";
    if (strcmp(o->output, "wide") == 0) {
        heads[columns++] = "READ_BYTES/SEC";
        heads[columns++] = "WRITE_BYTES/SEC";
    }
    t = table_new(heads, columns, has_ns_column(o, rows[0]) ? 2 : 1);
    for (size_t i = 0; i < count; i++) {
        print_row(o, rows[i], t);
    }
    table_print(t, to);
    table_free(t);
}

void stat_print_tables(const struct stat_options *o, const struct stat_rows *r, struct text *to)
{
    row_type **shown = mem_new_array(r->count + 1, sizeof(*shown));
    size_t count = 0, start = 0;

    for (size_t i = 0; i < r->count; i++) {
        if (is_shown(o, r->at[i])) {
            shown[count++] = r->at[i];
        }
    }
    for (size_t i = 1; i <= count; i++) {
        if (i == count || !is_of_kind(shown[i], shown[start]->resource->type)) {
            text_str(to, start > 0 ? "\n" : "");
            print_kind(o, shown + start, i - start, to);
            start = i;
        }
    }
    mem_free(shown);
}

/* --- JSON ---------------------------------------------------------------------------------------- */

static json_t *number_or_null(bool has, double value)
{
    return has ? json_real(value) : json_null();
}

static json_t *count_or_null(bool has, uint64_t value)
{
    return has ? json_integer((json_int_t)value) : json_null();
}

static json_t *row_json(const struct stat_options *o, const row_type *row)
{
    bool has = requests(row) > 0, tcp = row->tcp_stats != NULL;
    json_t *j = json_object();

    json_object_set_new(j, "namespace", json_string(row->resource->namespace_));
    json_object_set_new(j, "kind", json_string(row->resource->type));
    json_object_set_new(j, "name", json_string(row->resource->name));
    if (has_mesh(row)) {
        json_object_set_new(j, "meshed",
                            json_sprintf("%llu/%llu", (unsigned long long)row->meshed_pod_count,
                                         (unsigned long long)row->running_pod_count));
    } else {
        json_object_set_new(j, "meshed", json_string("-"));
    }
    json_object_set_new(j, "success", number_or_null(has, has ? success_rate(row) : 0));
    json_object_set_new(j, "rps", number_or_null(has, has ? per_second(o, requests(row)) : 0));
    json_object_set_new(j, "latency_ms_p50",
                        count_or_null(has, has ? row->stats->latency_ms_p50 : 0));
    json_object_set_new(j, "latency_ms_p95",
                        count_or_null(has, has ? row->stats->latency_ms_p95 : 0));
    json_object_set_new(j, "latency_ms_p99",
                        count_or_null(has, has ? row->stats->latency_ms_p99 : 0));
    json_object_set_new(j, "tcp_open_connections",
                        count_or_null(tcp, tcp ? row->tcp_stats->open_connections : 0));
    json_object_set_new(
        j, "tcp_read_bytes_rate",
        number_or_null(tcp, tcp ? per_second(o, row->tcp_stats->read_bytes_total) : 0));
    json_object_set_new(
        j, "tcp_write_bytes_rate",
        number_or_null(tcp, tcp ? per_second(o, row->tcp_stats->write_bytes_total) : 0));
    json_object_set_new(j, "unauthorized", json_null()); /* of servers and routes only */
    return j;
}

void stat_print_json(const struct stat_options *o, const struct stat_rows *r, struct text *to)
{
    json_t *rows = json_array();
    char *dump;

    for (size_t i = 0; i < r->count; i++) {
        if (is_shown(o, r->at[i])) {
            json_array_append_new(rows, row_json(o, r->at[i]));
        }
    }
    dump = json_dumps(rows, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    assert(dump != NULL);
    text_str(to, dump);
    text_char(to, '\n');
    mem_free(dump);
    json_decref(rows);
}
