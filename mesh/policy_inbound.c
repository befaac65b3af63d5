/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/decode.h"

#include "core/alloc.h"
#include "mesh/policy_server.h"
#include "mesh/rate_limit.h"

/*
 * `inbound.Server` to struct server_policy, by the rules of wire 3.4.
 */
#define SUFFIX_BYTES_MAX 256

/* --- authorizations --------------------------------------------------------------------------- */

static void decode_networks(struct decode *d, const pb_authz *from, struct authz *to)
{
    if (from->n_networks == 0) {
        decode_refuse(d, "an authorization names no network");
        return;
    }
    to->networks = decode_array(d, from->n_networks, sizeof(*to->networks));
    for (size_t i = 0; i < from->n_networks && decode_is_ok(d); i++) {
        const Io__Linkerd__Proxy__Inbound__Network *n = from->networks[i];
        struct network_match *m = &to->networks[to->networks_count++];

        if (cidr_decode(n->net, &m->net) != 0) {
            decode_refuse(d, "a network of an authorization is malformed");
            return;
        }
        m->except = decode_array(d, n->n_except, sizeof(*m->except));
        for (size_t k = 0; k < n->n_except && decode_is_ok(d); k++) {
            if (cidr_decode(n->except[k], &m->except[m->except_count++]) != 0) {
                decode_refuse(d, "an excepted network of an authorization is malformed");
            }
        }
    }
}

static struct bytes *decode_identities(struct decode *d, pb_identity **from, size_t count,
                                       size_t *out_count)
{
    struct bytes *names = decode_array(d, count, sizeof(*names));

    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        if (from[i]->name[0] == '\0') {
            decode_refuse(d, "an identity is empty");
        }
        names[(*out_count)++] = decode_text(d, from[i]->name);
    }
    return names;
}

/* [a,b] stands for ids that end in ".a.b"; [] for any. */
static struct bytes suffix_text(struct decode *d,
                                const Io__Linkerd__Proxy__Inbound__IdentitySuffix *from)
{
    char suffix[SUFFIX_BYTES_MAX];
    struct text t;

    text_init_fixed(&t, suffix, sizeof(suffix));
    for (size_t i = 0; i < from->n_parts; i++) {
        text_char(&t, '.');
        text_str(&t, from->parts[i]);
    }
    if (t.err != 0) {
        decode_refuse(d, "the suffix of an identity is too long");
    }
    return decode_bytes(d, text_bytes(&t));
}

static void decode_clients(struct decode *d,
                           const Io__Linkerd__Proxy__Inbound__Authn__PermitMeshTLS *from,
                           struct authz *to)
{
    const Io__Linkerd__Proxy__Inbound__Authn__PermitMeshTLS__PermitClientIdentities *ids;

    if (from->clients_case ==
        IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_MESH_TLS__CLIENTS_UNAUTHENTICATED) {
        to->authn = AUTHN_TLS_ANY;
        return;
    }
    if (from->clients_case !=
        IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_MESH_TLS__CLIENTS_IDENTITIES) {
        decode_refuse(d, "an authorization does not say which clients it permits");
        return;
    }
    ids = from->identities;
    to->authn = AUTHN_IDENTITY;
    to->identities =
        decode_identities(d, ids->identities, ids->n_identities, &to->identities_count);
    to->suffixes = decode_array(d, ids->n_suffixes, sizeof(*to->suffixes));
    for (size_t i = 0; i < ids->n_suffixes && decode_is_ok(d); i++) {
        to->suffixes[to->suffixes_count++] = suffix_text(d, ids->suffixes[i]);
    }
}

static void decode_authn(struct decode *d, const pb_authz *from, struct authz *to)
{
    if (from->authentication == NULL) {
        decode_refuse(d, "an authorization has no authentication");
        return;
    }
    switch ((int)from->authentication->permit_case) {
    case IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_UNAUTHENTICATED:
        to->authn = AUTHN_NONE;
        break;
    case IO__LINKERD__PROXY__INBOUND__AUTHN__PERMIT_MESH_TLS:
        decode_clients(d, from->authentication->meshtls, to);
        break;
    default:
        decode_refuse(d, "an authorization has no authentication");
    }
}

struct label_pair { /* the generated entries of all maps from text to text look so */
    ProtobufCMessage base;
    char *key, *value;
};

