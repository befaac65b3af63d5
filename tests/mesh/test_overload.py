# SPDX-License-Identifier: Apache-2.0
"""
More than a proxy can carry (docs/internals/overload.md): at its memory ceiling, a real control group, it sheds and is
not killed; clients that are slow cost their own connection; too many requests get 503 while as many as before succeed;
descriptors that run out keep nobody from what is open.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import secrets
import subprocess

import pytest

from home import (APPS, PYTHON, ROOT, build_folder, client, command_of, has_sanitizers,
                  has_thread_sanitizer, memory_of, namespace, processes, server,
                  settled, wait_for)

HTTP, ECHO = 8080, 9001
MIB = 1 << 20
LIMIT = 48 * MIB


class Group:
    """A memory control group below the one we are in, of whichever version this machine offers."""

    def __init__(self, limit):
        mine = dict(line.split(":", 2)[1:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines())
        mounts = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
        v1 = [m for m in mounts if m[m.index("-") + 1] == "cgroup" and "memory" in m[-1].split(",")]
        v2 = [m for m in mounts if m[m.index("-") + 1] == "cgroup2"]
        name = f"tulle-test-{secrets.token_hex(4)}"
        self.is_v2 = not v1
        try:
            if v1:
                below = next(path for names, path in mine.items() if "memory" in names.split(","))
                self.path = pathlib.Path(v1[0][4] + below.removeprefix(v1[0][3].rstrip("/"))) / name
                self.path.mkdir()
                (self.path / "memory.limit_in_bytes").write_text(str(limit))
            else:
                top = pathlib.Path(v2[0][4])
                (top / "cgroup.subtree_control").write_text("+memory")
                self.path = top / name
                self.path.mkdir()
                (self.path / "memory.max").write_text(str(limit))
                (self.path / "memory.swap.max").write_text("0")
        except (OSError, IndexError, StopIteration) as problem:
            pytest.skip(f"no memory control group can be made on this machine: {problem}")

    def number(self, v1, v2):
        return int((self.path / (v2 if self.is_v2 else v1)).read_text())

    def usage(self):
        return self.number("memory.usage_in_bytes", "memory.current")

    def most(self):
        return self.number("memory.max_usage_in_bytes", "memory.peak")

    def kills(self):
        text = (self.path / ("memory.events" if self.is_v2 else "memory.oom_control")).read_text()
        return int(re.search(r"^oom_kill (\d+)", text, re.M)[1])

    def remove(self):
        wait_for(lambda: self.try_remove(), "the control group is empty")

    def try_remove(self):
        try:
            self.path.rmdir()
            return True
        except OSError:
            return False


@pytest.fixture(scope="module")
def home(homes):
    home = homes({
        "00-namespace.yaml": [namespace()],
        "client.yaml": [client()],
        "server.yaml": server("server", {"http": HTTP, "echo": ECHO}, [ECHO]),
    })
    home.up()
    return home


def lean_folder():
    """A sanitizer keeps what was freed and a shadow of all memory: what has a ceiling is the program without one."""
    release = ROOT / "build"
    if not has_sanitizers():
        return build_folder()
    if not (release / "tulle-proxy").exists():
        pytest.skip("the program has a sanitizer, whose memory hides the ceiling, and there is no release build: run `make programs`")
    return release


def program(home, env="", before="", folder=None):
    """A new proxy with this environment; how it comes into the pod is tests/mesh/test_handover.py's."""
    path = home.root / f"proxy-{secrets.token_hex(4)}"
    path.write_text(f"#!/bin/sh\n{before}\n{env} exec {folder or build_folder()}/tulle-proxy\n")
    path.chmod(0o755)
    return path


def put(home, path):
    home.run("local", "upgrade", "server", "-n", "t", "--proxy", str(path))
    return home.proxy_pid("t", "server")


