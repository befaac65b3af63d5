/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/balancer.h"

#include <math.h>

/*
 * Peak EWMA (wire 6.1): a latency above the estimate replaces it at once, one below pulls it down
 * slowly; the estimate decays while nothing is heard, so that an endpoint that was slow is tried
 * again.
 */
void load_init(struct load *l, const struct load_config *c, uint64_t now_ns)
{
    l->estimate_ns = (double)c->default_rtt_ns;
    l->updated_ns = now_ns;
    l->pending = 0;
    l->is_penalty = false;
}

static double decay_since(const struct load *l, const struct load_config *c, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns > l->updated_ns ? now_ns - l->updated_ns : 0;
    uint64_t decay_ns =
        l->is_penalty && c->penalty_decay_ns > 0 ? c->penalty_decay_ns : c->decay_ns;

    return decay_ns == 0 ? 0.0 : exp(-(double)elapsed_ns / (double)decay_ns);
}

double load_get(struct load *l, const struct load_config *c, uint64_t now_ns)
{
    if (c->by_count) {
        return (double)l->pending;
    }
    l->estimate_ns *= decay_since(l, c, now_ns);
    l->updated_ns = now_ns;
    return l->estimate_ns * (double)(l->pending + 1);
}

static void sample(struct load *l, const struct load_config *c, double rtt, bool is_penalty,
                   uint64_t now_ns)
{
    double keep = decay_since(l, c, now_ns);

    if (rtt > l->estimate_ns) {
        l->estimate_ns = rtt;
        l->is_penalty = is_penalty;
    } else {
        l->estimate_ns = l->estimate_ns * keep + rtt * (1.0 - keep);
    }
    l->updated_ns = now_ns;
}

void load_observe(struct load *l, const struct load_config *c, uint64_t rtt_ns, uint64_t now_ns)
{
    sample(l, c, (double)rtt_ns, false, now_ns);
}

void load_penalize(struct load *l, const struct load_config *c, uint64_t wish_ns, uint64_t now_ns)
{
    sample(l, c, (double)MAX(c->penalty_ns, MIN(wish_ns, c->max_retry_after_ns)), true, now_ns);
}
