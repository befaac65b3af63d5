/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/explain_parts.h"

#include "core/clock.h"
#include "net/addr.h"

json_t *explain_bytes(struct bytes b)
{
    return json_stringn(b.at != NULL ? b.at : "", b.len);
}

json_t *explain_meta(const struct meta *m)
{
    if (bytes_eq(m->kind, BYTES("default"))) {
        return json_sprintf("default " BYTES_FMT, BYTES_ARG(m->name));
    }
    if (m->ns.len == 0) {
        return json_sprintf(BYTES_FMT " " BYTES_FMT, BYTES_ARG(m->kind), BYTES_ARG(m->name));
    }
    return json_sprintf(BYTES_FMT " " BYTES_FMT "/" BYTES_FMT, BYTES_ARG(m->kind),
                        BYTES_ARG(m->ns), BYTES_ARG(m->name));
}

static json_t *redirect_json(const struct filter *f)
{
    json_t *j = json_object();

    json_object_set_new(j, "kind", json_string("redirect"));
    json_object_set_new(j, "status", json_integer(f->status != 0 ? f->status : 301));
    if (f->scheme.len > 0) {
        json_object_set_new(j, "scheme", explain_bytes(f->scheme));
    }
    if (f->host.len > 0) {
        json_object_set_new(j, "host", explain_bytes(f->host));
    }
    if (f->path.len > 0) {
        json_object_set_new(j, "path", explain_bytes(f->path));
    }
    if (f->path_prefix.len > 0) {
        json_object_set_new(j, "pathPrefix", explain_bytes(f->path_prefix));
    }
    if (f->port != 0) {
        json_object_set_new(j, "port", json_integer(f->port));
    }
    return j;
}

static json_t *edits_json(const struct filter *f)
{
    json_t *j = json_object(), *list = json_array();

    json_object_set_new(j, "kind",
                        json_string(f->kind == FILTER_REQUEST_HEADERS ? "request headers"
                                                                      : "response headers"));
    for (size_t i = 0; i < f->add_count; i++) {
        json_array_append_new(list, json_sprintf("add " BYTES_FMT ": " BYTES_FMT,
                                                 BYTES_ARG(f->add[i].name),
                                                 BYTES_ARG(f->add[i].value)));
    }
    for (size_t i = 0; i < f->set_count; i++) {
        json_array_append_new(list, json_sprintf("set " BYTES_FMT ": " BYTES_FMT,
                                                 BYTES_ARG(f->set[i].name),
                                                 BYTES_ARG(f->set[i].value)));
    }
    for (size_t i = 0; i < f->remove_count; i++) {
        json_array_append_new(list, json_sprintf("remove " BYTES_FMT, BYTES_ARG(f->remove[i])));
    }
    json_object_set_new(j, "edits", list);
    return j;
}

static json_t *failure_json(const struct filter *f)
{
    json_t *j = json_object();

    json_object_set_new(j, "kind", json_string("fail"));
    json_object_set_new(j, f->is_grpc ? "grpcStatus" : "status", json_integer(f->status));
    json_object_set_new(j, "message", explain_bytes(f->message));
    if (f->denominator != 0 && f->numerator < f->denominator) {
        json_object_set_new(j, "ratio",
                            json_sprintf("%u of %u requests", f->numerator, f->denominator));
    }
    return j;
}

json_t *explain_filters(const struct filter *at, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, at[i].kind == FILTER_FAIL       ? failure_json(&at[i])
                                    : at[i].kind == FILTER_REDIRECT ? redirect_json(&at[i])
                                                                    : edits_json(&at[i]));
    }
    return list;
}

json_t *explain_rate_limit(const struct rate_limit *l)
{
    json_t *j = json_object();

    json_object_set_new(j, "of", explain_meta(&l->meta));
    if (l->total_rps != 0) {
        json_object_set_new(j, "totalPerSecond", json_integer(l->total_rps));
    }
    if (l->identity_rps != 0) {
        json_object_set_new(j, "identityPerSecond", json_integer(l->identity_rps));
    }
    if (l->overrides_count > 0) {
        json_object_set_new(j, "overrides", json_integer((json_int_t)l->overrides_count));
    }
    return j;
}

static void set_seconds(json_t *to, const char *name, uint64_t ns)
{
    if (ns != 0) {
        json_object_set_new(to, name, json_real((double)ns / (double)NS_PER_S));
    }
}

static json_t *backend_json(const struct outbound_policy *p, const struct rule *rule,
                            const struct weighted_backend *w)
{
    const struct backend *b = &p->backends[w->backend];
    json_t *j = json_object();
    char text[ADDR_TEXT_BYTES];
    uint64_t total = 0;

    for (size_t i = 0; i < rule->backends_count; i++) {
        total += rule->backends[i].weight;
    }
    json_object_set_new(j, "backend", explain_meta(&b->meta));
    json_object_set_new(j, "to",
                        b->kind == BACKEND_BALANCER ? explain_bytes(b->path)
                        : b->kind == BACKEND_FAIL   ? json_string("nowhere: it fails")
                        : b->forward != NULL
                            ? json_string(addr_format(&b->forward->addr, text))
                            : json_string("the original destination"));
    if (rule->distribution == DISTRIBUTE_RANDOM) {
        json_object_set_new(j, "weight", json_integer(w->weight));
        json_object_set_new(j, "share", json_real(total > 0 ? (double)w->weight / (double)total : 0));
    }
    if (w->filters_count > 0) {
        json_object_set_new(j, "filters", explain_filters(w->filters, w->filters_count));
    }
    set_seconds(j, "timeoutSeconds", w->request_timeout_ns);
    return j;
}

static json_t *retry_json(const struct retry *retry)
{
    json_t *j = json_object(), *on = json_array();

    json_object_set_new(j, "limit", json_integer(retry->max_retries));
    for (size_t i = 0; i < retry->ranges_count; i++) {
        json_array_append_new(
            on, retry->ranges[i].start == retry->ranges[i].end
                    ? json_sprintf("%u", retry->ranges[i].start)
                    : json_sprintf("%u-%u", retry->ranges[i].start, retry->ranges[i].end));
    }
    for (unsigned code = 0; code < 32; code++) {
        if ((retry->grpc_codes & (1u << code)) != 0) {
            json_array_append_new(on, json_sprintf("gRPC %u", code));
        }
    }
    json_object_set_new(j, "on", on);
    set_seconds(j, "tryTimeoutSeconds", retry->timeout_ns);
    return j;
}

void explain_set_rule(json_t *to, const struct outbound_policy *p, const struct rule *rule)
{
    json_t *backends = json_array(), *timeouts = json_object();

    for (size_t i = 0; i < rule->backends_count; i++) {
        json_array_append_new(backends, backend_json(p, rule, &rule->backends[i]));
    }
    json_object_set_new(to, "backends", backends);
    set_seconds(timeouts, "requestSeconds", rule->request_timeout_ns);
    set_seconds(timeouts, "responseSeconds", rule->response_timeout_ns);
    set_seconds(timeouts, "idleSeconds", rule->idle_timeout_ns);
    if (json_object_size(timeouts) > 0) {
        json_object_set_new(to, "timeouts", timeouts);
    } else {
        json_decref(timeouts);
    }
    if (rule->retry.is_on) {
        json_object_set_new(to, "retries", retry_json(&rule->retry));
    }
}
