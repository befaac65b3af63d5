# SPDX-License-Identifier: Apache-2.0
"""
A proxy is upgraded in its pod (docs/internals/handover.md): no request fails, long connections go on until the old
process' grace ends, whatever is wrong with the new program leaves the old one serving.
"""
import os
import shutil
import signal
import subprocess

import pytest

from home import APPS, PYTHON, WAIT_S, build_folder, client, command_of, namespace, processes, server, wait_for
from test_change_under_load import ECHO, GRPC, HTTP, OPAQUE, ROLES, Loads

PROXY = "linkerd-proxy"


@pytest.fixture(scope="module")
def home(homes):
    home = homes({
        "00-namespace.yaml": [namespace()],
        "client.yaml": [client()],
        "server.yaml": server("server", ROLES, OPAQUE, replicas=2),
        "brief.yaml": server("brief", {"http": HTTP, "echo": ECHO}, [ECHO],
                             annotations={"config.linkerd.io/shutdown-grace-period": "5s"}),
        "cores.yaml": server("cores", {"http": HTTP},
                             annotations={"config.linkerd.io/proxy-cpu-limit": "2",
                                          "config.linkerd.io/proxy-cpu-request": "2"}),
    })
    home.up()
    return home


@pytest.fixture(scope="module")
def other(home):
    """The same program at another place, as a new release would be."""
    folder = home.root / "release"
    folder.mkdir()
    shutil.copy(build_folder() / "tulle-proxy", folder / "tulle-proxy")
    return folder / "tulle-proxy"


@pytest.fixture
def successor(home):
    """A program that fails at this step of a hand-over."""
    def make(step):
        program = home.root / f"successor-{step}"
        program.write_text(f"#!{PYTHON}\n" + (APPS / "successor.py").read_text())
        program.chmod(0o755)
        return program
    return make


def proxies(home):
    """What each pod's proxy is: pid and program by the pod's name."""
    return {pod["name"]: (c["pid"], c["program"]) for pod in home.status()["pods"] for c in pod["containers"]
            if c["name"] == PROXY}


def upgrade(home, *words, proxy, expect=0):
    return home.run("local", "upgrade", *words, "--proxy", str(proxy), expect=expect)


def proxy_of(home, workload):
    return home.container("t", workload, PROXY)


def test_all_proxies_are_upgraded_twice_under_load_without_a_failed_request(home, other):
    before = proxies(home)
    with Loads(home) as loads, home.driver("t", "client").session("server", ECHO) as long:
        long.send("before\n")
        assert long.receive(until="\n") == "before\n"
        for program in (other, build_folder() / "tulle-proxy"):
            told = upgrade(home, proxy=program)
            assert told.count("upgraded; pid") == len(before) and "keeps" not in told, told
            now = proxies(home)
            assert now.keys() == before.keys()
            assert all(now[pod][0] != before[pod][0] and now[pod][1] == str(program) for pod in now), now
            loads.wait_more(50)
            long.send("after\n")
            assert long.receive(until="\n") == "after\n", "through two processes that have handed over"
            before = now
        assert all(state["requests"] > 0 for state in loads.state().values())
    assert home.status()["ready"] and not home.status()["problems"]
    for pod in home.pods("t", "server"):
        assert {c["restarts"] for c in pod["containers"]} == {0}
        assert home.proxy_metrics("t", pod["name"]).sum("request_total", direction="inbound") > 0, "the new one is scraped"


def test_a_long_connection_ends_with_the_grace_of_the_old_process(home, other):
    old = proxy_of(home, "brief")
    with home.driver("t", "client").session("brief", ECHO) as s:
        s.send("one\n")
        assert s.receive(until="\n") == "one\n"
        upgrade(home, "brief", "-n", "t", proxy=other)
        new = proxy_of(home, "brief")
        assert new["pid"] != old["pid"] and new["former"] == 1
        assert f"container {PROXY} was upgraded; 1 former process finishes" in home.run("local", "status", "-n", "t")
        s.send("two\n")
        assert s.receive(until="\n") == "two\n"
        with pytest.raises(AssertionError, match="ConnectionResetError"):  # the grace is over; it broke off
            s.receive()
    wait_for(lambda: proxy_of(home, "brief")["former"] == 0, "the former process has ended")
    assert home.driver("t", "client").get("brief", HTTP)["status"] == 200
    upgrade(home, "brief", "-n", "t", proxy=build_folder() / "tulle-proxy")


def answers(home):
    return [home.driver("t", "client").get("brief", HTTP)["status"] for _ in range(20)] == [200] * 20


@pytest.mark.parametrize("step, says", [
    ("start", "it ended with status 3 before it served"),
    ("version", "refused by version 1: it speaks version 99 of the hand-over"),
    ("garbage", "refused by version 1: what it sends is no message of a hand-over"),
    ("taken", "it ended by signal 9 before it served"),
    ("paused", "it ended by signal 9 before it served"),
])
def test_a_new_program_that_fails_leaves_the_old_one_serving(home, successor, step, says):
    old = proxy_of(home, "brief")
    driver = home.driver("t", "client")
    load = driver.load(kind="http", host="brief", port=HTTP, connections=2)
    fresh = driver.load(kind="tcp", host="server", port=ROLES["first"], connections=1)
    told = upgrade(home, "brief", "-n", "t", proxy=successor(step), expect=1)
    assert f": keeps its proxy: {says}" in told
    now = proxy_of(home, "brief")
    assert (now["pid"], now["program"], now["restarts"], now["former"]) == (old["pid"], old["program"], old["restarts"], 0)
    assert answers(home), "new connections, which waited where nobody accepted"
    states = [driver.load_stop(load=number) for number in (load, fresh)]
    assert [state["failures"] for state in states] == [[], []]
    assert home.pod("t", "brief")["ready"]


