/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_GATEWAY_H
#define PROXY_GATEWAY_H

/*
 * The multicluster gateway (wire 4.6, 5.5): a transport header that names a service asks this proxy to
 * carry the connection on, to that service. The policy of the inbound port says who may; from then on
 * the connection is an outbound one, routed by the name.
 *
 * Only names below INBOUND_GATEWAY_SUFFIXES are carried: requests for others are answered with 404,
 * opaque connections closed. Requests get a `forwarded` element that names us and the client; one that
 * has ours already has come full circle, 508.
 */
#include "proxy/exchange.h"
#include "proxy/transport.h"

/* An inbound connection to our own port, whose header has a name. */
void gateway_begin(struct conn *c, const struct transport_header *header);
void gateway_policy_known(struct conn *c); /* of the inbound port */
void gateway_request(struct exchange *ex);

/* Does one of the comma separated suffixes fit? "svc.cluster.local." is below "."; a last dot is
 * nothing. Pure. */
bool gateway_has_suffix(const char *suffixes, struct bytes host);

#endif
