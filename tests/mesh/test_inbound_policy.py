# SPDX-License-Identifier: Apache-2.0
"""
Who may call a server: every kind of authorization, over HTTP/1, HTTP/2, gRPC and opaque TCP; probes; audit; rate
limits; and what a change of policy does to connections that are open.
"""
import concurrent.futures
import contextlib
import json
import time

import pytest

from home import APPS, UNMESHED, client, namespace, server, wait_for

HTTP, GRPC, H2, ECHO = 8080, 8081, 8083, 9001
POLICY = "policy.linkerd.io"
PORTS = {"http": (HTTP, "HTTP/1"), "grpc": (GRPC, "gRPC"), "h2": (H2, "HTTP/2"), "opaque": (ECHO, "opaque")}
ID = "{}.t.serviceaccount.identity.linkerd.cluster.local"


def thing(kind, name, version="v1alpha1", **spec):
    return {"apiVersion": f"{POLICY}/{version}", "kind": kind, "spec": spec,
            "metadata": {"name": name, "namespace": "t", "labels": {"of": "server"}}}


def servers(access="deny", ports=PORTS):
    return [thing("Server", name, "v1beta3", podSelector={"matchLabels": {"app": "server"}}, port=port,
                  proxyProtocol=protocol, accessPolicy=access) for name, (port, protocol) in ports.items()]


def allow(name, **who):
    """A ServerAuthorization for all of them."""
    return thing("ServerAuthorization", name, "v1beta1", server={"selector": {"matchLabels": {"of": "server"}}}, client=who)


