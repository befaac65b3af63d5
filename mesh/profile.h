/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_PROFILE_H
#define MESH_PROFILE_H

/*
 * A ServiceProfile as its service's clients use it (wire 3.2, 6.3, 6.4, 7.3): routes that name
 * requests, say which responses are failures, may be retried, and have a timeout; one retry budget
 * for all of them; and other services that stand in for this one.
 *
 * It exists where the profile has routes or overrides and names its service, and the port is known;
 * it then stands in place of the policy's HTTP routes. It is part of an outbound_policy, immutable
 * as that is, and goes with it.
 *
 * What cannot be understood is left out, and the rest stays: a route or a response class whose
 * condition is malformed, nests deeper than PROFILE_DEPTH_MAX, or has an expression that
 * regex_new() refuses; an override that is no name with a port. A budget beyond the bounds of wire
 * 6.3 is none: nothing is retried.
 * Limits: PROFILE_ROUTES_MAX routes and PROFILE_NODES_MAX conditions in all, in their order; what
 * comes behind them is left out. Choosing is linear in both, and each expression has its own limit
 * of steps (match.h).
 */
#include "http/message.h"
#include "mesh/budget.h"
#include "mesh/policy.h"
#include "mesh/route.h"

#define PROFILE_DEPTH_MAX  48 /* the control plane takes 16, each of which can become two */
#define PROFILE_ROUTES_MAX 1000
#define PROFILE_NODES_MAX  10000
#define PROFILE_LABELS_MAX 16 /* of one route */
#define PROFILE_DST_MAX    400

enum profile_op { PROFILE_ALL, PROFILE_ANY, PROFILE_NOT, PROFILE_PATH, PROFILE_METHOD, PROFILE_STATUS };
struct profile_match { /* a condition on a request, or on a response (PROFILE_STATUS) */
    enum profile_op op;
    const struct profile_match *at; /* ALL, ANY: `count` of them; NOT: one */
    size_t count;
    struct text_match path; /* without the query; the whole of it */
    struct bytes method;
    struct status_range status;
};
struct profile_class {
    struct profile_match when;
    bool is_failure;
};
struct profile_route {
    struct profile_match when;
    struct profile_class *classes;
    size_t classes_count;
    struct bytes labels; /* rt_route="x",..; ready for an exposition, by name; may be empty */
    bool is_retryable;
    uint64_t timeout_ns; /* until the response begins, with all attempts; 0: none */
};

struct service_profile {
    struct bytes dst; /* "name:port": l5d-dst-canonical, label `dst`; at most PROFILE_DST_MAX */
    struct meta parent; /* the service, with its port: whose destinations they are */
    struct profile_route *routes;
    size_t routes_count;
    struct profile_route other; /* of requests that no route names: it has no labels */
    struct budget_terms budget;
    /* Where requests go: the overrides by their weights, or, without any, the service itself. */
    struct rule split;
    struct backend *backends; /* all are balancers; of kind `default` where nobody says what it is */
    size_t backends_count;
};

/* The first that fits, or `other`. `trail` is NULL on the data path (route.h). */
const struct profile_route *profile_choose(const struct service_profile *p, const struct head *h,
                                           struct trail *trail);

enum profile_verdict { PROFILE_UNDECIDED /* by the rule of wire 7.3 */, PROFILE_SUCCESS, PROFILE_FAILURE };
/* By the first class that fits; `status` 0, no response: a failure. */
enum profile_verdict profile_classify(const struct profile_route *r, unsigned status);

#endif
