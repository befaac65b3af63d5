/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "core/alloc.h"

#include <stdarg.h>

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
