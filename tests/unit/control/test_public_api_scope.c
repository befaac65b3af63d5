/* SPDX-License-Identifier: Apache-2.0 */
/* From a request to the series that tell, and to Prometheus' language (features A.5, E). */
#include "control/public_api/private.h"
#include "core/err.h"
#include "tests/unit/unit.h"

static Linkerd2__Public__StatSummaryRequest request;
static Linkerd2__Public__ResourceSelection selection;
static Linkerd2__Public__Resource resource, peer;
static struct stat_ask ask;
static struct arena arena;
static char problem[512];

static char *text(const char *s)
{
    return arena_strdup(&arena, bytes_str(s));
}

static int setup(void **state UNUSED)
{
    arena_init(&arena, 1 << 20);
    linkerd2__public__stat_summary_request__init(&request);
    linkerd2__public__resource_selection__init(&selection);
    linkerd2__public__resource__init(&resource);
    linkerd2__public__resource__init(&peer);
    selection.resource = &resource;
    request.selector = &selection;
    request.time_window = text("1m");
    return 0;
}

static int teardown(void **state UNUSED)
{
    arena_clear(&arena);
    return 0;
}

static void about(const char *ns, const char *type, const char *name)
{
    resource.namespace_ = text(ns);
    resource.type = text(type);
    resource.name = text(name);
}

static void with_peer(bool is_to, const char *ns, const char *type, const char *name)
{
    peer.namespace_ = text(ns);
    peer.type = text(type);
    peer.name = text(name);
    if (is_to) {
        request.to_resource = &peer;
        request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_TO_RESOURCE;
    } else {
        request.from_resource = &peer;
        request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND_FROM_RESOURCE;
    }
}

static void assert_scope(const char *match, const char *group, const char *tcp_peer)
{
    struct promql_scope scope;

    assert_int_equal(stat_ask_read(&ask, &request, &arena, problem, sizeof(problem)), 0);
    stat_scope_init(&scope, &ask, ask.kind);
    assert_string_equal(scope.match.at, match);
    assert_string_equal(scope.group, group);
    assert_string_equal(scope.peer, tcp_peer);
    text_clear(&scope.match);
}

static void inbound_series_tell_of_a_workload(void **state UNUSED)
{
    about("demo", "deployment", "");
    assert_scope("direction=\"inbound\",namespace=\"demo\",deployment!=\"\"",
                 "namespace,deployment", "src");
    about("demo", "deployment", "web");
    assert_scope("direction=\"inbound\",namespace=\"demo\",deployment=\"web\"",
                 "namespace,deployment", "src");
    about("", "job", "");
    assert_scope("direction=\"inbound\",k8s_job!=\"\"", "namespace,k8s_job", "src");
    about("", "namespace", "demo");
    assert_scope("direction=\"inbound\",namespace=\"demo\"", "namespace", "src");
}

static void the_sender_tells_of_both_ends(void **state UNUSED)
{
    about("demo", "deployment", "web");
    with_peer(true, "demo", "service", "voting");
    assert_scope(
        "direction=\"outbound\",namespace=\"demo\",deployment=\"web\",dst_namespace=\"demo\","
        "dst_service=\"voting\"",
        "namespace,deployment", "dst");
    about("demo", "pod", "");
    with_peer(false, "demo", "deployment", "web");
    assert_scope("direction=\"outbound\",dst_namespace=\"demo\",dst_pod!=\"\",namespace=\"demo\","
                 "deployment=\"web\"",
                 "dst_namespace,dst_pod", "dst");
    about("demo", "deployment", "web");
    with_peer(true, "", "namespace", "other");
    assert_scope(
        "direction=\"outbound\",namespace=\"demo\",deployment=\"web\",dst_namespace=\"other\"",
        "namespace,deployment", "dst");
}

static void clients_tell_of_services_and_authorities(void **state UNUSED)
{
    about("demo", "service", "");
    assert_scope("direction=\"outbound\",dst_namespace=\"demo\",dst_service!=\"\"",
                 "dst_namespace,dst_service", "dst");
    about("demo", "authority", "");
    assert_scope("direction=\"outbound\",authority!=\"\",namespace=\"demo\"", "namespace,authority",
                 "dst");
    with_peer(false, "demo", "deployment", "web");
    assert_scope("direction=\"outbound\",authority!=\"\",namespace=\"demo\",deployment=\"web\"",
                 "namespace,authority", "dst");
}

static void assert_refused(const char *why)
{
    problem[0] = '\0';
    assert_int_equal(stat_ask_read(&ask, &request, &arena, problem, sizeof(problem)), E_CONFIG);
    assert_non_null(strstr(problem, why));
}

static void what_has_no_meaning_is_refused(void **state UNUSED)
{
    about("demo", "gremlin", "");
    assert_refused("\"gremlin\"");
    about("demo", "deployment", "a\"b");
    assert_refused("is no resource");
    about("demo", "deployment", "");
    with_peer(false, "demo", "service", "web");
    assert_refused("a service sends nothing itself");
    with_peer(true, "demo", "nobody", "web");
    assert_refused("\"nobody\"");
    with_peer(true, "demo", "deployment", "web");
    about("demo", "all", "");
    assert_refused("all kinds");
    about("demo", "service", "");
    assert_refused("what services send");
    request.outbound_case = LINKERD2__PUBLIC__STAT_SUMMARY_REQUEST__OUTBOUND__NOT_SET;
    selection.label_selector = text("a in b");
    assert_refused("is no label selector");
    request.selector = NULL;
    assert_refused("no resource is named");
}

