# SPDX-License-Identifier: Apache-2.0
"""`tulle stat` says exactly what the proxies counted: real Prometheus, real controller, real command line.

Every test has a namespace of its own, so that none sees another's figures.
"""
import contextlib
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

import control_plane as cp
from figures import (ADMIN, PUBLIC_API, PublicApi, api, deployment, failures, meshed_pod, namespace,  # noqa: F401
                     prometheus, put_deployments, requests, service)


def test_every_response_of_a_short_test_is_counted(api, prometheus):
    """All of it happened between two scrapes; increase() would say that nothing did."""
    ns = "exact"
    put_deployments(api, ns, "web")
    p = prometheus.proxy(ns, "web-1", deployment="web")
    p.responses(1000 - 37, 37, latency_ms=45)
    p.tcp(3, 4200, 8400)
    row = api.await_stat(lambda rows: requests(rows[f"{ns}/web"]) > 0, "deploy", "-n", ns)[f"{ns}/web"]
    assert requests(row) == 1000 and failures(row) == 37
    assert row["meshed"] == "1/1" and row["kind"] == "deployment"
    for quantile in ("p50", "p95", "p99"):
        assert 40 <= row[f"latency_ms_{quantile}"] <= 50  # the bucket of 45 ms
    assert row["tcp_open_connections"] == 3
    assert round(row["tcp_read_bytes_rate"] * 60) == 4200 and round(row["tcp_write_bytes_rate"] * 60) == 8400
    p.wait_scraped()
    assert api.stat("deploy", "-n", ns)[f"{ns}/web"] == row  # as long as it stays in the window
    assert api.tulle("stat", "deploy/web", "-n", ns).splitlines() == [
        "NAME   MESHED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN",
        "web       1/1    96.30%   16.7rps          45ms          50ms          50ms          3"]
    assert api.tulle("stat", "deploy", "web", "-n", ns, "-o", "wide").splitlines()[1].endswith(
        "          3          70.0B/s          140.0B/s")


def test_only_what_happened_in_the_window_is_counted(api, prometheus):
    ns = "window"
    put_deployments(api, ns, "web", pods=2)
    one = prometheus.proxy(ns, "web-1", deployment="web")
    two = prometheus.proxy(ns, "web-2", deployment="web")
    one.responses(500, 20, latency_ms=3)
    two.responses(100, latency_ms=3)
    query = ("deploy/web", "-n", ns, "-t", "15s")
    api.await_stat(lambda rows: requests(rows[f"{ns}/web"], 15) == 620, *query)
    api.await_stat(lambda rows: requests(rows[f"{ns}/web"], 15) == 0, *query)  # 15 s later
    one.responses(7, 3, latency_ms=400)
    two.responses(5, latency_ms=400)
    row = api.await_stat(lambda rows: requests(rows[f"{ns}/web"], 15) >= 15, *query)[f"{ns}/web"]
    assert requests(row, 15) == 15 and failures(row, 15) == 3
    assert 300 <= row["latency_ms_p50"] <= 400  # of these alone
    pods = api.stat("po", "-n", ns, "-t", "15s")
    assert requests(pods[f"{ns}/web-1"], 15) == 10 and requests(pods[f"{ns}/web-2"], 15) == 5
    row = api.stat("deploy/web", "-n", ns, "-t", "5m")[f"{ns}/web"]
    assert requests(row, 300) == 635 and failures(row, 300) == 23


def test_what_an_old_process_had_counted_before_is_left_out(api, prometheus):
    """As after Prometheus itself was away: the series is new to it, the counts are not of this window."""
    ns = "stranger"
    put_deployments(api, ns, "web")
    p = prometheus.proxy(ns, "web-1", deployment="web", started=time.time() - 7200)
    p.close()
    p = prometheus.proxies.pop()
    prometheus.write_targets()
    again = prometheus.proxy(ns, "web-1", deployment="web", started=time.time() - 7200)
    with again.lock:
        again.counters[("response_total", 'direction="inbound",classification="success",status_code="200"')] = 10**6
    again.wait_scraped()
    again.wait_scraped()
    assert requests(api.stat("deploy", "-n", ns)[f"{ns}/web"]) == 0
    again.add("response_total", 11, direction="inbound", classification="success", status_code="200")
    api.await_stat(lambda rows: requests(rows[f"{ns}/web"]) == 11, "deploy", "-n", ns)


