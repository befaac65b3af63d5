/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proxy's environment (wire 2.1, 10.3), with the values that Linkerd's chart has by default.
 */
#include <math.h>

#include "api/names.h"
#include "core/text.h"
#include "install/inject_private.h"

#define P "LINKERD2_PROXY_"

static void add(json_t *env, const char *name, const char *value)
{
    (void)json_array_append_new(env, json_pack("{s:s, s:s}", "name", name, "value", value));
}

static void add_field(json_t *env, const char *name, const char *path)
{
    (void)json_array_append_new(env, json_pack("{s:s, s:{s:{s:s}}}", "name", name, "valueFrom",
                                               "fieldRef", "fieldPath", path));
}

/* Set in front: later values refer to them as $(_pod_ns). */
static void add_facts(const struct inject_config *c, json_t *env)
{
    add_field(env, "_pod_name", "metadata.name");
    add_field(env, "_pod_ns", "metadata.namespace");
    add_field(env, "_pod_uid", "metadata.uid");
    add_field(env, "_pod_ip", "status.podIP");
    add_field(env, "_pod_nodeName", "spec.nodeName");
    add_field(env, "_pod_sa", "spec.serviceAccountName");
    add(env, "_pod_containerName", CONTAINER_PROXY);
    add(env, "_l5d_ns", c->values->control_ns);
    add(env, "_l5d_trustdomain", c->values->trust_domain);
}

static void add_cores(const struct inject_config *c, json_t *env)
{
    const char *limit = config_text(c, CONFIG_CPU_LIMIT, c->values->cpu_limit);
    const char *ratio = config_text(c, CONFIG_CPU_RATIO_LIMIT, NULL);
    double cores;

    if (limit != NULL && *limit != '\0' && check_read_quantity(limit, &cores) && cores > 0 &&
        cores < 1e6) {
        add(env, P "CORES", arena_printf(c->arena, "%.0f", ceil(cores)));
    }
    add(env, P "CORES_MIN", "1");
    if (ratio != NULL) {
        add(env, P "CORES_MAX_RATIO", ratio);
    }
}

static void add_logs(const struct inject_config *c, json_t *env)
{
    const char *headers = config_text(c, CONFIG_LOG_HTTP_HEADERS, "off");
    const char *access = config_text(c, CONFIG_ACCESS_LOG, NULL);

    add(env, P "LOG",
        arena_printf(c->arena, "%s%s", config_text(c, CONFIG_LOG_LEVEL, c->values->log_level),
                     strcmp(headers, "insecure") == 0 ? "" : ",[{headers}]=off,[{request}]=off"));
    add(env, P "LOG_FORMAT", config_text(c, CONFIG_LOG_FORMAT, c->values->log_format));
    if (access != NULL) {
        add(env, P "ACCESS_LOG", access);
    }
}

static bool is_component(const struct inject_config *c, const char *one, const char *other)
{
    return c->component != NULL &&
           (strcmp(c->component, one) == 0 || strcmp(c->component, other) == 0);
}

static const char *service_address(const struct inject_config *c, bool is_local,
                                   const char *service, unsigned port)
{
    if (is_local) {
        return arena_printf(c->arena, "localhost.:%u", port);
    }
    return arena_printf(c->arena, "%s.%s.svc.%s.:%u", service, c->values->control_ns,
                        c->values->cluster_domain, port);
}

static const char *control_identity(const struct inject_config *c, const char *account)
{
    return arena_printf(c->arena, "%s.%s.serviceaccount.identity.%s.%s", account,
                        c->values->control_ns, c->values->control_ns, c->values->trust_domain);
}

