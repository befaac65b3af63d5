# SPDX-License-Identifier: Apache-2.0
"""Many pods and many Services in one home."""
import time

from home import client, namespace, server, service, wait_for

REPLICAS = 30
SERVICES = 300


def test_thirty_replicas_behind_one_of_hundreds_of_services(homes):
    many = [service(f"other-{i}", [8080], app="server") for i in range(SERVICES)]
    home = homes({"app.yaml": [namespace(), *server("server", {"http": 8080}, replicas=REPLICAS), client()],
                  "services.yaml": many})
    began = time.monotonic()
    home.up()
    print(f"{REPLICAS} replicas and {SERVICES} Services were ready after {time.monotonic() - began:.1f} s")
    driver = home.driver("t", "client")
    seen = set()
    for target in ("server.t", "other-0.t", f"other-{SERVICES - 1}.t"):
        load = driver.load(kind="http", host=target, port=8080, connections=8)
        wait_for(lambda: driver.load_state(load=load)["requests"] > 100 * REPLICAS, f"{target} is answered")
        state = driver.load_stop(load=load)
        assert not state["failures"], state["failures"]
        seen.update(state["servers"])
    assert len(seen) == REPLICAS, f"only {len(seen)} of {REPLICAS} replicas were chosen"
    home.down()
