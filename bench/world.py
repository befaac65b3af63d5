# SPDX-License-Identifier: Apache-2.0
"""
Where the bench runs: a local home of its own, its pods, and programs started in their network namespaces.

All candidates use the same pods, veth pairs and bridge, so the way between client and server costs the
same for each. Everything ends with the bench, however it ends: the home is a child in the foreground, and
every child gets SIGKILL when the bench dies.
"""
import ctypes
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
UP_S = 120
WAIT_S = 30
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)

PORT_HTTP, PORT_H2, PORT_GRPC, PORT_TCP = 8080, 8082, 8083, 9001
PORTS = (PORT_HTTP, PORT_H2, PORT_GRPC, PORT_TCP)
SERVERS = ("server", "clear", "plain")
CLIENTS = ("client", "outsider")


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def wait_for(look, what, timeout=WAIT_S):
    end = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > end:
            raise RuntimeError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.02)
    return found


# --- manifests -----------------------------------------------------------------------------------


def deployment(name, annotations, numbers):
    labels = {"app": name}
    ports = [{"containerPort": p} for p in numbers]
    container = {"name": "main", "image": "bench", "command": ["sleep", "infinity"], "ports": ports}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "bench"},
            "spec": {"selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels, "annotations": annotations},
                                  "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}}}


def service(name, numbers):
    ports = [{"name": f"p{p}", "port": p, "targetPort": p} for p in numbers]
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "bench",
                         "annotations": {"config.linkerd.io/opaque-ports": str(PORT_TCP)}},
            "spec": {"selector": {"app": name}, "ports": ports}}


def meshed_pod(workers, **more):
    """Annotations of a pod with a sidecar."""
    return {"linkerd.io/inject": "enabled", "config.linkerd.io/proxy-cpu-limit": str(workers),
            "config.linkerd.io/opaque-ports": str(PORT_TCP), **{f"config.linkerd.io/{k}": v for k, v in more.items()}}


def peer_pods(workers):
    """
    client, server: meshed. outsider, plain: not. clear: has a sidecar that takes its traffic, but the control
    plane tells no identity for its ports (skip-inbound-ports), so that its clients do not use TLS.
    """
    meshed = meshed_pod(workers)
    skipped = {"config.linkerd.io/skip-inbound-ports": ",".join(map(str, PORTS))}
    plain = {"linkerd.io/inject": "disabled", "config.linkerd.io/opaque-ports": str(PORT_TCP)}
    return {"client": meshed, "outsider": plain, "server": meshed, "clear": {**meshed, **skipped}, "plain": plain}


def manifests(pods, ports):
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}},
            *(deployment(name, notes, ports) for name, notes in pods.items()),
            *(service(name, ports) for name in pods if name not in CLIENTS)]


# --- the world -----------------------------------------------------------------------------------


