/* SPDX-License-Identifier: Apache-2.0 */
#include "../unit.h"

#include "core/err.h"
#include "mesh/route.h"

/* --- choosing --------------------------------------------------------------------------------- */

static struct arena arena;

static struct head request(const char *method, const char *authority, const char *path,
                           const char *header, const char *value)
{
    struct head h = {
        .method = bytes_str(method),
        .authority = bytes_str(authority),
        .path = bytes_str(path),
        .version = HTTP_2,
    };

    fields_init(&h.fields, &arena);
    if (header != NULL) {
        assert_int_equal(fields_add(&h.fields, bytes_str(header), bytes_str(value)), 0);
    }
    return h;
}

#define TEXT(o, t)                                                                                 \
    {                                                                                              \
        .op = (o), .text = BYTES(t)                                                                \
    }

/* One rule each, named for what makes it fit. */
static struct named_match canary[] = {{BYTES("x-canary"), TEXT(MATCH_EXACT, "yes")}};
static struct named_match version_query[] = {{BYTES("v"), TEXT(MATCH_EXACT, "2")}};
static struct route_match any_match[] = {{.has_path = true, .path = TEXT(MATCH_PREFIX, "/")}};
static struct route_match api_match[] = {{.has_path = true, .path = TEXT(MATCH_PREFIX, "/api")}};
static struct route_match exact_match[] = {
    {.has_path = true, .path = TEXT(MATCH_EXACT, "/api/v1")}};
static struct route_match canary_match[] = {
    {.has_path = true, .path = TEXT(MATCH_PREFIX, "/api"), .headers = canary, .headers_count = 1}};
static struct route_match query_match[] = {{.has_path = true,
                                            .path = TEXT(MATCH_PREFIX, "/api"),
                                            .queries = version_query,
                                            .queries_count = 1}};
static struct route_match post_match[] = {
    {.has_path = true, .path = TEXT(MATCH_PREFIX, "/api"), .method = BYTES("POST")}};
static struct host_match exact_host[] = {{.host = BYTES("web.example.org")}};
static struct host_match suffix_host[] = {{.is_suffix = true, .host = BYTES("example.org")}};
static struct host_match short_host[] = {{.is_suffix = true, .host = BYTES("org")}};

#define RULE(m)                                                                                    \
    (struct rule[])                                                                                \
    {                                                                                              \
        {                                                                                          \
            .matches = (m), .matches_count = ARRAY_LEN(m)                                          \
        }                                                                                          \
    }
#define ROUTE(n, m)                                                                                \
    {                                                                                              \
        .meta.name = BYTES(n), .rules = RULE(m), .rules_count = 1                                  \
    }
#define HOST_ROUTE(n, h, m)                                                                        \
    {                                                                                              \
        .meta.name = BYTES(n), .hosts = (h), .hosts_count = 1, .rules = RULE(m), .rules_count = 1  \
    }

/*
 * Wire 5.6, in order: host, path length, headers, queries, method; ties keep the order of the list.
 */
