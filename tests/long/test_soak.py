# SPDX-License-Identifier: Apache-2.0
"""Load for minutes: nothing fails, nothing restarts, no proxy grows."""
import os
import re
import time

from home import client, memory_of, namespace, server

SOAK_S = int(os.environ.get("SOAK_SECONDS", "600"))
GROWTH = 8 << 20  # between a warm proxy and the end


def summary(text):
    """wrk's own count of what went wrong, and of what it did."""
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    done = re.search(r"(\d+) requests in", text)
    return int(done[1]), int(bad[1]) if bad else 0, sum(map(int, errors.groups())) if errors else 0


def load(home, seconds):
    done = home.exec("t", "client", "wrk", "-t1", "-c16", f"-d{seconds}s", "--timeout", "10s",
                     "http://server.t:8080/echo", timeout=seconds + 60)
    assert done.returncode == 0, done.stderr
    return summary(done.stdout)


def test_load_for_minutes_fails_nothing_and_grows_nothing(homes):
    home = homes({"app.yaml": [namespace(), *server("server", {"http": 8080}, replicas=2), client()]})
    home.up()
    load(home, max(SOAK_S // 10, 10))  # warm: pools, arenas and caches have their size
    proxies = {pod["name"]: next(c["pid"] for c in pod["containers"] if c["name"] == "linkerd-proxy")
               for pod in home.status()["pods"] if pod["namespace"] == "t"}
    before = {name: memory_of(pid)["VmRSS"] for name, pid in proxies.items()}
    began = time.monotonic()
    requests, bad, errors = load(home, SOAK_S)
    print(f"{requests} requests in {time.monotonic() - began:.0f} s, {bad} bad answers, {errors} socket errors")
    assert requests > 0 and bad == 0 and errors == 0
    for name, pid in proxies.items():
        grown = memory_of(pid)["VmRSS"] - before[name]
        print(f"{name}: {before[name] >> 10} KiB, grown by {grown >> 10} KiB")
        assert grown < GROWTH, f"the proxy of {name} grew by {grown} bytes"
    assert all(c["restarts"] == 0 for pod in home.status()["pods"] for c in pod["containers"])