@pytest.fixture(scope="module")
def limited(home):
    """The server's proxy in a control group; its process, and the group."""
    folder = lean_folder()
    group, go = Group(LIMIT), home.root / "go"
    path = program(home, before=f"while [ ! -e {go} ]; do sleep 0.05; done", folder=folder)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = pool.submit(put, home, path)
        # Its children look like it for a moment; it leads its own process group.
        pid = wait_for(lambda: next((p for p in processes() if command_of(p).split()[1:2] == [str(path)] and
                                     os.getpgid(p) == p), None), "the new process is there")
        (group.path / "cgroup.procs").write_text(str(pid))
        go.touch()
        assert done.result() == pid
    assert group.path.name in pathlib.Path(f"/proc/{pid}/cgroup").read_text()
    yield pid, group
    put(home, build_folder() / "tulle-proxy")
    wait_for(lambda: home.container("t", "server", "linkerd-proxy")["former"] == 0 or not os.path.exists(f"/proc/{pid}")
             or end(pid), "the limited process has ended")
    group.remove()


def end(pid):
    """Its drain may take two minutes: not for our sake."""
    os.kill(pid, 9)


def text_of(path):
    try:
        return path.read_text()
    except OSError:
        return ""


class Press:
    """apps/press.py, in the client's pod or, unmeshed, in the node's network."""

    def __init__(self, home, kind, port, count, target="/echo", meshed=False, ip=None):
        words = [PYTHON, str(APPS / "press.py"), kind, "server" if meshed else ip or home.pod("t", "server")["ip"], str(port),
                 str(count), target]
        command = (home.command("local", "exec", "client", "-n", "t") + ["--", *words] if meshed else
                   ["nsenter", f"--net=/proc/{home.pid}/ns/net", *words])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = None

    def begun(self):
        self.first = json.loads(self.process.stdout.readline())
        return self.first

    def state(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        self.begun()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def failures(home, cause):
    return home.proxy_metrics("t", home.pod("t", "server")["name"]).sum("tulle_failures_total", hop="inbound", cause=cause)


def level(home):
    return home.proxy_metrics("t", home.pod("t", "server")["name"]).sum("tulle_memory_shed_level")


def status(home):
    """Of one request of an unmeshed client, on a connection of its own; None when that was closed."""
    done = home.in_node("curl", "-s", "-o", "/dev/null", "-m", "30", "-w", "%{http_code}",
                        f"http://{home.pod('t', 'server')['ip']}:{HTTP}/echo", check=False)
    return int(done.stdout) or None


def test_at_the_memory_ceiling_it_sheds_survives_and_recovers(home, limited):
    pid, group = limited
    driver = home.driver("t", "client")
    assert driver.get("server", HTTP)["status"] == 200
    calm = group.usage()
    seen, peak = set(), 0
    presses = [Press(home, "idle", ECHO, 700, meshed=True),
               Press(home, "read", HTTP, 500, "/source?bytes=50000000"),
               Press(home, "upload", HTTP, 300, "/stall?id=never")]
    for press in presses:
        press.begun()
    for _ in range(100):
        seen.add(status(home))
        peak = max(peak, group.usage())
        if failures(home, "memory") > 0 and failures(home, "slow_client") > 0:
            break
    told = f"statuses {seen}, peak {peak / MIB:.1f} of {LIMIT // MIB} MiB"

    def more():
        log = home.log("t", home.pod("t", "server")["name"], "linkerd-proxy")
        return (f"{told}, killed {group.kills()}, most {group.most() / MIB:.1f}\n{text_of(group.path / 'memory.stat')}"
                + "\n".join(line for line in log.splitlines() if "memory" in line)[-6000:])
    assert group.kills() == 0 and failures(home, "memory") > 0, f"requests were shed: {more()}"
    wait_for(lambda: failures(home, "slow_client") > 0, f"clients that keep memory without moving a byte are closed: {told}")
    wait_for(lambda: status(home) == 200, lambda: f"with what they leave others are served; level {level(home)}, "
             f"usage {group.usage()}")
    for press in presses:
        press.__exit__()
    assert "the ceiling is near" in home.log("t", home.pod("t", "server")["name"], "linkerd-proxy"), more()
    wait_for(lambda: level(home) == 0, lambda: f"there is room again: level {level(home)}, usage {group.usage()}")
    wait_for(lambda: [driver.get("server", HTTP)["status"] for _ in range(30)] == [200] * 30, "all are served again")
    # Uploads that nobody read are still with the kernels of both sides: let the server have them.
    home.in_pod(pid, "curl", "-s", f"http://127.0.0.1:{HTTP}/release?id=never")
    wait_for(lambda: group.usage() < calm + LIMIT // 4, lambda: f"memory is given back: {group.usage()}, at first {calm}; "
             f"{memory_of(pid)}\n{more()}")
    assert group.kills() == 0
    assert home.proxy_pid("t", "server") == pid and home.container("t", "server", "linkerd-proxy")["restarts"] == 0
    print(f"\n{told}; calm {calm / MIB:.1f}, after {group.usage() / MIB:.1f} MiB; shed {failures(home, 'memory'):.0f} requests "
          f"and connections, {failures(home, 'slow_client'):.0f} stuck clients")


def test_heads_that_never_end_cost_only_their_own_connections(home, limited):
    """There is no timeout for a head (wire 5.4): they are closed when they stand in others' way."""
    pid, group = limited
    before = failures(home, "slow_client")
    with Press(home, "partial", HTTP, 2500) as press:
        wait_for(lambda: [status(home) for _ in range(5)] == [200] * 5, lambda: f"others are served: {press.state()}")
        assert failures(home, "slow_client") > before
        assert press.state()["closed"] > 0
    assert group.kills() == 0 and home.proxy_pid("t", "server") == pid


def test_beyond_its_capacity_it_sheds_and_serves_as_many_as_before(home):
    """At three times what may be in flight: what fits is served, the rest is told at once."""
    put(home, program(home, "LINKERD2_PROXY_CORES=1 LINKERD2_PROXY_INBOUND_MAX_IN_FLIGHT=8"))
    driver = home.driver("t", "client")
    for turn in range(3):
        gate = f"gate-{turn}"
        asks = [driver.start_http(host="server", port=HTTP, requests=[{"target": f"/stall?id={gate}"}]) for _ in range(24)]
        wait_for(lambda: sum(ask.done() for ask in asks) >= 16, "what is too much is answered while the rest waits")
        shed = [ask.result()[0]["status"] for ask in asks if ask.done()]
        assert shed == [503] * 16, shed
        with driver.session("server", ECHO) as s:  # not a request
            s.send("x\n")
            assert s.receive(until="\n") == "x\n"
        home.in_pod(home.proxy_pid("t", "server"), "curl", "-s", f"http://127.0.0.1:{HTTP}/release?id={gate}")
        assert sorted(ask.result(60)[0]["status"] for ask in asks) == [200] * 8 + [503] * 16
    assert failures(home, "overload") == 3 * 16
    assert [driver.get("server", HTTP)["status"] for _ in range(20)] == [200] * 20


def test_without_descriptors_what_is_open_goes_on(home):
    put(home, program(home, "LINKERD2_PROXY_CORES=1", "ulimit -n 256"))
    ip = home.pod("t", "server")["ip"]
    with Press(home, "quiet", HTTP, 20) as early, Press(home, "quiet", HTTP, 400) as late:
        assert early.first["held"] == 20
        assert 0 < late.first["held"] < 256 and late.first["closed"] > 0, late.first
        assert failures(home, "descriptors") >= late.first["closed"]
        assert early.state()["closed"] == 0
        limits = pathlib.Path(f"/proc/{home.proxy_pid('t', 'server')}/limits").read_text()
        assert re.search(r"open files\s+256\s+256", limits)
    wait_for(lambda: status(home) == 200, "descriptors are back")
    assert home.in_node("curl", "-s", f"http://{ip}:4191/ready").stdout == "ready\n"


def test_idle_connections_by_the_thousand(home):
    """5,000 through the server's proxy, and what each of them costs it."""
    if has_thread_sanitizer():
        pytest.skip("too slow to accept 4,500 connections within the proxy's connect timeout of 100 ms each")
    pid = put(home, program(home, "LINKERD2_PROXY_CORES=1"))
    with Press(home, "quiet", HTTP, 100):
        with Press(home, "quiet", HTTP, 500) as some:
            assert some.first["held"] == 500
            few = settled(lambda: memory_of(pid)["VmRSS"], "memory", 20)
            with Press(home, "quiet", HTTP, 4500) as many:
                assert many.first == {"held": 4500, "closed": 0}
                each = (settled(lambda: memory_of(pid)["VmRSS"], "memory", 20) - few) / 4500
                assert [status(home) for _ in range(5)] == [200] * 5
                assert many.state() == {"held": 4500, "closed": 0}
                print(f"\n5,000 idle connections: {each:.0f} bytes each")
                assert has_sanitizers() or each < 4096
