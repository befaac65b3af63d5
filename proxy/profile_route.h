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
 */
#include "proxy/exchange.h"

/* A request to a destination whose `p->profile.service` is not NULL. */
void profile_outbound(struct exchange *ex, const struct outbound_policy *p);

#endif
