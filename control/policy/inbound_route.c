/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

/*
 * Routes that are attached to a Server (wire 9.4). A gRPC route is built as an HTTP one (reading.h).
 */
typedef Io__Linkerd__Proxy__Inbound__HttpRoute http_route;
typedef Io__Linkerd__Proxy__Inbound__HttpRoute__Rule rule_message;

static rule_message *rule_read(struct reading *r, const struct object *o, size_t index)
{
    const json_t *from = json_array_get(json_object_get(o->spec, "rules"), index);
    rule_message *m =
        message_new(r->arena, &io__linkerd__proxy__inbound__http_route__rule__descriptor);

    reading_at(r, "spec.rules[%zu].matches", index);
    m->matches = matches_read(r, from, o->kind == KIND_GRPC_ROUTE, &m->n_matches);
    reading_at(r, "spec.rules[%zu].filters", index);
    m->filters = filters_read(r, json_object_get(from, "filters"), true, &m->n_filters);
    return m;
}

void *inbound_route_read(struct reading *r, const struct object *o)
{
    const struct kind_info *kind = kind_info(o->kind);
    size_t count = MAX(json_array_size(json_object_get(o->spec, "rules")), (size_t)1);
    http_route *m = message_new(r->arena, &io__linkerd__proxy__inbound__http_route__descriptor);

    m->metadata = resource_ref(r->arena, kind->group, kind->name, o->name, "", 0);
    reading_at(r, "spec.hostnames");
    m->hosts = hosts_read(r, json_object_get(o->spec, "hostnames"), &m->n_hosts);
    m->rules = arena_new(r->arena, count * sizeof(m->rules[0]));
    for (size_t i = 0; i < count; i++) { /* without rules there is one that matches all */
        m->rules[m->n_rules++] = rule_read(r, o, i);
    }
    return r->is_refused ? NULL : m;
}

void *inbound_routes(const struct policy *p, const struct object *server, bool is_grpc,
                     struct authz_list authorizations, const struct reading *like,
                     size_t *out_count)
{
    struct attached all = attach_get(&p->attach, ATTACH_SERVER, server->ns, server->name);
    http_route **routes = arena_new(like->arena, (all.count + 1) * sizeof(*routes));

    *out_count = 0;
    for (size_t i = 0; i < all.count; i++) {
        const struct object *o = all.at[i];
        bool is_http = o->kind == KIND_HTTP_ROUTE || o->kind == KIND_LINKERD_HTTP_ROUTE;
        struct reading r = {.env = like->env, .arena = like->arena, .depends = like->depends};
        struct authz_list both;
        http_route *m;

        if (is_grpc ? o->kind != KIND_GRPC_ROUTE : !is_http) {
            continue;
        }
        m = inbound_route_read(&r, o);
        if (m != NULL) {
            both = route_authorizations(p, o, authorizations, like);
            m->authorizations = both.at;
            m->n_authorizations = both.count;
            routes[(*out_count)++] = m;
        }
    }
    return routes;
}
