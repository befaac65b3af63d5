/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and slices are found, and found no longer, as objects come, change and go. */
#include "fixture.h"

#include "cluster/index.h"

static struct addr ip(const char *text)
{
    struct addr a = {0};

    assert_int_equal(addr_parse_ip(bytes_str(text), &a), 0);
    a.port = 1234; /* does not matter */
    return a;
}

static struct addr ip_port(const char *text)
{
    struct addr a = {0};

    assert_int_equal(addr_parse(bytes_str(text), &a), 0);
    return a;
}

/* "ns/name ns/name", so that a wrong answer can be read. */
static const char *names(struct index_set set)
{
    static char text[512];

    text[0] = '\0';
    for (size_t i = 0; i < set.count; i++) {
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s/%s",
                       i > 0 ? " " : "", set.at[i]->ns, set.at[i]->name);
    }
    return text;
}

static const char *pods_at(const struct cluster_index *ix, const char *text)
{
    struct addr a = ip(text);

    return names(cluster_index_pods(ix, &a));
}

static const char *services_at(const struct cluster_index *ix, const char *text)
{
    struct addr a = ip(text);

    return names(cluster_index_services(ix, &a));
}

static const char *host_port_at(const struct cluster_index *ix, const char *text)
{
    struct addr a = ip_port(text);

    return names(cluster_index_host_port(ix, &a));
}

static const char pods_first[] =
    "apiVersion: v1\nkind: List\nitems:\n"
    "- {apiVersion: v1, kind: Pod, metadata: {name: a},\n"
    "   status: {podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}}\n"
    "- {apiVersion: v1, kind: Pod, metadata: {name: done},\n"
    "   status: {podIP: 10.1.0.1, phase: Succeeded}}\n"
    "- {apiVersion: v1, kind: Pod, metadata: {name: host},\n"
    "   spec: {hostNetwork: true, containers: [{ports: [{containerPort: 9100}]}]},\n"
    "   status: {podIP: 192.168.0.1, hostIP: 192.168.0.1}}\n";

static const char pods_moved[] =
    "apiVersion: v1\nkind: List\nitems:\n"
    "- {apiVersion: v1, kind: Pod, metadata: {name: a}, status: {podIP: 10.1.0.2}}\n"
    "- {apiVersion: v1, kind: Pod, metadata: {name: b}, status: {podIP: 10.1.0.2}}\n";

static const char pods_ending[] =
    "apiVersion: v1\nkind: List\nitems:\n"
    "- {apiVersion: v1, kind: Pod, metadata: {name: a}, status: {podIP: 10.1.0.2, phase: Failed}}\n"
    "- {apiVersion: v1, kind: Pod, metadata: {name: b}, status: {podIP: 10.1.0.2}}\n";

static const char pods_terminating[] =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: b, deletionTimestamp: '2026-01-01T00:00:00Z'}\n"
    "status: {podIP: 10.1.0.2}\n";

static const char web[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.7}\n"
    "---\n"
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
    "metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}\n";

static const char vm[] = "apiVersion: workload.linkerd.io/v1beta1\nkind: ExternalWorkload\n"
                         "metadata: {name: vm}\n"
                         "spec: {workloadIPs: [{ip: 172.16.9.9}, {ip: bad}]}\n";

static void open_index(struct fixture *f, struct cluster_index *ix)
{
    assert_int_equal(cluster_open_dir(&f->loop, f->dir, &f->cluster), 0);
    cluster_index_open(ix, f->cluster);
    assert_false(cluster_index_is_synced(ix));
    WAIT_UNTIL(f, cluster_index_is_synced(ix));
}

static void everything_is_found(void **state)
{
    struct fixture *f = *state;
    static struct cluster_index ix;
    struct addr workload = ip("172.16.9.9");

    write_in_place(f, "pods.yaml", pods_first);
    write_in_place(f, "web.yaml", web);
    write_in_place(f, "vm.yaml", vm);
    open_index(f, &ix);
    assert_string_equal(pods_at(&ix, "10.1.0.1"), "default/a");
    assert_string_equal(pods_at(&ix, "fd00::1"), "default/a");
    assert_string_equal(pods_at(&ix, "192.168.0.1"), "");
    assert_string_equal(host_port_at(&ix, "192.168.0.1:9100"), "default/host");
    assert_string_equal(host_port_at(&ix, "192.168.0.1:9101"), "");
    assert_string_equal(services_at(&ix, "10.96.0.7"), "default/web");
    assert_string_equal(services_at(&ix, "10.96.0.8"), "");
    assert_string_equal(names(cluster_index_workloads(&ix, &workload)), "default/vm");
    assert_string_equal(names(cluster_index_slices(&ix, "default", "web")), "default/web-1");
    assert_int_equal(cluster_index_slices(&ix, "other", "web").count, 0);
    cluster_index_close(&ix);
    cluster_index_close(&ix);
    assert_string_equal(pods_at(&ix, "10.1.0.1"), "");
}

