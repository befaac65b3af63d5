# SPDX-License-Identifier: Apache-2.0
"""The control plane as a proxy sees it: the real controller, a folder of manifests, a foreign gRPC client."""
import datetime
import socket

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import control_plane as cp
from control_plane import at, endpoint, pod, service, slice_of

CODE = grpc.StatusCode


@pytest.fixture(scope="session")
def api(tmp_path_factory):
    return cp.Api(tmp_path_factory.mktemp("protos"))


@pytest.fixture
def controller(tmp_path, api):
    c = cp.Controller(tmp_path, api)
    yield c
    c.close()


@pytest.fixture
def web(controller):
    """A running controller with a service of two meshed pods."""
    controller.put(service("web", "10.96.0.10"), pod("web-1", "10.1.0.1"), pod("web-2", "10.1.0.2"),
                   slice_of("web", [endpoint("10.1.0.1", "web-1"), endpoint("10.1.0.2", "web-2")]))
    return controller.start().wait_ready(9996)


WEB = "web.default.svc.cluster.local:80"
WEB_ID = "web.default.serviceaccount.identity.linkerd.cluster.local"


# --- destination -----------------------------------------------------------------------------------

@pytest.mark.parametrize("port", [cp.PROXY_API, cp.DESTINATION])
def test_endpoints_of_a_service(web, port):
    update = web.destination(WEB, port=port, ns="default", pod="client").next()
    assert dict(update.add.metric_labels) == {"service": "web", "namespace": "default"}
    assert {at(a.addr) for a in update.add.addrs} == {"10.1.0.1:8080", "10.1.0.2:8080"}
    one = min(update.add.addrs, key=lambda a: at(a.addr))
    assert one.weight == 10000
    assert dict(one.metric_labels) == {"pod": "web-1", "serviceaccount": "web", "control_plane_ns": "linkerd",
                                       "zone_locality": "unknown"}
    assert one.tls_identity.dns_like_identity.name == WEB_ID
    assert one.tls_identity.server_name.name == WEB_ID
    assert one.protocol_hint.WhichOneof("protocol") == "h2"
    assert one.protocol_hint.opaque_transport.inbound_port == 4143
    assert one.http2.keep_alive.interval.seconds == 10
    assert one.http2.keep_alive.timeout.seconds == 3
    assert one.http2.keep_alive.while_idle


def test_endpoints_change_one_by_one(web):
    stream = web.destination(WEB)
    assert len(stream.next().add.addrs) == 2
    web.put(pod("web-3", "10.1.0.3"))
    web.put(slice_of("web", [endpoint(f"10.1.0.{i}", f"web-{i}") for i in (1, 2, 3)]))
    assert [at(a.addr) for a in stream.next().add.addrs] == ["10.1.0.3:8080"]
    web.put(slice_of("web", [endpoint("10.1.0.1", "web-1", ready=False), endpoint("10.1.0.2", "web-2"),
                             endpoint("10.1.0.3", "web-3")]))
    assert [at(a) for a in stream.next().remove.addrs] == ["10.1.0.1:8080"]
    web.put(pod("web-2", "10.1.0.2", annotations={"config.linkerd.io/opaque-ports": "8080"}))
    changed = stream.next().add.addrs
    assert [(at(a.addr), a.protocol_hint.WhichOneof("protocol")) for a in changed] == [("10.1.0.2:8080", "opaque")]
    late = web.destination(WEB).next()
    assert {at(a.addr) for a in late.add.addrs} == {"10.1.0.2:8080", "10.1.0.3:8080"}


def test_service_comes_after_the_question(web):
    assert web.destination("late.default.svc.cluster.local:80").error() == CODE.NOT_FOUND
    profile = web.profile("10.96.0.11:80")
    assert profile.next().fully_qualified_name == ""
    web.put(service("late", "10.96.0.11"))
    assert profile.next().fully_qualified_name == "late.default.svc.cluster.local"
    stream = web.destination("late.default.svc.cluster.local:80")
    web.put(pod("late-1", "10.1.1.1"), slice_of("late", [endpoint("10.1.1.1", "late-1")]))
    assert [at(a.addr) for a in stream.next().add.addrs] == ["10.1.1.1:8080"]


@pytest.mark.parametrize("path", ["10.96.0.10:80", "example.com:80", "web.default.svc.cluster.local:http", ""])
def test_malformed_destination(web, path):
    assert web.destination(path).error() == CODE.INVALID_ARGUMENT


