# SPDX-License-Identifier: Apache-2.0
"""
ServiceProfiles of a local home on the way of requests: routes, classes, retries and their budget, timeouts, overrides;
each with its exact figures in the metrics of the client's proxy and of the server's.

A test puts a profile in place and knows that both proxies have it when a request of a route that only this profile
has was counted by them. These probes go over the connection of the test, so that they are the same worker's, and are
counted themselves: what they earned for the budget is known.
"""
import itertools
import json

import pytest

from home import UNMESHED, client, namespace, server, wait_for

HTTP = 8080
NAME = "server.t.svc.cluster.local"
DST = f"{NAME}:{HTTP}"
BUDGET = {"retryRatio": 0.2, "minRetriesPerSecond": 10, "ttl": "10s"}
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [
        namespace(), namespace("u"), *server("server", {"http": HTTP}), *server("other", {"http": HTTP}),
        client(), client(ns="u"),
    ]})
    home.up()
    return home


@pytest.fixture
def visitor(home):
    v = Visitor(home)
    yield v
    v.close()


def route(name, path, method=None, **more):
    condition = {"pathRegex": path}
    return {"name": name, "condition": {**condition, "method": method} if method else condition, **more}


class Visitor:
    """A client with one connection to the service, under a profile of its own."""

    def __init__(self, home, ns="t", host="server"):
        self.home, self.ns, self.host = home, ns, host
        self.number = next(numbers)
        self.session = home.driver(ns, "client").session(host, HTTP)
        self.files = []

    def close(self):
        self.session.__exit__()
        for name in self.files:
            self.home.delete(name)

    def __getitem__(self, name):
        """The name of a route that no other test has."""
        return f"{name}-{self.number}"

    def get(self, target, method="GET", body=None, **headers):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", *(f"{k}: {v}" for k, v in headers.items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.session.send("\r\n".join(lines) + "\r\n\r\n" + (body or ""))
        return self.session.response(method)

    def metrics(self, workload="client", ns=None):
        ns = ns or self.ns
        return self.home.proxy_metrics(ns, self.home.pod(ns, workload)["name"])

    def count(self, family, direction="outbound", workload="client", **labels):
        ns = "t" if workload == "server" else self.ns
        return self.metrics(workload, ns).sum(family, direction=direction, dst=DST, **labels)

    def inbound(self, family, **labels):
        return self.count(family, "inbound", "server", **labels)

    def tries(self, of):
        return json.loads(self.get(f"/attempts?id={of}")["body"])["attempts"]

    def put(self, routes=(), ns=None, **spec):
        """The profile is in place; how many probes the client's proxy counted under it."""
        ns = ns or self.ns
        probe = self[f"probe{next(numbers)}"]
        manifest = {
            "apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile", "metadata": {"name": NAME, "namespace": ns},
            "spec": {"routes": [route(probe, "/echo/probe"), *routes], **spec},
        }
        file = f"profile-{ns}.yaml"
        self.home.write(file, [manifest])
        if file not in self.files:
            self.files.append(file)

        def look():
            assert self.get("/echo/probe")["status"] == 200
            return self.count("route_request_total", rt_route=probe) and (
                ns != "t" or "dstOverrides" in spec or self.inbound("route_request_total", rt_route=probe))

        wait_for(look, f"the proxies have the profile with {probe}")
        return int(self.count("route_request_total", rt_route=probe))


def server_headers(answer):
    return {name.lower(): value for name, value in json.loads(answer["body"])["headers"]}


# --- routes --------------------------------------------------------------------------------------


