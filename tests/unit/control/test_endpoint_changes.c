/* SPDX-License-Identifier: Apache-2.0 */
/* Destination.Get: changes one by one, one encoding for all, long sets in parts (wire 3.2, 11.1). */
#include "endpoints.h"

static void changes_are_told_one_by_one(void **state)
{
    struct engines *e = *state;
    struct asker a, late;

    web_open(e);
    get(e, &a, WEB);
    (void)asker_next(e, &a);
    put(e, "c.yaml", MESHED_POD("c", "10.1.0.3", ""));
    put(e, "slice.yaml", WEB_SLICE(TWO ", " OF_POD("10.1.0.3", "c")));
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.3:8080", "c"));
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.2", "b") ", " OF_POD("10.1.0.3", "c")));
    assert_update(e, &a, "remove\n 10.1.0.1:8080\n");
    put(e, "c.yaml",
        MESHED_POD("c", "10.1.0.3", ", annotations: {config.linkerd.io/opaque-ports: '8080'}"));
    assert_update(e, &a,
                  ADD " 10.1.0.3:8080 10000 " WEB_ID
                      " opaque via=4143 ping pod=c serviceaccount=web "
                      "control_plane_ns=linkerd zone_locality=unknown\n");
    get(e, &late, WEB);
    assert_update(
        e, &late,
        ADD MESHED_LINE(
            "10.1.0.2:8080",
            "b") " 10.1.0.3:8080 10000 " WEB_ID
                 " opaque via=4143 ping pod=c serviceaccount=web control_plane_ns=linkerd "
                 "zone_locality=unknown\n");
    assert_quiet(e, &a);
    asker_clear(&a);
    asker_clear(&late);
}

static void late_replica_set_names_the_deployment(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "pods.yaml",
        MESHED_POD("a", "10.1.0.1", ", ownerReferences: [{kind: ReplicaSet, name: rs}]"));
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.1", "a")));
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_non_null(strstr(describe_update(asker_next(e, &a)), " replicaset=rs "));
    put(e, "rs.yaml",
        "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: rs, ownerReferences: "
        "[{kind: Deployment, name: shop}]}}");
    assert_non_null(strstr(describe_update(asker_next(e, &a)), " deployment=shop "));
    asker_clear(&a);
}

static void what_says_the_same_is_not_told(void **state)
{
    struct engines *e = *state;
    struct asker a;
    uint64_t before;

    web_open(e);
    get(e, &a, WEB);
    (void)asker_next(e, &a);
    before = counted(e, "tulle_topic_encodings_total", "destination");
    put(e, "pods.yaml",
        MESHED_POD("a", "10.1.0.1", ", annotations: {note: x}") "---\n" MESHED_POD("b", "10.1.0.2",
                                                                                   ""));
    put(e, "other.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: other}, spec: {clusterIP: 10.96.0.77}}");
    assert_quiet(e, &a);
    assert_int_equal(counted(e, "tulle_topic_encodings_total", "destination"), before);
    asker_clear(&a);
}

static void a_service_that_goes_leaves_no_endpoint(void **state)
{
    struct engines *e = *state;
    struct asker a, late;

    web_open(e);
    get(e, &a, WEB);
    (void)asker_next(e, &a);
    remove_file(e->f, "service.yaml");
    assert_update(e, &a, "remove\n 10.1.0.1:8080\n 10.1.0.2:8080\n");
    get(e, &late, WEB);
    assert_int_equal(asker_end(e, &late), GRPC_NOT_FOUND);
    put(e, "service.yaml", WEB_SERVICE);
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a") MESHED_LINE("10.1.0.2:8080", "b"));
    asker_clear(&a);
    asker_clear(&late);
}

static void a_service_without_endpoints_says_nothing(void **state)
{
    struct engines *e = *state;
    struct asker a;

    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    assert_quiet(e, &a);
    put(e, "pods.yaml", TWO_PODS);
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.1", "a")));
    assert_update(e, &a, ADD MESHED_LINE("10.1.0.1:8080", "a"));
    asker_clear(&a);
}

/* --- many ---------------------------------------------------------------------------------------- */

#define CLIENTS 1000

