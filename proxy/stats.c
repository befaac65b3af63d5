/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/stats.h"

#include "core/alloc.h"
#include "core/chain.h"
#include "core/err.h"

#define SERIES_BYTES 512 /* of one, with its part of the labels */
#define SERIES_LEAST 5000
#define SERIES_MOST  100000
#define PARKED_MAX 128

/* Wire 7.2: the buckets of all families, in exposed units. */
static const struct {
    double latency_ms[25];
    double route_request_s[4], route_backend_s[7];     /* outbound_*_route_* */
    double inbound_request_s[7], inbound_response_s[4]; /* inbound_{http,grpc}_* */
    double frame_bytes[3];
    double queue_latency_s[6]; /* *_balancer_queue_* */
    double detect_s[2];        /* *_tcp_detect_http_* */
} bounds = {
    .latency_ms = {1,   2,   3,   4,    5,    10,   20,   30,   40,    50,    100,   200,  300,
                   400, 500, 1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000},
    .route_request_s = {0.05, 0.5, 1, 10},
    .route_backend_s = {0.025, 0.05, 0.1, 0.25, 0.5, 1, 10},
    .inbound_request_s = {0.025, 0.05, 0.1, 0.25, 0.5, 1, 10},
    .inbound_response_s = {0.05, 0.5, 1, 10},
    .frame_bytes = {128, 1024, 10240},
    .queue_latency_s = {0.0005, 0.005, 0.05, 0.5, 1, 3},
    .detect_s = {0.001, 0.1},
};

#define STYLE(id) ((id) < STAT_LEGACY_END ? METRIC_LEGACY : METRIC_REGISTRY)

