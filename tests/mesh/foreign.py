# SPDX-License-Identifier: Apache-2.0
"""
A control plane written in another language, from the protos and a foreign gRPC and X.509 library alone, and one of our
proxies under it, in a network namespace of this process: what the proxy is told is what a test says, byte by byte.

    plane = ForeignPlane(api)               # identity, destination and policy on 127.0.0.1
    plane.say("watch", "10.96.0.10:80", policy(api, path="web.t.svc.cluster.local:80"))
    plane.say("get", "web.t.svc.cluster.local:80", add(api, "10.1.0.11:8080"))

What is said is a list: bytes are sent as a message, a grpc.StatusCode ends the stream. Each call of that name gets the
list from its start, and then what push() adds.
"""
import contextlib
import ctypes
import datetime
import http.client
import http.server
import os
import pathlib
import queue
import socket
import socketserver
import subprocess
import threading
import time

import grpc
from concurrent import futures
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import control_plane as cp

CLONE_NEWNET = 0x40000000
UID = 2102
POD, PEER = "10.1.0.1", "10.1.0.200"
OWN_ID = "app.t.serviceaccount.identity.linkerd.cluster.local"
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# --- namespaces ----------------------------------------------------------------------------------


class Net:
    """The pod's namespace, in which this thread and all that it starts live until close(), and a peer's."""

    def __init__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        check(libc.unshare(CLONE_NEWNET))
        self.peer = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.run("ip", "link", "set", "lo", "up")
        check(libc.unshare(CLONE_NEWNET))
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", f"/proc/{os.getpid()}/fd/{self.peer}")
        for address in (POD, *(f"10.1.0.{n}" for n in range(11, 15))):
            self.run("ip", "addr", "add", f"{address}/16", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        with self.in_peer():
            self.run("ip", "addr", "add", f"{PEER}/16", "dev", "eth0")
            self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "dev", "eth0")
        self.run(cp.program("tulle-init"), "-p", "4143", "-o", "4140", "--proxy-uid", str(UID), "--ipv6=false")

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True, capture_output=True, timeout=cp.STALL_S)

    @contextlib.contextmanager
    def in_peer(self):
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        check(libc.setns(self.peer, CLONE_NEWNET))
        try:
            yield
        finally:
            check(libc.setns(here, CLONE_NEWNET))
            os.close(here)

    def close(self):
        check(libc.setns(self.home, CLONE_NEWNET))
        os.close(self.peer)
        os.close(self.home)


# --- the application -----------------------------------------------------------------------------


class HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):  # without looking up its own name, which nobody answers here
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


