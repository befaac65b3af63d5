/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "core/alloc.h"
#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>

int cli_fail(const char *format, ...)
{
    va_list args;

    (void)fputs("tulle: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return 1;
}

bool cli_parse(const char *usage, const struct opt *opts, size_t count, int argc, char **argv,
               struct opt_list *args, int *out_status)
{
    char problem[512];
    struct text t;
    int rc = opt_parse(opts, count, argc, argv, args, problem, sizeof(problem));

    if (rc == 0) {
        return true;
    }
    if (rc != E_CANCELED) {
        (void)fprintf(stderr, "tulle %s: %s\n", argv[0], problem);
        *out_status = EXIT_USAGE;
        return false;
    }
    text_init(&t, 65536);
    text_printf(&t, "usage: tulle %s\n\n", usage);
    opt_help(opts, count, &t);
    (void)fwrite(t.at, 1, t.len, stdout);
    text_clear(&t);
    *out_status = 0;
    return false;
}

/* --- kinds --------------------------------------------------------------------------------------- */

static const struct kind_name {
    const char *kind, *plural, *abbreviation;
} kinds[] = {
    {"deployment", "deployments", "deploy"},
    {"pod", "pods", "po"},
    {"namespace", "namespaces", "ns"},
    {"service", "services", "svc"},
    {"statefulset", "statefulsets", "sts"},
    {"daemonset", "daemonsets", "ds"},
    {"replicaset", "replicasets", "rs"},
    {"replicationcontroller", "replicationcontrollers", "rc"},
    {"job", "jobs", "job"},
    {"cronjob", "cronjobs", "cj"},
    {"authority", "authorities", "au"},
    {"all", "all", "all"},
};

static const struct kind_name *kind_find_name(struct bytes text)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (bytes_eq_nocase(text, bytes_str(kinds[i].kind)) ||
            bytes_eq_nocase(text, bytes_str(kinds[i].plural)) ||
            bytes_eq_nocase(text, bytes_str(kinds[i].abbreviation))) {
            return &kinds[i];
        }
    }
    return NULL;
}

const char *kind_short(const char *kind)
{
    const struct kind_name *k = kind_find_name(bytes_str(kind));

    return k != NULL ? k->abbreviation : kind;
}

int resource_parse(const struct opt_list *args, size_t from, struct resource_arg *out,
                   size_t out_max, size_t *out_count, char *problem, size_t problem_bytes)
{
    size_t count = 0;

    for (size_t i = from; i < args->count; i++) {
        struct bytes kind, name;
        const struct kind_name *k;
        bool has_slash = bytes_split(bytes_str(args->items[i]), '/', &kind, &name);

        k = kind_find_name(kind);
        if (k == NULL && count == 1 && !has_slash && out[0].name[0] == '\0') {
            out[0].name = args->items[i]; /* TYPE NAME */
            continue;
        }
        if (k == NULL) {
            snprintf(problem, problem_bytes,
                     "\"%s\" is no kind of resource; there are deploy, po, ns, svc, sts, ds, rs, "
                     "rc, job, cj, au and all",
                     args->items[i]);
            return E_CONFIG;
        }
        if (count == out_max) {
            snprintf(problem, problem_bytes, "at most %zu resources may be named at once", out_max);
            return E_CONFIG;
        }
        out[count++] = (struct resource_arg){.kind = k->kind, .name = has_slash ? name.at : ""};
    }
    if (count == 0) {
        snprintf(problem, problem_bytes, "name a resource: deploy, deploy/web, po, ns, svc ...");
        return E_CONFIG;
    }
    *out_count = count;
    return 0;
}

/* --- tables -------------------------------------------------------------------------------------- */

struct table {
    size_t columns, left, count, capacity;
    char **cells; /* heads first, row by row */
};

static void add_cell(struct table *t, char *text)
{
    if (t->count == t->capacity) {
        t->capacity = MAX((size_t)64, t->capacity * 2);
        t->cells = mem_resize(t->cells, t->capacity, sizeof(*t->cells));
    }
    t->cells[t->count++] = text;
}

struct table *table_new(const char *const *heads, size_t columns, unsigned left_columns)
{
    struct table *t = mem_new(sizeof(*t));

    t->columns = columns;
    t->left = left_columns;
    for (size_t i = 0; i < columns; i++) {
        add_cell(t, mem_strdup(heads[i]));
    }
    return t;
}

void table_cell(struct table *t, const char *format, ...)
{
    va_list args;
    struct text text;
    char *done = NULL;

    text_init(&text, 4096);
    va_start(args, format);
    text_vprintf(&text, format, args);
    va_end(args);
    if (text_finish(&text, &done) != 0 || done == NULL) {
        done = mem_strdup("");
    }
    add_cell(t, done);
}

/* Characters, not bytes: cells may hold tree lines and check marks. */
static size_t width(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

void table_print(const struct table *t, struct text *to)
{
    size_t *widths = mem_new_array(t->columns, sizeof(*widths));

    for (size_t i = 0; i < t->count; i++) {
        widths[i % t->columns] = MAX(widths[i % t->columns], width(t->cells[i]));
    }
    for (size_t i = 0; i < t->count; i++) {
        size_t column = i % t->columns;
        int pad = (int)(widths[column] - width(t->cells[i]));
        bool is_last = column + 1 == t->columns;

        if (column < t->left) {
            text_printf(to, "%s%*s", t->cells[i], is_last ? 0 : pad, "");
        } else {
            text_printf(to, "%*s%s", pad, "", t->cells[i]);
        }
        text_str(to, is_last ? "\n" : "   ");
    }
    mem_free(widths);
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        mem_free(t->cells[i]);
    }
    mem_free(t->cells);
    mem_free(t);
}
