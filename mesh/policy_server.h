/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_POLICY_SERVER_H
#define MESH_POLICY_SERVER_H

/*
 * What decoded and default inbound policies share. For the files of this folder alone.
 */
#include "mesh/decode.h"

struct server_policy *
server_policy_alloc(struct decode *d); /* empty, one reference; begins the decode into it */
/* An empty route list becomes one catch-all route with the server's authorizations (wire 3.4). */
void server_policy_default_route(struct decode *d, struct server_policy *p);
void authz_name(struct decode *d, struct authz *a); /* labels and is_audit, from its meta */

#endif
