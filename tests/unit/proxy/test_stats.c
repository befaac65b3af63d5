/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/stats_bundle.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/metric_private.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>

static struct stats stats;

static int setup(void **state)
{
    (void)state;
    stats_open(&stats, 20000, 1000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stats_close(&stats); /* asserts that nothing is held */
    return 0;
}

static char *printed(void)
{
    struct metric_samples samples = {0};
    struct text t;
    char *text = NULL;

    text_init(&t, 1 << 20);
    stats_collect(&stats, &samples, 1);
    metric_samples_print(&samples, METRIC_TEXT, &t);
    metric_samples_clear(&samples);
    assert_int_equal(text_finish(&t, &text), 0);
    return text;
}

#define assert_printed(line)                                                                       \
    do {                                                                                           \
        char *text_ = printed();                                                                   \
        if (strstr(text_, line "\n") == NULL) {                                                    \
            fail_msg("no line %s in\n%s", line, text_);                                            \
        }                                                                                          \
        mem_free(text_);                                                                           \
    } while (0)

static void requests_and_responses(void **state)
{
    struct request_stats *r = request_stats_get(&stats, BYTES("direction=\"inbound\""));
    struct response_facts f = {
        .status = 200, .grpc_status = -1, .error = "", .latency_ns = 4500000};

    (void)state;
    assert_ptr_equal(request_stats_get(&stats, BYTES("direction=\"inbound\"")), r); /* shared */
    request_stats_unref(r);
    request_stats_request(r);
    request_stats_response(r, &f);
    assert_printed("request_total{direction=\"inbound\"} 1");
    assert_printed(
        "response_total{direction=\"inbound\",status_code=\"200\",classification=\"success\","
        "grpc_status=\"\",error=\"\"} 1");
    /* Wire 7.2: whole milliseconds; 4.5 lies in (4, 5]. */
    assert_printed(
        "response_latency_ms_bucket{direction=\"inbound\",status_code=\"200\",le=\"4\"} 0");
    assert_printed(
        "response_latency_ms_bucket{direction=\"inbound\",status_code=\"200\",le=\"5\"} 1");
    assert_printed("response_latency_ms_sum{direction=\"inbound\",status_code=\"200\"} 4.5");
    f = (struct response_facts){.status = 0, .grpc_status = 14, .is_failure = true, .error = "i/o"};
    request_stats_response(r, &f);
    assert_printed(
        "response_total{direction=\"inbound\",status_code=\"\",classification=\"failure\","
        "grpc_status=\"14\",error=\"i/o\"} 1");
    request_stats_unref(r);
}

/* More combinations than are kept at hand: none is lost. */
static void many_combinations(void **state)
{
    struct request_stats *r = request_stats_get(&stats, BYTES("a=\"b\""));
    struct response_facts f = {.grpc_status = -1, .error = ""};

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (f.status = 200; f.status < 240; f.status++) {
            request_stats_response(r, &f);
        }
    }
    assert_printed("response_total{a=\"b\",status_code=\"200\",classification=\"success\",grpc_"
                   "status=\"\",error=\"\"} 3");
    assert_printed("response_total{a=\"b\",status_code=\"239\",classification=\"success\",grpc_"
                   "status=\"\",error=\"\"} 3");
    request_stats_unref(r);
}

static void a_meter(void **state)
{
    struct tcp_stats *t = tcp_stats_get(&stats, BYTES("peer=\"src\""));
    struct io io = {.bytes_in = 30, .bytes_out = 7};
    struct tcp_meter m, moved;

    (void)state;
    tcp_meter_open(&m, t, &io, 20, 7);
    tcp_stats_unref(t); /* the meter holds it */
    assert_printed("tcp_open_connections{peer=\"src\"} 1");
    assert_printed("tcp_read_bytes_total{peer=\"src\"} 10");
    io.bytes_in += 5;
    tcp_meter_move(&moved, &m);
    tcp_meter_close(&m, 0); /* counts nothing any more */
    io.bytes_out += 3;
    assert_printed("tcp_read_bytes_total{peer=\"src\"} 15");
    assert_printed("tcp_write_bytes_total{peer=\"src\"} 3");
    io.bytes_in += 1;
    tcp_meter_close(&moved, -ECONNRESET);
    tcp_meter_close(&moved, -ECONNRESET);
    assert_printed("tcp_read_bytes_total{peer=\"src\"} 16");
    assert_printed("tcp_open_total{peer=\"src\"} 1");
    assert_printed("tcp_open_connections{peer=\"src\"} 0");
    assert_printed("tcp_close_total{peer=\"src\",errno=\"ECONNRESET\"} 1");
    assert_printed("tcp_close_total{peer=\"src\",errno=\"\"} 0");
}

/* Wire 7.2: only connections to endpoints, by their zone. */
static void transfer_cost(void **state)
{
    static const char *const labels[] = {
        "direction=\"outbound\",peer=\"dst\",dst_zone=\"a\",dst_zone_locality=\"local\"",
        "direction=\"outbound\",peer=\"dst\",dst_zone=\"b\",dst_zone_locality=\"remote\"",
        "direction=\"outbound\",peer=\"dst\",target_port=\"1\"",
        "direction=\"outbound\",peer=\"src\"",
        "direction=\"inbound\",peer=\"dst\",dst_zone_locality=\"local\"",
    };
    struct io io = {.bytes_in = 3, .bytes_out = 7};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        struct tcp_stats *t = tcp_stats_get(&stats, bytes_str(labels[i]));
        struct tcp_meter m;

        tcp_meter_open(&m, t, &io, 0, 0);
        tcp_stats_unref(t);
        tcp_meter_close(&m, 0);
    }
    assert_printed("outbound_tcp_transfer_cost_bytes_total{op=\"Send\",zone_locality=\"Local\"} 7");
    assert_printed("outbound_tcp_transfer_cost_bytes_total{op=\"Recv\",zone_locality=\"Local\"} 3");
    assert_printed("outbound_tcp_transfer_cost_bytes_total{op=\"Recv\",zone_locality=\"Remote\"} 3");
    assert_printed("outbound_tcp_transfer_cost_bytes_total{op=\"Recv\",zone_locality=\"Unknown\"} 3");
}