def workloads():
    accounts = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "t"}}
                for name in ("friend", "stranger", "server")]
    h2 = {"name": "h2", "image": "test/h2:dev", "command": ["node", str(APPS / "h2server.js"), str(H2)],
          "readinessProbe": {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{H2}"]}, "periodSeconds": 1}}
    probe = {"name": "probed", "image": "test/pause:dev", "command": ["sleep", "infinity"],
             "livenessProbe": {"httpGet": {"port": HTTP, "path": "/progress?id=probe"}, "periodSeconds": 1,
                               "failureThreshold": 1000}}
    return [
        namespace(), *accounts,
        *server("server", {"http": HTTP, "grpc": GRPC, "echo": ECHO}, (ECHO,), containers=[h2, probe],
                more_ports=[H2], serviceAccountName="server"),
        client("friend", serviceAccountName="friend"),
        client("stranger", serviceAccountName="stranger"),
        client("outsider", annotations=UNMESHED),
    ]


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": workloads(), "policy.yaml": servers()})
    home.up()
    return home


def figures(home):
    return home.proxy_metrics("t", home.pod("t", "server")["name"])


def proxy_log(home):
    """A call site writes so many lines a second and no more: look again for what may have been held back."""
    return home.log("t", home.pod("t", "server")["name"], "linkerd-proxy")


# --- what a client can do ------------------------------------------------------------------------


def over_http(home, name):
    return home.driver("t", name).get("server", HTTP)["status"]


def over_h2(home, name):
    done = home.exec("t", name, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                            "--http2-prior-knowledge", f"http://server:{H2}/")
    return int(done.stdout)


def over_grpc(home, name):
    return home.driver("t", name).grpc(host="server", port=GRPC, method="Unary", asks=[{}])["code"]


def over_tcp(home, name):
    try:
        with home.driver("t", name).session("server", ECHO) as s:
            s.send("x", finish=True)
            return s.receive()
    except AssertionError as problem:  # closed while we sent
        assert "Connection" in str(problem) or "not connected" in str(problem), problem
        return ""


WAYS = {"http": (over_http, 200, 403), "h2": (over_h2, 200, 403), "grpc": (over_grpc, "OK", "PERMISSION_DENIED"),
        "opaque": (over_tcp, "xbye", "")}
CLIENTS = ("friend", "stranger", "outsider")


def may(home, way):
    """Which clients are let in. Who is not gets the answer that says so, and nothing else."""
    do, yes, no = WAYS[way]
    let_in = set()
    for name in CLIENTS:
        answer = do(home, name)
        assert answer in (yes, no), (name, answer)
        if answer == yes:
            let_in.add(name)
    return let_in


def set_policy(home, *objects, **options):
    home.write("policy.yaml", [*servers(**options), *objects])


@pytest.mark.parametrize("who, expected", [
    pytest.param({"unauthenticated": True}, {"friend", "stranger", "outsider"}, id="unauthenticated"),
    pytest.param({"meshTLS": {"unauthenticatedTLS": True}}, {"friend", "stranger"}, id="meshTLS-unauthenticated"),
    pytest.param({"meshTLS": {"identities": ["*"]}}, {"friend", "stranger"}, id="any-identity"),
    pytest.param({"meshTLS": {"identities": [ID.format("friend")]}}, {"friend"}, id="identity"),
    pytest.param({"meshTLS": {"identities": ["*.t.serviceaccount.identity.linkerd.cluster.local"]}},
                 {"friend", "stranger"}, id="suffix"),
    pytest.param({"meshTLS": {"identities": ["*.u.serviceaccount.identity.linkerd.cluster.local"]}}, set(),
                 id="other-suffix"),
    pytest.param({"meshTLS": {"serviceAccounts": [{"name": "stranger"}]}}, {"stranger"}, id="service-account"),
    pytest.param({"networks": "all-but-friend", "unauthenticated": True}, {"stranger", "outsider"},
                 id="networks-with-except"),
    pytest.param({"networks": "elsewhere", "unauthenticated": True}, set(), id="other-network"),
    pytest.param(None, set(), id="nobody"),
])
def test_authorizations(home, who, expected):
    if who is not None:
        who = dict(who)
        if who.get("networks") == "all-but-friend":
            ips = home.exec("t", "friend", "hostname", "-I").stdout.split()
            who["networks"] = [{"cidr": "10.0.0.0/8", "except": [f"{ip}/32" for ip in ips if "." in ip]},
                               {"cidr": "fd00::/8", "except": [f"{ip}/128" for ip in ips if ":" in ip]}]
        elif who.get("networks") == "elsewhere":
            who["networks"] = [{"cidr": "192.0.2.0/24"}]
    set_policy(home, *([allow("who", **who)] if who is not None else []))
    wait_for(lambda: may(home, "http") == expected, "the policy holds for HTTP/1")
    for way in WAYS:
        wait_for(lambda: may(home, way) == expected, f"the policy holds for {way}")
    before = figures(home)
    assert may(home, "http") == expected and may(home, "opaque") == expected
    after = figures(home)
    http = {"target_port": str(HTTP), "route_name": "default"}
    for name, labels, count in (
            ("inbound_http_authz_allow_total", http, len(expected)),
            ("inbound_http_authz_deny_total", http, len(CLIENTS) - len(expected)),
            ("inbound_tcp_authz_allow_total", {"target_port": str(ECHO)}, len(expected)),
            ("inbound_tcp_authz_deny_total", {"target_port": str(ECHO)}, len(CLIENTS) - len(expected))):
        had, has = (m.sum(name, srv_kind="server", **labels) for m in (before, after))
        assert has - had == count, (name, had, has)
    allowed = after.find("inbound_http_authz_allow_total", authz_kind="serverauthorization", authz_name="who",
                         target_port=str(HTTP))
    assert allowed or not expected


def test_a_denied_request_leaves_the_connection(home):
    set_policy(home, allow("who", meshTLS={"identities": [ID.format("friend")]}))
    wait_for(lambda: may(home, "http") == {"friend"}, "the policy holds")
    answers = home.driver("t", "outsider").http(host="server", port=HTTP, requests=[{}] * 3)
    assert [(a["status"], a["body"]) for a in answers] == [(403, "")] * 3


def denied(home, *words):
    return [line for line in proxy_log(home).splitlines()
            if " cause=denied " in line and all(f" {word} " in line for word in words)]


def test_a_denial_names_the_client_the_server_and_the_route(home):
    set_policy(home, allow("who", meshTLS={"identities": [ID.format("friend")]}), http_route("hidden", rule("/sink")),
               *allow_route("hidden", ID.format("nobody")), allow("all", unauthenticated=True))
    wait_for(lambda: over_tcp(home, "outsider"), "everybody may at first")
    set_policy(home, http_route("hidden", rule("/sink")), *allow_route("hidden", ID.format("nobody")))
    for way, server in (("http", "http"), ("opaque", "opaque")):
        for name, who in (("stranger", f"client_id={ID.format('stranger')}"), ("outsider", "client_id=-")):
            where = [who, f"server=server/{server}", *(["route=HTTPRoute/hidden"] if way == "http" else [])]

            def is_told():
                if way == "http":
                    home.driver("t", name).get("server", HTTP, "/sink")
                else:
                    over_tcp(home, name)
                return denied(home, *where)
            wait_for(is_told, f"{way}: {where}")


# --- changes -------------------------------------------------------------------------------------


def test_a_change_reaches_connections_that_are_open(home):
    """Requests from the next one on; a tunnel that is not allowed any more ends, and one that is goes on."""
    everybody = allow("who", unauthenticated=True)
    set_policy(home, everybody)
    wait_for(lambda: may(home, "opaque") == set(CLIENTS) == may(home, "http"), "everybody may")
    before = figures(home).sum("inbound_tcp_authz_terminate_total")
    with contextlib.ExitStack() as stack:
        tunnels = {name: stack.enter_context(home.driver("t", name).session("server", ECHO)) for name in CLIENTS}
        requests = stack.enter_context(home.driver("t", "outsider").session("server", HTTP))

        def status():
            requests.send("GET /echo HTTP/1.1\r\nHost: server\r\n\r\n")
            return requests.response()["status"]

        for tunnel in tunnels.values():
            tunnel.send("a")
            assert tunnel.receive(bytes=1) == "a"
        assert status() == 200
        set_policy(home, allow("who", meshTLS={"identities": [ID.format("friend")]}))
        for name in ("stranger", "outsider"):
            with contextlib.suppress(AssertionError):  # ended by a reset
                assert tunnels[name].receive() == ""
        wait_for(lambda: status() == 403, "the connection's next request is refused")
        tunnels["friend"].send("b")
        assert tunnels["friend"].receive(bytes=1) == "b"
    wait_for(lambda: figures(home).sum("inbound_tcp_authz_terminate_total") == before + 2, "both ends are counted")


# --- probes, audit -------------------------------------------------------------------------------


def test_probes_pass_a_server_that_denies_everybody(home):
    """Wire 9.4: as long as the server has no route of a user. Its pod stays alive meanwhile."""
    set_policy(home)
    wait_for(lambda: may(home, "http") == set(), "nobody may")
    answer = home.driver("t", "outsider").get("server", HTTP, "/progress")
    assert answer["status"] == 200
    assert home.driver("t", "outsider").get("server", HTTP, "/progress", method="POST", body="x")["status"] == 403
    assert figures(home).sum("inbound_http_authz_allow_total", route_name="probe", authz_name="probe") > 0
    assert home.pod("t", "server")["ready"]


def test_audit(home):
    """Everybody is let in, who would not be is told of."""
    friend = allow("who", meshTLS={"identities": [ID.format("friend")]})
    set_policy(home, friend)
    for way in WAYS:
        wait_for(lambda: may(home, way) == {"friend"}, f"the friend is known for {way}")
    set_policy(home, friend, access="audit")
    for way in WAYS:
        wait_for(lambda: may(home, way) == set(CLIENTS), f"audit holds for {way}")

    def audited(*words):
        return [line for line in proxy_log(home).splitlines()
                if "allowed by an audit policy" in line and all(word in line for word in words)]

    wait_for(lambda: may(home, "http") and audited("request allowed", f"client_id={ID.format('stranger')}"), "requests")
    wait_for(lambda: may(home, "opaque") and audited("connection allowed", f"port={ECHO}"), "connections")
    assert not audited(f"client_id={ID.format('friend')}")
    now = figures(home)
    for name in ("inbound_http_authz_allow_total", "inbound_tcp_authz_allow_total"):
        assert now.sum(name, authz_kind="default", authz_name="audit") > 0
        assert now.sum(name, authz_name="who", client_id=ID.format("friend")) > 0


# --- routes --------------------------------------------------------------------------------------


def http_route(name, *rules, version="v1beta3", kind="HTTPRoute", to="http"):
    return thing(kind, name, version, parentRefs=[{"group": POLICY, "kind": "Server", "name": to}], rules=list(rules))


def rule(path, *filters, **match):
    return {"matches": [{"path": {"type": "PathPrefix", "value": path}, **match}], "filters": list(filters)}


def allow_route(name, identity):
    """Who may use this route alone."""
    authn = thing("MeshTLSAuthentication", name, identities=[identity])
    return [authn, thing("AuthorizationPolicy", name, targetRef={"group": POLICY, "kind": "HTTPRoute", "name": name},
                         requiredAuthenticationRefs=[{"group": POLICY, "kind": "MeshTLSAuthentication", "name": name}])]


def test_routes_and_their_filters(home):
    edit = {"type": "RequestHeaderModifier", "requestHeaderModifier": {
        "set": [{"name": "x-set", "value": "by the route"}], "add": [{"name": "x-add", "value": "more"}],
        "remove": ["x-gone"]}}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "other.example", "statusCode": 302}}
    set_policy(home, allow("who", meshTLS={"identities": [ID.format("friend")]}),
               http_route("edit", rule("/echo", edit)), http_route("move", rule("/old", redirect)),
               http_route("strangers", rule("/sink")), *allow_route("strangers", ID.format("stranger")))

    def ask(name, path, **request):
        return home.driver("t", name).get("server", HTTP, path, **request)

    wait_for(lambda: ask("friend", "/elsewhere")["status"] == 404, "the routes hold")
    seen = json.loads(ask("friend", "/echo", headers=[["X-Gone", "1"], ["X-Set", "mine"], ["X-Add", "one"]])["body"])
    have = [(key.lower(), value) for key, value in seen["headers"]]
    assert [value for key, value in have if key == "x-set"] == ["by the route"]
    assert sorted(value for key, value in have if key == "x-add") == ["more", "one"]
    assert "x-gone" not in dict(have)
    moved = ask("friend", "/old/x?y=1")
    assert moved["status"] == 302
    assert dict((k.lower(), v) for k, v in moved["headers"])["location"].endswith("other.example/old/x?y=1")
    for name in ("stranger", "outsider"):  # where to is told to those who may call
        assert ask(name, "/old/x?y=1")["status"] == 403
    assert ask("outsider", "/echo")["status"] == 403
    assert [ask(name, "/sink", method="POST", body="x")["status"] for name in CLIENTS] == [200, 200, 403]
    assert ask("stranger", "/echo")["status"] == 403
    now = figures(home)
    assert now.sum("inbound_http_route_not_found_total", srv_name="http") > 0
    assert now.sum("inbound_http_authz_allow_total", route_name="strangers", authz_name="strangers",
                   client_id=ID.format("stranger")) == 1
    server_of = {"parent_group": POLICY, "parent_kind": "server", "parent_name": "http", "parent_port": str(HTTP),
                 "route_group": POLICY, "route_kind": "HTTPRoute"}
    assert now.sum("inbound_http_requests_total", route_name="strangers", **server_of) == 2
    assert now.sum("inbound_http_statuses_total", route_name="strangers", status="200", **server_of) == 2
    assert now.sum("inbound_http_request_duration_seconds_count", route_name="strangers", **server_of) == 2
    assert now.sum("inbound_http_request_frame_size_bytes_sum", route_name="strangers", **server_of) == 2
    assert now.sum("inbound_http_requests_total", route_name="move") == 0


