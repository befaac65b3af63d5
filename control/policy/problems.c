/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/private.h"

#include "control/destination/profile_routes.h"
#include "core/alloc.h"
#include "core/log.h"

/*
 * What is wrong with policy objects. On a cluster this would be their status; users' own manifests are not
 * written to, so it is said in the log, once for each object and reason, and kept for who asks.
 *
 * All objects are looked at again shortly after something changed: what is wrong with one may depend on
 * others, and manifests come in groups.
 */
#define LOOK_DELAY_NS (100 * NS_PER_MS)

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

static void check_server_parent(const struct policy *p, struct reading *r, const struct object *o,
                                const json_t *ref)
{
    const char *ns = ref_ns(ref, o->ns);

    if (o->kind == KIND_TLS_ROUTE || o->kind == KIND_TCP_ROUTE) {
        reading_complain(r, "a %s has no effect on a Server", route_rank_name(o));
    } else if (strcmp(ns, o->ns) != 0) {
        reading_complain(r, "the Server %s/%s is in another namespace", ns, ref_name(ref));
        reading_advise(r, "move one of them to the other's namespace");
    } else if (cluster_get(p->env->cluster, KIND_SERVER, ns, ref_name(ref)) == NULL) {
        reading_complain(r, "there is no Server %s/%s, its parent", ns, ref_name(ref));
        reading_advise(r, CREATE);
    } else {
        struct reading own = {.env = r->env, .arena = r->arena};

        (void)inbound_route_read(&own, o); /* whatever its other parents have refused */
        r->shuts = r->shuts || own.is_refused;
        (void)inbound_route_read(r, o);
    }
}

static void check_target_parent(const struct policy *p, struct reading *r, const struct object *o,
                                const json_t *ref, enum parent kind)
{
    const char *ns = ref_ns(ref, o->ns), *name = ref_name(ref);
    const char *what = kind == PARENT_EGRESS ? "EgressNetwork" : "Service";
    int64_t port = json_number(ref, "port", 0);
    struct target t = {.ns = ns, .name = name, .is_egress = kind == PARENT_EGRESS};
    const struct object *winner;

    t.backend = backend_failing(message_default(r->arena, ""), r->arena);
    if (cluster_get(p->env->cluster, kind == PARENT_EGRESS ? KIND_EGRESS_NETWORK : KIND_SERVICE, ns,
                    name) == NULL) {
        reading_complain(r, "there is no %s %s/%s, its parent", what, ns, name);
        reading_advise(r, CREATE);
    }
    if (kind == PARENT_EGRESS && port == 0) {
        reading_complain(r, "a parentRef to an EgressNetwork lacks its port");
        reading_advise(r, "add `port` to it");
    }
    winner = route_winner(p, o, kind, ns, name, (uint16_t)port);
    if (winner != NULL) {
        reading_complain(r, "the %s %s/%s has that port of %s %s/%s", route_rank_name(winner),
                         winner->ns, winner->name, what, ns, name);
        reading_advise(r, "name another port, or make both of one kind: GRPCRoute wins over "
                          "HTTPRoute, TLSRoute and TCPRoute, in this order");
    }
    if (o->kind == KIND_TLS_ROUTE || o->kind == KIND_TCP_ROUTE) {
        (void)opaque_route_read(r, &t, o);
    } else {
        (void)http_route_read(r, &t, o);
    }
}

static void check_route(const struct policy *p, struct reading *r, const struct object *o)
{
    const json_t *refs = json_object_get(o->spec, "parentRefs");

    for (size_t i = 0; i < json_array_size(refs); i++) {
        const json_t *ref = json_array_get(refs, i);
        enum parent kind = parent_kind(o, ref);

        reading_at(r, "spec.parentRefs[%zu]", i);
        if (kind == PARENT_SERVER) {
            check_server_parent(p, r, o, ref);
        } else if (kind != PARENT_OTHER) {
            check_target_parent(p, r, o, ref, kind);
        } else if (ref_is(ref, "", "Service") || ref_is(ref, GROUP_GATEWAY, "Service")) {
            reading_complain(r, "a parentRef to a Service lacks `group: core`");
            reading_advise(r, "add `group: core` to it");
        } else if (json_text(ref, "kind") != NULL && !ref_is(ref, GROUP_GATEWAY, "Gateway") &&
                   !ref_is(ref, "", "Gateway")) {
            reading_complain(r, "a parentRef is of the unknown kind %.100s",
                             json_text(ref, "kind"));
            reading_advise(r, "name a Service, an EgressNetwork or a Server");
        }
    }
    settings_check_names(r, o, true);
}

/* --- the other kinds ----------------------------------------------------------------------------- */

