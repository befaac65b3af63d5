# SPDX-License-Identifier: Apache-2.0
"""
Our proxy under a control plane written in another language: every kind of message, and messages that are malformed,
hostile, huge and many. What the proxy does is seen from its application's side (wire 3.2 to 3.5).
"""
import os
import threading
import time

import grpc
import pytest

import control_plane as cp
from foreign import (PEER, POD, App, ForeignPlane, Net, Proxy, add, address, frame, get, none, policy, profile, remove,
                     server)
from home import CRASH, LABEL, SAMPLE, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root")

Code = grpc.StatusCode
UNKNOWN_FIELDS = b"\xf8\x07\x01" + b"\xfa\x07\x03abc" + b"\xf9\x07" + 8 * b"x" + b"\xfd\x07" + 4 * b"y"  # number 127


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return cp.Api(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def world(tmp_path_factory, api):
    """(plane, proxy, applications by the last byte of their addresses)"""
    net = Net()
    apps, plane, proxy = {}, None, None
    try:
        plane = ForeignPlane(api)
        apps = {n: App(f"10.1.0.{n}") for n in (1, 11, 12, 13)}
        plane.say("port", "8080", server(api))
        plane.say("port", "4191", server(api))
        proxy = Proxy(tmp_path_factory.mktemp("proxy"), plane)
        plane.net = net
        yield plane, proxy, apps
        assert proxy.process.poll() is None, proxy.output()
    finally:
        status = proxy.close() if proxy is not None else 0
        if plane is not None:
            plane.close()
        for app in apps.values():
            app.close()
        net.close()
    assert status == 0 and not CRASH.search(proxy.output()), proxy.output()


class Target:
    """A service of its own for each test: 10.96.0.N."""

    count = 0

    def __init__(self, plane, api):
        Target.count += 1
        self.plane, self.api = plane, api
        self.ip = f"10.96.{Target.count // 250}.{Target.count % 250 + 1}"
        self.name = f"s{Target.count}.t.svc.cluster.local"
        self.key = f"{self.ip}:80"
        self.path = f"{self.name}:80"
        self.profile()
        self.policy()

    def profile(self, *items, **fields):
        self.plane.say("profile", self.key, *(items or (profile(self.api, fully_qualified_name=self.name, **fields),)))
        return self

    def policy(self, *items, edit=None):
        self.plane.say("watch", self.key, *(items or (policy(self.api, self.path, edit),)))
        return self

    def endpoints(self, *items):
        self.plane.say("get", self.path, *items)
        return self

    def push(self, *items):
        self.plane.push("get", self.path, *items)

    def get(self, path="/", **options):
        return get(self.ip, 80, path, **options)

    def reaches(self, *numbers):
        """Once the news is there requests are answered by all of these, by nobody else, and without a failure.

        One that is a little faster may get many in a row.
        """
        want, seen = {(200, f"10.1.0.{n}") for n in numbers}, set()

        def is_so():
            batch = {(status, text.split(" ")[0]) for status, text in (self.get() for _ in range(6))}
            if not batch <= want:
                seen.clear()
                return False
            seen.update(batch)
            return seen == want

        wait_for(is_so, lambda: f"{want} answer; what came was {seen}")


@pytest.fixture
def target(world, api):
    plane, proxy, _ = world
    yield Target(plane, api)
    assert proxy.process.poll() is None, proxy.output()
    assert not CRASH.search(proxy.output()), proxy.output()


@pytest.fixture
def plane(world):
    return world[0]


@pytest.fixture
def proxy(world):
    return world[1]


def at(number):
    return f"10.1.0.{number}:8080"


# --- Destination.Get -----------------------------------------------------------------------------


def test_endpoints_come_and_go(target, api):
    target.endpoints(add(api, at(11))).reaches(11)
    target.push(add(api, at(12)))
    target.reaches(11, 12)
    target.push(remove(api, at(11)))
    target.reaches(12)
    target.push(add(api))  # an empty Add is ignored
    target.push(remove(api, at(99)), b"")  # so are strangers, and a message of no kind
    target.reaches(12)
    target.push(none(api, exists=True), add(api, at(13)))
    target.reaches(13)


def test_the_first_add_after_a_reconnect_replaces_all(target, plane, api):
    target.endpoints(add(api, at(11), at(12))).reaches(11, 12)
    target.endpoints(add(api, at(13)))
    target.push(Code.UNAVAILABLE)
    target.reaches(13)
    assert plane.count("get", target.path) == 2
    target.endpoints(add(api, at(11)))
    target.push(Code.OK)  # a clean end is one, too
    target.reaches(11)


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.UNAVAILABLE, Code.UNKNOWN, Code.INTERNAL, Code.UNIMPLEMENTED,
                                  Code.PERMISSION_DENIED, Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.DEADLINE_EXCEEDED])
