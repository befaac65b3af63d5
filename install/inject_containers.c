/* SPDX-License-Identifier: Apache-2.0 */
#include "api/names.h"
#include "core/text.h"
#include "install/inject_private.h"

#define DEBUG_IMAGE "cr.l5d.io/linkerd/debug"

static void set_resource(const struct inject_config *c, json_t *resources, const char *list,
                         const char *name, enum config_key a, const char *fallback)
{
    const char *value = config_text(c, a, fallback);

    if (value != NULL && *value != '\0') {
        (void)json_object_set_new(json_ensure_object(resources, list), name, json_string(value));
    }
}

static void set_resources(const struct inject_config *c, json_t *container)
{
    const struct inject_values *v = c->values;
    json_t *r = json_object();

    set_resource(c, r, "limits", "cpu", CONFIG_CPU_LIMIT, v->cpu_limit);
    set_resource(c, r, "limits", "memory", CONFIG_MEMORY_LIMIT, v->memory_limit);
    set_resource(c, r, "limits", "ephemeral-storage", CONFIG_STORAGE_LIMIT, NULL);
    set_resource(c, r, "requests", "cpu", CONFIG_CPU_REQUEST, v->cpu_request);
    set_resource(c, r, "requests", "memory", CONFIG_MEMORY_REQUEST, v->memory_request);
    set_resource(c, r, "requests", "ephemeral-storage", CONFIG_STORAGE_REQUEST, NULL);
    if (json_object_size(r) > 0) {
        (void)json_object_set(container, "resources", r);
    }
    json_decref(r);
}

static void add_arg(json_t *args, const char *flag, const char *value)
{
    if (value != NULL && *value != '\0') {
        (void)json_array_append_new(args, json_string(flag));
        (void)json_array_append_new(args, json_string(value));
    }
}

static const char *joined(const struct inject_config *c, const char *a, const char *b)
{
    return *a != '\0' && b != NULL && *b != '\0' ? arena_printf(c->arena, "%s,%s", a, b)
           : *a != '\0'                          ? a
                                                 : b;
}

static uint64_t close_wait_s(const struct inject_config *c)
{
    uint64_t ms = 0;

    if (c->set[CONFIG_CLOSE_WAIT_TIMEOUT] != NULL) {
        (void)check_read_duration(c->set[CONFIG_CLOSE_WAIT_TIMEOUT], &ms);
    }
    return ms / 1000;
}

/* Wire 1.2: what the redirection is told. */
static json_t *init_args(const struct inject_config *c)
{
    const struct inject_values *v = c->values;
    const char *own =
        arena_printf(c->arena, "%u,%u", config_number(c, CONFIG_CONTROL_PORT, v->control_port),
                     config_number(c, CONFIG_ADMIN_PORT, v->admin_port));
    /* The control plane talks to the API server before its own proxy is ready. */
    const char *skip_outbound =
        joined(c, c->component != NULL ? API_SERVER_PORTS : "", c->skip_outbound);
    const char *gid = config_text(c, CONFIG_PROXY_GID, NULL);
    json_t *args = json_array();

    add_arg(args, "--firewall-bin-path", "iptables-nft");
    add_arg(args, "--firewall-save-bin-path", "iptables-nft-save");
    if (v->disable_ipv6) {
        (void)json_array_append_new(args, json_string("--ipv6=false"));
    }
    add_arg(args, "--incoming-proxy-port",
            arena_printf(c->arena, "%u", config_number(c, CONFIG_INBOUND_PORT, v->inbound_port)));
    add_arg(args, "--outgoing-proxy-port",
            arena_printf(c->arena, "%u", config_number(c, CONFIG_OUTBOUND_PORT, v->outbound_port)));
    add_arg(args, "--proxy-uid",
            arena_printf(c->arena, "%u", config_number(c, CONFIG_PROXY_UID, v->proxy_uid)));
    add_arg(args, "--proxy-gid", gid);
    add_arg(args, "--inbound-ports-to-ignore", joined(c, own, c->skip_inbound));
    add_arg(args, "--outbound-ports-to-ignore", skip_outbound);
    add_arg(args, "--subnets-to-ignore", config_text(c, CONFIG_SKIP_SUBNETS, v->skip_subnets));
    if (close_wait_s(c) > 0) {
        add_arg(args, "--timeout-close-wait-secs",
                arena_printf(c->arena, "%llu", (unsigned long long)close_wait_s(c)));
    }
    return args;
}

json_t *inject_init_container(const struct inject_config *c)
{
    bool is_privileged = close_wait_s(c) > 0; /* the sysctl is of the host */
    json_t *container = json_pack(
        "{s:s, s:s, s:s, s:[s], s:o,"
        " s:{s:b, s:{s:[s, s]}, s:b, s:b, s:b, s:i, s:i, s:{s:s}},"
        " s:s, s:[{s:s, s:s}]}",
        "name", CONTAINER_INIT, "image", config_image(c), "imagePullPolicy",
        config_text(c, CONFIG_PULL_POLICY, c->values->pull_policy), "command",
        c->values->init_command, "args", init_args(c), "securityContext",
        "allowPrivilegeEscalation", is_privileged, "capabilities", "add", "NET_ADMIN", "NET_RAW",
        "privileged", is_privileged, "readOnlyRootFilesystem", 1, "runAsNonRoot", !is_privileged,
        "runAsUser", is_privileged ? 0 : INIT_UID, "runAsGroup", is_privileged ? 0 : INIT_UID,
        "seccompProfile", "type", "RuntimeDefault", "terminationMessagePolicy",
        "FallbackToLogsOnError", "volumeMounts", "name", VOLUME_XTABLES, "mountPath", "/run");

    assert(container != NULL);
    set_resources(c, container);
    return container;
}