/* Group, kind and name from a map of labels, where there is no metadata. */
static struct meta meta_of_labels(struct decode *d, void *const *entries, size_t count,
                                  const char *of)
{
    struct meta m = {0};

    for (size_t i = 0; i < count; i++) {
        const struct label_pair *e = entries[i];

        if (strcmp(e->key, "group") == 0) {
            m.group = decode_text(d, e->value);
        } else if (strcmp(e->key, "kind") == 0) {
            m.kind = decode_text(d, e->value);
        } else if (strcmp(e->key, "name") == 0) {
            m.name = decode_text(d, e->value);
        }
    }
    if (m.name.len == 0) {
        decode_refuse(d, "the labels of %s have no name", of);
    }
    if (m.kind.len == 0 && m.group.len == 0) {
        m.kind = BYTES("default");
    }
    return m;
}

static_assert(sizeof(struct label_pair) == sizeof(Io__Linkerd__Proxy__Inbound__Server__LabelsEntry),
              "map entry");
static_assert(offsetof(struct label_pair, value) ==
                  offsetof(Io__Linkerd__Proxy__Inbound__Server__LabelsEntry, value),
              "map entry");
static_assert(offsetof(struct label_pair, value) ==
                  offsetof(Io__Linkerd__Proxy__Inbound__Authz__LabelsEntry, value),
              "map entry");

static void decode_authzs(struct decode *d, pb_authz **from, size_t count, struct authz **out,
                          size_t *out_count)
{
    *out = decode_array(d, count, sizeof(**out));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct authz *a = &(*out)[(*out_count)++];

        a->meta = from[i]->metadata != NULL
                      ? decode_meta(d, from[i]->metadata, "an authorization", false)
                      : meta_of_labels(d, (void *const *)from[i]->labels, from[i]->n_labels,
                                       "an authorization");
        authz_name(d, a);
        decode_networks(d, from[i], a);
        decode_authn(d, from[i], a);
    }
}

/* --- routes ----------------------------------------------------------------------------------- */

/* What HTTP and gRPC routes have in common. */
static struct server_route *decode_route(struct decode *d, const pb_meta *metadata,
                                         pb_host_match **hosts, size_t hosts_count,
                                         pb_authz **authzs, size_t authzs_count, size_t rules_count,
                                         struct server_policy *to)
{
    struct server_route *r = &to->routes[to->routes_count++];

    r->route.meta = decode_meta(d, metadata, "a route", false);
    r->labels = decode_labels(d, "route", &r->route.meta, 0);
    decode_hosts(d, hosts, hosts_count, &r->route);
    decode_authzs(d, authzs, authzs_count, &r->authz, &r->authz_count);
    r->route.rules = decode_array(d, rules_count, sizeof(*r->route.rules));
    return r;
}

static void decode_http_routes(struct decode *d, pb_inbound_route **from, size_t count,
                               struct server_policy *to)
{
    to->routes = decode_array(d, count, sizeof(*to->routes));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct server_route *r =
            decode_route(d, from[i]->metadata, from[i]->hosts, from[i]->n_hosts,
                         from[i]->authorizations, from[i]->n_authorizations, from[i]->n_rules, to);

        for (size_t k = 0; k < from[i]->n_rules && decode_is_ok(d); k++) {
            struct rule *rule = &r->route.rules[r->route.rules_count++];

            decode_http_matches(d, from[i]->rules[k]->matches, from[i]->rules[k]->n_matches, rule);
            decode_filters_as(d, (ProtobufCMessage *const *)(void *)from[i]->rules[k]->filters,
                              from[i]->rules[k]->n_filters, false, &rule->filters,
                              &rule->filters_count);
        }
    }
}

static void decode_grpc_routes(struct decode *d, pb_inbound_grpc_route **from, size_t count,
                               struct server_policy *to)
{
    to->routes = decode_array(d, count, sizeof(*to->routes));
    for (size_t i = 0; i < count && decode_is_ok(d); i++) {
        struct server_route *r =
            decode_route(d, from[i]->metadata, from[i]->hosts, from[i]->n_hosts,
                         from[i]->authorizations, from[i]->n_authorizations, from[i]->n_rules, to);

        for (size_t k = 0; k < from[i]->n_rules && decode_is_ok(d); k++) {
            struct rule *rule = &r->route.rules[r->route.rules_count++];

            decode_grpc_matches(d, from[i]->rules[k]->matches, from[i]->rules[k]->n_matches, rule);
            decode_filters_as(d, (ProtobufCMessage *const *)(void *)from[i]->rules[k]->filters,
                              from[i]->rules[k]->n_filters, true, &rule->filters,
                              &rule->filters_count);
        }
    }
}

