/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of a pod: its containers' TCP ports by number and name, and the ports its probes ask.
 */
#include "core/alloc.h"
#include "core/err.h"
#include "core/text.h"
#include "install/inject_private.h"

#define PORT_LIST_BYTES_MAX 131072

static bool is_full(const struct inject_config *c)
{
    return c->ports_count >= PORTS_MAX || c->port_names_count >= PORTS_MAX;
}

static void add_port(struct inject_config *c, json_int_t port)
{
    size_t at = 0;

    if (port < 1 || port > 65535 || is_full(c)) {
        return;
    }
    while (at < c->ports_count && c->ports[at] < (unsigned)port) {
        at++;
    }
    if (at < c->ports_count && c->ports[at] == (unsigned)port) {
        return;
    }
    memmove(&c->ports[at + 1], &c->ports[at], (c->ports_count - at) * sizeof(*c->ports));
    c->ports[at] = (unsigned)port;
    c->ports_count++;
}

static unsigned named_port(const struct inject_config *c, struct bytes name)
{
    for (size_t i = 0; i < c->port_names_count; i++) {
        if (bytes_eq(bytes_str(c->port_names[i].name), name)) {
            return c->port_names[i].port;
        }
    }
    return 0;
}

static void add_container_ports(struct inject_config *c, const json_t *container)
{
    const json_t *port;
    size_t i;

    json_array_foreach(json_object_get(container, "ports"), i, port)
    {
        const char *protocol = json_string_value(json_object_get(port, "protocol"));
        const char *name = json_string_value(json_object_get(port, "name"));
        json_int_t number = json_integer_value(json_object_get(port, "containerPort"));

        if (protocol != NULL && strcmp(protocol, "TCP") != 0) {
            continue;
        }
        add_port(c, number);
        if (name != NULL && number >= 1 && number <= 65535 && !is_full(c)) {
            c->port_names[c->port_names_count++] = (struct port_name){name, (unsigned)number};
        }
    }
}

static void add_probe_port(struct inject_config *c, const json_t *probe)
{
    static const char *const handlers[] = {"httpGet", "tcpSocket", "grpc"};

    for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
        const json_t *port = json_object_get(json_object_get(probe, handlers[i]), "port");

        if (json_is_integer(port)) {
            add_port(c, json_integer_value(port));
        } else if (json_is_string(port)) {
            add_port(c, named_port(c, bytes_str(json_string_value(port))));
        }
    }
}

static void each_container(struct inject_config *c, const json_t *spec,
                           void (*visit)(struct inject_config *c, const json_t *container))
{
    const json_t *container;
    size_t i;

    json_array_foreach(json_object_get(spec, "containers"), i, container)
    {
        visit(c, container);
    }
    json_array_foreach(json_object_get(spec, "initContainers"), i, container)
    {
        const char *restart = json_string_value(json_object_get(container, "restartPolicy"));

        if (restart != NULL && strcmp(restart, "Always") == 0) { /* a sidecar of the user's own */
            visit(c, container);
        }
    }
}

static void add_probe_ports(struct inject_config *c, const json_t *container)
{
    add_probe_port(c, json_object_get(container, "livenessProbe"));
    add_probe_port(c, json_object_get(container, "readinessProbe"));
    add_probe_port(c, json_object_get(container, "startupProbe"));
}

int ports_collect(struct inject_config *c, const json_t *spec, char *problem, size_t problem_bytes)
{
    c->ports = arena_new(c->arena, (PORTS_MAX + 1) * sizeof(*c->ports));
    c->port_names = arena_new(c->arena, PORTS_MAX * sizeof(*c->port_names));
    c->container_ports = arena_new(c->arena, PORTS_MAX * sizeof(*c->container_ports));
    each_container(c, spec, add_container_ports);
    c->container_ports_count = c->ports_count;
    memcpy(c->container_ports, c->ports, c->ports_count * sizeof(*c->ports));
    each_container(c, spec, add_probe_ports); /* they may name any container's port */
    if (is_full(c)) {
        (void)snprintf(problem, problem_bytes, "the pod has more than %d ports", PORTS_MAX - 1);
        return E_CONFIG;
    }
    return 0;
}

const char *ports_resolve(const struct inject_config *c, const char *list,
                          struct bytes *out_unknown)
{
    struct bytes rest = bytes_str(list);
    struct text t;
    char *resolved;

    text_init(&t, PORT_LIST_BYTES_MAX);
    while (rest.len > 0) {
        struct bytes item;

        (void)bytes_split(rest, ',', &item, &rest);
        item = bytes_trim(item, " ");
        if (t.len > 0) {
            text_char(&t, ',');
        }
        if (item.len == 0 || strspn(item.at, "0123456789-") >= item.len) {
            text_add(&t, item);
        } else if (named_port(c, item) != 0) {
            text_printf(&t, "%u", named_port(c, item));
        } else {
            *out_unknown = item;
            text_clear(&t);
            return NULL;
        }
    }
    resolved = arena_strdup(c->arena, text_bytes(&t));
    text_clear(&t);
    return resolved;
}

bool ports_list_has(const char *list, unsigned port)
{
    struct bytes rest = bytes_str(list);

    while (rest.len > 0) {
        struct bytes item, low, high;
        uint64_t from, to;

        (void)bytes_split(rest, ',', &item, &rest);
        item = bytes_trim(item, " ");
        if (!bytes_split(item, '-', &low, &high)) {
            high = low;
        }
        if (bytes_to_u64(low, 65535, &from) == 0 && bytes_to_u64(high, 65535, &to) == 0 &&
            from <= port && port <= to) {
            return true;
        }
    }
    return false;
}
