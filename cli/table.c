/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "core/alloc.h"

#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GAP 3 /* blanks between columns, where there is room */

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

/* How a table is laid out: widths of its columns, blanks between them, and whether heads take two lines. */
struct layout {
    size_t *widths; /* owned */
    size_t gap, total;
    bool is_stacked;
};

/* The underscore of a head is where it may be broken: its first part. */
static struct bytes head_first(const char *head, struct bytes *out_second)
{
    struct bytes first;

    if (!bytes_split(bytes_str(head), '_', &first, out_second)) {
        *out_second = BYTES_NONE;
    }
    return first;
}

/* Behind the last of the columns whose heads begin with one word, such as LATENCY_: broken, they share it. */
static size_t group_end(const struct table *t, size_t i)
{
    struct bytes second, first = head_first(t->cells[i], &second);
    size_t end = i + 1;

    while (i >= t->left && second.len > 0 && end < t->columns) {
        struct bytes other = head_first(t->cells[end], &second);

        if (second.len == 0 || !bytes_eq(first, other)) {
            break;
        }
        end++;
    }
    return end;
}

static size_t cell_width(const struct table *t, size_t i, bool is_stacked)
{
    struct bytes first, second;
    bool is_grouped;

    if (i >= t->columns || !is_stacked) {
        return width(t->cells[i]);
    }
    first = head_first(t->cells[i], &second);
    is_grouped = group_end(t, i) > i + 1 || (i > 0 && group_end(t, i - 1) > i);
    return is_grouped ? second.len : MAX(first.len, second.len);
}

/* From the first column's left edge to the last one's right edge. */
static size_t span_of(const struct layout *l, size_t from, size_t end)
{
    size_t span = l->gap * (end - from - 1);

    for (size_t i = from; i < end; i++) {
        span += l->widths[i];
    }
    return span;
}

static void lay_out(const struct table *t, size_t gap, bool is_stacked, struct layout *l)
{
    memset(l->widths, 0, t->columns * sizeof(*l->widths));
    for (size_t i = 0; i < t->count; i++) {
        size_t *w = &l->widths[i % t->columns];

        *w = MAX(*w, cell_width(t, i, is_stacked));
    }
    l->gap = gap;
    l->is_stacked = is_stacked;
    for (size_t i = 0; is_stacked && i < t->columns; i = group_end(t, i)) {
        struct bytes second, first = head_first(t->cells[i], &second);
        size_t end = group_end(t, i), span = span_of(l, i, end);

        l->widths[end - 1] += first.len > span ? first.len - span : 0;
    }
    l->total = span_of(l, 0, t->columns);
}

static bool has_long_heads(const struct table *t)
{
    bool is_any = false;

    for (size_t i = 0; i < t->columns; i++) {
        is_any = is_any || strchr(t->cells[i], '_') != NULL;
    }
    return is_any;
}

static void add_padded(const struct table *t, const struct layout *l, size_t column,
                       struct bytes content, size_t content_width, struct text *to)
{
    int pad = (int)(l->widths[column] - content_width);
    bool is_last = column + 1 == t->columns;

    if (column < t->left) {
        text_printf(to, BYTES_FMT "%*s", BYTES_ARG(content), is_last ? 0 : pad, "");
    } else {
        text_printf(to, "%*s" BYTES_FMT, pad, "", BYTES_ARG(content));
    }
    if (is_last) {
        text_char(to, '\n');
    } else {
        text_printf(to, "%*s", (int)l->gap, "");
    }
}

static void add_stacked_heads(const struct table *t, const struct layout *l, struct text *to)
{
    struct bytes second, first;

    for (size_t i = 0, end; i < t->columns; i = end) {
        end = group_end(t, i);
        first = head_first(t->cells[i], &second);
        if (end == i + 1) {
            add_padded(t, l, i, first, first.len, to);
        } else { /* in the middle above them */
            size_t room = span_of(l, i, end) - first.len;
            bool is_last = end == t->columns;

            text_printf(to, "%*s" BYTES_FMT "%*s%s", (int)(room - room / 2), "", BYTES_ARG(first),
                        is_last ? 0 : (int)(room / 2 + l->gap), "", is_last ? "\n" : "");
        }
    }
    for (size_t i = 0; i < t->columns; i++) {
        (void)head_first(t->cells[i], &second);
        add_padded(t, l, i, second, second.len, to);
    }
}

void table_print_within(const struct table *t, size_t columns, struct text *to)
{
    struct layout l = {.widths = mem_new_array(t->columns, sizeof(*l.widths))};

    lay_out(t, GAP, false, &l);
    for (size_t gap = GAP - 1; columns > 0 && l.total > columns && gap > 0; gap--) {
        lay_out(t, gap, false, &l);
    }
    if (columns > 0 && l.total > columns && has_long_heads(t)) {
        lay_out(t, 1, true, &l);
        add_stacked_heads(t, &l, to);
    }
    for (size_t i = l.is_stacked ? t->columns : 0; i < t->count; i++) {
        add_padded(t, &l, i % t->columns, bytes_str(t->cells[i]), width(t->cells[i]), to);
    }
    mem_free(l.widths);
}

void table_print(const struct table *t, struct text *to)
{
    struct winsize size = {0};
    bool is_terminal = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;

    table_print_within(t, is_terminal ? size.ws_col : 0, to);
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        mem_free(t->cells[i]);
    }
    mem_free(t->cells);
    mem_free(t);
}
