/* SPDX-License-Identifier: Apache-2.0 */
/* The dir source over real folders: what is read, when, and what readers hear of it. */
#include "fixture.h"

#include <pthread.h>

static void open_synced(struct fixture *f)
{
    fixture_open(f);
    WAIT_UNTIL(f, f->cluster->synced && has_heard(f, "synced\n"));
    text_reset(&f->heard);
}

static const char *annotation(const struct fixture *f, const char *service)
{
    const struct object *o = cluster_get(f->cluster, KIND_SERVICE, "default", service);

    return o != NULL ? object_annotation(o, "v") : NULL;
}

static void present_objects_come_before_synced(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml",
                   "# nothing\n---\n" SERVICE("a1", "1") "---\n" POD("a2") "---\n---\nnull\n");
    write_in_place(
        f, "b.json",
        "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":["
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"b1\"}},"
        "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"b2\"}}]}");
    assert_int_equal(mkdir(fixture_path(f, "sub"), 0755), 0);
    assert_int_equal(mkdir(fixture_path(f, "sub/deeper"), 0755), 0);
    write_in_place(f, "sub/deeper/c.yml", POD("c"));
    fixture_open(f);
    assert_false(f->cluster->synced);
    assert_heard(f, "+ Service default/a1\n+ Pod default/a2\n+ Pod default/b1\n+ Namespace /b2\n"
                    "+ Pod default/c\nsynced\n");
    assert_true(f->cluster->synced);
    assert_string_equal(cluster_get(f->cluster, KIND_POD, "default", "a2")->source, "a.yaml:7");
    assert_string_equal(cluster_get(f->cluster, KIND_POD, "default", "b1")->source, "b.json:1");
    assert_string_equal(cluster_get(f->cluster, KIND_POD, "default", "c")->source,
                        "sub/deeper/c.yml:1");
}

static void an_empty_folder_is_synced(void **state)
{
    struct fixture *f = *state;

    fixture_open(f);
    assert_heard(f, "synced\n");
}

static void a_missing_folder_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cluster *c = NULL;

    assert_int_equal(cluster_open_dir(&f->loop, fixture_path(f, "nowhere"), &c), -ENOENT);
    assert_null(c);
    (void)loop_turn(&f->loop, 0);
}

static void files_of_editors_are_ignored(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {".a.yaml.swp",  "a.yaml~",    "#a.yaml#", ".#a.yaml",
                                        "4913",         "a.yaml.bak", "a.yaml.1", "notes.txt",
                                        ".hidden.yaml", "yaml"};

    open_synced(f);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        write_in_place(f, names[i], SERVICE("a", "1"));
    }
    assert_int_equal(mkdir(fixture_path(f, ".git"), 0755), 0);
    write_in_place(f, ".git/a.yaml", SERVICE("a", "1"));
    assert_heard_so_far(f, "");
    fixture_close(f);
    open_synced(f);
    assert_null(cluster_get(f->cluster, KIND_SERVICE, "default", "a"));
}

static void only_what_changed_is_told(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml",
                   SERVICE("a", "1") "---\n" SERVICE("b", "1") "---\n" SERVICE("c", "1"));
    open_synced(f);
    write_by_rename(f, "a.yaml",
                    "# moves the lines\n" SERVICE("a", "1") "---\n" SERVICE(
                        "b", "2") "---\n" SERVICE("d", "1"));
    assert_heard(f, "~ Service default/b\n+ Service default/d\n- Service default/c\n");
    assert_string_equal(annotation(f, "b"), "2");
    assert_null(annotation(f, "c"));
    /* Equal contents in other words are no news, yet the place is kept up to date. */
    assert_string_equal(cluster_get(f->cluster, KIND_SERVICE, "default", "a")->source, "a.yaml:2");
    write_by_rename(
        f, "a.yaml",
        SERVICE("a", "1") "---\n" SERVICE("b", "2") "---\n# comment\n" SERVICE("d", "1"));
    assert_heard_so_far(f, "");
}

