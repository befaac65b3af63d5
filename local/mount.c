/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Mounting volumes in a child's own mount namespace, without leaving a trace on the machine's disk.
 *
 * A mount point that does not exist cannot be made where it belongs: it would stay. Instead its
 * deepest existing folder is *mirrored*: a tmpfs takes its place, every entry of the folder is bound
 * into it again, and the mount point is made in the tmpfs. All of it is gone with the namespace.
 */
#define MIRROR_ENTRIES_MAX 4096

static int bind_to(const char *from, const char *to)
{
    return mount(from, to, NULL, MS_BIND | MS_REC, NULL) == 0 ? 0 : -errno;
}

/* One entry of the mirrored folder, by way of a descriptor of the folder that the tmpfs now covers. */
static int mirror_entry(int old_fd, const char *dir, const char *name)
{
    char from[PATH_MAX], to[PATH_MAX], link[PATH_MAX];
    struct stat st;
    ssize_t n;
    int fd, rc;

    (void)snprintf(from, sizeof(from), "/proc/self/fd/%d/%.255s", old_fd, name);
    (void)snprintf(to, sizeof(to), "%.3000s/%.255s", strcmp(dir, "/") == 0 ? "" : dir, name);
    if (fstatat(old_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return 0; /* gone in the meantime */
    }
    if (S_ISLNK(st.st_mode)) {
        n = readlinkat(old_fd, name, link, sizeof(link) - 1);
        if (n < 0) {
            return -errno;
        }
        link[n] = '\0';
        return symlink(link, to) == 0 ? 0 : -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        if (mkdir(to, st.st_mode & 07777) != 0) {
            return -errno;
        }
    } else {
        fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            return -errno;
        }
        (void)close(fd);
    }
    rc = bind_to(from, to);
    return rc == -ENOENT ? 0 : rc; /* gone in the meantime */
}

static int mirror(const char *dir)
{
    struct dirent *entry;
    struct stat st;
    unsigned count = 0;
    int old_fd, rc = 0;
    DIR *list;

    old_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (old_fd < 0 || fstat(old_fd, &st) != 0) {
        return -errno;
    }
    if (mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0) {
        rc = -errno;
        (void)close(old_fd);
        return rc;
    }
    (void)!chown(dir, st.st_uid, st.st_gid);
    (void)chmod(dir, st.st_mode & 07777);
    list = fdopendir(dup(old_fd));
    while (rc == 0 && list != NULL && (entry = readdir(list)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = ++count > MIRROR_ENTRIES_MAX ? E_LIMIT : mirror_entry(old_fd, dir, entry->d_name);
        }
    }
    if (list != NULL) {
        (void)closedir(list);
    }
    (void)close(old_fd);
    return rc;
}

/* The deepest folder on the way to `path` that exists; its real name, free of links. */
static int existing_parent(const char *path, char real[PATH_MAX], const char **out_rest)
{
    char copy[PATH_MAX];
    size_t len = strlen(path);

    if (len >= sizeof(copy)) {
        return -ENAMETOOLONG;
    }
    for (;;) {
        memcpy(copy, path, len);
        copy[len] = '\0';
        if (realpath(len > 0 ? copy : "/", real) != NULL) {
            break;
        }
        if (errno != ENOENT && errno != ENOTDIR) {
            return -errno;
        }
        while (len > 0 && copy[len - 1] != '/') {
            len--;
        }
        len -= len > 0; /* the slash */
    }
    *out_rest = path + len;
    while (**out_rest == '/') {
        (*out_rest)++;
    }
    return 0;
}

