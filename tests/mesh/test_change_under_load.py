# SPDX-License-Identifier: Apache-2.0
"""
Changes while requests flow: replicas come and go and are replaced without a failed request; a killed sidecar and a
killed controller recover, and traffic in place does not miss the controller.
"""
import os
import signal

import pytest

from home import client, namespace, server, service, wait_for

HTTP, GRPC, FIRST, ECHO = 8080, 8081, 3306, 9001
ROLES = {"http": HTTP, "grpc": GRPC, "first": FIRST, "echo": ECHO}
OPAQUE = [FIRST, ECHO]
KINDS = {"http": HTTP, "grpc": GRPC, "tcp": FIRST}


@pytest.fixture(scope="module")
def home(homes):
    home = homes({
        "00-namespace.yaml": [namespace()],
        "client.yaml": [client()],
        "server.yaml": server("server", ROLES, OPAQUE, replicas=2),
        "single.yaml": server("single", {"http": HTTP, "echo": ECHO}, [ECHO]),
    })
    home.up()
    return home


def scale(home, replicas):
    home.write("server.yaml", server("server", ROLES, OPAQUE, replicas=replicas))
    home.wait_ready("t", "server", replicas)


def names(home, workload="server"):
    return {pod["name"] for pod in home.pods("t", workload)}


class Loads:
    """HTTP, gRPC and TCP at the same time; at the end none may have failed."""

    def __init__(self, home):
        self.driver = home.driver("t", "client")

    def __enter__(self):
        self.loads = {kind: self.driver.load(kind=kind, host="server", port=port, connections=3)
                      for kind, port in KINDS.items()}
        self.wait_more(20)
        return self

    def state(self):
        return {kind: self.driver.load_state(load=number) for kind, number in self.loads.items()}

    def wait_more(self, count):
        """So many more requests of each kind."""
        before = {kind: state["requests"] for kind, state in self.state().items()}
        wait_for(lambda: all(state["requests"] >= before[kind] + count for kind, state in self.state().items()),
                 lambda: f"traffic goes on: {before}, now {self.state()}")

    def wait_reached(self, pods):
        wait_for(lambda: all(pods <= set(state["servers"]) for state in self.state().values()),
                 lambda: f"requests reach {pods}: {self.state()}")

    def __exit__(self, kind, *_):
        states = {name: self.driver.load_stop(load=number) for name, number in self.loads.items()}
        if kind is None:
            assert {name: state["failures"] for name, state in states.items()} == {name: [] for name in states}


def test_replicas_come_and_go_without_a_failed_request(home):
    with Loads(home) as loads:
        for replicas in (4, 1, 3, 2):
            scale(home, replicas)
            loads.wait_reached(names(home))
            loads.wait_more(50)


def test_a_restart_replaces_all_pods_without_a_failed_request(home):
    old = names(home)
    with Loads(home) as loads:
        home.run("local", "restart", "server", "-n", "t")
        home.wait_ready("t", "server", len(old), lambda pod: pod["name"] not in old)
        loads.wait_reached(names(home))


def test_a_new_template_replaces_all_pods_without_a_failed_request(home):
    old = names(home)
    with Loads(home) as loads:
        changed = server("server", ROLES, OPAQUE, replicas=2, env=[{"name": "CHANGED", "value": "yes"}])
        home.write("server.yaml", changed)
        home.wait_ready("t", "server", 2, lambda pod: pod["name"] not in old)
        loads.wait_reached(names(home))


def test_requests_under_way_outlive_their_pod(home):
    """They take longer than the pod has left to live, and are answered all the same."""
    driver, old = home.driver("t", "client"), names(home)
    asks = [driver.start_http(host="server", port=HTTP, requests=[{"target": f"/echo?delay=4&id=late-{n}"}])
            for n in range(8)]
    wait_for(lambda: sum(home.proxy_metrics("t", pod).sum("request_total", direction="inbound", target_port=str(HTTP))
                         - answered(home, pod) for pod in old) >= 8, "all requests are under way")
    home.run("local", "restart", "server", "-n", "t")
    assert [ask.result(60)[0]["status"] for ask in asks] == [200] * 8
    home.wait_ready("t", "server", 2, lambda pod: pod["name"] not in old)


