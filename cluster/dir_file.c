/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"
#include "text/yaml.h"

/* A file closed after writing may be written again at once (editors, cp -a). A file moved away or
 * deleted comes back at once when an editor or git replaces it. A rename onto the name waits for
 * nothing, nor does the deletion of a file that a cluster_put() of any process wrote. */
#define SETTLE_NS (20 * NS_PER_MS)
#define LOST_NS   (100 * NS_PER_MS)

/* --- which files --------------------------------------------------------------------------------- */

/* Hidden files are those of editors (.x.swp, .#x) and our own temporary ones; other backups (x~, x.bak,
 * #x#, 4913) fail the test of the ending. */
bool file_is_wanted(const char *name)
{
    struct bytes b = bytes_str(name);

    return b.len > 0 && name[0] != '.' && name[0] != '#' &&
           (bytes_ends(b, BYTES(".yaml")) || bytes_ends(b, BYTES(".yml")) ||
            bytes_ends(b, BYTES(".json")));
}

struct dir_file *file_find(struct dir *d, const char *path)
{
    return map_get(&d->files, bytes_str(path));
}

static void file_settled(struct timer *t);

struct dir_file *file_need(struct dir *d, const char *path)
{
    struct dir_file *f = file_find(d, path);

    if (f != NULL) {
        return f;
    }
    if (map_count(&d->files) >= DIR_FILES_MAX) {
        if (!d->is_full) {
            char text[DIR_PROBLEM_BYTES];

            d->is_full = true;
            (void)snprintf(text, sizeof(text),
                           "%s: more than %d files; %s and further ones are left out", d->root,
                           DIR_FILES_MAX, path);
            store_problem(&d->store, text);
        }
        return NULL;
    }
    f = mem_new(sizeof(*f));
    f->dir = d;
    f->path = mem_strdup(path);
    f->settle.run = file_settled;
    (void)map_put(&d->files, bytes_str(path), f);
    return f;
}

void file_free(struct dir_file *f)
{
    struct dir *d = f->dir;

    if (f->counts_for_scan) {
        d->scan_files--;
    }
    (void)map_remove(&d->files, bytes_str(f->path));
    timer_cancel(d->store.cluster.loop, &f->settle);
    list_unlink(&f->node);
    entries_clear(&f->entries);
    mem_free(f->problem);
    mem_free(f->path);
    mem_free(f);
}

/* --- when it is read ----------------------------------------------------------------------------- */

void file_changed(struct dir_file *f)
{
    timer_cancel(f->dir->store.cluster.loop, &f->settle);
    f->is_missing = false;
    f->is_open = false;
    if (!list_is_linked(&f->node)) {
        list_append(&f->dir->dirty, &f->node);
    }
    dir_wake(f->dir);
}

/* The first of several changes starts the wait, so a file that never rests is read all the same. */
static void file_settle(struct dir_file *f, uint64_t wait_ns)
{
    if (!timer_is_armed(&f->settle)) {
        timer_arm_in(f->dir->store.cluster.loop, &f->settle, wait_ns);
    }
}

void file_written(struct dir_file *f)
{
    f->is_missing = false;
    f->is_open = false;
    file_settle(f, SETTLE_NS);
}

void file_opened(struct dir_file *f)
{
    f->is_missing = false;
    f->is_open = true;
    file_settle(f, SETTLE_NS);
}

static void file_leave_scan(struct dir_file *f)
{
    if (f->counts_for_scan) {
        f->counts_for_scan = false;
        f->dir->scan_files--;
        dir_wake(f->dir);
    }
}

void file_lost(struct dir_file *f, bool now)
{
    list_unlink(&f->node);
    file_leave_scan(f);
    timer_cancel(f->dir->store.cluster.loop, &f->settle);
    f->is_open = false;
    f->is_missing = true;
    if (now) {
        file_forget(f);
    } else {
        file_settle(f, LOST_NS);
    }
}

