# SPDX-License-Identifier: Apache-2.0
"""Costs without load: memory at rest, memory of an idle connection, time to start."""
import os
import pathlib
import re
import signal
import statistics
import subprocess
import time

from measure import memory
from world import HERE, LIBC, PYTHON, die_with_parent

FEW_CONNS, MANY_CONNS = 100, 900
CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
PROXY_UID, ASKER_UID = 2102, 2103
START_WAIT_S = 20


def ask_once(world, c):
    world.run(c.pod, PYTHON, HERE / "tcpload.py", "first", *c.targets["http"], 10)


def idle_memory(world, peers, found, rounds):
    """Each process after a first request: private and resident bytes."""
    rows = {}
    for c in found:
        if c.pids:
            ask_once(world, c)
            time.sleep(0.5)
            got = [memory(pid) for pid in c.pids]
            rows[c.name] = {"private": [g[0] for g in got], "resident": [g[1] for g in got]}
    return rows


def settle(pids):
    """Memory when it has not changed for half a second."""
    last, since = None, time.monotonic()
    end = since + 10
    while time.monotonic() < end:
        now = [memory(pid)[0] for pid in pids]
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 1.5:
            break
        time.sleep(0.1)
    return last


def hold_connections(world, c, kind, count):
    child = world.start(c.pod, PYTHON, HERE / "tcpload.py", "idle", *c.targets["http" if kind == "http" else "tcp"],
                        count, kind, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said = child.stdout.readline()
    if said != b"idle\n":
        raise RuntimeError(f"the connections could not be made: {said!r}")
    return child


def let_go(world, child):
    child.stdin.close()
    child.stdout.close()
    child.wait(30)
    world.children.remove(child)


def grown(world, c, kind):
    """
    Private bytes that each process of the path has more for a connection: the slope from FEW_CONNS to MANY_CONNS
    connections, so that what the first ones bring along for all does not count.
    """
    held = [hold_connections(world, c, kind, FEW_CONNS)]
    try:
        before = settle(c.pids)
        held.append(hold_connections(world, c, kind, MANY_CONNS - FEW_CONNS))
        after = settle(c.pids)
    finally:
        for child in held:
            let_go(world, child)
    return [(a - b) / (MANY_CONNS - FEW_CONNS) for a, b in zip(after, before)]


def idle_growth(world, peers, found, rounds):
    rows = {}
    for kind in ("http", "tcp"):  # what a process has freed once it does not ask for again: the costlier one last
        for c in found:
            if kind not in c.targets or c.name not in ("nginx", "haproxy", "envoy-mtls", "tulle-mtls"):
                continue
            rows.setdefault(c.name, {})
            try:
                rows[c.name][kind] = grown(world, c, kind)
            except (RuntimeError, OSError) as problem:
                rows[c.name]["problem"] = str(problem)
    return rows


# --- exec to first answer ------------------------------------------------------------------------


def enter(pid, kinds):
    for kind, flag in kinds:
        fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        if LIBC.setns(fd, flag) != 0:
            os._exit(98)
        os.close(fd)


def timed_exec(prepare, words, env, log):
    """Start the program; its pid, and the monotonic time just before execve()."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(out, 1)
            os.dup2(out, 2)
            prepare()
            os.write(writer, str(time.clock_gettime_ns(time.CLOCK_MONOTONIC)).encode())
            os.execvpe(words[0], words, env)
        finally:
            os._exit(99)
    os.close(writer)
    with os.fdopen(reader) as r:
        began = int(r.read())
    return pid, began


def one_start(world, pod, host, port, prepare, words, env, uid=0):
    """Milliseconds from exec to the first answer through it."""
    asker = world.start(pod, "setpriv", f"--reuid={uid}", "--clear-groups", PYTHON, HERE / "tcpload.py", "first",
                        host, port, START_WAIT_S, stdout=subprocess.PIPE, log="asker")
    pid = 0
    try:
        asker.stdout.readline()
        time.sleep(0.05)
        pid, began = timed_exec(prepare, [str(w) for w in words], env, world.root / "start.log")
        answered = asker.stdout.read().strip()
        if not answered.isdigit():
            raise RuntimeError(f"no answer: {answered!r} {(world.root / 'start.log').read_text()[-500:]}")
        return (int(answered) - began) / 1e6
    finally:
        asker.wait(START_WAIT_S)
        asker.stdout.close()
        world.children.remove(asker)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def start_peer(world, peers, name, host, port):
    pod, words = peers.commands[name]
    old = next(child for child in world.children if child.pid == peers.pids[name])
    world.stop(old)
    took = []
    for _ in range(5):
        took.append(one_start(world, pod, host, port, lambda: enter(world.pid(pod), (("net", CLONE_NEWNET),)),
                              words, os.environ))
    peers.pids[name] = world.start(pod, *words, log=name).pid
    world.wait_port(pod, port)
    return took


def start_tulle(world, host, port):
    """A second proxy in the client's pod, with ports of its own and the pod's identity."""
    pid = world.proxy("client")
    env = dict(entry.split("=", 1) for entry in pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0") if entry)
    for name in ("TULLE_PROXY_HANDOVER", "NOTIFY_SOCKET"):  # it shall stand beside the pod's proxy, not in its place
        env.pop(name, None)
    for name, value in env.items():
        if "LISTEN_ADDR" in name:
            env[name] = re.sub(r":4(\d\d\d)\b", r":5\1", value)
    exe = os.readlink(f"/proc/{pid}/exe")
    world.run("client", "nft", f"""
        add table ip bench
        add chain ip bench outgoing {{ type nat hook output priority -120; }}
        add rule ip bench outgoing meta skuid {ASKER_UID} tcp dport {port} redirect to :5140""")

    def prepare():
        enter(pid, (("net", CLONE_NEWNET), ("mnt", CLONE_NEWNS)))
        os.setgroups([])
        os.setgid(PROXY_UID)
        os.setuid(PROXY_UID)
        die_with_parent()

    try:
        return [one_start(world, "client", host, port, prepare, [exe], env, ASKER_UID) for _ in range(5)]
    finally:
        world.run("client", "nft", "delete", "table", "ip", "bench")


def start_up(world, peers, found, rounds):
    rows = {}
    for c in found:
        try:
            if c.name in ("nginx", "haproxy"):
                took = start_peer(world, peers, c.name, *c.targets["http"])
                c.pids = [peers.pids[c.name]]
            elif c.name == "envoy-mtls":
                took = start_peer(world, peers, "envoy-out", *c.targets["http"])
                c.pids = [peers.pids["envoy-out"], peers.pids["envoy-in"]]
            elif c.name == "tulle-mtls":
                took = start_tulle(world, *c.targets["http"])
            else:
                continue
            rows[c.name] = {"ms": statistics.median(took), "runs": [round(t, 1) for t in took]}
        except (RuntimeError, OSError, subprocess.SubprocessError) as problem:
            rows[c.name] = {"problem": str(problem)}
    return rows
