# SPDX-License-Identifier: Apache-2.0
"""
Mutual TLS is seen on the wire: on the link of the server's pod everything between two meshed pods is TLS records, and
no marker that the application sent in the clear appears; from a pod outside the mesh the same markers do.
"""
import os
import secrets
import signal

import pytest

from capture import Capture
from home import UNMESHED, client, namespace, server, wait_for

HTTP, GRPC, ECHO = 8080, 8081, 9001
INBOUND = 4143


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [
        namespace(), *server("server", {"http": HTTP, "grpc": GRPC, "echo": ECHO}, opaque=[ECHO]),
        client("client"), client("outsider", annotations=UNMESHED),
    ]})
    home.up()
    return home


def send_http(driver, marker):
    answer = driver.get("server", HTTP, f"/echo?{marker}", method="POST", body=marker, headers=[["X-Marker", marker]])
    assert answer["status"] == 200 and answer["body"].count(marker) == 3


def send_grpc(driver, marker):
    got = driver.grpc(host="server", port=GRPC, method="Unary", asks=[{"marker": marker}])
    assert got["code"] == "OK" and got["answers"][0]["ask"]["marker"] == marker


def send_tcp(driver, marker):
    with driver.session("server", ECHO) as s:
        s.send(marker, finish=True)
        assert s.receive() == marker + "bye"


KINDS = pytest.mark.parametrize("send", [send_http, send_grpc, send_tcp], ids=["http", "grpc", "tcp"])


def markers_in(wire, marker):
    return sum(frame.count(marker.encode()) for frame in wire.frames)


@KINDS
def test_between_meshed_pods_all_is_tls(home, send):
    marker = "clear-" + secrets.token_hex(16)
    ips = [home.pod("t", name)["ip"] for name in ("client", "server")]
    home.driver("t", "client")  # started before: it is the same pod
    with Capture(home, "t", "server") as wire:
        # A connection from before would have no beginning in the capture: make the proxy dial anew.
        restart_proxy(home, "client")
        for _ in range(3):
            send(home.driver("t", "client"), marker)
    assert wire.frames and markers_in(wire, marker) == 0
    streams = wire.streams(ips)
    assert streams, "nothing passed between the two pods"
    for stream in streams:
        data, records = stream.data, stream.tls_records()
        assert marker.encode() not in data
        assert records, f"{stream.source} to {stream.target} is no TLS: {data[:64]!r}"
        assert records[0][0] == 22, "it begins with a handshake"
        assert INBOUND in (stream.source[1], stream.target[1])
    carried = sum(length for stream in streams for kind, length in stream.tls_records() if kind == 23)
    assert carried > 2 * 3 * len(marker), "application data went both ways"


def restart_proxy(home, workload):
    old = home.proxy_pid("t", workload)
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: home.proxy_pid("t", workload) not in (0, old) and home.pod("t", workload)["ready"],
             "the proxy runs again")


@KINDS
def test_from_outside_the_mesh_the_same_is_clear(home, send):
    """The capture sees what is there to see."""
    marker = "clear-" + secrets.token_hex(16)
    with Capture(home, "t", "server") as wire:
        send(home.driver("t", "outsider"), marker)
    assert markers_in(wire, marker) >= 2


def test_over_ipv6_too(home):
    marker = "clear-" + secrets.token_hex(16)
    driver = home.driver("t", "client")
    with Capture(home, "t", "server") as wire:
        answer = driver.http(host="server", port=HTTP, family=6, requests=[{"method": "POST", "body": marker}])[0]
        assert marker in answer["body"]
    assert markers_in(wire, marker) == 0


def test_the_token_for_a_certificate_is_not_shown(home):
    """A new proxy proves who it is to the identity component: its token must not pass in the clear."""
    home.close_drivers()
    before = home.pod("t", "client")["name"]
    with Capture(home, "linkerd", "linkerd-identity") as wire:
        home.run("local", "restart", "client", "-n", "t")
        home.wait_ready("t", "client", 1, lambda pod: pod["name"] != before)
        pod = home.pod("t", "client")
    token = next((home.path / "pods" / f"t.{pod['name']}").rglob("linkerd-identity-token/linkerd-identity-token")).read_bytes().strip()
    assert len(token) > 100 and token.count(b".") == 2
    streams = wire.streams((pod["ip"], home.pod("linkerd", "linkerd-identity")["ip"]))
    assert streams, "the new proxy did not ask for a certificate"
    payload = token.split(b".")[1]
    for stream in streams:
        assert payload not in stream.data
        assert stream.tls_records()
