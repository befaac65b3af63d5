/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "api/names.h"
#include "core/alloc.h"
#include "core/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The volumes of a pod, as folders of its state folder: emptyDir, configMap, secret, and projected service-account
 * tokens and downward API.
 */
#define TREE_DEPTH_MAX 64
#define TOKEN_LIFE_S   86400u

/* --- files of the state folder ------------------------------------------------------------------- */

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
            if (mkdir(copy, 0755) != 0 && errno != EEXIST) {
                return -errno;
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
    list = fd >= 0 ? fdopendir(fd) : NULL;
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

    (void)snprintf(fresh, sizeof(fresh), "%.3700s.new~", path);
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
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

/* --- what volumes hold --------------------------------------------------------------------------- */

static int write_in(const char *dir, const char *name, struct bytes content)
{
    char path[HOME_PATH_MAX], *slash;

    (void)snprintf(path, sizeof(path), "%.3400s/%.300s", dir, name);
    slash = strrchr(path, '/');
    *slash = '\0';
    TRY(tree_make(path));
    *slash = '/';
    return file_write(path, content, 0644);
}

static int write_item(const struct object *o, const char *dir, const char *key, const char *name)
{
    bool is_secret = o->kind == KIND_SECRET;
    const char *value = json_string_value(
        json_object_get(json_object_get(o->json, is_secret ? "stringData" : "data"), key));
    struct text decoded;
    int rc;

    if (value != NULL) {
        return write_in(dir, name, bytes_str(value));
    }
    value = json_string_value(
        json_object_get(json_object_get(o->json, is_secret ? "data" : "binaryData"), key));
    if (value == NULL) {
        return E_NOT_FOUND;
    }
    text_init(&decoded, 4u << 20);
    rc = secret_decode(value, &decoded);
    if (rc == 0) {
        rc = write_in(dir, name, text_bytes(&decoded));
    }
    text_clear(&decoded);
    return rc;
}

/* All keys, or those of `items`, of a ConfigMap or Secret. */
static int write_object(struct pod *p, enum kind kind, const char *name, const json_t *source,
                        const char *dir, char *problem, size_t problem_bytes)
{
    static const char *const maps[] = {"data", "stringData", "binaryData"};
    const struct object *o = cluster_get(p->home->cluster, kind, p->ns, name != NULL ? name : "");
    const json_t *items = json_object_get(source, "items"), *item;
    const char *key;
    json_t *value;
    size_t i;

    if (o == NULL) {
        if (json_is_true(json_object_get(source, "optional"))) {
            return 0;
        }
        (void)snprintf(problem, problem_bytes,
                       "its volume needs the %s \"%s\", which does not exist in namespace %s",
                       kind_info(kind)->name, name != NULL ? name : "", p->ns);
        return E_NOT_FOUND;
    }
    json_array_foreach(items, i, item)
    {
        const char *path = json_text(item, "path");

        TRY(write_item(o, dir, json_text(item, "key"), path != NULL ? path : ""));
    }
    for (size_t m = 0; items == NULL && m < ARRAY_LEN(maps); m++) {
        json_object_foreach(json_object_get(o->json, maps[m]), key, value)
        {
            TRY(write_item(o, dir, key, key));
        }
    }
    return 0;
}

static int write_token(struct pod *p, const json_t *source, const char *dir)
{
    char key_path[HOME_PATH_MAX + 16], *token = NULL;
    const char *audience = json_text(source, "audience"), *path = json_text(source, "path");
    const char *sa = json_text(p->json, "spec.serviceAccountName");
    int rc;

    (void)snprintf(key_path, sizeof(key_path), "%s/token.key", p->home->path);
    rc = token_mint(key_path, p->ns, sa != NULL ? sa : "default",
                    audience != NULL ? audience : "kubernetes.default.svc", TOKEN_LIFE_S, &token);
    if (rc == 0) {
        rc = write_in(dir, path != NULL ? path : "token", bytes_str(token));
    }
    mem_free(token);
    return rc;
}

static int write_downward(struct pod *p, const json_t *source, const char *dir)
{
    const json_t *item, *map;
    const char *key;
    json_t *value;
    size_t i;

    json_array_foreach(json_object_get(source, "items"), i, item)
    {
        const char *path = json_text(item, "path"), *from = json_text(item, "fieldRef.fieldPath");
        struct text t;
        int rc;

        text_init(&t, 1u << 20);
        map = from != NULL ? json_at(p->json, from) : NULL;
        if (json_is_string(map)) {
            text_str(&t, json_string_value(map));
        }
        if (json_is_object(map)) {
            json_object_foreach((json_t *)(uintptr_t)map, key, value)
            {
                text_printf(&t, "%s=", key);
                text_json(&t, bytes_str(json_string_value(value)));
                text_char(&t, '\n');
            }
        }
        rc = path != NULL ? write_in(dir, path, text_bytes(&t)) : 0;
        text_clear(&t);
        TRY(rc);
    }
    return 0;
}

static int make_projected(struct pod *p, const json_t *volume, const char *dir, bool tokens_only,
                          char *problem, size_t problem_bytes)
{
    const json_t *item, *source;
    size_t i;

    json_array_foreach(json_at(volume, "projected.sources"), i, item)
    {
        if ((source = json_object_get(item, "serviceAccountToken")) != NULL) {
            TRY(write_token(p, source, dir));
        } else if (tokens_only) {
            continue;
        } else if ((source = json_object_get(item, "configMap")) != NULL) {
            TRY(write_object(p, KIND_CONFIG_MAP, json_text(source, "name"), source, dir, problem,
                             problem_bytes));
        } else if ((source = json_object_get(item, "secret")) != NULL) {
            TRY(write_object(p, KIND_SECRET, json_text(source, "name"), source, dir, problem,
                             problem_bytes));
        } else if ((source = json_object_get(item, "downwardAPI")) != NULL) {
            TRY(write_downward(p, source, dir));
        }
    }
    return 0;
}

static int make_volume(struct pod *p, const json_t *volume, char *problem, size_t problem_bytes)
{
    char base[HOME_PATH_MAX], dir[HOME_PATH_MAX];
    const char *name = json_text(volume, "name");
    const json_t *source;

    (void)snprintf(dir, sizeof(dir), "%.3000s/volumes/%.255s", pod_dir(p, base),
                   name != NULL ? name : "");
    TRY(tree_make(dir));
    if (json_object_get(volume, "emptyDir") != NULL) {
        return chmod(dir, 01777) == 0 ? 0 : -errno;
    }
    if ((source = json_object_get(volume, "configMap")) != NULL) {
        return write_object(p, KIND_CONFIG_MAP, json_text(source, "name"), source, dir, problem,
                            problem_bytes);
    }
    if ((source = json_object_get(volume, "secret")) != NULL) {
        return write_object(p, KIND_SECRET, json_text(source, "secretName"), source, dir, problem,
                            problem_bytes);
    }
    if ((source = json_object_get(volume, "downwardAPI")) != NULL) {
        return write_downward(p, source, dir);
    }
    return make_projected(p, volume, dir, false, problem, problem_bytes);
}

int volumes_make(struct pod *p, char *problem, size_t problem_bytes)
{
    const json_t *volume;
    size_t i;

    json_array_foreach(json_at(p->json, "spec.volumes"), i, volume)
    {
        int rc = make_volume(p, volume, problem, problem_bytes);

        if (rc != 0) {
            if (problem[0] == '\0') {
                (void)snprintf(problem, problem_bytes, "its volume \"%s\" cannot be made: %s",
                               json_text(volume, "name"), err_text(rc));
            }
            return rc;
        }
    }
    return 0;
}

int volumes_refresh_tokens(struct pod *p)
{
    char base[HOME_PATH_MAX], dir[HOME_PATH_MAX], problem[64];
    const json_t *volume;
    size_t i;

    json_array_foreach(json_at(p->json, "spec.volumes"), i, volume)
    {
        const char *name = json_text(volume, "name");

        if (name != NULL && json_object_get(volume, "projected") != NULL) {
            (void)snprintf(dir, sizeof(dir), "%.3000s/volumes/%.255s", pod_dir(p, base), name);
            TRY(make_projected(p, volume, dir, true, problem, sizeof(problem)));
        }
    }
    return 0;
}