/* --- rate limits ------------------------------------------------------------------------------ */

static void decode_rate_limit(struct decode *d, const pb_rate_limit *from, struct server_policy *to)
{
    struct rate_limit *r;

    if (from == NULL) {
        return;
    }
    r = decode_array(d, 1, sizeof(*r));
    if (r == NULL) {
        return;
    }
    r->meta = decode_meta(d, from->metadata, "a rate limit", false);
    r->total_rps = from->total != NULL ? from->total->requestspersecond : 0;
    r->identity_rps = from->identity != NULL ? from->identity->requestspersecond : 0;
    r->overrides = decode_array(d, from->n_overrides, sizeof(*r->overrides));
    for (size_t i = 0; i < from->n_overrides && decode_is_ok(d); i++) {
        const Io__Linkerd__Proxy__Inbound__HttpLocalRateLimit__Override *o = from->overrides[i];
        struct rate_override *to_override = &r->overrides[r->overrides_count++];

        if (o->limit == NULL || o->clients == NULL) {
            decode_refuse(d, "an override of a rate limit lacks its limit or its clients");
            return;
        }
        to_override->rps = o->limit->requestspersecond;
        if (to_override->rps == 0) {
            decode_refuse(d, "an override of a rate limit admits nothing");
            return;
        }
        to_override->identities = decode_identities(
            d, o->clients->identities, o->clients->n_identities, &to_override->identities_count);
    }
    to->rate_limit = r;
}

/* --- the server ------------------------------------------------------------------------------- */

static void decode_protocol(struct decode *d,
                            const Io__Linkerd__Proxy__Inbound__ProxyProtocol *from,
                            struct server_policy *to)
{
    switch ((int)(from != NULL ? from->kind_case
                               : IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND__NOT_SET)) {
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_DETECT:
        to->protocol = PROTOCOL_DETECT;
        if (from->detect->timeout == NULL) {
            decode_refuse(d, "protocol detection has no timeout");
        }
        to->detect_timeout_ns = decode_duration(d, from->detect->timeout);
        decode_http_routes(d, from->detect->http_routes, from->detect->n_http_routes, to);
        decode_rate_limit(d, from->detect->http_local_rate_limit, to);
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_HTTP1:
        to->protocol = PROTOCOL_HTTP1;
        decode_http_routes(d, from->http1->routes, from->http1->n_routes, to);
        decode_rate_limit(d, from->http1->local_rate_limit, to);
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_HTTP2:
        to->protocol = PROTOCOL_HTTP2;
        decode_http_routes(d, from->http2->routes, from->http2->n_routes, to);
        decode_rate_limit(d, from->http2->local_rate_limit, to);
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_GRPC:
        to->protocol = PROTOCOL_GRPC;
        decode_grpc_routes(d, from->grpc->routes, from->grpc->n_routes, to);
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_OPAQUE:
        to->protocol = PROTOCOL_OPAQUE;
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND_TLS:
        to->protocol = PROTOCOL_TLS;
        break;
    case IO__LINKERD__PROXY__INBOUND__PROXY_PROTOCOL__KIND__NOT_SET:
    default:
        decode_refuse(d, "the policy names no protocol that this proxy knows");
    }
}

struct server_policy *server_policy_new(struct bytes message, uint16_t port, char *problem,
                                        size_t problem_bytes)
{
    struct decode d;
    struct server_policy *p = server_policy_alloc(&d);
    const pb_server *from = decode_unpack(&d, PB(inbound__server), message);

    if (from != NULL) {
        p->meta = meta_of_labels(&d, (void *const *)from->labels, from->n_labels, "the server");
        p->labels = decode_labels(&d, "srv", &p->meta, port);
        decode_authzs(&d, from->authorizations, from->n_authorizations, &p->authz, &p->authz_count);
        decode_protocol(&d, from->protocol, p);
        server_policy_default_route(&d, p);
    }
    if (p->rate_limit != NULL && decode_is_ok(&d)) {
        p->limiter = rate_limiter_new(p->rate_limit);
    }
    if (!decode_is_ok(&d)) {
        (void)snprintf(problem, problem_bytes, "%s", d.problem);
        snapshot_unref(&p->ref);
        p = NULL;
    }
    decode_clear(&d);
    return p;
}
