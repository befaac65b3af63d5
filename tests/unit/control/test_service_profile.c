/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceProfiles in the answers of GetProfile (wire 3.2, 9.2, 11.2). */
#include "dump.h"

#define PROFILE(ns, spec)                                                                          \
    "{apiVersion: linkerd.io/v1alpha2, kind: ServiceProfile, metadata: {name: "                    \
    "web.default.svc.cluster.local, namespace: " ns "}, spec: {" spec "}}"
#define NAME         "web.default.svc.cluster.local"
#define BUDGET       " retry_budget{ retry_ratio=0.2 min_retries_per_second=10 ttl=10s}"
#define SERVICE_PART " fully_qualified_name=" NAME " parent_ref=core/Service/default/web:80"
#define REF(ns)      " profile_ref=linkerd.io/ServiceProfile/" ns "/" NAME
#define BARE         "{" BUDGET SERVICE_PART "}"
#define ROUTE(name)  " metrics_labels[route=" name "]"
#define PATH(regex)  " condition{ path{ regex=" regex "}}"

static const char *answer(struct engines *e, struct asker *a)
{
    return dump(&io__linkerd__proxy__destination__destination_profile__descriptor,
                asker_next(e, a));
}

static void get(struct engines *e, struct asker *a, const char *path, const char *ns)
{
    char token[128];

    (void)snprintf(token, sizeof(token), "{\"ns\":\"%s\",\"pod\":\"client\"}", ns);
    assert_int_equal(ask(e, destination_get_profile, a, path, token), GRPC_OK);
}

static void web_open(struct engines *e, struct asker *a)
{
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, a, "10.96.0.10:80", "default");
    assert_string_equal(answer(e, a), BARE);
}

static void routes_and_classes(void **state)
{
    struct engines *e = *state;
    struct asker a;

    web_open(e, &a);
    put(e, "profile.yaml",
        PROFILE("default",
                "routes: [{name: 'GET /a', condition: {pathRegex: '/a/[^/]*', method: GET}, "
                "isRetryable: true, timeout: 1.5s, responseClasses: [{condition: {status: {min: "
                "500, max: 503}}, isFailure: true}, {condition: {not: {status: {min: 400}}}}, "
                "{condition: {any: [{status: {max: 299}}, {all: [{status: {min: 404, max: "
                "404}}]}]}, isFailure: true}]}, {name: rest, condition: {any: [{not: {method: "
                "BREW}}, {all: [{pathRegex: .*}, {method: POST}]}]}}]"));
    assert_string_equal(
        answer(e, &a),
        "{ routes{ condition{ all{ matches{ path{ regex=/a/[^/]*}} matches{ method{ "
        "registered=GET}}}} response_classes{ condition{ status{ min=500 max=503}} "
        "is_failure=true} response_classes{ condition{ not{ status{ min=400 max=599}}}} "
        "response_classes{ condition{ any{ matches{ status{ min=100 max=299}} matches{ all{ "
        "matches{ status{ min=404 max=404}}}}}} is_failure=true}" ROUTE(
            "GET /a") " is_retryable=true timeout=1.5s} routes{ condition{ any{ matches{ not{ "
                      "method{ "
                      "unregistered=BREW}}} matches{ all{ matches{ path{ regex=.*}} matches{ "
                      "method{ "
                      "registered=POST}}}}}}" ROUTE("rest") "}" BUDGET SERVICE_PART REF(
                          "default") "}");
    remove_file(e->f, "profile.yaml");
    assert_string_equal(answer(e, &a), BARE);
    asker_clear(&a);
}

static void budget_and_overrides(void **state)
{
    struct engines *e = *state;
    struct asker a;

    web_open(e, &a);
    put(e, "profile.yaml",
        PROFILE("default",
                "retryBudget: {retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 1m}, "
                "dstOverrides: [{authority: v1.default.svc.cluster.local, weight: 900m}, "
                "{authority: v2.other.example, weight: 1}, {authority: "
                "v3.other.svc.cluster.local, weight: '0.1'}]"));
    assert_string_equal(
        answer(e, &a),
        "{ retry_budget{ retry_ratio=0.5 min_retries_per_second=3 ttl=60s} dst_overrides{ "
        "authority=v1.default.svc.cluster.local:80 weight=9000 backend_ref=core/Service/default/"
        "v1:80} dst_overrides{ authority=v2.other.example:80 weight=10000} dst_overrides{ "
        "authority=v3.other.svc.cluster.local:80 weight=1000 "
        "backend_ref=core/Service/other/v3:80}" SERVICE_PART REF("default") "}");
    asker_clear(&a);
}

static void the_client_s_own_profile_comes_first(void **state)
{
    struct engines *e = *state;
    struct asker home, away, nobody;

    web_open(e, &home);
    get(e, &away, NAME ":80", "away");
    get(e, &nobody, NAME ":80", "");
    assert_string_equal(answer(e, &away), BARE);
    assert_string_equal(answer(e, &nobody), BARE);
    put(e, "theirs.yaml", PROFILE("away", "routes: [{name: x, condition: {pathRegex: /x}}]"));
    assert_string_equal(answer(e, &away),
                        "{ routes{" PATH("/x") ROUTE("x") "}" BUDGET SERVICE_PART REF("away") "}");
    mark(e->f);
    assert_quiet(e, &home);
    put(e, "ours.yaml", PROFILE("default", "routes: [{name: y, condition: {pathRegex: /y}}]"));
    assert_has(answer(e, &home), REF("default"));
    assert_has(answer(e, &nobody), REF("default"));
    assert_quiet(e, &away);
    remove_file(e->f, "theirs.yaml");
    assert_has(answer(e, &away), REF("default"));
    asker_clear(&home);
    asker_clear(&away);
    asker_clear(&nobody);
}

