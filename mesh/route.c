/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/route.h"

#include "core/err.h"
#include "mesh/match.h"

#include <stdarg.h>

/* --- the trail -------------------------------------------------------------------------------- */

static void trail_note(struct trail *trail, const char *format, ...) PRINTF_LIKE(2, 3);
static void trail_note(struct trail *trail, const char *format, ...)
{
    va_list args;

    if (trail == NULL) {
        return;
    }
    va_start(args, format);
    text_vprintf(&trail->text, format, args);
    va_end(args);
    text_char(&trail->text, '\n');
}

/* --- matching --------------------------------------------------------------------------------- */

struct bytes authority_host(struct bytes authority, struct bytes *out_port)
{
    size_t end = authority.len;

    *out_port = BYTES_NONE;
    while (end > 0 && authority.at[end - 1] >= '0' && authority.at[end - 1] <= '9') {
        end--;
    }
    if (end == 0 || end == authority.len || authority.at[end - 1] != ':') {
        return authority;
    }
    *out_port = bytes_from(authority, end);
    return bytes_first(authority, end - 1);
}

/*
 * How well the hosts of a route fit: 0 does not; 1 no host is asked for; more: longer suffix;
 * SIZE_MAX: exact.
 */
static size_t host_score(const struct route *r, struct bytes host)
{
    size_t best = r->hosts_count == 0 ? 1 : 0;

    for (size_t i = 0; i < r->hosts_count; i++) {
        const struct host_match *m = &r->hosts[i];

        if (!m->is_suffix && bytes_eq_nocase(m->host, host)) {
            return SIZE_MAX;
        }
        if (m->is_suffix && host.len > m->host.len + 1 &&
            host.at[host.len - m->host.len - 1] == '.' &&
            bytes_eq_nocase(bytes_from(host, host.len - m->host.len), m->host)) {
            best = MAX(best, m->host.len + 1);
        }
    }
    return best;
}

static bool header_matches(const struct named_match *m, const struct fields *fields)
{
    for (unsigned i = 0; i < fields->count; i++) {
        if (bytes_eq_nocase(fields->at[i].name, m->name) &&
            text_match(&m->value, fields->at[i].value)) {
            return true;
        }
    }
    return false;
}

static bool query_matches(const struct named_match *m, struct bytes query)
{
    struct bytes pair, name, value;

    while (query.len > 0) {
        (void)bytes_split(query, '&', &pair, &query);
        (void)bytes_split(pair, '=', &name, &value);
        if (bytes_eq(name, m->name)) {
            return text_match(&m->value, value); /* the first of a name counts */
        }
    }
    return false;
}

/* What of a match keeps it from fitting, and what it asks for; NULL: it fits. */
static const char *misfit_of(const struct route_match *m, const struct head *h, struct bytes path,
                             struct bytes query, struct bytes *out_wanted)
{
    if (m->method.len > 0 && !bytes_eq(m->method, h->method)) {
        *out_wanted = m->method;
        return "method";
    }
    if (m->has_path && !path_match(&m->path, path)) {
        *out_wanted = m->path.text;
        return "path";
    }
    for (size_t i = 0; i < m->headers_count; i++) {
        if (!header_matches(&m->headers[i], &h->fields)) {
            *out_wanted = m->headers[i].name;
            return "header";
        }
    }
    for (size_t i = 0; i < m->queries_count; i++) {
        if (!query_matches(&m->queries[i], query)) {
            *out_wanted = m->queries[i].name;
            return "query parameter";
        }
    }
    return NULL;
}

/* What makes one match more specific than another, in order (wire 5.6). */
struct score {
    size_t host, path, headers, queries;
    bool method;
};

static bool score_beats(const struct score *a, const struct score *b)
{
    if (a->host != b->host) {
        return a->host > b->host;
    }
    if (a->path != b->path) {
        return a->path > b->path;
    }
    if (a->headers != b->headers) {
        return a->headers > b->headers;
    }
    if (a->queries != b->queries) {
        return a->queries > b->queries;
    }
    return a->method && !b->method; /* ties keep the order of the list */
}

struct search {
    const struct head *head;
    struct bytes host, path, query;
    struct score best;
    struct route_choice choice;
};

