# SPDX-License-Identifier: Apache-2.0
"""
Every family of the proxy, moved by real traffic and compared with the reference: its name, type, labels and buckets.

TABLE is written from the reference's list, not from the program. A family that the table does not know fails the test,
and so does one of the table that no traffic moved; those that name a `part` are moved when that part has landed, and
until then must be right if they are there.
"""
import gzip
import json
import re

import pytest

from home import LABEL, UNMESHED, Metrics, client, namespace, server, service, wait_for

HTTP, GRPC, ECHO, CLOSED = 8080, 8081, 9001, 8099

# --- the table -----------------------------------------------------------------------------------

TGT = ["target_addr", "target_ip", "target_port"]
SRV = ["srv_group", "srv_kind", "srv_name", "srv_port"]
RT = ["route_group", "route_kind", "route_name"]
AZ = ["authz_group", "authz_kind", "authz_name"]
PARENT = ["parent_group", "parent_kind", "parent_namespace", "parent_name", "parent_port", "parent_section_name"]
ROUTE = ["route_group", "route_kind", "route_namespace", "route_name"]
BACKEND = ["backend_group", "backend_kind", "backend_namespace", "backend_name", "backend_port", "backend_section_name"]
IN_PARENT = ["parent_group", "parent_kind", "parent_name", "parent_port"]
TLS = ["no_tls_reason", "client_id", "server_id", "sni"]  # tls is always there, one of these with it
DST = re.compile("^dst_[a-z_]+$")

LATENCY = [1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000,
           10000, 20000, 30000, 40000, 50000]
FRAMES = [128, 1024, 10240]
SHORT, LONG = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 10], [0.05, 0.5, 1, 10]
QUEUE = [0.0005, 0.005, 0.05, 0.5, 1, 3]
DETECT = [0.001, 0.1]


class Family:
    """`labels` are on every sample, `also` may be; any dst_* label may be where `dst` is."""

    def __init__(self, kind, labels=(), also=(), dst=False, buckets=None, part=None):
        self.kind, self.labels, self.also, self.dst, self.buckets, self.part = kind, labels, also, dst, buckets, part

    def check_labels(self, name, have):
        have = set(have) - {"le"}
        missing = set(self.labels) - have
        more = {label for label in have - set(self.labels) - set(self.also) if not (self.dst and DST.match(label))}
        assert not missing, f"{name} lacks {sorted(missing)}: {sorted(have)}"
        assert not more, f"{name} has {sorted(more)} besides {sorted(set(self.labels) | set(self.also))}"


def counter(*labels, **more):
    return Family("counter", labels, **more)


def gauge(*labels, **more):
    return Family("gauge", labels, **more)


def histogram(buckets, *labels, **more):
    return Family("histogram", labels, buckets=buckets, **more)


REQUEST = ["direction", *TGT, "tls"]
REQUEST_MORE = {"also": ["authority", *TLS, *SRV, *RT, *AZ], "dst": True}
CONTROL = ["addr", "tls"]
CONTROL_MORE = {"also": ["server_id", "no_tls_reason"]}
CONNECTION = ["direction", "peer", *TGT, "tls"]
CONNECTION_MORE = {"also": ["authority", *TLS, *SRV], "dst": True}
RESPONSE = ["status_code", "classification", "grpc_status", "error"]

