/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_ATTACH_H
#define CONTROL_POLICY_ATTACH_H

/*
 * Which policy objects speak of what: routes by their parents, authorizations by their targets. The keys
 * are those of dependencies (topic.h), so what an object is found under is also whom its events concern.
 *
 * Ownership: holds a reference to each object; answers borrow until the next event.
 */
#include "control/policy/reading.h"

/* Letters of dependencies, beside those of reading.h. */
enum {
    ATTACH_SERVER = 'a',        /* of a Server: routes, authorizations, rate limits */
    ATTACH_NAMESPACE = 'b',     /* of all Servers of a namespace: authorizations */
    ATTACH_LINKERD_ROUTE = 'h', /* of an HTTPRoute: authorizations */
    ATTACH_GATEWAY_ROUTE = 'g',
    ATTACH_GRPC_ROUTE = 'c',
    ATTACH_SERVICE = 'o',       /* of a Service: routes */
    ATTACH_EGRESS = 'e',        /* of an EgressNetwork: routes */
    ATTACH_EGRESSES = 'x',      /* of a namespace: its EgressNetworks */
    ATTACH_SELF = 'm',          /* + kind: an authentication, by its own name */
};

struct attach {
    struct map by_key; /* struct attach_list */
};
struct attached { /* the oldest first */
    const struct object *const *at;
    size_t count;
};
void attach_init(struct attach *x);
void attach_clear(struct attach *x);
void attach_on_event(struct attach *x, enum cluster_event e, const struct object *o,
                     const struct object *old);
struct attached attach_get(const struct attach *x, char letter, const char *ns, const char *name);

/* Objects of that kind speak of others, and are to be told to attach_on_event(). */
bool attach_is_for(enum kind k);
/* Everything that the object speaks of. */
typedef void attach_visit(void *user, struct bytes key);
void attach_keys(const struct object *o, attach_visit *visit, void *user);
/* The letter under which authorizations of a route are found; 0: of no route. */
char attach_letter_of_route(enum kind k);
char attach_letter_of_self(enum kind k); /* of an authentication */

#endif