def answered(home, pod):
    return home.proxy_metrics("t", pod).sum("response_total", direction="inbound", target_port=str(HTTP))


@pytest.mark.parametrize("workload", ["single", "client"])
def test_a_killed_sidecar_recovers(home, workload):
    """The server's, then the client's: while it is away requests fail, at once rather than never; then all is well."""
    driver = home.driver("t", "client")
    assert driver.get("single", HTTP)["status"] == 200
    load = driver.load(kind="http", host="single", port=HTTP, connections=2)
    before = home.container("t", workload, "linkerd-proxy")
    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: home.container("t", workload, "linkerd-proxy")["restarts"] == before["restarts"] + 1
             and home.pod("t", workload)["ready"], lambda: f"the sidecar runs again\n{home.tell()}")
    first = driver.load_state(load=load)["servers"]
    wait_for(lambda: sum(driver.load_state(load=load)["servers"].values()) > sum(first.values()) + 20,
             lambda: f"requests succeed again: {driver.load_state(load=load)}")
    driver.load_stop(load=load)
    answers = driver.http(host="single", port=HTTP, requests=[{}] * 50)
    assert [a["status"] for a in answers] == [200] * 50
    assert home.container("t", workload, workload)["restarts"] == 0, "the application itself was left alone"


def test_a_killed_sidecar_of_one_replica_is_avoided(home):
    """With another replica there, nothing fails any more once the mesh has noticed."""
    driver = home.driver("t", "client")
    victim = home.pods("t", "server")[0]
    pid = next(c["pid"] for c in victim["containers"] if c["name"] == "linkerd-proxy")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len([p for p in home.pods("t", "server") if p["ready"]]) < 2 or restarts(home, victim) > 0,
             "the sidecar is gone")
    wait_for(lambda: all(a["status"] == 200 for a in driver.http(host="server", port=HTTP, requests=[{}] * 20)),
             "requests succeed")
    home.wait_ready("t", "server", 2)
    with Loads(home) as loads:
        loads.wait_reached(names(home))


def restarts(home, pod):
    now = next(p for p in home.pods("t", "server") if p["name"] == pod["name"])
    return next(c["restarts"] for c in now["containers"] if c["name"] == "linkerd-proxy")


def controller(home):
    return home.container("linkerd", "linkerd-controller", "controller")


def kill_controller(home):
    """Each time it stays away twice as long."""
    before = wait_for(lambda: controller(home)["running"] and controller(home), "the controller runs")
    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: controller(home)["pid"] != before["pid"], "the controller is gone")


def test_traffic_in_place_outlives_the_controller(home):
    driver = home.driver("t", "client")
    with driver.session("server", ECHO) as s, Loads(home) as loads:
        s.send("before")
        assert s.receive(bytes=6) == "before"
        while True:
            kill_controller(home)
            assert not controller(home)["running"]
            loads.wait_more(100)
            if not controller(home)["running"]:
                break  # all of that happened without it
        s.send("during", finish=True)
        assert s.receive() == "duringbye"

        # Back again, it is told of what is new, and tells it.
        home.wait_ready("linkerd", "linkerd-controller", 1)
        scale(home, 3)
        loads.wait_reached(names(home))
        home.write("later.yaml", [service("later", [HTTP], app="server")])
        wait_for(lambda: driver.answers("later", HTTP), "a new Service can be called")
    scale(home, 2)


def test_a_new_pod_is_meshed_while_the_controller_is_away(home):
    """It becomes ready when the controller is back, without anybody's help."""
    kill_controller(home)
    home.write("another.yaml", server("another", {"http": HTTP}))
    home.wait_ready("t", "another", 1, timeout=120)
    wait_for(lambda: home.driver("t", "client").answers("another", HTTP), "the new pod can be called")
