/* SPDX-License-Identifier: Apache-2.0 */
/* Objects, selectors, paths into JSON, and who owns a pod. */
#include "fixture.h"

static struct object *object_of(const char *json)
{
    json_error_t why;
    json_t *parsed = json_loads(json, 0, &why);
    struct object *o = NULL;
    char problem[256] = "";

    if (parsed == NULL) {
        fail_msg("the test's own JSON is wrong: %s", why.text);
    }
    if (object_new(parsed, "here:1", &o, problem, sizeof(problem)) != 0) {
        fail_msg("%s", problem);
    }
    return o;
}

static void kinds_are_found_by_group(void **state)
{
    (void)state;
    assert_int_equal(kind_find(BYTES("v1"), BYTES("Pod"))->kind, KIND_POD);
    assert_int_equal(kind_find(BYTES("apps/v1"), BYTES("Deployment"))->kind, KIND_DEPLOYMENT);
    assert_int_equal(kind_find(BYTES("apps/v1beta2"), BYTES("Deployment"))->kind, KIND_DEPLOYMENT);
    assert_int_equal(kind_find(BYTES("policy.linkerd.io/v1alpha1"), BYTES("HTTPRoute"))->kind,
                     KIND_LINKERD_HTTP_ROUTE);
    assert_int_equal(
        kind_find(BYTES("gateway.networking.k8s.io/v1beta1"), BYTES("HTTPRoute"))->kind,
        KIND_HTTP_ROUTE);
    assert_null(kind_find(BYTES("apps/v1"), BYTES("Pod")));
    assert_null(kind_find(BYTES("v1"), BYTES("Deployment")));
    assert_null(kind_find(BYTES("v1"), BYTES("pod")));
    assert_null(kind_find(BYTES(""), BYTES("Pod")));
    assert_null(kind_find(BYTES("/"), BYTES("Pod")));
    assert_null(kind_find(BYTES("apps"), BYTES("Deployment")));
    assert_null(kind_find(BYTES("apps/one"), BYTES("Deployment")));
    for (unsigned k = 0; k < KIND_COUNT; k++) {
        assert_int_equal(kind_info((enum kind)k)->kind, k);
    }
}

static void an_object_knows_itself(void **state)
{
    struct object *o = object_of(
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"namespace\":"
        "\"shop\",\"uid\":\"u-1\",\"creationTimestamp\":\"2026-01-02T03:04:05Z\",\"labels\":"
        "{\"app\":\"web\",\"none\":null}},\"spec\":{},\"status\":{}}");
    struct object *bare =
        object_of("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}");
    struct object *again =
        object_of("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\","
                  "\"namespace\":\"default\",\"labels\":{}}}");
    struct object *node =
        object_of("{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"a\","
                  "\"namespace\":\"x\",\"creationTimestamp\":null}}");

    (void)state;
    assert_string_equal(o->ns, "shop");
    assert_string_equal(o->uid, "u-1");
    assert_true(o->created_ns == UINT64_C(1767323045) * NS_PER_S);
    assert_string_equal(object_label(o, "app"), "web");
    assert_null(object_label(o, "none"));
    assert_null(object_annotation(o, "app"));
    assert_non_null(o->spec);
    assert_string_equal(bare->ns, "default");
    assert_null(bare->labels);
    assert_null(object_label(bare, "app"));
    assert_true(bare->created_ns == 0);
    /* The same object has the same uid, however it is written; another one has another. */
    assert_int_equal(strlen(bare->uid), 36);
    assert_string_equal(bare->uid, again->uid);
    assert_string_not_equal(bare->uid, node->uid);
    assert_string_equal(node->ns, "");
    object_unref(o);
    object_unref(bare);
    object_unref(again);
    object_unref(node);
    object_unref(NULL);
}

static void names_are_checked(void **state)
{
    static const char *const bad[] = {"",  "-a",  "a-",  "a..b", ".a",  "a.",
                                      "A", "a/b", "a b", "a_b",  "a.-b"};
    static const char *const good[] = {"a",   "0", "a-b", "a.b-c.d", "web.shop.svc.cluster.local",
                                       "a--b"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad) + ARRAY_LEN(good); i++) {
        bool is_good = i >= ARRAY_LEN(bad);
        struct object *o = NULL;
        char problem[256] = "";
        int err =
            object_new(json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Pod",
                                 "metadata", "name", is_good ? good[i - ARRAY_LEN(bad)] : bad[i]),
                       "", &o, problem, sizeof(problem));

        assert_int_equal(err, is_good ? 0 : E_CONFIG);
        assert_int_equal(problem[0] == '\0', is_good);
        object_unref(o);
    }
}

