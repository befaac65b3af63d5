/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/err.h"
#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The volumes of a pod, as folders of its state folder: emptyDir, configMap, secret, and projected
 * service-account tokens and downward API. What is of this machine's memory never reaches its disk.
 */
#define TOKEN_LIFE_S   86400u
#define FILE_BYTES_MAX (4u << 20)
#define MODE_DEFAULT   0644
#define WRITTEN_MAX    1024 /* files of one volume */

struct making { /* one volume */
    struct pod *pod;
    char dir[HOME_PATH_MAX];
    unsigned mode;
    struct map written; /* names of the files that belong to it, so that others can go */
    bool tokens_only;
    char *problem;
    size_t problem_bytes;
};

/* --- one file ------------------------------------------------------------------------------------ */

/* "a/b", below the volume: neither absolute nor with ".." on the way. */
static bool is_below(const char *name)
{
    struct bytes rest = bytes_str(name), part;
    bool more = rest.len > 0;

    while (more) {
        more = bytes_split(rest, '/', &part, &rest);
        if (part.len == 0 || bytes_eq(part, BYTES("..")) || bytes_eq(part, BYTES("."))) {
            return false;
        }
    }
    return name[0] != '\0';
}

static bool is_same(const char *path, struct bytes content)
{
    char *now = NULL;
    size_t len = 0;
    bool same =
        file_read(path, FILE_BYTES_MAX, &now, &len) == 0 && bytes_eq(bytes_of(now, len), content);

    mem_free(now);
    return same;
}

static int write_in(struct making *m, const char *name, unsigned mode, struct bytes content)
{
    char path[HOME_PATH_MAX], *slash;
    int n = snprintf(path, sizeof(path), "%s/%s", m->dir, name);

    if (!is_below(name) || n < 0 || (size_t)n >= sizeof(path) ||
        map_count(&m->written) == WRITTEN_MAX) {
        (void)snprintf(m->problem, m->problem_bytes,
                       "its volume cannot have a file called \"%.200s\"", name);
        return E_CONFIG;
    }
    (void)map_put(&m->written, bytes_str(name), m);
    if (is_same(path, content)) {
        return chmod(path, mode) == 0 ? 0 : -errno;
    }
    slash = strrchr(path, '/');
    *slash = '\0';
    TRY(tree_make(path));
    *slash = '/';
    return file_write(path, content, mode);
}

/* Files of the volume's folder itself that a ConfigMap or Secret has no longer. */
static void remove_others(const struct making *m)
{
    DIR *list = opendir(m->dir);
    const struct dirent *entry;

    while (list != NULL && (entry = readdir(list)) != NULL) {
        if (entry->d_type == DT_REG && map_get(&m->written, bytes_str(entry->d_name)) == NULL) {
            (void)unlinkat(dirfd(list), entry->d_name, 0);
        }
    }
    if (list != NULL) {
        (void)closedir(list);
    }
}

/* --- ConfigMaps and Secrets ---------------------------------------------------------------------- */

static int write_key(struct making *m, const struct object *o, const char *key, const char *name,
                     unsigned mode)
{
    bool is_secret = o->kind == KIND_SECRET;
    const char *value = json_string_value(
        json_object_get(json_object_get(o->json, is_secret ? "stringData" : "data"), key));
    struct text decoded;
    int rc;

    if (value != NULL) {
        return write_in(m, name, mode, bytes_str(value));
    }
    value = json_string_value(
        json_object_get(json_object_get(o->json, is_secret ? "data" : "binaryData"), key));
    if (value == NULL) {
        (void)snprintf(m->problem, m->problem_bytes,
                       "its volume needs the key \"%s\", which the %s \"%s\" does not have", key,
                       kind_info(o->kind)->name, o->name);
        return E_NOT_FOUND;
    }
    text_init(&decoded, FILE_BYTES_MAX);
    rc = secret_decode(value, &decoded);
    if (rc == 0) {
        rc = write_in(m, name, mode, text_bytes(&decoded));
    } else {
        (void)snprintf(m->problem, m->problem_bytes, "the key \"%s\" of the %s \"%s\" is no base64",
                       key, kind_info(o->kind)->name, o->name);
    }
    explicit_bzero(decoded.at, decoded.at != NULL ? decoded.len : 0);
    text_clear(&decoded);
    return rc;
}

static int write_items(struct making *m, const struct object *o, const json_t *source)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(source, "items"), i, item)
    {
        const char *key = json_text(item, "key"), *path = json_text(item, "path");
        int rc = write_key(m, o, key != NULL ? key : "", path != NULL ? path : "",
                           (unsigned)json_number(item, "mode", m->mode) & 0777);

        if (rc == E_NOT_FOUND && json_is_true(json_object_get(source, "optional"))) {
            continue;
        }
        TRY(rc);
    }
    return 0;
}

