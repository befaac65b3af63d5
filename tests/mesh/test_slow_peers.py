# SPDX-License-Identifier: Apache-2.0
"""
Slow readers and writers hold up nobody else and fill no memory; 1 GiB goes both ways in constant memory; peers that
vanish are noticed on the other side.
"""
import json
import pathlib

import pytest

from home import client, forget_peak, has_sanitizers, memory_of, namespace, server, settled, wait_for

HTTP, OPAQUE = 8080, 9001
PORTS = pytest.mark.parametrize("port", [HTTP, OPAQUE], ids=["http", "opaque"])
GIB = 1 << 30
HOPS = 3  # client, its proxy, the server's proxy, server


def socket_buffers_max():
    """What the kernel may hold between two ends of a connection: the largest buffers that it grows by itself."""
    return sum(int(pathlib.Path(f"/proc/sys/net/ipv4/tcp_{side}mem").read_text().split()[2]) for side in "rw")


HELD = HOPS * socket_buffers_max() + (8 << 20)  # and windows of HTTP/2, buffers of the proxies
MUCH = HELD + (56 << 20)  # more than everything between the two may hold
GROWTH = (400 if has_sanitizers() else 64) << 20  # sanitizers keep up to 256 MiB of freed memory


@pytest.fixture(scope="module")
def home(homes):
    """One server, reachable as HTTP and, on the other port, as bytes that mean nothing to the proxies."""
    app = server("server", {"http": HTTP}, opaque=[OPAQUE], more_ports=[OPAQUE])
    app[0]["spec"]["template"]["spec"]["containers"][0]["command"].append(f"http={OPAQUE}")
    home = homes({"app.yaml": [namespace(), *app, client()]})
    home.up()
    return home


class Memory:
    """Both proxies, watched: they must not grow by more than GROWTH, at any moment."""

    def __init__(self, home):
        self.pids = [home.proxy_pid("t", name) for name in ("client", "server")]

    def __enter__(self):
        for pid in self.pids:
            forget_peak(pid)
        self.before = [memory_of(pid)["VmRSS"] for pid in self.pids]
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            grown = [memory_of(pid)["VmHWM"] - before for pid, before in zip(self.pids, self.before)]
            assert max(grown) < GROWTH, f"the proxies grew by {[g >> 20 for g in grown]} MiB"


def server_state(home, id):
    return json.loads(home.driver("t", "client").get("server", HTTP, f"/progress?id={id}")["body"])


def wait_idle(home):
    """No exchange is left in the server but the one that asks."""
    wait_for(lambda: server_state(home, "")["active"] == 1, "the server has noticed that the client is gone")


@PORTS
def test_1_gib_up_in_constant_memory(home, port):
    with Memory(home):
        got = home.driver("t", "client").upload(host="server", port=port, bytes=GIB, target="/sink", timeout=240)
    assert got["answer"]["bytes"] == GIB
    assert got["answer"]["crc"] == got["crc"]


@PORTS
def test_1_gib_down_in_constant_memory(home, port):
    with Memory(home):
        got = home.driver("t", "client").download(
            host="server", port=port, bytes=GIB, target=f"/source?bytes={GIB}", timeout=240)
    assert got["bytes"] == GIB
    assert got["crc"] == got["expected"]


