# SPDX-License-Identifier: Apache-2.0
"""
A multicluster gateway (wire 4.6, 5.5, 11.1), with both of its sides in one home: Services without pods, whose
EndpointSlices say that they are mirrored from behind a gateway, as a mirror controller writes them; and the gateway, which
carries on requests and opaque connections to the Services that they name. What it lets through is up to the policy of its
inbound port, request by request.
"""
import contextlib
import json

import pytest

from home import APPS, UNMESHED, client, namespace, server, service, wait_for

HTTP, GRPC, WS, H2, ECHO, INBOUND = 8080, 8081, 8082, 8083, 9001, 4143
POLICY = "policy.linkerd.io"
ID = "{}.t.serviceaccount.identity.linkerd.cluster.local"
GATEWAY = {"config.linkerd.io/enable-gateway": "true"}
TARGETS = {"web": True, "plain": False}  # and whether it is meshed


def thing(kind, name, version="v1alpha1", **spec):
    return {"apiVersion": f"{POLICY}/{version}", "kind": kind, "metadata": {"name": name, "namespace": "t"}, "spec": spec}


def workloads():
    accounts = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "t"}}
                for name in ("friend", "stranger", "web", "gateway", "transit")]
    h2 = {"name": "h2", "image": "test/h2:dev", "command": ["node", str(APPS / "h2server.js"), str(H2)],
          "readinessProbe": {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{H2}"]}, "periodSeconds": 1}}
    roles = {"http": HTTP, "grpc": GRPC, "ws": WS, "echo": ECHO}
    return [
        namespace(), *accounts,
        *server("web", roles, (ECHO,), containers=[h2], more_ports=[H2], serviceAccountName="web"),
        *server("plain", roles, (ECHO,), containers=[h2], more_ports=[H2], annotations=UNMESHED),
        client("gateway", serviceAccountName="gateway", annotations=GATEWAY),
        client("transit", serviceAccountName="transit", annotations=GATEWAY),
        client("friend", serviceAccountName="friend"),
        client("stranger", serviceAccountName="stranger"),
        client("namesake", serviceAccountName="gateway"),  # it has the gateway's own identity
    ]


def mirror(home, name, remote, through="gateway"):
    """A Service that selects nothing, whose endpoint is the inbound port of the gateway, and what it is called behind that;
    as a mirror controller writes both."""
    ports = (HTTP, GRPC, WS, H2, ECHO)
    mirrored = service(name, ports, annotations={"config.linkerd.io/opaque-ports": str(ECHO)})
    del mirrored["spec"]["selector"]
    home.write(f"{name}.yaml", [mirrored, {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{name}-mirror", "namespace": "t", "labels": {"kubernetes.io/service-name": name},
                     "annotations": {"mirror.linkerd.io/remote-svc-fq-name": remote,
                                     "mirror.linkerd.io/remote-gateway-identity": ID.format(through)}},
        "ports": [{"name": f"p{port}", "port": INBOUND} for port in ports],
        "endpoints": [{"addresses": [home.pod("t", through)["ip"]], "conditions": {"ready": True}}]}])


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": workloads()})
    home.up()
    for name in TARGETS:
        mirror(home, f"{name}-west", f"{name}.t.svc.cluster.local")
    mirror(home, "far-west", "web.t.svc.cluster.example")
    # From the one gateway to the other and back again.
    mirror(home, "ring-1", "ring-2.t.svc.cluster.local")
    mirror(home, "ring-2", "ring-1.t.svc.cluster.local", through="transit")
    mirror(home, "no-gateway", "plain.t.svc.cluster.local", through="web")
    for name in TARGETS:
        wait_for(lambda: home.driver("t", "friend").answers(f"{name}-west", HTTP), f"{name} is there through the gateway")
    return home


@pytest.fixture(autouse=True)
def open_to_all(home):
    """Each test begins without a policy of the gateway's port."""
    yield
    home.write("policy.yaml", "")
    wait_for(lambda: all(home.driver("t", name).answers("web-west", HTTP) for name in ("friend", "stranger")),
             "the gateway lets everybody through")


def figures(home, name="gateway"):
    return home.proxy_metrics("t", home.pod("t", name)["name"])


def fields(message, name):
    return [value for key, value in message["headers"] if key.lower() == name]


def over_tcp(home, name, host, text="x"):
    """What comes back of it; nothing where the connection is closed."""
    try:
        with home.driver("t", name).session(host, ECHO) as s:
            s.send(text, finish=True)
            return s.receive()
    except AssertionError as problem:  # closed while we sent
        assert "Connection" in str(problem) or "not connected" in str(problem), problem
        return ""


def over_grpc(home, name, host):
    return home.driver("t", name).grpc(host=host, port=GRPC, method="Unary", asks=[{}])["code"]


def over_h2(home, name, host, *options):
    done = home.exec("t", name, "curl", "-s", "--http2-prior-knowledge", "-w", "\n%{http_code}", *options,
                     f"http://{host}:{H2}/")
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), body


