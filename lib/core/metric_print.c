/* SPDX-License-Identifier: Apache-2.0 */
#include "core/metric.h"

#include "core/metric_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TOTAL BYTES("_total")

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

static void print_family(struct text *to, const struct metric_family *f, enum metric_format format)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    struct bytes name = family_name(f, format);

    text_printf(to, "# HELP " BYTES_FMT " ", BYTES_ARG(name));
    print_help(to, f->help, format);
    text_printf(to, "\n# TYPE " BYTES_FMT " %s\n", BYTES_ARG(name), kinds[f->kind]);
}

/* "name_suffix{labels} ", ready for the value. */
static void print_name(struct text *to, const struct metric_sample *s, const char *suffix)
{
    text_str(to, s->family->name);
    text_str(to, suffix);
    if (s->labels[0] != '\0') {
        text_char(to, '{');
        text_str(to, s->labels);
        text_char(to, '}');
    }
    text_char(to, ' ');
}

static void print_histogram(struct text *to, const struct metric_sample *s)
{
    const struct metric_family *f = s->family;
    uint64_t below = 0;

    for (unsigned i = 0; i <= f->bounds_count; i++) {
        below += s->buckets[i];
        text_printf(to, "%s_bucket{%s%sle=\"", f->name, s->labels, s->labels[0] != '\0' ? "," : "");
        print_double(to, i < f->bounds_count ? f->bounds[i] : (double)INFINITY);
        text_printf(to, "\"} %llu\n", (unsigned long long)below);
    }
    print_name(to, s, "_sum");
    print_double(to, s->sum * metric_scale(f));
    text_char(to, '\n');
    print_name(to, s, "_count");
    text_printf(to, "%llu\n", (unsigned long long)s->count);
}

static void print_value(struct text *to, const struct metric_sample *s, enum metric_format format)
{
    const struct metric_family *f = s->family;
    bool total = bytes_ends(bytes_str(f->name), TOTAL);

    /* OpenMetrics has no counter sample without _total. */
    print_name(to, s,
               format == METRIC_OPENMETRICS && f->kind == METRIC_COUNTER && !total ? "_total" : "");
    if (s->is_computed) {
        print_double(to, s->computed);
    } else if (metric_scale(f) != 1) {
        print_double(to, (f->kind == METRIC_GAUGE ? (double)(int64_t)s->count : (double)s->count) *
                             metric_scale(f));
    } else if (f->kind == METRIC_GAUGE) {
        text_printf(to, "%lld", (long long)(int64_t)s->count);
    } else {
        text_printf(to, "%llu", (unsigned long long)s->count);
    }
    text_char(to, '\n');
}

void metric_samples_print(struct metric_samples *s, enum metric_format format, struct text *to)
{
    const char *name = NULL;

    metric_samples_sort(s);
    for (size_t i = 0; i < s->count; i++) {
        const struct metric_sample *sample = &s->items[i];

        if (name == NULL || strcmp(name, sample->family->name) != 0) {
            name = sample->family->name;
            print_family(to, sample->family, format);
        }
        if (sample->family->kind == METRIC_HISTOGRAM) {
            print_histogram(to, sample);
        } else {
            print_value(to, sample, format);
        }
    }
    text_str(to, "# EOF\n");
}
