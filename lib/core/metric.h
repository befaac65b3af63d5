/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_METRIC_H
#define CORE_METRIC_H

/*
 * Metrics without locks: every loop has a `struct metrics` of its own; a scrape asks each loop (by
 * message) for a copy of its values, adds up series with the same family and labels, and prints.
 *
 * A family is a constant, declared once in a table. A series is a family and a label set, interned
 * in one `struct metrics`; its users hold a pointer and record with an addition.
 * Ownership: metrics_series() returns a reference; series_unref() gives it back. A series without
 * references stays for the scrapes and is dropped when it was idle for `idle_ns`.
 * Limits: at most `series_max` series, and labels of SERIES_LABELS_MAX bytes; beyond either
 * metrics_series() returns the family's series with the single label overflow="true", and
 * tulle_metric_series_folded_total counts it.
 */
#include "core/bytes.h"
#include "core/map.h"
#include "core/text.h"

#define SERIES_LABELS_MAX 4096

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_family {
    const char *name; /* as exposed: a counter's name carries its _total here */
    const char *help;
    enum metric_kind kind;
    const double *bounds; /* histogram upper bounds in exposed units, ascending, +Inf left out */
    unsigned bounds_count;
    double scale;         /* exposed value = recorded value * scale (ns to s: 1e-9); 0 means 1 */
    bool is_largest;      /* gauge: of equal series the largest is shown, not their sum */
};

struct series {
    const struct metric_family *family;
    char *labels;         /* a="x",b="y" without braces; owned */
    unsigned refs;
    uint64_t used_ns;     /* last change seen by a collection */
    uint64_t seen;        /* value at the last collection, to tell idle from used */
    uint64_t count;       /* counter or gauge value (gauge: two's complement), or number of observations */
    double sum;           /* histogram only */
    uint64_t buckets[];   /* bounds_count + 1, not cumulative */
};

struct metrics {
    struct map series;    /* by family name, NUL, labels */
    size_t series_max;
    uint64_t idle_ns;
    uint64_t folded;
};

void metrics_init(struct metrics *m, size_t series_max, uint64_t idle_ns);
void metrics_clear(struct metrics *m);

struct series *metrics_series(struct metrics *m, const struct metric_family *f, struct bytes labels);
void series_unref(struct series *s); /* NULL is fine */
static inline void series_add(struct series *s, uint64_t n)
{
    s->count += n;
}
static inline void series_sub(struct series *s, uint64_t n) /* gauges */
{
    s->count -= n;
}
static inline void series_set(struct series *s, uint64_t value) /* gauges */
{
    s->count = value;
}
void series_observe(struct series *s, double value); /* histograms; `value` in recorded units */

/* Append key="value" (escaped), after a comma if the text is not empty. */
void label_add(struct text *t, const char *key, struct bytes value);
void label_add_u64(struct text *t, const char *key, uint64_t value);

/* --- scraping ---------------------------------------------------------------------------------- */

struct metric_sample; /* one series, copied */
struct metric_samples {
    struct metric_sample *items;
    size_t count, capacity;
};
/* On the owner's thread: append a copy of all series; drop those idle at now_ns. */
void metrics_collect(struct metrics *m, struct metric_samples *to, uint64_t now_ns);
void metric_samples_gauge(struct metric_samples *to, const struct metric_family *f, struct bytes labels,
                          double value); /* one computed on the spot (process figures) */
/* Moves all of `from`; equal series are added up. */
void metric_samples_merge(struct metric_samples *to, struct metric_samples *from);
void metric_samples_clear(struct metric_samples *s);

enum metric_format { METRIC_TEXT, METRIC_OPENMETRICS };
/* Families in name order, series in label order, HELP and TYPE once each, `# EOF` last. */
void metric_samples_print(struct metric_samples *s, enum metric_format format, struct text *to);

#endif
