/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/file.h"
#include "core/log.h"
#include "text/yaml.h"

#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

/*
 * One file, followed: it is copied whenever it changes. A cluster watches folders, all of them below
 * one, and who names a file in a folder means that file alone.
 */
#define SETTLE_NS (50 * NS_PER_MS) /* editors write, rename and delete in turn */
#define RETRY_NS  NS_PER_S         /* while its folder is not there */
#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_DELETE_SELF |       \
     IN_MOVE_SELF)

struct follow {
    struct loop *loop;
    struct watch watch;
    struct task task;
    struct timer timer;
    struct grave grave;
    char *folder, *name, *copy; /* folder and name of the file; path of its copy */
    bool is_watched;
};

/* 0, also when the file is gone; its copy is gone then, too. */
static int copy(struct follow *f)
{
    AUTOFREE char *path = mem_printf("%s/%s", f->folder, f->name);
    AUTOFREE char *content = NULL;
    size_t len = 0;
    int rc = file_read(path, YAML_BYTES_MAX, &content, &len);

    if (rc == -ENOENT || rc == -ENOTDIR) {
        return unlink(f->copy) == 0 || errno == ENOENT ? 0 : -errno;
    }
    return rc == 0 ? file_write(f->copy, bytes_of(content, len), 0600) : rc;
}

static void add_watch(struct follow *f)
{
    f->is_watched = inotify_add_watch(f->watch.fd, f->folder, EVENTS | IN_ONLYDIR) >= 0;
}

static void on_timer(struct timer *t)
{
    struct follow *f = CONTAINER_OF(t, struct follow, timer);
    int rc;

    if (!f->is_watched) {
        add_watch(f);
    }
    rc = copy(f);
    if (rc != 0) {
        log_error("a manifest cannot be read; file=%s/%s err=%s", f->folder, f->name, err_text(rc));
    }
    if (!f->is_watched) {
        timer_arm_in(f->loop, &f->timer, RETRY_NS);
    }
}

static void note(struct follow *f, const struct inotify_event *e)
{
    if ((e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) != 0) {
        f->is_watched = false;
        if ((e->mask & IN_MOVE_SELF) != 0) {
            (void)inotify_rm_watch(f->watch.fd, e->wd);
        }
    } else if (e->len == 0 || strcmp(e->name, f->name) != 0) {
        return;
    }
    if (!timer_is_armed(&f->timer)) {
        timer_arm_in(f->loop, &f->timer, SETTLE_NS);
    }
}

static void follow_run(struct task *t)
{
    struct follow *f = CONTAINER_OF(t, struct follow, task);
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;

    while ((n = read(f->watch.fd, events, sizeof(events))) > 0) {
        for (char *at = events; at < events + n;) {
            const struct inotify_event *e = (const struct inotify_event *)(const void *)at;

            note(f, e);
            at += sizeof(*e) + e->len;
        }
    }
    f->watch.ready = 0;
}

static void bury(struct grave *g)
{
    struct follow *f = CONTAINER_OF(g, struct follow, grave);

    mem_free(f->folder);
    mem_free(f->name);
    mem_free(f->copy);
    mem_free(f);
}

int follow_open(struct loop *l, const char *file, const char *copy_path, struct follow **out)
{
    struct follow *f = mem_new(sizeof(*f));
    const char *slash = strrchr(file, '/');
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), rc;

    assert(slash != NULL);
    f->loop = l;
    f->folder = slash == file ? mem_strdup("/") : mem_strndup(file, (size_t)(slash - file));
    f->name = mem_strdup(slash + 1);
    f->copy = mem_strdup(copy_path);
    f->task.run = follow_run;
    f->timer.run = on_timer;
    rc = fd < 0 ? -errno : watch_open(&f->watch, l, fd, &f->task);
    if (rc != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        f->watch = (struct watch){.fd = -1};
        follow_close(f);
        return rc;
    }
    add_watch(f);
    rc = copy(f);
    if (rc != 0) {
        follow_close(f);
        return rc;
    }
    *out = f;
    return 0;
}

void follow_close(struct follow *f)
{
    if (f == NULL) {
        return;
    }
    watch_close(&f->watch);
    task_cancel(&f->task);
    timer_cancel(f->loop, &f->timer);
    loop_free_later(f->loop, &f->grave, bury);
}