static const struct metric_family families[STAT_COUNT] = {
#define COUNTER(id, name_, help_)                                                                  \
    [STAT_##id] = {                                                                                \
        .name = name_, .help = help_, .kind = METRIC_COUNTER, .style = STYLE(STAT_##id)},
#define GAUGE(id, name_, help_)                                                                    \
    [STAT_##id] = {                                                                                \
        .name = name_, .help = help_, .kind = METRIC_GAUGE, .style = STYLE(STAT_##id)},
#define GAUGE_LARGEST(id, name_, scale_, help_)                                                    \
    [STAT_##id] = {.name = name_,                                                                  \
                   .help = help_,                                                                  \
                   .kind = METRIC_GAUGE,                                                           \
                   .scale = scale_,                                                                \
                   .style = STYLE(STAT_##id),                                                      \
                   .is_largest = true},
#define HISTOGRAM(id, name_, bounds_, scale_, help_)                                               \
    [STAT_##id] = {.name = name_,                                                                  \
                   .help = help_,                                                                  \
                   .kind = METRIC_HISTOGRAM,                                                       \
                   .bounds = bounds.bounds_,                                                       \
                   .bounds_count = ARRAY_LEN(bounds.bounds_),                                      \
                   .scale = scale_,                                                                \
                   .style = STYLE(STAT_##id)},
#define LEGACY_END
#include "proxy/stats.def"
#undef COUNTER
#undef GAUGE
#undef GAUGE_LARGEST
#undef HISTOGRAM
#undef LEGACY_END
};

/* Labels of few values, which stay in a series that other ones were folded into. */
static const char *const few_valued[] = {
    "direction",      "peer",        "tls",         "no_tls_reason", "srv_kind",
    "authz_kind",     "parent_kind", "route_kind",  "backend_kind",  "classification",
    "status_code",    "http_status", "grpc_status", "error",         "errno",
    "protocol",       "hop",         "phase",       "cause",         "op",
    "endpoint_state", "zone_locality", "ratelimit_scope", "skipped", NULL,
};

const struct metric_family *stat_family(enum stat_id s)
{
    return &families[s];
}

/* --- labels ----------------------------------------------------------------------------------- */

void labels_init(struct labels *l)
{
    text_init_fixed(&l->text, l->buffer, sizeof(l->buffer));
}

void labels_add(struct labels *l, struct bytes ready)
{
    if (ready.len > 0) {
        if (l->text.len > 0) {
            text_char(&l->text, ',');
        }
        text_add(&l->text, ready);
    }
}

void labels_target(struct labels *l, const struct addr *target)
{
    char text[ADDR_TEXT_BYTES];

    label_add(&l->text, "target_addr", bytes_str(addr_format(target, text)));
    label_add(&l->text, "target_ip", bytes_str(addr_format_ip(target, text)));
    label_add_u64(&l->text, "target_port", target->port);
}

/* A set that was cut short could end within a quoted value, and make the whole scrape
 * unreadable. */
struct bytes labels_end(struct labels *l)
{
    return l->text.err != 0 ? BYTES("overflow=\"true\"") : text_bytes(&l->text);
}

struct series *stat_series(struct stats *s, enum stat_id id, struct labels *l)
{
    return metrics_series(&s->metrics, stat_family(id), labels_end(l));
}

void stat_count(struct stats *s, enum stat_id id, struct labels *l)
{
    struct series *series = stat_series(s, id, l);

    series_add(series, 1);
    series_unref(series);
}

void failure_count(struct stats *s, const char *hop, enum failure why)
{
    const struct failure_info *info = failure_info(why);
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "hop", bytes_str(hop));
    label_add(&l.text, "phase", bytes_str(phase_name(info->phase)));
    label_add(&l.text, "cause", bytes_str(info->cause));
    stat_count(s, STAT_FAILURES, &l);
}

/* --- life ------------------------------------------------------------------------------------- */

static void meter_read(struct tcp_meter *m);

size_t stats_series_max(size_t chunks_max)
{
    size_t bytes = MIN(chunks_max, (size_t)SERIES_MOST * SERIES_BYTES) * sizeof(struct chunk) / 2;

    return MIN(MAX(bytes / SERIES_BYTES, (size_t)SERIES_LEAST), (size_t)SERIES_MOST);
}

void stats_open(struct stats *s, size_t series_max, uint64_t idle_ns)
{
    metrics_init(&s->metrics, series_max, idle_ns);
    s->metrics.keeps = few_valued;
    for (size_t k = 0; k < REQUEST_KINDS; k++) {
        map_init(&s->requests[k]);
    }
    map_init(&s->tcp);
    map_init(&s->bundles);
    parking_init(&s->parking, PARKED_MAX);
    list_init(&s->meters);
}

void stats_close(struct stats *s)
{
    parking_clear(&s->parking);
    assert(map_count(&s->tcp) == 0);
    assert(map_count(&s->bundles) == 0);
    assert(list_is_empty(&s->meters));
    for (size_t k = 0; k < REQUEST_KINDS; k++) {
        assert(map_count(&s->requests[k]) == 0);
        map_clear(&s->requests[k]);
    }
    map_clear(&s->tcp);
    map_clear(&s->bundles);
    metrics_clear(&s->metrics);
}

static void collect_begin(struct stats *s)
{
    (void)parking_round(&s->parking);
    LIST_FOREACH(node, &s->meters)
    {
        meter_read(LIST_ITEM(node, struct tcp_meter, node));
    }
}

bool stats_collect_some(struct stats *s, struct metric_samples *to, uint64_t now_ns,
                        size_t series_max, struct metric_cursor *at)
{
    if (!at->is_begun) {
        collect_begin(s);
    }
    return metrics_collect_some(&s->metrics, to, now_ns, series_max, at);
}

void stats_collect(struct stats *s, struct metric_samples *to, uint64_t now_ns)
{
    collect_begin(s);
    metrics_collect(&s->metrics, to, now_ns);
}

/* --- requests --------------------------------------------------------------------------------- */

#define RESPONSES_MAX 16

struct response_stats { /* one combination of status, classification, gRPC status and error */
    unsigned status;
    int grpc_status;
    bool is_failure;
    const char *error;
    struct series *total, *latency;
};

static const struct {
    enum stat_id requests, responses, latency; /* STAT_COUNT: none */
} kinds[REQUEST_KINDS] = {
    [REQUESTS_SERVED] = {STAT_REQUESTS, STAT_RESPONSES, STAT_LATENCY},
    [REQUESTS_ROUTED] = {STAT_PROFILE_REQUESTS, STAT_PROFILE_RESPONSES, STAT_PROFILE_LATENCY},
    [REQUESTS_ATTEMPTS] = {STAT_PROFILE_ATTEMPTS, STAT_PROFILE_ATTEMPT_RESPONSES, STAT_COUNT},
};

struct request_stats {
    struct parked parked; /* without references */
    struct stats *stats;
    enum request_kind kind;
    unsigned refs;
    struct bytes labels; /* owned */
    struct series *requests;
    struct response_stats
        responses[RESPONSES_MAX]; /* the newest combinations; the oldest gives way */
    unsigned count, next;
};

static void request_stats_free(struct parked *parked)
{
    struct request_stats *r = CONTAINER_OF(parked, struct request_stats, parked);

    (void)map_remove(&r->stats->requests[r->kind], r->labels);
    series_unref(r->requests);
    for (unsigned i = 0; i < r->count; i++) {
        series_unref(r->responses[i].total);
        series_unref(r->responses[i].latency);
    }
    mem_free((char *)(uintptr_t)r->labels.at);
    mem_free(r);
}

struct request_stats *request_stats_get_of(struct stats *s, enum request_kind kind,
                                           struct bytes labels)
{
    struct request_stats *r = map_get(&s->requests[kind], labels);

    if (r == NULL) {
        r = mem_new(sizeof(*r));
        r->parked.free = request_stats_free;
        r->stats = s;
        r->kind = kind;
        r->labels = bytes_of(bytes_dup(labels), labels.len);
        r->requests = metrics_series(&s->metrics, stat_family(kinds[kind].requests), labels);
        (void)map_put(&s->requests[kind], r->labels, r);
    }
    parking_take(&s->parking, &r->parked);
    r->refs++;
    return r;
}

struct request_stats *request_stats_get(struct stats *s, struct bytes labels)
{
    return request_stats_get_of(s, REQUESTS_SERVED, labels);
}

void request_stats_ref(struct request_stats *r)
{
    r->refs++;
}

void request_stats_unref(struct request_stats *r)
{
    if (r == NULL) {
        return;
    }
    assert(r->refs > 0);
    if (--r->refs == 0) {
        parking_put(&r->stats->parking, &r->parked);
    }
}

void request_stats_request(struct request_stats *r)
{
    series_add(r->requests, 1);
}

static struct response_stats *response_find(struct request_stats *r, const struct response_facts *f)
{
    for (unsigned i = 0; i < r->count; i++) {
        struct response_stats *s = &r->responses[i];

        if (s->status == f->status && s->grpc_status == f->grpc_status &&
            s->is_failure == f->is_failure && s->error == f->error) {
            return s;
        }
    }
    return NULL;
}

static struct response_stats *response_add(struct request_stats *r, const struct response_facts *f)
{
    struct response_stats *s = &r->responses[r->next];
    struct labels l;

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

    labels_init(&l);
    labels_add(&l, r->labels);
    if (f->status != 0) {
        label_add_u64(&l.text, "status_code", f->status);
    } else {
        label_add(&l.text, "status_code", BYTES(""));
    }
    s->latency = kinds[r->kind].latency != STAT_COUNT
                     ? stat_series(r->stats, kinds[r->kind].latency, &l)
                     : NULL;
    label_add(&l.text, "classification", f->is_failure ? BYTES("failure") : BYTES("success"));
    if (f->grpc_status >= 0) {
        label_add_u64(&l.text, "grpc_status", (uint64_t)f->grpc_status);
    } else {
        label_add(&l.text, "grpc_status", BYTES(""));
    }
    label_add(&l.text, "error", bytes_str(f->error));
    s->total = stat_series(r->stats, kinds[r->kind].responses, &l);
    return s;
}

void request_stats_response(struct request_stats *r, const struct response_facts *f)
{
    struct response_stats *s = response_find(r, f);

    if (s == NULL) {
        s = response_add(r, f);
    }
    series_add(s->total, 1);
    if (s->latency != NULL) {
        series_observe(s->latency, (double)f->latency_ns);
    }
}

/* --- connections ------------------------------------------------------------------------------ */

struct tcp_stats {
    struct stats *stats;
    unsigned refs;
    struct bytes labels; /* owned */
    struct series *open_total, *open, *read, *written, *closed /* without an error */;
    struct series *zone_read, *zone_written; /* NULL: not to an endpoint */
};

static struct series *tcp_series(struct stats *s, enum stat_id id, struct bytes labels)
{
    return metrics_series(&s->metrics, stat_family(id), labels);
}

static struct series *close_series(struct tcp_stats *t, const char *name)
{
    struct labels l;

    labels_init(&l);
    labels_add(&l, t->labels);
    label_add(&l.text, "errno", bytes_str(name));
    return stat_series(t->stats, STAT_TCP_CLOSE, &l);
}

static struct series *zone_series(struct stats *s, const char *op, const char *locality)
{
    struct labels l;

    labels_init(&l);
    label_add(&l.text, "op", bytes_str(op));
    label_add(&l.text, "zone_locality", bytes_str(locality));
    return stat_series(s, STAT_TRANSFER_COST, &l);
}

/* Wire 7.2: where the bytes of connections to endpoints go. The control plane says it with the
 * endpoint; it is also one of its labels. */
static void open_zone(struct tcp_stats *t)
{
    const char *locality = "Unknown";
    size_t at;

    if (!bytes_starts(t->labels, BYTES("direction=\"outbound\"")) ||
        !bytes_find(t->labels, BYTES("peer=\"dst\""), &at)) {
        return;
    }
    if (bytes_find(t->labels, BYTES(",dst_zone_locality=\"local\""), &at)) {
        locality = "Local";
    } else if (bytes_find(t->labels, BYTES(",dst_zone_locality=\"remote\""), &at)) {
        locality = "Remote";
    }
    t->zone_read = zone_series(t->stats, "Recv", locality);
    t->zone_written = zone_series(t->stats, "Send", locality);
}

struct tcp_stats *tcp_stats_get(struct stats *s, struct bytes labels)
{
    struct tcp_stats *t = map_get(&s->tcp, labels);

    if (t == NULL) {
        t = mem_new(sizeof(*t));
        t->stats = s;
        t->labels = bytes_of(bytes_dup(labels), labels.len);
        t->open_total = tcp_series(s, STAT_TCP_OPEN_TOTAL, labels);
        t->open = tcp_series(s, STAT_TCP_OPEN, labels);
        t->read = tcp_series(s, STAT_TCP_READ, labels);
        t->written = tcp_series(s, STAT_TCP_WRITE, labels);
        t->closed = close_series(t, "");
        open_zone(t);
        (void)map_put(&s->tcp, labels, t);
    }
    t->refs++;
    return t;
}

void tcp_stats_ref(struct tcp_stats *t)
{
    t->refs++;
}

void tcp_stats_unref(struct tcp_stats *t)
{
    if (t == NULL) {
        return;
    }
    assert(t->refs > 0);
    if (--t->refs > 0) {
        return;
    }
    (void)map_remove(&t->stats->tcp, t->labels);
    series_unref(t->open_total);
    series_unref(t->open);
    series_unref(t->read);
    series_unref(t->written);
    series_unref(t->closed);
    series_unref(t->zone_read);
    series_unref(t->zone_written);
    mem_free((char *)(uintptr_t)t->labels.at);
    mem_free(t);
}

void tcp_meter_open(struct tcp_meter *m, struct tcp_stats *stats, const struct io *io,
                    uint64_t skip_in, uint64_t skip_out)
{
    *m = (struct tcp_meter){.stats = stats, .io = io, .skip_in = skip_in, .skip_out = skip_out};
    stats->refs++;
    list_append(&stats->stats->meters, &m->node);
    series_add(stats->open_total, 1);
    series_add(stats->open, 1);
}

/* Count what was moved since the last time. */
static void meter_read(struct tcp_meter *m)
{
    uint64_t read = m->io->bytes_in - m->skip_in, written = m->io->bytes_out - m->skip_out;

    assert(m->io->bytes_in >= m->skip_in && m->io->bytes_out >= m->skip_out);
    assert(read >= m->read && written >= m->written);
    series_add(m->stats->read, read - m->read);
    series_add(m->stats->written, written - m->written);
    if (m->stats->zone_read != NULL) {
        series_add(m->stats->zone_read, read - m->read);
        series_add(m->stats->zone_written, written - m->written);
    }
    m->read = read;
    m->written = written;
}

void tcp_meter_move(struct tcp_meter *to, struct tcp_meter *from)
{
    *to = *from;
    to->node = (struct list){0};
    if (to->stats != NULL) {
        list_append(&to->stats->stats->meters, &to->node);
    }
    list_unlink(&from->node);
    from->stats = NULL;
}

void tcp_meter_close(struct tcp_meter *m, int err)
{
    struct tcp_stats *t = m->stats;

    if (t == NULL) {
        return;
    }
    meter_read(m);
    list_unlink(&m->node);
    m->stats = NULL;
    series_sub(t->open, 1);
    if (err < 0 && err > -ERR_BASE) {
        struct series *closed = close_series(t, err_name(err));

        series_add(closed, 1);
        series_unref(closed);
    } else {
        series_add(t->closed, 1);
    }
    tcp_stats_unref(t);
}
