# SPDX-License-Identifier: Apache-2.0
"""Debian's Prometheus over proxies whose counters the test sets, a controller that asks it, and the command line."""
import contextlib
import http.server
import json
import pathlib
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

import control_plane as cp

PUBLIC_API, ADMIN, PROXY_ADMIN = 8085, 9995, 4191
BUCKETS = [1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 5000, 10000, 50000]


class Proxy:
    """The metrics of one pod's proxy, on a loopback address of its own."""

    def __init__(self, namespace, pod, labels, scraped, started=None):
        self.labels = {"namespace": namespace, "pod": pod, **labels}
        self.started = time.time() if started is None else started
        self.lock = scraped  # a condition: some proxy's page was fetched
        self.counters = {}
        self.latencies = {}
        self.scrapes = 0
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = page.text().encode()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.address = cp.free_address()
        self.server = http.server.ThreadingHTTPServer((self.address, PROXY_ADMIN), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def text(self):
        with self.lock:
            self.scrapes += 1
            self.lock.notify_all()
            lines = [f"process_start_time_seconds {self.started:.3f}"]
            for (name, labels), value in self.counters.items():
                lines.append(f"{name}{{{labels}}} {value}")
            for labels, seen in self.latencies.items():
                for bound in [*BUCKETS, "+Inf"]:
                    below = sum(n for ms, n in seen.items() if bound == "+Inf" or ms <= bound)
                    lines.append(f'response_latency_ms_bucket{{{labels},le="{bound}"}} {below}')
        return "\n".join(lines) + "\n"

    @staticmethod
    def join(labels):
        return ",".join(f'{k}="{v}"' for k, v in labels.items())

    def add(self, name, value, **labels):
        with self.lock:
            key = (name, self.join(labels))
            self.counters[key] = self.counters.get(key, 0) + value

    def responses(self, success, failure=0, latency_ms=1, direction="inbound", **labels):
        """Responses with this time to the first byte."""
        labels = {"direction": direction, "tls": "true", **labels}
        for status, kind, count in (("200", "success", success), ("500", "failure", failure)):
            if count:
                with_status = {**labels, "status_code": status}
                self.add("response_total", count, classification=kind, **with_status)
                with self.lock:
                    seen = self.latencies.setdefault(self.join(with_status), {})
                    seen[latency_ms] = seen.get(latency_ms, 0) + count

    def tcp(self, opened, read, written, direction="inbound", peer="src", **labels):
        labels = {"direction": direction, "peer": peer, "tls": "true", **labels}
        self.add("tcp_open_connections", opened, **labels)
        self.add("tcp_read_bytes_total", read, **labels)
        self.add("tcp_write_bytes_total", written, **labels)

    def restart(self):
        with self.lock:
            self.counters.clear()
            self.latencies.clear()
            self.started = time.time()

    def wait_scraped(self):
        """Until Prometheus has fetched the page once more than so far, from its start."""
        with self.lock:
            goal = self.scrapes + 2
            assert self.lock.wait_for(lambda: self.scrapes >= goal, cp.STALL_S), f"{self.labels}: not scraped"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def free_port(address):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


class Prometheus:
    """Scrapes every second; who is scraped stands in a file that it follows."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.address = cp.free_address()
        self.port = free_port(self.address)
        self.url = f"http://{self.address}:{self.port}"
        self.proxies = []
        self.scraped = threading.Condition()
        self.process = None
        self.write_targets()
        (self.folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            "scrape_configs:\n"
            "- job_name: linkerd-proxy\n"
            "  file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]\n")

    def write_targets(self):
        fresh = self.folder / "targets.json.new"
        fresh.write_text(json.dumps([{"targets": [f"{p.address}:{PROXY_ADMIN}"], "labels": p.labels}
                                     for p in self.proxies]))
        fresh.rename(self.folder / "targets.json")

    def proxy(self, namespace, pod, started=None, **labels):
        """A proxy that is scraped from now on, and that Prometheus has seen before this returns."""
        p = Proxy(namespace, pod, labels, self.scraped, started)
        self.proxies.append(p)
        self.write_targets()
        p.wait_scraped()
        return p

    def start(self):
        self.log = open(self.folder / "prometheus.log", "ab")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.folder}/prometheus.yml", "--storage.tsdb.retention.time=1h",
             f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address={self.address}:{self.port}"],
            stdout=self.log, stderr=subprocess.STDOUT)
        end = time.monotonic() + cp.STALL_S
        while True:
            assert self.process.poll() is None, (self.folder / "prometheus.log").read_text()
            assert time.monotonic() < end, "Prometheus does not become ready"
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(timeout=0.02)

    def close(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=cp.STALL_S)
            self.log.close()
        for p in self.proxies:
            p.close()


class PublicApi(cp.Controller):
    def __init__(self, folder, prometheus_url, scraped):
        super().__init__(folder, None, ("public-api",), ["--prometheus-url", prometheus_url])
        self.scraped = scraped

    def run(self, *args, status=0):
        """A command that ends with `status` (None: with any)."""
        got = subprocess.run([cp.program("tulle"), *args, "--api-addr", f"{self.address}:{PUBLIC_API}"],
                             capture_output=True, text=True, timeout=cp.STALL_S)
        assert status in (None, got.returncode), f"{args}: {got.returncode}\n{got.stdout}{got.stderr}\n{self.output()}"
        return got

    def tulle(self, *args, status=0):
        """Its standard output, or its standard error when it must fail."""
        got = self.run(*args, status=status)
        return got.stderr if status else got.stdout

    def nothing(self, *args, status=0):
        """What is said when there is nothing to show."""
        got = self.run(*args, status=status)
        assert got.stdout == ""
        return got.stderr

    def stat(self, *args):
        """Rows of `tulle stat -o json` by namespace/name, or by name where there is no namespace."""
        rows = json.loads(self.tulle("stat", *args, "-o", "json"))
        return {f"{r['namespace']}/{r['name']}" if r["namespace"] else r["name"]: r for r in rows}

    def await_stat(self, goal, *args):
        """Until `goal(rows)` holds; the rows."""
        end = time.monotonic() + cp.STALL_S
        while True:
            rows = self.stat(*args)
            if goal(rows):
                return rows
            assert time.monotonic() < end, f"waited in vain: {json.dumps(rows, indent=1)}"
            with self.scraped:
                self.scraped.wait(timeout=1)  # only a scrape, or a second, changes figures


def requests(row, window_s=60):
    """How many there were: the rate times the window is a whole number, or the figures are not exact."""
    if row["rps"] is None:
        return 0
    count = row["rps"] * window_s
    assert abs(count - round(count)) < 1e-3, row
    return round(count)


def failures(row, window_s=60):
    return round(requests(row, window_s) * (1 - (row["success"] if row["success"] is not None else 1)))


def meshed_pod(namespace, name, deployment, labels=None, phase="Running", meshed=True, statuses=()):
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{deployment}-5d", "controller": True}
    own = {"app": deployment, **({"linkerd.io/control-plane-ns": "linkerd"} if meshed else {}), **(labels or {})}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "labels": own, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "app", "image": "app"}]},
            "status": {"phase": phase, "podIP": "10.1.0.1", "containerStatuses": list(statuses),
                       "conditions": [{"type": "Ready", "status": "True" if phase == "Running" else "False"}]}}


def deployment(namespace, name, labels=None):
    """The Deployment and its ReplicaSet."""
    meta = {"namespace": namespace, "labels": {"app": name, **(labels or {})}}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "controller": True}
    return [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {**meta, "name": name}, "spec": {}},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": {},
             "metadata": {**meta, "name": f"{name}-5d", "ownerReferences": [owner]}}]


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service(namespace, name):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": "10.96.0.1", "selector": {"app": name}, "ports": [{"port": 80}]}}


def put_deployments(api, ns, *names, pods=1, services=(), **more):
    """A namespace with Deployments, their pods called NAME-1, NAME-2 ..., and Services; all are known to the API."""
    api.put(namespace(ns), *(o for name in names for o in deployment(ns, name)),
            *(meshed_pod(ns, f"{name}-{i + 1}", name, **more) for name in names for i in range(pods)),
            *(service(ns, name) for name in services))
    api.wait(lambda: all(f"{ns}/{name}" in api.stat("deploy", "-n", ns, "--unmeshed") for name in names))
    api.wait(lambda: {f"{ns}/{name}" for name in services} <= set(api.stat("svc", "-n", ns)))


# --- fixtures, for test files to import ------------------------------------------------------------


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    p = Prometheus(tmp_path_factory.mktemp("prometheus")).start()
    yield p
    p.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory, prometheus):
    a = PublicApi(tmp_path_factory.mktemp("api"), prometheus.url, prometheus.scraped).start().wait_ready(ADMIN)
    yield a
    assert a.stop() == 0, a.output()
    a.close()
