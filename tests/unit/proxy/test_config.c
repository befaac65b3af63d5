/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment of wire 2.1: defaults, every variable, and bad values, each of which is named.
 */
#include "proxy/config.h"

#include "core/clock.h"
#include "core/err.h"
#include "tests/unit/unit.h"

#include <stdlib.h>

extern char **environ;

static struct config c;
static char problem[512];

static void set(const char *name, const char *value)
{
    char full[128];

    (void)snprintf(full, sizeof(full), "LINKERD2_PROXY_%s", name);
    assert_int_equal(value != NULL ? setenv(full, value, 1) : unsetenv(full), 0);
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(clearenv(), 0);
    set("IDENTITY_TRUST_ANCHORS", "pem");
    set("IDENTITY_TOKEN_FILE", "/token");
    set("IDENTITY_LOCAL_NAME", "web.t.serviceaccount.identity.linkerd.cluster.local");
    set("IDENTITY_SVC_ADDR", "linkerd-identity-headless.linkerd.svc.cluster.local.:8080");
    set("IDENTITY_SVC_NAME", "id");
    set("DESTINATION_SVC_ADDR", "localhost.:8086");
    set("POLICY_SVC_ADDR", "127.0.0.1:8090");
    set("POLICY_WORKLOAD", "{\"ns\":\"t\", \"pod\":\"p\"}\n");
    problem[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    config_clear(&c);
    return 0;
}

static void read_all(void)
{
    int rc = config_from_env(&c, problem, sizeof(problem));

    if (rc != 0) {
        fail_msg("%s", problem);
    }
}

static void defaults(void **state)
{
    char text[ADDR_TEXT_BYTES];

    (void)state;
    read_all();
    assert_string_equal(addr_format(&c.inbound.listen[0], text), "0.0.0.0:4143");
    assert_string_equal(addr_format(&c.outbound.listen[0], text), "127.0.0.1:4140");
    assert_string_equal(addr_format(&c.admin_listen, text), "127.0.0.1:4191");
    assert_int_equal(c.outbound.listen_count, 1);
    assert_string_equal(c.identity.host, "linkerd-identity-headless.linkerd.svc.cluster.local.");
    assert_string_equal(c.identity.name, "id");
    assert_null(c.destination.name); /* loopback: no TLS */
    assert_null(c.policy.name);
    assert_string_equal(c.workload, "{\"ns\":\"t\", \"pod\":\"p\"}\n"); /* verbatim */
    assert_string_equal(c.profile_suffixes, "svc.cluster.local.");
    assert_int_equal(c.inbound_default, DEFAULT_ALL_UNAUTHENTICATED);
    assert_true(c.inbound.detect_timeout_ns == 10 * NS_PER_S &&
                c.outbound.detect_timeout_ns == 10 * NS_PER_S);
    assert_true(c.inbound.connect_timeout_ns == 300 * NS_PER_MS &&
                c.outbound.connect_timeout_ns == NS_PER_S);
    assert_true(c.inbound.backoff_max_ns == 10 * NS_PER_S &&
                c.outbound.backoff_max_ns == 60 * NS_PER_S);
    assert_true(c.inbound.failfast_ns == NS_PER_S && c.outbound.failfast_ns == 3 * NS_PER_S);
    assert_true(c.inbound.discovery_idle_ns == 90 * NS_PER_S &&
                c.outbound.discovery_idle_ns == 5 * NS_PER_S);
    assert_int_equal(c.inbound.queue_capacity, 10000);
    assert_int_equal(c.inbound.max_in_flight, 100000);
    assert_int_equal(c.inbound.pool_max, 10000);
    assert_true(c.inbound.pool_idle_ns == 3 * NS_PER_S);
    assert_int_equal(c.stream_window, 65535);
    assert_int_equal(c.connection_window, 1048576);
    assert_true(c.metrics_idle_ns == 600 * NS_PER_S && c.shutdown_grace_ns == 120 * NS_PER_S);
    assert_false(c.shutdown_endpoint || c.hide_headers || c.ingress_mode || c.log_json);
    assert_false(c.hostname_labels);
    assert_true(c.workers >= 1 && c.chunks_max >= 64);
}

static const char *const variables[][2] = {
    {"INBOUND_LISTEN_ADDR", "[::]:5143"},
    {"OUTBOUND_LISTEN_ADDRS", "127.0.0.1:5140, [::1]:5140"},
    {"ADMIN_LISTEN_ADDR", "[::]:5191"},
    {"IDENTITY_DIR", "/id"},
    {"IDENTITY_MIN_REFRESH", "1m"},
    {"IDENTITY_MAX_REFRESH", "1d"},
    {"DESTINATION_CONTEXT", "{\"ns\":\"t\"}"},
    {"DESTINATION_PROFILE_SUFFIXES", "."},
    {"DESTINATION_PROFILE_NETWORKS", "10.0.0.0/8, fd00::/8"},
    {"POLICY_CLUSTER_NETWORKS", "10.0.0.0/8"},
    {"INBOUND_DEFAULT_POLICY", "cluster-authenticated"},
    {"INBOUND_PORTS", "80,8000-8002"},
    {"INBOUND_IPS", "10.1.2.3,fd00::1"},
    {"INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", "25"},
    {"INBOUND_DETECT_TIMEOUT", "1s"},
    {"OUTBOUND_CONNECT_TIMEOUT", "1000ms"},
    {"INBOUND_ACCEPT_KEEPALIVE", "10000ms"},
    {"INBOUND_ACCEPT_USER_TIMEOUT", "30s"},
    {"OUTBOUND_CONNECT_KEEPALIVE", "10s"},
    {"OUTBOUND_CONNECT_USER_TIMEOUT", "30s"},
    {"INBOUND_TCP_LISTEN_BACKLOG", "77"},
    {"OUTBOUND_CONNECT_EXP_BACKOFF_MIN", "10ms"},
    {"OUTBOUND_CONNECT_EXP_BACKOFF_MAX", "20ms"},
    {"OUTBOUND_CONNECT_EXP_BACKOFF_JITTER", "0.5"},
    {"OUTBOUND_HTTP_QUEUE_CAPACITY", "7"},
    {"OUTBOUND_HTTP_FAILFAST_TIMEOUT", "5s"},
    {"INBOUND_MAX_IN_FLIGHT", "9"},
    {"MAX_IDLE_CONNS_PER_ENDPOINT", "3"},
    {"OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT", "4"},
    {"OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT", "9s"},
    {"INBOUND_DISCOVERY_IDLE_TIMEOUT", "0"},
    {"INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "10s"},
    {"INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "4s"},
    {"INBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS", "33"},
    {"INBOUND_SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE", "70000"},
    {"INBOUND_SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE", "80000"},
    {"HTTP2_INITIAL_STREAM_WINDOW_SIZE", "90000"},
    {"HTTP2_INITIAL_CONNECTION_WINDOW_SIZE", "100000"},
    {"CONTROL_STREAM_INITIAL_TIMEOUT", "3s"},
    {"CONTROL_STREAM_IDLE_TIMEOUT", "5m"},
    {"CONTROL_STREAM_LIFETIME", "1h"},
    {"OUTBOUND_DISABLE_INFORMATIONAL_HEADERS", "true"},
    {"METRICS_RETAIN_IDLE", "1m"},
    {"SHUTDOWN_ENDPOINT_ENABLED", "true"},
    {"SHUTDOWN_GRACE_PERIOD", "1s"},
    {"LOG", "debug"},
    {"LOG_FORMAT", "JSON"},
    {"CORES", "3"},
    {"SOCKET_MARK", "5433"},
};

static void every_variable(void **state)
{
    char text[ADDR_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        set(variables[i][0], variables[i][1]);
    }
    read_all();
    assert_string_equal(addr_format(&c.inbound.listen[0], text), "[::]:5143");
    assert_int_equal(c.outbound.listen_count, 2);
    assert_string_equal(addr_format(&c.outbound.listen[1], text), "[::1]:5140");
    assert_string_equal(addr_format(&c.admin_listen, text), "[::]:5191");
    assert_string_equal(c.identity_dir, "/id");
    assert_true(c.identity_min_refresh_ns == 60 * NS_PER_S &&
                c.identity_max_refresh_ns == 86400 * NS_PER_S);
    assert_string_equal(c.context_token, "{\"ns\":\"t\"}");
    assert_string_equal(c.profile_suffixes, ".");
    assert_int_equal(c.profile_networks_count, 2);
    assert_int_equal(c.cluster_networks_count, 1);
    assert_int_equal(c.inbound_default, DEFAULT_CLUSTER_AUTHENTICATED);
    assert_true(port_ranges_has(&c.inbound_ports, 80) && port_ranges_has(&c.inbound_ports, 8002));
    assert_false(port_ranges_has(&c.inbound_ports, 81) || port_ranges_has(&c.inbound_ports, 8003));
    assert_true(port_ranges_has(&c.opaque_ports, 25));
    assert_true(config_is_local_ip(&c, &c.inbound_ips[1]));
    assert_int_equal(c.inbound_ips_count, 2);
    assert_true(c.inbound.detect_timeout_ns == NS_PER_S &&
                c.outbound.connect_timeout_ns == NS_PER_S);
    assert_int_equal(c.inbound.accept_opts.keepalive_ms, 10000);
    assert_int_equal(c.inbound.accept_opts.user_timeout_ms, 30000);
    assert_int_equal(c.outbound.connect_opts.keepalive_ms, 10000);
    assert_int_equal(c.outbound.connect_opts.user_timeout_ms, 30000);
    assert_int_equal(c.inbound.backlog, 77);
    assert_true(c.outbound.backoff_min_ns == 10 * NS_PER_MS &&
                c.outbound.backoff_max_ns == 20 * NS_PER_MS);
    assert_true(c.outbound.backoff_jitter > 0.49 && c.outbound.backoff_jitter < 0.51);
    assert_int_equal(c.outbound.queue_capacity, 7);
    assert_true(c.outbound.failfast_ns == 5 * NS_PER_S);
    assert_int_equal(c.inbound.max_in_flight, 9);
    assert_int_equal(c.inbound.pool_max, 3);
    assert_int_equal(c.outbound.pool_max, 4);
    assert_true(c.outbound.pool_idle_ns == 9 * NS_PER_S && c.inbound.discovery_idle_ns == 0);
    assert_true(c.inbound.ping_interval_ns == 10 * NS_PER_S &&
                c.inbound.ping_timeout_ns == 4 * NS_PER_S);
    assert_int_equal(c.inbound.streams_max, 33);
    assert_int_equal(c.inbound.stream_window, 70000);
    assert_int_equal(c.inbound.connection_window, 80000);
    assert_int_equal(c.stream_window, 90000);
    assert_int_equal(c.connection_window, 100000);
    assert_true(c.stream_initial_ns == 3 * NS_PER_S && c.stream_idle_ns == 300 * NS_PER_S);
    assert_true(c.stream_lifetime_ns == 3600 * NS_PER_S);
    assert_true(c.hide_headers && c.shutdown_endpoint && c.log_json);
    assert_true(c.metrics_idle_ns == 60 * NS_PER_S && c.shutdown_grace_ns == NS_PER_S);
    assert_string_equal(c.log_filter, "debug");
    assert_int_equal(c.workers, 3);
    assert_int_equal(c.mark, 5433);
}

static void cores_have_bounds(void **state)
{
    unsigned all;

    (void)state;
    read_all();
    all = c.workers;
    config_clear(&c);
    set("CORES_MIN", "200");
    read_all();
    assert_int_equal(c.workers, 200);
    config_clear(&c);
    set("CORES_MIN", NULL);
    set("CORES_MAX", "1");
    read_all();
    assert_int_equal(c.workers, 1);
    config_clear(&c);
    set("CORES_MAX", NULL);
    set("CORES_MAX_RATIO", "0.01");
    read_all();
    assert_true(c.workers >= 1 && c.workers <= all);
}

/* Wire 2.1: an empty value is none. */
static void empty_is_unset(void **state)
{
    (void)state;
    set("INBOUND_DETECT_TIMEOUT", "");
    set("OUTBOUND_LISTEN_ADDRS", "");
    set("CORES", "");
    read_all();
    assert_true(c.inbound.detect_timeout_ns == 10 * NS_PER_S);
}

/* The sentence has the variable, its value, and what is allowed. */
static void bad_values_are_named(void **state)
{
    static const char *const pairs[][2] = {
        {"INBOUND_LISTEN_ADDR", "4143"},
        {"OUTBOUND_LISTEN_ADDR", "localhost"},
        {"OUTBOUND_LISTEN_ADDRS", "127.0.0.1:1,[::1]:1,127.0.0.1:2"},
        {"ADMIN_LISTEN_ADDR", "0.0.0.0:99999"},
        {"ADMIN_LISTEN_ADDR", "0.0.0.0:4143"},
        {"IDENTITY_MIN_REFRESH", "10"},
        {"IDENTITY_DISABLED", "1"},
        {"IDENTITY_SVC_ADDR", "host"},
        {"IDENTITY_SVC_ADDR", "host:0"},
        {"DESTINATION_SVC_ADDR", "host:port"},
        {"DESTINATION_PROFILE_NETWORKS", "10.0.0.0/33"},
        {"POLICY_CLUSTER_NETWORKS", "everything"},
        {"INBOUND_DEFAULT_POLICY", "allow"},
        {"INBOUND_DEFAULT_POLICY", "cluster-authenticated"}, /* without networks */
        {"INBOUND_PORTS", "80-70"},
        {"INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", "70000"},
        {"INBOUND_IPS", "web"},
        {"INBOUND_DETECT_TIMEOUT", "soon"},
        {"OUTBOUND_CONNECT_TIMEOUT", "-1s"},
        {"INBOUND_TCP_LISTEN_BACKLOG", "70000"},
        {"OUTBOUND_CONNECT_EXP_BACKOFF_JITTER", "2"},
        {"OUTBOUND_CONNECT_EXP_BACKOFF_JITTER", "x"},
        {"OUTBOUND_HTTP_QUEUE_CAPACITY", "many"},
        {"INBOUND_MAX_IN_FLIGHT", "1e9"},
        {"MAX_IDLE_CONNS_PER_ENDPOINT", "-1"},
        {"INBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS", "x"},
        {"HTTP2_INITIAL_STREAM_WINDOW_SIZE", "4294967296"},
        {"CONTROL_STREAM_LIFETIME", "5"},
        {"SHUTDOWN_ENDPOINT_ENABLED", "yes"},
        {"INGRESS_MODE", "1"},
        {"OUTBOUND_DISABLE_INFORMATIONAL_HEADERS", "TRUE"},
        {"LOG_FORMAT", "XML"},
        {"CORES", "1.5"},
        {"CORES_MAX_RATIO", "-1"},
        {"SOCKET_MARK", "0x1539"},
        {"TRACE_COLLECTOR_SVC_ADDR", "collector"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        char name[128];

        set(pairs[i][0], pairs[i][1]);
        assert_int_equal(config_from_env(&c, problem, sizeof(problem)), E_CONFIG);
        (void)snprintf(name, sizeof(name), "LINKERD2_PROXY_%s is \"%s\": ", pairs[i][0],
                       pairs[i][1]);
        if (strncmp(problem, name, strlen(name)) != 0 || strlen(problem) < strlen(name) + 10) {
            fail_msg("%s=%s: %s", pairs[i][0], pairs[i][1], problem);
        }
        config_clear(&c);
        setup(NULL);
    }
}

static void required_ones_are_named(void **state)
{
    static const char *const names[] = {
        "IDENTITY_TRUST_ANCHORS", "IDENTITY_TOKEN_FILE", "IDENTITY_LOCAL_NAME",
        "IDENTITY_SVC_ADDR",      "IDENTITY_SVC_NAME",   "DESTINATION_SVC_ADDR",
        "POLICY_SVC_ADDR",        "POLICY_WORKLOAD",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        set(names[i], NULL);
        assert_int_equal(config_from_env(&c, problem, sizeof(problem)), E_CONFIG);
        assert_non_null(strstr(problem, names[i]));
        assert_non_null(strstr(problem, "not set"));
        config_clear(&c);
        setup(NULL);
    }
}

/* Wire 2.1: what belongs together. */
static void settings_that_contradict(void **state)
{
    (void)state;
    set("INBOUND_CONNECT_EXP_BACKOFF_MIN", "1s");
    assert_int_equal(config_from_env(&c, problem, sizeof(problem)), E_CONFIG);
    assert_non_null(strstr(problem, "INBOUND_CONNECT_EXP_BACKOFF_MAX"));
    config_clear(&c);
    set("INBOUND_CONNECT_EXP_BACKOFF_MAX", "10ms");
    assert_int_equal(config_from_env(&c, problem, sizeof(problem)), E_CONFIG);
    assert_non_null(strstr(problem, "INBOUND_CONNECT_EXP_BACKOFF_MIN"));
    config_clear(&c);
    setup(NULL);
    set("CONTROL_STREAM_INITIAL_TIMEOUT", "10s");
    set("CONTROL_STREAM_IDLE_TIMEOUT", "5s");
    assert_int_equal(config_from_env(&c, problem, sizeof(problem)), E_CONFIG);
    assert_non_null(strstr(problem, "CONTROL_STREAM_IDLE_TIMEOUT"));
}

/* Wire 2.1 */
static void traces(void **state)
{
    (void)state;
    set("TRACE_SERVICE_NAME", "me");
    read_all();
    assert_int_equal(c.trace_collector.port, 0);
    assert_null(c.trace.service_name);
    config_clear(&c);
    set("TRACE_COLLECTOR_SVC_ADDR", "collector.t:4317");
    assert_int_equal(config_from_env(&c, problem, sizeof(problem)), E_CONFIG);
    assert_non_null(strstr(problem, "TRACE_COLLECTOR_SVC_NAME"));
    config_clear(&c);
    set("TRACE_COLLECTOR_SVC_NAME", "id");
    set("TRACE_EXTRA_ATTRIBUTES", "a=b");
    assert_int_equal(setenv("OTEL_RESOURCE_ATTRIBUTES", "c=d", 1), 0);
    assert_int_equal(setenv("HOSTNAME", "web-1", 1), 0);
    read_all();
    assert_string_equal(c.trace_collector.host, "collector.t");
    assert_int_equal(c.trace_collector.port, 4317);
    assert_string_equal(c.trace_collector.name, "id");
    assert_string_equal(c.trace.service_name, "me");
    assert_string_equal(c.trace.extra_attributes, "a=b");
    assert_string_equal(c.trace.otel_attributes, "c=d");
    assert_string_equal(c.trace.host_name, "web-1");
    config_clear(&c);
    set("TRACE_COLLECTOR_SVC_NAME", NULL);
    set("TRACE_COLLECTOR_SVC_ADDR", "localhost:4317");
    read_all();
    assert_null(c.trace_collector.name);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults),
        TEST(every_variable),
        TEST(cores_have_bounds),
        TEST(empty_is_unset),
        TEST(bad_values_are_named),
        TEST(required_ones_are_named),
        TEST(settings_that_contradict),
        TEST(traces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
