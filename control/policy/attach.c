/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/attach.h"

#include "core/alloc.h"

struct attach_list { /* of one key */
    const struct object **at;
    size_t count;
};

/* --- keys ---------------------------------------------------------------------------------------- */

char attach_letter_of_route(enum kind k)
{
    return k == KIND_LINKERD_HTTP_ROUTE ? ATTACH_LINKERD_ROUTE
           : k == KIND_HTTP_ROUTE       ? ATTACH_GATEWAY_ROUTE
           : k == KIND_GRPC_ROUTE       ? ATTACH_GRPC_ROUTE
                                        : 0;
}

char attach_letter_of_self(enum kind k)
{
    return k == KIND_MESH_TLS_AUTHENTICATION ? ATTACH_SELF : ATTACH_SELF + 1;
}

static void visit_name(attach_visit *visit, void *user, char letter, const char *ns,
                       const char *name)
{
    char key[DEP_KEY_BYTES];

    visit(user, dep_key_name(letter, ns, name, key));
}

static void server_authorization_keys(const struct object *o, attach_visit *visit, void *user)
{
    const char *name = json_text(o->spec, "server.name");

    if (name != NULL) {
        visit_name(visit, user, ATTACH_SERVER, o->ns, name);
    } else {
        visit_name(visit, user, ATTACH_NAMESPACE, o->ns, "");
    }
}

static void authorization_policy_keys(const struct object *o, attach_visit *visit, void *user)
{
    const json_t *target = json_object_get(o->spec, "targetRef");
    const char *name = ref_name(target);

    if (ref_is(target, GROUP_POLICY, "Server")) {
        visit_name(visit, user, ATTACH_SERVER, o->ns, name);
    } else if (ref_is(target, "", "Namespace") && strcmp(name, o->ns) == 0) {
        visit_name(visit, user, ATTACH_NAMESPACE, o->ns, "");
    } else if (ref_is(target, GROUP_POLICY, "HTTPRoute")) {
        visit_name(visit, user, ATTACH_LINKERD_ROUTE, o->ns, name);
    } else if (ref_is(target, GROUP_GATEWAY, "HTTPRoute")) {
        visit_name(visit, user, ATTACH_GATEWAY_ROUTE, o->ns, name);
    } else if (ref_is(target, GROUP_GATEWAY, "GRPCRoute")) {
        visit_name(visit, user, ATTACH_GRPC_ROUTE, o->ns, name);
    }
}

static void route_keys(const struct object *o, attach_visit *visit, void *user)
{
    const json_t *refs = json_object_get(o->spec, "parentRefs");
    struct json_iter it = JSON_ITER(refs);

    while (json_is_array(refs) && json_next(&it)) {
        enum parent kind = parent_kind(o, it.value);
        const char *ns = ref_ns(it.value, o->ns);

        if (kind == PARENT_SERVER && strcmp(ns, o->ns) == 0) {
            visit_name(visit, user, ATTACH_SERVER, ns, ref_name(it.value));
        } else if (kind == PARENT_SERVICE) {
            visit_name(visit, user, ATTACH_SERVICE, ns, ref_name(it.value));
        } else if (kind == PARENT_EGRESS) {
            visit_name(visit, user, ATTACH_EGRESS, ns, ref_name(it.value));
        }
    }
}

bool attach_is_for(enum kind k)
{
    return k == KIND_SERVER_AUTHORIZATION || k == KIND_AUTHORIZATION_POLICY ||
           k == KIND_HTTP_LOCAL_RATE_LIMIT || k == KIND_EGRESS_NETWORK ||
           k == KIND_MESH_TLS_AUTHENTICATION || k == KIND_NETWORK_AUTHENTICATION ||
           k == KIND_LINKERD_HTTP_ROUTE || k == KIND_HTTP_ROUTE || k == KIND_GRPC_ROUTE ||
           k == KIND_TLS_ROUTE || k == KIND_TCP_ROUTE;
}

