# SPDX-License-Identifier: Apache-2.0
"""
gRPC's interoperability cases with gRPC core as client and server (apps/interop.py), through two proxies and through each
alone. Cancellations and deadlines are looked at on the server too.
"""
import pytest

from cases import WAYS, Cases

PORT = 8090
CASES = [
    "a_slow_reader_holds_up_nobody", "all_status_codes", "cancel_after_begin", "cancel_after_first_response", "client_streaming",
    "concurrent_large_unary", "custom_metadata", "deadline_propagates", "empty_stream", "empty_unary",
    "half_close_before_the_answer", "large_unary", "largest_message", "many_messages", "much_metadata", "ping_pong", "rpc_soak",
    "server_streaming", "special_status_message", "status_code_and_message", "timeout_on_sleeping_server",
    "unimplemented_method", "unimplemented_service",
]


@pytest.fixture(scope="module")
def cases(homes):
    return Cases(homes, "interop.py", [PORT], CASES)


@pytest.fixture(scope="module")
def home(cases):
    return cases.home


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_case(home, cases, way, case):
    problem = cases.told(way)[case]
    assert problem == "", problem


def test_the_proxies_saw_grpc(home, cases):
    """Each call was one to them, with its own status (wire 7.3)."""
    cases.told("both")
    metrics = home.proxy_metrics("t", home.pod("t", "client")["name"])
    for status in ("0", "2", "12"):
        assert metrics.find("response_total", direction="outbound", grpc_status=status), status