# Those printed first, in the form before OpenMetrics.
LEGACY = {
    "request_total": counter(*REQUEST, **REQUEST_MORE),
    "response_total": counter(*REQUEST, *RESPONSE, **REQUEST_MORE),
    "response_latency_ms": histogram(LATENCY, *REQUEST, "status_code", **REQUEST_MORE),
    "control_request_total": counter(*CONTROL, **CONTROL_MORE),
    "control_response_total": counter(*CONTROL, *RESPONSE, **CONTROL_MORE),
    "control_response_latency_ms": histogram(LATENCY, *CONTROL, "status_code", **CONTROL_MORE),
    "tcp_open_total": counter(*CONNECTION, **CONNECTION_MORE),
    "tcp_open_connections": gauge(*CONNECTION, **CONNECTION_MORE),
    "tcp_read_bytes_total": counter(*CONNECTION, **CONNECTION_MORE),
    "tcp_write_bytes_total": counter(*CONNECTION, **CONNECTION_MORE),
    "tcp_close_total": counter(*CONNECTION, "errno", **CONNECTION_MORE),
    "inbound_http_authz_allow_total": counter(*TGT, *SRV, *RT, *AZ, "tls", also=TLS),
    "inbound_http_authz_deny_total": counter(*TGT, *SRV, "tls", also=[*TLS, *RT]),
    "inbound_http_route_not_found_total": counter(*TGT, *SRV, "tls", also=TLS, part="inbound"),
    "inbound_http_local_ratelimit_total": counter(
        *TGT, *SRV, "tls", "ratelimit_group", "ratelimit_kind", "ratelimit_name", "ratelimit_scope",
        also=[*TLS, *RT, *AZ], part="inbound"),
    "inbound_tcp_authz_allow_total": counter(*TGT, *SRV, *AZ, "tls", also=TLS),
    "inbound_tcp_authz_deny_total": counter(*TGT, *SRV, "tls", also=TLS),
    "inbound_tcp_authz_terminate_total": counter(*TGT, *SRV, "tls", also=[*TLS, *AZ], part="inbound"),
    "inbound_http_errors_total": counter("error"),
    "outbound_http_errors_total": counter("error"),
    "inbound_tcp_errors_total": counter("error", *TGT),
    "outbound_tcp_errors_total": counter("error", *TGT),
    **{f"route_{kind}": counter("direction", "dst", *labels, also=["rt_route"], part="profiles")
       for kind, labels in (("request_total", []), ("response_total", ["status_code", "classification"]),
                            ("actual_request_total", []), ("actual_response_total", ["status_code", "classification"]))},
    "route_response_latency_ms": histogram(LATENCY, "direction", "dst", "status_code", also=["rt_route"], part="profiles"),
    **{f"opentelemetry_span_export{what}": counter(part="traces") for what in ("s", "_requests", "_streams")},
    "route_retryable_total": counter("direction", "dst", also=["rt_route", "skipped"], part="profiles"),
}
# What a label set of response_total may have more where a profile's route is told.
for name in ("route_response_total", "route_actual_response_total"):
    LEGACY[name].also = ["rt_route", "grpc_status", "error"]