class App:
    """An HTTP server that answers with its address."""

    def __init__(self, address, port=8080):
        app = self
        self.count = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                app.count += 1
                body = f"{address} {self.path}".encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = HttpServer((address, port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def get(address, port=80, path="/", timeout=cp.STALL_S):
    """(status, body) of one request on a connection of its own; the exception when there is no answer."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as problem:
        return type(problem), str(problem)
    finally:
        connection.close()


# --- the control plane ---------------------------------------------------------------------------


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class RawServer:
    """HTTP/2 by hand, for what no library would send. `answer(stream)` gives the bytes for a request."""

    def __init__(self, port, answer):
        self.answer, self.requests, self.lock = answer, 0, threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", port), reuse_port=True)
        self.connections = []
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError, AssertionError):
            data = connection.makefile("rb")
            assert data.read(24).startswith(b"PRI * HTTP/2.0")
            connection.sendall(frame(4, 0, 0))
            while len(head := data.read(9)) == 9:
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
                data.read(int.from_bytes(head[:3], "big"))
                if kind == 4 and not flags & 1:
                    connection.sendall(frame(4, 1, 0))
                if kind == 6 and not flags & 1:
                    connection.sendall(frame(6, 1, 0, 8 * b"x"))
                if kind == 1:
                    with self.lock:
                        self.requests += 1
                        self.lock.notify_all()
                    connection.sendall(self.answer(stream))
        connection.close()

    def wait_requests(self, count):
        with self.lock:
            assert self.lock.wait_for(lambda: self.requests >= count, cp.STALL_S), f"{self.requests} requests came, not {count}"

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Call:
    def __init__(self):
        self.queue = queue.SimpleQueue()


class ForeignPlane:
    def __init__(self, api):
        self.api = api
        self.lock = threading.Condition()
        self.said = {}
        self.live = {}
        self.seen = []
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = self.certificate("root.foreign", self.key.public_key(), is_ca=True)
        self.anchors = self.root.public_bytes(serialization.Encoding.PEM).decode()
        self.servers = [self.serve(8080, "identity.Identity", {"Certify": self.certify}),
                        self.serve(8090, None, {}, more={
                            "inbound.InboundServerPolicies": {
                                "WatchPort": self.stream("port", api.inbound.PortSpec, lambda r: str(r.port))},
                            "outbound.OutboundPolicies": {
                                "Watch": self.stream("watch", api.outbound.TrafficSpec, lambda r: cp.at(r.addr))}}),
                        self.destination()]  # the last one: it may be replaced

    # Certificates.

    def certificate(self, name, key, is_ca=False):
        now = datetime.datetime.now(datetime.timezone.utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (x509.CertificateBuilder().subject_name(subject)
                   .issuer_name(subject if is_ca else self.root.subject).public_key(key)
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=1))
                   .not_valid_after(now + datetime.timedelta(days=1))
                   .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True))
        if not is_ca:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def certify(self):
        i = self.api.identity

        def answer(request, context):
            csr = x509.load_der_x509_csr(request.certificate_signing_request)
            leaf = self.certificate(request.identity, csr.public_key())
            response = i.CertifyResponse(leaf_certificate=leaf.public_bytes(serialization.Encoding.DER))
            response.valid_until.FromSeconds(int(time.time()) + 86000)
            return response.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer, request_deserializer=i.CertifyRequest.FromString)

    # Streams.

    def serve(self, port, service, methods, more=None):
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=200))
        for name, those in {**({service: methods} if service else {}), **(more or {})}.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"io.linkerd.proxy.{name}", those),))
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        server.start()
        return server

    def stream(self, kind, request_type, key_of):
        def answer(request, context):
            key = (kind, key_of(request))
            call = Call()
            with self.lock:
                self.seen.append(key)
                for item in self.said.get(key, ()):
                    call.queue.put(item)
                self.live.setdefault(key, []).append(call)
                self.lock.notify_all()
            if not context.add_callback(lambda: call.queue.put(None)):
                call.queue.put(None)
            try:
                while (item := call.queue.get()) is not None:
                    if isinstance(item, grpc.StatusCode):
                        if item == grpc.StatusCode.OK:
                            return
                        context.abort(item, "as the test says")
                    yield item
            finally:
                with self.lock:
                    self.live[key].remove(call)
                    self.lock.notify_all()

        return grpc.unary_stream_rpc_method_handler(answer, request_deserializer=request_type.FromString)

    def say(self, kind, key, *items):
        with self.lock:
            self.said[(kind, key)] = list(items)

    def push(self, kind, key, *items):
        """To all calls of that name that are open; there must be one."""
        self.wait_calls(kind, key)
        with self.lock:
            for call in self.live[(kind, key)]:
                for item in items:
                    call.queue.put(item)

    def wait_calls(self, kind, key, times=1):
        """Until it was called so often, and one is open."""
        with self.lock:
            assert self.lock.wait_for(lambda: self.count(kind, key) >= times and self.live.get((kind, key)), cp.STALL_S), \
                f"{kind} {key} was called {self.count(kind, key)} times, not {times}; calls: {self.seen[-20:]}"

    def wait_count(self, kind, key, times):
        with self.lock:
            assert self.lock.wait_for(lambda: self.count(kind, key) >= times, cp.STALL_S), \
                f"{kind} {key} was called {self.count(kind, key)} times, not {times}"

    def count(self, kind, key):
        return self.seen.count((kind, key))

    def destination(self):
        return self.serve(8086, "destination.Destination", {
            "Get": self.stream("get", self.api.destination.GetDestination, lambda r: r.path),
            "GetProfile": self.stream("profile", self.api.destination.GetDestination, lambda r: r.path)})

    @contextlib.contextmanager
    def replaced_destination(self, frames):
        """In its place for a while: a server whose answer to each request is these bytes. Yields a count of requests."""
        self.servers.pop().stop(0).wait()
        raw = RawServer(8086, frames)
        try:
            yield raw
        finally:
            raw.close()
            self.servers.append(self.destination())

    def close(self):
        for server in self.servers:
            server.stop(None).wait()


# --- the proxy -----------------------------------------------------------------------------------


class Proxy:
    def __init__(self, folder, plane, **settings):
        folder = pathlib.Path(folder)
        (folder / "token").write_text("token")
        self.log = folder / "proxy.log"
        values = {
            "OUTBOUND_LISTEN_ADDRS": "127.0.0.1:4140", "INBOUND_LISTEN_ADDR": "0.0.0.0:4143", "ADMIN_LISTEN_ADDR": "127.0.0.1:4191",
            "IDENTITY_TRUST_ANCHORS": plane.anchors, "IDENTITY_TOKEN_FILE": str(folder / "token"), "IDENTITY_LOCAL_NAME": OWN_ID,
            "IDENTITY_SVC_ADDR": "localhost.:8080", "IDENTITY_SVC_NAME": "identity.foreign",
            "DESTINATION_SVC_ADDR": "localhost.:8086", "DESTINATION_SVC_NAME": "destination.foreign",
            "POLICY_SVC_ADDR": "localhost.:8090", "POLICY_SVC_NAME": "policy.foreign",
            "DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8", "DESTINATION_PROFILE_SUFFIXES": "svc.cluster.local.",
            "DESTINATION_CONTEXT": '{"ns":"t","pod":"app-1"}\n', "POLICY_WORKLOAD": '{"ns":"t","pod":"app-1"}\n',
            "POLICY_CLUSTER_NETWORKS": "10.0.0.0/8", "INBOUND_IPS": POD, "INBOUND_PORTS": "8080", "CORES": "1",
            "SHUTDOWN_GRACE_PERIOD": "2s", "LOG": "info", **settings}
        for path in (folder, *folder.parents):  # the proxy's user must reach its files
            if path.is_dir() and path.owner() == "root" and path != pathlib.Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
        environment = {"PATH": os.environ["PATH"], "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", ""),
                       **{f"LINKERD2_PROXY_{k}": v for k, v in values.items()}}
        self.process = subprocess.Popen(
            ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", str(cp.program("tulle-proxy"))],
            env=environment, stdout=open(self.log, "wb"), stderr=subprocess.STDOUT)
        end = time.monotonic() + cp.STALL_S
        while get("127.0.0.1", 4191, "/ready")[0] != 200:
            assert self.process.poll() is None and time.monotonic() < end, self.output()

    def output(self):
        return self.log.read_text(errors="replace")

    def metrics(self):
        return get("127.0.0.1", 4191, "/metrics")[1]

    def metric(self, name, **labels):
        """The sum of the series with these labels."""
        total = 0
        for line in self.metrics().splitlines():
            if line.split("{")[0].split(" ")[0] == name and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(cp.STALL_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


# --- messages ------------------------------------------------------------------------------------


def address(api, text, **more):
    ip, port = text.rsplit(":", 1)
    a = api.destination.WeightedAddr(weight=10000, **more)
    a.addr.ip.ipv4 = int.from_bytes(socket.inet_aton(ip), "big")
    a.addr.port = int(port)
    return a


def add(api, *endpoints, **more):
    u = api.destination.Update()
    u.add.addrs.extend(address(api, e) if isinstance(e, str) else e for e in endpoints)
    u.add.metric_labels.update(more)
    return u.SerializeToString()


def remove(api, *endpoints):
    u = api.destination.Update()
    u.remove.addrs.extend(address(api, e).addr for e in endpoints)
    return u.SerializeToString()


def none(api, exists):
    u = api.destination.Update()
    u.no_endpoints.exists = exists
    return u.SerializeToString()


def profile(api, **more):
    p = api.destination.DestinationProfile(**more)
    p.retry_budget.retry_ratio = 0.2
    p.retry_budget.min_retries_per_second = 10
    p.retry_budget.ttl.seconds = 10
    return p.SerializeToString()


def backend(api, path):
    b = api.outbound.Backend()
    name, ns = path.split(".")[:2]
    b.metadata.resource.CopyFrom(resource(api, "Service", name, ns))
    b.queue.capacity = 100
    b.queue.failfast_timeout.seconds = 3
    b.balancer.discovery.dst.path = path
    b.balancer.peak_ewma.default_rtt.nanos = 30_000_000
    b.balancer.peak_ewma.decay.seconds = 10
    return b


def resource(api, kind, name, ns="t"):
    return api.meta.Resource(group="core", kind=kind, name=name, namespace=ns)


def http_routes(api, routes, path):
    route = routes.add()
    setattr(route.metadata, "default", "http")
    rule = route.rules.add()
    rule.matches.add().path.prefix = "/"
    rule.backends.first_available.backends.add().backend.CopyFrom(backend(api, path))
    return rule


def policy(api, path, edit=None):
    """Detection with all four parts; `edit` gets the message before it is sent."""
    p = api.outbound.OutboundPolicy()
    p.metadata.resource.CopyFrom(resource(api, "Service", path.split(".")[0]))
    d = p.protocol.detect
    d.timeout.seconds = 10
    http_routes(api, d.http1.routes, path)
    http_routes(api, d.http2.routes, path)
    opaque = d.opaque.routes.add()
    setattr(opaque.metadata, "default", "opaq")
    opaque.rules.add().backends.first_available.backends.add().backend.CopyFrom(backend(api, path))
    if edit is not None:
        edit(p)
    return p.SerializeToString()


def server(api, edit=None, name="all-unauthenticated", networks=("0.0.0.0/0",)):
    """An inbound answer: detection, one route for all, everybody in the networks may."""
    s = api.inbound.Server()
    s.labels.update({"group": "", "kind": "default", "name": name})
    s.protocol.detect.timeout.seconds = 10
    for block in networks:
        a = s.authorizations.add()
        ip, length = block.split("/")
        net = a.networks.add().net
        net.ip.ipv4 = int.from_bytes(socket.inet_aton(ip), "big")
        net.prefix_len = int(length)
        a.authentication.unauthenticated.SetInParent()
        setattr(a.metadata, "default", name)
    if edit is not None:
        edit(s)
    return s.SerializeToString()
