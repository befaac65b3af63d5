/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CORE_METRIC_PRIVATE_H
#define CORE_METRIC_PRIVATE_H

/*
 * What metric.c (recording, collecting) and metric_print.c (exposition) share.
 */
#include "core/metric.h"

struct metric_sample {
    const struct metric_family *family;
    char *labels; /* owned */
    bool is_computed;
    double computed;  /* the exposed value, when is_computed */
    uint64_t count;
    double sum;
    uint64_t *buckets; /* owned; histograms only */
};

/* Order by family name and labels, and add up equal series. */
void metric_samples_sort(struct metric_samples *s);

static inline double metric_scale(const struct metric_family *f)
{
    return f->scale > 0 ? f->scale : 1;
}

#endif