def test_a_restarted_proxy_keeps_what_it_counted_before(api, prometheus):
    ns = "restart"
    put_deployments(api, ns, "web")
    p = prometheus.proxy(ns, "web-1", deployment="web")
    p.responses(90, 10)
    api.await_stat(lambda rows: requests(rows[f"{ns}/web"]) == 100, "deploy", "-n", ns)
    p.restart()
    p.responses(20, 1)
    row = api.await_stat(lambda rows: requests(rows[f"{ns}/web"]) > 100, "deploy", "-n", ns)[f"{ns}/web"]
    assert requests(row) == 121 and failures(row) == 11


def test_every_object_is_listed_and_finished_pods_are_not(api, prometheus):
    ns = "listed"
    put_deployments(api, ns, "idle")
    waiting = {"name": "app", "ready": False, "image": "x:1",
               "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    api.put(*deployment(ns, "plain"), meshed_pod(ns, "plain-1", "plain", meshed=False),
            *deployment(ns, "broken"),
            meshed_pod(ns, "broken-1", "broken", phase="Pending", statuses=[waiting]),
            meshed_pod(ns, "idle-old", "idle", phase="Succeeded"),
            meshed_pod(ns, "idle-bad", "idle", phase="Failed"))
    api.wait(lambda: {f"{ns}/broken", f"{ns}/plain"} <= set(api.stat("deploy", "-n", ns, "--unmeshed")))
    assert set(api.stat("deploy", "-n", ns)) == {f"{ns}/broken", f"{ns}/idle"}
    row = api.stat("deploy", "-n", ns)[f"{ns}/idle"]
    assert row["meshed"] == "1/1" and row["success"] is None and row["rps"] is None
    table = api.tulle("stat", "po", "-n", ns, "--unmeshed").splitlines()
    assert [re.split(r"\s{2,}", line)[:3] for line in table] == [
        ["NAME", "STATUS", "MESHED"], ["broken-1", "ImagePullBackOff", "1/1"], ["idle-1", "Running", "1/1"],
        ["plain-1", "Running", "0/1"]]
    assert set(api.stat("deploy", "-n", ns, "-l", "app in (idle,plain),app!=plain")) == {f"{ns}/idle"}
    assert api.tulle("stat", "sts", "-n", ns) == ""


def test_traffic_between_two_is_told_by_the_sender(api, prometheus):
    ns = "between"
    for name in ("web", "voting", "emoji"):
        put_deployments(api, ns, name)
        api.put(service(ns, name))
    web = prometheus.proxy(ns, "web-1", deployment="web")
    for name, good, bad, ms in (("voting", 60, 20, 8), ("emoji", 30, 0, 2)):
        target = {"dst_namespace": ns, "dst_deployment": name, "dst_service": name, "dst_pod": f"{name}-1",
                  "authority": f"{name}.{ns}.svc.cluster.local:80"}
        web.responses(good, bad, latency_ms=ms, direction="outbound", **target)
        web.tcp(2, 1200, 600, direction="outbound", peer="dst", **target)
    web.responses(4)
    rows = api.await_stat(lambda rows: rows, "deploy/web", "-n", ns, "--to", "deploy/voting")
    assert list(rows) == [f"{ns}/web"] and requests(rows[f"{ns}/web"]) == 80
    assert failures(rows[f"{ns}/web"]) == 20 and rows[f"{ns}/web"]["tcp_open_connections"] == 2
    assert requests(api.stat("deploy", "-n", ns, "--to", f"ns/{ns}")[f"{ns}/web"]) == 110
    assert requests(api.stat("po/web-1", "-n", ns, "--to", "svc/emoji")[f"{ns}/web-1"]) == 30
    rows = api.stat("deploy", "-n", ns, "--from", "deploy/web")
    assert {name: requests(row) for name, row in rows.items()} == {f"{ns}/voting": 80, f"{ns}/emoji": 30}
    assert rows[f"{ns}/voting"]["meshed"] == "1/1"
    rows = api.stat("svc", "-n", ns)
    assert {name: requests(row) for name, row in rows.items()} == {
        f"{ns}/voting": 80, f"{ns}/emoji": 30, f"{ns}/web": 0}
    assert failures(rows[f"{ns}/voting"]) == 20 and rows[f"{ns}/voting"]["meshed"] == "-"
    rows = api.stat("au", "-n", ns)
    assert requests(rows[f"{ns}/voting.{ns}.svc.cluster.local:80"]) == 80
    assert api.tulle("stat", "deploy/emoji", "-n", ns, "--to", "deploy/web") == ""


