# SPDX-License-Identifier: Apache-2.0
"""`tulle routes`, `stat-inbound` and `stat-outbound` say exactly what the proxies counted: real Prometheus, real
controller, real command line, over proxies whose counters the test sets, and over our own. Every test has a namespace of its own.
"""
import json
import re
import subprocess
import time

import control_plane as cp
from figures import api, prometheus, put_deployments  # noqa: F401
from home import client, namespace, server, service, wait_for

MILLISECONDS = [1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 500, 1000]
SECONDS = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 10]


def profile(ns, name, *routes):
    return {"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
            "metadata": {"namespace": ns, "name": f"{name}.{ns}.svc.cluster.local"},
            "spec": {"routes": [{"name": r, "condition": {"pathRegex": "/" + r}} for r in routes]}}


def histogram(proxy, name, bounds, value, count, **labels):
    for bound in [*bounds, "+Inf"]:
        proxy.add(f"{name}_bucket", count if bound == "+Inf" or value <= bound else 0, **labels, le=bound)


def route(proxy, success, failure=0, latency_ms=1, actual=None, **labels):
    """Requests of a profile's route; `actual`: attempts that succeeded and that failed."""
    for kind, status, count in (("success", 200, success), ("failure", 500, failure)):
        if count:
            proxy.add("route_response_total", count, **labels, status_code=status, classification=kind)
            histogram(proxy, "route_response_latency_ms", MILLISECONDS, latency_ms, count, **labels, status_code=status)
    for kind, count in zip(("success", "failure"), actual or ()):
        proxy.add("route_actual_response_total", count, **labels, classification=kind)


def await_json(api, goal, *args):
    """Until `goal(answer)` holds; the answer."""
    end = time.monotonic() + cp.STALL_S
    while True:
        got = json.loads(api.tulle(*args, "-o", "json"))
        if goal(got):
            return got
        assert time.monotonic() < end, f"waited in vain: {json.dumps(got, indent=1)}"
        with api.scraped:
            api.scraped.wait(timeout=1)


def count(row, prefix="", window_s=60):
    """(requests, failures)"""
    rps, success = row[f"{prefix}rps"], row[f"{prefix}success"]
    if rps is None:
        return 0, 0
    all_of_them = round(rps * window_s)
    assert abs(rps * window_s - all_of_them) < 1e-3, row
    return all_of_them, round(all_of_them * (1 - success))


def cells(table):
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


# --- routes --------------------------------------------------------------------------------------


def test_routes_of_every_namespace(api, prometheus):
    """Namesakes of two namespaces do not take each other's place."""
    namesakes = ("twin-a", "twin-b")
    for number, ns in enumerate(namesakes, 1):
        put_deployments(api, ns, "web", services=("web",))
        api.put(profile(ns, "web", "books"))
        p = prometheus.proxy(ns, "web-1", deployment="web")
        route(p, 10 * number, direction="inbound", dst=f"web.{ns}.svc.cluster.local:80", rt_route="books")
        p.wait_scraped()
    keys = [f"{ns}/deploy/web" for ns in namesakes]
    got = await_json(api, lambda a: all(any(r["rps"] for r in a.get(key, [])) for key in keys), "routes", "deploy", "-A")
    assert [count(row)[0] for key in keys for row in got[key] if row["route"] == "books"] == [10, 20]
    table = api.tulle("routes", "deploy", "-A")
    assert all(f"==> {key} <==" in table for key in keys)


