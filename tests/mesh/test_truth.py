# SPDX-License-Identifier: Apache-2.0
"""
The figures are true: after exactly N requests, k of them failures, all with the same delay, the proxies' /metrics,
Prometheus and `tulle stat` show N, k and the bucket of that delay; no more, no less.
"""
import json
import math
import urllib.parse
import urllib.request

import pytest

from home import Metrics, client, namespace, server, wait_for

HTTP, GRPC, ECHO = 8080, 8081, 9001
N, K, CONNECTIONS = 120, 17, 120
DELAY_S, BUCKET = 6, (5000, 10000)  # wide enough that a busy machine does not leave it
SCRAPES_S = 45  # a few of Prometheus' 10 s


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [
        namespace(), *server("server", {"http": HTTP, "grpc": GRPC, "echo": ECHO}, opaque=[ECHO]), client(),
    ]}, ["--publish", "linkerd/prometheus:9090=0"])
    home.up()
    return home


@pytest.fixture(scope="module")
def sent(home):
    """The requests, once for all tests. The server's readiness probe is TCP: nobody else asks anything."""
    targets = [f"/echo?delay={DELAY_S}&status={500 if n < K else 200}" for n in range(N)]
    got = home.driver("t", "client").burst(host="server", port=HTTP, targets=targets, connections=CONNECTIONS)
    assert got == {"500": K, "200": N - K}
    return {side: home.pod("t", name)["name"] for side, name in (("outbound", "client"), ("inbound", "server"))}


def labels(side):
    """By what the requests are known on either side."""
    here = {"direction": side, "tls": "true"}
    return {**here, "target_port": str(HTTP)} if side == "inbound" else {**here, "dst_deployment": "server"}


def check_buckets(metrics, side):
    total = {}
    for have, value in metrics.find("response_latency_ms_bucket", **labels(side)):
        bound = math.inf if have["le"] == "+Inf" else float(have["le"])
        total[bound] = total.get(bound, 0) + value
    below = {bound: count for bound, count in total.items() if bound <= BUCKET[0]}
    assert BUCKET[0] in below and set(below.values()) == {0}
    assert {count for bound, count in total.items() if bound >= BUCKET[1]} == {N}


@pytest.mark.parametrize("side", ["outbound", "inbound"])
def test_a_proxys_metrics(home, sent, side):
    metrics = home.proxy_metrics("t", sent[side])
    known = labels(side)
    assert metrics.sum("request_total", **known) == N
    assert metrics.sum("response_total", **known) == N
    assert metrics.sum("response_total", classification="failure", status_code="500", **known) == K
    assert metrics.sum("response_total", classification="success", status_code="200", **known) == N - K
    assert metrics.sum("response_latency_ms_count", **known) == N
    assert metrics.sum("response_latency_ms_sum", **known) >= N * DELAY_S * 1000
    check_buckets(metrics, side)


def test_diagnostics_shows_the_same(home, sent):
    shown = home.run("diagnostics", "proxy-metrics", f"po/{sent['inbound']}", "-n", "t")
    text = "\n".join(line for line in shown.splitlines() if not line.startswith("#"))
    assert Metrics(text).sum("response_total", **labels("inbound")) == N


def prometheus(home, query):
    port = home.status()["published"]["linkerd/prometheus:9090"]
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=30) as answer:
        return sum(float(item["value"][1]) for item in json.load(answer)["data"]["result"])


@pytest.mark.parametrize("side, workload", [("outbound", "client"), ("inbound", "server")])
def test_prometheus(home, sent, side, workload):
    known = {**labels(side), "namespace": "t", "deployment": workload, "pod": sent[side]}

    def selector(**more):
        return "{" + ",".join(f'{k}="{v}"' for k, v in {**known, **more}.items()) + "}"

    wait_for(lambda: prometheus(home, f"sum(response_total{selector()})") >= N, "Prometheus has the requests", SCRAPES_S)
    assert prometheus(home, f"sum(request_total{selector()})") == N
    assert prometheus(home, f"sum(response_total{selector()})") == N
    assert prometheus(home, f"sum(response_total{selector(classification='failure')})") == K
    assert prometheus(home, f"sum(response_latency_ms_bucket{selector(le=BUCKET[0])})") == 0
    assert prometheus(home, f"sum(response_latency_ms_bucket{selector(le=BUCKET[1])})") == N


def stat(home, *words):
    ns = [] if words[0].startswith("ns/") else ["-n", "t"]
    return json.loads(home.run("stat", *words, *ns, "-t", "10m", "-o", "json"))


STATS = [
    pytest.param(["deploy/server"], "server", id="received"),
    pytest.param(["deploy/server", "--from", "deploy/client"], "server", id="received-from"),
    pytest.param(["deploy/client", "--to", "deploy/server"], "client", id="sent-to"),
    pytest.param(["deploy/client", "--to", "svc/server"], "client", id="sent-to-service"),
    pytest.param(["ns/t"], "t", id="namespace"),
]


