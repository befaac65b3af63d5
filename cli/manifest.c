/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/err.h"
#include "core/file.h"
#include "text/yaml.h"

struct reading {
    struct manifest *first, **next;
    size_t count;
    char *problem;
    size_t problem_bytes;
};

static int fail(struct reading *r, int err, const char *path, const char *why)
{
    (void)snprintf(r->problem, r->problem_bytes, "cannot read %s: %s", path, why);
    return err;
}

static int add(struct reading *r, const char *path, char *memory, size_t bytes)
{
    struct manifest *m;

    if (r->count >= MANIFEST_FILES_MAX) {
        mem_free(memory);
        return fail(r, E_LIMIT, path, "more than 10000 files");
    }
    m = mem_new(sizeof(*m));
    m->path = mem_strdup(path);
    m->memory = memory;
    m->text = bytes_of(memory, bytes);
    *r->next = m;
    r->next = &m->next;
    r->count++;
    return 0;
}

static int read_file(struct reading *r, const char *path)
{
    char *memory;
    size_t bytes;
    int err = file_read(path, YAML_BYTES_MAX, &memory, &bytes);

    if (err == E_LIMIT) {
        return fail(r, err, path, "it is longer than 16 MiB");
    }
    return err != 0 ? fail(r, err, path, err_text(err)) : add(r, path, memory, bytes);
}

static int read_standard_input(struct reading *r)
{
    struct text t;
    char piece[65536], *memory = NULL;
    ssize_t got;
    size_t bytes;
    int err;

    text_init(&t, YAML_BYTES_MAX);
    text_str(&t, ""); /* empty input is a manifest, too */
    do {
        got = read(STDIN_FILENO, piece, sizeof(piece));
        if (got > 0) {
            text_add(&t, bytes_of(piece, (size_t)got));
        }
    } while (got > 0 || (got < 0 && errno == EINTR));
    if (got < 0) {
        err = -errno;
        text_clear(&t);
        return fail(r, err, "standard input", err_text(err));
    }
    bytes = t.len;
    err = text_finish(&t, &memory);
    return err != 0 ? fail(r, err, "standard input", "it is longer than 16 MiB")
                    : add(r, "standard input", memory, bytes);
}

static bool is_manifest(const char *name)
{
    struct bytes b = bytes_str(name);

    return b.at[0] != '.' && (bytes_ends(b, BYTES(".yaml")) || bytes_ends(b, BYTES(".yml")) ||
                              bytes_ends(b, BYTES(".json")));
}

static int read_folder(struct reading *r, const char *path, unsigned depth);

static int read_entry(struct reading *r, const char *path, const char *name, unsigned depth)
{
    AUTOFREE char *whole = mem_printf("%s/%s", path, name);
    struct stat st;

    if (stat(whole, &st) != 0) {
        return is_manifest(name) ? fail(r, -errno, whole, strerror(errno)) : 0;
    }
    if (S_ISDIR(st.st_mode) && name[0] != '.') {
        return read_folder(r, whole, depth + 1);
    }
    return S_ISREG(st.st_mode) && is_manifest(name) ? read_file(r, whole) : 0;
}

/* The recursion is bounded by MANIFEST_DEPTH_MAX, also where links make a circle. */
static int read_folder(struct reading *r, const char *path, unsigned depth)
{
    struct dirent **entries;
    int count, err = 0;

    if (depth > MANIFEST_DEPTH_MAX) {
        return fail(r, E_LIMIT, path, "folders nested deeper than 16 levels");
    }
    count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        return fail(r, -errno, path, strerror(errno));
    }
    for (int i = 0; i < count; i++) {
        if (err == 0) {
            err = read_entry(r, path, entries[i]->d_name, depth);
        }
        mem_free(entries[i]);
    }
    mem_free(entries);
    return err;
}

static int read_path(struct reading *r, const char *path)
{
    size_t before = r->count;
    struct stat st;

    if (strcmp(path, "-") == 0) {
        return read_standard_input(r);
    }
    if (strncmp(path, "http://", 7) == 0 || strncmp(path, "https://", 8) == 0) {
        return fail(
            r, E_UNSUPPORTED, path,
            "addresses are not fetched; pipe `curl -sfL ADDRESS` into this command and name -");
    }
    if (stat(path, &st) != 0) {
        return fail(r, -errno, path, strerror(errno));
    }
    if (!S_ISDIR(st.st_mode)) {
        return read_file(r, path);
    }
    TRY(read_folder(r, path, 1));
    return r->count > before
               ? 0
               : fail(r, E_NOT_FOUND, path, "the folder holds no *.yaml, *.yml or *.json");
}

int manifest_read(const struct opt_list *paths, struct manifest **out_first, char *problem,
                  size_t problem_bytes)
{
    struct reading r = {.problem = problem, .problem_bytes = problem_bytes};
    int err = 0;

    r.next = &r.first;
    for (size_t i = 0; i < paths->count && err == 0; i++) {
        err = read_path(&r, paths->items[i]);
    }
    if (err != 0) {
        manifest_free(r.first);
        return err;
    }
    *out_first = r.first;
    return 0;
}

void manifest_free(struct manifest *first)
{
    struct manifest *next;

    for (; first != NULL; first = next) {
        next = first->next;
        mem_free(first->path);
        mem_free(first->memory);
        mem_free(first);
    }
}

void manifest_join(struct text *to, struct bytes text)
{
    if (to->len > 0 && text.len > 0) {
        if (to->at[to->len - 1] != '\n') {
            text_char(to, '\n');
        }
        if (!bytes_starts(text, BYTES("---"))) {
            text_str(to, "---\n");
        }
    }
    text_add(to, text);
}