/* All keys, or those of `items`, of a ConfigMap or Secret. */
static int write_object(struct making *m, enum kind kind, const char *name, const json_t *source)
{
    static const char *const maps[] = {"data", "stringData", "binaryData"};
    const struct object *o =
        cluster_get(m->pod->home->cluster, kind, m->pod->ns, name != NULL ? name : "");

    if (o == NULL) {
        if (json_is_true(json_object_get(source, "optional"))) {
            return 0;
        }
        (void)snprintf(m->problem, m->problem_bytes,
                       "its volume needs the %s \"%s\", which does not exist in namespace %s",
                       kind_info(kind)->name, name != NULL ? name : "", m->pod->ns);
        return E_NOT_FOUND;
    }
    if (json_object_get(source, "items") != NULL) {
        return write_items(m, o, source);
    }
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        struct json_iter it = JSON_ITER(json_object_get(o->json, maps[i]));

        while (json_next(&it)) {
            TRY(write_key(m, o, it.key, it.key, m->mode));
        }
    }
    return 0;
}

/* --- tokens and the downward API ----------------------------------------------------------------- */

static int write_token(struct making *m, const json_t *source)
{
    const char *path = json_text(source, "path"), *audience = json_text(source, "audience");
    const char *account = json_text(m->pod->json, "spec.serviceAccountName");
    char key_path[HOME_PATH_MAX + 16], *token = NULL;
    int rc;

    (void)snprintf(key_path, sizeof(key_path), "%s/token.key", m->pod->home->path);
    rc = token_mint(key_path, m->pod->ns, account != NULL ? account : "default",
                    audience != NULL ? audience : "kubernetes.default.svc", TOKEN_LIFE_S, &token);
    if (rc == 0) {
        rc = write_in(m, path != NULL ? path : "token", m->mode, bytes_str(token));
        explicit_bzero(token, strlen(token));
    }
    mem_free(token);
    return rc;
}

static int write_field(struct making *m, const json_t *item)
{
    const char *path = json_text(item, "path"), *from = json_text(item, "fieldRef.fieldPath");
    const json_t *value = from != NULL ? json_at(m->pod->json, from) : NULL;
    struct json_iter it = JSON_ITER(value);
    struct text t;
    int rc;

    text_init(&t, FILE_BYTES_MAX);
    if (json_is_string(value)) {
        text_str(&t, json_string_value(value));
    }
    while (json_is_object(value) && json_next(&it)) { /* labels and annotations */
        text_printf(&t, "%s=", it.key);
        text_json(&t, bytes_str(json_string_value(it.value)));
        text_char(&t, '\n');
    }
    rc = write_in(m, path != NULL ? path : "", (unsigned)json_number(item, "mode", m->mode) & 0777,
                  text_bytes(&t));
    text_clear(&t);
    return rc;
}

static int write_downward(struct making *m, const json_t *source)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(source, "items"), i, item)
    {
        TRY(write_field(m, item));
    }
    return 0;
}

static int write_projected(struct making *m, const json_t *projected)
{
    const json_t *item, *source;
    size_t i;

    json_array_foreach(json_object_get(projected, "sources"), i, item)
    {
        if ((source = json_object_get(item, "serviceAccountToken")) != NULL) {
            TRY(write_token(m, source));
        } else if (m->tokens_only) {
            continue;
        } else if ((source = json_object_get(item, "configMap")) != NULL) {
            TRY(write_object(m, KIND_CONFIG_MAP, json_text(source, "name"), source));
        } else if ((source = json_object_get(item, "secret")) != NULL) {
            TRY(write_object(m, KIND_SECRET, json_text(source, "name"), source));
        } else if ((source = json_object_get(item, "downwardAPI")) != NULL) {
            TRY(write_downward(m, source));
        }
    }
    return 0;
}

/* --- one volume ---------------------------------------------------------------------------------- */

static const json_t *source_of(const json_t *volume, const char **out_type)
{
    static const char *const types[] = {"configMap", "secret", "projected", "downwardAPI",
                                        "emptyDir"};
    const json_t *source = NULL;

    *out_type = "";
    for (size_t i = 0; i < ARRAY_LEN(types) && source == NULL; i++) {
        source = json_object_get(volume, types[i]);
        *out_type = source != NULL ? types[i] : "";
    }
    return source;
}

