/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_DESTINATION_DESTINATION_H
#define CONTROL_DESTINATION_DESTINATION_H

/*
 * The destination engine: endpoints of services and profiles of addresses, computed from the cluster
 * once for each distinct question, encoded once for all who asked it (design D5; wire 3.2, 11).
 *
 * A question is keyed by what its answer depends on: the path, the zone of the client's node, and that node
 * itself where a service keeps its traffic on it, of profiles also the client's namespace, whose
 * ServiceProfiles come first; never by the pod's name in the context token.
 */
#include "control/component.h"
#include "control/topic.h"

struct destination;
struct destination *destination_new(const struct control_env *env);
void destination_free(struct destination *d); /* NULL is fine */
bool destination_is_synced(const struct destination *d);

/*
 * `request`: a packed GetDestination. GRPC_OK: subscribed; messages come from tasks, once the cluster is
 * synced. Otherwise the status for the client, and the reason in *out_why (static).
 *   destination_get(): destination.Update. The first one adds all endpoints; a service without any gets no
 *     message until it has one; more than a message may hold follow in further ones.
 *   destination_get_profile(): destination.DestinationProfile.
 */
enum grpc_status destination_get(struct destination *d, struct bytes request, struct subscriber *s,
                                 const char **out_why) MUST_USE;
enum grpc_status destination_get_profile(struct destination *d, struct bytes request, struct subscriber *s,
                                         const char **out_why) MUST_USE;

#endif
