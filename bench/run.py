#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
What a sidecar costs: no proxy, nginx, HAProxy, Envoy and Tulle, compared in one run.

    bench/run.py [--quick] [--only NAME,...] [--candidates NAME,...] [--json FILE]

The primary figure is the CPU time of all sidecars of the path for a unit of work; it hardly depends on what
else the machine does, while rates and latencies do. Candidates take turns, and medians are shown. Needs root,
and what `tools/deps.sh bench` installs.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import report  # noqa: E402
from idle import idle_growth, idle_memory, start_up  # noqa: E402
from measure import h2load, measured, pull, wrk  # noqa: E402
from peers import ENVOY_OUT, HAPROXY_HOP, NGINX_HOP, PORTS, Peers, envoy_program  # noqa: E402
from world import ROOT, World, peer_pods  # noqa: E402

PROGRAMS = ("wrk", "h2load", "nghttpd", "nginx", "haproxy", "openssl", "nft", "ip", "ss", "nsenter", "getent")
MESSAGE = b"\0\0\0\0\x32" + b"q" * 50  # a gRPC message of 50 bytes


class Candidate:
    """One way from a client to a server: where the client is and dials, and whose CPU is counted."""

    def __init__(self, name, pod, targets, pids, starts=None):
        self.name, self.pod, self.targets, self.pids, self.starts = name, pod, targets, pids, starts

    def url(self, kind, path):
        host, port = self.targets[kind]
        return f"http://{host}:{port}{path}"


def candidates(world, peers, envoy):
    local = {name: {kind: ("127.0.0.1", port) for kind, port in hop.items()}
             for name, hop in (("nginx", NGINX_HOP), ("haproxy", HAPROXY_HOP), ("envoy", ENVOY_OUT))}
    at = {name: {kind: (world.service_ip(name), port) for kind, port in PORTS.items()}
          for name in ("server", "clear", "plain")}
    out = world.proxy("client")
    found = [
        Candidate("bare", "outsider", {k: (world.ip("plain"), p) for k, p in PORTS.items()}, []),
        Candidate("nginx", "outsider", local["nginx"], [peers.pids["nginx"]]),
        Candidate("haproxy", "outsider", local["haproxy"], [peers.pids["haproxy"]]),
    ]
    if envoy:
        found.append(Candidate("envoy-mtls", "outsider", local["envoy"],
                               [peers.pids["envoy-out"], peers.pids["envoy-in"]]))
    return found + [
        Candidate("tulle-mtls", "client", at["server"], [out, world.proxy("server")]),
        Candidate("tulle-clear", "client", at["clear"], [out, world.proxy("clear")]),
        Candidate("tulle-hop", "client", at["plain"], [out]),
    ]


# --- scenarios -----------------------------------------------------------------------------------


def by_wrk(path, connections, headers=()):
    return "http", lambda w, c, seconds: wrk(w, c.pod, c.url("http", path), connections, seconds, headers)


def at_rate(w, c, seconds):
    return h2load(w, c.pod, c.url("http", "/200"), 8, seconds, rate=1000, http1=True)


def by_h2(w, c, seconds):
    return h2load(w, c.pod, c.url("h2", "/200"), 8, seconds, streams=8)


def by_grpc(w, c, seconds):
    message = w.root / "message"
    message.write_bytes(MESSAGE)
    return h2load(w, c.pod, c.url("grpc", "/bench.Echo/Unary.grpc"), 8, seconds, streams=8,
                  extra=("-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers"))


def by_pull(w, c, seconds):
    return pull(w, c.pod, *c.targets["tcp"], 4, int(seconds * (64 << 20)))


