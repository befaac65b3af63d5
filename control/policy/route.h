/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_POLICY_ROUTE_H
#define CONTROL_POLICY_ROUTE_H

/*
 * Outbound routes and backends (wire 3.5, 6.4, 9.6).
 */
#include "control/policy/settings.h"
#include "core/clock.h"

typedef Io__Linkerd__Proxy__Outbound__Backend backend;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Distribution distribution;
typedef Io__Linkerd__Proxy__Outbound__HttpRoute out_http_route;   /* gRPC routes, too */
typedef Io__Linkerd__Proxy__Outbound__TlsRoute out_opaque_route;  /* opaque routes are those without names */

enum family { FAMILY_HTTP, FAMILY_GRPC, FAMILY_OPAQUE }; /* the last one is TLS, too */

/* What is routed. */
struct target {
    const char *ns, *name;
    uint16_t port;
    bool is_egress;        /* an EgressNetwork, not a Service */
    bool is_denied;        /* it lets nothing out unless a route does */
    bool allows_headers;   /* requests may set their own timeouts and retries */
    bool adds_default;     /* behind routes of the user's, too */
    message_metadata *ref;
    backend *backend;      /* where traffic goes without a route */
    struct settings settings;
    const char *http, *grpc, *tls, *opaque; /* names of the default routes */
};

/* --- backend.c ------------------------------------------------------------------------------------- */

backend *backend_failing(message_metadata *of, struct arena *a);
/* Borrows `path`. `s` may be NULL. */
backend *backend_balancer(message_metadata *of, const char *path, const struct settings *s, struct arena *a);
backend *backend_forward(message_metadata *of, const struct addr *to, struct arena *a);
const char *service_path(const struct control_env *env, const char *ns, const char *name, uint16_t port,
                         struct arena *a);
/* It says which ports it has, and this is none of them. */
bool service_lacks_port(const struct object *service, int64_t port);
distribution *distribution_empty(struct arena *a);
distribution *distribution_to(backend *to, struct arena *a);
/* The rule's backendRefs; without any the target itself. `timeout_ns` is of a request to one of them. */
distribution *distribution_read(struct reading *r, const struct target *t, const struct object *o,
                                const json_t *rule, enum family f, uint64_t timeout_ns);

/* --- route.c --------------------------------------------------------------------------------------- */

/* NULL and a refusal when it is to have no effect. */
out_http_route *http_route_read(struct reading *r, const struct target *t, const struct object *o);
out_opaque_route *opaque_route_read(struct reading *r, const struct target *t, const struct object *o);
/* To the target, or what a denied one answers. */
out_http_route *http_route_default(const struct target *t, bool is_grpc, struct arena *a);
out_opaque_route *opaque_route_default(const struct target *t, const char *name, struct arena *a);
out_opaque_route *opaque_route_forbidden(const char *name, struct arena *a);

#endif