def test_endpoints_are_asked_for_again_after_an_error(target, plane, api, code):
    target.endpoints(code)
    answers = []
    client = threading.Thread(target=lambda: answers.append(target.get()))
    client.start()  # it waits in the queue for a first endpoint
    plane.wait_count("get", target.path, 3)
    target.endpoints(add(api, at(11)))
    client.join()
    assert answers[0][0] in (200, 504)  # in time, or after the queue's fail-fast of 3 s
    target.reaches(11)
    target.push(code)
    plane.wait_calls("get", target.path, plane.count("get", target.path) + 1)
    target.reaches(11)  # what was known is kept meanwhile


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION])
def test_a_terminal_error_of_endpoints_is_500(target, plane, code):
    target.endpoints(code)
    assert target.get()[0] == 500
    assert plane.count("get", target.path) == 1


@pytest.mark.parametrize("exists", [True, False])
def test_no_endpoints_is_504_until_there_are_some(target, api, exists):
    target.endpoints(none(api, exists))
    assert target.get()[0] == 504
    target.push(add(api, at(11)))
    target.reaches(11)


def test_unknown_fields_are_passed_over(target, api):
    one = address(api, at(11), metric_labels={"pod": "app-1"})
    whole = add(api, one, service="s", namespace="t") + UNKNOWN_FIELDS
    inner = api.destination.Update.FromString(add(api, at(11)))
    raw = inner.add.addrs[0].SerializeToString() + UNKNOWN_FIELDS
    nested = bytes([0x0a, len(raw) + 2 + (len(raw) > 125), 0x0a, len(raw)]) + raw
    assert len(raw) < 128 and api.destination.Update.FromString(nested).add.addrs[0].addr.port == 8080
    target.endpoints(whole, remove(api, at(11)) + UNKNOWN_FIELDS, nested).reaches(11)


@pytest.mark.parametrize("raw", [
    b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab", b"\x08\x01", b"\x0a\x02\x0a\xff", b"\x0b\x0c", b"\x00\x00",
    b"\x0a\x04\x0a\x02\x08\x01", 1000 * b"\x0a\x02\x0a\x00", b"\x0a\x08\x0a\x06\x0a\x04\x0a\x02\x0a\xff"],
    ids=lambda raw: raw[:6].hex())
def test_malformed_updates_change_nothing(target, api, raw):
    target.endpoints(add(api, at(11)), raw).reaches(11)
    target.push(raw, add(api, at(12)))
    target.reaches(11, 12)  # the stream went on


def test_endpoints_that_cannot_be_understood_are_left_out(target, api):
    no_address, no_ip, no_port, bad_port = (address(api, at(12)) for _ in range(4))
    no_address.ClearField("addr")
    no_ip.addr.ClearField("ip")
    no_port.addr.port = 0
    bad_port.addr.port = 1 << 20
    uri_without_name, long_name, empty_name = (address(api, at(13)) for _ in range(3))
    uri_without_name.tls_identity.uri_like_identity.uri = "spiffe://root/app"
    long_name.tls_identity.dns_like_identity.name = 5000 * "x"
    empty_name.tls_identity.dns_like_identity.name = ""
    target.endpoints(add(api, no_address, no_ip, bad_port, uri_without_name, long_name, empty_name, at(11))).reaches(11)


def test_labels_of_endpoints_cannot_break_the_metrics(target, proxy, api):
    labels = {"pod": 'a"b\\c\nd', "x y": "1", "x-y": "2", "x_y": "3", "": "nameless", "l" * 300: "long", "zz": "w" * 5000,
              **{f"many{i}": str(i) for i in range(20)}}
    target.endpoints(add(api, address(api, at(11), metric_labels=labels))).reaches(11)
    text = proxy.metrics()
    assert "dst_x_y=" in text
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        sample = SAMPLE.match(line)
        assert sample, line
        names = [name for name, _ in LABEL.findall(sample[2] or "")]
        assert len(names) == len(set(names)), line  # Prometheus refuses the whole page otherwise