class World:
    """`wanted`: pods by name, with their annotations; each but CLIENTS has a Service."""

    def __init__(self, build, wanted, ports=PORTS):
        self.build = pathlib.Path(build).resolve()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="tb-", dir="/tmp"))
        self.root.chmod(0o755)
        self.name = "b-" + secrets.token_hex(3)
        self.wanted = wanted
        self.ports = ports
        self.children = []
        self.told = False
        self.home = None
        self.pods = {}

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def up(self):
        folder, state = self.root / "m", self.root / "s"
        folder.mkdir()
        state.mkdir()
        (folder / "bench.yaml").write_text("\n---\n".join(json.dumps(o) for o in manifests(self.wanted, self.ports)))
        log = open(self.root / "home.log", "wb")
        self.home = subprocess.Popen(
            [str(self.build / "tulle"), "local", "up", str(folder), "--home", self.name, "--state", str(state),
             "--wait", f"{UP_S}s", "--foreground", "--pod-subnet", "10.117.0.0/16",
             "--service-subnet", "10.118.0.0/16", "--disable-ipv6"],
            stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        log.close()
        wait_for(self.is_up, "the home is up", UP_S)
        self.read_pods()
        for name in self.wanted:
            self.tune(name)
        self.restart_proxies()
        if "clear" in self.wanted:
            self.redirect_clear()

    def is_up(self):
        if self.home.poll() is not None:
            raise RuntimeError("the home ended:\n" + (self.root / "home.log").read_text(errors="replace")[-3000:])
        try:
            return self.all_ready()
        except (OSError, ValueError):
            return False

    def all_ready(self):
        pods = [p for p in self.status()["pods"] if p["workload"] in self.wanted]
        return len(pods) == len(self.wanted) and all(p["ready"] for p in pods)

    def read_pods(self):
        for name in self.wanted:
            self.pods[name] = next(p for p in self.status()["pods"] if p["workload"] == name)

    def status(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(WAIT_S)
            s.connect(str(self.root / "s" / self.name / "run" / "supervisor.sock"))
            s.sendall(b'{"command":"status"}\n')
            answer = b""
            while part := s.recv(1 << 16):
                answer += part
        return json.loads(answer)

    def close(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
        for child in self.children:
            child.wait()
        if self.home is not None and self.home.poll() is None:
            self.home.terminate()
            try:
                self.home.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.home.kill()
                self.home.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    # --- pods ------------------------------------------------------------------------------------

    def pid(self, pod, container="main"):
        return next(c["pid"] for c in self.pods[pod]["containers"] if c["name"] == container)

    def proxy(self, pod):
        return self.pid(pod, "linkerd-proxy")

    def ip(self, pod):
        return self.pods[pod]["ip"]

    def service_ip(self, name):
        done = subprocess.run(
            [str(self.build / "tulle"), "local", "exec", "client", "-n", "bench", "--home", self.name, "--state",
             str(self.root / "s"), "--", "getent", "ahostsv4", f"{name}.bench.svc.cluster.local"],
            text=True, capture_output=True, timeout=WAIT_S)
        if done.returncode != 0:
            raise RuntimeError(f"no address of {name}: {done.stdout}{done.stderr}")
        return done.stdout.split()[0]

    # --- the cluster -----------------------------------------------------------------------------

    def add(self, name, objects):
        """More manifests, which the home takes while it runs."""
        path = self.root / "new"
        path.write_text("\n---\n".join(json.dumps(o) for o in objects))
        path.rename(self.root / "m" / f"{name}.yaml")

    def cluster(self):
        """What the control plane reads: a file an object."""
        return self.root / "s" / self.name / "cluster"

    def cluster_object(self, kind, name):
        path = self.cluster() / f"{kind}.bench.{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def component(self, pod, container):
        """The process of a part of the control plane."""
        found = next(p for p in self.status()["pods"] if p["workload"] == pod)
        return next(c["pid"] for c in found["containers"] if c["name"] == container)

    # --- programs --------------------------------------------------------------------------------

    def command(self, pod, *words):
        return ["nsenter", f"--net=/proc/{self.pid(pod)}/ns/net", *map(str, words)]

    def run(self, pod, *words, check=True, timeout=300, **options):
        return subprocess.run(self.command(pod, *words), text=True, capture_output=True, check=check,
                              timeout=timeout, preexec_fn=die_with_parent, **options)

    def start(self, pod, *words, log="child", **options):
        """nsenter becomes the program: the child's pid is the program's."""
        if "stdout" not in options:
            options["stdout"] = open(self.root / f"{log}.log", "wb")
        child = subprocess.Popen(self.command(pod, *words), stderr=subprocess.STDOUT,
                                 preexec_fn=die_with_parent, **options)
        self.children.append(child)
        return child

    def stop(self, child):
        child.kill()
        child.wait()
        self.children.remove(child)

    def wait_port(self, pod, port):
        def listens():
            shown = self.run(pod, "ss", "-Hltn", f"sport = :{port}").stdout
            return shown.strip()
        wait_for(listens, lambda: f"{pod} listens on {port}:\n{self.logs_tail()}")

    def logs_tail(self):
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-600:]}" for p in self.root.glob("*.log"))

    def tune(self, pod):
        """
        Many new connections must not run out of ports, nor wait for those of closed ones (in sockets, and in
        connection tracking, which remembers them for two minutes). Congestion control is what most machines have: with BBR,
        whose pacing costs a timer for each segment, bytes cost twice as much and peers come closer together.
        """
        self.run(pod, "sh", "-c", "echo 2000 65000 >/proc/sys/net/ipv4/ip_local_port_range && "
                                  "echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse && "
                                  "echo 1000 >/proc/sys/net/ipv4/tcp_max_tw_buckets && "
                                  "echo 1 >/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait && "
                                  "echo 4096 >/proc/sys/net/core/somaxconn")
        set_it = self.run(pod, "sh", "-c", "echo cubic >/proc/sys/net/ipv4/tcp_congestion_control", check=False)
        if set_it.returncode != 0 and not self.told:
            self.told = True
            print("cubic is not allowed in namespaces here: figures of TCP are this machine's own; "
                  "sysctl -w net.ipv4.tcp_allowed_congestion_control='reno cubic' allows it", file=sys.stderr)

    def congestion_control(self, pod):
        return self.run(pod, "cat", "/proc/sys/net/ipv4/tcp_congestion_control").stdout.strip()

    def restart_proxies(self):
        """A connection has the congestion control that its listener was opened under."""
        meshed = [name for name in self.wanted if self.has_proxy(name)]
        before = {name: self.proxy(name) for name in meshed}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        def are_new():
            self.read_pods()
            return self.all_ready() and all(self.proxy(n) not in (0, before[n]) for n in meshed)
        wait_for(are_new, "the proxies are up again")

    def has_proxy(self, pod):
        return any(c["name"] == "linkerd-proxy" for c in self.pods[pod]["containers"])

    def redirect_clear(self):
        """What skip-inbound-ports left out goes to the sidecar after all."""
        ports = ", ".join(map(str, PORTS))
        self.run("clear", "nft", f"""
            add table ip bench
            add chain ip bench incoming {{ type nat hook prerouting priority -110; }}
            add rule ip bench incoming iifname != "lo" tcp dport {{ {ports} }} redirect to :4143""")
