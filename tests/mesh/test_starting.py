# SPDX-License-Identifier: Apache-2.0
"""What a newcomer sees of a pod that starts: no warning, and no failure, because a probe came before the application
listened."""
import pytest

from home import APPS, PYTHON, client, deployment, namespace, wait_for

HTTP = 8080
REFUSED = "the endpoint could not be connected"
GET = {"httpGet": {"path": "/echo", "port": HTTP}, "periodSeconds": 1}


def late(name, sign, **probes):
    """A meshed server that listens once a file is there."""
    wait = f"until [ -e {sign} ]; do sleep 0.1; done; exec {PYTHON} {APPS / 'server.py'} http={HTTP}"
    d = deployment(name, ["bash", "-c", wait])
    d["spec"]["template"]["spec"]["containers"][0].update(probes)
    return d


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [namespace(), client()]})
    home.up()
    return home


def running(home, name):
    wait_for(lambda: [p for p in home.pods("t", name) if p["phase"] == "Running"], "the pod runs")
    return home.pods("t", name)[0]["name"]


def lines(home, pod, part):
    return [line for line in home.log("t", pod, "linkerd-proxy").splitlines() if part in line]


def test_a_probe_before_the_application_listens_is_no_trouble(home):
    """A liveness probe, which comes to the proxy in any case."""
    sign = home.root / "alive"
    home.write("alive.yaml", [late("alive", sign, livenessProbe={**GET, "failureThreshold": 1000})])
    pod = running(home, "alive")
    wait_for(lambda: lines(home, pod, REFUSED), "a probe was refused")
    assert all(" INFO " in line and "does not listen on the port of target yet" in line for line in lines(home, pod, REFUSED))
    sign.touch()
    home.wait_ready("t", "alive", 1)
    assert not lines(home, pod, " WARN proxy.")
    figures = home.proxy_metrics("t", pod)
    late_port = {"direction": "inbound", "target_port": str(HTTP)}
    assert figures.sum("tulle_failures_total", hop="inbound", cause="connect") >= 1
    wait_for(lambda: home.proxy_metrics("t", pod).sum("response_total", classification="success", **late_port),
             "a probe was answered")
    assert home.proxy_metrics("t", pod).sum("response_total", classification="failure", **late_port) == 0


@pytest.mark.parametrize("kind", ["readinessProbe", "startupProbe"])
def test_what_waits_for_the_application_asks_its_proxy_only_once_it_listens(home, kind):
    """Or the pod's first figures would be those of failed requests that nobody made."""
    name = "ready" if kind == "readinessProbe" else "started"
    sign = home.root / name
    home.write(f"{name}.yaml", [late(name, sign, **{kind: {**GET, "failureThreshold": 1000}})])
    pod = running(home, name)
    wait_for(lambda: any("port 8080: Connection refused" in c["reason"] for c in home.pod("t", name)["containers"]),
             "it was looked at, and status says what came of it")
    sign.touch()
    home.wait_ready("t", name, 1)
    wait_for(lambda: home.proxy_metrics("t", pod).sum("response_total", direction="inbound", classification="success"),
             "the probe passed the proxy")
    metrics = home.proxy_metrics("t", pod)
    assert metrics.sum("response_total", direction="inbound", classification="failure") == 0
    assert metrics.sum("tulle_failures_total") == 0 and not lines(home, pod, REFUSED)
