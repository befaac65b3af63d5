/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/control_stats.h"

#include "core/alloc.h"
#include "core/clock.h"

#define GRPC_FAILURES                                                                              \
    ((1u << 2) | (1u << 4) | (1u << 7) | (1u << 13) | (1u << 14) | (1u << 15)) /* wire 7.3 */

static const double latency_ms[] = {1,   2,   3,   4,    5,    10,   20,   30,   40,
                                    50,  100, 200, 300,  400,  500,  1000, 2000, 3000,
                                    4000, 5000, 10000, 20000, 30000, 40000, 50000};
static const double queue_latency_s[] = {0.0005, 0.005, 0.05, 0.5, 1, 3};

static const struct metric_family requests = {
    .name = "control_request_total",
    .help = "Total count of requests to the control plane.",
    .kind = METRIC_COUNTER,
    .style = METRIC_LEGACY,
};
static const struct metric_family responses = {
    .name = "control_response_total",
    .help = "Total count of responses of the control plane.",
    .kind = METRIC_COUNTER,
    .style = METRIC_LEGACY,
};
static const struct metric_family latency = {
    .name = "control_response_latency_ms",
    .help = "Elapsed times between a request to the control plane and its first message.",
    .kind = METRIC_HISTOGRAM,
    .bounds = latency_ms,
    .bounds_count = ARRAY_LEN(latency_ms),
    .scale = 1e-6,
    .style = METRIC_LEGACY,
};

struct balancer_families {
    const char *name;
    struct metric_family endpoints, p2c_endpoints, p2c_updates, queue_length, queue_requests,
        queue_latency, gate_open, gate_shut, gate_open_time, gate_shut_time;
};

#define FAMILY(prefix, end, kind_, help_)                                                          \
    {                                                                                              \
        .name = prefix "_balancer_" end, .help = help_, .kind = kind_                   \
    }
#define FAMILIES(channel, prefix)                                                                  \
    {                                                                                              \
        .name = channel,                                                                           \
        .endpoints = FAMILY(prefix, "endpoints", METRIC_GAUGE,                                     \
                            "The number of endpoints, by whether they are connected."),            \
        .p2c_endpoints = FAMILY(prefix, "p2c_endpoints", METRIC_GAUGE,                             \
                                "The number of endpoints to choose from."),                        \
        .p2c_updates = FAMILY(prefix, "p2c_updates_total", METRIC_COUNTER,                         \
                              "Changes of the set of endpoints."),                                 \
        .queue_length = FAMILY(prefix, "queue_length", METRIC_GAUGE,                               \
                               "The number of requests that wait for a connection."),              \
        .queue_requests = FAMILY(prefix, "queue_requests_total", METRIC_COUNTER,                   \
                                 "Requests that were queued for a connection."),                   \
        .queue_latency = {.name = prefix "_balancer_queue_latency_seconds",                        \
                          .help = "How long requests waited for a connection.",                    \
                          .kind = METRIC_HISTOGRAM,                                                \
                          .bounds = queue_latency_s,                                               \
                          .bounds_count = ARRAY_LEN(queue_latency_s),                              \
                          .scale = 1e-9},                                                          \
        .gate_open = FAMILY(prefix, "queue_gate_open_total", METRIC_COUNTER,                       \
                            "How often an endpoint came back, or was first looked for."),          \
        .gate_shut = FAMILY(prefix, "queue_gate_shut_total", METRIC_COUNTER,                       \
                            "How often no endpoint could be reached any more."),                   \
        .gate_open_time = FAMILY(prefix, "queue_gate_open_time_seconds", METRIC_GAUGE,             \
                                 "When the gate was opened; 0 while it is shut."),                 \
        .gate_shut_time = FAMILY(prefix, "queue_gate_shut_time_seconds", METRIC_GAUGE,             \
                                 "When the gate was shut; 0 while it is open."),                   \
    }

static const struct balancer_families channels[] = {
    FAMILIES("identity", "control_identity"),
    FAMILIES("destination", "control_destination"),
    FAMILIES("policy", "control_policy"),
    FAMILIES("trace_collector", "opentelemetry"),
};

/* --- life ------------------------------------------------------------------------------------- */

static struct series *series_of(struct control_stats *s, const struct metric_family *f,
                                const char *key, const char *value)
{
    char buffer[SERIES_LABELS_MAX];
    struct text t;

    text_init_fixed(&t, buffer, sizeof(buffer));
    text_str(&t, s->addr_labels);
    if (key != NULL) {
        label_add(&t, key, bytes_str(value));
    }
    return metrics_series(s->metrics, f, text_bytes(&t));
}

static void open_balancer(struct control_stats *s)
{
    const struct balancer_families *f = s->families;

    s->added = series_of(s, &f->p2c_updates, "op", "Add");
    s->removed = series_of(s, &f->p2c_updates, "op", "Remove");
    s->queued = series_of(s, &f->queue_requests, NULL, NULL);
    s->queue_latency = series_of(s, &f->queue_latency, NULL, NULL);
    s->opened = series_of(s, &f->gate_open, NULL, NULL);
    s->shut = series_of(s, &f->gate_shut, NULL, NULL);
    series_add(s->opened, 1);
    s->gate_wall_ns = clock_wall_ns();
}

