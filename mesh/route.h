/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_ROUTE_H
#define MESH_ROUTE_H

/*
 * The evaluator (decision D13): pure functions from a snapshot and the facts of a request to a
 * decision, with a trail of what was tried and why it lost when one is asked for. No I/O, no clock.
 */
#include "core/rand.h"
#include "core/text.h"
#include "http/message.h"
#include "mesh/policy.h"

struct trail {        /* NULL on the data path */
    struct text text; /* a line for each thing tried */
};

/* "host:port" without its port, which is empty where there is none. */
struct bytes authority_host(struct bytes authority, struct bytes *out_port);

struct route_choice {
    const struct route *route;
    const struct rule *rule;
    const struct route_match *match;
};
/*
 * The most specific route for a request (wire 5.6). 0; E_NOT_FOUND: none matches. Which list
 * to look at is the caller's choice; hosts match `h->authority` without port.
 */
int route_choose(const struct route_list *routes, const struct head *h, struct route_choice *out,
                 struct trail *trail) MUST_USE;

/* The most specific TLS route for a server name (empty: none was sent): exact, then the longer
 * suffix, then those that name none. 0; E_NOT_FOUND. */
int route_choose_sni(const struct route_list *routes, struct bytes sni, const struct route **out,
                     struct trail *trail) MUST_USE;

/*
 * Which backend of a rule: weighted random among those for which `is_available(user, backend)`
 * holds, or the first such. NULL is_available: all are. 0 and an index into rule->backends;
 * E_NO_ENDPOINT; E_NOT_FOUND when the list is empty.
 */
int route_pick_backend(const struct rule *rule, struct rand *rand,
                       bool (*is_available)(void *user, size_t backend), void *user,
                       size_t *out_index, struct trail *trail) MUST_USE;

struct client_facts {
    struct addr addr;
    bool is_tls;     /* TLS that this proxy terminated */
    struct bytes id; /* empty: none */
};
struct authz_choice {
    const struct server_route *route; /* NULL for opaque traffic */
    const struct rule *rule;          /* the rule that matched, for its filters */
    const struct route_match *match;
    const struct authz *authz;
};
/*
 * 0; E_NOT_FOUND: no route (404); E_DENIED: 403. `out->route` is set in the latter case too.
 * Loopback clients are always allowed (the implicit `localhost` authorization). `h` NULL: opaque
 * traffic, only server authz.
 */
int policy_authorize(const struct server_policy *p, const struct client_facts *client,
                     const struct head *h, struct authz_choice *out, struct trail *trail) MUST_USE;

#endif
