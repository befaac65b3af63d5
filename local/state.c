/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/file.h"
#include "core/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The state folder of a home: taken with a lock, emptied of what a killed one left, removed at the end.
 *
 * Only its owner may look inside: it holds keys, tokens and Secrets, and a socket over which programs
 * are run. Pods see their parts of it by way of mounts.
 */
#define TREE_DEPTH_MAX 256
#define NOTE_BYTES_MAX (1u << 20)
#define LOCK_TRIES     100
#define DEFAULT_PARENT "/tulle"

/* --- files --------------------------------------------------------------------------------------- */

int tree_make(const char *path)
{
    char copy[HOME_PATH_MAX];
    int n = snprintf(copy, sizeof(copy), "%s", path);

    if (n <= 0 || (size_t)n >= sizeof(copy)) {
        return -ENAMETOOLONG;
    }
    for (char *p = copy + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            int why = mkdir(copy, 0755) == 0 ? 0 : errno; /* access() has one of its own */

            if (why != 0 && why != EEXIST && access(copy, F_OK) != 0) {
                return -why;
            }
            *p = '/';
        }
    }
    return mkdir(copy, 0755) == 0 || errno == EEXIST ? 0 : -errno;
}

static void remove_at(int parent, const char *name, unsigned depth)
{
    struct dirent *entry;
    DIR *list;
    int fd;

    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        return;
    }
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES &&
        fchmodat(parent, name, 0700, 0) == 0) { /* closed by its owner, who is us */
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    list = fd >= 0 ? fdopendir(fd) : NULL;
    if (list == NULL && fd >= 0) {
        (void)close(fd);
    }
    while (list != NULL && depth < TREE_DEPTH_MAX && (entry = readdir(list)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            remove_at(fd, entry->d_name, depth + 1);
        }
    }
    if (list != NULL) {
        (void)closedir(list);
    }
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

void tree_remove(const char *path)
{
    remove_at(AT_FDCWD, path, 0);
}

int file_write(const char *path, struct bytes content, unsigned mode)
{
    char fresh[HOME_PATH_MAX];
    ssize_t done = 0;
    int fd, rc = 0;
    int n = snprintf(fresh, sizeof(fresh), "%s.new~", path);

    if (n < 0 || (size_t)n >= sizeof(fresh)) {
        return -ENAMETOOLONG;
    }
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        return -errno;
    }
    if (fchmod(fd, mode) != 0) {
        rc = -errno;
    }
    if (rc == 0 && content.len > 0) {
        done = write(fd, content.at, content.len);
        rc = done < 0 ? -errno : (size_t)done < content.len ? -ENOSPC : 0;
    }
    if (close(fd) != 0 && rc == 0) {
        rc = -errno;
    }
    if (rc == 0 && rename(fresh, path) != 0) {
        rc = -errno;
    }
    if (rc != 0) {
        (void)unlink(fresh);
    }
    return rc;
}

/* --- the lock ------------------------------------------------------------------------------------ */

static void file_in(const char *home, const char *name, char to[HOME_PATH_MAX])
{
    (void)snprintf(to, HOME_PATH_MAX, "%.3700s/%s", home, name);
}

/* Is the locked file still the one in the folder? Whoever ended before us unlinked it with the lock held. */
static bool is_in_place(int fd, const char *path)
{
    struct stat ours, there;

    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

static int lock(const char *path, int *out_fd)
{
    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0) {
            return -errno;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int rc = errno == EWOULDBLOCK ? E_EXISTS : -errno;

            (void)close(fd);
            return rc;
        }
        if (is_in_place(fd, path)) {
            *out_fd = fd;
            return 0;
        }
        (void)close(fd);
    }
    return -EAGAIN;
}

static int take_lock(const char *home, int *out_fd, char *problem, size_t problem_bytes)
{
    char path[HOME_PATH_MAX];
    int rc = tree_make(home);

    file_in(home, "lock", path);
    if (rc == 0) {
        rc = lock(path, out_fd);
    }
    if (rc == E_EXISTS) {
        (void)snprintf(
            problem, problem_bytes,
            "a home runs at %s already; `tulle local down` ends it, --home NAME makes another",
            home);
    } else if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "the state folder %s cannot be used: %s", home,
                       err_text(rc));
    }
    return rc;
}

/* --- what is in it ------------------------------------------------------------------------------- */

static void remove_parts(const char *home, bool keep_identity)
{
    static const char *const parts[] = {
        "run",       "cluster",   "pods",      "prometheus",     "logs",    "net",
        "manifests", "token.key", "home.json", "supervisor.log", "identity"};
    char path[HOME_PATH_MAX];

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!keep_identity || strcmp(parts[i], "identity") != 0) {
            file_in(home, parts[i], path);
            tree_remove(path);
        }
    }
}

