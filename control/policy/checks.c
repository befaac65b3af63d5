/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "control/destination/profile_routes.h"
#include "control/policy/fields.h"

/*
 * What is looked for in an object of each kind. The readers that answers are made with say what is wrong.
 * Here stands what is nobody's part to know who makes an answer: parents and targets that are missing,
 * objects that are in each other's way, and what that makes of the whole.
 */
#define CREATE "create it, or correct the name"

/* --- what routes say of others ------------------------------------------------------------------- */

static const char *route_rank_name(const struct object *route)
{
    return kind_info(route->kind)->name;
}

/* The lower one wins a port (wire 9.3). */
static unsigned route_rank(enum kind k)
{
    return k == KIND_GRPC_ROUTE ? 0 : k == KIND_TLS_ROUTE ? 2 : k == KIND_TCP_ROUTE ? 3 : 1;
}

/* The store may hold a newer version than the lists. */
static bool is_same(const struct object *a, const struct object *b)
{
    return a->kind == b->kind && strcmp(a->ns, b->ns) == 0 && strcmp(a->name, b->name) == 0;
}

/* The route that keeps this one from having an effect on that port of its parent; NULL: none. */
static const struct object *route_winner(const struct policy *p, const struct object *o,
                                         enum parent kind, const char *ns, const char *name,
                                         uint16_t port)
{
    struct attached all =
        attach_get(&p->attach, kind == PARENT_EGRESS ? ATTACH_EGRESS : ATTACH_SERVICE, ns, name);
    bool is_behind = false;

    for (size_t i = 0; i < all.count; i++) {
        const struct object *other = all.at[i];
        unsigned own = route_rank(o->kind), rank = route_rank(other->kind);

        if (is_same(other, o)) {
            is_behind = true;
            continue;
        }
        if ((strcmp(other->ns, ns) != 0 && strcmp(other->ns, o->ns) != 0) ||
            !route_has_parent(other, kind, ns, name, port)) {
            continue;
        }
        /* Of those of connections only the oldest one counts. */
        if (rank < own || (rank == own && o->kind == KIND_TCP_ROUTE && !is_behind)) {
            return other;
        }
    }
    return NULL;
}

/* What a parent makes of the route. */
enum hold { HOLD_NONE, HOLD_GOOD, HOLD_SHUT };

static enum hold check_server_parent(const struct policy *p, struct reading *r, const struct object *o,
                                     const json_t *ref)
{
    const char *ns = ref_ns(ref, o->ns);

    if (o->kind == KIND_TLS_ROUTE || o->kind == KIND_TCP_ROUTE) {
        reading_refuse(r, "a %s has no effect on a Server", route_rank_name(o));
        return HOLD_NONE;
    }
    if (strcmp(ns, o->ns) != 0) {
        reading_refuse(r, "the Server %s/%s is in another namespace", ns, ref_name(ref));
        reading_advise(r, "move one of them to the other's namespace");
        return HOLD_NONE;
    }
    if (cluster_get(p->env->cluster, KIND_SERVER, ns, ref_name(ref)) == NULL) {
        struct reading again = {.env = r->env, .arena = r->arena, .found = r->found};

        reading_refuse(r, "there is no Server %s/%s, its parent", ns, ref_name(ref));
        reading_advise(r, CREATE);
        (void)inbound_route_read(&again, o); /* which leaves out the rest of one that is refused */
        return HOLD_NONE;
    }
    (void)inbound_route_read(r, o);
    return r->is_refused ? HOLD_SHUT : HOLD_GOOD;
}