def test_ten_thousand_endpoints(target, proxy, api):
    def block(start):
        return [address(api, f"10.{200 + n // 65536}.{n // 256 % 256}.{n % 256}:8080", metric_labels={"pod": f"pod-{n}"})
                for n in range(start, start + 10000)]

    target.endpoints(add(api, at(11))).reaches(11)
    for start in (1, 20001):
        target.push(add(api, *block(start)))
        target.push(remove(api, *(cp.at(e.addr) for e in block(start))))
    target.push(add(api, at(12)))
    target.reaches(11, 12)
    target.endpoints(add(api, *block(1), at(11)))  # all at once on a new stream, and all gone again
    target.push(Code.UNAVAILABLE)
    target.plane.wait_calls("get", target.path, 2)
    target.push(none(api, exists=True), add(api, at(13)))
    target.reaches(13)


def test_a_message_that_is_too_large_ends_the_stream_and_no_more(target, api):
    target.endpoints(add(api, at(11))).reaches(11)
    huge = add(api, address(api, at(12), metric_labels={"x": "y" * (5 << 20)}))
    target.push(huge)
    target.plane.wait_calls("get", target.path, 2)
    target.reaches(11)


def test_a_hundred_updates_a_second(target, api):
    target.endpoints(add(api, at(11), at(12))).reaches(11, 12)
    stop, answers = threading.Event(), []

    def ask():
        while not stop.is_set():
            answers.append(target.get())

    client = threading.Thread(target=ask)
    client.start()
    end, i = time.monotonic() + cp.STALL_S, 0
    while i < 300 or len(answers) <= 20:
        assert time.monotonic() < end, f"{i} updates, and only {len(answers)} answers"
        target.push(add(api, address(api, at(12 + i % 2), metric_labels={"round": str(i)})), remove(api, at(13 - i % 2)))
        time.sleep(0.01)  # the rate is what is tested
        i += 1
    target.push(add(api, at(13)), remove(api, at(11)), remove(api, at(12)))
    stop.set()
    client.join()
    assert {a[0] for a in answers} == {200}, answers[-5:]
    target.reaches(13)


# --- a service that is no gRPC ---------------------------------------------------------------------

GRPC_HEAD = b"\x88" + b"\x0f\x10\x10application/grpc"  # :status 200, content-type


def answer_of(*frames):
    """Frames as (kind, flags, payload)."""
    return lambda stream: b"".join(frame(kind, flags, stream, payload) for kind, flags, payload in frames)


HOSTILE = {
    "status_503": answer_of((1, 5, b"\x08\x03503")),
    "status_404_with_a_body": answer_of((1, 4, b"\x8d"), (0, 1, b"not here")),
    "no_content_type": answer_of((1, 4, b"\x88"), (0, 1, b"\0\0\0\0\1x")),
    "cut_in_a_message": answer_of((1, 4, GRPC_HEAD), (0, 0, b"\0\0\0\0\x64" + 10 * b"x"), (3, 0, b"\0\0\0\x02")),
    "ends_in_a_message": answer_of((1, 4, GRPC_HEAD), (0, 1, b"\0\0\0\0\x64" + 10 * b"x")),
    "no_trailers": answer_of((1, 4, GRPC_HEAD), (0, 1, b"")),
    "compressed": answer_of((1, 4, GRPC_HEAD), (0, 0, b"\1\0\0\0\2xy")),
    "four_gigabytes": answer_of((1, 4, GRPC_HEAD), (0, 0, b"\0\xff\xff\xff\xff" + 100 * b"x")),
    "refused_stream": answer_of((3, 0, b"\0\0\0\x07")),
    "enhance_your_calm": answer_of((3, 0, b"\0\0\0\x0b")),
    "go_away": lambda stream: frame(7, 0, 0, b"\0\0\0\0\0\0\0\x0b"),
    "broken_frame": lambda stream: b"\xff\xff\xff\xff" + 100 * b"\xff",
    "push_promise": answer_of((5, 4, b"\0\0\0\x02\x88")),
    "bad_hpack": answer_of((1, 4, b"\xff\xff\xff\xff\xff\xff")),
    "nothing": lambda stream: b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_known_outlives_a_service_that_is_no_grpc(target, plane, api, kind):
    target.endpoints(add(api, at(11))).reaches(11)
    with plane.replaced_destination(HOSTILE[kind]) as raw:
        raw.wait_requests(1)
        target.reaches(11)
    target.endpoints(add(api, at(12)))
    target.reaches(12)


def test_connections_wait_while_the_service_is_away(target, plane, api):
    target.endpoints(add(api, at(11)))
    answers = []
    with plane.replaced_destination(HOSTILE["status_503"]) as raw:
        client = threading.Thread(target=lambda: answers.append(target.get()))
        client.start()
        raw.wait_requests(3)
        assert not answers
    client.join()
    assert answers == [(200, "10.1.0.11 /")]


# --- Destination.GetProfile ----------------------------------------------------------------------


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION])
def test_a_refused_profile_is_none(target, api, code):
    target.profile(code).endpoints(add(api, at(11))).reaches(11)


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.UNAVAILABLE, Code.UNIMPLEMENTED, Code.INTERNAL])
def test_connections_wait_for_the_profile_through_errors(target, plane, api, code):
    target.profile(code).endpoints(add(api, at(11)))
    answers = []
    client = threading.Thread(target=lambda: answers.append(target.get()))
    client.start()
    plane.wait_count("profile", target.key, 3)
    assert not answers
    target.profile()
    client.join()
    assert answers == [(200, "10.1.0.11 /")]


