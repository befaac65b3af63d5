/* SPDX-License-Identifier: Apache-2.0 */
/* Writing objects as files, and a second process (here: a second cluster) that reads them. */
#include "fixture.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

static json_t *service(const char *name, const char *value)
{
    return json_pack("{s:s, s:s, s:{s:s, s:{s:s}}}", "apiVersion", "v1", "kind", "Service",
                     "metadata", "name", name, "annotations", "v", value);
}

static void open_synced(struct fixture *f)
{
    fixture_open(f);
    WAIT_UNTIL(f, has_heard(f, "synced\n"));
    text_reset(&f->heard);
}

static size_t files_in(const struct fixture *f)
{
    DIR *d = opendir(f->dir);
    size_t count = 0;

    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 ? 1 : 0;
    }
    (void)closedir(d);
    return count;
}

static void put_is_seen_at_once_and_told_once(void **state)
{
    struct fixture *f = *state;
    const struct object *o;
    json_t *on_disk;

    open_synced(f);
    assert_int_equal(cluster_put(f->cluster, service("a", "1")), 0);
    o = cluster_get(f->cluster, KIND_SERVICE, "default", "a");
    assert_non_null(o);
    assert_string_equal(o->source, "service.default.a.json:1");
    assert_int_equal(f->heard.len, 0); /* events come from a task */
    on_disk = json_load_file(fixture_path(f, "service.default.a.json"), 0, NULL);
    assert_true(json_equal(on_disk, o->json));
    json_decref(on_disk);
    assert_heard(f, "+ Service default/a\n");
    assert_heard_so_far(f, ""); /* the echo */
    assert_int_equal(cluster_put(f->cluster, service("a", "1")), 0);
    assert_heard_so_far(f, "");
    assert_int_equal(cluster_put(f->cluster, service("a", "2")), 0);
    assert_int_equal(cluster_put(f->cluster, service("a", "3")), 0);
    assert_heard(f, "~ Service default/a\n~ Service default/a\n");
    assert_heard_so_far(f, "");
    assert_int_equal(files_in(f), 2); /* with the mark's */
}

static void put_and_delete_in_one_turn(void **state)
{
    struct fixture *f = *state;

    open_synced(f);
    assert_int_equal(cluster_put(f->cluster, service("a", "1")), 0);
    assert_int_equal(cluster_delete(f->cluster, KIND_SERVICE, "default", "a"), 0);
    assert_null(cluster_get(f->cluster, KIND_SERVICE, "default", "a"));
    assert_int_equal(cluster_put(f->cluster, service("a", "2")), 0);
    assert_int_equal(cluster_delete(f->cluster, KIND_SERVICE, "default", "a"), 0);
    assert_int_equal(cluster_put(f->cluster, service("a", "3")), 0);
    assert_heard_so_far(f, "+ Service default/a\n- Service default/a\n+ Service default/a\n"
                           "- Service default/a\n+ Service default/a\n");
    assert_string_equal(
        object_annotation(cluster_get(f->cluster, KIND_SERVICE, "default", "a"), "v"), "3");
}

static void delete_needs_an_object_of_ours(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "web.yaml", SERVICE("web", "1"));
    open_synced(f);
    assert_int_equal(cluster_delete(f->cluster, KIND_SERVICE, "default", "a"), E_NOT_FOUND);
    assert_int_equal(cluster_delete(f->cluster, KIND_SERVICE, "default", "web"), E_EXISTS);
    assert_int_equal(cluster_put(f->cluster, service("web", "2")), E_EXISTS);
    assert_int_equal(files_in(f), 1);
    assert_string_equal(
        object_annotation(cluster_get(f->cluster, KIND_SERVICE, "default", "web"), "v"), "1");
    assert_int_equal(cluster_put(f->cluster, json_object()), E_CONFIG);
    assert_heard_so_far(f, "");
}

static void another_process_follows(void **state)
{
    struct fixture *f = *state;
    struct cluster *other = NULL;
    struct loop loop;
    const struct object *o;

    open_synced(f);
    assert_int_equal(loop_open(&loop, 0, 16), 0);
    assert_int_equal(cluster_open_dir(&loop, f->dir, &other), 0);
    while (!other->synced) {
        (void)loop_turn(&loop, 1000);
    }
    assert_int_equal(cluster_put(other, service("a", "1")), 0);
    assert_heard(f, "+ Service default/a\n");
    assert_int_equal(cluster_put(other, service("a", "2")), 0);
    assert_heard(f, "~ Service default/a\n");
    /* Both may write, the newest counts everywhere. */
    assert_int_equal(cluster_put(f->cluster, service("a", "3")), 0);
    for (o = NULL; o == NULL || strcmp(object_annotation(o, "v"), "3") != 0;) {
        (void)loop_turn(&loop, 1000);
        o = cluster_get(other, KIND_SERVICE, "default", "a");
    }
    assert_heard(f, "~ Service default/a\n");
    assert_int_equal(cluster_delete(other, KIND_SERVICE, "default", "a"), 0);
    assert_heard(f, "- Service default/a\n");
    cluster_close(other);
    (void)loop_turn(&loop, 0);
    loop_close(&loop);
}