static void addresses_move(void **state)
{
    struct fixture *f = *state;
    static struct cluster_index ix;

    write_in_place(f, "pods.yaml", pods_first);
    open_index(f, &ix);
    /* Two claim the same one. */
    write_by_rename(f, "pods.yaml", pods_moved);
    WAIT_UNTIL(f, strcmp(pods_at(&ix, "10.1.0.2"), "default/a default/b") == 0);
    WAIT_UNTIL(f, strcmp(host_port_at(&ix, "192.168.0.1:9100"), "") == 0);
    assert_string_equal(pods_at(&ix, "10.1.0.1"), "");
    assert_string_equal(pods_at(&ix, "fd00::1"), "");
    /* One that has failed lets go, one that is terminating as well. */
    write_by_rename(f, "pods.yaml", pods_ending);
    WAIT_UNTIL(f, strcmp(pods_at(&ix, "10.1.0.2"), "default/b") == 0);
    write_by_rename(f, "pods.yaml", pods_terminating);
    WAIT_UNTIL(f, strcmp(pods_at(&ix, "10.1.0.2"), "") == 0);
    assert_non_null(cluster_get(f->cluster, KIND_POD, "default", "b"));
    cluster_index_close(&ix);
}

static json_t *slice_of_web(const char *name)
{
    return json_pack("{s:s, s:s, s:{s:s, s:{s:s}}}", "apiVersion", "discovery.k8s.io/v1", "kind",
                     "EndpointSlice", "metadata", "name", name, "labels",
                     "kubernetes.io/service-name", "web");
}

static void slices_come_and_go(void **state)
{
    struct fixture *f = *state;
    static struct cluster_index ix;
    const char *expected = "default/web-0 default/web-1";

    write_in_place(f, "web.yaml", web);
    open_index(f, &ix);
    assert_int_equal(cluster_put(f->cluster, slice_of_web("web-0")), 0);
    WAIT_UNTIL(f, strcmp(names(cluster_index_slices(&ix, "default", "web")), expected) == 0);
    remove_file(f, "web.yaml");
    WAIT_UNTIL(f, strcmp(names(cluster_index_slices(&ix, "default", "web")), "default/web-0") == 0);
    WAIT_UNTIL(f, strcmp(services_at(&ix, "10.96.0.7"), "") == 0);
    cluster_index_close(&ix);
}

/* Whatever is put and deleted, the index says what the store says. */
static void the_index_agrees_with_the_store(void **state)
{
    struct fixture *f = *state;
    static struct cluster_index ix;
    struct rand r;

    rand_seed(&r, 7);
    assert_int_equal(cluster_open_dir(&f->loop, f->dir, &f->cluster), 0);
    cluster_index_open(&ix, f->cluster);
    WAIT_UNTIL(f, cluster_index_is_synced(&ix));
    for (unsigned n = 0; n < 400; n++) {
        char name[16], address[32];

        (void)snprintf(name, sizeof(name), "p%u", (unsigned)rand_below(&r, 12));
        (void)snprintf(address, sizeof(address), "10.0.0.%u", (unsigned)rand_below(&r, 6) + 1);
        if (rand_below(&r, 4) == 0) {
            int err = cluster_delete(f->cluster, KIND_POD, "default", name);

            assert_true(err == 0 || err == E_NOT_FOUND);
        } else {
            assert_int_equal(
                cluster_put(f->cluster,
                            json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "v1", "kind",
                                      "Pod", "metadata", "name", name, "status", "podIP", address)),
                0);
        }
        if (n % 50 != 49) {
            continue;
        }
        (void)loop_turn(&f->loop, 0);
        for (unsigned i = 1; i <= 6; i++) {
            struct map_iter it = MAP_ITER(&f->cluster->objects[KIND_POD]);
            size_t expected = 0;
            struct addr a;

            (void)snprintf(address, sizeof(address), "10.0.0.%u", i);
            while (map_next(&it)) {
                const struct object *o = it.value;

                expected += strcmp(json_text(o->status, "podIP"), address) == 0 ? 1 : 0;
            }
            a = ip(address);
            WAIT_UNTIL(f, cluster_index_pods(&ix, &a).count == expected);
        }
    }
    cluster_index_close(&ix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIR_TEST(everything_is_found),
        DIR_TEST(addresses_move),
        DIR_TEST(slices_come_and_go),
        DIR_TEST(the_index_agrees_with_the_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