static void the_most_specific_route_wins(void **state)
{
    struct route at[] = {
        ROUTE("any", any_match),
        ROUTE("api", api_match),
        ROUTE("api-again", api_match),
        ROUTE("exact", exact_match),
        ROUTE("post", post_match),
        ROUTE("query", query_match),
        ROUTE("canary", canary_match),
        HOST_ROUTE("short", short_host, any_match),
        HOST_ROUTE("suffix", suffix_host, any_match),
        HOST_ROUTE("host", exact_host, any_match),
    };
    const struct route_list list = {.at = at, .count = ARRAY_LEN(at)};
    const struct {
        const char *method, *authority, *path, *header, *value, *want;
    } cases[] = {
        {"GET", "other", "/", NULL, NULL, "any"},
        {"GET", "other", "/api", NULL, NULL, "api"},
        {"GET", "other", "/apix", NULL, NULL, "any"},
        {"GET", "other", "/api/v1", NULL, NULL, "exact"},
        {"GET", "other", "/api/v1?v=2", NULL, NULL, "exact"},
        {"POST", "other", "/api/x", NULL, NULL, "post"},
        {"POST", "other", "/api/x?a=1&v=2", NULL, NULL, "query"},
        {"POST", "other", "/api/x?v=1&v=2", NULL, NULL, "post"}, /* the first of a name counts */
        {"POST", "other", "/api/x?v=2", "x-canary", "yes", "canary"},
        {"POST", "other", "/api/x?v=2", "x-canary", "no", "query"},
        {"GET", "web.example.org", "/api/v1", NULL, NULL, "host"},
        {"GET", "WEB.example.ORG:8080", "/", NULL, NULL, "host"},
        {"GET", "api.example.org:80", "/", NULL, NULL, "suffix"},
        {"GET", "a.b.example.org", "/", NULL, NULL, "suffix"},
        {"GET", "example.org", "/", NULL, NULL, "short"}, /* a suffix needs a label before it */
        {"GET", "webexample.org", "/", NULL, NULL, "short"},
        {"GET", "org", "/", NULL, NULL, "any"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct head h = request(cases[i].method, cases[i].authority, cases[i].path, cases[i].header,
                                cases[i].value);
        struct route_choice choice;

        assert_int_equal(route_choose(&list, &h, &choice, NULL), 0);
        if (!bytes_eq(choice.route->meta.name, bytes_str(cases[i].want))) {
            fail_msg("case %zu: " BYTES_FMT " instead of %s", i, BYTES_ARG(choice.route->meta.name),
                     cases[i].want);
        }
        assert_non_null(choice.rule);
        assert_non_null(choice.match);
    }
    arena_clear(&arena);
}

static void no_route_and_routes_without_matches(void **state)
{
    struct rule plain = {0};
    struct route at[] = {{.meta.name = BYTES("all"), .rules = &plain, .rules_count = 1}};
    struct route_list list = {.at = at, .count = 0};
    struct route_choice choice = {0};
    struct head h = request("GET", "x", "/", NULL, NULL);
    struct trail trail;

    (void)state;
    text_init(&trail.text, 10000);
    assert_int_equal(route_choose(&list, &h, &choice, &trail), E_NOT_FOUND);
    assert_null(choice.route);
    list.count = 1;
    assert_int_equal(route_choose(&list, &h, &choice, &trail), 0);
    assert_ptr_equal(choice.rule, &plain);
    assert_null(choice.match);
    at[0].rules_count = 0;
    assert_int_equal(route_choose(&list, &h, &choice, &trail), E_NOT_FOUND);
    assert_non_null(strstr(trail.text.at, "no route fits"));
    assert_non_null(strstr(trail.text.at, "chosen: route all"));
    text_clear(&trail.text);
}

/* --- backends --------------------------------------------------------------------------------- */

static bool is_available(void *user, size_t backend)
{
    const bool *up = user;

    return up[backend];
}

/* Wire 3.5: server names match as hosts do; a ClientHello without one fits only routes that ask for
 * none. */
static void tls_routes_by_server_name(void **state)
{
    struct host_match org[] = {{.is_suffix = true, .host = BYTES("org")}};
    struct host_match example[] = {{.is_suffix = true, .host = BYTES("example.org")}};
    struct host_match web[] = {{.host = BYTES("web.example.org")}};
    struct route at[] = {
        {.meta = {.name = BYTES("org")}, .hosts = org, .hosts_count = 1},
        {.meta = {.name = BYTES("example")}, .hosts = example, .hosts_count = 1},
        {.meta = {.name = BYTES("web")}, .hosts = web, .hosts_count = 1},
        {.meta = {.name = BYTES("any")}},
        {.meta = {.name = BYTES("any, too")}},
    };
    const struct {
        const char *sni, *route;
    } cases[] = {{"web.example.org", "web"},     {"WEB.Example.Org", "web"},
                 {"api.example.org", "example"}, {"a.b.example.org", "example"},
                 {"example.org", "org"},         {"org", "any"},
                 {"example.net", "any"},         {"", "any"}};
    struct route_list all = {.at = at, .count = ARRAY_LEN(at)}, named = {.at = at, .count = 3};
    const struct route *route = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(route_choose_sni(&all, bytes_str(cases[i].sni), &route, NULL), 0);
        assert_true(bytes_eq(route->meta.name, bytes_str(cases[i].route)));
    }
    assert_int_equal(route_choose_sni(&named, BYTES("example.net"), &route, NULL), E_NOT_FOUND);
    assert_int_equal(route_choose_sni(&named, BYTES_NONE, &route, NULL), E_NOT_FOUND);
}