REGISTRY = {
    "proxy_build_info": gauge("date", "git_sha", "profile", "vendor", "version"),
    "control_dns_resolutions_total": counter("client", "record_type", "result"),
    "control_identity_cert_expiration_timestamp_seconds": gauge(),
    "control_identity_cert_refresh_timestamp_seconds": gauge(),
    "control_identity_cert_refreshes_total": counter("result"),
    "inbound_tcp_detect_http_duration_seconds": histogram(DETECT, *SRV, part="inbound"),
    "inbound_tcp_detect_http_results_total": counter("result", *SRV, part="inbound"),
    "outbound_tcp_detect_http_duration_seconds": histogram(DETECT, *PARENT, part="inbound"),
    "outbound_tcp_detect_http_results_total": counter("result", *PARENT, part="inbound"),
    "inbound_tcp_transport_header_connections_total": counter(
        "session_protocol", "target_port", "target_name", "client_id"),
    "outbound_tcp_protocol_connections_total": counter("protocol", *PARENT, part="inbound"),
    "outbound_tcp_transfer_cost_bytes_total": counter("op", "zone_locality"),
    **{f"outbound_{proto}_route_{end}_total": counter(*PARENT, *ROUTE, "target_ip", "target_port", *labels, part="inbound")
       for proto in ("tcp", "tls") for end, labels in (("open", []), ("close", ["error"]))},
    "process_start_time_seconds": gauge(), "process_clock_time_seconds": gauge(),
    "process_uptime_seconds_total": counter(), "process_cpu_seconds_total": counter(),
    "process_virtual_memory_bytes": gauge(), "process_resident_memory_bytes": gauge(),
    "process_open_fds": gauge(), "process_max_fds": gauge(), "process_threads": gauge(),
    "process_network_receive_bytes_total": counter(), "process_network_transmit_bytes_total": counter(),
}
for proto in ("http", "grpc"):
    both = [*IN_PARENT, *RT]
    REGISTRY.update({
        f"inbound_{proto}_requests_total": counter(*both, part="inbound"),
        f"inbound_{proto}_request_duration_seconds": histogram(SHORT, *both, part="inbound"),
        f"inbound_{proto}_response_duration_seconds": histogram(LONG, *both, part="inbound"),
        f"inbound_{proto}_request_frame_size_bytes": histogram(FRAMES, *both, part="inbound"),
        f"inbound_{proto}_response_frame_size_bytes": histogram(FRAMES, *both, part="inbound"),
        f"inbound_{proto}_statuses_total": counter(*both, "status", part="inbound"),
        f"outbound_{proto}_route_request_duration_seconds": histogram(LONG, *PARENT, *ROUTE, "hostname", part="routes"),
        f"outbound_{proto}_route_request_frame_size_bytes": histogram(FRAMES, *PARENT, *ROUTE, "hostname", part="routes"),
        f"outbound_{proto}_route_request_statuses_total": counter(
            *PARENT, *ROUTE, "hostname", f"{proto}_status", "error", part="routes"),
        f"outbound_{proto}_route_backend_requests_total": counter(*PARENT, *ROUTE, *BACKEND, part="routes"),
        f"outbound_{proto}_route_backend_response_duration_seconds": histogram(
            SHORT, *PARENT, *ROUTE, *BACKEND, part="routes"),
        f"outbound_{proto}_route_backend_response_frame_size_bytes": histogram(
            FRAMES, *PARENT, *ROUTE, *BACKEND, part="routes"),
        f"outbound_{proto}_route_backend_response_statuses_total": counter(
            *PARENT, *ROUTE, *BACKEND, f"{proto}_status", "error", part="routes"),
        **{f"outbound_{proto}_route_retry_{what}_total": counter(*PARENT, *ROUTE, part="routes")
           for what in ("requests", "successes", "overflow", "limit_exceeded")},
    })


def balancer(prefix, *labels, **more):
    return {
        f"{prefix}_endpoints": gauge("endpoint_state", *labels, **more),
        f"{prefix}_p2c_endpoints": gauge(*labels, **more),
        f"{prefix}_p2c_updates_total": counter("op", *labels, **more),
        f"{prefix}_queue_length": gauge(*labels, **more),
        f"{prefix}_queue_requests_total": counter(*labels, **more),
        f"{prefix}_queue_latency_seconds": histogram(QUEUE, *labels, **more),
        f"{prefix}_queue_gate_open_total": counter(*labels, **more),
        f"{prefix}_queue_gate_shut_total": counter(*labels, **more),
        f"{prefix}_queue_gate_open_time_seconds": gauge(*labels, **more),
        f"{prefix}_queue_gate_shut_time_seconds": gauge(*labels, **more),
    }


for channel in ("identity", "destination", "policy"):
    REGISTRY.update(balancer(f"control_{channel}_balancer", "addr"))
REGISTRY.update(balancer("opentelemetry_balancer", "addr", part="traces"))
for proto in ("http", "tcp", "tls"):
    REGISTRY.update(balancer(f"outbound_{proto}_balancer", *PARENT, *BACKEND, also=["logical", "concrete"], part="balance"))
    REGISTRY[f"outbound_{proto}_balancer_queue_gate_timeout_seconds"] = gauge(
        *PARENT, *BACKEND, also=["logical", "concrete"], part="balance")

