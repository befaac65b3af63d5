/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>

/*
 * Services: EndpointSlices from the pods that they select, DNS names, and the addresses' rules. All three are derived
 * anew from the pods at each reconciliation; what did not change is not written again.
 */
#define TTL_S       5
#define TARGETS_MAX NET_PODS_MAX
#define NAME_MAX_   512

/* --- slices -------------------------------------------------------------------------------------- */

static uint16_t target_port(const struct pod *p, const json_t *port)
{
    const json_t *target = json_object_get(port, "targetPort"), *container, *item;
    size_t i, k;

    if (target == NULL) {
        return (uint16_t)json_number(port, "port", 0);
    }
    if (json_is_integer(target)) {
        return (uint16_t)json_integer_value(target);
    }
    for (int init = 0; init < 2; init++) {
        json_array_foreach(json_at(p->json, init ? "spec.initContainers" : "spec.containers"), i,
                           container)
        {
            json_array_foreach(json_object_get(container, "ports"), k, item)
            {
                const char *name = json_text(item, "name");

                if (name != NULL && json_is_string(target) &&
                    strcmp(name, json_string_value(target)) == 0) {
                    return (uint16_t)json_number(item, "containerPort", 0);
                }
            }
        }
    }
    return 0;
}

static bool selects(const struct object *service, const struct pod *p)
{
    const json_t *selector = json_object_get(service->spec, "selector");

    return json_object_size(selector) > 0 && strcmp(service->ns, p->ns) == 0 &&
           p->phase != POD_GONE && selector_matches(selector, json_at(p->json, "metadata.labels"));
}

static bool is_listed(const struct object *service, const struct pod *p)
{
    return p->phase < POD_LEAVING &&
           (p->is_ready ||
            json_is_true(json_object_get(service->spec, "publishNotReadyAddresses")));
}

static json_t *slice_ports(const struct object *service, const struct pod *example)
{
    json_t *ports = json_array();
    const json_t *port;
    size_t i;

    json_array_foreach(json_object_get(service->spec, "ports"), i, port)
    {
        const char *name = json_text(port, "name"), *protocol = json_text(port, "protocol"),
                   *app = json_text(port, "appProtocol");
        json_t *item =
            json_pack("{s:s, s:s, s:i}", "name", name != NULL ? name : "", "protocol",
                      protocol != NULL ? protocol : "TCP", "port", (int)target_port(example, port));

        if (app != NULL) {
            json_object_set_new(item, "appProtocol", json_string(app));
        }
        json_array_append_new(ports, item);
    }
    return ports;
}

static json_t *slice_endpoint(const struct object *service, const struct pod *p,
                              const struct addr *ip)
{
    char text[ADDR_TEXT_BYTES];
    bool listed = is_listed(service, p);

    return json_pack("{s:[s], s:{s:b, s:b, s:b}, s:{s:s, s:s, s:s}, s:s}", "addresses",
                     addr_format_ip(ip, text), "conditions", "ready", listed, "serving",
                     p->is_ready, "terminating", p->phase >= POD_LEAVING, "targetRef", "kind",
                     "Pod", "namespace", p->ns, "name", p->name, "nodeName", "local");
}

static void put_if_changed(struct home *h, json_t *json, enum kind kind, const char *ns,
                           const char *name)
{
    const struct object *now = cluster_get(h->cluster, kind, ns, name);
    int rc;

    if (now != NULL && json_equal(now->json, json)) {
        json_decref(json);
        return;
    }
    rc = cluster_put(h->cluster, json);
    if (rc != 0) {
        home_problem(h, "%s %s/%s cannot be written: %s", kind_info(kind)->name, ns, name,
                     err_text(rc));
        timer_arm_in(&h->loop, &h->retry, NS_PER_S);
    }
}

