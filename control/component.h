/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_COMPONENT_H
#define CONTROL_COMPONENT_H

/*
 * What every component of the control plane shares: the environment that main.c gives it, and the few
 * calls by which main.c runs it. Components of one process run on one loop; each has its own port and
 * its own admin port (design D4).
 */
#include "cluster/cluster.h"
#include "cluster/index.h"
#include "cluster/view.h"
#include "core/metric.h"
#include "http/grpc.h"
#include "http/service.h"

struct control_env {
    struct loop *loop;
    struct cluster *cluster;
    struct cluster_index *index;   /* IP -> pod, cluster IP -> service, service -> slices; kept up to date */
    struct metrics *metrics;
    const char *control_ns, *trust_domain, *cluster_domain;
    const struct cidr *cluster_networks;
    size_t cluster_networks_count;
    const char *default_policy;    /* "all-unauthenticated" */
    struct port_set opaque_ports;  /* the cluster's default */
    const struct cidr *probe_networks;
    size_t probe_networks_count;
    bool transport_header;         /* endpoints are reached through their proxy's inbound port */
    bool h2_upgrade;
    bool allow_request_headers;    /* l5d-retry-* and l5d-*timeout of requests count (wire 5.5) */
    const char *issuer_dir;        /* crt.pem, key.pem; or tls.crt, tls.key */
    const char *trust_anchors_file;
    uint64_t issuance_lifetime_ns, clock_skew_ns;
    const char *prometheus_url;    /* "http://prometheus.linkerd.svc.cluster.local:9090" */
    struct addr bind;              /* address to listen on; port is the component's */
    /* Engines that components of one process share; made by main.c when one that needs them is asked for. */
    struct destination *destination; /* control/destination/destination.h */
    struct policy *policy;           /* control/policy/policy.h */
};

enum engine { ENGINE_DESTINATION = 1, ENGINE_POLICY = 2 };
struct component {
    const char *name;              /* "destination" */
    uint16_t port, admin_port;     /* port 0: none; a second one is the component's own business */
    unsigned engines;              /* enum engine bits: what it needs in its environment */
    /* Start serving. `out_state` is the component's. A failure names what to change. */
    int (*open)(const struct control_env *env, void **out_state, char *problem, size_t problem_bytes);
    bool (*is_ready)(const void *state);      /* caches are synced, credentials loaded */
    void (*drain)(void *state);               /* end streams cleanly; may be NULL */
    void (*close)(void *state);
};

/* In the order they are opened. control/main.c picks by name; "all" is every one. */
extern const struct component component_destination; /* control/destination: 8087 */
extern const struct component component_policy;      /* control/policy: 8091 */
extern const struct component component_proxy_api;   /* control/proxy_api: 8086, 8090; both above */
extern const struct component component_identity;    /* control/identity: 8080 */
extern const struct component component_public_api;  /* control/public_api: 8085 */

/* serve.c: listen on env->bind with this port; connections go to a gRPC server or an HTTP service. */
struct port_listener;
int serve_grpc(const struct control_env *env, uint16_t port, struct grpc_server *s,
               struct port_listener **out, char *problem, size_t problem_bytes) MUST_USE;
int serve_http(const struct control_env *env, uint16_t port, struct service *s,
               struct port_listener **out, char *problem, size_t problem_bytes) MUST_USE;
void serve_close(struct port_listener *l); /* NULL is fine */

#endif
