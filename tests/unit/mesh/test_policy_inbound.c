/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include "core/clock.h"
#include "core/err.h"
#include "mesh/route.h"

/* --- parts of messages (wire 3.4) ------------------------------------------------------------- */

#define ANYWHERE MSG(1, NET4(1, 0, 0, 0, 0, 0))
#define OPEN     MSG(2, MSG(1, NONE))
#define AUTHZ(f) MSG(f, ANYWHERE, OPEN, BUILTIN(4, "anyone"))
#define LABELS                                                                                     \
    CAT(ENTRY(4, "group", "policy.linkerd.io"), ENTRY(4, "kind", "server"),                        \
        ENTRY(4, "name", "web-http"))
#define SERVER(...) CAT(MSG(1, __VA_ARGS__), AUTHZ(3), LABELS)
#define DETECT      MSG(1, MS(1, 10000))

static struct server_policy *decode(struct bytes message)
{
    char problem[256] = "";
    struct server_policy *p = server_policy_new(message, 8080, problem, sizeof(problem));

    if (p == NULL) {
        fail_msg("%s", problem);
    }
    return p;
}

static void labels_and_metadata(void **state)
{
    struct server_policy *p = decode(SERVER(DETECT));

    (void)state;
    assert_int_equal(p->protocol, PROTOCOL_DETECT);
    assert_true(p->detect_timeout_ns == 10 * NS_PER_S);
    assert_bytes(p->meta.name, "web-http");
    assert_bytes(p->labels, "srv_group=\"policy.linkerd.io\",srv_kind=\"server\",srv_name=\"web-"
                            "http\",srv_port=\"8080\"");
    assert_bytes(p->authz[0].labels,
                 "authz_group=\"\",authz_kind=\"default\",authz_name=\"anyone\"");
    assert_false(p->authz[0].is_audit);
    snapshot_unref(&p->ref);
}

/* Wire 3.4: an empty route list becomes one catch-all "default" route. */
static void an_empty_list_is_a_default_route(void **state)
{
    const struct bytes protocols[] = {DETECT, MSG(4, NONE), MSG(5, NONE), MSG(6, NONE)};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        struct server_policy *p = decode(SERVER(protocols[i]));

        assert_int_equal(p->routes_count, 1);
        assert_bytes(p->routes[0].labels,
                     "route_group=\"\",route_kind=\"default\",route_name=\"default\"");
        assert_ptr_equal(p->routes[0].authz, p->authz);
        assert_int_equal(p->routes[0].authz_count, 1);
        assert_int_equal(p->routes[0].route.rules_count, 1);
        assert_int_equal(p->routes[0].route.rules[0].matches_count, 0);
        snapshot_unref(&p->ref);
    }
}

static void protocols_without_routes(void **state)
{
    struct server_policy *p = decode(SERVER(MSG(2, NONE)));

    (void)state;
    assert_int_equal(p->protocol, PROTOCOL_OPAQUE);
    assert_int_equal(p->routes_count, 0);
    snapshot_unref(&p->ref);
    p = decode(SERVER(MSG(3, NONE)));
    assert_int_equal(p->protocol, PROTOCOL_TLS);
    snapshot_unref(&p->ref);
}

