/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_SETTINGS_H
#define CONTROL_POLICY_SETTINGS_H

/*
 * What annotations say of timeouts, retries, failure accrual and load (wire 6.2, 6.3).
 */
#include "control/policy/reading.h"

typedef Io__Linkerd__Proxy__Outbound__FailureAccrual accrual_message;

struct timeouts { /* 0: none */
    uint64_t request_ns, response_ns, idle_ns;
};
bool timeouts_are_set(const struct timeouts *t);

struct settings {
    struct timeouts timeouts;
    void *http_retry, *grpc_retry; /* messages; NULL: none */
    accrual_message *accrual;      /* NULL: none */
    bool penalizes;                /* failures count as slow answers */
    uint64_t penalty_ns, max_retry_after_ns;
};
/* A route has timeouts and retries; a Service or an EgressNetwork everything. */
void settings_read(struct reading *r, const struct object *o, bool is_route, struct settings *out);
bool settings_has_prefix(const char *name); /* an annotation of these, or one that there is not */
/* Complains of annotations whose prefix is ours and whose name is not: a slip of the pen has no effect. */
void settings_check_names(struct reading *r, const struct object *o, bool is_route);

#endif
