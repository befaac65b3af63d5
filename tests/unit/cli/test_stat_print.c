/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stat.h"
#include "core/clock.h"
#include "core/err.h"
#include "tests/unit/unit.h"

#define ROWS 4

/* The parts of one row, so that a test can spell out only what it is about. */
static struct parts {
    Linkerd2__Public__StatTable__PodGroup__Row row;
    Linkerd2__Public__Resource resource;
    Linkerd2__Public__BasicStats stats;
    Linkerd2__Public__TcpStats tcp;
    char type[32], ns[32], name[32], status[32];
} parts[ROWS];
static Linkerd2__Public__StatTable__PodGroup__Row *at[ROWS];
static struct stat_rows rows;
static struct stat_options o;
static struct text out;

static struct parts *add(const char *type, const char *ns, const char *name, uint64_t meshed,
                         uint64_t running)
{
    struct parts *p = &parts[rows.count];

    linkerd2__public__stat_table__pod_group__row__init(&p->row);
    linkerd2__public__resource__init(&p->resource);
    linkerd2__public__basic_stats__init(&p->stats);
    linkerd2__public__tcp_stats__init(&p->tcp);
    (void)snprintf(p->type, sizeof(p->type), "%s", type);
    (void)snprintf(p->ns, sizeof(p->ns), "%s", ns);
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    (void)snprintf(p->status, sizeof(p->status), "Running");
    p->resource.type = p->type;
    p->resource.namespace_ = p->ns;
    p->resource.name = p->name;
    p->row.resource = &p->resource;
    p->row.status = p->status;
    p->row.meshed_pod_count = meshed;
    p->row.running_pod_count = running;
    at[rows.count++] = &p->row;
    return p;
}

static void traffic(struct parts *p, uint64_t good, uint64_t bad, uint64_t p50, uint64_t p95,
                    uint64_t p99)
{
    p->stats.success_count = good;
    p->stats.failure_count = bad;
    p->stats.latency_ms_p50 = p50;
    p->stats.latency_ms_p95 = p95;
    p->stats.latency_ms_p99 = p99;
    p->row.stats = &p->stats;
}

static void tcp(struct parts *p, uint64_t connections, uint64_t read_bytes, uint64_t written_bytes)
{
    p->tcp.open_connections = connections;
    p->tcp.read_bytes_total = read_bytes;
    p->tcp.write_bytes_total = written_bytes;
    p->row.tcp_stats = &p->tcp;
}

static int setup(void **state UNUSED)
{
    memset(&rows, 0, sizeof(rows));
    memset(parts, 0, sizeof(parts));
    rows.at = at;
    o = (struct stat_options){.ns = "default", .output = "table", .window_ns = 60 * NS_PER_S};
    text_init(&out, 65536);
    return 0;
}

static int teardown(void **state UNUSED)
{
    text_clear(&out);
    return 0;
}

static void assert_tables(const char *want)
{
    stat_rows_sort(&rows);
    stat_print_tables(&o, &rows, &out);
    assert_string_equal(out.at != NULL ? out.at : "", want);
}

static void a_table_looks_as_linkerds(void **state UNUSED)
{
    struct parts *web = add("deployment", "demo", "web", 1, 1),
                 *vote = add("deployment", "demo", "vote-bot", 1, 2);

    traffic(web, 114, 6, 4, 10, 20);
    tcp(web, 4, 6000, 0);
    tcp(vote, 0, 0, 0);
    assert_tables("NAME       MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99  "
                  " TCP_CONN\n"
                  "vote-bot      1/2         -        -             -             -             -  "
                  "        0\n"
                  "web           1/1    95.00%   2.0rps           4ms          10ms          20ms  "
                  "        4\n");
}

static void pods_have_a_status_and_namespaces_a_column(void **state UNUSED)
{
    o.all_namespaces = true;
    traffic(add("pod", "b", "web-1", 1, 1), 1, 2, 1, 2, 3);
    add("pod", "a", "web-1", 1, 1);
    assert_tables(
        "NAMESPACE   NAME     STATUS   MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   "
        "LATENCY_P99   TCP_CONN\n"
        "a           web-1   Running      1/1         -        -             -             -   "
        "          -          -\n"
        "b           web-1   Running      1/1    33.33%   0.1rps           1ms           2ms   "
        "        3ms          -\n");
}

