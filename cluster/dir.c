/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#define READS_A_RUN  32 /* files; then other tasks of the loop have their turn */
#define EVENTS_BYTES (64 * 1024)
#define REOPEN_NS    (500 * NS_PER_MS)
#define DIR_EVENTS                                                                                 \
    (IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE |            \
     IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)

void dir_wake(struct dir *d)
{
    task_wake(d->store.cluster.loop, &d->run);
}

static void PRINTF_LIKE(2, 3) dir_complain(struct dir *d, const char *format, ...)
{
    char text[DIR_PROBLEM_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    store_problem(&d->store, text);
}

/* "sub/web.yaml"; false when it is too long to be one of ours. */
static bool path_join(const char *folder, const char *name, char to[DIR_PATH_BYTES])
{
    return snprintf(to, DIR_PATH_BYTES, "%s%s%s", folder, folder[0] != '\0' ? "/" : "", name) <
           DIR_PATH_BYTES;
}

/* --- folders ------------------------------------------------------------------------------------- */

static struct bytes folder_key(const int *wd)
{
    return bytes_of(wd, sizeof(*wd));
}

static void folder_free(struct dir *d, struct dir_folder *folder)
{
    (void)map_remove(&d->folders, folder_key(&folder->wd));
    list_unlink(&folder->node);
    mem_free(folder->path);
    mem_free(folder);
}

/* Under watch first, listed later: nothing that happens in between is missed. */
static int folder_add(struct dir *d, const char *path)
{
    AUTOFREE char *full = mem_printf("%s%s%s", d->root, path[0] != '\0' ? "/" : "", path);
    struct dir_folder *folder;
    int wd;

    if (map_count(&d->folders) >= DIR_FOLDERS_MAX) {
        if (!d->is_full) {
            d->is_full = true;
            dir_complain(d, "%s: more than %d folders; %s and further ones are left out", d->root,
                         DIR_FOLDERS_MAX, path);
        }
        return E_LIMIT;
    }
    wd = inotify_add_watch(d->inotify.fd, full, DIR_EVENTS | IN_DONT_FOLLOW * (path[0] != '\0'));
    if (wd < 0) {
        return -errno;
    }
    folder = map_get(&d->folders, folder_key(&wd));
    if (folder == NULL) {
        folder = mem_new(sizeof(*folder));
        folder->wd = wd;
        (void)map_put(&d->folders, folder_key(&wd), folder);
    }
    /* The same folder under another name: its move is under way in the queue. */
    mem_free(folder->path);
    folder->path = mem_strdup(path);
    if (!list_is_linked(&folder->node)) {
        list_append(&d->to_scan, &folder->node);
    }
    dir_wake(d);
    return 0;
}

static void folder_met(struct dir *d, const char *path)
{
    int err = folder_add(d, path);

    if (err == -ENOSPC) {
        dir_complain(d, "%s/%s cannot be watched: raise the sysctl fs.inotify.max_user_watches",
                     d->root, path);
    } else if (err != 0 && err != -ENOENT && err != -ENOTDIR && err != E_LIMIT) {
        dir_complain(d, "%s/%s cannot be watched: %s", d->root, path, err_text(err));
    }
}

static bool path_is_below(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* A folder was moved away or deleted, and with it all below. */
static void folder_lost(struct dir *d, const char *path)
{
    struct map_iter folders = MAP_ITER(&d->folders);
    struct map_iter files = MAP_ITER(&d->files);

    while (map_next(&folders)) {
        struct dir_folder *folder = folders.value;

        if (path_is_below(folder->path, path)) {
            (void)inotify_rm_watch(d->inotify.fd, folder->wd);
            folder_free(d, folder);
        }
    }
    while (map_next(&files)) {
        if (path_is_below(((struct dir_file *)files.value)->path, path)) {
            file_lost(files.value, false);
        }
    }
}

/* --- the scan ------------------------------------------------------------------------------------ */

static void scan_met(struct dir *d, const char *folder, const char *name)
{
    char path[DIR_PATH_BYTES];
    struct dir_file *f;
    struct stat st;

    if (name[0] == '.' || !path_join(folder, name, path) ||
        fstatat(d->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        folder_met(d, path);
        return;
    }
    if (!file_is_wanted(name) || (f = file_need(d, path)) == NULL) {
        return;
    }
    f->scan = d->scan;
    if (f->is_open && !d->store.cluster.synced) {
        return; /* somebody is at it since the start, and will close it */
    }
    if (d->is_scanning && !f->counts_for_scan) {
        f->counts_for_scan = true;
        d->scan_files++;
    }
    if (d->store.cluster.synced) {
        file_written(f); /* somebody may be at it */
    } else {
        file_changed(f);
    }
}

/* Sorted, so that "the first file" of an object is the same in every process that reads the folder. */
static void folder_scan(struct dir *d, struct dir_folder *folder)
{
    AUTOFREE char *path = mem_strdup(folder->path);
    int fd = openat(d->root_fd, path[0] != '\0' ? path : ".",
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    struct dirent **names = NULL;
    int count = 0;

    if (fd >= 0) {
        count = scandirat(fd, ".", &names, NULL, alphasort);
        (void)close(fd);
    }
    if (fd < 0 || count < 0) {
        if (errno != ENOENT && errno != ENOTDIR) {
            dir_complain(d, "%s/%s cannot be listed: %s", d->root, path, err_text(-errno));
        }
        return;
    }
    for (int i = 0; i < count; i++) {
        scan_met(d, path, names[i]->d_name);
        mem_free(names[i]);
    }
    mem_free(names);
}

/* What the scan did not meet went away while nobody looked. */
static void scan_finish(struct dir *d)
{
    struct map_iter it = MAP_ITER(&d->files);

    d->is_scanning = false;
    while (map_next(&it)) {
        struct dir_file *f = it.value;

        if (f->scan != d->scan && !f->is_missing && !f->is_open) {
            file_changed(f); /* reading it tells whether it is gone */
        }
    }
    store_synced(&d->store);
}

/* --- watching ------------------------------------------------------------------------------------ */

static bool path_exists(const struct dir *d, const char *path)
{
    struct stat st;

    return fstatat(d->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void dir_event_file(struct dir *d, const char *path, uint32_t mask)
{
    bool is_new = (mask & (IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO)) != 0;
    struct dir_file *f = is_new ? file_need(d, path) : file_find(d, path);

    if (f == NULL) {
        return;
    }
    f->scan = d->scan;
    if ((mask & IN_MOVED_TO) != 0) {
        file_changed(f);
    } else if ((mask & IN_CLOSE_WRITE) != 0) {
        file_written(f);
    } else if ((mask & (IN_CREATE | IN_MODIFY)) != 0) {
        file_opened(f);
    } else if (!path_exists(d, path)) { /* else it is back already, and that event follows */
        file_lost(f, (mask & IN_DELETE) != 0 && put_is_ours(f));
    }
}

static void dir_lose_root(struct dir *d);

static void dir_event(struct dir *d, const struct inotify_event *e)
{
    struct dir_folder *folder = map_get(&d->folders, folder_key(&e->wd));
    char path[DIR_PATH_BYTES];

    if (folder == NULL) {
        return; /* what the kernel had queued for a folder that left */
    }
    if ((e->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0 && folder->path[0] == '\0') {
        dir_lose_root(d);
    }
    if ((e->mask & IN_IGNORED) != 0) {
        folder_free(d, folder);
        return;
    }
    if (e->len == 0 || e->name[0] == '.' || !path_join(folder->path, e->name, path)) {
        return;
    }
    if ((e->mask & IN_ISDIR) == 0) {
        if (file_is_wanted(e->name)) {
            dir_event_file(d, path, e->mask);
        }
    } else if ((e->mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
        folder_met(d, path);
    } else if ((e->mask & (IN_MOVED_FROM | IN_DELETE)) != 0) {
        folder_lost(d, path);
    }
}

static int dir_start(struct dir *d);

/* Events were lost: everything is looked at again. Present objects stay meanwhile. */
static void dir_restart(struct dir *d)
{
    int err = dir_start(d);

    if (err != 0) {
        log_warn("%s cannot be watched, trying again; err=%s", d->root, err_text(err));
        timer_arm_in(d->store.cluster.loop, &d->reopen, REOPEN_NS);
    }
}

/* Bounded by the size of one read; more is left for the next run. */
static void dir_read_events(struct dir *d)
{
    _Alignas(struct inotify_event) char buffer[EVENTS_BYTES];
    ssize_t n = read(d->inotify.fd, buffer, sizeof(buffer));

    if (n <= 0) {
        if (n == 0 || errno != EINTR) {
            d->inotify.ready &= ~(unsigned)WATCH_IN;
        }
        return;
    }
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(buffer + at);

        at += (ssize_t)(sizeof(*e) + e->len);
        if ((e->mask & IN_Q_OVERFLOW) != 0) {
            log_info("%s: too many changes at once; reading everything again", d->root);
            dir_restart(d);
            return;
        }
        dir_event(d, e);
    }
}

static void dir_run(struct task *t)
{
    struct dir *d = CONTAINER_OF(t, struct dir, run);
    struct list *node;

    if (d->inotify.fd < 0) {
        return; /* the root is away; what is dirty is read with the scan when it is back */
    }
    if ((d->inotify.ready & WATCH_IN) != 0) {
        dir_read_events(d);
    }
    node = list_pop(&d->to_scan);
    if (node != NULL) {
        folder_scan(d, LIST_ITEM(node, struct dir_folder, node));
    }
    for (unsigned n = 0; n < READS_A_RUN && !list_is_empty(&d->dirty); n++) {
        file_read_next(d);
    }
    if (d->is_scanning && d->scan_files == 0 && list_is_empty(&d->to_scan)) {
        scan_finish(d);
    }
    if (!list_is_empty(&d->to_scan) || !list_is_empty(&d->dirty) ||
        (d->inotify.ready & WATCH_IN) != 0) {
        dir_wake(d);
    }
}

/* --- life ---------------------------------------------------------------------------------------- */

static void dir_stop(struct dir *d)
{
    struct map_iter it = MAP_ITER(&d->folders);

    while (map_next(&it)) {
        folder_free(d, it.value);
    }
    watch_close(&d->inotify);
    if (d->root_fd >= 0) {
        (void)close(d->root_fd);
        d->root_fd = -1;
    }
}

/* Watch the root anew and scan it. What is known of files stays until they are read again. */
static int dir_start(struct dir *d)
{
    int fd, err;

    dir_stop(d);
    d->root_fd = open(d->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (d->root_fd < 0) {
        return -errno;
    }
    fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    err = watch_open(&d->inotify, d->store.cluster.loop, fd, &d->run);
    if (err != 0) {
        (void)close(fd);
        d->inotify.fd = -1;
        return err;
    }
    d->scan++;
    d->is_scanning = true;
    return folder_add(d, "");
}

static void dir_reopen(struct timer *t)
{
    dir_restart(CONTAINER_OF(t, struct dir, reopen));
}

/* The objects stay: an empty mesh is worse than an old one. */
static void dir_lose_root(struct dir *d)
{
    if (timer_is_armed(&d->reopen)) {
        return; /* it moves on; that much is known */
    }
    dir_complain(d, "%s: the folder was moved or deleted; what it held stays until it is back",
                 d->root);
    timer_arm_in(d->store.cluster.loop, &d->reopen, REOPEN_NS);
}

static void dir_bury(struct grave *g)
{
    struct dir *d = CONTAINER_OF(g, struct dir, grave);

    mem_free(d->root);
    mem_free(d);
}

static void dir_close(struct cluster *c)
{
    struct dir *d = dir_of(c);
    struct map_iter it = MAP_ITER(&d->files);

    reviews_clear(&d->reviews);
    store_close(&d->store);
    timer_cancel(c->loop, &d->reopen);
    task_cancel(&d->run);
    while (map_next(&it)) {
        file_free(it.value);
    }
    dir_stop(d);
    map_clear(&d->files);
    map_clear(&d->folders);
    map_clear(&d->owners);
    loop_free_later(c->loop, &d->grave, dir_bury);
}

static void dir_review(struct cluster *c, struct token_review *r, struct bytes token,
                       const char *audience)
{
    reviews_ask(&dir_of(c)->reviews, c, r, token, audience);
}

static const struct cluster_ops dir_ops = {
    .close = dir_close,
    .put = dir_put,
    .remove = dir_remove,
    .review = dir_review,
    .review_cancel = reviews_cancel,
};

int cluster_open_dir(struct loop *l, const char *path, struct cluster **out)
{
    struct dir *d = mem_new(sizeof(*d));
    int err;

    store_init(&d->store, l, &dir_ops);
    d->inotify.fd = -1;
    d->root_fd = -1;
    d->run.run = dir_run;
    d->reopen.run = dir_reopen;
    d->root = mem_strdup(path);
    list_init(&d->dirty);
    list_init(&d->to_scan);
    map_init(&d->files);
    map_init(&d->folders);
    map_init(&d->owners);
    reviews_init(&d->reviews, l, mem_printf("%s/../token.key", path));
    err = dir_start(d);
    if (err != 0) {
        dir_close(&d->store.cluster);
        return err;
    }
    *out = &d->store.cluster;
    return 0;
}
