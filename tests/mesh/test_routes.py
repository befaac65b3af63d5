# SPDX-License-Identifier: Apache-2.0
"""
Client-side routing: HTTPRoutes, GRPCRoutes and annotations, as users write them, through the control plane and two
sidecars to real servers. What the server got, what the client got and what the client's proxy counted must agree.
"""
import json

import pytest

from home import client, namespace, server, service, wait_for

HTTP, GRPC = 8080, 8081
GATEWAY, POLICY = "gateway.networking.k8s.io/v1", "policy.linkerd.io/v1beta3"
ROUTE = "outbound_http_route_"


def route(name, parent, rules, kind="HTTPRoute", api=GATEWAY, annotations=None, port=HTTP, ns="t", **spec):
    return {"apiVersion": api, "kind": kind,
            "metadata": {"name": name, "namespace": ns, "annotations": annotations or {}},
            "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": parent, "namespace": "t", "port": port}],
                     "rules": rules, **spec}}


def to(name, port=HTTP, **more):
    return {"name": name, "port": port, **more}


def edits(kind, **how):
    """A filter; set={"x-a": "1"}, add likewise, remove=[...]."""
    said = {key: value if key == "remove" else [{"name": k, "value": v} for k, v in value.items()]
            for key, value in how.items()}
    return {"type": f"{kind}HeaderModifier", f"{kind[0].lower()}{kind[1:]}HeaderModifier": said}


def redirect(**how):
    return {"type": "RequestRedirect", "requestRedirect": how}


def tagged(tag, *matches):
    """A rule that tells the client that it was the one."""
    return {"matches": list(matches), "filters": [edits("Response", set={"x-rule": tag})],
            "backendRefs": [to("matches")]}


def path(kind, value, **more):
    return {"path": {"type": kind, "value": value}, **more}


MATCHES = [
    tagged("prefix", path("PathPrefix", "/echo")),
    tagged("deep", path("PathPrefix", "/echo/deep")),
    tagged("exact", path("Exact", "/echo/deep/er")),
    tagged("regex", path("RegularExpression", "/n/[0-9]+")),
    tagged("header", path("PathPrefix", "/echo", headers=[{"name": "X-Kind", "value": "a"}])),
    tagged("headers", path("PathPrefix", "/echo", headers=[
        {"name": "X-Kind", "value": "a"}, {"name": "x-more", "type": "RegularExpression", "value": "[a-z]+"}])),
    tagged("query", path("PathPrefix", "/echo", queryParams=[{"name": "q", "value": "1"}])),
    tagged("method", path("PathPrefix", "/echo", method="PUT")),
    tagged("either", path("Exact", "/one"), path("Exact", "/two")),
]

ROUTES = [
    route("matches", "matches", MATCHES),
    route("host", "matches", [tagged("host", path("PathPrefix", "/"))], hostnames=["named.example"]),
    route("hosts", "matches", [tagged("hosts", path("PathPrefix", "/"))], hostnames=["*.example"]),
    route("edits", "edits", api=POLICY, rules=[{
        "filters": [edits("Request", set={"x-set": "route"}, add={"x-add": "route"}, remove=["x-gone"]),
                    edits("Response", add={"x-answer": "route"}, remove=["server-name"])],
        "backendRefs": [to("edits")]}]),
    route("near", "near", [{"backendRefs": [to("near", filters=[
        edits("Request", set={"x-near": "1"}), edits("Response", set={"x-answer": "backend"})])]}]),
    route("away", "away", [
        {"matches": [path("PathPrefix", "/old")], "filters": [redirect(
            scheme="https", hostname="new.example", port=8443, statusCode=301,
            path={"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"})]},
        {"matches": [path("Exact", "/full")], "filters": [redirect(
            statusCode=302, path={"type": "ReplaceFullPath", "replaceFullPath": "/there"})]}]),
    route("split", "split", [{"backendRefs": [to("one", weight=80), to("two", weight=20), to("zero", weight=0)]}]),
    route("half", "half", [{"backendRefs": [to("one", weight=1), to("missing", weight=1)]}]),
    route("limits", "limits", [
        {"matches": [path("PathPrefix", "/rule")], "timeouts": {"request": "300ms"}, "backendRefs": [to("limits")]},
        {"matches": [path("PathPrefix", "/backend")], "timeouts": {"backendRequest": "300ms"},
         "backendRefs": [to("limits")]}]),
    route("response", "response", [{"backendRefs": [to("response")]}],
          annotations={"timeout.linkerd.io/response": "300ms"}),
    route("rpc", "rpc", kind="GRPCRoute", port=GRPC, annotations={
        "retry.linkerd.io/grpc": "unavailable", "retry.linkerd.io/limit": "2"}, rules=[
        {"matches": [{"method": {"service": "tulle.Test", "method": "Unary"}}], "backendRefs": [to("rpc", GRPC)]}]),
]