def test_namespaces_and_all_kinds(api, prometheus):
    ns = "whole"
    put_deployments(api, ns, "web")
    api.put(service(ns, "web"))
    p = prometheus.proxy(ns, "web-1", deployment="web")
    p.responses(12, 3)
    rows = api.await_stat(lambda rows: requests(rows[ns]) > 0, "ns")
    assert requests(rows[ns]) == 15 and rows[ns]["meshed"] == "1/1"
    assert list(api.stat(f"ns/{ns}")) == [ns]
    api.wait(lambda: f"{ns}/web" in api.stat("svc", "-n", ns))
    tables = api.tulle("stat", "all", "-n", ns).split("\n\n")
    assert [t.splitlines()[1].split()[0] for t in tables] == ["deploy/web", "po/web-1", "svc/web"]
    whole = api.tulle("stat", "deploy", "-A").splitlines()
    assert whole[0].startswith("NAMESPACE") and any(re.match(rf"{ns} +web +1/1 +80.00%", line) for line in whole)


def test_what_cannot_be_answered_is_said(api):
    assert 'there is no deployment called "nobody" in namespace default' in api.tulle(
        "stat", "deploy/nobody", status=1)
    for side in ("--to", "--from"):
        assert 'there is no deployment called "nobody" in namespace default' in api.tulle(
            "stat", "deploy", side, "deploy/nobody", status=1)
    assert "is no label selector" in api.tulle("stat", "deploy", "-l", "a=b,,", status=1)
    for wrong in (["deploy", "--to", "svc/a", "--from", "svc/b"], ["deploy", "-A", "-n", "x"], ["svc", "--to", "deploy/a"],
                  ["deploy", "--from", "svc/a"], ["all", "--to", "svc/a"], ["deploy", "-t", "5s"], ["gremlins"], []):
        assert api.tulle("stat", *wrong, status=64).startswith("tulle: stat: ")


def test_why_there_is_nothing_to_show(api, prometheus):
    """Linkerd's words come first; a namespace that is not there is another matter than one without traffic."""
    ns, look = "barren", " Namespace barren was asked; -n names another, -A asks all.\n"
    api.put(namespace(ns), *deployment(ns, "bare"), meshed_pod(ns, "bare-1", "bare", meshed=False))
    api.wait(lambda: f"{ns}/bare" in api.stat("deploy", "-n", ns, "--unmeshed"))
    bare = "What is there has no proxy; --unmeshed shows it."
    assert api.nothing("stat", "deploy", "-n", ns) == f"No traffic found. {bare}{look}"
    assert api.nothing("stat", "sts", "-n", ns) == f"No traffic found. There are no statefulsets.{look}"
    for only in (["au"], ["deploy", "-l", "app=else"], ["deploy", "--to", "deploy/bare"]):
        assert api.nothing("stat", *only, "-n", ns) == f"No traffic found.{look}"
    assert api.nothing("stat", f"ns/{ns}") == f"No traffic found. {bare}\n"
    for wrong in (["deploy", "-n", "nope"], ["deploy", "--to-namespace", "nope", "-n", ns], ["all", "-n", "nope"]):
        assert api.nothing("stat", *wrong, status=1) == (
            'tulle: stat: there is no namespace called "nope"; `tulle stat ns --unmeshed` lists them all\n')


def test_an_unreachable_prometheus_is_named(tmp_path, prometheus):
    gone = f"http://{cp.free_address()}:9/path"
    a = PublicApi(tmp_path, gone, prometheus.scraped).start().wait_ready(ADMIN)
    try:
        said = a.tulle("stat", "deploy", "-n", "x", status=1)
        assert gone in said and "is it running" in said
        assert a.stop() == 0
    finally:
        a.close()


class Impostor:
    """Listens where Prometheus should, and does to each connection what it is told to."""

    def __init__(self, behave):
        self.address = cp.free_address()
        self.socket = socket.create_server((self.address, 0))
        self.url = f"http://{self.address}:{self.socket.getsockname()[1]}"
        self.behave = behave
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            connection, _ = self.socket.accept()
            if self.behave is None:
                connection.close()
                return
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        with connection, contextlib.suppress(OSError):
            self.behave(connection)

    def close(self):
        self.behave = None
        with socket.create_connection(self.socket.getsockname()):
            self.thread.join()
        self.socket.close()


