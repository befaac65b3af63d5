# SPDX-License-Identifier: Apache-2.0
"""A controller over a folder of manifests, and a foreign gRPC client for it.

The ports of components are fixed, so every controller listens on a loopback address of its own.
"""
import base64
import hashlib
import hmac
import importlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
STALL_S = 60  # longer than anything takes: a test that waits so long has failed
DESTINATION, POLICY, IDENTITY, PROXY_API, POLICY_FRONT = 8087, 8091, 8080, 8086, 8090
PROTOS = ("net", "meta", "http_types", "http_route", "grpc_route", "tls_route", "opaque_route",
          "destination", "identity", "inbound", "outbound")


def program(name):
    """The program of TULLE_BUILD, or of the build folder that has one."""
    folders = [os.environ["TULLE_BUILD"]] if "TULLE_BUILD" in os.environ else ["build", "build-asan"]
    found = [p for f in folders for p in [ROOT / f / name] if p.exists()]
    assert found, f"{name} is not built: run `make` or `make asan`, or set TULLE_BUILD"
    return found[0]


class Api:
    """The messages of api/*.proto, as Python modules: api.destination.GetDestination."""

    def __init__(self, folder):
        got = subprocess.run(
            ["protoc", f"-I{ROOT / 'api'}", "-I/usr/include", f"--python_out={folder}",
             *(f"{name}.proto" for name in PROTOS)],
            cwd=ROOT / "api", capture_output=True, text=True, timeout=STALL_S)
        assert got.returncode == 0, got.stderr
        sys.path.insert(0, str(folder))
        try:
            for name in PROTOS:
                setattr(self, name, importlib.import_module(f"{name}_pb2"))
        finally:
            sys.path.remove(str(folder))


def free_address():
    """A loopback address on which nobody listens on our ports."""
    while True:
        address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, DESTINATION))
                return address
            except OSError:
                continue


class Stream:
    """A server stream; reading waits as long as it takes, up to STALL_S."""

    def __init__(self, call):
        self.call = call

    def next(self):
        return next(self.call)

    def error(self):
        """The status with which the stream ends without another message."""
        try:
            message = next(self.call)
        except grpc.RpcError as error:
            return error.code()
        except StopIteration:
            return grpc.StatusCode.OK
        raise AssertionError(f"a message came instead of the end: {message}")

    def cancel(self):
        self.call.cancel()