# name: (title, what the CPU is told for, units in it, bytes of a unit, (kind of target, load))
SCENARIOS = {
    "h1-64": ("HTTP/1.1, 200 B, 64 connections, full load", "ms/1000 requests", 1e9, None, by_wrk("/200", 64)),
    "h1-8": ("HTTP/1.1, 200 B, 8 connections, full load", "ms/1000 requests", 1e9, None, by_wrk("/200", 8)),
    "h1-rate": ("HTTP/1.1, 200 B, 1,000 requests a second", "ms/1000 requests", 1e9, None, ("http", at_rate)),
    "h1-64k": ("HTTP/1.1, 64 KiB bodies, 8 connections", "s/GB", 1e18, 64 << 10, by_wrk("/64k", 8)),
    "h1-1m": ("HTTP/1.1, 1 MiB bodies, 8 connections", "s/GB", 1e18, 1 << 20, by_wrk("/1m", 8)),
    "h2": ("HTTP/2, 200 B, 8 connections of 8 streams", "ms/1000 requests", 1e9, None, ("h2", by_h2)),
    "grpc": ("gRPC unary, 50 B, 8 connections of 8 streams", "ms/1000 requests", 1e9, None, ("grpc", by_grpc)),
    "tcp": ("opaque TCP, 4 connections", "s/GB", 1e18, 1, ("tcp", by_pull)),
    "new": ("HTTP/1.1, a connection for each request, 8 at once", "ms/1000 connections", 1e9, None,
            by_wrk("/200", 8, ("Connection: close",))),
}
OTHERS = ("memory", "idle", "start")


def cost(scenario, result):
    """CPU for 1,000 requests in ms, or for a GB in s."""
    _, _, _, unit_bytes, _ = SCENARIOS[scenario]
    if unit_bytes is None:
        return result["cpu_ns"] / result["units"] / 1e6 * 1000
    return result["cpu_ns"] / (result["units"] * unit_bytes)


def one_run(world, scenario, candidate, seconds):
    kind, load = SCENARIOS[scenario][4]
    result = measured(candidate.pids, lambda: load(world, candidate, seconds))
    if result["units"] == 0 or result["bad"] > result["units"] / 1000:
        raise RuntimeError(f"{result['bad']} of {result['units']} failed")
    result["cpu"] = cost(scenario, result)
    return result


def progress(text):
    if sys.stderr.isatty():
        print(f"\r{text:60}", end="\r", file=sys.stderr)


def run_scenario(world, scenario, found, rounds, seconds):
    kind = SCENARIOS[scenario][4][0]
    able = [c for c in found if kind in c.targets]
    runs = {c.name: [] for c in able}
    problems = {}
    for c in able:  # pools, caches and buffers are warm when it counts
        try:
            one_run(world, scenario, c, 1)
        except (RuntimeError, subprocess.SubprocessError) as problem:
            problems[c.name] = str(problem)
    for number in range(rounds):
        for c in able:
            if c.name in problems:
                continue
            progress(f"{scenario}: {c.name}, round {number + 1} of {rounds}")
            try:
                runs[c.name].append(one_run(world, scenario, c, seconds))
            except (RuntimeError, subprocess.SubprocessError) as problem:
                problems[c.name] = str(problem)
    rows = {}
    for name, results in runs.items():
        if name in problems:
            rows[name] = {"problem": problems[name]}
            print(f"{scenario}: {name} failed: {problems[name]}", file=sys.stderr)
            continue
        rows[name] = {key: statistics.median(r[key] for r in results)
                      for key in ("cpu", "rate", "p50", "p99") if key in results[0]}
        rows[name]["cpu_runs"] = [round(r["cpu"], 3) for r in results]
    return rows


# --- the run -------------------------------------------------------------------------------------