static const enum stat_id bundle_stats[] = {STAT_REQUESTS, STAT_TCP_OPEN, STAT_LATENCY};
static const struct bundle_kind http_bundle = {.stats = bundle_stats,
                                               .count = ARRAY_LEN(bundle_stats),
                                               .statuses = STAT_RESPONSES,
                                               .status_label = STATUS_HTTP};
static const struct bundle_kind grpc_bundle = {.statuses = STAT_RESPONSES,
                                               .status_label = STATUS_GRPC};

static void a_bundle(void **state)
{
    struct stat_bundle *b = stat_bundle_get(&stats, &http_bundle, BYTES("route=\"x\""));
    struct stat_bundle *grpc = stat_bundle_get(&stats, &grpc_bundle, BYTES("route=\"x\""));

    (void)state;
    assert_ptr_equal(stat_bundle_get(&stats, &http_bundle, BYTES("route=\"x\"")), b); /* shared */
    assert_ptr_not_equal(grpc, b); /* another kind */
    stat_bundle_unref(b);
    stat_bundle_add(b, 0, 3);
    stat_bundle_set(b, 1, 5);
    stat_bundle_sub(b, 1, 2);
    stat_bundle_observe(b, 2, 4500000);
    assert_printed("request_total{route=\"x\"} 3");
    assert_printed("tcp_open_connections{route=\"x\"} 3");
    assert_printed("response_latency_ms_bucket{route=\"x\",le=\"4\"} 0");
    assert_printed("response_latency_ms_bucket{route=\"x\",le=\"5\"} 1");
    /* Wire 7.2: an absent status is an empty label; more combinations than are kept at hand. */
    for (unsigned round = 0; round < 2; round++) {
        stat_bundle_status(b, 0, "FAIL_FAST");
        for (unsigned status = 200; status < 240; status++) {
            stat_bundle_status(b, status, "");
        }
    }
    assert_printed("response_total{route=\"x\",http_status=\"200\",error=\"\"} 2");
    assert_printed("response_total{route=\"x\",http_status=\"239\",error=\"\"} 2");
    assert_printed("response_total{route=\"x\",http_status=\"\",error=\"FAIL_FAST\"} 2");
    stat_bundle_status(grpc, 0, "");
    stat_bundle_status(grpc, 5, "");
    stat_bundle_status(grpc, 17, "");
    assert_printed("response_total{route=\"x\",grpc_status=\"OK\",error=\"\"} 1");
    assert_printed("response_total{route=\"x\",grpc_status=\"NOT_FOUND\",error=\"\"} 1");
    assert_printed("response_total{route=\"x\",grpc_status=\"UNKNOWN\",error=\"\"} 1");
    stat_bundle_unref(grpc);
    stat_bundle_unref(b);
    assert_printed("request_total{route=\"x\"} 3"); /* stays for the scrapes */
}

/* Labels that do not fit must not end up half written: a scrape would be unreadable. */
static void labels_that_do_not_fit(void **state)
{
    char *value = mem_new(SERIES_LABELS_MAX);
    struct labels l;

    (void)state;
    memset(value, 'x', SERIES_LABELS_MAX - 1);
    labels_init(&l);
    label_add(&l.text, "one", BYTES("1"));
    label_add(&l.text, "two", bytes_str(value));
    stat_count(&stats, STAT_FAILURES, &l);
    assert_printed("tulle_failures_total{overflow=\"true\"} 1");
    mem_free(value);
}

/* As many as 2,000 services need where memory has no tight limit, and no more than it has room for. */
static void series_are_bounded_by_memory(void **state)
{
    const size_t mib = ((size_t)1 << 20) / sizeof(struct chunk);

    (void)state;
    assert_int_equal(stats_series_max(1024 * mib), 100000); /* no limit */
    assert_int_equal(stats_series_max(SIZE_MAX), 100000);
    assert_int_equal(stats_series_max(125 * mib), 100000); /* of 250 MiB, what an injector sets */
    assert_in_range(stats_series_max(24 * mib), 24000, 24576); /* of 48 MiB */
    assert_int_equal(stats_series_max(64), 5000); /* the least chunks that a worker has */
}

static void failures_by_cause(void **state)
{
    (void)state;
    failure_count(&stats, "inbound", FAILURE_CONNECT);
    assert_printed("tulle_failures_total{hop=\"inbound\",phase=\"connect\",cause=\"connect\"} 1");
}

/* Every family of ours has a help text, and the names are Prometheus names. */
static void families(void **state)
{
    (void)state;
    for (int i = 0; i < STAT_COUNT; i++) {
        const struct metric_family *f = stat_family((enum stat_id)i);

        assert_true(strlen(f->help) > 10);
        assert_int_equal(strspn(f->name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(f->name));
        if (strncmp(f->name, "opentelemetry_", 14) != 0) { /* the reference's have no _total (wire 7.2) */
            assert_int_equal(f->kind == METRIC_COUNTER,
                             bytes_ends(bytes_str(f->name), BYTES("_total")));
        }
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(requests_and_responses), TEST(many_combinations), TEST(a_meter),
        TEST(transfer_cost),
        TEST(a_bundle),
        TEST(labels_that_do_not_fit),
        TEST(series_are_bounded_by_memory), TEST(failures_by_cause), TEST(families),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
