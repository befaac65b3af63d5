/* SPDX-License-Identifier: Apache-2.0 */
#include "local/slice.h"

#include "cluster/names.h"
#include "core/alloc.h"
#include "core/err.h"

#include <stdio.h>

#define TTL_S      5
#define NAME_BYTES 512

bool slice_is_own(const struct object *slice)
{
    const char *by = object_label(slice, SLICE_LABEL_BY);

    return by != NULL && strcmp(by, SLICE_BY_HOME) == 0;
}

/* --- may it be there? ---------------------------------------------------------------------------- */

int slice_check(const struct home *h, const struct object *slice, char *path, size_t path_bytes,
                char *problem, size_t problem_bytes)
{
    const struct net_config *net = &h->options->net;
    bool v6 = strcmp(json_text(slice->json, "addressType"), "IPv6") == 0;
    const json_t *endpoint, *item;
    char subnet[ADDR_TEXT_BYTES];
    struct addr a;
    size_t i, k;

    if (v6 && !h->has_v6) {
        (void)snprintf(path, path_bytes, "addressType");
        (void)snprintf(problem, problem_bytes, "this home has no IPv6");
        return E_UNSUPPORTED;
    }
    json_array_foreach(json_object_get(slice->json, "endpoints"), i, endpoint)
    {
        json_array_foreach(json_object_get(endpoint, "addresses"), k, item)
        {
            const char *text = json_string_value(item);

            if (addr_parse_ip(bytes_str(text), &a) == 0 &&
                !cidr_contains(v6 ? &net->pods6 : &net->pods4, &a)) {
                (void)snprintf(path, path_bytes, "endpoints[%zu].addresses[%zu]", i, k);
                (void)snprintf(problem, problem_bytes,
                               "%s is %s, which is outside of the pods' network %s: a home has no "
                               "way out",
                               path, text, cidr_format(v6 ? &net->pods6 : &net->pods4, subnet));
                return E_UNSUPPORTED;
            }
        }
    }
    return 0;
}

/* --- what they say ------------------------------------------------------------------------------- */

void user_slices_read(const struct home *h, struct user_slices *s)
{
    struct map_iter it = MAP_ITER(&h->cluster->objects[KIND_ENDPOINT_SLICE]);

    *s = (struct user_slices){0};
    arena_init(&s->arena, SLICES_BYTES_MAX);
    while (map_next(&it)) {
        if (!slice_is_own(it.value)) {
            s->at = mem_resize(s->at, s->count + 1, sizeof(*s->at));
            slice_view_read(it.value, &s->arena, &s->at[s->count++]);
        }
    }
}

void user_slices_clear(struct user_slices *s)
{
    mem_free(s->at);
    arena_clear(&s->arena);
}

static bool is_of(const struct slice_view *v, const struct object *service)
{
    return v->service != NULL && strcmp(v->service, service->name) == 0 &&
           strcmp(v->object->ns, service->ns) == 0;
}

/* The number that a port of the Service has there, found by its name; 0: none. */
static uint16_t port_of(const struct slice_view *v, const json_t *port)
{
    const char *name = json_text(port, "name"), *protocol = json_text(port, "protocol");
    enum port_protocol wanted =
        protocol != NULL && strcmp(protocol, "UDP") == 0 ? PORT_UDP : PORT_TCP;

    for (size_t i = 0; i < v->ports_count; i++) {
        if (v->ports[i].protocol == wanted &&
            strcmp(v->ports[i].name, name != NULL ? name : "") == 0) {
            return v->ports[i].port;
        }
    }
    return 0;
}

size_t user_slices_targets(const struct user_slices *s, const struct object *service,
                           const json_t *port, sa_family_t family, struct net_target *to)
{
    size_t count = 0;

    for (size_t i = 0; i < s->count; i++) {
        const struct slice_view *v = &s->at[i];
        uint16_t number = is_of(v, service) ? port_of(v, port) : 0;

        for (size_t e = 0; number != 0 && e < v->endpoints_count; e++) {
            for (size_t k = 0; v->endpoints[e].is_ready && k < v->endpoints[e].addresses_count; k++) {
                struct addr a = v->endpoints[e].addresses[k];

                if (a.family == family && to != NULL) {
                    a.port = number;
                    to[count].addr = a;
                }
                count += a.family == family;
            }
        }
    }
    return count;
}

/* --- names --------------------------------------------------------------------------------------- */

static void add_name(struct dns_zone *z, const struct slice_view *v, const struct object *service,
                     const char *hostname, const struct addr *a, const char *full)
{
    char dashed[ADDR_TEXT_BYTES], target[NAME_BYTES], name[NAME_BYTES];
    const json_t *port;
    size_t i;

    addr_format_ip(a, dashed);
    for (char *c = dashed; *c != '\0'; c++) {
        *c = *c == '.' || *c == ':' ? '-' : *c;
    }
    (void)snprintf(target, sizeof(target), "%s.%s", hostname != NULL ? hostname : dashed, full);
    dns_zone_add(z, target, a, TTL_S);
    dns_zone_add(z, full, a, TTL_S);
    json_array_foreach(json_object_get(service->spec, "ports"), i, port)
    {
        const char *port_name = json_text(port, "name"), *protocol = json_text(port, "protocol");
        uint16_t number = port_of(v, port);

        if (number == 0) {
            continue;
        }
        dns_zone_add_srv(z, full, target, number, TTL_S);
        if (port_name != NULL) {
            (void)snprintf(name, sizeof(name), "_%s._%s.%s", port_name,
                           protocol != NULL && strcmp(protocol, "UDP") == 0 ? "udp" : "tcp", full);
            dns_zone_add_srv(z, name, target, number, TTL_S);
        }
    }
}

void user_slices_add_names(const struct user_slices *s, struct dns_zone *z,
                           const struct object *service, const char *full)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct slice_view *v = &s->at[i];

        for (size_t e = 0; is_of(v, service) && e < v->endpoints_count; e++) {
            const struct slice_endpoint *end = &v->endpoints[e];

            for (size_t k = 0; end->is_ready && k < end->addresses_count; k++) {
                add_name(z, v, service, end->hostname, &end->addresses[k], full);
            }
        }
    }
}
