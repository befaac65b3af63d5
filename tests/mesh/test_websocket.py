# SPDX-License-Identifier: Apache-2.0
"""
WebSockets with a real client and server (the library `websockets`; apps/websocket.py), through two proxies and through
each alone: fragments, pings, close codes, large frames, refusals, what is sent together with the upgrade, and all of it
inside a CONNECT tunnel.
"""
import json

import pytest

from home import APPS, PYTHON, UNMESHED, client, deployment, namespace, service

PORT, CONNECT = 8082, 8087
CASES = [
    "a_client_that_vanishes", "a_ping_between_fragments", "a_server_that_vanishes", "both_send_before_either_reads",
    "close_codes_of_the_client", "close_codes_of_the_server", "connect_refused", "data_sent_with_connect",
    "data_sent_with_the_upgrade", "fragments_of_the_client", "fragments_of_the_server", "frames_as_they_were_sent",
    "large_frame_compressed", "large_frames", "many_at_once", "pings_both_ways", "refused", "subprotocol", "text_and_binary",
    "the_server_speaks_at_once", "through_connect", "upgrade_behind_a_request",
]
WAYS = {"both": ("client", "server"), "inbound": ("outsider", "server"), "outbound": ("client", "plain")}


@pytest.fixture(scope="module")
def home(homes):
    def servers(name, **options):
        opens = {"exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"]}}
        return [deployment(name, [PYTHON, str(APPS / "websocket.py"), "serve", str(PORT), str(CONNECT)], probe=opens, **options),
                service(name, [PORT, CONNECT])]

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
            done = home.exec("t", source, PYTHON, str(APPS / "websocket.py"), "run", target, str(PORT), str(CONNECT),
                             timeout=600)
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