static void names_are_files(void **state)
{
    struct fixture *f = *state;
    char name[OBJECT_NAME_BYTES], ns[OBJECT_NS_BYTES];

    open_synced(f);
    assert_int_equal(
        cluster_put(f->cluster, json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind",
                                          "Namespace", "metadata", "name", "shop")),
        0);
    assert_int_equal(access(fixture_path(f, "namespace._.shop.json"), F_OK), 0);
    for (unsigned i = 0; i < 2; i++) { /* the two groups that have an HTTPRoute */
        assert_int_equal(cluster_put(f->cluster, json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion",
                                                           i == 0 ? "policy.linkerd.io/v1beta3"
                                                                  : "gateway.networking.k8s.io/v1",
                                                           "kind", "HTTPRoute", "metadata", "name",
                                                           "r", "namespace", "shop")),
                         0);
    }
    assert_int_equal(access(fixture_path(f, "linkerd-httproute.shop.r.json"), F_OK), 0);
    assert_int_equal(access(fixture_path(f, "httproute.shop.r.json"), F_OK), 0);
    /* The longest names that there are do not fit into a file's name; two that differ at the end only. */
    memset(ns, 'n', sizeof(ns) - 1);
    ns[sizeof(ns) - 1] = '\0';
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    for (unsigned i = 0; i < 2; i++) {
        name[sizeof(name) - 2] = (char)('a' + i);
        assert_int_equal(
            cluster_put(f->cluster, json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion",
                                              "discovery.k8s.io/v1", "kind", "EndpointSlice",
                                              "metadata", "name", name, "namespace", ns)),
            0);
    }
    assert_int_equal(files_in(f), 5);
    assert_int_equal(map_count(&f->cluster->objects[KIND_ENDPOINT_SLICE]), 2);
    assert_int_equal(cluster_delete(f->cluster, KIND_ENDPOINT_SLICE, ns, name), 0);
    assert_int_equal(files_in(f), 4);
}

/* A full disk, as far as a process without one can make it: no file may grow. */
static void a_failed_write_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct rlimit former, none;
    int err;

    open_synced(f);
    assert_int_equal(cluster_put(f->cluster, service("a", "1")), 0);
    assert_heard(f, "+ Service default/a\n");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &former), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = former.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    err = cluster_put(f->cluster, service("a", "2"));
    if (err != 0) {
        err = cluster_put(f->cluster, service("b", "1")) == err ? err : 0;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &former), 0);
    assert_int_equal(err, -EFBIG);
    assert_string_equal(
        object_annotation(cluster_get(f->cluster, KIND_SERVICE, "default", "a"), "v"), "1");
    assert_null(cluster_get(f->cluster, KIND_SERVICE, "default", "b"));
    assert_int_equal(files_in(f), 1);
    assert_heard_so_far(f, "");
}

static void the_limit_of_objects_in_a_file(void **state)
{
    struct fixture *f = *state;
    struct text t;
    char *all = NULL;

    text_init(&t, 8u << 20);
    text_str(&t, "kind: List\napiVersion: v1\nitems:\n");
    for (unsigned i = 0; i < 10001; i++) {
        text_printf(&t, "- {apiVersion: v1, kind: Pod, metadata: {name: p%u}}\n", i);
    }
    assert_int_equal(text_finish(&t, &all), 0);
    open_synced(f);
    write_by_rename(f, "a.yaml", all);
    assert_heard(f, "! a.yaml:10004: too many objects in one file\n");
    assert_int_equal(map_count(&f->cluster->objects[KIND_POD]), 0);
    all[strlen(all) - strlen("- {apiVersion: v1, kind: Pod, metadata: {name: p10000}}\n")] = '\0';
    write_by_rename(f, "a.yaml", all);
    WAIT_UNTIL(f, map_count(&f->cluster->objects[KIND_POD]) == 10000);
    mem_free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIR_TEST(put_is_seen_at_once_and_told_once),
        DIR_TEST(put_and_delete_in_one_turn),
        DIR_TEST(delete_needs_an_object_of_ours),
        DIR_TEST(another_process_follows),
        DIR_TEST(names_are_files),
        DIR_TEST(a_failed_write_changes_nothing),
        DIR_TEST(the_limit_of_objects_in_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
