/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MESH_CONTROL_STATS_H
#define MESH_CONTROL_STATS_H

/*
 * The figures of a channel to the control plane (wire 7.2): control_request_total and its responses,
 * and control_NAME_balancer_* of the channels identity, destination and policy, opentelemetry_balancer_* of
 * trace_collector. Private to a channel.
 *
 * A channel has one connection at a time, to one of the addresses that its name has. So of its
 * endpoints one is ready while it is connected, and the rest are pending; its queue is what waits for
 * a connection; and the gate is shut while all addresses have failed.
 *
 * Recorded in the loop's metrics; where it has none, nothing is counted.
 */
#include "core/metric.h"
#include "http/grpc.h"
#include "net/addr.h"

struct balancer_families;
struct control_stats {
    struct metrics *metrics; /* NULL: nothing is counted */
    char *addr_labels, *labels; /* addr="..."; the same with tls; owned */
    const struct balancer_families *families; /* NULL: a channel of another name */
    struct series *requests, *added, *removed, *queued, *queue_latency, *opened, *shut;
    uint64_t gate_wall_ns; /* when it was opened, or shut */
    bool is_shut;
};

/* `server_name` NULL: without TLS. */
void control_stats_init(struct control_stats *s, struct metrics *m, const char *name,
                        const char *authority, const char *server_name);
void control_stats_clear(struct control_stats *s);

void control_stats_queued(struct control_stats *s); /* somebody waits for the connection */
void control_stats_request(struct control_stats *s, uint64_t waited_ns); /* and has got it */
/* It ended. `first_ns`: from the request to the first message, or to the end. */
void control_stats_response(struct control_stats *s, enum grpc_status status, int err,
                            uint64_t first_ns);
void control_stats_addrs(struct control_stats *s, const struct addr *old, size_t old_count,
                         const struct addr *now, size_t now_count);
void control_stats_gate(struct control_stats *s, bool is_shut); /* idempotent */
/* The gauges, computed. */
void control_stats_collect(const struct control_stats *s, struct metric_samples *to, size_t addrs,
                           size_t ready, size_t waiting);

#endif
