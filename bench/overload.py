# SPDX-License-Identifier: Apache-2.0
"""More than the application or the proxy can do, and clients that are slow: what good clients still get."""
import json
import pathlib
import secrets
import statistics
import subprocess
import threading
import time

from idle import let_go, settle
from measure import cpu_ns, memory, wrk
from world import HERE, PORT_HTTP, PYTHON, wait_for

PORT_APP, PORT_FAST = 8090, 8091
SLOTS, SLOT_MS = 20, 10
CAPACITY = SLOTS * 1000 // SLOT_MS
DEADLINE_MS, USERS = 1000, 15_000
TIMES = (1, 2, 3)
# Of a core, that the proxy gets where it is to be the bottleneck: behind it connections are dropped, before it they
# cost everybody, and the machine must not become the bottleneck.
CPU_SHARE = {"client": 0.15, "server": 0.05}
CPU_PERIOD_US = 20_000
LAG_MAX_US = 150_000
AFTER_S = 2.5  # users of before have gone, and what they left to do is done
SLOW = {"idle": 5000, "head": 1000, "read": 500}
GOOD_RATE, GOOD_USERS = 1000, 256


def build_openload(world):
    program = world.root / "openload"
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-o", program, HERE / "openload.c"], check=True)
    return program


def openload(world, pod, host, port, rate, seconds, users=USERS):
    done = world.run(pod, world.openload, "load", host, port, rate, seconds, DEADLINE_MS, users)
    return json.loads(done.stdout)


class Most:
    """The most private memory of processes while it is looked at."""

    def __init__(self, pids):
        self.pids, self.most, self.stop = pids, [0] * len(pids), threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.stop.wait(0.05):
            self.most = [max(m, memory(pid)[0]) for m, pid in zip(self.most, self.pids)]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def offered(world, target, port, pids, rate, seconds):
    """A row: what became of such a rate."""
    used = cpu_ns(pids[:1])
    with Most(pids) as memory_of:
        got = openload(world, "client", target, port, rate, seconds)
    return {"offered": rate, "good": got["good"] / seconds, "shed": got["shed"] / seconds, "late": got["late"] / seconds,
            "good_p50": got["good_p50"], "good_p99": got["good_p99"], "shed_p50": got["shed_p50"],
            "shed_p99": got["shed_p99"], "broken": got["broken"], "others": got["others"], "unsent": got["unsent"],
            "conns": got["conns"], "lag": got["lag"], "cpu": (cpu_ns(pids[:1]) - used) / 1e9 / seconds,
            "memory": memory_of.most}