/* By address and by name, until the profile is gone. */
static void changes_are_followed(void **state)
{
    struct engines *e = *state;
    struct asker by_address, by_name;

    web_open(e, &by_address);
    get(e, &by_name, NAME ":80", "other");
    assert_string_equal(answer(e, &by_name), BARE);
    for (unsigned weight = 1; weight <= 3; weight++) {
        char manifest[1024], expected[1024];

        (void)snprintf(manifest, sizeof(manifest),
                       PROFILE("default", "routes: [{name: r%u, condition: {pathRegex: /x}}], "
                                          "dstOverrides: [{authority: v2.default.svc.cluster."
                                          "local, weight: %u50m}]"),
                       weight, weight);
        (void)snprintf(
            expected, sizeof(expected),
            "{ routes{" PATH(
                "/x") " metrics_labels[route=r%u]}" BUDGET
                      " dst_overrides{ authority=v2.default.svc.cluster.local:80 weight=%u500 "
                      "backend_ref=core/Service/default/v2:80}" SERVICE_PART REF("default") "}",
            weight, weight);
        put(e, "profile.yaml", manifest);
        assert_string_equal(answer(e, &by_address), expected);
        assert_string_equal(answer(e, &by_name), expected);
    }
    remove_file(e->f, "profile.yaml");
    assert_string_equal(answer(e, &by_address), BARE);
    assert_string_equal(answer(e, &by_name), BARE);
    asker_clear(&by_address);
    asker_clear(&by_name);
}

/* What cannot be understood is left out, and said; the rest stays. */
static void odd_parts_are_left_out(void **state)
{
    static const struct {
        const char *spec, *reason;
    } cases[] = {
        {"routes: [{name: x, condition: {}}]", "a condition says nothing"},
        {"routes: [{name: x}]", "a condition says nothing"},
        {"routes: [{name: x, condition: {pathRegex: '('}}]", "pathRegex ( is malformed"},
        {"routes: [{name: x, condition: {all: [{pathRegex: '('}]}}]", "pathRegex ( is malformed"},
        {"dstOverrides: [{authority: a, weight: much}]", "weight is no quantity"},
        {"dstOverrides: [{weight: 1}]", "lacks its authority"},
        {"retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 10, ttl: soon}", "no duration: soon"},
        {"retryBudget: {retryRatio: 1001, minRetriesPerSecond: 10, ttl: 10s}", "beyond its bounds"},
        {"retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 2m}", "beyond its bounds"},
        {"retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10ms}", "beyond its bounds"},
    };
    struct engines *e = *state;
    struct asker a;

    web_open(e, &a);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char manifest[1024];

        (void)snprintf(manifest, sizeof(manifest), PROFILE("default", "%s"), cases[i].spec);
        put(e, "profile.yaml", manifest);
        assert_problem(e, NAME, cases[i].reason);
        if (strstr(cases[i].reason, "bounds") != NULL) { /* what proxies refuse is told to them */
            assert_has(answer(e, &a), " retry_budget{");
        } else if (i == 0) {
            assert_string_equal(answer(e, &a), "{" BUDGET SERVICE_PART REF("default") "}");
        }
        assert_quiet(e, &a);
    }
    put(e, "profile.yaml",
        PROFILE("default", "routes: [{name: x, condition: {pathRegex: /x}, timeout: 5, "
                           "responseClasses: [{condition: {status: {min: 600}}}]}]"));
    assert_string_equal(answer(e, &a), "{ routes{" PATH("/x")
                                           ROUTE("x") "}" BUDGET SERVICE_PART REF("default") "}");
    assert_problem(e, NAME, "a status range");
    asker_clear(&a);
}

/* Deeper than we, or a proxy, would follow. */
static void conditions_nest_to_a_limit(void **state)
{
    struct engines *e = *state;
    struct asker a;
    struct text t;

    web_open(e, &a);
    text_init(&t, 65536);
    for (unsigned depth = 15; depth <= 40; depth += 25) {
        text_reset(&t);
        text_str(&t, "{\"apiVersion\": \"linkerd.io/v1alpha2\", \"kind\": \"ServiceProfile\", "
                     "\"metadata\": {\"name\": \"" NAME "\"}, \"spec\": {\"routes\": [{\"name\": "
                     "\"deep\", \"condition\": ");
        for (unsigned i = 0; i < depth; i++) {
            text_str(&t, "{\"not\": ");
        }
        text_str(&t, "{\"method\": \"GET\"}");
        for (unsigned i = 0; i < depth; i++) {
            text_char(&t, '}');
        }
        text_str(&t, "}]}}");
        assert_int_equal(t.err, 0);
        put(e, "profile.json", t.at);
        if (depth == 15) {
            assert_has(answer(e, &a), ROUTE("deep"));
        } else {
            assert_has_not(answer(e, &a), ROUTE("deep"));
            assert_problem(e, NAME, "nests deeper");
        }
    }
    text_clear(&t);
    asker_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(routes_and_classes),
        ENGINES_TEST(budget_and_overrides),
        ENGINES_TEST(the_client_s_own_profile_comes_first),
        ENGINES_TEST(changes_are_followed),
        ENGINES_TEST(odd_parts_are_left_out),
        ENGINES_TEST(conditions_nest_to_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
