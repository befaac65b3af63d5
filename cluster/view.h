/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_VIEW_H
#define CLUSTER_VIEW_H

/*
 * Typed views of the objects that the control plane works with, so that the shape of their JSON is
 * known here alone. A view reads once and never fails on odd contents: what is missing or malformed
 * counts as absent, a malformed item of a list is left out.
 *
 * Limits: VIEW_*_MAX items a list; further ones are left out and `is_cut` says so. The arena's limit
 * ends it in the same way. No view needs more than VIEW_ARENA_BYTES.
 * Ownership: arrays live in the caller's arena, strings borrow from the object: keep a reference to
 * the object and the arena as long as the view.
 * Threads: any; objects are immutable.
 */
#include "cluster/cluster.h"
#include "cluster/index.h"
#include "core/arena.h"
#include "net/addr.h"

#define VIEW_IPS_MAX        4 /* dual stack has two */
#define VIEW_PORTS_MAX      1024
#define VIEW_CONTAINERS_MAX 64
#define VIEW_PROBES_MAX     (3 * VIEW_CONTAINERS_MAX)
#define VIEW_ENDPOINTS_MAX  10000 /* the API allows 1000 a slice */
#define VIEW_ADDRESSES_MAX  100
#define VIEW_HINTS_MAX      16
#define VIEW_ARENA_BYTES    (8u << 20)

/* --- port sets ----------------------------------------------------------------------------------- */

#define PORT_RANGES_MAX 128

struct port_range {
    uint16_t first, last; /* inclusive, first <= last */
};
struct port_set {
    unsigned count;
    struct port_range ranges[PORT_RANGES_MAX];
};

/* "25,587,3000-3010", blanks round an item are fine, "" is the empty set. Strict: E_SYNTAX, E_RANGE
 * (port 0, above 65535, a range backwards), E_LIMIT; `out` untouched. */
int port_set_parse(struct bytes text, struct port_set *out) MUST_USE;
bool port_set_has(const struct port_set *s, uint16_t port);
int port_set_add(struct port_set *s, uint16_t first, uint16_t last) MUST_USE; /* E_RANGE, E_LIMIT */

enum port_protocol { PORT_TCP, PORT_UDP, PORT_SCTP };

/* --- service ------------------------------------------------------------------------------------- */

struct service_port {
    const char *name;        /* "" when it has none */
    uint16_t port;
    enum port_protocol protocol;
    uint16_t target_port;    /* 0 when it is named; `port` itself when the manifest has none */
    const char *target_name; /* NULL unless the target is a named container port */
    uint16_t node_port;      /* 0: none */
    const char *app_protocol; /* NULL when absent */
};
struct service_view {
    const struct object *object;
    const char *type;           /* "ClusterIP" when absent */
    bool is_headless;           /* clusterIP: None */
    bool is_external_name;
    const char *external_name;  /* NULL unless is_external_name */
    struct addr cluster_ips[VIEW_IPS_MAX]; /* port 0 */
    unsigned cluster_ips_count;
    const struct service_port *ports;
    size_t ports_count;
    const json_t *selector;     /* NULL when absent or empty: somebody else makes its endpoints */
    bool is_local_only;         /* internalTrafficPolicy: Local */
    bool publishes_not_ready;   /* publishNotReadyAddresses */
    bool has_opaque_ports;      /* the annotation is there, even if empty: no defaults then */
    struct port_set opaque_ports; /* names of ports in it are resolved */
    bool is_cut;
};
void service_view_read(const struct object *service, struct arena *a, struct service_view *out);
/* The TCP port of that number; NULL when there is none. */
const struct service_port *service_view_port(const struct service_view *v, uint16_t port);

/* --- endpoint slice ------------------------------------------------------------------------------ */

enum slice_type { SLICE_IPV4, SLICE_IPV6, SLICE_FQDN };

struct slice_port {
    const char *name; /* "" when it has none */
    uint16_t port;    /* 0 when absent (any port) */
    enum port_protocol protocol;
    const char *app_protocol; /* NULL when absent */
};
struct slice_endpoint {
    const struct addr *addresses; /* port 0; none in an FQDN slice */
    size_t addresses_count;
    bool is_ready;        /* an absent condition means ready */
    bool is_serving;      /* absent: as is_ready */
    bool is_terminating;
    /* targetRef; NULL when absent; the namespace defaults to the slice's */
    const char *target_kind, *target_ns, *target_name;
    const char *node;     /* NULL when absent, like the rest */
    const char *zone;
    const char *hostname;
    const char *const *hint_zones;
    size_t hint_zones_count;
};
struct slice_view {
    const struct object *object;
    const char *service;  /* label kubernetes.io/service-name; NULL when absent */
    enum slice_type type;
    const struct slice_endpoint *endpoints;
    size_t endpoints_count;
    const struct slice_port *ports;
    size_t ports_count;
    bool is_cut;
};
void slice_view_read(const struct object *slice, struct arena *a, struct slice_view *out);
/* The TCP port of that name; NULL when there is none. */
const struct slice_port *slice_view_port(const struct slice_view *v, const char *name);

/* --- pod ----------------------------------------------------------------------------------------- */

struct container_port {
    const char *name; /* "" when it has none */
    uint16_t port;
    uint16_t host_port; /* 0: none; with the host's network it is `port` */
    enum port_protocol protocol;
};
struct pod_container {
    const char *name;
    bool is_init;
    const struct container_port *ports;
    size_t ports_count;
};
struct pod_probe { /* liveness, readiness or startup by HTTP, of any container */
    uint16_t port;     /* names are resolved within the container */
    struct bytes path; /* starts with "/"; without a query */
};
struct pod_view {
    const struct object *object;
    struct addr ips[VIEW_IPS_MAX]; /* status.podIPs, else podIP; port 0 */
    unsigned ips_count;
    struct addr host_ip;           /* addr_is_none() when absent */
    const char *phase;             /* "" when absent */
    const char *node;              /* NULL when not scheduled */
    const char *service_account;   /* "default" when absent */
    const char *hostname, *subdomain; /* NULL when absent */
    bool is_host_network;
    bool is_terminating;           /* has a deletionTimestamp */
    const struct pod_container *containers; /* init containers first */
    size_t containers_count;
    const struct pod_probe *probes;
    size_t probes_count;
    bool has_opaque_ports;         /* as in a service */
    struct port_set opaque_ports;  /* names of container ports in it are resolved */
    struct port_set skip_inbound_ports;
    const char *default_inbound_policy; /* annotation; NULL when absent */
    bool is_cut;
};
void pod_view_read(const struct object *pod, struct arena *a, struct pod_view *out);
/* A TCP port of any container by name. */
bool pod_view_port(const struct pod_view *v, const char *name, uint16_t *out_port);

/* These read one thing, without an arena. */
/* The literal value of a variable of the container linkerd-proxy (init or not); NULL when absent. */
const char *pod_proxy_env(const struct object *pod, const char *name);
bool pod_has_traffic(const struct object *pod); /* neither finished nor terminating: its address is its own */

#endif
