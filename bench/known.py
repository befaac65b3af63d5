# SPDX-License-Identifier: Apache-2.0
"""What one proxy knows: 10,000 endpoints of a service, 2,000 services."""
import gzip
import ipaddress
import json
import re
import statistics
import subprocess
import time

from idle import settle
from measure import cpu_ns
from world import HERE, PORT_HTTP, PYTHON, wait_for

ENDPOINTS, SLICE = 10_000, 100  # a slice of Kubernetes' own controller has 100
ENDPOINT_NET = ipaddress.ip_network("10.200.0.0/16")
CHANGES, CHANGE_EVERY_S = 40, 0.1
SERVICES = 2_000
WAIT_S = 60
ADMIN = "http://127.0.0.1:4191"


class Asker:
    """One connection to each of some addresses, kept; a round is a request on each."""

    def __init__(self, world, pod, hosts, port=PORT_HTTP):
        path = world.root / "hosts"
        path.write_text("\n".join(hosts))
        self.world = world
        self.child = world.start(pod, PYTHON, HERE / "tcpload.py", "each", port, path, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)

    def round(self):
        """Its seconds."""
        self.child.stdin.write(b"\n")
        self.child.stdin.flush()
        said = self.child.stdout.readline()
        if not re.fullmatch(rb"[\d.e-]+\n", said):
            raise RuntimeError(f"no answer: {said + self.child.stdout.read()!r}")
        return float(said)

    def close(self):
        self.child.stdin.close()
        self.child.wait(WAIT_S)
        self.child.stdout.close()
        self.world.children.remove(self.child)


def scrape(world, pod, zipped=False):
    words = ["curl", "-s", f"{ADMIN}/metrics"] + (["-H", "Accept-Encoding: gzip"] if zipped else [])
    started = time.monotonic()
    text = subprocess.run(world.command(pod, *words), capture_output=True, check=True, timeout=WAIT_S).stdout
    return text, time.monotonic() - started


def sum_of(text, name, **labels):
    total = 0
    for line in text.splitlines():
        if re.match(name + r"[{ ]", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            total += float(line.rsplit(" ", 1)[1])
    return total


# --- endpoints -----------------------------------------------------------------------------------


def slice_file(world, number, skip=None):
    """A slice of the service `many`, whose endpoint `skip` is not ready."""
    first = number * SLICE
    ready = [{"addresses": [str(ENDPOINT_NET[256 + first + i])], "conditions": {"ready": i != skip}} for i in range(SLICE)]
    o = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": f"many-{number}", "namespace": "bench", "labels": {"kubernetes.io/service-name": "many"}},
         "ports": [{"name": "http", "port": PORT_HTTP, "protocol": "TCP"}], "endpoints": ready}
    new = world.root / "new"
    new.write_text(json.dumps(o))
    new.rename(world.cluster() / f"endpointslice.bench.many-{number}.json")