def test_malformed_message(web):
    stream = web.stream(cp.PROXY_API, "destination.Destination/Get", b"\xff\xff\xff", web.api.destination.Update)
    assert stream.error() == CODE.INVALID_ARGUMENT


def test_unknown_method(web):
    stream = web.stream(cp.PROXY_API, "destination.Destination/Put", b"", web.api.destination.Update)
    assert stream.error() == CODE.UNIMPLEMENTED


def test_profiles(web):
    of_service = web.profile("10.96.0.10:80").next()
    assert of_service.fully_qualified_name == "web.default.svc.cluster.local"
    assert of_service.parent_ref.resource.name == "web"
    assert of_service.retry_budget.ttl.seconds == 10
    of_pod = web.profile("10.1.0.1:8080").next()
    assert at(of_pod.endpoint.addr) == "10.1.0.1:8080"
    assert of_pod.endpoint.tls_identity.dns_like_identity.name == WEB_ID
    assert of_pod.endpoint.metric_labels["namespace"] == "default"
    of_nobody = web.profile("192.0.2.1:3306").next()
    assert at(of_nobody.endpoint.addr) == "192.0.2.1:3306" and of_nobody.opaque_protocol
    assert web.profile("example.com:80").error() == CODE.INVALID_ARGUMENT


def test_profile_becomes_opaque(web):
    stream = web.profile("10.96.0.10:80")
    assert not stream.next().opaque_protocol
    web.put(service("web", "10.96.0.10", annotations={"config.linkerd.io/opaque-ports": "80"}))
    assert stream.next().opaque_protocol


# --- policy ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("port", [cp.POLICY_FRONT, cp.POLICY])
def test_inbound_default(web, port):
    server = web.watch_port("default", "web-1", 8080, port=port).next()
    assert dict(server.labels) == {"group": "", "kind": "default", "name": "all-unauthenticated"}
    assert server.protocol.detect.timeout.seconds == 10
    (authz,) = server.authorizations
    assert authz.authentication.WhichOneof("permit") == "unauthenticated"
    assert [n.net.prefix_len for n in authz.networks] == [0, 0]
    (route,) = server.protocol.detect.http_routes
    assert route.metadata.default == "default"
    assert list(route.authorizations) == [authz]


def test_inbound_server_comes_and_goes(web):
    stream = web.watch_port("default", "web-1", 8080)
    stream.next()
    manifest = {"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": cp.meta("web"),
                "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "port": "c8080",
                         "proxyProtocol": "HTTP/2", "accessPolicy": "all-authenticated"}}
    web.put(manifest)
    server = stream.next()
    assert dict(server.labels) == {"group": "policy.linkerd.io", "kind": "server", "name": "web"}
    assert server.protocol.WhichOneof("kind") == "http2"
    (authz,) = server.authorizations
    assert [list(s.parts) for s in authz.authentication.meshTLS.identities.suffixes] == [[]]
    web.drop(manifest)
    assert stream.next().labels["kind"] == "default"


def test_inbound_get_port_answers_once(web):
    i = web.api.inbound
    request = i.PortSpec(workload='{"ns":"default","pod":"web-1"}', port=8080)
    assert web.unary(cp.POLICY_FRONT, "inbound.InboundServerPolicies/GetPort", request, i.Server).labels["name"]
    with pytest.raises(grpc.RpcError) as error:
        request.workload = '{"ns":"default","pod":"nobody"}'
        web.unary(cp.POLICY_FRONT, "inbound.InboundServerPolicies/GetPort", request, i.Server)
    assert error.value.code() == CODE.NOT_FOUND


def test_inbound_ends_with_the_pod(web):
    stream = web.watch_port("default", "web-1", 8080)
    stream.next()
    web.drop(pod("web-1", "10.1.0.1"))
    assert stream.error() == CODE.NOT_FOUND


