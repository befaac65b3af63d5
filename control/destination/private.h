/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_DESTINATION_PRIVATE_H
#define CONTROL_DESTINATION_PRIVATE_H

/*
 * What the files of the destination engine share.
 *
 *   destination.c  life, questions, which topics an event touches
 *   endpoints.c    the topic of Get: a service's endpoints and their changes
 *   endpoint.c     one endpoint as a message
 *   profile.c      the topic of GetProfile
 *   profile_routes.c  what a ServiceProfile adds to it
 */
#include "api/destination.pb-c.h"
#include "control/destination/destination.h"
#include "control/message.h"
#include "control/question.h"
#include "control/servers.h"

#define LABEL_ZONE "topology.kubernetes.io/zone"

/* Letters of dependencies (topic.h). */
enum {
    DEP_SERVICE = 's',
    DEP_SLICES = 'l',      /* of a service */
    DEP_POD = 'p',
    DEP_EXTERNAL = 'w',
    DEP_SERVERS = 'v',     /* of a namespace */
    DEP_REPLICA_SET = 'r', /* names its Deployment */
    DEP_JOB = 'j',         /* names its CronJob */
    DEP_NODE = 'n',        /* knows its zone */
    DEP_IP = 'i',
    DEP_HOST_PORT = 'h',
    DEP_PROFILE = 'f',     /* a ServiceProfile */
};
/* What a touch says about an answer made of many endpoints. */
enum {
    CHANGED_SOME = 2, /* compare: unchanged objects give unchanged endpoints */
    CHANGED_ALL = 4,  /* something that many endpoints are read from */
};

struct destination {
    const struct control_env *env;
    struct topics topics;
    struct servers servers;
    struct cluster_watch watch;
};

/* The zone of a node; "" when it is unknown. */
const char *destination_zone(const struct destination *d, const char *node);
/* What names the owner of the pod, as a dependency; empty when it stands for itself. */
struct bytes destination_owner_key(const struct object *pod, char to[DEP_KEY_BYTES]);

/* --- endpoint.c ------------------------------------------------------------------------------------ */

typedef Io__Linkerd__Proxy__Destination__WeightedAddr weighted_addr;

struct endpoint_facts {
    struct addr addr;
    const struct object *of;      /* Pod or ExternalWorkload; NULL: of neither */
    const char *zone;             /* of the endpoint, "" unknown */
    const char *client_zone;      /* "" unknown */
    const char *authority;        /* of a service mirrored from another cluster, with port; NULL */
    const char *gateway_identity; /* of the gateway there; NULL */
    bool with_ns;                 /* label it with its namespace */
};
#define ENDPOINT_ARENA_BYTES (VIEW_ARENA_BYTES + (1u << 20))
/* NULL: a pod that claims to have a proxy of which nothing is found; traffic to it would fail. The arena
 * must have room for ENDPOINT_ARENA_BYTES. */
weighted_addr *endpoint_message(const struct destination *d, const struct endpoint_facts *f, struct arena *a,
                                bool *out_is_opaque);

/* --- endpoints.c, profile.c ------------------------------------------------------------------------- */

/* Where the asking client is. */
struct place {
    bool by_node;       /* the answer follows this node; otherwise only `zone` matters */
    char node[OBJECT_NAME_BYTES], zone[OBJECT_NAME_BYTES];
    char ns[OBJECT_NS_BYTES]; /* of profiles: whose ServiceProfiles come first; "" nobody's */
};
const char *place_zone(const struct destination *d, const struct place *p);
struct topic *endpoints_new(struct destination *d, const struct service_name *name,
                            const struct place *place);
struct topic *profile_new_address(struct destination *d, const struct addr *at,
                                  const struct place *place);
struct topic *profile_new_name(struct destination *d, const struct service_name *name,
                               const struct place *place);

#endif