def test_routes_of_what_a_workload_received(api, prometheus):
    ns = "received"
    put_deployments(api, ns, "web", services=("web", "other"))
    api.put(profile(ns, "web", "books", "authors"))
    p = prometheus.proxy(ns, "web-1", deployment="web")
    dst = f"web.{ns}.svc.cluster.local"
    route(p, 90, 10, latency_ms=45, direction="inbound", dst=f"{dst}:80", rt_route="books")
    route(p, 5, latency_ms=3, direction="inbound", dst=f"{dst}:8080", rt_route="books")  # ports count together
    route(p, 7, direction="inbound", dst=f"{dst}:80")
    route(p, 1000, direction="outbound", dst=f"other.{ns}.svc.cluster.local:80", rt_route="books")  # not received
    p.wait_scraped()
    got = await_json(api, lambda a: any(r["rps"] for r in a["deploy/web"]), "routes", "deploy/web", "-n", ns)
    assert list(got) == ["deploy/web"]
    rows = {r["route"]: r for r in got["deploy/web"]}
    assert [r["route"] for r in got["deploy/web"]] == ["authors", "books", "[DEFAULT]"]
    assert count(rows["books"]) == (105, 10) and 40 <= rows["books"]["latency_ms_p95"] <= 50
    assert count(rows["[DEFAULT]"]) == (7, 0) and rows["authors"]["rps"] is None
    assert {r["authority"] for r in got["deploy/web"]} == {dst}
    assert cells(api.tulle("routes", "deploy/web", "-n", ns)) == [
        ["ROUTE", "SERVICE", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"],
        ["authors", "web", "-", "-", "-", "-", "-"],
        ["books", "web", "90.48%", "1.8rps"] + [f"{rows['books'][f'latency_ms_p{q}']}ms" for q in (50, 95, 99)],
        ["[DEFAULT]", "web", "100.00%", "0.1rps", "1ms", "1ms", "1ms"]]
    same = await_json(api, lambda a: a, "routes", "svc/web", "-n", ns)
    assert list(same) == ["svc/web"] and same["svc/web"] == got["deploy/web"]
    assert await_json(api, lambda a: a, "routes", "po", "-n", ns)["po/web-1"] == got["deploy/web"]
    assert await_json(api, lambda a: a, "routes", f"ns/{ns}")[f"ns/{ns}"] == got["deploy/web"]
    assert json.loads(api.tulle("routes", "svc/other", "-n", ns, "-o", "json")) == {}
    assert "HTTPRoute" not in api.nothing("routes", "svc/other", "-n", ns)


def test_routes_that_are_of_policies_are_elsewhere(api, prometheus):
    """Who has HTTPRoutes and asks for `routes` is told where their figures are."""
    ns = "elsewhere"
    put_deployments(api, ns, "web", services=("web", "plain"))
    api.put({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": ns, "name": "split"},
             "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": "web", "port": 80}], "rules": [{}]}})
    told = ("No routes of ServiceProfiles found. Service web has the HTTPRoute split, and figures of such routes are in "
            f"`tulle stat-outbound deploy -n {ns}`, by workload that calls; `tulle profile web -n {ns} --template` begins a "
            "ServiceProfile. ")
    api.wait(lambda: api.nothing("routes", "svc/web", "-n", ns).startswith(told))
    assert api.nothing("routes", "deploy", "-n", ns, "--to", "svc/web").startswith(told)
    assert "HTTPRoute" not in api.nothing("routes", "svc/plain", "-n", ns)
    api.put(profile(ns, "web", "books"))
    api.wait(lambda: "books" in api.tulle("routes", "svc/web", "-n", ns))


def test_routes_of_what_a_workload_sent_with_retries(api, prometheus):
    ns = "sent"
    put_deployments(api, ns, "bot", "idle", services=("web", "db"))
    api.put(profile(ns, "web", "books"))
    p = prometheus.proxy(ns, "bot-1", deployment="bot")
    dst = f"web.{ns}.svc.cluster.local:80"
    route(p, 100, 0, latency_ms=8, direction="outbound", dst=dst, rt_route="books", actual=(100, 25))
    route(p, 30, direction="outbound", dst=f"db.{ns}.svc.cluster.local:80", rt_route="books")
    route(p, 500, direction="outbound", dst=f"web-2.{ns}.svc.cluster.local:80", rt_route="books")
    p.wait_scraped()
    args = ("routes", "deploy", "-n", ns, "--to", "svc/web")
    got = await_json(api, lambda a: a, *args)
    assert list(got) == ["deploy/bot"]
    books, rest = got["deploy/bot"]
    assert count(books, "effective_") == (100, 0) and count(books, "actual_") == (125, 25)
    assert rest["route"] == "[DEFAULT]" and rest["effective_rps"] is None
    assert cells(api.tulle(*args, "-o", "wide"))[:2] == [
        ["ROUTE", "SERVICE", "EFFECTIVE_SUCCESS", "EFFECTIVE_RPS", "ACTUAL_SUCCESS", "ACTUAL_RPS", "LATENCY_P50",
         "LATENCY_P95", "LATENCY_P99"],
        ["books", "web", "100.00%", "1.7rps", "80.00%", "2.1rps", "8ms", "10ms", "10ms"]]
    assert cells(api.tulle(*args))[0][2:4] == ["SUCCESS", "RPS"]
    everywhere = json.loads(api.tulle("routes", "deploy/bot", "-n", ns, "--to-namespace", ns, "-o", "json"))
    assert {(r["authority"].split(".")[0], r["route"]) for r in everywhere["deploy/bot"]} == {
        ("db", "books"), ("web", "books"), ("web", "[DEFAULT]"), ("web-2", "books")}
    none = json.loads(api.tulle("routes", "deploy/idle", "-n", ns, "--to", "svc/web", "-o", "json"))
    assert [r["route"] for r in none["deploy/idle"]] == ["books", "[DEFAULT]"]