def make_endpoints(world):
    """
    The pod `plain` answers at 10,000 addresses. A home makes slices of its own pods only and has no room for as many, so
    these are written where its control plane reads them.
    """
    world.run("plain", "ip", "route", "add", "local", str(ENDPOINT_NET), "dev", "lo")
    world.run("client", "ip", "route", "add", str(ENDPOINT_NET), "via", world.ip("plain"), "dev", "eth0",
              "onlink")
    world.add("many", [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "many", "namespace": "bench"},
                        "spec": {"selector": {"app": "many"},
                                 "ports": [{"name": "http", "port": PORT_HTTP, "targetPort": PORT_HTTP}]}}])
    wait_for(lambda: world.cluster_object("endpointslice", "many.ipv4"), "the home made the service")
    for number in range(ENDPOINTS // SLICE):
        slice_file(world, number)
    return world.cluster_object("service", "many")["spec"]["clusterIP"]


def known_endpoints(world):
    text = scrape(world, "client")[0].decode()
    return int(max((float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                    if re.match(r'outbound_http_balancer_endpoints\{.*backend_name="many"', line)), default=0))


def endpoints(world, o):
    proxy, controller = world.proxy("client"), world.component("linkerd-controller", "controller")
    before = {"proxy": settle([proxy])[0], "controller": settle([controller])[0]}
    ip = make_endpoints(world)
    asker = Asker(world, "client", [ip])
    try:
        started = time.monotonic()
        asker.round()
        first = time.monotonic() - started
        wait_for(lambda: known_endpoints(world) == ENDPOINTS, lambda: f"all are known: {known_endpoints(world)}", WAIT_S)
        row = {"first_answer_ms": first * 1000, "endpoints": ENDPOINTS,
               "proxy_bytes": (settle([proxy])[0] - before["proxy"]) / ENDPOINTS,
               "controller_bytes": (settle([controller])[0] - before["controller"]) / ENDPOINTS}
        rest = idle_cpu([proxy, controller], CHANGES * CHANGE_EVERY_S)
        used = changed_cpu(world, [proxy, controller])
        row["change_proxy_us"], row["change_controller_us"] = ((u - r) / CHANGES / 1000 for u, r in zip(used, rest))
        asker.round()
        return row
    finally:
        asker.close()


def idle_cpu(pids, seconds):
    before = [cpu_ns([pid]) for pid in pids]
    time.sleep(seconds)
    return [cpu_ns([pid]) - b for pid, b in zip(pids, before)]


def changed_cpu(world, pids):
    """CPU of processes while one endpoint after the other is not ready, and again is."""
    before = [cpu_ns([pid]) for pid in pids]
    for number in range(CHANGES):
        slice_file(world, number // 2, None if number % 2 else 7)
        time.sleep(CHANGE_EVERY_S)
    wait_for(lambda: known_endpoints(world) == ENDPOINTS, "all changes have come", WAIT_S)
    return [cpu_ns([pid]) - b for pid, b in zip(pids, before)]


def picks(world, o):
    """Time of a pick among so many, in a program of the balancer alone."""
    subprocess.run(["ninja", "-C", str(world.build), "bench/pick"], check=True, capture_output=True)
    done = subprocess.run([str(world.build / "bench" / "pick")], check=True, capture_output=True, text=True)
    found = [line.split() for line in done.stdout.splitlines()]
    return {int(count): {"pick_ns": float(ns), "change_us": float(us)} for count, ns, us in found}


# --- services ------------------------------------------------------------------------------------


def make_services(world):
    """2,000 Services, which a pod behind a proxy serves: to a client each is one of its own."""
    names = [f"svc-{number:04}" for number in range(SERVICES)]
    world.add("services", [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "bench"},
                            "spec": {"selector": {"app": "server"},
                                     "ports": [{"name": "http", "port": PORT_HTTP, "targetPort": PORT_HTTP}]}}
                           for name in names])
    wait_for(lambda: all(world.cluster_object("endpointslice", f"{name}.ipv4") for name in (names[0], names[-1])) and
             all(world.cluster_object("service", name) for name in names), "the home made the services", WAIT_S)
    return [world.cluster_object("service", name)["spec"]["clusterIP"] for name in names]


def services(world, o):
    proxy = world.proxy("client")
    hosts = make_services(world)
    before = settle([proxy])[0]
    asker = Asker(world, "client", hosts)
    try:
        used = cpu_ns([proxy])
        first_s = asker.round()
        row = {"services": SERVICES, "first_round_s": first_s, "first_us": (cpu_ns([proxy]) - used) / SERVICES / 1000}
        row["bytes"] = (settle([proxy])[0] - before) / SERVICES
        again = []
        for _ in range(o.rounds):
            used = cpu_ns([proxy])
            asker.round()
            again.append((cpu_ns([proxy]) - used) / SERVICES / 1000)
        row["again_us"] = statistics.median(again)
        row.update(scrapes(world, proxy, o.rounds))
        return row
    finally:
        asker.close()


def scrapes(world, proxy, rounds):
    costs = {}
    for zipped in (False, True):
        runs = []
        for _ in range(rounds):
            used = cpu_ns([proxy])
            body, took = scrape(world, "client", zipped)
            runs.append((took * 1000, (cpu_ns([proxy]) - used) / 1e6))
        more = "gzip_" if zipped else ""
        costs |= {f"{more}scrape_bytes": len(body), f"{more}scrape_ms": statistics.median(r[0] for r in runs),
                  f"{more}scrape_cpu_ms": statistics.median(r[1] for r in runs)}
    text = gzip.decompress(body).decode()
    names = re.findall(r'^request_total\{.*dst_service="(svc-\d+)"', text, re.M)
    folded = re.findall(r'^tulle_metric_series_folded_total\{family="(\w+)"\} (\d+)', text, re.M)
    return {**costs, "series": sum(1 for line in text.splitlines() if line and line[0] != "#"),
            "named": len(set(names)), "folded": {name: int(count) for name, count in folded}}