# --- what is carried on --------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_requests(home, target):
    """They arrive as HTTP/1, told whence they came; who calls is what the last proxy before the application knows."""
    before = figures(home)
    answers = home.driver("t", "friend").http(host=f"{target}-west", port=HTTP, requests=[
        {"target": "/echo?a=b", "method": "POST", "body": "hello",
         "headers": [["L5d-Client-Id", "somebody.else"], ["Forwarded", "by=somebody.else;for=us"]]},
        {"target": "/echo?status=404"}])
    assert [a["status"] for a in answers] == [200, 404]
    seen = json.loads(answers[0]["body"])
    assert (seen["method"], seen["target"], seen["version"], seen["body"]) == ("POST", "/echo?a=b", "HTTP/1.1", "hello")
    name = f"{target}.t.svc.cluster.local:{HTTP}"
    assert fields(seen, "host") == [name]
    assert fields(seen, "forwarded") == [
        "by=somebody.else;for=us", f"by={ID.format('gateway')};for={ID.format('friend')};host={name};proto=https"]
    # A meshed application's own proxy was called by the gateway; where there is none the gateway's word stands.
    assert fields(seen, "l5d-client-id") == [ID.format("gateway" if TARGETS[target] else "friend")]
    for private in ("l5d-orig-proto", "l5d-dst-canonical", "l5d-require-id"):
        assert fields(seen, private) == []
    after = figures(home)
    mine = {"client_id": ID.format("friend"), "tls": "true"}
    for family, labels, moved in (
            ("inbound_http_authz_allow_total", {"target_port": str(INBOUND), **mine}, 2),
            ("inbound_http_authz_deny_total", {}, 0),
            ("inbound_http_errors_total", {}, 0),
            ("request_total", {"direction": "outbound", "authority": name}, 2),
            ("request_total", {"direction": "inbound", "target_port": str(INBOUND)}, 0),
            ("response_total", {"direction": "outbound", "authority": name, "status_code": "404",
                                "classification": "success"}, 1)):
        assert after.sum(family, **labels) - before.sum(family, **labels) == moved, (family, labels)
    assert after.sum("inbound_tcp_transport_header_connections_total", session_protocol="http/2",
                     target_name=f"{target}.t.svc.cluster.local", target_port=str(HTTP), client_id=ID.format("friend")) > 0
    assert after.sum("request_total", direction="outbound", authority=name, tls="true" if TARGETS[target] else "no_identity") > 0


@pytest.mark.parametrize("target", TARGETS)
def test_grpc_and_http2(home, target):
    assert over_grpc(home, "friend", f"{target}-west") == "OK"
    calls = home.driver("t", "friend").grpc(host=f"{target}-west", port=GRPC, method="Unary", asks=[{"code": 5}])
    assert calls["code"] != "OK"
    assert over_h2(home, "friend", f"{target}-west")[0] == 200