def test_outbound_of_a_service(web):
    policy = web.watch_outbound("10.96.0.10", 80).next()
    assert policy.metadata.resource.group == "core" and policy.metadata.resource.kind == "Service"
    assert policy.metadata.resource.port == 80
    detect = policy.protocol.detect
    for part in (detect.opaque, detect.http1, detect.http2):
        (route,) = part.routes
        (rule,) = route.rules
        (backend,) = rule.backends.first_available.backends
        assert backend.backend.balancer.discovery.dst.path == WEB
        assert backend.backend.balancer.peak_ewma.decay.seconds == 10
        assert backend.backend.queue.capacity == 100
        assert backend.backend.queue.failfast_timeout.seconds == 3
    assert detect.http1.routes[0].metadata.default == "http"
    assert detect.opaque.routes[0].metadata.default == "opaq"
    unary = web.unary(cp.POLICY_FRONT, "outbound.OutboundPolicies/Get", web.traffic("10.96.0.10", 80),
                      web.api.outbound.OutboundPolicy)
    assert unary == policy


def test_outbound_elsewhere(web):
    (route,) = web.watch_outbound("10.96.0.10", 81).next().protocol.opaque.routes
    assert route.metadata.default == "undefined-port"
    assert route.rules[0].filters[0].WhichOneof("kind") == "forbidden"
    assert route.rules[0].backends.WhichOneof("kind") == "empty"
    assert web.watch_outbound("10.1.0.1", 8080).error() == CODE.NOT_FOUND
    egress = web.watch_outbound("192.0.2.1", 443).next()
    assert egress.metadata.default == "egress-fallback"
    backend = egress.protocol.detect.http1.routes[0].rules[0].backends.first_available.backends[0].backend
    assert at(backend.forward.addr) == "192.0.2.1:443"


def test_routes_of_the_users(web):
    """Every message type is read by a foreign decoder; gRPC, TLS and opaque ones share their builder with HTTP."""
    parent = {"group": "core", "kind": "Service", "name": "web", "port": 80}
    stream = web.watch_outbound("10.96.0.10", 80)
    stream.next()

    def route(kind, version, spec):
        manifest = {"apiVersion": f"gateway.networking.k8s.io/{version}", "kind": kind, "metadata": cp.meta("r"),
                    "spec": {"parentRefs": [parent], "rules": [spec]}}
        web.put(manifest)
        protocol = stream.next().protocol
        web.drop(manifest)
        stream.next()
        return protocol

    gone = {"backendRefs": [{"name": "web", "port": 80, "weight": 3}, {"name": "gone", "port": 80}]}
    http = route("HTTPRoute", "v1", gone).detect.http1.routes[0].rules[0]
    matches = [{"method": {"service": "a.B"}}]
    grpc_rule = route("GRPCRoute", "v1", {**gone, "matches": matches}).grpc.routes[0].rules[0]
    tls = route("TLSRoute", "v1alpha2", gone).tls.routes[0].rules[0]
    tcp = route("TCPRoute", "v1alpha2", gone).opaque.routes[0].rules[0]
    for rule in (http, grpc_rule, tls, tcp):
        good, bad = rule.backends.random_available.backends
        assert (good.weight, bad.weight) == (3, 1)
        assert good.backend.backend.balancer.discovery.dst.path == WEB
        assert bad.backend.backend.WhichOneof("kind") is None
    assert grpc_rule.matches[0].rpc.service == "a.B"
    assert http.backends.random_available.backends[1].backend.filters[0].failure_injector.status == 500
    assert grpc_rule.backends.random_available.backends[1].backend.filters[0].failure_injector.code == 14
    for rule in (tls, tcp):
        (refusal,) = rule.backends.random_available.backends[1].backend.filters
        assert refusal.invalid.message == "there is no Service default/gone, a backend"


def test_what_is_wrong_is_logged_once(web):
    manifest = {"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "EgressNetwork", "metadata": cp.meta("odd"),
                "spec": {"trafficPolicy": "Perhaps"}}
    web.put(manifest)
    said = "EgressNetwork default/odd: trafficPolicy is neither Allow nor Deny"
    web.wait(lambda: said in web.output())
    web.put({**manifest, "metadata": {**manifest["metadata"], "labels": {"a": "b"}}})
    web.put({**manifest, "metadata": cp.meta("other")})
    web.wait(lambda: "EgressNetwork default/other: trafficPolicy" in web.output())
    assert web.output().count(said) == 1


# --- identity --------------------------------------------------------------------------------------

def make_issuer(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "identity.linkerd.cluster.local")])
    now = datetime.datetime.utcnow()
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + datetime.timedelta(days=30))
                   .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                   .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
                   .sign(key, hashes.SHA256()))
    folder.mkdir()
    (folder / "crt.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return certificate


def make_csr(identity):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity)] if len(identity) <= 64 else [])
    return (x509.CertificateSigningRequestBuilder().subject_name(name)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(identity)]), critical=False)
            .sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