SERVICES = {
    "matches": {}, "edits": {}, "near": {}, "away": {}, "split": {}, "half": {}, "limits": {}, "response": {}, "self": {},
    "retry": {"retry.linkerd.io/http": "5xx", "retry.linkerd.io/limit": "2"},
    "patient": {"retry.linkerd.io/http": "gateway-error", "retry.linkerd.io/timeout": "300ms"},
    "idle": {"timeout.linkerd.io/idle": "500ms"},
}


def objects():
    return [
        namespace(),
        *server("one", {"http": HTTP, "grpc": GRPC}), *server("two", {"http": HTTP}), *server("zero", {"http": HTTP}),
        *[service(name, [HTTP], app="one", annotations=notes) for name, notes in SERVICES.items()],
        service("rpc", [GRPC], app="one"),
        client(), client("edge", annotations={"linkerd.io/inject": "ingress"}), *ROUTES,
    ]


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": objects()}, options=["--allow-l5d-request-headers"])
    home.up()
    return home


@pytest.fixture
def driver(home):
    return home.driver("t", "client")


@pytest.fixture
def counted(home):
    """counted(family, **labels): by how much the client's proxy's figure has grown since the test began."""
    pod = home.pod("t", "client")["name"]
    before = home.proxy_metrics("t", pod)

    def grown(family, **labels):
        return home.proxy_metrics("t", pod).sum(family, **labels) - before.sum(family, **labels)
    return grown


def field(answer, name):
    return [value for key, value in answer["headers"] if key.lower() == name]


def seen(answer):
    assert answer["status"] == 200, answer
    return json.loads(answer["body"])


def expect_count(counted, want, family, **labels):
    """The proxy counts when the exchange is over, which the client may learn before."""
    wait_for(lambda: counted(family, **labels) >= want,
             lambda: f"{family} {labels} grows by {want}; it grew by {counted(family, **labels)}")
    assert counted(family, **labels) == want


# --- matches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("want, ask", [
    ("prefix", {"target": "/echo"}),
    ("prefix", {"target": "/echo/"}),
    ("prefix", {"target": "/echo/deeper"}),
    ("deep", {"target": "/echo/deep"}),
    ("deep", {"target": "/echo/deep/x", "headers": [["x-kind", "a"]]}),
    ("exact", {"target": "/echo/deep/er?q=1"}),
    ("deep", {"target": "/echo/deep/er/"}),
    ("regex", {"target": "/n/42"}),
    ("header", {"target": "/echo", "headers": [["x-kind", "a"]]}),
    ("headers", {"target": "/echo", "headers": [["x-kind", "a"], ["x-more", "abc"]]}),
    ("header", {"target": "/echo", "headers": [["x-kind", "a"], ["x-more", "abc1"]]}),
    ("header", {"target": "/echo?q=1", "headers": [["x-kind", "a"]]}),
    ("query", {"target": "/echo?p=0&q=1"}),
    ("query", {"target": "/echo?q=1", "method": "PUT", "body": ""}),
    ("prefix", {"target": "/echo?q=2"}),
    ("method", {"target": "/echo", "method": "PUT", "body": ""}),
    ("either", {"target": "/one"}),
    ("either", {"target": "/two"}),
    ("host", {"target": "/echo/deep", "headers": [["Host", "named.example:8080"]]}),
    ("hosts", {"target": "/echo/deep", "headers": [["Host", "any.example"]]}),
])
def test_the_most_specific_match_counts(driver, want, ask):
    answer = driver.get("matches", HTTP, **ask)
    assert answer["status"] == 200, answer
    assert field(answer, "x-rule") == [want]


@pytest.mark.parametrize("target", ["/", "/ech", "/echoes", "/n/42x", "/n/", "/One"])
def test_what_no_route_matches_is_not_found(driver, target):
    answer = driver.get("matches", HTTP, target)
    assert answer["status"] == 404
    assert field(answer, "l5d-proxy-error") == ["no route matches the request"]