def test_routes_are_counted_exactly(visitor):
    v = visitor
    others = v.count("route_request_total", rt_route=None)
    v.put([route(v["books"], "/echo/books/[^/]*", "GET"), route(v["any"], "/echo/books.*")])
    for n in range(7):
        assert v.get(f"/echo/books/{n}?page=2")["status"] == 200
    for n in range(5):
        assert v.get("/echo/books/1", method="POST", body="x")["status"] == 200
    for n in range(3):
        assert v.get("/echo/nothing?status=500")["status"] == 500
    for family in ("route_request_total", "route_actual_request_total", "route_response_total",
                   "route_actual_response_total", "route_response_latency_ms_count"):
        assert v.count(family, rt_route=v["books"]) == 7, family
        assert v.count(family, rt_route=v["any"]) == 5, family
    for family in ("route_request_total", "route_response_total", "route_response_latency_ms_count"):
        assert v.inbound(family, rt_route=v["books"]) == 7, family
        assert v.inbound(family, rt_route=v["any"]) == 5, family
    assert v.count("route_response_total", rt_route=v["books"], status_code="200", classification="success",
                   grpc_status="", error="") == 7
    assert v.count("route_request_total", rt_route=None) == others + 3
    assert v.count("route_response_total", rt_route=None, status_code="500", classification="failure") >= 3
    assert not v.metrics().find("route_retryable_total", rt_route=v["books"])


def test_the_application_learns_the_canonical_name(visitor):
    visitor.put()
    answer = visitor.get("/echo/probe", **{"l5d-dst-canonical": "made.up:1"})
    assert server_headers(answer)["l5d-dst-canonical"] == DST


def test_response_classes_decide(visitor):
    v = visitor
    v.put([route(v["classes"], "/echo/classes", responseClasses=[
        {"condition": {"status": {"min": 404, "max": 404}}, "isFailure": True},
        {"condition": {"all": [{"status": {"min": 500, "max": 599}}, {"not": {"status": {"min": 503, "max": 503}}}]}},
    ])])
    before = v.metrics(), v.metrics("server")
    for status in (404, 404, 404, 500, 500, 503, 200):
        assert v.get(f"/echo/classes?status={status}")["status"] == status

    def counted(status, kind):
        of = {"status_code": status, "classification": kind}
        out, into = {"direction": "outbound", "dst_deployment": "server", **of}, {"direction": "inbound", **of}
        return [v.count("route_response_total", rt_route=v["classes"], **of),
                v.inbound("route_response_total", rt_route=v["classes"], **of),
                v.metrics().sum("response_total", **out) - before[0].sum("response_total", **out),
                v.metrics("server").sum("response_total", **into) - before[1].sum("response_total", **into)]

    assert counted("404", "failure") == [3] * 4
    assert counted("404", "success") == [0] * 4
    assert counted("500", "success") == [2] * 4
    assert counted("503", "failure") == [1] * 4
    assert counted("200", "success")[:2] == [1, 1]


def test_the_clients_namespace_comes_first(home, visitor):
    visitor.put([route(visitor["theirs"], "/echo/x")])
    guest = Visitor(home, "u", "server.t")
    try:
        guest.put([route(guest["own"], "/echo/x")])
        guest.get("/echo/x")
        visitor.get("/echo/x")
        assert guest.count("route_request_total", rt_route=guest["own"]) == 1
        assert visitor.count("route_request_total", rt_route=visitor["theirs"]) == 1
        assert not guest.metrics().find("route_request_total", rt_route=visitor["theirs"])
    finally:
        guest.close()


def test_a_client_without_a_proxy_is_counted_by_the_server(home, visitor):
    """Nobody tells the canonical name: the authority does, once the answer about it is there."""
    visitor.put([route(visitor["plain"], "/echo/plain")])
    home.write("plain.yaml", [client("plain", annotations=UNMESHED)])
    home.wait_ready("t", "plain", 1)
    driver = home.driver("t", "plain")

    def look():
        assert driver.get("server", HTTP, "/echo/plain", headers=[["Host", DST]])["status"] == 200
        return visitor.inbound("route_request_total", rt_route=visitor["plain"])

    wait_for(look, "the server's proxy counts the route")
    assert visitor.count("route_request_total", rt_route=visitor["plain"]) == 0


# --- retries -------------------------------------------------------------------------------------


