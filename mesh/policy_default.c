/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/policy_server.h"

#include "core/alloc.h"
#include "core/err.h"
#include "mesh/rate_limit.h"

/*
 * Policies that no control plane sent: what a port is under until it is heard, or when nobody knows
 * it (wire 9.1).
 */
static const char *const names[] = {
    [DEFAULT_DENY] = "deny",
    [DEFAULT_ALL_AUTHENTICATED] = "all-authenticated",
    [DEFAULT_ALL_UNAUTHENTICATED] = "all-unauthenticated",
    [DEFAULT_CLUSTER_AUTHENTICATED] = "cluster-authenticated",
    [DEFAULT_CLUSTER_UNAUTHENTICATED] = "cluster-unauthenticated",
    [DEFAULT_AUDIT] = "audit",
};

int default_policy_parse(struct bytes name, enum default_policy *out)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (bytes_eq(name, bytes_str(names[i]))) {
            *out = (enum default_policy)i;
            return 0;
        }
    }
    return E_SYNTAX;
}

const char *default_policy_name(enum default_policy p)
{
    return names[p];
}

/* --- shared with policy_inbound.c ------------------------------------------------------------- */

static void policy_free(struct snapshot *s)
{
    struct server_policy *p = CONTAINER_OF(s, struct server_policy, ref);

    rate_limiter_unref(p->limiter);
    policy_held_free(p->held);
    arena_clear(&p->arena);
    mem_free(p);
}

struct server_policy *server_policy_alloc(struct decode *d)
{
    struct server_policy *p = mem_new(sizeof(*p));

    snapshot_init(&p->ref, policy_free);
    decode_init(d, &p->arena, &p->held);
    return p;
}

void server_policy_default_route(struct decode *d, struct server_policy *p)
{
    struct server_route *r;

    if (p->routes_count > 0 || p->protocol == PROTOCOL_OPAQUE || p->protocol == PROTOCOL_TLS) {
        return;
    }
    p->routes = decode_array(d, 1, sizeof(*p->routes));
    if (p->routes == NULL) {
        return;
    }
    p->routes_count = 1;
    r = &p->routes[0];
    r->route.meta = (struct meta){.kind = BYTES("default"), .name = BYTES("default")};
    r->labels = decode_labels(d, "route", &r->route.meta, 0);
    r->authz = p->authz;
    r->authz_count = p->authz_count;
    r->route.rules = decode_array(d, 1, sizeof(*r->route.rules));
    r->route.rules_count = r->route.rules != NULL;
}

void authz_name(struct decode *d, struct authz *a)
{
    a->labels = decode_labels(d, "authz", &a->meta, 0);
    a->is_audit =
        bytes_eq(a->meta.name, BYTES("audit")) && bytes_eq(a->meta.kind, BYTES("default"));
}

/* --- defaults --------------------------------------------------------------------------------- */

static void set_networks(struct decode *d, struct authz *a, const struct cidr *networks,
                         size_t count)
{
    a->networks = decode_array(d, count, sizeof(*a->networks));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        a->networks[a->networks_count++].net = networks[i];
    }
}

static void set_all_networks(struct decode *d, struct authz *a)
{
    struct cidr all[2];
    int rc = cidr_parse(BYTES("0.0.0.0/0"), &all[0]);

    assert(rc == 0);
    rc = cidr_parse(BYTES("::/0"), &all[1]);
    assert(rc == 0);
    set_networks(d, a, all, ARRAY_LEN(all));
}

static void set_authz(struct decode *d, struct server_policy *p, enum default_policy policy,
                      const struct cidr *cluster_networks, size_t networks_count)
{
    bool is_cluster =
        policy == DEFAULT_CLUSTER_AUTHENTICATED || policy == DEFAULT_CLUSTER_UNAUTHENTICATED;
    bool is_authenticated =
        policy == DEFAULT_ALL_AUTHENTICATED || policy == DEFAULT_CLUSTER_AUTHENTICATED;
    struct authz *a = decode_array(d, 1, sizeof(*a));

    assert(a != NULL);
    a->meta = p->meta;
    authz_name(d, a);
    if (is_cluster) {
        set_networks(d, a, cluster_networks, networks_count);
    } else {
        set_all_networks(d, a);
    }
    if (is_authenticated) {
        a->authn = AUTHN_IDENTITY;
        a->suffixes = decode_array(
            d, 1, sizeof(*a->suffixes)); /* one empty suffix: whoever has an identity */
        a->suffixes_count = 1;
    }
    p->authz = a;
    p->authz_count = 1;
}

struct server_policy *server_policy_new_default(enum default_policy policy,
                                                const struct cidr *cluster_networks,
                                                size_t networks_count, bool is_opaque,
                                                uint64_t detect_timeout_ns, uint16_t port)
{
    struct decode d;
    struct server_policy *p = server_policy_alloc(&d);

    p->protocol = is_opaque ? PROTOCOL_OPAQUE : PROTOCOL_DETECT;
    p->detect_timeout_ns = detect_timeout_ns;
    p->meta = (struct meta){.kind = BYTES("default"), .name = bytes_str(names[policy])};
    p->labels = decode_labels(&d, "srv", &p->meta, port);
    if (policy != DEFAULT_DENY) {
        set_authz(&d, p, policy, cluster_networks, networks_count);
    }
    server_policy_default_route(&d, p);
    assert(decode_is_ok(&d));
    decode_clear(&d);
    return p;
}
