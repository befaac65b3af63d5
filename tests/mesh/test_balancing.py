# SPDX-License-Identifier: Apache-2.0
"""
Which replica gets a request or a connection: the fast ones, those that do not fail, the ones with fewer connections;
and new ones get their share.
"""
import pytest

from home import PYTHON, client, namespace, server, service, wait_for

HTTP, ECHO = 8080, 9001
WINDOW = 300  # requests over which a share is taken
ACCRUAL = {
    "balancer.linkerd.io/failure-accrual": "consecutive",
    "balancer.linkerd.io/failure-accrual-consecutive-max-failures": "4",
    "balancer.linkerd.io/failure-accrual-consecutive-min-penalty": "1s",
    "balancer.linkerd.io/failure-accrual-consecutive-max-penalty": "2s",
    "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio": "0.1",
}
ROLES = {"http": HTTP, "echo": ECHO}


@pytest.fixture(scope="module")
def home(homes):
    home = homes({
        "00-namespace.yaml": [namespace()],
        "client.yaml": [client()],
        "server.yaml": server("server", ROLES, [ECHO], replicas=3),
        "watched.yaml": [service("watched", [HTTP], app="server", annotations=ACCRUAL)],
        "grown.yaml": server("grown", ROLES, [ECHO], replicas=2),
    })
    home.up()
    return home


def set_mood(home, pod, **mood):
    """How this replica answers from now on. It is told behind its proxy's back."""
    query = "&".join(f"{key}={value}" for key, value in mood.items())
    told = home.exec("t", pod, PYTHON, "-c",
                     f"import urllib.request as u; u.urlopen('http://127.0.0.1:{HTTP}/mood?{query}').read()")
    assert told.returncode == 0, told.stderr


def names(home, workload="server"):
    return sorted(pod["name"] for pod in home.pods("t", workload))


class Load:
    """Requests over kept connections; the share of each replica in the newest ones."""

    def __init__(self, home, host="server", connections=2):
        self.driver = home.driver("t", "client")
        self.args = {"kind": "http", "host": host, "port": HTTP, "connections": connections}

    def __enter__(self):
        self.number = self.driver.load(**self.args)
        return self

    def __exit__(self, kind, *_):
        self.last = self.driver.load_stop(load=self.number)
        if kind is None:
            assert self.last["failures"] == []

    def state(self):
        return self.driver.load_state(load=self.number)

    def shares(self):
        """Of the next WINDOW requests."""
        before = self.state()["servers"]
        now = wait_for(lambda: (s := self.state()["servers"]) and sum(s.values()) >= sum(before.values()) + WINDOW and s,
                       lambda: f"requests go on: {self.state()}")
        total = sum(now.values()) - sum(before.values())
        return {name: (count - before.get(name, 0)) / total for name, count in now.items()}

    def wait_share(self, pod, is_right, what):
        """Loads are estimated from the last tens of seconds: a share takes as long to follow."""
        seen = []

        def look():
            seen.append(self.shares().get(pod, 0.0))
            return is_right(seen[-1])
        wait_for(look, lambda: f"{what}; its share went {seen[-30:]}", timeout=180)


def test_a_slow_replica_gets_under_a_tenth_until_it_is_fast_again(home):
    slow = names(home)[0]
    with Load(home) as load:
        load.wait_share(slow, lambda share: share > 0.15, "all replicas are alike")
        set_mood(home, slow, delay=0.05)
        load.wait_share(slow, lambda share: share < 0.1, "one that is 50 ms slower gets under a tenth")
        set_mood(home, slow)
        load.wait_share(slow, lambda share: share > 0.15, "it gets its share again")


def test_a_new_replica_gets_its_share_of_kept_connections(home):
    old = names(home, "grown")
    with Load(home, "grown") as load:
        load.wait_share(old[0], lambda share: share > 0.2, "requests flow")
        home.write("grown.yaml", server("grown", ROLES, [ECHO], replicas=3))
        home.wait_ready("t", "grown", 3)
        new, = set(names(home, "grown")) - set(old)
        load.wait_share(new, lambda share: share > 0.15, "the new one gets its share")


