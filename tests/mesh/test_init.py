# SPDX-License-Identifier: Apache-2.0
"""
tulle-init in network namespaces: what is redirected, what is left alone, and that a run is all or
nothing.

Two namespaces without names, `pod` and `peer`, are joined by a veth pair; they exist only as open
descriptors of this process and end with it. A thread may be in another namespace than the rest, so
sockets are made by stepping in and out.
"""
import contextlib
import ctypes
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLONE_NEWNET = 0x40000000
SO_ORIGINAL_DST = 80  # also IP6T_SO_ORIGINAL_DST
SO_MARK = 36
MARK = 0x1539
INCOMING, OUTGOING = 4143, 4140
STALL_S = 20  # longer than anything takes
POD, PEER = {4: "10.9.0.1", 6: "fd09::1"}, {4: "10.9.0.2", 6: "fd09::2"}

libc = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root")


def tulle_init():
    """The program of TULLE_BUILD, or of the build folder that has the newest one."""
    folders = [os.environ["TULLE_BUILD"]] if "TULLE_BUILD" in os.environ else ["build", "build-asan"]
    found = [p for f in folders for p in [ROOT / f / "tulle-init"] if p.exists()]
    assert found, "tulle-init is not built: run `make` or `make asan`, or set TULLE_BUILD"
    return str(max(found, key=lambda p: p.stat().st_mtime))


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """A network namespace, held by a descriptor."""

    def __init__(self):
        with open("/proc/thread-self/ns/net", "rb") as here:
            check(libc.unshare(CLONE_NEWNET))
            try:
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            finally:
                check(libc.setns(here.fileno(), CLONE_NEWNET))
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.run("ip", "link", "set", "lo", "up")

    def close(self):
        os.close(self.fd)

    @contextlib.contextmanager
    def entered(self):
        with open("/proc/thread-self/ns/net", "rb") as here:
            check(libc.setns(self.fd, CLONE_NEWNET))
            try:
                yield
            finally:
                check(libc.setns(here.fileno(), CLONE_NEWNET))

    def run(self, *command, **options):
        options = {"check": True, "text": True, "capture_output": True, **options}
        return subprocess.run(["nsenter", f"--net={self.path}", *command], **options)

    def socket(self, family, kind=socket.SOCK_STREAM):
        with self.entered():
            s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
        s.settimeout(STALL_S)
        return s

    def listen(self, family, port, ip=None):
        s = self.socket(family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((ip or ("0.0.0.0" if family == 4 else "::"), port))
        s.listen()
        return s

    def connect(self, family, ip, port, mark=None):
        s = self.socket(family)
        if mark is not None:
            s.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        s.connect((ip, port))
        return s

    def rules(self):
        """What nft shows, without the handles that change with each run."""
        shown = json.loads(self.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
        for item in shown:
            for kind in item.values():
                kind.pop("handle", None)
        return shown


@pytest.fixture
def net():
    pod, peer = Namespace(), Namespace()
    pod.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer.path)
    for ns, ips in ((pod, POD), (peer, PEER)):
        ns.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
        ns.run("ip", "addr", "add", f"{ips[4]}/24", "dev", "eth0")
        ns.run("ip", "addr", "add", f"{ips[6]}/64", "dev", "eth0", "nodad")
        ns.run("ip", "link", "set", "eth0", "up")
    yield pod, peer
    pod.close()
    peer.close()


def init(ns, *flags, expect=0):
    """Run with the two required flags and `flags`; the text on standard error."""
    command = [tulle_init(), "-p", str(INCOMING), "-o", str(OUTGOING), "--netns", ns.path, *flags]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == expect, done.stderr
    return done.stderr


def original_dst(s, family):
    if family == 4:
        raw = s.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        port, ip = struct.unpack_from("!H4s", raw, 2)
        return socket.inet_ntop(socket.AF_INET, ip), port
    raw = s.getsockopt(socket.SOL_IPV6 if hasattr(socket, "SOL_IPV6") else 41, SO_ORIGINAL_DST, 28)
    port, _, ip = struct.unpack_from("!HI16s", raw, 2)
    return socket.inet_ntop(socket.AF_INET6, ip), port


def lands_on(listeners, connect):
    """Which of the listeners (by name) gets the connection that connect() makes: (name, accepted)."""
    accepted = []

    def accept(name, listener):
        with contextlib.suppress(OSError):  # shut down below
            connection = listener.accept()[0]
            accepted.append((name, connection))
            connection.sendall(b"!")

    threads = [threading.Thread(target=accept, args=item) for item in listeners.items()]
    for t in threads:
        t.start()
    try:
        with connect() as client:
            assert client.recv(1) == b"!"
    finally:
        for listener in listeners.values():
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        for t in threads:
            t.join()
        for listener in listeners.values():
            listener.close()
    assert len(accepted) == 1
    return accepted[0]


def incoming(net, family, port):
    """A connection of the peer to the pod's port: "proxy" or "app", and the accepted socket."""
    pod, peer = net
    listeners = {"proxy": pod.listen(family, INCOMING), "app": pod.listen(family, port)}
    return lands_on(listeners, lambda: peer.connect(family, POD[family], port))


def outgoing(net, family, port, mark=None):
    """A connection of the pod to the peer's port: "proxy" or "peer", and the accepted socket."""
    pod, peer = net
    loopback = "127.0.0.1" if family == 4 else "::1"
    listeners = {"proxy": pod.listen(family, OUTGOING, loopback), "peer": peer.listen(family, port)}
    return lands_on(listeners, lambda: pod.connect(family, PEER[family], port, mark))


def close(landed):
    landed[1].close()
    return landed[0]


@pytest.mark.parametrize("family", [4, 6])
def test_redirected_connections_keep_their_original_destination(net, family):
    init(net[0])
    name, accepted = incoming(net, family, 8080)
    with accepted:
        assert name == "proxy"
        assert original_dst(accepted, family) == (POD[family], 8080)
    name, accepted = outgoing(net, family, 8081)
    with accepted:
        assert name == "proxy"
        assert original_dst(accepted, family) == (PEER[family], 8081)


def test_a_second_run_changes_nothing(net):
    flags = ["--proxy-uid", "2102", "--inbound-ports-to-ignore", "4190,4191", "--subnets-to-ignore", "192.0.2.0/24"]
    init(net[0], *flags)
    first = net[0].rules()
    init(net[0], *flags)
    assert net[0].rules() == first
    assert close(incoming(net, 4, 8080)) == "proxy"


def test_a_run_replaces_the_rules_of_an_earlier_one(net):
    init(net[0], "--inbound-ports-to-ignore", "8080")
    assert close(incoming(net, 4, 8080)) == "app"
    init(net[0], "--inbound-ports-to-ignore", "9090")
    assert close(incoming(net, 4, 8080)) == "proxy"
    assert close(incoming(net, 4, 9090)) == "app"


@pytest.mark.parametrize("family", [4, 6])
def test_ignored_ports_and_ranges(net, family):
    init(net[0], "--inbound-ports-to-ignore", "4190,7000-7002, 7002", "--outbound-ports-to-ignore", "4567-4568")
    assert close(incoming(net, family, 4190)) == "app"
    assert close(incoming(net, family, 7001)) == "app"
    assert close(incoming(net, family, 7003)) == "proxy"
    assert close(outgoing(net, family, 4568)) == "peer"
    assert close(outgoing(net, family, 7001)) == "proxy"


def test_only_listed_ports_are_redirected(net):
    init(net[0], "--ports-to-redirect", "8080,8081")
    assert close(incoming(net, 4, 8081)) == "proxy"
    assert close(incoming(net, 4, 8082)) == "app"
    assert close(outgoing(net, 4, 8082)) == "proxy"


@pytest.mark.parametrize("family", [4, 6])
def test_ignored_subnets_are_sources(net, family):
    init(net[0], "--subnets-to-ignore", " 10.9.0.0/24 , fd09::/64")
    assert close(incoming(net, family, 8080)) == "app"
    assert close(outgoing(net, family, 8080)) == "proxy"


def test_the_proxys_mark_is_exempt(net):
    init(net[0], "--proxy-mark", hex(MARK))
    assert close(outgoing(net, 4, 8080, mark=MARK)) == "peer"
    assert close(outgoing(net, 4, 8080, mark=MARK + 1)) == "proxy"
    assert close(outgoing(net, 4, 8080)) == "proxy"


CLIENT_AS = """
import os, socket, sys
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]))
s = socket.create_connection((sys.argv[3], int(sys.argv[4])), timeout=20)
assert s.recv(1) == b"!"
"""


def lands_as(net, uid, gid):
    """Where a process of the pod with this user and group gets to."""
    pod, peer = net
    listeners = {"proxy": pod.listen(4, OUTGOING, "127.0.0.1"), "peer": peer.listen(4, 8080)}

    class Client:
        """Stands for a socket: what the process receives."""

        def __init__(self):
            self.process = subprocess.Popen(
                ["nsenter", f"--net={pod.path}", "/usr/bin/python3", "-c", CLIENT_AS, str(uid), str(gid),
                 PEER[4], "8080"])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.process.kill()
            self.process.wait()

        def recv(self, _):
            return b"!" if self.process.wait(STALL_S) == 0 else b""

    return close(lands_on(listeners, Client))


def test_the_proxys_user_and_group_are_exempt(net):
    init(net[0], "--proxy-uid", "2102", "--proxy-gid", "2103")
    assert lands_as(net, 2102, 65534) == "peer"
    assert lands_as(net, 65534, 2103) == "peer"
    assert lands_as(net, 65534, 65534) == "proxy"


@pytest.mark.parametrize("family", [4, 6])
def test_loopback_and_the_pods_own_address_are_left_alone(net, family):
    pod = net[0]
    init(pod)
    for ip in ("127.0.0.1" if family == 4 else "::1", POD[family]):
        listeners = {"out": pod.listen(family, OUTGOING), "in": pod.listen(family, INCOMING),
                     "app": pod.listen(family, 8080)}
        assert close(lands_on(listeners, lambda ip=ip: pod.connect(family, ip, 8080))) == "app"


def test_udp_is_left_alone(net):
    pod, peer = net
    init(pod)
    with pod.socket(4, socket.SOCK_DGRAM) as server, peer.socket(4, socket.SOCK_DGRAM) as client:
        server.bind((POD[4], 5353))
        client.sendto(b"?", (POD[4], 5353))
        data, source = server.recvfrom(16)
        assert data == b"?"
        server.sendto(b"!", source)
        assert client.recv(16) == b"!"


def test_ipv6_can_be_left_alone(net):
    init(net[0])
    init(net[0], "--ipv6=false")
    assert close(incoming(net, 6, 8080)) == "app"
    assert close(outgoing(net, 6, 8080)) == "peer"
    assert close(incoming(net, 4, 8080)) == "proxy"


def test_other_rules_of_the_namespace_stay(net):
    net[0].run("nft", "add", "table", "inet", "mine")
    init(net[0])
    names = [item["table"]["name"] for item in net[0].rules() if "table" in item]
    assert sorted(names) == ["mine", "tulle_proxy_init"]


def test_the_close_wait_time_out_is_set(net):
    name = "net.netfilter.nf_conntrack_tcp_timeout_close_wait"
    init(net[0], "--timeout-close-wait-secs", "3600")
    assert net[0].run("sysctl", "-n", name).stdout == "3600\n"


def test_simulate_prints_what_would_be_done(net):
    command = [tulle_init(), "-p", "4143", "-o", "4140", "--simulate", "--netns", net[0].path]
    script = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    assert net[0].rules()[1:] == []  # the first item is nft's own
    net[0].run("nft", "-f", "-", input=script)
    simulated = net[0].rules()
    init(net[0])
    assert net[0].rules() == simulated


@pytest.mark.parametrize("flags, named", [
    (["--inbound-ports-to-ignore", "80,http"], ["--inbound-ports-to-ignore", '"http"']),
    (["--outbound-ports-to-ignore", "90-80"], ["--outbound-ports-to-ignore", '"90-80"']),
    (["--ports-to-redirect", "70000"], ["--ports-to-redirect", '"70000"']),
    (["--subnets-to-ignore", "10.0.0.0/33"], ["--subnets-to-ignore", '"10.0.0.0/33"']),
    (["--proxy-uid", "root"], ["--proxy-uid", '"root"']),
    (["--proxy-mark", "0"], ["--proxy-mark", '"0"']),
    (["--incoming-proxy-port", "99999"], ["--incoming-proxy-port", '"99999"']),
    (["--no-such-flag"], ["--no-such-flag"]),
    (["surplus"], ['"surplus"']),
])
def test_a_bad_argument_is_named_and_nothing_is_done(net, flags, named):
    init(net[0], "--inbound-ports-to-ignore", "8080")
    before = net[0].rules()
    said = init(net[0], *flags, expect=64)
    for word in named:
        assert word in said
    assert net[0].rules() == before


def test_a_missing_program_is_named_and_nothing_is_done(net):
    said = init(net[0], "--firewall-bin", "/nonexistent/nft", "--timeout-close-wait-secs", "77", expect=1)
    assert "/nonexistent/nft" in said and "nftables" in said
    assert net[0].rules()[1:] == []
    shown = net[0].run("sysctl", "-n", "net.netfilter.nf_conntrack_tcp_timeout_close_wait", check=False)
    assert shown.stdout != "77\n"


def test_a_refused_script_leaves_everything_as_it_was(net, tmp_path):
    init(net[0])
    before = net[0].rules()
    stub = tmp_path / "nft"
    stub.write_text("#!/bin/sh\necho 'Error: Could not process rule: No such file or directory' >&2\nexit 1\n")
    stub.chmod(0o755)
    said = init(net[0], "--firewall-bin", str(stub), "--timeout-close-wait-secs", "77", expect=1)
    assert "Could not process rule" in said
    assert net[0].rules() == before
    shown = net[0].run("sysctl", "-n", "net.netfilter.nf_conntrack_tcp_timeout_close_wait")
    assert shown.stdout != "77\n"


def test_without_permission_the_sentence_says_what_to_do(net):
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", tulle_init(), "-p", "1", "-o", "2"]
    done = net[0].run(*command, check=False)
    assert done.returncode == 1
    assert "NET_ADMIN" in done.stderr


def test_flags_of_iptables_are_accepted_with_a_note(net):
    said = init(net[0], "--firewall-bin-path", "iptables-nft", "--firewall-save-bin-path", "iptables-nft-save",
                "--iptables-mode", "nft", "--use-wait-flag", "--log-format", "json")
    lines = [json.loads(line) for line in said.splitlines()]
    assert sum("has no effect" in line["message"] for line in lines) == 3
    assert close(incoming(net, 4, 8080)) == "proxy"


def test_a_bad_namespace_is_named(net):
    command = [tulle_init(), "-p", "1", "-o", "2", "--netns", "/nonexistent"]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 1 and "/nonexistent" in done.stderr