# --- filters -------------------------------------------------------------------------------------


def test_headers_are_edited_both_ways(driver):
    answer = driver.get("edits", HTTP, headers=[["X-Set", "client"], ["X-Add", "client"], ["X-Gone", "1"]])
    request = seen(answer)
    assert field(request, "x-set") == ["route"]
    assert field(request, "x-add") == ["client", "route"]
    assert field(request, "x-gone") == []
    assert field(answer, "x-answer") == ["route"]
    assert field(answer, "server-name") == []


def test_a_backend_edits_headers_too(driver):
    answer = driver.get("near", HTTP)
    assert field(seen(answer), "x-near") == ["1"]
    assert field(answer, "x-answer") == ["backend"]


def test_redirects(driver, counted):
    answer = driver.get("away", HTTP, "/old/a/b?c=d")
    assert (answer["status"], field(answer, "location")) == (301, ["https://new.example:8443/new/a/b?c=d"])
    assert answer["body"] == "" and answer["keeps"]
    answer = driver.get("away", HTTP, "/full?c=d", headers=[["Host", "away:8080"]])
    assert (answer["status"], field(answer, "location")) == (302, ["http://away:8080/there?c=d"])
    expect_count(counted, 1, ROUTE + "request_statuses_total", parent_name="away", http_status="301", error="")
    expect_count(counted, 1, ROUTE + "request_statuses_total", parent_name="away", http_status="302", error="")
    assert counted(ROUTE + "backend_requests_total", parent_name="away") == 0


# --- traffic split -------------------------------------------------------------------------------


def test_a_split_follows_its_weights(driver, counted):
    answers = driver.http(host="split", port=HTTP, requests=[{"target": "/echo"}] * 400)
    got = {}
    for answer in answers:
        name = seen(answer)["server"].split("-")[0]
        got[name] = got.get(name, 0) + 1
    assert got["one"] + got["two"] == 400
    assert 40 <= got["two"] <= 120  # 80 are expected; chance goes beyond this once in two million runs
    for name in ("one", "two"):
        expect_count(counted, got[name], ROUTE + "backend_requests_total", parent_name="split", backend_name=name,
                     backend_kind="Service", backend_namespace="t", backend_port=str(HTTP), route_name="split")
        expect_count(counted, got[name], ROUTE + "backend_response_statuses_total", parent_name="split",
                     backend_name=name, http_status="200", error="")
    assert counted(ROUTE + "backend_requests_total", parent_name="split", backend_name="zero") == 0
    expect_count(counted, 400, ROUTE + "request_statuses_total", parent_name="split", http_status="200")


def told(home, cause, *words):
    """The client's proxy says so in a line of its log."""
    def lines():
        return [line for line in home.log("t", home.pod("t", "client")["name"], "linkerd-proxy").splitlines()
                if f" cause={cause} " in line and all(word in line for word in words)]
    wait_for(lines, lambda: f"a line with {cause} and {words}")


def test_a_missing_backend_fails_its_share(home, driver, counted):
    answers = driver.http(host="half", port=HTTP, requests=[{"target": "/echo"}] * 100)
    failed = [answer for answer in answers if answer["status"] == 500]
    assert len(answers) == 100 and 20 <= len(failed) <= 80
    assert all(answer["status"] in (200, 500) for answer in answers)
    expect_count(counted, len(failed), ROUTE + "backend_response_statuses_total", parent_name="half", http_status="500",
                 backend_name="missing")
    assert {tuple(field(answer, "l5d-proxy-error")) for answer in failed} == {("there is no Service t/missing, a backend",)}
    expect_count(counted, len(failed), "tulle_failures_total", hop="outbound", cause="invalid_backend")
    told(home, "invalid_backend", 'detail="there is no Service t/missing, a backend" parent=Service/half.t:8080 '
         'route=HTTPRoute/half.t backend=Service/missing.t:8080 fault=policy ')


