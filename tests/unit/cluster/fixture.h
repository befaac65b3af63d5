/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_FIXTURE_H
#define CLUSTER_FIXTURE_H

/*
 * A real folder, a loop, a cluster on it, and a watch that writes down what it hears, one line each:
 *   "+ Pod default/a"  new      "~ Pod default/a"  changed     "- Pod default/a"  deleted
 *   "synced"                    "! a.yaml:3: ..."  a problem
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/cluster.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "core/text.h"

struct fixture {
    struct loop loop;
    char base[64];  /* holds the folder and what lies beside it */
    char dir[128];
    struct cluster *cluster;
    struct cluster_watch watch;
    struct text heard;
    unsigned marks;
};

UNUSED static void heard_event(struct cluster_watch *w, enum cluster_event e, const struct object *o,
                               const struct object *old)
{
    struct fixture *f = w->user;

    text_printf(&f->heard, "%c %s %s/%s\n", e == CLUSTER_DELETE ? '-' : old != NULL ? '~' : '+',
                kind_info(o->kind)->name, o->ns, o->name);
}

UNUSED static void heard_synced(struct cluster_watch *w)
{
    text_str(&((struct fixture *)w->user)->heard, "synced\n");
}

UNUSED static void heard_problem(struct cluster_watch *w, const char *text)
{
    text_printf(&((struct fixture *)w->user)->heard, "! %s\n", text);
}

/* --- files --------------------------------------------------------------------------------------- */

UNUSED static const char *fixture_path(const struct fixture *f, const char *name)
{
    static _Thread_local char paths[4][512];
    static _Thread_local unsigned turn;
    char *to = paths[turn++ % 4];

    assert_true(snprintf(to, 512, "%s/%s", f->dir, name) < 512);
    return to;
}

UNUSED static void write_in_place(const struct fixture *f, const char *name, const char *text)
{
    int fd = open(fixture_path(f, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
}

UNUSED static void write_by_rename(const struct fixture *f, const char *name, const char *text)
{
    write_in_place(f, ".new", text);
    assert_int_equal(rename(fixture_path(f, ".new"), fixture_path(f, name)), 0);
}

UNUSED static void move_file(const struct fixture *f, const char *from, const char *to)
{
    assert_int_equal(rename(fixture_path(f, from), fixture_path(f, to)), 0);
}

UNUSED static void remove_file(const struct fixture *f, const char *name)
{
    assert_int_equal(unlink(fixture_path(f, name)), 0);
}

UNUSED static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* --- waiting: turn the loop until it is so; a minute is only there to end a test that has failed ---- */

#define WAIT_UNTIL(f, condition)                                                                   \
    do {                                                                                           \
        uint64_t end_ns_ = clock_mono_ns() + 60 * NS_PER_S;                                        \
        while (!(condition)) {                                                                     \
            if (clock_mono_ns() > end_ns_) {                                                       \
                fail_msg("waited in vain for %s; heard:\n%s", #condition,                          \
                         (f)->heard.at != NULL ? (f)->heard.at : "");                              \
            }                                                                                      \
            (void)loop_turn(&(f)->loop, 1000);                                                     \
        }                                                                                          \
    } while (0)

UNUSED static bool has_heard(const struct fixture *f, const char *text)
{
    return f->heard.at != NULL && strstr(f->heard.at, text) != NULL;
}

/* All that was heard since the last call is exactly this. */
#define assert_heard(f, expected)                                                                  \
    do {                                                                                           \
        WAIT_UNTIL(f, has_heard((f), (expected)));                                                 \
        assert_string_equal((f)->heard.at, (expected));                                            \
        text_reset(&(f)->heard);                                                                   \
    } while (0)

/* A change of our own behind all others: when it is heard, everything before it has been handled. */
UNUSED static void mark(struct fixture *f)
{
    char text[128], line[64];

    (void)snprintf(text, sizeof(text),
                   "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"mark-%u\"}}",
                   ++f->marks);
    (void)snprintf(line, sizeof(line), "+ Node /mark-%u\n", f->marks);
    write_by_rename(f, "node._.mark.json", text);
    WAIT_UNTIL(f, has_heard(f, line));
    /* Its own lines, the former mark's end included, are cut away again. */
    char *at = strstr(f->heard.at, line);
    char *rest = at + strlen(line);
    char gone[64];

    (void)snprintf(gone, sizeof(gone), "- Node /mark-%u\n", f->marks - 1);
    if (f->marks > 1) {
        WAIT_UNTIL(f, has_heard(f, gone));
        at = strstr(f->heard.at, line);
        rest = strstr(at, gone) + strlen(gone);
    }
    memmove(at, rest, strlen(rest) + 1);
    f->heard.len = strlen(f->heard.at);
}

/* Nothing but this was heard up to now, and nothing else is on its way in the kernel's queue. */
#define assert_heard_so_far(f, expected)                                                           \
    do {                                                                                           \
        mark(f);                                                                                   \
        assert_string_equal((f)->heard.at, (expected));                                            \
        text_reset(&(f)->heard);                                                                   \
    } while (0)

/* --- life ---------------------------------------------------------------------------------------- */

UNUSED static void fixture_open(struct fixture *f)
{
    assert_int_equal(cluster_open_dir(&f->loop, f->dir, &f->cluster), 0);
    f->watch = (struct cluster_watch){.kinds = ~UINT64_C(0),
                                      .on_event = heard_event,
                                      .on_synced = heard_synced,
                                      .on_problem = heard_problem,
                                      .user = f};
    cluster_watch_add(f->cluster, &f->watch);
}

UNUSED static void fixture_close(struct fixture *f)
{
    cluster_close(f->cluster);
    f->cluster = NULL;
    (void)loop_turn(&f->loop, 0);
}

UNUSED static int fixture_setup(void **state)
{
    struct fixture *f = mem_new(sizeof(*f));

    log_init(2, LOG_FORMAT_PLAIN);
    assert_int_equal(log_set_filter("off"), 0);
    (void)snprintf(f->base, sizeof(f->base), "/tmp/tulle-cluster-XXXXXX");
    assert_non_null(mkdtemp(f->base));
    (void)snprintf(f->dir, sizeof(f->dir), "%s/state", f->base);
    assert_int_equal(mkdir(f->dir, 0755), 0);
    assert_int_equal(loop_open(&f->loop, 0, 64), 0);
    text_init(&f->heard, 4u << 20);
    *state = f;
    return 0;
}

UNUSED static int fixture_teardown(void **state)
{
    struct fixture *f = *state;

    fixture_close(f);
    loop_close(&f->loop);
    text_clear(&f->heard);
    (void)nftw(f->base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    mem_free(f);
    return 0;
}

#define DIR_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

/* A manifest of one line. */
#define SERVICE(name, value)                                                                       \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name ", annotations: {v: \"" value "\"}}\n"
#define POD(name) "apiVersion: v1\nkind: Pod\nmetadata: {name: " name "}\n"

#endif