def test_a_route_that_cannot_be_read_lets_nobody_past_it(home):
    """Left out it would leave its requests to a route that everybody may use, or to the default one."""
    everybody = allow("who", unauthenticated=True)
    public, secret = http_route("public", rule("/")), http_route("secret", rule("/sink"))
    broken = http_route("secret", {"matches": [{"path": {"type": "RegularExpression", "value": "/(sink"}}]})
    unfiltered = http_route("secret", rule("/sink", {"type": "URLRewrite"}))

    def answers():
        return {path: home.driver("t", "outsider").get("server", HTTP, path)["status"] for path in ("/echo", "/sink", "/progress")}

    for routes, want in (
            ([secret], {"/echo": 404, "/sink": 200, "/progress": 404}),
            # Which requests it is for nobody knows: all of them. Probes go on (wire 9.4).
            ([broken], {"/echo": 403, "/sink": 403, "/progress": 200}),
            ([public, broken], {"/echo": 403, "/sink": 403, "/progress": 200}),
            ([public, unfiltered], {"/echo": 200, "/sink": 403, "/progress": 200}),
            ([public, secret], {"/echo": 200, "/sink": 200, "/progress": 200})):
        set_policy(home, everybody, *routes)
        wait_for(lambda: answers() == want, lambda: f"{want} with {[r['metadata']['name'] for r in routes]}; {answers()}")
    set_policy(home)
    wait_for(lambda: over_http(home, "friend") == 403, "the default route is back")


