/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_PROFILE_ROUTE_H
#define PROXY_PROFILE_ROUTE_H

/*
 * Requests under a service profile (wire 3.2, "Use of profile"; 6.3, 6.4, 7.2).
 *
 * Outbound it stands in place of the policy's HTTP routes: the request goes to the service, or to
 * those that stand in for it by their weights; a route may have a timeout, and its failures may be
 * tried again while the profile's budget lasts. What the response is counted as is the route's to
 * say, also in request_total and its family.
 *
 * Inbound it is for the figures alone: the profile of the name in l5d-dst-canonical, else of the
 * authority, when the name is under the profile suffixes. Who sends l5d-dst-canonical knows of a
 * profile, so a request with it waits for the answer, for at most the profile's initial timeout
 * (and not again for 10 s after that was in vain); without it a request goes on, and is counted by
 * route once the answer is there. A worker asks for at most 100 names at a time; requests by others
 * have no route.
 */
#include "proxy/exchange.h"

/* A request to a destination whose `p->profile.service` is not NULL. */
void profile_outbound(struct exchange *ex, const struct outbound_policy *p);

/* A request that was let in: `go` sends it on its way, at once or from a task. */
void profile_inbound(struct exchange *ex, void (*go)(struct exchange *ex));
void profile_wait_cancel(struct exchange *ex); /* idempotent; before its stream is closed */
void profile_name_unref(struct profile_name *n); /* NULL is fine */

/* The names of a worker: from its beginning to its end, by when no connection has any. */
void profile_names_open(struct proxy_worker *w);
void profile_names_clear(struct proxy_worker *w);

#endif
