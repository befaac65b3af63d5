/* SPDX-License-Identifier: Apache-2.0 */
#include "control/public_api/promql.h"

void promql_add_match_op(struct text *t, const char *label, const char *op, const char *value)
{
    text_printf(t, "%s%s%s\"", t->len > 0 ? "," : "", label, op);
    for (; *value != '\0'; value++) {
        if (*value == '\n') {
            text_str(t, "\\n");
            continue;
        }
        if (*value == '"' || *value == '\\') {
            text_char(t, '\\');
        }
        text_char(t, *value);
    }
    text_char(t, '"');
}

void promql_add_match(struct text *t, const char *label, const char *value)
{
    bool is_absent = value == NULL || value[0] == '\0';

    promql_add_match_op(t, label, is_absent ? "!=" : "=", is_absent ? "" : value);
}

static void add_series(struct text *t, const char *metric, const char *match)
{
    text_printf(t, "%s{%s}", metric, match);
}

/* FUNCTION(metric{match}[window]) */
static void add_over(struct text *t, const char *function, const char *metric, const char *match,
                     uint64_t window_ms)
{
    text_printf(t, "%s(", function);
    add_series(t, metric, match);
    text_printf(t, "[%llums])", (unsigned long long)window_ms);
}

/* Targets whose process is older than the window, and that were not scraped when it began. */
static void add_strangers(struct text *t, uint64_t window_ms)
{
    text_printf(t,
                "((last_over_time(process_start_time_seconds[%llums]) < time() - %llu.%03llu)"
                " unless on (job,instance) ((up offset %llums) == 1))",
                (unsigned long long)window_ms, (unsigned long long)(window_ms / 1000),
                (unsigned long long)(window_ms % 1000), (unsigned long long)window_ms);
}

/* A counter and a window, by the functions that look at it. */
struct range {
    const char *metric, *match;
    uint64_t window_ms;
};

static void add_fn(struct text *t, const char *function, const struct range *r)
{
    add_over(t, function, r->metric, r->match, r->window_ms);
}

static void add_start(struct text *t, const struct range *r)
{
    text_char(t, '(');
    add_series(t, r->metric, r->match);
    text_printf(t, " offset %llums)", (unsigned long long)r->window_ms);
}

/* Cases 3 to 5. */
static void add_since_start(struct text *t, const struct range *r)
{
    text_str(t, "((");
    add_fn(t, "last_over_time", r);
    text_str(t, " - ");
    add_start(t, r);
    text_str(t, ") >= 0) or ((");
    add_fn(t, "last_over_time", r);
    text_str(t, " - ");
    add_fn(t, "min_over_time", r);
    text_str(t, ") and on (job,instance) ");
    add_strangers(t, r->window_ms);
    text_str(t, ") or ");
    add_fn(t, "last_over_time", r);
}

/* (peak + last), of series that were restarted once. */
static void add_restarted(struct text *t, const struct range *r)
{
    text_str(t, "(((");
    add_fn(t, "max_over_time", r);
    text_str(t, " > ");
    add_fn(t, "last_over_time", r);
    text_str(t, ") and (");
    add_fn(t, "resets", r);
    text_str(t, " == 1)) + ");
    add_fn(t, "last_over_time", r);
    text_char(t, ')');
}

void promql_add_increase(struct text *t, const char *metric, const char *match, uint64_t window_ms)
{
    const struct range r = {.metric = metric, .match = match, .window_ms = window_ms};

    text_char(t, '(');
    add_restarted(t, &r);
    text_str(t, " - ");
    add_start(t, &r);
    text_str(t, ") or ");
    add_restarted(t, &r);
    text_str(t, " or (round(");
    add_fn(t, "increase", &r);
    text_str(t, ") and (");
    add_fn(t, "resets", &r);
    text_str(t, " > 0)) or ");
    add_since_start(t, &r);
}

static const char *match_of(const struct promql_scope *s)
{
    return s->match.at != NULL ? s->match.at : "";
}

void promql_count(struct text *t, const struct promql_scope *s, const char *metric, const char *by)
{
    text_reset(t);
    text_printf(t, "sum by (%s%s%s) (", s->group, by[0] != '\0' ? "," : "", by);
    promql_add_increase(t, metric, match_of(s), s->window_ms);
    text_char(t, ')');
}

void promql_quantile(struct text *t, const struct promql_scope *s, const char *bucket,
                     const char *quantile)
{
    text_reset(t);
    text_printf(t, "histogram_quantile(%s, sum by (le,%s) (", quantile, s->group);
    add_since_start(t, &(struct range){bucket, match_of(s), s->window_ms});
    text_str(t, "))");
}

void promql_responses(struct text *t, const struct promql_scope *s)
{
    promql_count(t, s, "response_total", "classification");
}

void promql_latency(struct text *t, const struct promql_scope *s, const char *quantile)
{
    promql_quantile(t, s, "response_latency_ms_bucket", quantile);
}

void promql_tcp_open(struct text *t, const struct promql_scope *s)
{
    text_reset(t);
    text_printf(t, "sum by (%s) (tcp_open_connections{%s%speer=\"%s\"})", s->group, match_of(s),
                s->match.len > 0 ? "," : "", s->peer);
}

void promql_tcp_bytes(struct text *t, const struct promql_scope *s, const char *metric)
{
    struct text match;

    text_init(&match, 8192);
    text_str(&match, match_of(s));
    promql_add_match(&match, "peer", s->peer);
    text_reset(t);
    text_printf(t, "sum by (%s) (", s->group);
    promql_add_increase(t, metric, match.at, s->window_ms);
    text_char(t, ')');
    text_clear(&match);
}