def test_who_may_only_use_a_route_and_is_silent(home):
    """What its proxy opens early is opaque, and refused as that; its request is let in all the same (docs/metrics.md)."""
    set_policy(home, http_route("strangers", rule("/sink")), *allow_route("strangers", ID.format("stranger")))
    wait_for(lambda: home.driver("t", "stranger").get("server", HTTP, "/sink")["status"] == 200, "the route is there")
    wait_for(lambda: home.driver("t", "friend").get("server", HTTP, "/sink")["status"] == 403, "and for nobody else")
    mine = {"target_port": str(HTTP), "client_id": ID.format("stranger")}
    before = figures(home)
    with home.driver("t", "stranger").session("server", HTTP) as s:
        wait_for(lambda: figures(home).sum("inbound_tcp_authz_deny_total", **mine) >
                 before.sum("inbound_tcp_authz_deny_total", **mine), "the connection for a greeting is refused")
        s.send("GET /sink HTTP/1.1\r\nHost: server\r\n\r\n")
        assert s.response()["status"] == 200
    after = figures(home)
    for name, moved in (("inbound_tcp_authz_deny_total", 1), ("inbound_tcp_authz_allow_total", 0),
                        ("inbound_http_authz_deny_total", 0), ("inbound_http_authz_allow_total", 1)):
        assert after.sum(name, **mine) - before.sum(name, **mine) == moved, name
    stranger = home.proxy_metrics("t", home.pod("t", "stranger")["name"])
    assert stranger.sum("tulle_tcp_detect_early_total", direction="outbound", outcome="failed", target_port=str(HTTP)) == 1
    set_policy(home)
    wait_for(lambda: over_http(home, "friend") == 403, "the default route is back")