static void routes_carry_everything(void **state)
{
    struct bytes http_rule =
        MSG(4, MSG(1, MSG(1, STR(1, "/x")), MSG(4, NUM(1, 1))), MSG(2, MSG(1, NUM(1, 500))),
            MSG(2, MSG(2, STR(3, "Cookie"))), MSG(2, MSG(3, STR(2, "h"))));
    struct bytes http_route = MSG(2, RESOURCE(1, "gateway.networking.k8s.io", "HTTPRoute", "r", ""),
                                  MSG(2, STR(1, "h")), AUTHZ(3), http_rule);
    struct bytes grpc_rule =
        MSG(4, MSG(1, MSG(1, STR(1, "s"), STR(2, "m"))), MSG(2, MSG(1, NUM(1, 7), STR(2, "no"))));
    struct bytes grpc_route = MSG(2, BUILTIN(1, "g"), grpc_rule);
    struct server_policy *p = decode(SERVER(MSG(4, http_route)));
    const struct server_route *r = &p->routes[0];

    (void)state;
    assert_int_equal(p->protocol, PROTOCOL_HTTP1);
    assert_int_equal(p->routes_count, 1);
    assert_bytes(
        r->labels,
        "route_group=\"gateway.networking.k8s.io\",route_kind=\"HTTPRoute\",route_name=\"r\"");
    assert_bytes(r->route.hosts[0].host, "h");
    assert_int_equal(r->authz_count, 1);
    assert_bytes(r->route.rules[0].matches[0].method, "POST");
    assert_int_equal(r->route.rules[0].filters_count, 3);
    assert_true(r->route.rules[0].filters[0].kind == FILTER_FAIL &&
                r->route.rules[0].filters[0].status == 500);
    assert_bytes(r->route.rules[0].filters[1].remove[0], "cookie");
    assert_int_equal(r->route.rules[0].filters[2].kind, FILTER_REDIRECT);
    snapshot_unref(&p->ref);

    p = decode(SERVER(MSG(6, grpc_route)));
    assert_int_equal(p->protocol, PROTOCOL_GRPC);
    assert_bytes(p->routes[0].route.rules[0].matches[0].path.text, "/s/m");
    assert_true(p->routes[0].route.rules[0].filters[0].is_grpc);
    assert_int_equal(p->routes[0].authz_count,
                     0); /* a route without authorizations admits nobody */
    snapshot_unref(&p->ref);
}

static void authorizations(void **state)
{
    struct bytes ids = MSG(2, MSG(2, MSG(2, MSG(1, STR(1, "a.b")), MSG(1, STR(1, "spiffe://x")),
                                         MSG(2, STR(1, "ns"), STR(1, "td")), MSG(2, NONE))));
    struct bytes networks = MSG(1, NET4(1, 10, 1, 2, 3, 8), NET4(2, 10, 9, 0, 0, 16));
    struct server_policy *p =
        decode(CAT(MSG(1, DETECT), MSG(3, networks, ids, BUILTIN(4, "audit")),
                   MSG(3, ANYWHERE, MSG(2, MSG(2, MSG(1, NONE))), ENTRY(3, "name", "by-label"),
                       ENTRY(3, "kind", "k"), ENTRY(3, "group", "g")),
                   ENTRY(4, "name", "n")));
    char text[ADDR_TEXT_BYTES];

    (void)state;
    assert_bytes(p->meta.kind, "default"); /* wire 3.4: neither kind nor group */
    assert_int_equal(p->authz_count, 2);
    assert_true(p->authz[0].is_audit && !p->authz[1].is_audit);
    assert_int_equal(p->authz[0].authn, AUTHN_IDENTITY);
    assert_int_equal(p->authz[0].identities_count, 2);
    assert_bytes(p->authz[0].identities[1], "spiffe://x");
    assert_int_equal(p->authz[0].suffixes_count, 2);
    assert_bytes(p->authz[0].suffixes[0], ".ns.td");
    assert_int_equal(p->authz[0].suffixes[1].len, 0);
    assert_string_equal(cidr_format(&p->authz[0].networks[0].net, text), "10.0.0.0/8");
    assert_string_equal(cidr_format(&p->authz[0].networks[0].except[0], text), "10.9.0.0/16");
    assert_int_equal(p->authz[1].authn, AUTHN_TLS_ANY);
    assert_bytes(p->authz[1].labels, "authz_group=\"g\",authz_kind=\"k\",authz_name=\"by-label\"");
    snapshot_unref(&p->ref);
}

