/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_ACCEPT_H
#define PROXY_ACCEPT_H

/*
 * What the steps of an accepted connection, and its exchanges, ask of inbound.c and outbound.c.
 */
#include "proxy/exchange.h"
#include "proxy/transport.h"

void inbound_accepted(struct conn *c);
void outbound_accepted(struct conn *c);
void inbound_policy_known(struct conn *c);
void outbound_policy_known(struct conn *c);
/* Inbound only: the first bytes were looked at, and are TLS with this server name, or not; the
 * handshake is done; the transport header was read. */
void inbound_peeked(struct conn *c, bool is_tls, struct bytes sni);
void inbound_secured(struct conn *c);
void inbound_transport(struct conn *c, const struct transport_header *header);
uint64_t inbound_detect_timeout_ns(const struct conn *c);
bool inbound_may_be_opaque(const struct conn *c);
struct bytes inbound_labels(const struct conn *c); /* of the server, ready */
void outbound_labels(const struct conn *c, struct labels *l); /* of the parent */
/* Outbound, for TLS routes: the first bytes were looked at. */
void outbound_peeked(struct conn *c, bool is_tls, struct bytes sni);
/* `is_certain`: by bytes, not for want of them. */
void inbound_detected(struct conn *c, enum detected protocol, bool is_certain);
void inbound_protocol_known(struct conn *c, enum detected protocol);
void outbound_protocol_known(struct conn *c, enum detected protocol);
/* By the opaque routes of its policy, or its TLS routes for this server name. */
extern const struct route endpoint_route; /* of addresses that no policy knows, wire 7.2; also the parent */
void outbound_opaque(struct conn *c, struct bytes sni);
void outbound_route_closed(struct conn *c, enum failure why, int err); /* c->route is set */
/* To where opaque traffic would go, if it may: c->opaque is set then. */
void inbound_opaque_early(struct conn *c);
void outbound_opaque_early(struct conn *c);
void inbound_policy_changed(struct conn *c); /* of an opaque connection */
void inbound_request(struct exchange *ex);
/* Has a filter answered the request? `match`: what its route was chosen by. */
bool request_filtered(struct exchange *ex, const struct filter *filters, size_t count,
                      const struct route_match *match);
void outbound_request(struct exchange *ex);
/* By this policy, which is the connection's or, of the same worker, that of a name. */
void outbound_route(struct exchange *ex, const struct outbound_policy *p);
/* outbound_ingress.c: by the name that the request gives (ingress mode), or a gateway's client did. A
 * reference to `held` is kept as long as the request may be sent; NULL is fine. */
void outbound_to_name(struct exchange *ex, struct bytes override, const struct snapshot *held);

#endif