static void consider(struct search *s, const struct route *route, const struct rule *rule,
                     const struct route_match *m, size_t host, struct trail *trail)
{
    struct score score = {.host = host};
    const char *misfit;
    struct bytes wanted = BYTES_NONE;

    if (m != NULL) {
        misfit = misfit_of(m, s->head, s->path, s->query, &wanted);
        if (misfit != NULL) {
            trail_note(trail, "route " BYTES_FMT ", rule %zu: does not fit, by its %s " BYTES_FMT,
                       BYTES_ARG(route->meta.name), (size_t)(rule - route->rules), misfit,
                       BYTES_ARG(wanted));
            return;
        }
        score.path = m->has_path ? m->path.text.len + 1 : 0;
        score.headers = m->headers_count;
        score.queries = m->queries_count;
        score.method = m->method.len > 0;
    }
    if (s->choice.route != NULL && !score_beats(&score, &s->best)) {
        trail_note(trail, "route " BYTES_FMT ": fits, but " BYTES_FMT " is more specific",
                   BYTES_ARG(route->meta.name), BYTES_ARG(s->choice.route->meta.name));
        return;
    }
    s->best = score;
    s->choice = (struct route_choice){.route = route, .rule = rule, .match = m};
}

static void search_init(struct search *s, const struct head *h)
{
    struct bytes port;

    memset(s, 0, sizeof(*s));
    s->head = h;
    s->host = authority_host(h->authority, &port);
    (void)bytes_split(h->path, '?', &s->path, &s->query);
}

static void search_route(struct search *s, const struct route *route, struct trail *trail)
{
    size_t host = host_score(route, s->host);

    if (host == 0) {
        trail_note(trail, "route " BYTES_FMT ": host " BYTES_FMT " does not fit",
                   BYTES_ARG(route->meta.name), BYTES_ARG(s->host));
        return;
    }
    for (size_t k = 0; k < route->rules_count; k++) {
        const struct rule *rule = &route->rules[k];

        if (rule->matches_count == 0) {
            consider(s, route, rule, NULL, host, trail);
        }
        for (size_t m = 0; m < rule->matches_count; m++) {
            consider(s, route, rule, &rule->matches[m], host, trail);
        }
    }
}

int route_choose(const struct route_list *routes, const struct head *h, struct route_choice *out,
                 struct trail *trail)
{
    struct search s;

    search_init(&s, h);
    for (size_t i = 0; i < routes->count; i++) {
        search_route(&s, &routes->at[i], trail);
    }
    if (s.choice.route == NULL) {
        trail_note(trail, "no route fits");
        return E_NOT_FOUND;
    }
    trail_note(trail, "chosen: route " BYTES_FMT, BYTES_ARG(s.choice.route->meta.name));
    *out = s.choice;
    return 0;
}

int route_choose_sni(const struct route_list *routes, struct bytes sni, const struct route **out,
                     struct trail *trail)
{
    const struct route *found = NULL;
    size_t best = 0;

    for (size_t i = 0; i < routes->count; i++) {
        size_t score = host_score(&routes->at[i], sni);

        if (score > best) { /* a tie leaves the one that comes first */
            best = score;
            found = &routes->at[i];
        } else {
            trail_note(trail, "route " BYTES_FMT ": %s", BYTES_ARG(routes->at[i].meta.name),
                       score == 0 ? "the server name does not fit" : "another is more specific");
        }
    }
    if (found == NULL) {
        trail_note(trail, "no route fits");
        return E_NOT_FOUND;
    }
    trail_note(trail, "chosen: route " BYTES_FMT, BYTES_ARG(found->meta.name));
    *out = found;
    return 0;
}