static void a_file_is_read_when_it_is_complete(void **state)
{
    struct fixture *f = *state;
    int fd;

    open_synced(f);
    write_in_place(f, "a.yaml", SERVICE("a", "1") "---\n" SERVICE("b", "1"));
    assert_heard(f, "+ Service default/a\n+ Service default/b\n");
    fd = open(fixture_path(f, "a.yaml"), O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    /* A valid file, but half of it: b must not be deleted. A file written later settles later: when
     * that is heard, the time of this one has passed. */
    assert_true(write(fd, SERVICE("a", "2"), strlen(SERVICE("a", "2"))) > 0);
    write_in_place(f, "z.yaml", SERVICE("z", "1"));
    assert_heard(f, "+ Service default/z\n");
    assert_heard_so_far(f, "");
    assert_true(write(fd, "---\n" SERVICE("b", "1"), strlen("---\n" SERVICE("b", "1"))) > 0);
    assert_int_equal(close(fd), 0);
    assert_heard(f, "~ Service default/a\n");
    assert_non_null(annotation(f, "b"));
}

/* Somebody is in the middle of writing when the source starts, and takes his time. */
static void a_half_written_file_does_not_hold_up_the_start(void **state)
{
    struct fixture *f = *state;
    int fd;

    write_in_place(f, "a.yaml", SERVICE("a", "1"));
    fd = open(fixture_path(f, "b.yaml"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(write(fd, "apiVersion: v1\nki", 17) > 0);
    fixture_open(f);
    assert_true(write(fd, "nd", 2) > 0);
    assert_heard(f, "+ Service default/a\nsynced\n");
    assert_true(write(fd, ": Pod\nmetadata: {name: b}\n", 26) > 0);
    assert_int_equal(close(fd), 0);
    assert_heard(f, "+ Pod default/b\n");
}

static void a_deleted_file_deletes_its_objects(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml", SERVICE("a", "1") "---\n" SERVICE("b", "1"));
    open_synced(f);
    remove_file(f, "a.yaml");
    assert_heard(f, "- Service default/a\n- Service default/b\n");
    write_in_place(f, "a.yaml", SERVICE("a", "1"));
    assert_heard(f, "+ Service default/a\n");
    move_file(f, "a.yaml", "a.yaml.off");
    assert_heard(f, "- Service default/a\n");
}

static void a_renamed_file_keeps_its_objects(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml", SERVICE("a", "1"));
    write_in_place(f, "b.yaml", SERVICE("b", "1"));
    open_synced(f);
    move_file(f, "a.yaml", "z.yaml");
    WAIT_UNTIL(
        f, strcmp(cluster_get(f->cluster, KIND_SERVICE, "default", "a")->source, "z.yaml:1") == 0);
    /* The old name is forgotten after a while, before one that goes now, and takes nothing along. */
    remove_file(f, "b.yaml");
    assert_heard(f, "- Service default/b\n");
    assert_heard_so_far(f, "");
    write_by_rename(f, "a.yaml", SERVICE("c", "1"));
    assert_heard(f, "+ Service default/c\n");
}

/* What vim does: the old file becomes a backup, a new one takes its name. git: unlink, then create. */
static void an_editors_replacement_is_one_change(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml", SERVICE("a", "1"));
    open_synced(f);
    move_file(f, "a.yaml", "a.yaml~");
    write_in_place(f, "a.yaml", SERVICE("a", "2"));
    remove_file(f, "a.yaml~");
    assert_heard(f, "~ Service default/a\n");
    remove_file(f, "a.yaml");
    (void)loop_turn(&f->loop, 0);
    write_in_place(f, "a.yaml", SERVICE("a", "3"));
    assert_heard(f, "~ Service default/a\n");
    assert_heard_so_far(f, "");
}

static void a_hard_link_is_a_file(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.txt", SERVICE("a", "1"));
    open_synced(f);
    assert_int_equal(link(fixture_path(f, "a.txt"), fixture_path(f, "a.yaml")), 0);
    assert_heard(f, "+ Service default/a\n");
}

static void a_bad_file_is_told_once_and_changes_nothing(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml", SERVICE("a", "1"));
    write_in_place(f, "b.yaml",
                   SERVICE("b", "1") "---\napiVersion: v1\nkind: Gadget\nmetadata: {name: g}\n");
    fixture_open(f);
    WAIT_UNTIL(f, has_heard(f, "synced\n"));
    assert_heard(f,
                 "+ Service default/a\n! b.yaml:5: kind Gadget of v1 is not supported\nsynced\n");
    /* All or nothing: the good half of b.yaml is not taken either. */
    assert_null(annotation(f, "b"));

    write_by_rename(f, "a.yaml",
                    "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {v: \"2\"\n");
    WAIT_UNTIL(f, has_heard(f, "\n"));
    assert_memory_equal(f->heard.at, "! a.yaml:", 9);
    text_reset(&f->heard);
    assert_string_equal(annotation(f, "a"), "1");
    write_by_rename(f, "a.yaml",
                    "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {v: \"2\"\n");
    write_by_rename(f, "b.yaml", SERVICE("b", "1"));
    assert_heard(f, "+ Service default/b\n");
    /* The same again, then good, then bad again: that is news. */
    write_by_rename(f, "a.yaml", SERVICE("a", "3"));
    assert_heard(f, "~ Service default/a\n");
    write_by_rename(f, "a.yaml", "kind: Service\n");
    assert_heard(f, "! a.yaml:1: apiVersion is missing\n");
    assert_string_equal(annotation(f, "a"), "3");
}

static void wrong_manifests_are_named(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"just words\n", "! a.yaml:1: this is not a manifest (a mapping was expected)\n"},
        {"apiVersion: v1\nmetadata: {name: a}\n", "! a.yaml:1: kind is missing\n"},
        {"apiVersion: v1\nkind: Pod\n", "! a.yaml:1: Pod: metadata.name is missing\n"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: n}\n",
         "! a.yaml:1: Pod: metadata.name was read as a boolean, as YAML reads y, n, yes, no, on and off; "
         "put it in quotes\n"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: 1.5}\n",
         "! a.yaml:1: Pod: metadata.name was read as the number 1.5; put it in quotes\n"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: ~}\n",
         "! a.yaml:1: Pod: metadata.name is empty; write a text, in quotes if it is a word of YAML\n"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: [a]}\n",
         "! a.yaml:1: Pod: metadata.name is a list, not a string\n"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: 1}\n",
         "! a.yaml:1: Pod a: metadata.namespace was read as the number 1; put it in quotes\n"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: ../etc}\n",
         "! a.yaml:1: Pod: metadata.name \"../etc\" is not a valid name\n"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: A.b}\n",
         "! a.yaml:1: Pod a: metadata.namespace \"A.b\" is not a valid name\n"},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {p: 6379}}\n",
         "! a.yaml:1: the value of p in metadata.annotations was read as the number 6379; put it in "
         "quotes\n"},
        {"kind: List\napiVersion: v1\nitems: {}\n",
         "! a.yaml:3: the items of a List are not a sequence\n"},
        {"kind: List\napiVersion: v1\nitems:\n- kind: List\n",
         "! a.yaml:4: a List inside a List is not supported\n"},
    };

    open_synced(f);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        write_by_rename(f, "a.yaml", cases[i].text);
        assert_heard(f, cases[i].said);
    }
}