static void add_control_plane(const struct inject_config *c, json_t *env)
{
    bool is_destination = is_component(c, "destination", "controller");

    add(env, P "DESTINATION_SVC_ADDR",
        service_address(c, is_destination, "linkerd-dst-headless", PORT_PROXY_API));
    add(env, P "DESTINATION_PROFILE_NETWORKS", c->values->cluster_networks);
    add(env, P "POLICY_SVC_ADDR",
        service_address(c, is_destination, "linkerd-policy", PORT_POLICY_FRONT));
    add(env, P "POLICY_WORKLOAD", "{\"ns\":\"$(_pod_ns)\", \"pod\":\"$(_pod_name)\"}\n");
    add(env, P "INBOUND_DEFAULT_POLICY",
        config_text(c, CONFIG_DEFAULT_INBOUND_POLICY, c->values->default_inbound_policy));
    add(env, P "POLICY_CLUSTER_NETWORKS", c->values->cluster_networks);
    add(env, P "CONTROL_STREAM_INITIAL_TIMEOUT", "3s");
    add(env, P "CONTROL_STREAM_IDLE_TIMEOUT", "5m");
    add(env, P "CONTROL_STREAM_LIFETIME", "1h");
}

static void add_timeouts(const struct inject_config *c, json_t *env)
{
    add(env, P "INBOUND_CONNECT_TIMEOUT",
        config_duration(c, CONFIG_INBOUND_CONNECT_TIMEOUT, "100ms"));
    add(env, P "OUTBOUND_CONNECT_TIMEOUT",
        config_duration(c, CONFIG_OUTBOUND_CONNECT_TIMEOUT, "1000ms"));
    add(env, P "INBOUND_DISCOVERY_IDLE_TIMEOUT",
        config_duration(c, CONFIG_INBOUND_DISCOVERY_TIMEOUT, "90s"));
    add(env, P "OUTBOUND_DISCOVERY_IDLE_TIMEOUT",
        config_duration(c, CONFIG_OUTBOUND_DISCOVERY_TIMEOUT, "5s"));
    if (config_flag(c, CONFIG_NO_INBOUND_DETECT_TIMEOUT, false)) {
        add(env, P "INBOUND_DETECT_TIMEOUT", "365d");
    }
    if (config_flag(c, CONFIG_NO_OUTBOUND_DETECT_TIMEOUT, false)) {
        add(env, P "OUTBOUND_DETECT_TIMEOUT", "365d");
    }
    add(env, P "INBOUND_ACCEPT_KEEPALIVE", "10000ms");
    add(env, P "OUTBOUND_CONNECT_KEEPALIVE", "10000ms");
    add(env, P "INBOUND_ACCEPT_USER_TIMEOUT", "30s");
    add(env, P "OUTBOUND_CONNECT_USER_TIMEOUT", "30s");
    add(env, P "INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "10s");
    add(env, P "INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "3s");
    add(env, P "OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "10s");
    add(env, P "OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT", "3s");
    add(env, P "SHUTDOWN_GRACE_PERIOD", config_duration(c, CONFIG_SHUTDOWN_GRACE, "120s"));
}

static void add_listeners(const struct inject_config *c, json_t *env)
{
    const char *any = c->values->disable_ipv6 ? "0.0.0.0" : "[::]";
    unsigned outbound = config_number(c, CONFIG_OUTBOUND_PORT, c->values->outbound_port);
    const char *local = arena_printf(c->arena, "127.0.0.1:%u", outbound);

    add(env, P "CONTROL_LISTEN_ADDR",
        arena_printf(c->arena, "%s:%u", any,
                     config_number(c, CONFIG_CONTROL_PORT, c->values->control_port)));
    add(env, P "ADMIN_LISTEN_ADDR",
        arena_printf(c->arena, "%s:%u", any,
                     config_number(c, CONFIG_ADMIN_PORT, c->values->admin_port)));
    add(env, P "OUTBOUND_LISTEN_ADDR", local);
    add(env, P "OUTBOUND_LISTEN_ADDRS",
        c->values->disable_ipv6 ? local : arena_printf(c->arena, "%s,[::1]:%u", local, outbound));
    add(env, P "INBOUND_LISTEN_ADDR",
        arena_printf(c->arena, "%s:%u", any,
                     config_number(c, CONFIG_INBOUND_PORT, c->values->inbound_port)));
    add_field(env, P "INBOUND_IPS", "status.podIPs");
}

static const char *inbound_ports(const struct inject_config *c)
{
    struct text t;
    char *list;

    if (c->set[CONFIG_POD_INBOUND_PORTS] != NULL) {
        return c->set[CONFIG_POD_INBOUND_PORTS];
    }
    text_init(&t, PORTS_MAX * 8);
    for (size_t i = 0; i < c->ports_count; i++) {
        text_printf(&t, "%s%u", i > 0 ? "," : "", c->ports[i]);
    }
    list = arena_strdup(c->arena, text_bytes(&t));
    text_clear(&t);
    return list;
}

static void add_ports_and_names(const struct inject_config *c, json_t *env)
{
    const char *suffix = arena_printf(c->arena, "svc.%s.", c->values->cluster_domain);

    add(env, P "INBOUND_PORTS", inbound_ports(c));
    add(env, P "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
        c->opaque != NULL ? c->opaque : c->values->opaque_ports);
    if (c->set[CONFIG_REQUIRE_IDENTITY_PORTS] != NULL) {
        add(env, P "INBOUND_PORTS_REQUIRE_IDENTITY", c->set[CONFIG_REQUIRE_IDENTITY_PORTS]);
    }
    add(env, P "DESTINATION_PROFILE_SUFFIXES",
        config_flag(c, CONFIG_EXTERNAL_PROFILES, false) ? "." : suffix);
    if (config_flag(c, CONFIG_GATEWAY, false)) {
        add(env, P "INBOUND_GATEWAY_SUFFIXES", suffix);
    }
    if (c->is_ingress) {
        add(env, P "INGRESS_MODE", "true");
    }
    if (config_flag(c, CONFIG_HOSTNAME_LABELS, false)) {
        add(env, P "OUTBOUND_METRICS_HOSTNAME_LABELS", "true");
    }
    add(env, P "SHUTDOWN_ENDPOINT_ENABLED",
        config_flag(c, CONFIG_ADMIN_SHUTDOWN, c->values->admin_shutdown) ? "true" : "false");
    add(env, P "DESTINATION_CONTEXT",
        "{\"ns\":\"$(_pod_ns)\", \"nodeName\":\"$(_pod_nodeName)\", \"pod\":\"$(_pod_name)\"}\n");
}

static void add_identity(const struct inject_config *c, json_t *env)
{
    const char *anchors = c->values->trust_anchors_pem;

    add(env, P "IDENTITY_DIR", IDENTITY_DIR);
    if (c->component != NULL) {
        /* The control plane's own proxies read the bundle where it is kept, so that a change of it
         * needs no new manifests. */
        (void)json_array_append_new(env, json_pack("{s:s, s:{s:{s:s, s:s}}}", "name",
                                                   P "IDENTITY_TRUST_ANCHORS", "valueFrom",
                                                   "configMapKeyRef", "name", TRUST_ROOTS_NAME,
                                                   "key", TRUST_ROOTS_KEY));
    } else {
        add(env, P "IDENTITY_TRUST_ANCHORS", anchors != NULL ? anchors : "");
    }
    add(env, P "IDENTITY_TOKEN_FILE", TOKEN_PATH);
    add(env, P "IDENTITY_SVC_ADDR",
        service_address(c, is_component(c, "identity", "identity"), "linkerd-identity-headless",
                        PORT_IDENTITY));
    add(env, P "IDENTITY_LOCAL_NAME",
        arena_printf(c->arena, "$(_pod_sa).$(_pod_ns).serviceaccount.identity.%s.%s",
                     c->values->control_ns, c->values->trust_domain));
    add(env, P "IDENTITY_SVC_NAME", control_identity(c, "linkerd-identity"));
    add(env, P "DESTINATION_SVC_NAME", control_identity(c, "linkerd-destination"));
    add(env, P "POLICY_SVC_NAME", control_identity(c, "linkerd-destination"));
}

json_t *inject_env(const struct inject_config *c)
{
    json_t *env = json_array();

    add_facts(c, env);
    add_cores(c, env);
    add_logs(c, env);
    add_control_plane(c, env);
    add_timeouts(c, env);
    add_listeners(c, env);
    add_ports_and_names(c, env);
    add_identity(c, env);
    inject_trace_env(c, env);
    if (c->additional_env != NULL) {
        (void)json_array_extend(env, c->additional_env);
    }
    return env;
}