def test_several_tables_have_headings(api, prometheus):
    ns = "headings"
    put_deployments(api, ns, "a", "b", services=("a", "b"))
    for name in ("a", "b"):
        p = prometheus.proxy(ns, f"{name}-1", deployment=name)
        route(p, 6, direction="inbound", dst=f"{name}.{ns}.svc.cluster.local:80", rt_route="r")
    await_json(api, lambda a: len(a) == 2, "routes", "deploy", "-n", ns)
    lines = api.tulle("routes", "deploy", "-n", ns).splitlines()
    assert lines[0] == "==> deploy/a <==" and lines[3:5] == ["", "==> deploy/b <=="]


def test_questions_about_routes_that_are_none(api):
    assert "there is no deployment called" in api.tulle("routes", "deploy/nobody", "-n", "sent", status=1)
    for command in ("routes", "stat-inbound", "stat-outbound"):
        assert api.nothing(command, "deploy", "-n", "nope", status=1).startswith(
            f'tulle: {command}: there is no namespace called "nope"; ')
    assert api.nothing("stat-inbound", "sts", "-n", "sent").startswith("No traffic found. Namespace sent was asked; ")
    assert 'there is no service called "nobody" in namespace sent' in api.tulle(
        "routes", "deploy/bot", "-n", "sent", "--to", "svc/nobody", status=1)
    assert "no Service belongs to" in api.tulle("routes", "deploy/bot", "-n", "sent", "--to", "deploy/bot", status=1)
    assert "name one kind" in api.tulle("routes", "all", "-n", "sent", status=64)
    assert "at least 15s" in api.tulle("routes", "deploy", "-t", "1s", status=64)
    assert "table, wide or json" in api.tulle("routes", "deploy", "-o", "yaml", status=64)
    assert "what services send" in api.tulle("routes", "svc/web", "-n", "sent", "--to", "svc/db", status=1)
    assert "no proxies of its own" in api.tulle("stat-inbound", "svc/web", "-n", "sent", status=1)
    assert "table or json" in api.tulle("stat-outbound", "deploy", "-o", "wide", status=64)


# --- inbound -------------------------------------------------------------------------------------


