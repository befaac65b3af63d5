/* SPDX-License-Identifier: Apache-2.0 */
#include "local/slice.h"

#include "cluster/names.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <stdio.h>

/*
 * Services: EndpointSlices from the pods that they select, DNS names, and the addresses' rules. All
 * three are derived anew from the pods, and from what slices the user wrote (slice.c), at each
 * reconciliation; what did not change is not written again.
 */
#define TTL_S           5
#define NAME_BYTES      512
#define ABOUT_BYTES     (OBJECT_KEY_BYTES + 64)
#define RULES_BYTES_MAX (256u << 20)

/* --- slices -------------------------------------------------------------------------------------- */

/* 0: the pod has no port of that name. */
static uint16_t target_port(const struct pod *p, const json_t *port)
{
    const json_t *target = json_object_get(port, "targetPort"), *item;
    size_t i;

    if (target == NULL) {
        return (uint16_t)json_number(port, "port", 0);
    }
    if (json_is_integer(target)) {
        return (uint16_t)json_integer_value(target);
    }
    for (size_t n = 0; n < p->count; n++) {
        json_array_foreach(json_object_get(p->containers[n].spec, "ports"), i, item)
        {
            const char *name = json_text(item, "name");

            if (name != NULL && json_is_string(target) &&
                strcmp(name, json_string_value(target)) == 0) {
                return (uint16_t)json_number(item, "containerPort", 0);
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

static bool is_udp(const json_t *port)
{
    const char *protocol = json_text(port, "protocol");

    return protocol != NULL && strcmp(protocol, "UDP") == 0;
}

static json_t *slice_ports(const struct object *service, const struct pod *example)
{
    json_t *ports = json_array();
    const json_t *port;
    size_t i;

    json_array_foreach(json_object_get(service->spec, "ports"), i, port)
    {
        const char *name = json_text(port, "name"), *app = json_text(port, "appProtocol");
        int number = target_port(example, port);
        json_t *item;

        if (number == 0) {
            continue;
        }
        item = json_pack("{s:s, s:s, s:i}", "name", name != NULL ? name : "", "protocol",
                         is_udp(port) ? "UDP" : "TCP", "port", number);
        if (app != NULL) {
            json_object_set_new(item, "appProtocol", json_string(app));
        }
        json_array_append_new(ports, item);
    }
    return ports;
}

bool service_is_ipv4_only(const json_t *spec)
{
    const char *policy = json_text(spec, "ipFamilyPolicy");

    return policy != NULL ? strcmp(policy, "SingleStack") == 0
                          : json_array_size(json_object_get(spec, "ipFamilies")) < 2;
}

static struct addr ip6_for(const struct object *service, const struct pod *p)
{
    return service_is_ipv4_only(service->spec) ? (struct addr){.family = 0} : p->net.ip6;
}

static json_t *slice_endpoint(const struct object *service, const struct pod *p,
                              const struct addr *ip)
{
    char text[ADDR_TEXT_BYTES];

    return json_pack("{s:[s], s:{s:b, s:b, s:b}, s:{s:s, s:s, s:s}, s:s}", "addresses",
                     addr_format_ip(ip, text), "conditions", "ready", is_listed(service, p),
                     "serving", p->is_ready, "terminating", p->phase >= POD_LEAVING, "targetRef",
                     "kind", "Pod", "namespace", p->ns, "name", p->name, "nodeName", "local");
}

static void put_slice(struct home *h, json_t *json, const char *ns, const char *name)
{
    const struct object *now = cluster_get(h->cluster, KIND_ENDPOINT_SLICE, ns, name);
    char about[ABOUT_BYTES];
    int rc;

    (void)snprintf(about, sizeof(about), "slice %s/%s", ns, name);
    if (now != NULL && json_equal(now->json, json)) {
        json_decref(json);
        home_problem_over(h, about);
        return;
    }
    rc = cluster_put(h->cluster, json);
    if (rc != 0) {
        home_problem(h, about, "the endpoints of service %s/%s cannot be written: %s", ns, name,
                     err_text(rc));
        timer_arm_in(&h->loop, &h->retry, NS_PER_S);
    } else {
        home_problem_over(h, about);
    }
}

static void write_slice(struct home *h, const struct object *service, bool v6)
{
    struct map_iter it = MAP_ITER(&h->pods);
    json_t *endpoints = json_array(), *ports = NULL, *slice;
    char name[NAME_BYTES];

    while (map_next(&it)) {
        const struct pod *p = it.value;
        struct addr ip = v6 ? ip6_for(service, p) : p->net.ip4;

        if (selects(service, p) && !addr_is_none(&ip)) {
            json_array_append_new(endpoints, slice_endpoint(service, p, &ip));
            ports = ports != NULL ? ports : slice_ports(service, p);
        }
    }
    (void)snprintf(name, sizeof(name), "%s%s", service->name, v6 ? SLICE_SUFFIX_6 : SLICE_SUFFIX_4);
    slice = json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}}, s:s, s:o, s:o}", "apiVersion",
                      "discovery.k8s.io/v1", "kind", "EndpointSlice", "metadata", "name", name,
                      "namespace", service->ns, "labels", NAME_LABEL_SERVICE, service->name,
                      SLICE_LABEL_BY, SLICE_BY_HOME, "addressType", v6 ? "IPv6" : "IPv4",
                      "endpoints", endpoints, "ports", ports != NULL ? ports : json_array());
    put_slice(h, slice, service->ns, name);
}

