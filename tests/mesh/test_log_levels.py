# SPDX-License-Identifier: Apache-2.0
"""What `config.linkerd.io/proxy-log-level` leaves of a denial, which is information (docs/errors.md)."""
import pytest

from home import client, namespace, server, wait_for

HTTP = 8080
# "told": what docs/errors.md says to write.
LEVELS = {"quiet": "warn", "told": "warn,proxy.failure_log=info"}
DENY = {"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": {"name": "http", "namespace": "t"},
        "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": [*LEVELS]}]},
                 "port": HTTP, "accessPolicy": "deny"}}


@pytest.fixture(scope="module")
def home(homes):
    home = homes({"app.yaml": [namespace(), client(), DENY, *(
        o for name, level in LEVELS.items()
        for o in server(name, {"http": HTTP}, annotations={"config.linkerd.io/proxy-log-level": level}))]})
    home.up()
    return home


def denied(home, name):
    """A request is denied, and counted; the lines of its proxy's log."""
    pod = home.pod("t", name)["name"]
    wait_for(lambda: home.driver("t", "client").get(name, HTTP)["status"] == 403, "the Server holds")
    wait_for(lambda: home.proxy_metrics("t", pod).sum("tulle_failures_total", hop="inbound", cause="denied"), "it is counted")
    return home.log("t", pod, "linkerd-proxy").splitlines()


def test_warnings_alone_hide_denials(home):
    lines = denied(home, "quiet")
    assert not [line for line in lines if "cause=denied" in line or " INFO " in line]


def test_denials_can_be_shown_without_other_information(home):
    lines = denied(home, "told")
    info = [line for line in lines if " INFO " in line]
    assert [line for line in info if "cause=denied" in line and "client_id=" in line]
    assert all(" INFO proxy.failure_log: " in line for line in info)
