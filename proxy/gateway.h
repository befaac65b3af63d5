/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_GATEWAY_H
#define PROXY_GATEWAY_H

/*
 * The multicluster gateway (wire 4.6, 5.5): a transport header that names a service asks this proxy to
 * carry the connection on, to that service.
 *
 * It stays an inbound connection: the policy of the inbound port says who may, of opaque ones as long
 * as they last, and request by request by its routes, limits and filters. What is let in goes on as
 * outbound traffic does, by the policy and the profile of the name, and is counted as that on its way
 * out; its failures are the inbound side's.
 *
 * Only names below INBOUND_GATEWAY_SUFFIXES that the control plane knows are carried: requests for
 * others are answered with 404, opaque connections closed; a proxy without suffixes closes all.
 * Requests get a `forwarded` element that names us and the client; one that has ours already has come
 * full circle, 508, as has one of a client that has our own identity.
 */
#include "proxy/exchange.h"
#include "proxy/transport.h"

struct gateway {                   /* of a connection; owned by it */
    struct conn *conn;
    bool is_served;                /* the suffixes have it */
    struct discovery_entry *entry; /* of an opaque connection: held; NULL: not asked yet */
    struct discovery_waiter waiter;
    const struct snapshot *policy; /* of the name; reference; NULL: not known yet */
    struct bytes authority;        /* the name without its port where that is HTTP's */
    char name[TRANSPORT_NAME_MAX + sizeof(":65535")]; /* "host:port" */
};

/* An inbound connection to our own port, whose header has a name. */
void gateway_begin(struct conn *c, const struct transport_header *header);
void gateway_policy_known(struct conn *c); /* of the inbound port */
/* Before the inbound port judges a request: it is for the name that the connection is for, whichever
 * one it says itself. */
void gateway_address(struct exchange *ex);
/* A request that the inbound port lets in. `held`: what edited it; kept while the request may point
 * into it, NULL: nothing did. */
void gateway_request(struct exchange *ex, const struct snapshot *held);
void gateway_close(struct conn *c); /* idempotent */

/* Does one of the comma separated suffixes fit? "svc.cluster.local." is below "."; a last dot is
 * nothing. Pure. */
bool gateway_has_suffix(const char *suffixes, struct bytes host);

#endif