def say(answer):
    def behave(connection):
        connection.recv(65536)
        connection.sendall(answer)
    return behave


def stay_silent(connection):
    while connection.recv(65536):  # until the other side gives up
        pass


@pytest.mark.parametrize("behave, words", [
    (say(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"), "no answer of Prometheus'"),
    (say(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), "status 503"),
    (say(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n" + b" " * 20000000), "longer than 16 MiB"),
    (say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"), "ended early"),
    (say(b"SSH-2.0-OpenSSH\r\n"), "malformed HTTP/1"),
    (say(b""), "gives no figures"),
    (stay_silent, "no answer within 10 s"),
], ids=["page", "busy", "long", "half", "alien", "closing", "silent"])
def test_who_is_not_prometheus_is_told_from_it(tmp_path, prometheus, behave, words):
    impostor = Impostor(behave)
    a = PublicApi(tmp_path, impostor.url, prometheus.scraped).start().wait_ready(ADMIN)
    try:
        for _ in range(2):
            said = a.tulle("stat", "deploy", status=1)
            assert words in said and impostor.url in said
        assert a.stop() == 0, a.output()  # nothing leaked: it is built with a sanitizer where tests are
    finally:
        a.close()
        impostor.close()


def test_a_kept_connection_may_have_been_given_up(tmp_path, prometheus):
    """Questions that meet a closed connection are asked again on another."""
    served = []

    def answer_once(connection):
        connection.recv(65536)
        body = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        served.append(connection.recv(1))  # the next question is cut off

    impostor = Impostor(answer_once)
    a = PublicApi(tmp_path, impostor.url, prometheus.scraped).start().wait_ready(ADMIN)
    try:
        for _ in range(3):
            assert a.tulle("stat", "deploy") == ""
        assert served and all(served)  # so there were connections that were used again
        assert a.stop() == 0, a.output()
    finally:
        a.close()
        impostor.close()


def test_a_client_that_goes_away_is_forgotten(tmp_path, prometheus):
    """Calls that wait for a silent Prometheus end with their connections; more than may wait are refused."""
    impostor = Impostor(stay_silent)
    a = PublicApi(tmp_path, impostor.url, prometheus.scraped).start().wait_ready(ADMIN)
    head = b"POST /api/v1/SelfCheck HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    try:
        for _ in range(3):  # each round fills what there is room for
            waiting = []
            for _ in range(64):
                waiting.append(socket.create_connection((a.address, PUBLIC_API), timeout=cp.STALL_S))
                waiting[-1].sendall(head)

            def refused():
                with contextlib.suppress(TimeoutError), socket.create_connection(
                        (a.address, PUBLIC_API), timeout=0.5) as more:
                    more.sendall(head)
                    return more.recv(4096).startswith(b"HTTP/1.1 503")
            a.wait(refused)
            for connection in waiting:
                connection.close()
        assert a.stop() == 0, a.output()
    finally:
        a.close()
        impostor.close()


def test_http_as_the_protocol_has_it(api):
    base = f"http://{api.address}:{PUBLIC_API}/api/v1/"

    def post(method, body=b""):
        try:
            with urllib.request.urlopen(base + method, data=body, timeout=cp.STALL_S) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    status, headers, body = post("Version")
    assert status == 200 and headers["content-type"] == "application/octet-stream" and b"gcc" in body
    status, headers, body = post("Nothing")
    assert status == 404 and headers["linkerd-error"] == "Not Found" and b"Nothing" in body
    status, headers, body = post("StatSummary", b"\xff\xff")
    assert status == 400 and headers["linkerd-error"] == "Bad Request"
    with pytest.raises(urllib.error.HTTPError) as got:
        urllib.request.urlopen(base + "Version", timeout=cp.STALL_S)
    assert got.value.code == 405
    h2 = subprocess.run(["curl", "--silent", "--http2-prior-knowledge", "--data-binary", "", "--output", "/dev/null",
                         "--write-out", "%{http_version} %{http_code}", base + "Version"],
                        capture_output=True, text=True, timeout=cp.STALL_S)
    assert h2.stdout == "2 200", h2
    assert api.tulle("version").splitlines()[1].startswith("Server version: ")
