/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/reading.h"

#include "core/alloc.h"

/*
 * Identities of clients: exact names, "*.suffix", everybody ("*"), service accounts and whole
 * namespaces (wire 9.2).
 */
typedef Io__Linkerd__Proxy__Inbound__Authn authn;
typedef Io__Linkerd__Proxy__Inbound__Authn__PermitMeshTLS permit_mesh_tls;
typedef Io__Linkerd__Proxy__Inbound__Authn__PermitMeshTLS__PermitClientIdentities permit_identities;
typedef Io__Linkerd__Proxy__Inbound__IdentitySuffix suffix_message;

void clients_init(struct clients *c, size_t room, struct arena *a)
{
    *c = (struct clients){.room = room};
    c->exact = arena_new(a, MAX(room, 1) * sizeof(c->exact[0]));
    c->suffixes = arena_new(a, MAX(room, 1) * sizeof(c->suffixes[0]));
}

static void add_exact(struct clients *c, const char *name, struct arena *a)
{
    assert(c->exact_count < c->room);
    c->exact[c->exact_count] = message_new(a, &io__linkerd__proxy__inbound__identity__descriptor);
    c->exact[c->exact_count++]->name = message_text(name);
}

/* "a.b" is the parts a, b; "" is every identity's. */
static void add_suffix(struct clients *c, const char *suffix, struct arena *a)
{
    suffix_message *m = message_new(a, &io__linkerd__proxy__inbound__identity_suffix__descriptor);
    struct bytes rest = bytes_str(suffix), part;
    size_t parts = 1;

    assert(c->suffixes_count < c->room);
    for (size_t i = 0; i < rest.len; i++) {
        parts += rest.at[i] == '.' ? 1 : 0;
    }
    m->parts = arena_new(a, parts * sizeof(m->parts[0]));
    while (rest.len > 0) {
        (void)bytes_split(rest, '.', &part, &rest);
        m->parts[m->n_parts++] = arena_strdup(a, part);
    }
    c->suffixes[c->suffixes_count++] = m;
}

void clients_add_pattern(struct reading *r, struct clients *c, const char *pattern)
{
    if (pattern == NULL || pattern[0] == '\0') {
        reading_refuse(r, "an identity is empty");
    } else if (strcmp(pattern, "*") == 0) {
        add_suffix(c, "", r->arena);
    } else if (strncmp(pattern, "*.", 2) == 0 && pattern[2] != '\0') {
        add_suffix(c, pattern + 2, r->arena);
    } else if (strchr(pattern, '*') != NULL) {
        reading_refuse(r, "the identity %.300s has a * that is not its first label", pattern);
    } else {
        add_exact(c, pattern, r->arena);
    }
}

/* A namespace without any is one whose manifests may come later. */
static void account_check(struct reading *r, const char *ns, const char *name)
{
    struct map_iter it = MAP_ITER(&r->env->cluster->objects[KIND_SERVICE_ACCOUNT]);
    const struct object *other;

    if (r->found == NULL || cluster_get(r->env->cluster, KIND_SERVICE_ACCOUNT, ns, name) != NULL) {
        return;
    }
    while (map_next(&it)) {
        other = it.value;
        if (strcmp(other->ns, ns) == 0) {
            reading_complain(r, "there is no ServiceAccount %s/%s: nobody is let in by it", ns, name);
            reading_advise(r, "create it, or name the one that the client's pods have");
            return;
        }
    }
}

void clients_add_account(struct reading *r, struct clients *c, const char *ns, const char *name)
{
    if (name[0] == '\0') {
        reading_refuse(r, "a service account has no name");
        return;
    }
    account_check(r, ns, name);
    add_exact(c,
              arena_printf(r->arena, "%s.%s.serviceaccount.identity.%s.%s", name, ns,
                           r->env->control_ns, r->env->trust_domain),
              r->arena);
}

void clients_add_namespace(struct reading *r, struct clients *c, const char *ns)
{
    if (ns[0] == '\0') {
        reading_refuse(r, "a namespace has no name");
        return;
    }
    add_suffix(c,
               arena_printf(r->arena, "%s.serviceaccount.identity.%s.%s", ns, r->env->control_ns,
                            r->env->trust_domain),
               r->arena);
}

void *clients_authn(const struct clients *c, struct arena *a)
{
    authn *m = message_new(a, &io__linkerd__proxy__inbound__authn__descriptor);
    permit_mesh_tls *tls =
        message_new(a, &io__linkerd__proxy__inbound__authn__permit_mesh_tls__descriptor);
    permit_identities *ids = message_new(
        a,
        &io__linkerd__proxy__inbound__authn__permit_mesh_tls__permit_client_identities__descriptor);

    ids->identities = c->exact;
    ids->n_identities = c->exact_count;
    ids->suffixes = c->suffixes;
    ids->n_suffixes = c->suffixes_count;
    tls->clients_case = IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_MESH_TLS__CLIENTS_IDENTITIES;
    tls->identities = ids;
    m->permit_case = IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_MESH_TLS;
    m->meshtls = tls;
    return m;
}
