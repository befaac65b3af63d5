/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/balancer.h"

#include <math.h>

/*
 * Peak EWMA (wire 6.1): a latency above the estimate replaces it at once, one below pulls it down
 * slowly; the estimate decays while nothing is heard, so that an endpoint that was slow is tried
 * again.
 */
void load_init(struct load *l, uint64_t default_rtt_ns, uint64_t now_ns)
{
    l->estimate_ns = (double)default_rtt_ns;
    l->updated_ns = now_ns;
    l->pending = 0;
}

static double decay_since(const struct load *l, uint64_t decay_ns, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns > l->updated_ns ? now_ns - l->updated_ns : 0;

    return decay_ns == 0 ? 0.0 : exp(-(double)elapsed_ns / (double)decay_ns);
}

double load_get(struct load *l, uint64_t decay_ns, uint64_t now_ns)
{
    l->estimate_ns *= decay_since(l, decay_ns, now_ns);
    l->updated_ns = now_ns;
    return l->estimate_ns * (double)(l->pending + 1);
}

void load_observe(struct load *l, uint64_t rtt_ns, uint64_t decay_ns, uint64_t now_ns)
{
    double rtt = (double)rtt_ns;
    double keep = decay_since(l, decay_ns, now_ns);

    l->estimate_ns = rtt > l->estimate_ns ? rtt : l->estimate_ns * keep + rtt * (1.0 - keep);
    l->updated_ns = now_ns;
}