static enum hold check_target_parent(const struct policy *p, struct reading *r, const struct object *o,
                                     const json_t *ref, enum parent kind)
{
    const char *ns = ref_ns(ref, o->ns), *name = ref_name(ref);
    const char *what = kind == PARENT_EGRESS ? "EgressNetwork" : "Service";
    int64_t port = json_number(ref, "port", 0);
    struct target t = {.ns = ns, .name = name, .is_egress = kind == PARENT_EGRESS};
    const struct object *found, *winner;

    t.backend = backend_failing(message_default(r->arena, ""), r->arena);
    found = cluster_get(p->env->cluster, kind == PARENT_EGRESS ? KIND_EGRESS_NETWORK : KIND_SERVICE, ns,
                        name);
    if (found == NULL) {
        reading_refuse(r, "there is no %s %s/%s, its parent", what, ns, name);
        reading_advise(r, CREATE);
    } else if (kind == PARENT_SERVICE && port != 0 && service_lacks_port(found, port)) {
        reading_complain(r, "the Service %s/%s, its parent, has no port %lld: connections there are refused",
                         ns, name, (long long)port);
        reading_advise(r, "name one of its ports, or leave out `port` for all of them");
    }
    if (kind == PARENT_EGRESS && port == 0) {
        reading_refuse(r, "a parentRef to an EgressNetwork lacks its port");
        reading_advise(r, "add `port` to it");
    }
    winner = route_winner(p, o, kind, ns, name, (uint16_t)port);
    if (winner != NULL) {
        reading_refuse(r, "the %s %s/%s has that port of %s %s/%s", route_rank_name(winner),
                       winner->ns, winner->name, what, ns, name);
        reading_advise(r, "name another port, or make both of one kind: GRPCRoute wins over "
                          "HTTPRoute, TLSRoute and TCPRoute, in this order");
    }
    if (o->kind == KIND_TLS_ROUTE || o->kind == KIND_TCP_ROUTE) {
        (void)opaque_route_read(r, &t, o);
    } else {
        (void)http_route_read(r, &t, o);
    }
    return r->is_refused ? HOLD_NONE : HOLD_GOOD;
}

static enum hold check_parent(const struct policy *p, struct reading *r, const struct object *o,
                              const json_t *ref)
{
    enum parent kind = parent_kind(o, ref);

    if (kind == PARENT_SERVER) {
        return check_server_parent(p, r, o, ref);
    }
    if (kind != PARENT_OTHER) {
        return check_target_parent(p, r, o, ref, kind);
    }
    if (ref_is(ref, "", "Service") || ref_is(ref, GROUP_GATEWAY, "Service")) {
        reading_refuse(r, "a parentRef to a Service lacks `group: core`");
        reading_advise(r, "add `group: core` to it");
        return HOLD_NONE;
    }
    if (json_text(ref, "kind") != NULL && !ref_is(ref, GROUP_GATEWAY, "Gateway") &&
        !ref_is(ref, "", "Gateway")) {
        reading_refuse(r, "a parentRef is of the unknown kind %.100s", json_text(ref, "kind"));
        reading_advise(r, "name a Service, an EgressNetwork or a Server");
        return HOLD_NONE;
    }
    return HOLD_GOOD; /* a Gateway's: somebody else's, who may have a use for it */
}

/* It has an effect where one of its parents lets it. */
static void check_route(const struct policy *p, struct look *l, const struct object *o)
{
    const json_t *refs = json_object_get(o->spec, "parentRefs");
    struct reading *r = &l->reading;
    bool holds = false, shuts = false;

    for (size_t i = 0; i < json_array_size(refs); i++) {
        struct reading own = {.env = r->env, .arena = r->arena, .found = r->found};
        enum hold hold;

        reading_at(&own, "spec.parentRefs[%zu]", i);
        hold = check_parent(p, &own, o, json_array_get(refs, i));
        holds = holds || hold == HOLD_GOOD;
        shuts = shuts || hold == HOLD_SHUT;
    }
    reading_at(r, "spec.parentRefs");
    if (json_array_size(refs) == 0) {
        reading_refuse(r, "it names no parent");
        reading_advise(r, "name the Service, EgressNetwork or Server that it is for");
    }
    settings_check_names(r, o, true);
    l->effect = shuts ? EFFECT_SHUT : holds ? EFFECT_PART : EFFECT_NONE;
}