static void backends_are_drawn_by_weight(void **state)
{
    struct weighted_backend at[] = {
        {.backend = 0, .weight = 9}, {.backend = 1, .weight = 0}, {.backend = 2, .weight = 1}};
    struct rule rule = {.distribution = DISTRIBUTE_RANDOM, .backends = at, .backends_count = 3};
    bool up[] = {true, true, true};
    unsigned drawn[3] = {0};
    struct rand r;
    size_t index;

    (void)state;
    rand_seed(&r, 7);
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(route_pick_backend(&rule, &r, NULL, NULL, &index, NULL), 0);
        drawn[index]++;
    }
    assert_int_equal(drawn[1], 0);
    assert_true(drawn[0] > 8700 && drawn[0] < 9300);
    up[0] = false;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(route_pick_backend(&rule, &r, is_available, up, &index, NULL), 0);
        assert_int_equal(index, 2);
    }
    up[2] = false;
    assert_int_equal(route_pick_backend(&rule, &r, is_available, up, &index, NULL), E_NO_ENDPOINT);
}

static void first_available_and_empty(void **state)
{
    struct weighted_backend at[] = {{.backend = 0, .weight = 1}, {.backend = 1, .weight = 1}};
    struct rule rule = {.distribution = DISTRIBUTE_FIRST, .backends = at, .backends_count = 2};
    bool up[] = {false, true};
    struct rand r;
    size_t index = 99;

    (void)state;
    rand_seed(&r, 7);
    assert_int_equal(route_pick_backend(&rule, &r, NULL, NULL, &index, NULL), 0);
    assert_int_equal(index, 0);
    assert_int_equal(route_pick_backend(&rule, &r, is_available, up, &index, NULL), 0);
    assert_int_equal(index, 1);
    up[1] = false;
    assert_int_equal(route_pick_backend(&rule, &r, is_available, up, &index, NULL), E_NO_ENDPOINT);
    rule.distribution = DISTRIBUTE_EMPTY;
    assert_int_equal(route_pick_backend(&rule, &r, NULL, NULL, &index, NULL), E_NOT_FOUND);
}

/* --- who may (wire 9.5) ----------------------------------------------------------------------- */

struct asks {
    const char *ip, *id;
    bool is_tls;
    int want;
};

static void check_clients(const struct server_policy *p, const struct asks *asks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct client_facts client = {.is_tls = asks[i].is_tls, .id = bytes_str(asks[i].id)};
        struct authz_choice choice;
        int rc;

        assert_int_equal(addr_parse_ip(bytes_str(asks[i].ip), &client.addr), 0);
        rc = policy_authorize(p, &client, NULL, &choice, NULL);
        if (rc != asks[i].want) {
            fail_msg("client %zu: %d instead of %d", i, rc, asks[i].want);
        }
        assert_true((rc == 0) == (choice.authz != NULL));
    }
}

static struct network_match everywhere[2];
static struct network_match cluster[1];
static struct cidr cluster_hole;

static int networks_setup(void **state)
{
    (void)state;
    assert_int_equal(cidr_parse(BYTES("0.0.0.0/0"), &everywhere[0].net), 0);
    assert_int_equal(cidr_parse(BYTES("::/0"), &everywhere[1].net), 0);
    assert_int_equal(cidr_parse(BYTES("10.0.0.0/8"), &cluster[0].net), 0);
    assert_int_equal(cidr_parse(BYTES("10.9.0.0/16"), &cluster_hole), 0);
    cluster[0].except = &cluster_hole;
    cluster[0].except_count = 1;
    return 0;
}

