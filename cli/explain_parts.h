/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_EXPLAIN_PARTS_H
#define CLI_EXPLAIN_PARTS_H

/*
 * The parts of a policy as JSON, for explain.c. Each is a new reference. No request is looked at here.
 */
#include "mesh/policy.h"

#include <jansson.h>

json_t *explain_bytes(struct bytes b);
json_t *explain_meta(const struct meta *m); /* "default NAME", "KIND NAME" or "KIND NAMESPACE/NAME" */
json_t *explain_filters(const struct filter *at, size_t count);
json_t *explain_rate_limit(const struct rate_limit *l);
/* Adds what a request sent by `rule` meets: "backends" and, where there are any, "timeouts" and "retries". */
void explain_set_rule(json_t *to, const struct outbound_policy *p, const struct rule *rule);

#endif
