/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/explain.h"

#include "cli/explain_parts.h"
#include "core/err.h"
#include "mesh/route.h"

#include <ctype.h>

#define TRAIL_BYTES_MAX (1u << 20)

static const char *const protocol_names[] = {
    [PROTOCOL_DETECT] = "detected", [PROTOCOL_OPAQUE] = "opaque", [PROTOCOL_TLS] = "TLS",
    [PROTOCOL_HTTP1] = "HTTP/1",    [PROTOCOL_HTTP2] = "HTTP/2",  [PROTOCOL_GRPC] = "gRPC",
};

/* --- the request --------------------------------------------------------------------------------- */

static bool is_http(enum protocol p)
{
    return p == PROTOCOL_HTTP1 || p == PROTOCOL_HTTP2 || p == PROTOCOL_GRPC;
}

/* "Name: value", its name in lower case, as it is in a parsed head. */
static int header_add(struct head *h, struct bytes line, struct arena *a, char *problem,
                      size_t problem_bytes)
{
    struct bytes name, value;
    char *lower;

    if (!bytes_split(line, ':', &name, &value) || !http_is_token(name) ||
        !http_is_field_value(bytes_trim(value, " \t"))) {
        (void)snprintf(problem, problem_bytes, "the header \"" BYTES_FMT "\" is no NAME:VALUE",
                       BYTES_ARG(line));
        return E_CONFIG;
    }
    lower = arena_strdup(a, name);
    for (char *c = lower; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    return fields_add(&h->fields, bytes_str(lower), bytes_trim(value, " \t"));
}

static int head_fill(struct head *h, const struct explain_request *r, struct arena *a,
                     char *problem, size_t problem_bytes)
{
    memset(h, 0, sizeof(*h));
    fields_init(&h->fields, a);
    h->method = bytes_str(r->method != NULL                ? r->method
                          : r->protocol == PROTOCOL_GRPC ? "POST"
                                                           : "GET");
    h->path = bytes_str(r->path != NULL ? r->path : "/");
    h->authority = bytes_str(r->authority);
    h->scheme = BYTES("http");
    h->version = r->protocol == PROTOCOL_HTTP1 ? HTTP_11 : HTTP_2;
    h->content_length = -1;
    if (h->path.len == 0 || h->path.at[0] != '/') {
        (void)snprintf(problem, problem_bytes, "the path \"%s\" does not begin with /", r->path);
        return E_CONFIG;
    }
    if (r->protocol == PROTOCOL_GRPC) {
        TRY(fields_add(&h->fields, BYTES("content-type"), BYTES("application/grpc")));
    }
    for (size_t i = 0; i < r->headers.count;) {
        const char *line = r->headers.items[i++];

        /* The command line is split at commas, which values may hold, too. */
        while (i < r->headers.count && strchr(r->headers.items[i], ':') == NULL) {
            line = arena_printf(a, "%s,%s", line, r->headers.items[i++]);
        }
        if (header_add(h, bytes_str(line), a, problem, problem_bytes) != 0) {
            return E_CONFIG;
        }
    }
    return 0;
}

static json_t *request_json(const struct explain_request *r, const struct head *h, bool is_inbound)
{
    json_t *j = json_object();
    char text[ADDR_TEXT_BYTES];

    json_object_set_new(j, "protocol", json_string(protocol_names[r->protocol]));
    if (is_http(r->protocol)) {
        json_object_set_new(j, "method", explain_bytes(h->method));
        json_object_set_new(j, "path", explain_bytes(h->path));
        json_object_set_new(j, "authority", explain_bytes(h->authority));
    } else if (r->sni != NULL) {
        json_object_set_new(j, "sni", json_string(r->sni));
    }
    if (is_inbound) {
        json_object_set_new(j, "clientAddress", json_string(addr_format_ip(&r->client, text)));
        json_object_set_new(j, "clientId",
                            r->client_id != NULL ? json_string(r->client_id) : json_null());
        json_object_set_new(j, "tls", json_boolean(r->is_tls));
    }
    return j;
}

/* --- the decision -------------------------------------------------------------------------------- */

static void trail_end(struct trail *t, json_t *to)
{
    struct bytes rest = text_bytes(&t->text), line;
    json_t *lines = json_array();

    while (rest.len > 0) {
        (void)bytes_split(rest, '\n', &line, &rest);
        json_array_append_new(lines, explain_bytes(line));
    }
    json_object_set_new(to, "trail", lines);
    text_clear(&t->text);
}

static void decide(json_t *to, const char *decision, unsigned http, unsigned grpc, bool is_grpc)
{
    json_object_set_new(to, "decision", json_string(decision));
    if (is_grpc) {
        json_object_set_new(to, "grpcStatus", json_integer(grpc));
    } else if (http != 0) {
        json_object_set_new(to, "status", json_integer(http));
    }
}

/* The first filter that answers every request in the application's place; NULL: none does. */
static const struct filter *answering_filter(const struct filter *at, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool is_always = at[i].denominator == 0 || at[i].numerator >= at[i].denominator;

        if (at[i].kind == FILTER_REDIRECT || (at[i].kind == FILTER_FAIL && is_always)) {
            return &at[i];
        }
    }
    return NULL;
}