# --- timeouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host, target, label", [
    ("limits", "/rule?delay=3", "REQUEST_TIMEOUT"),
    ("limits", "/backend?delay=3", "REQUEST_TIMEOUT"),
    ("response", "/echo?delay=3", "RESPONSE_STREAM_TIMEOUT"),
])
def test_a_late_response_is_a_timeout(home, driver, counted, host, target, label):
    answer = driver.get(host, HTTP, target)
    assert answer["status"] == 504 and answer["keeps"], answer
    assert field(answer, "l5d-proxy-error")
    expect_count(counted, 1, ROUTE + "request_statuses_total", parent_name=host, http_status="", error=label)
    expect_count(counted, 1, ROUTE + "backend_response_statuses_total", parent_name=host, http_status="", error=label)
    expect_count(counted, 1, "outbound_http_errors_total", error="response timeout")
    kind = "response timeout" if host == "response" else (
        "request timeout" if target.startswith("/rule") else "timeout of requests to the backend")
    told(home, "response_timeout" if host == "response" else "request_timeout",
         f'detail="the {kind} of 300ms is over: the endpoint got the whole request ', 'ms ago, and has not answered" ',
         f" parent=Service/{host}.t:8080 route=HTTPRoute/{host}.t fault=policy ")


def test_a_body_that_stalls_is_broken_off(driver, counted):
    with driver.session("idle", HTTP) as s:
        s.send("GET /broken?bytes=2000&id=idle HTTP/1.1\r\nHost: idle\r\n\r\n")
        got = s.receive()
    assert got.startswith("HTTP/1.1 200 ") and len(got.split("\r\n\r\n", 1)[1]) == 1000
    expect_count(counted, 1, ROUTE + "request_statuses_total", parent_name="idle", http_status="200",
                 error="IDLE_TIMEOUT")
    driver.get("one", HTTP, "/release?id=idle")


# --- retries -------------------------------------------------------------------------------------


def attempts(driver, name):
    return seen(driver.get("one", HTTP, f"/attempts?id={name}"))["attempts"]


def expect_retries(counted, parent, requests=0, successes=0, overflow=0, limit_exceeded=0, family=ROUTE):
    for name, want in (("requests", requests), ("successes", successes), ("overflow", overflow),
                       ("limit_exceeded", limit_exceeded)):
        expect_count(counted, want, f"{family}retry_{name}_total", parent_name=parent)


def test_a_failed_request_is_sent_again_with_its_body(driver, counted):
    body = "".join(chr(i % 256) for i in range(60000))
    answer = driver.get("retry", HTTP, "/echo?id=again&status=503&first=2", method="POST", body=body)
    assert seen(answer)["body"] == body
    assert attempts(driver, "again") == 3
    expect_retries(counted, "retry", requests=2, successes=1)
    expect_count(counted, 2, ROUTE + "backend_response_statuses_total", parent_name="retry", http_status="503")
    expect_count(counted, 1, ROUTE + "request_statuses_total", parent_name="retry", http_status="200")
    assert counted(ROUTE + "request_statuses_total", parent_name="retry", http_status="503") == 0


def test_chunks_and_trailers_come_again_too(driver, counted):
    answer = driver.get("retry", HTTP, "/echo?id=chunks&status=500&first=1", method="POST", chunks=["one", "two", "3"],
                        headers=[["Trailer", "x-sum"]], trailers=[["x-sum", "42"]])
    request = seen(answer)
    assert request["body"] == "onetwo3"
    assert ["x-sum", "42"] in [[k.lower(), v] for k, v in request["trailers"]]
    expect_retries(counted, "retry", requests=1, successes=1)


def test_retries_end_at_the_limit(driver, counted):
    answer = driver.get("retry", HTTP, "/echo?id=limit&status=500")
    assert answer["status"] == 500
    assert attempts(driver, "limit") == 3
    expect_retries(counted, "retry", requests=2, limit_exceeded=1)


@pytest.mark.parametrize("size, times", [(65536, 3), (65537, 1)])
def test_a_body_is_kept_up_to_64_kib(driver, counted, size, times):
    answer = driver.get("retry", HTTP, f"/echo?id=size{size}&status=500", method="POST", body="x" * size)
    assert answer["status"] == 500
    assert attempts(driver, f"size{size}") == times


def test_other_statuses_are_final(driver, counted):
    answer = driver.get("retry", HTTP, "/echo?id=final&status=404")
    assert answer["status"] == 404
    assert attempts(driver, "final") == 1
    expect_retries(counted, "retry")


def test_an_attempt_that_takes_too_long_is_given_up(driver, counted):
    answer = driver.get("patient", HTTP, "/echo?id=slow&delay=3&first=1")
    seen(answer)
    assert attempts(driver, "slow") == 2
    expect_retries(counted, "patient", requests=1, successes=1)
    expect_count(counted, 1, ROUTE + "backend_response_statuses_total", parent_name="patient",
                 error="RESPONSE_HEADERS_TIMEOUT")