def test_an_opaque_profile_is_not_detected(target, proxy, api):
    target.profile(opaque_protocol=True).endpoints(add(api, at(11))).reaches(11)
    label = {"authority": target.path.removesuffix(":80")}
    assert proxy.metric("request_total", direction="outbound", **label) == 0
    wait_for(lambda: proxy.metric("tcp_open_total", direction="outbound", peer="dst", **label) > 0,
             lambda: "\n".join(line for line in proxy.metrics().splitlines() if line.startswith("tcp_open_total")))


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", 40 * b"\x0a\x28" + b"\x0a\x00"], ids=lambda raw: raw[:4].hex())
def test_a_malformed_profile_holds_nobody_up(target, api, raw):
    target.profile(raw).endpoints(add(api, at(11)))
    assert target.get()[0] in (200, 500)
    target.plane.push("profile", target.key, profile(api, fully_qualified_name=target.name))
    target.reaches(11)


def test_a_profile_that_nests_without_end(target, api):
    p = api.destination.DestinationProfile(fully_qualified_name=target.name)
    match = p.routes.add().condition
    for _ in range(90):  # a foreign library writes at most a hundred levels
        match = getattr(match, "not")
    match.path.regex = "/"
    p.retry_budget.ttl.seconds = 10
    target.profile(p.SerializeToString()).endpoints(add(api, at(11)))
    assert target.get()[0] in (200, 500)


def test_a_pod_is_reached_without_a_policy(target, api):
    p = api.destination.DestinationProfile()
    p.endpoint.CopyFrom(address(api, at(12)))
    target.policy(Code.NOT_FOUND).profile(p.SerializeToString())
    assert target.get() == (200, "10.1.0.12 /")


# --- OutboundPolicies.Watch ----------------------------------------------------------------------


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION])
def test_a_refused_policy_closes_the_connection(target, code):
    target.policy(code)
    status, why = target.get()
    assert not isinstance(status, int), why


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.PERMISSION_DENIED, Code.INTERNAL])
def test_connections_wait_for_the_policy_through_errors(target, plane, api, code):
    target.policy(code).endpoints(add(api, at(11)))
    answers = []
    client = threading.Thread(target=lambda: answers.append(target.get()))
    client.start()
    plane.wait_count("watch", target.key, 3)
    assert not answers
    target.policy()
    client.join()
    assert answers == [(200, "10.1.0.11 /")]


def test_a_known_policy_stays_whatever_becomes_of_the_stream(target, plane, api):
    target.endpoints(add(api, at(11))).reaches(11)
    for code in (Code.UNAVAILABLE, Code.NOT_FOUND, Code.UNIMPLEMENTED):
        times = plane.count("watch", target.key)
        plane.push("watch", target.key, code)
        plane.wait_calls("watch", target.key, times + 1)
        target.reaches(11)


def without_metadata(p):
    p.protocol.detect.http1.routes[0].ClearField("metadata")


def without_timeout(p):
    p.protocol.detect.ClearField("timeout")


def without_http2(p):
    p.protocol.detect.ClearField("http2")


def without_queue(p):
    p.protocol.detect.http1.routes[0].rules[0].backends.first_available.backends[0].backend.ClearField("queue")


def without_backends(p):
    p.protocol.detect.http1.routes[0].rules[0].backends.first_available.ClearField("backends")


def without_load(p):
    balancer = p.protocol.detect.http1.routes[0].rules[0].backends.first_available.backends[0].backend.balancer
    balancer.ClearField("peak_ewma")


def with_retry_without_conditions(p):
    p.protocol.detect.http1.routes[0].rules[0].retry.max_retries = 1


def with_status_out_of_range(p):
    r = p.protocol.detect.http1.routes[0].rules[0].retry.conditions.status_ranges.add()
    r.start, r.end = 500, 600


def with_half_a_resource(p):
    p.metadata.resource.ClearField("namespace")


