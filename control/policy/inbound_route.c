/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

/*
 * Routes that are attached to a Server (wire 9.4). A gRPC route is built as an HTTP one (reading.h).
 *
 * One that cannot be read must not let in whom it would have kept out. Its requests would be taken by the
 * next best route, or by the default one, if it were left out. So where its requests are known nobody may
 * make them; and where they are not, they may be any of the Server's, and nobody may make those.
 */
typedef Io__Linkerd__Proxy__Inbound__HttpRoute http_route;
typedef Io__Linkerd__Proxy__Inbound__HttpRoute__Rule rule_message;

static rule_message *matches_of(struct reading *r, const struct object *o, const json_t *from,
                                size_t index)
{
    rule_message *m =
        message_new(r->arena, &io__linkerd__proxy__inbound__http_route__rule__descriptor);

    reading_at(r, "spec.rules[%zu].matches", index);
    m->matches = matches_read(r, from, o->kind == KIND_GRPC_ROUTE, &m->n_matches);
    return m;
}

static void read_filters(struct reading *r, const json_t *rules, http_route *m)
{
    for (size_t i = 0; i < m->n_rules; i++) {
        rule_message *rule = m->rules[i];

        reading_at(r, "spec.rules[%zu].filters", i);
        rule->filters = filters_read(r, json_object_get(json_array_get(rules, i), "filters"), true,
                                     &rule->n_filters);
    }
    for (size_t i = 0; r->is_refused && i < m->n_rules; i++) {
        m->rules[i]->n_filters = 0; /* a proxy would refuse them, and the whole answer */
    }
}

void *inbound_route_read(struct reading *r, const struct object *o)
{
    const struct kind_info *kind = kind_info(o->kind);
    const json_t *rules;
    size_t count;
    http_route *m = message_new(r->arena, &io__linkerd__proxy__inbound__http_route__descriptor);

    reading_at(r, "spec.rules");
    rules = reading_list(r, o->spec, "rules");
    count = MAX(json_array_size(rules), (size_t)1);
    m->metadata = resource_ref(r->arena, kind->group, kind->name, o->name, "", 0);
    reading_at(r, "spec.hostnames");
    m->hosts = hosts_read(r, json_object_get(o->spec, "hostnames"), &m->n_hosts);
    m->rules = arena_new(r->arena, count * sizeof(m->rules[0]));
    for (size_t i = 0; i < count; i++) { /* without rules there is one that matches all */
        m->rules[m->n_rules++] = matches_of(r, o, json_array_get(rules, i), i);
    }
    if (r->is_refused) {
        return NULL;
    }
    read_filters(r, rules, m);
    return m;
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
        if (m == NULL) {
            *out_count = 0;
            return NULL;
        }
        if (!r.is_refused) {
            both = route_authorizations(p, o, authorizations, like);
            m->authorizations = both.at;
            m->n_authorizations = both.count;
        }
        routes[(*out_count)++] = m;
    }
    return routes;
}
