/* SPDX-License-Identifier: Apache-2.0 */
/* What objects on a Server say: who may come, routes, rate limits (wire 9.2, 9.4). */
#include "dump.h"

#include "control/policy/private.h"
#include "mesh/policy.h"

#define POLICY(version, kind, name, more)                                                          \
    "---\n{apiVersion: policy.linkerd.io/" version ", kind: " kind ", metadata: {name: " name more \
    "}\n"
#define SERVER(protocol, access)                                                                   \
    POLICY("v1beta3", "Server", "web",                                                             \
           ", labels: {app: web}}, spec: {podSelector: {matchLabels: {app: web}}, port: 8080, "    \
           "proxyProtocol: " protocol ", accessPolicy: " access "}")
#define SPEC(text)           "}, spec: {" text "}"
#define SAZ(name, text)      POLICY("v1beta1", "ServerAuthorization", name, SPEC(text))
#define AUTHZ(name, text)    POLICY("v1alpha1", "AuthorizationPolicy", name, SPEC(text))
#define MESH_TLS(name, text) POLICY("v1alpha1", "MeshTLSAuthentication", name, SPEC(text))
#define NETWORKS(name, text) POLICY("v1alpha1", "NetworkAuthentication", name, SPEC(text))
#define RATE(name, text)     POLICY("v1alpha1", "HTTPLocalRateLimitPolicy", name, SPEC(text))
#define ON_SERVER            "targetRef: {group: policy.linkerd.io, kind: Server, name: web}"
#define AUTH(kind, name)     "{group: policy.linkerd.io, kind: " kind ", name: " name "}"
#define ID(account, ns)      account "." ns ".serviceaccount.identity.linkerd.cluster.local"

#define EVERYWHERE " networks{ net=0.0.0.0/0} networks{ net=::/0}"
#define IN_CLUSTER " networks{ net=10.0.0.0/8} networks{ net=fd00::/8}"
#define ANYBODY    " authentication{ unauthenticated{}}"
#define OF(kind, name)                                                                             \
    " labels[group=policy.linkerd.io] labels[kind=" kind "] labels[name=" name                     \
    "] metadata=policy.linkerd.io/" kind "//" name
#define CLIENTS(list) " authentication{ meshTLS{ identities{" list "}}}"

static const char *answer(struct engines *e, struct asker *a)
{
    struct bytes message = asker_next(e, a);
    char problem[256] = "";
    struct server_policy *p = server_policy_new(message, 8080, problem, sizeof(problem));

    if (p == NULL) {
        fail_msg("a proxy refuses it: %s", problem);
    }
    snapshot_unref(&p->ref);
    return dump(&io__linkerd__proxy__inbound__server__descriptor, message);
}

static void watch(struct engines *e, struct asker *a, unsigned port)
{
    Io__Linkerd__Proxy__Inbound__PortSpec m;
    uint8_t packed[1024];
    const char *why = "";
    size_t len;

    io__linkerd__proxy__inbound__port_spec__init(&m);
    m.workload = (char *)(uintptr_t) "{\"ns\":\"default\",\"pod\":\"a\"}";
    m.port = port;
    len = io__linkerd__proxy__inbound__port_spec__pack(&m, packed);
    asker_init(a);
    assert_int_equal(policy_watch_port(e->env.policy, bytes_of(packed, len), &a->subscriber, &why),
                     GRPC_OK);
}

/* A meshed pod and its Server; the first answer is read. */
static void server_open(struct engines *e, struct asker *a, const char *server)
{
    put(e, "pod.yaml", MESHED_POD("a", "10.1.0.1", ""));
    put(e, "server.yaml", server);
    mark(e->f);
    engines_sync(e);
    watch(e, a, 8080);
    (void)asker_next(e, a);
}

#define OPAQUE_SERVER(authorizations)                                                              \
    "{ protocol{ opaque{}}" authorizations                                                         \
    " labels[group=policy.linkerd.io] labels[kind=server] labels[name=web]}"
#define AUTHORIZED(list) " authorizations{" list "}"

