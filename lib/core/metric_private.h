/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_METRIC_PRIVATE_H
#define CORE_METRIC_PRIVATE_H

/*
 * What metric.c (recording), metric_sample.c (collecting) and metric_print.c (exposition) share.
 */
#include "core/metric.h"

#include <stdatomic.h>

struct label_set {
    struct label_set *next; /* in its bucket */
    uint64_t hash;
    struct series *series; /* that have it; none: it is in no table */
    _Atomic unsigned refs; /* one of the table, one of each sample; any thread */
    unsigned len;
    char text[];
};

struct label_set *label_set_new(struct bytes text, uint64_t hash); /* with one reference */
void label_set_unref(struct label_set *set);

struct family_series {
    const struct metric_family *family;
    struct series **items; /* NULL where one was dropped while a collection was under way */
    size_t count, capacity, holes;
    size_t folds; /* of them, folded ones */
    uint64_t folded;
};

struct metric_sample {
    struct label_set *labels; /* reference */
    uint64_t count;
    double sum; /* of a histogram; or the exposed value of a computed one */
    uint32_t index; /* of its buckets */
    bool is_computed;
};

struct metric_group {
    const struct metric_family *family;
    struct metric_sample *items;
    size_t count, capacity;
    uint64_t *buckets; /* histograms only: of sample.index, family_buckets() each */
};

static inline size_t family_buckets(const struct metric_family *f)
{
    return f->kind == METRIC_HISTOGRAM ? f->bounds_count + 1 : 0;
}

static inline double metric_scale(const struct metric_family *f)
{
    return f->scale > 0 ? f->scale : 1;
}

static inline uint64_t *sample_buckets(const struct metric_group *g, const struct metric_sample *s)
{
    return g->buckets + s->index * family_buckets(g->family);
}

/* metric.c */
void metrics_drop(struct metrics *m, struct series *s); /* from its label set; its family forgets it */

/* metric_sample.c */
void metric_group_sort(struct metric_group *g);  /* by labels; equal series are added up */
void metric_group_clear(struct metric_group *g); /* idempotent */

#endif