static void several_kinds_are_several_tables(void **state UNUSED)
{
    o.is_many = true;
    o.output = "wide";
    add("service", "demo", "web", 0, 0);
    tcp(add("deployment", "demo", "web", 2, 2), 1, 120, 60);
    assert_tables(
        "NAME         MESHED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN  "
        " "
        "READ_BYTES/SEC   WRITE_BYTES/SEC\n"
        "deploy/web      2/2         -     -             -             -             -          1  "
        " "
        "        2.0B/s            1.0B/s\n"
        "\n"
        "NAME      MESHED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN   "
        "READ_BYTES/SEC   WRITE_BYTES/SEC\n"
        "svc/web        -         -     -             -             -             -          -   "
        "             -                 -\n");
}

static void what_has_no_proxy_is_hidden(void **state UNUSED)
{
    add("deployment", "demo", "plain", 0, 3);
    assert_tables("");
    o.unmeshed = true;
    stat_print_tables(&o, &rows, &out);
    assert_non_null(strstr(out.at, "plain      0/3"));
}

static void with_a_peer_only_traffic_is_shown(void **state UNUSED)
{
    o.to_peer.kind = "service";
    add("deployment", "demo", "idle", 1, 1);
    traffic(add("deployment", "demo", "busy", 0, 0), 60, 0, 1, 1, 1);
    assert_tables(
        "NAME   MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN\n"
        "busy      0/0   100.00%   1.0rps           1ms           1ms           1ms          -\n");
}

static void json_has_null_for_what_is_unknown(void **state UNUSED)
{
    json_t *got, *want;
    struct parts *web = add("deployment", "demo", "web", 1, 1);

    traffic(web, 45, 15, 4, 10, 20);
    tcp(web, 3, 600, 1200);
    add("service", "demo", "web", 0, 0);
    stat_rows_sort(&rows);
    stat_print_json(&o, &rows, &out);
    got = json_loads(out.at, 0, NULL);
    want = json_pack("[{s:s,s:s,s:s,s:s,s:f,s:f,s:i,s:i,s:i,s:i,s:f,s:f,s:n},"
                     "{s:s,s:s,s:s,s:s,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n}]",
                     "namespace", "demo", "kind", "deployment", "name", "web", "meshed", "1/1",
                     "success", 0.75, "rps", 1.0, "latency_ms_p50", 4, "latency_ms_p95", 10,
                     "latency_ms_p99", 20, "tcp_open_connections", 3, "tcp_read_bytes_rate", 10.0,
                     "tcp_write_bytes_rate", 20.0, "unauthorized", "namespace", "demo", "kind",
                     "service", "name", "web", "meshed", "-", "success", "rps", "latency_ms_p50",
                     "latency_ms_p95", "latency_ms_p99", "tcp_open_connections",
                     "tcp_read_bytes_rate", "tcp_write_bytes_rate", "unauthorized");
    assert_non_null(want);
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

static void a_refusal_is_a_problem(void **state UNUSED)
{
    Linkerd2__Public__StatSummaryResponse answer;
    Linkerd2__Public__ResourceError error;
    struct stat_rows got = {0};
    char sentence[] = "there is no such thing", problem[128];
    uint8_t packed[256];
    size_t bytes;

    linkerd2__public__stat_summary_response__init(&answer);
    linkerd2__public__resource_error__init(&error);
    error.error = sentence;
    answer.error = &error;
    answer.response_case = LINKERD2__PUBLIC__STAT_SUMMARY_RESPONSE__RESPONSE_ERROR;
    bytes = linkerd2__public__stat_summary_response__pack(&answer, packed);
    assert_int_equal(
        stat_rows_add(&got, linkerd2__public__stat_summary_response__unpack(NULL, bytes, packed),
                      problem, sizeof(problem)),
        E_INTERNAL);
    assert_string_equal(problem, "there is no such thing");
    assert_int_equal(got.count, 0);
    stat_rows_clear(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_table_looks_as_linkerds, setup, teardown),
        cmocka_unit_test_setup_teardown(pods_have_a_status_and_namespaces_a_column, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(several_kinds_are_several_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(what_has_no_proxy_is_hidden, setup, teardown),
        cmocka_unit_test_setup_teardown(with_a_peer_only_traffic_is_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(json_has_null_for_what_is_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusal_is_a_problem, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
