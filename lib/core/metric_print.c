/* SPDX-License-Identifier: Apache-2.0 */
#include "core/metric_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TOTAL BYTES("_total")

/* --- numbers ----------------------------------------------------------------------------------- */

/* The shortest of the usual forms that reads back as the same number. */
static void print_double(struct text *to, double value)
{
    char digits[32];

    if (isnan(value)) {
        text_str(to, "NaN");
    } else if (isinf(value)) {
        text_str(to, value > 0 ? "+Inf" : "-Inf");
    } else {
        (void)snprintf(digits, sizeof(digits), "%.15g", value);
        if (strtod(digits, NULL) != value) {
            (void)snprintf(digits, sizeof(digits), "%.17g", value);
        }
        text_str(to, digits);
    }
}

static void print_u64(struct text *to, uint64_t value)
{
    char digits[BYTES_U64_MAX];

    text_add(to, bytes_from_u64(digits, value));
}

/*
 * The labels of the buckets. Legacy families have integers (wire 7.2); the registry, as OpenMetrics
 * wants it, numbers that are seen to be real: "1.0".
 */
static void prepare_bounds(struct metric_printer *p, const struct metric_family *f)
{
    for (unsigned i = 0; i < family_buckets(f); i++) {
        double bound = i < f->bounds_count ? f->bounds[i] : (double)INFINITY;
        struct text t;

        text_init_fixed(&t, p->bounds[i], sizeof(p->bounds[i]));
        print_double(&t, bound);
        if (f->style == METRIC_REGISTRY && !isinf(bound) && strpbrk(p->bounds[i], ".e") == NULL) {
            text_str(&t, ".0");
        }
        assert(t.err == 0);
    }
}

/* --- headings ---------------------------------------------------------------------------------- */

static void print_help(struct text *to, const char *help, enum metric_format format)
{
    for (const char *c = help; *c != '\0'; c++) {
        if (*c == '\n') {
            text_str(to, "\\n");
        } else if (*c == '\\' || (*c == '"' && format == METRIC_OPENMETRICS)) {
            text_char(to, '\\');
            text_char(to, *c);
        } else {
            text_char(to, *c);
        }
    }
}

/*
 * OpenMetrics names a counter's family without the _total of its sample; the older text form knows
 * no difference between the two.
 */
static struct bytes family_name(const struct metric_family *f, enum metric_format format)
{
    struct bytes name = bytes_str(f->name);

    if (format == METRIC_OPENMETRICS && f->kind == METRIC_COUNTER && bytes_ends(name, TOTAL)) {
        name = bytes_first(name, name.len - TOTAL.len);
    }
    return name;
}

/* Wire 7.1: a unit is the end of the name. */
static void print_unit(struct text *to, struct bytes name)
{
    static const char *const units[] = {"seconds", "bytes"};

    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        struct bytes unit = bytes_str(units[i]);

        if (bytes_ends(name, unit) && name.len > unit.len &&
            name.at[name.len - unit.len - 1] == '_') {
            text_printf(to, "# UNIT " BYTES_FMT " %s\n", BYTES_ARG(name), units[i]);
        }
    }
}

static void print_heading(struct text *to, const struct metric_family *f, enum metric_format format)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    struct bytes name = family_name(f, format);

    text_printf(to, "# HELP " BYTES_FMT " ", BYTES_ARG(name));
    print_help(to, f->help, format);
    text_printf(to, "\n# TYPE " BYTES_FMT " %s\n", BYTES_ARG(name), kinds[f->kind]);
    if (format == METRIC_OPENMETRICS) {
        print_unit(to, name);
    }
}

/* --- samples ----------------------------------------------------------------------------------- */

/* "name_suffix{labels} ", ready for the value. */
static void print_name(struct text *to, const struct metric_family *f,
                       const struct metric_sample *s, const char *suffix)
{
    text_str(to, f->name);
    text_str(to, suffix);
    if (s->labels->len > 0) {
        text_char(to, '{');
        text_add(to, bytes_of(s->labels->text, s->labels->len));
        text_char(to, '}');
    }
    text_char(to, ' ');
}

