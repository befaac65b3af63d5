#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
How Tulle carries more: workers, endpoints, services, load beyond what it or the application can do, slow clients.

    bench/scale.py [--only NAME,...] [--rounds N] [--seconds N] [--build FOLDER] [--json FILE]

Takes some four minutes on two cores that have nothing else to do. Needs root, and what `tools/deps.sh bench` installs.
"""
import argparse
import json
import os
import pathlib
import signal
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import scale_report  # noqa: E402
from known import endpoints, picks, services  # noqa: E402
from measure import futex_calls, measured, wrk  # noqa: E402
from overload import PORT_APP, PORT_FAST, build_openload, overload_app, overload_inbound, overload_proxy, slow  # noqa: E402
from peers import Peers  # noqa: E402
from run import check, versions  # noqa: E402
from world import PORT_HTTP, PORTS, ROOT, World, meshed_pod  # noqa: E402

IN_FLIGHT = 64  # of the pod `limited`
PAIRS = ("1", "2")  # workers
SERVING = ("server", "server-2")


def pods():
    """By the scenario that needs them: world.py makes a pod and a Service of each."""
    limit = json.dumps([{"name": "LINKERD2_PROXY_INBOUND_MAX_IN_FLIGHT", "value": str(IN_FLIGHT)}])
    return {"client": meshed_pod(1), "outsider": {"linkerd.io/inject": "disabled"}, "server": meshed_pod(1),
            "client-2": meshed_pod(2), "server-2": meshed_pod(2), "plain": {"linkerd.io/inject": "disabled"},
            "limited": meshed_pod(1, **{"proxy-additional-env": limit})}


# --- workers -------------------------------------------------------------------------------------


def workers(world, o):
    """The mTLS pair with one worker a proxy, and with two: throughput, CPU for a request, calls of futex(2)."""
    rows = {count: {"runs": []} for count in PAIRS}

    def pair(count):
        more = "" if count == "1" else f"-{count}"
        client, server = f"client{more}", f"server{more}"
        return client, f"http://{world.service_ip(server)}:{PORT_HTTP}/200", [world.proxy(client), world.proxy(server)]

    for number in range(o.rounds + 1):
        for count, row in rows.items():
            pod, url, pids = pair(count)
            result = measured(pids, lambda: wrk(world, pod, url, 64, 1 if number == 0 else o.seconds))
            if number > 0:  # the first one warms up
                row["runs"].append(result)
    for count, row in rows.items():
        runs = row.pop("runs")
        row["rate"] = statistics.median(r["rate"] for r in runs)
        row["cpu"] = statistics.median(r["cpu_ns"] / r["units"] / 1000 for r in runs)
        pod, url, pids = pair(count)
        row["calls"] = [futex_calls(world, pid, lambda: wrk(world, pod, url, 64, 1)["units"]) for pid in pids]
    return rows


# --- the run -------------------------------------------------------------------------------------

# What a proxy keeps of many services would be in the figures of those behind: they come last.
SCENARIOS = {"workers": workers, "app": overload_app, "proxy": overload_proxy, "inbound": overload_inbound,
             "slow": slow, "picks": picks, "endpoints": endpoints, "services": services}


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    p.add_argument("--only", default="", metavar="NAME,...", help="of: " + ", ".join(SCENARIOS))
    p.add_argument("--rounds", type=int, default=3, help="how often a load is measured, in turns (3)")
    p.add_argument("--seconds", type=int, default=2, help="how long each time (2)")
    p.add_argument("--build", default=str(ROOT / "build"), help="folder with Tulle's programs (build)")
    p.add_argument("--json", metavar="FILE", help="write all figures there")
    o = p.parse_args()
    o.only = [name for name in o.only.split(",") if name] or list(SCENARIOS)
    wrong = set(o.only) - set(SCENARIOS)
    if wrong:
        p.error(f"no such scenario: {', '.join(sorted(wrong))}")
    return o


def run(o):
    figures = {"versions": versions(None), "rounds": o.rounds, "seconds": o.seconds, "scenarios": {}}
    started = time.monotonic()
    with World(o.build, pods(), (*PORTS, PORT_APP, PORT_FAST)) as world:
        world.openload = build_openload(world)
        peers = Peers(world)
        peers.start_servers((*SERVING, "plain"))
        for name in (name for name in SCENARIOS if name in o.only):
            began = time.monotonic()
            figures["scenarios"][name] = SCENARIOS[name](world, o)
            print(f"{name}: measured in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    figures["took_s"] = round(time.monotonic() - started)
    return figures


def main():
    o = options()
    check(o, ("strace", "cc", "ninja"))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    figures = run(o)
    if o.json:
        pathlib.Path(o.json).write_text(json.dumps(figures, indent=1) + "\n")
    scale_report.show(figures)


if __name__ == "__main__":
    main()
