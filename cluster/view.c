/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/view_private.h"

#include "cluster/names.h"

void *view_array(struct arena *a, const json_t *list, size_t item_bytes, size_t max,
                 size_t *out_count, bool *cut)
{
    size_t count = json_array_size(list);
    void *at;

    *out_count = 0;
    if (count > max) {
        *cut = true;
        count = max;
    }
    if (count == 0) {
        return NULL;
    }
    at = arena_try(a, count * item_bytes);
    if (at == NULL) {
        *cut = true;
        return NULL;
    }
    memset(at, 0, count * item_bytes);
    *out_count = count;
    return at;
}

bool view_ip_add(struct addr ips[VIEW_IPS_MAX], unsigned *count, const char *text)
{
    struct addr ip = {0};

    if (text == NULL || *count == VIEW_IPS_MAX || addr_parse_ip(bytes_str(text), &ip) != 0) {
        return false;
    }
    for (unsigned i = 0; i < *count; i++) {
        if (addr_ip_eq(&ips[i], &ip)) {
            return false;
        }
    }
    ips[(*count)++] = ip;
    return true;
}

const char *view_name(const json_t *of)
{
    const char *name = json_text(of, "name");

    return name != NULL ? name : "";
}

/* --- service ------------------------------------------------------------------------------------- */

static bool service_port_read(const json_t *from, struct service_port *out)
{
    out->name = view_name(from);
    out->port = port_number_read(from, "port");
    out->protocol = port_protocol_read(from);
    out->target_name = json_text(from, "targetPort");
    out->target_port = port_number_read(from, "targetPort");
    if (out->target_name == NULL && out->target_port == 0) {
        out->target_port = out->port;
    }
    out->node_port = port_number_read(from, "nodePort");
    out->app_protocol = json_text(from, "appProtocol");
    return out->port != 0;
}

static void service_read_ports(struct service_view *v, struct arena *a)
{
    const json_t *list = json_object_get(v->object->spec, "ports");
    size_t room;
    struct service_port *ports =
        view_array(a, list, sizeof(*ports), VIEW_PORTS_MAX, &room, &v->is_cut);

    for (size_t i = 0; i < room; i++) {
        if (service_port_read(json_array_get(list, i), &ports[v->ports_count])) {
            v->ports_count++;
        }
    }
    v->ports = ports;
}

static void service_read_ips(struct service_view *v)
{
    const char *first = json_text(v->object->spec, "clusterIP");
    const json_t *list = json_object_get(v->object->spec, "clusterIPs");
    struct json_iter it = JSON_ITER(list);

    (void)view_ip_add(v->cluster_ips, &v->cluster_ips_count, first);
    while (json_is_array(list) && json_next(&it)) {
        const char *text = json_string_value(it.value);

        (void)view_ip_add(v->cluster_ips, &v->cluster_ips_count, text);
        first = first == NULL ? text : first;
    }
    v->is_headless = first != NULL && strcmp(first, "None") == 0;
}

static bool service_port_named(const void *user, struct bytes name, uint16_t *out_port)
{
    const struct service_view *v = user;

    for (size_t i = 0; i < v->ports_count; i++) {
        if (v->ports[i].name[0] != '\0' && bytes_eq(bytes_str(v->ports[i].name), name)) {
            *out_port = v->ports[i].port;
            return true;
        }
    }
    return false;
}

void service_view_read(const struct object *service, struct arena *a, struct service_view *out)
{
    const char *opaque = object_annotation(service, NAME_OPAQUE_PORTS);
    const char *traffic = json_text(service->spec, "internalTrafficPolicy");
    const json_t *selector = json_object_get(service->spec, "selector");

    assert(service->kind == KIND_SERVICE);
    *out = (struct service_view){.object = service};
    out->type = json_text(service->spec, "type");
    out->type = out->type != NULL ? out->type : "ClusterIP";
    out->is_external_name = strcmp(out->type, "ExternalName") == 0;
    if (out->is_external_name) {
        out->external_name = json_text(service->spec, "externalName");
    } else {
        service_read_ips(out);
    }
    service_read_ports(out, a);
    out->selector = json_object_size(selector) > 0 ? selector : NULL;
    out->is_local_only = traffic != NULL && strcmp(traffic, "Local") == 0;
    out->publishes_not_ready = json_flag(service->spec, "publishNotReadyAddresses", false);
    out->has_opaque_ports = opaque != NULL;
    if (opaque != NULL) {
        port_set_read(bytes_str(opaque), service_port_named, out, &out->opaque_ports);
    }
}