int route_pick_backend(const struct rule *rule, struct rand *rand,
                       bool (*is_available)(void *user, size_t backend), void *user,
                       size_t *out_index, struct trail *trail)
{
    uint64_t total = 0, dice;

    if (rule->distribution == DISTRIBUTE_EMPTY || rule->backends_count == 0) {
        trail_note(trail, "the rule has no backend");
        return E_NOT_FOUND;
    }
    for (size_t i = 0; i < rule->backends_count; i++) {
        bool available = is_available == NULL || is_available(user, rule->backends[i].backend);

        if (!available) {
            trail_note(trail, "backend %zu: not available", i);
        } else if (rule->distribution == DISTRIBUTE_FIRST) {
            *out_index = i;
            return 0;
        } else {
            total += rule->backends[i].weight;
        }
    }
    if (total == 0) {
        return E_NO_ENDPOINT;
    }
    dice = rand_below(rand, total);
    for (size_t i = 0; i < rule->backends_count; i++) {
        uint64_t weight = is_available == NULL || is_available(user, rule->backends[i].backend)
                              ? rule->backends[i].weight
                              : 0;

        if (dice < weight) {
            trail_note(trail, "backend %zu: drawn with weight %u of %llu", i,
                       rule->backends[i].weight, (unsigned long long)total);
            *out_index = i;
            return 0;
        }
        dice -= weight;
    }
    return E_NO_ENDPOINT; /* availability changed between the two passes */
}

/* --- who may ---------------------------------------------------------------------------------- */

#define LOCALHOST_LABELS "authz_group=\"\",authz_kind=\"default\",authz_name=\"localhost\""

static bool network_fits(const struct authz *a, const struct addr *client)
{
    for (size_t i = 0; i < a->networks_count; i++) {
        const struct network_match *n = &a->networks[i];
        bool excepted = false;

        for (size_t k = 0; k < n->except_count; k++) {
            excepted = excepted || cidr_contains(&n->except[k], client);
        }
        if (cidr_contains(&n->net, client) && !excepted) {
            return true;
        }
    }
    return false;
}

static bool identity_fits(const struct authz *a, struct bytes id)
{
    if (id.len == 0) {
        return false;
    }
    for (size_t i = 0; i < a->identities_count; i++) {
        if (bytes_eq(a->identities[i], id)) {
            return true;
        }
    }
    for (size_t i = 0; i < a->suffixes_count; i++) {
        if (a->suffixes[i].len == 0 ||
            (id.len > a->suffixes[i].len && bytes_ends(id, a->suffixes[i]))) {
            return true;
        }
    }
    return false;
}

static const struct authz *authz_find(const struct authz *at, size_t count,
                                      const struct client_facts *client, struct trail *trail)
{
    static const struct authz localhost = {
        .labels = {.at = LOCALHOST_LABELS, .len = sizeof(LOCALHOST_LABELS) - 1},
    };

    if (addr_is_loopback(&client->addr)) {
        return &localhost;
    }
    for (size_t i = 0; i < count; i++) {
        const struct authz *a = &at[i];
        bool known = a->authn == AUTHN_NONE || (a->authn == AUTHN_TLS_ANY && client->is_tls) ||
                     (a->authn == AUTHN_IDENTITY && client->is_tls && identity_fits(a, client->id));

        if (!network_fits(a, &client->addr)) {
            trail_note(trail, "authorization " BYTES_FMT ": the client's network does not fit",
                       BYTES_ARG(a->meta.name));
        } else if (!known) {
            trail_note(trail, "authorization " BYTES_FMT ": the client's identity does not fit",
                       BYTES_ARG(a->meta.name));
        } else {
            trail_note(trail, "authorization " BYTES_FMT ": fits", BYTES_ARG(a->meta.name));
            return a;
        }
    }
    return NULL;
}

int policy_authorize(const struct server_policy *p, const struct client_facts *client,
                     const struct head *h, struct authz_choice *out, struct trail *trail)
{
    const struct server_route *route = NULL;
    struct search s;

    memset(out, 0, sizeof(*out));
    if (h == NULL) {
        out->authz = authz_find(p->authz, p->authz_count, client, trail);
        return out->authz != NULL ? 0 : E_DENIED;
    }
    search_init(&s, h);
    for (size_t i = 0; i < p->routes_count; i++) {
        const struct route *before = s.choice.route;

        search_route(&s, &p->routes[i].route, trail);
        if (s.choice.route != before) {
            route = &p->routes[i];
        }
    }
    if (route == NULL) {
        trail_note(trail, "no route of the port fits");
        return E_NOT_FOUND;
    }
    out->route = route;
    out->rule = s.choice.rule;
    out->match = s.choice.match;
    out->authz = authz_find(route->authz, route->authz_count, client, trail);
    return out->authz != NULL ? 0 : E_DENIED;
}
