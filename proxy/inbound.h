/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_INBOUND_H
#define PROXY_INBOUND_H

/*
 * What the inbound files share: inbound.c has connections, inbound_request.c their requests.
 */
#include "proxy/conn.h"

static inline const struct server_policy *inbound_policy(const struct conn *c)
{
    return (const struct server_policy *)(const void *)c->policy;
}

static inline struct client_facts inbound_client(const struct conn *c)
{
    return (struct client_facts){
        .addr = c->peer, .is_tls = c->tls == CONN_TLS_MESH, .id = conn_client_id(c)};
}

/* May it, by the port's authorizations? Counted; when not, the connection has ended. */
int inbound_authorize(struct conn *c) MUST_USE;

#endif