@pytest.mark.parametrize("target", TARGETS)
def test_an_upgrade(home, target):
    """It comes on a connection of HTTP/1 of its own, and both proxies let go of it."""
    with home.driver("t", "friend").session(f"{target}-west", WS) as s:
        s.send(f"GET /chat HTTP/1.1\r\nHost: {target}-west\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = s.receive(until="\r\n\r\n")
        assert head.startswith("HTTP/1.1 101 ") and "s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()
        s.send("\x81\x82\x00\x00\x00\x00hi")  # a masked text frame
        assert s.receive(bytes=4) == "\x81\x02hi"
    assert figures(home).sum("inbound_tcp_transport_header_connections_total", session_protocol="http/1",
                             target_name=f"{target}.t.svc.cluster.local", target_port=str(WS)) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_opaque_connections(home, target):
    name = f"{target}.t.svc.cluster.local"
    before = figures(home)
    assert over_tcp(home, "friend", f"{target}-west", "abc") == "abcbye"
    after = wait_for(lambda: (now := figures(home)).sum("tcp_close_total", direction="inbound", peer="src", errno="") >
                     before.sum("tcp_close_total", direction="inbound", peer="src", errno="") and now, "it is closed")
    for family, labels in (
            ("inbound_tcp_transport_header_connections_total", {"session_protocol": "", "target_name": name}),
            ("inbound_tcp_authz_allow_total", {"target_port": str(INBOUND), "client_id": ID.format("friend")}),
            ("outbound_tcp_route_open_total", {"parent_name": target, "parent_port": str(ECHO)}),
            ("tcp_open_total", {"direction": "outbound", "peer": "dst", "authority": f"{name}:{ECHO}"})):
        assert after.sum(family, **labels) - before.sum(family, **labels) == 1, (family, labels)


# --- what is not ---------------------------------------------------------------------------------


def test_a_loop_of_gateways(home):
    """Through both of them and back to the first, which finds its own name in the request: 508 all the way."""
    before = figures(home)
    answer = home.driver("t", "friend").get("ring-1", HTTP)
    assert answer["status"] == 508
    assert over_grpc(home, "friend", "ring-1") == "ABORTED"
    after = figures(home)
    for family, labels in (("inbound_http_errors_total", {"error": "gateway loop"}),
                           ("tulle_failures_total", {"hop": "inbound", "cause": "loop"})):
        assert after.sum(family, **labels) - before.sum(family, **labels) == 2, family
    assert after.sum("outbound_http_errors_total", error="gateway loop") == 0


def test_who_has_the_identity_of_the_gateway(home):
    """Would be carried on in a circle, as the real one sees it."""
    before = figures(home).sum("inbound_http_errors_total", error="gateway loop")
    assert home.driver("t", "namesake").get("web-west", HTTP)["status"] == 508
    assert figures(home).sum("inbound_http_errors_total", error="gateway loop") == before + 1


def test_names_that_are_not_served(home):
    host = "far-west"
    before = figures(home)
    assert home.driver("t", "friend").get(host, HTTP)["status"] == 404
    assert over_grpc(home, "friend", host) == "NOT_FOUND"
    assert over_h2(home, "friend", host)[0] == 404
    assert over_tcp(home, "friend", host) == ""
    after = figures(home)
    error = {"error": "gateway domain invalid"}
    assert after.sum("inbound_http_errors_total", **error) - before.sum("inbound_http_errors_total", **error) == 3
    assert after.sum("inbound_tcp_errors_total", **error) - before.sum("inbound_tcp_errors_total", **error) == 1
    assert after.sum("tulle_failures_total", hop="inbound", cause="gateway_domain") >= 4


def test_a_proxy_that_is_no_gateway(home):
    """It closes the connection, whatever is inside."""
    assert home.driver("t", "friend").get("no-gateway", HTTP)["status"] in (502, 504)
    assert over_tcp(home, "friend", "no-gateway") == ""
    assert figures(home, "web").sum("inbound_tcp_errors_total", error="gateway domain invalid") > 0
    assert figures(home, "web").sum("inbound_http_errors_total", error="gateway domain invalid") == 0


# --- who may -------------------------------------------------------------------------------------


def gateway_server(access="deny"):
    return thing("Server", "gateway", "v1beta3", podSelector={"matchLabels": {"app": "gateway"}}, port="linkerd-proxy",
                 accessPolicy=access)


def authn(name):
    return thing("MeshTLSAuthentication", name, identities=[ID.format(name)])


def allow(name, kind="Server", target="gateway"):
    return thing("AuthorizationPolicy", f"{name}-{target}", targetRef={"group": POLICY, "kind": kind, "name": target},
                 requiredAuthenticationRefs=[{"group": POLICY, "kind": "MeshTLSAuthentication", "name": name}])


def route(name, path, *filters):
    return thing("HTTPRoute", name, "v1beta3", parentRefs=[{"group": POLICY, "kind": "Server", "name": "gateway"}],
                 rules=[{"matches": [{"path": {"type": "PathPrefix", "value": path}}], "filters": list(filters)}])


def status(home, name, path="/echo"):
    return home.driver("t", name).get("web-west", HTTP, path)["status"]


def test_the_policy_of_its_port(home):
    home.write("policy.yaml", [gateway_server(), authn("friend"), allow("friend")])
    # Its objects come one after the other: for a moment nobody may.
    wait_for(lambda: status(home, "stranger") == 403 and status(home, "friend") == 200, "the policy holds")
    assert (over_grpc(home, "friend", "web-west"), over_grpc(home, "stranger", "web-west")) == ("OK", "PERMISSION_DENIED")
    assert (over_h2(home, "friend", "web-west")[0], over_h2(home, "stranger", "web-west")[0]) == (200, 403)
    before = figures(home)
    assert (over_tcp(home, "friend", "web-west"), over_tcp(home, "stranger", "web-west")) == ("xbye", "")
    assert status(home, "stranger") == 403
    # Who may not learns nothing of what there is.
    assert home.driver("t", "stranger").get("far-west", HTTP)["status"] == 403
    after = figures(home)
    server = {"srv_kind": "server", "srv_name": "gateway", "target_port": str(INBOUND)}
    for family, name, moved in (("inbound_tcp_authz_allow_total", "friend", 1), ("inbound_tcp_authz_deny_total", "stranger", 1),
                                ("inbound_http_authz_deny_total", "stranger", 2)):
        labels = {**server, "client_id": ID.format(name)}
        assert after.sum(family, **labels) - before.sum(family, **labels) == moved, family
    assert after.sum("inbound_http_authz_allow_total", authz_name="friend-gateway", **server) > 0


def test_routes_of_its_port(home):
    """Requests of one connection are each taken by its own route, and let in by that; filters are applied here."""
    edit = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-gate", "value": "by the gateway"}]}}
    move = {"type": "RequestRedirect", "requestRedirect": {"hostname": "other.example", "statusCode": 302}}
    home.write("policy.yaml", [
        gateway_server(), authn("friend"), authn("stranger"), route("echo", "/echo", edit), route("sink", "/sink"),
        route("old", "/old", move), allow("friend"), allow("stranger", "HTTPRoute", "sink")])
    wait_for(lambda: status(home, "friend", "/progress") == 404, "the routes hold")
    wait_for(lambda: status(home, "stranger", "/sink") == 200, "the route is open to the stranger")
    before = figures(home)
    asked = [{"target": path} for path in ("/echo", "/sink", "/progress", "/old", "/echo")]
    answers = {name: home.driver("t", name).http(host="web-west", port=HTTP, requests=asked) for name in ("friend", "stranger")}
    assert [a["status"] for a in answers["friend"]] == [200, 200, 404, 302, 200]
    assert [a["status"] for a in answers["stranger"]] == [403, 200, 404, 403, 403]
    assert fields(json.loads(answers["friend"][0]["body"]), "x-gate") == ["by the gateway"]
    after = figures(home)
    for family, labels, moved in (
            ("inbound_http_authz_allow_total", {"route_name": "echo"}, 2),
            ("inbound_http_authz_allow_total", {"route_name": "sink"}, 2),
            ("inbound_http_authz_deny_total", {"route_name": "echo"}, 2),
            ("inbound_http_authz_deny_total", {"route_name": "old"}, 1),
            ("inbound_http_route_not_found_total", {}, 2)):
        labels = {"srv_name": "gateway", **labels}
        assert after.sum(family, **labels) - before.sum(family, **labels) == moved, (family, labels)


def test_the_rate_limit_of_its_port(home):
    limit = thing("HTTPLocalRateLimitPolicy", "limit", targetRef={"group": POLICY, "kind": "Server", "name": "gateway"},
                  identity={"requestsPerSecond": 1})
    home.write("policy.yaml", [gateway_server("all-authenticated"), limit])
    figure = {"ratelimit_name": "limit", "ratelimit_scope": "identity", "client_id": ID.format("friend")}
    wait_for(lambda: 429 in [a["status"] for a in home.driver("t", "friend").http(host="web-west", port=HTTP, requests=[{}] * 5)],
             "the limit holds")
    assert figures(home).sum("inbound_http_local_ratelimit_total", **figure) > 0


def test_a_change_reaches_connections_that_are_open(home):
    who = [authn("friend"), allow("friend")]
    home.write("policy.yaml", [gateway_server("all-authenticated"), *who])
    wait_for(lambda: over_tcp(home, "friend", "web-west") and figures(home).find(
        "inbound_tcp_authz_allow_total", srv_name="gateway", authz_name="friend-gateway"), "the policy holds")
    before = figures(home).sum("inbound_tcp_authz_terminate_total", srv_name="gateway")
    with contextlib.ExitStack() as stack:
        tunnels = {name: stack.enter_context(home.driver("t", name).session("web-west", ECHO)) for name in ("friend", "stranger")}
        requests = stack.enter_context(home.driver("t", "stranger").session("web-west", HTTP))

        def next_status():
            requests.send("GET /echo HTTP/1.1\r\nHost: web-west\r\n\r\n")
            return requests.response()["status"]

        for tunnel in tunnels.values():
            tunnel.send("a")
            assert tunnel.receive(bytes=1) == "a"
        assert next_status() == 200
        home.write("policy.yaml", [gateway_server(), *who])
        with contextlib.suppress(AssertionError):  # ended by a reset
            assert tunnels["stranger"].receive() == ""
        wait_for(lambda: next_status() == 403, "the connection's next request is refused")
        tunnels["friend"].send("b")
        assert tunnels["friend"].receive(bytes=1) == "b"
    wait_for(lambda: figures(home).sum("inbound_tcp_authz_terminate_total", srv_name="gateway") == before + 1, "its end is counted")
