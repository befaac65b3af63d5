/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_PROFILE_USE_H
#define PROXY_PROFILE_USE_H

/*
 * Service profiles as one worker uses them: the figures of their routes (wire 7.2: route_*), and
 * their retry budget.
 *
 * A `profile_use` stands for the profile of one service, by direction and `dst`; it has the budget,
 * which goes on when the profile changes in other respects. A `profile_view` is one state of the
 * profile, whose snapshot it holds, with the figures of each route and the destination of each
 * backend, found when it is first used. Connections keep a view, requests are made under one.
 *
 * What counts: a request when its route is known, its response when that has ended or failed, as
 * the client sees it (route_*); and each attempt in the same way (route_actual_*, outbound), where
 * what becomes of an attempt within the time of one try, a new dial say, is no attempt of its own.
 * A client that gives up before the response began leaves none.
 *
 * Ownership: views are counted; a use lives until nobody had a view of it for PROFILE_IDLE_NS, by
 * when its budget has forgotten all.
 * Threads: one worker's.
 */
#include "core/clock.h"
#include "mesh/profile.h"
#include "proxy/dest.h"

#define PROFILE_IDLE_NS (60 * NS_PER_S)
static_assert(PROFILE_IDLE_NS >= BUDGET_TTL_MAX_NS, "a use outlives what its budget knows");

struct profile_view;
/* A reference. `held` is the snapshot that `service` is part of. */
struct profile_view *profile_view_get(struct proxy_worker *w, enum direction dir,
                                      const struct snapshot *held,
                                      const struct service_profile *service);
void profile_view_unref(struct profile_view *v); /* NULL is fine */
const struct service_profile *profile_view_service(const struct profile_view *v);
/* The destination of one of its service's backends; the view holds it while others hold the view. */
struct dest *profile_view_dest(struct profile_view *v, size_t backend);

struct profile_call { /* one request; embedded or in an arena */
    struct profile_view *view; /* reference; NULL: not begun, or ended */
    const struct profile_route *route;
    struct profile_figures *figures;
};
/* Chooses the route and counts the request and its first attempt. */
void profile_call_begin(struct profile_call *call, struct profile_view *v, const struct head *h);
void profile_call_end(struct profile_call *call); /* idempotent */
/* Does the route take it for a failure? `by_rule` is what wire 7.3 says of it. */
bool profile_call_is_failure(const struct profile_call *call, unsigned status, bool by_rule);
/* Pays for another attempt out of the budget; false, and counted, when there is too little. */
bool profile_call_pay(struct profile_call *call);
/* The attempt at hand had this response, which is not the client's; another one begins. */
void profile_call_again(struct profile_call *call, const struct response_facts *f);
/* The client's response, which is the last attempt's. */
void profile_call_response(struct profile_call *call, const struct response_facts *f);

bool profile_sweep(struct proxy_worker *w); /* true: some are left that will be idle long enough */
void profile_clear(struct proxy_worker *w); /* at the worker's end; no view is left */

#endif