/* Make `path` exist as a folder (or, for a subPath of a file, as a file) without touching the disk. */
static int make_mount_point(const char *path, bool is_file, char real[PATH_MAX])
{
    const char *rest = "";
    char full[PATH_MAX], *slash;
    int rc = existing_parent(path, real, &rest), fd;

    if (rc != 0 || *rest == '\0') {
        return rc;
    }
    if (strcmp(real, "/") == 0) {
        return -EROFS; /* validated before: desired.c asks for another place */
    }
    rc = mirror(real);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(full, sizeof(full), "%.2000s/%.2000s", real, rest);
    if (is_file) {
        slash = strrchr(full, '/');
        *slash = '\0';
        rc = tree_make(full);
        *slash = '/';
        fd = rc == 0 ? open(full, O_WRONLY | O_CREAT | O_CLOEXEC, 0644) : -1;
        rc = fd < 0 ? (rc != 0 ? rc : -errno) : close(fd);
    } else {
        rc = tree_make(full);
    }
    memcpy(real, full, sizeof(full));
    return rc;
}

/* What a mount and all below it shall be: read-only or not. */
static int set_readonly(const char *path, bool is_readonly, bool below)
{
    struct mount_attr attr = {0};

    *(is_readonly ? &attr.attr_set : &attr.attr_clr) = MOUNT_ATTR_RDONLY;
    return mount_setattr(AT_FDCWD, path, below ? AT_RECURSIVE : 0, &attr, sizeof(attr)) == 0
               ? 0
               : -errno;
}

/* readOnlyRootFilesystem: as in a container, what the kernel shows stays as it is. */
static int close_root(void)
{
    static const char *const open_ones[] = {"/dev", "/proc", "/sys"};

    TRY(set_readonly("/", true, true));
    for (size_t i = 0; i < ARRAY_LEN(open_ones); i++) {
        (void)set_readonly(open_ones[i], false, true); /* one that was read-only before stays so */
    }
    return 0;
}

static void source_of(const struct container *c, const json_t *mount_spec, char to[PATH_MAX])
{
    const char *name = json_text(mount_spec, "name"), *sub = json_text(mount_spec, "subPath");
    char dir[HOME_PATH_MAX];

    (void)snprintf(to, PATH_MAX, "%.3000s/volumes/%.255s%s%.500s", pod_dir(c->pod, dir), name,
                   sub != NULL ? "/" : "", sub != NULL ? sub : "");
}

/* As in Kubernetes: only an emptyDir can be written to. */
static bool is_writable(const struct container *c, const json_t *mount_spec)
{
    const char *name = json_text(mount_spec, "name");
    const json_t *volume;
    size_t i;

    json_array_foreach(json_at(c->pod->json, "spec.volumes"), i, volume)
    {
        const char *here = json_text(volume, "name");

        if (here != NULL && name != NULL && strcmp(here, name) == 0) {
            return json_object_get(volume, "emptyDir") != NULL &&
                   !json_is_true(json_object_get(mount_spec, "readOnly"));
        }
    }
    return false;
}

static int mount_one(const struct container *c, const json_t *mount_spec)
{
    char from[PATH_MAX], real[PATH_MAX];
    struct stat st;
    int rc;

    source_of(c, mount_spec, from);
    if (stat(from, &st) != 0) {
        return -errno;
    }
    rc = make_mount_point(json_text(mount_spec, "mountPath"), !S_ISDIR(st.st_mode), real);
    if (rc == 0) {
        rc = bind_to(from, real);
    }
    if (rc == 0) {
        rc = set_readonly(real, !is_writable(c, mount_spec), false);
    }
    return rc;
}

int mounts_apply(const struct container *c, const char **out_what)
{
    const json_t *mounts = json_object_get(c->spec, "volumeMounts"), *item;
    char from[PATH_MAX];
    size_t i;

    json_array_foreach(mounts, i, item)
    { /* while the state folder can still be written to */
        *out_what = json_text(item, "mountPath");
        if (*out_what == NULL || json_text(item, "name") == NULL) {
            return -EINVAL;
        }
        source_of(c, item, from);
        if (json_text(item, "subPath") != NULL && access(from, F_OK) != 0) {
            TRY(tree_make(from));
        }
    }
    if (json_flag(c->spec, "securityContext.readOnlyRootFilesystem", false)) {
        *out_what = "the file system read-only";
        TRY(close_root());
    }
    json_array_foreach(mounts, i, item)
    {
        *out_what = json_text(item, "mountPath");
        TRY(mount_one(c, item));
    }
    return 0;
}