static json_t *probe(const struct inject_config *c, const char *path, int delay_s)
{
    unsigned admin = config_number(c, CONFIG_ADMIN_PORT, c->values->admin_port);

    return json_pack("{s:{s:s, s:i}, s:i, s:i}", "httpGet", "path", path, "port", (int)admin,
                     "initialDelaySeconds", delay_s, "timeoutSeconds", 1);
}

static void set_probes(const struct inject_config *c, json_t *container)
{
    (void)json_object_set_new(container, "livenessProbe", probe(c, "/live", 10));
    (void)json_object_set_new(container, "readinessProbe", probe(c, "/ready", 2));
    if (config_is_native(c) && config_awaits(c)) {
        json_t *startup = probe(c, "/ready", 0);

        (void)json_object_set_new(startup, "periodSeconds", json_integer(1));
        (void)json_object_set_new(startup, "failureThreshold", json_integer(120));
        (void)json_object_set_new(container, "startupProbe", startup);
    }
}

static void set_lifecycle(const struct inject_config *c, json_t *container)
{
    const char *wait_s = config_text(c, CONFIG_WAIT_BEFORE_EXIT, "0");
    json_t *lifecycle = json_object();

    if (!config_is_native(c) && config_awaits(c)) {
        (void)json_object_set_new(
            lifecycle, "postStart",
            json_pack("{s:{s:[s, s, s]}}", "exec", "command", c->values->await_command,
                      "--timeout=2m",
                      arena_printf(c->arena, "--port=%u",
                                   config_number(c, CONFIG_ADMIN_PORT, c->values->admin_port))));
    }
    if (strspn(wait_s, "0") != strlen(wait_s)) {
        (void)json_object_set_new(
            lifecycle, "preStop",
            json_pack("{s:{s:[s, s]}}", "exec", "command", "/bin/sleep", wait_s));
    }
    if (json_object_size(lifecycle) > 0) {
        (void)json_object_set(container, "lifecycle", lifecycle);
    }
    json_decref(lifecycle);
}

static json_t *proxy_security(const struct inject_config *c)
{
    json_t *s =
        json_pack("{s:b, s:{s:[s]}, s:b, s:b, s:i, s:{s:s}}", "allowPrivilegeEscalation", 0,
                  "capabilities", "drop", "ALL", "readOnlyRootFilesystem", 1, "runAsNonRoot", 1,
                  "runAsUser", (int)config_number(c, CONFIG_PROXY_UID, c->values->proxy_uid),
                  "seccompProfile", "type", "RuntimeDefault");

    if (c->set[CONFIG_PROXY_GID] != NULL) {
        (void)json_object_set_new(s, "runAsGroup",
                                  json_integer(config_number(c, CONFIG_PROXY_GID, 0)));
    }
    return s;
}

json_t *inject_proxy_container(const struct inject_config *c)
{
    const struct inject_values *v = c->values;
    json_t *container = json_pack(
        "{s:s, s:s, s:s, s:o, s:[{s:s, s:i}, {s:s, s:i}], s:o, s:s, s:[{s:s, s:s}, {s:s, s:s}]}",
        "name", CONTAINER_PROXY, "image", config_image(c), "imagePullPolicy",
        config_text(c, CONFIG_PULL_POLICY, v->pull_policy), "env", inject_env(c), "ports", "name",
        PORT_NAME_PROXY, "containerPort",
        (int)config_number(c, CONFIG_INBOUND_PORT, v->inbound_port), "name", PORT_NAME_ADMIN,
        "containerPort", (int)config_number(c, CONFIG_ADMIN_PORT, v->admin_port), "securityContext",
        proxy_security(c), "terminationMessagePolicy", "FallbackToLogsOnError", "volumeMounts",
        "name", VOLUME_IDENTITY, "mountPath", IDENTITY_DIR, "name", VOLUME_TOKEN, "mountPath",
        TOKEN_DIR);

    assert(container != NULL);
    if (v->proxy_command != NULL) {
        (void)json_object_set_new(container, "command", json_pack("[s]", v->proxy_command));
    }
    if (config_is_native(c)) {
        (void)json_object_set_new(container, "restartPolicy", json_string("Always"));
    }
    set_probes(c, container);
    set_lifecycle(c, container);
    set_resources(c, container);
    inject_trace_volume(c, container, NULL);
    return container;
}

json_t *inject_debug_container(const struct inject_config *c)
{
    if (!config_flag(c, CONFIG_DEBUG, false)) {
        return NULL;
    }
    return json_pack(
        "{s:s, s:s, s:s, s:s}", "name", CONTAINER_DEBUG, "image",
        arena_printf(c->arena, "%s:%s", config_text(c, CONFIG_DEBUG_IMAGE, DEBUG_IMAGE),
                     config_text(c, CONFIG_DEBUG_VERSION, "stable")),
        "imagePullPolicy", config_text(c, CONFIG_DEBUG_PULL_POLICY, c->values->pull_policy),
        "terminationMessagePolicy", "FallbackToLogsOnError");
}

json_t *inject_volumes(const struct inject_config *c)
{
    json_t *volumes =
        json_pack("[{s:s, s:{}}, {s:s, s:{s:s}}, {s:s, s:{s:[{s:{s:s, s:s, s:i}}]}}]", "name",
                     VOLUME_XTABLES, "emptyDir", "name", VOLUME_IDENTITY, "emptyDir", "medium",
                     "Memory", "name", VOLUME_TOKEN, "projected", "sources", "serviceAccountToken",
                     "path", strrchr(TOKEN_PATH, '/') + 1, "audience", TOKEN_AUDIENCE,
                     "expirationSeconds", TOKEN_LIFETIME_S);

    inject_trace_volume(c, NULL, volumes);
    return volumes;
}
