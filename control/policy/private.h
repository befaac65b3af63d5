/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_PRIVATE_H
#define CONTROL_POLICY_PRIVATE_H

/*
 * What the files of the policy engine share.
 *
 *   policy.c         life, questions, which topics an event touches
 *   attach.c         which objects speak of what
 *   problems.c       the list of what is wrong with the objects; checks.c: what is looked for in each kind;
 *                    fields.c, unknown.c: fields that there are not; annotations.c: annotations
 *   reading.c        values and references in objects; clients.c, match.c, filter.c, settings.c: parts
 *   inbound.c        the topic of WatchPort
 *   authz.c          default policies as authorizations
 *   grant.c          objects that let clients in
 *   inbound_route.c  routes of a Server
 *   rate_limit.c     its rate limit
 *   outbound.c       the topic of Watch
 *   egress.c         which EgressNetwork an address belongs to
 *   backend.c        backends and how traffic is spread over them
 *   reach.c          whether a Server has a port of any pod
 *   route.c          routes of a Service or an EgressNetwork, and their default ones
 */
#include "control/policy/attach.h"
#include "control/policy/policy.h"
#include "control/policy/route.h"
#include "control/question.h"
#include "control/servers.h"
#include "core/clock.h"

enum { CHANGED = 2 };

#define DETECT_TIMEOUT_NS (10 * NS_PER_S) /* wire 9.4, 9.6 */
#define ANSWER_BYTES_MAX  (4u << 20)      /* what gRPC clients take in one message unless told otherwise */
#define EGRESS_GLOBAL_NS  "linkerd-egress"

struct problems {
    struct policy_problem *at;
    size_t count, capacity;
    struct timer look;
};

struct policy {
    const struct control_env *env;
    struct topics topics;
    struct servers servers;
    struct attach attach;
    struct problems problems;
    struct cluster_watch watch;
    uint64_t computed; /* answers read from the cluster; for tests */
};

/* --- authz.c, grant.c ------------------------------------------------------------------------------ */

typedef Io__Linkerd__Proxy__Inbound__Authz authz;

struct authz_list {
    authz **at; /* NULL when empty: nobody may */
    size_t count;
};
bool default_policy_is_known(const char *name); /* "all-authenticated", "deny", ...; NULL is not */
/* The same with clients' identities required. Static storage. */
const char *default_policy_authenticated(const char *name);
struct authz_list default_policy_authorizations(const struct control_env *env, const char *name,
                                                struct arena *a);
/* Kubelets probe from the node, without a proxy: everybody in the probe networks may. */
authz *probe_authorization(const struct control_env *env, struct arena *a);
void authz_set_networks(authz *m, const struct cidr *networks, size_t count, struct arena *a);
void *authn_anybody(struct arena *a); /* inbound.Authn */

/* NULL and a refusal when it is to have no effect. */
authz *server_authorization_read(struct reading *r, const struct object *o);
authz *authorization_policy_read(struct reading *r, const struct object *o);
void mesh_tls_authentication_read(struct reading *r, const struct object *o);
void network_authentication_read(struct reading *r, const struct object *o);
/* `like`: arena and dependencies to use. */
struct authz_list server_authorizations(const struct policy *p, const struct object *server,
                                        const struct reading *like);
struct authz_list route_authorizations(const struct policy *p, const struct object *route,
                                       struct authz_list server, const struct reading *like);
struct authz_list authz_list_join(struct authz_list first, struct authz_list then, struct arena *a);

/* --- inbound_route.c, rate_limit.c ------------------------------------------------------------------ */

typedef Io__Linkerd__Proxy__Inbound__HttpLocalRateLimit rate_limit_message;

/* NULL and a refusal: nobody knows which requests it is for. A route and a refusal: of those that it is for
 * none may be let in. */
void *inbound_route_read(struct reading *r, const struct object *o);
/* Those of the Server that are of its protocol, each with its own authorizations before the Server's. NULL:
 * one of them may be for any request, and no request may be let in. */
void *inbound_routes(const struct policy *p, const struct object *server, bool is_grpc,
                     struct authz_list authorizations, const struct reading *like, size_t *out_count);
rate_limit_message *rate_limit_read(struct reading *r, const struct object *o); /* NULL and a refusal */
const struct object *rate_limit_find(const struct policy *p, const char *ns, const char *server);

/* --- egress.c ------------------------------------------------------------------------------------- */

/* The EgressNetwork that an address out of the cluster belongs to; NULL: none. */
const struct object *egress_pick(const struct policy *p, const char *client_ns, const struct addr *at,
                                 struct depends *d);
bool egress_is_denied(const struct object *o);
void egress_check(struct reading *r, const struct object *o);

/* --- problems.c ------------------------------------------------------------------------------------ */

void problems_init(struct problems *l);
void problems_clear(struct policy *p);
void problems_touch(struct policy *p); /* look at all objects again, soon */

/* --- checks.c -------------------------------------------------------------------------------------- */

/* At one object. */
struct look {
    struct reading reading;
    struct found found;
    enum policy_effect effect; /* on the whole */
};
uint64_t checked_kinds(void); /* bits as in a watch */
/* The event may change what is wrong with an object. Pods and what makes them change all the time, and seldom
 * what they say. `old`: as a watch has it. */
bool check_matters(const struct object *o, const struct object *old);
/* All that is wrong with it, and what becomes of it; of kinds that are not checked nothing. */
void check_object(const struct policy *p, struct look *l, const struct object *o);

/* --- annotations.c --------------------------------------------------------------------------------- */

/* Complains of annotations of a sidecar that there are not, or whose value is none. */
void annotations_check(struct reading *r, const struct object *o);
/* The same for those of a Namespace, a Pod, or the pods that something makes; a value that is none is a
 * refusal, for no such pod is made. */
void pod_annotations_check(struct reading *r, const struct object *o);
bool pod_annotations_are_equal(const struct object *a, const struct object *b);

/* --- reach.c --------------------------------------------------------------------------------------- */

/* Refuses a Server, which can be read, when it has no port of any pod of its namespace. */
void server_reach_check(const struct policy *p, struct reading *r, const struct object *server);
bool reach_describes_pods(enum kind k);
/* Two versions of such an object are the same to Servers. */
bool reach_is_equal(const struct object *a, const struct object *b);

/* --- inbound.c, outbound.c -------------------------------------------------------------------------- */

struct topic *inbound_new(struct policy *p, const struct workload_name *workload, uint16_t port);
/* `client_ns`: whose routes count, too; "" for nobody's. */
struct topic *outbound_new_address(struct policy *p, const struct addr *at, const char *client_ns);
struct topic *outbound_new_name(struct policy *p, const struct service_name *name,
                                const char *client_ns);

#endif