static void check_server(const struct policy *p, struct reading *r, const struct object *o)
{
    static const char *const protocols[] = {"unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"};
    const char *protocol = json_text(o->spec, "proxyProtocol");
    const char *access = json_text(o->spec, "accessPolicy");
    bool has_pods = json_object_get(o->spec, "podSelector") != NULL;
    bool has_machines = json_object_get(o->spec, "externalWorkloadSelector") != NULL;
    bool is_known = protocol == NULL;

    (void)p;
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
    reading_at(r, has_pods ? "spec.podSelector" : "spec.externalWorkloadSelector");
    if (!selector_is_good(json_object_get(o->spec, "podSelector")) ||
        !selector_is_good(json_object_get(o->spec, "externalWorkloadSelector"))) {
        reading_complain(r, "its selector is malformed: what it does not select has the default policy");
    }
    reading_at(r, "spec");
    if (has_pods == has_machines) {
        reading_complain(r, "it has not exactly one of podSelector and externalWorkloadSelector");
    }
    if (json_text(o->spec, "port") == NULL && json_number(o->spec, "port", 0) == 0) {
        reading_complain(r, "it has no port");
    }
}

static void check_server_authorization(const struct policy *p, struct reading *r,
                                       const struct object *o)
{
    const char *name = json_text(o->spec, "server.name");

    (void)server_authorization_read(r, o);
    reading_at(r, "spec.server");
    if (name == NULL && json_at(o->spec, "server.selector") == NULL) {
        reading_complain(r, "it names no server");
    } else if (name != NULL && cluster_get(p->env->cluster, KIND_SERVER, o->ns, name) == NULL) {
        reading_complain(r, "there is no Server %s/%s", o->ns, name);
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

static void check_authorization_policy(const struct policy *p, struct reading *r,
                                       const struct object *o)
{
    const json_t *target = json_object_get(o->spec, "targetRef");
    enum kind k = target_kind(target);
    const char *name = ref_name(target);

    (void)authorization_policy_read(r, o);
    reading_at(r, "spec.targetRef");
    if (k == KIND_COUNT) {
        reading_complain(r, "its targetRef is no Server, Namespace, HTTPRoute or GRPCRoute");
    } else if (k == KIND_NAMESPACE) {
        if (strcmp(name, o->ns) != 0) {
            reading_complain(r, "its target is the namespace %.100s, not its own", name);
        }
    } else if (strcmp(ref_ns(target, o->ns), o->ns) != 0) {
        reading_complain(r, "its target is in another namespace");
    } else if (cluster_get(p->env->cluster, k, o->ns, name) == NULL) {
        reading_complain(r, "there is no %s %s/%s, its target", kind_info(k)->name, o->ns, name);
        reading_advise(r, CREATE);
    }
}

static void check_mesh_tls(const struct policy *p, struct reading *r, const struct object *o)
{
    (void)p;
    mesh_tls_authentication_read(r, o);
}

static void check_networks(const struct policy *p, struct reading *r, const struct object *o)
{
    (void)p;
    network_authentication_read(r, o);
}

static void check_rate_limit(const struct policy *p, struct reading *r, const struct object *o)
{
    const json_t *target = json_object_get(o->spec, "targetRef");
    const char *name = ref_name(target);
    const struct object *first;

    (void)rate_limit_read(r, o);
    reading_at(r, "spec.targetRef");
    if (!ref_is(target, GROUP_POLICY, "Server")) {
        reading_complain(r, "its targetRef is no Server");
        return;
    }
    first = rate_limit_find(p, o->ns, name);
    if (first != NULL && !is_same(first, o)) {
        reading_complain(r, "the Server %s/%s has the older rate limit %s", o->ns, name,
                         first->name);
        reading_advise(r, "remove one of the two");
    }
    if (cluster_get(p->env->cluster, KIND_SERVER, o->ns, name) == NULL) {
        reading_complain(r, "there is no Server %s/%s, its target", o->ns, name);
        reading_advise(r, CREATE);
    }
}

static void check_settings(const struct policy *p, struct reading *r, const struct object *o)
{
    struct settings s;

    (void)p;
    settings_read(r, o, false, &s);
    settings_check_names(r, o, false);
    if (o->kind == KIND_EGRESS_NETWORK) {
        egress_check(r, o);
    }
}

static void check_service_profile(const struct policy *p, struct reading *r, const struct object *o)
{
    profile_message m;
    const char *problem;

    reading_at(r, "spec");
    io__linkerd__proxy__destination__destination_profile__init(&m);
    problem = profile_read(o, p->env, 80, r->arena, &m);
    if (problem != NULL) {
        reading_complain(r, "%s", problem);
    }
}

static const struct check {
    enum kind kind;
    void (*run)(const struct policy *p, struct reading *r, const struct object *o);
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
};

/* --- the list ------------------------------------------------------------------------------------ */

static void problem_clear(struct policy_problem *m)
{
    mem_free(m->ns);
    mem_free(m->name);
    mem_free(m->source);
    mem_free(m->field);
    mem_free(m->reason);
}

static int problem_cmp(const void *a, const void *b)
{
    const struct policy_problem *x = a, *y = b;
    int by_ns = strcmp(x->ns, y->ns), by_name = strcmp(x->name, y->name);

    return by_ns != 0 ? by_ns : by_name != 0 ? by_name : (int)x->kind - (int)y->kind;
}

/* The list is sorted, and has at most one problem of an object. */
static bool list_has(const struct problems *l, const struct policy_problem *m)
{
    const struct policy_problem *found =
        l->count == 0 ? NULL : bsearch(m, l->at, l->count, sizeof(l->at[0]), problem_cmp);

    return found != NULL && strcmp(found->reason, m->reason) == 0;
}

static void problem_add(struct problems *l, const struct object *o, const struct reading *r)
{
    if (l->count == l->capacity) {
        l->capacity = MAX(8, 2 * l->capacity);
        l->at = mem_resize(l->at, l->capacity, sizeof(l->at[0]));
    }
    l->at[l->count++] = (struct policy_problem){
        .kind = o->kind,
        .ns = mem_strdup(o->ns),
        .name = mem_strdup(o->name),
        .source = mem_strdup(o->source),
        .field = mem_strdup(r->problem_field),
        .reason = mem_strdup(r->problem),
        .advice = r->advice != NULL ? r->advice : "correct it",
        .effect = r->shuts ? EFFECT_SHUT : r->is_refused ? EFFECT_NONE : EFFECT_PART,
    };
}

/* Each once when it comes up, and once when it is gone. */
static void tell_changes(const struct policy *p, const struct problems *before)
{
    static const char *const effects[] = {
        [EFFECT_PART] = "not all is in effect of",
        [EFFECT_NONE] = "no effect of",
        [EFFECT_SHUT] = "requests are kept out because of",
    };
    const struct problems *now = &p->problems;

    for (size_t i = 0; i < now->count; i++) {
        const struct policy_problem *m = &now->at[i];

        if (!list_has(before, m)) {
            log_warn("%s %s %s/%s: %s; field=%s source=%s what_to_do=\"%s\"", effects[m->effect],
                     kind_info(m->kind)->name, m->ns, m->name, m->reason, m->field, m->source,
                     m->advice);
        }
    }
    for (size_t i = 0; i < before->count; i++) {
        const struct policy_problem *m = &before->at[i];

        if (!list_has(now, m)) {
            log_info("a problem of %s %s/%s is gone; it was: %s", kind_info(m->kind)->name, m->ns,
                     m->name, m->reason);
        }
    }
}

static void list_free(struct problems *l)
{
    for (size_t i = 0; i < l->count; i++) {
        problem_clear(&l->at[i]);
    }
    mem_free(l->at);
    l->at = NULL;
    l->count = l->capacity = 0;
}

static void look(struct timer *timer)
{
    struct policy *p = CONTAINER_OF(timer, struct policy, problems.look);
    struct problems before = p->problems;
    struct arena a;

    p->problems.at = NULL;
    p->problems.count = p->problems.capacity = 0;
    arena_init(&a, SIZE_MAX); /* one object at a time */
    for (size_t c = 0; c < ARRAY_LEN(checks); c++) {
        struct map_iter it = MAP_ITER(&p->env->cluster->objects[checks[c].kind]);

        while (map_next(&it)) {
            struct reading r = {.env = p->env, .arena = &a};

            checks[c].run(p, &r, it.value);
            if (r.problem != NULL) {
                problem_add(&p->problems, it.value, &r);
            }
            arena_clear(&a);
        }
    }
    if (p->problems.count > 1) {
        qsort(p->problems.at, p->problems.count, sizeof(p->problems.at[0]), problem_cmp);
    }
    tell_changes(p, &before);
    list_free(&before);
}

void problems_init(struct problems *l)
{
    *l = (struct problems){.look = {.run = look}};
}

void problems_clear(struct policy *p)
{
    timer_cancel(p->env->loop, &p->problems.look);
    list_free(&p->problems);
}

void problems_touch(struct policy *p)
{
    if (p->topics.synced && !timer_is_armed(&p->problems.look)) {
        timer_arm_in(p->env->loop, &p->problems.look, LOOK_DELAY_NS);
    }
}

const struct policy_problem *policy_problems(const struct policy *p, size_t *out_count)
{
    *out_count = p->problems.count;
    return p->problems.at;
}