static void one_encoding_serves_all(void **state)
{
    struct engines *e = *state;
    struct asker *all = mem_new_array(CLIENTS, sizeof(*all));
    uint64_t before;

    web_open(e);
    before = counted(e, "tulle_topic_encodings_total", "destination");
    for (size_t i = 0; i < CLIENTS; i++) {
        char token[128];

        /* Each client is another pod. */
        (void)snprintf(token, sizeof(token),
                       "{\"ns\":\"default\",\"nodeName\":\"n%zu\",\"pod\":\"p%zu\"}", i % 50, i);
        assert_int_equal(ask(e, destination_get, &all[i], WEB, token), GRPC_OK);
    }
    WAIT_UNTIL(e->f, all[CLIENTS - 1].count == 1);
    assert_int_equal(counted(e, "tulle_topics", "destination"), 1);
    assert_int_equal(counted(e, "tulle_topic_subscribers", "destination"), CLIENTS);
    assert_int_equal(counted(e, "tulle_topic_encodings_total", "destination"), before + 1);
    put(e, "slice.yaml", WEB_SLICE(OF_POD("10.1.0.1", "a")));
    WAIT_UNTIL(e->f, all[CLIENTS - 1].count == 2);
    assert_int_equal(counted(e, "tulle_topic_encodings_total", "destination"), before + 2);
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_update(e, &all[i],
                      ADD MESHED_LINE("10.1.0.1:8080", "a") MESHED_LINE("10.1.0.2:8080", "b"));
        assert_update(e, &all[i], "remove\n 10.1.0.2:8080\n");
        asker_clear(&all[i]);
    }
    (void)loop_turn(&e->f->loop, 0);
    assert_int_equal(counted(e, "tulle_topics", "destination"), 0);
    assert_int_equal(counted(e, "tulle_topic_subscribers", "destination"), 0);
    mem_free(all);
}

#define MANY 20000

/* Clients take 4 MiB a message: the first resets what they knew, the others add to it. */
static void a_set_that_is_too_long_comes_in_parts(void **state)
{
    struct engines *e = *state;
    struct text t;
    struct asker a;
    size_t seen = 0;

    text_init(&t, 64u << 20);
    for (unsigned s = 0; s < MANY / 1000; s++) {
        text_printf(
            &t,
            "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, "
            "metadata: "
            "{name: web-%u, labels: {kubernetes.io/service-name: web}, annotations: "
            "{mirror.linkerd.io/remote-gateway-identity: "
            "a-very-long-identity-so-that-it-takes-room."
            "serviceaccount.identity.linkerd.cluster.local, mirror.linkerd.io/remote-svc-fq-name: "
            "web.default.svc.cluster.local}}, ports: [{name: http, port: 8080}], endpoints: [",
            s);
        for (unsigned i = 0; i < 1000; i++) {
            text_printf(&t, "%s{addresses: [10.%u.%u.%u]}", i > 0 ? ", " : "", 100 + s, i / 250,
                        i % 250);
        }
        text_str(&t, "]}\n");
    }
    assert_int_equal(t.err, 0);
    put(e, "slices.yaml", t.at);
    text_clear(&t);
    put(e, "service.yaml", WEB_SERVICE);
    mark(e->f);
    engines_sync(e);
    get(e, &a, WEB);
    WAIT_UNTIL(e->f, a.count > 0);
    assert_true(a.count > 1);
    for (size_t i = 0; i < a.count; i++) {
        Io__Linkerd__Proxy__Destination__Update *m =
            io__linkerd__proxy__destination__update__unpack(NULL, a.messages[i].len,
                                                            (const uint8_t *)a.messages[i].at);

        assert_true(a.messages[i].len < 3u << 20);
        assert_non_null(m);
        assert_int_equal(m->add->n_metric_labels, 2);
        seen += m->add->n_addrs;
        io__linkerd__proxy__destination__update__free_unpacked(m, NULL);
    }
    assert_int_equal(seen, MANY);
    asker_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(changes_are_told_one_by_one),
        ENGINES_TEST(late_replica_set_names_the_deployment),
        ENGINES_TEST(what_says_the_same_is_not_told),
        ENGINES_TEST(a_service_that_goes_leaves_no_endpoint),
        ENGINES_TEST(a_service_without_endpoints_says_nothing),
        ENGINES_TEST(one_encoding_serves_all),
        ENGINES_TEST(a_set_that_is_too_long_comes_in_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
