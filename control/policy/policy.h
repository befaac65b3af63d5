/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_POLICY_H
#define CONTROL_POLICY_POLICY_H

/*
 * The policy engine: what a port of a workload lets in, and how traffic to an address or name is routed (wire 3.4, 3.5, 9).
 * One answer for each distinct question, encoded once.
 */
#include "control/component.h"

struct policy;
struct policy *policy_new(const struct control_env *env);
void policy_free(struct policy *p);

struct policy_subscriber {
    struct list node;
    void (*on_message)(struct policy_subscriber *s, struct bytes message); /* inbound.Server or outbound.OutboundPolicy */
    void (*on_end)(struct policy_subscriber *s, enum grpc_status status, const char *message);
    void *topic;
};
void policy_watch_port(struct policy *p, struct bytes request /* PortSpec */, struct policy_subscriber *s);
void policy_watch_outbound(struct policy *p, struct bytes request /* TrafficSpec */, struct policy_subscriber *s);
void policy_unsubscribe(struct policy_subscriber *s); /* idempotent */

#endif