static bool has_selector(const struct object *service)
{
    return service != NULL && json_object_size(json_object_get(service->spec, "selector")) > 0;
}

static void drop_slices(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_ENDPOINT_SLICE]);

    while (map_next(&it)) {
        const struct object *slice = it.value;
        const char *service = object_label(slice, NAME_LABEL_SERVICE);
        char about[ABOUT_BYTES];
        int rc;

        if (service == NULL || !slice_is_own(slice) ||
            has_selector(cluster_get(h->cluster, KIND_SERVICE, slice->ns, service))) {
            continue;
        }
        (void)snprintf(about, sizeof(about), "slice %s/%s", slice->ns, slice->name);
        rc = cluster_delete(h->cluster, KIND_ENDPOINT_SLICE, slice->ns, slice->name);
        if (rc != 0 && rc != E_NOT_FOUND) {
            home_problem(h, about, "the endpoints %s cannot be removed: %s", about, err_text(rc));
        } else {
            home_problem_over(h, about);
        }
    }
}

/* --- names --------------------------------------------------------------------------------------- */

static void add_pod_name(struct home *h, struct dns_zone *z, const struct object *service,
                         const struct pod *p, const char *full)
{
    char name[NAME_BYTES], target[NAME_BYTES], dashed[ADDR_TEXT_BYTES];
    struct addr ip6 = ip6_for(service, p);
    const json_t *port;
    size_t i;

    addr_format_ip(&p->net.ip4, dashed);
    for (char *c = dashed; *c != '\0'; c++) {
        *c = *c == '.' ? '-' : *c;
    }
    (void)snprintf(target, sizeof(target), "%s.%s.%s.svc.%s", dashed, service->name, service->ns,
                   h->values.cluster_domain);
    dns_zone_add(z, target, &p->net.ip4, TTL_S);
    dns_zone_add(z, full, &p->net.ip4, TTL_S);
    if (!addr_is_none(&ip6)) {
        dns_zone_add(z, target, &ip6, TTL_S);
        dns_zone_add(z, full, &ip6, TTL_S);
    }
    json_array_foreach(json_object_get(service->spec, "ports"), i, port)
    {
        const char *port_name = json_text(port, "name");
        uint16_t number = target_port(p, port);

        dns_zone_add_srv(z, full, target, number, TTL_S);
        if (port_name != NULL) {
            (void)snprintf(name, sizeof(name), "_%s._%s.%s", port_name,
                           is_udp(port) ? "udp" : "tcp", full);
            dns_zone_add_srv(z, name, target, number, TTL_S);
        }
    }
}

static void add_pod_names(struct home *h, struct dns_zone *z, const struct object *service,
                          const char *full)
{
    struct map_iter it = MAP_ITER(&h->pods);

    while (map_next(&it)) {
        const struct pod *p = it.value;

        if (selects(service, p) && is_listed(service, p)) {
            add_pod_name(h, z, service, p, full);
        }
    }
}

