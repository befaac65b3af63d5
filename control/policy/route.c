/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/route.h"

/*
 * Outbound routes: those of the user's and the default ones.
 */
typedef Io__Linkerd__Proxy__Outbound__HttpRoute__Rule http_rule;
typedef Io__Linkerd__Proxy__Outbound__TlsRoute__Rule opaque_rule;

/* --- timeouts and retries ------------------------------------------------------------------------ */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored                                                                     \
    "-Wdeprecated-declarations" /* requestTimeout: older proxies know no other (wire 3.5) */
static void set_timeouts(http_rule *m, const struct timeouts *t, struct arena *a)
{
    if (!timeouts_are_set(t)) {
        return;
    }
    m->timeouts = message_new(a, &io__linkerd__proxy__http_route__timeouts__descriptor);
    if (t->request_ns != 0) {
        m->timeouts->request = message_duration(a, t->request_ns);
        m->requesttimeout = m->timeouts->request;
    }
    if (t->response_ns != 0) {
        m->timeouts->response = message_duration(a, t->response_ns);
    }
    if (t->idle_ns != 0) {
        m->timeouts->idle = message_duration(a, t->idle_ns);
    }
}
#pragma GCC diagnostic pop

/* 0 when absent. */
static uint64_t timeout_read(struct reading *r, const json_t *rule, const char *path)
{
    const char *text = json_text(rule, path);
    uint64_t ns = 0;

    if (text != NULL && !gateway_duration(text, &ns)) {
        reading_refuse(r, "%s is no duration: %.100s", path, text);
        reading_advise(r, "write whole numbers and their units: 500ms, 10s, 1m30s");
    }
    return ns;
}

/* The rule's own word beats the route's annotation; a route without any has the target's as a block. */
static void set_limits(struct reading *r, const struct target *t, const struct settings *own,
                       uint64_t request_ns, bool is_grpc, http_rule *to)
{
    struct timeouts timeouts = own->timeouts;
    void *retry = is_grpc ? own->grpc_retry : own->http_retry;

    if (request_ns != 0) {
        timeouts.request_ns = request_ns;
    }
    if (!timeouts_are_set(&timeouts)) {
        timeouts = t->settings.timeouts;
    }
    if (retry == NULL) {
        retry = is_grpc ? t->settings.grpc_retry : t->settings.http_retry;
    }
    set_timeouts(to, &timeouts, r->arena);
    to->retry = retry;
    to->allow_l5d_request_headers = t->allows_headers;
}

/* --- HTTP and gRPC ------------------------------------------------------------------------------- */

static http_rule *http_rule_read(struct reading *r, const struct target *t, const struct object *o,
                                 const struct settings *own, size_t index)
{
    const json_t *from = json_array_get(json_object_get(o->spec, "rules"), index);
    bool is_grpc = o->kind == KIND_GRPC_ROUTE;
    http_rule *m =
        message_new(r->arena, &io__linkerd__proxy__outbound__http_route__rule__descriptor);
    uint64_t request_ns, backend_ns;

    reading_at(r, "spec.rules[%zu].timeouts", index);
    request_ns = timeout_read(r, from, "timeouts.request");
    backend_ns = timeout_read(r, from, "timeouts.backendRequest");
    if (request_ns != 0 && backend_ns > request_ns) {
        reading_refuse(r, "timeouts.backendRequest is longer than timeouts.request");
    }
    reading_at(r, "spec.rules[%zu].matches", index);
    m->matches = matches_read(r, from, is_grpc, &m->n_matches);
    reading_at(r, "spec.rules[%zu].filters", index);
    m->filters = filters_read(r, json_object_get(from, "filters"), false, &m->n_filters);
    reading_at(r, "spec.rules[%zu].backendRefs", index);
    m->backends = distribution_read(r, t, o, from, is_grpc ? FAMILY_GRPC : FAMILY_HTTP, backend_ns);
    set_limits(r, t, own, request_ns, is_grpc, m);
    return m;
}