@pytest.mark.parametrize("edit", [without_metadata, without_timeout, without_http2, without_queue, without_backends, without_load,
                                  with_retry_without_conditions, with_status_out_of_range, with_half_a_resource],
                         ids=lambda f: f.__name__)
def test_a_policy_that_breaks_a_rule_is_500_until_it_is_mended(target, plane, api, edit):
    target.policy(edit=edit).endpoints(add(api, at(11)))
    assert target.get()[0] == 500
    plane.push("watch", target.key, policy(api, target.path))
    target.reaches(11)


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", b"", b"\x0a\x00", b"\x0a\x02\x0a\x00", 3000 * b"\x12\x00"],
                         ids=lambda raw: raw[:6].hex() or "empty")
def test_a_malformed_policy_is_500_until_it_is_mended(target, plane, api, raw):
    target.policy(raw).endpoints(add(api, at(11)))
    assert target.get()[0] == 500
    plane.push("watch", target.key, policy(api, target.path) + UNKNOWN_FIELDS)
    target.reaches(11)


def test_a_policy_of_each_protocol(target, plane, api):
    def only(kind):
        def edit(p):
            detect = p.protocol.detect
            part = api.outbound.ProxyProtocol()
            getattr(part, kind).CopyFrom(getattr(detect, kind))
            p.protocol.CopyFrom(part)
        return policy(api, target.path, edit)

    target.policy(only("http1")).endpoints(add(api, at(11))).reaches(11)
    plane.push("watch", target.key, only("opaque"))
    target.reaches(11)
    plane.push("watch", target.key, policy(api, target.path))
    target.reaches(11)


# --- InboundServerPolicies.WatchPort --------------------------------------------------------------


def from_peer(world, path="/"):
    with world[0].net.in_peer():
        return get(POD, 8080, path)


def becomes(world, status):
    seen = []

    def is_so():
        seen[:] = [from_peer(world)]
        return seen[0][0] == status

    wait_for(is_so, lambda: f"{status}; what came was {seen}")


def test_what_a_port_lets_in_follows_its_policy(world, plane, proxy, api):
    becomes(world, 200)
    plane.push("port", "8080", server(api, name="narrow", networks=("192.168.0.0/16",)))
    becomes(world, 403)
    plane.push("port", "8080", server(api, name="peer", networks=(f"{PEER}/32",)))
    becomes(world, 200)
    wait_for(lambda: proxy.metric("response_total", direction="inbound", srv_name="peer", status_code="200") > 0,
             lambda: "\n".join(line for line in proxy.metrics().splitlines() if line.startswith("response_total")))
    plane.push("port", "8080", server(api, networks=(), name="deny"))
    becomes(world, 403)

    def no_route(s):
        route = s.protocol.detect.http_routes.add()
        route.metadata.resource.CopyFrom(api.meta.Resource(group="policy.linkerd.io", kind="HTTPRoute", name="r"))
        route.rules.add().matches.add().path.exact = "/only"
        route.authorizations.extend(s.authorizations)

    plane.push("port", "8080", server(api, no_route))
    becomes(world, 404)
    assert from_peer(world, "/only") == (200, f"{POD} /only")
    plane.push("port", "8080", server(api) + UNKNOWN_FIELDS)
    becomes(world, 200)


def test_a_broken_policy_of_a_port_leaves_what_was_known(world, plane, api):
    def no_name(s):
        del s.labels["name"]

    def no_networks(s):
        del s.authorizations[0].networks[:]

    def no_authentication(s):
        s.authorizations[0].ClearField("authentication")

    def no_timeout(s):
        s.protocol.detect.ClearField("timeout")

    def no_protocol(s):
        s.ClearField("protocol")

    plane.push("port", "8080", server(api, name="narrow", networks=("192.168.0.0/16",)))
    becomes(world, 403)
    for edit in (no_name, no_networks, no_authentication, no_timeout, no_protocol):
        plane.push("port", "8080", server(api, edit))
    plane.push("port", "8080", b"\xff", b"")
    assert from_peer(world)[0] == 403
    for code in (Code.UNAVAILABLE, Code.NOT_FOUND, Code.INTERNAL):
        plane.say("port", "8080")
        times = plane.count("port", "8080")
        plane.push("port", "8080", code)
        plane.wait_calls("port", "8080", times + 1)
        assert from_peer(world)[0] == 403
    plane.push("port", "8080", server(api))
    becomes(world, 200)
    plane.push("port", "8080", Code.INVALID_ARGUMENT)  # the watch ends, and what it said last stays
    becomes(world, 200)