void control_stats_init(struct control_stats *s, struct metrics *m, const char *name,
                        const char *authority, const char *server_name)
{
    struct text t;

    *s = (struct control_stats){.metrics = m};
    if (m == NULL) {
        return;
    }
    text_init(&t, SERIES_LABELS_MAX / 2);
    label_add(&t, "addr", bytes_str(authority));
    s->addr_labels = bytes_dup(text_bytes(&t));
    label_add(&t, "tls", server_name != NULL ? BYTES("true") : BYTES("no_identity"));
    if (server_name != NULL) {
        label_add(&t, "server_id", bytes_str(server_name));
    } else {
        label_add(&t, "no_tls_reason", BYTES("loopback"));
    }
    s->labels = bytes_dup(text_bytes(&t));
    text_clear(&t);
    s->requests = metrics_series(m, &requests, bytes_str(s->labels));
    for (size_t i = 0; i < ARRAY_LEN(channels); i++) {
        if (strcmp(channels[i].name, name) == 0) {
            s->families = &channels[i];
            open_balancer(s);
        }
    }
}

void control_stats_clear(struct control_stats *s)
{
    series_unref(s->requests);
    series_unref(s->added);
    series_unref(s->removed);
    series_unref(s->queued);
    series_unref(s->queue_latency);
    series_unref(s->opened);
    series_unref(s->shut);
    mem_free(s->addr_labels);
    mem_free(s->labels);
    *s = (struct control_stats){0};
}

/* --- events ----------------------------------------------------------------------------------- */

void control_stats_queued(struct control_stats *s)
{
    if (s->families != NULL) {
        series_add(s->queued, 1);
    }
}

void control_stats_request(struct control_stats *s, uint64_t waited_ns)
{
    if (s->metrics != NULL) {
        series_add(s->requests, 1);
    }
    if (s->families != NULL) {
        series_observe(s->queue_latency, (double)waited_ns);
    }
}

void control_stats_response(struct control_stats *s, enum grpc_status status, int err,
                            uint64_t first_ns)
{
    bool is_failure = err != 0 || (status <= 16 && (GRPC_FAILURES >> status & 1u) != 0);
    char buffer[SERIES_LABELS_MAX];
    struct series *series;
    struct text t;

    if (s->metrics == NULL) {
        return;
    }
    text_init_fixed(&t, buffer, sizeof(buffer));
    text_str(&t, s->labels);
    label_add(&t, "status_code", err == 0 ? BYTES("200") : BYTES(""));
    series = metrics_series(s->metrics, &latency, text_bytes(&t));
    series_observe(series, (double)first_ns);
    series_unref(series);
    label_add(&t, "classification", is_failure ? BYTES("failure") : BYTES("success"));
    if (err == 0) {
        label_add_u64(&t, "grpc_status", status);
    } else {
        label_add(&t, "grpc_status", BYTES(""));
    }
    label_add(&t, "error", err == 0 ? BYTES("") : BYTES("i/o"));
    series = metrics_series(s->metrics, &responses, text_bytes(&t));
    series_add(series, 1);
    series_unref(series);
}

static size_t missing_from(const struct addr *some, size_t some_count, const struct addr *others,
                           size_t others_count)
{
    size_t missing = some_count;

    for (size_t i = 0; i < some_count; i++) {
        for (size_t k = 0; k < others_count; k++) {
            if (addr_eq(&some[i], &others[k])) {
                missing--;
                break;
            }
        }
    }
    return missing;
}

void control_stats_addrs(struct control_stats *s, const struct addr *old, size_t old_count,
                         const struct addr *now, size_t now_count)
{
    if (s->families != NULL) {
        series_add(s->added, missing_from(now, now_count, old, old_count));
        series_add(s->removed, missing_from(old, old_count, now, now_count));
    }
}

void control_stats_gate(struct control_stats *s, bool is_shut)
{
    if (s->families != NULL && s->is_shut != is_shut) {
        s->is_shut = is_shut;
        s->gate_wall_ns = clock_wall_ns();
        series_add(is_shut ? s->shut : s->opened, 1);
    }
}

/* --- gauges ----------------------------------------------------------------------------------- */

void control_stats_collect(const struct control_stats *s, struct metric_samples *to, size_t addrs,
                           size_t ready, size_t waiting)
{
    const struct balancer_families *f = s->families;
    double gate = (double)s->gate_wall_ns / (double)NS_PER_S;
    struct bytes labels = BYTES_NONE;
    char buffer[SERIES_LABELS_MAX];
    struct text t;

    if (f == NULL) {
        return;
    }
    labels = bytes_str(s->addr_labels);
    metric_samples_gauge(to, &f->p2c_endpoints, labels, (double)addrs);
    metric_samples_gauge(to, &f->queue_length, labels, (double)waiting);
    metric_samples_gauge(to, &f->gate_open_time, labels, s->is_shut ? 0 : gate);
    metric_samples_gauge(to, &f->gate_shut_time, labels, s->is_shut ? gate : 0);
    text_init_fixed(&t, buffer, sizeof(buffer));
    text_add(&t, labels);
    label_add(&t, "endpoint_state", BYTES("ready"));
    metric_samples_gauge(to, &f->endpoints, text_bytes(&t), (double)ready);
    text_reset(&t);
    text_add(&t, labels);
    label_add(&t, "endpoint_state", BYTES("pending"));
    metric_samples_gauge(to, &f->endpoints, text_bytes(&t), (double)(MAX(addrs, ready) - ready));
}