def asked(home, pod):
    """Requests that reached a replica."""
    return home.proxy_metrics("t", pod).sum("request_total", direction="inbound", target_port=str(HTTP))


def told(home, text):
    """How often the client's proxy said so."""
    return home.log("t", home.pod("t", "client")["name"], "linkerd-proxy").count(text)


def balancer(home, **labels):
    metrics = home.proxy_metrics("t", home.pod("t", "client")["name"])
    return metrics.sum("outbound_http_balancer_endpoints", parent_name="watched", **labels)


def test_a_failing_replica_is_taken_out_and_probed_until_it_works(home):
    """Wire 6.2. One connection, so that one worker of the proxy counts."""
    victim, driver = names(home)[0], home.driver("t", "client")
    out, again, back = "it fails too much", "its probe failed", "its probe succeeded"
    before, before_victim = [told(home, text) for text in (out, again, back)], asked(home, victim)
    number = driver.load(kind="http", host="watched", port=HTTP, connections=1)
    wait_for(lambda: victim in driver.load_state(load=number)["servers"], "all replicas are asked")
    assert balancer(home, endpoint_state="ready") == 3
    set_mood(home, victim, status=500)
    wait_for(lambda: told(home, out) == before[0] + 1, "it is taken out")
    wait_for(lambda: balancer(home, endpoint_state="pending") == 1, "the metric says so")
    wait_for(lambda: told(home, again) >= before[1] + 3, "it is probed, and fails")
    set_mood(home, victim)
    served = driver.load_state(load=number)["servers"][victim]
    wait_for(lambda: told(home, back) == before[2] + 1, "a probe succeeds")
    wait_for(lambda: balancer(home, endpoint_state="ready") == 3, "it is among the others again")
    wait_for(lambda: driver.load_state(load=number)["servers"][victim] > served + 5, "it serves again")
    state = driver.load_stop(load=number)
    probes = told(home, again) - before[1]
    assert len(state["failures"]) == 4 + probes, "as many as are allowed, and one for each probation"
    assert all(" 500 " in failure for failure in state["failures"])
    assert asked(home, victim) - before_victim == state["servers"][victim] + 4 + probes
    assert told(home, out) == before[0] + 1


def open_at(home, pods):
    """Connections of the opaque port that each replica has."""
    return {pod: home.proxy_metrics("t", pod).sum("tcp_open_connections", direction="inbound", peer="src",
                                                  target_port=str(ECHO)) for pod in pods}


def test_connections_go_to_who_has_fewer_of_them(home):
    """A replica that comes later gets most of what comes until it has as many as the others; by chance it would stay
    thirty behind."""
    driver = home.driver("t", "client")
    home.write("grown.yaml", server("grown", ROLES, [ECHO], replicas=2))
    home.wait_ready("t", "grown", 2)
    old = names(home, "grown")
    sessions = [driver.session("grown", ECHO) for _ in range(60)]

    def speak(session):
        session.send("x")
        assert session.receive(bytes=1) == "x"

    for session in sessions:
        speak(session)
    assert all(count >= 15 for count in open_at(home, old).values()), open_at(home, old)
    home.write("grown.yaml", server("grown", ROLES, [ECHO], replicas=3))
    home.wait_ready("t", "grown", 3)
    new, = set(names(home, "grown")) - set(old)
    wait_for(lambda: home.proxy_metrics("t", home.pod("t", "client")["name"])
             .sum("outbound_tcp_balancer_p2c_endpoints", backend_name="grown") == 3, "the client's proxy knows it")
    counts = {}
    while len(sessions) < 180:  # as many for each of three, if they came by chance: it would never catch up
        for _ in range(10):
            sessions.append(driver.session("grown", ECHO))
            speak(sessions[-1])
        counts = open_at(home, [*old, new])
        if counts[new] >= max(counts[pod] for pod in old) - 4:
            break
    assert counts[new] >= max(counts[pod] for pod in old) - 4 and sum(counts.values()) == len(sessions), counts
    for session in sessions:
        driver.close_session(session=session.number)
    wait_for(lambda: sum(open_at(home, [*old, new]).values()) == 0, "they are gone")