static void write_slice(struct home *h, const struct object *service, bool v6)
{
    struct map_iter it = MAP_ITER(&h->pods);
    json_t *endpoints = json_array(), *ports = NULL, *slice;
    char name[NAME_MAX_];

    while (map_next(&it)) {
        const struct pod *p = it.value;
        const struct addr *ip = v6 ? &p->net.ip6 : &p->net.ip4;

        if (selects(service, p) && !addr_is_none(ip)) {
            json_array_append_new(endpoints, slice_endpoint(service, p, ip));
            ports = ports != NULL ? ports : slice_ports(service, p);
        }
    }
    (void)snprintf(name, sizeof(name), "%s-%s", service->name, v6 ? "ipv6" : "ipv4");
    slice = json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:s, s:o, s:o}", "apiVersion",
                      "discovery.k8s.io/v1", "kind", "EndpointSlice", "metadata", "name", name,
                      "namespace", service->ns, "labels", "kubernetes.io/service-name",
                      service->name, "addressType", v6 ? "IPv6" : "IPv4", "endpoints", endpoints,
                      "ports", ports != NULL ? ports : json_array());
    put_if_changed(h, slice, KIND_ENDPOINT_SLICE, service->ns, name);
}

static void drop_object(struct home *h, const struct object *o)
{
    int rc = cluster_delete(h->cluster, o->kind, o->ns, o->name);

    if (rc != 0 && rc != E_NOT_FOUND) {
        home_problem(h, "%s %s/%s cannot be removed: %s", kind_info(o->kind)->name, o->ns, o->name,
                     err_text(rc));
    }
}

static void drop_slices(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_ENDPOINT_SLICE]);

    while (map_next(&it)) {
        const struct object *slice = it.value;
        const char *service = object_label(slice, "kubernetes.io/service-name");

        if (service != NULL && cluster_get(h->cluster, KIND_SERVICE, slice->ns, service) == NULL) {
            drop_object(h, slice);
        }
    }
}

/* --- names --------------------------------------------------------------------------------------- */

static void add_pod_names(struct home *h, struct dns_zone *z, const struct object *service,
                          const char *full)
{
    const char *domain = h->values.cluster_domain;
    struct map_iter it = MAP_ITER(&h->pods);
    char name[NAME_MAX_], target[NAME_MAX_], dashed[ADDR_TEXT_BYTES];
    const json_t *port;
    size_t i;

    while (map_next(&it)) {
        const struct pod *p = it.value;

        if (!selects(service, p) || !is_listed(service, p)) {
            continue;
        }
        addr_format_ip(&p->net.ip4, dashed);
        for (char *c = dashed; *c != '\0'; c++) {
            *c = *c == '.' ? '-' : *c;
        }
        (void)snprintf(target, sizeof(target), "%s.%s.%s.svc.%s", dashed, service->name,
                       service->ns, domain);
        dns_zone_add(z, target, &p->net.ip4, TTL_S);
        dns_zone_add(z, full, &p->net.ip4, TTL_S);
        if (!addr_is_none(&p->net.ip6)) {
            dns_zone_add(z, target, &p->net.ip6, TTL_S);
            dns_zone_add(z, full, &p->net.ip6, TTL_S);
        }
        json_array_foreach(json_object_get(service->spec, "ports"), i, port)
        {
            const char *port_name = json_text(port, "name");
            uint16_t number = target_port(p, port);

            dns_zone_add_srv(z, full, target, number, TTL_S);
            if (port_name != NULL) {
                (void)snprintf(name, sizeof(name), "_%s._tcp.%s", port_name, full);
                dns_zone_add_srv(z, name, target, number, TTL_S);
            }
        }
    }
}

