/* SPDX-License-Identifier: Apache-2.0 */
#include "core/alloc.h"
#include "core/metric_private.h"

#include <stdlib.h>

/*
 * Samples: copies of series for a scrape. A sample is 32 bytes and its buckets; the labels are
 * shared, so that what a scrape costs does not depend on how long they are.
 */
static const struct metric_family folded_family = {
    .name = "tulle_metric_series_folded_total",
    .help = "Requests for a metric series that were answered with a folded series of its family.",
    .kind = METRIC_COUNTER,
};

/* --- groups ------------------------------------------------------------------------------------ */

static struct metric_group *group_of(struct metric_samples *to, const struct metric_family *f)
{
    struct metric_group *g;

    for (size_t i = to->count; i > 0; i--) { /* mostly the last one */
        if (to->groups[i - 1].family == f) {
            return &to->groups[i - 1];
        }
    }
    if (to->count == to->capacity) {
        to->capacity = MAX(to->capacity * 2, (size_t)16);
        to->groups = mem_resize(to->groups, to->capacity, sizeof(*to->groups));
    }
    g = &to->groups[to->count++];
    *g = (struct metric_group){.family = f};
    return g;
}

static void group_reserve(struct metric_group *g, size_t count)
{
    size_t buckets = family_buckets(g->family);

    if (count > g->capacity) {
        g->capacity = MAX(count, MAX(g->capacity * 2, (size_t)4));
        g->items = mem_resize(g->items, g->capacity, sizeof(*g->items));
        if (buckets > 0) {
            g->buckets = mem_resize(g->buckets, g->capacity, buckets * sizeof(*g->buckets));
        }
    }
}

/* Takes a reference of the labels. */
static struct metric_sample *group_add(struct metric_group *g, struct label_set *labels)
{
    struct metric_sample *sample;

    group_reserve(g, g->count + 1);
    sample = &g->items[g->count];
    *sample = (struct metric_sample){.labels = labels, .index = (uint32_t)g->count};
    g->count++;
    return sample;
}

void metric_group_clear(struct metric_group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        label_set_unref(g->items[i].labels);
    }
    mem_free(g->items);
    mem_free(g->buckets);
    *g = (struct metric_group){.family = g->family};
}

static int sample_order(const void *left, const void *right)
{
    const struct metric_sample *a = left, *b = right;

    return a->labels == b->labels ? 0 : strcmp(a->labels->text, b->labels->text);
}

static void sample_add_up(struct metric_group *g, struct metric_sample *to,
                          const struct metric_sample *from)
{
    assert(to->is_computed == from->is_computed);
    if (g->family->is_largest) {
        to->count = MAX(to->count, from->count);
        return;
    }
    to->count += from->count;
    to->sum += from->sum;
    for (size_t i = 0; i < family_buckets(g->family); i++) {
        sample_buckets(g, to)[i] += sample_buckets(g, from)[i];
    }
}

void metric_group_sort(struct metric_group *g)
{
    size_t kept = 0;

    if (g->count < 2) {
        return;
    }
    qsort(g->items, g->count, sizeof(*g->items), sample_order);
    for (size_t i = 1; i < g->count; i++) {
        if (sample_order(&g->items[kept], &g->items[i]) == 0) {
            sample_add_up(g, &g->items[kept], &g->items[i]);
            label_set_unref(g->items[i].labels);
        } else {
            g->items[++kept] = g->items[i];
        }
    }
    g->count = kept + 1;
}

/* --- collecting -------------------------------------------------------------------------------- */

/* True when the series is to be dropped: nobody holds it and it has not changed for long. */
static bool series_is_idle(struct series *s, const struct metrics *m, uint64_t now_ns)
{
    if (s->refs > 0 || s->count != s->seen || s->used_ns == 0) {
        s->used_ns = now_ns;
        s->seen = s->count;
        return false;
    }
    return now_ns > s->used_ns && now_ns - s->used_ns >= m->idle_ns;
}

static void collect_series(const struct series *s, struct metric_group *g)
{
    struct metric_sample *sample = group_add(g, s->labels);
    size_t buckets = family_buckets(g->family);

    atomic_fetch_add_explicit(&s->labels->refs, 1, memory_order_relaxed);
    sample->count = s->count;
    sample->sum = s->sum;
    if (buckets > 0) {
        memcpy(sample_buckets(g, sample), s->buckets, buckets * sizeof(*s->buckets));
    }
}