void attach_keys(const struct object *o, attach_visit *visit, void *user)
{
    if (o->kind == KIND_SERVER_AUTHORIZATION) {
        server_authorization_keys(o, visit, user);
    } else if (o->kind == KIND_AUTHORIZATION_POLICY) {
        authorization_policy_keys(o, visit, user);
    } else if (o->kind == KIND_HTTP_LOCAL_RATE_LIMIT) {
        if (ref_is(json_object_get(o->spec, "targetRef"), GROUP_POLICY, "Server")) {
            visit_name(visit, user, ATTACH_SERVER, o->ns,
                       ref_name(json_object_get(o->spec, "targetRef")));
        }
    } else if (o->kind == KIND_EGRESS_NETWORK) {
        visit_name(visit, user, ATTACH_EGRESSES, o->ns, "");
    } else if (o->kind == KIND_MESH_TLS_AUTHENTICATION || o->kind == KIND_NETWORK_AUTHENTICATION) {
        visit_name(visit, user, attach_letter_of_self(o->kind), o->ns, o->name);
    } else {
        route_keys(o, visit, user);
    }
}

/* --- the lists ----------------------------------------------------------------------------------- */

struct change {
    struct attach *x;
    const struct object *object;
};

static void list_add(void *user, struct bytes key)
{
    const struct change *c = user;
    struct attach_list *l = map_get(&c->x->by_key, key);
    size_t at = 0;

    if (l == NULL) {
        l = mem_new(sizeof(*l));
        (void)map_put(&c->x->by_key, key, l);
    }
    while (at < l->count && object_is_before(l->at[at], c->object)) {
        at++;
    }
    if (at < l->count && l->at[at] == c->object) {
        return; /* it says so twice */
    }
    l->at = mem_resize(l->at, l->count + 1, sizeof(l->at[0]));
    memmove(&l->at[at + 1], &l->at[at], (l->count - at) * sizeof(l->at[0]));
    object_ref(c->object);
    l->at[at] = c->object;
    l->count++;
}

static void list_drop(void *user, struct bytes key)
{
    const struct change *c = user;
    struct attach_list *l = map_get(&c->x->by_key, key);

    for (size_t i = 0; l != NULL && i < l->count; i++) {
        if (l->at[i]->kind == c->object->kind && strcmp(l->at[i]->ns, c->object->ns) == 0 &&
            strcmp(l->at[i]->name, c->object->name) == 0) {
            object_unref(l->at[i]);
            l->count--;
            memmove(&l->at[i], &l->at[i + 1], (l->count - i) * sizeof(l->at[0]));
            break;
        }
    }
    if (l != NULL && l->count == 0) {
        (void)map_remove(&c->x->by_key, key);
        mem_free(l->at);
        mem_free(l);
    }
}

void attach_on_event(struct attach *x, enum cluster_event e, const struct object *o,
                     const struct object *old)
{
    struct change c = {.x = x, .object = old};

    if (old != NULL) {
        attach_keys(old, list_drop, &c);
    }
    c.object = o;
    if (e == CLUSTER_UPSERT) {
        attach_keys(o, list_add, &c);
    } else {
        attach_keys(o, list_drop, &c);
    }
}

struct attached attach_get(const struct attach *x, char letter, const char *ns, const char *name)
{
    char key[DEP_KEY_BYTES];
    const struct attach_list *l = map_get(&x->by_key, dep_key_name(letter, ns, name, key));

    return l != NULL ? (struct attached){.at = l->at, .count = l->count}
                     : (struct attached){.count = 0};
}

void attach_init(struct attach *x)
{
    map_init(&x->by_key);
}

void attach_clear(struct attach *x)
{
    struct map_iter it = MAP_ITER(&x->by_key);

    while (map_next(&it)) {
        struct attach_list *l = it.value;

        for (size_t i = 0; i < l->count; i++) {
            object_unref(l->at[i]);
        }
        mem_free(l->at);
        mem_free(l);
    }
    map_clear(&x->by_key);
}
