/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/stats.h"

#include "core/alloc.h"
#include "core/err.h"

/* Wire 7.2: the buckets of all latency_ms families. */
static const double latency_ms_bounds[] = {1,   2,   3,   4,   5,    10,   20,   30,   40,   50,    100,   200,   300,
                                           400, 500, 1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000};

static const struct metric_family families[STAT_COUNT] = {
#define COUNTER(id, name_, help_) [STAT_##id] = {.name = name_, .help = help_, .kind = METRIC_COUNTER},
#define GAUGE(id, name_, help_)   [STAT_##id] = {.name = name_, .help = help_, .kind = METRIC_GAUGE},
#define HISTOGRAM(id, name_, bounds_, scale_, help_)                                               \
    [STAT_##id] = {.name = name_,                                                                  \
                   .help = help_,                                                                  \
                   .kind = METRIC_HISTOGRAM,                                                       \
                   .bounds = bounds_,                                                              \
                   .bounds_count = ARRAY_LEN(bounds_),                                             \
                   .scale = scale_},
#include "proxy/stats.def"
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

const struct metric_family *stat_family(enum stat s)
{
    return &families[s];
}

void labels_target(struct text *t, const struct addr *target)
{
    char text[ADDR_TEXT_BYTES];

    label_add(t, "target_addr", bytes_str(addr_format(target, text)));
    label_add(t, "target_ip", bytes_str(addr_format_ip(target, text)));
    label_add_u64(t, "target_port", target->port);
}

void stat_count(struct metrics *m, enum stat s, struct bytes labels)
{
    struct series *series = metrics_series(m, stat_family(s), labels);

    series_add(series, 1);
    series_unref(series);
}

/* --- requests ------------------------------------------------------------------------------------ */

#define RESPONSES_MAX 16

struct response_stats { /* one combination of status, classification, gRPC status and error */
    unsigned status;
    int grpc_status;
    bool is_failure;
    const char *error;
    struct series *total, *latency;
};

struct request_stats {
    struct metrics *metrics;
    char *labels;
    struct series *requests;
    struct response_stats responses[RESPONSES_MAX]; /* the newest combinations; the oldest gives way */
    unsigned count, next;
};

struct request_stats *request_stats_new(struct metrics *m, struct bytes labels)
{
    struct request_stats *r = mem_new(sizeof(*r));

    r->metrics = m;
    r->labels = bytes_dup(labels);
    r->requests = metrics_series(m, stat_family(STAT_REQUESTS), labels);
    return r;
}

void request_stats_free(struct request_stats *r)
{
    if (r == NULL) {
        return;
    }
    series_unref(r->requests);
    for (unsigned i = 0; i < r->count; i++) {
        series_unref(r->responses[i].total);
        series_unref(r->responses[i].latency);
    }
    mem_free(r->labels);
    mem_free(r);
}

void request_stats_request(struct request_stats *r)
{
    series_add(r->requests, 1);
}

static struct response_stats *response_find(struct request_stats *r, const struct response_facts *f)
{
    for (unsigned i = 0; i < r->count; i++) {
        struct response_stats *s = &r->responses[i];

        if (s->status == f->status && s->grpc_status == f->grpc_status && s->is_failure == f->is_failure &&
            s->error == f->error) {
            return s;
        }
    }
    return NULL;
}

static struct response_stats *response_add(struct request_stats *r, const struct response_facts *f)
{
    struct response_stats *s = &r->responses[r->next];
    struct text t;

    if (r->count < RESPONSES_MAX) {
        r->count++;
    } else {
        series_unref(s->total);
        series_unref(s->latency);
    }
    r->next = (r->next + 1) % RESPONSES_MAX;
    s->status = f->status;
    s->grpc_status = f->grpc_status;
    s->is_failure = f->is_failure;
    s->error = f->error;

    text_init(&t, 8192);
    text_str(&t, r->labels);
    if (f->status != 0) {
        label_add_u64(&t, "status_code", f->status);
    } else {
        label_add(&t, "status_code", BYTES(""));
    }
    s->latency = metrics_series(r->metrics, stat_family(STAT_LATENCY), text_bytes(&t));
    label_add(&t, "classification", f->is_failure ? BYTES("failure") : BYTES("success"));
    if (f->grpc_status >= 0) {
        label_add_u64(&t, "grpc_status", (uint64_t)f->grpc_status);
    } else {
        label_add(&t, "grpc_status", BYTES(""));
    }
    label_add(&t, "error", bytes_str(f->error));
    s->total = metrics_series(r->metrics, stat_family(STAT_RESPONSES), text_bytes(&t));
    text_clear(&t);
    return s;
}

void request_stats_response(struct request_stats *r, const struct response_facts *f)
{
    struct response_stats *s = response_find(r, f);

    if (s == NULL) {
        s = response_add(r, f);
    }
    series_add(s->total, 1);
    series_observe(s->latency, (double)f->latency_ns);
}

/* --- connections --------------------------------------------------------------------------------- */

void tcp_stats_init(struct tcp_stats *t, struct metrics *m, struct bytes labels)
{
    t->metrics = m;
    t->labels = bytes_dup(labels);
    t->open_total = metrics_series(m, stat_family(STAT_TCP_OPEN_TOTAL), labels);
    t->open = metrics_series(m, stat_family(STAT_TCP_OPEN), labels);
    t->read = metrics_series(m, stat_family(STAT_TCP_READ), labels);
    t->written = metrics_series(m, stat_family(STAT_TCP_WRITE), labels);
}

void tcp_stats_clear(struct tcp_stats *t)
{
    series_unref(t->open_total);
    series_unref(t->open);
    series_unref(t->read);
    series_unref(t->written);
    mem_free(t->labels);
    memset(t, 0, sizeof(*t));
}

void tcp_meter_open(struct tcp_meter *m, struct tcp_stats *stats)
{
    m->stats = stats;
    m->read = m->written = 0;
    series_add(stats->open_total, 1);
    series_add(stats->open, 1);
}

void tcp_meter_update(struct tcp_meter *m, uint64_t read, uint64_t written)
{
    if (m->stats == NULL) {
        return;
    }
    assert(read >= m->read && written >= m->written);
    series_add(m->stats->read, read - m->read);
    series_add(m->stats->written, written - m->written);
    m->read = read;
    m->written = written;
}

void tcp_meter_close(struct tcp_meter *m, int err)
{
    struct text t;

    if (m->stats == NULL) {
        return;
    }
    series_sub(m->stats->open, 1);
    text_init(&t, 8192);
    text_str(&t, m->stats->labels);
    label_add(&t, "errno", err < 0 && err > -ERR_BASE ? bytes_str(err_name(err)) : BYTES(""));
    stat_count(m->stats->metrics, STAT_TCP_CLOSE, text_bytes(&t));
    text_clear(&t);
    m->stats = NULL;
}