@pytest.mark.parametrize("path, want", [
    pytest.param({"value": "/echo"}, [200, 200, 404, 404], id="no-type"),
    pytest.param({"type": "PathPrefix", "value": "/echo"}, [200, 200, 404, 404], id="prefix"),
    pytest.param({"type": "Exact", "value": "/echo"}, [200, 404, 404, 404], id="exact"),
])
def test_what_no_rule_matches_is_not_found(home, path, want):
    """Once a Server has a route there is no default one, whoever may call it. A path has a type that may be left out."""
    set_policy(home, access="all-unauthenticated")
    wait_for(lambda: may(home, "http") == set(CLIENTS), "everybody may, without a route")
    set_policy(home, http_route("echo", {"matches": [{"path": path}]}), access="all-unauthenticated")
    for name in CLIENTS:
        def asked():
            return [home.driver("t", name).get("server", HTTP, path)["status"]
                    for path in ("/echo", "/echo/x", "/other", "/")]
        wait_for(lambda: asked()[2] == 404, "the route holds")
        assert asked() == want


def test_grpc_routes(home):
    """Of a gRPC server's routes: PERMISSION_DENIED where nobody may, NOT_FOUND where there is none."""
    method = {"matches": [{"method": {"service": "tulle.Test", "method": "Unary"}}]}
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute",
             "metadata": {"name": "unary", "namespace": "t"},
             "spec": {"parentRefs": [{"group": POLICY, "kind": "Server", "name": "grpc"}], "rules": [method]}}
    set_policy(home, allow("who", meshTLS={"identities": [ID.format("friend")]}), route)

    def ask(name, method="Unary", asks=({},)):
        return home.driver("t", name).grpc(host="server", port=GRPC, method=method, asks=list(asks))["code"]

    wait_for(lambda: ask("friend", "ServerStream", [{"count": 1}]) == "NOT_FOUND", "the route holds")
    assert [ask(name) for name in CLIENTS] == ["OK", "PERMISSION_DENIED", "PERMISSION_DENIED"]
    now = figures(home)
    assert now.sum("inbound_grpc_requests_total", parent_name="grpc", route_name="unary") == 1
    assert now.sum("inbound_grpc_statuses_total", parent_name="grpc", route_name="unary", status="0") == 1


