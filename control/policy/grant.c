/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

/*
 * Objects that let clients in: ServerAuthorization, and AuthorizationPolicy with the authentications that
 * it requires together (wire 9.2, 9.4). What cannot be understood in full lets nobody in.
 */
typedef Io__Linkerd__Proxy__Inbound__Authn authn;

/* TLS that the proxy ends itself; the client needs no certificate. */
static authn *any_tls(struct arena *a)
{
    authn *m = message_new(a, &io__linkerd__proxy__inbound__authn__descriptor);

    m->permit_case = IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_MESH_TLS;
    m->meshtls = message_new(a, &io__linkerd__proxy__inbound__authn__permit_mesh_tls__descriptor);
    m->meshtls->clients_case =
        IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_MESH_TLS__CLIENTS_UNAUTHENTICATED;
    m->meshtls->unauthenticated =
        message_new(a, &io__linkerd__proxy__inbound__authn__permit_unauthenticated__descriptor);
    return m;
}

static authz *authz_new(const struct object *of, const char *kind, struct arena *a)
{
    authz *m = message_new(a, &io__linkerd__proxy__inbound__authz__descriptor);
    const char *const pairs[] = {"group", GROUP_POLICY, "kind", kind, "name", of->name, NULL};

    m->labels = message_labels(a, &io__linkerd__proxy__inbound__authz__labels_entry__descriptor,
                               pairs, &m->n_labels);
    m->metadata = resource_ref(a, GROUP_POLICY, kind, of->name, "", 0);
    return m;
}

/* --- ServerAuthorization ------------------------------------------------------------------------- */

static authn *server_clients_read(struct reading *r, const struct object *o, const json_t *tls)
{
    const json_t *names = json_object_get(tls, "identities");
    const json_t *accounts = json_object_get(tls, "serviceAccounts");
    struct clients c;

    clients_init(&c, json_array_size(names) + json_array_size(accounts), r->arena);
    if (c.room == 0) {
        reading_refuse(r, "client.meshTLS names neither identities nor serviceAccounts");
    }
    for (size_t i = 0; i < json_array_size(names); i++) {
        reading_at(r, "spec.client.meshTLS.identities[%zu]", i);
        clients_add_pattern(r, &c, json_string_value(json_array_get(names, i)));
    }
    for (size_t i = 0; i < json_array_size(accounts); i++) {
        const json_t *ref = json_array_get(accounts, i);

        reading_at(r, "spec.client.meshTLS.serviceAccounts[%zu]", i);
        clients_add_account(r, &c, ref_ns(ref, o->ns), ref_name(ref));
    }
    return clients_authn(&c, r->arena);
}

authz *server_authorization_read(struct reading *r, const struct object *o)
{
    const json_t *client = json_object_get(o->spec, "client");
    const json_t *tls = json_object_get(client, "meshTLS");
    authz *m = authz_new(o, "serverauthorization", r->arena);
    bool is_open = json_flag(client, "unauthenticated", false);
    const char *problem = selector_problem(json_at(o->spec, "server.selector"));

    reading_at(r, "spec.server.selector");
    if (problem != NULL) {
        reading_refuse(r, "the selector of its server is malformed: %s", problem);
    }
    reading_at(r, "spec.client.networks");
    m->networks = networks_read(r, json_object_get(client, "networks"), &m->n_networks);
    reading_at(r, "spec.client");
    if (m->n_networks == 0) {
        authz_set_networks(m, r->env->cluster_networks, r->env->cluster_networks_count, r->arena);
    }
    if (is_open && tls != NULL) {
        reading_refuse(r, "client is both unauthenticated and meshTLS");
        reading_advise(r, "remove one of the two");
    }
    if (is_open) {
        m->authentication = authn_anybody(r->arena);
    } else if (tls == NULL) {
        reading_refuse(r, "client says neither unauthenticated nor meshTLS");
    } else if (json_flag(tls, "unauthenticatedTLS", false)) {
        m->authentication = any_tls(r->arena);
    } else {
        m->authentication = server_clients_read(r, o, tls);
    }
    return r->is_refused ? NULL : m;
}

static bool selects_server(const struct object *o, const struct object *server)
{
    const char *name = json_text(o->spec, "server.name");

    if (name != NULL) {
        return strcmp(name, server->name) == 0;
    }
    return selector_matches(json_at(o->spec, "server.selector"), server->labels);
}

