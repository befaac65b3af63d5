/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_SERVERS_H
#define CONTROL_SERVERS_H

/*
 * Which Server (policy.linkerd.io) a port of a workload belongs to (wire 9.4): the Servers of each
 * namespace, kept by their events.
 *
 * Ownership: holds a reference to each Server; answers borrow until the next event.
 */
#include "cluster/view.h"

struct servers {
    struct map by_ns; /* struct server_list */
};
void servers_init(struct servers *s);
void servers_clear(struct servers *s);
void servers_on_event(struct servers *s, enum cluster_event e, const struct object *server);
/* The oldest one, then by name, that selects the workload and has this port; NULL when there is none.
 * `pod`: its view; NULL for an ExternalWorkload. */
const struct object *servers_pick(const struct servers *s, const struct object *workload,
                                  const struct pod_view *pod, uint16_t port);
/* Of two of a namespace that have the same port of a workload the first one counts. */
bool server_is_before(const struct object *a, const struct object *b);
bool server_is_opaque(const struct object *server); /* NULL is not */

#endif