# Ours.
OWN = {
    "tulle_failures_total": counter("hop", "phase", "cause"),
    "tulle_tcp_detect_early_total": counter("direction", "outcome", *TGT, part="inbound"),
    "tulle_spans_dropped_total": counter("reason", part="traces"),
    "tulle_tls_info": gauge("tls_library", "tls_suites", "tls_kx_groups", "tls_fips"),
}
# Whose values nothing here moves: they count what must not happen.
SILENT = {"tulle_metric_series_folded_total": counter("family"), "tulle_access_log_dropped_total": counter()}
TABLE = {**LEGACY, **REGISTRY, **OWN, **SILENT}
LANDED = {"routes", "balance", "profiles", "inbound"}  # parts whose families must be moved, too; "traces": test_tracing.py
# What it takes a test of its own to move.
ELSEWHERE = {
    "inbound_tcp_authz_terminate_total": "test_inbound_policy.py",
    "inbound_http_route_not_found_total": "test_inbound_policy.py",
    "inbound_http_local_ratelimit_total": "test_inbound_policy.py",
    "outbound_tls_route_open_total": "test_tcp_routes.py",
    "outbound_tls_route_close_total": "test_tcp_routes.py",
    **{name: "test_tcp_routes.py" for name in REGISTRY if name.startswith("outbound_tls_balancer_")},
    "tulle_tcp_detect_early_total": "test_detection.py",
    **{f"outbound_{proto}_route_retry_{what}_total": "test_routes.py"
       for proto in ("http", "grpc") for what in ("successes", "overflow")},
}

# --- a home with all kinds of traffic -------------------------------------------------------------


@pytest.fixture(scope="module")
def home(homes):
    empty = service("empty", [HTTP, ECHO], annotations={"config.linkerd.io/opaque-ports": str(ECHO)}, app="nobody")
    rpc = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute",
           "metadata": {"name": "rpc", "namespace": "t", "annotations": {"retry.linkerd.io/grpc": "unavailable"}},
           "spec": {"parentRefs": [{"group": "core", "kind": "Service", "name": "server", "port": GRPC}],
                    "rules": [{"backendRefs": [{"kind": "Service", "name": "server", "port": GRPC}]}]}}
    port = {"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": {"name": "rpc", "namespace": "t"},
            "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "port": GRPC, "proxyProtocol": "gRPC",
                     "accessPolicy": "all-unauthenticated"}}
    profile = {"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
               "metadata": {"name": "profiled.t.svc.cluster.local", "namespace": "t"},
               "spec": {"retryBudget": {"retryRatio": 0.2, "minRetriesPerSecond": 10, "ttl": "10s"},
                        "routes": [{"name": "echo", "isRetryable": True,
                                    "condition": {"method": "GET", "pathRegex": "/echo"}}]}}
    home = homes({"app.yaml": [
        namespace(), rpc, port, profile, service("profiled", [HTTP], app="server"),
        *server("server", {"http": HTTP, "grpc": GRPC, "echo": ECHO}, opaque=[ECHO, CLOSED + 1],
                more_ports=[CLOSED, CLOSED + 1], annotations={"config.linkerd.io/access-log": "json"}),
        service("again", [HTTP], app="server", annotations={"retry.linkerd.io/http": "503"}),
        *server("closed", {"http": HTTP, "echo": ECHO}, opaque=[ECHO],
                annotations={"config.linkerd.io/default-inbound-policy": "deny"}),
        empty, client(), client("outsider", annotations=UNMESHED),
    ]})
    home.up()
    return home


def opaque(driver, host, port):
    """A connection on which something is sent; whatever becomes of it."""
    with driver.session(host, port) as s:
        try:
            s.send("some bytes")
            s.finish()
            s.receive(bytes=1)
        except AssertionError:
            pass


@pytest.fixture(scope="module")
def moved(home):
    """All kinds of traffic, once. What comes of it is of other tests."""
    driver, outsider = home.driver("t", "client"), home.driver("t", "outsider")
    for n in range(3):
        assert driver.get("server", HTTP, f"/echo?n={n}", method="POST", body="x" * 2000)["status"] == 200
        assert outsider.get("server", HTTP)["status"] == 200
    assert driver.get("server", HTTP, "/echo?status=500")["status"] == 500
    assert driver.get("again", HTTP, "/echo?status=503")["status"] == 503
    assert driver.get("profiled", HTTP, "/echo?status=503")["status"] == 503
    for _ in range(2):  # the first one may come before the port's policy does
        driver.grpc(host="server", port=GRPC, method="Unary", asks=[{"n": 1}])
    driver.grpc(host="server", port=GRPC, method="Unary", asks=[{"code": "UNAVAILABLE", "message": "again"}])
    driver.ping_pong(host="server", port=ECHO, bytes=100000)
    assert driver.get("server", CLOSED)["status"] == 502  # the server's proxy finds nobody there
    assert driver.get("closed", HTTP)["status"] == 403
    assert driver.get("empty", HTTP)["status"] in (503, 504)
    opaque(driver, "closed", ECHO)
    opaque(driver, "server", CLOSED + 1)
    opaque(driver, "empty", ECHO)
    return {name: home.pod("t", name)["name"] for name in ("client", "server", "closed")}