static void rate_limits(void **state)
{
    struct bytes limit =
        CAT(RESOURCE(1, "policy.linkerd.io", "HTTPLocalRateLimitPolicy", "l", ""),
            MSG(2, NUM(1, 100)), MSG(3, NUM(1, 20)),
            MSG(4, MSG(1, NUM(1, 5)), MSG(2, MSG(1, STR(1, "a")), MSG(1, STR(1, "b")))));
    struct server_policy *p = decode(SERVER(MSG(1, MS(1, 1), wire_len(4, limit))));

    (void)state;
    assert_non_null(p->rate_limit);
    assert_int_equal(p->rate_limit->total_rps, 100);
    assert_int_equal(p->rate_limit->identity_rps, 20);
    assert_int_equal(p->rate_limit->overrides[0].rps, 5);
    assert_bytes(p->rate_limit->overrides[0].identities[1], "b");
    assert_bytes(p->rate_limit->meta.name, "l"); /* wire 9.4: it has no namespace */
    snapshot_unref(&p->ref);
    p = decode(SERVER(MSG(5, wire_len(3, limit))));
    assert_non_null(p->rate_limit);
    snapshot_unref(&p->ref);
}

/* Wire 3.4 (MUST): such an update is dropped. */
static void broken_rules_are_refused(void **state)
{
    const struct {
        struct bytes message;
        const char *problem;
    } cases[] = {
        {BYTES("\x0a\x05"), "well-formed"},
        {CAT(AUTHZ(3), LABELS), "protocol"},
        {CAT(MSG(1, NONE), LABELS), "protocol"},
        {CAT(MSG(1, MSG(1, NONE)), LABELS), "timeout"},
        {MSG(1, DETECT), "labels of the server"},
        {CAT(MSG(1, DETECT), ENTRY(4, "kind", "server")), "labels of the server"},
        {CAT(MSG(1, DETECT), LABELS, MSG(3, OPEN, BUILTIN(4, "a"))), "names no network"},
        {CAT(MSG(1, DETECT), LABELS, MSG(3, ANYWHERE, BUILTIN(4, "a"))), "no authentication"},
        {CAT(MSG(1, DETECT), LABELS, MSG(3, ANYWHERE, MSG(2, NONE), BUILTIN(4, "a"))),
         "no authentication"},
        {CAT(MSG(1, DETECT), LABELS, MSG(3, ANYWHERE, MSG(2, MSG(2, NONE)), BUILTIN(4, "a"))),
         "which clients"},
        {CAT(MSG(1, DETECT), LABELS, MSG(3, ANYWHERE, OPEN)), "labels of an authorization"},
        {CAT(MSG(1, DETECT), LABELS,
             MSG(3, MSG(1, NET4(1, 10, 0, 0, 0, 33)), OPEN, BUILTIN(4, "a"))),
         "malformed"},
        {CAT(MSG(1, DETECT), LABELS, MSG(3, MSG(1, NONE), OPEN, BUILTIN(4, "a"))), "malformed"},
        {CAT(MSG(1, DETECT), LABELS,
             MSG(3, MSG(1, NET4(1, 0, 0, 0, 0, 0), MSG(2, NONE)), OPEN, BUILTIN(4, "a"))),
         "excepted"},
        {CAT(MSG(1, DETECT), LABELS,
             MSG(3, ANYWHERE, MSG(2, MSG(2, MSG(2, MSG(1, NONE)))), BUILTIN(4, "a"))),
         "identity is empty"},
        {SERVER(MSG(4, MSG(2, AUTHZ(3)))), "route has no metadata"},
        {SERVER(MSG(4, MSG(2, BUILTIN(1, "r"), MSG(4, MSG(2, NONE))))), "filter"},
        {SERVER(MSG(1, MS(1, 1), MSG(4, NUM(2, 1)))), "well-formed"},
        {SERVER(MSG(1, MS(1, 1), MSG(4, MSG(2, NUM(1, 1))))), "rate limit has no metadata"},
        {SERVER(MSG(1, MS(1, 1), MSG(4, BUILTIN(1, "l"), MSG(4, NONE)))), "override"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char problem[256] = "";

        if (server_policy_new(cases[i].message, 80, problem, sizeof(problem)) != NULL) {
            fail_msg("case %zu (%s) is taken", i, cases[i].problem);
        }
        if (strstr(problem, cases[i].problem) == NULL) {
            fail_msg("case %zu: \"%s\" does not speak of \"%s\"", i, problem, cases[i].problem);
        }
    }
}

/* --- defaults (wire 9.1) ---------------------------------------------------------------------- */

static int ask(enum default_policy policy, const char *ip, const char *id)
{
    struct cidr cluster;
    struct client_facts client = {.is_tls = id[0] != '\0', .id = bytes_str(id)};
    struct authz_choice choice;
    struct server_policy *p;
    struct head h = {.method = BYTES("GET"), .path = BYTES("/"), .authority = BYTES("x")};
    int opaque, http;

    assert_int_equal(cidr_parse(BYTES("10.0.0.0/8"), &cluster), 0);
    assert_int_equal(addr_parse_ip(bytes_str(ip), &client.addr), 0);
    p = server_policy_new_default(policy, &cluster, 1, false, NS_PER_S, 80);
    opaque = policy_authorize(p, &client, NULL, &choice, NULL);
    http = policy_authorize(p, &client, &h, &choice, NULL);
    assert_int_equal(opaque, http);
    if (http == 0 && !addr_is_loopback(&client.addr)) {
        assert_int_equal(choice.authz->is_audit, policy == DEFAULT_AUDIT);
        assert_bytes(choice.authz->meta.name, default_policy_name(policy));
    }
    snapshot_unref(&p->ref);
    return http;
}

static void default_policies(void **state)
{
    static const struct {
        const char *name;
        int outside, outside_id, inside, inside_id;
    } cases[] = {
        {"deny", E_DENIED, E_DENIED, E_DENIED, E_DENIED},
        {"all-authenticated", E_DENIED, 0, E_DENIED, 0},
        {"all-unauthenticated", 0, 0, 0, 0},
        {"cluster-authenticated", E_DENIED, E_DENIED, E_DENIED, 0},
        {"cluster-unauthenticated", E_DENIED, E_DENIED, 0, 0},
        {"audit", 0, 0, 0, 0},
    };
    enum default_policy policy;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(default_policy_parse(bytes_str(cases[i].name), &policy), 0);
        assert_string_equal(default_policy_name(policy), cases[i].name);
        assert_int_equal(ask(policy, "192.0.2.1", ""), cases[i].outside);
        assert_int_equal(ask(policy, "192.0.2.1", "x"), cases[i].outside_id);
        assert_int_equal(ask(policy, "10.1.1.1", ""), cases[i].inside);
        assert_int_equal(ask(policy, "10.1.1.1", "x"), cases[i].inside_id);
        assert_int_equal(ask(policy, "2001:db8::1", ""), cases[i].outside);
        assert_int_equal(ask(policy, "127.0.0.1", ""), 0);
    }
    assert_int_equal(default_policy_parse(BYTES("everybody"), &policy), E_SYNTAX);
}