class Controller:
    def __init__(self, folder, api, components=("destination", "policy", "proxy-api"), options=()):
        self.folder = pathlib.Path(folder)
        self.manifests = self.folder / "manifests"
        self.manifests.mkdir(exist_ok=True)
        self.api = api
        self.address = free_address()
        self.components = components
        self.options = options
        self.process = None
        self.channels = []

    def start(self):
        self.log = open(self.folder / "controller.log", "ab")
        self.process = subprocess.Popen(
            [program("tulle-controller"), *self.components, "--cluster-dir", self.manifests,
             "--bind", self.address, *self.options],
            stdout=self.log, stderr=subprocess.STDOUT)
        return self

    def output(self):
        return (self.folder / "controller.log").read_text(errors="replace")

    def get(self, port, path):
        """(status, text) of the admin server; waits until somebody listens there."""
        end = time.monotonic() + STALL_S
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.address}:{port}{path}", timeout=STALL_S) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, f"the controller ended:\n{self.output()}"
                assert time.monotonic() < end, f"nobody listens on port {port}:\n{self.output()}"

    def wait(self, is_so):
        """Ask again until it is so."""
        end = time.monotonic() + STALL_S
        while not is_so():
            assert time.monotonic() < end, f"waited in vain:\n{self.output()}"

    def wait_ready(self, port):
        self.wait(lambda: self.get(port, "/ready")[0] == 200)
        return self

    def metric(self, port, name, **labels):
        """The value of one series; None when there is none."""
        for line in self.get(port, "/metrics")[1].splitlines():
            if line.startswith(name) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                return float(line.rsplit(" ", 1)[1])
        return None

    # --- manifests -------------------------------------------------------------------------------

    def put(self, *objects):
        """One file per object, replaced as a whole."""
        for o in objects:
            new = self.folder / "new"
            new.write_text(yaml.safe_dump(o))
            new.rename(self.manifests / self.file(o))

    def drop(self, o):
        (self.manifests / self.file(o)).unlink()

    @staticmethod
    def file(o):
        return f"{o['kind']}.{o['metadata'].get('namespace', '_')}.{o['metadata']['name']}.yaml".lower()

    # --- calls -----------------------------------------------------------------------------------

    def channel(self, port):
        channel = grpc.insecure_channel(f"{self.address}:{port}",
                                        options=[("grpc.max_receive_message_length", 4 << 20)])
        grpc.channel_ready_future(channel).result(timeout=STALL_S)
        self.channels.append(channel)
        return channel

    def stream(self, port, method, request, answer):
        call = self.channel(port).unary_stream(f"/io.linkerd.proxy.{method}", request_serializer=bytes,
                                               response_deserializer=answer.FromString)
        if not isinstance(request, bytes):
            request = request.SerializeToString()
        return Stream(call(request, timeout=STALL_S))

    def unary(self, port, method, request, answer):
        call = self.channel(port).unary_unary(f"/io.linkerd.proxy.{method}", request_serializer=bytes,
                                              response_deserializer=answer.FromString)
        return call(request.SerializeToString(), timeout=STALL_S)

    def destination(self, path, port=PROXY_API, **token):
        d = self.api.destination
        request = d.GetDestination(path=path, context_token=json.dumps(token) + "\n")
        return self.stream(port, "destination.Destination/Get", request, d.Update)

    def profile(self, path, port=PROXY_API, **token):
        d = self.api.destination
        request = d.GetDestination(path=path, context_token=json.dumps(token) + "\n")
        return self.stream(port, "destination.Destination/GetProfile", request, d.DestinationProfile)

    def watch_port(self, ns, pod, number, port=POLICY_FRONT):
        i = self.api.inbound
        request = i.PortSpec(workload=json.dumps({"ns": ns, "pod": pod}) + "\n", port=number)
        return self.stream(port, "inbound.InboundServerPolicies/WatchPort", request, i.Server)

    def traffic(self, ip, number):
        o = self.api.outbound
        spec = o.TrafficSpec(source_workload='{"ns":"default","pod":"client"}')
        spec.addr.ip.ipv4 = int.from_bytes(socket.inet_aton(ip), "big")
        spec.addr.port = number
        return spec

    def watch_outbound(self, ip, number, port=POLICY_FRONT):
        return self.stream(port, "outbound.OutboundPolicies/Watch", self.traffic(ip, number),
                           self.api.outbound.OutboundPolicy)

    # --- the end ---------------------------------------------------------------------------------

    def stop(self):
        """Ends it as its supervisor would; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STALL_S)

    def close(self):
        for channel in self.channels:
            channel.close()
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.log.close()
        shutil.rmtree(self.manifests, ignore_errors=True)


# --- manifests -----------------------------------------------------------------------------------

def meta(name, ns="default", labels=None, annotations=None, **more):
    return {"name": name, "namespace": ns, "labels": labels or {}, "annotations": annotations or {}, **more}


def service(name, ip, ports=((80, 8080),), ns="default", annotations=None, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name, ns, annotations=annotations),
            "spec": {"clusterIP": ip, **spec,
                     "ports": [{"name": f"p{port}", "port": port, "targetPort": target} for port, target in ports]}}


def endpoint(ip, pod, ready=True, **more):
    return {"addresses": [ip], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": pod}, **more}


def slice_of(name, endpoints, ports=((80, 8080),), ns="default", family="IPv4"):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": meta(f"{name}-1", ns, labels={"kubernetes.io/service-name": name}),
            "ports": [{"name": f"p{port}", "port": target} for port, target in ports],
            "endpoints": list(endpoints)}


def pod(name, ip, ns="default", meshed=True, account="web", ports=(8080,), annotations=None, phase="Running",
        labels=None, **container):
    labels = {"app": "web", **(labels or {})}
    containers = [{"name": "app", "ports": [{"name": f"c{p}", "containerPort": p} for p in ports], **container}]
    if meshed:
        labels["linkerd.io/control-plane-ns"] = "linkerd"
        containers.append({"name": "linkerd-proxy", "env": [
            {"name": "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "value": "0.0.0.0:4143"},
            {"name": "LINKERD2_PROXY_CONTROL_LISTEN_ADDR", "value": "0.0.0.0:4190"},
            {"name": "LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "value": "0.0.0.0:4191"}]})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta(name, ns, labels, annotations),
            "spec": {"serviceAccountName": account, "containers": containers},
            "status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}]}}


def ipv4(address):
    """The text of a net.IPAddress."""
    return socket.inet_ntoa(address.ipv4.to_bytes(4, "big"))


def at(addr):
    """"1.2.3.4:80" of a net.TcpAddress."""
    return f"{ipv4(addr.ip)}:{addr.port}"


# --- tokens of the local home ----------------------------------------------------------------------

def token_key(folder):
    """The key of mode 0600 beside the folder of manifests."""
    path = pathlib.Path(folder) / "token.key"
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    return path.read_bytes()


def mint_token(key, ns, account, audience="identity.l5d.io", lifetime=600):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    now = int(time.time())
    claims = {"iss": "tulle", "sub": f"system:serviceaccount:{ns}:{account}", "aud": [audience], "iat": now,
              "exp": now + lifetime, "kubernetes.io": {"namespace": ns, "serviceaccount": {"name": account}}}
    text = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + b"." + part(json.dumps(claims).encode())
    return text + b"." + part(hmac.new(key, text, hashlib.sha256).digest())