def test_retries_end_with_the_budget(visitor):
    """A ratio of 0.5 without a reserve: a request earns half a retry, and what one costs is taken at once."""
    v = visitor
    flaky = v["flaky"]
    tokens = v.put([route(flaky, "/echo/flaky", isRetryable=True)],
                   retryBudget={"retryRatio": 0.5, "minRetriesPerSecond": 0, "ttl": "60s"})
    retried = skipped = 0
    for n in range(10):
        assert v.get(f"/echo/flaky?status=503&id={flaky}")["status"] == 503
        tokens += 1
        while tokens >= 2:
            tokens -= 2
            retried += 1
        skipped += 1
    assert v.tries(flaky) == 10 + retried
    assert retried >= 5
    assert v.count("route_request_total", rt_route=flaky) == 10
    assert v.count("route_response_total", rt_route=flaky, classification="failure") == 10
    assert v.count("route_actual_request_total", rt_route=flaky) == 10 + retried
    assert v.inbound("route_request_total", rt_route=flaky) == 10 + retried  # attempts are requests there
    assert v.count("route_actual_response_total", rt_route=flaky, classification="failure") == 10 + retried
    assert v.count("route_retryable_total", rt_route=flaky, skipped=None) == retried
    assert v.count("route_retryable_total", rt_route=flaky, skipped="no_budget") == skipped


def test_a_retry_that_succeeds_is_a_success(visitor):
    v = visitor
    v.put([route(v["retried"], "/echo/retried", isRetryable=True)],
          retryBudget={"retryRatio": 1, "minRetriesPerSecond": 0, "ttl": "60s"})
    body = "b" * 60000
    answer = v.get(f"/echo/retried?status=500&first=1&id={v['retried']}", method="POST", body=body)
    assert answer["status"] == 200
    assert json.loads(answer["body"])["body"] == body
    assert v.tries(v["retried"]) == 2
    assert v.count("route_response_total", rt_route=v["retried"], classification="success") == 1
    assert v.count("route_response_total", rt_route=v["retried"], classification="failure") == 0
    assert v.count("route_actual_response_total", rt_route=v["retried"], classification="success") == 1
    assert v.count("route_actual_response_total", rt_route=v["retried"], classification="failure") == 1
    assert v.count("route_retryable_total", rt_route=v["retried"], skipped=None) == 1


def test_what_is_too_large_to_keep_is_not_retried(visitor):
    v = visitor
    v.put([route(v["large"], "/echo/large", isRetryable=True), route(v["once"], "/echo/once")],
          retryBudget={"retryRatio": 1, "minRetriesPerSecond": 0, "ttl": "60s"})
    assert v.get(f"/echo/large?status=500&id={v['large']}", method="POST", body="b" * 65537)["status"] == 500
    assert v.get(f"/echo/once?status=500&id={v['once']}")["status"] == 500
    assert v.tries(v["large"]) == v.tries(v["once"]) == 1
    assert v.count("route_retryable_total", rt_route=v["large"]) == 0


def test_only_failures_of_the_class_are_retried(visitor):
    v = visitor
    v.put([route(v["judged"], "/echo/judged", isRetryable=True, responseClasses=[
        {"condition": {"status": {"min": 404, "max": 404}}, "isFailure": True},
        {"condition": {"status": {"min": 500, "max": 500}}, "isFailure": False}])],
          retryBudget={"retryRatio": 1, "minRetriesPerSecond": 0, "ttl": "60s"})
    assert v.get(f"/echo/judged?status=404&first=1&id={v['judged']}")["status"] == 200
    assert v.get(f"/echo/judged?status=500&id={v['judged']}-2")["status"] == 500
    assert v.tries(v["judged"]) == 2
    assert v.tries(v["judged"] + "-2") == 1


# --- timeouts ------------------------------------------------------------------------------------


def test_a_timeout_ends_a_request(visitor):
    v = visitor
    v.put([route(v["slow"], "/echo/slow", timeout="200ms")])
    answer = v.get("/echo/slow?delay=30")
    assert answer["status"] == 504
    assert v.count("route_response_total", rt_route=v["slow"], classification="failure", status_code="",
                   error="response timeout") == 1
    assert v.metrics().sum("tulle_failures_total", hop="outbound", cause="profile_timeout") >= 1


