/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/clock.h"
#include "core/metric.h"
#include "tests/unit/unit.h"

#include <stdio.h>

static const double bounds[] = {1, 2.5, 10};

static const struct metric_family
    requests = {.name = "request_total",
                .help = "Requests.",
                .kind = METRIC_COUNTER,
                .style = METRIC_LEGACY},
    open_now = {.name = "open_connections",
                .help = "Open \"now\".\nSecond \\ line.",
                .kind = METRIC_GAUGE},
    latency = {.name = "latency_ms",
               .help = "Latency.",
               .kind = METRIC_HISTOGRAM,
               .bounds = bounds,
               .bounds_count = ARRAY_LEN(bounds),
               .scale = 1e-6,
               .style = METRIC_LEGACY},
    size = {.name = "frame_size_bytes",
            .help = "Sizes.",
            .kind = METRIC_HISTOGRAM,
            .bounds = bounds,
            .bounds_count = ARRAY_LEN(bounds)},
    newest = {.name = "newest_seconds",
              .help = "Newest.",
              .kind = METRIC_GAUGE,
              .scale = 1e-9,
              .is_largest = true},
    cpu = {.name = "cpu_seconds", .help = "CPU.", .kind = METRIC_COUNTER, .scale = 1e-9};

static const char *const keeps[] = {"direction", NULL};

static struct metrics metrics;
static struct metric_samples samples;

static int set_up(void **state UNUSED)
{
    metrics_init(&metrics, 80, 1000); /* ten a family */
    metrics.keeps = keeps;
    samples = (struct metric_samples){0};
    return 0;
}

static int tear_down(void **state UNUSED)
{
    metrics_clear(&metrics);
    metric_samples_clear(&samples);
    return 0;
}

/* Collect and print what there is; the result is good until the next call. */
static const char *print(enum metric_format format)
{
    static char printed[30000];
    struct text t;

    text_init_fixed(&t, printed, sizeof(printed));
    metrics_collect(&metrics, &samples, 1);
    metric_samples_print(&samples, format, &t);
    metric_samples_clear(&samples);
    assert_int_equal(t.err, 0);
    return printed;
}

static bool has_line(const char *printed, const char *line)
{
    size_t len = strlen(line);

    for (const char *at = printed; (at = strstr(at, line)) != NULL; at++) {
        if ((at == printed || at[-1] == '\n') && at[len] == '\n') {
            return true;
        }
    }
    return false;
}

static void a_series_is_interned(void **state UNUSED)
{
    struct series *a = metrics_series(&metrics, &requests, BYTES("x=\"1\""));
    struct series *b = metrics_series(&metrics, &requests, BYTES("x=\"1\""));
    struct series *c = metrics_series(&metrics, &open_now, BYTES("x=\"1\""));

    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    assert_int_equal(a->refs, 2);
    series_unref(a);
    series_unref(b);
    series_unref(c);
    series_unref(NULL);
}

static void values_are_printed_as_text(void **state UNUSED)
{
    struct series *r = metrics_series(&metrics, &requests, BYTES("direction=\"inbound\""));
    struct series *g = metrics_series(&metrics, &open_now, BYTES_NONE);
    struct series *s = metrics_series(&metrics, &cpu, BYTES_NONE);
    const char *printed;

    series_add(r, 3);
    series_set(g, 1);
    series_sub(g, 3);
    series_add(s, 1500000000);
    printed = print(METRIC_TEXT);
    assert_string_equal(printed,
                        "# HELP request_total Requests.\n"
                        "# TYPE request_total counter\n"
                        "request_total{direction=\"inbound\"} 3\n"
                        "# HELP cpu_seconds CPU.\n"
                        "# TYPE cpu_seconds counter\n"
                        "cpu_seconds 1.5\n"
                        "# HELP open_connections Open \"now\".\\nSecond \\\\ line.\n"
                        "# TYPE open_connections gauge\n"
                        "open_connections -2\n"
                        "# EOF\n");
    printed = print(METRIC_OPENMETRICS);
    assert_true(has_line(printed, "# TYPE request counter"));
    assert_true(has_line(printed, "# HELP request Requests."));
    assert_true(has_line(printed, "request_total{direction=\"inbound\"} 3"));
    assert_true(has_line(printed, "# TYPE cpu_seconds counter"));
    assert_true(has_line(printed, "# UNIT cpu_seconds seconds"));
    assert_true(has_line(printed, "cpu_seconds_total 1.5"));
    assert_true(has_line(printed, "# HELP open_connections Open \\\"now\\\".\\nSecond \\\\ line."));
}