static void networks_and_identities(void **state)
{
    const struct client_facts local = {.addr = addr_v4(0x7f000001, 0)};
    struct authz_choice choice;
    struct bytes names[] = {BYTES("spiffe://td/x"), BYTES("a.ns.td")};
    struct bytes suffixes[] = {BYTES(".ns2.td")};
    struct bytes any[] = {BYTES_NONE};
    struct authz authz = {.networks = cluster, .networks_count = 1};
    struct server_policy p = {.protocol = PROTOCOL_OPAQUE, .authz = &authz, .authz_count = 1};
    const struct asks by_network[] = {
        {"10.1.2.3", "", false, 0},        {"10.9.0.1", "", false, E_DENIED},
        {"11.0.0.1", "", false, E_DENIED}, {"fd00::1", "", false, E_DENIED},
        {"127.0.0.1", "", false, 0},       {"::1", "", false, 0}, /* the implicit `localhost` */
    };
    const struct asks by_tls[] = {
        {"10.1.2.3", "", false, E_DENIED}, {"10.1.2.3", "", true, 0}, {"10.1.2.3", "x", true, 0}};
    const struct asks by_name[] = {
        {"10.1.2.3", "a.ns.td", true, 0},        {"10.1.2.3", "a.ns.td", false, E_DENIED},
        {"10.1.2.3", "b.ns.td", true, E_DENIED}, {"10.1.2.3", "spiffe://td/x", true, 0},
        {"10.1.2.3", "q.ns2.td", true, 0},       {"10.1.2.3", "ns2.td", true, E_DENIED},
        {"10.1.2.3", ".ns2.td", true, E_DENIED}, {"10.1.2.3", "", true, E_DENIED},
        {"10.9.1.1", "a.ns.td", true, E_DENIED},
    };
    const struct asks by_any[] = {{"10.1.2.3", "whoever", true, 0},
                                  {"10.1.2.3", "", true, E_DENIED},
                                  {"10.1.2.3", "", false, E_DENIED}};

    (void)state;
    check_clients(&p, by_network, ARRAY_LEN(by_network));
    assert_int_equal(policy_authorize(&p, &local, NULL, &choice, NULL), 0);
    assert_bytes(choice.authz->labels,
                 "authz_group=\"\",authz_kind=\"default\",authz_name=\"localhost\"");
    authz.authn = AUTHN_TLS_ANY;
    check_clients(&p, by_tls, ARRAY_LEN(by_tls));
    authz.authn = AUTHN_IDENTITY;
    authz.identities = names;
    authz.identities_count = ARRAY_LEN(names);
    authz.suffixes = suffixes;
    authz.suffixes_count = 1;
    check_clients(&p, by_name, ARRAY_LEN(by_name));
    authz.suffixes = any;
    check_clients(&p, by_any, ARRAY_LEN(by_any));
    p.authz_count = 0;
    check_clients(&p, &(struct asks){"10.1.2.3", "x", true, E_DENIED}, 1);
}

static void requests_are_authorized_by_their_route(void **state)
{
    struct authz open = {.networks = everywhere, .networks_count = 2};
    struct rule rules[2] = {{.matches = api_match, .matches_count = 1},
                            {.matches = exact_match, .matches_count = 1}};
    struct server_route routes[2] = {
        {.route = {.meta.name = BYTES("open"), .rules = &rules[0], .rules_count = 1},
         .authz = &open,
         .authz_count = 1},
        {.route = {.meta.name = BYTES("closed"), .rules = &rules[1], .rules_count = 1}},
    };
    struct server_policy p = {.routes = routes, .routes_count = 2};
    struct client_facts client = {.addr = addr_v4(0x0b000001, 0)};
    struct authz_choice choice;
    struct head h = request("GET", "x", "/api/x", NULL, NULL);

    (void)state;
    assert_int_equal(policy_authorize(&p, &client, &h, &choice, NULL), 0);
    assert_ptr_equal(choice.route, &routes[0]);
    assert_ptr_equal(choice.rule, &rules[0]);
    assert_ptr_equal(choice.authz, &open);
    h = request("GET", "x", "/api/v1", NULL, NULL);
    assert_int_equal(policy_authorize(&p, &client, &h, &choice, NULL), E_DENIED);
    assert_ptr_equal(choice.route, &routes[1]); /* named in metrics also when it denies */
    h = request("GET", "x", "/", NULL, NULL);
    assert_int_equal(policy_authorize(&p, &client, &h, &choice, NULL), E_NOT_FOUND);
    assert_null(choice.route);
}

static void the_trail_says_why(void **state)
{
    struct authz authz = {.meta.name = BYTES("only-web"), .networks = cluster, .networks_count = 1};
    struct server_policy p = {.authz = &authz, .authz_count = 1};
    struct client_facts client = {.addr = addr_v4(0x0b000001, 0)};
    struct authz_choice choice;
    struct trail trail;

    (void)state;
    text_init(&trail.text, 10000);
    assert_int_equal(policy_authorize(&p, &client, NULL, &choice, &trail), E_DENIED);
    assert_string_equal(trail.text.at,
                        "authorization only-web: the client's network does not fit\n");
    text_clear(&trail.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_specific_route_wins),
        cmocka_unit_test(no_route_and_routes_without_matches),
        cmocka_unit_test(tls_routes_by_server_name),
        cmocka_unit_test(backends_are_drawn_by_weight),
        cmocka_unit_test(first_available_and_empty),
        cmocka_unit_test(networks_and_identities),
        cmocka_unit_test(requests_are_authorized_by_their_route),
        cmocka_unit_test(the_trail_says_why),
    };
    int rc;

    arena_init(&arena, 1u << 20);
    rc = cmocka_run_group_tests(tests, networks_setup, NULL);
    arena_clear(&arena);
    arena_cache_clear();
    return rc;
}