def test_a_timeout_covers_all_attempts(visitor):
    """A server that fails for ever, and a budget that allows it: the time ends it."""
    v = visitor
    v.put([route(v["both"], "/echo/both", isRetryable=True, timeout="1s")],
          retryBudget={"retryRatio": 1000, "minRetriesPerSecond": 1, "ttl": "60s"})
    assert v.get(f"/echo/both?status=500&delay=0.1&id={v['both']}")["status"] in (500, 504)
    retried = v.count("route_retryable_total", rt_route=v["both"], skipped=None)
    assert v.count("route_request_total", rt_route=v["both"]) == 1
    assert v.count("route_actual_request_total", rt_route=v["both"]) == 1 + retried
    assert v.count("route_retryable_total", rt_route=v["both"], skipped="no_budget") == 0


def test_a_timeout_is_over_when_the_response_begins(visitor):
    v = visitor
    v.put([route(v["long"], "/broken", timeout="300ms"), route(v["free"], "/release")])
    v.session.send(f"GET /broken?bytes=20&id={v['long']} HTTP/1.1\r\nHost: server\r\n\r\n")
    v.session.receive(until="\r\n\r\n")
    # Longer than the timeout by any clock: another request has used up all of it meanwhile.
    other = Visitor(v.home)
    try:
        assert other.get("/echo/x?delay=1")["status"] == 200
        assert len(v.session.receive(bytes=10)) == 10
        other.get(f"/release?id={v['long']}")
    finally:
        other.close()
    v.session.receive()
    assert v.count("route_response_total", rt_route=v["long"], error="response timeout") == 0


# --- other services in place of this one -----------------------------------------------------------


def served_by(visitor, count):
    servers = {"server": 0, "other": 0}
    for n in range(count):
        name = json.loads(visitor.get("/echo/split")["body"])["server"]
        servers["other" if name.startswith("other") else "server"] += 1
    return servers


def override(name, weight):
    return {"authority": f"{name}.t.svc.cluster.local", "weight": weight}


def test_overrides_share_the_requests(visitor):
    v = visitor
    v.put([route(v["split"], "/echo/split")], dstOverrides=[override("server", "250m"), override("other", "750m")])
    servers = served_by(v, 200)
    assert 20 <= servers["server"] <= 85, servers  # 50 expected, five standard deviations of 6
    assert v.count("route_request_total", rt_route=v["split"]) == 200
    other = f"other.t.svc.cluster.local:{HTTP}"
    assert v.metrics().sum("request_total", direction="outbound", authority=other) >= servers["other"]


def test_an_override_without_weight_gets_nothing(visitor):
    v = visitor
    v.put(dstOverrides=[override("server", 0), override("other", 1)])
    assert served_by(v, 20) == {"server": 0, "other": 20}
    v.put(dstOverrides=[override("server", 0), override("other", 0)])
    assert served_by(v, 20) == {"server": 20, "other": 0}


# --- life ----------------------------------------------------------------------------------------


def test_a_profile_goes_while_requests_come(home):
    v = Visitor(home)
    v.put([route(v["gone"], "/echo/load")])
    load = home.driver("t", "client").load(kind="http", host="server", port=HTTP, target="/echo/load")
    wait_for(lambda: v.count("route_request_total", rt_route=v["gone"]) > 100, "requests are counted")
    v.close()
    guest = Visitor(home)
    wait_for(lambda: "l5d-dst-canonical" not in server_headers(guest.get("/echo/x")), "the profile is gone")
    guest.close()
    state = home.driver("t", "client").load_stop(load=load)
    assert state["failures"] == []
    counted = v.count("route_request_total", rt_route=v["gone"])
    assert 100 < counted <= state["requests"]
    assert v.count("route_response_total", rt_route=v["gone"]) == counted