/* --- the other kinds ----------------------------------------------------------------------------- */

/* A setting that is there, and no text, is none of the known words. */
static const char *word_of(const struct object *o, const char *key)
{
    const json_t *value = json_object_get(o->spec, key);

    return value == NULL || json_is_string(value) ? json_string_value(value) : "(no text)";
}

static void check_server_words(struct reading *r, const struct object *o)
{
    static const char *const protocols[] = {"unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"};
    const char *protocol = word_of(o, "proxyProtocol"), *access = word_of(o, "accessPolicy");
    bool is_known = protocol == NULL;

    reading_at(r, "spec.proxyProtocol");
    for (size_t i = 0; !is_known && i < ARRAY_LEN(protocols); i++) {
        is_known = strcmp(protocols[i], protocol) == 0;
    }
    if (!is_known) {
        reading_complain(r, "the proxyProtocol %.100s is not known: it is detected", protocol);
        reading_advise(r, "write unknown, HTTP/1, HTTP/2, gRPC, opaque or TLS");
    }
    reading_at(r, "spec.accessPolicy");
    if (access != NULL && !default_policy_is_known(access)) {
        reading_complain(r, "the accessPolicy %.100s is not known: it is deny", access);
        reading_advise(r, "write deny, audit, all-unauthenticated, all-authenticated, "
                          "cluster-unauthenticated or cluster-authenticated");
    }
}

static void check_server_selector(struct reading *r, const struct object *o, const char *key)
{
    const char *problem = selector_problem(json_object_get(o->spec, key));

    reading_at(r, "spec.%s", key);
    if (problem != NULL) {
        reading_refuse(r, "its selector is malformed: %s", problem);
    }
}

/* Nobody knows which ports one that cannot be read is for: they keep the default policy, as if it were not
 * there. So that is said louder than the rest. */
static void check_server(const struct policy *p, struct look *l, const struct object *o)
{
    struct reading *r = &l->reading;
    const json_t *port = json_object_get(o->spec, "port");
    bool has_pods = json_object_get(o->spec, "podSelector") != NULL;
    bool has_machines = json_object_get(o->spec, "externalWorkloadSelector") != NULL;
    int64_t number = json_number(o->spec, "port", 0);
    bool is_port = json_is_string(port) ? json_string_length(port) > 0 : number > 0 && number <= UINT16_MAX;

    check_server_words(r, o);
    check_server_selector(r, o, "podSelector");
    check_server_selector(r, o, "externalWorkloadSelector");
    reading_at(r, "spec");
    if (!has_pods && !has_machines) {
        reading_refuse(r, "it has not exactly one of podSelector and externalWorkloadSelector");
        reading_advise(r, "add a podSelector; an empty one, {}, is for all pods of the namespace");
    } else if (has_pods && has_machines) {
        reading_complain(r, "it has not exactly one of podSelector and externalWorkloadSelector");
        reading_advise(r, "remove one of the two");
    }
    reading_at(r, "spec.port");
    if (!is_port) {
        reading_refuse(r, port == NULL ? "it has no port"
                                       : "its port is neither a name nor a number from 1 to 65535");
        reading_advise(r, "write the number of a port, or the name that its container gives it");
    }
    l->effect = r->is_refused ? EFFECT_OPEN : EFFECT_PART;
    if (!r->is_refused && !has_machines) {
        server_reach_check(p, r, o);
    }
}

static void check_server_authorization(const struct policy *p, struct look *l,
                                       const struct object *o)
{
    struct reading *r = &l->reading;
    const char *name = json_text(o->spec, "server.name");

    (void)server_authorization_read(r, o);
    reading_at(r, "spec.server");
    if (name == NULL && json_at(o->spec, "server.selector") == NULL) {
        reading_refuse(r, "it names no server");
    } else if (name != NULL && cluster_get(p->env->cluster, KIND_SERVER, o->ns, name) == NULL) {
        reading_refuse(r, "there is no Server %s/%s", o->ns, name);
        reading_advise(r, CREATE);
    }
}