const struct service_port *service_view_port(const struct service_view *v, uint16_t port)
{
    for (size_t i = 0; i < v->ports_count; i++) {
        if (v->ports[i].port == port && v->ports[i].protocol == PORT_TCP) {
            return &v->ports[i];
        }
    }
    return NULL;
}

/* --- endpoint slice ------------------------------------------------------------------------------ */

static void endpoint_read_addresses(const json_t *from, struct slice_view *v, struct arena *a,
                                    struct slice_endpoint *out)
{
    const json_t *list = json_object_get(from, "addresses");
    size_t room;
    struct addr *addresses;

    if (v->type == SLICE_FQDN) {
        return;
    }
    addresses = view_array(a, list, sizeof(*addresses), VIEW_ADDRESSES_MAX, &room, &v->is_cut);
    for (size_t i = 0; i < room; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        struct addr ip = {0};

        if (text != NULL && addr_parse_ip(bytes_str(text), &ip) == 0) {
            addresses[out->addresses_count++] = ip;
        }
    }
    out->addresses = addresses;
}

static void endpoint_read_hints(const json_t *from, struct slice_view *v, struct arena *a,
                                struct slice_endpoint *out)
{
    const json_t *list = json_at(from, "hints.forZones");
    size_t room;
    const char **zones = view_array(a, list, sizeof(*zones), VIEW_HINTS_MAX, &room, &v->is_cut);

    for (size_t i = 0; i < room; i++) {
        const char *name = json_text(json_array_get(list, i), "name");

        if (name != NULL) {
            zones[out->hint_zones_count++] = name;
        }
    }
    out->hint_zones = zones;
}

static void endpoint_read(const json_t *from, struct slice_view *v, struct arena *a,
                          struct slice_endpoint *out)
{
    endpoint_read_addresses(from, v, a, out);
    endpoint_read_hints(from, v, a, out);
    out->is_ready = json_flag(from, "conditions.ready", true);
    out->is_serving = json_flag(from, "conditions.serving", out->is_ready);
    out->is_terminating = json_flag(from, "conditions.terminating", false);
    out->target_kind = json_text(from, "targetRef.kind");
    out->target_name = json_text(from, "targetRef.name");
    out->target_ns = json_text(from, "targetRef.namespace");
    if (out->target_name != NULL && out->target_ns == NULL) {
        out->target_ns = v->object->ns;
    }
    out->node = json_text(from, "nodeName");
    out->zone = json_text(from, "zone");
    out->hostname = json_text(from, "hostname");
}

static void slice_read_ports(struct slice_view *v, struct arena *a)
{
    const json_t *list = json_object_get(v->object->json, "ports");
    size_t room;
    struct slice_port *ports =
        view_array(a, list, sizeof(*ports), VIEW_PORTS_MAX, &room, &v->is_cut);

    for (size_t i = 0; i < room; i++) {
        const json_t *from = json_array_get(list, i);

        ports[i] = (struct slice_port){.name = view_name(from),
                                       .port = port_number_read(from, "port"),
                                       .protocol = port_protocol_read(from),
                                       .app_protocol = json_text(from, "appProtocol")};
    }
    v->ports = ports;
    v->ports_count = room;
}

void slice_view_read(const struct object *slice, struct arena *a, struct slice_view *out)
{
    const char *type = json_text(slice->json, "addressType");
    const json_t *list = json_object_get(slice->json, "endpoints");
    struct slice_endpoint *endpoints;
    size_t room;

    assert(slice->kind == KIND_ENDPOINT_SLICE);
    *out = (struct slice_view){.object = slice, .service = object_label(slice, NAME_LABEL_SERVICE)};
    out->type = type != NULL && strcmp(type, "IPv6") == 0   ? SLICE_IPV6
                : type != NULL && strcmp(type, "FQDN") == 0 ? SLICE_FQDN
                                                            : SLICE_IPV4;
    endpoints = view_array(a, list, sizeof(*endpoints), VIEW_ENDPOINTS_MAX, &room, &out->is_cut);
    for (size_t i = 0; i < room; i++) {
        endpoint_read(json_array_get(list, i), out, a, &endpoints[i]);
    }
    out->endpoints = endpoints;
    out->endpoints_count = room;
    slice_read_ports(out, a);
}

const struct slice_port *slice_view_port(const struct slice_view *v, const char *name)
{
    for (size_t i = 0; i < v->ports_count; i++) {
        if (v->ports[i].protocol == PORT_TCP && strcmp(v->ports[i].name, name) == 0) {
            return &v->ports[i];
        }
    }
    return NULL;
}