/* A link to the file appears complete and is never closed. */
static bool file_is_link(const struct dir_file *f)
{
    struct stat st;

    return fstatat(f->dir->root_fd, f->path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           (S_ISLNK(st.st_mode) || st.st_nlink > 1);
}

static void file_settled(struct timer *t)
{
    struct dir_file *f = CONTAINER_OF(t, struct dir_file, settle);

    if (f->is_missing) {
        file_forget(f);
    } else if (!f->is_open || file_is_link(f)) {
        file_changed(f);
    } else {
        file_leave_scan(f); /* its close will come, and nobody need wait for that */
    }
}

/* --- who owns what ------------------------------------------------------------------------------- */

/* One byte for the kind, then "ns/name". */
static struct bytes owner_key(const struct object *o, char to[OBJECT_KEY_BYTES + 1])
{
    static_assert(KIND_COUNT < 128, "a kind fits into one character");
    struct bytes key = object_key(o->ns, o->name, to + 1);

    to[0] = (char)o->kind;
    return bytes_of(to, key.len + 1);
}

struct dir_entry *file_owner(const struct dir *d, const struct object *o)
{
    char key[OBJECT_KEY_BYTES + 1];

    return map_get(&d->owners, owner_key(o, key));
}

static int entry_own(struct dir *d, struct dir_entry *e)
{
    char key[OBJECT_KEY_BYTES + 1];

    object_ref(e->object);
    TRY(store_upsert(&d->store, e->object));
    e->is_owner = true;
    (void)map_put(&d->owners, owner_key(e->object, key), e);
    return 0;
}

/* Shadows of objects that nobody owns, by key; of several the one whose path sorts first, so that all
 * processes choose the same. */
static void shadows_find(struct dir *d, const struct dir_file *not_in, struct map *out)
{
    struct map_iter it = MAP_ITER(&d->files);
    char key[OBJECT_KEY_BYTES + 1];

    while (map_next(&it)) {
        struct dir_file *f = it.value;

        for (size_t i = 0; f != not_in && !f->is_missing && i < f->entries.count; i++) {
            struct dir_entry *e = &f->entries.at[i];
            struct dir_entry *other;

            if (e->is_owner || file_owner(d, e->object) != NULL) {
                continue;
            }
            other = map_get(out, owner_key(e->object, key));
            if (other == NULL || strcmp(f->path, other->file->path) < 0) {
                (void)map_put(out, owner_key(e->object, key), e);
            }
        }
    }
}

/* Nobody owns `o` any more: its shadow steps in, or it vanishes. */
static void object_orphaned(struct dir *d, const struct object *o, const struct map *shadows)
{
    char key[OBJECT_KEY_BYTES + 1];
    struct dir_entry *shadow = map_get(shadows, owner_key(o, key));

    if (shadow == NULL || entry_own(d, shadow) != 0) {
        store_remove(&d->store, o->kind, o->ns, o->name);
        return;
    }
    d->shadows_count--;
    log_info("%s %s/%s is now that of %s, as %s has it no longer", kind_info(o->kind)->name, o->ns,
             o->name, shadow->object->source, o->source);
}

/* The file lets go of what it owns among `entries`, which are freed. */
static void entries_disown(struct dir_file *f, struct dir_entries *entries)
{
    struct dir *d = f->dir;
    size_t kept = 0;
    struct map shadows;

    for (size_t i = 0; i < entries->count; i++) {
        struct dir_entry *e = &entries->at[i];
        char key[OBJECT_KEY_BYTES + 1];

        if (e->is_owner) {
            (void)map_remove(&d->owners, owner_key(e->object, key));
            e->is_owner = false;
            entries->at[kept++].object = e->object; /* kept <= i: the orphans move to the front */
        } else {
            d->shadows_count--;
            object_unref(e->object);
        }
    }
    entries->count = kept;
    map_init(&shadows);
    if (kept > 0 && d->shadows_count > 0) {
        shadows_find(d, f, &shadows);
    }
    for (size_t i = 0; i < kept; i++) {
        object_orphaned(d, entries->at[i].object, &shadows);
    }
    map_clear(&shadows);
    entries_clear(entries);
}

/* --- what is wrong with it ------------------------------------------------------------------------ */

/* Said once: the same again is not news. NULL: nothing is wrong. */
static void file_complain(struct dir_file *f, const char *text)
{
    if (text != NULL && (f->problem == NULL || strcmp(f->problem, text) != 0)) {
        store_problem(&f->dir->store, text);
    }
    mem_free(f->problem);
    f->problem = text != NULL ? mem_strdup(text) : NULL;
}

struct conflicts {
    char text[DIR_PROBLEM_BYTES];
    size_t count;
};

static void conflict_note(struct conflicts *c, const struct object *o, const struct object *owner)
{
    if (c->count++ > 0) {
        return;
    }
    (void)snprintf(c->text, sizeof(c->text), "%s: %s %s%s%s is %s%s", o->source,
                   kind_info(o->kind)->name, o->ns, o->ns[0] != '\0' ? "/" : "", o->name,
                   owner != NULL ? "also defined, and stays as it is, at "
                                 : "left out: too many objects",
                   owner != NULL ? owner->source : "");
}

static void conflicts_tell(struct dir_file *f, struct conflicts *c)
{
    size_t len = strlen(c->text);

    if (c->count > 1) {
        (void)snprintf(c->text + len, sizeof(c->text) - len, " (and %zu more of this file)",
                       c->count - 1);
    }
    file_complain(f, c->count > 0 ? c->text : NULL);
}

/* --- applying what was read ----------------------------------------------------------------------- */

static void entry_apply(struct dir *d, struct dir_entry *e, const struct dir_entries *former,
                        struct conflicts *conflicts)
{
    struct dir_entry *owner = file_owner(d, e->object);
    bool is_former = owner != NULL && former->count > 0 && owner >= former->at &&
                     owner < former->at + former->count;

    if (owner != NULL && !is_former && !owner->file->is_missing) {
        d->shadows_count++;
        conflict_note(conflicts, e->object, owner->object);
        return;
    }
    if (entry_own(d, e) != 0) {
        d->shadows_count++; /* it has no owner, so it counts as one */
        conflict_note(conflicts, e->object, NULL);
    } else if (owner != NULL) {
        owner->is_owner = false;
        d->shadows_count++; /* until its file is read or forgotten */
    }
}

void file_apply(struct dir_file *f, struct dir_entries entries)
{
    struct dir *d = f->dir;
    struct dir_entries former = f->entries;
    struct conflicts conflicts = {.count = 0};

    for (size_t i = 0; i < entries.count; i++) {
        entries.at[i].file = f;
        entry_apply(d, &entries.at[i], &former, &conflicts);
    }
    f->entries = entries;
    entries_disown(f, &former);
    conflicts_tell(f, &conflicts);
}

void file_forget(struct dir_file *f)
{
    entries_disown(f, &f->entries);
    file_free(f);
}

/* --- reading ------------------------------------------------------------------------------------- */

static int read_open(int fd, struct text *out)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return E_UNSUPPORTED;
    }
    for (;;) {
        char buffer[16384];
        ssize_t n = read(fd, buffer, sizeof(buffer));

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            return out->err;
        }
        text_add(out, bytes_of(buffer, n > 0 ? (size_t)n : 0));
        if (out->err != 0) {
            return out->err;
        }
    }
}