static enum kind target_kind(const json_t *target)
{
    return ref_is(target, GROUP_POLICY, "Server")       ? KIND_SERVER
           : ref_is(target, GROUP_POLICY, "HTTPRoute")  ? KIND_LINKERD_HTTP_ROUTE
           : ref_is(target, GROUP_GATEWAY, "HTTPRoute") ? KIND_HTTP_ROUTE
           : ref_is(target, GROUP_GATEWAY, "GRPCRoute") ? KIND_GRPC_ROUTE
           : ref_is(target, "", "Namespace")            ? KIND_NAMESPACE
                                                        : KIND_COUNT;
}

static void check_authorization_policy(const struct policy *p, struct look *l,
                                       const struct object *o)
{
    struct reading *r = &l->reading;
    const json_t *target = json_object_get(o->spec, "targetRef");
    enum kind k = target_kind(target);
    const char *name = ref_name(target);

    (void)authorization_policy_read(r, o);
    reading_at(r, "spec.targetRef");
    if (k == KIND_COUNT) {
        reading_refuse(r, "its targetRef is no Server, Namespace, HTTPRoute or GRPCRoute");
    } else if (k == KIND_NAMESPACE) {
        if (strcmp(name, o->ns) != 0) {
            reading_refuse(r, "its target is the namespace %.100s, not its own", name);
        }
    } else if (strcmp(ref_ns(target, o->ns), o->ns) != 0) {
        reading_refuse(r, "its target is in another namespace");
    } else if (cluster_get(p->env->cluster, k, o->ns, name) == NULL) {
        reading_refuse(r, "there is no %s %s/%s, its target", kind_info(k)->name, o->ns, name);
        reading_advise(r, CREATE);
    }
}

static void check_mesh_tls(const struct policy *p, struct look *l, const struct object *o)
{
    (void)p;
    mesh_tls_authentication_read(&l->reading, o);
}

static void check_networks(const struct policy *p, struct look *l, const struct object *o)
{
    (void)p;
    network_authentication_read(&l->reading, o);
}

static void check_rate_limit(const struct policy *p, struct look *l, const struct object *o)
{
    struct reading *r = &l->reading;
    const json_t *target = json_object_get(o->spec, "targetRef");
    const char *name = ref_name(target);
    const struct object *first = NULL;

    (void)rate_limit_read(r, o);
    l->effect = r->is_refused ? EFFECT_UNLIMITED : EFFECT_PART;
    reading_at(r, "spec.targetRef");
    if (!ref_is(target, GROUP_POLICY, "Server")) {
        reading_refuse(r, "its targetRef is no Server");
    } else if (cluster_get(p->env->cluster, KIND_SERVER, o->ns, name) == NULL) {
        reading_refuse(r, "there is no Server %s/%s, its target", o->ns, name);
        reading_advise(r, CREATE);
    } else {
        first = rate_limit_find(p, o->ns, name);
    }
    if (first != NULL && !is_same(first, o)) {
        reading_refuse(r, "the Server %s/%s has the older rate limit %s", o->ns, name, first->name);
        reading_advise(r, "remove one of the two");
    }
    if (r->is_refused && (first == NULL || !is_same(first, o))) {
        l->effect = EFFECT_NONE;
    }
}

static void check_settings(const struct policy *p, struct look *l, const struct object *o)
{
    struct reading *r = &l->reading;
    struct settings s;

    (void)p;
    settings_read(r, o, false, &s);
    settings_check_names(r, o, false);
    if (o->kind == KIND_EGRESS_NETWORK) {
        egress_check(r, o);
    }
    annotations_check(r, o);
}