def versions(envoy):
    def first_line(*words):
        done = subprocess.run(words, text=True, capture_output=True, check=False)
        return (done.stdout + done.stderr).strip().splitlines()[0]

    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], text=True, capture_output=True,
                            check=False).stdout.strip()
    number = re.compile(r"(?<=[ /])\d+\.\d+\.\d+")
    programs = {"nginx": ("nginx", "-v"), "haproxy": ("haproxy", "-v"), "openssl": ("openssl", "version")}
    if envoy:
        programs["envoy"] = (envoy, "--version")
    found = {name: number.search(first_line(*words)) for name, words in programs.items()}
    return {"kernel": platform.release(), "cores": os.cpu_count(), "commit": commit,
            **{name: match[0] if match else "?" for name, match in found.items()}}


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    p.add_argument("--quick", action="store_true", help="one short round: a few minutes, rougher")
    p.add_argument("--only", default="", metavar="NAME,...", help="of: " + ", ".join((*SCENARIOS, *OTHERS)))
    p.add_argument("--candidates", default="", metavar="NAME,...",
                   help="of: bare, nginx, haproxy, envoy-mtls, tulle-mtls, tulle-clear, tulle-hop")
    p.add_argument("--rounds", type=int, help="how often each is measured (3; quick: 1)")
    p.add_argument("--seconds", type=int, help="how long each time (5; quick: 2)")
    p.add_argument("--workers", type=int, default=1, help="of each Tulle proxy (1); peers have one")
    p.add_argument("--build", default=str(ROOT / "build"), help="folder with Tulle's programs (build)")
    p.add_argument("--no-envoy", action="store_true", help="do not install or measure Envoy")
    p.add_argument("--json", metavar="FILE", help="write all figures there")
    p.add_argument("--hold", action="store_true", help="keep the topology up until standard input ends (to profile)")
    o = p.parse_args()
    o.rounds = o.rounds or (1 if o.quick else 3)
    o.seconds = o.seconds or (2 if o.quick else 5)
    o.only = [name for name in o.only.split(",") if name] or [*SCENARIOS, *OTHERS]
    wrong = set(o.only) - set(SCENARIOS) - set(OTHERS)
    if wrong:
        p.error(f"no such scenario: {', '.join(sorted(wrong))}")
    return o


def check(o, more=()):
    if os.geteuid() != 0:
        sys.exit("the bench makes network namespaces: run it as root")
    missing = [p for p in (*PROGRAMS, *more) if shutil.which(p) is None]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; run tools/deps.sh bench")
    if not (pathlib.Path(o.build) / "tulle-proxy").exists():
        sys.exit(f"{o.build} has no tulle-proxy: run make, or give --build")


def hold(found):
    for c in found:
        print(c.name, "pod", c.pod, "pids", c.pids, "targets", c.targets, flush=True)
    sys.stdin.read()


def run(o):
    envoy = None if o.no_envoy else envoy_program(ROOT / "build-bench" / "venv")
    figures = {"versions": versions(envoy), "rounds": o.rounds, "seconds": o.seconds, "scenarios": {}}
    started = time.monotonic()
    with World(o.build, peer_pods(o.workers)) as world:
        figures["versions"]["congestion control"] = world.congestion_control("client")
        peers = Peers(world)
        peers.start_servers()
        peers.start_nginx()
        peers.start_haproxy()
        if envoy:
            peers.start_envoy(envoy)
        found = candidates(world, peers, envoy)
        wanted = [name for name in o.candidates.split(",") if name]
        found = [c for c in found if not wanted or c.name in wanted]
        if o.hold:
            hold(found)
            return None
        special = {"memory": idle_memory, "idle": idle_growth, "start": start_up}
        for name in sorted(o.only, key=lambda n: n not in OTHERS):  # memory before any load
            if name in special:
                figures["scenarios"][name] = special[name](world, peers, found, o.rounds)
            else:
                figures["scenarios"][name] = run_scenario(world, name, found, o.rounds, o.seconds)
    figures["took_s"] = round(time.monotonic() - started)
    return figures


def main():
    o = options()
    check(o)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    figures = run(o)
    if figures is None:
        return
    if o.json:
        pathlib.Path(o.json).write_text(json.dumps(figures, indent=1) + "\n")
    report.show(figures, SCENARIOS)


if __name__ == "__main__":
    main()
