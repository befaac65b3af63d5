/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

/*
 * Which EgressNetwork an address out of the cluster belongs to (wire 9.6): one of the client's namespace,
 * else of the global one; the most specific block, then the oldest.
 */

/* The length of the longest block that has the address; -1: none. Without a list it is everything; what ought
 * to be a list and is none has nothing, lest it be taken for everything. */
static int specificity(const struct object *o, const struct addr *at)
{
    const json_t *list = json_object_get(o->spec, "networks");
    struct network n;
    int best = -1;

    if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
        return -1;
    }
    if (json_array_size(list) == 0) {
        return 0;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (network_read(json_array_get(list, i), &n) && network_has(&n, at)) {
            best = MAX(best, (int)n.net.prefix);
        }
    }
    return best;
}

static const struct object *pick(const struct policy *p, const char *ns, const struct addr *at)
{
    struct attached all = attach_get(&p->attach, ATTACH_EGRESSES, ns, "");
    const struct object *found = NULL;
    int best = -1;

    for (size_t i = 0; i < all.count; i++) { /* the oldest first */
        int found_best = specificity(all.at[i], at);

        if (found_best > best) {
            best = found_best;
            found = all.at[i];
        }
    }
    return found;
}

const struct object *egress_pick(const struct policy *p, const char *client_ns,
                                 const struct addr *at, struct depends *d)
{
    const struct object *found = NULL;

    depends_on_name(d, ATTACH_EGRESSES, EGRESS_GLOBAL_NS, "");
    if (client_ns[0] != '\0') {
        depends_on_name(d, ATTACH_EGRESSES, client_ns, "");
        found = pick(p, client_ns, at);
    }
    return found != NULL ? found : pick(p, EGRESS_GLOBAL_NS, at);
}

bool egress_is_denied(const struct object *o)
{
    const char *policy = json_text(o->spec, "trafficPolicy");

    return policy == NULL || strcmp(policy, "Allow") != 0;
}

void egress_check(struct reading *r, const struct object *o)
{
    const json_t *list = json_object_get(o->spec, "networks");
    const char *policy = json_text(o->spec, "trafficPolicy");
    struct network n;
    size_t good = 0;

    reading_at(r, "spec.trafficPolicy");
    if (policy == NULL || (strcmp(policy, "Allow") != 0 && strcmp(policy, "Deny") != 0)) {
        reading_complain(r, "trafficPolicy is neither Allow nor Deny, so nothing is let out");
        reading_advise(r, "write Allow or Deny");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        reading_at(r, "spec.networks[%zu]", i);
        if (!network_read(json_array_get(list, i), &n)) {
            reading_complain(r, "network %zu is no CIDR, or an exception lies outside of it", i);
            continue;
        }
        good++;
        for (size_t k = 0; k < r->env->cluster_networks_count; k++) {
            const struct cidr *own = &r->env->cluster_networks[k];

            if (network_has(&n, &own->base) || cidr_contains(own, &n.net.base)) {
                reading_complain(r,
                                 "network %zu overlaps the cluster's own, which no "
                                 "EgressNetwork has a say in",
                                 i);
                reading_advise(r, "take the cluster's networks out of it with `except`");
            }
        }
    }
    reading_at(r, "spec.networks");
    if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
        reading_refuse(r, "networks is no list");
    } else if (json_array_size(list) > 0 && good == 0) {
        reading_refuse(r, "none of its networks can be read");
    }
}