/* What it holds now; with tokens_only no more than the tokens. */
static int fill(struct making *m, const json_t *volume)
{
    const char *type;
    const json_t *source = source_of(volume, &type);

    m->mode = (unsigned)json_number(source, "defaultMode", MODE_DEFAULT) & 0777;
    if (strcmp(type, "projected") == 0) {
        return write_projected(m, source);
    }
    if (m->tokens_only) {
        return 0;
    }
    if (strcmp(type, "configMap") == 0) {
        return write_object(m, KIND_CONFIG_MAP, json_text(source, "name"), source);
    }
    if (strcmp(type, "secret") == 0) {
        return write_object(m, KIND_SECRET, json_text(source, "secretName"), source);
    }
    return strcmp(type, "downwardAPI") == 0 ? write_downward(m, source) : 0;
}

static int volume_refill(struct making *m, const json_t *volume)
{
    const char *type;
    int rc;

    (void)source_of(volume, &type);
    map_init(&m->written);
    rc = fill(m, volume);
    if (rc == 0 && !m->tokens_only && strcmp(type, "emptyDir") != 0) {
        remove_others(m);
    }
    map_clear(&m->written);
    return rc;
}

static void volume_dir(const struct pod *p, const json_t *volume, char to[HOME_PATH_MAX])
{
    const char *name = json_text(volume, "name");
    char base[HOME_PATH_MAX];

    (void)snprintf(to, HOME_PATH_MAX, "%.3000s/volumes/%.255s", pod_dir(p, base),
                   name != NULL ? name : "");
}

static bool is_memory(const json_t *volume)
{
    const char *medium = json_text(volume, "emptyDir.medium");

    return medium != NULL && strcmp(medium, "Memory") == 0;
}

static int volume_make(struct making *m, const json_t *volume)
{
    TRY(tree_make(m->dir));
    /* In the supervisor's mount namespace, which the children copy; it is gone with it, whatever happens. */
    if (is_memory(volume) &&
        mount("tmpfs", m->dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") != 0) {
        return -errno;
    }
    if (json_object_get(volume, "emptyDir") != NULL) {
        return chmod(m->dir, 01777) == 0 ? 0 : -errno;
    }
    return volume_refill(m, volume);
}

/* --- all of a pod -------------------------------------------------------------------------------- */

int volumes_make(struct pod *p, char *problem, size_t problem_bytes)
{
    struct making m = {.pod = p, .problem = problem, .problem_bytes = problem_bytes};
    const json_t *volume;
    size_t i;
    int rc = tree_make(pod_dir(p, m.dir));

    if (rc != 0) {
        (void)snprintf(problem, problem_bytes, "its folder %s cannot be made: %s", m.dir,
                       err_text(rc));
    }
    json_array_foreach(json_at(p->json, "spec.volumes"), i, volume)
    {
        if (rc == 0) {
            volume_dir(p, volume, m.dir);
            rc = volume_make(&m, volume);
        }
        if (rc != 0 && problem[0] == '\0') {
            (void)snprintf(problem, problem_bytes, "its volume \"%s\" cannot be made: %s",
                           json_text(volume, "name"), err_text(rc));
        }
    }
    return rc;
}

void volumes_unmount(struct pod *p)
{
    char dir[HOME_PATH_MAX];
    const json_t *volume;
    size_t i;

    json_array_foreach(json_at(p->json, "spec.volumes"), i, volume)
    {
        if (is_memory(volume)) {
            volume_dir(p, volume, dir);
            (void)umount2(dir, MNT_DETACH);
        }
    }
}

void volumes_remove(struct pod *p)
{
    char dir[HOME_PATH_MAX];

    volumes_unmount(p);
    tree_remove(pod_dir(p, dir));
}

int volumes_refresh(struct pod *p, bool tokens_only)
{
    char problem[512] = "";
    struct making m = {
        .pod = p, .tokens_only = tokens_only, .problem = problem, .problem_bytes = sizeof(problem)};
    const json_t *volume;
    int rc = 0;
    size_t i;

    json_array_foreach(json_at(p->json, "spec.volumes"), i, volume)
    {
        int one;

        volume_dir(p, volume, m.dir);
        one = volume_refill(&m, volume);
        rc = rc != 0 ? rc : one;
    }
    return rc;
}

bool volumes_use(const struct pod *p, const struct object *o)
{
    bool is_secret = o->kind == KIND_SECRET;
    const json_t *volume, *item;
    size_t i, k;

    json_array_foreach(json_at(p->json, "spec.volumes"), i, volume)
    {
        const char *name = json_text(volume, is_secret ? "secret.secretName" : "configMap.name");

        if (name != NULL && strcmp(name, o->name) == 0) {
            return true;
        }
        json_array_foreach(json_at(volume, "projected.sources"), k, item)
        {
            name = json_text(item, is_secret ? "secret.name" : "configMap.name");
            if (name != NULL && strcmp(name, o->name) == 0) {
                return true;
            }
        }
    }
    return false;
}