/* --- AuthorizationPolicy ------------------------------------------------------------------------- */

static authn *identities_read(struct reading *r, const struct object *o)
{
    const json_t *names = json_object_get(o->spec, "identities");
    const json_t *refs = json_object_get(o->spec, "identityRefs");
    struct clients c;

    clients_init(&c, json_array_size(names) + json_array_size(refs), r->arena);
    if (c.room == 0) {
        reading_refuse(r, "MeshTLSAuthentication %s/%s names no identities", o->ns, o->name);
    }
    for (size_t i = 0; i < json_array_size(names); i++) {
        reading_at(r, "spec.identities[%zu]", i);
        clients_add_pattern(r, &c, json_string_value(json_array_get(names, i)));
    }
    for (size_t i = 0; i < json_array_size(refs); i++) {
        const json_t *ref = json_array_get(refs, i);

        reading_at(r, "spec.identityRefs[%zu]", i);
        if (ref_is(ref, "", "ServiceAccount")) {
            clients_add_account(r, &c, ref_ns(ref, o->ns), ref_name(ref));
        } else if (ref_is(ref, "", "Namespace")) {
            clients_add_namespace(r, &c, ref_name(ref));
        } else {
            reading_refuse(r, "an identityRef is neither a ServiceAccount nor a Namespace");
        }
    }
    return clients_authn(&c, r->arena);
}

void mesh_tls_authentication_read(struct reading *r, const struct object *o)
{
    (void)identities_read(r, o);
}

void network_authentication_read(struct reading *r, const struct object *o)
{
    size_t count = 0;

    reading_at(r, "spec.networks");
    (void)networks_read(r, json_object_get(o->spec, "networks"), &count);
    if (count == 0) {
        reading_refuse(r, "NetworkAuthentication %s/%s has no networks", o->ns, o->name);
    }
}

/* The authentication that a reference means; NULL and a refusal when it is not there. */
static const struct object *authentication_find(struct reading *r, enum kind k, const json_t *ref,
                                                const char *ns)
{
    const struct object *o;

    ns = ref_ns(ref, ns);
    depends_on_name(r->depends, attach_letter_of_self(k), ns, ref_name(ref));
    o = cluster_get(r->env->cluster, k, ns, ref_name(ref));
    if (o == NULL) {
        reading_refuse(r, "there is no %s %s/%s, which it requires", kind_info(k)->name, ns,
                       ref_name(ref));
        reading_advise(r, "create it, or correct the reference");
    }
    return o;
}

static void network_ref_read(struct reading *r, const struct object *networks, authz *to)
{
    if (to->networks != NULL) {
        reading_refuse(r, "it requires more than one NetworkAuthentication");
        reading_advise(r, "name one, and list all networks in it");
    } else if (networks != NULL) {
        network_authentication_read(r, networks);
        to->networks =
            networks_read(r, json_object_get(networks->spec, "networks"), &to->n_networks);
    }
}

static void account_ref_read(struct reading *r, const json_t *ref, const char *ns, authz *to)
{
    struct clients c;

    clients_init(&c, 1, r->arena);
    clients_add_account(r, &c, ref_ns(ref, ns), ref_name(ref));
    to->authentication = clients_authn(&c, r->arena);
}

/* All that is required together: at most one source of identities and one of networks. */
static void requirement_read(struct reading *r, const struct object *o, const json_t *ref,
                             authz *to)
{
    bool is_account = ref_is(ref, "", "ServiceAccount");
    const struct object *identities;

    if (ref_is(ref, GROUP_POLICY, "NetworkAuthentication")) {
        network_ref_read(r, authentication_find(r, KIND_NETWORK_AUTHENTICATION, ref, o->ns), to);
    } else if (!is_account && !ref_is(ref, GROUP_POLICY, "MeshTLSAuthentication")) {
        reading_refuse(r, "it requires something that is neither a MeshTLSAuthentication, a "
                          "NetworkAuthentication nor a ServiceAccount");
    } else if (to->authentication != NULL) {
        reading_refuse(r, "it requires more than one source of identities");
        reading_advise(r, "name one; for alternatives write several AuthorizationPolicies");
    } else if (is_account) {
        account_ref_read(r, ref, o->ns, to);
    } else {
        identities = authentication_find(r, KIND_MESH_TLS_AUTHENTICATION, ref, o->ns);
        to->authentication = identities != NULL ? identities_read(r, identities) : NULL;
    }
}

