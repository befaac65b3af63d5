/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_METRIC_H
#define CORE_METRIC_H

/*
 * Metrics without locks: every loop has a `struct metrics` of its own; a scrape asks each loop (by
 * message) for a copy of its values, adds up series with the same family and labels, and prints.
 *
 * A family is a constant, declared once in a table. A label set is interned once in a `struct metrics`
 * and shared by all series that have it; a series is a family and a label set. Its users hold a
 * pointer and record with an addition.
 *
 * Ownership: metrics_series() returns a reference; series_unref() gives it back. A series without
 * references stays for the scrapes and is dropped when it was idle for `idle_ns`: no collection saw it
 * change for that long. One that is referenced, as the gauges of live objects are, is never dropped.
 * Samples share the text of the labels with the series; it is freed by the last of them.
 *
 * Limits: at most `series_max` series, an eighth of them in one family, so that no family can take
 * the room of the others. A label set beyond that is answered with a series of its family in which
 * every value has become "other", but for the labels in `keeps`; of those there are at most 32 a
 * family, and then one, overflow="true", takes the rest, as it does where labels are longer than
 * SERIES_LABELS_MAX. tulle_metric_series_folded_total{family} counts such answers. Several owners may
 * so share a gauge: who may be folded adds and subtracts, and does not set.
 * Threads: a `struct metrics` belongs to one loop; samples may be handed to another.
 */
#include "core/bytes.h"
#include "core/text.h"

#define SERIES_LABELS_MAX 4096
#define METRIC_BOUNDS_MAX 32

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
/* Wire 7.1: legacy families come first, and their bounds are printed as integers. */
enum metric_style { METRIC_REGISTRY, METRIC_LEGACY };

struct metric_family {
    const char *name; /* as exposed: a counter's name carries its _total here */
    const char *help;
    enum metric_kind kind;
    const double *bounds; /* histogram upper bounds in exposed units, ascending, +Inf left out */
    unsigned bounds_count; /* at most METRIC_BOUNDS_MAX */
    double scale;          /* exposed value = recorded value * scale (ns to s: 1e-9); 0 means 1 */
    enum metric_style style;
    bool is_largest; /* gauge: of equal series the largest is shown, not their sum */
};

struct label_set; /* interned: a="x",b="y" without braces */

struct series {
    const struct metric_family *family;
    struct label_set *labels;
    struct series *next; /* of the same label set */
    unsigned refs;
    bool is_fold;
    uint64_t used_ns; /* last change seen by a collection */
    uint64_t seen;    /* value at the last collection, to tell idle from used */
    uint64_t count;   /* counter or gauge value (gauge: two's complement), or number of observations */
    double sum;       /* histogram only */
    uint64_t buckets[]; /* bounds_count + 1, not cumulative */
};

struct family_series; /* of one family */
struct metrics {
    struct label_set **sets; /* hash table, chained */
    size_t sets_size, sets_count;
    struct family_series **families;
    size_t families_count;
    size_t series_count, series_max;
    uint64_t idle_ns;
    const char *const *keeps; /* labels whose values stay in a folded series; NULL at its end */
    unsigned collections;     /* under way */
};

void metrics_init(struct metrics *m, size_t series_max, uint64_t idle_ns);
void metrics_clear(struct metrics *m);

struct series *metrics_series(struct metrics *m, const struct metric_family *f, struct bytes labels);
void series_unref(struct series *s); /* NULL is fine */
const char *series_labels(const struct series *s);
uint64_t metrics_folded(const struct metrics *m); /* answers with a folded series, all families */
/* The series that there is, without a reference; NULL when there is none. */
const struct series *metrics_find(const struct metrics *m, const char *family, struct bytes labels);
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

struct metric_group; /* the samples of one family */
struct metric_samples {
    struct metric_group *groups;
    size_t count, capacity; /* of groups */
};
/*
 * On the owner's thread: copy all series and drop those idle at now_ns, in pieces of `series_max`, so
 * that the loop can do other things in between. Zeroed at first; true: call again. What is made
 * meanwhile may be missed.
 */
struct metric_cursor {
    size_t family, item;
    bool is_begun;
};
bool metrics_collect_some(struct metrics *m, struct metric_samples *to, uint64_t now_ns,
                          size_t series_max, struct metric_cursor *at) MUST_USE;
/* Give a collection up that is not through. */
void metrics_collect_end(struct metrics *m, struct metric_cursor *at);
void metrics_collect(struct metrics *m, struct metric_samples *to, uint64_t now_ns); /* in one piece */
/* One computed on the spot (process figures). `value` is as exposed. */
void metric_samples_gauge(struct metric_samples *to, const struct metric_family *f, struct bytes labels,
                          double value);
/* Moves all of `from`; equal series are added up when they are printed. */
void metric_samples_merge(struct metric_samples *to, struct metric_samples *from);
size_t metric_samples_count(const struct metric_samples *s);
void metric_samples_clear(struct metric_samples *s);

enum metric_format { METRIC_TEXT, METRIC_OPENMETRICS };
/*
 * Prints and consumes samples: legacy families first, each half in name order, series in label order;
 * HELP and TYPE once each (UNIT in OpenMetrics), `# EOF` last. A piece may be longer than asked for by
 * one series.
 */
struct metric_printer {
    struct metric_samples *samples;
    enum metric_format format;
    size_t group, item;
    bool is_begun; /* the group's heading is printed */
    char bounds[METRIC_BOUNDS_MAX][16];
};
void metric_printer_init(struct metric_printer *p, struct metric_samples *samples,
                         enum metric_format format);
bool metric_printer_some(struct metric_printer *p, struct text *to, size_t bytes) MUST_USE; /* true: more */
void metric_samples_print(struct metric_samples *s, enum metric_format format, struct text *to);

#endif