static void histograms_count_by_bound(void **state UNUSED)
{
    struct series *h = metrics_series(&metrics, &latency, BYTES("a=\"b\""));
    static const double values_ms[] = {0.5, 1, 1.5, 2.5, 9, 10, 11, 1000};
    const char *printed;

    for (size_t i = 0; i < ARRAY_LEN(values_ms); i++) {
        series_observe(h, values_ms[i] * 1e6); /* recorded in ns */
    }
    printed = print(METRIC_TEXT);
    assert_true(has_line(printed, "latency_ms_bucket{a=\"b\",le=\"1\"} 2"));
    assert_true(has_line(printed, "latency_ms_bucket{a=\"b\",le=\"2.5\"} 4"));
    assert_true(has_line(printed, "latency_ms_bucket{a=\"b\",le=\"10\"} 6"));
    assert_true(has_line(printed, "latency_ms_bucket{a=\"b\",le=\"+Inf\"} 8"));
    assert_true(has_line(printed, "latency_ms_sum{a=\"b\"} 1035.5"));
    assert_true(has_line(printed, "latency_ms_count{a=\"b\"} 8"));
}

static void a_histogram_without_labels(void **state UNUSED)
{
    series_observe(metrics_series(&metrics, &latency, BYTES_NONE), 0);
    assert_true(has_line(print(METRIC_TEXT), "latency_ms_bucket{le=\"+Inf\"} 1"));
    assert_true(has_line(print(METRIC_TEXT), "latency_ms_sum 0"));
}

/* Wire 7.2: integers in the legacy families, real numbers in the registry. */
static void bounds_by_style(void **state UNUSED)
{
    series_observe(metrics_series(&metrics, &size, BYTES_NONE), 2.5);
    assert_true(has_line(print(METRIC_TEXT), "frame_size_bytes_bucket{le=\"1.0\"} 0"));
    assert_true(has_line(print(METRIC_TEXT), "frame_size_bytes_bucket{le=\"2.5\"} 1"));
    assert_true(has_line(print(METRIC_TEXT), "frame_size_bytes_bucket{le=\"10.0\"} 1"));
    assert_true(has_line(print(METRIC_OPENMETRICS), "# UNIT frame_size_bytes bytes"));
}

static void shards_add_up(void **state UNUSED)
{
    struct metric_samples other = {0};
    struct metrics shard;
    struct series *h;
    const char *printed;

    metrics_init(&shard, 80, 1000);
    series_add(metrics_series(&metrics, &requests, BYTES("a=\"1\"")), 1);
    series_add(metrics_series(&shard, &requests, BYTES("a=\"1\"")), 10);
    series_add(metrics_series(&shard, &requests, BYTES("a=\"0\"")), 5);
    series_sub(metrics_series(&shard, &open_now, BYTES_NONE), 1);
    series_add(metrics_series(&metrics, &open_now, BYTES_NONE), 3);
    series_set(metrics_series(&metrics, &newest, BYTES_NONE), 7 * NS_PER_S);
    series_set(metrics_series(&shard, &newest, BYTES_NONE), 5 * NS_PER_S);
    h = metrics_series(&metrics, &latency, BYTES_NONE);
    series_observe(h, 2e6);
    series_observe(metrics_series(&shard, &latency, BYTES_NONE), 3e6);
    metrics_collect(&shard, &other, 1);
    metric_samples_gauge(&samples, &cpu, BYTES_NONE, 1.25);
    metric_samples_gauge(&other, &cpu, BYTES_NONE, 1.5);
    metric_samples_merge(&samples, &other);
    assert_int_equal(metric_samples_count(&other), 0);
    assert_int_equal(metric_samples_count(&samples), 7);
    metric_samples_merge(&samples, &other); /* nothing to add */
    assert_int_equal(metric_samples_count(&samples), 7);
    metrics_clear(&shard); /* the samples have what they need */
    printed = print(METRIC_TEXT);
    assert_non_null(strstr(printed, "request_total{a=\"0\"} 5\nrequest_total{a=\"1\"} 11\n"));
    assert_true(has_line(printed, "open_connections 2"));
    assert_true(has_line(printed, "newest_seconds 7")); /* a time is not added up */
    assert_true(has_line(printed, "cpu_seconds 2.75"));
    assert_true(has_line(printed, "latency_ms_bucket{le=\"2.5\"} 1"));
    assert_true(has_line(printed, "latency_ms_count 2"));
}