/* The folder itself, and the one above it when that is ours by its name and empty now. */
static void remove_folder(const char *home)
{
    char parent[HOME_PATH_MAX], *slash;

    (void)rmdir(home);
    (void)snprintf(parent, sizeof(parent), "%s", home);
    slash = strrchr(parent, '/');
    if (slash != NULL) {
        *slash = '\0';
        if (bytes_ends(bytes_str(parent), BYTES(DEFAULT_PARENT))) {
            (void)rmdir(parent);
        }
    }
}

static int make_parts(const struct home *h, char *problem, size_t problem_bytes)
{
    static const char *const parts[] = {"run", "cluster", "pods", "logs", "net", "manifests"};
    char path[HOME_PATH_MAX];
    int rc = chmod(h->path, 0700) == 0 ? 0 : -errno;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(parts); i++) {
        file_in(h->path, parts[i], path);
        rc = tree_make(path);
    }
    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "the state folder %s cannot be used: %s", h->path,
                       err_text(rc));
    }
    return rc;
}

int state_open(struct home *h, char *problem, size_t problem_bytes)
{
    TRY(take_lock(h->path, &h->lock_fd, problem, problem_bytes));
    remove_parts(h->path, true);
    return make_parts(h, problem, problem_bytes);
}

void state_close(struct home *h)
{
    char path[HOME_PATH_MAX];

    if (h->lock_fd < 0) {
        return;
    }
    file_in(h->path, "lock", path);
    /* A folder that was removed under us may be somebody else's home by now. */
    if (is_in_place(h->lock_fd, path) || access(path, F_OK) != 0) {
        remove_parts(h->path, h->options->keep_identity);
        (void)unlink(path);
        remove_folder(h->path);
    }
    (void)close(h->lock_fd);
    h->lock_fd = -1;
}

int state_note(const struct home *h)
{
    const struct home_options *o = h->options;
    json_t *manifests = json_array(), *note, *published = json_object();
    char path[HOME_PATH_MAX], now[32], *text;
    int rc;

    for (size_t i = 0; i < o->manifests_count; i++) {
        json_array_append_new(manifests, json_string(o->manifests[i]));
    }
    clock_format_rfc3339(clock_wall_ns(), now);
    service_published(h, published);
    note = json_pack("{s:s, s:i, s:s, s:s, s:o, s:o, s:b}", "version", TULLE_VERSION, "pid",
                     (int)getpid(), "started", now, "folder", h->cwd, "manifests", manifests,
                     "published", published, "keep_identity", o->keep_identity);
    text = note != NULL ? json_dumps(note, JSON_INDENT(1)) : NULL;
    file_in(h->path, "home.json", path);
    rc = text != NULL ? file_write(path, bytes_str(text), 0600) : E_JSON;
    mem_free(text);
    json_decref(note);
    return rc;
}

static bool keeps_identity(const char *home)
{
    char path[HOME_PATH_MAX], *text = NULL;
    bool keeps = false;
    size_t len = 0;

    file_in(home, "home.json", path);
    if (file_read(path, NOTE_BYTES_MAX, &text, &len) == 0) {
        json_t *note = json_loads(text, 0, NULL);

        keeps = json_is_true(json_object_get(note, "keep_identity"));
        json_decref(note);
        mem_free(text);
    }
    return keeps;
}

int home_sweep(const char *path, char *problem, size_t problem_bytes)
{
    char lock_path[HOME_PATH_MAX];
    int fd = -1;

    file_in(path, "lock", lock_path);
    if (access(lock_path, F_OK) != 0 && errno != EACCES) {
        return E_NOT_FOUND;
    }
    TRY(take_lock(path, &fd, problem, problem_bytes));
    remove_parts(path, keeps_identity(path));
    (void)unlink(lock_path);
    remove_folder(path);
    (void)close(fd);
    return 0;
}

/* --- somebody removes it ------------------------------------------------------------------------- */

static bool is_the_end(const struct inotify_event *e)
{
    return (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0 ||
           (e->len > 0 && (strcmp(e->name, "lock") == 0 || strcmp(e->name, "cluster") == 0 ||
                           strcmp(e->name, "run") == 0));
}

static void folder_run(struct task *t)
{
    struct home *h = CONTAINER_OF(t, struct home, folder_task);
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;

    while ((n = read(h->folder.fd, events, sizeof(events))) > 0) {
        for (char *at = events; at < events + n;) {
            const struct inotify_event *e = (const struct inotify_event *)(const void *)at;

            at += sizeof(*e) + e->len;
            if (is_the_end(e) && !h->is_stopping) {
                log_error("the state folder is being removed: the home ends; path=%s", h->path);
                home_stop(h);
            }
        }
    }
    h->folder.ready = 0;
}

int state_watch(struct home *h)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), rc;

    if (fd < 0) {
        return -errno;
    }
    h->folder_task.run = folder_run;
    rc = inotify_add_watch(fd, h->path, IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF) <
                 0
             ? -errno
             : 0;
    if (rc == 0) {
        rc = watch_open(&h->folder, &h->loop, fd, &h->folder_task);
    }
    if (rc != 0) {
        (void)close(fd);
    }
    return rc;
}
