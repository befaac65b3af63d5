# SPDX-License-Identifier: Apache-2.0
"""
gRPC's interoperability cases with gRPC core as client and server (apps/interop.py), through two proxies and through each
alone. Cancellations and deadlines are looked at on the server too.
"""
import json

import pytest

from home import APPS, PYTHON, UNMESHED, client, deployment, namespace, service

PORT = 8090
CASES = [
    "a_slow_reader_holds_up_nobody", "all_status_codes", "cancel_after_begin", "cancel_after_first_response", "client_streaming",
    "concurrent_large_unary", "custom_metadata", "deadline_propagates", "empty_stream", "empty_unary",
    "half_close_before_the_answer", "large_unary", "largest_message", "many_messages", "much_metadata", "ping_pong", "rpc_soak",
    "server_streaming", "special_status_message", "status_code_and_message", "timeout_on_sleeping_server",
    "unimplemented_method", "unimplemented_service",
]
WAYS = {"both": ("client", "server"), "inbound": ("outsider", "server"), "outbound": ("client", "plain")}


@pytest.fixture(scope="module")
def home(homes):
    def servers(name, **options):
        opens = {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"]}}
        return [deployment(name, [PYTHON, str(APPS / "interop.py"), "serve", str(PORT)], probe=opens, **options),
                service(name, [PORT])]

    home = homes({"app.yaml": [namespace(), *servers("server"), *servers("plain", annotations=UNMESHED), client(),
                               client("outsider", annotations=UNMESHED)]})
    home.up()
    return home


@pytest.fixture(scope="module")
def told(home):
    """What the cases of a way told; they are run when the first is asked for."""
    known = {}

    def of(way):
        if way not in known:
            source, target = WAYS[way]
            done = home.exec("t", source, PYTHON, str(APPS / "interop.py"), "run", target, str(PORT), timeout=600)
            assert done.returncode == 0, done.stderr
            known[way] = json.loads(done.stdout)
            assert sorted(known[way]) == CASES
        return known[way]

    return of


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_case(told, way, case):
    problem = told(way)[case]
    assert problem == "", problem


def test_the_proxies_saw_grpc(home, told):
    """Each call was one to them, with its own status (wire 7.3)."""
    told("both")
    metrics = home.proxy_metrics("t", home.pod("t", "client")["name"])
    for status in ("0", "2", "12"):
        assert metrics.find("response_total", direction="outbound", grpc_status=status), status