/* A family has its share, and the labels whose values are few stay apart. */
static void beyond_the_limit_series_fold(void **state UNUSED)
{
    struct series *first = NULL, *s;
    const char *printed;
    char labels[64];

    for (int i = 0; i < 15; i++) {
        (void)snprintf(labels, sizeof(labels), "direction=\"%s\",n=\"\\\"%d\"",
                       i % 2 == 0 ? "in" : "out", i);
        s = metrics_series(&metrics, &requests, bytes_str(labels));
        series_add(s, 1);
        first = i == 0 ? s : first;
    }
    assert_ptr_equal(
        metrics_series(&metrics, &requests, BYTES("direction=\"in\",n=\"\\\"0\"")), first);
    assert_int_equal(metrics_folded(&metrics), 5);
    s = metrics_series(&metrics, &open_now, BYTES("n=\"0\"")); /* a family of its own */
    assert_string_equal(series_labels(s), "n=\"0\"");
    printed = print(METRIC_TEXT);
    assert_true(has_line(printed, "request_total{direction=\"in\",n=\"other\"} 3"));
    assert_true(has_line(printed, "request_total{direction=\"out\",n=\"other\"} 2"));
    assert_true(
        has_line(printed, "tulle_metric_series_folded_total{family=\"request_total\"} 5"));
}

/* Whoever chooses the values of a label that is kept gets no further than that. */
static void folded_series_fold(void **state UNUSED)
{
    char labels[64];

    for (int i = 0; i < 100; i++) {
        (void)snprintf(labels, sizeof(labels), "direction=\"%d\"", i);
        series_add(metrics_series(&metrics, &requests, bytes_str(labels)), 1);
    }
    series_add(metrics_series(&metrics, &requests, BYTES("no labels at all")), 1);
    assert_int_equal(metrics.series_count, 10 + 32 + 1);
    assert_true(
        has_line(print(METRIC_TEXT), "request_total{overflow=\"true\"} 59")); /* 100 + 1 - 42 */
}

static void labels_have_a_limit(void **state UNUSED)
{
    static char labels[SERIES_LABELS_MAX + 1];
    struct series *s;

    memset(labels, 'x', sizeof(labels));
    s = metrics_series(&metrics, &requests, bytes_of(labels, SERIES_LABELS_MAX));
    assert_int_equal(strlen(series_labels(s)), SERIES_LABELS_MAX);
    s = metrics_series(&metrics, &requests, bytes_of(labels, SERIES_LABELS_MAX + 1));
    assert_string_equal(series_labels(s), "overflow=\"true\"");
}

/* Collect at a time; the number of series of ours that are left. */
static size_t collect_at(uint64_t now_ns)
{
    metric_samples_clear(&samples);
    metrics_collect(&metrics, &samples, now_ns);
    assert_int_equal(metric_samples_count(&samples), metrics.series_count);
    return metrics.series_count;
}

static void idle_series_go_when_nobody_holds_them(void **state UNUSED)
{
    struct series *held = metrics_series(&metrics, &requests, BYTES("a=\"held\""));
    struct series *idle = metrics_series(&metrics, &requests, BYTES("a=\"idle\""));

    series_unref(idle);
    assert_int_equal(collect_at(1000), 2); /* the first look begins the wait */
    assert_int_equal(collect_at(1999), 2);
    series_add(idle, 1); /* the pointer is no longer ours to use outside a test */
    assert_int_equal(collect_at(2500), 2);
    assert_int_equal(collect_at(3499), 2);
    assert_int_equal(collect_at(3500), 1);
    assert_int_equal(collect_at(100000), 1);
    series_unref(held);
    assert_int_equal(collect_at(100500), 1);
    assert_int_equal(collect_at(101000), 0);
}

