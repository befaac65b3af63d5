# SPDX-License-Identifier: Apache-2.0
"""What a newcomer sees of a pod that starts: no warning because a probe came before the application listened."""
from home import APPS, PYTHON, client, deployment, namespace, wait_for

HTTP = 8080
REFUSED = "the endpoint could not be connected"


def test_a_probe_before_the_application_listens_is_no_trouble(homes):
    home = homes({"app.yaml": [namespace(), client()]})
    home.up()
    go = home.root / "go"
    wait = f"until [ -e {go} ]; do sleep 0.1; done; exec {PYTHON} {APPS / 'server.py'} http={HTTP}"
    home.write("late.yaml", [deployment("late", ["bash", "-c", wait], probe={"httpGet": {"path": "/echo", "port": HTTP}})])
    wait_for(lambda: [p for p in home.pods("t", "late") if p["phase"] == "Running"], "the pod runs")
    pod = home.pods("t", "late")[0]["name"]

    def lines():
        return [line for line in home.log("t", pod, "linkerd-proxy").splitlines() if REFUSED in line]

    wait_for(lines, "a probe was refused")
    assert all(" INFO " in line and "does not listen on the port of target yet" in line for line in lines())
    go.touch()
    home.wait_ready("t", "late", 1)
    assert not [line for line in home.log("t", pod, "linkerd-proxy").splitlines() if " WARN proxy." in line]
    figures = home.proxy_metrics("t", pod)
    late = {"direction": "inbound", "target_port": str(HTTP)}
    assert figures.sum("tulle_failures_total", hop="inbound", cause="connect") >= 1
    assert figures.sum("response_total", classification="success", **late) >= 1
    assert figures.sum("response_total", classification="failure", **late) == 0