static void paths_lead_into_json(void **state)
{
    json_t *j =
        json_loads("{\"a\":{\"b\":[{\"c\":\"x\"},[1,2]],\"t\":true},\"n\":-5,\"e.f\":1}", 0, NULL);

    (void)state;
    assert_string_equal(json_text(j, "a.b[0].c"), "x");
    assert_int_equal(json_number(j, "a.b[1][1]", 0), 2);
    assert_int_equal(json_number(j, "n", 0), -5);
    assert_int_equal(json_number(j, "a", 7), 7);
    assert_true(json_flag(j, "a.t", false));
    assert_true(json_flag(j, "a.x", true));
    assert_ptr_equal(json_at(j, ""), j);
    assert_null(json_at(NULL, "a"));
    assert_null(json_at(j, "a.b[2]"));
    assert_null(json_at(j, "a.b[x]"));
    assert_null(json_at(j, "a.b[0"));
    assert_null(json_at(j, "a.b[0]c"));
    assert_null(json_at(j, "a.b[99999999999999999999]"));
    assert_null(json_at(j, "a.b.c"));
    assert_null(json_at(j, "n.a"));
    assert_null(json_text(j, "n"));
    json_decref(j);
}

static void iteration_keeps_order(void **state)
{
    json_t *j = json_loads("{\"o\":{\"z\":1,\"a\":2},\"l\":[5,null,6],\"s\":\"x\"}", 0, NULL);
    struct json_iter o = JSON_ITER(json_at(j, "o")), l = JSON_ITER(json_at(j, "l"));
    struct json_iter none = JSON_ITER(NULL), text = JSON_ITER(json_at(j, "s"));

    (void)state;
    assert_true(json_next(&o));
    assert_string_equal(o.key, "z");
    assert_int_equal(o.index, 0);
    assert_true(json_next(&o));
    assert_string_equal(o.key, "a");
    assert_int_equal(o.index, 1);
    assert_int_equal(json_integer_value(o.value), 2);
    assert_false(json_next(&o));
    assert_false(json_next(&o));
    for (size_t i = 0; i < 3; i++) {
        assert_true(json_next(&l));
        assert_int_equal(l.index, i);
        assert_null(l.key);
    }
    assert_false(json_next(&l));
    assert_false(json_next(&l));
    assert_false(json_next(&none));
    assert_false(json_next(&text));
    json_decref(j);
}

static void selectors_select(void **state)
{
    static const struct {
        const char *selector;
        bool matches, matches_unlabelled;
    } cases[] = {
        {"{}", true, true},
        {"{\"app\":\"web\"}", true, false},
        {"{\"app\":\"web\",\"tier\":\"x\"}", false, false},
        {"{\"app\":1}", false, false},
        {"{\"matchLabels\":{\"app\":\"web\"}}", true, false},
        {"{\"matchLabels\":{}}", true, true},
        {"{\"matchLabels\":{\"app\":\"web\"},\"matchExpressions\":[{\"key\":\"v\",\"operator\":"
         "\"Exists\"}]}",
         true, false},
        {"{\"matchExpressions\":[{\"key\":\"v\",\"operator\":\"In\",\"values\":[\"1\",\"2\"]}]}",
         true, false},
        {"{\"matchExpressions\":[{\"key\":\"v\",\"operator\":\"NotIn\",\"values\":[\"1\",\"2\"]}]}",
         false, true},
        {"{\"matchExpressions\":[{\"key\":\"w\",\"operator\":\"NotIn\",\"values\":[\"1\"]}]}", true,
         true},
        {"{\"matchExpressions\":[{\"key\":\"v\",\"operator\":\"DoesNotExist\"}]}", false, true},
        {"{\"matchExpressions\":[{\"key\":\"v\",\"operator\":\"exists\"}]}", false, false},
        {"{\"matchExpressions\":[{\"operator\":\"Exists\"}]}", false, false},
        {"{\"matchExpressions\":[]}", true, true},
        {"{\"matchLabels\":\"web\"}", false, false},
        {"[]", false, false},
    };
    json_t *labels = json_pack("{s:s, s:s}", "app", "web", "v", "2");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *selector = json_loads(cases[i].selector, 0, NULL);

        assert_non_null(selector);
        assert_int_equal(selector_matches(selector, labels), cases[i].matches);
        assert_int_equal(selector_matches(selector, NULL), cases[i].matches_unlabelled);
        json_decref(selector);
    }
    assert_false(selector_matches(NULL, labels));
    json_decref(labels);
}