/* Two scrapes at a time, in pieces, while series go and come: each tells all that stayed. */
static void collections_in_pieces(void **state UNUSED)
{
    struct metric_cursor one = {0}, two = {0};
    struct metric_samples other = {0};
    struct series *held[10];
    char labels[32];

    for (unsigned i = 0; i < ARRAY_LEN(held); i++) {
        (void)snprintf(labels, sizeof(labels), "n=\"%u\"", i);
        held[i] = metrics_series(&metrics, &requests, bytes_str(labels));
    }
    assert_int_equal(collect_at(1), 10);
    metric_samples_clear(&samples);
    for (unsigned i = 0; i < ARRAY_LEN(held); i += 2) {
        series_unref(held[i]);
    }
    assert_true(metrics_collect_some(&metrics, &samples, 1500, 4, &one));
    assert_true(metrics_collect_some(&metrics, &other, 1500, 6, &two));
    series_unref(metrics_series(&metrics, &open_now, BYTES_NONE)); /* a new one */
    assert_false(metrics_collect_some(&metrics, &samples, 1500, 100, &one));
    metrics_collect_end(&metrics, &two); /* its scraper went away */
    assert_int_equal(metrics.collections, 0);
    assert_int_equal(metrics.series_count, 6);
    assert_int_equal(metric_samples_count(&samples), 6);
    metric_samples_clear(&other);
    assert_int_equal(collect_at(1600), 6); /* the array was closed up */
    metric_samples_clear(&samples);
    assert_int_equal(strlen(print(METRIC_TEXT)) > 100, 1);
}

static void a_print_in_pieces(void **state UNUSED)
{
    struct metric_printer printer;
    struct text pieces, piece;
    char labels[32], *whole;
    unsigned count = 0;
    bool is_more = true;

    for (unsigned i = 0; i < 10; i++) {
        (void)snprintf(labels, sizeof(labels), "n=\"%u\"", i);
        series_add(metrics_series(&metrics, &requests, bytes_str(labels)), i);
        series_observe(metrics_series(&metrics, &latency, bytes_str(labels)), 1e6 * i);
    }
    whole = bytes_dup(bytes_str(print(METRIC_OPENMETRICS)));
    metrics_collect(&metrics, &samples, 1);
    metric_printer_init(&printer, &samples, METRIC_OPENMETRICS);
    text_init(&pieces, 30000);
    text_init(&piece, 1000);
    while (is_more) {
        is_more = metric_printer_some(&printer, &piece, 100);
        assert_true(piece.err == 0);
        text_add(&pieces, text_bytes(&piece));
        text_reset(&piece);
        count++;
    }
    assert_true(count > 10);
    assert_string_equal(pieces.at, whole);
    text_clear(&pieces);
    text_clear(&piece);
    mem_free(whole);
}

static void labels_are_escaped(void **state UNUSED)
{
    struct text t;

    text_init(&t, 100);
    label_add(&t, "path", BYTES("/a\"b\\c\nd"));
    label_add(&t, "empty", BYTES_NONE);
    label_add_u64(&t, "port", 8080);
    assert_string_equal(t.at, "path=\"/a\\\"b\\\\c\\nd\",empty=\"\",port=\"8080\"");
    text_reset(&t);
    label_add_u64(&t, "port", UINT64_MAX);
    assert_string_equal(t.at, "port=\"18446744073709551615\"");
    text_clear(&t);
}

static void numbers_read_back_the_same(void **state UNUSED)
{
    static const double values[] = {0.1, 1e21, 1.0 / 3, 1785585600.123456, 5e-324};

    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        const char *line;

        metric_samples_gauge(&samples, &open_now, BYTES_NONE, values[i]);
        line = strstr(print(METRIC_TEXT), "\nopen_connections ");
        assert_non_null(line);
        assert_true(strtod(line + strlen("\nopen_connections "), NULL) == values[i]);
    }
    metric_samples_gauge(&samples, &open_now, BYTES_NONE, 0.1);
    assert_true(has_line(print(METRIC_TEXT), "open_connections 0.1"));
}

#define METRIC_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        METRIC_TEST(a_series_is_interned),
        METRIC_TEST(values_are_printed_as_text),
        METRIC_TEST(histograms_count_by_bound),
        METRIC_TEST(a_histogram_without_labels),
        METRIC_TEST(bounds_by_style),
        METRIC_TEST(shards_add_up),
        METRIC_TEST(beyond_the_limit_series_fold),
        METRIC_TEST(folded_series_fold),
        METRIC_TEST(labels_have_a_limit),
        METRIC_TEST(idle_series_go_when_nobody_holds_them),
        METRIC_TEST(collections_in_pieces),
        METRIC_TEST(a_print_in_pieces),
        METRIC_TEST(labels_are_escaped),
        METRIC_TEST(numbers_read_back_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