@PORTS
def test_both_ways_at_once(home, port):
    """A body that comes back while it is still being sent."""
    size = 32 << 20
    driver = home.driver("t", "client")
    with Memory(home), driver.session("server", port) as s:
        part = "0123456789abcdef" * 65536
        s.send(f"POST /mirror HTTP/1.1\r\nHost: server\r\nContent-Length: {size}\r\n\r\n")
        answer = driver.start("skip", session=s.number, bytes=size)
        for _ in range(size // len(part)):
            s.send(part)
        assert answer.result(60)["bytes"] == size


@PORTS
def test_a_slow_reader_holds_the_server_not_others(home, port):
    driver, id = home.driver("t", "client"), f"reader-{port}"
    with Memory(home), driver.session("server", port, receive_bytes=65536) as s:
        s.send(f"GET /source?bytes={MUCH}&id={id} HTTP/1.1\r\nHost: server\r\n\r\n")
        assert s.receive(until="\r\n\r\n").startswith("HTTP/1.1 200 ")
        sent = settled(lambda: server_state(home, id)["bytes"], "what the server could send")
        assert sent < HELD
        for _ in range(20):  # on the same link between the proxies
            assert driver.get("server", port)["status"] == 200
        assert s.skip(MUCH)["bytes"] == MUCH
    assert server_state(home, id)["bytes"] == MUCH


@PORTS
def test_a_slow_server_holds_the_writer_not_others(home, port):
    driver, id = home.driver("t", "client"), f"writer-{port}"
    with Memory(home):
        upload = driver.start_upload(host="server", port=port, bytes=MUCH, target=f"/stall?id={id}", id=id)
        assert settled(lambda: driver.moved(id=id), "what the client could send") < HELD
        for _ in range(20):
            assert driver.get("server", port)["status"] == 200
        assert not upload.done()
        assert driver.get("server", HTTP, f"/release?id={id}")["status"] == 200
        got = upload.result(120)
    assert got["answer"]["bytes"] == MUCH and got["answer"]["crc"] == got["crc"]


@PORTS
def test_many_slow_readers_in_bounded_memory(home, port):
    """40 at once: what is held for them does not add up to what they would take."""
    driver, count, size = home.driver("t", "client"), 40, 16 << 20
    with Memory(home):
        readers = [driver.session("server", port, receive_bytes=65536) for _ in range(count)]
        for s in readers:
            s.send(f"GET /source?bytes={size}&id=many-{port} HTTP/1.1\r\nHost: server\r\n\r\n")
        settled(lambda: server_state(home, f"many-{port}")["bytes"], "what the server could send")
        assert driver.get("server", port)["status"] == 200
    for s in readers:
        s.__exit__()
    wait_idle(home)


@PORTS
def test_a_client_that_finishes_sending_still_gets_its_answer(home, port):
    """RFC 9112 9.6: a half-closed connection is no reason to drop the response."""
    with home.driver("t", "client").session("server", port) as s:
        s.send("GET /echo?delay=0.5 HTTP/1.1\r\nHost: server\r\n\r\n", finish=True)
        assert s.response()["status"] == 200
        assert s.receive() == ""


@PORTS
def test_a_client_that_vanishes_while_it_sends(home, port):
    with home.driver("t", "client").session("server", port) as s:
        s.send("POST /sink?id=gone HTTP/1.1\r\nHost: server\r\nContent-Length: 1000000\r\n\r\n" + "x" * 1000)
        wait_for(lambda: server_state(home, "gone")["active"] == 2, "the request has reached the server")
    wait_idle(home)


@PORTS
def test_a_client_that_vanishes_while_it_reads(home, port):
    with home.driver("t", "client").session("server", port, receive_bytes=65536) as s:
        s.send(f"GET /source?bytes={GIB} HTTP/1.1\r\nHost: server\r\n\r\n")
        assert s.receive(until="\r\n\r\n").startswith("HTTP/1.1 200 ")
    wait_idle(home)


@PORTS
def test_a_server_that_vanishes_within_a_body_is_no_good_end(home, port):
    """The client must be able to tell: fewer bytes than announced, then the end of the connection."""
    driver, id = home.driver("t", "client"), f"broken-{port}"
    with driver.session("server", port) as s:
        s.send(f"GET /broken?bytes=1000&id={id} HTTP/1.1\r\nHost: server\r\n\r\n")
        assert "content-length: 1000" in s.receive(until="\r\n\r\n").lower()
        assert len(s.receive(bytes=500)) == 500
        assert driver.get("server", HTTP, f"/release?id={id}")["status"] == 200
        assert s.receive() == ""


def test_nothing_stays_open(home):
    """After all that, the proxies have closed what the application has closed."""
    home.close_drivers()
    for name in ("client", "server"):
        pod = home.pod("t", name)["name"]
        peer = {"direction": "outbound" if name == "client" else "inbound", "peer": "src"}
        ports = {"target_port": str(HTTP)} if name == "server" else {}

        def look():
            return home.proxy_metrics("t", pod).sum("tcp_open_connections", **peer, **ports)

        # The link between the proxies itself stays for the next request.
        wait_for(lambda: look() <= (4 if name == "server" else 0), lambda: f"{name}'s proxy has {look()} open connections")
