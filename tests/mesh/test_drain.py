# SPDX-License-Identifier: Apache-2.0
"""
A proxy that is told to end loses nobody who has connected: also not those that it had not accepted yet. They wait in the
kernel's queue, which the end of its listeners would reset. And whom it cannot wait for is told why.
"""
import os
import signal

import pytest

from home import UNMESHED, client, namespace, server, wait_for

HTTP, ECHO = 8080, 9001
CLIENTS = 40
GET = "GET /echo HTTP/1.1\r\nHost: server\r\n\r\n"


@pytest.fixture(scope="module")
def home(homes):
    brief = {"config.linkerd.io/shutdown-grace-period": "1s"}
    home = homes({"app.yaml": [namespace(), *server("server", {"http": HTTP, "echo": ECHO}, [ECHO]),
                               *server("brief", {"http": HTTP}, annotations=brief),
                               client("plain", annotations=UNMESHED), client("hasty", annotations=brief), client()]})
    home.up()
    return home


class Stopped:
    """A proxy that stands still while its clients connect; it finds them and SIGTERM at once."""

    def __init__(self, home, workload):
        self.home, self.workload = home, workload
        self.pid = home.proxy_pid("t", workload)

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGTERM)
        os.kill(self.pid, signal.SIGCONT)

    def wait_new(self):
        wait_for(lambda: self.home.proxy_pid("t", self.workload) not in (None, self.pid), "the next proxy has started")
        wait_for(lambda: self.home.status()["ready"], "the pod is ready again")


def ask_all(driver, port, text):
    """Sessions that are connected as far as their kernel knows, with what they have sent."""
    sessions = [driver.session("server", port) for _ in range(CLIENTS)]
    for s in sessions:
        s.send(text)
    return sessions


def check_answers(sessions):
    for s in sessions:
        answer = s.response()
        assert answer["status"] == 200
        assert ["connection", "close"] in [[name.lower(), value] for name, value in answer["headers"]], answer
        assert s.receive() == "", "and it is closed in an orderly way"


def test_those_who_wait_at_a_servers_proxy_are_served(home):
    """In the clear, opaque, and from the mesh: its client's proxy dials, and waits for the end of the handshake."""
    plain, meshed = home.driver("t", "plain"), home.driver("t", "client")
    for driver in (plain, meshed):
        assert driver.get("server", HTTP)["status"] == 200
    with Stopped(home, "server") as proxy:
        http = ask_all(plain, HTTP, GET)
        opaque = ask_all(plain, ECHO, "before\n")
        calls = [meshed.start_http(host="server", port=HTTP, requests=[{"target": "/echo"}]) for _ in range(5)]
    check_answers(http)
    for s in opaque:
        assert s.receive(until="\n") == "before\n"
        s.send("after\n", finish=True)
        assert s.receive() == "after\nbye"
    for call in calls:
        assert call.result(60)[0]["status"] == 200
    proxy.wait_new()


def test_those_who_wait_at_a_clients_proxy_are_served(home):
    meshed = home.driver("t", "client")
    assert meshed.get("server", HTTP)["status"] == 200
    with Stopped(home, "client") as proxy:
        sessions = ask_all(meshed, HTTP, GET)
    check_answers(sessions)
    proxy.wait_new()


REASON = "it was not done when the time to shut down was over"


@pytest.mark.parametrize("caller, ends", [("plain", "brief"), ("client", "brief"), ("hasty", "hasty")])
def test_what_the_end_of_the_grace_period_cuts_is_answered(home, caller, ends):
    """From outside, from the mesh, and where it is the client's own proxy that ends."""
    def requests():
        return home.proxy_metrics("t", ends).sum("request_total")

    before = requests()
    pid = home.proxy_pid("t", ends)
    with home.driver("t", caller).session("brief", HTTP) as s:
        s.send("GET /echo?delay=30 HTTP/1.1\r\nHost: brief\r\n\r\n")
        wait_for(lambda: requests() > before, "the request is under way")
        os.kill(pid, signal.SIGTERM)
        answer = s.response()
        headers = {name.lower(): value for name, value in answer["headers"]}
        assert answer["status"] == 503
        assert headers.get("l5d-proxy-error") == (REASON if caller == ends else None), "its own proxy alone tells a client"
        if caller == ends or caller == "plain":
            assert headers["connection"] == "close"
            assert s.receive() == "", "and it is closed in an orderly way"
    wait_for(lambda: home.proxy_pid("t", ends) not in (None, pid), "the next proxy has started")
    wait_for(lambda: home.status()["ready"], "the pod is ready again")
