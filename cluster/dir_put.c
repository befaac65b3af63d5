/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"

/* Names longer than a file name may be are cut and end with a hash of the whole (FNV-1a, 64 bits). */
static uint64_t name_hash(const char *text)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (; *text != '\0'; text++) {
        h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    }
    return h;
}

void put_file_name(const struct object *o, char to[PUT_NAME_BYTES])
{
    const struct kind_info *kind = kind_info(o->kind);
    char lower[64];
    size_t i;
    AUTOFREE char *name = NULL;

    for (i = 0; kind->name[i] != '\0' && i < sizeof(lower) - 1; i++) {
        char c = kind->name[i];

        lower[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    lower[i] = '\0';
    /* Two groups have an HTTPRoute; "_" stands for no namespace, as no namespace is called so. */
    name = mem_printf("%s%s.%s.%s.json", o->kind == KIND_LINKERD_HTTP_ROUTE ? "linkerd-" : "",
                      lower, o->ns[0] != '\0' ? o->ns : "_", o->name);
    if (snprintf(to, PUT_NAME_BYTES, "%s", name) >= PUT_NAME_BYTES) {
        (void)snprintf(to, PUT_NAME_BYTES, "%.200s-%016llx.json", name,
                       (unsigned long long)name_hash(name));
    }
}

bool put_is_ours(const struct dir_file *f)
{
    char name[PUT_NAME_BYTES];

    if (f->entries.count != 1) {
        return false;
    }
    put_file_name(f->entries.at[0].object, name);
    return strcmp(name, f->path) == 0;
}

static int write_all(int fd, const char *text, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, text + done, len - done);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* The whole file or nothing: a reader sees the former text until the rename, then the new one. The
 * temporary name is hidden, so the source of no process reads it. */
static int write_file(struct dir *d, const char *name, const char *text)
{
    AUTOFREE char *temporary =
        mem_printf(".put-%d-%llu.tmp", (int)getpid(), (unsigned long long)++d->puts);
    int fd =
        openat(d->root_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err;

    if (fd < 0) {
        return -errno;
    }
    err = write_all(fd, text, strlen(text));
    if (close(fd) != 0 && err == 0) {
        err = -errno;
    }
    if (err == 0 && renameat(d->root_fd, temporary, d->root_fd, name) != 0) {
        err = -errno;
    }
    if (err != 0) {
        (void)unlinkat(d->root_fd, temporary, 0);
    }
    return err;
}

/* The file's echo from inotify is read like any other change; it equals the store, so nobody hears of
 * it twice. */
int dir_put(struct cluster *c, struct object *o)
{
    struct dir *d = dir_of(c);
    struct dir_entry *owner = file_owner(d, o);
    struct dir_entries entries = {0};
    struct dir_file *f = NULL;
    struct object *sourced = NULL;
    char name[PUT_NAME_BYTES], problem[256];
    AUTOFREE char *source = NULL;
    char *text = NULL;
    int err = 0;

    put_file_name(o, name);
    if (owner != NULL && !owner->file->is_missing && strcmp(owner->file->path, name) != 0) {
        err = E_EXISTS;
    }
    f = err == 0 ? file_need(d, name) : NULL;
    if (err == 0 && f == NULL) {
        err = E_LIMIT;
    }
    if (err == 0) {
        text = json_dumps(o->json, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
        err = text == NULL ? E_JSON : write_file(d, name, text);
        mem_free(text);
    }
    if (err != 0) {
        if (f != NULL && f->entries.count == 0 && f->problem == NULL && !list_is_linked(&f->node)) {
            file_free(f);
        }
        object_unref(o);
        return err;
    }
    source = mem_printf("%s:1", name);
    err = object_new(json_incref(o->json), source, &sourced, problem, sizeof(problem));
    assert(err == 0); /* the same text passed a moment ago */
    object_unref(o);
    entries.at = mem_new_array(1, sizeof(entries.at[0]));
    entries.at[entries.count++].object = sourced;
    f->is_missing = false;
    file_apply(f, entries);
    return 0;
}

int dir_remove(struct cluster *c, enum kind k, const char *ns, const char *name)
{
    struct dir *d = dir_of(c);
    const struct object *o = cluster_get(c, k, ns, name);
    struct dir_entry *owner = o != NULL ? file_owner(d, o) : NULL;

    if (owner == NULL) {
        return E_NOT_FOUND;
    }
    if (!put_is_ours(owner->file)) {
        return E_EXISTS;
    }
    /* Another process may have been faster. */
    if (unlinkat(d->root_fd, owner->file->path, 0) != 0 && errno != ENOENT) {
        return -errno;
    }
    file_forget(owner->file);
    return 0;
}