static void server_authorizations_let_clients_in(void **state)
{
    static const struct {
        const char *spec, *authz;
    } cases[] = {
        {"server: {name: web}, client: {unauthenticated: true}", IN_CLUSTER ANYBODY},
        {"server: {name: web}, client: {networks: [{cidr: 192.0.2.0/24, except: [192.0.2.7/32]}], "
         "unauthenticated: true}",
         " networks{ net=192.0.2.0/24 except=192.0.2.7/32}" ANYBODY},
        {"server: {selector: {matchLabels: {app: web}}}, client: {meshTLS: {unauthenticatedTLS: "
         "true}}",
         IN_CLUSTER " authentication{ meshTLS{ unauthenticated{}}}"},
        {"server: {name: web}, client: {meshTLS: {identities: ['*', '*.b.example', 'a.example'], "
         "serviceAccounts: [{name: sa}, {name: sb, namespace: other}]}}",
         IN_CLUSTER CLIENTS(" identities{ name=a.example} identities{ name=" ID(
             "sa", "default") "} identities{ "
                              "name=" ID("sb",
                                         "other") "} suffixes{} suffixes{ parts=b parts=example}")},
    };
    struct engines *e = *state;
    struct asker a;

    server_open(e, &a, SERVER("opaque", "deny"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char manifest[1024], expected[1024];

        (void)snprintf(manifest, sizeof(manifest), SAZ("s", "%s"), cases[i].spec);
        (void)snprintf(expected, sizeof(expected),
                       OPAQUE_SERVER(AUTHORIZED("%s" OF("serverauthorization", "s"))),
                       cases[i].authz);
        put(e, "saz.yaml", manifest);
        assert_string_equal(answer(e, &a), expected);
    }
    remove_file(e->f, "saz.yaml");
    assert_string_equal(answer(e, &a), OPAQUE_SERVER(""));
    asker_clear(&a);
}

/* Whatever is odd lets nobody in, and is said. */
static void malformed_grants_are_none(void **state)
{
    static const struct {
        const char *manifest, *reason;
    } cases[] = {
        {SAZ("bad", "server: {name: web}, client: {}"), "neither unauthenticated nor meshTLS"},
        {SAZ("bad", "server: {name: web}, client: {unauthenticated: true, meshTLS: {identities: "
                    "['*']}}"),
         "both"},
        {SAZ("bad", "server: {name: web}, client: {meshTLS: {}}"), "names neither"},
        {SAZ("bad", "server: {name: web}, client: {networks: [{cidr: 10.0.0.0/33}], "
                    "unauthenticated: true}"),
         "network 0"},
        {SAZ("bad", "server: {name: web}, client: {networks: [{cidr: 10.0.0.0/8, except: "
                    "[192.0.2.0/24]}], unauthenticated: true}"),
         "exception"},
        {SAZ("bad", "server: {name: web}, client: {networks: {cidr: 10.0.0.0/8}, unauthenticated: "
                    "true}"),
         "networks is no list"},
        {SAZ("bad", "server: {name: web}, client: {networks: [{cidr: 10.0.0.0/8, except: "
                    "10.1.0.0/16}], unauthenticated: true}"),
         "exception"},
        {SAZ("bad", "server: {name: web}, client: {meshTLS: {identities: ['a.*.b']}}"), "a.*.b"},
        {SAZ("bad", "server: {selector: {matchLabels: {app: web}}}"), "client says"},
        {SAZ("bad", "server: {selector: {matchLabels: {app: web}, matchExpressions: {key: x, "
                    "operator: Exists}}}, client: {unauthenticated: true}"),
         "selector of its server"},
        {AUTHZ("bad", ON_SERVER), "requiredAuthenticationRefs is missing"},
        {AUTHZ("bad", ON_SERVER ", requiredAuthenticationRefs: [{kind: Pod, name: x}]"), "neither"},
        {AUTHZ("bad", ON_SERVER ", requiredAuthenticationRefs: [{kind: ServiceAccount, name: x}, "
                                "{kind: ServiceAccount, name: ya}]"),
         "more than one source of identities"},
        {AUTHZ("bad", ON_SERVER
               ", requiredAuthenticationRefs: [" AUTH("MeshTLSAuthentication", "gone") "]"),
         "there is no MeshTLSAuthentication default/gone"},
        {AUTHZ("bad", ON_SERVER ", requiredAuthenticationRefs: [" AUTH(
                          "NetworkAuthentication", "nets") "]") NETWORKS("nets", "networks: []"),
         "has no networks"},
        {AUTHZ("bad", ON_SERVER ", requiredAuthenticationRefs: [" AUTH(
                          "MeshTLSAuthentication", "m") "]") MESH_TLS("m", "identities: []"),
         "names no identities"},
        {AUTHZ("bad",
               ON_SERVER ", requiredAuthenticationRefs: [" AUTH("MeshTLSAuthentication", "m") "]")
             MESH_TLS("m", "identityRefs: [{kind: Pod, name: x}]"),
         "neither a ServiceAccount nor"},
        {AUTHZ("bad",
               ON_SERVER ", requiredAuthenticationRefs: [" AUTH(
                   "NetworkAuthentication", "nets") ", " AUTH("NetworkAuthentication", "nets") "]")
             NETWORKS("nets", "networks: [{cidr: 10.0.0.0/8}]"),
         "more than one NetworkAuthentication"},
    };
    struct engines *e = *state;
    struct asker a;

    server_open(e, &a, SERVER("opaque", "deny"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        put(e, "bad.yaml", cases[i].manifest);
        assert_problem(e, "bad", cases[i].reason);
        assert_quiet(e, &a);
    }
    asker_clear(&a);
}

static void policies_require_all_of_their_references(void **state)
{
    struct engines *e = *state;
    struct asker a;

    server_open(e, &a, SERVER("opaque", "deny"));
    put(e, "p.yaml",
        AUTHZ("p",
              ON_SERVER ", requiredAuthenticationRefs: [" AUTH(
                  "MeshTLSAuthentication", "m") ", " AUTH("NetworkAuthentication", "nets") "]"));
    assert_problem(e, "p", "there is no");
    assert_quiet(e, &a);
    put(e, "m.yaml",
        MESH_TLS("m", "identities: [a.example, '*'], identityRefs: [{kind: ServiceAccount, name: "
                      "sa, namespace: other}, {kind: Namespace, name: team}]"));
    mark(e->f);
    assert_quiet(e, &a); /* still half of it */
    put(e, "n.yaml", NETWORKS("nets", "networks: [{cidr: 192.0.2.0/24}]"));
    assert_string_equal(
        answer(e, &a),
        OPAQUE_SERVER(AUTHORIZED(" networks{ net=192.0.2.0/24}" CLIENTS(
            " identities{ name=a.example} identities{ name=" ID(
                "sa",
                "other") "} suffixes{} suffixes{ parts=team parts=serviceaccount parts=identity "
                         "parts=linkerd parts=cluster parts=local}")
                                     OF("authorizationpolicy", "p"))));
    put(e, "n.yaml", NETWORKS("nets", "networks: [{cidr: 198.51.100.0/24}]"));
    assert_has(answer(e, &a), " net=198.51.100.0/24");
    remove_file(e->f, "n.yaml");
    assert_string_equal(answer(e, &a), OPAQUE_SERVER(""));
    asker_clear(&a);
}

static void policies_without_references_let_everybody_in(void **state)
{
    struct engines *e = *state;
    struct asker a;

    server_open(e, &a, SERVER("opaque", "audit"));
    put(e, "p.yaml", AUTHZ("p", ON_SERVER ", requiredAuthenticationRefs: []"));
    assert_string_equal(
        answer(e, &a),
        OPAQUE_SERVER(AUTHORIZED(EVERYWHERE ANYBODY OF("authorizationpolicy", "p"))
                          AUTHORIZED(EVERYWHERE ANYBODY " labels[group=] labels[kind=default] "
                                                        "labels[name=audit] metadata=audit")));
    /* A whole namespace's; another one's name is no target. */
    put(e, "p.yaml",
        AUTHZ("p", "targetRef: {kind: Namespace, name: default}, requiredAuthenticationRefs: "
                   "[{kind: ServiceAccount, name: sa}]"));
    assert_has(answer(e, &a),
               "authorizations{" EVERYWHERE CLIENTS(" identities{ name=" ID("sa", "default") "}"));
    put(e, "p.yaml",
        AUTHZ("p", "targetRef: {kind: Namespace, name: other}, requiredAuthenticationRefs: []"));
    assert_has_not(answer(e, &a), "authorizationpolicy");
    assert_problem(e, "p", "not its own");
    asker_clear(&a);
}

#define ROUTE(api, kind, name, created, rules)                                                     \
    "---\n{apiVersion: " api ", kind: " kind ", metadata: {name: " name                            \
    ", creationTimestamp: '" created "'}, spec: {parentRefs: [{group: policy.linkerd.io, kind: "   \
    "Server, name: web}], " rules "}}\n"
#define GATEWAY "gateway.networking.k8s.io/v1"
#define LINKERD "policy.linkerd.io/v1beta3"

static void http_routes_have_their_own_authorizations(void **state)
{
    struct engines *e = *state;
    struct asker a;
    const char *text;

    server_open(e, &a, SERVER("unknown", "all-authenticated"));
    put(e, "routes.yaml",
        ROUTE(GATEWAY, "HTTPRoute", "young", "2026-02-01T00:00:00Z",
              "rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, "
              "hostname: a.example, port: 444, path: {type: ReplacePrefixMatch, "
              "replacePrefixMatch: /n}}}]}]")
            ROUTE(
                LINKERD, "HTTPRoute", "old", "2026-01-01T00:00:00Z",
                "hostnames: [web, '*.b.example'], rules: [{matches: [{path: {type: Exact, value: "
                "/a}, method: GET}, {path: {type: RegularExpression, value: '/b/[0-9]+'}, method: "
                "BREW, headers: [{name: x, value: yy}, {name: z, type: RegularExpression, value: "
                "'.*'}], queryParams: [{name: q, value: '1'}, {name: w, type: RegularExpression, "
                "value: w+}]}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: "
                "{set: [{name: s, value: '1'}], add: [{name: d, value: '2'}], remove: "
                "[gone]}}]}]"));
    put(e, "grant.yaml",
        AUTHZ("old-only", "targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: old}, "
                          "requiredAuthenticationRefs: []"));
    put(e, "grant2.yaml",
        AUTHZ("young-only", "targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: "
                            "young}, requiredAuthenticationRefs: []"));
    mark(e->f);
    (void)loop_turn(&e->f->loop, 0);
    while (a.read + 1 < a.count) {
        (void)answer(e, &a);
    }
    text = answer(e, &a);
    assert_has(
        text,
        "http_routes{ metadata=policy.linkerd.io/HTTPRoute//old hosts{ exact=web} hosts{ suffix{ "
        "reverse_labels=example reverse_labels=b}} authorizations{" EVERYWHERE ANYBODY OF(
            "authorizationpolicy",
            "old-only") "} authorizations{" EVERYWHERE CLIENTS(" suffixes{}"));
    assert_has(
        text,
        " rules{ matches{ path{ exact=/a} method{ registered=GET}} matches{ path{ "
        "regex=/b/[0-9]+} headers{ name=x exact=yy} headers{ name=z regex=.*} query_params{ name=q "
        "exact=1} query_params{ name=w regex=w+} method{ unregistered=BREW}} filters{ "
        "request_header_modifier{ add{ headers{ name=d value=2}} set{ headers{ name=s value=1}} "
        "remove=gone}}}}");
    assert_has(text, "http_routes{ metadata=gateway.networking.k8s.io/HTTPRoute//young "
                     "authorizations{" EVERYWHERE ANYBODY OF("authorizationpolicy", "young-only"));
    assert_has(text, " rules{ matches{ path{ prefix=/}} filters{ redirect{ scheme{ "
                     "registered=HTTPS} host=a.example path{ prefix=/n} port=444 status=302}}}}");
    assert_true(strstr(text, "//old") < strstr(text, "//young"));
    assert_has_not(text, "metadata=default "); /* what no route matches is not found */
    asker_clear(&a);
}

static void grpc_routes_are_for_grpc_servers(void **state)
{
    struct engines *e = *state;
    struct asker a;

    server_open(e, &a, SERVER("gRPC", "deny"));
    put(e, "http.yaml", ROUTE(GATEWAY, "HTTPRoute", "h", "2026-01-01T00:00:00Z", "rules: []"));
    mark(e->f);
    assert_quiet(e, &a); /* of another protocol */
    put(e, "grpc.yaml",
        ROUTE(GATEWAY, "GRPCRoute", "g", "2026-01-01T00:00:00Z",
              "rules: [{matches: [{method: {service: a.B, method: C}, headers: [{name: x, value: "
              "yy}]}, {method: {service: a.D}}]}, {}]"));
    assert_has(answer(e, &a),
               "grpc{ routes{ metadata=gateway.networking.k8s.io/GRPCRoute//g rules{ matches{ "
               "rpc{ service=a.B method=C} headers{ name=x exact=yy}} matches{ rpc{ service=a.D}}} "
               "rules{ matches{}}}}");
    put(e, "grant.yaml",
        AUTHZ("p", "targetRef: {group: gateway.networking.k8s.io, kind: GRPCRoute, name: g}, "
                   "requiredAuthenticationRefs: []"));
    assert_has(answer(e, &a), "authorizations{" EVERYWHERE ANYBODY OF("authorizationpolicy", "p"));
    remove_file(e->f, "grpc.yaml");
    assert_has(answer(e, &a), "grpc{ routes{ metadata=default");
    asker_clear(&a);
}

/* What a port answers when one of its routes cannot be read, and what is said of it. */
struct unreadable {
    const char *rules, *reason;
};

static void unreadable_one(struct engines *e, struct asker *a, const struct unreadable *u,
                           const char *expected)
{
    char manifest[1024];

    (void)snprintf(manifest, sizeof(manifest),
                   ROUTE(GATEWAY, "HTTPRoute", "bad", "2026-01-01T00:00:00Z", "%s"), u->rules);
    put(e, "bad.yaml", manifest);
    assert_string_equal(answer(e, a), expected);
    assert_problem(e, "bad", u->reason);
    remove_file(e->f, "bad.yaml");
    (void)answer(e, a);
}

#define HTTP1_SERVER(routes)                                                                       \
    "{ protocol{ http1{" routes "}} authorizations{" EVERYWHERE ANYBODY                            \
    " labels[group=] labels[kind=default] labels[name=all-unauthenticated] "                       \
    "metadata=all-unauthenticated} labels[group=policy.linkerd.io] labels[kind=server] "           \
    "labels[name=web]}"

/* It may have been for any request: left out it would leave them to the default route and to the others,
 * which everybody may use here. */
static void a_route_that_may_be_for_anything_shuts_its_server(void **state)
{
    static const struct unreadable cases[] = {
        {"rules: [{matches: [{path: {type: RegularExpression, value: '('}}]}]", "regular"},
        {"rules: [{matches: [{path: {type: RegularExpression, value: '(a)\\1'}}]}]", "back-ref"},
        {"rules: [{matches: [{path: {type: Magic, value: /a}}]}]", "unknown type Magic"},
        {"rules: [{matches: [{path: {type: Exact, value: a}}]}]", "does not begin with /"},
        {"rules: [{matches: [{path: {value: 5}}]}]", "value is no text"},
        {"rules: [{matches: [{path: /a}]}]", "a path has no fields"},
        {"rules: [{matches: [/a]}]", "an entry without fields"},
        {"rules: [{matches: {path: {value: /a}}}]", "matches is no list"},
        {"rules: [{matches: [{method: [GET]}]}]", "method is no text"},
        {"rules: [{matches: [{headers: {name: a, value: b}}]}]", "headers is no list"},
        {"rules: [{matches: [{headers: [{value: a}]}]}]", "header match lacks"},
        {"rules: [{matches: [{queryParams: [{value: a}]}]}]", "query match lacks"},
        {"rules: {matches: []}", "rules is no list"},
        {"hostnames: ['a.*.b']", "hostname"},
        {"hostnames: a.b", "hostnames is no list"},
    };
    struct engines *e = *state;
    struct asker a;

    server_open(e, &a, SERVER("HTTP/1", "all-unauthenticated"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unreadable_one(
            e, &a, &cases[i],
            HTTP1_SERVER(" routes{ metadata=default rules{ matches{ path{ prefix=/}}}}"));
    }
    put(e, "good.yaml",
        ROUTE(GATEWAY, "HTTPRoute", "good", "2026-01-01T00:00:00Z", "rules: []"));
    (void)answer(e, &a);
    unreadable_one(e, &a, &cases[0],
                   HTTP1_SERVER(" routes{ metadata=default rules{ matches{ path{ prefix=/}}}}"));
    asker_clear(&a);
}

/* Its requests are known: nobody may make those. */
static void a_route_whose_filters_cannot_be_read_lets_nobody_in(void **state)
{
    static const struct unreadable cases[] = {
        {"rules: [{filters: [{type: URLRewrite}]}]", "URLRewrite is not supported"},
        {"rules: [{filters: {type: RequestRedirect}}]", "filters is no list"},
        {"rules: [{filters: [{type: ResponseHeaderModifier}]}]", "not supported on a Server"},
        {"rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: "
         "'a b', value: c}]}}]}]",
         "malformed field"},
        {"rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: "
         "a, value: \"b\\r\\nc: d\"}]}}]}]",
         "malformed field"},
        {"rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]}]",
         "malformed hostname, port or statusCode"},
        {"rules: [{filters: [{type: RequestRedirect, requestRedirect: {path: {}}}]}]",
         "says neither"},
        {"rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]}]", "scheme"},
    };
    struct engines *e = *state;
    struct asker a;

    server_open(e, &a, SERVER("HTTP/1", "all-unauthenticated"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unreadable_one(e, &a, &cases[i],
                       HTTP1_SERVER(" routes{ metadata=gateway.networking.k8s.io/HTTPRoute//bad "
                                    "rules{ matches{ path{ prefix=/}}}}"));
    }
    asker_clear(&a);
}

#define LIMITED(text)                                                                              \
    "local_rate_limit{ metadata=policy.linkerd.io/HTTPLocalRateLimitPolicy//l" text "}"

static void rate_limits(void **state)
{
    struct engines *e = *state;
    struct asker a;

    server_open(e, &a, SERVER("HTTP/2", "deny"));
    put(e, "l.yaml",
        RATE("l", ON_SERVER ", total: {requestsPerSecond: 100}, identity: {requestsPerSecond: "
                            "20}, overrides: [{requestsPerSecond: 50, clientRefs: [{kind: "
                            "ServiceAccount, name: sa, namespace: other}]}]"));
    assert_has(
        answer(e, &a),
        LIMITED(" total{ requestsPerSecond=100} identity{ requestsPerSecond=20} overrides{ "
                "limit{ requestsPerSecond=50} clients{ identities{ name=" ID("sa", "other") "}}}"));
    put(e, "m.yaml", RATE("m", ON_SERVER ", total: {requestsPerSecond: 1}"));
    assert_problem(e, "m", "older rate limit l");
    assert_quiet(e, &a);
    put(e, "l.yaml", RATE("l", ON_SERVER ", total: {requestsPerSecond: 0}"));
    assert_has_not(answer(e, &a), "local_rate_limit");
    assert_problem(e, "l", "no number above 0");
    put(e, "l.yaml",
        RATE("l", ON_SERVER ", total: {requestsPerSecond: 5}, identity: {requestsPerSecond: 6}"));
    assert_problem(e, "l", "exceeds the total of 5");
    put(e, "l.yaml", RATE("l", ON_SERVER));
    assert_problem(e, "l", "says neither");
    put(e, "l.yaml",
        RATE("l", ON_SERVER ", overrides: [{requestsPerSecond: 5, clientRefs: [{kind: Pod, name: "
                            "x}]}]"));
    assert_problem(e, "l", "no ServiceAccount");
    assert_quiet(e, &a);
    asker_clear(&a);
}

/* Other Servers', other namespaces' and unused objects wake nobody. */
static void events_touch_only_whom_they_concern(void **state)
{
    struct engines *e = *state;
    struct asker a, b;
    uint64_t before;

    server_open(e, &a, SERVER("opaque", "deny"));
    watch(e, &b, 9090); /* of no Server */
    (void)asker_next(e, &b);
    before = e->env.policy->computed;
    put(e, "x.yaml",
        SAZ("x", "server: {name: other}, client: {unauthenticated: true}")
            AUTHZ("ya", "targetRef: {group: policy.linkerd.io, kind: Server, name: other}, "
                        "requiredAuthenticationRefs: []") MESH_TLS("z", "identities: ['*']")
                NETWORKS("nets", "networks: [{cidr: 10.0.0.0/8}]")
                    ROUTE(GATEWAY, "TCPRoute", "t", "2026-01-01T00:00:00Z", "rules: []"));
    mark(e->f);
    assert_quiet(e, &a);
    assert_int_equal(e->env.policy->computed, before + 1); /* the route names the Server */
    put(e, "p.yaml", AUTHZ("p", ON_SERVER ", requiredAuthenticationRefs: []"));
    (void)asker_next(e, &a);
    mark(e->f);
    assert_int_equal(e->env.policy->computed, before + 2);
    assert_problem(e, "t", "TCPRoute has no effect on a Server");
    assert_problem(e, "x", "there is no Server default/other");
    assert_problem(e, "ya", "there is no Server default/other");
    asker_clear(&a);
    asker_clear(&b);
}

static void servers_that_say_odd_things(void **state)
{
    struct engines *e = *state;
    struct asker a;
    size_t count;

    server_open(e, &a, SERVER("opaque", "deny"));
    (void)policy_problems(e->env.policy, &count);
    assert_int_equal(count, 0);
    put(e, "server.yaml", SERVER("smtp", "deny"));
    assert_problem(e, "web", "proxyProtocol smtp");
    put(e, "server.yaml", SERVER("opaque", "nobody"));
    assert_problem(e, "web", "accessPolicy nobody");
    put(e, "server.yaml", POLICY("v1beta3", "Server", "web", SPEC("port: 8080")));
    assert_problem(e, "web", "exactly one of");
    put(e, "server.yaml", POLICY("v1beta3", "Server", "web", SPEC("port: 8080, podSelector: web")));
    assert_problem(e, "web", "its selector is malformed");
    put(e, "server.yaml", SERVER("opaque", "deny"));
    WAIT_UNTIL(e->f, (policy_problems(e->env.policy, &count), count == 0));
    asker_clear(&a);
}

/* More than a message may hold: shut, rather than left to the proxy's own default. */
static void answers_too_large_let_nobody_in(void **state)
{
    struct engines *e = *state;
    struct text t;
    struct asker a;

    server_open(e, &a, SERVER("HTTP/1", "all-unauthenticated"));
    text_init(&t, 16u << 20);
    text_str(&t, "{apiVersion: " GATEWAY ", kind: HTTPRoute, metadata: {name: r}, spec: "
                 "{parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}], rules: [");
    for (unsigned i = 0; i < 90; i++) {
        text_str(&t, "{matches: [{path: {value: '/");
        for (unsigned k = 0; k < 50000; k++) {
            text_char(&t, 'x');
        }
        text_str(&t, "'}}]}, ");
    }
    text_str(&t, "]}}");
    assert_int_equal(t.err, 0);
    put(e, "route.yaml", t.at);
    assert_string_equal(answer(e, &a),
                        "{ protocol{ http1{ routes{ metadata=default rules{ matches{ path{ "
                        "prefix=/}}}}}} labels[group=policy.linkerd.io] labels[kind=server] "
                        "labels[name=web]}");
    text_clear(&t);
    asker_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINES_TEST(server_authorizations_let_clients_in),
        ENGINES_TEST(malformed_grants_are_none),
        ENGINES_TEST(policies_require_all_of_their_references),
        ENGINES_TEST(policies_without_references_let_everybody_in),
        ENGINES_TEST(http_routes_have_their_own_authorizations),
        ENGINES_TEST(grpc_routes_are_for_grpc_servers),
        ENGINES_TEST(a_route_that_may_be_for_anything_shuts_its_server),
        ENGINES_TEST(a_route_whose_filters_cannot_be_read_lets_nobody_in),
        ENGINES_TEST(rate_limits),
        ENGINES_TEST(events_touch_only_whom_they_concern),
        ENGINES_TEST(servers_that_say_odd_things),
        ENGINES_TEST(answers_too_large_let_nobody_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