authz *authorization_policy_read(struct reading *r, const struct object *o)
{
    static const struct cidr everywhere[] = {{.base = {.family = AF_INET}},
                                             {.base = {.family = AF_INET6}}};
    const json_t *refs = json_object_get(o->spec, "requiredAuthenticationRefs");
    authz *m = authz_new(o, "authorizationpolicy", r->arena);

    reading_at(r, "spec.requiredAuthenticationRefs");
    if (!json_is_array(refs)) {
        reading_refuse(r, "requiredAuthenticationRefs is missing");
        reading_advise(r, "name what is required; an empty list lets everybody in");
    }
    for (size_t i = 0; i < json_array_size(refs); i++) {
        reading_at(r, "spec.requiredAuthenticationRefs[%zu]", i);
        reading_hold(r, true); /* what it names is read, too */
        requirement_read(r, o, json_array_get(refs, i), m);
        reading_hold(r, false);
    }
    if (m->n_networks == 0) {
        authz_set_networks(m, everywhere, ARRAY_LEN(everywhere), r->arena);
    }
    if (m->authentication == NULL) {
        m->authentication = authn_anybody(r->arena);
    }
    return r->is_refused ? NULL : m;
}

/* --- lists --------------------------------------------------------------------------------------- */

/* Room for what every one of `more` objects may add. */
static void list_reserve(struct authz_list *l, size_t more, struct arena *a)
{
    authz **larger = arena_new(a, (l->count + more + 1) * sizeof(authz *));

    for (size_t i = 0; i < l->count; i++) {
        larger[i] = l->at[i];
    }
    l->at = larger;
}

/* `server`: whose ServerAuthorizations count; NULL: of none. */
static void list_add(struct authz_list *l, const struct reading *like, struct attached from,
                     enum kind kind, const struct object *server)
{
    list_reserve(l, from.count, like->arena);
    for (size_t i = 0; i < from.count; i++) {
        struct reading r = {.env = like->env, .arena = like->arena, .depends = like->depends};
        authz *m = NULL;

        if (from.at[i]->kind != kind) {
            continue;
        }
        if (kind == KIND_AUTHORIZATION_POLICY) {
            m = authorization_policy_read(&r, from.at[i]);
        } else if (selects_server(from.at[i], server)) {
            m = server_authorization_read(&r, from.at[i]);
        }
        if (m != NULL) {
            l->at[l->count++] = m;
        }
    }
}

struct authz_list server_authorizations(const struct policy *p, const struct object *server,
                                        const struct reading *like)
{
    struct attached of_server = attach_get(&p->attach, ATTACH_SERVER, server->ns, server->name);
    struct attached of_ns = attach_get(&p->attach, ATTACH_NAMESPACE, server->ns, "");
    struct authz_list l = {.count = 0};

    depends_on_name(like->depends, ATTACH_SERVER, server->ns, server->name);
    depends_on_name(like->depends, ATTACH_NAMESPACE, server->ns, "");
    list_add(&l, like, of_server, KIND_SERVER_AUTHORIZATION, server);
    list_add(&l, like, of_ns, KIND_SERVER_AUTHORIZATION, server);
    list_add(&l, like, of_server, KIND_AUTHORIZATION_POLICY, server);
    list_add(&l, like, of_ns, KIND_AUTHORIZATION_POLICY, server);
    return l;
}

struct authz_list route_authorizations(const struct policy *p, const struct object *route,
                                       struct authz_list server, const struct reading *like)
{
    char letter = attach_letter_of_route(route->kind);
    struct authz_list l = {.count = 0};

    depends_on_name(like->depends, letter, route->ns, route->name);
    list_add(&l, like, attach_get(&p->attach, letter, route->ns, route->name),
             KIND_AUTHORIZATION_POLICY, NULL);
    return authz_list_join(l, server, like->arena);
}

struct authz_list authz_list_join(struct authz_list first, struct authz_list then, struct arena *a)
{
    list_reserve(&first, then.count, a);
    for (size_t i = 0; i < then.count; i++) {
        first.at[first.count++] = then.at[i];
    }
    return first;
}