def middle_row(times, runs):
    """Of the runs in which the load generator was not late itself the middle one by its share of the peak."""
    valid = sorted((r for r in runs if r["lag"] < LAG_MAX_US), key=lambda r: r["share"])
    row = (valid or runs)[len(valid or runs) // 2]
    return {**row, "times": times, "valid": len(valid), "left_out": len(runs) - len(valid),
            "shares": [r["share"] for r in valid]}


def at_each(world, target, port, pids, peak_of, seconds, rounds):
    """
    Offered 1, 2 and 3 times the peak, in turns. How fast a machine is moves by more than what is looked for here,
    so each run is compared with the peaks just before and just after it. A run in which the load generator was
    late itself has measured the machine: it is repeated, once at most for each round.
    """
    runs = {times: [] for times in TIMES}
    peak = peak_of()
    for _ in range(rounds * 2):
        for times in (t for t in TIMES if sum(r["lag"] < LAG_MAX_US for r in runs[t]) < rounds):
            row = offered(world, target, port, pids, int(peak * times), seconds)
            time.sleep(AFTER_S)
            before, peak = peak, peak_of()
            runs[times].append({**row, "peak": (before + peak) / 2, "share": row["good"] * 2 / (before + peak)})
    return [middle_row(times, runs[times]) for times in TIMES]


# --- the application is the bottleneck ------------------------------------------------------------


def overload_app(world, o):
    """An application of a fixed capacity, behind a proxy without a limit of its own and behind one with a limit."""
    rows = {"capacity": CAPACITY}
    for name in ("server", "limited"):
        child = world.start(name, world.openload, "serve", PORT_APP, SLOTS, SLOT_MS, log=f"app-{name}")
        world.wait_port(name, PORT_APP)
        ip = world.service_ip(name)
        openload(world, "client", ip, PORT_APP, CAPACITY // 2, 1)
        rows[name] = at_each(world, ip, PORT_APP, [world.proxy("client"), world.proxy(name)],
                             lambda: CAPACITY, o.seconds + 2, 1)
        world.stop(child)
    return rows


# --- the proxy is the bottleneck ------------------------------------------------------------------


class CpuGroup:
    """A control group that gives a process a share of a core, of whichever version this machine has."""

    def __init__(self, share):
        mounts = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
        v1 = [m[4] for m in mounts if m[m.index("-") + 1] == "cgroup" and "cpu" in m[-1].split(",")]
        v2 = [m[4] for m in mounts if m[m.index("-") + 1] == "cgroup2"]
        quota = int(share * CPU_PERIOD_US)
        self.root = pathlib.Path((v1 or v2)[0])
        if not v1:
            (self.root / "cgroup.subtree_control").write_text("+cpu")
        self.path = self.root / f"tulle-bench-{secrets.token_hex(4)}"
        self.path.mkdir()
        if v1:
            (self.path / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
            (self.path / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self.path / "cpu.max").write_text(f"{quota} {CPU_PERIOD_US}")

    def take(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def close(self):
        for pid in (self.path / "cgroup.procs").read_text().split():
            (self.root / "cgroup.procs").write_text(pid)
        wait_for(self.try_remove, "the control group is empty")

    def try_remove(self):
        try:
            self.path.rmdir()
            return True
        except OSError:
            return False


def peak_rate(world, ip, seconds):
    return wrk(world, "client", f"http://{ip}:{PORT_FAST}/200", 64, seconds)["rate"]


def limited_proxy(world, o, pod):
    """A pod's proxy has little CPU, as a limit of its container gives it; the application is never busy."""
    child = world.start("server", world.openload, "serve", PORT_FAST, 1000, 0, log="fast")
    world.wait_port("server", PORT_FAST)
    other = "server" if pod == "client" else "client"
    pids = [world.proxy(pod), world.proxy(other)]
    ip = world.service_ip("server")
    group = CpuGroup(CPU_SHARE[pod])
    try:
        group.take(pids[0])
        rows = at_each(world, ip, PORT_FAST, pids, lambda: peak_rate(world, ip, o.seconds), o.seconds + 1, o.rounds)
        return {"whose": pod, "share_of_core": CPU_SHARE[pod], "rows": rows}
    finally:
        group.close()
        world.stop(child)


def overload_proxy(world, o):
    return limited_proxy(world, o, "client")


def overload_inbound(world, o):
    return limited_proxy(world, o, "server")


# --- slow clients ---------------------------------------------------------------------------------


def hold(world, pod, host, port, count, kind):
    words = ("idle", host, port, count, "http") if kind == "idle" else ("slow", host, port, count, kind)
    child = world.start(pod, PYTHON, HERE / "tcpload.py", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said = child.stdout.readline()
    if said != b"idle\n":
        raise RuntimeError(f"slow clients could not be made: {said!r}")
    return child


def good_run(world, ip, pids, seconds):
    used = cpu_ns(pids)
    got = openload(world, "outsider", ip, PORT_HTTP, GOOD_RATE, seconds, GOOD_USERS)
    return {"good": got["good"] / seconds, "p50": got["good_p50"], "p99": got["good_p99"], "lag": got["lag"],
            "cpu_us": (cpu_ns(pids) - used) / max(got["good"], 1) / 1000}


def middle(runs):
    return {key: statistics.median(r[key] for r in runs) for key in runs[0]}


def slow(world, o):
    """
    An unmeshed client sends 1,000 requests a second to a server behind its proxy, with and without others that hold
    connections, in turns.
    """
    pids, ip = [world.proxy("server")], world.ip("server")
    good_run(world, ip, pids, 1)
    rows = {}
    for kind, count in SLOW.items():
        alone, beside, grown = [], [], []
        for _ in range(min(o.rounds, 2)):  # to make the connections takes most of the time
            before = settle(pids)[0]
            alone.append(good_run(world, ip, pids, o.seconds))
            child = hold(world, "outsider", ip, PORT_HTTP, count, kind)
            try:
                grown.append((settle(pids)[0] - before) / count)
                beside.append(good_run(world, ip, pids, o.seconds))
            finally:
                let_go(world, child)
        rows[kind] = {"count": count, "bytes": statistics.median(grown), "alone": middle(alone), "beside": middle(beside)}
    return rows