/* True: a filter of the rule answers, and the decision is made. */
static bool decide_by_filters(json_t *to, const struct rule *rule, bool is_grpc)
{
    const struct filter *f = answering_filter(rule->filters, rule->filters_count);

    if (rule->filters_count > 0) {
        json_object_set_new(to, "filters", explain_filters(rule->filters, rule->filters_count));
    }
    if (f == NULL) {
        return false;
    }
    if (f->kind == FILTER_REDIRECT) {
        decide(to, "redirected by a filter", f->status != 0 ? f->status : 301, 5, is_grpc);
    } else {
        decide(to, "failed by a filter", f->is_grpc ? 200 : f->status, f->is_grpc ? f->status : 9,
               is_grpc);
    }
    return true;
}

static void set_route(json_t *to, const struct route *route, const struct rule *rule)
{
    json_object_set_new(to, "route", explain_meta(&route->meta));
    json_object_set_new(to, "rule", json_integer((json_int_t)(rule - route->rules)));
}

/* --- inbound ------------------------------------------------------------------------------------- */

/* Ports whose bytes are not looked at see no request, whatever it is. */
static bool sees_requests(enum protocol port, enum protocol traffic)
{
    return is_http(traffic) && port != PROTOCOL_OPAQUE && port != PROTOCOL_TLS;
}

static void decide_inbound(json_t *to, const struct server_policy *p,
                           const struct explain_request *r, const struct head *h,
                           struct trail *trail)
{
    struct client_facts client = {
        .addr = r->client, .is_tls = r->is_tls, .id = bytes_str(r->client_id)};
    bool is_grpc = r->protocol == PROTOCOL_GRPC;
    struct authz_choice choice;
    int rc = policy_authorize(p, &client, h, &choice, trail);

    if (choice.route != NULL) {
        set_route(to, &choice.route->route, choice.rule);
    }
    if (rc == E_NOT_FOUND) {
        decide(to, "refused: no route fits", 404, 5, is_grpc);
    } else if (rc != 0) {
        decide(to, h != NULL ? "refused: nobody authorizes this client"
                             : "closed: nobody authorizes this client",
               h != NULL ? 403 : 0, 7, is_grpc && h != NULL);
    } else {
        if (choice.rule == NULL || !decide_by_filters(to, choice.rule, is_grpc)) {
            json_object_set_new(
                to, "decision",
                json_string(choice.authz->is_audit ? "let in, and audited" : "let in"));
        }
        /* The implicit authorization of loopback clients has no object and no name. */
        json_object_set_new(to, "authorization", choice.authz->meta.name.len > 0
                                                     ? explain_meta(&choice.authz->meta)
                                                     : json_string("default localhost"));
    }
}

json_t *explain_inbound(const struct server_policy *p, const struct explain_request *r,
                        char *problem, size_t problem_bytes)
{
    struct trail trail;
    struct arena a;
    struct head h;
    json_t *j;
    bool is_seen = sees_requests(p->protocol, r->protocol);

    arena_init(&a, 1u << 20);
    if (is_http(r->protocol) && head_fill(&h, r, &a, problem, problem_bytes) != 0) {
        arena_clear(&a);
        return NULL;
    }
    text_init(&trail.text, TRAIL_BYTES_MAX);
    j = json_object();
    json_object_set_new(j, "direction", json_string("inbound"));
    json_object_set_new(j, "request", request_json(r, &h, true));
    json_object_set_new(j, "policy", explain_meta(&p->meta));
    json_object_set_new(j, "protocol", json_string(protocol_names[p->protocol]));
    if (is_http(r->protocol) && !is_seen) {
        json_object_set_new(j, "note",
                            json_string("requests are not looked at on a port of this protocol: "
                                        "the connection is let in or closed"));
    }
    decide_inbound(j, p, r, is_seen ? &h : NULL, &trail);
    if (p->rate_limit != NULL && is_seen) {
        json_object_set_new(j, "rateLimit", explain_rate_limit(p->rate_limit));
    }
    trail_end(&trail, j);
    arena_clear(&a);
    return j;
}

/* --- outbound ------------------------------------------------------------------------------------ */

/* The routes that this traffic meets. */
static const struct route_list *pick_list(const struct outbound_policy *p, enum protocol traffic)
{
    switch (p->protocol) {
    case PROTOCOL_DETECT:
        return traffic == PROTOCOL_HTTP1                               ? &p->http1
               : traffic == PROTOCOL_HTTP2 || traffic == PROTOCOL_GRPC ? &p->http2
                                                                       : &p->opaque;
    case PROTOCOL_OPAQUE:
        return &p->opaque;
    case PROTOCOL_TLS:
        return &p->tls;
    case PROTOCOL_HTTP1:
        return &p->http1;
    case PROTOCOL_HTTP2:
        return &p->http2;
    case PROTOCOL_GRPC:
        return &p->grpc;
    }
    return &p->opaque;
}