# --- rate limits ---------------------------------------------------------------------------------


def limit(name, server_name, **spec):
    return thing("HTTPLocalRateLimitPolicy", name, targetRef={"group": POLICY, "kind": "Server", "name": server_name},
                 **spec)


def rps(n):
    return {"requestsPerSecond": n}


def refused(home, scope, **labels):
    return figures(home).sum("inbound_http_local_ratelimit_total", ratelimit_kind="HTTPLocalRateLimitPolicy",
                             ratelimit_scope=scope, **labels)


def statuses(home, name, count, path="/echo"):
    """So many requests at once, over connections that both workers get."""
    driver = home.driver("t", name)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = list(pool.map(lambda _: driver.http(host="server", port=HTTP, requests=[{"target": path}] * (count // 4)),
                              range(4)))
    return [answer["status"] for part in parts for answer in part]


def test_a_total(home):
    """Over all workers together no more than the rate, and a burst of one second's worth."""
    set_policy(home, limit("few", "http", total=rps(5)), access="all-unauthenticated")
    wait_for(lambda: 429 in statuses(home, "outsider", 40), "the limit holds")
    before = refused(home, "total", ratelimit_name="few", srv_name="http")
    began = time.monotonic()
    seen = statuses(home, "outsider", 400)
    took = time.monotonic() - began
    assert set(seen) <= {200, 429} and seen.count(429) > 0
    assert seen.count(200) <= 5 * (took + 1)
    assert refused(home, "total", ratelimit_name="few", srv_name="http") == before + seen.count(429)
    assert figures(home).sum("tulle_failures_total", cause="rate_limit") > 0
    assert set(statuses(home, "outsider", 40, "/progress")) == {200}, "a probe has no limit"
    assert home.pod("t", "server")["ready"]
    wait_for(lambda: statuses(home, "outsider", 40) and "cause=rate_limit" in proxy_log(home), "it is said in the log")


def test_each_identity_and_an_override(home):
    """One client's excess is not another's; who is named by an override has that one's limit."""
    override = {**rps(100000), "clientRefs": [{"kind": "ServiceAccount", "name": "friend"}]}
    set_policy(home, limit("each", "http", identity=rps(2), overrides=[override]), access="all-unauthenticated")
    wait_for(lambda: 429 in statuses(home, "stranger", 8), "the limit holds")
    assert set(statuses(home, "friend", 200)) == {200}
    before = refused(home, "identity", ratelimit_name="each")
    seen = statuses(home, "outsider", 200)
    assert seen.count(200) >= 1 and seen.count(429) > 0
    assert refused(home, "identity", ratelimit_name="each") == before + seen.count(429)
    override["requestsPerSecond"] = 1
    set_policy(home, limit("each", "http", identity=rps(100000), overrides=[override]), access="all-unauthenticated")
    wait_for(lambda: 429 in statuses(home, "friend", 8), "the override limits")
    assert set(statuses(home, "stranger", 200)) == {200}
    assert refused(home, "override", ratelimit_name="each", client_id=ID.format("friend")) > 0