def page(home, name, *options):
    """/metrics as curl gets it in a pod."""
    got = home.in_pod(home.proxy_pid("t", name), "curl", "-sS", "-i", *options, "http://localhost:4191/metrics",
                      text=False).stdout
    head, body = got.split(b"\r\n\r\n", 1)
    return head.decode().lower(), body


class Page:
    """Families, in their order, with type, help, unit and samples."""

    def __init__(self, text):
        self.families, self.order = {}, []
        name = None
        assert text.endswith("# EOF\n")
        for line in text.splitlines():
            word = line.split(" ", 3)
            if line.startswith("# HELP "):
                name = word[2]
                assert name not in self.families, f"{name} comes twice"
                self.order.append(name)
                self.families[name] = {"help": word[3], "samples": [], "unit": None}
            elif line.startswith("# TYPE "):
                assert word[2] == name
                self.families[name]["type"] = word[3]
            elif line.startswith("# UNIT "):
                assert word[2] == name and name.endswith("_" + word[3])
                self.families[name]["unit"] = word[3]
            elif line != "# EOF":
                found = re.match(r'^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$', line)
                assert found and found[1].startswith(name), line
                labels = LABEL.findall(found[2] or "")
                assert len(labels) == len(dict(labels)), f"a label comes twice: {line}"
                self.families[name]["samples"].append((found[1], dict(labels), float(found[3])))


def check_buckets(name, wanted, samples, as_integers):
    seen = {}
    for sample, labels, value in samples:
        if sample == name + "_bucket":
            rest = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
            seen.setdefault(rest, []).append((labels["le"], value))
        else:
            assert sample in (name + "_sum", name + "_count"), sample
    for labels, buckets in seen.items():
        bounds = [le for le, _ in buckets]
        text = [str(b) if as_integers else repr(float(b)) for b in wanted] + ["+Inf"]
        assert bounds == text, f"{name}: {bounds}"
        values = [value for _, value in buckets]
        assert values == sorted(values), f"{name}: buckets are not cumulative: {values}"
        count = next(v for s, have, v in samples if s == name + "_count" and tuple(sorted(have.items())) == labels)
        assert values[-1] == count


def of_all(home, moved):
    return [Page(page(home, name)[1].decode()) for name in moved]


def test_every_family_is_as_the_reference_has_it(home, moved):
    for shown in of_all(home, moved):
        for name, family in shown.families.items():
            assert name in TABLE, f"nobody knows {name}"
            want = TABLE[name]
            assert family["type"] == want.kind, name
            assert len(family["help"]) > 10
            for _, labels, _ in family["samples"]:
                want.check_labels(name, labels)
            if want.kind == "histogram":
                check_buckets(name, want.buckets, family["samples"], name in LEGACY)


def test_every_family_was_moved(home, moved):
    pages = of_all(home, moved)
    never_zero = {name for name, f in TABLE.items() if f.kind != "gauge"}
    never_zero -= {f"control_{c}_balancer_queue_gate_shut_total" for c in ("identity", "destination", "policy")}
    still = []
    for name, want in TABLE.items():
        if name in SILENT or name in ELSEWHERE or (want.part and want.part not in LANDED):
            continue
        samples = [s for p in pages for s in p.families.get(name, {"samples": []})["samples"]]
        if not samples or (name in never_zero and not any(value > 0 for _, _, value in samples)):
            still.append(name)
    assert not still


def test_legacy_families_come_first(home, moved):
    for shown in of_all(home, moved):
        is_legacy = [name in LEGACY for name in shown.order]
        assert is_legacy == sorted(is_legacy, reverse=True), shown.order
        assert [n for n in shown.order if n in LEGACY] == sorted(n for n in shown.order if n in LEGACY)
        assert [n for n in shown.order if n not in LEGACY] == sorted(n for n in shown.order if n not in LEGACY)
        for family in shown.families.values():
            keys = [tuple(labels.items()) for _, labels, _ in family["samples"] if "le" not in labels]
            assert len(keys) > 0