static message_metadata *route_ref(const struct object *o, struct arena *a)
{
    const struct kind_info *kind = kind_info(o->kind);

    return resource_ref(a, kind->group, kind->name, o->name, o->ns, 0);
}

out_http_route *http_route_read(struct reading *r, const struct target *t, const struct object *o)
{
    size_t count = MAX(json_array_size(json_object_get(o->spec, "rules")), (size_t)1);
    out_http_route *m =
        message_new(r->arena, &io__linkerd__proxy__outbound__http_route__descriptor);
    struct settings own;

    settings_read(r, o, true, &own);
    m->metadata = route_ref(o, r->arena);
    reading_at(r, "spec.hostnames");
    m->hosts = hosts_read(r, json_object_get(o->spec, "hostnames"), &m->n_hosts);
    m->rules = arena_new(r->arena, count * sizeof(m->rules[0]));
    for (size_t i = 0; i < count; i++) { /* without rules there is one that matches all */
        m->rules[m->n_rules++] = http_rule_read(r, t, o, &own, i);
    }
    return r->is_refused ? NULL : m;
}

out_http_route *http_route_default(const struct target *t, bool is_grpc, struct arena *a)
{
    struct reading r = {.arena = a};
    const struct settings none = {.accrual = NULL};
    out_http_route *m = message_new(a, &io__linkerd__proxy__outbound__http_route__descriptor);
    http_rule *rule = message_new(a, &io__linkerd__proxy__outbound__http_route__rule__descriptor);

    rule->matches = matches_read(&r, NULL, is_grpc, &rule->n_matches);
    rule->backends = distribution_to(t->backend, a);
    if (t->is_denied) {
        rule->filters = message_one(
            a, filter_fail(is_grpc ? GRPC_PERMISSION_DENIED : 403, "traffic not allowed", a));
        rule->n_filters = 1;
    } else {
        set_limits(&r, t, &none, 0, is_grpc, rule);
    }
    m->metadata = message_default(a, is_grpc ? t->grpc : t->http);
    m->rules = message_one(a, rule);
    m->n_rules = 1;
    return m;
}

/* --- opaque and TLS ------------------------------------------------------------------------------ */

static out_opaque_route *opaque_route_new(message_metadata *of, distribution *to, struct arena *a)
{
    out_opaque_route *m = message_new(a, &io__linkerd__proxy__outbound__tls_route__descriptor);
    opaque_rule *rule = message_new(a, &io__linkerd__proxy__outbound__tls_route__rule__descriptor);

    rule->backends = (void *)to; /* the same on the wire (reading.h) */
    m->metadata = of;
    m->rules = message_one(a, rule);
    m->n_rules = 1;
    return m;
}

out_opaque_route *opaque_route_read(struct reading *r, const struct target *t,
                                    const struct object *o)
{
    const json_t *rules = json_object_get(o->spec, "rules");
    out_opaque_route *m;

    reading_at(r, "spec.rules[0].backendRefs");
    m = opaque_route_new(route_ref(o, r->arena),
                         distribution_read(r, t, o, json_array_get(rules, 0), FAMILY_OPAQUE, 0),
                         r->arena);
    reading_at(r, "spec.rules");
    if (json_array_size(rules) > 1) {
        reading_refuse(r, "a route of connections has more than one rule");
        reading_advise(r, "write a route for each");
    }
    reading_at(r, "spec.hostnames");
    if (o->kind == KIND_TLS_ROUTE) {
        m->snis = hosts_read(r, json_object_get(o->spec, "hostnames"), &m->n_snis);
    }
    return r->is_refused ? NULL : m;
}

out_opaque_route *opaque_route_forbidden(const char *name, struct arena *a)
{
    out_opaque_route *m = opaque_route_new(message_default(a, name), distribution_empty(a), a);

    m->rules[0]->filters = message_one(a, filter_refuse(NULL, a));
    m->rules[0]->n_filters = 1;
    return m;
}

out_opaque_route *opaque_route_default(const struct target *t, const char *name, struct arena *a)
{
    return t->is_denied
               ? opaque_route_forbidden(name, a)
               : opaque_route_new(message_default(a, name), distribution_to(t->backend, a), a);
}
