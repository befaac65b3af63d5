# SPDX-License-Identifier: Apache-2.0
"""
Protocols are told apart without making anybody wait: clients that say nothing until the server has spoken are
greeted, on ports that no annotation names, through one proxy and through two; what the client says late is taken
for what it is.

Outbound detection never times out in these homes: a greeting that comes is due to the server's having spoken.
"""
import collections
import json

import pytest

from home import UNMESHED, client, namespace, server, settled, wait_for

HTTP, FIRST, ECHO = 8080, 3307, 9001
ROLES = {"http": HTTP, "first": FIRST, "echo": ECHO}
PATIENT = {"config.linkerd.io/proxy-disable-outbound-protocol-detect-timeout": "true"}

# client, server, and whose proxies have to find out, on which side
WAYS = pytest.mark.parametrize("source, target, finders", [
    pytest.param("client", "server", [("client", "outbound")], id="meshed-to-meshed"),
    pytest.param("outsider", "server", [("server", "inbound")], id="unmeshed-to-meshed"),
    pytest.param("client", "plain", [("client", "outbound")], id="meshed-to-unmeshed"),
])


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [
        namespace(), *server("server", ROLES), *server("plain", ROLES, annotations=UNMESHED),
        client("client", annotations=PATIENT), client("outsider", annotations=UNMESHED)]})
    home.up()
    return home


def figures(home, workload):
    return home.proxy_metrics("t", home.pod("t", workload)["name"])


def outcomes(home, workload, direction, port):
    """How many connections came to what, of those whose upstream was opened early."""
    found = figures(home, workload).find("tulle_tcp_detect_early_total", direction=direction, target_port=str(port))
    return sum((collections.Counter({labels["outcome"]: value}) for labels, value in found), collections.Counter())


@WAYS
def test_the_server_speaks_first(home, source, target, finders):
    driver = home.driver("t", source)
    before = [outcomes(home, *finder, FIRST) for finder in finders]
    for _ in range(10):
        with driver.session(target, FIRST) as s:
            assert " speaks first" in s.receive(until="\n")
            s.send("hello\n")
            assert s.receive(until="\n") == "250 hello\n"
    for finder, was in zip(finders, before):
        now = outcomes(home, *finder, FIRST)
        assert now - was == {"server_first": 10}


def test_many_wait_at_once(home):
    """More than may be open early; none of them is forgotten."""
    driver = home.driver("t", "outsider")
    sessions = [driver.session("server", FIRST) for _ in range(80)]
    for s in sessions:
        assert " speaks first" in s.receive(until="\n")
    for s in sessions:
        s.send("hello\n")
        assert s.receive(until="\n") == "250 hello\n"
        s.__exit__()
    assert outcomes(home, "server", "inbound", FIRST)["silent"] == 0


def total(home, finder, name, port, **labels):
    return figures(home, finder[0]).sum(name, direction=finder[1], target_port=str(port), **labels)


class Silent:
    """A session whose upstream was opened although the client says nothing."""

    def __init__(self, home, source, finder, port):
        before = total(home, finder, "tcp_open_total", port, peer="dst")
        self.session = home.driver("t", source).session("server", port)
        wait_for(lambda: total(home, finder, "tcp_open_total", port, peer="dst") > before, "the upstream is opened")

    def __enter__(self):
        return self.session

    def __exit__(self, *what):
        self.session.__exit__(*what)


@pytest.mark.parametrize("source, finder", [("client", ("client", "outbound")), ("outsider", ("server", "inbound"))])
def test_a_late_request_is_a_request(home, source, finder):
    """It is answered, counted as one, and what was opened for a greeting carries nothing."""
    with Silent(home, source, finder, HTTP) as s:
        before = total(home, finder, "request_total", HTTP)
        for n in range(3):
            s.send(f"GET /echo?n={n} HTTP/1.1\r\nHost: server\r\n\r\n")
            assert json.loads(s.response()["body"])["target"] == f"/echo?n={n}"
        assert total(home, finder, "request_total", HTTP) == before + 3
    assert outcomes(home, *finder, HTTP) == {"client_first": 1}


def test_late_bytes_of_another_protocol(home):
    with Silent(home, "client", ("client", "outbound"), ECHO) as s:
        s.send("\x00\x01\x02\x03 neither HTTP nor TLS", finish=True)
        assert s.receive() == "\x00\x01\x02\x03 neither HTTP nor TLSbye"


def test_what_a_guess_that_was_wrong_is_counted_as(home):
    """One connection too many: opaque at the far proxy, which cannot know better (docs/metrics.md); nowhere a request."""
    port = str(HTTP)

    def look():
        c, s = figures(home, "client"), figures(home, "server")
        return {
            "near, balanced": c.sum("outbound_tcp_balancer_queue_requests_total", backend_name="server", backend_port=port),
            "near, by opaque routes": c.sum("outbound_tcp_route_open_total", target_port=port),
            "near, found to be HTTP": c.sum("outbound_tcp_detect_http_results_total", result="http/1", parent_port=port),
            "near, found to be opaque": sum(c.sum("outbound_tcp_detect_http_results_total", result=result, parent_port=port)
                                            for result in ("not_http", "read_timeout")),
            "far, opaque headers": s.sum("inbound_tcp_transport_header_connections_total", session_protocol="", target_port=port),
            "far, allowed": s.sum("inbound_tcp_authz_allow_total", target_port=port),
            "far, requests": s.sum("request_total", direction="inbound", target_port=port),
            "far, detected": s.sum("inbound_tcp_detect_http_results_total", srv_port=port),
        }

    before = look()
    with Silent(home, "client", ("client", "outbound"), HTTP) as s:
        wait_for(lambda: look()["far, allowed"] > before["far, allowed"], "the far proxy has it, too")
        s.send("GET /echo HTTP/1.1\r\nHost: server\r\n\r\n")
        assert s.response()["status"] == 200
    after = look()
    moved = {what: after[what] - before[what] for what in after}
    assert moved == {"near, balanced": 1, "near, by opaque routes": 0, "near, found to be HTTP": 1,
                     "near, found to be opaque": 0, "far, opaque headers": 1, "far, allowed": 1, "far, requests": 1,
                     "far, detected": 0}


def test_nothing_stays_open(home):
    for workload in ("client", "server"):
        settled(lambda: 1 + figures(home, workload).sum("tcp_open_connections", target_port=str(FIRST)), workload)
        assert figures(home, workload).sum("tcp_open_connections", target_port=str(FIRST)) == 0