def test_openmetrics_where_it_is_named(home, moved):
    head, body = page(home, "server", "-H", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8" in head
    shown = Page(body.decode())
    for name, family in shown.families.items():
        full = name + "_total" if family["type"] == "counter" else name
        assert full in TABLE and TABLE[full].kind == family["type"], name
        assert not name.endswith("_total")
        if family["type"] == "counter":
            assert {sample for sample, _, _ in family["samples"]} == {full}
        unit = next((u for u in ("seconds", "bytes") if name.endswith("_" + u)), None)
        assert family["unit"] == unit, name
    head, _ = page(home, "server", "-H", "Accept: */*")
    assert "content-type: text/plain; version=0.0.4" in head


def test_gzip(home, moved):
    head, body = page(home, "server", "-H", "Accept-Encoding: gzip")
    assert "content-encoding: gzip" in head
    assert set(Page(gzip.decompress(body).decode()).order) >= {"request_total", "process_threads"}
    head, _ = page(home, "server", "-H", "Accept-Encoding: gzip;q=0, br")
    assert "content-encoding" not in head


def test_the_same_over_http_2_and_head(home, moved):
    """The admin port speaks HTTP/2, too; a scrape by it is the same in pieces."""
    got = home.in_pod(home.proxy_pid("t", "server"), "curl", "-sS", "-i", "--http2-prior-knowledge",
                      "http://localhost:4191/metrics").stdout
    assert got.startswith("HTTP/2 200") and got.endswith("# EOF\n")
    head, body = page(home, "server", "--head")
    assert head.startswith("http/1.1 200") and body == b""


# --- failures: one cause, everywhere ---------------------------------------------------------------


@pytest.mark.parametrize("name, hop, cause, fault", [
    ("server", "inbound", "connect", "application"),
    ("closed", "inbound", "denied", "policy"),
    ("client", "outbound", "no_endpoint", "application"),
])
def test_a_failure_says_whose_fault_it_is(home, moved, name, hop, cause, fault):
    shown = Metrics(page(home, name)[1].decode())
    assert shown.sum("tulle_failures_total", hop=hop, cause=cause) >= 1
    lines = [line for line in home.log("t", moved[name], "linkerd-proxy").splitlines() if f" cause={cause} " in line]
    line = next(line for line in lines if f" hop={hop} " in line and "request failed" in line)
    assert re.search(r" phase=\w+ .*client=\S+:\d+ target=\S+:\d+ endpoint=\S+ authority=\S+ detail=", line)
    assert re.search(rf' fault={fault} look="[^"]+"', line)


# --- the access log --------------------------------------------------------------------------------


def test_the_access_log(home, moved):
    def lines():
        text = home.log("t", moved["server"], "linkerd-proxy")
        return [json.loads(line) for line in text.splitlines() if line.startswith('{"client.addr"')]

    wait_for(lambda: len(lines()) >= 8, lambda: f"there are {len(lines())} lines")
    posts = [line for line in lines() if line["method"] == "POST" and line["uri"].startswith("/echo?n=")]
    assert len(posts) == 3
    for line in posts:
        assert list(line) == sorted(line)
        assert set(line) == {"client.addr", "client.id", "host", "method", "processing_ns", "request_bytes",
                             "response_bytes", "status", "timestamp", "total_ns", "trace_id", "uri", "user_agent",
                             "version"}
        assert line["client.id"].startswith("default.t.serviceaccount.identity.linkerd.")
        assert (line["status"], line["version"], line["request_bytes"]) == (200, "HTTP/1.1", "2000")
        assert int(line["total_ns"]) >= int(line["processing_ns"]) >= 0 < int(line["total_ns"])
    assert any(line["client.id"] == "-" for line in lines())  # the outsider
    assert any(line["status"] == 502 for line in lines())
    assert '{"client.addr"' not in home.log("t", moved["client"], "linkerd-proxy")
