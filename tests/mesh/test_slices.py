# SPDX-License-Identifier: Apache-2.0
"""
EndpointSlices of the user: a Service that selects no pods and whose endpoints are written by hand, as for something outside
of the mesh. Meshed and unmeshed pods reach it by its cluster address, by name where it is headless, and from localhost.
"""
import json
import re
import urllib.request

import pytest

from home import UNMESHED, client, namespace, server, service, wait_for

HTTP, PORT = 8080, 80


def by_hand(name, **spec):
    s = service(name, [PORT], **spec)
    del s["spec"]["selector"]
    return s


def slice_of(name, addresses, suffix="hand", kind="IPv4", ready=True, **more):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
            "metadata": {"name": f"{name}-{suffix}", "namespace": "t", "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": f"p{PORT}", "port": HTTP}],
            "endpoints": [{"addresses": [a], "conditions": {"ready": ready}} for a in addresses], **more}


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [
        namespace(), *server("one", {"http": HTTP}, annotations=UNMESHED), *server("two", {"http": HTTP}, annotations=UNMESHED),
        client(), client("outsider", annotations=UNMESHED), by_hand("outside"), by_hand("nameless", clusterIP="None")]},
        ["--publish", f"t/outside:{PORT}=0"])
    home.up()
    return home


def ip(home, name):
    return home.pod("t", name)["ip"]


def who(home, name, host="outside", port=PORT):
    """Which pod answers `name`; None where none does."""
    done = home.exec("t", name, "curl", "-s", "-m", "10", f"http://{host}:{port}/echo")
    try:
        return json.loads(done.stdout)["server"].rsplit("-", 2)[0]
    except (ValueError, KeyError):
        return None


@pytest.mark.parametrize("name", ["client", "outsider"])
def test_it_leads_where_the_slice_says_and_follows_it(home, name):
    home.write("slice.yaml", [slice_of("outside", [ip(home, "one")])])
    wait_for(lambda: who(home, name) == "one", "the first is reached")
    home.write("slice.yaml", [slice_of("outside", [ip(home, "two")])])
    wait_for(lambda: who(home, name) == "two", "the second is reached")
    home.write("slice.yaml", [slice_of("outside", [ip(home, "two")], ready=False)])
    wait_for(lambda: who(home, name) is None, "what is not ready is not reached")
    home.delete("slice.yaml")
    wait_for(lambda: not list((home.path / "cluster").glob("*outside-hand*")), "the slice is gone")
    assert who(home, name) is None


def test_several_slices_are_one_set(home):
    home.write("slice.yaml", [slice_of("outside", [ip(home, "one")]), slice_of("outside", [ip(home, "two")], "more")])
    seen = set()
    wait_for(lambda: seen.add(who(home, "client")) or {"one", "two"} <= seen, lambda: f"both answer; seen: {seen}")
    wait_for(lambda: seen.clear() or {who(home, "outsider") for _ in range(8)} == {"one", "two"}, "also without a proxy")
    home.delete("slice.yaml")


def test_beside_the_pods_that_are_selected(home):
    """The home's own slices stay, and are told apart from the user's."""
    home.write("slice.yaml", [slice_of("one", [ip(home, "two")], ports=[{"name": f"p{HTTP}", "port": HTTP}])])
    seen = set()
    wait_for(lambda: seen.add(who(home, "client", "one", HTTP)) or {"one", "two"} <= seen, lambda: f"both answer; seen: {seen}")
    home.delete("slice.yaml")
    wait_for(lambda: {who(home, "outsider", "one", HTTP) for _ in range(6)} == {"one"}, "the selected pod is left")


def test_a_headless_one_has_names(home):
    home.write("slice.yaml", [slice_of("nameless", [ip(home, "one")], endpoints=[
        {"addresses": [ip(home, "one")], "hostname": "first"}, {"addresses": [ip(home, "two")]}])])
    dashed = ip(home, "two").replace(".", "-")
    wait_for(lambda: who(home, "outsider", "first.nameless.t.svc.cluster.local", HTTP) == "one", "it has its hostname")
    assert who(home, "outsider", f"{dashed}.nameless.t.svc.cluster.local", HTTP) == "two"
    found = home.exec("t", "outsider", "getent", "ahostsv4", "nameless").stdout
    assert {ip(home, "one"), ip(home, "two")} <= set(re.findall(r"[\d.]+", found))
    home.delete("slice.yaml")


def test_it_can_be_published_and_is_shown(home):
    home.write("slice.yaml", [slice_of("outside", [ip(home, "one")])])
    wait_for(lambda: who(home, "outsider") == "one", "the rules have it")
    port = home.status()["published"][f"t/outside:{PORT}"]

    def from_outside():
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/echo", timeout=10) as answer:
                return json.load(answer)["server"]
        except OSError:
            return ""

    # The proxies and the rules of the home learn of the slice each in their own time.
    wait_for(lambda: from_outside().startswith("one-"), "it is reached from the machine, too")
    assert ip(home, "one") in home.run("diagnostics", "endpoints", f"outside.t.svc.cluster.local:{PORT}")
    home.delete("slice.yaml")


WRONG = {
    "no-service": ({"metadata": {"name": "x", "namespace": "t"}}, "metadata.labels needs kubernetes.io/service-name"),
    "outside": ({"endpoints": [{"addresses": ["192.0.2.7"]}]},
                "endpoints[0].addresses[0] is 192.0.2.7, which is outside of the pods' network 10.42.0.0/16"),
    "name": ({"endpoints": [{"addresses": ["db.example"]}]}, "endpoints[0].addresses[0] must be an IPv4 address"),
    "family": ({"addressType": "IPv6", "endpoints": [{"addresses": ["10.42.0.9"]}]}, "must be an IPv6 address"),
    "type": ({"addressType": "FQDN"}, "addressType must be IPv4 or IPv6"),
    "no-port": ({"ports": [{"name": "p80"}]}, "ports[0] needs a port"),
    "own-name": ({"metadata": {"name": "outside.ipv4", "namespace": "t", "labels": {"kubernetes.io/service-name": "outside"}}},
                 "are the home's own"),
    "typo": ({"endpoints": [{"adresses": ["10.42.0.9"]}]}, "endpoints[0].adresses is not supported by the local home; did you mean addresses?"),
    "no-list": ({"endpoints": {"addresses": ["10.42.0.9"]}}, "endpoints must be a list"),
}


@pytest.mark.parametrize("change, words", WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused(home, change, words):
    home.write("wrong.yaml", [{**slice_of("outside", ["10.42.0.9"]), **change}])
    said = wait_for(lambda: home.status()["problems"], "it is told")
    assert len(said) == 1 and "/wrong.yaml:" in said[0] and words in said[0]
    home.delete("wrong.yaml")
    wait_for(lambda: not home.status()["problems"], "it is over")