static void add_service_names(struct home *h, struct dns_zone *z, const struct object *service)
{
    const char *ip = json_text(service->spec, "clusterIP");
    const json_t *item;
    char full[NAME_MAX_], name[NAME_MAX_];
    struct addr a;
    size_t i;

    (void)snprintf(full, sizeof(full), "%s.%s.svc.%s", service->name, service->ns,
                   h->values.cluster_domain);
    if (ip == NULL || strcmp(ip, "None") == 0) {
        add_pod_names(h, z, service, full);
        return;
    }
    json_array_foreach(json_object_get(service->spec, "clusterIPs"), i, item)
    {
        if (addr_parse_ip(bytes_str(json_string_value(item)), &a) == 0) {
            dns_zone_add(z, full, &a, TTL_S);
            dns_zone_add_ptr(z, &a, full, TTL_S);
        }
    }
    json_array_foreach(json_object_get(service->spec, "ports"), i, item)
    {
        if (json_text(item, "name") != NULL) {
            (void)snprintf(name, sizeof(name), "_%s._tcp.%s", json_text(item, "name"), full);
            dns_zone_add_srv(z, name, full, (uint16_t)json_number(item, "port", 0), TTL_S);
        }
    }
}

/* --- addresses ----------------------------------------------------------------------------------- */

struct rules {
    struct arena arena;
    struct net_service *at;
    size_t count, capacity;
};

static void add_rule(struct home *h, struct rules *r, const struct object *service,
                     const struct addr *ip, const json_t *port)
{
    const char *protocol = json_text(port, "protocol");
    struct map_iter it = MAP_ITER(&h->pods);
    struct net_target *targets = arena_new(&r->arena, (map_count(&h->pods) + 1) * sizeof(*targets));
    struct net_service s = {.cluster_ip = *ip,
                            .udp = protocol != NULL && strcmp(protocol, "UDP") == 0,
                            .targets = targets};

    s.cluster_ip.port = (uint16_t)json_number(port, "port", 0);
    s.name = arena_printf(&r->arena, "%s/%s", service->ns, service->name);
    while (map_next(&it)) {
        const struct pod *p = it.value;
        const struct addr *pod_ip = ip->family == AF_INET ? &p->net.ip4 : &p->net.ip6;

        if (selects(service, p) && is_listed(service, p) && !addr_is_none(pod_ip)) {
            targets[s.targets_count].addr = *pod_ip;
            targets[s.targets_count].addr.port = target_port(p, port);
            s.targets_count += targets[s.targets_count].addr.port != 0;
        }
    }
    if (r->count == r->capacity) {
        r->capacity = MAX((size_t)64, r->capacity * 2);
        r->at = mem_resize(r->at, r->capacity, sizeof(*r->at));
    }
    r->at[r->count++] = s;
}

static void add_rules(struct home *h, struct rules *r, const struct object *service)
{
    const json_t *item, *port;
    struct addr ip;
    size_t i, k;

    json_array_foreach(json_object_get(service->spec, "clusterIPs"), i, item)
    {
        if (!json_is_string(item) || addr_parse_ip(bytes_str(json_string_value(item)), &ip) != 0) {
            continue;
        }
        json_array_foreach(json_object_get(service->spec, "ports"), k, port)
        {
            add_rule(h, r, service, &ip, port);
        }
    }
}

void service_reconcile(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_SERVICE]);
    struct dns_zone *zone = dns_zone_new(h->values.cluster_domain);
    struct rules rules = {0};
    char problem[512] = "";

    arena_init(&rules.arena, 256u << 20);
    while (map_next(&it)) {
        const struct object *service = it.value;

        add_service_names(h, zone, service);
        add_rules(h, &rules, service);
        if (json_object_size(json_object_get(service->spec, "selector")) > 0) {
            write_slice(h, service, false);
            if (h->options->net.pods6.prefix != 0) {
                write_slice(h, service, true);
            }
        }
    }
    drop_slices(h);
    dns_server_set_zone(h->dns, zone);
    if (net_services_set(h->net, rules.at, rules.count, problem, sizeof(problem)) != 0) {
        home_problem(h, "the rules of the Services cannot be set: %s", problem);
        timer_arm_in(&h->loop, &h->retry, NS_PER_S);
    }
    mem_free(rules.at);
    arena_clear(&rules.arena);
}