static void windows_are_whole_and_bounded(void **state UNUSED)
{
    static const char *const wrong[] = {"0",  "s",     "10",  "1.5s", "-1s",
                                        "1y", "999ms", "32d", "1s ",  "99999999999999999999s"};
    static const struct {
        const char *text;
        uint64_t ms;
    } right[] = {{"", 60000},      {"30s", 30000},  {"1m30s", 90000},
                 {"1500ms", 1500}, {"2h", 7200000}, {"31d", 2678400000}};
    uint64_t ms;

    for (size_t i = 0; i < ARRAY_LEN(right); i++) {
        assert_int_equal(window_parse(right[i].text, &ms), 0);
        assert_int_equal(ms, right[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(window_parse(wrong[i], &ms), E_CONFIG);
    }
}

/* --- the language -------------------------------------------------------------------------------- */

static void label_values_are_escaped(void **state UNUSED)
{
    struct text t;

    text_init(&t, 1024);
    promql_add_match(&t, "a", "x\"y\\z\n");
    promql_add_match(&t, "b", "");
    promql_add_match_op(&t, "c", "=~", "q.*");
    assert_string_equal(t.at, "a=\"x\\\"y\\\\z\\n\",b!=\"\",c=~\"q.*\"");
    text_clear(&t);
}

static void questions_read_as_they_should(void **state UNUSED)
{
    struct promql_scope scope = {.group = "namespace,pod", .window_ms = 90500, .peer = "src"};
    struct text t;

    text_init(&t, 32768);
    text_init(&scope.match, 1024);
    promql_add_match(&scope.match, "pod", "p");
    promql_tcp_open(&t, &scope);
    assert_string_equal(t.at,
                        "sum by (namespace,pod) (tcp_open_connections{pod=\"p\",peer=\"src\"})");
    promql_latency(&t, &scope, "0.95");
    assert_string_equal(
        t.at,
        "histogram_quantile(0.95, sum by (le,namespace,pod) ("
        "((last_over_time(response_latency_ms_bucket{pod=\"p\"}[90500ms]) - "
        "(response_latency_ms_bucket{pod=\"p\"} offset 90500ms)) >= 0) or "
        "((last_over_time(response_latency_ms_bucket{pod=\"p\"}[90500ms]) - "
        "min_over_time(response_latency_ms_bucket{pod=\"p\"}[90500ms])) and on (job,instance) "
        "((last_over_time(process_start_time_seconds[90500ms]) < time() - 90.500) unless on "
        "(job,instance) "
        "((up offset 90500ms) == 1))) or "
        "last_over_time(response_latency_ms_bucket{pod=\"p\"}[90500ms])))");
    promql_responses(&t, &scope);
    assert_true(bytes_starts(text_bytes(&t),
                             BYTES("sum by (namespace,pod,classification) (((((max_over_time(")));
    promql_count(&t, &scope, "x_total", "");
    assert_true(bytes_starts(text_bytes(&t), BYTES("sum by (namespace,pod) (((((max_over_time(x_total{")));
    promql_count(&t, &scope, "x_total", "http_status,error");
    assert_true(bytes_starts(text_bytes(&t),
                             BYTES("sum by (namespace,pod,http_status,error) (((((max_over_time(x_total{")));
    promql_quantile(&t, &scope, "x_seconds_bucket", "0.5");
    assert_true(bytes_starts(text_bytes(&t),
                             BYTES("histogram_quantile(0.5, sum by (le,namespace,pod) (((last_over_time("
                                   "x_seconds_bucket{pod=\"p\"}[90500ms])")));
    assert_int_equal(t.err, 0);
    text_clear(&scope.match);
    text_clear(&t);
}

static void the_longest_question_has_room(void **state UNUSED)
{
    struct promql_scope scope;
    char name[254];
    struct text t;

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    about(name, "replicationcontroller", name);
    with_peer(true, name, "replicationcontroller", name);
    assert_int_equal(stat_ask_read(&ask, &request, &arena, problem, sizeof(problem)), 0);
    stat_scope_init(&scope, &ask, ask.kind);
    assert_int_equal(scope.match.err, 0);
    text_init(&t, PROM_QUERY_BYTES_MAX);
    promql_responses(&t, &scope);
    assert_int_equal(t.err, 0);
    promql_tcp_bytes(&t, &scope, "tcp_write_bytes_total");
    assert_int_equal(t.err, 0);
    text_clear(&scope.match);
    text_init(&scope.match, 16384);
    for (unsigned i = 0; i < 10240; i++) { /* routes.c: labels, and names of services */
        text_char(&scope.match, 'x');
    }
    promql_count(&t, &scope, "route_actual_response_total", "classification");
    assert_int_equal(t.err, 0);
    text_clear(&t);
    text_clear(&scope.match);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(inbound_series_tell_of_a_workload, setup, teardown),
        cmocka_unit_test_setup_teardown(the_sender_tells_of_both_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(clients_tell_of_services_and_authorities, setup, teardown),
        cmocka_unit_test_setup_teardown(what_has_no_meaning_is_refused, setup, teardown),
        cmocka_unit_test(windows_are_whole_and_bounded),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(questions_read_as_they_should),
        cmocka_unit_test_setup_teardown(the_longest_question_has_room, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