def test_what_cannot_be_upgraded_is_refused(home, other):
    def refused(*words):
        done = subprocess.run(home.command("local", "upgrade", *words), text=True, capture_output=True, timeout=WAIT_S)
        assert done.returncode != 0
        return done.stderr
    text = home.root / "text"
    text.write_text("no program")
    assert "no program that can be run" in refused("--proxy", str(text))
    assert "no program that can be run" in refused("--proxy", "/nowhere/tulle-proxy")
    assert "there is no Deployment or pod called nobody in namespace t" in refused("nobody", "-n", "t", "--proxy", str(other))
    assert "name one Deployment or pod" in refused("a", "b", "--proxy", str(other))


def test_a_crash_after_an_upgrade_starts_the_new_program_again(home, other):
    upgrade(home, "brief", "-n", "t", proxy=other)
    before = proxy_of(home, "brief")
    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: proxy_of(home, "brief")["restarts"] == before["restarts"] + 1 and home.pod("t", "brief")["ready"],
             lambda: f"it runs again\n{home.tell()}")
    assert proxy_of(home, "brief")["program"] == str(other)
    wait_for(lambda: answers(home), "requests succeed")


def other_user(home, pid, uid):
    """What a process of this user id gets to hear that asks the pod's proxy for its sockets."""
    ask = ("import socket, struct; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
           "s.connect(b'\\0tulle-proxy'); "
           "r = socket.recv_fds(s, 4096, 64) if %d != 2102 else None; print(r)" % uid)
    return home.in_pod(pid, "setpriv", f"--reuid={uid}", "--clear-groups", PYTHON, "-c", ask).stdout


def test_only_the_proxys_own_user_may_take_its_sockets(home):
    proxy = proxy_of(home, "brief")
    for uid in (0, 1000):
        said = other_user(home, proxy["pid"], uid)
        assert "the running proxy belongs to another user" in said and ", []," in said, said
    assert answers(home)


def listeners(home, pid):
    shown = home.in_pod(pid, "ss", "-Hltn", "sport = :4143 or sport = :4140 or sport = :4191").stdout
    return sorted(line.split()[3] for line in shown.splitlines())


def test_the_number_of_workers_may_change(home, other):
    """Each socket that connections wait on is kept, whoever has to look after it."""
    one = home.root / "one"
    one.write_text(f"#!/bin/sh\nLINKERD2_PROXY_CORES=1 exec {other}\n")
    three = home.root / "three"
    three.write_text(f"#!/bin/sh\nLINKERD2_PROXY_CORES=3 exec {other}\n")
    driver = home.driver("t", "client")
    load = driver.load(kind="http", host="cores", port=HTTP, connections=3)
    counts = []
    for program in (three, one, three):
        program.chmod(0o755)
        upgrade(home, "cores", "-n", "t", proxy=program)
        counts.append(listeners(home, proxy_of(home, "cores")["pid"]))
        assert [driver.get("cores", HTTP)["status"] for _ in range(30)] == [200] * 30
    assert len([at for at in counts[0] if at.endswith(":4143")]) == 3
    assert counts[1] == counts[0] and counts[2] == counts[0]
    assert driver.load_stop(load=load)["failures"] == []


def test_an_upgrade_that_nobody_waits_for_is_not_for_pods_to_come(home, other):
    go, slow = home.root / "go", home.root / "slow"
    slow.write_text(f"#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.05; done\nexec {other}\n")
    slow.chmod(0o755)
    asking = subprocess.Popen(home.command("local", "upgrade", "--proxy", str(slow)))
    wait_for(lambda: [p for p in processes() if str(slow) in command_of(p).split()[1:2]], "the first pod's new process is there")
    asking.kill()
    asking.wait()
    go.touch()
    wait_for(lambda: str(slow) in [program for _, program in proxies(home).values()], "it serves")
    old = {pod["name"] for pod in home.pods("t", "brief")}
    home.run("local", "restart", "brief", "-n", "t")
    home.wait_ready("t", "brief", 1, lambda pod: pod["name"] not in old)
    assert proxy_of(home, "brief")["program"] != str(slow)


def test_a_pod_that_ends_takes_all_its_proxies_along(home, other):
    with home.driver("t", "client").session("server", ECHO) as s:
        s.send("hold\n")
        assert s.receive(until="\n") == "hold\n"
        upgrade(home, "server", "-n", "t", proxy=other)
        old = {pod["name"] for pod in home.pods("t", "server")}
        assert any(c["former"] > 0 for pod in home.pods("t", "server") for c in pod["containers"])
        home.run("local", "restart", "server", "-n", "t")
        home.wait_ready("t", "server", 2, lambda pod: pod["name"] not in old)
