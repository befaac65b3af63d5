# SPDX-License-Identifier: Apache-2.0
"""`tulle diagnostics` and `tulle check` against a running control plane, without a home."""
import json
import subprocess

import pytest

import control_plane as cp
from control_plane import endpoint, pod, service, slice_of
from figures import ADMIN, PUBLIC_API, Prometheus, PublicApi, deployment, meshed_pod, namespace

WEB = "web.default.svc.cluster.local:80"


def tulle(*args, status=0):
    """A command; standard output and standard error."""
    got = subprocess.run([cp.program("tulle"), *args], capture_output=True, text=True, timeout=cp.STALL_S)
    assert got.returncode == status, f"{args}: {got.returncode}\n{got.stdout}{got.stderr}"
    return got.stdout, got.stderr


@pytest.fixture(scope="module")
def controller(tmp_path_factory):
    c = cp.Controller(tmp_path_factory.mktemp("controller"), None)
    c.put(service("web", "10.96.0.10"), service("idle", "10.96.0.11"),
          pod("web-1", "10.1.0.1"), pod("web-2", "10.1.0.2"),
          slice_of("web", [endpoint("10.1.0.1", "web-1"), endpoint("10.1.0.2", "web-2")]))
    c.start().wait_ready(9996)
    yield c
    c.close()


def ask(controller, command, *args, status=0):
    return tulle("diagnostics", command, *args, "--destination-addr", f"{controller.address}:{cp.PROXY_API}",
                 status=status)


def test_endpoints_as_a_table(controller):
    lines = ask(controller, "endpoints", WEB)[0].splitlines()
    assert lines[0].split() == ["NAMESPACE", "IP", "PORT", "POD", "SERVICE"]
    assert sorted(line.split() for line in lines[1:]) == [
        ["default", "10.1.0.1", "8080", "web-1", "web.default"], ["default", "10.1.0.2", "8080", "web-2", "web.default"]]
    assert ask(controller, "ep", WEB)[0].splitlines() == lines


def test_endpoints_as_json(controller):
    found = {e["pod"]: e for e in json.loads(ask(controller, "endpoints", WEB, "-o", "json")[0])}
    assert set(found) == {"web-1", "web-2"}
    one = found["web-1"]
    assert (one["ip"], one["port"], one["namespace"], one["service"], one["weight"]) == (
        "10.1.0.1", 8080, "default", "web", 10000)
    assert one["identity"] == "web.default.serviceaccount.identity.linkerd.cluster.local"
    assert one["labels"]["pod"] == "web-1" and "h2" in one["protocolHint"]


def test_services_without_endpoints_and_without_existence(controller):
    out, err = ask(controller, "endpoints", "idle.default.svc.cluster.local:80")
    assert out == "" and err == "No endpoints found.\n"
    assert "no service nobody.default.svc.cluster.local:80" in ask(
        controller, "endpoints", "nobody.default.svc.cluster.local:80", status=1)[1]
    assert "has no port" in ask(controller, "endpoints", "web.default.svc.cluster.local", status=64)[1]
    assert "refuses" in ask(controller, "endpoints", "example.com:80", status=1)[1]


def test_profiles_of_services_and_pods(controller):
    of_service = json.loads(ask(controller, "profile", "10.96.0.10:80")[0])
    assert of_service["fullyQualifiedName"] == "web.default.svc.cluster.local"
    assert of_service == json.loads(ask(controller, "profile", WEB)[0])
    of_pod = json.loads(ask(controller, "profile", "10.1.0.1:8080")[0])
    assert of_pod["endpoint"]["addr"] == {"ip": "10.1.0.1", "port": 8080}
    assert of_pod["endpoint"]["metricLabels"]["pod"] == "web-1"


