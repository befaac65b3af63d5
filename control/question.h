/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_QUESTION_H
#define CONTROL_QUESTION_H

/*
 * The texts in which proxies ask: names of services, and the tokens that say who asks (wire 3.2, 3.4).
 * Pure functions; every part meets its limit before it is copied.
 */
#include "cluster/cluster.h"
#include "net/addr.h"

#define TOKEN_TEXT_MAX 4096 /* a longer token is none */

struct service_name { /* "HOST.SVC.NS.svc.DOMAIN:PORT" */
    char host[OBJECT_NS_BYTES]; /* "" unless one endpoint is meant */
    char name[OBJECT_NS_BYTES], ns[OBJECT_NS_BYTES];
    uint16_t port;              /* 80 when none is given */
};
/* E_SYNTAX: another domain or shape, a label that cannot be one, a bad port. A final dot is fine. */
int service_name_parse(struct bytes text, const char *cluster_domain, struct service_name *out) MUST_USE;
/* "IP:PORT", "[IPv6]:PORT", or a bare IP with port 80. The bytes of `out` are zeroed first. */
int address_parse(struct bytes text, struct addr *out) MUST_USE;

struct client { /* the context token of destination's questions; what is missing or odd is "" */
    char ns[OBJECT_NS_BYTES], node[OBJECT_NAME_BYTES];
};
void client_parse(struct bytes token, struct client *out);

struct workload_name { /* the workload token of policy's questions */
    char ns[OBJECT_NS_BYTES], name[OBJECT_NAME_BYTES];
    bool is_external;  /* an ExternalWorkload, not a Pod */
};
int workload_name_parse(struct bytes token, struct workload_name *out) MUST_USE; /* E_SYNTAX */

#endif