/* Not blocked by a FIFO that somebody called x.yaml. */
static int read_file(const struct dir_file *f, struct text *out)
{
    int fd = openat(f->dir->root_fd, f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int err;

    if (fd < 0) {
        return -errno;
    }
    err = read_open(fd, out);
    (void)close(fd);
    return err;
}

/* A text that is wrong may be half written by somebody whose events are still to come: it is read a
 * second time before anything is said. */
static bool file_doubt(struct dir_file *f)
{
    f->is_doubted = !f->is_doubted;
    if (f->is_doubted) {
        file_settle(f, SETTLE_NS);
    }
    return f->is_doubted;
}

/* False when it is to be read again. */
static bool file_read(struct dir_file *f)
{
    struct dir_entries entries = {0};
    char problem[DIR_PROBLEM_BYTES];
    struct text text;
    int err;

    text_init(&text, YAML_BYTES_MAX);
    err = read_file(f, &text);
    if (err == -ENOENT || err == -ENOTDIR) {
        text_clear(&text);
        if (!f->is_missing) {
            file_lost(f, f->entries.count == 0);
        }
        return false; /* `f` may be gone */
    }
    if (err == 0) {
        err = parse_objects(f->path, text_bytes(&text), &entries, problem, sizeof(problem));
    } else {
        (void)snprintf(problem, sizeof(problem), "%s: cannot be read: %s", f->path,
                       err == E_UNSUPPORTED ? "it is not a regular file"
                       : err == E_LIMIT     ? "it is too large"
                                            : err_text(err));
    }
    text_clear(&text);
    if (err != 0 && file_doubt(f)) {
        return false;
    }
    if (err != 0) {
        file_complain(f, problem);
    } else {
        f->is_doubted = false;
        file_apply(f, entries);
    }
    return true;
}

void file_read_next(struct dir *d)
{
    struct list *node = list_pop(&d->dirty);
    struct dir_file *f;

    if (node != NULL) {
        f = LIST_ITEM(node, struct dir_file, node);
        if (file_read(f)) {
            file_leave_scan(f);
        }
    }
}
