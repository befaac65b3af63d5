# SPDX-License-Identifier: Apache-2.0
"""
WebSockets with a real client and server (the library `websockets`; apps/websocket.py), through two proxies and through
each alone: fragments, pings, close codes, large frames, refusals, what is sent together with the upgrade, and all of it
inside a CONNECT tunnel.
"""
import pytest

from cases import WAYS, Cases

PORT, CONNECT = 8082, 8087
CASES = [
    "a_client_that_vanishes", "a_ping_between_fragments", "a_server_that_vanishes", "both_send_before_either_reads",
    "close_codes_of_the_client", "close_codes_of_the_server", "connect_refused", "data_sent_with_connect",
    "data_sent_with_the_upgrade", "fragments_of_the_client", "fragments_of_the_server", "frames_as_they_were_sent",
    "large_frame_compressed", "large_frames", "many_at_once", "pings_both_ways", "refused", "subprotocol", "text_and_binary",
    "the_server_speaks_at_once", "through_connect", "upgrade_behind_a_request",
]


@pytest.fixture(scope="module")
def cases(homes):
    return Cases(homes, "websocket.py", [PORT, CONNECT], CASES)


@pytest.fixture(scope="module")
def home(cases):
    return cases.home


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_case(home, cases, way, case):
    problem = cases.told(way)[case]
    assert problem == "", problem