static void print_histogram(const struct metric_printer *p, struct text *to,
                            const struct metric_group *g, const struct metric_sample *s)
{
    const struct metric_family *f = g->family;
    const uint64_t *buckets = sample_buckets(g, s);
    uint64_t below = 0;

    for (unsigned i = 0; i <= f->bounds_count; i++) {
        below += buckets[i];
        text_str(to, f->name);
        text_str(to, "_bucket{");
        if (s->labels->len > 0) {
            text_add(to, bytes_of(s->labels->text, s->labels->len));
            text_char(to, ',');
        }
        text_str(to, "le=\"");
        text_str(to, p->bounds[i]);
        text_str(to, "\"} ");
        print_u64(to, below);
        text_char(to, '\n');
    }
    print_name(to, f, s, "_sum");
    print_double(to, s->sum * metric_scale(f));
    text_char(to, '\n');
    print_name(to, f, s, "_count");
    print_u64(to, s->count);
    text_char(to, '\n');
}

static void print_value(struct text *to, const struct metric_family *f,
                        const struct metric_sample *s, enum metric_format format)
{
    bool total = bytes_ends(bytes_str(f->name), TOTAL);
    int64_t value = (int64_t)s->count;

    /* OpenMetrics has no counter sample without _total. */
    print_name(to, f, s,
               format == METRIC_OPENMETRICS && f->kind == METRIC_COUNTER && !total ? "_total" : "");
    if (s->is_computed) {
        print_double(to, s->sum);
    } else if (metric_scale(f) != 1) {
        print_double(to, (f->kind == METRIC_GAUGE ? (double)value : (double)s->count) *
                             metric_scale(f));
    } else if (f->kind == METRIC_GAUGE && value < 0) {
        text_char(to, '-');
        print_u64(to, -s->count);
    } else {
        print_u64(to, s->count);
    }
    text_char(to, '\n');
}

/* --- the whole --------------------------------------------------------------------------------- */

static int group_order(const void *left, const void *right)
{
    const struct metric_group *a = left, *b = right;
    bool a_first = a->family->style == METRIC_LEGACY, b_first = b->family->style == METRIC_LEGACY;

    return a_first != b_first ? (int)b_first - (int)a_first
                              : strcmp(a->family->name, b->family->name);
}

void metric_printer_init(struct metric_printer *p, struct metric_samples *samples,
                         enum metric_format format)
{
    *p = (struct metric_printer){.samples = samples, .format = format};
    if (samples->count > 1) {
        qsort(samples->groups, samples->count, sizeof(*samples->groups), group_order);
    }
}

bool metric_printer_some(struct metric_printer *p, struct text *to, size_t bytes)
{
    size_t until = bytes < SIZE_MAX - to->len ? to->len + bytes : SIZE_MAX;

    for (; p->group < p->samples->count; p->group++) {
        struct metric_group *g = &p->samples->groups[p->group];

        if (!p->is_begun && g->count > 0) {
            p->is_begun = true;
            metric_group_sort(g);
            prepare_bounds(p, g->family);
            print_heading(to, g->family, p->format);
        }
        for (; p->item < g->count; p->item++) {
            if (to->len >= until || to->err != 0) {
                return to->err == 0;
            }
            if (g->family->kind == METRIC_HISTOGRAM) {
                print_histogram(p, to, g, &g->items[p->item]);
            } else {
                print_value(to, g->family, &g->items[p->item], p->format);
            }
        }
        metric_group_clear(g);
        p->item = 0;
        p->is_begun = false;
    }
    text_str(to, "# EOF\n");
    return false;
}

void metric_samples_print(struct metric_samples *s, enum metric_format format, struct text *to)
{
    struct metric_printer p;
    bool is_more;

    metric_printer_init(&p, s, format);
    is_more = metric_printer_some(&p, to, SIZE_MAX);
    assert(!is_more);
}