static void add_service_names(struct home *h, const struct user_slices *slices, struct dns_zone *z,
                              const struct object *service)
{
    const char *ip = json_text(service->spec, "clusterIP");
    const json_t *item;
    char full[NAME_BYTES], name[NAME_BYTES];
    struct addr a;
    size_t i;

    (void)snprintf(full, sizeof(full), "%s.%s.svc.%s", service->name, service->ns,
                   h->values.cluster_domain);
    if (ip == NULL || strcmp(ip, "None") == 0) {
        add_pod_names(h, z, service, full);
        user_slices_add_names(slices, z, service, full);
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
            (void)snprintf(name, sizeof(name), "_%s._%s.%s", json_text(item, "name"),
                           is_udp(item) ? "udp" : "tcp", full);
            dns_zone_add_srv(z, name, full, (uint16_t)json_number(item, "port", 0), TTL_S);
        }
    }
}

/* --- addresses ----------------------------------------------------------------------------------- */

struct rules {
    const struct user_slices *slices;
    struct arena arena;
    struct net_service *at;
    size_t count, capacity;
};

static size_t count_listed(const struct home *h, const struct object *service)
{
    struct map_iter it = MAP_ITER(&h->pods);
    size_t count = 0;

    while (map_next(&it)) {
        count += selects(service, it.value) && is_listed(service, it.value);
    }
    return count;
}

static void add_rule(struct home *h, struct rules *r, const struct object *service,
                     const struct addr *ip, const json_t *port)
{
    struct map_iter it = MAP_ITER(&h->pods);
    size_t of_user = user_slices_targets(r->slices, service, port, ip->family, NULL);
    struct net_target *targets =
        arena_new(&r->arena, (count_listed(h, service) + of_user + 1) * sizeof(*targets));
    struct net_service s = {.cluster_ip = *ip, .udp = is_udp(port), .targets = targets};

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
    s.targets_count += user_slices_targets(r->slices, service, port, ip->family,
                                           targets + s.targets_count);
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

/* Never 0. Rules that came out in another order count as others: that costs one needless update. */
static uint64_t hash_rules(const struct rules *r)
{
    char addr[ADDR_TEXT_BYTES];
    struct text t;
    uint64_t hash;

    text_init(&t, RULES_BYTES_MAX);
    for (size_t i = 0; i < r->count; i++) {
        const struct net_service *s = &r->at[i];

        text_printf(&t, "%s %s %d", s->name, addr_format(&s->cluster_ip, addr), s->udp);
        for (size_t k = 0; k < s->targets_count; k++) {
            text_printf(&t, " %s", addr_format(&s->targets[k].addr, addr));
        }
        text_char(&t, '\n');
    }
    hash = bytes_hash(text_bytes(&t)) | 1;
    text_clear(&t);
    return hash;
}

static void set_rules(struct home *h, const struct rules *r)
{
    uint64_t hash = hash_rules(r);
    char problem[512] = "";

    if (hash == h->rules_hash) {
        return;
    }
    if (net_services_set(h->net, r->at, r->count, problem, sizeof(problem)) != 0) {
        h->rules_hash = 0;
        home_problem(h, "rules", "the rules of the Services cannot be set: %s", problem);
        timer_arm_in(&h->loop, &h->retry, NS_PER_S);
    } else {
        h->rules_hash = hash;
        home_problem_over(h, "rules");
    }
}

void service_reconcile(struct home *h)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_SERVICE]);
    struct dns_zone *zone = dns_zone_new(h->values.cluster_domain);
    struct user_slices slices;
    struct rules rules = {.slices = &slices};

    user_slices_read(h, &slices);
    arena_init(&rules.arena, RULES_BYTES_MAX);
    while (map_next(&it)) {
        const struct object *service = it.value;

        add_service_names(h, &slices, zone, service);
        add_rules(h, &rules, service);
        if (has_selector(service)) {
            write_slice(h, service, false);
            if (h->has_v6) {
                write_slice(h, service, true);
            }
        }
    }
    user_slices_clear(&slices);
    drop_slices(h);
    set_rules(h, &rules);
    dns_server_set_zone(h->dns, zone);
    mem_free(rules.at);
    arena_clear(&rules.arena);
}