static void check_service_profile(const struct policy *p, struct look *l, const struct object *o)
{
    struct reading *r = &l->reading;
    struct profile_problems found = {.count = 0};
    profile_message m;

    io__linkerd__proxy__destination__destination_profile__init(&m);
    profile_read(o, p->env, 80, r->arena, &m, &found);
    for (size_t i = 0; i < found.count; i++) {
        reading_at(r, "%s", found.at[i].field);
        reading_complain(r, "%s", found.at[i].reason);
    }
    r->found->more += found.more;
}

/* The annotations that sidecars go by. */
static void check_pods(const struct policy *p, struct look *l, const struct object *o)
{
    (void)p;
    pod_annotations_check(&l->reading, o);
    l->effect = l->reading.is_refused ? EFFECT_UNMADE : EFFECT_PART;
}

/* Nothing is looked for in it; others refer to it. */
static void check_account(const struct policy *p, struct look *l, const struct object *o)
{
    (void)p;
    (void)l;
    (void)o;
}

static const struct check {
    enum kind kind;
    void (*run)(const struct policy *p, struct look *l, const struct object *o);
} checks[] = {
    {KIND_SERVER, check_server},
    {KIND_SERVER_AUTHORIZATION, check_server_authorization},
    {KIND_AUTHORIZATION_POLICY, check_authorization_policy},
    {KIND_MESH_TLS_AUTHENTICATION, check_mesh_tls},
    {KIND_NETWORK_AUTHENTICATION, check_networks},
    {KIND_HTTP_LOCAL_RATE_LIMIT, check_rate_limit},
    {KIND_LINKERD_HTTP_ROUTE, check_route},
    {KIND_HTTP_ROUTE, check_route},
    {KIND_GRPC_ROUTE, check_route},
    {KIND_TLS_ROUTE, check_route},
    {KIND_TCP_ROUTE, check_route},
    {KIND_EGRESS_NETWORK, check_settings},
    {KIND_SERVICE, check_settings},
    {KIND_SERVICE_PROFILE, check_service_profile},
    {KIND_SERVICE_ACCOUNT, check_account},
    {KIND_NAMESPACE, check_pods},
    {KIND_POD, check_pods},
    {KIND_DEPLOYMENT, check_pods},
    {KIND_REPLICA_SET, check_pods},
    {KIND_STATEFUL_SET, check_pods},
    {KIND_DAEMON_SET, check_pods},
    {KIND_REPLICATION_CONTROLLER, check_pods},
    {KIND_JOB, check_pods},
    {KIND_CRON_JOB, check_pods},
};

static const struct check *check_of(enum kind k)
{
    for (size_t c = 0; c < ARRAY_LEN(checks); c++) {
        if (checks[c].kind == k) {
            return &checks[c];
        }
    }
    return NULL;
}

/* What is wrong with pods that something makes is told of that, once. */
static bool is_made(const struct check *c, const struct object *o)
{
    return c->run == check_pods && json_array_size(json_object_get(o->metadata, "ownerReferences")) > 0;
}

uint64_t checked_kinds(void)
{
    uint64_t all = 0;

    for (size_t c = 0; c < ARRAY_LEN(checks); c++) {
        all |= UINT64_C(1) << checks[c].kind;
    }
    return all;
}

bool check_matters(const struct object *o, const struct object *old)
{
    const struct check *c = check_of(o->kind);

    if (c == NULL || is_made(c, o)) {
        return false;
    }
    return c->run != check_pods || old == NULL || o == old || !pod_annotations_are_equal(o, old) ||
           (reach_describes_pods(o->kind) && !reach_is_equal(o, old));
}

void check_object(const struct policy *p, struct look *l, const struct object *o)
{
    const struct check *c = check_of(o->kind);

    if (c != NULL && !is_made(c, o)) {
        c->run(p, l, o);
        fields_check(&l->reading, o);
    }
    if (l->effect == EFFECT_PART && l->reading.is_refused) {
        l->effect = EFFECT_NONE;
    }
}
