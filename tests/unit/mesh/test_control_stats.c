/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/control_stats.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "tests/unit/unit.h"

#define AT  "linkerd-policy.linkerd.svc.cluster.local:8090"
#define WHO "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"
#define ADDR "addr=\"" AT "\""
#define TLS  ADDR ",tls=\"true\",server_id=\"" WHO "\""

static struct metrics metrics;
static struct control_stats stats;

static int setup(void **state UNUSED)
{
    metrics_init(&metrics, 1000, NS_PER_S);
    return 0;
}

static int teardown(void **state UNUSED)
{
    control_stats_clear(&stats);
    metrics_clear(&metrics);
    return 0;
}

static char *printed(size_t addrs, size_t ready, size_t waiting)
{
    struct metric_samples samples = {0};
    struct text t;
    char *text = NULL;

    text_init(&t, 1 << 20);
    metrics_collect(&metrics, &samples, 1);
    control_stats_collect(&stats, &samples, addrs, ready, waiting);
    metric_samples_print(&samples, METRIC_TEXT, &t);
    metric_samples_clear(&samples);
    assert_int_equal(text_finish(&t, &text), 0);
    return text;
}

#define assert_line(text, line)                                                                    \
    do {                                                                                           \
        if (strstr((text), line "\n") == NULL) {                                                   \
            fail_msg("no line %s in\n%s", line, (text));                                           \
        }                                                                                          \
    } while (0)

/* Wire 7.2: the labels and families of a channel in TLS. */
static void a_channel_counts(void **state UNUSED)
{
    struct addr two[] = {addr_v4(0x7f000001, 1), addr_v4(0x7f000002, 1)};
    char *text;

    control_stats_init(&stats, &metrics, "policy", AT, WHO);
    control_stats_addrs(&stats, NULL, 0, two, 2);
    control_stats_addrs(&stats, two, 2, two, 1);
    control_stats_queued(&stats);
    control_stats_request(&stats, 4 * NS_PER_MS);
    control_stats_response(&stats, GRPC_OK, 0, 3 * NS_PER_MS);
    control_stats_response(&stats, GRPC_NOT_FOUND, 0, NS_PER_MS);
    control_stats_response(&stats, GRPC_UNAVAILABLE, 0, NS_PER_MS);
    control_stats_response(&stats, GRPC_UNAVAILABLE, E_EOF, NS_PER_MS);
    text = printed(3, 1, 2);
    assert_line(text, "control_request_total{" TLS "} 1");
    assert_line(text, "control_response_total{" TLS ",status_code=\"200\",classification="
                      "\"success\",grpc_status=\"0\",error=\"\"} 1");
    assert_line(text, "control_response_total{" TLS ",status_code=\"200\",classification="
                      "\"success\",grpc_status=\"5\",error=\"\"} 1");
    assert_line(text, "control_response_total{" TLS ",status_code=\"200\",classification="
                      "\"failure\",grpc_status=\"14\",error=\"\"} 1");
    assert_line(text, "control_response_total{" TLS ",status_code=\"\",classification="
                      "\"failure\",grpc_status=\"\",error=\"i/o\"} 1");
    assert_line(text,
                "control_response_latency_ms_bucket{" TLS ",status_code=\"200\",le=\"2\"} 2");
    assert_line(text,
                "control_response_latency_ms_bucket{" TLS ",status_code=\"200\",le=\"3\"} 3");
    assert_line(text, "control_policy_balancer_p2c_updates_total{" ADDR ",op=\"Add\"} 2");
    assert_line(text, "control_policy_balancer_p2c_updates_total{" ADDR ",op=\"Remove\"} 1");
    assert_line(text, "control_policy_balancer_queue_requests_total{" ADDR "} 1");
    assert_line(text,
                "control_policy_balancer_queue_latency_seconds_bucket{" ADDR ",le=\"0.005\"} 1");
    assert_line(text,
                "control_policy_balancer_queue_latency_seconds_bucket{" ADDR ",le=\"0.0005\"} 0");
    assert_line(text, "control_policy_balancer_endpoints{" ADDR ",endpoint_state=\"ready\"} 1");
    assert_line(text, "control_policy_balancer_endpoints{" ADDR ",endpoint_state=\"pending\"} 2");
    assert_line(text, "control_policy_balancer_p2c_endpoints{" ADDR "} 3");
    assert_line(text, "control_policy_balancer_queue_length{" ADDR "} 2");
    mem_free(text);
}

static void a_gate_opens_and_shuts(void **state UNUSED)
{
    char *text;

    control_stats_init(&stats, &metrics, "policy", AT, WHO);
    text = printed(0, 0, 0);
    assert_line(text, "control_policy_balancer_queue_gate_open_total{" ADDR "} 1");
    assert_line(text, "control_policy_balancer_queue_gate_shut_total{" ADDR "} 0");
    assert_line(text, "control_policy_balancer_queue_gate_shut_time_seconds{" ADDR "} 0");
    mem_free(text);
    control_stats_gate(&stats, true);
    control_stats_gate(&stats, true);
    text = printed(0, 0, 0);
    assert_line(text, "control_policy_balancer_queue_gate_shut_total{" ADDR "} 1");
    assert_line(text, "control_policy_balancer_queue_gate_open_time_seconds{" ADDR "} 0");
    assert_null(strstr(text, "queue_gate_shut_time_seconds{" ADDR "} 0\n"));
    mem_free(text);
    control_stats_gate(&stats, false);
    text = printed(0, 0, 0);
    assert_line(text, "control_policy_balancer_queue_gate_open_total{" ADDR "} 2");
    mem_free(text);
}

/* A channel in the clear, of a name that the reference has no balancer for; and no metrics at all. */
static void other_channels(void **state UNUSED)
{
    char *text;

    control_stats_init(&stats, &metrics, "tap", "localhost:1", NULL);
    control_stats_queued(&stats);
    control_stats_request(&stats, 0);
    control_stats_gate(&stats, true);
    control_stats_addrs(&stats, NULL, 0, NULL, 0);
    text = printed(1, 1, 1);
    assert_line(text, "control_request_total{addr=\"localhost:1\",tls=\"no_identity\","
                      "no_tls_reason=\"loopback\"} 1");
    assert_null(strstr(text, "balancer"));
    mem_free(text);
    control_stats_clear(&stats);
    control_stats_init(&stats, NULL, "policy", AT, WHO);
    control_stats_queued(&stats);
    control_stats_request(&stats, 0);
    control_stats_response(&stats, GRPC_OK, 0, 0);
    control_stats_gate(&stats, true);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_channel_counts),
        TEST(a_gate_opens_and_shuts),
        TEST(other_channels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