static void a_kind_that_there_is_not_is_told_with_what_was_meant(void **state)
{
    static const char *const cases[][3] = {
        {"policy.linkerd.io/v1beta3", "Servr", "; did you mean Server?"},
        {"policy.linkerd.io/v1beta3", "server", "; did you mean Server?"},
        {"polcy.linkerd.io/v1beta3", "Server", "; did you mean policy.linkerd.io/v1beta3?"},
        {"v1", "Deployment", "; did you mean apps/v1?"},
        {"v1", "Servr", ""},              /* there is no Server in that group */
        {"linkerd.io/v1", "HTTPRoute", ""}, /* two groups have one */
        {"v1", "Gremlin", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char problem[256], wanted[256];
        struct object *o = NULL;

        assert_int_equal(object_new(json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", cases[i][0], "kind",
                                              cases[i][1], "metadata", "name", "a"),
                                    "", &o, problem, sizeof(problem)),
                         E_CONFIG);
        (void)snprintf(wanted, sizeof(wanted), "kind %s of %s is not supported%s", cases[i][1], cases[i][0],
                       cases[i][2]);
        assert_string_equal(problem, wanted);
    }
}

static void readiness_is_the_condition(void **state)
{
    static const struct {
        const char *rest;
        bool is_ready;
    } cases[] = {
        {"", false},
        {",\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}", true},
        {",\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\"}]}", false},
        {",\"status\":{\"conditions\":[{\"type\":\"Initialized\",\"status\":\"True\"}]}", false},
        {",\"status\":{\"conditions\":\"Ready\"}", false},
    };
    struct object *o;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTOFREE char *json =
            mem_printf("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}%s}",
                       cases[i].rest);

        o = object_of(json);
        assert_int_equal(pod_is_ready(o), cases[i].is_ready);
        object_unref(o);
    }
    o = object_of("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\","
                  "\"deletionTimestamp\":"
                  "\"2026-01-02T03:04:05Z\",\"labels\":{\"linkerd.io/"
                  "control-plane-ns\":\"linkerd\"}},\"spec\":"
                  "{\"serviceAccountName\":\"web\"},\"status\":"
                  "{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}");
    assert_false(pod_is_ready(o));
    assert_true(pod_is_meshed(o, "linkerd"));
    assert_false(pod_is_meshed(o, "other"));
    assert_string_equal(pod_service_account(o), "web");
    object_unref(o);
}

#define OWNED(api, kind, name, owner_kind, owner)                                                  \
    "{apiVersion: " api ", kind: " kind ", metadata: {name: " name ", ownerReferences: ["          \
    "{kind: ConfigMap, name: other}, {kind: " owner_kind ", name: " owner                          \
    ", controller: true}]}}\n---\n"

static void a_pod_leads_to_its_workload(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *pod, *kind, *name;
    } cases[] = {
        {"p-deploy", "deployment", "web"},
        {"p-lone-rs", "replicaset", "lone"},
        {"p-no-rs", "replicaset", "gone"},
        {"p-cron", "cronjob", "nightly"},
        {"p-set", "statefulset", "db"},
        {"p-other", "", ""},
        {"p-alone", "", ""},
    };

    write_in_place(
        f, "a.yaml",
        OWNED("apps/v1", "ReplicaSet", "web-1", "Deployment",
              "web") "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: "
                     "lone}}\n---\n" OWNED("batch/v1", "Job", "nightly-1", "CronJob", "nightly")
                         OWNED("v1", "Pod", "p-deploy", "ReplicaSet", "web-1")
                             OWNED("v1", "Pod", "p-lone-rs", "ReplicaSet", "lone")
                                 OWNED("v1", "Pod", "p-no-rs", "ReplicaSet", "gone")
                                     OWNED("v1", "Pod", "p-cron", "Job", "nightly-1")
                                         OWNED("v1", "Pod", "p-set", "StatefulSet", "db")
                                             OWNED("v1", "Pod", "p-other", "Rollout",
                                                   "canary") "{apiVersion: v1, kind: Pod, "
                                                             "metadata: {name: p-alone}}\n");
    fixture_open(f);
    WAIT_UNTIL(f, f->cluster->synced);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct workload w;

        pod_workload(f->cluster, cluster_get(f->cluster, KIND_POD, "default", cases[i].pod), &w);
        assert_string_equal(w.kind, cases[i].kind);
        assert_string_equal(w.name, cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_are_found_by_group),   cmocka_unit_test(an_object_knows_itself),
        cmocka_unit_test(names_are_checked),          cmocka_unit_test(paths_lead_into_json),
        cmocka_unit_test(iteration_keeps_order),      cmocka_unit_test(selectors_select),
        cmocka_unit_test(a_kind_that_there_is_not_is_told_with_what_was_meant),
        cmocka_unit_test(readiness_is_the_condition), DIR_TEST(a_pod_leads_to_its_workload),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
