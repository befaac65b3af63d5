/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROXY_CONFIG_H
#define PROXY_CONFIG_H

/*
 * The proxy's whole configuration: the environment of wire 2.1, read once at start.
 *
 * Ownership: one struct for the life of the process; strings are borrowed from the environment.
 */
#include "mesh/policy.h"
#include "net/sock.h"
#include "proxy/trace_resource.h"

struct port_ranges {
    struct port_range {
        uint16_t first, last;
    } * at;
    size_t count;
};
bool port_ranges_has(const struct port_ranges *r, uint16_t port);

struct service_config { /* one control-plane service */
    char host[256];
    uint16_t port;
    const char *name; /* NULL for loopback */
};

struct side_config { /* inbound, outbound */
    struct addr listen[2];
    size_t listen_count;
    uint64_t detect_timeout_ns, connect_timeout_ns, discovery_idle_ns, pool_idle_ns, failfast_ns;
    uint64_t backoff_min_ns, backoff_max_ns;
    double backoff_jitter;
    unsigned queue_capacity, max_in_flight;
    unsigned pool_max; /* idle HTTP/1 connections of an endpoint */
    int backlog;
    struct sock_opts accept_opts, connect_opts;
    /* of accepted HTTP/2 connections; 0: the codec's default */
    uint64_t ping_interval_ns, ping_timeout_ns;
    unsigned streams_max;
    uint32_t stream_window, connection_window;
};

enum access_format { ACCESS_OFF, ACCESS_APACHE, ACCESS_JSON };

struct config {
    struct side_config inbound, outbound;
    struct addr admin_listen;
    struct service_config identity, destination, policy;
    struct service_config trace_collector; /* port 0: there is none */
    struct trace_settings trace;
    const char *identity_dir, *identity_anchors, *identity_token_file, *local_name;
    uint64_t identity_min_refresh_ns, identity_max_refresh_ns;
    const char *context_token, *workload, *profile_suffixes;
    const char *gateway_suffixes; /* NULL: this is no gateway */
    struct cidr *profile_networks, *cluster_networks;
    size_t profile_networks_count, cluster_networks_count;
    enum default_policy inbound_default;
    struct port_ranges inbound_ports, opaque_ports;
    struct addr *inbound_ips;
    size_t inbound_ips_count;
    uint64_t profile_timeout_ns; /* a profile is not waited for longer than that */
    uint64_t stream_initial_ns, stream_idle_ns, stream_lifetime_ns;
    uint64_t metrics_idle_ns, shutdown_grace_ns;
    uint64_t early_grace_ns; /* a client silent for so long may wait for its server (early.h); 0: none does */
    uint32_t stream_window, connection_window;
    bool shutdown_endpoint, hide_headers, ingress_mode, hostname_labels;
    unsigned workers;
    uint32_t mark;
    const char *log_filter;
    bool log_json;
    enum access_format access_log;
    size_t chunks_max; /* of one worker, from the cgroup's memory limit */
};

/* 0, or E_CONFIG and a sentence that names the variable, its value and what is allowed. */
int config_from_env(struct config *c, char *problem, size_t problem_bytes) MUST_USE;
void config_clear(struct config *c);
bool config_is_local_ip(const struct config *c, const struct addr *ip); /* one of INBOUND_IPS */

#endif
