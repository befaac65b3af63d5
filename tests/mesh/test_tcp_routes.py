# SPDX-License-Identifier: Apache-2.0
"""
TLSRoutes and TCPRoutes: a server name chooses where TLS goes that the proxies do not end, weights share opaque
connections out, what is forbidden is closed; each is counted by its route.
"""
import collections
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from home import APPS, PYTHON, client, namespace, server, service, wait_for
from test_metrics import TABLE

TLS, FIRST, HTTP, NOBODYS = 8443, 3307, 8080, 8999
GATEWAY = "gateway.networking.k8s.io/v1alpha2"


def self_signed(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.utcnow()
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=2)).sign(key, hashes.SHA256()))
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                           serialization.NoEncryption()))
    folder.chmod(0o755)
    for path in paths:
        path.chmod(0o644)
    return [str(path) for path in paths]


def color(name, certificate):
    """A deployment with a TLS server and one that speaks first, and a Service of its own."""
    tls = {"name": "tls", "image": "test/tls:dev", "command": [PYTHON, str(APPS / "tls.py"), "serve", str(TLS), *certificate],
           "env": [{"name": "POD_NAME", "value": name}],
           "readinessProbe": {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{TLS}"]}, "periodSeconds": 1}}
    return server(name, {"http": HTTP, "first": FIRST}, containers=[tls], more_ports=[TLS])


def route(kind, name, port, backends, **spec):
    refs = [{"name": backend, "port": port, "weight": weight} for backend, weight in backends.items()]
    return {"apiVersion": GATEWAY, "kind": kind, "metadata": {"name": name, "namespace": "t"},
            "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": "front", "port": port}],
                     "rules": [{"backendRefs": refs}], **spec}}


def split(**weights):
    return [route("TCPRoute", "split", FIRST, weights)]


@pytest.fixture(scope="module")
def home(homes, tmp_path_factory):
    certificate = self_signed(tmp_path_factory.mktemp("tls"))
    home = homes({
        "app.yaml": [namespace(), *color("blue", certificate), *color("green", certificate),
                     service("front", [TLS, FIRST], app="blue"), service("empty", [TLS], app="nobody"), client()],
        "tls.yaml": [route("TLSRoute", "blue", TLS, {"blue": 1}, hostnames=["one.example"]),
                     route("TLSRoute", "green", TLS, {"green": 1}, hostnames=["*.example"]),
                     route("TLSRoute", "gone", TLS, {"gone": 1}, hostnames=["gone.example"]),
                     route("TLSRoute", "empty", TLS, {"empty": 1}, hostnames=["empty.example"])],
        "tcp.yaml": split(blue=3, green=1),
    })
    home.up()
    return home


def figures(home):
    return home.proxy_metrics("t", home.pod("t", "client")["name"])


def count(home, name, **labels):
    return figures(home).sum(name, parent_kind="Service", parent_name="front", **labels)


# --- TLS -----------------------------------------------------------------------------------------


def ask(home, name, *more, port=TLS):
    done = home.exec("t", "client", PYTHON, str(APPS / "tls.py"), "ask", "front", str(port), name, *map(str, more))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name, who", [("one.example", "blue"), ("two.example", "green"), ("a.b.example", "green"),
                                       ("ONE.EXAMPLE", "blue")])
@pytest.mark.parametrize("piece", [None, 400])
def test_the_server_name_chooses(home, name, who, piece):
    """Also when the ClientHello comes in many segments; the server sees the name as it was sent."""
    pod, asked = ask(home, name, *([piece] if piece else []))
    assert (pod, asked.lower()) == (who, name.lower())


