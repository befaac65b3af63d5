/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_POLICY_H
#define CONTROL_POLICY_POLICY_H

/*
 * The policy engine: what a port of a workload lets in, and how traffic to an address or name is routed
 * (wire 3.4, 3.5, 9). One answer for each distinct question, encoded once (topic.h).
 */
#include "control/component.h"
#include "control/topic.h"

struct policy;
struct policy *policy_new(const struct control_env *env);
void policy_free(struct policy *p); /* NULL is fine */
bool policy_is_synced(const struct policy *p);

/* GRPC_OK: subscribed; each message is a whole answer, and comes from a task once the cluster is synced.
 * Otherwise the status for the client, and the reason in *out_why (static).
 *   policy_watch_port():     a packed PortSpec; inbound.Server
 *   policy_watch_outbound(): a packed TrafficSpec; outbound.OutboundPolicy */
enum grpc_status policy_watch_port(struct policy *p, struct bytes request, struct subscriber *s,
                                   const char **out_why) MUST_USE;
enum grpc_status policy_watch_outbound(struct policy *p, struct bytes request, struct subscriber *s,
                                       const char **out_why) MUST_USE;

/* What is wrong with policies, routes, profiles and annotations, also said once each in the log, and what
 * becomes of them until they are mended. Of an object there are at most nine: what bears on the whole first,
 * and in the ninth how many there are beyond eight. Borrowed until the next turn of the loop. */
struct policy_problem {
    enum kind kind;
    char *ns, *name, *source, *reason; /* source: "web.yaml:12"; "" for an API server */
    char *field;                       /* where: "spec.rules[0].backendRefs"; "" unknown */
    char *advice;                      /* what to do */
    enum policy_effect {
        EFFECT_PART,     /* one setting of it is left out */
        EFFECT_BESIDE,   /* the same, and another problem keeps all of it from having an effect */
        EFFECT_NONE,     /* it is left out as a whole */
        EFFECT_SHUT,     /* a route of a Server: requests are kept out on its account */
        EFFECT_OPEN,     /* a Server: nobody knows which ports it guards, so they have the default policy */
        EFFECT_UNLIMITED, /* a rate limit: its Server has none */
        EFFECT_UNMADE     /* of pods: none that is to have a sidecar is made */
    } effect;
    unsigned index; /* among those of the object */
};
const struct policy_problem *policy_problems(const struct policy *p, size_t *out_count);

#endif