/* Cursors point into the array, so it is closed up only when there is none. */
static void close_holes(struct family_series *fs)
{
    size_t kept = 0;

    for (size_t i = 0; fs->holes > 0 && i < fs->count; i++) {
        if (fs->items[i] != NULL) {
            fs->items[kept++] = fs->items[i];
        }
    }
    if (fs->holes > 0) {
        fs->count = kept;
        fs->holes = 0;
    }
}

void metrics_collect_end(struct metrics *m, struct metric_cursor *at)
{
    if (!at->is_begun) {
        return;
    }
    assert(m->collections > 0);
    *at = (struct metric_cursor){0};
    if (--m->collections == 0) {
        for (size_t i = 0; i < m->families_count; i++) {
            close_holes(m->families[i]);
        }
    }
}

static void collect_folded(const struct metrics *m, struct metric_samples *to)
{
    for (size_t i = 0; i < m->families_count; i++) {
        const struct family_series *fs = m->families[i];

        if (fs->folded > 0) {
            char buffer[256];
            struct text labels;

            text_init_fixed(&labels, buffer, sizeof(buffer));
            label_add(&labels, "family", bytes_str(fs->family->name));
            group_add(group_of(to, &folded_family), label_set_new(text_bytes(&labels), 0))->count =
                fs->folded;
        }
    }
}

bool metrics_collect_some(struct metrics *m, struct metric_samples *to, uint64_t now_ns,
                          size_t series_max, struct metric_cursor *at)
{
    if (!at->is_begun) {
        at->is_begun = true;
        m->collections++;
    }
    for (; at->family < m->families_count; at->family++, at->item = 0) {
        struct family_series *fs = m->families[at->family];
        struct metric_group *g = group_of(to, fs->family);

        if (at->item == 0) {
            group_reserve(g, g->count + fs->count); /* once, and not by copying */
        }
        for (; at->item < fs->count; at->item++) {
            struct series *s = fs->items[at->item];

            if (s == NULL) {
                continue;
            }
            if (series_max-- == 0) {
                return true;
            }
            if (series_is_idle(s, m, now_ns)) {
                fs->items[at->item] = NULL;
                fs->holes++;
                fs->folds -= s->is_fold;
                metrics_drop(m, s);
            } else {
                collect_series(s, g);
            }
        }
    }
    collect_folded(m, to);
    metrics_collect_end(m, at);
    return false;
}

void metrics_collect(struct metrics *m, struct metric_samples *to, uint64_t now_ns)
{
    struct metric_cursor at = {0};
    bool is_more = metrics_collect_some(m, to, now_ns, SIZE_MAX, &at);

    assert(!is_more);
}

void metric_samples_gauge(struct metric_samples *to, const struct metric_family *f,
                          struct bytes labels, double value)
{
    struct metric_sample *sample;

    assert(f->kind != METRIC_HISTOGRAM);
    sample = group_add(group_of(to, f), label_set_new(labels, 0));
    sample->is_computed = true;
    sample->sum = value;
}

void metric_samples_merge(struct metric_samples *to, struct metric_samples *from)
{
    assert(to != from);
    for (size_t i = 0; i < from->count; i++) {
        struct metric_group *g = &from->groups[i], *into = group_of(to, g->family);
        size_t buckets = family_buckets(g->family);

        group_reserve(into, into->count + g->count);
        for (size_t k = 0; k < g->count; k++) {
            struct metric_sample *sample = &into->items[into->count];

            *sample = g->items[k];
            sample->index = (uint32_t)into->count++;
            if (buckets > 0) {
                memcpy(sample_buckets(into, sample), sample_buckets(g, &g->items[k]),
                       buckets * sizeof(*g->buckets));
            }
        }
        g->count = 0; /* the labels moved */
    }
    metric_samples_clear(from);
}

size_t metric_samples_count(const struct metric_samples *s)
{
    size_t count = 0;

    for (size_t i = 0; i < s->count; i++) {
        count += s->groups[i].count;
    }
    return count;
}

void metric_samples_clear(struct metric_samples *s)
{
    for (size_t i = 0; i < s->count; i++) {
        metric_group_clear(&s->groups[i]);
    }
    mem_free(s->groups);
    *s = (struct metric_samples){0};
}