def test_nobody_there(controller):
    assert "Connection refused" in tulle("diagnostics", "profile", WEB, "--destination-addr",
                                         f"{cp.free_address()}:9", status=1)[1]
    assert "IP:PORT" in tulle("diagnostics", "profile", WEB, "--destination-addr", "nowhere", status=1)[1]
    assert "`tulle local up` starts a home" in tulle("diagnostics", "profile", WEB, "--state", "/nonexistent",
                                                     status=1)[1]
    assert tulle("diagnostics", "everything", status=64)[1].startswith("tulle: diagnostics: there is no command")


# --- check without a home ------------------------------------------------------------------------

@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A public API with a Prometheus that scrapes one pod of a meshed Deployment and one of the control plane."""
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus")).start()
    api = PublicApi(tmp_path_factory.mktemp("api"), prometheus.url, prometheus.scraped).start().wait_ready(ADMIN)
    ready = {"name": "linkerd-proxy", "ready": True, "state": {"running": {}}}
    web = meshed_pod("demo", "web-1", "web", statuses=[ready])
    web["metadata"]["annotations"] = {"linkerd.io/proxy-version": "0.0.1"}
    web["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    own = meshed_pod("linkerd", "controller-1", "linkerd-controller", statuses=[ready],
                     labels={"linkerd.io/control-plane-component": "destination"})
    api.put(namespace("demo"), *deployment("demo", "web"), web, own)
    api.wait(lambda: "demo/web" in api.stat("deploy", "-n", "demo"))
    yield api, prometheus
    api.close()
    prometheus.close()


def check(api, *args, status=0):
    out = tulle("check", "--api-addr", f"{api.address}:{PUBLIC_API}", "-o", "json", *args, status=status)[0]
    report = json.loads(out)
    assert report["success"] == (status == 0)
    return {c["description"]: c for group in report["categories"] for c in group["checks"]}


def test_check_names_what_is_wrong_and_what_to_do(measured):
    api, prometheus = measured
    checks = check(api, "--wait", "0", status=1)
    assert checks["the public API answers"]["result"] == "success"
    assert checks["Prometheus answers the control plane"]["result"] == "success"
    assert checks["the control plane's pods are ready"]["result"] == "success"
    assert checks["Prometheus scrapes the proxies"]["result"] == "error"  # nobody has told it to, so far
    assert "demo/web-1" in checks["Prometheus scrapes the proxies"]["error"]
    assert "4191" in checks["Prometheus scrapes the proxies"]["hint"]
    assert "the home's folder exists" not in checks and "proxies are ready" not in checks


def test_check_waits_until_all_is_well(measured):
    api, prometheus = measured
    prometheus.proxy("demo", "web-1", deployment="web")
    prometheus.proxy("linkerd", "controller-1", deployment="linkerd-controller")
    checks = check(api, "--wait", "60s", "--proxy")
    assert checks["Prometheus scrapes the proxies"]["result"] == "success"
    assert checks["proxies are ready"]["result"] == "success"
    assert checks["proxies have reported to Prometheus"]["result"] == "success"
    old = checks["proxies and command line have the same version"]
    assert old["result"] == "warning" and "demo/web-1 is 0.0.1" in old["error"]  # and yet no failure
    text = tulle("check", "--api-addr", f"{api.address}:{PUBLIC_API}", "--proxy", "-n", "demo")[0]
    assert text.endswith("\nStatus check results are √\n") and "linkerd-data-plane\n------------------\n√" in text
    gone = check(api, "--proxy", "-n", "nowhere", status=1)
    assert gone["the namespace exists"]["result"] == "error" and "proxies are ready" not in gone
    versions = tulle("version", "--proxy", "--api-addr", f"{api.address}:{PUBLIC_API}")[0]
    assert "\t0.0.1 (1 pods)\n" in versions


def test_check_of_nobody():
    api = f"{cp.free_address()}:{PUBLIC_API}"
    out = tulle("check", "--api-addr", api, "--wait", "0", "-o", "short", status=1)[0]
    assert out.startswith("linkerd-api\n-----------\n× the public API answers\n") and api in out and "hint: " in out
    assert out.endswith("\nStatus check results are ×\n")