@pytest.fixture
def identity(tmp_path, api):
    issuer = make_issuer(tmp_path / "issuer")
    c = cp.Controller(tmp_path, api, ["identity"], ["--identity-issuer-dir", str(tmp_path / "issuer")])
    c.issuer = issuer
    c.key = cp.token_key(tmp_path)
    c.start().wait_ready(9990)
    yield c
    c.close()


def certify(c, **fields):
    i = c.api.identity
    request = {"identity": WEB_ID, "token": cp.mint_token(c.key, "default", "web"),
               "certificate_signing_request": make_csr(WEB_ID), **fields}
    return c.unary(cp.IDENTITY, "identity.Identity/Certify", i.CertifyRequest(**request), i.CertifyResponse)


def test_certify(identity):
    answer = certify(identity)
    leaf = x509.load_der_x509_certificate(answer.leaf_certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [WEB_ID]
    identity.issuer.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    assert answer.valid_until.seconds == int(leaf.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp())
    issuer = identity.issuer.public_bytes(serialization.Encoding.DER)
    assert list(answer.intermediate_certificates) == [issuer]


@pytest.mark.parametrize("what, fields, code", [
    ("no identity", {"identity": ""}, CODE.INVALID_ARGUMENT),
    ("no token", {"token": b""}, CODE.INVALID_ARGUMENT),
    ("no request", {"certificate_signing_request": b""}, CODE.INVALID_ARGUMENT),
    ("no DER", {"certificate_signing_request": b"x" * 100}, CODE.INVALID_ARGUMENT),
    ("another name", {"certificate_signing_request": make_csr("a.b")}, CODE.FAILED_PRECONDITION),
    ("a bad token", {"token": b"a.b.c"}, CODE.FAILED_PRECONDITION),
])
def test_certify_refuses(identity, what, fields, code):
    with pytest.raises(grpc.RpcError) as error:
        certify(identity, **fields)
    assert error.value.code() == code, what


@pytest.mark.parametrize("token", [
    dict(ns="default", account="other"),
    dict(ns="default", account="web", audience="somebody"),
    dict(ns="default", account="web", lifetime=-10),
])
def test_certify_refuses_tokens(identity, token):
    with pytest.raises(grpc.RpcError) as error:
        certify(identity, token=cp.mint_token(identity.key, **token))
    assert error.value.code() == CODE.FAILED_PRECONDITION


# --- the process -----------------------------------------------------------------------------------

@pytest.mark.parametrize("port", [9996, 9997, 9999])
def test_admin(web, port):
    assert web.get(port, "/ping") == (200, "pong\n")
    assert web.get(port, "/live")[0] == 200
    assert web.get(port, "/ready")[0] == 200
    assert web.get(port, "/nothing")[0] == 404
    assert "process_start_time_seconds" in web.get(port, "/metrics")[1]


def test_metrics_count_calls(web):
    labels = {"grpc_service": "io.linkerd.proxy.destination.Destination", "grpc_method": "Get"}
    stream = web.destination(WEB)
    stream.next()
    assert web.metric(9996, "grpc_server_started_total", **labels) == 1
    assert web.metric(9996, "grpc_server_msg_sent_total", **labels) == 1
    assert web.metric(9996, "tulle_topic_subscribers", engine="destination") == 1
    assert web.destination("example.com:80").error() == CODE.INVALID_ARGUMENT
    assert web.metric(9996, "grpc_server_handled_total", grpc_code="InvalidArgument", **labels) == 1
    stream.cancel()
    web.wait(lambda: web.metric(9996, "tulle_topic_subscribers", engine="destination") == 0)
    web.wait(lambda: web.metric(9996, "tulle_topics", engine="destination") == 0)
    assert web.metric(9996, "grpc_server_handled_total", grpc_code="Canceled", **labels) == 1


def test_sigterm_ends_streams_cleanly(web):
    streams = [web.destination(WEB), web.watch_port("default", "web-1", 8080), web.watch_outbound("10.96.0.10", 80)]
    for stream in streams:
        stream.next()
    status = web.stop()
    assert [stream.error() for stream in streams] == [CODE.OK] * 3
    assert status == 0, web.output()


def test_port_in_use_is_said(web, tmp_path, api):
    other = tmp_path / "other"
    other.mkdir()
    second = cp.Controller(other, api)
    second.address = web.address
    second.start()
    try:
        assert second.process.wait(timeout=cp.STALL_S) != 0
        assert f"cannot listen on {web.address}:8087" in second.output()
    finally:
        second.close()


@pytest.mark.parametrize("arguments, said", [
    (["nonsense"], 'no component is called "nonsense"'),
    ([], "name the components to run"),
])
def test_bad_command_line(tmp_path, api, arguments, said):
    c = cp.Controller(tmp_path, api, arguments).start()
    try:
        assert c.process.wait(timeout=cp.STALL_S) != 0
        assert said in c.output()
    finally:
        c.close()


def test_broken_manifest_is_named(web):
    (web.manifests / "broken.yaml").write_text("kind: [\n")
    web.wait(lambda: "broken.yaml" in web.output())
    assert len(web.destination(WEB).next().add.addrs) == 2


def test_answers_wait_for_the_cluster_no_longer_than_needed(controller):
    """A question asked at once after the start has the complete answer, not an early partial one."""
    controller.put(service("web", "10.96.0.10"))
    for i in range(200):
        controller.put(pod(f"web-{i}", f"10.1.0.{i}"))
    controller.put(slice_of("web", [endpoint(f"10.1.0.{i}", f"web-{i}") for i in range(200)]))
    controller.start()
    assert len(controller.destination(WEB, port=cp.DESTINATION, ns="default").next().add.addrs) == 200


# --- slow clients ----------------------------------------------------------------------------------

def frame(kind, flags, stream, payload=b""):
    """RFC 9113 4.1"""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header(name, value):
    """RFC 7541 6.2.2: a literal without indexing, no Huffman code; short ones only."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


class DeafClient:
    """Asks Destination.Get over a stream with a window of nothing, so that no answer fits."""

    DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8

    def __init__(self, address, message):
        self.socket = socket.create_connection((address, cp.PROXY_API), timeout=cp.STALL_S)
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"), (b"te", b"trailers"),
                  (b":path", b"/io.linkerd.proxy.destination.Destination/Get"),
                  (b"content-type", b"application/grpc")]
        fields.sort(key=lambda f: not f[0].startswith(b":"))
        self.socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(self.SETTINGS, 0, 0, (4).to_bytes(2, "big") + (0).to_bytes(4, "big"))
            + frame(self.HEADERS, 4, 1, b"".join(header(*f) for f in fields))
            + frame(self.DATA, 1, 1, b"\0" + len(message).to_bytes(4, "big") + message))

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "the connection ended"
            data += part
        return data

    def listen(self):
        """Opens the window; all bytes of the answer up to the end of the stream."""
        data = b""
        for stream in (0, 1):
            self.socket.sendall(frame(self.WINDOW_UPDATE, 0, stream, (1 << 24).to_bytes(4, "big")))
        while True:
            head = self.read(9)
            payload = self.read(int.from_bytes(head[:3], "big"))
            if head[3] == self.DATA:
                data += payload
            if int.from_bytes(head[5:], "big") == 1 and head[4] & 1:
                assert head[3] == self.HEADERS  # the trailers, which carry the status
                return data


def test_slow_client_is_ended(web):
    """100 messages may wait; with one more the stream ends, and what waited can still be read."""
    d = web.api.destination
    deaf = DeafClient(web.address, d.GetDestination(path=WEB).SerializeToString())
    reader = web.destination(WEB)
    reader.next()
    subscribers = {"name": "tulle_topic_subscribers", "engine": "destination"}
    web.wait(lambda: web.metric(9996, **subscribers) == 2)
    for i in range(100):  # with the first answer, this makes 101
        assert web.metric(9996, **subscribers) == 2, f"ended after {i} changes"
        web.put(slice_of("web", [endpoint("10.1.0.1", "web-1"), endpoint("10.1.0.2", "web-2", ready=i % 2 == 1)]))
        reader.next()
    web.wait(lambda: web.metric(9996, **subscribers) == 1)
    data, messages = deaf.listen(), 0
    while data:
        length = int.from_bytes(data[1:5], "big")
        d.Update.FromString(data[5:5 + length])
        data, messages = data[5 + length:], messages + 1
    assert messages == 100
    labels = {"grpc_method": "Get", "grpc_code": "Unavailable"}
    web.wait(lambda: web.metric(9996, "grpc_server_handled_total", **labels) == 1)
