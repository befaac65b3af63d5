/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_ADMIN_H
#define PROXY_ADMIN_H

/*
 * The admin server of port 4191 (wire 2.2), all of it on the control thread: admin.c has the pages,
 * admin_metrics.c the scrape, admin_logs.c the live log, admin_accept.c the way of a connection to
 * them. Private to these.
 *
 * A connection is bare, or TLS of the mesh when its ClientHello has our name; and each request is
 * subject to the inbound policy of the port.
 */
#include "proxy/proxy.h"

#define ADMIN_CONNS_MAX   256 /* that have not shown what they are; the oldest goes */
#define ADMIN_SCRAPES_MAX 32  /* at once, each a copy of all figures; the oldest that is sent goes */

struct admin {
    struct proxy *proxy;
    struct listener listener;
    struct service *service;
    struct list conns; /* of admin_accept.c, the oldest first */
    unsigned conns_count;
    struct discovery_cache *cache; /* of the control thread, for this one policy */
    struct discovery_entry *policy;
};

/* admin.c */
struct service *admin_service_new(struct proxy *p);

void admin_json_error(struct service_request *r, unsigned status, const char *text);

/* Pages that answer later, or go on; `gone` when the client does not wait for it. */
/* admin_metrics.c */
void admin_metrics(struct proxy *p, struct service_request *r);
void admin_metrics_gone(struct service_request *r);
/* admin_logs.c */
void admin_logs(struct proxy *p, struct service_request *r);
void admin_logs_gone(struct service_request *r);

/* admin_accept.c */
int admin_listen(struct admin *a, int fd) MUST_USE; /* takes fd */
void admin_listen_close(struct admin *a);
bool admin_allows(const struct admin *a, const struct service_request *r); /* logged when not */

#endif
