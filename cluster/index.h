/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_INDEX_H
#define CLUSTER_INDEX_H

/*
 * Who has this address, and which slices does this service have: kept up to date by a watch.
 *
 * It follows events, so add it to the cluster before the watches of its readers: within one event they
 * then see it up to date. Like any reader it may be behind cluster_get() by the events still queued.
 * Ownership: holds a reference to each object; lookups borrow until the next event.
 * Threads: the cluster's loop.
 */
#include "cluster/cluster.h"
#include "net/addr.h"

struct index_set { /* sorted by namespace and name */
    const struct object *const *at;
    size_t count;
};

struct cluster_index {
    struct cluster_watch watch;
    struct map pods;       /* by address */
    struct map host_ports; /* by address and port */
    struct map services;   /* by cluster address */
    struct map workloads;  /* by address */
    struct map slices;     /* by "ns/service" */
};

void cluster_index_open(struct cluster_index *ix, struct cluster *c);
void cluster_index_close(struct cluster_index *ix); /* idempotent; before or after the cluster's */
static inline bool cluster_index_is_synced(const struct cluster_index *ix)
{
    return ix->watch.user != NULL;
}

/* The port of `ip` does not matter. Several answers are a conflict that the caller reports. */
/* Pods that can have traffic (pod_has_traffic()), without those on the host's network. */
struct index_set cluster_index_pods(const struct cluster_index *ix, const struct addr *ip);
/* Pods with a container that is published at this address and port of their node (host network too). */
struct index_set cluster_index_host_port(const struct cluster_index *ix, const struct addr *at);
struct index_set cluster_index_services(const struct cluster_index *ix, const struct addr *ip);
/* ExternalWorkloads. */
struct index_set cluster_index_workloads(const struct cluster_index *ix, const struct addr *ip);
struct index_set cluster_index_slices(const struct cluster_index *ix, const char *ns, const char *service);

#endif