@pytest.mark.parametrize("words, name", STATS)
def test_stat(home, sent, words, name):
    def look():
        rows = [row for row in stat(home, *words) if row["name"] == name]
        return rows and rows[0]["rps"] is not None and round(rows[0]["rps"] * 600) >= N and rows[0]

    row = wait_for(look, lambda: f"stat shows {N} requests; it shows {stat(home, *words)}", SCRAPES_S, 0.5)
    assert round(row["rps"] * 600) == N
    assert round(row["success"] * N / (1 if row["success"] <= 1 else 100)) == N - K
    for quantile in ("latency_ms_p50", "latency_ms_p95", "latency_ms_p99"):
        assert BUCKET[0] < row[quantile] <= BUCKET[1]


def test_stat_as_a_table(home, sent):
    test_stat(home, sent, ["deploy/server"], "server")
    head, line = home.run("stat", "deploy", "server", "-n", "t", "-t", "10m").splitlines()[:2]
    row = dict(zip(head.split(), line.split()))
    assert row["NAME"] == "server" and row["MESHED"] == "1/1"
    assert row["SUCCESS"] == f"{100 * (N - K) / N:.2f}%"


def test_grpc_statuses_are_counted_by_number(home, sent):
    driver = home.driver("t", "client")
    for code, times in (("OK", 5), ("NOT_FOUND", 3), ("UNAVAILABLE", 2)):
        for _ in range(times):
            ask = {} if code == "OK" else {"code": code}
            assert driver.grpc(host="server", port=GRPC, method="Unary", asks=[ask])["code"] == code
    for side, known in (("outbound", {"dst_deployment": "server"}), ("inbound", {})):
        metrics = home.proxy_metrics("t", sent[side])
        have = {(s["grpc_status"], s["classification"]): value for s, value in metrics.find(
            "response_total", direction=side, target_port=str(GRPC), **known)}
        assert have == {("0", "success"): 5, ("5", "success"): 3, ("14", "failure"): 2}, side


def test_tcp_connections_and_bytes_are_counted(home, sent):
    """Each side of each proxy: `src` is who called it, `dst` whom it called."""
    driver = home.driver("t", "client")
    known = {"target_port": str(ECHO)}
    for _ in range(7):
        assert driver.ping_pong(host="server", port=ECHO, bytes=1000)["rest"] == "bye"
    with driver.session("server", ECHO) as s:
        s.send("x" * 1000)
        assert s.receive(bytes=1000) == "x" * 1000
        for side in ("inbound", "outbound"):
            for peer in ("src", "dst"):
                metrics = home.proxy_metrics("t", sent[side])
                assert metrics.sum("tcp_open_total", direction=side, peer=peer, **known) == 8, (side, peer)
                assert metrics.sum("tcp_open_connections", direction=side, peer=peer, **known) == 1, (side, peer)

        s.finish()
        assert s.receive() == "bye"

    def closed():
        return all(home.proxy_metrics("t", sent[side]).sum("tcp_close_total", direction=side, peer=peer, **known) == 8
                   for side in ("inbound", "outbound") for peer in ("src", "dst"))

    wait_for(closed, "all connections are counted as closed")
    # In the clear: what the application sent to its proxy, and what the other application got from its own.
    for side, peer, up, down in (("outbound", "src", "read", "write"), ("inbound", "dst", "write", "read")):
        metrics = home.proxy_metrics("t", sent[side])
        assert metrics.sum("tcp_open_connections", direction=side, peer=peer, **known) == 0
        assert metrics.sum(f"tcp_{up}_bytes_total", direction=side, peer=peer, **known) == 8 * 1000, side
        assert metrics.sum(f"tcp_{down}_bytes_total", direction=side, peer=peer, **known) == 8 * 1003, side


def test_bytes_of_a_short_http_connection_are_counted(home, sent):
    """It is closed before anybody scrapes."""
    def look(name):
        return home.proxy_metrics("t", sent["outbound"]).sum(
            f"tcp_{name}", direction="outbound", peer="src", target_port=str(HTTP))

    names = ("close_total", "read_bytes_total", "write_bytes_total")
    before = {name: look(name) for name in names}
    text = "GET /echo HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n"
    with home.driver("t", "client").session("server", HTTP) as s:
        s.send(text)
        got = s.receive()
    assert got.startswith("HTTP/1.1 200 ")
    wait_for(lambda: look("close_total") == before["close_total"] + 1, "the connection is counted as closed")
    assert look("read_bytes_total") - before["read_bytes_total"] == len(text)
    assert look("write_bytes_total") - before["write_bytes_total"] == len(got)