def test_inbound_by_server_route_and_authorization(api, prometheus):
    ns = "inbound"
    put_deployments(api, ns, "web", services=("web",))
    p = prometheus.proxy(ns, "web-1", deployment="web")
    srv = {"srv_group": "policy.linkerd.io", "srv_kind": "server", "srv_name": "http", "srv_port": "8080"}
    admin = {"route_group": "policy.linkerd.io", "route_kind": "HTTPRoute", "route_name": "admin"}
    plain = {"route_group": "", "route_kind": "default", "route_name": "default"}

    def authz(name):
        return {"authz_group": "policy.linkerd.io", "authz_kind": "authorizationpolicy", "authz_name": name}

    p.responses(40, 2, latency_ms=45, **srv, **admin, **authz("bot"))
    p.responses(20, latency_ms=3, **srv, **admin, **authz("human"))
    p.responses(50, latency_ms=3, **srv, **plain, **authz("human"))
    p.responses(9, srv_group="", srv_kind="default", srv_name="all-unauthenticated", srv_port="9090", **plain)
    p.responses(600, srv_group="", srv_kind="default", srv_name="all-unauthenticated", srv_port="4191", **plain)
    p.responses(500, direction="outbound", dst_deployment="db")
    probe = {"route_group": "", "route_kind": "default", "route_name": "probe", "authz_group": "", "authz_kind": "default",
             "authz_name": "probe"}
    p.responses(6, srv_group="", srv_kind="default", srv_name="all-unauthenticated", srv_port="9090", **probe)
    p.add("inbound_http_authz_deny_total", 12, **srv, **admin, tls="true")
    p.add("inbound_http_authz_deny_total", 1, **srv, **plain, tls="true")  # a rare event is no 0.0
    limit = {"ratelimit_group": "policy.linkerd.io", "ratelimit_kind": "HTTPLocalRateLimitPolicy", "ratelimit_name": "limit"}
    for scope, n in (("identity", 3), ("total", 1)):
        p.add("inbound_http_local_ratelimit_total", n, **srv, **admin, tls="true", **limit, ratelimit_scope=scope)
    p.wait_scraped()
    got = await_json(api, lambda rows: rows, "stat-inbound", "deploy/web", "-n", ns)
    rows = {(r["server"], r["port"], r["route"]): r for r in got}
    assert set(rows) == {(None, 9090, None), (None, 9090, "probe"), ("http", 8080, None),
                         ("http", 8080, "admin")}  # not the proxy's own port
    assert count(rows["http", 8080, "admin"]) == (62, 2) and rows["http", 8080, "admin"]["route_kind"] == "HTTPRoute"
    assert round(rows["http", 8080, "admin"]["unauthorized"] * 60) == 12
    assert round(rows["http", 8080, "admin"]["rate_limited"] * 60) == 4 and rows["http", 8080, None]["rate_limited"] == 0
    assert count(rows["http", 8080, None]) == (50, 0) and count(rows[None, 9090, None]) == (9, 0)
    table = cells(api.tulle("stat-inbound", "deploy/web", "-n", ns))
    assert table[0] == ["NAME", "SERVER", "ROUTE", "TYPE", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"]
    assert [row[:6] for row in table[1:]] == [
        ["web", "[default]:9090", "[default]", "-", "100.00%", "0.1rps"],
        ["web", "[default]:9090", "probe", "default", "100.00%", "0.1rps"],
        ["web", "http:8080", "[default]", "-", "100.00%", "0.8rps"],
        ["web", "http:8080", "admin", "HTTPRoute", "96.77%", "1.0rps"]]
    wide = cells(api.tulle("stat-inbound", "deploy/web", "-n", ns, "-o", "wide"))
    assert wide[0][4:8] == ["AUTHORIZATION", "UNAUTHORIZED", "RATE_LIMITED", "SUCCESS"]
    assert [row[2:9] for row in wide if row[2] == "admin"] == [
        ["admin", "HTTPRoute", "-", "0.2rps", "0.1rps", "-", "-"], ["admin", "HTTPRoute", "bot", "-", "-", "95.24%", "0.7rps"],
        ["admin", "HTTPRoute", "human", "-", "-", "100.00%", "0.3rps"]]
    assert [row[2:9] for row in wide if row[1:3] == ["http:8080", "[default]"]] == [
        ["[default]", "-", "-", "0.02rps", "-", "-", "-"], ["[default]", "-", "human", "-", "-", "100.00%", "0.8rps"]]
    by_pod = json.loads(api.tulle("stat-inbound", "po", "-n", ns, "-o", "json"))
    assert sum(count(r)[0] for r in by_pod) == 127 and {r["name"] for r in by_pod} == {"web-1"}
    assert json.loads(api.tulle("stat-inbound", "deploy", "-n", ns, "-l", "app!=web", "-o", "json")) == []
    assert sum(count(r)[0] for r in json.loads(api.tulle("stat-inbound", f"ns/{ns}", "-o", "json"))) == 127


# --- outbound ------------------------------------------------------------------------------------


def target(prefix, kind, name, ns, port):
    return {f"{prefix}_group": "core" if kind == "Service" else "", f"{prefix}_kind": kind, f"{prefix}_name": name,
            f"{prefix}_namespace": ns, f"{prefix}_port": port}


def test_outbound_by_route_and_backend(api, prometheus):
    ns = "outbound"
    put_deployments(api, ns, "web", services=("web",))
    p = prometheus.proxy(ns, "web-1", deployment="web")
    parent = target("parent", "Service", "voting", ns, 80)
    split = {"route_group": "gateway.networking.k8s.io", "route_kind": "HTTPRoute", "route_namespace": ns,
             "route_name": "split"}
    http = "outbound_http_route"
    for status, error, n in (("200", "", 180), ("503", "", 10), ("", "REQUEST_TIMEOUT", 6), ("", "FAIL_FAST", 4)):
        p.add(f"{http}_request_statuses_total", n, **parent, **split, http_status=status, error=error)
    histogram(p, f"{http}_request_duration_seconds", [0.05, 0.5, 1, 10], 0.4, 200, **parent, **split)
    p.add(f"{http}_retry_requests_total", 20, **parent, **split)
    for name, ok, bad, seconds in (("voting", 150, 30, 0.09), ("voting-2", 38, 2, 0.02)):
        backend = target("backend", "Service", name, ns, 80)
        p.add(f"{http}_backend_response_statuses_total", ok, **parent, **split, **backend, http_status="200", error="")
        p.add(f"{http}_backend_response_statuses_total", bad, **parent, **split, **backend, http_status="500", error="")
        histogram(p, f"{http}_backend_response_duration_seconds", SECONDS, seconds, ok + bad, **parent, **split, **backend)
    fabrics = target("parent", "Service", "fabrics", "elsewhere", 8080)
    plain = {"route_group": "", "route_kind": "default", "route_namespace": "", "route_name": "grpc"}
    for status, n in (("OK", 50), ("NOT_FOUND", 5), ("DEADLINE_EXCEEDED", 5)):  # only the last one is a failure
        p.add("outbound_grpc_route_request_statuses_total", n, **fabrics, **plain, grpc_status=status, error="")
    p.wait_scraped()
    got = await_json(api, lambda rows: len(rows) == 4, "stat-outbound", "deploy/web", "-n", ns)
    grpc, whole, first, second = got
    assert grpc["service"] == {"kind": "Service", "namespace": "elsewhere", "name": "fabrics", "port": 8080}
    assert count(grpc) == (60, 5) and grpc["route"] is None and grpc["latency_ms_p50"] == 0
    assert count(whole) == (200, 20) and whole["route"] == "split" and whole["backend"] is None
    assert round(whole["timeouts_rps"] * 60) == 6 and round(whole["retries_rps"] * 60) == 20
    assert 50 < whole["latency_ms_p50"] <= 500
    assert count(first) == (180, 30) and first["backend"]["name"] == "voting" and 50 < first["latency_ms_p95"] <= 100
    assert count(second) == (40, 2) and second["backend"]["name"] == "voting-2" and second["latency_ms_p95"] <= 25
    table = api.tulle("stat-outbound", "deploy/web", "-n", ns)
    assert cells(table)[0] == ["NAME", "SERVICE", "ROUTE", "TYPE", "BACKEND", "SUCCESS", "RPS", "LATENCY_P50",
                               "LATENCY_P95", "LATENCY_P99", "TIMEOUTS", "RETRIES"]
    lines = table.splitlines()
    assert cells(lines[1])[0][:6] == ["web", "fabrics.elsewhere:8080", "[default]", "-", "91.67%", "1.0rps"]
    assert cells(lines[2])[0][:6] == ["web", "voting:80", "split", "HTTPRoute", "90.00%", "3.3rps"]
    assert cells(lines[2])[0][-2:] == ["3.00%", "10.00%"]
    assert cells(lines[3])[0][:5] == ["├─", "─►", "voting:80", "83.33%", "3.0rps"]
    assert cells(lines[4])[0][:5] == ["└─", "─►", "voting-2:80", "95.00%", "0.7rps"]
    assert len({len(line) for line in lines}) == 1  # the columns are under each other
    assert api.run("stat-outbound", "deploy/web", "-n", ns).stderr == ""  # what fails is in the table
    assert json.loads(api.tulle("stat-outbound", "deploy", "-n", "received", "-o", "json")) == []


def test_outbound_failures_that_http_does_not_tell(api, prometheus):
    """A gRPC service without a GRPCRoute: its statuses are 200, and a note says what became of it."""
    ns = "hidden"
    put_deployments(api, ns, "web", "calm", services=("voting", "counted"))
    plain = {"route_group": "", "route_kind": "default", "route_namespace": "", "route_name": "http"}
    web, calm = (prometheus.proxy(ns, f"{name}-1", deployment=name) for name in ("web", "calm"))
    for proxy, family, service, statuses in (
            (web, "http", "voting", {"0": 80, "14": 9, "5": 3}),  # 5, NOT_FOUND, is no failure
            (web, "grpc", "counted", {"0": 80, "14": 9}),
            (calm, "http", "voting", {"0": 80})):
        name = f"outbound_{family}_route"
        parent, backend = target("parent", "Service", service, ns, 80), target("backend", "Service", service, ns, 80)
        for status, n in statuses.items():
            told = {"http_status": "200"} if family == "http" else {"grpc_status": "OK" if status == "0" else "UNAVAILABLE"}
            proxy.add(f"{name}_request_statuses_total", n, **parent, **plain, **told, error="")
            proxy.add(f"{name}_backend_response_statuses_total", n, **parent, **plain, **backend, **told, error="")
            proxy.add("response_total", n, direction="outbound", tls="true", dst_service=service, dst_namespace=ns,
                      status_code="200", grpc_status=status, error="",
                      classification="failure" if status == "14" else "success")
        proxy.wait_scraped()
    await_json(api, lambda rows: len(rows) == 4, "stat-outbound", "deploy/web", "-n", ns)
    got = api.run("stat-outbound", "deploy/web", "-n", ns)
    assert [row[4:6] for row in cells(got.stdout) if "voting:80" in row[1]] == [["100.00%", "1.5rps"]]
    [note] = got.stderr.splitlines()
    assert note.startswith(f"note: 9 answers of Service {ns}/voting to deploy/web failed by their grpc-status, with HTTP 200. ")
    assert note.endswith(f"`tulle stat deploy/web -n {ns} --to svc/voting` counts them.")
    await_json(api, lambda rows: len(rows) == 2, "stat-outbound", "deploy/calm", "-n", ns)
    assert api.run("stat-outbound", "deploy/calm", "-n", ns).stderr == ""
    of_all = api.run("stat-outbound", "ns", ns).stderr
    assert f"`tulle stat ns/{ns} --to svc/voting --to-namespace {ns}` counts them" in of_all


# --- with proxies of our own ---------------------------------------------------------------------


def test_a_home_says_what_its_proxies_carried(homes):
    """Requests that are retried, that fail in the end, and that a rate limit refuses, as the real proxies of both sides
    counted them."""
    port, limited = 8080, 8081
    target = service("retry", [port], app="server", annotations={"retry.linkerd.io/http": "5xx", "retry.linkerd.io/limit": "2"})
    few = [{"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": {"name": "few", "namespace": "t"},
            "spec": {"podSelector": {"matchLabels": {"app": "few"}}, "port": limited, "accessPolicy": "all-unauthenticated"}},
           {"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "HTTPLocalRateLimitPolicy",
            "metadata": {"name": "few", "namespace": "t"}, "spec": {
                "targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "few"}, "total": {"requestsPerSecond": 1}}}]
    home = homes({"app.yaml": [namespace(), *server("server", {"http": port}), target, *server("few", {"http": limited, "grpc": 9090}), *few, client()]})
    home.up()
    driver = home.driver("t", "client")
    for i in range(10):
        assert driver.get("retry", port, f"/echo?id=again{i}&status=503&first=1")["status"] == 200
    for i in range(3):
        assert driver.get("retry", port, f"/echo?id=never{i}&status=500")["status"] == 500
    for _ in range(5):
        assert driver.get("retry", port, "/echo")["status"] == 200
    refused = [driver.get("few", limited, "/echo")["status"] for _ in range(12)].count(429)
    assert refused > 0
    for code in ("UNAVAILABLE", "NOT_FOUND", "UNAVAILABLE"):
        assert driver.grpc(host="few", port=9090, method="Unary", asks=[{"code": code}])["code"] == code

    def rows(command, workload, **fields):
        found = json.loads(home.run(command, f"deploy/{workload}", "-n", "t", "-o", "json"))
        return [r for r in found if all(r[k] == v for k, v in fields.items())]

    def of_retry(is_backend):
        return [r for r in rows("stat-outbound", "client") if r["service"]["name"] == "retry"
                and (r["backend"] is not None) == is_backend]

    wait_for(lambda: of_retry(True) and count(of_retry(True)[0])[0] == 34, lambda: f"all attempts are seen: {of_retry(True)}")
    [whole], [backend] = of_retry(False), of_retry(True)
    assert count(whole) == (18, 3) and round(whole["retries_rps"] * 60) == 10 + 3 * 2
    assert count(backend) == (34, 10 + 3 * 3) and backend["backend"]["name"] == "retry"
    wait_for(lambda: [count(r) for r in rows("stat-inbound", "server", port=port)] == [(34, 19)],
             lambda: f"the server's side agrees: {rows('stat-inbound', 'server')}")
    [inbound] = rows("stat-inbound", "server", port=port)
    assert inbound["server"] is None and inbound["unauthorized"] == 0
    wide = home.run("stat-inbound", "deploy/server", "-n", "t", "-o", "wide")
    assert "[default]:8080" in wide and "all-unauthenticated" in wide
    words = home.command("stat-outbound", "deploy/client", "-n", "t")
    wait_for(lambda: "note: 2 answers of Service t/few to deploy/client failed by their grpc-status, with HTTP 200. "
             in subprocess.run(words, text=True, capture_output=True).stderr, "gRPC failures are told")
    wait_for(lambda: sum(round(r["rate_limited"] * 60) for r in rows("stat-inbound", "few", server="few")) == refused,
             lambda: f"what the limit refused: {refused}, {rows('stat-inbound', 'few', server='few')}")