def test_grpc_is_retried_by_its_status(driver, counted):
    ask = {"id": "rpc", "code": "UNAVAILABLE", "first": 2, "pad": "x" * 1000}
    told = driver.grpc(host="rpc", port=GRPC, method="Unary", asks=[ask])
    assert told["code"] == "OK" and told["answers"][0]["ask"]["pad"] == ask["pad"]
    assert attempts(driver, "rpc") == 3
    family = "outbound_grpc_route_"
    expect_retries(counted, "rpc", requests=2, successes=1, family=family)
    expect_count(counted, 2, family + "backend_response_statuses_total", parent_name="rpc", grpc_status="UNAVAILABLE")
    expect_count(counted, 1, family + "request_statuses_total", parent_name="rpc", grpc_status="OK", error="")
    told = driver.grpc(host="rpc", port=GRPC, method="Unary", asks=[{"id": "rpc2", "code": "INVALID_ARGUMENT"}])
    assert told["code"] == "INVALID_ARGUMENT" and attempts(driver, "rpc2") == 1
    told = driver.grpc(host="rpc", port=GRPC, method="ServerStream", asks=[{"count": 1}])
    assert told["code"] == "NOT_FOUND"  # no rule is about it


# --- what a request says of itself ---------------------------------------------------------------


def test_a_request_governs_itself(driver, counted):
    answer = driver.get("self", HTTP, "/echo?id=self&status=503&first=3", headers=[
        ["l5d-retry-http", "503"], ["l5d-retry-limit", "3"], ["l5d-retry-timeout", "20s"],
        ["l5d-retry-grpc", "internal"], ["l5d-timeout", "1ms"], ["l5d-request-timeout", "30s"],
        ["l5d-response-timeout", "30s"]])
    request = seen(answer)
    assert attempts(driver, "self") == 4
    assert [key for key, _ in request["headers"] if key.lower().startswith(("l5d-retry", "l5d-timeout", "l5d-re"))] == []
    expect_retries(counted, "self", requests=3, successes=1)


def test_a_request_limits_itself(driver, counted):
    answer = driver.get("self", HTTP, "/echo?delay=3", headers=[["l5d-timeout", "200ms"]])
    assert answer["status"] == 504
    expect_count(counted, 1, ROUTE + "request_statuses_total", parent_name="self", error="REQUEST_TIMEOUT")


# --- ingress mode --------------------------------------------------------------------------------


@pytest.mark.parametrize("override, want", [
    ("two.t.svc.cluster.local:8080", "two"),
    ("TWO.t.svc.cluster.local.:8080", "two"),
    (None, "one"),
])
def test_an_ingress_names_the_service(home, override, want):
    """Whatever address the request is sent to, the name that it gives is where it goes, by that name's routes."""
    edge = home.driver("t", "edge")
    headers = [["l5d-dst-override", override]] if override else []
    request = seen(edge.get("one", HTTP, headers=[["Host", "shop.example"], *headers]))
    assert request["server"].split("-")[0] == want
    assert field(request, "l5d-dst-override") == []
    assert field(request, "host") == ["shop.example"]
    # It is meshed traffic of the named service.
    pod = home.pod("t", "edge")["name"]
    metrics = home.proxy_metrics("t", pod)
    assert metrics.sum("request_total", direction="outbound", tls="true", dst_service=want) > 0
    assert "not supported" not in home.log("t", pod, "linkerd-proxy")


def test_an_ingress_has_the_routes_of_the_name(home):
    edge = home.driver("t", "edge")
    answer = edge.get("one", HTTP, headers=[["l5d-dst-override", "edits.t.svc.cluster.local:8080"]])
    assert field(seen(answer), "x-set") == ["route"] and field(answer, "x-answer") == ["route"]
    assert edge.get("one", HTTP, "/echo?id=edge&status=503&first=2", headers=[
        ["l5d-dst-override", "retry.t.svc.cluster.local:8080"]])["status"] == 200
    assert attempts(edge, "edge") == 3
    assert edge.get("one", HTTP, headers=[["l5d-dst-override", "10.0.0.1:8080"]])["status"] == 400
    assert edge.get("one", HTTP, headers=[["l5d-dst-override", "nobody.t.svc.cluster.local:8080"]])["status"] == 504