static const char *mismatch_of(const struct outbound_policy *p, enum protocol traffic)
{
    if (p->protocol == PROTOCOL_OPAQUE && is_http(traffic)) {
        return "requests are not looked at on an opaque port: the connection is carried as it is";
    }
    if (p->protocol == PROTOCOL_HTTP1 && traffic != PROTOCOL_HTTP1) {
        return "the port is said to speak HTTP/1, and other traffic on it fails";
    }
    if ((p->protocol == PROTOCOL_HTTP2 || p->protocol == PROTOCOL_GRPC) &&
        traffic != PROTOCOL_HTTP2 && traffic != PROTOCOL_GRPC) {
        return "the port is said to speak HTTP/2, and other traffic on it fails";
    }
    return NULL;
}

/* What comes of the rule's backends: those that do not exist fail their share of the requests. */
static void decide_by_backends(json_t *to, const struct outbound_policy *p, const struct rule *rule,
                               bool is_request, bool is_grpc)
{
    const struct weighted_backend *failing = NULL;
    size_t failing_count = 0, count = 0;
    const struct filter *f;

    for (size_t i = 0; i < rule->backends_count; i++) {
        const struct weighted_backend *w = &rule->backends[i];

        if (rule->distribution != DISTRIBUTE_RANDOM || w->weight > 0) {
            count++;
            if (p->backends[w->backend].kind == BACKEND_FAIL) {
                failing = w;
                failing_count++;
            }
        }
    }
    if (count == 0 && rule->backends_count > 0) { /* as FAILURE_NO_BACKEND answers */
        decide(to, is_request ? "refused: all its backends have the weight 0" :
                                "closed: all its backends have the weight 0", 502, 14, is_grpc && is_request);
        return;
    }
    if (failing == NULL) {
        json_object_set_new(to, "decision", json_string("sent on"));
        return;
    }
    if (failing_count < count) {
        json_object_set_new(to, "decision",
                            json_string("sent on, but the share of the backend that is nowhere fails"));
        return;
    }
    f = answering_filter(failing->filters, failing->filters_count);
    decide(to, is_request ? "refused: its backend is nowhere" : "closed: its backend is nowhere",
           is_request && f != NULL && !f->is_grpc ? f->status : 0,
           f != NULL && f->is_grpc ? f->status : 9, is_grpc && is_request);
}

static void decide_outbound(json_t *to, const struct outbound_policy *p,
                            const struct explain_request *r, const struct head *h,
                            struct trail *trail)
{
    const struct route_list *list = pick_list(p, r->protocol);
    bool is_request = list != &p->opaque && list != &p->tls;
    bool is_grpc = r->protocol == PROTOCOL_GRPC;
    struct route_choice choice;

    if (route_choose(list, h, &choice, trail) != 0) {
        decide(to, is_request ? "refused: no route fits" : "closed: no route fits",
               is_request ? 404 : 0, 5, is_grpc && is_request);
        return;
    }
    set_route(to, choice.route, choice.rule);
    explain_set_rule(to, p, choice.rule);
    if (is_request && decide_by_filters(to, choice.rule, is_grpc)) {
        return;
    }
    if (choice.route->is_forbidden || choice.route->is_invalid) {
        decide(to, choice.route->is_forbidden ? "closed: forbidden" : "closed: the route is invalid",
               0, 0, false);
    } else if (choice.rule->backends_count == 0) {
        decide(to, "refused: the rule has no backend", is_request ? 500 : 0, 13,
               is_grpc && is_request);
    } else {
        decide_by_backends(to, p, choice.rule, is_request, is_grpc);
    }
}

json_t *explain_outbound(const struct outbound_policy *p, const struct explain_request *r,
                         char *problem, size_t problem_bytes)
{
    const char *mismatch = mismatch_of(p, r->protocol);
    struct trail trail;
    struct arena a;
    struct head h;
    json_t *j;

    if (p->problem != NULL) {
        (void)snprintf(problem, problem_bytes,
                       "proxies refuse this policy and answer every request with 500: %s",
                       p->problem);
        return NULL;
    }
    arena_init(&a, 1u << 20);
    if (head_fill(&h, r, &a, problem, problem_bytes) != 0) {
        arena_clear(&a);
        return NULL;
    }
    if (!is_http(r->protocol)) { /* the hosts of such routes are server names */
        h.authority = bytes_str(r->sni);
    }
    text_init(&trail.text, TRAIL_BYTES_MAX);
    j = json_object();
    json_object_set_new(j, "direction", json_string("outbound"));
    json_object_set_new(j, "request", request_json(r, &h, false));
    json_object_set_new(j, "policy", explain_meta(&p->meta));
    json_object_set_new(j, "protocol", json_string(protocol_names[p->protocol]));
    if (mismatch != NULL) {
        json_object_set_new(j, "note", json_string(mismatch));
    }
    decide_outbound(j, p, r, &h, &trail);
    trail_end(&trail, j);
    arena_clear(&a);
    return j;
}
