/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

typedef Io__Linkerd__Proxy__Inbound__Authn authn;
typedef Io__Linkerd__Proxy__Inbound__Network network;

static const struct default_policy { /* wire 9.1 */
    const char *name;
    const char *authenticated; /* its name when identities are required */
    bool allows, needs_identity, only_cluster;
} default_policies[] = {
    {"all-unauthenticated", "all-authenticated", true, false, false},
    {"all-authenticated", "all-authenticated", true, true, false},
    {"cluster-unauthenticated", "cluster-authenticated", true, false, true},
    {"cluster-authenticated", "cluster-authenticated", true, true, true},
    {"audit", "audit", true, false, false},
    {"deny", "deny", false, false, false},
};

static const struct default_policy *policy_find(const char *name)
{
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(default_policies); i++) {
        if (strcmp(default_policies[i].name, name) == 0) {
            return &default_policies[i];
        }
    }
    return NULL;
}

bool default_policy_is_known(const char *name)
{
    return policy_find(name) != NULL;
}

const char *default_policy_authenticated(const char *name)
{
    const struct default_policy *p = policy_find(name);

    assert(p != NULL);
    return p->authenticated;
}

/* --- messages ------------------------------------------------------------------------------------ */

void authz_set_networks(authz *m, const struct cidr *networks, size_t count, struct arena *a)
{
    m->networks = arena_new(a, MAX(count, 1) * sizeof(network *));
    for (size_t i = 0; i < count; i++) {
        m->networks[i] = message_new(a, &io__linkerd__proxy__inbound__network__descriptor);
        m->networks[i]->net = message_network(a, &networks[i]);
    }
    m->n_networks = count;
}

static void set_labels(authz *m, const char *name, struct arena *a)
{
    const char *const pairs[] = {"group", "", "kind", "default", "name", name, NULL};

    m->labels = message_labels(a, &io__linkerd__proxy__inbound__authz__labels_entry__descriptor,
                               pairs, &m->n_labels);
    m->metadata = message_default(a, name);
}

void *authn_anybody(struct arena *a)
{
    authn *m = message_new(a, &io__linkerd__proxy__inbound__authn__descriptor);

    m->permit_case = IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_UNAUTHENTICATED;
    m->unauthenticated =
        message_new(a, &io__linkerd__proxy__inbound__authn__permit_unauthenticated__descriptor);
    return m;
}

static void *any_identity(const struct control_env *env, struct arena *a)
{
    struct reading r = {.env = env, .arena = a};
    struct clients c;

    clients_init(&c, 1, a);
    clients_add_pattern(&r, &c, "*");
    return clients_authn(&c, a);
}

struct authz_list default_policy_authorizations(const struct control_env *env, const char *name,
                                                struct arena *a)
{
    static const struct cidr everywhere[] = {{.base = {.family = AF_INET}},
                                             {.base = {.family = AF_INET6}}};
    const struct default_policy *p = policy_find(name);
    authz *m;

    if (p == NULL || !p->allows) {
        return (struct authz_list){.count = 0};
    }
    m = message_new(a, &io__linkerd__proxy__inbound__authz__descriptor);
    if (p->only_cluster) {
        authz_set_networks(m, env->cluster_networks, env->cluster_networks_count, a);
    } else {
        authz_set_networks(m, everywhere, ARRAY_LEN(everywhere), a);
    }
    set_labels(m, p->name, a);
    m->authentication = p->needs_identity ? any_identity(env, a) : authn_anybody(a);
    return (struct authz_list){.at = message_one(a, m), .count = 1};
}

authz *probe_authorization(const struct control_env *env, struct arena *a)
{
    authz *m = message_new(a, &io__linkerd__proxy__inbound__authz__descriptor);

    authz_set_networks(m, env->probe_networks, env->probe_networks_count, a);
    set_labels(m, "probe", a);
    m->authentication = authn_anybody(a);
    return m;
}
