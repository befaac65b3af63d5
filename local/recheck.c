/* SPDX-License-Identifier: Apache-2.0 */
#include "local/recheck.h"

#include "cluster/cluster.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/list.h"
#include "core/log.h"

#include <stdio.h>
#include <sys/stat.h>

#define LOOK_NS NS_PER_S /* between looks at the files, while there are problems */
#define SOON_NS (200 * NS_PER_MS)

struct complaint {
    struct list node;
    char *about; /* "manifest /srv/web.yaml" */
    char *path;
    struct stat seen; /* zeroed: there was no such file */
    unsigned round;   /* in which it was said last */
};

struct recheck {
    struct loop *loop;
    char *root;
    void (*say)(void *user, const char *about, const char *text);
    void *user;
    struct list complaints;
    size_t count;
    struct timer timer;
    bool is_due;             /* look without a changed file */
    struct cluster *cluster; /* while it reads the folder */
    struct cluster_watch watch;
    unsigned round;
};

static void look_at(struct complaint *c, struct stat *out)
{
    *out = (struct stat){0};
    if (stat(c->path, out) != 0) {
        *out = (struct stat){0};
    }
}

static bool is_changed(struct complaint *c)
{
    struct stat now;

    look_at(c, &now);
    return now.st_ino != c->seen.st_ino || now.st_size != c->seen.st_size ||
           now.st_mtim.tv_sec != c->seen.st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != c->seen.st_mtim.tv_nsec;
}

static void forget(struct recheck *r, struct complaint *c)
{
    list_unlink(&c->node);
    r->count--;
    mem_free(c->about);
    mem_free(c->path);
    mem_free(c);
}

static struct complaint *find(struct recheck *r, const char *about)
{
    LIST_FOREACH(node, &r->complaints)
    {
        struct complaint *c = LIST_ITEM(node, struct complaint, node);

        if (strcmp(c->about, about) == 0) {
            return c;
        }
    }
    return NULL;
}

void recheck_note(struct recheck *r, const char *text)
{
    const char *colon = strchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
    AUTOFREE char *about = mem_printf("manifest %s/%.*s", r->root, (int)len, text);
    struct complaint *c = find(r, about);

    if (c == NULL && r->count == RECHECK_PROBLEMS_MAX) {
        return; /* enough to read for now; fixed ones make room */
    }
    if (c == NULL) {
        c = mem_new(sizeof(*c));
        c->about = mem_strdup(about);
        c->path = mem_printf("%s/%.*s", r->root, (int)len, text);
        list_append(&r->complaints, &c->node);
        r->count++;
    }
    c->round = r->round;
    look_at(c, &c->seen);
    r->say(r->user, about, text);
    if (!timer_is_armed(&r->timer)) {
        timer_arm_in(r->loop, &r->timer, LOOK_NS);
    }
}

/* --- reading anew -------------------------------------------------------------------------------- */

static void on_problem(struct cluster_watch *w, const char *text)
{
    recheck_note(w->user, text);
}

static void end_reading(struct recheck *r)
{
    if (r->cluster != NULL) {
        cluster_watch_remove(&r->watch);
        cluster_close(r->cluster);
        r->cluster = NULL;
    }
}

static void on_synced(struct cluster_watch *w)
{
    struct recheck *r = w->user;

    end_reading(r);
    LIST_FOREACH(node, &r->complaints)
    {
        struct complaint *c = LIST_ITEM(node, struct complaint, node);

        if (c->round != r->round) {
            r->say(r->user, c->about, NULL);
            forget(r, c);
        }
    }
    if (r->count > 0) {
        timer_arm_in(r->loop, &r->timer, LOOK_NS);
    }
}

static void read_anew(struct recheck *r)
{
    int rc;

    end_reading(r);
    r->is_due = false;
    r->round++;
    rc = cluster_open_dir(r->loop, r->root, &r->cluster);
    if (rc != 0) {
        log_warn("a folder of manifests cannot be read again; folder=%s err=%s", r->root,
                 err_text(rc));
        timer_arm_in(r->loop, &r->timer, LOOK_NS);
        r->cluster = NULL;
        return;
    }
    r->watch = (struct cluster_watch){
        .kinds = 0, .on_event = NULL, .on_synced = on_synced, .on_problem = on_problem, .user = r};
    cluster_watch_add(r->cluster, &r->watch);
}

static void on_timer(struct timer *t)
{
    struct recheck *r = CONTAINER_OF(t, struct recheck, timer);
    bool changed = r->is_due;

    LIST_FOREACH(node, &r->complaints)
    {
        struct complaint *c = LIST_ITEM(node, struct complaint, node);

        if (is_changed(c)) {
            look_at(c, &c->seen);
            changed = true;
        }
    }
    if (changed) {
        read_anew(r);
    } else if (r->count > 0) {
        timer_arm_in(r->loop, &r->timer, LOOK_NS);
    }
}

void recheck_soon(struct recheck *r)
{
    if (r->count > 0) {
        r->is_due = true;
        timer_arm_in(r->loop, &r->timer, SOON_NS);
    }
}

/* --- life ---------------------------------------------------------------------------------------- */

struct recheck *recheck_new(struct loop *l, const char *root,
                            void (*say)(void *user, const char *about, const char *text),
                            void *user)
{
    struct recheck *r = mem_new(sizeof(*r));

    r->loop = l;
    r->root = mem_strdup(root);
    r->say = say;
    r->user = user;
    r->timer.run = on_timer;
    list_init(&r->complaints);
    return r;
}

void recheck_free(struct recheck *r)
{
    if (r == NULL) {
        return;
    }
    end_reading(r);
    timer_cancel(r->loop, &r->timer);
    while (!list_is_empty(&r->complaints)) {
        forget(r, LIST_ITEM(r->complaints.next, struct complaint, node));
    }
    mem_free(r->root);
    mem_free(r);
}