static void default_labels_and_protocols(void **state)
{
    struct server_policy *p =
        server_policy_new_default(DEFAULT_ALL_UNAUTHENTICATED, NULL, 0, false, 7 * NS_PER_S, 4191);

    (void)state;
    assert_int_equal(p->protocol, PROTOCOL_DETECT);
    assert_true(p->detect_timeout_ns == 7 * NS_PER_S);
    assert_bytes(
        p->labels,
        "srv_group=\"\",srv_kind=\"default\",srv_name=\"all-unauthenticated\",srv_port=\"4191\"");
    assert_int_equal(p->routes_count, 1);
    snapshot_unref(&p->ref);
    p = server_policy_new_default(DEFAULT_DENY, NULL, 0, true, 0, 3306);
    assert_int_equal(p->protocol, PROTOCOL_OPAQUE);
    assert_int_equal(p->authz_count + p->routes_count, 0);
    snapshot_unref(&p->ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_TEST(labels_and_metadata),
        WIRE_TEST(an_empty_list_is_a_default_route),
        WIRE_TEST(protocols_without_routes),
        WIRE_TEST(routes_carry_everything),
        WIRE_TEST(authorizations),
        WIRE_TEST(rate_limits),
        WIRE_TEST(broken_rules_are_refused),
        WIRE_TEST(default_policies),
        WIRE_TEST(default_labels_and_protocols),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
