/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_DESTINATION_DESTINATION_H
#define CONTROL_DESTINATION_DESTINATION_H

/*
 * The destination engine: endpoints of services and profiles of addresses, computed from the cluster once for each
 * distinct question, encoded once for all who asked it (design D5; wire 3.2, 11).
 *
 * A question is keyed by what its answer depends on: path, the client's namespace, and its node and zone where they
 * matter; never by the pod's name in the context token.
 */
#include "control/component.h"

struct destination;
struct destination *destination_new(const struct control_env *env);
void destination_free(struct destination *d);

struct destination_subscriber { /* embedded in whoever asks */
    struct list node;
    /* An encoded destination.Update or DestinationProfile, borrowed. A new subscriber's first message is complete. */
    void (*on_message)(struct destination_subscriber *s, struct bytes message);
    /* The engine ends it, with a status for the client. Not subscribed any more when it is called. */
    void (*on_end)(struct destination_subscriber *s, enum grpc_status status, const char *message);
    void *topic;                /* internal */
};
/* `request`: a packed GetDestination. Messages come from tasks. */
void destination_get(struct destination *d, struct bytes request, struct destination_subscriber *s);
void destination_get_profile(struct destination *d, struct bytes request, struct destination_subscriber *s);
void destination_unsubscribe(struct destination_subscriber *s); /* idempotent */

#endif
