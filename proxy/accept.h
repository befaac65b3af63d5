/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_ACCEPT_H
#define PROXY_ACCEPT_H

/*
 * What the steps of an accepted connection tell inbound.c and outbound.c. Private to the three.
 */
#include "proxy/exchange.h"
#include "proxy/transport.h"

void inbound_accepted(struct conn *c);
void outbound_accepted(struct conn *c);
/* Inbound only: the first bytes were looked at; `is_tls` with this server name; the handshake is done; the transport header
 * was read. */
void accept_peeked(struct conn *c, bool is_tls, struct bytes sni);
void accept_secured(struct conn *c);
void accept_transport(struct conn *c, const struct transport_header *header);
void accept_detected(struct conn *c, enum detected protocol);
void opaque_meter(struct conn *c);
void proxy_worker_conn_gone(struct proxy_worker *w);

#endif