static void a_large_file_is_refused(void **state)
{
    struct fixture *f = *state;
    int fd;

    open_synced(f);
    fd = open(fixture_path(f, "a.yaml"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(ftruncate(fd, (16 << 20) + 1), 0);
    assert_int_equal(close(fd), 0);
    assert_heard(f, "! a.yaml: cannot be read: it is too large\n");
    assert_int_equal(mkfifo(fixture_path(f, "fifo"), 0600), 0);
    move_file(f, "fifo", "b.yaml");
    assert_heard(f, "! b.yaml: cannot be read: it is not a regular file\n");
}

static void the_first_of_two_files_has_the_object(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml", "\n" SERVICE("x", "a"));
    write_in_place(f, "b.yaml",
                   SERVICE("w", "b") "---\n" SERVICE("x", "b") "---\n" SERVICE("x", "c"));
    fixture_open(f);
    assert_heard(f, "+ Service default/x\n+ Service default/w\n"
                    "! b.yaml:5: Service default/x is also defined, and stays as it is, at "
                    "a.yaml:2 (and 1 more of this file)\n"
                    "synced\n");
    assert_string_equal(annotation(f, "x"), "a");
    /* Reading b.yaml again is no news; a change of the losing one neither. */
    write_by_rename(f, "b.yaml",
                    SERVICE("w", "b") "---\n" SERVICE("x", "B") "---\n" SERVICE("x", "c"));
    assert_heard_so_far(f, "");
    /* When the first one goes, the other steps in: to a reader a change, no deletion. */
    remove_file(f, "a.yaml");
    assert_heard(f, "~ Service default/x\n");
    assert_string_equal(annotation(f, "x"), "B");
    /* And now it is the owner. */
    write_by_rename(f, "a.yaml", SERVICE("x", "a"));
    assert_heard(
        f, "! a.yaml:1: Service default/x is also defined, and stays as it is, at b.yaml:5\n");
    write_by_rename(f, "b.yaml", SERVICE("w", "b"));
    assert_heard(f, "~ Service default/x\n");
    assert_string_equal(annotation(f, "x"), "a");
    remove_file(f, "a.yaml");
    assert_heard(f, "- Service default/x\n");
}

static void an_object_moves_between_files(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml", SERVICE("x", "1") "---\n" SERVICE("w", "1"));
    open_synced(f);
    /* First added there, then removed here: told as a conflict in between, never as a deletion. */
    write_by_rename(f, "b.yaml", SERVICE("x", "2"));
    assert_heard(
        f, "! b.yaml:1: Service default/x is also defined, and stays as it is, at a.yaml:1\n");
    write_by_rename(f, "a.yaml", SERVICE("w", "1"));
    assert_heard(f, "~ Service default/x\n");
}

static void folders_come_and_go(void **state)
{
    struct fixture *f = *state;

    open_synced(f);
    assert_int_equal(mkdir(fixture_path(f, "sub"), 0755), 0);
    assert_int_equal(mkdir(fixture_path(f, "sub/two"), 0755), 0);
    write_in_place(f, "sub/two/a.yaml", SERVICE("a", "1"));
    assert_heard(f, "+ Service default/a\n");
    write_by_rename(f, "sub/two/b.yaml", SERVICE("b", "1"));
    assert_heard(f, "+ Service default/b\n");
    /* Renamed, it is the same folder to a reader. */
    move_file(f, "sub", "other");
    WAIT_UNTIL(f, strcmp(cluster_get(f->cluster, KIND_SERVICE, "default", "a")->source,
                         "other/two/a.yaml:1") == 0);
    write_by_rename(f, "other/two/b.yaml", SERVICE("b", "2"));
    assert_heard(f, "~ Service default/b\n");
    remove_file(f, "other/two/b.yaml");
    assert_heard(f, "- Service default/b\n");
    assert_int_equal(rename(fixture_path(f, "other"), fixture_path(f, "../away")), 0);
    assert_heard(f, "- Service default/a\n");
    /* It is not followed to where it went. */
    write_by_rename(f, "../away/two/c.yaml", SERVICE("c", "1"));
    assert_heard_so_far(f, "");
}

static void lost_events_are_made_up_for(void **state)
{
    struct fixture *f = *state;

    write_in_place(f, "a.yaml", SERVICE("a", "1"));
    write_in_place(f, "b.yaml", SERVICE("b", "1"));
    write_in_place(f, "c.yaml", SERVICE("c", "1"));
    open_synced(f);
    write_in_place(f, "x.yaml", SERVICE("x", "1"));
    for (int i = 0; i < 10000; i++) { /* four events each: far more than the queue's 16384 */
        move_file(f, "x.yaml", "y.yaml");
        move_file(f, "y.yaml", "x.yaml");
    }
    remove_file(f, "x.yaml");
    remove_file(f, "a.yaml");
    write_by_rename(f, "b.yaml", SERVICE("b", "2"));
    assert_int_equal(mkdir(fixture_path(f, "sub"), 0755), 0);
    write_in_place(f, "sub/d.yaml", SERVICE("d", "1"));
    WAIT_UNTIL(f, has_heard(f, "- Service default/a\n") && has_heard(f, "~ Service default/b\n") &&
                      has_heard(f, "+ Service default/d\n") && annotation(f, "x") == NULL);
    assert_false(has_heard(f, "default/c"));
    text_reset(&f->heard);
    /* And it goes on as before. */
    write_by_rename(f, "sub/d.yaml", SERVICE("d", "2"));
    assert_heard(f, "~ Service default/d\n");
}

static void objects_stay_while_the_folder_is_away(void **state)
{
    struct fixture *f = *state;
    char away[160];

    (void)snprintf(away, sizeof(away), "%s/away", f->base);
    write_in_place(f, "a.yaml", SERVICE("a", "1"));
    open_synced(f);
    assert_int_equal(rename(f->dir, away), 0);
    WAIT_UNTIL(f, has_heard(f, "was moved or deleted; what it held stays until it is back\n"));
    assert_string_equal(annotation(f, "a"), "1");
    text_reset(&f->heard);
    assert_int_equal(rename(away, f->dir), 0);
    write_by_rename(f, "a.yaml", SERVICE("a", "2"));
    assert_heard(f, "~ Service default/a\n");
    write_by_rename(f, "b.yaml", SERVICE("b", "1"));
    assert_heard(f, "+ Service default/b\n");
}

/* --- a writer that never rests --------------------------------------------------------------------- */

struct writer {
    struct fixture *f;
    _Atomic bool is_done;
};

static void *writer_run(void *arg)
{
    struct writer *w = arg;
    char name[64], temporary[64], text[160];

    for (unsigned n = 0; n < 4000; n++) {
        (void)snprintf(name, sizeof(name), "service.default.s%u.json", n % 20);
        (void)snprintf(temporary, sizeof(temporary), ".w%u", n);
        (void)snprintf(text, sizeof(text),
                       "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"s%u\","
                       "\"annotations\":{\"v\":\"%u\"}}}",
                       n % 20, n);
        write_in_place(w->f, temporary, text);
        move_file(w->f, temporary, name);
        if (n % 7 == 3) {
            remove_file(w->f, name);
        }
    }
    atomic_store(&w->is_done, true);
    return NULL;
}

static void the_store_ends_as_the_folder_does(void **state)
{
    struct fixture *f = *state;
    struct writer w = {.f = f};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, writer_run, &w), 0);
    fixture_open(f);
    WAIT_UNTIL(f, has_heard(f, "synced\n") && atomic_load(&w.is_done));
    assert_int_equal(pthread_join(thread, NULL), 0);
    mark(f);
    assert_false(has_heard(f, "! "));
    for (unsigned s = 0; s < 20; s++) {
        char name[64], value[16];
        unsigned last = 3980 + s;
        bool is_there = last % 7 != 3;

        (void)snprintf(name, sizeof(name), "s%u", s);
        (void)snprintf(value, sizeof(value), "%u", last);
        WAIT_UNTIL(f, is_there
                          ? annotation(f, name) != NULL && strcmp(annotation(f, name), value) == 0
                          : annotation(f, name) == NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIR_TEST(present_objects_come_before_synced),
        DIR_TEST(an_empty_folder_is_synced),
        DIR_TEST(a_missing_folder_is_refused),
        DIR_TEST(files_of_editors_are_ignored),
        DIR_TEST(only_what_changed_is_told),
        DIR_TEST(a_file_is_read_when_it_is_complete),
        DIR_TEST(a_half_written_file_does_not_hold_up_the_start),
        DIR_TEST(a_deleted_file_deletes_its_objects),
        DIR_TEST(a_renamed_file_keeps_its_objects),
        DIR_TEST(an_editors_replacement_is_one_change),
        DIR_TEST(a_hard_link_is_a_file),
        DIR_TEST(a_bad_file_is_told_once_and_changes_nothing),
        DIR_TEST(wrong_manifests_are_named),
        DIR_TEST(a_large_file_is_refused),
        DIR_TEST(the_first_of_two_files_has_the_object),
        DIR_TEST(an_object_moves_between_files),
        DIR_TEST(folders_come_and_go),
        DIR_TEST(lost_events_are_made_up_for),
        DIR_TEST(objects_stay_while_the_folder_is_away),
        DIR_TEST(the_store_ends_as_the_folder_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
