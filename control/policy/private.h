/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_PRIVATE_H
#define CONTROL_POLICY_PRIVATE_H

/*
 * What the files of the policy engine share.
 *
 *   policy.c    life, questions, which topics an event touches
 *   inbound.c   the topic of WatchPort
 *   authz.c     default policies as authorizations
 *   outbound.c  the topic of Watch
 *   route.c     default routes and their backends
 */
#include "api/inbound.pb-c.h"
#include "api/outbound.pb-c.h"
#include "control/message.h"
#include "control/policy/policy.h"
#include "control/question.h"
#include "control/servers.h"

/* Letters of dependencies (topic.h). */
enum {
    DEP_POD = 'p',
    DEP_EXTERNAL = 'w',
    DEP_SERVERS = 'v', /* of a namespace */
    DEP_SERVICE = 's',
    DEP_IP = 'i',      /* of services */
};
enum { CHANGED = 2 };

#define DETECT_TIMEOUT_NS (10 * NS_PER_S) /* wire 9.4, 9.6 */
#define ANSWER_ARENA_BYTES (2 * VIEW_ARENA_BYTES)

struct policy {
    const struct control_env *env;
    struct topics topics;
    struct servers servers;
    struct cluster_watch watch;
};

/* --- authz.c --------------------------------------------------------------------------------------- */

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

/* --- route.c --------------------------------------------------------------------------------------- */

typedef Io__Linkerd__Proxy__Outbound__Backend backend;
typedef Io__Linkerd__Proxy__Outbound__OutboundPolicy outbound_policy;

enum outbound_protocol { OUTBOUND_DETECT, OUTBOUND_OPAQUE, OUTBOUND_HTTP1, OUTBOUND_HTTP2 };
struct outbound_routes { /* names of the default routes, and where all of them lead */
    const char *http, *opaque;
    backend *backend;
};
backend *backend_balancer(message_metadata *of, const char *path, struct arena *a);  /* borrows path */
backend *backend_forward(message_metadata *of, const struct addr *to, struct arena *a);
outbound_policy *outbound_answer(message_metadata *of, enum outbound_protocol protocol,
                                 const struct outbound_routes *routes, struct arena *a);
/* All connections are refused by the route of that name. */
outbound_policy *outbound_forbidden(message_metadata *of, const char *route, struct arena *a);
/* Every request: the prefix "/". */
Io__Linkerd__Proxy__HttpRoute__HttpRouteMatch *match_all(struct arena *a);

/* --- inbound.c, outbound.c -------------------------------------------------------------------------- */

struct topic *inbound_new(struct policy *p, const struct workload_name *workload, uint16_t port);
struct topic *outbound_new_address(struct policy *p, const struct addr *at);
struct topic *outbound_new_name(struct policy *p, const struct service_name *name);

#endif
