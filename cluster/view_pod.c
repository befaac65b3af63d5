/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/view_private.h"

#include "cluster/names.h"

static const char *const probe_names[] = {"livenessProbe", "readinessProbe", "startupProbe"};

static void container_read(const json_t *from, struct pod_view *v, struct arena *a,
                           struct pod_container *out)
{
    const json_t *list = json_object_get(from, "ports");
    size_t room;
    struct container_port *ports =
        view_array(a, list, sizeof(*ports), VIEW_PORTS_MAX, &room, &v->is_cut);

    out->name = view_name(from);
    for (size_t i = 0; i < room; i++) {
        const json_t *port = json_array_get(list, i);
        struct container_port *to = &ports[out->ports_count];

        to->name = view_name(port);
        to->port = port_number_read(port, "containerPort");
        to->host_port = v->is_host_network ? to->port : port_number_read(port, "hostPort");
        to->protocol = port_protocol_read(port);
        out->ports_count += to->port != 0 ? 1 : 0;
    }
    out->ports = ports;
}

static uint16_t container_port_named(const struct pod_container *c, struct bytes name)
{
    for (size_t i = 0; name.len > 0 && i < c->ports_count; i++) {
        if (c->ports[i].protocol == PORT_TCP && bytes_eq(bytes_str(c->ports[i].name), name)) {
            return c->ports[i].port;
        }
    }
    return 0;
}

/* The policy matches probes by their path alone (wire 9.4). An absent path is "/". */
static bool probe_path_read(const char *text, struct arena *a, struct bytes *out)
{
    struct bytes path, query;
    char *joined;

    (void)bytes_split(bytes_str(text != NULL ? text : "/"), '?', &path, &query);
    if (path.len > 0 && path.at[0] == '/') {
        *out = path;
        return true;
    }
    joined = arena_try(a, path.len + 1);
    if (joined == NULL) {
        return false;
    }
    joined[0] = '/';
    if (path.len > 0) {
        memcpy(joined + 1, path.at, path.len);
    }
    *out = bytes_of(joined, path.len + 1);
    return true;
}

static void container_read_probes(const json_t *from, const struct pod_container *c,
                                  struct pod_view *v, struct arena *a, struct pod_probe *probes)
{
    for (size_t i = 0; i < ARRAY_LEN(probe_names); i++) {
        const json_t *http = json_object_get(json_object_get(from, probe_names[i]), "httpGet");
        struct pod_probe *to = &probes[v->probes_count];

        if (!json_is_object(http)) {
            continue;
        }
        to->port = port_number_read(http, "port");
        if (to->port == 0) {
            to->port = container_port_named(c, bytes_str(json_text(http, "port")));
        }
        if (to->port != 0 && probe_path_read(json_text(http, "path"), a, &to->path)) {
            v->probes_count++;
        }
    }
}

static void pod_read_containers(struct pod_view *v, struct arena *a)
{
    const json_t *lists[] = {json_object_get(v->object->spec, "initContainers"),
                             json_object_get(v->object->spec, "containers")};
    size_t room =
        MIN(json_array_size(lists[0]) + json_array_size(lists[1]), (size_t)VIEW_CONTAINERS_MAX);
    struct pod_container *containers = arena_try(a, MAX(room, 1) * sizeof(*containers));
    struct pod_probe *probes =
        arena_try(a, MAX(room, 1) * ARRAY_LEN(probe_names) * sizeof(*probes));

    if (containers == NULL || probes == NULL) {
        v->is_cut = true;
        return;
    }
    memset(containers, 0, room * sizeof(*containers));
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        for (size_t i = 0; i < json_array_size(lists[l]); i++) {
            struct pod_container *c = &containers[v->containers_count];
            const json_t *from = json_array_get(lists[l], i);

            if (v->containers_count == room) {
                v->is_cut = true;
                break;
            }
            c->is_init = l == 0;
            container_read(from, v, a, c);
            container_read_probes(from, c, v, a, probes);
            v->containers_count++;
        }
    }
    v->containers = containers;
    v->probes = probes;
}

static void pod_read_ips(struct pod_view *v)
{
    const json_t *list = json_object_get(v->object->status, "podIPs");
    const char *host = json_text(v->object->status, "hostIP");
    struct json_iter it = JSON_ITER(list);
    struct addr ip = {0};

    (void)view_ip_add(v->ips, &v->ips_count, json_text(v->object->status, "podIP"));
    while (json_is_array(list) && json_next(&it)) {
        (void)view_ip_add(v->ips, &v->ips_count, json_text(it.value, "ip"));
    }
    if (host != NULL && addr_parse_ip(bytes_str(host), &ip) == 0) {
        v->host_ip = ip;
    }
}

static bool pod_port_named(const void *user, struct bytes name, uint16_t *out_port)
{
    const struct pod_view *v = user;

    for (size_t i = 0; i < v->containers_count; i++) {
        uint16_t port = container_port_named(&v->containers[i], name);

        if (port != 0) {
            *out_port = port;
            return true;
        }
    }
    return false;
}

void pod_view_read(const struct object *pod, struct arena *a, struct pod_view *out)
{
    const char *opaque = object_annotation(pod, NAME_OPAQUE_PORTS);
    const char *skip = object_annotation(pod, NAME_SKIP_INBOUND_PORTS);

    assert(pod->kind == KIND_POD);
    *out = (struct pod_view){.object = pod};
    out->phase = json_text(pod->status, "phase");
    out->phase = out->phase != NULL ? out->phase : "";
    out->node = json_text(pod->spec, "nodeName");
    out->service_account = pod_service_account(pod);
    out->hostname = json_text(pod->spec, "hostname");
    out->subdomain = json_text(pod->spec, "subdomain");
    out->is_host_network = json_flag(pod->spec, "hostNetwork", false);
    out->is_terminating = json_text(pod->metadata, "deletionTimestamp") != NULL;
    pod_read_ips(out);
    pod_read_containers(out, a);
    out->has_opaque_ports = opaque != NULL;
    if (opaque != NULL) {
        port_set_read(bytes_str(opaque), pod_port_named, out, &out->opaque_ports);
    }
    if (skip != NULL) {
        port_set_read(bytes_str(skip), pod_port_named, out, &out->skip_inbound_ports);
    }
    out->default_inbound_policy = object_annotation(pod, NAME_DEFAULT_POLICY);
}

bool pod_view_port(const struct pod_view *v, const char *name, uint16_t *out_port)
{
    return pod_port_named(v, bytes_str(name), out_port);
}

static const json_t *container_named(const json_t *containers, const char *name)
{
    struct json_iter it = JSON_ITER(containers);

    while (json_is_array(containers) && json_next(&it)) {
        if (strcmp(view_name(it.value), name) == 0) {
            return it.value;
        }
    }
    return NULL;
}

const char *pod_proxy_env(const struct object *pod, const char *name)
{
    const json_t *proxy =
        container_named(json_object_get(pod->spec, "initContainers"), NAME_PROXY_CONTAINER);
    const json_t *env;

    if (proxy == NULL) {
        proxy = container_named(json_object_get(pod->spec, "containers"), NAME_PROXY_CONTAINER);
    }
    env = json_object_get(proxy, "env");
    return json_text(container_named(env, name), "value");
}

bool pod_has_traffic(const struct object *pod)
{
    const char *phase = json_text(pod->status, "phase");

    return json_text(pod->metadata, "deletionTimestamp") == NULL &&
           (phase == NULL || (strcmp(phase, "Succeeded") != 0 && strcmp(phase, "Failed") != 0));
}