def test_no_route_no_backend_no_tls(home):
    before = count(home, "outbound_tls_route_close_total", error="invalid_backend")
    assert ask(home, "one.elsewhere") == ["no", "answer"]
    assert ask(home, "gone.example") == ["no", "answer"]
    assert count(home, "outbound_tls_route_close_total", route_name="gone", error="invalid_backend") == before + 1
    log = home.log("t", home.pod("t", "client")["name"], "linkerd-proxy")
    assert [line for line in log.splitlines() if " cause=invalid_backend " in line and
            f" parent=Service/front.t:{TLS} route=TLSRoute/gone.t backend=Service/gone.t:{TLS} fault=policy " in line]
    with home.driver("t", "client").session("front", TLS) as s:
        s.send("GET / HTTP/1.1\r\nHost: front\r\n\r\n")
        assert s.receive() == ""


def test_tls_is_counted_by_route(home):
    before = {name: count(home, f"outbound_tls_route_{name}_total", route_kind="TLSRoute", route_name="blue")
              for name in ("open", "close")}
    assert ask(home, "one.example")[0] == "blue"
    assert count(home, "outbound_tls_route_open_total", route_name="blue") == before["open"] + 1
    wait_for(lambda: count(home, "outbound_tls_route_close_total", route_name="blue", error="", target_port=str(TLS))
             == before["close"] + 1, "the end of the connection is counted")


def test_tls_has_balancers_of_its_own(home):
    """All members of the family, of one that serves and of one whose gate shuts; nothing is counted as other TCP."""
    path = f"{{}}.t.svc.cluster.local:{TLS}"
    before = count(home, "outbound_tls_balancer_queue_requests_total", backend_name="blue")
    assert ask(home, "one.example")[0] == "blue"
    assert ask(home, "empty.example") == ["no", "answer"]
    now = figures(home)
    for name, want in TABLE.items():
        if name.startswith("outbound_tls_balancer_"):
            samples = now.find(name + ("_count" if want.kind == "histogram" else ""), parent_name="front", parent_port=str(TLS))
            assert samples, name
            for labels, _ in samples:
                want.check_labels(name, labels)
                assert labels["logical"] == labels["concrete"] == path.format(labels["backend_name"])
    blue, empty = ({"backend_name": name, "backend_port": str(TLS)} for name in ("blue", "empty"))
    assert now.sum("outbound_tls_balancer_endpoints", endpoint_state="ready", **blue) == 1
    assert now.sum("outbound_tls_balancer_queue_requests_total", **blue) == before + 1
    assert now.sum("outbound_tls_balancer_queue_gate_shut_total", **empty) == 1
    assert not now.find("outbound_tcp_balancer_queue_requests_total", backend_port=str(TLS))


# --- TCP -----------------------------------------------------------------------------------------


def who_answers(home, connections=80):
    driver, seen = home.driver("t", "client"), collections.Counter()
    for _ in range(connections):
        with driver.session("front", FIRST) as s:
            seen[s.receive(until="\n").split()[1].split("-")[0]] += 1
    return seen


def test_weights(home):
    before = count(home, "outbound_tcp_route_open_total", route_kind="TCPRoute", route_name="split")
    seen = who_answers(home)
    assert set(seen) == {"blue", "green"} and seen["blue"] > seen["green"]  # by chance once in ten million
    assert count(home, "outbound_tcp_route_open_total", route_name="split") == before + 80
    home.write("tcp.yaml", split(blue=0, green=1))
    wait_for(lambda: set(who_answers(home, 5)) == {"green"}, "the new weights hold")
    assert set(who_answers(home, 20)) == {"green"}
    # Wire 6.4: an only backend is not asked for its weight. `tulle check` says so.
    home.write("tcp.yaml", split(blue=0))
    wait_for(lambda: set(who_answers(home, 5)) == {"blue"}, "the only backend is taken")
    told = "TCPRoute t/split, spec.rules[0].backendRefs: the weight 0 of an only backend is passed over"
    wait_for(lambda: told in home.run("check"), "check says so")


def test_a_port_that_the_service_does_not_have(home):
    """Wire 9.6: forbidden."""
    with home.driver("t", "client").session("front", NOBODYS) as s:
        assert s.receive() == ""
    assert figures(home).sum("outbound_tcp_route_close_total", route_name="undefined-port", error="forbidden") == 1
